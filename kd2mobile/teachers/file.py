"""A teacher that the user brings as a .keras file: what it is, what it wants, whether its classes are the user's."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile.errors import TeacherError
from kd2mobile.progress import say
from kd2mobile.teachers.teacher import DESCRIPTION, MODES, read_description


@dataclass
class TeacherFile:
    """A model from a file, its final softmax taken off.

    outputs: how many numbers it answers with; described: what a teacher.json beside it says, {} without one;
    changes: what was done to the model, in words.
    """

    path: Path
    model: keras.Model
    input_px: int
    preprocess: str
    outputs: int
    described: dict[str, Any]
    changes: list[str] = field(default_factory=list)


def read_teacher_file(path: Path, input_px: int | None) -> TeacherFile:
    """The model in a .keras file, loaded with safe_mode on, ready to give logits.

    input_px: what the recipe says, if anything. A teacher.json beside the file may say `preprocess`, `classes` (in
    the order of the outputs) and `input_px`; without it the model must bring its own preprocessing.
    Raises TeacherError if the file cannot be loaded, takes anything but one square RGB picture, answers with anything
    but one number a class, ends in another activation than softmax, or does not say what its pixels should be.
    """
    if not path.is_file():
        raise TeacherError(path, "must be a .keras file", "no such file", "Check the path.")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as fault:  # zipfile, h5py and every layer's own from_config
        reason = f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0][:200]}"
        raise TeacherError(
            path,
            "must be a .keras model of standard layers that loads in safe mode",
            reason,
            "Save it with Keras 3 as `model.save('teacher.keras')`, without Lambda or custom layers.",
        ) from fault
    beside = path.with_name(DESCRIPTION)
    described = read_description(beside) if beside.is_file() else {}
    px = _input_px(path, model, input_px or described.get("input_px"))
    changes: list[str] = []
    model = _without_softmax(path, model, changes)
    for change in changes:
        say(f"{path.name}: {change}")
    mode = described.get("preprocess") or _own_preprocessing(path, model)
    return TeacherFile(path, model, px, mode, int(model.output_shape[-1]), described, changes)


def classes_fit(file: TeacherFile, classes: list[str]) -> bool:
    """Whether the outputs are the user's classes; if not, the teacher needs a new head.

    Raises TeacherError if they are the same classes in another order.
    """
    known = file.described.get("classes")
    if known is None:
        return file.outputs == len(classes)
    if len(known) != file.outputs:
        raise TeacherError(
            file.path.with_name(DESCRIPTION), f"must name {file.outputs} classes", len(known), "Name one an output."
        )
    if known != classes and sorted(known) == sorted(classes):
        first = next(i for i, pair in enumerate(zip(known, classes, strict=True)) if pair[0] != pair[1])
        raise TeacherError(
            f"{file.path}, output {first}",
            f"must be the class {classes[first]!r}, as the sorted folders are",
            repr(known[first]),
            "Its classes are in another order: reorder its last layer, or rename the folders.",
        )
    return known == classes


def check_order(path: Path, logits: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
    """Refuses a teacher that knows the classes by other numbers; for files that do not name their classes.

    logits: float [n, classes]; labels: int [n]. Raises TeacherError if its top-1 is not above chance (three standard
    errors), or if some classes are mostly taken for one another in a ring: a for b, b for a.
    """
    said = logits.argmax(axis=1)
    top1, chance = (said == labels).mean(), 1 / len(classes)
    order = (
        f"Its classes are probably in another order than the sorted folders: write `classes` into a {DESCRIPTION} "
        "beside it, and `preprocess` if its pixels are wrong."
    )
    if top1 <= chance + 3 * np.sqrt(chance * (1 - chance) / len(labels)):
        raise TeacherError(path, f"must know the classes better than chance ({chance:.3f})", f"top-1 {top1:.3f}", order)
    moved = {}
    for label in np.unique(labels):
        votes = np.bincount(said[labels == label], minlength=len(classes))
        taken_for = int(votes.argmax())
        if taken_for != label and votes[taken_for] > votes.sum() / 2:
            moved[int(label)] = taken_for
    if moved and set(moved.values()) == set(moved):
        swaps = ", ".join(f"{classes[a]!r} for {classes[b]!r}" for a, b in list(moved.items())[:5])
        raise TeacherError(path, "must name the classes in the order of the sorted folders", f"mostly {swaps}", order)


def features_of(file: TeacherFile) -> keras.Model:
    """The model up to its last Dense layer, as features [batch, channels]. Raises TeacherError if there is none."""
    last = file.model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise TeacherError(
            file.path,
            "must end in a Dense layer, which a new head for your classes replaces",
            type(last).__name__,
            "Give a teacher with your classes, or one of `kd2mobile list teachers`.",
        )
    features = last.input
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D(name="features")(features)
    return keras.Model(file.model.inputs, features)


def _input_px(path: Path, model: keras.Model, asked: int | None) -> int:
    shapes = [tuple(tensor.shape) for tensor in model.inputs or []]
    outputs = [tuple(tensor.shape) for tensor in model.outputs or []]
    square = "Give a model with one input [batch, px, px, 3] and one output [batch, classes]."
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3 or shapes[0][1] != shapes[0][2]:
        raise TeacherError(path, "must take one square RGB picture", f"inputs {shapes}", square)
    if len(outputs) != 1 or len(outputs[0]) != 2 or outputs[0][1] is None:
        raise TeacherError(path, "must answer with one number a class", f"outputs {outputs}", square)
    own = shapes[0][1]
    if own is None and asked is None:
        raise TeacherError(path, "takes pictures of any size", None, "Choose one with --teacher-input-px.")
    if own is not None and asked is not None and own != asked:
        raise TeacherError("teacher.input_px", f"must be {own}, the input of {path}", asked, "Leave it out.")
    return int(own or asked)


def _without_softmax(path: Path, model: keras.Model, changes: list[str]) -> keras.Model:
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        changes.append(f"its last layer, the softmax {last.name!r}, was taken off")
        return keras.Model(model.inputs, last.input)
    inner = _innermost(last)
    activation = getattr(inner, "activation", None)
    if activation is keras.activations.softmax:
        inner.activation = keras.activations.linear
        changes.append(f"the softmax of its last layer {inner.name!r} was taken off")
        if isinstance(inner, keras.layers.Activation) and inner is last:
            return keras.Model(model.inputs, inner.input)
    elif activation not in (None, keras.activations.linear, keras.activations.log_softmax):
        name = getattr(activation, "__name__", activation)
        raise TeacherError(
            f"{path}, layer {inner.name}", "must give logits", f"the activation {name}", "Save the model without it."
        )
    return model


def _innermost(layer: Any) -> Any:
    return _innermost(layer.layers[-1]) if isinstance(layer, keras.Model) else layer


def _own_preprocessing(path: Path, model: keras.Model) -> str:
    for layer in _flat(model):
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            return "none"
        if layer.weights:
            break
    raise TeacherError(
        path,
        "must say what its pixels should be",
        "neither a Rescaling or Normalization layer at its start nor a teacher.json beside it",
        f'Write {path.with_name(DESCRIPTION)} as {{"preprocess": "tf"}}: one of {", ".join(MODES)} '
        "(tf is [-1, 1], none is 0..255).",
    )


def _flat(model: keras.Model) -> list[Any]:
    return [inner for x in model.layers for inner in (_flat(x) if isinstance(x, keras.Model) else [x])]
