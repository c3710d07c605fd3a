"""The tables of a recipe and their fields: the types are the schema."""

from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

Precision = Literal["fp32", "fp16", "int8_dynamic", "int8", "int16x8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8_dynamic", "int8")
"""All but int16x8: its kernels are the slow reference ones on most devices, and it takes floats."""
OneOrMore = str | Annotated[tuple[str, ...], Meta(min_length=1)]
SEED = {"ge": 0, "le": 2**32 - 1}
"""What every library that draws takes."""
EPOCHS = 100_000
BATCH_SIZE = 65_536
INPUT_PX = 2_048
LEARNING_RATE = 1_000
PROCESSES = 256
"""The most of each. A number above is a slip of the hand, and would end in some library, or take the whole machine."""
Threads = Annotated[int, Meta(ge=1, le=PROCESSES)]
InputPx = Annotated[int, Meta(ge=1, le=INPUT_PX)]
PixelValue = Annotated[float, Meta(ge=-(2**31), le=2**32)]
"""What a pixel of an image of any depth may hold."""
Compression = Literal["none", "qat", "prune", "cluster", "pcqat"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)


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
    seed: Annotated[int, says("Which pictures go where.", **SEED)] = 0
    groups: Annotated[bool, says("Whether near duplicates stay in one split where splits are drawn.")] = True
    group_by: Annotated[
        str | None,
        says(
            "What images have in common that stay in one split: a regular expression on the path, whose first group, "
            "or else the whole match, is the key; or `column:NAME` of a CSV."
        ),
    ] = None
    range: Annotated[
        tuple[PixelValue, PixelValue] | None,
        says("Values of greyscale images of more than 8 bits that are black and white; 0 to 65535 if left out."),
    ] = None
    resize: Annotated[
        Literal["crop", "stretch", "pad"], says("How a whole picture becomes a square: centre crop, stretch or pad.")
    ] = "stretch"


class Views(Table):
    """The seeded views of each training picture that the teacher labels and the student sees."""

    count: Annotated[int, says("Views a training picture.", ge=1, le=10_000)] = 4
    smallest_area: Annotated[float, says("Smallest part of a picture that a view shows, by area.", ge=0.001, le=1)] = (
        0.7
    )
    flip: Annotated[bool, says("Whether half of the views are mirrored left to right.")] = True
    seed: Annotated[int, says("Which views are drawn.", **SEED)] = 0


class Teacher(Table):
    """The big model and how it comes to know the user's classes."""

    name: Annotated[
        str, says("A name of `kd2mobile list teachers`, a .keras or .h5 file, or the logits themselves as .npz.")
    ] = "xception"
    weights: Annotated[str, says("`imagenet` (downloaded by Keras), `none`, or a weights file.")] = "imagenet"
    input_px: Annotated[InputPx | None, says("Side of the teacher's input in pixels; its own size if left out.")] = None
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
    epochs: Annotated[int, says("Epochs of training where there are no weights to start from.", ge=1, le=EPOCHS)] = 4
    fine_tune_epochs: Annotated[int, says("Epochs with the body unfrozen, after the new head.", ge=0, le=EPOCHS)] = 0
    train_fraction: Annotated[
        float, says("Part of each class's training images that the teacher is trained on.", gt=0, le=1)
    ] = 1.0
    batch_size: Annotated[int, says("Pictures a training step.", ge=1, le=BATCH_SIZE)] = 32
    learning_rate: Annotated[float, says("Peak learning rate of training from nothing.", gt=0, le=LEARNING_RATE)] = 1e-3
    fine_tune_learning_rate: Annotated[
        float, says("Peak learning rate with the body unfrozen.", gt=0, le=LEARNING_RATE)
    ] = 1e-5
    seed: Annotated[int, says("Initial weights and order of the pictures.", **SEED)] = 0
    dtype: Annotated[
        Literal["float32", "mixed_bfloat16"],
        says("What the teacher's pass computes in, a dtype policy of Keras; its effect on the logits is measured."),
    ] = "float32"


class Label(Table):
    """How the teacher's pass runs. Changes nothing that is made."""

    batch_size: Annotated[
        int, says("Views a batch of the teacher's pass; 0 finds a fast one by trying.", ge=0, le=BATCH_SIZE)
    ] = 0
    workers: Annotated[
        int,
        says("Processes that decode pictures for the teacher's pass; 0 is threads of this one.", ge=0, le=PROCESSES),
    ] = 0


class Student(Table):
    """The small model."""

    name: Annotated[str, says("A name of `kd2mobile list students`.")] = "mobilenet025"
    weights: Annotated[str, says("The body's: `imagenet` (downloaded by Keras), `none`, or a file.")] = "imagenet"
    input_px: Annotated[int, says("Side of the student's input in pixels.", ge=1, le=INPUT_PX)] = 128
    train_layers: Annotated[str, says("`all`, or `last:N`: only the last N layers with weights are trained.")] = "all"


class Distill(Table):
    """How the student learns from the transfer set."""

    loss: Annotated[str, says("A name of `kd2mobile list losses`.")] = "kd"
    temperature: Annotated[float, says("Softens the teacher's logits; 1.0 leaves them.", ge=0.01, le=10_000)] = 4.0
    hard_label_weight: Annotated[float, says("Weight of the labels; the soft targets get the rest.", ge=0, le=1)] = 0.5
    epochs: Annotated[
        int, says("Epochs at most; each shows every training and unlabelled picture in one view.", ge=1, le=EPOCHS)
    ] = 30
    batch_size: Annotated[int, says("Pictures a training step.", ge=1, le=BATCH_SIZE)] = 32
    learning_rate: Annotated[
        float, says("Peak learning rate of Adam: warm-up, then cosine to zero.", gt=0, le=LEARNING_RATE)
    ] = 3e-3
    warmup_epochs: Annotated[int, says("Epochs of linear warm-up.", ge=0, le=EPOCHS)] = 1
    patience: Annotated[
        int, says("Epochs without a better validation top-1 before training stops.", ge=1, le=EPOCHS)
    ] = 10
    class_weights: Annotated[
        bool, says("Whether an example weighs the more the rarer its class is: examples / (classes * of its class).")
    ] = False
    baseline: Annotated[bool, says("Also train the same student on the labels alone, with the same budget.")] = False
    seed: Annotated[int, says("Initial weights of the student and order of the pictures.", **SEED)] = 0


class Export(Table):
    """Which .tflite files to make: every precision of every compression."""

    compressions: Annotated[
        tuple[Compression, ...],
        says("What the student goes through before; all but none are fine-tuned with the teacher.", min_length=1),
    ] = ("none",)
    precisions: Annotated[tuple[Precision, ...], says("Precisions of the files.", min_length=1)] = DEFAULT_PRECISIONS
    calibration_pictures: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        says("Training pictures that calibrate all but fp32, class by class; 400, or one a class if that is more."),
    ] = None
    per_tensor: Annotated[
        bool, says("Whether a weight tensor has one scale and not one a channel, for old accelerators; int8 files.")
    ] = False
    auto: Annotated[bool, says("Find the smallest file within max_drop, cheap ways first.")] = False
    max_drop: Annotated[
        float, says("Points of top-1 on validation that a file found by auto may lose to its student.", ge=0, le=100)
    ] = 0.5
    keep_float: Annotated[tuple[str, ...], says("Layers of the student that stay float in its int8 file.")] = ()
    version: Annotated[
        str | None, says("The model's version in the file's metadata; the student's fingerprint if left out.")
    ] = None
    author: Annotated[str | None, says("Who made the model, for the file's metadata.")] = None
    licence: Annotated[str | None, says("The model's licence, for the file's metadata, such as `Apache-2.0`.")] = None


DESCRIBED = ("version", "author", "licence")
"""The fields of [export] that describe the model: a run keeps them from one export to the next."""


class Compress(Table):
    """How a compressed student is made and fine-tuned."""

    epochs: Annotated[int, says("Epochs of fine-tuning, for each method of a compression.", ge=1, le=EPOCHS)] = 4
    learning_rate: Annotated[
        float, says("Peak learning rate of Adam, then cosine to zero.", gt=0, le=LEARNING_RATE)
    ] = 3e-4
    sparsity: Annotated[float, says("Part of the weights of a layer that pruning makes zero.", gt=0, lt=1)] = 0.5
    sparsity_pattern: Annotated[
        Literal["any", "2:4"], says("Which weights: the smallest of a layer, or of every four in a row two.")
    ] = "any"
    clusters: Annotated[int, says("Values that the weights of a layer share after clustering.", ge=2, le=256)] = 32


class Benchmark(Table):
    """How the files are measured. Changes nothing that was made before."""

    device: Annotated[str, says("Where: `host`, `ssh:USER@HOST[:PORT]`, `adb:SERIAL` or `browser`.", min_length=1)] = (
        "host"
    )
    threads: Annotated[
        Threads | Annotated[tuple[Threads, ...], Meta(min_length=1)],
        says("Threads of the runtime, or several numbers."),
    ] = 1
    xnnpack: Annotated[
        Literal["on", "off", "both"], says("Whether LiteRT may use its XNNPACK kernels; `both` measures both.")
    ] = "on"
    cores: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=65_535)], ...],
        says("The cores that the timed process is pinned to; any if left out."),
    ] = ()
    rule: Annotated[
        Literal["kd2mobile", "mlperf"], says("How long is timed; `mlperf`: at least 1,024 runs and 60 s a file.")
    ] = "kd2mobile"
    latency_runs: Annotated[int, says("Timed runs of one picture, after the warm-up.", ge=100, le=1_000_000)] = 300


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


TABLES: dict[str, type[Table]] = {table.name: table.type for table in msgspec.structs.fields(Recipe)}


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


def takes(name: str, entry: bool = False) -> str:
    """What the field of that dotted name must be, with its bounds, in words. entry: of a list, what each of it must be.

    >>> takes("distill.epochs")
    'a whole number from 1 to 100,000'
    >>> takes("teacher.input_px"), takes("benchmark.cores", entry=True)
    ('a whole number from 1 to 2,048, or left out', 'a whole number from 0 to 65,535')
    """
    table, _, field = name.partition(".")
    kind = get_type_hints(TABLES[table], include_extras=True)[field]
    return _words(_entry(kind) if entry else kind)


def bounds(*metas: Meta) -> str:
    """The bounds of a number in words, empty where it has none.

    >>> bounds(Meta(gt=0, lt=0.5)), bounds(Meta(ge=1, le=4096)), bounds(Meta())
    ('above 0 and below 0.5', 'from 1 to 4,096', '')
    """
    words = {"ge": "from", "gt": "above", "lt": "below", "le": "at most"}
    found = {bound: getattr(meta, bound) for meta in metas for bound in words if getattr(meta, bound) is not None}
    if {"ge", "le"} <= found.keys():
        return f"from {found['ge']:,} to {found['le']:,}"
    return " and ".join(f"{words[bound]} {value:,}" for bound, value in found.items())


def _words(kind: Any, *metas: Meta) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(parts[0], *metas, *parts[1:])
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple:
        filled = " that is not empty" if any(meta.min_length for meta in metas) else ""
        return f"a list{filled}, each entry {_words(parts[0])}"
    if parts:
        return ", or ".join("left out" if part is type(None) else _words(part) for part in parts)
    if kind is str and any(meta.min_length for meta in metas):
        return "text that is not empty"
    named = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
    return f"{named} {bounds(*metas)}".rstrip()


def _entry(kind: Any) -> Any:
    """What each entry of a list is, wherever in the type the list stands."""
    parts = get_args(kind)
    if get_origin(kind) is tuple:
        return parts[0]
    return next((found for part in parts if (found := _entry(part)) is not None), None)
