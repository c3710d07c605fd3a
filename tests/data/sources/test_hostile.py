"""Tables, idx files and images that were made to harm: a result or a line, and no more memory than they are worth."""

import gzip
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kd2mobile.data.shards import open_shards, write_shards
from kd2mobile.data.sources import scan as scan_module
from kd2mobile.data.sources.idx import LARGEST_UNPACKED, write_idx_images
from kd2mobile.data.sources.scan import scan
from kd2mobile.data.sources.table import scan_table
from kd2mobile.errors import ArtifactError, DataError, ImageError, Kd2MobileError
from kd2mobile.pixels import open_image

FUZZ = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TABLE = b"path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,train\ncat/1.png,cat,test\ndog/1.png,dog,test\n"
LONGEST_LINE = 1500


def outcome(call, *arguments):
    """What the call gives, or the error that it raises, whose line must be short."""
    try:
        return call(*arguments)
    except Kd2MobileError as error:
        assert len(str(error)) < LONGEST_LINE and "\n" not in str(error)
        return error


def mutated(original):
    """The bytes with a few of them replaced, cut out, put in or repeated."""
    position, piece = (
        st.integers(0, len(original)),
        st.binary(max_size=6)
        | st.sampled_from(
            [
                b"\0",
                b'"',
                b"\r",
                b"\n",
                b",",
                b";",
                b"sep=;\n",
                b"\xff\xfe",
                b"\xef\xbb\xbf",
                b"../",
                b"\xff" * 4,
                b"x" * 5000,
            ]
        ),
    )

    def apply(changes):
        data = original
        for start, length, new in changes:
            data = data[:start] + new + data[start + length :]
        return data

    return st.lists(st.tuples(position, st.integers(0, 12), piece), min_size=1, max_size=4).map(apply)


@given(data=mutated(TABLE))
@FUZZ
def test_any_table_gives_a_result_or_one_line_of_error(data, photos):
    root = photos(cat=2, dog=2)
    (root / "x.csv").write_bytes(data)
    outcome(scan_table, root / "x.csv")


PIXELS = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
IMAGES = b"\0\0\x08\x03" + struct.pack(">3I", *PIXELS.shape) + PIXELS.tobytes()
LABELS = b"\0\0\x08\x01" + struct.pack(">I", 4) + bytes([0, 1, 0, 1])


def write_idx(folder, images, labels=LABELS, suffix=""):
    folder.mkdir(exist_ok=True)
    for kind, axes, data in (("images", 3, images), ("labels", 1, labels)):
        (folder / f"train-{kind}-idx{axes}-ubyte{suffix}").write_bytes(data)
    return folder


@given(images=mutated(IMAGES), labels=mutated(LABELS) | st.just(LABELS), packed=st.booleans())
@FUZZ
def test_any_idx_file_gives_a_result_or_one_line_of_error(images, labels, packed, tmp_path):
    pack = gzip.compress if packed else bytes
    source = write_idx(tmp_path / "idx", pack(images), pack(labels), ".gz" if packed else "")
    outcome(write_idx_images, source, tmp_path / "written")
    for file in source.iterdir():
        file.unlink()


@given(images=mutated(gzip.compress(IMAGES, mtime=0)))
@FUZZ
def test_any_packed_idx_file_gives_a_result_or_one_line_of_error(images, tmp_path):
    outcome(write_idx_images, write_idx(tmp_path / "idx", images, gzip.compress(LABELS), ".gz"), tmp_path / "written")


@pytest.mark.parametrize(
    ("sizes", "suffix", "message"),
    [
        (
            (2**32 - 1,) * 3,
            "",
            "must hold images of 1 to 178,956,970 pixels, at least one, got 4294967295 x 4294967295 x",
        ),
        (
            (1, 0, 28),
            "",
            "must hold images of 1 to 178,956,970 pixels, at least one, got 1 x 0 x 28. Download it again.",
        ),
        ((2**32 - 1, 28, 28), "", "must hold 4294967295 x 28 x 28 bytes after its header, got 24 bytes."),
        (
            (2**32 - 1, 28, 28),
            ".gz",
            f"must unpack to at most {LARGEST_UNPACKED:,} bytes, got 4294967295 x 28 x 28. Unpack",
        ),
        ((2_000_000, 28, 28), ".gz", "must hold 2000000 x 28 x 28 bytes after its header, got 24 bytes."),
    ],
)
def test_sizes_are_checked_before_anything_is_read(tmp_path, sizes, suffix, message):
    content = IMAGES[:4] + struct.pack(">3I", *sizes) + PIXELS.tobytes()
    pack = gzip.compress if suffix else bytes
    source = write_idx(tmp_path / "idx", pack(content), pack(LABELS), suffix)
    tracemalloc.start()
    with pytest.raises(DataError) as error:
        write_idx_images(source, tmp_path / "written")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message in str(error.value) and peak < 10e6


def test_no_more_is_unpacked_than_the_sizes_say(tmp_path):
    bomb = gzip.compress(IMAGES + bytes(50_000_000), 9)
    tracemalloc.start()
    with pytest.raises(DataError, match="must hold 4 x 3 x 2 bytes after its header, got more than 24 bytes"):
        write_idx_images(write_idx(tmp_path / "idx", bomb, gzip.compress(LABELS), ".gz"), tmp_path / "written")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def stored(kind, **how):
    values = np.random.default_rng(3).integers(0, 256, (6, 5, 3), np.uint8)
    into = io.BytesIO()
    Image.fromarray(values).save(into, kind, **how)
    return into.getvalue()


def refreshed(data):
    """The PNG with the checksums of its chunks mended, so that what is in them is looked at."""
    whole, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        whole += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return whole + data[at:]


@given(data=mutated(stored("PNG")[:60]), mend=st.booleans())
@FUZZ
def test_any_png_header_gives_an_image_or_one_line_of_error(data, mend, tmp_path):
    data += stored("PNG")[60:]
    (tmp_path / "x.png").write_bytes(refreshed(data) if mend else data)
    got = outcome(open_image, tmp_path / "x.png")
    assert isinstance(got, ImageError) or got.mode == "RGB"


@given(data=mutated(stored("JPEG", quality=90)))
@FUZZ
def test_any_jpeg_gives_an_image_or_one_line_of_error(data, tmp_path):
    (tmp_path / "x.jpg").write_bytes(data)
    got = outcome(open_image, tmp_path / "x.jpg")
    assert isinstance(got, ImageError) or got.mode == "RGB"


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "\ufeffsep=;\n", "SEP=;\n"])
def test_excels_line_with_the_separator_is_read(photos, first):
    root = photos(cat=1, dog=1)
    (root / "x.csv").write_bytes((first + "path;label\ncat/0.png;cat\ndog/0.png;dog\n").encode())
    assert [p.class_name for p in scan_table(root / "x.csv").images] == ["cat", "dog"]
    (root / "x.csv").write_bytes((first + "path;label\ncat/0.png;cat\ndog/gone.png;dog\n").encode())
    with pytest.raises(DataError, match=r"x.csv, line 4: must name existing files, got 'dog/gone.png', no such file"):
        scan_table(root / "x.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"cat/\0.png,cat", ", line 3: must be text, got a NUL byte. Remove it: no path has one."),
        (b"cat/0.png,\0", ", line 3: must be text, got a NUL byte."),
        (b"x" * 100_000 + b".png,cat", ", file name too long. Paths are relative to"),
        (
            b"x" * 10_000_000 + b".png,cat",
            ", line 3: must be CSV, got a field of more than 131,072 characters, as where",
        ),
        (b"cat/0.png," + b"y" * 300, ", line 3: must have a label of at most 255 characters, got 300. Write a shorter"),
        (b'cat/0.png,"cat"s', ", line 3: must be CSV, got more characters after a closing double quote."),
    ],
)
def test_a_table_with_absurd_fields(photos, row, message):
    root = photos(cat=1, dog=1)
    (root / "x.csv").write_bytes(b"path,label\ndog/0.png,dog\n" + row + b"\n")
    error = outcome(scan_table, root / "x.csv")
    assert isinstance(error, DataError) and message in str(error)


def test_an_unreadable_shard_is_not_called_damaged(tmp_path, monkeypatch):
    write_shards(tmp_path, "train", 2, lambda rows: np.zeros((len(rows), 1), np.uint8), "x", "images")

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    for use in (
        lambda: open_shards(tmp_path, "train"),
        lambda: write_shards(tmp_path, "train", 2, None, "x", "images"),
    ):
        with pytest.raises(ArtifactError) as error:
            use()
        assert str(error.value) == (
            f"{tmp_path / 'train-00000.npy'}: must be accessible, got permission denied. Give it the permission, or "
            "give another path."
        )


@pytest.mark.parametrize("shape", ["(-1,)", f"({10**30},)", "(2,", "(" * 3000, "1e9", "(2**40, 2**40)", "None"])
def test_a_shard_with_an_absurd_header_is_refused(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 16
    (tmp_path / "train-00000.npy").write_bytes(data)
    with pytest.raises(ArtifactError, match="train-00000.npy: must be"):
        open_shards(tmp_path, "train")


def test_temporary_files_of_killed_scans_are_removed(photos, tmp_path):
    root, cache = photos(cat=2, dog=2), tmp_path / "store" / "hashes.json"
    cache.parent.mkdir()
    left = cache.parent / ".hashes.json.0a1b2c3d.tmp.json"
    left.write_bytes(b"{")
    other = cache.parent / ".hashes.toml.1.tmp"
    other.write_bytes(b"")
    scan(root, cache)
    assert not left.exists() and other.exists() and cache.exists()


def test_two_scans_at_once_keep_each_others_hashes(photos, tmp_path, monkeypatch):
    cache, other = tmp_path / "hashes.json", tmp_path / "other"
    photos(cat=2, dog=2).rename(other)
    root, real = photos(cat=1, dog=3), scan_module.in_threads

    def meanwhile(*arguments):
        monkeypatch.setattr(scan_module, "in_threads", real)
        scan(other, cache)
        return real(*arguments)

    monkeypatch.setattr(scan_module, "in_threads", meanwhile)
    scan(root, cache)
    monkeypatch.setattr(scan_module, "opened_file", None)  # whatever was forgotten would be read again
    assert len(scan(root, cache).images) == len(scan(other, cache).images) == 4
