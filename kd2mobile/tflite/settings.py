"""What of a recipe's [export] table can change one file, and what that file is called."""

from collections.abc import Iterable

import msgspec

from kd2mobile.errors import RecipeError
from kd2mobile.recipe.schema import DESCRIBED, Compression, Export, Recipe
from kd2mobile.recipe.variants import Variant
from kd2mobile.store.artifact import Step, fingerprint_of
from kd2mobile.tflite.results import MadeFrom

CALIBRATION_IMAGES = 400
"""Where the recipe does not say; more where there are more classes, so that none is missed."""
PER_TENSOR = ("int8_dynamic", "int8")
"""The precisions whose weights have scales of their own."""


def calibration_images(export: Export, classes: int) -> int:
    """How many training images calibrate. Raises RecipeError for fewer than classes, of which some would be missed.

    >>> calibration_images(Export(), 10), calibration_images(Export(), 1000)
    (400, 1000)
    """
    requested = export.calibration_images
    if requested is not None and requested < classes:
        raise RecipeError(
            "export.calibration_images",
            f"must be at least {classes:,}, one image per class",
            requested,
            f"Use `--set export.calibration_images={classes}` or more, or leave it out.",
        )
    return requested or max(CALIBRATION_IMAGES, classes)


def is_trained_int8(variant: Variant) -> bool:
    """Whether the file is made from a fake-quantized graph: its scales are trained, nothing calibrates it."""
    return variant.precision == "int8" and variant.compression in ("qat", "pcqat")


def is_clustered(compression: Compression) -> bool:
    """Whether the weights share a few values, of which a conversion should make no more."""
    return compression in ("cluster", "pcqat")


def check_has_effect(export: Export, given_fields: Iterable[str]) -> None:
    """Refuses what a call asks for where none of its files can have it. given_fields: the fields that it names, dotted.

    Raises RecipeError.
    """
    for field, leave in _APART_FROM_AUTO.items():
        if export.auto and f"export.{field}" in given_fields:
            must = "must be left out with --precision auto, which tries int8, int8_dynamic, fp16 and int8 after qat"
            raise RecipeError(f"export.{field}", must, ", ".join(getattr(export, field)), leave)
    for field, needed in {"keep_float": ("int8",), "per_tensor": PER_TENSOR}.items():
        requested = f"export.{field}" in given_fields and getattr(export, field) and not export.auto
        if requested and not set(needed) & set(export.precisions):
            must = f"must be given with the precision {' or '.join(needed)} (no effect on others)"
            add = f"Add {needed[-1]} to --precision, or leave it out."
            raise RecipeError(f"export.{field}", must, ", ".join(export.precisions), add)


def file_settings(export: Export, variant: Variant, classes: int) -> dict:
    """What can change the file of that variant, for its step; what is at its default stands there only if it always
    did. Raises RecipeError."""
    precision, trained = variant.precision, is_trained_int8(variant)
    uncalibrated = precision == "fp32" or trained
    settings = {
        "precision": precision,
        "calibration_images": None if uncalibrated else calibration_images(export, classes),
    }
    if variant.compression != "none":
        settings["compression"] = variant.compression
    if is_clustered(variant.compression) and precision == "fp16":
        settings["keep_clusters"] = True
    for field in ("per_tensor", "keep_float"):
        if trained and getattr(export, field):
            must = f"must be left out with {variant.name}, because its training quantizes every layer"
            got = ", ".join(export.keep_float) if field == "keep_float" else "it"
            raise RecipeError(f"export.{field}", must, got, f"Leave it out, or leave {variant.compression} out.")
    if export.per_tensor and precision in PER_TENSOR:
        settings["per_tensor"] = True
    if export.keep_float and precision == "int8":
        settings["keep_float"] = sorted(set(export.keep_float))
    return settings | described(export)


def described(export: Export) -> dict[str, str]:
    """What the recipe wants said in a file's metadata: its version, author and licence, those that are given."""
    return {name: text for name in DESCRIBED if (text := getattr(export, name))}


def file_name(student: str, variant: Variant, options: Export) -> str:
    """The file's name; what differs from the default and changes this file is a word in it.

    >>> int8, fp32 = Variant("none", "int8"), Variant("prune", "fp32")
    >>> one_scale = Export(per_tensor=True, keep_float=("conv",))
    >>> file_name("mlp", int8, one_scale), file_name("mlp", fp32, one_scale)
    ('mlp-int8-per_tensor-keep_float.tflite', 'mlp-prune-fp32.tflite')
    """
    precision = variant.precision
    changed = {
        "per_tensor": options.per_tensor and precision in PER_TENSOR,
        "keep_float": options.keep_float and precision == "int8",
    }
    words = [word for word, is_changed in changed.items() if is_changed]
    return "-".join((student, variant.name, *words)) + ".tflite"


def fingerprints(recipe: Recipe, student: Step) -> MadeFrom:
    """What a file was made from.

    recipe: of all its fields but those of the tables that change no student: [label], [compress], [export],
    [benchmark].
    """
    tables = msgspec.to_builtins(recipe)
    kept = {name: table for name, table in tables.items() if name not in ("label", "compress", "export", "benchmark")}
    inputs = {name: student.inputs[name].fingerprint if name in student.inputs else None for name in _LEARNED}
    return MadeFrom(recipe=fingerprint_of(kept), student=student.fingerprint, **inputs)


_LEARNED = ("split", "transfer")
_APART_FROM_AUTO = {
    "precisions": "Leave it out, or give `--set export.auto=false`.",
    "compressions": "Leave --compress out, or give the precisions.",
}
