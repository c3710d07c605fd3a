"""export/web: the classifier and its example page, in headless Chromium, from a server that knows nothing of them."""

import base64
import functools
import json
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from kd2mobile.errors import ModelFileError
from kd2mobile.inspection.labels import label_lines
from kd2mobile.measure.litert.eight_bit import quantized
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.measure.predict import predict
from kd2mobile.pixels import load, render, whole_box
from tests.chromium import browser, needs_chromium
from tests.measure.browser.conftest import needs_litert_js
from tests.tiny_models import pixels

pytestmark = [needs_chromium, needs_litert_js]
WEB = Path(__file__).parent.parent.parent / "export" / "web"
SIZES = [(200, 150, 96), (33, 47, 32), (8, 8, 32), (300, 299, 64), (31, 200, 24), (20, 15, 64)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Nothing."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Chromium with the example page open."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=WEB))
    thread = Thread(target=server.serve_forever)
    thread.start()
    with browser(tmp_path_factory.mktemp("chromium")) as chromium:
        chromium.open(f"http://127.0.0.1:{server.server_address[1]}/index.html")
        chromium.value("import('./classifier.js').then((all) => { Object.assign(window, all); })")
        yield chromium
    server.shutdown()
    server.server_close()
    thread.join()


def bytes_of(content):
    return f"Uint8Array.from(atob('{base64.b64encode(content).decode()}'), (c) => c.charCodeAt(0))"


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_its_pixels_are_those_of_training(page, resize):
    rng = np.random.default_rng(0)
    for width, height, px in SIZES:
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        rgba = np.dstack([image, np.full((height, width, 1), 255, np.uint8)]).tobytes()
        call = f"Array.from(resample({bytes_of(rgba)}, {width}, {height}, {px}, '{resize}'))"
        here = render(Image.fromarray(image), whole_box(width, height, resize), px)
        there = np.array(page.value(call)).reshape(px, px, 3)
        assert np.abs(there - here.astype(int)).max() <= 1, (width, height, px)
        assert (there == here).mean() > 0.7, "and mostly the same: Pillow's own order of the two directions varies"


def test_an_image_is_laid_on_white_and_turned_upright(page, tmp_path):
    turned = Image.new("RGBA", (20, 10), (255, 0, 0, 255))
    turned.paste((0, 0, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right: what was on the left comes to the top
    turned.save(tmp_path / "turned.png", exif=exif)
    call = f"readImage(new Blob([{bytes_of((tmp_path / 'turned.png').read_bytes())}]))"
    values = page.value(f"{call}.then((image) => [image.width, image.height, ...pixelsOf(image, 2, 'stretch')])")
    assert values[:2] == [10, 20] and values[2:5] == [255, 219, 219], "white above, red below, a little of each in both"
    assert values[2:] == load(tmp_path / "turned.png", 2, "stretch").reshape(-1).tolist()


def test_it_reads_the_description_in_a_file(page, digits_in_tflite):
    for precision, file in digits_in_tflite.files.items():
        content = bytes_of(file.read_bytes())
        description = page.value(f"readDescription({content})")
        assert description == {"labels": [f"digit {number}" for number in range(10)], "resize": "stretch"}
        tensors = page.value(f"describeModel({content})")
        assert tensors["input"]["shape"] == [1, 16, 16, 3] and tensors["output"]["shape"] == [1, 10]
        assert tensors["input"]["dtype"] == ("float32" if precision == "int16x8" else "uint8")
        output = tensors["output"]
        assert (output["dtype"], output["scale"], output["zeroPoint"]) == (
            ("uint8", 1 / 256, 0) if precision == "int8" else ("float32", None, 0)
        )


def test_labels_that_are_compressed_or_counted_from_the_zip_are_read_too(page, tiny_tflite, tmp_path):
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "labels.zip", "w", way) as archive:
            archive.writestr("labels.txt", "a cat\na dog\n")
        behind = tiny_tflite.read_bytes() + (tmp_path / "labels.zip").read_bytes()
        assert page.value(f"readDescription({bytes_of(behind)})") == {"labels": ["a cat", "a dog"], "resize": None}
    assert page.value(f"readDescription({bytes_of(tiny_tflite.read_bytes())})") == {"labels": None, "resize": None}


LABEL_FILES = [
    "0 cat\n1 dog\n",
    "1: dog\n0:cat\n",
    "0,tench, Tinca tinca\n1,goldfish\n",
    "\ufeff0  crane\r\n\r\n2  maillot\r\n1  crane\r\n",
    "dog\t1\ncat\t0",
    "7up\n5 alive\n",
    "0 degrees\n90 degrees\n",
    "0 : cat\n1 : dog",
    "0 0\n1 1",
    "a\n\nb\n\n",
    "0 cat\n1: dog",
    "0 cat\n2 dog",
    "0,cat\n0,dog",
]


def test_label_files_are_read_as_kd2mobile_reads_them(page):
    for text in LABEL_FILES:
        result = page.value(
            f"(() => {{try {{return labelLines({json.dumps(text)});}} catch (f) {{return f.message;}}}})()"
        )
        try:
            assert result == label_lines(text.encode(), "labels.txt"), text
        except ModelFileError as fault:
            assert result == f"labels.txt {fault.must}", text


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 128, 128), (2 / 255, 127), (0.0187, 114), (0.00627, 159)])
@pytest.mark.parametrize("normal", [((127.5,), (127.5,)), ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))])
def test_8_bit_inputs_take_the_numbers_that_kd2mobile_gives_them(page, scale, zero_point, normal):
    scale = float(np.float32(scale))
    mean, std = (np.array(values, np.float32) for values in normal)
    table = quantized("uint8", scale, zero_point, mean, std)
    every = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    tensor = {"dtype": "uint8", "scale": scale, "zeroPoint": zero_point}
    normal = {"mean": mean.tolist(), "std": std.tolist()}
    call = f"Array.from(valuesOf({json.dumps(tensor)}, {json.dumps(normal)}, null)([...{bytes_of(every.tobytes())}]))"
    assert page.value(call) == (every if table is None else table).reshape(-1).tolist()


def test_an_8_bit_input_of_another_scale_is_never_guessed(page, models):
    content = bytes_of((models / "wide_uint8.tflite").read_bytes())
    message = page.value(f"openClassifier({content}).then(() => 'opened', (fault) => fault.message)")
    assert message.startswith("must take pixels as 0..255, 0..1 or -1..1, -2.1")


def test_answers_of_an_8_bit_input_of_another_scale_are_kd2mobiles(page, models):
    file, how = models / "wide_uint8.tflite", {"mean": [124, 116, 104], "std": [58, 57, 60]}
    classifier = Classifier(file, **how)
    page.until("typeof openClassifier === 'function'")
    for colour in [(60, 70, 50), (250, 0, 128)]:
        shown = pixels(colour)
        call = f"openClassifier({bytes_of(file.read_bytes())}, {json.dumps(how)})"
        call += f".then((opened) => opened.outputs({bytes_of(shown.tobytes())})).then((answer) => Array.from(answer))"
        np.testing.assert_allclose(page.value(call), classifier.outputs(shown), atol=1 / 256)


def test_the_normalization_in_the_metadata_is_read(page, models):
    assert page.value(f"describeModel({bytes_of((models / 'described.tflite').read_bytes())}).normal") == {
        "mean": [127.5],
        "std": [127.5],
    }
    assert page.value(f"describeModel({bytes_of((models / 'float.tflite').read_bytes())}).normal") is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "must be a TensorFlow Lite model: its file identifier is not TFL3"),
        (b"\0" * 4 + b"TFL4" + b"\0" * 90, "must be a TensorFlow Lite model: its file identifier is not TFL3"),
        (b"\x10\0\0\0TFL3" + b"\xff" * 90, "must be a complete TensorFlow Lite model: "),
        ("cut", "must be a complete TensorFlow Lite model: "),
        ("int8", "LiteRT.js can take uint8 or float32, got int8"),
        ("open", "LiteRT.js needs a batch that is fixed at 1, got an open one"),
        ("two", "must take one image and output one vector, got 2 inputs and 1 outputs"),
        ("grey", "must take one square RGB image [1, px, px, 3], got [1,8,8,1]"),
    ],
)
def test_a_file_that_it_cannot_run_is_refused_with_the_reason(page, content, why, models, tiny_tflite):
    files = {"int8": "full_int8", "open": "open_batch", "two": "two_inputs", "grey": "grey"}
    if content == "cut":
        content = tiny_tflite.read_bytes()[:200]
    elif content in files:
        content = (models / f"{files[content]}.tflite").read_bytes()
    message = page.value(f"openClassifier({bytes_of(content)}).then(() => 'opened', (fault) => fault.message)")
    assert message.startswith(why)


def test_threads_need_an_isolated_page(page):
    message = page.value("startLiteRt('node_modules/@litertjs/core/wasm/', {threads: true}).catch((f) => f.message)")
    assert message.startswith("threads need a cross-origin isolated page")


def test_what_is_no_probability_gets_a_softmax(page):
    assert page.value("Array.from(asProbabilities(Float32Array.of(0.25, 0.75)))") == [0.25, 0.75]
    probabilities = page.value("Array.from(asProbabilities(Float32Array.of(1, 2, -1)))")
    powers = np.exp([1.0, 2.0, -1.0])
    assert np.abs(probabilities - powers / powers.sum()).max() < 1e-7


def give(page, name, path):
    """A file in one of the page's fields, as a person chooses it."""
    page.send("DOM.enable")
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    field = page.send("DOM.querySelector", nodeId=root, selector=f"#{name}")["nodeId"]
    page.send("DOM.setFileInputFiles", files=[str(path)], nodeId=field)


LINES = "[...document.querySelectorAll('#classes li')].map((line) => line.textContent)"


def test_the_example_page_names_what_is_in_a_image(page, digits_in_tflite, tmp_path):
    """Every precision; the same percentages as kd2mobile's predict."""
    photo = digits_in_tflite.photos[0]
    for precision, file in digits_in_tflite.files.items():
        page.value("document.getElementById('classes').replaceChildren()")
        give(page, "model", file)
        give(page, "image", photo)
        page.until("document.querySelectorAll('#classes li').length")
        (here,) = predict(file, [photo], top=5)
        expected = [f"{name}: {probability:.1%}".replace("%", " %") for name, probability in here.classes]
        assert page.value(LINES)[0] == expected[0], precision
    (tmp_path / "text.tflite").write_text("no model at all")
    give(page, "model", tmp_path / "text.tflite")
    page.until("document.getElementById('classes').textContent.startsWith('must be a TensorFlow')")
    assert page.value(LINES) == []
