"""Classifies images with a .tflite of kd2mobile:    python classify.py MODEL.tflite IMAGE... [--top 3] [--json]

Needs NumPy, Pillow and ai-edge-litert, or tflite-runtime where that is what the board has (requirements.txt). The file
defines how an image becomes pixels and names its classes: ../CONTRACT.md. Copy what you need.
"""

import argparse
import json
import math
import signal
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:
    try:
        from tflite_runtime.interpreter import Interpreter
    except ModuleNotFoundError:
        raise SystemExit("classify.py: needs ai-edge-litert or tflite-runtime: requirements.txt") from None


class Unusable(Exception):
    """A model or an image that cannot be used; the message is one line with its path and the reason."""


class Classifier:
    """An open file. px: side of its square input; resize: crop, stretch or pad; labels: of its outputs."""

    def __init__(self, model, threads=1):
        self.labels, self.resize = read_description(model)
        try:
            self._interpreter = Interpreter(model_path=str(model), num_threads=threads)
            self._classify = self._interpreter.get_signature_runner("classify")
        except (ValueError, RuntimeError) as fault:
            raise Unusable(f"{model}: must run in LiteRT, got {fault}") from fault
        image = self._classify.get_input_details()["image"]
        answer = self._classify.get_output_details()["probabilities"]
        self.px, self._dtype = int(image["shape"][1]), image["dtype"]  # uint8; of an int16x8 file float32
        self._takes = quantized_pixels(*image["quantization"]).astype(self._dtype)
        self._scale, self._zero_point = answer["quantization"]  # of an int8 file 1/256 and 0; of any other 0 and 0

    def probabilities(self, image):
        """The probability of each class, float32 [classes]; image: upright RGB, as `open_image` gives it."""
        pixels = to_pixels(image, self.px, self.resize)[np.newaxis]
        answer = self._classify(image=self._takes[pixels])["probabilities"][0]
        if self._scale:
            return (answer.astype(np.float32) - self._zero_point) * np.float32(self._scale)
        return answer


def quantized_pixels(scale, zero_point):
    """The value of the input for each pixel from 0 to 255: the pixel itself or, if the scale of the input is narrower,
    the value that stands for pixel / 127.5 - 1."""
    pixels = np.arange(256.0)
    if not scale:
        return pixels
    values = np.clip(np.floor((pixels - 127.5) / 127.5 / scale + 0.5) + zero_point, 0, 255)
    return pixels if np.abs(values - pixels).max() <= 1 else values


def read_description(model):
    """The names of the outputs in order, and the resize of images, from the ZIP behind the model."""
    try:
        with zipfile.ZipFile(model) as behind:
            labels = behind.read("labels.txt").decode().split("\n")[:-1]
            description = json.loads(behind.read("kd2mobile.json"))
            made_as, resize = description["format"], description["resize"]
    except OSError as fault:
        raise Unusable(f"{model}: must be a readable file, got {fault.strerror}") from fault
    except (zipfile.BadZipFile, KeyError, ValueError) as fault:
        raise Unusable(f"{model}: must be a whole file of kd2mobile export, got {fault}") from fault
    if made_as != 1:
        raise Unusable(f"{model}: must be of format 1, got {made_as}. Take a later classify.py.")
    return labels, resize


def open_image(path):
    """The image, upright, in 8-bit RGB, on white where it is transparent."""
    try:
        with Image.open(path) as stored:
            image = ImageOps.exif_transpose(stored)
    except FileNotFoundError as fault:
        raise Unusable(f"{path}: must be there, got no such file") from fault
    except Exception as fault:  # Pillow raises almost anything on a damaged file
        raise Unusable(f"{path}: must be a whole image, got {type(fault).__name__}: {fault}") from fault
    if image.mode == "F":
        raise Unusable(f"{path}: must have whole numbers as pixels, got floating-point ones")
    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray((np.asarray(image, float) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_pixels(image, px, resize):
    """The pixels as in training and measurement, uint8 [px, px, 3]. Pillow's bilinear filter is antialiased."""
    width, height = image.size
    if resize == "stretch":
        return scaled(image, (px, px), (0, 0, width, height))
    if resize == "crop":
        half = 0.875 * min(width, height) / 2
        return scaled(image, (px, px), (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half))
    if height > width:
        return to_pixels(image.transpose(Image.Transpose.TRANSPOSE), px, resize).transpose(1, 0, 2)
    across = image.resize((px, height), Image.Resampling.BILINEAR)  # first, so that a long strip's square stays small
    margin = math.ceil((width - height) / 2)
    upper = margin - (width - height) / 2
    return scaled(ImageOps.expand(across, (0, margin), fill=0), (px, px), (0, upper, px, upper + width))


def scaled(image, size, box):
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("model", type=Path, metavar="MODEL.tflite")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes per image (3)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the runtime (1)")
    parser.add_argument("--json", action="store_true", help="one JSON object per image and line")
    options = parser.parse_args()
    if hasattr(signal, "SIGPIPE"):  # end quietly behind `| head`
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if options.top < 1:
        parser.error("--top must be at least 1")
    try:
        classifier = Classifier(options.model, options.threads)
        for path in options.images:
            probabilities = classifier.probabilities(open_image(path))
            best = np.argsort(-probabilities, kind="stable")[: options.top]
            classes = [(classifier.labels[i], float(probabilities[i])) for i in best]
            if options.json:
                print(json.dumps({"image": str(path), "classes": classes}, ensure_ascii=False))
                continue
            print(path, *(f"  {probability:6.1%}  {name}" for name, probability in classes), sep="\n")
    except Unusable as fault:
        parser.exit(2, f"{parser.prog}: {fault}\n")


if __name__ == "__main__":
    main()
