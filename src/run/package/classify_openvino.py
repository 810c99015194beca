#!/usr/bin/env python3
"""Classifies one image with OpenVINO: classify_openvino.py IMAGE

Needs: pip install openvino numpy pillow
"""
import sys

import openvino
import preprocess

if len(sys.argv) != 2:
    sys.exit(__doc__)
image = preprocess.load(sys.argv[1])
core = openvino.Core()
model = core.read_model(preprocess.HERE / "model.onnx")
model.reshape(image.shape)
compiled = core.compile_model(model, "CPU")
preprocess.print_best(compiled(image)[0])
