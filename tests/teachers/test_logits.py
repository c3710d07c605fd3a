"""A teacher that is its logits: what is stored of the file, and what is refused."""

import json

import msgspec
import numpy as np
import pytest

from kd2mobile.data import shards
from kd2mobile.data.split import Sample, Split
from kd2mobile.errors import TeacherError
from kd2mobile.teachers.logits import make_logits_teacher, read_logits
from kd2mobile.teachers.teacher import check_logits
from kd2mobile.transfer.given import store_given_logits
from kd2mobile.transfer.store import Transfer
from tests.teachers.conftest import CLASSES


@pytest.fixture
def answers(images):
    """The arrays of a good file: five for the true class, noise for the others, rows and columns in another order."""
    _, split = images
    rng = np.random.default_rng(5)
    samples = [split.samples[i] for i in rng.permutation(len(split.samples))]
    names = ["red", "blue", "green"]
    values = rng.normal(0, 1, (len(samples), 3))
    for row, sample in enumerate(samples):
        values[row, names.index(CLASSES[sample.label])] += 9
    return {
        "sample_ids": np.array([sample.path for sample in samples]),
        "class_names": np.array(names),
        "logits": values.astype(np.float32),
    }


@pytest.fixture
def make(images, answers, tmp_path):
    """make(logits=..., ...) runs both stages on a file with these arrays changed; None leaves one out."""
    _, split = images

    def run(known=False, **changes):
        path = tmp_path / "logits.npz"
        np.savez(path, **{key: value for key, value in (answers | changes).items() if value is not None})
        for folder in ("teacher", "transfer"):
            (tmp_path / folder).mkdir(exist_ok=True)
        taught = make_logits_teacher(tmp_path / "teacher", path, split, known)
        path.unlink()  # what is stored stands alone
        return taught, store_given_logits(tmp_path / "transfer", tmp_path / "teacher", split)

    return run


def test_names_are_the_same_composed_and_decomposed(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for here, there in ((composed, decomposed), (decomposed, composed)):
        split = Split(
            [here, "tea"], [Sample(f"{name}/1.png", i, "val", "", 1, 1) for i, name in enumerate([here, "tea"])]
        )
        path, values = tmp_path / "logits.npz", np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        ids = ["tea/1.png", f"{there}/1.png", "more.png"]
        np.savez(path, sample_ids=np.array(ids), class_names=np.array(["tea", there]), logits=values)
        given = read_logits(path, split)
        assert given.logits_of(split.samples).tolist() == [[4, 3], [2, 1]] and given.unused == 1
    both = Split(["tea"], [Sample(f"{name}.png", 0, "val", "", 1, 1) for name in (composed, decomposed)])
    np.savez(path, sample_ids=np.array([f"{composed}.png"]), class_names=np.array(["tea"]), logits=np.ones((1, 1)))
    with pytest.raises(TeacherError, match="must hold every one of the 2 images, got no row for 1 of them"):
        read_logits(path, both)


@pytest.mark.parametrize("times", [100, 255])
def test_probabilities_times_a_number_are_no_logits(times):
    answers = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [1, 0, 0]], "f4") * times
    got = f"got probabilities times {times} \\(no number is below 0, and each image's sum to {times}\\)"
    with pytest.raises(TeacherError, match=f"{got}. Give the numbers before the softmax, or log\\(p / {times}\\)."):
        check_logits(answers, ["a", "b", "c"], "mine")
    check_logits(answers[:1], ["a"], "mine")
    check_logits(answers + [[0, 0, 0], [0, 0, 0.01 * times], [0, 0, 0]], ["a", "b", "c"], "mine")
    check_logits(answers - 1, ["a", "b", "c"], "mine")


@pytest.mark.parametrize("times", [5, 6, 6.5, 255])
def test_one_number_per_class_times_anything_are_logits(times):
    one_hot = np.eye(3, dtype="f4") * times
    check_logits(one_hot, ["a", "b", "c"], "mine")
    check_logits(
        one_hot * 0.8 + np.roll(one_hot, 1, axis=0) * 0.2, ["a", "b", "c"], "mine"
    )  # the same numbers in each row
    check_logits(np.array([[5, 3, 1], [4, 4, 1], [0, 1, 8]], "f4"), ["a", "b", "c"], "mine")  # whole numbers
    for sure in (1, 100):
        with pytest.raises(TeacherError, match="must output logits, got probabilities .*`--teacher-output logits`"):
            check_logits(np.eye(3, dtype="f4") * sure, ["a", "b", "c"], "mine")


@pytest.mark.parametrize("times", [1, 2.5, 100])
def test_numbers_that_look_like_probabilities_are_accepted_if_declared_logits(make, answers, capsys, tmp_path, times):
    powers = np.exp(answers["logits"].astype(np.float64))
    values = (powers / powers.sum(axis=1, keepdims=True) * times).astype(np.float32)
    with pytest.raises(TeacherError, match="got probabilities .*is taken with `--teacher-output logits`"):
        make(logits=values)
    taught, _ = make(known=True, logits=values)
    assert taught.output == "logits" and taught.val.top1 == 1.0
    assert "logits.npz: taken for logits, as teacher.output says" in capsys.readouterr().err
    stored = Transfer(tmp_path / "transfer").logits("val")
    sums = [stored[i, 0].astype(np.float64).sum() for i in range(15)]
    np.testing.assert_allclose(sums, times, rtol=2e-3)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_rows_and_columns_are_found_by_their_names(make, images, answers, tmp_path, monkeypatch, capsys, dtype):
    monkeypatch.setattr(shards, "SHARD", 7)
    values = answers["logits"].astype(dtype)
    taught, stored = make(logits=values)
    split, ids = images[1], list(answers["sample_ids"])
    for name, count in (("train", 30), ("val", 15), ("test", 9)):
        logits = Transfer(tmp_path / "transfer").logits(name)
        assert logits.shape == (count, 1, 3) and logits.dtype == np.float16
        for i, sample in enumerate(split.samples_of(name)):
            red, blue, green = values[ids.index(sample.path)]
            assert np.array_equal(logits[i, 0], np.array([blue, green, red]).astype(np.float16))
    assert stored.views == stored.samples == {"train": 30, "val": 15, "test": 9}
    assert stored.val == taught.val and (taught.val.n, taught.val.top1) == (15, 1.0) and taught.val.logloss < 0.1
    assert (taught.way, taught.name, taught.classes) == ("logits", "logits.npz", CLASSES)
    assert "teacher logits.npz: validation top-1 1.000" in capsys.readouterr().err
    assert json.loads((tmp_path / "teacher" / "teacher.json").read_text()) == msgspec.to_builtins(taught)
    assert sorted(path.name for path in (tmp_path / "teacher").iterdir()) == ["logits.npz", "teacher.json"]


def test_rows_of_other_images_are_skipped_and_reported(make, answers, capsys):
    ids, values = np.append(answers["sample_ids"], "else/1.png"), np.vstack([answers["logits"], [np.nan] * 3])
    assert make(sample_ids=ids, logits=values)[0].unused_rows == 1
    assert "logits.npz: no labelled image here for 1 of its 55 rows" in capsys.readouterr().err


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def at(values, row, value):
    return np.where(np.arange(len(values))[:, None] == row, value, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: {"class_names": None},
            "must be a complete .npz file of the arrays sample_ids, class_names, logits, got sa",
        ),
        (
            lambda a: {"sample_ids": a["sample_ids"][2:], "logits": a["logits"][2:]},
            "sample_ids: must hold every one of the 54 images, got no row for 2 of them, the first '",
        ),
        (
            lambda a: {"sample_ids": np.char.add("photos/", a["sample_ids"])},
            "no row for 54 of them, the first 'blue/train 0.png'; its own first id is 'photos/",
        ),
        (
            lambda a: {"sample_ids": np.append(a["sample_ids"][:-1], a["sample_ids"][0])},
            "more than once (1 row too many). Keep one of each.",
        ),
        (
            lambda a: {"class_names": np.array(["red", "red", "green"])},
            "class_names: must list each one once, got 'red'",
        ),
        (
            lambda a: {"class_names": np.array(["red", "cyan", "green"])},
            "class_names: must name the 3 classes of the images, got no 'blue' and 'cyan' in addition. Name the "
            "columns",
        ),
        (
            lambda a: {"class_names": a["class_names"][:2], "logits": a["logits"][:, :2]},
            "class_names: must name the 3 classes of the images, got no 'green'. Name",
        ),
        (
            lambda a: {"logits": at(a["logits"], 0, np.nan)},
            "must output finite logits, got NaN or infinity (1 of 54 images)",
        ),
        (lambda a: {"logits": at(a["logits"], 3, -np.inf)}, "must output finite logits, got NaN or infinity (1 of 54"),
        (
            lambda a: {"logits": at(a["logits"], 3, 1e6)},
            "must output logits within float16's range of 65,504, got 1e+06",
        ),
        (lambda a: {"logits": softmax(a["logits"])}, "logits.npz: must output logits, got probabilities"),
        (
            lambda a: {"logits": 1 / (1 + np.exp(-a["logits"]))},
            "logits: must be logits, got only numbers from 0 to 1, as for probabilities. Give the numbers",
        ),
        (
            lambda a: {"class_names": a["class_names"][[1, 2, 0]]},
            "must be better than chance (0.333), got top-1 0.000. Check that class_names are",
        ),
        (
            lambda a: {"logits": np.full_like(a["logits"], 2)},
            "must be better than chance (0.333), got top-1 0.333",
        ),
        (
            lambda a: {"logits": a["logits"].astype(int)},
            "logits: must be float16, float32 or float64, got int64 [54, 3]",
        ),
        (
            lambda a: {"logits": a["logits"][:, :, None]},
            "logits: must be [54, 3], one row for each of sample_ids, one co",
        ),
        (lambda a: {"logits": a["logits"][:9]}, "one column for each of class_names, got [9, 3]"),
        (
            lambda a: {"sample_ids": a["sample_ids"].astype(object)},
            "sample_ids: must be a plain array, got pickled Pyth",
        ),
        (lambda a: {"logits": a["logits"].astype(object)}, "logits: must be a plain array, got pickled Python objects"),
        (
            lambda a: {"sample_ids": a["sample_ids"].astype("S")},
            "sample_ids: must be a one-dimensional array of N",
        ),
        (
            lambda a: {"class_names": a["class_names"][None]},
            "class_names: must be a one-dimensional array of Num",
        ),
    ],
)
def test_unusable_files_of_logits_are_refused(make, answers, tmp_path, change, message):
    with pytest.raises(TeacherError) as caught:
        make(**change(answers))
    assert message in str(caught.value) and "logits.npz" in str(caught.value)
    assert not (tmp_path / "teacher" / "teacher.json").exists()


@pytest.mark.parametrize("damage", ["text", "npy", "half", "bits"])
def test_a_file_that_is_no_whole_npz_is_refused(images, answers, tmp_path, damage):
    path = tmp_path / "logits.npz"
    np.savez_compressed(path, **answers)
    whole = path.read_bytes()
    middle = len(whole) // 2
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, answers["logits"])
    else:
        noise = whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]
        path.write_bytes({"text": b"hello", "half": whole[:middle], "bits": noise}[damage])
    with pytest.raises(
        TeacherError, match="logits.npz: must be a complete .npz file of the arrays sample_ids, .* docs/how"
    ):
        make_logits_teacher(tmp_path, path, images[1])
