"""The table of stages: what each is called, reads and depends on, how its folder is filled, what its record must say.

`plan.py` makes the steps of a recipe from it; the store checks records by it, and the report names folders by it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.compress.results import CompressedResults
from kd2mobile.data.split import SplitResults
from kd2mobile.errors import DataError
from kd2mobile.progress import say
from kd2mobile.recipe.schema import Export, Recipe, Teacher
from kd2mobile.recipe.variants import Variant
from kd2mobile.stages.configs import (
    distill_settings,
    ensemble_settings,
    student_settings,
    temperatures_of,
    transfer_settings,
)
from kd2mobile.store.artifact import Results
from kd2mobile.store.stage_records import FORMS, Form
from kd2mobile.teachers.kinds import kind_of, title, whole_images_only
from kd2mobile.teachers.results import Description
from kd2mobile.text import listed
from kd2mobile.tflite.results import TfliteResults
from kd2mobile.training.results import STUDENT_FILE, StudentResults
from kd2mobile.transfer.results import TransferResults

if TYPE_CHECKING:
    from kd2mobile.data.sources.roots import Root
    from kd2mobile.data.sources.scan import Scan
    from kd2mobile.training.examples import Examples

Folders = dict[str, Path]
"""The folders of a step's inputs by name."""
OF_LABELLED = "labelled_"
"""Before the name of an input of the labelled images where a step over the unlabelled ones has its own of that name."""
UNLABELLED = "unlabelled_"
"""Before the name of an input of the unlabelled images."""


@dataclass(frozen=True)
class Images:
    """The images that steps are over: those with labels, or those without. root / a path in scan is a file."""

    root: "Root"
    scan: "Scan"
    labelled: bool = True


@dataclass(frozen=True)
class Context:
    """What the config and the build of a step are made from. recipe: as the student of that step is trained by."""

    recipe: Recipe
    images: Images


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One entry of the table.

    name: the first folder under the store; title: what its folder holds, for the report. version: raised when the code
    changes the result. images: over which it is built, for stages before the student. per_teacher: whether each teacher
    has an artifact of its own; combined: the stage that makes one of several teachers' artifacts, None for stages whose
    artifacts stay apart.
    reads: the stages whose artifacts it reads; reads_labelled: those of the labelled images that it reads besides where
    it is over the unlabelled ones; reads_unlabelled: those of the unlabelled images that it reads besides.
    config: what of the context can change the result; build: fills a folder, given those of its inputs, and returns the
    results for the record. Both take what further says of the step by keyword. None where `data/sources/` makes it.
    files: those without which its artifact is none, each a pattern or several with a bar between them; results: the
    type of what build returns, where anything of it is read later. up_to_date_note: why nothing has to be
    built when the artifact exists.
    """

    name: str
    title: str
    version: int = 1
    reads: tuple[str, ...] = ()
    reads_labelled: tuple[str, ...] = ()
    reads_unlabelled: tuple[str, ...] = ()
    images: Literal["none", "labelled", "both"] = "none"
    per_teacher: bool = False
    combined: "Stage | None" = None
    config: Callable[..., dict[str, Any]] | None = None
    build: Callable[..., Results] | None = None
    files: tuple[str, ...]
    results: type[msgspec.Struct] | None = None
    up_to_date_note: str = "same recipe, same inputs"


def resize_of(recipe: Recipe) -> dict[str, Any]:
    """How the images become square, for a step's config. margin: a version, counted up since `pad` had a pixel more
    than it needs at some sizes."""
    resize = recipe.data.resize
    return {"resize": resize} | ({"margin": 2} if resize == "pad" else {})


def _thumbnails_config(context: Context) -> dict[str, Any]:
    return {"content" if context.images.labelled else "unlabelled": context.images.scan.content}


def _thumbnails(context: Context, folder: Path, inputs: Folders) -> dict[str, Any]:
    from kd2mobile.data.thumbnails import write_thumbnails

    return write_thumbnails(folder, context.images.root, context.images.scan.images)


def _split_config(context: Context) -> dict[str, Any]:
    from kd2mobile.data.sources.scan import content_of
    from kd2mobile.data.splits.groups import column_of, group_keys

    data = context.recipe.data
    if not context.images.labelled:
        return {"groups": data.groups}
    config = {"val": data.val, "test": data.test, "seed": data.seed, "groups": data.groups}
    keys = group_keys(context.images.scan.images, data.group_by)
    if data.group_by:
        config["group_by"] = data.group_by
    if column_of(data.group_by):
        config["keys"] = content_of(sorted(keys.items()))
    return config


def _split(context: Context, folder: Path, inputs: Folders) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.data.splits.splitting import split_images, split_unlabelled
    from kd2mobile.data.thumbnails import read_thumbnails

    data, images, thumbnails = context.recipe.data, context.images, read_thumbnails(inputs["thumbnails"])
    if images.labelled:
        return split_images(folder, images.root, images.scan, data, thumbnails)
    labelled = read_split(inputs[OF_LABELLED + "split"])
    beside = read_thumbnails(inputs[OF_LABELLED + "thumbnails"])
    return split_unlabelled(folder, images.root, images.scan, labelled, thumbnails, beside, groups=data.groups)


def _views_config(context: Context) -> dict[str, Any]:
    recipe = context.recipe
    return (msgspec.to_builtins(recipe.views) if not _whole(recipe) else {"whole": True}) | resize_of(recipe)


def _views(context: Context, folder: Path, inputs: Folders) -> dict[str, Any]:
    from kd2mobile.data.split import read_split
    from kd2mobile.data.views import draw_views

    recipe, whole = context.recipe, _whole(context.recipe)
    if whole:
        say(f"views: one whole view per image, because {listed(whole)} holds one row per image")
    return draw_views(folder, read_split(inputs["split"]), None if whole else recipe.views, recipe.data.resize)


def _whole(recipe: Recipe) -> list[str]:
    """The teachers that have logits of whole images alone: then each image has one view, the whole."""
    return [title(teacher.name) for teacher in recipe.teachers if whole_images_only(teacher.name)]


def _teacher_config(context: Context, teacher: Teacher) -> dict[str, Any]:
    return kind_of(teacher.name).config(teacher, context.images.scan.classes) | resize_of(context.recipe)


def _teacher(context: Context, folder: Path, inputs: Folders, teacher: Teacher) -> Description:
    load_keras()
    from kd2mobile.data.split import read_split
    from kd2mobile.teachers.reading import TeacherImages

    images = TeacherImages(context.images.root, read_split(inputs["split"]), context.recipe.data.resize)
    return kind_of(teacher.name).build(folder, teacher, images)


def _transfer_config(context: Context, teacher: Teacher) -> dict[str, Any]:
    return transfer_settings(teacher)


def _transfer(context: Context, folder: Path, inputs: Folders, teacher: Teacher) -> TransferResults:
    load_keras()
    from kd2mobile.data.split import read_split
    from kd2mobile.transfer.given import holds_logits, store_given_logits
    from kd2mobile.transfer.label import label

    recipe, split = context.recipe, read_split(inputs["split"])
    if holds_logits(inputs["teacher"]):
        return store_given_logits(folder, inputs["teacher"], split)
    return label(
        folder,
        inputs["teacher"],
        context.images.root,
        split,
        inputs["views"],
        recipe.label.batch_size,
        workers=recipe.label.workers,
        dtype=teacher.dtype,
    )


def _combined_config(context: Context) -> dict[str, Any]:
    return ensemble_settings(context.recipe)


def _combined(context: Context, folder: Path, inputs: Folders) -> TransferResults:
    load_keras()
    from kd2mobile.data.split import read_split
    from kd2mobile.transfer.combine import combine, mixture_of
    from kd2mobile.transfer.evaluation import val_logits
    from kd2mobile.transfer.members import chosen_mixture

    recipe, split = context.recipe, read_split(inputs["split"])
    members = [inputs[f"transfer-{number}"] for number in range(1, len(recipe.teachers) + 1)]
    if OF_LABELLED + "transfer" in inputs:  # without labels nothing can be chosen
        mixture = mixture_of(inputs[OF_LABELLED + "transfer"])
    else:
        val = [val_logits(member) for member in members]
        mixture = chosen_mixture(recipe.ensemble, temperatures_of(recipe), val, split.labels_of("val"))
    return combine(folder, members, split, mixture)


def _pixels_config(context: Context) -> dict[str, Any]:
    return {"input_px": context.recipe.student.input_px}


def _pixels(context: Context, folder: Path, inputs: Folders) -> dict[str, Any]:
    from kd2mobile.data.pixel_store import render_pixels
    from kd2mobile.data.split import read_split

    split, px = read_split(inputs["split"]), context.recipe.student.input_px
    return render_pixels(folder, context.images.root, split, inputs["views"], px)


def _student_config(context: Context) -> dict[str, Any]:
    recipe = context.recipe
    return {"student": student_settings(recipe.student), "distill": distill_settings(recipe.distill)}


def _student(context: Context, folder: Path, inputs: Folders) -> StudentResults:
    load_keras()
    from kd2mobile.training.train import train_student

    return train_student(folder, context.recipe.distill, context.recipe.student, _examples(inputs))


def _compressed_config(context: Context, method: str, preserve: list[str]) -> dict[str, Any]:
    from kd2mobile.compress.methods import VERSIONS, method_settings

    settings = method_settings(context.recipe.compress, method)
    return {"method": method, "method_version": VERSIONS[method], "preserve": preserve, **settings}


def _compressed(context: Context, folder: Path, inputs: Folders, method: str, preserve: list[str]) -> CompressedResults:
    from kd2mobile.compress.compress import compress_student
    from kd2mobile.compress.job import Job

    recipe = context.recipe
    job = Job.of(
        _examples(inputs),
        inputs["student"] / STUDENT_FILE,
        folder,
        name=recipe.student.name,
        method=method,
        preserve=preserve,
        compress=recipe.compress,
        distill=recipe.distill,
    )
    return compress_student(job)


def _examples(inputs: Folders) -> "Examples":
    """What a student with those inputs learns from."""

    from kd2mobile.data.split import read_split
    from kd2mobile.training.examples import Examples

    split = read_split(inputs["split"])
    labels = {name: split.labels_of(name) for name in ("train", "val")}
    pixels, transfer = inputs.get(UNLABELLED + "pixels"), inputs.get(UNLABELLED + "transfer")
    return Examples(
        labels["train"],
        labels["val"],
        inputs["pixels"],
        inputs.get("transfer"),
        len(split.classes),
        (pixels, transfer) if pixels and transfer else None,
    )


def _tflite_config(context: Context, variant: Variant, export: Export) -> dict[str, Any]:
    from kd2mobile.tflite.settings import file_settings

    return file_settings(export, variant, len(context.images.scan.classes)) | resize_of(context.recipe)


def _tflite(context: Context, folder: Path, inputs: Folders, variant: Variant, export: Export) -> TfliteResults:
    raise DataError(folder, "must be built with the other precisions", None, "Use `kd2mobile.export`.")


LABELLED_OR_NOT = ("train-00000.npy|unlabelled-00000.npy",)

TRANSFER = Stage(
    name="transfer",
    title="the teacher's logits for every view",
    reads=("teacher", "split", "views"),
    images="both",
    per_teacher=True,
    config=_transfer_config,
    build=_transfer,
    files=LABELLED_OR_NOT,
    results=TransferResults,
    up_to_date_note="its logits are stored: the teacher is not run again",
)
STAGES = {
    stage.name: stage
    for stage in (
        Stage(name="source", title="images that were written as files", files=("images/*",)),
        Stage(
            name="thumbnails",
            title="what decoding each image gave",
            version=2,
            images="both",
            config=_thumbnails_config,
            build=_thumbnails,
            files=("thumbnails-00000.npy",),
        ),
        Stage(
            name="split",
            title="train, val and test",
            version=3,
            reads=("thumbnails",),
            reads_labelled=("split", "thumbnails"),
            images="both",
            config=_split_config,
            build=_split,
            files=("split.json", "groups.json"),
            results=SplitResults,
        ),
        Stage(
            name="views",
            title="crops and flips of each image",
            reads=("split",),
            images="both",
            config=_views_config,
            build=_views,
            files=("train.npy|unlabelled.npy",),
        ),
        Stage(
            name="teacher",
            title="the teacher",
            reads=("split",),
            images="labelled",
            per_teacher=True,
            config=_teacher_config,
            build=_teacher,
            files=("teacher.json", "teacher.keras|logits.npz"),
            results=Description,
        ),
        replace(
            TRANSFER,
            combined=replace(
                TRANSFER,
                reads=("transfer", "split"),
                reads_labelled=("transfer",),
                config=_combined_config,
                build=_combined,
            ),
        ),
        Stage(
            name="pixels",
            title="the student's pixels of every view",
            reads=("split", "views"),
            images="both",
            config=_pixels_config,
            build=_pixels,
            files=LABELLED_OR_NOT,
        ),
        Stage(
            name="student",
            title="a trained student",
            reads=("split", "pixels", "transfer"),
            reads_unlabelled=("transfer", "pixels"),
            config=_student_config,
            build=_student,
            files=(STUDENT_FILE, "history.jsonl"),
            results=StudentResults,
        ),
        Stage(
            name="compressed",
            title="a student after one compression",
            reads=("student", "split", "pixels", "transfer"),
            config=_compressed_config,
            build=_compressed,
            files=(STUDENT_FILE,),
            results=CompressedResults,
        ),
        Stage(
            name="tflite",
            title="a file for devices",
            version=3,
            reads=("student", "split"),
            config=_tflite_config,
            build=_tflite,
            files=("*.tflite",),
            results=TfliteResults,
        ),
    )
}


def needed_for(name: str) -> set[str]:
    """The stage and every one whose artifacts it reads, directly or not.

    >>> sorted(needed_for("split"))
    ['split', 'thumbnails']
    """
    return {name}.union(*(needed_for(read) for read in STAGES[name].reads))


FORMS.update({stage.name: Form(stage.title, stage.files, stage.results) for stage in STAGES.values()})
