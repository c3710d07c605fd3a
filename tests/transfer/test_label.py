"""The teacher's pass: what is stored, how it goes on, what it refuses and what it says before it starts."""

import hashlib

import keras
import numpy as np
import pytest

from kd2mobile import pixels
from kd2mobile.data import shards
from kd2mobile.data.views import read_views
from kd2mobile.errors import ArtifactError, ImageError, TeacherError
from kd2mobile.teachers.teacher import Teacher, check_logits
from kd2mobile.transfer import batches
from kd2mobile.transfer import label as labelling
from kd2mobile.transfer.label import label
from kd2mobile.transfer.results import TeacherFile
from kd2mobile.transfer.store import Transfer
from tests.transfer.conftest import PX, VIEWS, write_teacher


@pytest.fixture
def run(images, teacher, tmp_path):
    """run(batch_size) labels into tmp_path/transfer and returns the results."""
    root, split, views = images
    return lambda batch_size=8: label(tmp_path / "transfer", teacher, root, split, views, batch_size)


@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_raw_logits_of_every_view_are_stored_in_order(run, images, teacher, tmp_path, batch_size):
    results = run(batch_size)
    root, split, views_folder = images
    model = keras.saving.load_model(teacher / "teacher.keras")
    for name, views in (("train", VIEWS), ("val", 1), ("test", 1)):
        samples, boxes = split.samples_of(name), read_views(views_folder, name)
        stored = Transfer(tmp_path / "transfer").logits(name)
        assert stored.shape == (len(samples), views, 3) and stored.dtype == np.float16
        for i, sample in enumerate(samples):
            image = pixels.open_image(root / sample.path)
            rendered = [pixels.render(image, pixels.Box(*v["box"].tolist()), PX, bool(v["flip"])) for v in boxes[i]]
            expected = model.predict_on_batch(np.stack(rendered).astype(np.float32))
            np.testing.assert_allclose(stored[i], expected, rtol=2e-3, atol=2e-3)
    assert results.samples == {"train": 30, "val": 15, "test": 9}
    assert results.views == {"train": 90, "val": 15, "test": 9}
    assert results.classes == 3 and results.val.n == 15 and 0 <= results.val.top1 <= 1 and results.val.logloss > 0
    assert results.bytes == sum(p.stat().st_size for p in (tmp_path / "transfer").iterdir())


def test_workers_store_the_same_bytes_as_threads(run, images, teacher, tmp_path):
    root, split, views = images
    assert run().ran.workers == 0
    assert label(tmp_path / "by workers", teacher, root, split, views, 8, workers=2).ran.workers == 2
    for path in (tmp_path / "transfer").iterdir():
        assert (tmp_path / "by workers" / path.name).read_bytes() == path.read_bytes(), path.name


def test_how_it_ran_is_recorded(run, teacher):
    results = run(7)
    assert (results.ran.batch_size, results.ran.batch_sizes_tried) == (7, {})
    assert (results.ran.backend, results.ran.devices) == ("tensorflow", ["cpu:0"])
    file = (teacher / "teacher.keras").read_bytes()
    sha256 = hashlib.sha256(file).hexdigest()
    assert results.teacher == TeacherFile("mine", 8 * 8 * 3 * 3 + 3, len(file), sha256)


def test_the_batch_size_is_tried_and_recorded(run, monkeypatch, capsys):
    monkeypatch.setattr(batches, "SMALLEST", 1)
    monkeypatch.setattr(batches, "_TIMED_S", 0.0)
    results = run(0)
    tried = results.ran.batch_sizes_tried
    assert list(tried)[:2] == ["1", "2"] and all(rate > 0 for rate in tried.values())
    assert str(results.ran.batch_size) in tried and set(tried) <= {"1", "2"}, "114 views: 3 would be too few batches"
    assert f": {results.ran.batch_size} is the fastest (" in capsys.readouterr().err


def test_each_image_is_decoded_once(run, monkeypatch):
    monkeypatch.setattr(labelling, "_report_cost", lambda *_: None)
    opened = []
    from_file = pixels.opened
    monkeypatch.setattr(pixels, "opened", lambda path: opened.append(path) or from_file(path))
    run()
    assert len(opened) == len(set(opened)) == 30 + 15 + 9


def test_a_killed_pass_resumes_after_its_last_shard(run, monkeypatch, tmp_path, teacher):
    monkeypatch.setattr(shards, "SHARD", 10)
    monkeypatch.setattr(labelling, "SHARD", 10)
    run()
    folder = tmp_path / "transfer"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(whole) == 3 + 2 + 1
    for name in ("train-00001.npy", "train-00002.npy", "test-00000.npy"):
        (folder / name).unlink()
    monkeypatch.setattr(labelling, "_report_cost", lambda *_: None)
    answered = []
    outputs = Teacher.outputs
    monkeypatch.setattr(Teacher, "outputs", lambda self, p: answered.append(len(p)) or outputs(self, p))
    results = run()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert sum(answered) == 2 * 10 * VIEWS + 9 and results.views_per_s > 0
    assert run().views_per_s is None and sum(answered) == 2 * 10 * VIEWS + 9


def test_time_and_disk_are_estimated_before_the_pass(run, capsys, monkeypatch):
    monkeypatch.setattr(labelling, "_views_per_s", lambda largest: 57.0)
    run(3)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("teacher's pass: 114 views by mine (validation top-1 0.250), about 2 s, 684 bytes")
    run(3)
    assert capsys.readouterr().err == ""


def test_probabilities_are_refused(run, teacher, tmp_path):
    write_teacher(teacher, [keras.layers.Softmax()])
    with pytest.raises(
        TeacherError, match="mine: must output logits, got probabilities .* Give the numbers before the softmax"
    ):
        run()
    assert not list((tmp_path / "transfer").glob("*.npy"))


def test_a_number_beyond_float16_names_its_image(run, teacher):
    write_teacher(teacher, scale=1e4)
    with pytest.raises(
        TeacherError, match=r"mine, blue/\w+ \d.png: must output logits within float16's range of 65,504, got \d"
    ):
        run()


def test_nan_names_its_image_and_counts():
    logits = np.ones((4, 2)) * 5
    logits[2, 1] = np.nan
    with pytest.raises(
        TeacherError, match=r"mine, c.png: must output finite logits, got NaN or infinity \(1 of 4 images\)"
    ):
        check_logits(logits, ["a.png", "b.png", "c.png", "d.png"], "mine")
    logits[2, 1] = np.inf
    with pytest.raises(TeacherError, match="mine, c.png"):
        check_logits(logits, ["a.png", "b.png", "c.png", "d.png"], "mine")


def test_nan_in_the_pass_is_refused_and_leaves_no_shard(run, teacher, tmp_path):
    write_teacher(teacher, scale=float("inf"))
    with pytest.raises(TeacherError, match=r"mine, blue/\w+ 0.png: must output finite logits"):
        run()
    assert not list((tmp_path / "transfer").glob("*.npy"))


@pytest.mark.parametrize("classes", [["blue", "green"], ["green", "blue", "red"]])
def test_another_teachers_classes_are_refused(run, teacher, classes):
    write_teacher(teacher, classes=classes)
    with pytest.raises(
        TeacherError, match=r"teacher: must have the 3 classes of the data, in their order, got \d classes"
    ):
        run()


def test_a_missing_or_damaged_teacher_is_refused(run, teacher):
    (teacher / "teacher.keras").write_bytes(b"nonsense")
    with pytest.raises(TeacherError, match="teacher.keras: must be a Keras model"):
        run()
    (teacher / "teacher.json").unlink()
    with pytest.raises(TeacherError, match="teacher.json: must be (JSON|a readable file)"):
        run()


def test_an_image_that_cannot_be_read_is_named(run, images):
    root, split, _ = images
    (root / split.samples_of("train")[4].path).write_bytes(b"no image")
    with pytest.raises(ImageError, match="blue/train 4.png: must be a readable image"):
        run()


def test_an_empty_transfer_set_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="train-00000.npy: must be there"):
        Transfer(tmp_path).logits("train")
