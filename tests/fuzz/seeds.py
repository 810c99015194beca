#!/usr/bin/env python3
"""Make corpus/: small files to begin fuzzing from, a few kB for each target; `session` begins from those of `model`.

Models have as many kinds of operator as fit; the rest is cut from the fixtures. Deterministic.
Needs what fixtures/make/requirements.txt names. Usage: python tests/fuzz/seeds.py, in the repository.
"""

import io
import os

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "..", "fixtures")
RANDOM = np.random.default_rng(3)


def write(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def weights(name, *shape):
    return constant(name, RANDOM.normal(0, 0.5, shape))


def model(name, nodes, inits, out, shape=("N", 3, 6, 6), opset=13):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        inits,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    write("model", name, proto.SerializeToString())


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name="n_" + outputs[0], **attributes)


def models():
    model("classifier", [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "s", "s", "m", "s"], ["n"]),
        node("Clip", ["n", "zero", "six"], ["r"]),
        node("Conv", ["r", "dw"], ["d"], group=4, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", ["d", "r"], ["a"]),
        node("GlobalAveragePool", ["a"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "v", "g"], ["y"], transB=1),
    ], [weights("w", 4, 3, 3, 3), weights("b", 4), constant("s", [1, 1, 1, 1]), constant("m", [0, 0, 0, 0]),
        constant("zero", 0), constant("six", 6), weights("dw", 4, 1, 3, 3), weights("v", 5, 4), weights("g", 5)], "y")
    model("shapes", [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "first"], ["n"]),
        node("Concat", ["n", "minus"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        node("Slice", ["t", "from", "end", "axis"], ["c"]),
        node("ReduceMean", ["c"], ["m"], axes=[1], keepdims=1),
        node("Softmax", ["m"], ["y"], axis=-1),
    ], [constant("first", [0], np.int64), constant("minus", [3, -1], np.int64), constant("from", [0], np.int64),
        constant("end", [9], np.int64), constant("axis", [1], np.int64)], "y")
    model("attention", [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        node("MatMul", ["t", "q"], ["a"]),
        node("MatMul", ["t", "k"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[0, 1, 3, 2]),
        node("MatMul", ["a", "c"], ["d"]),
        node("Softmax", ["d"], ["e"], axis=-1),
        node("Erf", ["e"], ["f"]),
        node("Sigmoid", ["f"], ["g"]),
        node("Mul", ["f", "g"], ["y"]),
    ], [weights("q", 3, 2), weights("k", 3, 2)], "y")
    model("movement", [
        node("Pad", ["x", "pads"], ["p"]),
        node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Resize", ["m", "", "scales"], ["r"], mode="nearest"),
        node("DepthToSpace", ["z"], ["q"], blocksize=2),
        node("Split", ["r", "parts"], ["a", "b"], axis=1),
        node("Concat", ["a", "b", "b"], ["z0"], axis=1),
        node("Pad", ["z0", "wide"], ["z"]),
        node("ConvTranspose", ["q", "w"], ["y"], strides=[2, 2]),
    ], [constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64), constant("scales", [1, 1, 2, 2]),
        constant("parts", [1, 2], np.int64), constant("wide", [0, 0, 0, 0, 0, 3, 0, 0], np.int64),
        weights("w", 2, 1, 2, 2)], "y")
    inner = [helper.make_graph([node("Identity", ["x"], [out])], out, [],
                               [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)]) for out in ("yes", "no")]
    model("branches", [
        node("Constant", [], ["flag"], value=constant("", True, bool)),
        node("If", ["flag"], ["i"], then_branch=inner[0], else_branch=inner[1]),
        node("ConstantOfShape", ["shape"], ["o"], value=constant("", [2.0])),
        node("Expand", ["o", "shape"], ["e"]),
        node("Mul", ["i", "e"], ["y"]),
    ], [constant("shape", [1, 3, 1, 1], np.int64)], "y")
    one = [constant("xs", 0.05), constant("xz", 128, np.uint8), constant("ws", [0.01, 0.02]),
           constant("wz", [0, 0], np.int8), constant("w", RANDOM.integers(-127, 128, (2, 3, 3, 3)), np.int8),
           constant("bias", [3, -7], np.int32), constant("bs", [0.0005, 0.001]), constant("bz", [0, 0], np.int32)]
    model("int8", [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("DequantizeLinear", ["bias", "bs", "bz"], ["bd"], axis=0),
        node("Conv", ["xd", "wd", "bd"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("QuantizeLinear", ["r", "xs", "xz"], ["rq"]),
        node("DequantizeLinear", ["rq", "xs", "xz"], ["rd"]),
        node("GlobalAveragePool", ["rd"], ["p"]),
        node("QuantizeLinear", ["p", "xs", "xz"], ["pq"]),
        node("DequantizeLinear", ["pq", "xs", "xz"], ["y"]),
    ], one, "y")
    model("qoperator", [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        node("QLinearConv", ["xq", "xs", "xz", "w", "ws", "wz", "xs", "xz", "bias"], ["c"]),
        node("DequantizeLinear", ["c", "xs", "xz"], ["y"]),
    ], one[:6], "y")
    for name in ("cyclic", "two_inputs", "external_escape", "dynamic_spatial"):
        with open(os.path.join(FIXTURES, "odd", name + ".onnx"), "rb") as file:
            write("model", name, file.read())


RUN_FILE = """\
version: 1
name: demo # a comment
model: {path: m.onnx}
preprocess: {resize_short: 128, crop: 112, color: rgb, scale: 0.0039, mean: [0.4, 0.4, 0.4], std: [0.2, 0.2, 0.2]}
dataset: {path: images, labels: l.txt, classes: c.txt, max_unreadable: 0.1}
optimize:
  dataset: {path: calib}
  precision: int8
  method: accuracy_aware
  preset: mixed
  subset_size: 300
  range: mse
  bias_correction: sequential
  max_drop: 1.0
  time_budget_seconds: 60
  ignored_scope: {names: [a, "b.*"], types: [Softmax]}
performance: {engines: [builtin], streams: [1, auto], batch: [1], latency_limit_ms: 20, seconds: 10, layers: true}
reports: [predictions, annotations, tensor_distance]
gates: {min_speedup: 1.2, min_agreement: 0.9, max_drop: 1}
threads: auto
memory_limit: 8 GB
output: out/demo
"""


def texts():
    write("run_file", "whole", RUN_FILE.encode())
    write("run_file", "short", b"version: 1\nname: a\nmodel:\n  path: m.onnx\npreprocess: unit\ndataset:\n  path: d\n")
    write("run_file", "anchors", b"a: &a [1, 2]\nb: *a\n<<: {c: ~}\n? [x]\n: |\n  text\n--- !tag\n'q': \"\\u001b\"\n")
    write("run_file", "set", b"performance.streams=[1, auto]")
    with open(os.path.join(FIXTURES, "events", "quickstart.jsonl"), "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kinds = {}
    for line in lines:
        kinds.setdefault(line.split(b'"event":"', 1)[-1].split(b'"', 1)[0], []).append(line)
    write("events", "each_kind", b"".join(group[0] for group in kinds.values()))
    write("events", "torn", lines[0] + lines[1][: len(lines[1]) // 2])
    write("labels", "labels", b"# a list\na.png 0\nb c.png 12\n./d/e.png 3\n")
    write("labels", "wordnet", "n01440764 tench, Tinca tinca\nn01443537 goldfish\ngr\u00f6\u00dfe\n".encode())
    write("labels", "odd", b"\xef\xbb\xbfa.png 4294967295\r\n../b.png 1\r\n\x1b[2J.png 1\n")


def images():
    rgb = RANDOM.integers(0, 256, (9, 7, 3), np.uint8)
    picture = Image.fromarray(rgb)

    def save(name, image, kind, **options):
        data = io.BytesIO()
        image.save(data, kind, **options)
        write("image", name, data.getvalue())

    save("rgb.png", picture, "PNG")
    save("alpha.png", picture.convert("RGBA"), "PNG")
    save("palette.png", picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=16), "PNG")
    save("gray16.png", Image.fromarray(RANDOM.integers(0, 65536, (5, 4)).astype(np.uint16)), "PNG")
    save("baseline.jpg", picture, "JPEG", quality=60)
    save("progressive.jpg", picture, "JPEG", quality=60, progressive=True, subsampling=0)
    save("cmyk.jpg", picture.convert("CMYK"), "JPEG", quality=40)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("turned.jpg", picture, "JPEG", quality=40, exif=exif)
    save("lossy.webp", picture, "WEBP", quality=40)
    save("lossless.webp", picture, "WEBP", lossless=True)
    save("rgb.bmp", picture, "BMP")
    save("palette.bmp", picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=16), "BMP")
    save("animated.gif", picture.convert("P"), "GIF", save_all=True, append_images=[picture.convert("P").rotate(90)])


if __name__ == "__main__":
    models()
    texts()
    images()
