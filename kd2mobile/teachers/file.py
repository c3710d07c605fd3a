"""A teacher that the user brings as a model file: what it is, what it wants, whether its classes are the user's."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile.data.sources.folders import plain_name
from kd2mobile.errors import TeacherError
from kd2mobile.inspection.labels import number_and_name, read_labels
from kd2mobile.metrics import softmax
from kd2mobile.progress import say
from kd2mobile.recipe.schema import INPUT_PX
from kd2mobile.recipe.schema import Teacher as Asked
from kd2mobile.teachers.imagenet import OUTPUTS, imagenet_numbers, in_imagenets_order
from kd2mobile.teachers.keras_file import first_line, load_keras_file
from kd2mobile.teachers.output import classes_axis, ending, replaced, without_activation
from kd2mobile.teachers.preprocess import preprocess
from kd2mobile.teachers.teacher import DESCRIPTION, MODES, equal_sums, read_description

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are raised to it before the logarithm, which would be minus infinity at 0; so it is -16.1 at least."""
SUM_WITHIN = 0.05
"""So far from 1 may the sum of a photo's probabilities be, as clipping leaves them."""
FLOAT32_PART = 1e-3
"""Part of a probability that may be lost to float32's rounding, in another order, on another kernel."""
OWN_LOGITS = "see docs/how-to/own-teacher.md."


@dataclass
class TeacherFile:
    """A model from a file, made to answer with logits.

    own: the model as the file has it, with whatever it answers; the same as model where nothing was changed.
    outputs: how many numbers it answers with; classes: their names, if the file's owner said them, and classes_from:
    where; changes: what was done to the model, in words.
    """

    path: Path
    model: keras.Model
    own: keras.Model
    input_px: int
    preprocess: str
    outputs: int
    classes: list[str] | None
    classes_from: Path | None
    changes: list[str] = field(default_factory=list)


def read_teacher_file(path: Path, asked: Asked) -> TeacherFile:
    """The model in a .keras or .h5 file, loaded without running any code of it, ready to give logits.

    A teacher.json beside the file may say `preprocess`, `classes` (in the order of the outputs), `output` and
    `input_px`; asked.preprocess, .classes (a file, one name per line) and .output say the same in its place. Without
    either the model must bring its own preprocessing. A softmax that is the output itself is taken off (that of
    keras.ops only where the output was said to be probabilities); other probabilities become log(max(p, 1e-7)).
    Raises TeacherError if the file cannot be loaded, computes channels first, takes anything but one square RGB image,
    answers with anything but one number per class, in another activation than softmax, does not say what its pixels
    should be, or says something else than the recipe.
    """
    if not path.is_file():
        raise TeacherError(path, "must be a .keras or .h5 file", "no such file", "Check the path.")
    model = load_keras_file(path)
    _check_finite(path, model)
    _check_channels_last(path, model)
    beside = path.with_name(DESCRIPTION)
    described = read_description(beside) if beside.is_file() else {}
    said = _said(asked, beside, described)
    px = _input_px(path, model, asked.input_px or described.get("input_px"))
    _check_task(path, model)
    own = keras.Model(model.inputs, model.outputs[0], name=model.name)  # an answer, where it gave a dict or list of one
    changes: list[str] = []
    model = _as_logits(path, own, said["output"], changes)
    mode = said["preprocess"] or _own_preprocessing(path, model)
    answer = _answer(path, own, px, mode, asked.batch_size)
    if said["output"] == "probabilities" and not changes:
        check_probabilities(path, answer)
        model = _log_probabilities(model, changes)
    for change in changes:
        say(f"{path.name}: {change}")
    classes_from = (Path(asked.classes) if asked.classes else beside) if said["classes"] else None
    outputs = int(model.outputs[0].shape[-1])
    return TeacherFile(path, model, own, px, mode, outputs, said["classes"], classes_from, changes)


def _check_finite(path: Path, model: keras.Model) -> None:
    """A ReLU turns NaN into 0, so that the logits do not show it."""
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            next_step = "Save it again from an epoch before its loss was NaN."
            raise TeacherError(path, "must hold finite weights", f"NaN or infinity in {weight.path}", next_step)


def _check_channels_last(path: Path, model: keras.Model) -> None:
    for layer in _flat(model):
        if getattr(layer, "data_format", None) == "channels_first":
            step = 'Build it with data_format="channels_last", give it the same weights and save it again.'
            raise TeacherError(f"{path}, layer {layer.name}", "must be channels_last", "channels_first", step)


def check_probabilities(where: object, answers: np.ndarray) -> None:
    """Raises TeacherError unless the answers, float [n, classes], are at least 0 and each row sums to about 1."""
    sums = answers.sum(axis=1)
    if not (answers.min() >= 0 and (np.abs(sums - 1) <= SUM_WITHIN).all()):
        must = "must output probabilities that sum to 1, as teacher.output says"
        got = f"sums from {sums.min():.3g} to {sums.max():.3g}, the least number {answers.min():.3g}"
        raise TeacherError(where, must, got, _instead(answers))


def _instead(answers: np.ndarray) -> str:
    """What to do about answers that are no probabilities: `logits` is said of those alone that may be logits."""
    if total := equal_sums(answers):
        return f"Divide them by {total:.4g} at the model's end and save it again."
    if answers.min() >= 0 and answers.max() <= 1:
        return f"Give the numbers before the sigmoid, or log(p): {OWN_LOGITS}"
    return "Give `--teacher-output logits` if they are logits."


def check_own_answers(file: TeacherFile, numbers: list[int] | None, own: np.ndarray, logits: np.ndarray) -> None:
    """Holds the logits that will be stored against what the file itself answers for the same photos.

    own: float [n, outputs], of file.own; numbers: which of the outputs are the classes, None for all; logits: float
    [n, classes]. Softmax of the logits, as float16, must be the file's probabilities normalized to sum 1, or the
    softmax of its logits. Rounding a logit z to float16 moves it by up to |z| / 2048 and so a probability by twice that
    part of itself; raising probabilities to SMALLEST_PROBABILITY, by that. Raises TeacherError where more is lost.
    """
    if file.changes:
        check_probabilities(file.path, own)
    own = own.astype(np.float64) if numbers is None else own[:, numbers].astype(np.float64)
    wanted, raised = softmax(own), 0.0
    if file.changes:
        total = np.maximum(own.sum(axis=1, keepdims=True), SMALLEST_PROBABILITY)
        wanted, raised = own / total, SMALLEST_PROBABILITY * file.outputs / total
    stored = logits.astype(np.float16).astype(np.float64)
    rounding = np.expm1(2 * np.abs(stored).max(axis=1, keepdims=True) / 2048)
    excess = np.abs(softmax(stored) - wanted) - wanted * (rounding + raised + FLOAT32_PART) - raised
    if not (excess <= 0).all():
        row, column = np.unravel_index(np.nanargmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
        got = f"{softmax(stored)[row, column]:.4g} where the file says {wanted[row, column]:.4g}"
        must = "must output logits whose softmax is the file's own output, within float16's rounding"
        raise TeacherError(file.path, must, got, f"Please report it, and give its logits: {OWN_LOGITS}")


def classes_fit(file: TeacherFile, classes: list[str]) -> bool:
    """Whether the outputs are the user's classes; if not, the teacher needs a new head.

    Names are compared composed (NFC) and stripped; the classes may all have their outputs' numbers, as in `0 red`.
    Raises TeacherError if they are the same classes in another order.
    """
    if file.classes is None:
        return file.outputs == len(classes)
    known, classes = _plain(file.classes), _plain(classes)
    if len(known) != file.outputs:
        raise TeacherError(
            file.classes_from, f"must list {file.outputs} classes", len(known), "Give one name per output."
        )
    numbered = [number_and_name(name) for name in classes]
    if known != classes and None not in numbered and sorted(numbered) == list(enumerate(known)):
        known = [name for _, name in sorted(zip([number for number, _ in numbered], classes, strict=True))]
    if known != classes and sorted(known) == sorted(classes):
        first = next(i for i, pair in enumerate(zip(known, classes, strict=True)) if pair[0] != pair[1])
        raise TeacherError(
            f"{file.path}, output {first}",
            f"must be the class {classes[first]!r}, in the order of the sorted folders",
            repr(known[first]),
            "Its classes are in another order: reorder its last layer, or rename the folders.",
        )
    return known == classes


def imagenet_outputs(file: TeacherFile, classes: list[str]) -> list[int] | None:
    """Which of the file's 1,000 outputs are the user's classes; None if it has others, or they are not ImageNet's."""
    if file.outputs != OUTPUTS or (file.classes is not None and not in_imagenets_order(file.classes)):
        return None
    return imagenet_numbers(classes)


def select_outputs(model: keras.Model, numbers: list[int]) -> keras.Model:
    """The model with those of its outputs [batch, outputs], in that order."""
    return keras.Model(model.inputs, keras.ops.take(model.outputs[0], numbers, axis=-1))


ANOTHER_ORDER = (
    f"Its classes are probably in another order than the sorted folders: write `classes` into a {DESCRIPTION} beside "
    "it, and `preprocess` if its pixels are wrong."
)


def features_of(file: TeacherFile) -> keras.Model:
    """The model up to its last Dense layer, as features [batch, channels]. Raises TeacherError if there is none."""
    last, _ = ending(file.model.outputs[0])
    if not isinstance(last, keras.layers.Dense):
        raise TeacherError(
            file.path,
            "must end in a Dense layer, which a new head for your classes replaces",
            type(last).__name__,
            "Give a teacher with your classes, or one of `kd2mobile list teachers`.",
        )
    features = replaced(file.model.outputs[0], lambda _, tensor: tensor)
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="features")(features)
    return keras.Model(file.model.inputs, features)


def _input_px(path: Path, model: keras.Model, asked: int | None) -> int:
    shapes = [tuple(tensor.shape) for tensor in model.inputs or []]
    square = "Give a model with one input [batch, px, px, 3]."
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3 or shapes[0][1] != shapes[0][2]:
        raise TeacherError(path, "must have one square RGB image as input", f"inputs {shapes}", square)
    own = shapes[0][1]
    if own is None and asked is None:
        raise TeacherError(path, "accepts images of any size", None, "Choose one with --teacher-input-px.")
    if own is not None and asked is not None and own != asked:
        raise TeacherError("teacher.input_px", f"must be {own}, the input of {path}", asked, "Leave it out.")
    px = int(own or asked)
    if px > INPUT_PX:
        raise TeacherError(path, f"must take images of at most {INPUT_PX:,} px", f"{px:,} px", square)
    return px


def _check_task(path: Path, model: keras.Model) -> None:
    outputs = [tuple(tensor.shape) for tensor in model.outputs or []]
    if len(outputs) == 1 and len(outputs[0]) == 2 and (outputs[0][1] or 0) > 1:
        return
    if len(outputs) != 1:
        task = "several outputs"
    elif outputs[0][1:] == (1,):
        task = "a single number, as of a regression or a yes-or-no question"
    elif len(outputs[0]) == 4:
        task = "a map, as of a segmentation or of features"
    else:
        task = "another shape"
    step = "Give a classifier with one output [batch, classes], one number for each of two or more classes."
    raise TeacherError(path, "must output one number per class", f"outputs {outputs}: {task}", step)


def _said(asked: Asked, beside: Path, described: dict[str, Any]) -> dict[str, Any]:
    """preprocess, classes and output, by the recipe or by the description beside the file, None where neither says."""
    by_recipe = {"preprocess": asked.preprocess, "classes": _names(asked.classes), "output": asked.output}
    for name, value in by_recipe.items():
        there = described.get(name)
        if value is not None and there is not None and _plain(value) != _plain(there):
            shown = f"{getattr(asked, name)} here, {there if isinstance(there, str) else 'others'} there"
            must = f"must be as in {beside}, or left out"
            raise TeacherError(f"teacher.{name}", must, shown, f"Leave --teacher-{name} out, or repair the file.")
    return {name: value if value is not None else described.get(name) for name, value in by_recipe.items()}


def _plain(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else list(map(plain_name, said))


def _names(file: str | None) -> list[str] | None:
    return None if file is None else read_labels(Path(file), "--teacher-classes", TeacherError)


def _as_logits(path: Path, model: keras.Model, output: str | None, changes: list[str]) -> keras.Model:
    """The model without the softmax that its output is; of an operation's softmax only if the output was said to be
    probabilities. Raises TeacherError for the output of another activation."""
    operation, activation = ending(model.outputs[0])
    if activation is None:
        return model
    if activation not in ("softmax", "log_softmax") or not classes_axis(operation):
        over = f"the activation {activation}" if classes_axis(operation) else f"a {activation} over the batch"
        step = "Save the model without it, so that its outputs are logits of a softmax."
        raise TeacherError(f"{path}, layer {operation.name}", "must output logits", over, step)
    if (activation, output) in (("softmax", "logits"), ("log_softmax", "probabilities")):
        ends = activation.replace("_", "-")
        raise TeacherError("teacher.output", f"must be as in {path}, which ends in a {ends}", output, "Leave it out.")
    if activation == "log_softmax" or (output is None and not isinstance(operation, keras.layers.Layer)):
        return model  # log-probabilities are logits; probabilities by operations are refused unless they are said
    changes.append(f"its final softmax, {operation.name!r}, was removed")
    logits = keras.Model(model.inputs, replaced(model.outputs[0], without_activation), name=model.name)
    if ending(logits.outputs[0])[1] == "softmax":
        changes.append(
            "what is left ends in a softmax as well, so its answers differ little between the classes; save the model "
            "with one softmax for soft targets that say more"
        )
    return logits


def _answer(path: Path, model: keras.Model, px: int, mode: str, batch_size: int) -> np.ndarray:
    """What the model says of a batch of noise, float [batch_size, outputs]: that it can, for its graph may fail."""
    noise = np.random.default_rng(0).integers(0, 256, (batch_size, px, px, 3), np.uint8)
    try:
        return np.asarray(model.predict_on_batch(preprocess(noise, mode)))
    except Exception as fault:  # whatever TensorFlow or JAX say of its operations
        must = f"must accept a batch of {batch_size} images [{batch_size}, {px}, {px}, 3] of float32"
        raise TeacherError(path, must, first_line(fault), f"Give its logits: {OWN_LOGITS}") from fault


def _log_probabilities(model: keras.Model, changes: list[str]) -> keras.Model:
    changes.append(
        f"its probabilities p were converted to logits: the logarithm of p, with p at least {SMALLEST_PROBABILITY:g}"
    )
    inputs = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in model.inputs]
    probabilities = keras.ops.maximum(model(inputs[0]), SMALLEST_PROBABILITY)  # outside, where no name is taken yet
    return keras.Model(inputs, keras.ops.log(probabilities))


def _own_preprocessing(path: Path, model: keras.Model) -> str:
    for layer in _flat(model):
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            return "none"
        if layer.weights:
            break
    raise TeacherError(
        path,
        "must define the pixel values that it takes",
        "neither a Rescaling or Normalization layer at its start nor a teacher.json beside it",
        f'Give --teacher-preprocess, or write {path.with_name(DESCRIPTION)} as {{"preprocess": "tf"}}: one of '
        f"{', '.join(MODES)} (tf is [-1, 1], torch and caffe are ImageNet's means, none is 0..255).",
    )


def _flat(model: keras.Model) -> list[Any]:
    return [inner for x in model.layers for inner in (_flat(x) if isinstance(x, keras.Model) else [x])]
