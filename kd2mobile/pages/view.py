"""What the page shows, free of how the store keeps it: `collect.py` fills it, the page only lays it out."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from kd2mobile.tflite.results import TfliteResults

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.metrics import CalibrationBin


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Two models evaluated on the same images (McNemar's exact test). `a` is the one that the run is about.

    a, b: phrases that name the two in a sentence: "with the teacher", "on labels alone".
    difference: top-1 of a minus top-1 of b, a fraction. only_a, only_b: images that only one of them gets right.
    n: images evaluated. precision: of the two files that were compared, where both have one.
    """

    label: str
    a: str
    b: str
    difference: Annotated[float, Meta(ge=-1, le=1)]
    only_a: Annotated[int, Meta(ge=0, lt=2**53)]
    only_b: Annotated[int, Meta(ge=0, lt=2**53)]
    p_value: Annotated[float, Meta(ge=0, le=1)]
    n: Annotated[int, Meta(ge=1, lt=2**53)]
    precision: str | None = None


class ShownImage(msgspec.Struct, frozen=True, kw_only=True):
    """One test image with what teacher and student say about it.

    path: the name shown. image: a PIL image, or the path of an image file; only a thumbnail of it goes into the page.
    teacher, student: (class, probability) of all classes or of the likeliest few, in any order.
    """

    path: str
    image: Any
    true_class: str
    teacher: list[tuple[str, float]]
    student: list[tuple[str, float]]


class Answer(msgspec.Struct, frozen=True):
    """One model's answer to an image. who: its name in a word or two; probability: of the predicted class."""

    who: str
    predicted_class: str
    probability: float


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One test image, small, as an example of a mistake. path, image: as in Image."""

    path: str
    image: Any
    true_class: str
    answers: list[Answer]


class ConfusedPair(msgspec.Struct, frozen=True, kw_only=True):
    """Test images of one class that are taken for another. count: of the n that the true class has.

    teacher_too: how many of these the teacher takes for the same class; other_way: how many of the other class are
    taken for this one.
    """

    true_class: str
    predicted_class: str
    count: int
    n: int
    teacher_too: int
    other_way: int
    examples: list[Example]


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Where one model errs. pairs: the most frequent ones of the `pairs_in_all` (true class, named class).

    matrix: images by true class (rows) and named class, in the order of the classes; None where it is too large to
    be read. errors: of n images.
    """

    model: str
    n: int
    errors: int
    pairs_in_all: int
    pairs: list[ConfusedPair]
    matrix: list[list[int]] | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """One model's confidence against its accuracy. bins: as `metrics.calibration_bins` counts them."""

    role: str
    name: str
    ece: float
    bins: "list[CalibrationBin]"


class ClassScore(msgspec.Struct, frozen=True):
    """How many of a class's n test images one model has right, and another one."""

    name: str
    n: int
    right: int
    other_right: int


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """Test images that two files of one student put in different classes. count: of n.

    reference: the float file's precision; precision: the other's. only_reference, only_other: right in that one alone.
    """

    reference: str
    precision: str
    n: int
    count: int
    only_reference: int
    only_other: int
    examples: list[Example]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the run. seconds: what making it took, in this run or in the one that made it; None if unknown."""

    stage: str
    fingerprint: str
    seconds: float | None
    what: str


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to take on one device. key: the letter that names it. best_top1: of its files; least_top1: what was asked.

    by: `validation` or `test`, the images that chose. images, n: on which of them all of these were evaluated, as a
    record has it. within: how many of the `evaluated` files reach least_top1; smallest, fastest: of those, plain dicts
    of their records, None without any. level: the names of those that the timings do not tell apart from the fastest.
    left_out: the records that were not compared: name, sha256, images, n and why.
    """

    key: str
    device: str
    by: str
    images: str | None
    n: int | None
    best_top1: float | None
    least_top1: float | None
    evaluated: int
    within: int
    smallest: dict[str, Any] | None
    fastest: dict[str, Any] | None
    level: list[str]
    left_out: list[dict[str, Any]]


class DevicesData(msgspec.Struct, frozen=True, kw_only=True):
    """Devices and models beside each other. devices: its letter to what a device is, in words.

    records: plain dicts by letter, the newest of each file and setting; teachers: those that were given. within, a
    fraction, and min_top1: how accurate a choice must be. notes: sentences that the reader should know.
    """

    devices: dict[str, str]
    records: dict[str, list[dict[str, Any]]]
    teachers: list[dict[str, Any]]
    choices: list[Choice]
    within: float | None
    min_top1: float | None
    notes: list[str]


class ShownFile(msgspec.Struct, frozen=True):
    """One .tflite of the run. role: of the student that it is made from; made: how it came to be."""

    role: str
    made: TfliteResults


class Measurements(msgspec.Struct, frozen=True):
    """What a run's measurements/ holds. left_out: a sentence for each file there that cannot be read."""

    records: "list[BenchmarkRecord]"
    left_out: list[str]


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page.

    recipe: tables of fields, as in the TOML. records: as `benchmark --json` writes them, in any order.
    measurements: of its files on every device and in every setting, in any order and however often.
    paired: the first one (of the headline's precision, if there is one) gives the headline its comparison.
    histories: training curves by role, the main one first; a row is an epoch and has `epoch` and
    any of `val_top1` (fraction), `val_logloss`, `loss`.
    splits: images in each split. skipped: (path, reason) of images that could not be used.
    duplicates, leaks, contradictions: groups of paths of identical images: all of them, those in several splits, and
    those in several classes. near_duplicates: groups of paths of images that look the same; leaked: test images that
    are also in train or val or in a group with one of them.
    confusion: of the recommended student. class_scores: of its precision, in the order of the classes;
    scored: the roles that they compare.
    commands: the shell lines that make the run again. notes: sentences that the reader should know.
    """

    title: str
    run: str
    recipe: dict[str, dict[str, Any]]
    records: "list[BenchmarkRecord]"
    measurements: "list[BenchmarkRecord]" = []
    paired: list[Paired] = []
    histories: dict[str, list[dict[str, Any]]] = {}
    images: list[ShownImage] = []
    images_chosen: str = ""
    classes: list[str] = []
    splits: dict[str, int] = {}
    skipped: list[tuple[str, str]] = []
    duplicates: list[list[str]] = []
    leaks: list[list[str]] = []
    contradictions: list[list[str]] = []
    near_duplicates: list[list[str]] = []
    leaked: list[str] = []
    confusion: Confusion | None = None
    calibrations: list[Calibration] = []
    class_scores: list[ClassScore] = []
    scored: tuple[str, ...] = ()
    disagreements: list[Disagreement] = []
    stages: list[Stage] = []
    exports: list[ShownFile] = []
    versions: dict[str, str] = {}
    commands: list[str] = []
    notes: list[str] = []


class ComparedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One of several runs beside each other. key: the letter that names it; page: a link to its own page, or None.

    run: its folder's name; recipe, records: as in ReportData.
    """

    key: str
    run: str
    title: str
    page: str | None
    recipe: dict[str, dict[str, Any]]
    records: "list[BenchmarkRecord]"


class ComparisonData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page of several runs. differing: (field, the value in each run) where the recipes differ.

    paired: files of one run against those of another on the same test images; a and b are the runs' letters.
    incomparable: sentences that name the runs whose test images are not the same, and in what.
    """

    runs: list[ComparedRun]
    differing: list[tuple[str, list[Any]]]
    paired: list[Paired]
    incomparable: list[str]
