//! The forms in which NNCF writes a graph.

use super::*;

impl Graph {
    /// As [`Graph::quantize`], with a scale for each channel.
    fn quantize_channels(&mut self, x: &str, scales: &[f32], zero_points: &[u8]) -> String {
        self.constants.push(tensor(&format!("{x}_s"), &[scales.len()], scales));
        self.constants.push(tensor(&format!("{x}_z"), &[scales.len()], zero_points));
        let dq = self.pair(x);
        for node in self.nodes.iter_mut().rev().take(2) {
            *node = with_int(node.clone(), "axis", 1);
        }
        dq
    }

    /// A bias of f32 for the convolution `name`.
    fn bias(&mut self, name: &str, values: &[f32]) {
        self.constants.push(tensor(&format!("{name}_b"), &[values.len()], values));
        if let Some(conv) = self.nodes.iter_mut().find(|n| n.name == name) {
            conv.input.push(format!("{name}_b"));
        }
    }
}

#[test]
fn a_scale_for_each_channel_before_a_depthwise_convolution_fuses() {
    let shape = [2, 3, 6, 5];
    // Scales with which a Clip at 6 saturates by itself.
    let scales = [6.0 / 255.0, 0.004, 0.011, 0.02];
    for bound in [None, Some(6.0f32)] {
        let mut g = Graph::default();
        let x = g.quantize("x", 0.03, 128);
        let wide = g.conv("wide", &x, 3, 4, 1);
        g.bias("wide", &[0.3, -0.2, 0.5, 1.0]);
        match bound {
            None => g.node(node("Relu", "act", &[&wide], &["a"])),
            Some(bound) => {
                g.constants.extend([tensor("lo", &[], &[0f32]), tensor("hi", &[], &[bound])]);
                g.node(node("Clip", "act", &[&wide, "lo", "hi"], &["a"]));
            }
        }
        let a = g.quantize_channels("a", &scales, &[0; 4]);
        let deep = g.conv("deep", &a, 4, 4, 4);
        g.bias("deep", &[-0.1, 0.2, 0.0, 0.4]);
        let deep = g.quantize(&deep, STEP, 120);
        let model = g.model(shape, &[&deep]);
        assert_eq!(check(&model, shape), [], "{bound:?}");
        assert_eq!(steps(&model), ["Quantize", "Conv", "Conv", "Dequantize"], "{bound:?}");
    }
}

#[test]
fn what_is_not_a_convolution_is_divided_by_the_scales_of_its_channels() {
    let shape = [1, 4, 6, 5];
    let scales = [0.02, 0.004, 0.011, 0.03];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let y = g.conv("y", &x, 4, 4, 1);
    let y = g.quantize(&y, STEP, 128);
    g.node(node("Add", "sum", &[&x, &y], &["s"]));
    let s = g.quantize_channels("s", &scales, &[100; 4]);
    let deep = g.conv("deep", &s, 4, 4, 4);
    let deep = g.quantize(&deep, STEP, 120);
    let model = g.model(shape, &[&deep]);
    let left: Vec<String> = check(&model, shape).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["sum"]);
    assert_eq!(islands(&model), 1);
}

#[test]
fn a_bound_inside_the_range_of_a_channel_is_kept() {
    let shape = [1, 3, 6, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let wide = g.conv("wide", &x, 3, 4, 1);
    g.constants.extend([tensor("lo", &[], &[0f32]), tensor("hi", &[], &[0.5f32])]);
    g.node(node("Clip", "act", &[&wide, "lo", "hi"], &["a"]));
    let a = g.quantize_channels("a", &[0.002, 0.01, 0.02, 0.001], &[0; 4]);
    let deep = g.conv("deep", &a, 4, 4, 4);
    let deep = g.quantize(&deep, STEP, 120);
    let model = g.model(shape, &[&deep]);
    check(&model, shape);
    assert_eq!(islands(&model), 1);
}

#[test]
fn channels_with_different_zero_points_say_why_they_do_not_fuse() {
    let shape = [1, 4, 6, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let y = g.conv("y", &x, 4, 4, 1);
    let y = g.quantize_channels(&y, &[0.02, 0.01, 0.02, 0.03], &[100, 120, 128, 90]);
    let deep = g.conv("deep", &y, 4, 4, 4);
    let deep = g.quantize(&deep, STEP, 120);
    let left = check(&g.model(shape, &[&deep]), shape);
    assert!(left.contains(&("deep".into(), "its activation scale is per channel".into())), "{left:?}");
}

#[test]
fn a_normalization_behind_quantized_weights_is_folded_into_them() {
    let shape = [1, 3, 6, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let conv = g.conv("conv", &x, 3, 4, 1);
    for (name, values) in [
        ("gamma", [0.5f32, -0.7, 0.0, 2.0]),
        ("beta", [0.3, -0.2, 0.6, 0.0]),
        ("mean", [-0.1, 0.2, 0.3, 0.0]),
        ("variance", [1.5, 0.4, 1.0, 0.8]),
    ] {
        g.constants.push(tensor(name, &[4], &values));
    }
    g.node(node("BatchNormalization", "bn", &[&conv, "gamma", "beta", "mean", "variance"], &["n"]));
    g.node(node("Relu", "relu", &["n"], &["r"]));
    let r = g.quantize("r", STEP, 0);
    let model = g.model(shape, &[&r]);
    assert_eq!(check(&model, shape), []);
    assert_eq!(steps(&model), ["Quantize", "Conv", "Dequantize"]);
}

#[test]
fn tensors_without_a_quantization_of_their_own_have_that_of_what_they_are_made_of() {
    let shape = [1, 3, 8, 8];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let stem = g.conv("stem", &x, 3, 4, 1);
    let stem = g.quantize(&stem, STEP, 100);
    let pool = with_ints(node("MaxPool", "pool", &[&stem], &["pooled"]), "kernel_shape", &[2, 2]);
    g.node(with_ints(pool, "strides", &[2, 2]));
    // Straight from the pool, with no quantization between.
    let a = g.conv("a", "pooled", 4, 4, 1);
    let a = g.quantize(&a, STEP, 128);
    let b = g.pointwise("b", "pooled", 4, 4);
    let b = g.quantize(&b, STEP, 128);
    g.node(with_int(node("Concat", "join", &[&a, &b], &["joined"]), "axis", 1));
    let c = g.pointwise("c", "joined", 8, 4);
    let c = g.quantize(&c, STEP, 128);
    g.node(node("GlobalAveragePool", "mean", &[&c], &["means"]));
    g.quantize("means", STEP / 4.0, 128);
    g.node(node("Flatten", "flat", &["means_dq"], &["row"]));
    let w = g.weights("head_w", &[5, 4]);
    g.node(with_int(node("Gemm", "head", &["row", &w], &["y"]), "transB", 1));
    let model = g.model(shape, &["y"]);
    assert_eq!(check(&model, shape), []);
    assert_eq!(
        steps(&model),
        ["Quantize", "Conv", "MaxPool", "Conv", "Conv", "Concat", "Conv", "GlobalAveragePool", "Gemm"]
    );
}

#[test]
fn a_depthwise_convolution_before_a_function_stays_in_the_island() {
    let shape = [1, 4, 6, 5];
    let mut g = Graph::default();
    let x = g.quantize("x", 0.03, 128);
    let deep = g.conv("deep", &x, 4, 4, 4);
    g.node(node("HardSwish", "swish", &[&deep], &["s"]));
    let s = g.quantize("s", STEP, 30);
    let point = g.pointwise("point", &s, 4, 4);
    let point = g.quantize(&point, STEP, 128);
    let model = g.model(shape, &[&point]);
    let reasons = [
        ("deep", "it is a depthwise convolution whose result is read in FP32"),
        ("swish", "its input 'deep_y' is not quantized"),
    ];
    assert_eq!(check(&model, shape), reasons.map(|(node, reason)| (node.to_string(), reason.to_string())));
    assert_eq!(islands(&model), 1);
}

#[test]
fn a_constant_added_to_a_matrix_product_is_its_bias() {
    let shape = [1, 3, 6, 5];
    // The last bias doesn't fit an accumulator.
    for (largest, quantized, adds) in [(0.9f32, false, 0), (0.9, true, 0), (1e6, true, 1)] {
        let mut g = Graph::default();
        let x = g.quantize("x", 0.03, 128);
        let stem = g.conv("stem", &x, 3, 4, 1);
        let stem = g.quantize(&stem, STEP, 128);
        g.constants.push(tensor("rows", &[3], &[1i64, 24, 5]));
        g.node(node("Reshape", "flat", &[&stem, "rows"], &["tokens"]));
        let weights: Vec<i8> = noise(5 * 7, 7).map(|v| (v * 100.0) as i8).collect();
        g.constants.extend([tensor("w_q", &[5, 7], &weights), tensor("w_s", &[], &[0.004f32])]);
        g.node(node("DequantizeLinear", "w_D", &["w_q", "w_s"], &["w"]));
        g.constants.push(tensor("b", &[7], &[0.3, -0.7, 0.0, 0.1, 0.5, largest, -0.4]));
        g.node(node("MatMul", "product", &["tokens", "w"], &["product"]));
        g.node(node("Add", "sum", &["b", "product"], &["y"]));
        let y = if quantized { g.quantize("y", STEP, 128) } else { "y".into() };
        let model = g.model(shape, &[&y]);
        check(&model, shape);
        let kinds = steps(&model);
        assert_eq!(kinds.iter().filter(|k| *k == "Add").count(), adds, "{largest}, {quantized}: {kinds:?}");
        assert_eq!(kinds.iter().filter(|k| *k == "MatMul").count(), 1, "{largest}, {quantized}: {kinds:?}");
    }
}
