"""A trained small_cnn on the tiny stores of the training tests, and the compressing process's work in this process."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from kd2mobile.compress import worker
from kd2mobile.compress.job import Job
from kd2mobile.recipe import schema
from kd2mobile.training.train import train_student

from ..training.conftest import CLASSES, STUDENT, Stores, distill, make_stores


@dataclass(frozen=True)
class Case:
    """student: a student.keras of the stores."""

    student: Path
    stores: Stores

    def job(self, folder: Path, method: str, student: Path | None = None, preserve=(), teacher=True, **settings) -> Job:
        folder.mkdir(parents=True, exist_ok=True)
        taught = str(self.stores.transfer_folder) if teacher else None
        return Job(
            student=str(student or self.student),
            name=STUDENT.name,
            folder=str(folder),
            method=method,
            preserve=list(preserve),
            compress=schema.Compress(**{"epochs": 4, "learning_rate": 1e-3, **settings}),
            distill=distill() if teacher else distill(loss="labels"),
            classes=CLASSES,
            train_labels=self.stores.train_labels.tolist(),
            val_labels=self.stores.val_labels.tolist(),
            pixels=str(self.stores.pixels_folder),
            transfer=taught,
            unlabelled=None,
        )

    def run(self, folder: Path, method: str, **how) -> dict:
        """The worker's work without its process; returns its result."""
        results = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a process of its own, where those of Keras 2 are not errors
            worker.work(self.job(folder, method, **how), lambda kind, result: results.append(result))
        (result,) = results
        return result


@pytest.fixture(scope="session")
def case(tmp_path_factory) -> Case:
    place = tmp_path_factory.mktemp("compress")
    stores = make_stores(place / "stores", train=96, val=30)
    train_student(place / "student", distill(epochs=6), STUDENT, **asdict(stores))
    return Case(place / "student" / "student.keras", stores)
