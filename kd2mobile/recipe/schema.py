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
"""What every random generator of the libraries takes."""
EPOCHS = 100_000
BATCH_SIZE = 65_536
INPUT_PX = 2_048
LEARNING_RATE = 1_000
PROCESSES = 256
"""The most of each. A larger number is a typing error: some library would fail on it, or it would fill the machine."""
Threads = Annotated[int, Meta(ge=1, le=PROCESSES)]
InputPx = Annotated[int, Meta(ge=1, le=INPUT_PX)]
PixelValue = Annotated[float, Meta(ge=-(2**31), le=2**32)]
"""The values that a pixel of any bit depth can have."""
Mean = Literal["arithmetic", "geometric"]
Compression = Literal["none", "qat", "prune", "cluster", "pcqat"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)


def says(text: str, *, flag: str | None = None, left_out: str = "", **bounds: Any) -> Meta:
    """The description of a field, for the flags' help and the reference, with the bounds of its values.

    flag: the flag of its own, `teacher_weights` for `--teacher-weights` and the keyword `teacher_weights=`; without one
    the field is set in a recipe or by `--set`. left_out: of a field without a value, what holds then, in words.
    """
    return Meta(description=text, extra={"flag": flag, "left_out": left_out}, **bounds)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a recipe."""


class Data(Table):
    """Where the images come from, how they are split, and how each becomes a square."""

    source: Annotated[
        OneOrMore,
        says(
            "The images: a folder of class folders, a ZIP of one, a folder of idx files, a CSV or TSV of path,label, "
            "or a name of `kd2mobile list data`.",
            flag="data",
        ),
    ] = "digits"
    val_source: Annotated[
        OneOrMore | None,
        says("The validation images.", flag="val_data", left_out="those of --data, or drawn from its training images"),
    ] = None
    test_source: Annotated[
        OneOrMore | None,
        says("The test images.", flag="test_data", left_out="those of --data, or drawn from its training images"),
    ] = None
    unlabelled: Annotated[
        OneOrMore | None,
        says(
            "A folder of images without labels, from which the student learns the teacher's logits.", flag="unlabelled"
        ),
    ] = None
    val: Annotated[
        float, says("Fraction of each class drawn for validation if there is no val folder.", gt=0, lt=0.5)
    ] = 0.1
    test: Annotated[
        float, says("Fraction of each class drawn for the test if there is no test folder.", gt=0, lt=0.5)
    ] = 0.2
    seed: Annotated[int, says("Seed of the split.", **SEED)] = 0
    groups: Annotated[bool, says("Keep near duplicates in the same split.", flag="groups")] = True
    group_by: Annotated[
        str | None,
        says(
            "Keep images with the same key in the same split. The key is what a regular expression matches in the "
            "path (its first group, if it has one), or `column:NAME` of a CSV.",
            flag="group_by",
        ),
    ] = None
    range: Annotated[
        tuple[PixelValue, PixelValue] | None,
        says(
            "Pixel values of black and white in greyscale images of more than 8 bits, such as 0,4095.",
            flag="range",
            left_out="0,65535",
        ),
    ] = None
    resize: Annotated[
        Literal["crop", "stretch", "pad"],
        says("How an image becomes a square: centre crop, stretch or pad.", flag="resize"),
    ] = "stretch"


class Views(Table):
    """The seeded views of each training image: the teacher labels them, the student trains on them."""

    count: Annotated[int, says("Number of views per training image.", ge=1, le=10_000, flag="views")] = 4
    smallest_area: Annotated[float, says("Smallest fraction of an image's area that a view shows.", ge=0.001, le=1)] = (
        0.7
    )
    flip: Annotated[bool, says("Mirror half of the views left to right.")] = True
    seed: Annotated[int, says("Seed of the views.", **SEED)] = 0


class Teacher(Table):
    """The big model, and how it is trained for the classes of the data."""

    name: Annotated[
        str, says("The teacher: a name or a kind of file that `kd2mobile list teachers` shows.", flag="teacher")
    ] = "xception"
    weights: Annotated[
        str,
        says(
            "The teacher's initial weights: `imagenet` (downloaded by Keras), `none` or a weights file.",
            flag="teacher_weights",
        ),
    ] = "imagenet"
    input_px: Annotated[
        InputPx | None,
        says("Side of the teacher's input in pixels.", flag="teacher_input_px", left_out="the network's default size"),
    ] = None
    preprocess: Annotated[
        Literal["tf", "torch", "caffe", "none"] | None,
        says(
            "Pixel values that a teacher file takes: `tf` is [-1, 1], `none` is 0..255, `torch` and `caffe` are as in "
            "Keras.",
            flag="teacher_preprocess",
            left_out="from the file or its teacher.json",
        ),
    ] = None
    classes: Annotated[
        str | None,
        says(
            "A text file with the classes of a teacher file: one name per line, in the order of the outputs.",
            flag="teacher_classes",
            left_out="from its teacher.json",
        ),
    ] = None
    output: Annotated[
        Literal["logits", "probabilities"] | None,
        says(
            "What a teacher file computes. For an .npz file, `logits` leaves out the check for probabilities.",
            flag="teacher_output",
            left_out="from the file or its teacher.json",
        ),
    ] = None
    epochs: Annotated[int, says("Epochs of training from scratch, with weights `none`.", ge=1, le=EPOCHS)] = 4
    fine_tune_epochs: Annotated[
        int,
        says("Epochs of fine-tuning the whole teacher after its new head.", ge=0, le=EPOCHS, flag="fine_tune_epochs"),
    ] = 0
    train_fraction: Annotated[
        float, says("Fraction of each class's training images on which the teacher is trained.", gt=0, le=1)
    ] = 1.0
    batch_size: Annotated[int, says("Images per training step.", ge=1, le=BATCH_SIZE)] = 32
    learning_rate: Annotated[float, says("Peak learning rate of training from scratch.", gt=0, le=LEARNING_RATE)] = 1e-3
    fine_tune_learning_rate: Annotated[
        float, says("Peak learning rate of fine-tuning the whole teacher.", gt=0, le=LEARNING_RATE)
    ] = 1e-5
    seed: Annotated[int, says("Seed of the teacher's initial weights and of the order of the images.", **SEED)] = 0
    dtype: Annotated[
        Literal["float32", "mixed_bfloat16"],
        says(
            "Number format in which the teacher computes its logits; the record holds how far they move.",
            flag="teacher_dtype",
        ),
    ] = "float32"


class Ensemble(Table):
    """Several teachers: which of them count, and how their logits become one vector of logits per view. Refused with a
    single teacher."""

    members: Annotated[
        Annotated[int, Meta(ge=2, le=100)] | None,
        says(
            "Members of an ensemble of one teacher, each trained with a seed of its own, from teacher.seed on.",
            flag="members",
        ),
    ] = None
    keep_best: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        says(
            "Number of teachers that count: the subset whose mean evaluates best on the validation images. All if left "
            "out.",
            flag="keep_best",
        ),
    ] = None
    fit_temperatures: Annotated[
        bool,
        says(
            "Whether each teacher's temperature is fitted on the validation images, instead of given.",
            flag="fit_temperatures",
        ),
    ] = False
    mean: Annotated[
        Mean,
        says(
            "Mean over the teachers, after softening each by its temperature: `arithmetic` of the probabilities, or "
            "`geometric`, which is the mean of the logits.",
            flag="ensemble_mean",
        ),
    ] = "arithmetic"
    temperatures: Annotated[
        tuple[Annotated[float, Meta(ge=0.01, le=10_000)], ...],
        says(
            "Temperature of each teacher's logits before the mean, in the order of the teachers, such as 1,2.",
            flag="ensemble_temperatures",
            left_out="1 each",
        ),
    ] = ()


class Label(Table):
    """How the teacher's pass runs. Changes no result."""

    batch_size: Annotated[
        int,
        says(
            "Views per batch of the teacher's pass; 0 tries several and takes the fastest.",
            ge=0,
            le=BATCH_SIZE,
            flag="label_batch_size",
        ),
    ] = 0
    workers: Annotated[
        int,
        says(
            "Processes that decode images for the teacher's pass; 0 uses threads instead.",
            ge=0,
            le=PROCESSES,
            flag="workers",
        ),
    ] = 0


class Student(Table):
    """The small model."""

    name: Annotated[str, says("The student: a name of `kd2mobile list students`.", flag="student")] = "mobilenet025"
    weights: Annotated[
        str,
        says(
            "Initial weights of the student's body: `imagenet` (downloaded by Keras), `none` or a weights file.",
            flag="student_weights",
        ),
    ] = "imagenet"
    input_px: Annotated[int, says("Side of the student's input in pixels.", ge=1, le=INPUT_PX, flag="input_px")] = 128
    train_layers: Annotated[
        str,
        says(
            "Layers that are trained: `all`, or `last:N` for the last N layers that have weights.", flag="train_layers"
        ),
    ] = "all"


class Distill(Table):
    """How the student learns from the transfer set."""

    loss: Annotated[str, says("The loss: a name of `kd2mobile list losses`.", flag="loss")] = "kd"
    loss_options: Annotated[
        dict[str, bool | int | float | str],
        says("Options of the loss by name; `kd2mobile list losses` shows them.", flag="loss_option"),
    ] = {}
    temperature: Annotated[
        float,
        says(
            "Divides the logits before the softmax: a higher temperature gives softer targets.",
            ge=0.01,
            le=10_000,
            flag="temperature",
        ),
    ] = 4.0
    hard_label_weight: Annotated[
        float,
        says(
            "Weight of the hard labels in the loss, 0 to 1; the soft targets have the rest.",
            ge=0,
            le=1,
            flag="hard_label_weight",
        ),
    ] = 0.5
    epochs: Annotated[
        int,
        says(
            "Largest number of epochs; an epoch uses one view of each training and unlabelled image.",
            ge=1,
            le=EPOCHS,
            flag="epochs",
        ),
    ] = 30
    batch_size: Annotated[int, says("Images per training step.", ge=1, le=BATCH_SIZE, flag="batch_size")] = 32
    learning_rate: Annotated[
        float,
        says(
            "Peak learning rate of Adam, after a linear warm-up and before a cosine decay to zero.",
            gt=0,
            le=LEARNING_RATE,
        ),
    ] = 3e-3
    warmup_epochs: Annotated[int, says("Number of epochs of linear warm-up.", ge=0, le=EPOCHS)] = 1
    patience: Annotated[
        int, says("Stop training after this number of epochs without a better validation top-1.", ge=1, le=EPOCHS)
    ] = 10
    class_weights: Annotated[
        bool,
        says(
            "Weight each example by the rarity of its class: all examples / (classes x examples of its class).",
            flag="class_weights",
        ),
    ] = False
    baseline: Annotated[
        bool, says("Also train the same student on the hard labels alone, with the same settings.", flag="baseline")
    ] = False
    seed: Annotated[
        int, says("Seed of the student's initial weights and of the order of the images.", **SEED, flag="seed")
    ] = 0


class Export(Table):
    """Which .tflite files to make: each requested precision of each requested compression."""

    compressions: Annotated[
        tuple[Compression, ...],
        says(
            "How the student is compressed before it is converted: none, qat, prune, cluster or pcqat.",
            min_length=1,
            flag="compress",
        ),
    ] = ("none",)
    precisions: Annotated[
        tuple[Precision, ...],
        says("Precisions of the files: fp32, fp16, int8_dynamic, int8 or int16x8.", min_length=1, flag="precision"),
    ] = DEFAULT_PRECISIONS
    calibration_images: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        says(
            "Number of training images, spread evenly over the classes, that calibrate the quantized files.",
            left_out="400, or one per class if that is more",
        ),
    ] = None
    per_tensor: Annotated[
        bool,
        says(
            "Give each weight tensor of an int8 file one scale, not one per channel; some accelerators require it.",
            flag="per_tensor",
        ),
    ] = False
    auto: Annotated[
        bool, says("Find the smallest file that loses no more than max_drop, trying the cheapest methods first.")
    ] = False
    max_drop: Annotated[
        float,
        says(
            "With precision auto: percentage points of validation top-1 that a file may lose to its student.",
            ge=0,
            le=100,
            flag="max_drop",
        ),
    ] = 0.5
    keep_float: Annotated[
        tuple[str, ...], says("Name of a student layer that stays float in the int8 file.", flag="keep_float")
    ] = ()
    version: Annotated[
        str | None, says("The model's version for the file's metadata.", left_out="the student's fingerprint")
    ] = None
    author: Annotated[str | None, says("The model's author for the file's metadata.")] = None
    licence: Annotated[str | None, says("The model's licence for the file's metadata, such as `Apache-2.0`.")] = None


DESCRIBED = ("version", "author", "licence")
"""The fields of [export] that describe the model. A run keeps them for its next export."""


class Compress(Table):
    """How a student is compressed and fine-tuned."""

    epochs: Annotated[
        int, says("Epochs of fine-tuning per method of a compression; pcqat has three.", ge=1, le=EPOCHS)
    ] = 4
    learning_rate: Annotated[
        float, says("Initial learning rate of Adam, with a cosine decay to zero.", gt=0, le=LEARNING_RATE)
    ] = 3e-4
    sparsity: Annotated[float, says("Fraction of each layer's weights that pruning sets to zero.", gt=0, lt=1)] = 0.5
    sparsity_pattern: Annotated[
        Literal["any", "2:4"],
        says("Which weights pruning sets to zero: `any` the smallest of a layer, `2:4` two of every four in a row."),
    ] = "any"
    clusters: Annotated[int, says("Number of distinct weight values per layer after clustering.", ge=2, le=256)] = 32


class Benchmark(Table):
    """How the files are measured. Changes no artifact of an earlier stage."""

    device: Annotated[
        str, says("The device: `host`, `ssh:USER@HOST[:PORT]`, `adb:SERIAL` or `browser`.", min_length=1, flag="device")
    ] = "host"
    threads: Annotated[
        Threads | Annotated[tuple[Threads, ...], Meta(min_length=1)],
        says("Number of threads of the runtime; a list measures each number.", flag="threads"),
    ] = 1
    xnnpack: Annotated[
        Literal["on", "off", "both"],
        says("Run with LiteRT's XNNPACK kernels, without them, or measure both.", flag="xnnpack"),
    ] = "on"
    cores: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=65_535)], ...],
        says("Processor cores to which the timed process is pinned, such as 0,1.", flag="cores", left_out="any core"),
    ] = ()
    rule: Annotated[
        Literal["kd2mobile", "mlperf"],
        says(
            "How many runs are timed: `mlperf` at least 1,024 and 60 s per file, `kd2mobile` latency_runs.", flag="rule"
        ),
    ] = "kd2mobile"
    latency_runs: Annotated[
        int, says("Number of timed runs on one image, after the warm-up.", ge=100, le=1_000_000)
    ] = 300


class Recipe(Table):
    """All tables of a recipe."""

    data: Data = Data()
    views: Views = Views()
    teacher: Teacher | Annotated[tuple[Teacher, ...], Meta(min_length=2)] = Teacher()
    ensemble: Ensemble = Ensemble()
    label: Label = Label()
    student: Student = Student()
    distill: Distill = Distill()
    compress: Compress = Compress()
    export: Export = Export()
    benchmark: Benchmark = Benchmark()

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teacher, or each of several: with ensemble.members, one network with as many seeds."""
        if not isinstance(self.teacher, Teacher):
            return self.teacher
        seeds = range(self.teacher.seed, self.teacher.seed + (self.ensemble.members or 1))
        return tuple(msgspec.structs.replace(self.teacher, seed=seed) for seed in seeds)


TABLES: dict[str, type[Table]] = {
    field.name: (get_args(field.type) or [field.type])[0] for field in msgspec.structs.fields(Recipe)
}
"""Each table by its name; of several teachers each is a table of its own."""


class Field(msgspec.Struct, frozen=True):
    """One field of the schema: its type without the bounds, its default, what it is, its flag if it has one, and what
    holds if it is left out, empty if its default says so."""

    kind: Any
    default: Any
    description: str
    flag: str | None
    left_out: str

    @property
    def described(self) -> str:
        """The description with what holds if the field is left out, in brackets."""
        return f"{self.description} [{self.left_out}]" if self.left_out else self.description


def fields() -> dict[str, Field]:
    """Every field of a recipe by its dotted name, `distill.temperature`."""
    return {
        f"{name}.{field.name}": Field(
            field.type.__origin__,
            _default(field),
            *next((m.description, *m.extra.values()) for m in field.type.__metadata__ if m.description),
        )
        for name, table in TABLES.items()
        for field in msgspec.structs.fields(table)
    }


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def takes(name: str, entry: bool = False) -> str:
    """What the field of that dotted name must be, with its bounds, in words. entry: of a list, what each of it must be.

    >>> takes("distill.epochs")
    'a whole number from 1 to 100,000'
    >>> takes("teacher.input_px"), takes("benchmark.cores", entry=True)
    ('a whole number from 1 to 2,048, or left out', 'a whole number from 0 to 65,535')
    """
    table, _, field = name.partition(".")
    kind = get_type_hints(TABLES[table], include_extras=True)[field]
    return type_in_words(_entry(kind) if entry else kind)


def bounds(*metas: Meta) -> str:
    """The bounds of a number in words, empty where it has none.

    >>> bounds(Meta(gt=0, lt=0.5)), bounds(Meta(ge=1, le=4096)), bounds(Meta())
    ('above 0 and below 0.5', 'from 1 to 4,096', '')
    """
    words = {"ge": "from", "gt": "above", "lt": "below", "le": "at most"}
    given = {bound: getattr(meta, bound) for meta in metas for bound in words if getattr(meta, bound) is not None}
    if {"ge", "le"} <= given.keys():
        return f"from {given['ge']:,} to {given['le']:,}"
    return " and ".join(f"{words[bound]} {value:,}" for bound, value in given.items())


def type_in_words(kind: Any, *metas: Meta) -> str:
    """What a value of that type must be, in words. metas: the bounds that hold for it.

    >>> type_in_words(Annotated[float, Meta(ge=0)]), type_in_words(bool | None)
    ('a number from 0', 'true or false, or left out')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_in_words(parts[0], *metas, *parts[1:])
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple:
        filled = " that is not empty" if any(meta.min_length for meta in metas) else ""
        return f"a list{filled}, each entry {type_in_words(parts[0])}"
    if origin is dict:
        return f"a table, each value {type_in_words(parts[1])}"
    if parts:
        return ", or ".join("left out" if part is type(None) else type_in_words(part) for part in parts)
    if kind is str and any(meta.min_length for meta in metas):
        return "text that is not empty"
    named = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
    return f"{named} {bounds(*metas)}".rstrip()


def _entry(kind: Any) -> Any:
    """What each entry of a list or a table is, wherever in the type it stands."""
    parts = get_args(kind)
    if get_origin(kind) is tuple:
        return parts[0]
    if get_origin(kind) is dict:
        return parts[1]
    return next((found for part in parts if (found := _entry(part)) is not None), None)
