"""What plain LiteRT answers, with NumPy alone:    python ask_litert.py PACKAGE PIXELS.npy OUT.json MODEL.tflite...

PACKAGE: ai_edge_litert or tflite_runtime. PIXELS.npy: uint8 [n, px, px, 3]. OUT.json: the likeliest class of each
picture, by file, as {MODEL: {"top1": [n]}}. Runs where kd2mobile is not installed: what an app of one's own needs.
"""

import json
import sys
from importlib import import_module

import numpy as np


def main(package: str, pixels: str, out: str, *models: str) -> None:
    interpreter = import_module(f"{package}.interpreter").Interpreter
    pictures, answers = np.load(pixels), {}
    for model in models:
        classify = interpreter(model_path=model).get_signature_runner("classify")
        dtype = classify.get_input_details()["image"]["dtype"]  # uint8, of int16x8 float32
        top1 = [int(classify(image=picture[None].astype(dtype))["probabilities"].argmax()) for picture in pictures]
        answers[model] = {"top1": top1}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
