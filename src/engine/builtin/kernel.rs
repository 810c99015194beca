//! A step ready to run: weights packed for the machine, offsets computed.

use super::float::{self, FloatKernel};
use super::program::{
    Conv, OutputPort, PairOp, Pairing, Program, Quant, Step, StepOp, Store, Sum, Window, stem_pixel,
};
use super::taps::Taps;
use crate::kernels::{
    self, AddParams, DepthwiseWeights, GemmWeights, Geometry, Grid, Isa, MulParams, Offsets, Output, Rescale,
    Residual, SLACK, Team,
};
use crate::model::graph;
use crate::model::pb::TensorProto;

/// What a step needs beyond its description.
#[derive(Debug)]
pub(super) enum Kernel {
    /// The description is enough.
    Plain,
    /// A 1×1 convolution or a matrix product: one product over all images.
    Pointwise(Pointwise),
    /// A product whose result stays f32.
    PointwiseF32(Pointwise),
    Indirect(Indirect),
    Depthwise {
        weights: DepthwiseWeights,
        geometry: Geometry,
    },
    Add(AddParams),
    Pairs {
        params: PairParams,
        constant: Vec<u8>,
    },
    Table(Box<[u8; 256]>),
    /// For each input of a concatenation, how its bytes change.
    Tables(Vec<Option<Box<[u8; 256]>>>),
    /// What an FP32 step needs.
    Float(FloatKernel),
}

/// The constants of a [`StepOp::Pairs`].
#[derive(Debug, Clone, Copy)]
pub(super) enum PairParams {
    Add(AddParams),
    Mul(MulParams),
}

/// A product of rows.
#[derive(Debug)]
pub(super) struct Pointwise {
    weights: GemmWeights,
    rows: usize,
    k: usize,
    out_offset: usize,
    out_stride: usize,
    sum: Option<Residuals>,
}

/// How a second input is added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Residuals {
    params: AddParams,
    is_first: bool,
}

impl Residuals {
    fn of(conv: &Conv) -> Option<Residuals> {
        conv.sum.map(|Sum { a, b, out, lo, hi, residual_first }| {
            let [a, b, out] = [a, b, out].map(|q| (q.scale, q.zero_point));
            Residuals { params: AddParams::new(a, b, out, lo, hi), is_first: residual_first }
        })
    }

    /// The residual of the outputs from `first` on.
    fn at<'a>(of: &'a Option<Residuals>, inputs: &[&'a [u8]], first: usize) -> Option<Residual<'a>> {
        let (Some(Residuals { params, is_first }), Some(values)) = (of, inputs.get(1)) else { return None };
        Some(Residual { values: &values[first..], params, is_first: *is_first })
    }
}

/// A convolution by offsets into the image, one set of weights for each group.
#[derive(Debug)]
pub(super) struct Indirect {
    pub groups: Vec<GemmWeights>,
    /// Of the windows of one image, in bytes from its start.
    pub offsets: Offsets,
    pub pad_row: Vec<u8>,
    pub in_bytes: usize,
    /// Channels of one group, in and out.
    pub group_in: usize,
    pub group_out: usize,
    pub out_offset: usize,
    pub out_stride: usize,
    pub batch: usize,
    pub sum: Option<Residuals>,
}

impl Indirect {
    /// Calls `run` with the weights of each group of each image, its input, and its first output.
    pub(super) fn each_group(&self, x: &[u8], mut run: impl FnMut(&GemmWeights, &[u8], usize)) {
        for image in 0..self.batch {
            for (g, weights) in self.groups.iter().enumerate() {
                let first =
                    image * self.offsets.rows() * self.out_stride + self.out_offset + g * self.group_out;
                run(weights, &x[image * self.in_bytes + g * self.group_in..], first);
            }
        }
    }
}

impl Window {
    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            height: self.in_height,
            width: self.in_width,
            out_height: self.out_height,
            out_width: self.out_width,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            pad_top: self.pad_top,
            pad_left: self.pad_left,
        }
    }
}

/// Weights `[n][..]`, bias and multiplier of a step with weights.
struct Constants {
    weights: Vec<i8>,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
}

impl Constants {
    fn of(step: &Step, tensors: &[TensorProto], store: bool) -> Result<Constants, String> {
        let missing = || format!("step '{}' lacks its constants", step.name);
        let at = |i: usize| tensors.get(step.constants + i).ok_or_else(missing);
        let multiplier: Vec<f32> =
            graph::to_array(at(2)?).ok_or_else(missing)?.iter().copied().map(float::flushed).collect();
        if !multiplier.iter().all(|m: &f32| m.is_finite() && (!store || *m >= 0.0)) {
            return Err(format!("the scales of node '{}' are not finite and positive", step.name));
        }
        Ok(Constants {
            weights: graph::to_array(at(0)?).ok_or_else(missing)?.iter().copied().collect(),
            bias: graph::to_array(at(1)?).ok_or_else(missing)?.iter().copied().collect(),
            multiplier,
        })
    }
}

fn output(store: Option<Store>, factors: &[f32]) -> Output<'_> {
    match store {
        Some(Store { zero_point, lo, hi }) => Output::U8 { mult: factors, zero_point, lo, hi },
        None => Output::F32 { scale: factors },
    }
}

/// Prepares `step` for `isa`.
pub(super) fn prepare(step: &Step, tensors: &[TensorProto], isa: Isa) -> Result<Kernel, String> {
    Ok(match &step.op {
        StepOp::Conv(conv) => prepare_conv(conv, Constants::of(step, tensors, conv.store.is_some())?, isa)?,
        StepOp::Gemm { m, k, n, store } => {
            let constants = Constants::of(step, tensors, store.is_some())?;
            let out = output(*store, &constants.multiplier);
            let weights = GemmWeights::pack(isa, *n, 1, *k, &constants.weights, &constants.bias, out);
            {
                let (rows, k) = (*m, *k);
                pointwise(
                    store.is_some(),
                    Pointwise { weights, rows, k, out_offset: 0, out_stride: *n, sum: None },
                )
            }
        }
        StepOp::Add { a, b, out, lo, hi, .. } => {
            let pair = |q: &Quant| (q.scale, q.zero_point);
            Kernel::Add(AddParams::new(pair(a), pair(b), pair(out), *lo, *hi))
        }
        StepOp::Pairs { op, a, b, out, lo, hi, constant, .. } => {
            let [a, b, out] = [a, b, out].map(|q| (q.scale, q.zero_point));
            let params = match op {
                PairOp::Add => PairParams::Add(AddParams::new(a, b, out, *lo, *hi)),
                PairOp::Mul => PairParams::Mul(MulParams::new(a, b, out, *lo, *hi)),
            };
            let stored = constant.map(|_| tensors.get(step.constants).and_then(graph::to_array::<u8>));
            let constant = match stored {
                None => Vec::new(),
                Some(values) => values.ok_or("a constant operand without values")?.into_iter().collect(),
            };
            Kernel::Pairs { params, constant }
        }
        StepOp::Lookup { .. } => {
            let table = tensors.get(step.constants).and_then(graph::to_array::<u8>);
            let bytes = table.and_then(|t| t.as_slice().and_then(|s| <[u8; 256]>::try_from(s).ok()));
            Kernel::Table(Box::new(bytes.ok_or("a table without 256 values")?))
        }
        StepOp::Concat { quants, out, .. } => {
            let table = |q: &Quant| {
                (q != out).then(|| Box::new(std::array::from_fn(|v| out.quantize(q.dequantize(v as u8)))))
            };
            Kernel::Tables(quants.iter().map(table).collect())
        }
        StepOp::Float(op) => Kernel::Float(float::prepare(op, step, tensors, isa)?),
        _ => Kernel::Plain,
    })
}

fn pointwise(bytes: bool, product: Pointwise) -> Kernel {
    if bytes { Kernel::Pointwise(product) } else { Kernel::PointwiseF32(product) }
}

fn prepare_conv(conv: &Conv, constants: Constants, isa: Isa) -> Result<Kernel, String> {
    let Constants { weights, bias, multiplier } = constants;
    let window = conv.window;
    if conv.is_depthwise() {
        let out = output(conv.store, &multiplier);
        let zero_point = conv.input_zero_point;
        let weights =
            DepthwiseWeights::pack(isa, conv.in_channels, window.kernel, &weights, &bias, zero_point, out);
        return Ok(Kernel::Depthwise { weights, geometry: window.geometry() });
    }
    if window.is_pointwise() && conv.group == 1 {
        let out = output(conv.store, &multiplier);
        let weights = GemmWeights::pack(isa, conv.out_channels, 1, conv.in_channels, &weights, &bias, out);
        let product = Pointwise {
            weights,
            rows: conv.batch * window.out_pixels(),
            k: conv.in_channels,
            out_offset: conv.out_offset,
            out_stride: conv.out_stride,
            sum: Residuals::of(conv),
        };
        return Ok(pointwise(conv.store.is_some(), product));
    }
    let shape = Taps::new(window, conv.in_channels, conv.group, conv.stem, stem_pixel(conv.in_channels));
    let (group_in, group_out) = (conv.in_channels / conv.group, conv.out_channels / conv.group);
    let per_group = group_out * group_in * window.kernel[0] * window.kernel[1];
    let groups = (0..conv.group).map(|g| {
        let range = g * group_out..(g + 1) * group_out;
        let packed = shape.reorder(&weights[g * per_group..(g + 1) * per_group]);
        let out = output(conv.store, &multiplier[range.clone()]);
        GemmWeights::pack(isa, group_out, shape.taps, shape.k, &packed, &bias[range], out)
    });
    Ok(Kernel::Indirect(Indirect {
        groups: groups.collect(),
        offsets: Offsets::new(shape.taps, shape.k, shape.offsets()?),
        pad_row: vec![conv.input_zero_point; shape.k + SLACK],
        in_bytes: shape.in_len,
        group_in,
        group_out,
        out_offset: conv.out_offset,
        out_stride: conv.out_stride,
        batch: conv.batch,
        sum: Residuals::of(conv),
    }))
}

/// Runs a step between buffers. Inputs have [`SLACK`] bytes after their end.
pub(super) fn run(op: &StepOp, kernel: &Kernel, isa: Isa, inputs: &[&[u8]], out: &mut [u8]) {
    match (kernel, op) {
        (Kernel::Float(kernel), StepOp::Float(op)) => float::run(op, kernel, isa, inputs, out),
        (_, op) if op.leaves() => to_f32(op, kernel, isa, None, inputs[0], kernels::floats_mut(out)),
        (Kernel::Pointwise(_), _) => run_product(None, kernel, inputs, out),
        (Kernel::PointwiseF32(_), _) => to_f32(op, kernel, isa, None, inputs[0], kernels::floats_mut(out)),
        (Kernel::Indirect(conv), StepOp::Conv(Conv { store: None, .. })) => {
            let out = kernels::floats_mut(out);
            conv.each_group(inputs[0], |weights, x, first| {
                let windows = conv.offsets.all();
                weights.indirect_f32(None, x, &conv.pad_row, windows, &mut out[first..], conv.out_stride);
            });
        }
        (Kernel::Indirect(_), _) => run_product(None, kernel, inputs, out),
        (Kernel::Depthwise { weights, geometry }, StepOp::Conv(conv)) => {
            per_image(conv.batch, geometry, conv.in_channels, inputs[0], out, |x, out| {
                weights.run(x, geometry, out)
            });
        }
        (Kernel::Plain, StepOp::MatMul(of)) => {
            kernels::matmul_u8(isa, inputs[0], inputs[inputs.len() - 1], of, out);
        }
        (Kernel::Plain, StepOp::Attention(of)) => {
            let [q, k, v] = [0, 1, 2].map(|at| inputs[at.min(inputs.len() - 1)]);
            kernels::attend_u8(isa, q, k, v, of, out);
        }
        (Kernel::Add(params), StepOp::Add { len, .. }) => {
            kernels::add(isa, inputs[0], inputs[inputs.len() - 1], *len, params, out);
        }
        (Kernel::Pairs { params, constant }, StepOp::Pairs { pairing, constant: side, .. }) => {
            let (a, b): (&[u8], &[u8]) = match side {
                Some(0) => (constant, inputs[0]),
                Some(_) => (inputs[0], constant),
                None => (inputs[0], inputs[inputs.len() - 1]),
            };
            run_pairs(isa, pairing, params, a, b, out);
        }
        (Kernel::Table(table), StepOp::Lookup { len }) => {
            kernels::lookup(isa, table, &inputs[0][..*len], &mut out[..*len])
        }
        (Kernel::Plain, StepOp::MaxPool { batch, channels, window }) => {
            let geometry = window.geometry();
            per_image(*batch, &geometry, *channels, inputs[0], out, |x, out| {
                kernels::max_pool(isa, x, *channels, &geometry, out);
            });
        }
        (
            Kernel::Plain,
            StepOp::AveragePool { batch, channels, window, count_include_pad, quant, out: to },
        ) => {
            let geometry = window.geometry();
            let ratio = quant.scale / to.scale;
            per_image(*batch, &geometry, *channels, inputs[0], out, |x, out| {
                let (from, to) = (quant.zero_point, to.zero_point);
                kernels::average_pool(isa, x, *channels, &geometry, *count_include_pad, from, ratio, to, out);
            });
        }
        (Kernel::Plain, StepOp::GlobalAveragePool { batch, channels, pixels, quant, out: Some(to) }) => {
            // ONNX Runtime's order: the divisor joins the output scale first.
            let mult = quant.scale / (to.scale * *pixels as f32);
            for image in 0..*batch {
                let x = &inputs[0][image * pixels * channels..];
                let (from, zero_point) = (quant.zero_point, to.zero_point);
                let out = &mut out[image * channels..(image + 1) * channels];
                kernels::global_average_pool(isa, x, *pixels, *channels, from, mult, zero_point, out);
            }
        }
        (Kernel::Plain, StepOp::Move { copying, fill }) => copying.run(inputs[0], *fill, out),
        (Kernel::Plain, StepOp::Resize { scaling, quant, out: to }) => {
            let rescale =
                Rescale { from: quant.zero_point, ratio: quant.scale / to.scale, to: to.zero_point };
            let (from, to) = (scaling.in_len(), scaling.out_len());
            for image in 0..scaling.batch {
                let (x, out) = (&inputs[0][image * from..], &mut out[image * to..(image + 1) * to]);
                let (width, channels) = (scaling.in_width, scaling.channels);
                kernels::resize(isa, x, width, channels, &scaling.rows, &scaling.columns, rescale, out);
            }
        }
        _ => {}
    }
}

/// Runs a product of bytes between buffers, with its residual if it has one, on all threads of `team` if there is one.
pub(super) fn run_product(team: Option<&Team>, kernel: &Kernel, inputs: &[&[u8]], out: &mut [u8]) {
    match kernel {
        Kernel::Pointwise(Pointwise { weights, rows, k, out_offset, out_stride, sum }) => {
            let residual = Residuals::at(sum, inputs, *out_offset);
            weights.pointwise(team, inputs[0], *k, *rows, &mut out[*out_offset..], *out_stride, residual);
        }
        Kernel::Indirect(conv) => conv.each_group(inputs[0], |weights, x, first| {
            let (windows, residual) = (conv.offsets.all(), Residuals::at(&conv.sum, inputs, first));
            let out = &mut out[first..];
            weights.indirect(team, x, &conv.pad_row, windows, out, conv.out_stride, residual);
        }),
        _ => {}
    }
}

/// Counts through the outer dimensions and runs the rows of each combination.
fn run_pairs(isa: Isa, pairing: &Pairing, params: &PairParams, a: &[u8], b: &[u8], out: &mut [u8]) {
    let Pairing { outer, rows, columns } = pairing;
    let step = |operand: usize| [rows.1[operand], columns.1[operand]];
    let grid = Grid { rows: rows.0, columns: columns.0, a: step(0), b: step(1) };
    let times: usize = outer.iter().map(|d| d.0).product();
    for (index, out) in out.chunks_exact_mut((rows.0 * columns.0).max(1)).take(times).enumerate() {
        let (mut rest, mut at) = (index, [0; 2]);
        for (count, steps) in outer.iter().rev() {
            let position = rest % count;
            rest /= count;
            at = [at[0] + position * steps[0], at[1] + position * steps[1]];
        }
        match params {
            PairParams::Add(params) => {
                kernels::add_broadcast(isa, &a[at[0]..], &b[at[1]..], &grid, params, out)
            }
            PairParams::Mul(params) => kernels::multiply(isa, &a[at[0]..], &b[at[1]..], &grid, params, out),
        }
    }
}

fn per_image(
    batch: usize,
    geometry: &Geometry,
    channels: usize,
    x: &[u8],
    out: &mut [u8],
    mut run: impl FnMut(&[u8], &mut [u8]),
) {
    let (from, to) = (geometry.pixels() * channels, geometry.out_pixels() * channels);
    for image in 0..batch {
        run(&x[image * from..], &mut out[image * to..(image + 1) * to]);
    }
}

/// A tensor of tract to a buffer.
pub(super) fn enter(op: &StepOp, isa: Isa, team: Option<&Team>, x: &[f32], out: &mut [u8]) {
    if let StepOp::Float(op) = op {
        float::import(op, isa, x, kernels::floats_mut(out));
        return;
    }
    let StepOp::Quantize { batch, channels, height, width, quant, stem } = op else { return };
    let (stride, pad) = stem.map_or((*channels, [0; 4]), |s| (stem_pixel(*channels), s.pad));
    let (from, to) =
        (channels * height * width, (height + pad[0] + pad[2]) * (width + pad[1] + pad[3]) * stride);
    for image in 0..*batch {
        let x = &x[image * from..(image + 1) * from];
        let out = &mut out[image * to..(image + 1) * to];
        kernels::quantize_nchw(
            isa,
            team,
            x,
            *channels,
            *height,
            *width,
            quant.scale,
            quant.zero_point,
            stride,
            pad,
            out,
        );
    }
}

/// A buffer to f32.
pub(super) fn to_f32(op: &StepOp, kernel: &Kernel, isa: Isa, team: Option<&Team>, x: &[u8], out: &mut [f32]) {
    match (kernel, op) {
        (_, StepOp::Float(op)) => float::export(op, isa, kernels::floats(x), out),
        (Kernel::PointwiseF32(Pointwise { weights, rows, k, out_offset, out_stride, .. }), _) => {
            weights.pointwise_f32(team, x, *k, *rows, &mut out[*out_offset..], *out_stride);
        }
        (_, StepOp::GlobalAveragePool { batch, channels, pixels, quant, .. }) => {
            let images = x.chunks_exact(channels * pixels).take(*batch);
            for (image, means) in images.zip(out.chunks_exact_mut(*channels)) {
                mean_of_pixels(image, *pixels, *quant, means);
            }
        }
        (_, StepOp::Dequantize { batch, channels, pixels, quant }) => {
            let len = channels * pixels;
            for image in 0..*batch {
                let out = &mut out[image * len..(image + 1) * len];
                kernels::dequantize_to_nchw(
                    isa,
                    &x[image * len..],
                    *channels,
                    *pixels,
                    quant.scale,
                    quant.zero_point,
                    out,
                );
            }
        }
        _ => {}
    }
}

/// The mean of each channel over the pixels of one NHWC image, as a real number.
fn mean_of_pixels(image: &[u8], pixels: usize, quant: Quant, means: &mut [f32]) {
    let mut sums = vec![0u32; means.len()];
    for pixel in image.chunks_exact(means.len()) {
        sums.iter_mut().zip(pixel).for_each(|(sum, q)| *sum += u32::from(*q));
    }
    let zero = i64::from(quant.zero_point) * pixels as i64;
    let scale = quant.scale / pixels as f32;
    for (mean, sum) in means.iter_mut().zip(&sums) {
        *mean = (i64::from(*sum) - zero) as f32 * scale;
    }
}

/// What can be seen wrong in a program before it runs; a program made by lowering has none.
pub(super) fn check(program: &Program) -> Result<(), String> {
    let outputs: &[OutputPort] = &program.outputs;
    let buffers = program.buffers.len();
    let known = |operand: &super::program::Operand, ports: usize| match operand {
        super::program::Operand::Buffer(b) => *b < buffers,
        super::program::Operand::Port(p) => *p < ports,
    };
    let ok = program
        .steps
        .iter()
        .all(|s| s.inputs.iter().all(|i| known(i, program.inputs)) && known(&s.output, outputs.len()));
    if ok { Ok(()) } else { Err("a step refers to a buffer or port that does not exist".into()) }
}
