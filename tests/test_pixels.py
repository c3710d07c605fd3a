"""From a file to pixels: every kind of file, the three resizes against float64, the random boxes' laws."""

import errno
import os
import re
import struct
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from kd2mobile import pixels
from kd2mobile.errors import ArtifactError, ImageError
from kd2mobile.pixels import (
    Box,
    Resize,
    deep_images,
    examine,
    load,
    open_image,
    random_box,
    render,
    to_student_input,
    whole_box,
)

ORIENTATION = 0x0112
RESIZES = get_args(Resize)
SIDES = st.integers(1, 5000)


def noise(width, height, seed=0):
    """An image without any symmetry, smooth enough for JPEG."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def opened(path):
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, raw):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored.transpose(1, 0, 2), 2),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    stored = noise(20, 12)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(opened(path), UPRIGHT[orientation](stored))


def test_a_phone_photo_on_its_side_is_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(noise(40, 30)).save(tmp_path / "phone.jpg", exif=exif, quality=98, subsampling=0)
    found = opened(tmp_path / "phone.jpg")
    assert found.shape == (40, 30, 3)
    assert np.abs(found.astype(int) - np.rot90(noise(40, 30), -1)).max() < 24


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\x08\0\0\0\x05\0", b"Exif\0\0junk and no TIFF header at all", b"Exif\0\0"]
)
def test_damaged_exif_counts_as_none(tmp_path, exif):
    Image.fromarray(noise(20, 12)).save(tmp_path / "odd.jpg", exif=exif)
    assert open_image(tmp_path / "odd.jpg").size == (20, 12)


def test_cmyk(tmp_path):
    ink = np.zeros((2, 8, 8), np.uint8)
    cyan_ink, black_ink = Image.fromarray(ink[0] + 255), Image.fromarray(ink[1])
    Image.merge("CMYK", [cyan_ink, black_ink, black_ink, black_ink]).save(tmp_path / "ink.jpg", quality=95)
    np.testing.assert_allclose(opened(tmp_path / "ink.jpg"), np.full((8, 8, 3), [0, 255, 255]), atol=4)


def test_palette(tmp_path):
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "palette.png")
    assert (opened(tmp_path / "palette.png") == [10, 200, 30]).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "palette.png", transparency=0)
    found = opened(tmp_path / "palette.png")
    assert found[0, 0].tolist() == [255, 255, 255] and found[1, 1].tolist() == [10, 200, 30]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_is_laid_on_white(tmp_path, suffix):
    image = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8)
    Image.fromarray(image).save(tmp_path / f"alpha.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    expected = [[[200, 0, 0], [255, 255, 255], [244, 204, 204]]]  # 0.2 * 200 + 0.8 * 255 = 244
    np.testing.assert_allclose(opened(tmp_path / f"alpha.{suffix}"), expected, atol=1)


def test_grey_with_alpha(tmp_path):
    image = Image.merge("LA", [Image.new("L", (2, 2), 100), Image.new("L", (2, 2), 0)])
    image.save(tmp_path / "la.png")
    assert (opened(tmp_path / "la.png") == 255).all()


def test_a_transparent_colour_of_an_rgb_png(tmp_path):
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    image.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert opened(tmp_path / "key.png").tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_grey(tmp_path):
    Image.new("L", (3, 2), 77).save(tmp_path / "grey.jpg")
    np.testing.assert_array_equal(opened(tmp_path / "grey.jpg"), np.full((2, 3, 3), 77))


def test_one_bit(tmp_path):
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "bit.png")
    assert opened(tmp_path / "bit.png").tolist() == [[[0, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey(tmp_path, suffix):
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(opened(tmp_path / f"deep.{suffix}")[..., 0], [[0, 1, 128, 255]])


def test_a_dark_sixteen_bit_grey_stays_dark(tmp_path):
    Image.fromarray(np.full((2, 2), 200, np.uint16)).save(tmp_path / "dark.pgm")
    np.testing.assert_array_equal(opened(tmp_path / "dark.pgm"), np.ones((2, 2, 3)))


def test_sixteen_bit_rgb(tmp_path):
    raw = b"\0" + np.array([0, 32896, 65535], ">u2").tobytes()
    (tmp_path / "deep.png").write_bytes(png(1, 1, 16, 2, raw))
    assert opened(tmp_path / "deep.png").tolist() == [[[0, 128, 255]]]


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="floating-point pixels, whose black and white are not known"):
        open_image(tmp_path / "float.tif")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_counts(tmp_path, suffix):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (opened(tmp_path / f"moving.{suffix}") == [255, 0, 0]).all()


def test_the_content_counts_and_not_the_suffix(tmp_path):
    Image.new("RGB", (5, 4), "lime").save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "really.jpg")
    assert (opened(tmp_path / "really.jpg") == [0, 255, 0]).all()


def damaged(tmp_path):
    Image.fromarray(noise(200, 160)).save(tmp_path / "whole.jpg", quality=95)
    Image.fromarray(noise(200, 160)).save(tmp_path / "whole.png")
    jpg, png_bytes = (tmp_path / "whole.jpg").read_bytes(), (tmp_path / "whole.png").read_bytes()
    return {
        "zero.jpg": (b"", "cannot identify image file"),
        "text.jpg": (b"no image, but a letter to you\n" * 40, "cannot identify image file"),
        "truncated.jpg": (jpg[: len(jpg) // 2], "truncated"),
        "truncated.png": (png_bytes[: len(png_bytes) // 2], "truncated"),
        "bomb.png": (png(60_000, 60_000, 8, 2, b"\0" * 100), "DecompressionBombError"),
        "ghost.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "cannot identify image file"),
    }


@pytest.mark.parametrize("name", ["zero.jpg", "text.jpg", "truncated.jpg", "truncated.png", "bomb.png", "ghost.jpg"])
def test_a_damaged_file_says_why(tmp_path, name):
    content, reason = damaged(tmp_path)[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError) as error:
        open_image(path)
    message = str(error.value)
    assert message.startswith(f"{path}: must be a readable image, got ") and reason in message
    assert message.endswith("Repair the file or remove it.") and "\n" not in message


def test_a_missing_file_and_a_name_with_a_newline(tmp_path):
    with pytest.raises(
        ImageError, match=r"two\\nlines.jpg: must be there, got no such file or directory. Check the path."
    ):
        open_image(tmp_path / "two\nlines.jpg")


def test_a_pipe_and_a_device_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="pipe.png: must be a regular file, got a pipe. Save the image to a file"):
        opened(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="link.png: must be a regular file, got a device or a socket."):
        opened(tmp_path / "link.png")


def test_threads_leave_the_warning_filters_as_they_were(tmp_path):
    """Under `error` filters, as these tests run, a warning let through would set a whole image aside."""
    path = tmp_path / "odd.jpg"
    Image.fromarray(noise(64, 48)).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    before, faults = list(warnings.filters), []

    def decode():
        try:
            for _ in range(40):
                open_image(path)
        except ImageError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and warnings.filters == before


def reference(image, box, px):
    """Antialiased bilinear in float64, from the definition: triangle weights of at least a pixel's width."""
    height, width = image.shape[:2]
    margins = (
        [max(0, int(np.ceil(m - 1e-3))) for m in (-box[1] * height, (box[3] - 1) * height)],
        [max(0, int(np.ceil(m - 1e-3))) for m in (-box[0] * width, (box[2] - 1) * width)],
    )
    canvas = np.pad(image.astype(np.float64), (*margins, (0, 0)))

    def weights(start, end, length):
        scale = (end - start) / px
        centres = start + (np.arange(px) + 0.5) * scale
        distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
        triangle = np.clip(1 - distance, 0, None)
        return triangle / triangle.sum(axis=1, keepdims=True)

    down = weights(box[1] * height + margins[0][0], box[3] * height + margins[0][0], canvas.shape[0])
    across = weights(box[0] * width + margins[1][0], box[2] * width + margins[1][0], canvas.shape[1])
    return np.einsum("yh,hwc,xw->yxc", down, canvas, across, optimize=True)


@pytest.mark.parametrize("size", [(300, 200), (120, 310), (97, 97), (10, 7)])
@pytest.mark.parametrize("resize", RESIZES)
def test_what_is_evaluated_agrees_with_float64(tmp_path, resize, size):
    image = noise(*size)
    Image.fromarray(image).save(tmp_path / "it.png")
    found = load(tmp_path / "it.png", 32, resize)
    assert found.shape == (32, 32, 3) and found.dtype == np.uint8
    expected = reference(image, whole_box(*size, resize), 32)
    assert np.abs(found - expected).max() <= 1.01  # each of the two passes rounds once


@pytest.mark.parametrize("resize", RESIZES)
def test_what_is_trained_on_agrees_with_float64(resize):
    rng = np.random.default_rng(7)
    for width, height in [(300, 200), (120, 310)]:
        image = noise(width, height)
        for _ in range(5):
            box = random_box(width, height, resize, 0.2, rng)
            found = render(Image.fromarray(image), box, 24)
            assert np.abs(found - reference(image, box, 24)).max() <= 1.01


def test_crop_is_the_short_side_to_px_over_0875_then_the_centre(tmp_path):
    image = Image.fromarray(noise(384, 256))
    scaled = np.asarray(image.resize((192, 128), Image.Resampling.BILINEAR))
    found = render(image, whole_box(384, 256, "crop"), 112)
    assert np.abs(found.astype(int) - scaled[8:-8, 40:-40]).max() <= 1


def test_stretch_is_pillows_resize(tmp_path):
    for size in [(384, 256), (100, 300)]:
        image = Image.fromarray(noise(*size))
        found = render(image, whole_box(*size, "stretch"), 96)
        np.testing.assert_array_equal(found, np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("size", [(400, 100), (100, 400)])
def test_pad_shows_all_of_the_image_between_black(size):
    found = render(Image.new("RGB", size, "white"), whole_box(*size, "pad"), 64)
    found = found if size[0] > size[1] else found.transpose(1, 0, 2)
    assert (found[:23] == 0).all() and (found[41:] == 0).all() and (found[25:39] == 255).all()


def test_the_black_of_pad_is_as_wide_as_the_square_needs():
    """By whole numbers, where a box of fractions may seem to reach a pixel further: 45 x 43 did."""
    for width in range(44, 70):
        image = Image.fromarray(noise(width, 43))
        across = image.resize((16, 43), Image.Resampling.BILINEAR)
        margin = (width - 43 + 1) // 2
        upper = margin - (width - 43) / 2
        square = ImageOps.expand(across, (0, margin), fill=0)
        expected = square.resize((16, 16), Image.Resampling.BILINEAR, box=(0, upper, 16, upper + width))
        found = render(image, whole_box(width, 43, "pad"), 16)
        np.testing.assert_array_equal(found, np.asarray(expected), f"{width} x 43")


def test_a_box_in_the_black_alone():
    assert (render(Image.new("RGB", (40, 20), "white"), Box(0, -3.0, 1, -1.0), 8) == 0).all()


@pytest.mark.parametrize("size", [(60_000, 3), (3, 60_000)])
def test_a_long_strip_is_padded_without_its_square_in_memory(size):
    """Its square would take 14 GB."""
    found = render(Image.new("RGB", size, "white"), whole_box(*size, "pad"), 32)
    assert found.shape == (32, 32, 3) and found.max() < 10


def test_flip_mirrors():
    image = Image.fromarray(noise(50, 40))
    box = Box(0.1, 0.2, 0.7, 0.9)
    np.testing.assert_array_equal(render(image, box, 16, flip=True), render(image, box, 16)[:, ::-1])


def test_one_pixel():
    for resize in RESIZES:
        assert (render(Image.new("RGB", (1, 1), (7, 8, 9)), whole_box(1, 1, resize), 8) == [7, 8, 9]).all()


@given(SIDES, SIDES)
def test_whole_boxes_are_centred_and_of_their_sides(width, height):
    for resize in RESIZES:
        box = whole_box(width, height, resize)
        assert box.left + box.right == pytest.approx(1) and box.upper + box.lower == pytest.approx(1)
        across, down = (box.right - box.left) * width, (box.lower - box.upper) * height
        side = {"crop": 0.875 * min(width, height), "pad": max(width, height)}.get(resize)
        assert (across, down) == pytest.approx((side, side) if side else (width, height))


@given(SIDES, SIDES, st.sampled_from(RESIZES), st.floats(0.01, 1), st.integers(0, 2**32))
def test_random_boxes_keep_their_laws(width, height, resize, smallest_area, seed):
    box = random_box(width, height, resize, smallest_area, np.random.default_rng(seed))
    base = (max(width, height),) * 2 if resize == "pad" else (width, height)
    across, down = (box.right - box.left) * width, (box.lower - box.upper) * height
    near = 1e-6
    centre_x, centre_y = (box.left + box.right) * width / 2, (box.upper + box.lower) * height / 2
    assert across <= base[0] * (1 + near) and abs(centre_x - width / 2) + across / 2 <= base[0] / 2 * (1 + near)
    assert down <= base[1] * (1 + near) and abs(centre_y - height / 2) + down / 2 <= base[1] / 2 * (1 + near)
    shown = base[0] / base[1] if resize == "stretch" else 1.0
    assert 0.75 - near <= across / down / shown <= 4 / 3 + near
    fits_any = resize != "crop" or smallest_area * max(width, height) <= 4 / 3 * min(width, height)
    largest = base[0] * base[1] if resize != "crop" else min(base[0] * base[1], 4 / 3 * min(width, height) ** 2)
    assert across * down >= min(smallest_area * base[0] * base[1], largest) * (1 - near) or not fits_any
    if resize != "pad":
        assert min(np.float32(box)) >= 0 and max(np.float32(box)) <= 1


@pytest.mark.parametrize("resize", RESIZES)
def test_random_boxes_use_the_whole_range(resize):
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(300, 200, resize, 0.35, rng) for _ in range(4000)])
    across, down = (boxes[:, 2] - boxes[:, 0]) * 300, (boxes[:, 3] - boxes[:, 1]) * 200
    base = 300 * 300 if resize == "pad" else 300 * 200
    area = across * down / base
    assert area.min() == pytest.approx(0.35, abs=0.01) and area.max() > 0.98 * min(1, 4 / 3 * 200 * 200 / base)
    ratio = np.log(across / down / (1.5 if resize == "stretch" else 1))
    assert ratio.min() < np.log(0.77) and ratio.max() > np.log(1.29)


def test_to_student_input_maps_to_minus_one_and_one():
    found = to_student_input(np.array([0, 127, 128, 255], np.uint8))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array([0, 127, 128, 255]) / 127.5 - 1, atol=1e-7)
    assert found[0] == -1 and found[-1] == 1


def grey16(path, values, **how):
    Image.fromarray(np.asarray(values, np.uint16)).save(path, **how)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_range_says_what_is_black_and_white_in_16_bits(tmp_path, suffix):
    path = grey16(tmp_path / f"x.{suffix}", [[0, 100, 1000, 4095, 60000]])
    # by hand: (value - 100) * 255 / 3995, rounded, within 0..255
    np.testing.assert_array_equal(np.asarray(open_image(path, (100, 4095)))[0, :, 0], [0, 0, 57, 255, 255])
    np.testing.assert_array_equal(np.asarray(open_image(path))[0, :, 1], [0, 0, 4, 16, 233])


@pytest.mark.parametrize(
    ("dtype", "values"), [(np.int32, [[-1000, 0, 1000, 3000]]), (np.float32, [[-1000.0, 0.0, 1000.0, 3000.0]])]
)
def test_a_range_scales_integers_and_floats_of_32_bits(tmp_path, dtype, values):
    Image.fromarray(np.asarray(values, dtype)).save(tmp_path / "x.tif")
    scaled = np.asarray(open_image(tmp_path / "x.tif", (-1000, 3000)))
    np.testing.assert_array_equal(scaled[0, :, 2], [0, 64, 128, 255])


def test_floats_without_a_range_and_values_that_are_no_numbers_are_refused(tmp_path):
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="floating-point pixels, whose black and white are not known: give --range"):
        open_image(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="pixels that are no finite numbers"):
        open_image(tmp_path / "x.tif", (0, 1))


def test_the_values_of_images_of_more_than_8_bits(tmp_path):
    assert examine(grey16(tmp_path / "x.png", [[7, 4000], [9, 8]])) == (2, 2, (7, 4000))
    Image.fromarray(noise(4, 4)).save(tmp_path / "8.png")
    assert examine(tmp_path / "8.png") == (4, 4, None)
    colour = np.array([[[0, 100, 4095], [300, 5, 0]]], ">u2")  # Pillow keeps the upper 8 bits: 0, 0, 15, 1, 0, 0
    (tmp_path / "c.png").write_bytes(png(2, 1, 16, 2, b"\0" + colour.tobytes()))
    assert examine(tmp_path / "c.png") == (2, 1, (0, 15 * 256 + 255))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [(0, 3900)],
            "1 image of more than 8 bits has values from 0 to 3,900, which come out nearly black: `--range 0,4095`",
        ),
        (
            [(12, 200), (0, 251)],
            "2 images of more than 8 bits have values from 0 to 251, which come out nearly black: `--range 0,255`",
        ),
        ([(30000, 34000)], "values from 30,000 to 34,000, which come out with little contrast: `--range 30000,34000`"),
        (
            [(-1024, 3071)],
            "values from -1,024 to 3,071, which come out cut off beyond 0 and 65,535: `--range -1024,3071`",
        ),
        ([(0, 0)], "`--range 0,255`"),
        ([(5, 2**31 - 1)], "values from 5 to 2,147,483,647, which come out cut off .*: `--range 0,2147483647`"),
        ([(0, 1.5e9)], "values from 0 to 1,500,000,000, .*: `--range 0,2147483647`"),
        ([(0, 4e9)], "`--range 0,4294967295`"),
        ([(0, 16e6)], "`--range 0,16777215`"),
        ([(0, 100_000)], "`--range 0,100000`"),
        ([(0, 3900), (5, 60000)], None),
        ([], None),
    ],
)
def test_a_range_that_is_nearly_empty_is_said_with_the_one_to_give(values, said):
    deep = deep_images(values)
    assert (deep.words() if deep and deep.odd else None) == said or re.search(said, deep.words())


def test_an_image_converted_in_strips_is_the_same(tmp_path, monkeypatch):
    kinds = {
        "rgb.png": Image.fromarray(noise(20, 30)),
        "alpha.png": Image.fromarray(np.dstack([noise(20, 30), noise(20, 30, 1)[..., 0]])),
        "grey.png": Image.fromarray(noise(20, 30)[..., 0].astype(np.uint16) * 200),
        "palette.gif": Image.fromarray(noise(20, 30)).quantize(7),
        "bits.png": Image.fromarray(noise(20, 30)).convert("1"),
        "ink.jpg": Image.fromarray(noise(20, 30)).convert("CMYK"),
        "int.tif": Image.fromarray(noise(20, 30)[..., 0].astype(np.int32) * 200),
    }
    for name, image in kinds.items():
        image.save(tmp_path / name, **({"transparency": 3} if name == "palette.gif" else {}))
    whole = {name: opened(tmp_path / name) for name in kinds}
    values = {name: examine(tmp_path / name) for name in kinds}
    monkeypatch.setattr(pixels, "PIXELS_AT_ONCE", 70)
    for name in kinds:
        np.testing.assert_array_equal(opened(tmp_path / name), whole[name], name)
        assert examine(tmp_path / name) == values[name]


def test_sixteen_bits_are_not_held_as_float64(tmp_path):
    path = grey16(tmp_path / "x.png", np.zeros((4000, 4000)), compress_level=1)
    open_image(path)
    tracemalloc.start()
    open_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 4000 * 4000, "not even one array of them"


def test_of_large_images_one_at_a_time_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "LARGE_IMAGE", 20 * 20)
    for name, side in {"large": 20, "small": 19}.items():
        Image.fromarray(noise(side, side)).save(tmp_path / f"{name}.png")
    inside, at_once, apart = [], {"large": 0, "small": 0}, threading.Barrier(4)

    def look(name):
        for _ in range(20):
            with pixels.opened(tmp_path / f"{name}.png"):
                inside.append(name)
                if name == "small":
                    apart.wait(60)  # all of them are open together, or this fails
                at_once[name] = max(at_once[name], inside.count(name))
                if name == "small":
                    apart.wait(60)
                inside.remove(name)

    for name in ("large", "small"):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(look, [name] * 4))
    assert at_once == {"large": 1, "small": 4}


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(png(20_000, 9_000, 1, 0, b"\0" * 100))
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(ImageError, match="DecompressionBombError: .*180000000 pixels|20000 x 9000 pixels"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENOMEM])
def test_what_ails_the_system_is_no_reason_to_do_without_a_image(tmp_path, monkeypatch, fault):
    def refuse(*_, **__):
        raise OSError(fault, os.strerror(fault), "x.png")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ArtifactError):
        open_image(tmp_path / "x.png")
    monkeypatch.setattr(Image, "open", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        open_image(tmp_path / "x.png")
