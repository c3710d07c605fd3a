"""What a benchmark leaves in a run, with two processes at one run: nothing is lost, nothing belongs to another."""

import mmap
import multiprocessing

import msgspec
import numpy as np
import pytest

from kd2mobile.api.measurement import Kept, keep, read_kept
from kd2mobile.errors import RecordError
from kd2mobile.files import copy_file
from kd2mobile.measure.record import BenchmarkRecord, read_records
from kd2mobile.pages.view import Paired

TIMES = 15
SHAPE = (4, 3)
NAMES = ["teacher", "student-int8"]
WAIT_S = 120


def kept_by(writer, turn=0):
    """What one writer keeps: records, tests and answers that carry its number."""
    record = BenchmarkRecord(
        role="student",
        model=f"{writer}",
        n=turn,
        top1=0.5,
        top5=1.0,
        logloss=1.0,
        ece=0.0,
        sha256="ab",
        precision="int8",
        compression="none",
    )
    pair = Paired(label=f"{writer}", a="a", b="b", difference=0.0, only_a=turn, only_b=0, p_value=1.0, n=1)
    answers = {name: np.full(SHAPE, (writer * TIMES + turn) / 100, np.float32) for name in NAMES}
    return Kept([record], [pair], answers)


def write(folder, writer, barrier):
    for turn in range(TIMES):
        barrier.wait(WAIT_S)
        one = kept_by(writer, turn)
        keep(folder, f"host{writer}", one.records, one)


def read(folder, barrier, found):
    for _ in range(TIMES):
        barrier.wait(WAIT_S)
        kept = read_kept(folder, NAMES, SHAPE, {"ab"})
        if kept:
            (record,), (pair,) = kept.records, kept.comparisons
            number = (int(record.model) * TIMES + record.n) / 100
            whole = pair.label == record.model and pair.only_a == record.n
            found.put(whole and all(np.allclose(one, number) for one in kept.answers.values()))
    found.put("done")


def test_two_benchmarks_beside_a_report_lose_nothing(tmp_path):
    """All three begin each turn together. What the reader finds is of one writer, always."""
    spawn = multiprocessing.get_context("spawn")
    barrier, found = spawn.Barrier(3), spawn.Queue()
    others = [spawn.Process(target=write, args=(tmp_path, writer, barrier)) for writer in (0, 1)]
    others.append(spawn.Process(target=read, args=(tmp_path, barrier, found)))
    for one in others:
        one.start()
    answers = list(iter(lambda: found.get(timeout=WAIT_S), "done"))
    for one in others:
        one.join(WAIT_S)
    assert [one.exitcode for one in others] == [0, 0, 0] and all(answers)
    written = [read_records(file)[0] for file in (tmp_path / "measurements").iterdir()]
    assert sorted((r.model, r.n) for r in written) == [(f"{w}", turn) for w in (0, 1) for turn in range(TIMES)]
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {"measurements", "benchmark.json", "comparisons.json", "predictions.npz"}
    assert not list(tmp_path.rglob("*.tmp*")), "temporaries have names of their own, and go"


@pytest.fixture
def run(tmp_path):
    one = kept_by(1)
    keep(tmp_path, "host", one.records, one)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("benchmark.json", b"[{", "benchmark.json: must be JSON in UTF-8, with finite numbers, got one that ends too"),
        ("benchmark.json", b"[3]", "benchmark.json: [0]: must be an object, got 3"),
        ("comparisons.json", b"{}", "comparisons.json: must be a list, got an object"),
        ("comparisons.json", b'[{"label": 1}]', "comparisons.json: [0].label: must be text, got 1"),
        ("comparisons.json", b"[" * 5000, "comparisons.json: must be nested at most 64 levels deep, got more"),
        ("predictions.npz", b"", "predictions.npz: must be a complete .npz file, got a damaged one"),
        ("predictions.npz", b"PK\x05\x06" + bytes(18), "predictions.npz: teacher: must be there"),
    ],
)
def test_what_a_run_holds_is_read_by_its_types(run, name, content, said):
    (run / name).write_bytes(content)
    with pytest.raises(RecordError) as refused:
        read_kept(run, NAMES, SHAPE, {"ab"})
    assert said in str(refused.value) and "Remove it and run `kd2mobile benchmark`." in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"precision": "fp99"}, "student-fp99"),
        ({"precision": "../.."}, "student-../.."),
        ({"precision": "fp32"}, "student-fp32"),
        ({"precision": None}, "student-None"),
        ({"compression": "../x"}, "student-../x-int8"),
        ({"compression": None}, "student-None-int8"),
        ({"role": "external"}, "external-int8"),
        ({"role": "baseline"}, "baseline-int8"),
    ],
)
def test_a_record_of_a_file_that_the_run_does_not_have(run, changed, got):
    """Of an own file's checksum: its answers are looked for by what the record says it is."""
    record = msgspec.structs.replace(kept_by(1).records[0], **changed)
    (run / "benchmark.json").write_bytes(msgspec.json.encode([record]))
    with pytest.raises(RecordError) as refused:
        read_kept(run, NAMES, SHAPE, {"ab"})
    said = "benchmark.json: must have a measurement of each file of the run, by role, compression and precision, got "
    assert str(refused.value) == f"{run}/{said}{got}. Remove it and run `kd2mobile benchmark`."


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (np.zeros((2, 3), np.float32), "teacher: must hold the answers to 4 images of 3 classes, got float32 (2, 3)"),
        (np.zeros(SHAPE, int), "teacher: must hold the answers to 4 images of 3 classes, got int64 (4, 3)"),
        (np.full(SHAPE, np.nan), "teacher: must hold numbers from 0 to 1"),
        (np.full(SHAPE, 1e300), "teacher: must hold numbers from 0 to 1"),
        (np.array(["a"], object), "teacher: must hold the answers to 4 images"),
    ],
)
def test_answers_of_another_kind(run, answers, said):
    np.savez(run / "predictions.npz", teacher=answers, **{"student-int8": np.zeros(SHAPE)})
    with pytest.raises(RecordError) as refused:
        read_kept(run, NAMES, SHAPE, {"ab"})
    assert f"predictions.npz: {said}" in str(refused.value)


def test_answers_that_unpack_to_gigabytes_are_not_unpacked(run):
    """A header that promises 4 x 3 numbers of 8 bytes is all that is read; another one is refused by itself."""
    np.savez_compressed(run / "predictions.npz", teacher=np.zeros((2000, 10_000)), other=np.zeros(SHAPE))
    with pytest.raises(RecordError, match="teacher: must hold the answers to 4 images of 3 classes, got float64"):
        read_kept(run, NAMES, SHAPE, {"ab"})


def test_a_measurement_of_other_files_is_none(run, capsys):
    assert read_kept(run, NAMES, SHAPE, {"cd"}) is None and "benchmark stale" in capsys.readouterr().err


def test_whoever_has_an_exported_file_mapped_keeps_it(tmp_path):
    """A file that shrank in place ended them with SIGBUS; one of the same bytes is not touched."""
    file, new = tmp_path / "int8.tflite", tmp_path / "new"
    file.write_bytes(b"a" * 3 * mmap.PAGESIZE)
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        new.write_bytes(b"b")
        assert copy_file(new, file) and file.read_bytes() == b"b"
        assert mapped[:] == b"a" * 3 * mmap.PAGESIZE
    before = file.stat()
    assert not copy_file(new, file) and (file.stat().st_ino, file.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
