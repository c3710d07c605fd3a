"""`benchmark`: measure accuracy, size and latency of the files of a run, or of any .tflite file on a folder."""

from pathlib import Path
from typing import Any

from kd2mobile.api.export import exported_variants, make_files
from kd2mobile.api.measurement import measure, protocol_of, validations
from kd2mobile.api.results import Benchmarked
from kd2mobile.api.start import all_settings, open_or_start
from kd2mobile.errors import RecipeError
from kd2mobile.files import system_errors
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Recipe
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import STORE


@system_errors()
def benchmark(
    run: Path | None = None,
    *,
    model: Path | None = None,
    data: Path | None = None,
    labels: Path | None = None,
    mean: float | list[float] | None = None,
    std: float | list[float] | None = None,
    resize: str | None = None,
    range: tuple[float, float] | None = None,
    store: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Benchmarked:
    """Measures the files of a run on this host, or any .tflite image classifier on a folder (benchmarks/RULES.md).

    run: its folder, by default the newest. model, data: someone else's file and a folder of class folders instead; then
    labels, mean, std, resize and range say how to read them. A model may also be a folder with its record, as under
    models/: without data it is measured on the images that the record names. settings, flags: of the [benchmark]
    table, for this call. The device is looked at first: a wrong one is refused before anything is made.
    """
    from kd2mobile.measure.devices import check_device

    def look(recipe: Recipe) -> None:
        check_device(recipe.benchmark.device, protocol_of(recipe.benchmark))

    settings = all_settings(settings, flags)
    reading = {"labels": labels, "mean": mean, "std": std, "resize": resize, "range": range}
    _check_together(run, model, data, [name for name, value in reading.items() if value is not None])
    if model is not None:
        look(composed := compose(settings=settings))
        how = composed.benchmark
    if model is not None and Path(model).is_dir():
        from kd2mobile.api.published import MODEL, measure_published

        if data is None:
            return measure_published(Path(model), Store(store or STORE), how)
        model = Path(model) / MODEL
    if model is not None and data is not None:
        from kd2mobile.measure.external import measure_on_folder

        reading["value_range"] = reading.pop("range")
        measured = {"device": how.device, "protocol": protocol_of(how)}
        return Benchmarked(None, measure_on_folder(Path(model), Path(data), **reading, **measured).records, [])
    opened, plan = open_or_start(run, store, settings, look)
    done = make_files(opened, plan, exported_variants(opened), as_before=True)
    return measure(opened, plan, done.files, validations(opened, plan, done.records.values()))


def _check_together(run: Path | None, model: Path | None, data: Path | None, reading: list[str]) -> None:
    """Raises RecipeError for inputs that do not go together. reading: what is said of how to read the model."""
    where, next_step = "kd2mobile benchmark", "See `kd2mobile benchmark --help`."
    if bool(model) != bool(data) and not (model and Path(model).is_dir()):
        got = f"--model {model} alone" if model else f"--data {data} alone"
        raise RecipeError(where, "--model and --data must be given together", got, f"Add the other. {next_step}")
    if reading and not model:
        flags = " and ".join(f"--{name}" for name in reading)
        raise RecipeError(where, f"{flags} must be given with --model", "no --model", next_step)
    if model and run:
        raise RecipeError(
            where, "--run must be given without --model", f"--model {model}", f"Leave one out. {next_step}"
        )
