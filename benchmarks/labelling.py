"""The teacher's pass: the network alone, decoding alone, and both, each setting side by side in one run.

    [KERAS_BACKEND=jax] python benchmarks/labelling.py --teacher xception --px 299 --batch-size 64 --batch-size 256

Images (JPEG, 640 x 480) are drawn here and the network's weights are random: a rate depends on neither. The settings
of a part are timed in turn, round by round, so that a slower moment of the host meets all of them; the median of the
rounds is the number, the least and the most stand beside it, and the load of the host before. What is compiled or
started first is not in it. Writes one record to benchmarks/results/.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from records import write_record

from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.data.decode_workers import renderer
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.split import Sample, Split
from kd2mobile.data.views import draw_views, read_views
from kd2mobile.measure.host.machine import device_words
from kd2mobile.recipe import schema

DTYPES = ("float32", "mixed_bfloat16")
WIDTH, HEIGHT, A_JOB = 640, 480, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", default="mobilenetv2")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--batch-size", type=int, action="append", help="may be given several times [16, 64]")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    load_keras()
    import keras

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        split = draw_images(folder / "images", options.images)
        draw_views(folder / "views", split, schema.Views(count=options.views), "stretch")
        parts = {
            "network": network(folder, options),
            "decoding": decoding(folder, split, options),
            "pass": whole_pass(folder, split, options),
        }
    write_record(
        "labelling",
        f"KERAS_BACKEND={keras.config.backend()} python {shlex.join(sys.argv)}",
        device=device_words(),
        devices=keras.distribution.list_devices(),
        backend=keras.config.backend(),
        load_average_before=load,
        **{name: getattr(options, name) for name in ("teacher", "px", "images", "views", "rounds")},
        **parts,
    )


def draw_images(root: Path, count: int) -> Split:
    """That many JPEG files of smooth noise in two classes, a quarter of them for validation and one for the test."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8))
        noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)
        name = "test" if i == 0 else "val" if i % 4 == 0 else "train"
        samples.append(Sample(path.relative_to(root).as_posix(), i % 2, name, f"{i:064x}", WIDTH, HEIGHT))
    return Split(["a", "b"], samples)


def network(folder: Path, options: argparse.Namespace) -> list[dict]:
    """Views/s of the network alone by dtype and batch size: from pixels in memory to logits in memory."""
    import keras

    from kd2mobile.teachers.body import build_body
    from kd2mobile.teachers.teacher import open_teacher
    from kd2mobile.teachers.zoo import TEACHERS
    from kd2mobile.transfer.dtype import set_dtype

    architecture = TEACHERS[options.teacher]
    body = build_body(architecture, options.px, "none")
    (folder / "teacher").mkdir()
    keras.Model(body.inputs, keras.layers.Dense(2)(body.outputs[0])).save(folder / "teacher" / "teacher.keras")
    described = {"name": options.teacher, "input_px": options.px, "preprocess": architecture.preprocess}
    described |= {"classes": ["a", "b"], "val": {"n": 2, "top1": 0.5, "logloss": 1.0}}
    (folder / "teacher" / "teacher.json").write_text(json.dumps(described))
    settings: dict[tuple, Callable[[], int]] = {}
    for dtype in DTYPES:
        for batch_size in options.batch_size or [16, 64]:
            teacher, _ = open_teacher(folder / "teacher", batch_size)
            if dtype != "float32":
                set_dtype(teacher.model, dtype)
            noise = np.random.default_rng(0).integers(0, 256, (batch_size, options.px, options.px, 3), np.uint8)
            settings[dtype, batch_size] = lambda teacher=teacher, noise=noise: len(teacher.outputs(noise))
    rates = side_by_side(settings, options.rounds)
    return [{"dtype": dtype, "batch_size": size, "views_per_s": rates[dtype, size]} for dtype, size in settings]


def decoding(folder: Path, split: Split, options: argparse.Namespace) -> list[dict]:
    """Views/s of decoding and rendering alone, in threads of one process and in worker processes."""
    paths = [folder / "images" / sample.path for sample in split.samples_of("train")]
    views = read_views(folder / "views", "train")
    jobs = [slice(first, first + A_JOB) for first in range(0, len(paths), A_JOB)]
    with renderer(0, folder) as by_threads, renderer(options.workers, folder) as by_workers:

        def rendered(render: Callable) -> int:
            rendered = in_threads(lambda job: render(paths[job], views[job], options.px), jobs, options.workers)
            return sum(len(part) * options.views for part in rendered)

        ways = {"threads": by_threads, "workers": by_workers}
        rates = side_by_side({way: lambda r=render: rendered(r) for way, render in ways.items()}, options.rounds)
    return [{"by": way, "count": options.workers, "views_per_s": rate} for way, rate in rates.items()]


def whole_pass(folder: Path, split: Split, options: argparse.Namespace) -> list[dict]:
    """Views/s of `transfer.label.label` in float32, decoding by threads and by workers, at the first batch size."""
    from kd2mobile.transfer.label import label

    batch_size = (options.batch_size or [16])[0]
    made = []
    for workers in (0, options.workers):
        output = folder / f"set {workers}"
        how = (folder / "teacher", folder / "images", split, folder / "views", batch_size)
        results = label(output, *how, workers=workers)
        made.append({"workers": workers, "batch_size": batch_size, "views_per_s": results.views_per_s})
    return made


def side_by_side(settings: dict, rounds: int) -> dict:
    """Median, least and most views/s of each setting. A setting: does some views and returns how many."""
    rates: dict = {name: [] for name in settings}
    for work in settings.values():
        work()
    for _ in range(rounds):
        for name, work in settings.items():
            start = time.perf_counter()
            rates[name].append(work() / (time.perf_counter() - start))
    return {
        name: {"median": round(statistics.median(r), 1), "least": round(min(r), 1), "most": round(max(r), 1)}
        for name, r in rates.items()
    }


if __name__ == "__main__":
    main()
