"""Damaged files: whatever is in them, reading ends well or with one line.

Each mutation follows from (kind, number) alone. They run in forked children with bounds of memory and time; what ends
one is recorded, and the next child goes on after it.
"""

import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from kd2mobile.errors import Kd2MobileError

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 3 << 30
"""Of address space, beside what the process has at its start."""
SECONDS = 120
BATCH = 500
INTERESTING = (b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\0" * 8, b"\xff" * 8)
WORDS = (
    *(b"NaN", b"Infinity", b"-1", b"1e400", b"9" * 400, b"18446744073709551616", b"null", b"true", b"{}", b"[]", b'""'),
    *(b'"x"', b"[" * 3000, b'{"a":' * 500, b"\0", b"\xff", b"\xed\xb2\x80", b"\\u0000", b"\\ud800", b"..", b"/etc/x"),
    *(b",", b'"', b"\n"),
)
OPEN = ExitStack()
"""What stays open until all is tried."""
Try = Callable[[bytes, Path], None]
"""Reads mutated bytes, with a folder of its own; raises what reading raises."""


def mutated(data: bytes, rng: random.Random, text: bool) -> bytes:
    """The bytes with one to four faults: bits, bytes, cuts, insertions, repetitions, odd numbers, odd words."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(out) + 1), min(rng.choice((1, 4, 16, 64, 1024)), len(out))
        match rng.randrange(8 if text else 7):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at % len(out)] = rng.randrange(256)
            case 2:
                del out[at:]
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = out[rng.randrange(len(out) + 1) :][:length]
            case 5:
                word = rng.choice(INTERESTING)
                out[at : at + len(word)] = word
            case 6:
                out[at:at] = rng.randbytes(length)
            case _:
                word = rng.choice(WORDS)
                end = at + rng.choice((0, 1, len(word)))
                out[at:end] = word
    return bytes(out)


def torture(kind: str, numbers: range, place: Path, samples: list[bytes], text: bool, read: Try) -> list[dict]:
    """The failures among these mutations: {kind, number, fault}."""
    failures, at = [], numbers.start
    while at < numbers.stop:
        until = min(numbers.stop, at + BATCH)
        reached, failed, status = _in_child(kind, range(at, until), place, samples, text, read)
        failures += failed
        if status:
            why = f"ended with {status}" if status != -signal.SIGALRM else f"took longer than {SECONDS} s"
            failures.append({"kind": kind, "number": reached, "fault": why})
        at = until if not status else reached + 1
    return failures


def mutation(kind: str, number: int, samples: list[bytes], text: bool) -> bytes:
    """The bytes of that mutation; the first numbers are the samples themselves, which must be read."""
    if number < len(samples):
        return samples[number]
    rng = random.Random(f"{kind} {number}")
    return mutated(rng.choice(samples), rng, text)


def _in_child(kind, numbers, place, samples, text, read) -> tuple[int, list[dict], int]:
    """The number that was reached, what failed before, and the child's status: 0 where all were tried."""
    receive, send = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _be(kind, numbers, place, samples, text, read, send)
    os.close(send)
    with os.fdopen(receive) as lines:
        told = [json.loads(line) for line in lines if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    reached = max((one["number"] for one in told), default=numbers.start)
    return reached, [one for one in told if "fault" in one], os.waitstatus_to_exitcode(status)


def _be(kind, numbers, place, samples, text, read, send) -> None:
    status = 70
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in numbers:
            told = {"kind": kind, "number": number}
            os.write(send, (json.dumps(told) + "\n").encode())
            folder = place / f"{kind}-{os.getpid()}"
            folder.mkdir()
            signal.alarm(SECONDS)
            try:
                read(mutation(kind, number, samples, text), folder)
            except Kd2MobileError as refusal:
                if number < len(samples) or "\n" in str(refusal) or len(str(refusal)) > 5000:
                    os.write(
                        send,
                        (json.dumps(told | {"fault": f"refused, or no line: {str(refusal)[:300]}"}) + "\n").encode(),
                    )
            except MemoryError:
                pass  # one line at the top, see kd2mobile.files.system_errors
            except BaseException:
                last = "".join(traceback.format_exc().splitlines(keepends=True)[-6:])
                os.write(send, (json.dumps(told | {"fault": last[-1500:]}) + "\n").encode())
            signal.alarm(0)
            shutil.rmtree(folder)
        status = 0
    finally:
        os._exit(status)


# --- the kinds


def _image(kind: str):
    def make(place: Path):
        from PIL import Image

        from kd2mobile.pixels import load

        rng, samples = np.random.default_rng(1), []
        for mode, shape in (("RGB", (20, 30, 3)), ("L", (17, 9)), ("RGB", (64, 64, 3))):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, shape, np.uint8), mode=None).convert(mode).save(stream, kind)
            samples.append(stream.getvalue())

        def read(data: bytes, folder: Path) -> None:
            (folder / "x").write_bytes(data)
            load(folder / "x", 8, "stretch")

        return samples, False, read

    return make


def _tflite(place: Path):
    from kd2mobile.inspection.inspect import inspect_file

    samples = [path.read_bytes() for path in sorted((ROOT / "models").glob("*/model.tflite"))[:4]]

    def read(data: bytes, folder: Path) -> None:
        (folder / "x.tflite").write_bytes(data)
        inspect_file(folder / "x.tflite")

    return samples, False, read


def _tflite_run(place: Path):
    """LiteRT opens it, and answers an image: a child process each."""
    from PIL import Image

    import kd2mobile

    samples, _, _ = _tflite(place)
    Image.new("RGB", (32, 32), "teal").save(place / "teal.png")

    def read(data: bytes, folder: Path) -> None:
        (folder / "x.tflite").write_bytes(data)
        kd2mobile.predict(folder / "x.tflite", [place / "teal.png"], mean=127.5, std=127.5)

    return samples, False, read


def _npz(place: Path):
    from kd2mobile.data.split import Sample, Split
    from kd2mobile.teachers.logits import read_logits

    ids = [f"{name}/{i}.png" for name in "ab" for i in range(4)]
    names = ("train", "train", "val", "test")
    split = Split(["a", "b"], [Sample(p, i // 4, names[i % 4], f"{i:064x}", 4, 4) for i, p in enumerate(ids)])
    samples = []
    for save in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, sample_ids=np.array(ids), class_names=np.array(["a", "b"]), logits=np.zeros((8, 2), np.float32))
        samples.append(stream.getvalue())

    def read(data: bytes, folder: Path) -> None:
        (folder / "x.npz").write_bytes(data)
        read_logits(folder / "x.npz", split)

    return samples, False, read


def _csv(place: Path):
    from PIL import Image

    from kd2mobile.data.sources.table import scan_table

    for number in range(4):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(place / f"{number}.png")
    rows = "".join(f"{place}/{number}.png{{0}}{'ab'[number % 2]}\n" for number in range(4))
    samples = [("path{0}label\n" + rows).replace("{0}", comma).encode("utf-8-sig") for comma in ",;\t"]

    def read(data: bytes, folder: Path) -> None:
        (folder / "x.csv").write_bytes(data)
        scan_table(folder / "x.csv")

    return samples, True, read


def _idx(place: Path):
    from kd2mobile.data.sources.idx import write_idx_images

    rng = np.random.default_rng(2)
    images = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (6, 5, 5)) + rng.bytes(150)
    labels = b"\0\0\x08\x01" + (6).to_bytes(4, "big") + bytes([0, 1] * 3)

    def read(data: bytes, folder: Path) -> None:
        (folder / "in").mkdir()
        first = data[:4] == labels[:4]
        (folder / "in" / "train-images-idx3-ubyte").write_bytes(images if first else data)
        (folder / "in" / "train-labels-idx1-ubyte").write_bytes(data if first else labels)
        write_idx_images(folder / "in", folder / "out")

    return [images, labels], False, read


def _toml(place: Path):
    from kd2mobile.recipe.compose import compose
    from kd2mobile.recipe.toml import write_recipe

    write_recipe(compose(settings={"data.source": "photos"}), place / "whole.toml")
    demo = (ROOT / "kd2mobile" / "recipe" / "built_in" / "digits.toml").read_bytes()

    def read(data: bytes, folder: Path) -> None:
        (folder / "x.toml").write_bytes(data)
        compose(folder / "x.toml")

    return [(place / "whole.toml").read_bytes(), demo], True, read


def _json(place: Path):
    """Every JSON that others may send: records, a run, an artifact's record, a published model's."""
    from kd2mobile.api.published import read_published
    from kd2mobile.measure.record import read_records
    from kd2mobile.recipe.compose import compose
    from kd2mobile.store.artifact import fingerprint_of, read_artifact
    from kd2mobile.store.run import open_run, start_run

    models = sorted((ROOT / "models").glob("*/record.json"))[:3]
    start_run(compose(settings={"data.source": "photos"}), place / "run", place / "store")
    artifact = {"stage": "views", "version": 1, "config": {"count": 1}, "inputs": {}}
    record = {"stage": "views", "fingerprint": fingerprint_of(artifact), "spec": artifact, "results": {}, "files": {}}
    record |= {"seconds": 1.0, "finished": "2026-01-01T00:00:00Z", "made_with": {}}
    samples = [path.read_bytes() for path in models]
    samples += [(place / "run" / "run.json").read_bytes(), json.dumps(record).encode()]

    def read(data: bytes, folder: Path) -> None:
        fingerprint = record["fingerprint"]
        shutil.copytree(place / "run", folder / "run")
        (folder / "store" / "views" / fingerprint).mkdir(parents=True)
        for path in ("record.json", "run/run.json", f"store/views/{fingerprint}/record.json"):
            (folder / path).write_bytes(data)
        readers = (
            lambda: read_records(folder / "record.json"),
            lambda: read_published(folder),
            lambda: open_run(folder / "run"),
            lambda: read_artifact(folder / "store" / "views" / fingerprint),
        )
        for one in readers:
            try:
                one()
            except Kd2MobileError as refusal:
                if "\n" in str(refusal):
                    raise ValueError(f"no line: {refusal}") from refusal

    return samples, True, read


def _shards(place: Path):
    from kd2mobile.data.shards import open_shards, write_shards

    write_shards(place / "shards", "train", 6, lambda rows: np.ones((len(rows), 2, 3), np.float16), "x", "rows", 1)
    (whole,) = (place / "shards").glob("*.npy")

    def read(data: bytes, folder: Path) -> None:
        (folder / whole.name).write_bytes(data)
        shards = open_shards(folder, "train")
        shards.take(np.arange(min(len(shards), 4)), np.zeros(min(len(shards), 4), np.int64))

    return [whole.read_bytes()], False, read


def _posted(place: Path):
    """What a page posts: each body to each route of a session."""
    from PIL import Image

    from kd2mobile.measure.browser.server import Refusal
    from kd2mobile.measure.browser.session import Session
    from kd2mobile.measure.files import FileToMeasure, opened_files
    from kd2mobile.measure.protocol import Protocol

    Image.new("RGB", (32, 32), "teal").save(place / "teal.png")
    model = next(iter(sorted((ROOT / "models").glob("*/model.tflite"))))
    protocol = Protocol(threads=(1,), runs=3)
    opened = OPEN.enter_context(opened_files([FileToMeasure(path=model)], protocol))
    hello = {"user_agent": "x", "model": None, "cores": 2, "isolated": True, "clock_step_ms": 0.1, "webgpu": None,
             "features": ["relaxedSimd"]}  # fmt: skip
    timed = {
        "accelerator": "wasm",
        "threads": 1,
        "init_ms": 1.0,
        "first_run_ms": 2.0,
        "times_ms": [1.0, 2.0, 3.0],
        "steps": 5,
    }
    again = {"accelerator": "wasm", "threads": 1, "why": "hidden"}
    samples = [json.dumps(one).encode() for one in (hello, timed, again, {"line": "x", "file": 0})] + [bytes(40)]

    def read(data: bytes, folder: Path) -> None:
        session = Session(opened, [place / "teal.png"], protocol)
        routes = session.routes()
        routes["POST", "hello"].answer({}, json.dumps(hello).encode())
        for path in ("hello", "timed", "again", "outputs", "fault", "done", "beat", "bye"):
            try:
                routes["POST", path].answer({"visit": "1", "file": "0", "chunk": "0", "accelerator": "wasm"}, data)
            except Refusal as refusal:
                if refusal.status >= 500 and not isinstance(refusal.__cause__, Kd2MobileError):
                    raise

    return samples, True, read


def _save_teachers(place: Path) -> None:
    import keras

    pixels = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pixels))
    model = keras.Model(pixels, keras.layers.Dense(2)(x))
    for suffix in ("keras", "h5"):
        model.save(place / f"whole.{suffix}")


def _keras(place: Path):
    from kd2mobile.recipe.schema import Teacher
    from kd2mobile.teachers.file import read_teacher_file

    # in a process of its own: TensorFlow's threads, once they run, are not in the children that are forked after that
    saving = multiprocessing.get_context("fork").Process(target=_save_teachers, args=(place,))
    saving.start()
    saving.join()
    samples = [(place / f"whole.{suffix}").read_bytes() for suffix in ("keras", "h5")]

    def read(data: bytes, folder: Path) -> None:
        path = folder / ("x.keras" if data[:1] == b"P" else "x.h5")
        path.write_bytes(data)
        read_teacher_file(path, Teacher(name=str(path), preprocess="none"))

    return samples, False, read


KINDS = {
    "png": _image("png"),
    "jpeg": _image("jpeg"),
    "tflite": _tflite,
    "npz": _npz,
    "csv": _csv,
    "idx": _idx,
    "toml": _toml,
    "json": _json,
    "shards": _shards,
    "posted": _posted,
    "tflite_run": _tflite_run,
    "keras": _keras,
}
"""By name a function that takes a folder for files of its own, and returns whole samples, whether they are text, and
how they are read. The last two take most of the time: a process each, and Keras."""
