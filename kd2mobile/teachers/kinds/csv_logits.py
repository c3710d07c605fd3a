"""Trial: a teacher that is given as a CSV of its logits: id, then one column per class."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.recipe.content import content_of
from kd2mobile.recipe.schema import Teacher
from kd2mobile.teachers.kinds.kind import Kind, check_file

if TYPE_CHECKING:
    from kd2mobile.teachers.reading import Pictures


def _build(folder: Path, teacher: Teacher, pictures: "Pictures") -> dict[str, Any]:
    import numpy as np

    from kd2mobile.teachers.logits import make_logits_teacher

    with Path(teacher.name).open(newline="") as file:
        (_, *classes), *rows = csv.reader(file)
    npz = folder / f"{Path(teacher.name).stem}.npz"
    values = np.array([row[1:] for row in rows], np.float32)
    np.savez(npz, sample_ids=np.array([row[0] for row in rows]), class_names=np.array(classes), logits=values)
    try:
        return make_logits_teacher(folder, npz, pictures.split)
    finally:
        npz.unlink()


CSV_LOGITS = Kind(
    form="a .csv file of logits",
    summary="trial",
    matches=lambda name: name.endswith(".csv"),
    check=lambda teacher: check_file(teacher, "a .csv file of logits"),
    config=lambda teacher, classes: {"name": content_of(Path(teacher.name))},
    build=_build,
    whole_views=True,
)
