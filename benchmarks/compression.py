"""What quantizing, pruning and clustering cost on caltech101, over three seeds, by the commands a user would type.

    python benchmarks/compression.py --data CALTECH101 --weights WEIGHTS [--only mobilenet025]

Places as in caltech101.py. Every student is distilled with the defaults but for its epochs and its learning rate, then
compressed and exported; each file is compared with the fp32 file of the same student on the same test photos, and the
means over the seeds with the targets. Runs and artifacts go to runs/ and .kd2mobile/, so a stopped suite goes on where
it was. Writes one record to benchmarks/results/.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from caltech101 import STUDENTS, TEACHER, call, compared, right

from kd2mobile.artifact import made_with, read_artifact, write_json
from kd2mobile.measure.accuracy import paired_interval

HERE = Path(__file__).parent
SETTINGS = {
    "mobilenet025": ["--epochs", "12"],
    "squeezenet": ["--epochs", "8", "--set", "distill.learning_rate=3e-4"],
}
SEEDS = (0, 1, 2)
COMPRESSIONS = ("none", "qat", "prune", "cluster")
REFERENCE = "fp32"
VARIANTS = (REFERENCE, "int8", "qat-int8", "prune-fp32", "prune-int8", "cluster-fp32", "cluster-int8")
TARGETS = {"int8": -0.005, "qat-int8": -0.002, "prune-fp32": -0.007, "prune-int8": -0.007}
"""The least that top-1 may differ from the fp32 file's, as a fraction: the mean over the seeds."""
COUNTED = ("zeros", "clusters", "size_bytes", "compressed_bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--only", choices=STUDENTS, help="one student's runs")
    options = parser.parse_args()
    places = {"$CALTECH101": str(options.data), "$WEIGHTS": str(options.weights)}
    students = [student for student in STUDENTS if options.only in (None, student)]
    runs = [run(student, seed, places) for student in students for seed in SEEDS]
    only = f" --only {options.only}" if options.only else ""
    record = {
        "suite": "compression",
        "command": f"python benchmarks/compression.py --data $CALTECH101 --weights $WEIGHTS{only}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made_with": made_with(),
        "runs": runs,
        "over_seeds": [over_seeds(student) for student in students],
    }
    out = HERE / "results" / f"compression-{time.strftime('%Y%m%d-%H%M', time.gmtime())}.json"
    write_json(out, record)
    print(f"Written: {out}. Next: python benchmarks/table.py")


def place(student: str, seed: int) -> Path:
    return Path("runs") / f"compression-{student}-{seed}"


def run(student: str, seed: int, places: dict[str, str]) -> dict:
    """One student from photos to measured files; its commands, records and paired tests."""
    folder = place(student, seed)
    taught = ["--student", student, "--student-weights", STUDENTS[student], *SETTINGS[student]]
    commands = [
        ["distill", "--data", "$CALTECH101", *TEACHER, *taught, "--seed", str(seed)],
        ["export", "--tflite", "--precision", "fp32,int8", "--compress", ",".join(COMPRESSIONS)],
        ["benchmark"],
    ]
    call(commands, folder, places)
    return {
        "student": student,
        "seed": seed,
        "commands": [" ".join(["kd2mobile", *command]) for command in commands],
        "records": json.loads((folder / "benchmark.json").read_text("utf-8")),
        "files": {variant: counted(folder, variant) for variant in VARIANTS},
        "against_fp32": {
            variant: compared(folder, f"student-{variant}", f"student-{REFERENCE}")
            for variant in VARIANTS
            if variant != REFERENCE
        },
    }


def counted(folder: Path, variant: str) -> dict:
    """What the artifacts say of that file: sizes, and what was counted in its weights."""
    artifacts = json.loads((folder / "run.json").read_text("utf-8"))["artifacts"]
    compression, _, _ = variant.rpartition("-")
    names = [f"student-{variant}", *([f"student-{compression}"] if compression else [])]
    said = {}
    for name in names:
        said |= read_artifact(folder / artifacts[name]).results
    return {field: said[field] for field in COUNTED if field in said}


def over_seeds(student: str) -> dict:
    """Top-1 of each file, a photo's score the mean over the seeds, and its difference from fp32 with the target."""
    means = {
        variant: np.mean([right(place(student, seed), f"student-{variant}") for seed in SEEDS], axis=0)
        for variant in VARIANTS
    }
    reference = means[REFERENCE]
    by_variant = {
        variant: {
            "top1": float(mean.mean()),
            "difference": (difference := float(mean.mean() - reference.mean())),
            "interval_95": paired_interval(mean, reference),
            "target": (target := TARGETS.get(variant)),
            "met": None if target is None else difference >= target,
        }
        for variant, mean in means.items()
        if variant != REFERENCE
    }
    return {"student": student, "seeds": list(SEEDS), "top1_fp32": float(reference.mean()), "variants": by_variant}


if __name__ == "__main__":
    main()
