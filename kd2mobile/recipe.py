"""The recipe: what to do. The types are the schema; flags, TOML files and `--set` write the same fields.

A recipe is layered: the built-in one for its data, then the file, then `--set`, then the flags.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from kd2mobile.errors import RecipeError, UnknownNameError, WeightsError
from kd2mobile.recipe_file import built_in, in_toml, read_tables

Precision = Literal["fp32", "fp16", "int8_dynamic", "int8", "int16x8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8_dynamic", "int8")
"""All but int16x8: its kernels are the slow reference ones on most devices, and it takes floats."""
OneOrMore = str | Annotated[tuple[str, ...], Meta(min_length=1)]
Compression = Literal["none", "qat", "prune", "cluster", "pcqat"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
WHOLE_VIEW = {"count": 1, "smallest_area": 1.0, "flip": False}
"""The [views] of a teacher that is given as logits: they are of whole pictures."""


def says(text: str, **bounds: Any) -> Meta:
    """The description of a field, for the flags' help and the reference, with the bounds of its values."""
    return Meta(description=text, **bounds)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a recipe."""


class Data(Table):
    """Where the pictures come from and how they are split and seen."""

    source: Annotated[
        OneOrMore,
        says("A folder of photos or of idx files, a CSV or TSV of path,label, or a name of `kd2mobile list data`."),
    ] = "digits"
    val_source: Annotated[OneOrMore | None, says("Where the validation pictures lie, if not in the source.")] = None
    test_source: Annotated[OneOrMore | None, says("Where the test pictures lie, if not in the source.")] = None
    unlabelled: Annotated[
        OneOrMore | None, says("A folder of pictures without labels, which the teacher alone labels for the student.")
    ] = None
    val: Annotated[float, says("Part of each class kept for validation if there is no val folder.", gt=0, lt=0.5)] = 0.1
    test: Annotated[float, says("Part of each class kept for the test if there is no test folder.", gt=0, lt=0.5)] = 0.2
    seed: Annotated[int, says("Which pictures go where.", ge=0)] = 0
    resize: Annotated[
        Literal["crop", "stretch", "pad"], says("How a whole picture becomes a square: centre crop, stretch or pad.")
    ] = "stretch"


class Views(Table):
    """The seeded views of each training picture that the teacher labels and the student sees."""

    count: Annotated[int, says("Views a training picture.", ge=1)] = 4
    smallest_area: Annotated[float, says("Smallest part of a picture that a view shows, by area.", gt=0, le=1)] = 0.7
    flip: Annotated[bool, says("Whether half of the views are mirrored left to right.")] = True
    seed: Annotated[int, says("Which views are drawn.", ge=0)] = 0


class Teacher(Table):
    """The big model and how it comes to know the user's classes."""

    name: Annotated[
        str, says("A name of `kd2mobile list teachers`, a .keras or .h5 file, or the logits themselves as .npz.")
    ] = "xception"
    weights: Annotated[str, says("`imagenet` (downloaded by Keras), `none`, or a weights file.")] = "imagenet"
    input_px: Annotated[
        Annotated[int, Meta(ge=1)] | None, says("Side of the teacher's input in pixels; its own size if left out.")
    ] = None
    preprocess: Annotated[
        Literal["tf", "torch", "caffe", "none"] | None,
        says("What the pixels of a file are: tf is [-1, 1], none is 0..255; only if the file does not say."),
    ] = None
    classes: Annotated[
        str | None, says("The classes of a file, one name a line in the order of its outputs; if it does not say.")
    ] = None
    output: Annotated[
        Literal["logits", "probabilities"] | None, says("What a file answers with; only if it does not say.")
    ] = None
    epochs: Annotated[int, says("Epochs of training where there are no weights to start from.", ge=1)] = 4
    fine_tune_epochs: Annotated[int, says("Epochs with the body unfrozen, after the new head.", ge=0)] = 0
    batch_size: Annotated[int, says("Pictures a training step.", ge=1)] = 32
    learning_rate: Annotated[float, says("Peak learning rate of training from nothing.", gt=0)] = 1e-3
    fine_tune_learning_rate: Annotated[float, says("Peak learning rate with the body unfrozen.", gt=0)] = 1e-5
    seed: Annotated[int, says("Initial weights and order of the pictures.", ge=0)] = 0
    dtype: Annotated[
        Literal["float32", "mixed_bfloat16"],
        says("What the teacher's pass computes in, a dtype policy of Keras; its effect on the logits is measured."),
    ] = "float32"


class Label(Table):
    """How the teacher's pass runs. Changes nothing that is made."""

    batch_size: Annotated[int, says("Views a batch of the teacher's pass; 0 finds a fast one by trying.", ge=0)] = 0
    workers: Annotated[
        int, says("Processes that decode pictures for the teacher's pass; 0 is threads of this one.", ge=0)
    ] = 0


class Student(Table):
    """The small model."""

    name: Annotated[str, says("A name of `kd2mobile list students`.")] = "mobilenet025"
    weights: Annotated[str, says("The body's: `imagenet` (downloaded by Keras), `none`, or a file.")] = "imagenet"
    input_px: Annotated[int, says("Side of the student's input in pixels.", ge=1)] = 128
    train_layers: Annotated[str, says("`all`, or `last:N`: only the last N layers with weights are trained.")] = "all"


class Distill(Table):
    """How the student learns from the transfer set."""

    loss: Annotated[str, says("A name of `kd2mobile list losses`.")] = "kd"
    temperature: Annotated[float, says("Softens the teacher's logits; 1.0 leaves them.", gt=0)] = 4.0
    hard_label_weight: Annotated[float, says("Weight of the labels; the soft targets get the rest.", ge=0, le=1)] = 0.5
    epochs: Annotated[
        int, says("Epochs at most; each shows every training and unlabelled picture in one view.", ge=1)
    ] = 30
    batch_size: Annotated[int, says("Pictures a training step.", ge=1)] = 32
    learning_rate: Annotated[float, says("Peak learning rate of Adam: warm-up, then cosine to zero.", gt=0)] = 3e-3
    warmup_epochs: Annotated[int, says("Epochs of linear warm-up.", ge=0)] = 1
    patience: Annotated[int, says("Epochs without a better validation top-1 before training stops.", ge=1)] = 10
    class_weights: Annotated[
        bool, says("Whether an example weighs the more the rarer its class is: examples / (classes * of its class).")
    ] = False
    baseline: Annotated[bool, says("Also train the same student on the labels alone, with the same budget.")] = False
    seed: Annotated[int, says("Initial weights of the student and order of the pictures.", ge=0)] = 0


class Export(Table):
    """Which .tflite files to make: every precision of every compression."""

    compressions: Annotated[
        tuple[Compression, ...],
        says("What the student goes through before; all but none are fine-tuned with the teacher.", min_length=1),
    ] = ("none",)
    precisions: Annotated[tuple[Precision, ...], says("Precisions of the files.", min_length=1)] = DEFAULT_PRECISIONS
    calibration_pictures: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        says("Training pictures that calibrate all but fp32, class by class; 400, or one a class if that is more."),
    ] = None
    per_tensor: Annotated[
        bool, says("Whether a weight tensor has one scale and not one a channel, for old accelerators; int8 files.")
    ] = False
    auto: Annotated[bool, says("Find the smallest file within max_drop, cheap ways first.")] = False
    max_drop: Annotated[
        float, says("Points of top-1 on validation that a file found by auto may lose to its student.", ge=0)
    ] = 0.5
    keep_float: Annotated[tuple[str, ...], says("Layers of the student that stay float in its int8 file.")] = ()
    version: Annotated[
        str | None, says("The model's version in the file's metadata; the student's fingerprint if left out.")
    ] = None
    author: Annotated[str | None, says("Who made the model, for the file's metadata.")] = None
    licence: Annotated[str | None, says("The model's licence, for the file's metadata, such as `Apache-2.0`.")] = None


class Compress(Table):
    """How a compressed student is made and fine-tuned."""

    epochs: Annotated[int, says("Epochs of fine-tuning, for each method of a compression.", ge=1)] = 4
    learning_rate: Annotated[float, says("Peak learning rate of Adam, then cosine to zero.", gt=0)] = 3e-4
    sparsity: Annotated[float, says("Part of the weights of a layer that pruning makes zero.", gt=0, lt=1)] = 0.5
    sparsity_pattern: Annotated[
        Literal["any", "2:4"], says("Which weights: the smallest of a layer, or of every four in a row two.")
    ] = "any"
    clusters: Annotated[int, says("Values that the weights of a layer share after clustering.", ge=2)] = 32


class Benchmark(Table):
    """How the files are measured. Changes nothing that was made before."""

    threads: Annotated[int, says("Threads of the runtime.", ge=1)] = 1
    latency_runs: Annotated[int, says("Timed runs of one picture, after the warm-up.", ge=100)] = 300


class Recipe(Table):
    """Everything that a run does."""

    data: Data = Data()
    views: Views = Views()
    teacher: Teacher = Teacher()
    label: Label = Label()
    student: Student = Student()
    distill: Distill = Distill()
    compress: Compress = Compress()
    export: Export = Export()
    benchmark: Benchmark = Benchmark()


SETTINGS = "settings"
"""What a message calls the place of values that came by no file."""

TABLES: dict[str, type[Table]] = {table.name: table.type for table in msgspec.structs.fields(Recipe)}

FLAGS = {
    "data": "data.source",
    "val_data": "data.val_source",
    "test_data": "data.test_source",
    "unlabelled": "data.unlabelled",
    "resize": "data.resize",
    "views": "views.count",
    "teacher": "teacher.name",
    "teacher_weights": "teacher.weights",
    "teacher_input_px": "teacher.input_px",
    "teacher_preprocess": "teacher.preprocess",
    "teacher_classes": "teacher.classes",
    "teacher_output": "teacher.output",
    "fine_tune_epochs": "teacher.fine_tune_epochs",
    "teacher_dtype": "teacher.dtype",
    "label_batch_size": "label.batch_size",
    "workers": "label.workers",
    "student": "student.name",
    "student_weights": "student.weights",
    "input_px": "student.input_px",
    "train_layers": "student.train_layers",
    "loss": "distill.loss",
    "temperature": "distill.temperature",
    "hard_label_weight": "distill.hard_label_weight",
    "epochs": "distill.epochs",
    "batch_size": "distill.batch_size",
    "class_weights": "distill.class_weights",
    "baseline": "distill.baseline",
    "seed": "distill.seed",
    "precision": "export.precisions",
    "compress": "export.compressions",
    "max_drop": "export.max_drop",
    "per_tensor": "export.per_tensor",
    "keep_float": "export.keep_float",
    "threads": "benchmark.threads",
}
"""The fields that have a flag, `--teacher-weights`, and a keyword, `teacher_weights=`, of their own."""


class Field(msgspec.Struct, frozen=True):
    """One field of the schema: its type without the bounds, its default and what it is."""

    kind: Any
    default: Any
    description: str


def fields() -> dict[str, Field]:
    """Every field of a recipe by its dotted name, `distill.temperature`."""
    return {
        f"{name}.{field.name}": Field(
            field.type.__origin__, field.default, next(m.description for m in field.type.__metadata__ if m.description)
        )
        for name, table in TABLES.items()
        for field in msgspec.structs.fields(table)
    }


def compose(file: Path | None = None, settings: dict[str, Any] | None = None) -> Recipe:
    """The recipe of the built-in layer, the file and the settings, in this order.

    file: a TOML file; settings: values by dotted name (`check_settings` tells where a wrong one came from).
    The built-in layer is `digits` (the demo) while data.source is digits, else none: the defaults of the types. Its
    teacher, which is trained from nothing, is left out where teacher.name is a file. With a teacher of logits the views
    are WHOLE_VIEW, and others are refused. An array of one source is that source.
    Raises RecipeError or UnknownNameError with the file, the field's dotted name, what must hold and the value.
    """
    layers = [(read_tables(file), str(file))] if file else []
    layers.append((_nested(settings or {}, SETTINGS), SETTINGS))
    for tables, place in layers:
        _check(tables, place)
    merged = _merged(tables for tables, _ in layers)
    for field, value in merged.get("data", {}).items():
        if isinstance(value, list | tuple) and len(value) == 1:
            merged["data"][field] = value[0]
    teacher = merged.get("teacher", {}).get("name", "")
    if merged.get("data", {}).get("source", "digits") == "digits":
        demo = built_in("digits")
        if is_keras_file(teacher) or is_logits_file(teacher):
            del demo["teacher"]
        _check_none_over(demo, merged)
        merged = _merged([demo, merged])
    if is_logits_file(teacher):
        for tables, place in layers:
            _refuse_other_views(tables.get("views", {}), place, teacher)
        merged = _merged([merged, {"views": WHOLE_VIEW}])
    return msgspec.convert(merged, Recipe)


def check_settings(settings: dict[str, Any], where: str) -> None:
    """Refuses values by dotted name that no recipe takes. where: where they came from, `--set`, for the message.

    Raises RecipeError or UnknownNameError.
    """
    _check(_nested(settings, where), where)


def is_keras_file(teacher: str) -> bool:
    """Whether that teacher.name stands for a file with a Keras model, there or not."""
    return teacher.endswith((".keras", ".h5", ".hdf5"))


def is_logits_file(teacher: str) -> bool:
    """Whether that teacher.name stands for a file with the logits themselves, there or not."""
    return teacher.endswith(".npz")


def weights_file(field: str, weights: str) -> Path | None:
    """The file that a field like `teacher.weights` names; None for the words `imagenet` and `none`.

    Raises WeightsError for anything else.
    """
    if weights in ("imagenet", "none"):
        return None
    if not Path(weights).is_file():
        raise WeightsError(
            f"{field}, {weights}",
            "must be a weights file, `imagenet` or `none`",
            "a folder" if Path(weights).is_dir() else "no such file",
            f"Check the path, or use `{_flag_of(field)} none` to train from nothing.",
        )
    return Path(weights)


def _flag_of(field: str) -> str:
    return next(f"--{flag.replace('_', '-')}" for flag, name in FLAGS.items() if name == field)


def _merged(layers: Iterable[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for tables in layers:
        for name, values in tables.items():
            merged[name] = merged.get(name, {}) | values
    return merged


def _nested(settings: dict[str, Any], where: str) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        table, dot, field = name.partition(".")
        if not dot:
            raise UnknownNameError(f"{where}, field", name, list(fields()), see="kd2mobile list fields")
        tables.setdefault(table, {})[field] = value
    return tables


def _check_none_over(built_in_tables: dict[str, dict[str, Any]], tables: dict[str, dict[str, Any]]) -> None:
    """Refuses None where the built-in recipe has a value: a run would be read back with that value."""
    for table, values in tables.items():
        for field, value in values.items():
            default = built_in_tables.get(table, {}).get(field)
            if value is None and default is not None:
                must = f"must be a value: the built-in recipe has {default!r}, and no recipe file can say None"
                raise RecipeError(f"{SETTINGS}, {table}.{field}", must, value, "Give a value, or leave it out.")


def _refuse_other_views(views: dict[str, Any], where: str, teacher: str) -> None:
    for field, only in WHOLE_VIEW.items():
        if views.get(field, only) != only:
            raise RecipeError(
                f"{where}, views.{field}",
                f"must be {str(only).lower()} with the teacher {teacher}, whose logits are of whole pictures, one each",
                views[field],
                "Leave it out, or give the model itself as the teacher: it labels as many views as you like.",
            )


def _check(tables: dict[str, Any], where: str) -> None:
    for table, values in tables.items():
        if table not in TABLES:
            raise UnknownNameError(f"{where}, table", table, list(TABLES), see="kd2mobile list fields")
        if not isinstance(values, dict):
            raise RecipeError(
                f"{where}, {table}", "must be a table", repr(values), f"Write its fields under [{table}]."
            )
        known = TABLES[table].__struct_fields__
        for field, value in values.items():
            if field not in known:
                raise UnknownNameError(f"{where}, field of {table}", field, list(known), see="kd2mobile list fields")
            if isinstance(value, float) and not math.isfinite(value):
                step = _what_it_is(f"{table}.{field}")
                raise RecipeError(f"{where}, {table}.{field}", "must be a finite number", repr(value), step)
    try:
        msgspec.convert(tables, Recipe)
    except msgspec.ValidationError as fault:
        message, _, place = str(fault).partition(" - at `$.")
        name = place.rstrip("`").partition("[")[0]
        table, _, field = name.partition(".")
        choices = get_args(fields()[name].kind)
        must = message.partition(", got")[0].replace("Expected", "must be").replace("`", "")
        if message.startswith("Invalid enum"):
            must = f"must be one of {', '.join(map(str, get_args(choices[0]) or choices))}"
        raise RecipeError(f"{where}, {name}", must, repr(tables[table][field]), _what_it_is(name)) from fault


def _what_it_is(name: str) -> str:
    field = fields()[name]
    return f"{field.description} The default is {in_toml(field.default)}."
