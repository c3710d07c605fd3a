"""Several teachers' logits as one: the numbers by hand, and what is stored."""

import json
import math

import msgspec
import numpy as np
import pytest

from kd2mobile.data import shards
from kd2mobile.data.shards import write_shards
from kd2mobile.data.split import Sample, Split
from kd2mobile.errors import TeacherError
from kd2mobile.store.artifact import Artifact
from kd2mobile.store.stage_records import Validated
from kd2mobile.transfer import combine as module
from kd2mobile.transfer.combine import combine
from kd2mobile.transfer.members import Mixture, mean_of_logits
from kd2mobile.transfer.results import Member, TeacherFile, TransferResults
from kd2mobile.transfer.store import Transfer

FIRST, SECOND = [0.3, 0.2, 0.5], [0.1, 0.8, 0.1]


def softmax(z):
    powers = [math.exp(one - max(z)) for one in z]
    return [power / sum(powers) for power in powers]


def test_the_two_means_of_two_distributions_are_those_by_hand():
    logits = [np.log(FIRST) + 3, np.log(SECOND) - 7]  # a constant in a network's logits changes nothing
    arithmetic = mean_of_logits(logits, "arithmetic", [1, 1])
    assert softmax(arithmetic) == pytest.approx([0.2, 0.5, 0.3], abs=1e-12)
    assert np.exp(arithmetic) == pytest.approx([0.2, 0.5, 0.3], abs=1e-12), "the logarithm of the mean itself"
    roots = [math.sqrt(0.03), math.sqrt(0.16), math.sqrt(0.05)]
    geometric = mean_of_logits(logits, "geometric", [1, 1])
    assert softmax(geometric) == pytest.approx([root / sum(roots) for root in roots], abs=1e-12)
    assert geometric == pytest.approx((logits[0] + logits[1]) / 2)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_each_teacher_is_softened_by_its_own_temperature(mean):
    rng = np.random.default_rng(0)
    logits, temperatures = [rng.normal(0, 5, (4, 2, 6)).astype(np.float16) for _ in range(3)], [1.0, 2.5, 0.5]
    found = mean_of_logits(logits, mean, temperatures)
    assert found.shape == (4, 2, 6) and found.dtype == np.float64
    for position in np.ndindex(4, 2):
        each = [softmax([float(z) / t for z in one[position]]) for one, t in zip(logits, temperatures, strict=True)]
        if mean == "arithmetic":
            expected = [sum(values) / 3 for values in zip(*each, strict=True)]
        else:
            expected = [math.prod(values) ** (1 / 3) for values in zip(*each, strict=True)]
        expected = [one / sum(expected) for one in expected]
        assert softmax(found[position]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_one_teacher_twice_is_that_teacher(mean):
    logits = np.random.default_rng(1).normal(0, 9, (5, 4))
    found = mean_of_logits([logits, logits], mean, [1, 1])
    assert found - found[:, :1] == pytest.approx(logits - logits[:, :1])


def test_far_logits_stay_finite():
    logits = [np.array([6e4, -1.0, -6e4]), np.array([-6e4, 0.0, 6e4])]
    found = mean_of_logits(logits, "arithmetic", [1, 1])
    assert np.isfinite(found).all() and softmax(found) == pytest.approx([0.5, 0, 0.5])


@pytest.fixture
def split():
    names = ["train"] * 9 + ["val"] * 4 + ["test"] * 2
    samples = [Sample(f"{'ab'[i % 2]}/{i}.png", i % 2, name, "", 1, 1) for i, name in enumerate(names)]
    return Split(["a", "b"], samples)


@pytest.fixture
def members(split, tmp_path, monkeypatch):
    """Transfer sets of two teachers with their logits by split; the second has no known file, as given logits have."""
    monkeypatch.setattr(shards, "SHARD", 4)
    rng, logits, results = np.random.default_rng(2), {}, {}
    for name in ("one", "two"):
        logits[name] = {
            part: rng.normal(0, 3, (len(split.samples_of(part)), 3 if part == "train" else 1, 2)).astype(np.float16)
            for part in ("train", "val", "test")
        }
        for part, array in logits[name].items():
            write_shards(
                tmp_path / name, part, len(array), lambda rows, array=array: array[rows.start : rows.stop], "", ""
            )
        results[tmp_path / name] = {"teacher": {"name": f"{name}.keras"}, "val": {"n": 4, "top1": 0.75, "logloss": 1.0}}
    results[tmp_path / "one"]["teacher"] |= {"size_bytes": 10, "parameters": 3}
    monkeypatch.setattr(module, "read_artifact", lambda folder: Artifact(folder, {"results": results[folder]}))
    return logits, results


def test_what_is_stored_is_one_vector_per_view(members, split, tmp_path):
    logits, results = members
    record = combine(tmp_path / "both", list(results), split, Mixture("geometric", [1.0, 2.0], [0, 1]))
    stored = Transfer(tmp_path / "both")
    for part in ("train", "val", "test"):
        first, second = (logits[name][part].astype(np.float64) for name in ("one", "two"))
        expected = (first + second / 2) / 2
        found = stored.logits(part)
        assert found.dtype == np.float16 and found.shape == expected.shape
        assert np.stack([found[i] for i in range(len(found))]) == pytest.approx(expected.astype(np.float16))
    labels = np.array([sample.label for sample in split.samples_of("val")])
    val = (logits["one"]["val"][:, 0].astype(float) + logits["two"]["val"][:, 0].astype(float) / 2).argmax(axis=1)
    assert record.val.top1 == (val == labels).mean() and record.val.n == 4
    assert record.samples == {"train": 9, "val": 4, "test": 2} and record.views["train"] == 27
    assert record.members == [Member(f"{name}.keras", Validated(4, 0.75, 1.0)) for name in ("one", "two")]
    assert (record.mean, record.temperatures) == ("geometric", [1.0, 2.0])
    assert record.teacher == TeacherFile("one.keras and two.keras")
    json.dumps(msgspec.to_builtins(record))


def test_views_of_another_number_are_refused(members, split, tmp_path):
    _, results = members
    for part in (tmp_path / "two").glob("train-*.npy"):
        np.save(part, np.load(part)[:, :2])
    with pytest.raises(TeacherError) as caught:
        combine(tmp_path / "both", list(results), split, Mixture("arithmetic", [1, 1], [0, 1]))
    assert str(caught.value) == (
        "the logits of two.keras: must be [9, 3, 2], one vector per image and view, as of one.keras, got [9, 2, 2]. "
        "Label the images again with it."
    )


def test_what_float16_cannot_hold_is_refused_with_the_image(members, split, tmp_path):
    _, results = members
    path = tmp_path / "one" / "val-00000.npy"
    array = np.load(path)
    array[2] = 60_000
    np.save(path, array)
    with pytest.raises(
        TeacherError, match=r"one.keras and two.keras, .*: must output .* float16's range .* Raise ensemble.temp"
    ):
        combine(tmp_path / "both", list(results), split, Mixture("geometric", [0.01, 1], [0, 1]))


def test_in_a_record_that_names_no_kept_teachers_all_of_them_count():
    both = [Member("a"), Member("b")]
    assert TransferResults(members=both).counted == [0, 1] and TransferResults(members=both, kept=[1]).counted == [1]
