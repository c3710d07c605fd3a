"""What a .tflite says about itself: its labels and the way to its pixels, in a ZIP behind the model's own bytes.

LiteRT reads the model from the front and never looks behind it; ZIP readers look from the end. TensorFlow Lite's
own metadata packs its "associated files" in the same way.
"""

import io
import json
import zipfile

from kd2mobile.errors import one_line
from kd2mobile.measure.metadata import DESCRIPTION_FILE, FORMAT, LABELS_FILE

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
    compression: str = "none",
) -> bytes:
    """The model's bytes with `labels.txt` and `kd2mobile.json` behind them; the same arguments give the same bytes.

    labels.txt has one class a line in the order of the outputs, unprintable characters escaped; kd2mobile.json has
    the classes as they are.
    """
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
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        for name, text in ((LABELS_FILE, labels), (DESCRIPTION_FILE, json.dumps(description, indent=1) + "\n")):
            entry = zipfile.ZipInfo(name, _EARLIEST_ZIP_TIME)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # as on Unix, whatever the platform
            archive.writestr(entry, text.encode())
    return file.getvalue()
