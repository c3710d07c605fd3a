"""What MediaPipe's ImageClassifier answers:    python ask_mediapipe.py PIXELS.npy PHOTOS.json OUT.json MODEL.tflite...

PIXELS.npy: uint8 [n, px, px, 3], the pixels that the model takes. PHOTOS.json: a list of image files, which it
stretches to the model's input itself. OUT.json: by file {"top1", "names": the likeliest class of each of the pixels and
its name, "photos_top1": of each photo, "metadata": as MediaPipe's own schema classes read it}. Runs where kd2mobile is
not installed.
"""

import json
import sys

import mediapipe
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as model_schema
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image, ImageOps


def main(pixels: str, photos: str, out: str, *models: str) -> None:
    answers = {}
    with open(photos, encoding="utf-8") as file:
        paths = json.load(file)
    for model in models:
        options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=model), max_results=1)
        with vision.ImageClassifier.create_from_options(options) as classifier:
            likeliest = [ask(classifier, image) for image in np.load(pixels)]
            of_photos = [ask(classifier, whole(path)) for path in paths]
        answers[model] = {
            "top1": [category.index for category in likeliest],
            "names": [category.category_name for category in likeliest],
            "photos_top1": [category.index for category in of_photos],
            "metadata": metadata_of(model),
        }
    with open(out, "w", encoding="utf-8") as file:
        json.dump(answers, file)


def metadata_of(path: str) -> dict:
    """The texts of the model's metadata, its input's color space and normalization, its output's label files."""
    with open(path, "rb") as file:
        model = model_schema.ModelT.InitFromPackedBuf(file.read(), 0)
    entry = next(entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    stored = metadata_schema.ModelMetadataT.InitFromPackedBuf(bytes(model.buffers[entry.buffer].data), 0)
    graph = stored.subgraphMetadata[0]
    image, answer = graph.inputTensorMetadata[0], graph.outputTensorMetadata[0]
    texts = {"name": stored.name, "version": stored.version, "author": stored.author, "license": stored.license}
    return {field: text and text.decode() for field, text in texts.items()} | {
        "rgb": image.content.contentProperties.colorSpace == metadata_schema.ColorSpaceType.RGB,
        "normalization": [(unit.options.mean.tolist(), unit.options.std.tolist()) for unit in image.processUnits or []],
        "labels": [file.name.decode() for file in answer.associatedFiles],
    }


def whole(path: str) -> np.ndarray:
    """The photo upright, RGB, uint8 [height, width, 3]."""
    with Image.open(path) as photo:
        return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))


def ask(classifier, pixels: np.ndarray):
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
    return classifier.classify(image).classifications[0].categories[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
