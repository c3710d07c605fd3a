"""Made-up runs, plainly so: no number here was measured."""

import math

import msgspec
import numpy as np
import pytest
from PIL import Image

from kd2mobile.measure.record import BenchmarkRecord
from kd2mobile.pages import findings
from kd2mobile.pages.recommending import with_recommendation
from kd2mobile.pages.view import Example, Paired, ReportData, ShownFile, ShownImage, Stage
from tests.made_results import tflite_results

CLASSES = ["accordion", "airplanes", "anchor", "ant", "barrel", "bass", "a class with quite a long name"]
FILES = (
    ("fp32", 1_180_000, 0.42, 0.0),
    ("fp16", 612_000, 0.43, 0.0),
    ("int8_dynamic", 391_000, 0.71, -0.003),
    ("int8", 352_000, 0.23, -0.004),
)
PRECISIONS = tuple(precision for precision, *_ in FILES)


def record(role="student", model="mobilenet025", precision="int8", top1=0.83, size_bytes=352_000, p50=0.23, **more):
    """A BenchmarkRecord; `size_bytes` and `p50` may be None, and so may any field in `more`."""
    measured = p50 is not None
    fields = {
        "role": role,
        "model": model,
        "precision": precision,
        "compression": "none",
        "device": "host: made up",
        "runtime": "LiteRT 0.0",
        "n": 1692,
        "images": None if top1 is None else "0a1b2c3d4e5f6071",
        "top1": top1,
        "top5": None if top1 is None else 0.5 + top1 / 2,
        "logloss": None if top1 is None else 3 * (1 - top1),
        "ece": 0.031,
        "teacher_agreement": None if role == "teacher" else 0.851,
        "val": None if top1 is None else {"top1": top1, "n": 870, "images": "9f8e7d6c5b4a3f2e"},
        "latency_ms": {"p50": p50, "p90": p50 * 1.1, "p99": p50 * 1.4, "mean": p50, "n": 300} if measured else None,
        "first_run_ms": p50,
        "init_ms": p50,
        "size_bytes": size_bytes,
        "peak_rss_mib": 22.0 if measured else None,
        "threads": 1,
        "sha256": "ab" * 32,
    }
    return msgspec.convert(fields | more, BenchmarkRecord)


def teacher(**more):
    return record("teacher", "mobilenetv2", "fp32", 0.907, None, None, runtime="keras 0.0", sha256=None, **more)


def all_records():
    students, baselines = (
        [record(role, precision=p, top1=top1 + d, size_bytes=s, p50=ms, sha256=f"{role}-{p}") for p, s, ms, d in FILES]
        for role, top1 in (("student", 0.831), ("baseline", 0.806))
    )
    return with_recommendation([*baselines, *students, teacher()])


def pair(**changes):
    fields = {
        "label": "mobilenet025, int8 files",
        "a": "with the teacher",
        "b": "on labels alone",
        "difference": 42 / 1692,
        "only_a": 109,
        "only_b": 67,
        "p_value": 0.0019,
        "n": 1692,
        "precision": "int8",
    }
    return Paired(**fields | changes)


def history(top, speed, epochs=30):
    left = [math.exp(-epoch / speed) for epoch in range(1, epochs + 1)]
    return [
        {"epoch": e, "loss": 3 * x + 0.4, "val_top1": top * (1 - x), "val_logloss": 0.7 + 3 * x + 0.004 * e}
        for e, x in enumerate(left, 1)
    ]


def image(seed, classes=CLASSES, **changes):
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, 3 * 150 * 200).reshape(150, 200, 3) * rng.uniform(0.3, 1, 3)
    said, guessed = (rng.dirichlet(np.full(len(classes), 0.3)) for _ in range(2))
    truth = classes[int(said.argmax()) if seed % 3 else seed % len(classes)]
    fields = {
        "path": f"{truth}/image_{seed:04}.jpg",
        "image": Image.fromarray(ramp.astype(np.uint8)),
        "true_class": truth,
        "teacher": list(zip(classes, said.tolist(), strict=True)),
        "student": list(zip(classes, guessed.tolist(), strict=True)),
    }
    return ShownImage(**fields | changes)


def answers(classes, n=300, seed=0):
    """Labels [n], and made-up probabilities [n, classes] of a teacher, a baseline and two files of a student."""
    rng = np.random.default_rng(seed)
    width = len(classes)
    labels = rng.integers(0, width, n)
    wrong = (labels + rng.integers(1, min(width, 4), n)) % width
    taught, alone, float_file = (np.where(rng.random(n) < skill, labels, wrong) for skill in (0.95, 0.7, 0.8))
    int8_file = np.where(rng.random(n) < 0.05, wrong, float_file)

    def probabilities(said):
        sure = rng.uniform(0.3, 0.99, n)[:, None]
        return np.where(np.eye(width)[said] == 1, sure, (1 - sure) / max(width - 1, 1) / 2)

    return labels, *map(probabilities, (taught, alone, float_file, int8_file))


def exemplify_from(labels, classes, image=None):
    """A function as `findings` want it: made-up examples, drawn on the spot or all with that image."""

    def exemplify(i, said):
        drawn = image or Image.new("RGB", (20, 15), (i % 256, 99, 30))
        return Example(
            path=f"{classes[labels[i]]}/{i:04}.jpg", image=drawn, true_class=classes[labels[i]], answers=said
        )

    return exemplify


def looks(classes, image=None, **size):
    """The parts of a ReportData that look at each image, found in made-up answers."""
    labels, teacher, baseline, fp32, int8 = answers(classes, **size)
    exemplify = exemplify_from(labels, classes, image)
    evaluated = {"teacher": teacher, "student": int8, "baseline": baseline}
    return {
        "confusion": findings.confusion("mobilenet025 int8", labels, int8, teacher, classes, exemplify),
        "calibrations": [findings.calibration(r, f"{r}'s name", p, labels) for r, p in evaluated.items()],
        "scored": ("student", "baseline"),
        "class_scores": findings.class_scores(labels, int8, baseline, classes),
        "disagreements": findings.disagreements({"fp32": fp32, "int8": int8}, labels, classes, exemplify),
    }


def stages():
    made = (
        ("split", 3.2, "5,590 images split by seed"),
        ("teacher", 412.0, "mobilenetv2 with a new head"),
        ("transfer", 151.7, "4 views per image labelled"),
        ("student", 211.4, "30 epochs"),
        ("baseline", None, "30 epochs on labels alone"),
    )
    return [Stage(stage=stage, fingerprint="0123456789abcdef", seconds=took, what=what) for stage, took, what in made]


def report(**changes):
    parity = {"n": 868, "agreement": 0.9942, "largest_difference": 0.04315}
    fields = {
        "title": "mobilenet025 from mobilenetv2 on made-up photos",
        "run": "20260101-000000-mobilenet025",
        "recipe": {
            "data": {"source": "photos", "val": 0.1, "test": 0.2, "seed": 0, "resize": "stretch"},
            "views": {"count": 4, "smallest_area": 0.35, "flip": True, "seed": 0},
            "teacher": {"name": "mobilenetv2", "weights": "imagenet", "input_px": 224, "epochs": 4},
            "student": {"name": "mobilenet025", "weights": "imagenet", "input_px": 128},
            "distill": {"loss": "kd", "temperature": 4.0, "hard_label_weight": 0.5, "epochs": 30, "baseline": True},
            "export": {"precisions": PRECISIONS, "calibration_images": 400},
        },
        "records": all_records(),
        "paired": [pair()],
        "histories": {"student": history(0.84, 5), "baseline": history(0.81, 4)},
        "images": [image(seed) for seed in range(12)],
        "images_chosen": "Made up.",
        "classes": CLASSES,
        "splits": {"train": 3030, "val": 868, "test": 1692},
        "skipped": [("ant/broken.jpg", "truncated")],
        "duplicates": [["ant/1.jpg", "ant/2.jpg"], ["bass/1.jpg", "barrel/1.jpg"]],
        "leaks": [["ant/1.jpg", "ant/2.jpg"]],
        "contradictions": [["bass/1.jpg", "barrel/1.jpg"]],
        **looks(CLASSES),
        "stages": stages(),
        "exports": [
            ShownFile("student", tflite_results(precision=p, size_bytes=size, sha256="cd" * 32, parity=parity))
            for p, size, _, _ in FILES
        ],
        "versions": {"kd2mobile": "0.1.0", "keras": "3.15.1", "tensorflow": "2.21.0", "python": "3.11.2"},
        "commands": ["kd2mobile distill --recipe recipe.toml", "kd2mobile export --tflite", "kd2mobile benchmark"],
        "notes": ["This page is made up for a test."],
    }
    return ReportData(**fields | changes)


@pytest.fixture(scope="session")
def make_record():
    return record


@pytest.fixture(scope="session")
def make_pair():
    return pair


@pytest.fixture(scope="session")
def make_image():
    return image


@pytest.fixture(scope="session")
def make_looks():
    """A function from class names to what is found in made-up answers: confusion, calibrations and so on."""
    return looks


@pytest.fixture(scope="session")
def make_report():
    """A function from changed fields to a whole made-up ReportData."""
    return report
