"""A checkpoint is whole or it is not taken."""

import numpy as np
import pytest

from kd2mobile.backend.checkpoint import (
    Checkpoint,
    checkpoint_path,
    read_checkpoint,
    remove_checkpoints,
    resume,
    write_checkpoint,
)

SHAPES = [(300, 4), (), (2,)]


def checkpoint(epochs: int) -> Checkpoint:
    rng = np.random.default_rng(epochs)
    state = [rng.normal(size=SHAPES[0]).astype(np.float32), np.int64(epochs), np.array([epochs, 7], np.uint32)]
    return Checkpoint(state, state[:1], [{"epoch": n, "loss": 1 / n} for n in range(1, epochs + 1)])


def same(one: Checkpoint | None, other: Checkpoint) -> bool:
    pairs = zip([*one.state, *one.best], [*other.state, *other.best], strict=True)
    return one.history == other.history and all((a == b).all() and a.dtype == b.dtype for a, b in pairs)


def test_it_comes_back_as_it_went_and_the_newest_two_are_kept(tmp_path):
    for epochs in (1, 2, 3):
        write_checkpoint(tmp_path, checkpoint(epochs))
    assert same(read_checkpoint(tmp_path, SHAPES), checkpoint(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-00002.npz", "checkpoint-00003.npz"]
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


class Variable:
    """What every Keras's variables have."""

    def __init__(self, shape):
        self.shape, self.value = shape, np.zeros(shape)

    def assign(self, value):
        self.value = value


def test_an_empty_folder_has_none(tmp_path):
    assert read_checkpoint(tmp_path, SHAPES) is None
    variables = [Variable(shape) for shape in SHAPES]
    assert resume(tmp_path, variables) == ([], []) and not any(variable.value.any() for variable in variables)


def test_the_variables_get_the_newest_state(tmp_path):
    write_checkpoint(tmp_path, checkpoint(4))
    variables = [Variable(shape) for shape in SHAPES]
    history, best = resume(tmp_path, variables)
    restored = Checkpoint([variable.value for variable in variables], best, history)
    assert same(restored, checkpoint(4))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(tmp_path, capsys, damage):
    for epochs in (1, 2):
        write_checkpoint(tmp_path, checkpoint(epochs))
    damage(checkpoint_path(tmp_path, 2))
    assert same(read_checkpoint(tmp_path, SHAPES), checkpoint(1))
    stderr = capsys.readouterr().err
    assert "checkpoint-00002.npz: damaged checkpoint (" in stderr and "trying checkpoint-00001.npz" in stderr
    damage(checkpoint_path(tmp_path, 1))
    assert read_checkpoint(tmp_path, SHAPES) is None
    assert "training starts again from the beginning" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_of_another_model_is_not_taken(tmp_path, capsys):
    write_checkpoint(tmp_path, checkpoint(1))
    assert read_checkpoint(tmp_path, [(4,)]) is None
    assert "its variables are not those of this training" in capsys.readouterr().err


def test_a_write_that_fails_half_way_leaves_the_former_one(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, checkpoint(1))

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path, checkpoint(2))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-00001.npz"]
    assert same(read_checkpoint(tmp_path, SHAPES), checkpoint(1))
