"""A teacher from the user's model file: its input, its output as logits, and whether its classes are the user's."""

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
from kd2mobile.recipe.schema import Teacher as TeacherConfig
from kd2mobile.teachers.imagenet import OUTPUTS, imagenet_numbers, in_imagenets_order
from kd2mobile.teachers.keras_file import first_line, load_keras_file
from kd2mobile.teachers.output import classes_axis, ending, replaced, without_activation
from kd2mobile.teachers.preprocess import preprocess
from kd2mobile.teachers.results import Description
from kd2mobile.teachers.teacher import DESCRIPTION, MODES, equal_sums, read_description

SMALLEST_PROBABILITY = 1e-7
"""The lower bound of probabilities before the logarithm, so that no logit is below -16.1."""
SUM_WITHIN = 0.05
"""The largest accepted distance from 1 of the sum of an image's probabilities, because clipping changes the sum."""
FLOAT32_PART = 1e-3
"""The relative error of a probability that float32 rounding may cause, as in another order or on another kernel."""
OWN_LOGITS = "see docs/how-to/own-teacher.md."


@dataclass
class TeacherFile:
    """A model from a file, converted to output logits.

    model: outputs logits, float [batch, outputs]; own: the model as it is in the file, the same one if nothing was
    changed. input_px: side of the input in pixels. outputs: number of outputs; classes: their names, None if neither
    the recipe nor a teacher.json gives them; classes_from: the file that gives them. changes: what was changed in the
    model, in words.
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


def read_teacher_file(path: Path, config: TeacherConfig) -> TeacherFile:
    """The model in a .keras or .h5 file, loaded without running any code of it, ready to give logits.

    A teacher.json beside the file may give `preprocess`, `classes` (in the order of the outputs), `output` and
    `input_px`; the recipe may give them instead as config.preprocess, config.classes (a file, one name per line) and
    config.output. Without a `preprocess` the model must contain its own preprocessing. A final softmax is removed (a
    softmax of keras.ops only with the `output` probabilities); other probabilities p become log(max(p, 1e-7)).
    Raises TeacherError if the file cannot be loaded, computes channels first, takes anything but one square RGB image,
    answers with anything but one number per class, in another activation than softmax, does not say what its pixels
    should be, or says something else than the recipe.
    """
    if not path.is_file():
        raise TeacherError(path, "must be a .keras or .h5 file", "no such file", "Check the path.")
    model = load_keras_file(path)
    _check_finite(path, model)
    _check_channels_last(path, model)
    description_file = path.with_name(DESCRIPTION)
    described = read_description(description_file) if description_file.is_file() else Description()
    settings = _given_settings(config, description_file, described)
    px = _input_px(path, model, config.input_px or described.input_px)
    _check_task(path, model)
    own = keras.Model(model.inputs, model.outputs[0], name=model.name)  # an answer, where it gave a dict or list of one
    changes: list[str] = []
    model = _as_logits(path, own, settings["output"], changes)
    mode = settings["preprocess"] or _own_preprocessing(path, model)
    answer = _answer(path, own, px, mode, config.batch_size)
    if settings["output"] == "probabilities" and not changes:
        check_probabilities(path, answer)
        model = _log_probabilities(model, changes)
    for change in changes:
        say(f"{path.name}: {change}")
    classes_from = (Path(config.classes) if config.classes else description_file) if settings["classes"] else None
    outputs = int(model.outputs[0].shape[-1])
    return TeacherFile(path, model, own, px, mode, outputs, settings["classes"], classes_from, changes)


def _check_finite(path: Path, model: keras.Model) -> None:
    """Raises TeacherError for weights that are not finite. A ReLU turns NaN into 0, so the logits do not show it."""
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
    """Raises TeacherError unless the outputs, float [n, classes], are at least 0 and each row sums to about 1."""
    sums = answers.sum(axis=1)
    if not (answers.min() >= 0 and (np.abs(sums - 1) <= SUM_WITHIN).all()):
        must = "must output probabilities that sum to 1, as teacher.output says"
        got = f"sums from {sums.min():.3g} to {sums.max():.3g}, the least number {answers.min():.3g}"
        raise TeacherError(where, must, got, _instead(answers))


def _instead(answers: np.ndarray) -> str:
    """The next step for outputs that are no probabilities. It suggests `logits` only where they may be logits."""
    if total := equal_sums(answers):
        return f"Divide them by {total:.4g} at the model's end and save it again."
    if answers.min() >= 0 and answers.max() <= 1:
        return f"Give the numbers before the sigmoid, or log(p): {OWN_LOGITS}"
    return "Give `--teacher-output logits` if they are logits."


def check_own_answers(file: TeacherFile, numbers: list[int] | None, own: np.ndarray, logits: np.ndarray) -> None:
    """Compares the logits to be stored with the outputs of the unchanged model for the same images.

    The softmax of the logits, as float16, must be the model's probabilities normalized to sum 1, or the softmax of its
    logits. Rounding a logit z to float16 moves it by up to |z| / 2048, and so moves a probability by twice that
    fraction of itself; the bound SMALLEST_PROBABILITY moves it by that much.
    numbers: the outputs that are the classes, in their order, None for all; own: the outputs of file.own, float [n,
    outputs]; logits: float [n, classes]. Raises TeacherError where the difference is larger.
    """
    if file.changes:
        check_probabilities(file.path, own)
    own = own.astype(np.float64) if numbers is None else own[:, numbers].astype(np.float64)
    expected, raised = softmax(own), 0.0
    if file.changes:
        total = np.maximum(own.sum(axis=1, keepdims=True), SMALLEST_PROBABILITY)
        expected, raised = own / total, SMALLEST_PROBABILITY * file.outputs / total
    stored = logits.astype(np.float16).astype(np.float64)
    rounding = np.expm1(2 * np.abs(stored).max(axis=1, keepdims=True) / 2048)
    excess = np.abs(softmax(stored) - expected) - expected * (rounding + raised + FLOAT32_PART) - raised
    if not (excess <= 0).all():
        row, column = np.unravel_index(np.nanargmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
        got = f"{softmax(stored)[row, column]:.4g} where the file says {expected[row, column]:.4g}"
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


def _input_px(path: Path, model: keras.Model, requested_px: int | None) -> int:
    shapes = [tuple(tensor.shape) for tensor in model.inputs or []]
    square = "Give a model with one input [batch, px, px, 3]."
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3 or shapes[0][1] != shapes[0][2]:
        raise TeacherError(path, "must have one square RGB image as input", f"inputs {shapes}", square)
    own_px = shapes[0][1]
    if own_px is None and requested_px is None:
        raise TeacherError(path, "accepts images of any size", None, "Choose one with --teacher-input-px.")
    if own_px is not None and requested_px is not None and own_px != requested_px:
        raise TeacherError("teacher.input_px", f"must be {own_px}, the input of {path}", requested_px, "Leave it out.")
    px = int(own_px or requested_px)
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


def _given_settings(config: TeacherConfig, description_file: Path, described: Description) -> dict[str, Any]:
    """preprocess, classes and output, from the recipe or the teacher.json; None where neither gives it.

    Raises TeacherError where the two differ.
    """
    by_recipe = {"preprocess": config.preprocess, "classes": _names(config.classes), "output": config.output}
    for name, value in by_recipe.items():
        described_value = getattr(described, name)
        if value is not None and described_value is not None and _plain(value) != _plain(described_value):
            there = described_value if isinstance(described_value, str) else "others"
            shown = f"{getattr(config, name)} here, {there} there"
            must = f"must be as in {description_file}, or left out"
            raise TeacherError(f"teacher.{name}", must, shown, f"Leave --teacher-{name} out, or repair the file.")
    return {name: value if value is not None else getattr(described, name) for name, value in by_recipe.items()}


def _plain(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(map(plain_name, value))


def _names(file: str | None) -> list[str] | None:
    return None if file is None else read_labels(Path(file), "--teacher-classes", TeacherError)


def _as_logits(path: Path, model: keras.Model, output: str | None, changes: list[str]) -> keras.Model:
    """The model without its final softmax. A softmax of keras.ops is removed only if output is `probabilities`.

    changes: what was changed is appended, in words. Raises TeacherError for an output of another activation.
    """
    operation, activation = ending(model.outputs[0])
    if activation is None:
        return model
    if activation not in ("softmax", "log_softmax") or not classes_axis(operation):
        problem = f"the activation {activation}" if classes_axis(operation) else f"a {activation} over the batch"
        step = "Save the model without it, so that its outputs are logits of a softmax."
        raise TeacherError(f"{path}, layer {operation.name}", "must output logits", problem, step)
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
    """The model's outputs for a batch of noise, float [batch_size, outputs]. Raises TeacherError if its graph fails."""
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
