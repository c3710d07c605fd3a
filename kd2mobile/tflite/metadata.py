"""Writes the description of a .tflite: TensorFlow Lite Metadata inside the model and, in a ZIP behind it, its labels
and the resize of images.

LiteRT reads the model from the front and never looks behind it; ZIP readers look from the end. TensorFlow Lite
Metadata names the labels there as its "associated file".
"""

import io
import json
import zipfile

from kd2mobile.inspection.metadata import DESCRIPTION_FILE, FORMAT, LABELS_FILE
from kd2mobile.text import one_line
from kd2mobile.tflite.tflite_metadata import describe, embed

_EARLIEST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def attach(
    model: bytes,
    *,
    classes: list[str],
    resize: str,
    input_px: int,
    model_name: str,
    precision: str,
    student_fingerprint: str,
    takes_floats: bool,
    compression: str = "none",
    version: str | None = None,
    author: str | None = None,
    licence: str | None = None,
) -> bytes:
    """The model with its metadata inside and `labels.txt` and `kd2mobile.json` behind it; the same arguments give the
    same bytes.

    labels.txt has one class per line in the order of the outputs, unprintable characters escaped; kd2mobile.json has
    the classes as they are. takes_floats: whether the input is float32, pixels from 0 to 255. version: the student's
    fingerprint if left out; author, licence: nothing.
    """
    # twice the same facts: in the flatbuffer that other tools read, and in the ZIP that ours read
    metadata = describe(
        name=model_name,
        classes=len(classes),
        input_px=input_px,
        resize=resize,
        precision=precision,
        takes_floats=takes_floats,
        version=version or student_fingerprint,
        author=author,
        licence=licence,
    )
    description = {
        "format": FORMAT,
        "classes": classes,
        "resize": resize,
        "input_px": input_px,
        "model": model_name,
        "precision": precision,
        "compression": compression,
        "student_fingerprint": student_fingerprint,
    }
    labels = "".join(f"{one_line(name)}\n" for name in classes)
    file = io.BytesIO(embed(model, metadata))
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in ((LABELS_FILE, labels), (DESCRIPTION_FILE, json.dumps(description, indent=1) + "\n")):
            entry = zipfile.ZipInfo(name, _EARLIEST_ZIP_TIME)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # as on Unix, whatever the platform
            archive.writestr(entry, text.encode())
    return file.getvalue()
