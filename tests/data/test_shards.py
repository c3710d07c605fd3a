"""Shards: what is written is read, a killed call goes on, and what is damaged or does not fit is said."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kd2mobile.data import shards as shards_module
from kd2mobile.data.shards import SHARD, open_shards, write_shards
from kd2mobile.errors import ArtifactError

COUNT = 2 * SHARD + 7
WHOLE = np.random.default_rng(0).normal(size=(COUNT, 3, 5)).astype(np.float16)


def write(folder, make=lambda rows: WHOLE[rows.start : rows.stop]):
    return write_shards(folder, "train", COUNT, make, "logits", "views", 3)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path)
    return tmp_path


def refusal(folder):
    with pytest.raises(ArtifactError) as error:
        open_shards(folder, "train")
    message = str(error.value)
    assert f"Remove the folder {folder}; the next run builds it again." in message
    return message


def test_written_shards_are_read_back(folder):
    assert sorted(p.name for p in folder.iterdir()) == [f"train-0000{i}.npy" for i in range(3)]
    found = open_shards(folder, "train")
    assert (len(found), found.shape, found.dtype) == (COUNT, WHOLE.shape, np.float16)
    for i in (0, SHARD - 1, SHARD, COUNT - 1, -1, np.int64(5)):
        np.testing.assert_array_equal(found[i], WHOLE[i])
        np.testing.assert_array_equal(found[i, 2], WHOLE[i, 2])
    assert found[SHARD, 1, 4] == WHOLE[SHARD, 1, 4]
    for outside in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            found[outside]


def test_take(folder):
    found = open_shards(folder, "train")
    rng = np.random.default_rng(1)
    i, k = rng.integers(0, COUNT, 200), rng.integers(0, 3, 200)
    taken = found.take(i, k)
    np.testing.assert_array_equal(taken, WHOLE[i, k])
    assert taken.flags.writeable and type(taken) is np.ndarray
    assert found.take(np.array([], int), np.array([], int)).shape == (0, 5)
    for outside in (COUNT, -1):
        with pytest.raises(IndexError):
            found.take(np.array([0, outside]), np.array([0, 0]))


def test_the_files_are_read_only(folder):
    with pytest.raises(ValueError, match="read-only"):
        open_shards(folder, "train")[0][0, 0] = 1


def test_few_files_are_open_at_once(folder, monkeypatch):
    monkeypatch.setattr(shards_module, "MAPPED_AT_ONCE", 1)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    found = open_shards(folder, "train")
    i = np.arange(COUNT)[::-1]
    np.testing.assert_array_equal(found.take(i, i % 3), WHOLE[i, i % 3])
    assert before is None or len(os.listdir("/proc/self/fd")) <= before + 1


def test_sets_do_not_mix(folder):
    write_shards(folder, "val", 4, lambda rows: np.zeros((4, 1)), "x", "views")
    write_shards(folder, "train-extra", 4, lambda rows: np.zeros((4, 1)), "x", "views")
    assert len(open_shards(folder, "train")) == COUNT and len(open_shards(folder, "val")) == 4


def test_a_killed_call_resumes(tmp_path):
    requested = []

    def dies(rows):
        requested.append(rows.start)
        if rows.start == SHARD and requested.count(SHARD) == 1:
            raise KeyboardInterrupt
        return WHOLE[rows.start : rows.stop]

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, dies)
    assert [p.name for p in tmp_path.iterdir()] == ["train-00000.npy"]
    write(tmp_path, dies)
    assert requested == [0, SHARD, SHARD, 2 * SHARD]
    np.testing.assert_array_equal(
        open_shards(tmp_path, "train").take(np.arange(COUNT), np.zeros(COUNT, int)), WHOLE[:, 0]
    )
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_shard_is_built_again_and_reported(folder, damage, capsys):
    path = folder / "train-00001.npy"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    made = []
    write(folder, lambda rows: made.append(rows.start) or WHOLE[rows.start : rows.stop])
    assert made == [SHARD]
    output = capsys.readouterr().err
    assert f"{path}: damaged (" in output and output.rstrip().endswith("it will be built again")
    np.testing.assert_array_equal(open_shards(folder, "train")[SHARD], WHOLE[SHARD])


def test_a_shard_of_another_length_is_built_again(folder, capsys):
    np.save(folder / "train-00002.npy", WHOLE[:3])
    write(folder)
    assert "damaged (shape [3, 3, 5], not 7 samples); it will be built again" in capsys.readouterr().err
    assert len(open_shards(folder, "train")) == COUNT


def test_make_must_return_the_requested_samples(tmp_path):
    with pytest.raises(ValueError, match="needs 512 samples, make gave 2"):
        write(tmp_path, lambda rows: WHOLE[:2])


def test_no_shard_at_all(tmp_path):
    assert "train-00000.npy: must be there, got no such file." in refusal(tmp_path)


def test_a_missing_shard_in_the_middle(folder):
    (folder / "train-00001.npy").unlink()
    assert "train-00001.npy: must be there, got no such file." in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 a zip"])
def test_a_shard_that_cannot_be_read(folder, content):
    (folder / "train-00001.npy").write_bytes(content)
    assert "train-00001.npy: must be a complete .npy file, got " in refusal(folder)


def test_a_truncated_shard(folder):
    path = folder / "train-00002.npy"
    path.write_bytes(path.read_bytes()[:-10])
    assert "train-00002.npy: must be a complete .npy file, got ValueError: mmap length" in refusal(folder)


def test_shards_that_do_not_fit_each_other(folder):
    np.save(folder / "train-00001.npy", WHOLE[:SHARD, :, :4])
    assert "train-00001.npy: must be float16 [512, 3, 5], got float16 [512, 3, 4]." in refusal(folder)
    np.save(folder / "train-00001.npy", WHOLE[:SHARD].astype(np.float32))
    assert "must be float16 [512, 3, 5], got float32 [512, 3, 5]." in refusal(folder)
    np.save(folder / "train-00001.npy", WHOLE[:7])
    assert "must be float16 [512, 3, 5], got float16 [7, 3, 5]." in refusal(folder)


def test_a_full_disk_says_how_much_is_needed(tmp_path, monkeypatch):
    def full(path, array):
        path.write_bytes(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    write_shards(tmp_path, "val", 4, lambda rows: WHOLE[:4], "x", "views")
    monkeypatch.setattr(shards_module, "write_npy", full)
    with pytest.raises(ArtifactError, match="must have room to write, got no space left on device"):
        write(tmp_path)  # a quota: there is room
    monkeypatch.setattr(shards_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(ArtifactError) as error:
        write(tmp_path)
    message = str(error.value)
    needed = f"{COUNT * 3 * 5 * 2 / 1000:,.0f} KB"  # float16
    assert f"train-00000.npy: must have {needed} free on its disk, got 100 bytes" in message
    assert "Free that much" in message and "it resumes here" in message
    assert [p.name for p in tmp_path.iterdir()] == ["val-00000.npy"]


def test_another_disk_error_is_not_reported_as_a_full_disk(tmp_path, monkeypatch):
    def broken(path, array):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shards_module, "write_npy", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())
