"""One more role, made up: an entry of ROLES is all that the plan, the run, the export and the report need of it."""

import re
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pytest
from PIL import Image

import kd2mobile
from kd2mobile.api.export import export_run
from kd2mobile.measure.roles import ROLES, Look, Role
from kd2mobile.pages.page import render
from kd2mobile.recipe.variants import Variant
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.run import open_run
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers.results import Description
from kd2mobile.transfer.results import TransferResults
from tests.made_results import STUDENT, tflite_results
from tests.pages.conftest import record, report

MEMBER = Role(
    "member",
    "with other members",
    Look("#123456", "#fedcba", "plus", hollow=True, dashes=(3, 1)),
    prefix="member-",
    trained=True,
    distill=MappingProxyType({"loss": "labels", "loss_options": {}, "seed": 7}),
)


@pytest.fixture(autouse=True)
def member(monkeypatch):
    monkeypatch.setitem(ROLES, MEMBER.name, MEMBER)


@pytest.fixture
def trained(monkeypatch):
    """A teacher, trainings and conversions that write a few words in no time; the seeds that were trained with."""
    seeds = []

    def make_teacher(folder, asked, images):
        (folder / "teacher.json").write_text("{}")
        (folder / "teacher.keras").write_text("made up")
        return Description(name="made up")

    def label(folder, *given, **how):
        (folder / "train-00000.npy").write_text("made up")
        return TransferResults(val=Validated(6, 0.5, 1.0))

    def train_student(folder, distill, *rest):
        seeds.append(distill.seed)
        (folder / "student.keras").write_text(f"seed {distill.seed}")
        (folder / "history.jsonl").write_text("{}")
        return STUDENT

    def export_student(job, process, done):
        for precision, folder in job.folders.items():
            Path(folder, job.file_name(precision)).write_text("made up")
            done(tflite_results(precision=precision, file=job.file_name(precision)))

    monkeypatch.setattr("kd2mobile.teachers.training.make_teacher", make_teacher)
    monkeypatch.setattr("kd2mobile.transfer.label.label", label)
    monkeypatch.setattr("kd2mobile.training.train.train_student", train_student)
    monkeypatch.setattr("kd2mobile.tflite.export.export_student", export_student)
    return seeds


def test_it_is_planned_trained_and_exported(tmp_path, monkeypatch, trained):
    for number in range(60):
        image = tmp_path / "photos" / "abc"[number % 3] / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(image)
    monkeypatch.chdir(tmp_path)
    how = {"teacher_weights": "none", "student": "small_cnn", "student_weights": "none", "input_px": 16, "views": 1}
    done = kd2mobile.distill(data="photos", run="run", seed=1, **how)
    assert list(done.students) == ["student", "member"] and trained == [1, 7]
    run = open_run("run")
    made = export_run(run, make_plan(run.recipe, run.store), [Variant("none", "int8")], None)
    assert [file.name for file in made.files.values()] == ["small_cnn-int8.tflite", "member-small_cnn-int8.tflite"]
    assert {"student", "member", "student-int8", "member-int8"} <= open_run("run").artifacts.keys()


def test_it_is_in_the_report_s_table_plots_and_legend():
    rows = [{"epoch": epoch, "val_top1": epoch / 4, "val_logloss": 1.0, "loss": 2.0} for epoch in (1, 2)]
    records = [record(), msgspec.structs.replace(record(top1=0.7), role="member")]
    html = render(report(records=records, histories={"student": rows, "member": rows}))
    assert "member, trained with other members</li>" in html
    assert re.search(r'<svg class="key member"[^>]*><path d="M5 2h4', html)
    assert re.search(r'<svg class="key line member".*</svg> with other members: 50.0 % validation top-1', html)
    assert "--member: #123456;" in html and "--member: #fedcba;" in html
    assert ".key.line.member { stroke-dasharray: 3 1; }" in html and "var(--member)" in html
