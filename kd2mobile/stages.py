"""The stages as steps: what each reads and what it depends on. photos -> split -> views -> teacher -> transfer -> ...

Nothing is made here but the pictures of an embedded source; a step is data, and the store decides what is missing.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.artifact import Step, Store, sha256_of
from kd2mobile.errors import DataError, UnknownNameError, WeightsError
from kd2mobile.recipe import Precision, Recipe

LABELS_ONLY = {"loss": "labels", "temperature": 1.0, "hard_label_weight": 1.0}
"""What the baseline's recipe says in the place of the teacher's part."""


@dataclass(frozen=True)
class Stages:
    """The steps of one recipe, over the pictures under `root`."""

    recipe: Recipe
    root: Path
    split: Step
    views: Step
    teacher: Step
    transfer: Step
    pixels: Step
    student: Step
    baseline: Step

    @property
    def students(self) -> dict[str, Step]:
        """The students that the recipe asks for, by role: `student`, and `baseline` if it is wanted."""
        return {"student": self.student} | ({"baseline": self.baseline} if self.recipe.distill.baseline else {})

    def exported(self, role: str, precision: Precision) -> Step:
        """The .tflite of that student in that precision. Several are built together: pipeline.export."""
        calibration = None if precision == "fp32" else self.recipe.export.calibration_pictures
        config = {"precision": precision, "calibration_pictures": calibration, "resize": self.recipe.data.resize}
        return Step("tflite", 1, config, {"student": self.students[role], "split": self.split}, _built_together)


def stages(recipe: Recipe, store: Store) -> Stages:
    """The steps of the recipe. Looks at the pictures (a file that has not changed is not read again).

    Raises DataError for a folder that cannot be used, UnknownNameError for a name that no registry has.
    """
    _check_names(recipe)
    root, content = _pictures(recipe, store)
    seen = msgspec.to_builtins(recipe)
    data, distill = seen["data"], {k: v for k, v in seen["distill"].items() if k != "baseline"}
    student_config = seen["student"] | {"weights": _identity(recipe.student.weights, "--student-weights")}
    teacher_config = seen["teacher"] | {
        "name": _identity(recipe.teacher.name, "--teacher"),
        "weights": _identity(recipe.teacher.weights, "--teacher-weights"),
        "resize": recipe.data.resize,
        **_description(recipe.teacher.name),
    }
    split_config = {"content": content, "val": data["val"], "test": data["test"], "seed": data["seed"]}
    split = Step("split", 1, split_config, {}, partial(_split, recipe, root, store))
    views_config = seen["views"] | {"resize": recipe.data.resize}
    views = Step("views", 1, views_config, {"split": split}, partial(_views, recipe, root))
    teacher = Step("teacher", 1, teacher_config, {"split": split}, partial(_teacher, recipe, root))
    transfer_inputs = {"teacher": teacher, "split": split, "views": views}
    spared = "its logits are stored: the teacher is not run again"
    transfer = Step("transfer", 1, {}, transfer_inputs, partial(_transfer, recipe, root), spared)
    pixels_config = {"input_px": recipe.student.input_px}
    pixels = Step("pixels", 1, pixels_config, {"split": split, "views": views}, partial(_pixels, recipe, root))
    learned = {"split": split, "pixels": pixels, "transfer": transfer}
    student = Step("student", 1, {"student": student_config, "distill": distill}, learned, partial(_student, recipe))
    unlabelled = {"split": split, "pixels": pixels}
    baseline_config = {"student": student_config, "distill": distill | LABELS_ONLY}
    baseline = Step("student", 1, baseline_config, unlabelled, partial(_student, _baseline(recipe)))
    return Stages(recipe, root, split, views, teacher, transfer, pixels, student, baseline)


def _pictures(recipe: Recipe, store: Store) -> tuple[Path, str]:
    from kd2mobile.data.scan import scan
    from kd2mobile.data.sources import SOURCES

    source = recipe.data.source
    if source in SOURCES:
        step = Step("source", 1, {"name": source}, {}, lambda folder, _: SOURCES[source](folder / "pictures") or {})
        root = (store.find(step) or store.make(step)).folder / "pictures"
    else:
        root = Path(source)
        if not root.is_dir() and not root.exists() and "/" not in source and "\\" not in source:
            raise UnknownNameError("--data", source, list(SOURCES), see="kd2mobile list data` or give a folder: `ls")
    return root, scan(root, store.root / "hashes.json").content


def _check_names(recipe: Recipe) -> None:
    from kd2mobile.losses import LOSSES
    from kd2mobile.students import STUDENTS
    from kd2mobile.teachers.zoo import TEACHERS

    LOSSES[recipe.distill.loss]
    STUDENTS[recipe.student.name]
    if not recipe.teacher.name.endswith(".keras"):
        TEACHERS[recipe.teacher.name]


def _identity(name: str, flag: str) -> str:
    """What a name or a file stands for in a fingerprint: itself, or the file's content."""
    path = Path(name)
    if path.is_file():
        return f"sha256:{sha256_of(path)}"
    if path.suffix or len(path.parts) > 1:
        raise WeightsError(f"{flag} {name}", "must be a file that is there", "no such file", "Check the path.")
    return name


def _description(name: str) -> dict[str, str]:
    """The content of a teacher.json beside a .keras file, which says its classes and preprocessing."""
    beside = Path(name).with_name("teacher.json")
    found = name.endswith(".keras") and beside.is_file()
    return {"described": _identity(str(beside), "--teacher")} if found else {}


def _baseline(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, distill=msgspec.structs.replace(recipe.distill, **LABELS_ONLY))


def _split(recipe: Recipe, root: Path, store: Store, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.scan import scan
    from kd2mobile.data.splitting import split_pictures

    return split_pictures(folder, root, scan(root, store.root / "hashes.json"), recipe.data)


def _views(recipe: Recipe, root: Path, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.data.views import draw_views

    return draw_views(folder, root, read_split(inputs["split"]), recipe.views, recipe.data.resize)


def _teacher(recipe: Recipe, root: Path, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.teachers.training import make_teacher

    return make_teacher(folder, recipe.teacher, root, read_split(inputs["split"]), recipe.data.resize)


def _transfer(recipe: Recipe, root: Path, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.transfer.label import label

    split = read_split(inputs["split"])
    return label(folder, inputs["teacher"], root, split, inputs["views"], recipe.teacher.batch_size)


def _pixels(recipe: Recipe, root: Path, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.pixel_store import render_pixels
    from kd2mobile.data.split import read_split

    return render_pixels(folder, root, read_split(inputs["split"]), inputs["views"], recipe.student.input_px)


def _student(recipe: Recipe, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    import numpy as np

    from kd2mobile.data.split import read_split
    from kd2mobile.training.train import train_student

    split = read_split(inputs["split"])
    labels = {name: np.array([s.label for s in split.of(name)]) for name in ("train", "val")}
    return train_student(
        folder,
        recipe.distill,
        recipe.student,
        len(split.classes),
        labels["train"],
        labels["val"],
        inputs["pixels"],
        inputs.get("transfer"),
    )


def _built_together(folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    raise DataError(folder, "must be built with the other precisions", None, "Use pipeline.export.")
