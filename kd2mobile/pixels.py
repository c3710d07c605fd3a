"""The one way from an image file to a network's pixels: training, calibration, parity, measuring and predicting.

Numpy and Pillow alone. An image becomes upright 8-bit RGB; a *box* of it, given in fractions of its width and
height, is stretched to `px` by `px` pixels with Pillow's antialiased bilinear filter. The three ways to resize
differ in nothing but the box: a box may reach beyond the image, and what lies there is black.
"""

import errno
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features
from PIL import __version__ as pillow_version

from kd2mobile.errors import ImageError, RecipeError
from kd2mobile.files import Address, check_regular, opened_file, os_error
from kd2mobile.text import count_of, one_line

Resize = Literal["crop", "stretch", "pad"]
CROP_FRACTION = 0.875
LARGEST_IMAGE = 178_956_970
"""Pixels of the largest image that is decoded: twice Pillow's own warning limit, where Pillow sees a bomb."""
LARGE_IMAGE = 2**25
"""Pixels from which one image at a time is open, in a process and its workers; smaller ones take up to 270 MB."""
PIXELS_AT_ONCE = 2**22
"""Pixels that are converted at a time: what conversion needs besides the image before and after stays small."""
SYSTEM_FAULTS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the system says of itself and not of a file: no reason to do without that file."""
BRIGHTEST = 65_535
"""The value that is white in an image of more than 8 bits, and 0 is black, where no range is given."""
BEYOND = 1e-3
"""Pixels that a box may reach beyond an image by rounding alone."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF")
"""What is decoded, by content. The rest of Pillow's list is left out: EPS, for one, would start Ghostscript."""
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".jp2", ".avif")
)
"""The names under which an image is looked for in a folder, in lower case."""


Range: TypeAlias = tuple[float, float]
"""Two values of an image of more than 8 bits: those that are black and white, or the lowest and the highest."""


class Examined(NamedTuple):
    """An image that was decoded whole. width, height: upright; values: `deep_values` of it."""

    width: int
    height: int
    values: Range | None


class Box(NamedTuple):
    """A rectangle in fractions of an image's width and height, from the upper left corner."""

    left: float
    upper: float
    right: float
    lower: float


def open_image(path: Address, value_range: Range | None = None) -> Image.Image:
    """The image as upright 8-bit RGB, whatever mode it was stored in.

    EXIF orientation is applied (EXIF that cannot be read counts as none); CMYK, palette, greyscale and 16-bit
    images are converted; transparency is laid on white; of an animation the first frame counts. Safe to call from
    several threads.
    value_range: of greyscale of more than 8 bits, what is black and white; (0, BRIGHTEST) if left out.
    Raises ImageError if the file cannot be decoded whole, ArtifactError if the system can open no file at all.
    """
    with ExitStack() as turn:
        return _decoded(path, turn, value_range)[0]


@contextmanager
def opened(path: Address, value_range: Range | None = None) -> Iterator[Image.Image]:
    """What `open_image` gives, for as long as the block needs it: of LARGE_IMAGE pixels and more one at a time.

    So threads and worker processes hold one large image together, however many they are.
    """
    with examined(path, value_range) as (image, _):
        yield image


@contextmanager
def examined(path: Address, value_range: Range | None = None) -> Iterator[tuple[Image.Image, Examined]]:
    """What `opened` gives, and what the image is."""
    with ExitStack() as turn:
        image, values = _decoded(path, turn, value_range)
        yield image, Examined(*image.size, values)


def examine(path: Address) -> Examined:
    """Decodes the image as `open_image` does, and says what it is. Raises what that raises."""
    with examined(path) as (_, found):
        return found


@contextmanager
def _stored(path: Address) -> Iterator[Image.Image]:
    """The image as Pillow opens it, nothing decoded yet."""
    with ExitStack() as stream:
        if isinstance(path, str | Path):
            check_regular(path, ImageError, "Save the image to a file, and give that.")
        stored = path if isinstance(path, str | Path) else stream.enter_context(opened_file(path))
        yield stream.enter_context(Image.open(stored, formats=_formats()))


_one_large: AbstractContextManager = threading.RLock()


def take_turns_by(lock: AbstractContextManager) -> None:
    """From now on a large image is opened in this process under that lock, which other processes may share."""
    global _one_large
    _one_large = lock


def _decoded(path: Address, turn: ExitStack, value_range: Range | None) -> tuple[Image.Image, Range | None]:
    """The image and its deep_values. turn: holds the lock of large images, if this is one."""
    try:
        with _no_warnings(), _stored(path) as stored:
            size = stored.width * stored.height  # from the header: nothing is decoded yet
            if size > LARGEST_IMAGE:
                raise Image.DecompressionBombError(f"{stored.width} x {stored.height} pixels")
            if size >= LARGE_IMAGE:
                turn.enter_context(_one_large)
            colour = depth_of(stored) == "colour"
            stored.load()
            orientation = _orientation(stored)
            values = deep_values(stored, colour)
            image = _rgb(stored, value_range)
        del stored  # before the image is turned, which needs as much again
        turned = _TURNS.get(orientation)
        return (image if turned is None else image.transpose(turned)), values
    except (MemoryError, ImageError):
        raise
    except Exception as fault:  # Pillow's decoders raise almost anything on a damaged file
        if isinstance(fault, OSError) and fault.errno:
            refused = os_error(fault, path)
            if fault.errno in SYSTEM_FAULTS:
                raise refused from fault
            raise ImageError(path, refused.must, refused.got, refused.next_step) from fault
        # Pillow's sentence for a file of no known format ends with its path, or with what a stream looks like
        message = "cannot identify image file" if isinstance(fault, UnidentifiedImageError) else fault
        reason = one_line(f"{type(fault).__name__}: {message}")
        raise ImageError(path, "must be a readable image", reason, "Repair the file or remove it.") from fault


def kind_of_depth(path: Address) -> Literal["grey", "colour"] | None:
    """`depth_of` the file, by its header; None as well for a file that is no image."""
    try:
        with _no_warnings(), _stored(path) as stored:
            return depth_of(stored)
    except MemoryError:
        raise
    except Exception:  # what it is, decoding says
        return None


def refuse_deep_colour(path: Path, kind: str | None) -> None:
    """Raises ImageError if the kind is "colour", which no range can scale."""
    if kind == "colour":
        got = "colour of 16 bits, of which the upper 8 alone are read"
        raise ImageError(path, "must be greyscale where a range is given", got, "Save it with 8 bits.")


def write_8_bit(path: Address, target: Path, value_range: Range) -> None:
    """Greyscale of more than 8 bits as a PNG of 8, upright, not compressed: its bytes depend on the values alone.

    Raises ImageError, and what writing raises.
    """
    image = open_image(path, value_range)
    image.getchannel(0).save(target, format="PNG", compress_level=0)


def checked_range(value_range: Sequence[float], where: str) -> Range:
    """Black and white as floats. Raises RecipeError if they are no two finite numbers, black the smaller."""
    if len(value_range) != 2 or not all(map(math.isfinite, value_range)) or not value_range[0] < value_range[1]:
        got = ",".join(f"{value:g}" for value in value_range)
        raise RecipeError(where, "must be two finite numbers, black below white", got, "For example 0,4095.")
    return float(value_range[0]), float(value_range[1])


def depth_of(stored: Image.Image) -> Literal["grey", "colour"] | None:
    """Which kind of more than 8 bits a channel an image has that was opened and not yet loaded; None for 8 bits."""
    if stored.mode.startswith("I") or stored.mode == "F":
        return "grey"
    args = [tile[3] for tile in getattr(stored, "tile", ())]
    raw = [one[0] if isinstance(one, tuple) and one else one for one in args]
    return "colour" if any(isinstance(mode, str) and ";16" in mode for mode in raw) else None


def deep_values(image: Image.Image, colour: bool) -> Range | None:
    """The lowest and the highest value of an image of more than 8 bits; None for others.

    colour: that it has 16 bits a channel, of which Pillow keeps the upper 8.
    """
    if colour:
        ends = [image.getchannel(band).getextrema() for band in image.getbands() if band not in "Aa"]
        return min(low for low, _ in ends) * 256, max(high for _, high in ends) * 256 + 255
    if not (image.mode.startswith("I") or image.mode == "F"):
        return None
    ends = [(values.min(), values.max()) for values in map(np.asarray, _strips(image))]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


class DeepImages(msgspec.Struct, frozen=True):
    """The images of more than 8 bits a channel among many. low, high: the darkest and the brightest value in them."""

    count: int
    low: float
    high: float

    @property
    def odd(self) -> bool:
        """Whether they use less than a quarter of the values between black and white, or values beyond."""
        return self.high - self.low < BRIGHTEST / 4 or self.low < 0 or self.high > BRIGHTEST

    def words(self) -> str:
        """What to know of them, and the range to give."""
        beyond = self.low < 0 or self.high > BRIGHTEST
        dark = "nearly black" if self.high < BRIGHTEST / 4 else "with little contrast"
        effect = "cut off beyond 0 and 65,535" if beyond else dark
        low = 0 if 0 <= self.low < self.high / 4 else math.floor(self.low)
        wholes = [2**bits - 1 for bits in (8, 10, 12, 14, 16)]
        wholes += [whole for bits in (24, 31, 32) if self.high > (whole := 2**bits - 1) / 2]
        high = next((whole for whole in wholes if low == 0 and whole >= self.high), math.ceil(self.high))
        images = count_of(self.count, "image", "of more than 8 bits")
        has = "has" if self.count == 1 else "have"
        return (
            f"{images} {has} values from {_number(self.low)} to {_number(self.high)}, which come out {effect}: "
            f"`--range {low},{max(high, low + 1)}` scales greyscale ones"
        )


def _number(value: float) -> str:
    """
    >>> _number(2147483647.0), _number(0.25)
    ('2,147,483,647', '0.25')
    """
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:,g}"


def deep_images(values: list[Range]) -> DeepImages | None:
    """values: the `deep_values` of each image that has some."""
    return together([DeepImages(1, *ends) for ends in values])


def together(several: list[DeepImages]) -> DeepImages | None:
    """All of them as one."""
    if not several:
        return None
    low, high = min(one.low for one in several), max(one.high for one in several)
    return DeepImages(sum(one.count for one in several), low, high)


def decoder_words() -> str:
    """What decodes the images of this process: `Pillow 13.0.0, libjpeg-turbo 3.1.2`."""
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


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block raises almost anything; the pixels are still whole
        return 1


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """The image's rows from the top, PIXELS_AT_ONCE pixels at a time."""
    width, height = image.size
    rows = max(1, PIXELS_AT_ONCE // width)
    if rows >= height:
        yield image
        return
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(height, top + rows)))


def _rgb(image: Image.Image, value_range: Range | None) -> Image.Image:
    """A new image, so that the file behind the old one can be closed. Each pixel is converted for itself."""
    whole = Image.new("RGB", image.size)
    top = 0
    for strip in _strips(image):
        whole.paste(_strip_as_rgb(strip, value_range), (0, top))
        top += strip.height
    return whole


def _strip_as_rgb(image: Image.Image, value_range: Range | None) -> Image.Image:
    if image.mode == "F" and value_range is None:
        raise ValueError("floating-point pixels, whose black and white are not known: give --range")
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are no finite numbers")
        low, high = value_range or (0, BRIGHTEST)
        grey = np.clip((values - low) / ((high - low) / 255), 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def whole_box(width: int, height: int, resize: Resize) -> Box:
    """The box that an image of width x height is seen through when it is evaluated, not augmented.

    `crop`: the centre square of 0.875 times the short side (short side to px / 0.875, then a centre crop);
    `stretch`: the whole image; `pad`: the whole image centred in a square of its long side.

    >>> whole_box(200, 100, "pad")
    Box(left=0.0, upper=-0.5, right=1.0, lower=1.5)
    """
    if resize == "stretch":
        return Box(0.0, 0.0, 1.0, 1.0)
    side = CROP_FRACTION * min(width, height) if resize == "crop" else max(width, height)
    across, down = side / width / 2, side / height / 2
    return Box(0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)


def random_box(width: int, height: int, resize: Resize, smallest_area: float, rng: np.random.Generator) -> Box:
    """A random part of an image for training: an area and an aspect ratio drawn, then a place.

    The area is uniform in [smallest_area, 1] of what the resize sees at most (the image, or for `pad` its square),
    the aspect ratio log-uniform in [3/4, 4/3] around the ratio that the resize shows undistorted: 1 in pixels for
    `crop` and `pad`, the image's own for `stretch`; of these ratios only those count whose box fits. An image too
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


def render(image: Image.Image, box: Box, px: int, flip: bool = False) -> np.ndarray:
    """The box of the image as uint8 [px, px, 3], mirrored left to right if `flip`.

    A box inside the image is one call of Pillow's resize. One that reaches beyond is resized in two steps, the
    image's longer direction first, each with its own margin of black: the same to within 1 of 255, and the black
    of a long strip's square is never held in memory.
    """
    width, height = image.size
    across, down = (box[0] * width, box[2] * width), (box[1] * height, box[3] * height)
    if max(-across[0], across[1] - width, -down[0], down[1] - height) <= BEYOND:
        inside = (max(across[0], 0.0), max(down[0], 0.0), min(across[1], float(width)), min(down[1], float(height)))
        image = image.resize((px, px), Image.Resampling.BILINEAR, box=inside)
    elif width >= height:
        image = _resize_down(_resize_across(image, *across, px), *down, px)
    else:
        image = _resize_across(_resize_down(image, *down, px), *across, px)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[:, ::-1]) if flip else pixels


def _resize_across(image: Image.Image, left: float, right: float, px: int) -> Image.Image:
    before, after = _margins(left, right, image.width)
    image = ImageOps.expand(image, (before, 0, after, 0), fill=0) if before or after else image
    span = max(left + before, 0.0), min(right + before, float(image.width))
    return image.resize((px, image.height), Image.Resampling.BILINEAR, box=(span[0], 0, span[1], image.height))


def _resize_down(image: Image.Image, upper: float, lower: float, px: int) -> Image.Image:
    before, after = _margins(upper, lower, image.height)
    image = ImageOps.expand(image, (0, before, 0, after), fill=0) if before or after else image
    span = max(upper + before, 0.0), min(lower + before, float(image.height))
    return image.resize((image.width, px), Image.Resampling.BILINEAR, box=(0, span[0], image.width, span[1]))


def _margins(start: float, end: float, length: int) -> tuple[int, int]:
    return tuple(max(math.ceil(beyond - BEYOND), 0) for beyond in (-start, end - length))


def load(path: Address, px: int, resize: Resize, value_range: Range | None = None) -> np.ndarray:
    """The image in the file as an evaluated network sees it: uint8 [px, px, 3]. Raises what `open_image` raises."""
    with opened(path, value_range) as image:
        return render(image, whole_box(*image.size, resize), px)


def to_student_input(pixels: np.ndarray) -> np.ndarray:
    """What every student eats: uint8 [..., 3] RGB to float32 in [-1, 1]."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_int8_input(pixels: np.ndarray) -> np.ndarray:
    """The float32 values that an int8 student takes these uint8 pixels for, any shape: 128 is its zero, 2/255 its step.

    Half a step beside [-1, 1], where fake quantization would round every pixel up or down as it comes.
    """
    return (pixels.astype(np.float32) - 128) * np.float32(2 / 255)
