"""What int8 loses on caltech101, by how many images calibrate and by how the weights are scaled: on validation.

    python benchmarks/quantization.py --data CALTECH101 --run runs/caltech101-mobilenet025-0 [--run ...]

The runs are those of caltech101.py. The student with the teacher is converted anew for each setting into a temporary
folder; nothing of the runs is changed. Top-1 is of the validation images, beside the Keras student's on the same.
Writes one record to benchmarks/results/.
"""

import argparse
import os
import tempfile
from pathlib import Path

import msgspec
from records import write_record

from kd2mobile.data.sources.roots import absolute
from kd2mobile.data.split import read_split
from kd2mobile.errors import ExportError
from kd2mobile.recipe.schema import Export
from kd2mobile.store.run import Run, open_run
from kd2mobile.tflite.calibration import choose_calibration
from kd2mobile.tflite.export import converting_process, export_student
from kd2mobile.tflite.job import Job

TRIED = [{"images": count} for count in (50, 100, 400, 800)] + [{"images": 400, "per_tensor": True}]
KEEP_FLOAT = {"mobilenet025": ["conv1", "conv_dw_1", "conv_dw_2", "conv_dw_3", "conv_dw_13"]}
"""The layers with the largest errors of their own where a tensor has one scale: tried in float as well."""
KEPT = ("precision", "size_bytes", "compressed_bytes", "weight_scales", "parity", "against_student", "converter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", required=True)
    options = parser.parse_args()
    runs = [open_run(folder) for folder in options.run]
    write_record(
        "quantization",
        "python benchmarks/quantization.py --data $CALTECH101"
        + "".join(f" --run runs/{run.folder.name}" for run in runs),
        runs=[tried(run, options.data) for run in runs],
    )


def tried(run: Run, data: Path) -> dict:
    """One student in int8 under each setting."""
    name = run.recipe.student.name
    kept = [TRIED[-1] | {"keep_float": KEEP_FLOAT[name]}] if name in KEEP_FLOAT else []
    settings = [{"setting": setting, **converted(run, data, **setting)} for setting in TRIED + kept]
    return {"student": name, "seed": run.recipe.distill.seed, "tried": settings}


def converted(run: Run, data: Path, images: int, per_tensor: bool = False, keep_float: tuple = ()) -> dict:
    """What the record of that file says, or why it was refused."""
    folders = run.artifacts
    split = read_split(folders["split"])
    val = split.samples_of("val")
    calibration = choose_calibration(split.samples_of("train"), images, run.recipe.data.seed)
    print(f"{run.folder.name}: {images} images{', per tensor' * per_tensor}", *keep_float, flush=True)
    with tempfile.TemporaryDirectory() as folder, converting_process() as process:
        try:
            job = Job(
                student=os.path.abspath(folders["student"] / "student.keras"),
                folders={"int8": folder},
                classes=split.classes,
                resize=run.recipe.data.resize,
                model_name=run.recipe.student.name,
                student_fingerprint=folders["student"].name,
                images=absolute(data),
                calibration=[sample.path for sample in calibration],
                validation=[sample.path for sample in val],
                validation_labels=[sample.label for sample in val],
                options=Export(per_tensor=per_tensor, keep_float=tuple(keep_float)),
            )
            (result,) = export_student(job, process)
        except ExportError as fault:
            return {"refused": str(fault)}
    made = msgspec.to_builtins(result)
    return {field: made[field] for field in KEPT} | {"worst_layers": msgspec.to_builtins(result.worst_layers())}


if __name__ == "__main__":
    main()
