"""`predict`: classify images with a .tflite file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.files import system_errors

if TYPE_CHECKING:
    from kd2mobile.measure.predict import Prediction


@system_errors()
def predict(
    model: Path,
    images: Path | list[Path],
    *,
    top: int = 5,
    range: tuple[float, float] | None = None,
    **reading: Any,
) -> list["Prediction"]:
    """The `top` classes of each image with their probabilities, by a .tflite file.

    range: what is black and white in greyscale of more than 8 bits. reading: labels, mean, std.
    """
    from kd2mobile.measure.predict import predict as classify

    images = [images] if isinstance(images, str | Path) else images
    return classify(Path(model), [Path(image) for image in images], top=top, value_range=range, **reading)
