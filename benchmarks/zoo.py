"""Publishes a file of a run as models/<student>-<data>-<variant>/: model.tflite, CARD.md, record.json and recipe.toml.

    kd2mobile distill RECIPE --run runs/zoo && kd2mobile export --tflite --run runs/zoo
    kd2mobile benchmark --run runs/zoo && python benchmarks/zoo.py --run runs/zoo [--variant int8]

The run must have been benchmarked, on data that everybody has by its name. The card's numbers are those of the run's
records; `kd2mobile benchmark --model models/...` makes its accuracy again.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import jinja2
import msgspec

from kd2mobile.api.measurement import RECORDS
from kd2mobile.api.published import CARD, MODEL, RECORD, Published
from kd2mobile.data.sources.named import SOURCES
from kd2mobile.files import write_json
from kd2mobile.measure.record import BenchmarkRecord
from kd2mobile.recipe.toml import write_recipe
from kd2mobile.recipe.variants import Variant
from kd2mobile.store.artifact import made_with, read_artifact
from kd2mobile.store.run import Run, open_run

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
LICENCES = {"digits": "CC BY 4.0 (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998)"}
EXPORT_FIELDS = (
    "sha256",
    "size_bytes",
    "compressed_bytes",
    "ops",
    "op_types",
    "weights",
    "calibration",
    "parity",
    "against_student",
    "made_from",
    "converter",
)
ABOUT = {"digits": "1,797 handwritten digits of 8 x 8 grey pixels, which come with scikit-learn (`load_digits`)"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--variant", default="int8", help="such as int8 or qat-int8")
    options = parser.parse_args()
    run, variant = open_run(options.run), Variant.named(options.variant)
    data = run.recipe.data.source
    if data not in SOURCES or data not in ABOUT:
        parser.error(f"--run: must be on data that everybody has by its name ({', '.join(ABOUT)}), got {data}")
    folder = MODELS / f"{run.recipe.student.name}-{data}-{variant.name}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.folder / "export" / f"{run.recipe.student.name}-{variant.name}.tflite", folder / MODEL)
    write_recipe(run.recipe, folder / "recipe.toml")
    published = record_of(run, variant)
    write_json(folder / RECORD, msgspec.to_builtins(published))
    (folder / CARD).write_text(card(folder.name, published, others(run, variant)), "utf-8")
    print(f"Written: {folder}. Next: kd2mobile benchmark --model models/{folder.name}")


def record_of(run: Run, variant: Variant) -> Published:
    artifacts = run.artifacts
    exported = json.loads((artifacts[f"student-{variant.name}"] / "record.json").read_text("utf-8"))
    (measured,) = [r for r in records(run) if (r["role"], r["compression"], r["precision"]) == ("student", *variant)]
    tables = msgspec.to_builtins(run.recipe)
    return Published(
        recipe={name: {k: v for k, v in table.items() if v is not None} for name, table in tables.items()},
        split_content=read_artifact(artifacts["thumbnails"]).record["spec"]["config"]["content"],
        benchmark=msgspec.convert(measured, BenchmarkRecord),
        made_with=made_with(),
        finished=exported["finished"],
        export={name: exported["results"][name] for name in EXPORT_FIELDS},
    )


def records(run: Run) -> list[dict]:
    return json.loads((run.folder / RECORDS).read_text("utf-8"))


def others(run: Run, variant: Variant) -> dict[str, dict]:
    """What stands beside the file in the card: the teacher, and the same student on labels alone."""
    teachers = {record["role"]: record for record in records(run) if record["role"] == "teacher"}
    for record in records(run):
        if (record["role"], record["compression"], record["precision"]) == ("baseline", *variant):
            teachers["baseline"] = record
    return teachers


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n images, in percent. Source: Wilson 1927."""
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return 100 * (middle - half), 100 * (middle + half)


def about_groups(file: BenchmarkRecord) -> str:
    """What near duplicates there are between the test images and the others."""
    if file.leaked is None:
        return (
            "Measured without groups: near duplicates were not yet kept in one split.\n"
            "Digits have none, so the split is the same either way."
        )
    return f"Of these {file.leaked} look like one of train or val."


def card(name: str, published: Published, beside: dict[str, dict]) -> str:
    """The model card. Its form: Mitchell et al. 2019, "Model Cards for Model Reporting", with the header of the Hub."""
    file = published.benchmark
    low, high = wilson(file.top1, file.n)
    data = published.recipe["data"]["source"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string((HERE / "card.md.j2").read_text("utf-8")).render(
        name=name,
        file=msgspec.to_builtins(file),
        recipe=published.recipe,
        data=data,
        about=ABOUT[data],
        licence=LICENCES[data],
        groups=about_groups(file),
        rows=[("**this file**", msgspec.to_builtins(file)), *beside.items()],
        low=low,
        high=high,
        parity=published.export["parity"],
        variant=Variant(file.compression, file.precision).name,
    )


if __name__ == "__main__":
    main()
