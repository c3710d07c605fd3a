"""What of the [export] table can change a file; its defaults leave the fingerprints of earlier exports as they were."""

import pytest

from kd2mobile.errors import RecipeError
from kd2mobile.recipe.schema import Export
from kd2mobile.recipe.variants import Variant
from kd2mobile.tflite.settings import calibration_images, check_has_effect, file_settings

ALL = [Variant("none", precision) for precision in ("fp32", "fp16", "int8_dynamic", "int8")]


def test_auto_has_files_of_its_own():
    auto = Export(auto=True, compressions=("prune",))
    must = "export.compressions: must be left out with --precision auto, .*, got prune. Leave --compress out"
    with pytest.raises(RecipeError, match=must):
        check_has_effect(auto, ["export.auto", "export.compressions"])
    check_has_effect(auto, ["export.auto"])  # what an earlier call of the run asked for
    must = "export.precisions: must be left out with --precision auto, .*, got int8. Leave it out, or give `--set"
    with pytest.raises(RecipeError, match=must):
        check_has_effect(Export(auto=True, precisions=("int8",)), ["export.precisions"])


def test_defaults_keep_their_settings():
    assert [file_settings(Export(), variant, 10) for variant in ALL] == [
        {"precision": precision, "calibration_images": None if precision == "fp32" else 400} for _, precision in ALL
    ]


def test_a_compression_stands_there_and_trained_scales_need_no_images():
    settings = [file_settings(Export(), Variant.named(name), 10) for name in ("qat-int8", "qat-fp16", "prune-int8")]
    assert [(each["compression"], each["calibration_images"]) for each in settings] == [
        ("qat", None),
        ("qat", 400),
        ("prune", 400),
    ]


@pytest.mark.parametrize("options", [{"per_tensor": True}, {"keep_float": ("conv",)}])
def test_what_trained_scales_cannot_be_is_refused(options):
    field = next(iter(options))
    with pytest.raises(RecipeError, match=rf"export.{field}: must be left out with qat-int8, because its training"):
        file_settings(Export(**options), Variant("qat", "int8"), 10)
    assert field not in file_settings(Export(**options), Variant("qat", "fp32"), 10)


def test_a_scale_per_tensor_changes_precisions_with_scales_only():
    per_tensor = [file_settings(Export(per_tensor=True), variant, 10).get("per_tensor") for variant in ALL]
    assert per_tensor == [None, None, True, True]


def test_kept_layers_change_int8_alone_whatever_their_order():
    kept = [file_settings(Export(keep_float=("b", "a", "b")), variant, 10).get("keep_float") for variant in ALL]
    assert kept == [None, None, None, ["a", "b"]]


def test_a_calibration_that_misses_a_class_is_refused_with_the_number_that_does_not():
    assert calibration_images(Export(calibration_images=12), 12) == 12
    message = r"export.calibration_images: must be at least 12, one image per class, got 11. Use .*images=12"
    with pytest.raises(RecipeError, match=message):
        file_settings(Export(calibration_images=11), ALL[-1], 12)
    assert file_settings(Export(calibration_images=11), ALL[0], 12)["calibration_images"] is None


@pytest.mark.parametrize("options", [{"per_tensor": True}, {"keep_float": ("conv",)}])
def test_an_option_without_effect_on_any_requested_file_is_refused(options):
    field = next(iter(options))
    export = Export(**options, precisions=("fp32", "fp16"))
    with pytest.raises(RecipeError, match=rf"export.{field}: must be given with .*int8 .*, got fp32, fp16. Add int8"):
        check_has_effect(export, [f"export.{field}"])
    check_has_effect(export, ["export.precisions"])  # a setting that the run has kept from an earlier call
    check_has_effect(Export(**options), [f"export.{field}"])
    check_has_effect(Export(**options, precisions=("fp32",), auto=True), [f"export.{field}"])
