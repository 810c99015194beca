//! Attention, normalization and GELU, in the operators that exporters write them in.

use super::*;

impl Graph {
    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        self.constants.push(tensor(name, shape, values));
        name.into()
    }

    fn op(&mut self, op: &str, inputs: &[&str], output: &str) -> String {
        self.node(node(op, output, inputs, &[output]));
        output.into()
    }

    fn linear(&mut self, name: &str, x: &str, k: usize, n: usize) -> String {
        let weights: Vec<f32> = noise(k * n, 11).map(|v| v * 0.3).collect();
        let bias: Vec<f32> = noise(n, 5).collect();
        let w = self.constant(&format!("{name}_w"), &[k, n], &weights);
        let b = self.constant(&format!("{name}_b"), &[n], &bias);
        let product = self.op("MatMul", &[x, &w], &format!("{name}_mm"));
        self.op("Add", &[&product, &b], name)
    }

    /// To tokens, layer normalization, attention of two heads, GELU.
    fn block(&mut self, tokens: i64, width: i64) -> String {
        let (t, d) = (tokens as usize, width as usize);
        let half = width / 2;
        self.stem(d);
        self.constants.push(tensor("flat", &[3], &[1i64, width, tokens]));
        self.constants.push(tensor("heads", &[4], &[1i64, tokens, 2, half]));
        self.constants.push(tensor("merged", &[3], &[1i64, tokens, width]));
        self.constants.push(tensor("thirds", &[3], &[width, width, width]));
        self.op("Reshape", &["stem_y", "flat"], "planes");
        self.node(with_ints(node("Transpose", "turn", &["planes"], &["turned"]), "perm", &[0, 2, 1]));
        let positions: Vec<f32> = noise(t * d, 2).collect();
        self.constant("positions", &[1, t, d], &positions);
        self.op("Add", &["turned", "positions"], "tokens");
        for (mean, of) in [("mean", "tokens"), ("variance", "squares")] {
            let reduce = node("ReduceMean", mean, &[of], &[mean]);
            if mean == "variance" {
                self.op("Sub", &["tokens", "mean"], "centred");
                self.op("Mul", &["centred", "centred"], "squares");
            }
            self.node(with_ints(reduce, "axes", &[-1]));
        }
        for (name, value) in
            [("eps", 1e-5), ("root", 2.0), ("root2", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)]
        {
            self.constant(name, &[], &[value]);
        }
        self.op("Add", &["variance", "eps"], "shifted");
        self.op("Sqrt", &["shifted"], "deviation");
        self.op("Div", &["centred", "deviation"], "unit");
        let [factors, bias] = [3, 5].map(|seed| noise(d, seed).collect::<Vec<f32>>());
        self.constant("factors", &[d], &factors);
        self.constant("bias", &[d], &bias);
        self.op("Mul", &["unit", "factors"], "stretched");
        self.op("Add", &["bias", "stretched"], "normal");
        self.linear("qkv", "normal", d, 3 * d);
        let split = node("Split", "split", &["qkv", "thirds"], &["q", "k", "v"]);
        self.node(with_int(split, "axis", 2));
        for (name, perm) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
            let (rows, head) = (format!("{name}_r"), format!("{name}_h"));
            self.op("Reshape", &[name, "heads"], &rows);
            self.node(with_ints(node("Transpose", &head, &[&rows], &[&head]), "perm", &perm));
        }
        self.op("MatMul", &["q_h", "k_h"], "scores");
        self.op("Div", &["scores", "root"], "scaled");
        self.node(with_int(node("Softmax", "shares", &["scaled"], &["shares"]), "axis", -1));
        self.op("MatMul", &["shares", "v_h"], "mixed");
        self.node(with_ints(node("Transpose", "merge", &["mixed"], &["merge"]), "perm", &[0, 2, 1, 3]));
        self.op("Reshape", &["merge", "merged"], "joined");
        self.op("Add", &["joined", "tokens"], "residual");
        self.linear("inner", "residual", d, d);
        self.op("Div", &["inner", "root2"], "inner_root");
        self.op("Erf", &["inner_root"], "erf");
        self.op("Add", &["erf", "one"], "erf_one");
        self.op("Mul", &["erf_one", "half"], "erf_half");
        self.op("Mul", &["inner", "erf_half"], "gelu")
    }

    /// A convolution with f32 weights.
    fn stem(&mut self, out: usize) {
        let weights: Vec<f32> = noise(out * 27, 7).collect();
        self.constant("stem_w", &[out, 3, 3, 3], &weights);
        let conv = node("Conv", "stem", &["x", "stem_w"], &["stem_y"]);
        self.node(with_ints(with_ints(conv, "pads", &[1, 1, 1, 1]), "kernel_shape", &[3, 3]));
    }
}

#[test]
fn a_transformer_block_is_one_island_with_one_attention() {
    let shape = [1, 3, 5, 4];
    let mut g = Graph::default();
    let y = g.block(20, 8);
    let model = g.model(shape, &[&y]);
    check(&model, shape);
    // Queries, keys and values are read where the first product left them; the second is the attention, whose results go
    // where Transpose and Reshape would bring them.
    let of_block = ["LayerNormalization", "MatMul", "Attention", "Add", "MatMul", "Mul"];
    let all = ["Import", "Conv", "Add"].into_iter().chain(of_block);
    assert_eq!(steps(&model), all.collect::<Vec<_>>());
    assert!(crate::engine::builtin::in_tract(&model).unwrap().is_empty());
}

#[test]
fn each_tensor_of_a_small_transformer_agrees() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny/attention.onnx");
    let whole = Model::load(path.as_ref()).unwrap();
    let graph = whole.proto.graph.as_ref().unwrap();
    let dims = &graph.input[0];
    for node in &graph.node {
        let mut proto = whole.proto.clone();
        let graph = proto.graph.as_mut().unwrap();
        graph.output = vec![value(&node.output[0], 1, &[])];
        graph.input[0] = value(&dims.name, 1, &["1", "3", "16", "16"]);
        check(&Model::from_proto("part", proto), [1, 3, 16, 16]);
    }
}
