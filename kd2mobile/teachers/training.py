"""The stage `teacher`: a network of the zoo or of a file comes to know the user's classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile.backend.batch_norm import batch_norms
from kd2mobile.backend.checkpoint import remove_checkpoints
from kd2mobile.backend.model_files import save_model
from kd2mobile.files import write_json
from kd2mobile.progress import bar, say
from kd2mobile.recipe import schema
from kd2mobile.teachers.body import build_body, build_whole
from kd2mobile.teachers.file import (
    ANOTHER_ORDER,
    TeacherFile,
    check_own_answers,
    classes_fit,
    features_of,
    imagenet_outputs,
    read_teacher_file,
    select_outputs,
)
from kd2mobile.teachers.fit import best_val, fit, shorten_statistics
from kd2mobile.teachers.head import fit_head, frozen_features, remove_features, with_head
from kd2mobile.teachers.imagenet import OUTPUTS, ambiguous_names, imagenet_classes, imagenet_numbers
from kd2mobile.teachers.kinds import kind_of
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.teacher import (
    DESCRIPTION,
    MODEL,
    Teacher,
    check_not_probabilities,
    check_order,
    read_description,
)
from kd2mobile.teachers.zoo import TEACHERS

NOT_IMAGENETS = (
    "The folders have the names of ImageNet classes. If they are other classes, rename them, and a new head is trained."
)


def make_teacher(
    folder: Path, asked: schema.Teacher, images: TeacherImages, own_file: Path | None = None
) -> dict[str, Any]:
    """Writes teacher.keras (logits out) and teacher.json (name, input_px, preprocess, classes, resize, val, ...).

    asked.weights "none" trains the whole network from scratch on the training images. With weights, the body stays
    as it is and a new head is fitted to its features; asked.fine_tune_epochs then unfreezes the body, every
    BatchNormalization kept frozen. own_file: a Keras model of the user's, in place of one of the zoo; it is taken as it
    is if its classes are the user's, with a new head if not. Where the user's classes are ImageNet's, by id or by name,
    those of a network's 1,000 outputs are used as they are. asked.train_fraction is the part of each class's training
    images that it is trained on. A killed call resumes from the features and epochs that stand in the folder.

    Returns what teacher.json says, with val {n, top1, logloss} in it, which is also printed.
    Raises UnknownNameError, WeightsError, TeacherError, TrainingError or ImageError.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION).is_file() and (folder / MODEL).is_file():
        return read_description(folder / DESCRIPTION)
    kind_of(asked.name).check(asked)
    split = images.split.part_of_train(asked.train_fraction, asked.seed)
    images = replace(images, split=split)
    keras.utils.clear_session(free_memory=False)  # layers are named by counting, which begins anew
    keras.utils.set_random_seed(asked.seed)
    file = read_teacher_file(own_file, asked) if own_file else None
    teacher, how = _from_file(folder, asked, images, file) if file else _from_zoo(folder, asked, images)
    if how["way"] == "nothing":  # its epochs were evaluated as they ended
        val = best_val(how["history"], len(images.samples_of("val")))
    else:
        logits, val = teacher.evaluate(images, "teacher on validation")
    if file and how["way"] != "head":
        _check_as_the_file_answers(file, teacher, images, logits)
    if how["way"] in ("file", "imagenet"):
        order = ANOTHER_ORDER if how["way"] == "file" else NOT_IMAGENETS
        check_order(Path(asked.name), logits, images.labels("val"), split.classes, order)
    if asked.fine_tune_epochs and how["way"] != "nothing":
        how["fine_tuning"] = _unfrozen(folder, teacher, asked, images, val)
        val = best_val(how["fine_tuning"], len(images.samples_of("val")))
    say(f"teacher {teacher.where}: validation top-1 {val['top1']:.3f}, logloss {val['logloss']:.3f}")
    save_model(keras.Model(teacher.model.inputs, teacher.model.outputs), folder / MODEL)  # fresh: without an optimizer
    described = {
        "name": teacher.where,
        "weights": None if own_file else Path(asked.weights).name,
        "input_px": teacher.input_px,
        "preprocess": teacher.preprocess,
        **({"output": "logits"} if teacher.known_logits else {}),
        "classes": split.classes,
        "resize": images.resize,
        "parameters": teacher.model.count_params(),
        **how,
        "val": val,
    }
    write_json(folder / DESCRIPTION, described)
    remove_features(folder)
    remove_checkpoints(folder)
    return described


def _from_zoo(folder: Path, asked: schema.Teacher, images: TeacherImages) -> tuple[Teacher, dict[str, Any]]:
    architecture = TEACHERS[asked.name]
    px = asked.input_px or architecture.px
    numbers = imagenet_numbers(images.split.classes) if asked.weights != "none" else None
    if numbers is not None:
        if whole := build_whole(architecture, px, asked.weights):
            teacher = Teacher(whole, px, architecture.preprocess, asked.name, asked.batch_size)
            return teacher, _imagenets_own(teacher, numbers)
        say(
            f"{asked.name}: the classes are ImageNet's, but these weights have no head for {px} px; a new head "
            "is trained"
        )
    elif asked.weights != "none":
        _say_unclear(asked.name, images.split.classes)
    body = build_body(architecture, px, asked.weights)
    teacher = Teacher(body, px, architecture.preprocess, asked.name, asked.batch_size)
    if asked.weights == "none":
        return teacher, {"way": "nothing", "history": _from_nothing(folder, teacher, asked, images)}
    return teacher, {"way": "head", "head": _give_head(folder, teacher, images)}


def _from_file(
    folder: Path, asked: schema.Teacher, images: TeacherImages, file: TeacherFile
) -> tuple[Teacher, dict[str, Any]]:
    teacher = Teacher(file.model, file.input_px, file.preprocess, file.path.name, asked.batch_size, bool(file.changes))
    classes = images.split.classes
    numbers = imagenet_outputs(file, classes)
    if numbers is not None:
        return teacher, {"changes": file.changes, **_imagenets_own(teacher, numbers)}
    if classes_fit(file, classes):
        return teacher, {"way": "file", "changes": file.changes}
    if file.outputs == OUTPUTS:
        _say_unclear(file.path.name, classes)
    say(
        f"{file.path.name}: its {file.outputs} outputs are not the {len(classes)} classes of the data; a new "
        "head is trained"
    )
    teacher.model = features_of(file)
    head = _give_head(folder, teacher, images)
    return teacher, {"way": "head", "changes": [*file.changes, "its head was replaced"], "head": head}


def _check_as_the_file_answers(file: TeacherFile, teacher: Teacher, images: TeacherImages, logits: np.ndarray) -> None:
    if not file.changes:
        check_not_probabilities(logits, file.path)
    classes, samples, own = images.split.classes, images.samples_of("val"), logits
    if file.changes:
        whole = replace(teacher, model=file.own)
        with bar("the file's own answers", len(samples), "images") as advance:
            answers = []
            for answer in whole.evaluated_outputs(images, samples):
                answers.append(answer)
                advance(len(answer))
        own = np.concatenate(answers)
    check_own_answers(file, imagenet_outputs(file, classes) if file.changes else None, own, logits)


def _imagenets_own(teacher: Teacher, numbers: list[int]) -> dict[str, Any]:
    """Leaves the teacher those of ImageNet's outputs, in place; returns how."""
    teacher.model = select_outputs(teacher.model, numbers)
    say(f"{teacher.where}: the {len(numbers):,} classes are ImageNet's; the teacher keeps its own head")
    return {"way": "imagenet", "imagenet_ids": [imagenet_classes()[i][0] for i in numbers]}


def _say_unclear(name: str, classes: list[str]) -> None:
    for unclear, ids in ambiguous_names(classes).items():
        say(
            f"{name}: {unclear!r} is ImageNet's {' and '.join(ids)}; rename the folder to its id to use ImageNet's head"
        )


def _from_nothing(folder: Path, teacher: Teacher, asked: schema.Teacher, images: TeacherImages) -> list[dict[str, Any]]:
    logits = keras.layers.Dense(len(images.split.classes), name="logits")(teacher.model.outputs[0])
    teacher.model = keras.Model(teacher.model.inputs, logits)
    shorten_statistics(teacher.model, asked.epochs * -(-len(images.samples_of("train")) // asked.batch_size))
    return fit(folder, teacher, images, asked)


def _give_head(folder: Path, body: Teacher, images: TeacherImages) -> dict[str, Any]:
    """Turns features into logits, in place; returns how."""
    train, val = (frozen_features(folder, body, images, name) for name in ("train", "val"))
    weights, biases, chosen = fit_head(train, images.labels("train"), val, images.labels("val"))
    body.model = with_head(body.model, weights, biases)
    return chosen


def _unfrozen(
    folder: Path, teacher: Teacher, asked: schema.Teacher, images: TeacherImages, start: dict[str, Any]
) -> list[dict[str, Any]]:
    # training=False for the body would not do: fit overrides it, github.com/keras-team/keras/issues/20285
    teacher.model.trainable = False  # first: setting True where it is True already reaches no frozen layer inside
    teacher.model.trainable = True
    for layer in batch_norms(teacher.model):
        layer.trainable = False
    return fit(folder, teacher, images, asked, start)
