"""The walk from cheap files to costly ones, with files made up: what is tried, what is chosen, what is said."""

from pathlib import Path

import pytest

from kd2mobile.api.ladder import walk
from kd2mobile.api.results import Exported, ExportedFile
from kd2mobile.errors import ExportError, MissingExtraError
from kd2mobile.installation import install_command
from kd2mobile.recipe.variants import Variant
from tests.made_results import tflite_results


def maker(losses: dict[str, float | Exception], asked: list[str]):
    sizes = {"int8": 300, "int8_dynamic": 280, "fp16": 500, "qat-int8": 301}

    def make(variants: list[Variant]) -> Exported:
        (variant,) = variants
        asked.append(variant.name)
        loss = losses[variant.name]
        if isinstance(loss, Exception):
            raise loss
        lost = {"difference": -loss / 100, "interval_95": [-loss / 100 - 0.01, -loss / 100 + 0.005]}
        record = tflite_results(size_bytes=sizes[variant.name], against_student=lost)
        return Exported(Path("export"), [ExportedFile("student", variant.name, Path("x.tflite"), record)])

    return make


def test_the_smallest_cheap_file_within_ends_the_walk():
    asked = []
    tried, found = walk(maker({"int8": 0.1, "int8_dynamic": 0.4, "fp16": 0.0}, asked), 0.5)
    assert found.variant.name == "int8_dynamic" and asked == ["int8", "int8_dynamic", "fp16"]
    assert [rung.variant.name for rung in tried] == asked
    assert tried[0].text() == "int8                  300 bytes  -0.10 points of top-1 (-1.10 to +0.40)"


def test_a_training_comes_where_only_a_larger_file_is_within():
    asked = []
    losses = {"int8": 2.0, "int8_dynamic": 1.0, "fp16": 0.0, "qat-int8": -0.2}
    _, found = walk(maker(losses, asked), 0.5)
    assert asked[-1] == "qat-int8" and found.variant.name == "qat-int8" and found.drop == pytest.approx(-0.2)
    _, found = walk(maker(losses | {"qat-int8": 0.9}, asked), 0.5)
    assert found.variant.name == "fp16"


def test_what_is_refused_is_said_and_passed_over():
    refused = ExportError("a.tflite", "must agree", "12 %", "Leave it out.")
    missing = MissingExtraError("compress qat", "tf_keras", "compress")
    losses = {"int8": refused, "int8_dynamic": 2.0, "fp16": 0.1, "qat-int8": missing}
    tried, found = walk(maker(losses, []), 0.5)
    assert found.variant.name == "fp16"
    assert tried[0].text() == "int8          refused: must agree, got 12 %. Leave it out."
    assert install_command("compress") in tried[-1].text()


def test_a_budget_that_nothing_meets_names_the_best():
    losses = {"int8": 2.0, "int8_dynamic": 1.0, "fp16": 0.3, "qat-int8": 1.5}
    message = (
        r"export.max_drop: must be reached by a file, at most 0.2 points, got fp16 at best, which loses 0.30 points. "
        r"Allow more with --max-drop"
    )
    with pytest.raises(ExportError, match=message):
        walk(maker(losses, []), 0.2)
