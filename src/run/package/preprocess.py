"""From an image file to the model's input, as preprocess.json says. Needs numpy and pillow."""
import json
import pathlib

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).resolve().parent
STEPS = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))


def load(path):
    """The image as an array of shape (1, channels, height, width)."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    if STEPS.get("resize"):
        image = image.resize(tuple(STEPS["resize"]), Image.BILINEAR)
    elif STEPS.get("resize_short") and min(image.size) != STEPS["resize_short"]:
        short = STEPS["resize_short"]
        scale = short / min(image.size)
        width, height = image.size
        size = (short, round(height * scale)) if width <= height else (round(width * scale), short)
        image = image.resize(size, Image.BILINEAR)
    if STEPS.get("crop"):
        side = STEPS["crop"]
        left, top = round((image.width - side) / 2), round((image.height - side) / 2)
        image = image.crop((left, top, left + side, top + side))
    if STEPS["color"] == "y":
        pixels = np.asarray(image.convert("YCbCr"), np.float32)[:, :, :1]
    else:
        pixels = np.asarray(image, np.float32)
        if STEPS["color"] == "bgr":
            pixels = pixels[:, :, ::-1]
    mean, std = np.float32(STEPS["mean"]), np.float32(STEPS["std"])
    values = (pixels * np.float32(STEPS["scale"]) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


def print_best(scores):
    """The five best classes: index, score, name."""
    names = HERE / "classes.txt"
    names = names.read_text(encoding="utf-8").splitlines() if names.exists() else []
    scores = np.asarray(scores).ravel()
    for index in np.argsort(-scores, kind="stable")[:5]:
        print(f"{index:5d} {scores[index]:9.4f} {names[index] if index < len(names) else ''}")
