"""The one way from a picture file to a network's pixels: training, calibration, parity, measuring and predicting.

Numpy and Pillow alone. A picture becomes upright 8-bit RGB; a *box* of it, given in fractions of its width and
height, is stretched to `px` by `px` pixels with Pillow's antialiased bilinear filter. The three ways to resize
differ in nothing but the box: a box may reach beyond the picture, and what lies there is black.
"""

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, features
from PIL import __version__ as pillow_version

from kd2mobile.errors import PictureError, one_line

Resize = Literal["crop", "stretch", "pad"]
CROP_FRACTION = 0.875
LARGEST_PICTURE = 178_956_970
"""Pixels of the largest picture that is decoded: twice Pillow's own warning limit, where Pillow sees a bomb."""
BEYOND = 1e-3
"""Pixels that a box may reach beyond a picture by rounding alone."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF")
"""What is decoded, by content. The rest of Pillow's list is left out: EPS, for one, would start Ghostscript."""
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".jp2", ".avif")
)
"""The names under which a picture is looked for in a folder, in lower case."""


class Box(NamedTuple):
    """A rectangle in fractions of a picture's width and height, from the upper left corner."""

    left: float
    upper: float
    right: float
    lower: float


def open_picture(path: str | Path) -> Image.Image:
    """The picture as upright 8-bit RGB, whatever mode it was stored in.

    EXIF orientation is applied (EXIF that cannot be read counts as none); CMYK, palette, greyscale and 16-bit
    pictures are converted; transparency is laid on white; of an animation the first frame counts. Safe to call from
    several threads. Raises PictureError if the file cannot be decoded whole.
    """
    try:
        with _no_warnings(), Image.open(path, formats=_formats()) as stored:
            if stored.width * stored.height > LARGEST_PICTURE:
                raise Image.DecompressionBombError(f"{stored.width} x {stored.height} pixels")
            stored.load()
            return _rgb(_upright(stored))
    except Exception as fault:  # Pillow's decoders raise almost anything on a damaged file
        reason = one_line(f"{type(fault).__name__}: {fault}")
        raise PictureError(path, "must be a whole picture", reason, "Repair the file or remove it.") from fault


def decoder_words() -> str:
    """What decodes the pictures of this process: `Pillow 13.0.0, libjpeg-turbo 3.1.2`."""
    jpeg = features.version_feature("libjpeg_turbo")
    return f"Pillow {pillow_version}" + (f", libjpeg-turbo {jpeg}" if jpeg else "")


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


_warnings_lock = threading.Lock()
_warnings_silent = 0
_warnings_before: warnings.catch_warnings | None = None


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow's warnings are no news: what decodes is used. `catch_warnings` alone is not made for threads: the
    first one in silences, the last one out restores."""
    global _warnings_silent, _warnings_before
    with _warnings_lock:
        if _warnings_silent == 0:
            _warnings_before = warnings.catch_warnings()
            _warnings_before.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
        _warnings_silent += 1
    try:
        yield
    finally:
        with _warnings_lock:
            _warnings_silent -= 1
            if _warnings_silent == 0:
                _warnings_before.__exit__(None, None, None)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(picture: Image.Image) -> Image.Image:
    """What ImageOps.exif_transpose does, without writing the EXIF anew, which fails where it is damaged."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block raises almost anything; the pixels are still whole
        orientation = 1
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Image.Image) -> Image.Image:
    """A new picture, so that the file behind the old one can be closed."""
    if picture.mode == "F":
        raise ValueError("floating-point pixels, whose black and white are not known")
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture, np.float64) / 257, 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def whole_box(width: int, height: int, resize: Resize) -> Box:
    """The box that a picture of width x height is seen through when it is judged, not augmented.

    `crop`: the centre square of 0.875 times the short side (short side to px / 0.875, then a centre crop);
    `stretch`: the whole picture; `pad`: the whole picture centred in a square of its long side.

    >>> whole_box(200, 100, "pad")
    Box(left=0.0, upper=-0.5, right=1.0, lower=1.5)
    """
    if resize == "stretch":
        return Box(0.0, 0.0, 1.0, 1.0)
    side = CROP_FRACTION * min(width, height) if resize == "crop" else max(width, height)
    across, down = side / width / 2, side / height / 2
    return Box(0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)


def random_box(width: int, height: int, resize: Resize, smallest_area: float, rng: np.random.Generator) -> Box:
    """A random part of a picture for training: an area and an aspect ratio drawn, then a place.

    The area is uniform in [smallest_area, 1] of what the resize sees at most (the picture, or for `pad` its square),
    the aspect ratio log-uniform in [3/4, 4/3] around the ratio that the resize shows undistorted: 1 in pixels for
    `crop` and `pad`, the picture's own for `stretch`; of these ratios only those count whose box fits. A picture too
    long for any of them keeps the nearest ratio, and the box shrinks until it fits.
    Source: Szegedy et al. 2015, section 6 (training methodology).
    """
    base_width, base_height = (max(width, height),) * 2 if resize == "pad" else (width, height)
    shown = base_width / base_height if resize == "stretch" else 1.0
    area = rng.uniform(smallest_area, 1.0) * base_width * base_height
    narrowest = min(max(shown * 3 / 4, area / base_height**2), shown * 4 / 3)
    widest = max(min(shown * 4 / 3, base_width**2 / area), shown * 3 / 4)
    ratio = math.exp(rng.uniform(math.log(narrowest), math.log(max(narrowest, widest))))
    across, down = math.sqrt(area * ratio), math.sqrt(area / ratio)
    shrink = min(1.0, base_width / across, base_height / down)
    across, down = min(across * shrink, base_width), min(down * shrink, base_height)
    left = rng.uniform(0.0, base_width - across) + (width - base_width) / 2
    upper = rng.uniform(0.0, base_height - down) + (height - base_height) / 2
    return Box(left / width, upper / height, (left + across) / width, (upper + down) / height)


def render(picture: Image.Image, box: Box, px: int, flip: bool = False) -> np.ndarray:
    """The box of the picture as uint8 [px, px, 3], mirrored left to right if `flip`.

    A box inside the picture is one call of Pillow's resize. One that reaches beyond is resized in two steps, the
    picture's longer direction first, each with its own margin of black: the same to within 1 of 255, and the black
    of a long strip's square is never held in memory.
    """
    width, height = picture.size
    across, down = (box[0] * width, box[2] * width), (box[1] * height, box[3] * height)
    if max(-across[0], across[1] - width, -down[0], down[1] - height) <= BEYOND:
        inside = (max(across[0], 0.0), max(down[0], 0.0), min(across[1], float(width)), min(down[1], float(height)))
        picture = picture.resize((px, px), Image.Resampling.BILINEAR, box=inside)
    elif width >= height:
        picture = _resize_down(_resize_across(picture, *across, px), *down, px)
    else:
        picture = _resize_across(_resize_down(picture, *down, px), *across, px)
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels[:, ::-1]) if flip else pixels


def _resize_across(picture: Image.Image, left: float, right: float, px: int) -> Image.Image:
    before, after = _margins(left, right, picture.width)
    picture = ImageOps.expand(picture, (before, 0, after, 0), fill=0) if before or after else picture
    span = max(left + before, 0.0), min(right + before, float(picture.width))
    return picture.resize((px, picture.height), Image.Resampling.BILINEAR, box=(span[0], 0, span[1], picture.height))


def _resize_down(picture: Image.Image, upper: float, lower: float, px: int) -> Image.Image:
    before, after = _margins(upper, lower, picture.height)
    picture = ImageOps.expand(picture, (0, before, 0, after), fill=0) if before or after else picture
    span = max(upper + before, 0.0), min(lower + before, float(picture.height))
    return picture.resize((picture.width, px), Image.Resampling.BILINEAR, box=(0, span[0], picture.width, span[1]))


def _margins(start: float, end: float, length: int) -> tuple[int, int]:
    return tuple(max(math.ceil(beyond - BEYOND), 0) for beyond in (-start, end - length))


def load(path: str | Path, px: int, resize: Resize) -> np.ndarray:
    """The picture in the file as a judged network sees it: uint8 [px, px, 3]. Raises PictureError."""
    picture = open_picture(path)
    return render(picture, whole_box(*picture.size, resize), px)


def to_student_input(pixels: np.ndarray) -> np.ndarray:
    """What every student eats: uint8 [..., 3] RGB to float32 in [-1, 1]."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_int8_input(pixels: np.ndarray) -> np.ndarray:
    """The float32 values that an int8 student takes these uint8 pixels for, any shape: 128 is its zero, 2/255 its step.

    Half a step beside [-1, 1], where fake quantization would round every pixel up or down as it comes.
    """
    return (pixels.astype(np.float32) - 128) * np.float32(2 / 255)
