"""The stage `teacher`: gives a network of the zoo or of a file the user's classes, by a new head or by training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from msgspec import structs

from kd2mobile.backend.batch_norm import batch_norms
from kd2mobile.backend.checkpoint import remove_checkpoints
from kd2mobile.backend.model_files import save_model
from kd2mobile.progress import bar, say
from kd2mobile.recipe import schema
from kd2mobile.store.stage_records import Validated
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
from kd2mobile.teachers.results import Description, Head
from kd2mobile.teachers.teacher import (
    DESCRIPTION,
    MODEL,
    Teacher,
    check_not_probabilities,
    check_order,
    read_description,
    write_description,
)
from kd2mobile.teachers.zoo import TEACHERS

NOT_IMAGENETS = (
    "The folders have the names of ImageNet classes. If they are other classes, rename them, and a new head is trained."
)


def make_teacher(
    folder: Path, config: schema.Teacher, images: TeacherImages, own_file: Path | None = None
) -> Description:
    """Writes teacher.keras (outputs logits) and teacher.json.

    With config.weights "none" the whole network is trained from scratch on the training images. With other weights the
    body stays frozen and a new head is fitted to its features; config.fine_tune_epochs then trains the whole network,
    with every BatchNormalization frozen. If the user's classes are ImageNet classes, by id or by name, their outputs of
    the network's 1,000 are used without a new head. A killed call resumes from the features and epochs in the folder.

    config: the recipe's [teacher]; config.train_fraction is the fraction of each class's training images that are used.
    own_file: the user's Keras model in place of a network of the zoo. It stays as it is if its classes are the user's,
    and gets a new head if not.
    Returns the content of teacher.json, whose val is also printed.
    Raises UnknownNameError, WeightsError, TeacherError, TrainingError or ImageError.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION).is_file() and (folder / MODEL).is_file():
        return read_description(folder / DESCRIPTION)
    kind_of(config.name).check(config)
    split = images.split.part_of_train(config.train_fraction, config.seed)
    images = replace(images, split=split)
    keras.utils.clear_session(free_memory=False)  # layers are named by counting, which begins anew
    keras.utils.set_random_seed(config.seed)
    file = read_teacher_file(own_file, config) if own_file else None
    teacher, how = _from_file(folder, config, images, file) if file else _from_zoo(folder, config, images)
    if how.way == "nothing":  # its epochs were evaluated as they ended
        val = best_val(how.history, len(images.samples_of("val")))
    else:
        logits, val = teacher.evaluate(images, "teacher on validation")
    if file and how.way != "head":
        _check_against_file(file, teacher, images, logits)
    if how.way in ("file", "imagenet"):
        order = ANOTHER_ORDER if how.way == "file" else NOT_IMAGENETS
        check_order(Path(config.name), logits, images.labels("val"), split.classes, order)
    if config.fine_tune_epochs and how.way != "nothing":
        how = structs.replace(how, fine_tuning=_unfrozen(folder, teacher, config, images, val))
        val = best_val(how.fine_tuning, len(images.samples_of("val")))
    say(f"teacher {teacher.where}: validation top-1 {val.top1:.3f}, logloss {val.logloss:.3f}")
    save_model(keras.Model(teacher.model.inputs, teacher.model.outputs), folder / MODEL)  # fresh: without an optimizer
    described = structs.replace(
        how,
        name=teacher.where,
        weights=None if own_file else Path(config.weights).name,
        input_px=teacher.input_px,
        preprocess=teacher.preprocess,
        output="logits" if teacher.known_logits else None,
        classes=split.classes,
        resize=images.resize,
        parameters=int(teacher.model.count_params()),
        val=val,
    )
    write_description(folder, described)
    remove_features(folder)
    remove_checkpoints(folder)
    return described


def _from_zoo(folder: Path, config: schema.Teacher, images: TeacherImages) -> tuple[Teacher, Description]:
    architecture = TEACHERS[config.name]
    px = config.input_px or architecture.px
    numbers = imagenet_numbers(images.split.classes) if config.weights != "none" else None
    if numbers is not None:
        if whole := build_whole(architecture, px, config.weights):
            teacher = Teacher(whole, px, architecture.preprocess, config.name, config.batch_size)
            return teacher, _keep_imagenet_head(teacher, numbers)
        say(
            f"{config.name}: the classes are ImageNet's, but these weights have no head for {px} px; a new head "
            "is trained"
        )
    elif config.weights != "none":
        _report_ambiguous_names(config.name, images.split.classes)
    body = build_body(architecture, px, config.weights)
    teacher = Teacher(body, px, architecture.preprocess, config.name, config.batch_size)
    if config.weights == "none":
        return teacher, Description(way="nothing", history=_from_scratch(folder, teacher, config, images))
    return teacher, Description(way="head", head=_replace_head(folder, teacher, images))


def _from_file(
    folder: Path, config: schema.Teacher, images: TeacherImages, file: TeacherFile
) -> tuple[Teacher, Description]:
    teacher = Teacher(file.model, file.input_px, file.preprocess, file.path.name, config.batch_size, bool(file.changes))
    classes = images.split.classes
    numbers = imagenet_outputs(file, classes)
    if numbers is not None:
        return teacher, structs.replace(_keep_imagenet_head(teacher, numbers), changes=file.changes)
    if classes_fit(file, classes):
        return teacher, Description(way="file", changes=file.changes)
    if file.outputs == OUTPUTS:
        _report_ambiguous_names(file.path.name, classes)
    say(
        f"{file.path.name}: its {file.outputs} outputs are not the {len(classes)} classes of the data; a new "
        "head is trained"
    )
    teacher.model = features_of(file)
    head = _replace_head(folder, teacher, images)
    return teacher, Description(way="head", changes=[*file.changes, "its head was replaced"], head=head)


def _check_against_file(file: TeacherFile, teacher: Teacher, images: TeacherImages, logits: np.ndarray) -> None:
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


def _keep_imagenet_head(teacher: Teacher, numbers: list[int]) -> Description:
    """Reduces the teacher, in place, to these outputs of ImageNet's. Returns entries of teacher.json."""
    teacher.model = select_outputs(teacher.model, numbers)
    say(f"{teacher.where}: the {len(numbers):,} classes are ImageNet's; the teacher keeps its own head")
    return Description(way="imagenet", imagenet_ids=[imagenet_classes()[i][0] for i in numbers])


def _report_ambiguous_names(name: str, classes: list[str]) -> None:
    for class_name, ids in ambiguous_names(classes).items():
        say(
            f"{name}: {class_name!r} is ImageNet's {' and '.join(ids)}; rename the folder to its id to use "
            "ImageNet's head"
        )


def _from_scratch(
    folder: Path, teacher: Teacher, config: schema.Teacher, images: TeacherImages
) -> list[dict[str, Any]]:
    logits = keras.layers.Dense(len(images.split.classes), name="logits")(teacher.model.outputs[0])
    teacher.model = keras.Model(teacher.model.inputs, logits)
    shorten_statistics(teacher.model, config.epochs * -(-len(images.samples_of("train")) // config.batch_size))
    return fit(folder, teacher, images, config)


def _replace_head(folder: Path, body: Teacher, images: TeacherImages) -> Head:
    """Adds a fitted head to the body, in place. Returns the record of the fit."""
    train, val = (frozen_features(folder, body, images, name) for name in ("train", "val"))
    weights, biases, chosen = fit_head(train, images.labels("train"), val, images.labels("val"))
    body.model = with_head(body.model, weights, biases)
    return chosen


def _unfrozen(
    folder: Path, teacher: Teacher, config: schema.Teacher, images: TeacherImages, start: Validated
) -> list[dict[str, Any]]:
    # training=False for the body would not do: fit overrides it, github.com/keras-team/keras/issues/20285
    teacher.model.trainable = False  # first: setting True where it is True already reaches no frozen layer inside
    teacher.model.trainable = True
    for layer in batch_norms(teacher.model):
        layer.trainable = False
    return fit(folder, teacher, images, config, start)
