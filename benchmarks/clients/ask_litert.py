"""What plain LiteRT answers, with NumPy alone:    python ask_litert.py PACKAGE PIXELS.npy OUT.json MODEL.tflite...

PACKAGE: ai_edge_litert or tflite_runtime. PIXELS.npy: uint8 [n, px, px, 3]. OUT.json: by file the likeliest class of
each image, all its probabilities, and whether XNNPACK took part, as {MODEL: {"top1": [n], "probabilities":
[n][classes], "xnnpack": true}}. Runs where kd2mobile is not installed: what an app of one's own needs.
"""

import json
import sys
from importlib import import_module

import numpy as np


def main(package: str, pixels: str, out: str, *models: str) -> None:
    interpreter = import_module(f"{package}.interpreter").Interpreter
    images, answers = np.load(pixels), {}
    for model in models:
        opened = interpreter(model_path=model)
        classify = opened.get_signature_runner("classify")
        dtype = classify.get_input_details()["image"]["dtype"]  # uint8, of int16x8 float32
        scale, zero_point = classify.get_output_details()["probabilities"]["quantization"]  # 0 and 0 of floats
        outputs = [classify(image=image[None].astype(dtype))["probabilities"][0] for image in images]
        probabilities = (np.float32(outputs) - zero_point) * (scale or 1)
        answers[model] = {
            "top1": probabilities.argmax(axis=1).tolist(),
            "probabilities": probabilities.tolist(),
            "xnnpack": any(op["op_name"] == "DELEGATE" for op in opened._get_ops_details()),
        }
    with open(out, "w", encoding="utf-8") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
