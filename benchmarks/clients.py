"""Whether the files of a run open in other programs and answer there as here:    python benchmarks/clients.py --run RUN

Each client has an environment of its own, made by pip on first use and kept: MediaPipe's ImageClassifier, plain LiteRT
on NumPy alone, and tflite-runtime 2.14, the last one, which needs Python 3.11 and an older NumPy. All of them get the
pixels that kd2mobile evaluates on; MediaPipe also gets the whole photos, which it stretches itself. Writes one record
to benchmarks/results/.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from environments import KEPT, InstallationFailed, environment
from records import write_record

import kd2mobile
from kd2mobile.data.split import read_split
from kd2mobile.measure.host.machine import device_words
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.pixels import load
from kd2mobile.progress import bar, say
from kd2mobile.recipe.schema import PRECISIONS
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.run import open_run

HERE = Path(__file__).parent
LITERT = HERE / "clients" / "ask_litert.py"
MEDIAPIPE = HERE / "clients" / "ask_mediapipe.py"
LIBRARIES = "libegl1 libgles2 libgl1"
"""What MediaPipe's wheel needs of the system, by Debian's names."""


class Client(NamedTuple):
    """installs: what pip is told; script: what asks it, with the words that come before the images; photos: whether
    it takes whole ones; python: the newest Python that it has a wheel for, None for any."""

    installs: list[str]
    script: list[str]
    photos: bool = False
    python: tuple[int, int] | None = None


CLIENTS = {
    "mediapipe": Client(["mediapipe==1.2.2", "pillow"], [str(MEDIAPIPE)], photos=True),
    "litert": Client(["ai-edge-litert>=2.1", "backports-strenum<1.3", "numpy"], [str(LITERT), "ai_edge_litert"]),
    "tflite_runtime": Client(["tflite-runtime==2.14.0", "numpy<2"], [str(LITERT), "tflite_runtime"], python=(3, 11)),
}


class Unavailable(Exception):
    """A client that this machine cannot have; says why in a line."""


def open_client(name: str) -> Path:
    """The Python in which the client can be asked. Raises Unavailable."""
    client = CLIENTS[name]
    if client.python and sys.version_info[:2] > client.python:
        newest, this = (".".join(map(str, version[:2])) for version in (client.python, sys.version_info))
        raise Unavailable(f"{name} has wheels up to Python {newest} alone, and this is {this}")
    try:
        python = environment(KEPT / name, client.installs)
    except InstallationFailed as fault:
        raise Unavailable(f"{name} cannot be installed: {fault}") from fault
    if name == "mediapipe":
        command = [python, "-c", "from mediapipe.tasks.python import vision"]
        tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode:
            why = tried.stderr.strip().splitlines()[-1]
            raise Unavailable(f"mediapipe does not load ({why}); on Debian: apt-get install {LIBRARIES}")
    return python


def ask(name: str, models: list[Path], pixels: np.ndarray, photos: list[Path]) -> dict[str, dict[str, list]]:
    """What the client answers, by the file's name: {"top1": [n]}, and what else its script says it writes.

    pixels: uint8 [n, px, px, 3]. Raises Unavailable; RuntimeError with what it said if it fails on a file.
    """
    python, client = open_client(name), CLIENTS[name]
    with tempfile.TemporaryDirectory(prefix="kd2mobile-") as folder:
        pixels_file, listed, out = (Path(folder, file) for file in ("pixels.npy", "photos.json", "out.json"))
        np.save(pixels_file, pixels)
        listed.write_text(json.dumps([str(Path(photo).absolute()) for photo in photos]), "utf-8")
        words = [*client.script, pixels_file, *([listed] if client.photos else []), out]
        command = [python, *words, *(Path(model).absolute() for model in models)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
        answers = json.loads(out.read_text("utf-8"))
    return {Path(model).name: answer for model, answer in answers.items()}


def version_of(name: str) -> str:
    """Such as `mediapipe 1.2.2, numpy 2.4.6`."""
    listed = [open_client(name), "-m", "pip", "list", "--format", "json"]
    packages = json.loads(subprocess.run(listed, capture_output=True, check=True, text=True).stdout)
    versions = {package["name"].lower().replace("_", "-"): package["version"] for package in packages}
    own = CLIENTS[name].installs[0].partition("=")[0].rstrip("<>")
    return f"{own} {versions[own]}, numpy {versions['numpy']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="another one than the run's own")
    parser.add_argument("--images", type=int, default=0, metavar="N", help="that many test images; 0 is all")
    options = parser.parse_args()
    exported = kd2mobile.export(options.run, store=options.store, precision=PRECISIONS).files
    files = {precision: file for (role, precision), file in exported.items() if role == "student"}
    run = open_run(options.run, options.store)
    plan = make_plan(run.recipe, run.store)
    samples = read_split(run.store.make(plan.steps["split"]).folder).samples_of("test")
    if options.images:
        step = max(1, len(samples) // options.images)
        samples = samples[::step][: options.images]
    photos, labels = [plan.root / sample.path for sample in samples], np.array([sample.label for sample in samples])
    pixels = np.stack([load(photo, run.recipe.student.input_px, run.recipe.data.resize) for photo in photos])
    here = {precision: top1(file, pixels) for precision, file in files.items()}
    records = []
    for name in CLIENTS:
        say(f"asking {name} {len(files)} files about {len(photos):,} images")
        try:
            answers = ask(name, list(files.values()), pixels, photos)
        except Unavailable as why:
            say(f"left out: {why}")
            continue
        records.append({"client": name, "versions": version_of(name), "files": compared(answers, files, here, labels)})
    of_all = "" if not options.images else f" --images {options.images}"
    for client in records:
        for file in client["files"]:
            photos_too = f", whole photos {file['photos_top1']:.2%}" if "photos_top1" in file else ""
            print(
                f"{client['client']:<15} {file['precision']:<13} agrees {file['agreement']:.2%}, "
                f"top-1 {file['top1']:.2%} (kd2mobile {file['kd2mobile_top1']:.2%}){photos_too}"
            )
    write_record(
        "clients",
        f"python benchmarks/clients.py --run $RUN{of_all}",
        device=device_words(),
        student=run.recipe.student.name,
        resize=run.recipe.data.resize,
        n=len(samples),
        clients=records,
    )


def top1(file: Path, pixels: np.ndarray) -> np.ndarray:
    """The class that kd2mobile's own measuring finds likeliest in each of the pixels: int [n]."""
    classifier = Classifier(file)
    with bar(f"evaluating {file.name}", len(pixels), "images") as advance:
        answers_of_file = []
        for image in pixels:
            answers_of_file.append(int(classifier.outputs(image).argmax()))
            advance(1)
    return np.array(answers_of_file)


def compared(answers: dict, files: dict[str, Path], here: dict[str, np.ndarray], labels: np.ndarray) -> list[dict]:
    """Of each file: agreement with kd2mobile on the same pixels, and top-1 of both; of whole photos too if there is."""
    rows = []
    for precision, file in files.items():
        there = {
            kind: np.array(answers_of_file)
            for kind, answers_of_file in answers[file.name].items()
            if kind.endswith("top1")
        }
        row = {
            "precision": precision,
            "agreement": float((there["top1"] == here[precision]).mean()),
            "top1": float((there["top1"] == labels).mean()),
            "kd2mobile_top1": float((here[precision] == labels).mean()),
        }
        if "photos_top1" in there:
            row["photos_top1"] = float((there["photos_top1"] == labels).mean())
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
