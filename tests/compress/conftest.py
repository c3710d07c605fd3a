"""A trained small_cnn on the tiny stores of the training tests, and the compressing process's work in this process."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kd2mobile.compress import worker
from kd2mobile.compress.job import Job
from kd2mobile.recipe import schema
from kd2mobile.training.examples import Examples
from kd2mobile.training.train import train_student

from ..training.conftest import STUDENT, distill, make_stores


@dataclass(frozen=True)
class Case:
    """student: a student.keras of the stores."""

    student: Path
    stores: Examples

    def job(self, folder: Path, method: str, student: Path | None = None, preserve=(), teacher=True, **settings) -> Job:
        folder.mkdir(parents=True, exist_ok=True)
        examples = self.stores if teacher else replace(self.stores, transfer_folder=None)
        return Job.of(
            examples,
            student=str(student or self.student),
            name=STUDENT.name,
            folder=str(folder),
            method=method,
            preserve=list(preserve),
            compress=schema.Compress(**{"epochs": 4, "learning_rate": 1e-3, **settings}),
            distill=distill() if teacher else distill(loss="labels"),
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
    folder = tmp_path_factory.mktemp("compress")
    stores = make_stores(folder / "stores", train=96, val=30)
    train_student(folder / "student", distill(epochs=6), STUDENT, stores)
    return Case(folder / "student" / "student.keras", stores)
