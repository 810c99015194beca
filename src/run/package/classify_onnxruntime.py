#!/usr/bin/env python3
"""Classifies one image with ONNX Runtime: classify_onnxruntime.py IMAGE

Needs: pip install onnxruntime numpy pillow
"""
import sys

import onnxruntime
import preprocess

if len(sys.argv) != 2:
    sys.exit(__doc__)
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(
    str(preprocess.HERE / "model.onnx"), options, providers=["CPUExecutionProvider"]
)
outputs = session.run(None, {session.get_inputs()[0].name: preprocess.load(sys.argv[1])})
preprocess.print_best(outputs[0])
