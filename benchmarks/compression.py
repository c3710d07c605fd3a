"""What quantizing, pruning and clustering cost on caltech101, over three seeds, by the commands a user would type.

    python benchmarks/compression.py --data CALTECH101 --weights WEIGHTS [--only mobilenet025]

Places as in caltech101.py. Every student is distilled with the defaults but for its epochs and its learning rate, then
compressed and exported; each file is compared with the fp32 file of the same student on the same test photos, and the
means over the seeds with the targets. Runs and artifacts go to runs/ and .kd2mobile/, so a stopped suite goes on where
it was; a file that an export refuses stands in the record with the message. Writes one record to benchmarks/results/.
"""

import json
from pathlib import Path

import numpy as np
from caltech101 import STUDENTS, TEACHER, call, compared, read_options, right
from records import write_record

from kd2mobile.metrics import paired_interval
from kd2mobile.store.artifact import read_artifact

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
    options = read_options(__doc__)
    runs = [run(student, seed, options.paths) for student in options.students for seed in SEEDS]
    over = [over_seeds(student) for student in options.students]
    write_record("compression", f"python benchmarks/compression.py {options.flags}", runs=runs, over_seeds=over)


def run_folder(student: str, seed: int) -> Path:
    return Path("runs") / f"compression-{student}-{seed}"


def run(student: str, seed: int, paths: dict[str, str]) -> dict:
    """One student from photos to measured files; its commands, records and paired tests, and what was refused.

    Each compression is a command of its own, so that a file which is refused costs the others nothing.
    """
    folder = run_folder(student, seed)
    taught = ["--student", student, "--student-weights", STUDENTS[student], *SETTINGS[student]]
    distill = ["distill", "--data", "$CALTECH101", *TEACHER, *taught, "--seed", str(seed)]
    exports = {one: ["export", "--tflite", "--precision", "fp32,int8", "--compress", one] for one in COMPRESSIONS}
    call(distill, folder, paths)
    refused = {one: call(command, folder, paths, may_refuse=True) for one, command in exports.items()}
    call(["benchmark"], folder, paths)
    made = exported(folder)
    return {
        "student": student,
        "seed": seed,
        "commands": [" ".join(["kd2mobile", *command]) for command in (distill, *exports.values(), ["benchmark"])],
        "records": json.loads((folder / "benchmark.json").read_text("utf-8")),
        "refused": {one: message for one, message in refused.items() if message},
        "files": {variant: counted(folder, variant) for variant in made},
        "against_fp32": {
            variant: compared(folder, f"student-{variant}", f"student-{REFERENCE}")
            for variant in made
            if variant != REFERENCE and REFERENCE in made
        },
    }


def exported(folder: Path) -> list[str]:
    """The variants of this suite that the run has."""
    there = json.loads((folder / "run.json").read_text("utf-8"))["exported"]
    return [variant for variant in VARIANTS if variant in there]


def counted(folder: Path, variant: str) -> dict:
    """What the artifacts say of that file: sizes, and what was counted in its weights."""
    artifacts = json.loads((folder / "run.json").read_text("utf-8"))["artifacts"]
    compression, _, _ = variant.rpartition("-")
    names = [f"student-{variant}", *([f"student-{compression}"] if compression else [])]
    results = {}
    for name in names:
        results |= read_artifact(folder / artifacts[name]).results
    return {field: results[field] for field in COUNTED if field in results}


def over_seeds(student: str) -> dict:
    """Top-1 of each file, a photo's score the mean over the seeds, and its difference from fp32 with the target.

    A file that was refused with any seed has neither, and has not met its target.
    """
    lacking = {v: [seed for seed in SEEDS if v not in exported(run_folder(student, seed))] for v in VARIANTS}
    means = {
        variant: np.mean([right(run_folder(student, seed), f"student-{variant}") for seed in SEEDS], axis=0)
        for variant, seeds in lacking.items()
        if not seeds
    }
    reference = means.get(REFERENCE)
    by_variant = {}
    for variant in VARIANTS:
        if variant == REFERENCE:
            continue
        mean, target = means.get(variant), TARGETS.get(variant)
        known = mean is not None and reference is not None
        difference = float(mean.mean() - reference.mean()) if known else None
        by_variant[variant] = {
            "top1": None if mean is None else float(mean.mean()),
            "difference": difference,
            "interval_95": paired_interval(mean, reference) if known else None,
            "target": target,
            "met": None if target is None else known and difference >= target,
            "refused_seeds": lacking[variant],
        }
    top1 = None if reference is None else float(reference.mean())
    return {"student": student, "seeds": list(SEEDS), "top1_fp32": top1, "variants": by_variant}


if __name__ == "__main__":
    main()
