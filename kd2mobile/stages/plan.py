"""The stages as steps: what each reads and what it depends on. photos -> thumbnails -> split -> views -> teacher -> ...

Nothing is made here but the pictures of an embedded source; a step is data, and the store decides what is missing.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.errors import DataError, RecipeError
from kd2mobile.losses import BASELINE, LOSSES
from kd2mobile.progress import say
from kd2mobile.recipe.compose import weights_file
from kd2mobile.recipe.schema import Compress, Compression, Export, Recipe, Teacher
from kd2mobile.recipe.variants import Variant, variants_of
from kd2mobile.stages.fingerprints import (
    distill_settings,
    ensemble_settings,
    student_settings,
    temperatures_of,
    transfer_settings,
)
from kd2mobile.store.artifact import Step, Store
from kd2mobile.teachers.kinds import kind_of, sees_whole, title
from kd2mobile.text import listed

if TYPE_CHECKING:
    from kd2mobile.data.sources.find import Found
    from kd2mobile.data.sources.roots import Root
    from kd2mobile.data.sources.scan import Scan
    from kd2mobile.recipe.schema import Export

SPARED = "its logits are stored: the teacher is not run again"


@dataclass(frozen=True)
class Stages:
    """The steps of one recipe, over the pictures under `root`.

    teachers: one step per teacher; labelled: the transfer set of each; transfer: the one that the student reads, which
    is the only teacher's, or those of several combined. unlabelled: the steps over the images without labels.
    """

    recipe: Recipe
    root: "Root"
    split: Step
    views: Step
    teachers: tuple[Step, ...]
    labelled: tuple[Step, ...]
    transfer: Step
    pixels: Step
    student: Step
    baseline: Step
    class_count: int
    unlabelled: "Unlabelled | None" = None

    @property
    def before_student(self) -> dict[str, Step]:
        """The steps whose artifacts a run refers to beside its students and their transfer set, by role."""
        steps = {"thumbnails": self.split.inputs["thumbnails"], "split": self.split, "views": self.views}
        steps |= {"pixels": self.pixels} | _by_number("teacher", self.teachers)
        members = _by_number("transfer", self.labelled) if len(self.labelled) > 1 else {}
        if self.unlabelled:
            one = self.unlabelled
            steps |= {"unlabelled-split": one.split, "unlabelled-views": one.views, "unlabelled-pixels": one.pixels}
            steps |= {"unlabelled-transfer": one.transfer}
            if members:
                members |= _by_number("unlabelled-transfer", one.labelled)
        return steps | members

    @property
    def transfer_sets(self) -> list[Step]:
        """Every transfer set of the plan: the one that the student reads first, then each teacher's, then those of the
        unlabelled images."""
        own = [self.transfer, *self.labelled]
        return own + ([self.unlabelled.transfer, *self.unlabelled.labelled] if self.unlabelled else [])

    @property
    def students(self) -> dict[str, Step]:
        """The students that the recipe asks for, by role: `student`, and `baseline` if it is wanted."""
        return {"student": self.student} | ({"baseline": self.baseline} if self.recipe.distill.baseline else {})

    def exported(
        self, role: str, variant: Variant, export: Export | None = None, compress: Compress | None = None
    ) -> Step:
        """The .tflite of that student in that variant. Several precisions are built together: `api.export`.

        export, compress: other tables than the recipe's own.
        """
        from kd2mobile.tflite.settings import file_settings

        settings = file_settings(export or self.recipe.export, variant, self.class_count)
        config = settings | _resize(self.recipe)
        inputs = {"student": self.compressed(role, variant.compression, compress), "split": self.split}
        return Step("tflite", 2, config, inputs, _built_together)

    def compressed(self, role: str, compression: Compression, compress: Compress | None = None) -> Step:
        """The student after that compression: the last of its methods' steps, each on the student before it."""
        from kd2mobile.compress.methods import CHAINS, VERSIONS, check_compression, method_settings

        check_compression(self.recipe.student.name, compression)
        recipe = self.recipe if role == "student" else _baseline(self.recipe)
        recipe = msgspec.structs.replace(recipe, compress=compress or recipe.compress)
        step = self.students[role]
        learned = {name: given for name, given in step.inputs.items() if name != "student"}
        for place, method in enumerate(CHAINS[compression]):
            preserve = list(CHAINS[compression][:place])
            config = {"method": method, "preserve": preserve, **method_settings(recipe.compress, method)}
            build = partial(_compressed, recipe, method, preserve)
            step = Step("compressed", VERSIONS[method], config, {"student": step, **learned}, build)
        return step


def _by_number(role: str, steps: tuple[Step, ...]) -> dict[str, Step]:
    """`teacher`, or of several `teacher-1`, `teacher-2`, ..."""
    return {role: steps[0]} if len(steps) == 1 else {f"{role}-{i}": step for i, step in enumerate(steps, 1)}


@dataclass(frozen=True)
class Unlabelled:
    """The steps over the unlabelled pictures, apart from the others: a picture more makes nothing labelled again."""

    split: Step
    views: Step
    labelled: tuple[Step, ...]
    transfer: Step
    pixels: Step

    @property
    def learned(self) -> dict[str, Step]:
        """What the student reads of them."""
        return {"unlabelled_pixels": self.pixels, "unlabelled_transfer": self.transfer}


def stages(recipe: Recipe, store: Store) -> Stages:
    """The steps of the recipe. Looks at the pictures (a file that has not changed is not read again).

    Raises DataError for a folder that cannot be used, UnknownNameError for a name that no registry has, and for a
    teacher or a student that cannot be: TeacherError, RecipeError, WeightsError.
    """
    _check(recipe)
    found, split = split_step(recipe, store)
    root = found.root
    seen = msgspec.to_builtins(recipe)
    student_config = student_settings(recipe.student)
    views_config = ({"whole": True} if _whole_views(recipe) else seen["views"]) | _resize(recipe)
    views = Step("views", 1, views_config, {"split": split}, partial(_views, recipe, root))
    teachers = tuple(_teacher_step(recipe, teacher, found, split) for teacher in recipe.teachers)
    labelled, transfer = _transfer_steps(recipe, root, split, views, teachers)
    pixels_config = {"input_px": recipe.student.input_px}
    pixels = Step("pixels", 1, pixels_config, {"split": split, "views": views}, partial(_pixels, recipe, root))
    taught = LOSSES[recipe.distill.loss].needs_teacher
    without_teacher = {"split": split, "pixels": pixels}
    learned = without_teacher | ({"transfer": transfer} if taught else {})
    unlabelled = None
    if found.unlabelled and not taught:
        say(f"data.unlabelled: not used, because the loss `{recipe.distill.loss}` has no teacher")
    elif found.unlabelled:
        unlabelled = _unlabelled(recipe, found, split, teachers, views_config, pixels_config)
        learned |= unlabelled.learned
    student_step_config = {"student": student_config, "distill": distill_settings(recipe.distill)}
    student = Step("student", 1, student_step_config, learned, partial(_student, recipe))
    on_labels = _baseline(recipe)
    baseline_config = {"student": student_config, "distill": distill_settings(on_labels.distill)}
    baseline = Step("student", 1, baseline_config, without_teacher, partial(_student, on_labels))
    made = Stages(
        recipe=recipe,
        root=root,
        split=split,
        views=views,
        teachers=teachers,
        labelled=labelled,
        transfer=transfer,
        pixels=pixels,
        student=student,
        baseline=baseline,
        class_count=len(found.scan.classes),
        unlabelled=unlabelled,
    )
    for variant in variants_of(recipe.export):
        made.exported("student", variant)  # refuses what no file can be made with, before anything is trained
    return made


def _unlabelled(
    recipe: Recipe,
    found: "Found",
    labelled: Step,
    teachers: tuple[Step, ...],
    views_config: dict[str, Any],
    pixels_config: dict[str, Any],
) -> Unlabelled:
    root = found.unlabelled_root
    split = unlabelled_split_step(recipe, found, labelled)
    views = Step("views", 1, views_config, {"split": split}, partial(_views, recipe, root))
    labelled_by, transfer = _transfer_steps(recipe, root, split, views, teachers)
    pixels = Step("pixels", 1, pixels_config, {"split": split, "views": views}, partial(_pixels, recipe, root))
    return Unlabelled(split, views, labelled_by, transfer, pixels)


def _teacher_step(recipe: Recipe, teacher: Teacher, found: "Found", split: Step) -> Step:
    config = kind_of(teacher.name).config(teacher, found.scan.classes) | _resize(recipe)
    return Step("teacher", 1, config, {"split": split}, partial(_teacher, recipe, teacher, found.root))


def _transfer_steps(
    recipe: Recipe, root: "Root", split: Step, views: Step, teachers: tuple[Step, ...]
) -> tuple[tuple[Step, ...], Step]:
    """The transfer set of each teacher, and the one that the student reads: the only one, or all of them combined."""
    labelled = tuple(
        Step(
            "transfer",
            1,
            transfer_settings(teacher),
            {"teacher": step, "split": split, "views": views},
            partial(_transfer, recipe, teacher, root),
            SPARED,
        )
        for teacher, step in zip(recipe.teachers, teachers, strict=True)
    )
    if len(labelled) == 1:
        return labelled, labelled[0]
    inputs = {f"transfer-{number}": step for number, step in enumerate(labelled, 1)} | {"split": split}
    return labelled, Step("transfer", 1, ensemble_settings(recipe), inputs, partial(_combined, recipe), SPARED)


def split_step(recipe: Recipe, store: Store) -> "tuple[Found, Step]":
    """The recipe's pictures, and the step that splits them. Raises DataError, RecipeError."""
    from kd2mobile.data.sources.scan import content_of
    from kd2mobile.data.splits.groups import check_group_by, column_of, group_keys

    data = recipe.data
    check_group_by(data.group_by)
    found = _pictures(recipe, store)
    config = {"val": data.val, "test": data.test, "seed": data.seed, "groups": data.groups}
    keys = group_keys(found.scan.pictures, data.group_by)
    if data.group_by:
        config["group_by"] = data.group_by
    if column_of(data.group_by):
        config["keys"] = content_of(sorted(keys.items()))
    thumbnails = _thumbnails_step(found.root, found.scan, "content")
    return found, Step("split", 2, config, {"thumbnails": thumbnails}, partial(_split, recipe, found))


def unlabelled_split_step(recipe: Recipe, found: "Found", labelled: Step) -> Step:
    """The step that checks the unlabelled pictures beside the labelled split. found: with an unlabelled folder."""
    thumbnails = _thumbnails_step(found.unlabelled_root, found.unlabelled, "unlabelled")
    inputs = {"split": labelled, "thumbnails": thumbnails, "labelled_thumbnails": labelled.inputs["thumbnails"]}
    return Step("split", 2, {"groups": recipe.data.groups}, inputs, partial(_split_unlabelled, recipe, found))


def _thumbnails_step(root: "Root", scan: "Scan", content: str) -> Step:
    """The step that decodes each image once. content: what its config calls the hash of the images."""
    return Step("thumbnails", 2, {content: scan.content}, {}, partial(_thumbnails, root, scan))


def check_student_weights(recipe: Recipe) -> None:
    """Finds out, before the teacher's hours, whether the student's weights can be had and fit.

    ImageNet weights are downloaded here, once. Raises WeightsError; RecipeError for more layers than there are.
    """
    from kd2mobile.students import build_student, freeze_all_but

    student = recipe.student
    if (student.weights, student.train_layers) != ("none", "all"):
        load_keras()
        model = build_student(student.name, student.input_px, 2, student.weights, recipe.distill.seed)
        freeze_all_but(model, student.train_layers)


def _pictures(recipe: Recipe, store: Store) -> "Found":
    """The pictures that the recipe means; those of a name or of idx files are written into the store first."""
    from kd2mobile.data.sources.find import find_pictures
    from kd2mobile.data.sources.named import placed_sources
    from kd2mobile.data.sources.roots import several
    from kd2mobile.data.sources.scaled import scaled_source
    from kd2mobile.data.splits.groups import column_of
    from kd2mobile.pixels import checked_range

    data = recipe.data
    fields = {"train": "source", "val": "val_source", "test": "test_source"}
    given = {split: (f"data.{field}", getattr(data, field)) for split, field in fields.items()}
    placed = {split: placed_sources(*named, store) for split, named in given.items() if named[1] is not None}
    unlabelled = None if data.unlabelled is None else [Path(folder) for folder in several(data.unlabelled)]
    if data.range is not None:
        scaled = partial(scaled_source, value_range=checked_range(data.range, "data.range"), store=store)
        column = column_of(data.group_by)
        placed = {split: [scaled(source, key_column=column) for source in ones] for split, ones in placed.items()}
        unlabelled = unlabelled and [scaled(folder, labelled=False) for folder in unlabelled]
    called = {
        path: name for split in placed for path, name in zip(placed[split], several(given[split][1]), strict=True)
    }
    return find_pictures(placed, unlabelled, store.root / "hashes.json", called, column_of(data.group_by))


def _check(recipe: Recipe) -> None:
    """Everything about the names, sizes and files of a recipe that can be said before anything is built."""
    from kd2mobile.students import check_student, last_layers

    distill = recipe.distill
    loss = LOSSES[distill.loss]
    loss.own_options(distill)
    if recipe.data.unlabelled is not None and loss.rest_to_teacher and distill.hard_label_weight == 1:
        why = "At 1 only hard labels count, and these images have none. Lower it, or leave data.unlabelled out."
        raise RecipeError("distill.hard_label_weight", "must be below 1 with data.unlabelled", 1.0, why)
    check_student(recipe.student.name, recipe.student.input_px, recipe.student.weights)
    last_layers(recipe.student.train_layers)
    weights_file("student.weights", recipe.student.weights)
    for teacher in recipe.teachers:
        kind_of(teacher.name).check(teacher)


def _whole_views(recipe: Recipe) -> bool:
    """Whether each image is seen whole, once, because one of the teachers answers for nothing else."""
    return any(sees_whole(teacher.name) for teacher in recipe.teachers)


def _resize(recipe: Recipe) -> dict[str, Any]:
    """How the pictures become square, for a step's config. margin: a version, counted up since `pad` had a pixel more
    than it needs at some sizes."""
    resize = recipe.data.resize
    return {"resize": resize} | ({"margin": 2} if resize == "pad" else {})


def _baseline(recipe: Recipe) -> Recipe:
    distill = msgspec.structs.replace(recipe.distill, loss=BASELINE, loss_options={})
    return msgspec.structs.replace(recipe, distill=distill)


def _thumbnails(root: "Root", scan: "Scan", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.thumbnails import write_thumbnails

    return write_thumbnails(folder, root, scan.pictures)


def _split(recipe: Recipe, found: "Found", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.splits.splitting import split_pictures
    from kd2mobile.data.thumbnails import read_thumbnails

    return split_pictures(folder, found.root, found.scan, recipe.data, read_thumbnails(inputs["thumbnails"]))


def _split_unlabelled(recipe: Recipe, found: "Found", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.data.splits.splitting import split_unlabelled
    from kd2mobile.data.thumbnails import read_thumbnails

    labelled = read_split(inputs["split"])
    thumbnails = [read_thumbnails(inputs[name]) for name in ("thumbnails", "labelled_thumbnails")]
    return split_unlabelled(
        folder, found.unlabelled_root, found.unlabelled, labelled, *thumbnails, groups=recipe.data.groups
    )


def _views(recipe: Recipe, root: "Root", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.data.views import draw_views

    views = None if _whole_views(recipe) else recipe.views
    if views is None:
        whole = [title(teacher.name) for teacher in recipe.teachers if sees_whole(teacher.name)]
        say(f"views: each image is seen whole, once: {listed(whole)} holds one answer per image")
    return draw_views(folder, read_split(inputs["split"]), views, recipe.data.resize)


def _teacher(recipe: Recipe, teacher: Teacher, root: "Root", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    load_keras()
    from kd2mobile.data.split import read_split
    from kd2mobile.teachers.reading import Pictures

    pictures = Pictures(root, read_split(inputs["split"]), recipe.data.resize)
    return kind_of(teacher.name).build(folder, teacher, pictures)


def _transfer(recipe: Recipe, teacher: Teacher, root: "Root", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    load_keras()
    from kd2mobile.data.split import read_split
    from kd2mobile.transfer.given import holds_logits, store_given_logits
    from kd2mobile.transfer.label import label

    split = read_split(inputs["split"])
    if holds_logits(inputs["teacher"]):
        return store_given_logits(folder, inputs["teacher"], split)
    return label(
        folder,
        inputs["teacher"],
        root,
        split,
        inputs["views"],
        recipe.label.batch_size,
        workers=recipe.label.workers,
        dtype=teacher.dtype,
    )


def _combined(recipe: Recipe, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    load_keras()
    from kd2mobile.data.split import read_split
    from kd2mobile.transfer.combine import combine

    members = [inputs[f"transfer-{number}"] for number in range(1, len(recipe.teachers) + 1)]
    return combine(folder, members, read_split(inputs["split"]), recipe.ensemble.mean, temperatures_of(recipe))


def _pixels(recipe: Recipe, root: "Root", folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    from kd2mobile.data.pixel_store import render_pixels
    from kd2mobile.data.split import read_split

    return render_pixels(folder, root, read_split(inputs["split"]), inputs["views"], recipe.student.input_px)


def _student(recipe: Recipe, folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    load_keras()
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
        _unlabelled_learned(inputs),
    )


def _compressed(
    recipe: Recipe, method: str, preserve: list[str], folder: Path, inputs: dict[str, Path]
) -> dict[str, Any]:
    from kd2mobile.compress.compress import compress_student
    from kd2mobile.data.split import read_split

    split = read_split(inputs["split"])
    labels = {name: [sample.label for sample in split.of(name)] for name in ("train", "val")}
    return compress_student(
        folder,
        inputs["student"] / "student.keras",
        recipe.student.name,
        method,
        preserve,
        recipe.compress,
        recipe.distill,
        classes=len(split.classes),
        train_labels=labels["train"],
        val_labels=labels["val"],
        pixels_folder=inputs["pixels"],
        transfer_folder=inputs.get("transfer"),
        unlabelled=_unlabelled_learned(inputs),
    )


def _unlabelled_learned(inputs: dict[str, Path]) -> tuple[Path, Path] | None:
    """Pixel store and logits of the unlabelled pictures, if the student learns from any."""
    return (inputs["unlabelled_pixels"], inputs["unlabelled_transfer"]) if "unlabelled_pixels" in inputs else None


def _built_together(folder: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    raise DataError(folder, "must be built with the other precisions", None, "Use kd2mobile.export.")
