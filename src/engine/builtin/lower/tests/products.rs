//! Products of two quantized activations, in the forms of several tools.

use super::*;

/// Tokens, their width, heads.
const SIZES: [i64; 3] = [20, 8, 2];
const SHAPE: [usize; 4] = [1, 3, 5, 4];

/// Where queries, keys and values are quantized.
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    /// Together, before they are split, and not after movements: as NNCF does.
    Whole,
    /// Each behind the Split, and after each movement: as this project does.
    Parts,
}

impl Graph {
    fn moved(&mut self, op: &str, x: &str, y: &str, perm: Option<&[i64]>, shape: &str) {
        match perm {
            Some(perm) => self.node(with_ints(node(op, y, &[x], &[y]), "perm", perm)),
            None => self.node(node(op, y, &[x, shape], &[y])),
        }
    }

    /// `x` in the scale of another tensor.
    fn quantize_as(&mut self, x: &str, of: &str) -> String {
        let [s, z] = ["s", "z"].map(|end| format!("{of}_{end}"));
        let [q, dq] = ["q", "dq"].map(|end| format!("{x}_{end}"));
        self.node(node("QuantizeLinear", &format!("{x}_Q"), &[x, &s, &z], &[&q]));
        self.node(node("DequantizeLinear", &format!("{x}_D"), &[&q, &s, &z], &[&dq]));
        dq
    }

    /// The tokens of an image, `[1][tokens][3]`.
    fn tokens(&mut self) -> String {
        let [tokens, width, heads] = SIZES;
        self.constants.push(tensor("flat", &[3], &[1i64, 3, tokens]));
        self.constants.push(tensor("heads", &[4], &[1i64, tokens, heads, width / heads]));
        self.constants.push(tensor("merged", &[3], &[1i64, tokens, width]));
        self.constants.push(tensor("thirds", &[3], &[width; 3]));
        self.constants.push(tensor("root", &[], &[2.0f32]));
        let x = self.quantize("x", 0.03, 120);
        self.moved("Reshape", &x, "planes", None, "flat");
        let x = self.quantize_as("planes", "x");
        self.moved("Transpose", &x, "turned", Some(&[0, 2, 1]), "");
        self.quantize_as("turned", "x")
    }

    /// MatMul by quantized weights of about this scale, and a bias.
    fn product(&mut self, name: &str, x: &str, [k, n]: [usize; 2], scale: f32) -> String {
        let values: Vec<i8> = noise(k * n, 9).map(|v| (v * 200.0) as i8).collect();
        let scales: Vec<f32> = (0..n).map(|o| scale * (1.0 + 0.2 * (o % 3) as f32)).collect();
        let [w, stored, s, b] = ["w", "stored", "ws", "b"].map(|end| format!("{name}_{end}"));
        self.constants.push(tensor(&stored, &[k, n], &values));
        self.constants.push(tensor(&s, &[n], &scales));
        self.constants.push(tensor(&b, &[n], &noise(n, 4).collect::<Vec<f32>>()));
        let dequantize = node("DequantizeLinear", &format!("{w}_D"), &[&stored, &s], &[&w]);
        self.node(with_int(dequantize, "axis", 1));
        self.node(node("MatMul", name, &[x, &w], &[&format!("{name}_mm")]));
        self.node(node("Add", &format!("{name}_add"), &[&format!("{name}_mm"), &b], &[&format!("{name}_y")]));
        format!("{name}_y")
    }

    fn attention(&mut self, at: At) -> String {
        let x = self.tokens();
        let mut qkv = self.product("qkv", &x, [3, 3 * SIZES[1] as usize], 0.01);
        if at == At::Whole {
            qkv = self.quantize(&qkv, 0.03, 131);
        }
        let split = node("Split", "split", &[&qkv, "thirds"], &["q", "k", "v"]);
        self.node(with_int(split, "axis", 2));
        let mut operands = vec![];
        for (name, perm, scale) in
            [("q", [0, 2, 1, 3], 0.03), ("k", [0, 2, 3, 1], 0.025), ("v", [0, 2, 1, 3], 0.02)]
        {
            let [rows, head] = ["r", "h"].map(|end| format!("{name}_{end}"));
            let part = if at == At::Parts { self.quantize(name, scale, 125) } else { name.into() };
            self.moved("Reshape", &part, &rows, None, "heads");
            let part = if at == At::Parts { self.quantize_as(&rows, name) } else { rows };
            self.moved("Transpose", &part, &head, Some(&perm), "");
            operands.push(if at == At::Parts { self.quantize_as(&head, name) } else { head });
        }
        self.node(node("MatMul", "scores", &[&operands[0], &operands[1]], &["scores"]));
        self.node(node("Div", "scaled", &["scores", "root"], &["scaled"]));
        self.node(with_int(node("Softmax", "shares", &["scaled"], &["shares"]), "axis", -1));
        let shares = self.quantize("shares", 1.0 / 255.0, 0);
        self.node(node("MatMul", "mixed", &[&shares, &operands[2]], &["mixed"]));
        let mixed = self.quantize("mixed", STEP, 128);
        self.moved("Transpose", &mixed, "merge", Some(&[0, 2, 1, 3]), "");
        let merge = if at == At::Parts { self.quantize_as("merge", "mixed") } else { "merge".into() };
        self.moved("Reshape", &merge, "joined", None, "merged");
        if at == At::Parts { self.quantize_as("joined", "mixed") } else { "joined".into() }
    }
}

#[test]
fn attention_of_quantized_tensors_is_one_step_between_products() {
    for at in [At::Whole, At::Parts] {
        let mut g = Graph::default();
        let joined = g.attention(at);
        // A step more or less on the way is much less than a step behind these.
        let y = g.product("out", &joined, [SIZES[1] as usize, 4], 0.001);
        let y = g.quantize(&y, STEP, 128);
        let model = g.model(SHAPE, &[&y]);
        assert_eq!(check(&model, SHAPE), [], "{at:?}");
        let parts = if at == At::Parts { &["Gemm"; 3][..] } else { &["MatMul"] };
        let all = steps(&model).into_iter().filter(|kind| !["Quantize", "Dequantize"].contains(&&kind[..]));
        let all: Vec<String> = all.collect();
        assert_eq!(all[..all.len() - 2], *parts, "{at:?}: {all:?}");
        assert_eq!(all[all.len() - 2..], ["Attention", "MatMul"], "{at:?}: {all:?}");
    }
}

#[test]
fn products_that_are_no_attention_are_steps_of_their_own() {
    for quantized in [true, false] {
        let mut g = Graph::default();
        let x = g.tokens();
        g.moved("Transpose", &x, "again", Some(&[0, 2, 1]), "");
        g.node(node("MatMul", "scores", &[&x, "again"], &["scores"]));
        let y = if quantized { g.quantize("scores", STEP, 128) } else { "scores".into() };
        let model = g.model(SHAPE, &[&y]);
        assert_eq!(check(&model, SHAPE), [], "{quantized}");
        let last = if quantized { "Dequantize" } else { "Export" };
        let steps = steps(&model);
        assert_eq!(steps[steps.len() - 2..], ["MatMul", last], "{steps:?}");
    }
}

#[test]
fn shares_that_something_else_reads_keep_their_softmax() {
    let mut g = Graph::default();
    let joined = g.attention(At::Whole);
    let y = g.quantize_as(&joined, "mixed");
    let model = g.model(SHAPE, &[&y, "shares_dq"]);
    check(&model, SHAPE);
    let steps = steps(&model);
    let has = |kind: &str| steps.iter().any(|step| step == kind);
    assert!(has("Softmax") && !has("Attention"), "{steps:?}");
}
