"""export/python: classify.py answers as kd2mobile does, where kd2mobile is not installed."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd2mobile import pixels
from kd2mobile.measure.litert.eight_bit import quantized
from kd2mobile.measure.predict import predict
from kd2mobile.tflite.metadata import attach

FOLDER = Path(__file__).parent.parent.parent / "export" / "python"
PUBLISHED = FOLDER.parent.parent / "models" / "mobilenet025-digits-int8" / "model.tflite"
REQUIREMENTS = [line for line in (FOLDER / "requirements.txt").read_text("utf-8").splitlines() if line]
ENVIRONMENTS = {
    "export": REQUIREMENTS,
    "export-tflite-runtime": ["tflite-runtime==2.14.0", "numpy<2", "pillow>=10.1"],
}
STEPS = {"export": 1, "export-tflite-runtime": 16}
"""Most steps of 1/256 between two answers: tflite-runtime 2.14 has older int8 kernels, which round elsewhere."""
RESIZES = ["crop", "stretch", "pad"]
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photos(digits_in_tflite, tmp_path_factory) -> list[Path]:
    """Digits on oblong grounds of every kind that a phone or a folder of images may hold; one is as it was."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    sides = [(40, 40), (90, 61), (61, 90), (640, 427), (33, 200), (2000, 30), (7, 5), (301, 300)]
    paths = [digits_in_tflite.photos[0]]
    for number, (width, height) in enumerate(sides):
        ground = rng.integers(0, 120, (height, width, 3), np.uint8)
        digit = Image.open(digits_in_tflite.photos[number]).convert("RGB").resize((width * 3 // 4, height * 3 // 4))
        image = Image.fromarray(ground)
        image.paste(digit, (width // 8, height // 8))
        exif = Image.Exif()
        exif[ORIENTATION] = number + 1
        path = folder / f"{number}.{'jpg' if number % 2 else 'png'}"
        image.save(path, exif=exif)
        paths.append(path)
    glass = np.dstack([rng.integers(0, 256, (50, 70, 3), np.uint8), np.linspace(0, 255, 3500).reshape(50, 70)])
    deep = Image.fromarray(rng.integers(0, 65536, (60, 50), np.uint16))
    others = {
        "alpha.png": Image.fromarray(glass.astype(np.uint8)),
        "deep.png": deep,
        "grey.png": Image.fromarray(ground[..., 0]),
        "cmyk.jpg": image.convert("CMYK"),
    }
    for name, other in others.items():
        other.save(folder / name)
    image.quantize(8).save(folder / "palette.png", transparency=3)
    return [*paths, *(folder / name for name in others), folder / "palette.png"]


@pytest.fixture(scope="module")
def files(digits_in_tflite, tmp_path_factory) -> dict[tuple[str, str], Path]:
    """The same student for each of the three ways to the pixels, by precision and way."""
    folder, made = tmp_path_factory.mktemp("files"), {}
    for precision in ("fp32", "int8", "int16x8"):
        for resize in RESIZES:
            made[precision, resize] = folder / f"{resize}-{precision}.tflite"
            model = attach(
                digits_in_tflite.files[precision].read_bytes(),
                classes=["nought\n", "één", *"23456789"],
                resize=resize,
                input_px=16,
                model_name="digits",
                precision=precision,
                student_fingerprint="f00d",
                takes_floats=precision == "int16x8",
            )
            made[precision, resize].write_bytes(model)
    return made


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def environment(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def python(environment, benchmark_script) -> Path:
    """The Python of an environment without kd2mobile; skips where pip cannot make it."""
    names = benchmark_script("environments")
    if environment == "export-tflite-runtime" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has wheels up to Python 3.11 alone")
    try:
        made = names["environment"](names["KEPT"] / environment, ENVIRONMENTS[environment])
    except names["InstallationFailed"] as why:
        pytest.skip(f"classify.py's requirements cannot be installed: {why}")
    assert subprocess.run([made, "-I", "-c", "import kd2mobile"], capture_output=True).returncode
    return made


def run(python, *words):
    """-I: what PYTHONPATH names is not found."""
    command = [python, "-I", FOLDER / "classify.py", *words]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("precision", ["fp32", "int8", "int16x8"])
def test_it_answers_as_kd2mobile_does(python, environment, files, photos, precision, resize):
    file, within = files[precision, resize], STEPS[environment] * 1.001 / 256
    done = run(python, file, *photos, "--top", "10", "--json")
    assert done.returncode == 0, done.stderr
    there = [json.loads(line) for line in done.stdout.splitlines()]
    here = predict(file, photos, top=10)
    assert [answer["image"] for answer in there] == [str(photo) for photo in photos]
    for answer, known in zip(there, here, strict=True):
        probabilities = {name.replace("\n", "\\n"): value for name, value in known.classes}
        assert {name for name, _ in answer["classes"]} == probabilities.keys()
        furthest = max(abs(value - probabilities[name]) for name, value in answer["classes"])
        assert furthest <= within, f"{known.image}: {furthest * 256} steps"
        (first, value), (second, runner_up), *_ = known.classes
        assert answer["classes"][0][0] == first.replace("\n", "\\n") or value - runner_up <= within, known.image
    assert len({known.classes[0][0] for known in here}) > 2, "the images are told apart"


@pytest.fixture(scope="module")
def classify():
    """classify.py as the names that it defines."""
    return runpy.run_path(str(FOLDER / "classify.py"))


@pytest.mark.parametrize("px", [5, 16, 224])
@pytest.mark.parametrize("resize", RESIZES)
def test_its_pixels_are_kd2mobiles_to_the_byte(classify, photos, resize, px):
    for photo in photos:
        there = classify["to_pixels"](classify["open_image"](photo), px, resize)
        known = pixels.load(photo, px, resize)
        assert there.shape == known.shape and there.dtype == known.dtype
        np.testing.assert_array_equal(there, known, photo.name)


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (2 / 255, 127), (2 / 255, 128), (0.00627, 159)])
def test_the_numbers_that_it_hands_over_are_kd2mobiles(classify, scale, zero_point):
    normal = np.full(1, 127.5, np.float32)
    table = quantized("uint8", scale, zero_point, normal, normal) if scale else None
    expected = np.arange(256) if table is None else table[:, 0]
    assert (classify["quantized_pixels"](scale, zero_point) == expected).all()


def test_it_prints_for_a_person(python, files, digits_in_tflite):
    photo = digits_in_tflite.photos[int(np.argmax(digits_in_tflite.labels == 1))]
    done = run(python, files["int8", "stretch"], photo)
    assert done.returncode == 0, done.stderr
    first, second, *others = done.stdout.splitlines()
    assert first == str(photo) and second.endswith("%  één") and len(others) == 2


def test_what_cannot_be_used_is_reported_in_one_line(python, files, photos, tiny_tflite, tmp_path):
    whole = files["fp32", "crop"]
    (tmp_path / "half.tflite").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "half.jpg").write_bytes(photos[4].read_bytes()[:900])
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"\0" * 64 + whole.read_bytes()[64:])
    later = tmp_path / "later.tflite"
    later.write_bytes(whole.read_bytes().replace(b'"format": 1', b'"format": 2'))
    for words, message in (
        ((tmp_path / "none.tflite", photos[0]), "none.tflite: must be a readable file, got No such file"),
        ((tiny_tflite, photos[0]), "must be a whole file of kd2mobile export, got File is not a zip file"),
        ((tmp_path / "half.tflite", photos[0]), "must be a whole file of kd2mobile export, got"),
        ((broken, photos[0]), "broken.tflite: must run in LiteRT, got "),
        ((later, photos[0]), "later.tflite: must be a whole file of kd2mobile export, got Bad CRC-32"),
        ((whole, tmp_path / "none.jpg"), "none.jpg: must be there, got no such file"),
        ((whole, tmp_path / "half.jpg"), "half.jpg: must be a whole image, got OSError"),
    ):
        done = run(python, *words)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert message in done.stderr.splitlines()[-1], done.stderr


def test_a_file_of_a_later_format_is_refused(python, files, photos, tmp_path):
    later = tmp_path / "later.tflite"
    shutil.copy(files["fp32", "crop"], later)
    text = zipfile.ZipFile(later).read("kd2mobile.json").replace(b'"format": 1', b'"format": 2')
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        archive.writestr("labels.txt", "a\n")
        archive.writestr("kd2mobile.json", text)
    later.write_bytes((tmp_path / "new.zip").read_bytes())
    done = run(python, later, photos[0])
    assert done.returncode == 2 and done.stderr.endswith("must be of format 1, got 2. Take a later classify.py.\n")


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="Windows has no SIGPIPE")
def test_output_that_nobody_reads_ends_it_quietly(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "black.png")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-I", FOLDER / "classify.py", PUBLISHED, tmp_path / "black.png"]
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert done.returncode == -signal.SIGPIPE and "Traceback" not in done.stderr and "Error" not in done.stderr


def test_no_class_at_all_is_refused(python, files, photos):
    done = run(python, files["fp32", "crop"], photos[0], "--top", "0")
    assert done.returncode == 2 and done.stderr.endswith("error: --top must be at least 1\n")


def test_without_a_runtime_the_error_names_the_package_to_install(benchmark_script, tmp_path):
    """An interpreter that finds NumPy and Pillow, and neither runtime."""
    hidden = "import sys; sys.modules['ai_edge_litert'] = sys.modules['tflite_runtime'] = None; import runpy; "
    code = hidden + f"runpy.run_path({str(FOLDER / 'classify.py')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "classify.py: needs ai-edge-litert or tflite-runtime: requirements.txt\n"
