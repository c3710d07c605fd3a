import hashlib
import json
import zipfile

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from kd2mobile.errors import DataError, ImageError, ModelFileError
from kd2mobile.measure.files import Answered, FileToMeasure, FromDevice
from kd2mobile.measure.host import measure as host
from kd2mobile.measure.litert.worker import Profile
from kd2mobile.measure.measured import measure_files, record_of_probabilities
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.record import BenchmarkRecord, image_set
from tests.tiny_models import COLOURS, by_hand

from .conftest import image

FIELDS = (
    "role, model, precision, compression, device, runtime, decoder, n, images, top1, top5, logloss, ece, "
    "teacher_agreement, val, latency_ms, first_run_ms, init_ms, size_bytes, compressed_bytes, peak_rss_mib, threads, "
    "sha256, rule, xnnpack, affinity, conditions, clock_step_ms, isolated, measured_at, tool, class_order, "
    "recommended, leaked, top1_without_leaked, unknown"
)
SEEN = [(0, 0, 255), (0, 255, 0), (40, 90, 10), (255, 0, 0), (0, 250, 0)]
LABELS = np.array([0, 1, 1, 2, 2])  # the last one is wrong


@pytest.fixture
def images(tmp_path):
    return [image(tmp_path / "seen" / f"{i}.png", colour) for i, colour in enumerate(SEEN)]


@pytest.fixture
def no_profile(monkeypatch):
    """Spares a process where cost is not what is tested."""
    profile = Profile(runtime="stand-in", threads=1, init_ms=1.0, first_run_ms=2.0)
    monkeypatch.setattr(host, "profile_files", lambda files, *_, **__: [profile] * len(files))


def measure(path, images, labels, *, role="student", resize=None, **how):
    """`measure_files` of one."""
    (measured,) = measure_files([FileToMeasure(path=path, role=role, resize=resize)], images, labels, **how)
    return measured


def test_a_record_has_exactly_the_promised_fields():
    assert ", ".join(BenchmarkRecord.__struct_fields__) == FIELDS


def test_one_file_from_image_to_record(own, images, tmp_path):
    path = own("uint8")
    measured = measure(path, images, LABELS, teacher_top1=np.array([0, 1, 0, 2, 2]))
    record, expected = measured.record, np.array([by_hand(colour) for colour in SEEN])
    np.testing.assert_allclose(measured.probabilities, expected, atol=1e-6)
    assert (record.role, record.model, record.precision, record.compression) == (
        "student",
        "mobilenet025",
        "fp32",
        "none",
    )
    assert (record.n, record.top1, record.top5, record.threads) == (5, 0.8, 1.0, 1)
    own_probability = np.maximum(expected[np.arange(5), LABELS], 1 / 512)
    assert record.logloss == pytest.approx(-np.log(own_probability).mean(), abs=1e-6)
    assert record.teacher_agreement == 3 / 5
    assert record.size_bytes == path.stat().st_size
    with zipfile.ZipFile(tmp_path / "app.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
        package.write(path, "model.tflite")
    assert record.compressed_bytes == package.getinfo("model.tflite").compress_size < record.size_bytes
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.latency_ms.n >= 100 and record.first_run_ms > 0 and record.init_ms > 0
    assert record.device.startswith("host: ") and record.runtime.startswith("ai-edge-litert")
    as_json = json.loads(msgspec.json.encode([record]))
    assert ", ".join(as_json[0]) == FIELDS and set(as_json[0]["latency_ms"]) == {
        "p50",
        "p90",
        "p95",
        "p99",
        "mean",
        "n",
        "steps",
        "rounds",
        "spread",
        "busy",
    }
    assert str(path.parent) not in json.dumps(as_json)
    assert measured.evaluated.tolist() == [0, 1, 2, 3, 4] and measured.skipped == [] and measured.notes == []


def test_files_share_one_decoding_and_answer_as_alone(models, own, images, monkeypatch, no_profile):
    opened = []
    from_file = host.opened
    monkeypatch.setattr(host, "opened", lambda path: opened.append(path) or from_file(path))
    some = [
        FileToMeasure(path=models / "uint8.tflite", resize="crop"),
        FileToMeasure(path=models / "full_uint8.tflite", role="baseline", model="other", resize="stretch"),
        FileToMeasure(path=models / "float.tflite", role="external", mean=127.5, std=127.5),
    ]
    together = measure_files(some, images, LABELS)
    assert sorted(opened) == sorted(images)
    assert [one.record.role for one in together] == ["student", "baseline", "external"]
    assert [one.record.model for one in together] == ["uint8", "other", "float"]
    for file, measured in zip(some, together, strict=True):
        (alone,) = measure_files([file], images, LABELS)
        np.testing.assert_array_equal(measured.probabilities, alone.probabilities)
        assert replace(measured.record, measured_at=None) == replace(alone.record, measured_at=None)


def test_the_resize_is_the_files_own_unless_given(own, tmp_path, no_profile):
    from PIL import Image

    wide = Image.new("RGB", (40, 10), COLOURS["blue"])
    wide.paste(COLOURS["red"], (0, 0, 12, 10))  # the left 30 %: cropped away, or 30 % of a stretched image
    wide.save(tmp_path / "wide.png")
    path = own("uint8", resize="stretch")

    def red(**how):
        return measure(path, [tmp_path / "wide.png"], np.array([0]), **how).probabilities[0, 2]

    assert red() == red(resize="stretch") > red(resize="crop")
    assert red(resize="crop") == pytest.approx(by_hand(COLOURS["blue"])[2], abs=1e-6)


def test_more_images_than_are_held_at_once(own, tmp_path, monkeypatch, no_profile):
    monkeypatch.setattr(host, "IMAGES_AT_ONCE", 3)
    colours = [(20 * i, 255 - 20 * i, 0) for i in range(10)]
    images = [image(tmp_path / f"{i}.png", colour) for i, colour in enumerate(colours)]
    measured = measure(own("uint8"), images, np.ones(10, int))
    np.testing.assert_allclose(measured.probabilities, [by_hand(colour) for colour in colours], atol=1e-6)


def test_an_unreadable_image_of_a_test_set_stops(own, images, no_profile):
    images[2].write_bytes(b"")
    with pytest.raises(ImageError, match=r"2\.png: must be a readable image"):
        measure(own("uint8"), images, LABELS)


def test_an_unreadable_image_is_skipped_on_request(own, images, no_profile):
    images[2].write_bytes(b"no image")
    (measured,) = measure_files(
        [FileToMeasure(path=own("uint8"))],
        images,
        LABELS,
        teacher_top1=np.array([0, 1, 2, 2, 2]),
        skip_unreadable=True,
    )
    assert (measured.record.n, measured.record.top1, measured.record.teacher_agreement) == (4, 0.75, 0.75)
    assert measured.evaluated.tolist() == [0, 1, 3, 4]
    assert [path for path, _ in measured.skipped] == [images[2]]


def test_logits_are_noted(models, images, no_profile):
    measured = measure(models / "logits.tflite", images, LABELS, role="external")
    assert measured.notes == [
        "logits.tflite: the outputs are not probabilities: they are taken as logits, and softmax is applied"
    ]
    np.testing.assert_allclose(measured.probabilities, [by_hand(colour) for colour in SEEN], atol=1e-6)


def test_scores_have_no_logloss(models, images, no_profile):
    measured = measure(models / "sigmoid.tflite", images, LABELS, role="external")
    assert (measured.record.top1, measured.record.logloss, measured.record.ece) == (0.8, None, None)
    assert "scores rank the classes" in measured.notes[0]


def test_labels_must_be_outputs(models, images, no_profile):
    with pytest.raises(DataError, match="must have only classes of the 3 outputs of .*uint8.tflite, got class 3"):
        measure(models / "uint8.tflite", images, LABELS + 1)


def test_nothing_to_evaluate(models):
    with pytest.raises(DataError, match="benchmark: must have images in the evaluation set, got none"):
        measure(models / "uint8.tflite", [], np.array([], int))
    with pytest.raises(ValueError, match="as many labels"):
        measure(models / "uint8.tflite", ["a.png"], np.array([0, 1]))


def test_a_bad_file_is_refused_before_anything_is_timed(models, images, monkeypatch):
    monkeypatch.setattr(host, "profile_files", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(ModelFileError, match="2 inputs"):
        measure_files(
            [FileToMeasure(path=models / f"{name}.tflite") for name in ("uint8", "two_inputs")], images, LABELS
        )


def test_a_record_identifies_its_images(own, images, no_profile):
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in images]
    classes = [hashes[0]], hashes[1:3], hashes[3:]
    text = "\n\n".join(sorted("\n".join(sorted(of_one)) for of_one in classes))
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]

    def image_set_of(order, labels, **how):
        return measure(own("uint8"), [images[i] for i in order], np.array(labels), **how).record.images

    assert image_set_of([0, 1, 2, 3, 4], [0, 1, 1, 2, 2]) == expected
    assert image_set_of([4, 2, 0, 3, 1], [1, 0, 2, 1, 0]) == expected, "in another order, of images and of classes"
    others = {
        image_set_of([0, 1, 2, 3], [0, 1, 1, 2]),
        image_set_of([0, 1, 2, 3, 4], [0, 1, 1, 2, 1]),
        image_set([], []),
        expected,
    }
    assert len(others) == 4
    images[4].write_bytes(b"no image")
    assert image_set_of([0, 1, 2, 3, 4], [0, 1, 1, 2, 2], skip_unreadable=True) == image_set_of(
        [0, 1, 2, 3], [0, 1, 1, 2]
    )
    images[4].unlink()
    assert image_set_of([0, 1, 2, 3, 4], [0, 1, 1, 2, 2], skip_unreadable=True) == image_set_of(
        [0, 1, 2, 3], [0, 1, 1, 2]
    )


def test_a_long_timing_is_announced(own, images, monkeypatch, capsys):
    from_device = FromDevice("a phone", [Answered([Profile()], None)], np.array([], int), [])
    monkeypatch.setattr(host, "measure", lambda *_, **__: from_device)
    for rule in ("kd2mobile", "mlperf"):
        assert "each timing takes" not in capsys.readouterr().err
        measure_files([FileToMeasure(path=own("uint8"))], images, LABELS, protocol=Protocol(rule=rule))
    assert "each timing takes 60 s or more\n" in capsys.readouterr().err


def test_where_nothing_was_evaluated_the_images_are_unknown_with_the_reason(own, images, monkeypatch):
    timed = [Profile(unknown={"images": "it times alone"}), Profile()]
    from_device = FromDevice("a phone", [Answered(timed, None)], np.array([], int), [])
    monkeypatch.setattr(host, "measure", lambda *_, **__: from_device)
    records = measure_files([FileToMeasure(path=own("uint8"))], images, LABELS)[0].records
    assert [r.images for r in records] == [None, None]
    assert [r.unknown["images"] for r in records] == ["it times alone", "no image was evaluated"]


def test_a_teachers_record_has_no_file():
    probabilities = np.array([[0.5, 0.5], [0.1, 0.9]])
    record = record_of_probabilities("teacher", "xception", probabilities, np.array([0, 1]), teacher_agreement=1.0)
    assert (record.role, record.model, record.n, record.top1) == ("teacher", "xception", 2, 0.75)
    assert record.teacher_agreement == 1 and record.latency_ms is None and record.size_bytes is None
