"""Whether the files answer on 64-bit Arm as they do here, with the kernels that LiteRT has for Arm.

    python benchmarks/arm.py --run RUN [--images 300]
    python benchmarks/arm.py --model FILE.tflite [--model ...] --data FOLDER

A run's fp32 and int8 files on its test images, or any files of kd2mobile on a folder of class folders. The pixels are
made here and handed over; there a Python of Arm answers under qemu, on each of the processors in aarch64.py, which have
different kernels. The likeliest class must be the same for 99 % of the images. Numbers only: an emulated processor's
time says nothing. Needs qemu-user-static, apt and a network for the first run (140 MB, kept in .environments/); a few
minutes for some hundred images. Writes one record to benchmarks/results/; ends with 1 where fewer agree.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aarch64 import CPUS, UserSpace, user_space
from clients import LITERT
from environments import KEPT, InstallationFailed
from records import write_record

import kd2mobile
from kd2mobile.data.split import read_split
from kd2mobile.errors import Kd2MobileError, ModelFileError
from kd2mobile.files import sha256_of
from kd2mobile.measure.external import class_folders, match_folders
from kd2mobile.measure.host.machine import device_words
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.pixels import load
from kd2mobile.progress import bar, say
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.run import open_run

PRECISIONS = ("fp32", "int8")
LEAST_AGREEMENT = 0.99


class Request(NamedTuple):
    """data: what the images are called; files: what is compared; photos, labels: the images and their outputs."""

    data: str
    files: list[Path]
    photos: list[Path]
    labels: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="its fp32 and int8 files, on its test images")
    source.add_argument("--model", type=Path, action="append", metavar="FILE.tflite", help="of kd2mobile; with --data")
    parser.add_argument("--data", type=Path, help="a folder of class folders, for --model")
    parser.add_argument("--store", type=Path, help="another one than the run's own")
    parser.add_argument("--images", type=int, default=0, metavar="N", help="that many, evenly taken; 0 is all")
    options = parser.parse_args()
    if bool(options.model) != bool(options.data):
        parser.error("--model and --data go together")
    try:
        request = of_run(options.run, options.store) if options.run else of_folder(options.model, options.data)
        record = compared(user_space(KEPT / "aarch64"), thinned(request, options.images))
    except (Kd2MobileError, InstallationFailed) as fault:
        parser.exit(2, f"{parser.prog}: {fault}\n")
    of_all = f" --images {options.images}" if options.images else ""
    what = "--run $RUN" if options.run else "--model $FILE " * len(options.model) + "--data $FOLDER"
    for row in record["answers"]:
        print(
            f"{row['precision']:<13} {row['cpu']:<11} agrees {row['agreement']:.2%}, probabilities within "
            f"{row['largest_difference']:.4f}, top-1 {row['top1']:.2%} (here {row['here_top1']:.2%})"
        )
    write_record("arm", f"python benchmarks/arm.py {what}{of_all}", **record)
    if min(row["agreement"] for row in record["answers"]) < LEAST_AGREEMENT:
        sys.exit(f"{parser.prog}: must agree on {LEAST_AGREEMENT:.0%} of the images, and does not")


def of_run(folder: Path, store: Path | None) -> Request:
    exported = kd2mobile.export(folder, store=store, precision=PRECISIONS).files
    run = open_run(folder, store)
    plan = make_plan(run.recipe, run.store)
    samples = read_split(run.store.make(plan.steps["split"]).folder).samples_of("test")
    files = [file for (role, precision), file in exported.items() if role == "student" and precision in PRECISIONS]
    photos, labels = [plan.root / sample.path for sample in samples], np.array([sample.label for sample in samples])
    source = run.recipe.data.source
    names = [Path(path).name for path in ([source] if isinstance(source, str) else source)]
    return Request(", ".join(names), files, photos, labels)


def of_folder(files: list[Path], data: Path) -> Request:
    """Class folders that are named as the files' classes."""
    folders, _ = class_folders(data)
    known = {tuple(Classifier(file).metadata.classes or ()) for file in files}
    if len(known) != 1 or known == {()}:
        got = " and ".join(f"{len(classes)} classes" if classes else "none" for classes in sorted(known))
        raise ModelFileError(files[-1], "must carry the same classes as all the files", got, "Ask for each by itself.")
    (classes,) = known
    outputs = match_folders(list(folders), len(classes), list(classes), str(data)).outputs
    pairs = [(path, output) for paths, output in zip(folders.values(), outputs, strict=True) for path in paths]
    return Request(data.name, files, [path for path, _ in pairs], np.array([output for _, output in pairs]))


def thinned(request: Request, count: int) -> Request:
    """That many of the images, evenly taken; all if count is 0 or more than there are."""
    chosen = np.unique(np.linspace(0, len(request.photos) - 1, count or len(request.photos)).round().astype(int))
    return request._replace(photos=[request.photos[i] for i in chosen], labels=request.labels[chosen])


def compared(arm: UserSpace, request: Request) -> dict:
    """The record: a row per file and processor. Files that see other pixels than the first get their own."""
    rows = []
    for file in request.files:
        classifier = Classifier(file)
        metadata = classifier.metadata
        with bar(f"answering here: {file.name}", len(request.photos), "images") as advance:
            pixels, here = [], []
            for photo in request.photos:
                pixels.append(load(photo, classifier.input_px, metadata.resize or "stretch"))
                here.append(classifier.outputs(pixels[-1]))
                advance(1)
        for cpu in CPUS:
            say(f"answering on {cpu}: {file.name}, {len(pixels):,} images")
            there = ask(arm.command(cpu), file, np.stack(pixels))
            head = {"file": file.name, "sha256": sha256_of(file), "precision": metadata.precision, "cpu": cpu}
            rows.append(head | agreement(np.stack(here), there, request.labels))
    return {
        "device": device_words(),
        "emulated": arm.versions(),
        "cpus": {cpu: {"means": known.means, "features": arm.features(cpu)} for cpu, known in CPUS.items()},
        "model": metadata.model,
        "input_px": classifier.input_px,
        "data": request.data,
        "n": len(request.photos),
        "answers": rows,
    }


def ask(python: list[str | Path], file: Path, pixels: np.ndarray) -> dict[str, object]:
    """What clients/ask_litert.py writes of the file in that Python. Raises InstallationFailed with what it said."""
    with tempfile.TemporaryDirectory(prefix="kd2mobile-") as folder:
        pixels_file, out = Path(folder, "pixels.npy"), Path(folder, "out.json")
        np.save(pixels_file, pixels)
        command = [*python, LITERT, "ai_edge_litert", pixels_file, out, file.absolute()]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InstallationFailed(f"{file.name} failed there with status {done.returncode}: {last}")
        (answer,) = json.loads(out.read_text("utf-8")).values()
    return answer


def agreement(here: np.ndarray, there: dict[str, object], labels: np.ndarray) -> dict[str, float | bool]:
    """here: float32 [n, classes], probabilities; there: of ask_litert.py; labels: int [n]."""
    top1 = np.array(there["top1"])
    return {
        "xnnpack": there["xnnpack"],
        "agreement": float((top1 == here.argmax(axis=1)).mean()),
        "largest_difference": float(np.abs(np.array(there["probabilities"]) - here).max()),
        "top1": float((top1 == labels).mean()),
        "here_top1": float((here.argmax(axis=1) == labels).mean()),
    }


if __name__ == "__main__":
    main()
