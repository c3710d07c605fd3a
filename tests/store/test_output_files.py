"""No command writes over its input, or over a file that is no earlier result of its own kind."""

import json
import os
import shutil
import threading
from pathlib import Path

import click
import pytest
from PIL import Image

import kd2mobile
from kd2mobile.cli.commands import main, main_status
from kd2mobile.cli.options import CarefulCommand, OutputFile
from kd2mobile.errors import RecipeError
from kd2mobile.recipe.compose import compose
from kd2mobile.store.output_files import (
    check_apart,
    check_different,
    check_output,
    check_outside,
    is_drawing,
    is_json_result,
    is_page,
    signature,
)
from kd2mobile.store.run import check_outside_data, check_outside_results

PUBLISHED = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8"
OUTPUTS = {"json_file", "sheet", "png", "out"}
"""What the options for files that are written are called."""


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Files that must stay, whatever a command is told."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(PUBLISHED / "model.tflite", "a.tflite")
    shutil.copyfile("a.tflite", "b.tflite")
    shutil.copyfile(PUBLISHED / "record.json", "record.json")
    Image.new("RGB", (8, 8)).save("photo.png")
    Path("page.html").write_text("<!doctype html><title>mine</title>")
    Path("package.json").write_text('{"name": "mine"}')
    Path("notes.json").write_text("not JSON")
    Path("host.json").write_text(json.dumps([json.loads(Path("record.json").read_text())["benchmark"]]))
    Path("link.json").symlink_to("a.tflite")
    os.link("host.json", "same.json")
    Path("photos/cat").mkdir(parents=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    yield
    assert before == {path: path.read_bytes() for path in before}


INSPECT, REPORT = ["inspect", "a.tflite"], ["report", "--records", "host.json"]


@pytest.mark.parametrize(
    "arguments, flag",
    [
        *(
            ([*INSPECT, f"--json={name}"], "--json")
            for name in ("b.tflite", "a.tflite", "link.json", "package.json", "notes.json")
        ),
        *(([*INSPECT, f"--json={name}"], "--json") for name in ("record.json", "host.json", "photo.png")),
        *(([*REPORT, f"--json={name}"], "--json") for name in ("host.json", "same.json", "a.tflite")),
        *(([*REPORT, "--out", name], "--out") for name in ("page.html", "host.json", "a.tflite", "photo.png")),
        (["check", "--data", "photos", "--sheet", "photo.png"], "--sheet"),
        (["check", "--data", "photos", "--json=photo.png"], "--json"),
        (["doctor", "--json=package.json"], "--json"),
        (["benchmark", "--model", "a.tflite", "--data", "photos", "--json=a.tflite"], "--json"),
        (["show", "photo.png", "--png", "photo.png"], "--png"),
    ],
)
def test_another_file_is_not_written_over(arguments, flag, capsys):
    output = arguments[-1].removeprefix("--json=")
    assert main_status(arguments) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1 and printed[0].startswith(f"{flag}: {output} must be a new file, or an earlier result")


def test_an_input_is_not_written_over_even_where_it_is_of_the_kind(capsys):
    @click.command(cls=CarefulCommand)
    @click.argument("image")
    @click.option("--png", type=OutputFile(is_drawing))
    def show(image, png):
        raise AssertionError

    Image.new("RGB", (8, 8)).save("ours.png", pnginfo=signature())
    Path("other.png").symlink_to("ours.png")
    for output in ("ours.png", "other.png", "./photos/../ours.png"):
        with pytest.raises(RecipeError, match=r"--png: must be a different file from IMAGE, got "):
            show.main(["ours.png", "--png", output], standalone_mode=False)
    check_apart(Path("new.png"), "--png", {"IMAGE": Path("ours.png"), "gone": Path("gone")})


TWO_OUTPUTS = [
    (["check", "--data", "photos", "--sheet", "{0}", "--json={1}"], "--sheet and --json", "s.png"),
    (["report", "--records", "host.json", "--json={1}", "--out", "{0}"], "--json and --out", "same.html"),
    (["show", "photo.png", "--png", "{0}", "--json={1}"], "--png and --json", "drawn.png"),
]


@pytest.mark.parametrize(("arguments", "flags", "name"), TWO_OUTPUTS)
def test_two_outputs_are_two_files(arguments, flags, name, capsys):
    Path("loop").symlink_to(".")
    for other in (name, f"./{name}", f"loop/{name}", str(Path(name).absolute())):
        words = [word.format(name, other) for word in arguments]
        assert main_status(words) == 2
        output = capsys.readouterr().err.splitlines()
        assert len(output) == 1 and set(flags.split(" and ")) == set(output[0].partition(":")[0].split(" and "))
        assert "must be different files, got " in output[0] and not Path(name).exists()


def test_two_hard_links_are_one_file_and_two_devices_are_none(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text("{}")
    second.hardlink_to(first)
    with pytest.raises(RecipeError, match="^--out and --json: must be different files, got .*b.json"):
        check_different({"--out": first, "--json": second})
    (tmp_path / "later.json").symlink_to("c.json")  # of a file that is still to be written
    with pytest.raises(RecipeError, match="^--out and --json: must be different files"):
        check_different({"--out": tmp_path / "c.json", "--json": tmp_path / "later.json"})
    check_different({"--out": first, "--json": tmp_path / "c.json"})
    check_different({"--out": Path("/dev/null"), "--json": Path("/dev/null")})


def test_an_earlier_result_of_the_kind_is_replaced():
    for _ in range(2):
        assert main_status([*INSPECT, "--json=found.json"]) == 0
    assert json.loads(Path("found.json").read_text())
    for _ in range(2):
        assert main_status([*REPORT, "--json=shown.json", "--out", "shown.html"]) == 0
    with pytest.raises(RecipeError, match=r"found\.json must be a new file"):
        check_output(Path("found.json"), "--json", is_json_result("kd2mobile.cli.doctor:Diagnosis"))


def test_a_result_of_another_version_is_still_of_the_kind():
    is_ours = is_json_result("kd2mobile.cli.doctor:Diagnosis")
    assert main_status([*INSPECT, "--json=found.json"]) == 0
    found = json.loads(Path("found.json").read_text())
    less = dict(list(found.items())[:-1])
    for held in (found, found | {"new": 1}, less):
        Path("found.json").write_text(json.dumps(held))
        check_output(Path("found.json"), "--json", is_json_result("kd2mobile.inspection.inspect:Inspection"))
    for held in ([], {}, [[]], [1], 3, None, "x", less | {"new": 1}):
        Path("found.json").write_text(json.dumps(held))
        assert not is_ours(Path("found.json"))


def test_the_same_in_python():
    with pytest.raises(RecipeError, match=r"sheet: photo\.png must be a new file"):
        kd2mobile.check(data="photos", sheet=Path("photo.png"))
    with pytest.raises(RecipeError, match=r"--out: page\.html must be a new file"):
        kd2mobile.report(records=[Path("host.json")], out=Path("page.html"))
    Path("devices.html").write_text("mine")
    with pytest.raises(RecipeError, match=r"--out: devices\.html must be a new file"):
        kd2mobile.report(records=[Path("host.json")])


@pytest.mark.parametrize("path", ["photos", "no/x.json", "a\0b"])
def test_a_path_where_nothing_can_be_written(path):
    with pytest.raises(RecipeError, match="--json: must be a (file in an existing folder|path), got"):
        check_output(Path(path), "--json", is_page)


@pytest.mark.parametrize("place", ["photos", "photos/cat", "photos/new", "link/new", "other/../photos/cat/x"])
@pytest.mark.parametrize("field", ["data", "val_data", "test_data", "unlabelled"])
def test_no_store_and_no_run_lies_in_the_data(place, field):
    for folder in ("other", "empty"):
        Path(folder).mkdir()
    Path("link").symlink_to("photos")
    data = {"data": "empty"} | {field: ["other", "photos"] if field == "unlabelled" else "photos"}
    message = r"must lie outside photos, a folder of the data, got .*\. Give another path\."
    for verb in (kd2mobile.distill, kd2mobile.label, kd2mobile.check):
        with pytest.raises(RecipeError, match=f"--store: {message}"):
            verb(**data, store=Path(place))
    with pytest.raises(RecipeError, match=f"--run: {message}"):
        kd2mobile.distill(**data, run=Path(place))
    assert [path.name for path in Path("photos").rglob("*")] == ["cat"], "nothing was written"


def test_no_result_lies_in_the_data(capsys):
    ours = Path("photos/cat/ours.png")
    Image.new("RGB", (8, 8)).save(ours, pnginfo=signature())
    before = ours.read_bytes()
    Path("recipe.toml").write_text('[data]\nsource = "photos"\n')
    for data in (["--data", "photos"], ["--recipe", "recipe.toml"]):
        for output in (["--sheet", str(ours)], ["--json=photos/cat/new.json"]):
            assert main_status(["check", *data, *output]) == 2
            printed = capsys.readouterr().err
            assert (
                "must lie outside photos, a folder of the data, got photos/cat/" in printed and printed.count("\n") == 1
            )
    assert ours.read_bytes() == before and [path.name for path in ours.parent.iterdir()] == ["ours.png"]
    check_outside_data(compose(settings={"data.source": "photos"}), {"--store": Path("photos2"), "--run": None})


@pytest.fixture
def results():
    """What stands in a store and a run."""
    for name in (".kd2mobile/new", "mine/split/0123456789abcdef/record.json", "runs/r1/run.json"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("{}")
    Path("runs/r1/measurements").mkdir()
    shutil.copyfile("host.json", "runs/r1/benchmark.json")


@pytest.mark.parametrize("name", ["benchmark", "comparisons", "run", "measurements/x-host"])
def test_no_result_replaces_what_a_run_holds(results, name, capsys):
    place = Path(f"runs/r1/{name}.json")
    before = place.read_bytes() if place.is_file() else None
    assert main_status(["benchmark", "--model", "a.tflite", "--data", "photos", f"--json={place}"]) == 2
    assert capsys.readouterr().err.startswith("--json: ")
    with pytest.raises(RecipeError, match=r"--json: must (lie outside|be different from a run's own files)"):
        check_outside_results(place, "--json")
    assert (place.read_bytes() if place.is_file() else None) == before
    check_outside_results(Path("runs/r1/records.json"), "--json")


def test_a_page_of_records_does_not_replace_that_of_a_run(results):
    assert main_status([*REPORT, "--out", "runs/r1/report.html"]) == 2
    with pytest.raises(RecipeError, match=r"--out: must be different from a run's own files, got runs/r1/report\.html"):
        kd2mobile.report(records=[Path("host.json")], out=Path("runs/r1/report.html"))
    assert not Path("runs/r1/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "--out", "out", "--json=out/new.tflite"], "must not have the name of a model, got out/new.tflite"),
        (["export", "--run", "out", "--json=out/new.TFLITE"], "must not have the name of a model, got out/new.TFLITE"),
        (["export", "--out", "same", "--json=same"], "must be a different file from --out, got same"),
        (["distill", "--run", "same", "--json=same"], "must be a different file from --run, got same"),
        (
            ["distill", "--run", "out", "--json=out/run.json"],
            "must be different from a run's own files, got out/run.json",
        ),
        (
            ["export", "--run", "out", "--json=loop/out/recipe.toml"],
            "must be different from a run's own files, got loop",
        ),
        (["distill", "--store", "out", "--json=out/hashes.json"], "must lie outside out, which holds only artifacts"),
        (["check", "--store", "out", "--json=loop/out/x.json"], "must lie outside out, which holds only artifacts"),
    ],
)
def test_no_result_has_the_name_of_what_the_command_writes_later(arguments, said, capsys):
    Path("out").mkdir()
    Path("loop").symlink_to(".")
    assert main_status(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"--json: {said}") and line.count("\n") == 1
    assert not any(Path("out").iterdir()) and not Path("same").exists()


@pytest.mark.parametrize("folder", [".kd2mobile", "mine/split/0123456789abcdef", "mine/split"])
def test_no_result_lies_in_a_store(results, folder, capsys):
    before = sorted(map(str, Path(folder).rglob("*")))
    assert main_status([*INSPECT, f"--json={folder}/new.json"]) == 2
    output = capsys.readouterr().err
    assert output.startswith("--json: must lie outside ") and "which holds only artifacts, got " in output
    with pytest.raises(RecipeError, match="--out: must lie outside .*, which holds only artifacts, got "):
        kd2mobile.export(out=Path(folder), force=True)
    assert sorted(map(str, Path(folder).rglob("*"))) == before


def test_a_pipe_and_a_device_are_written_to():
    os.mkfifo("pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()))
    reader.start()
    assert main_status([*INSPECT, "--json=pipe"]) == 0
    reader.join()
    assert json.loads(read[0]) and main_status([*INSPECT, "--json=/dev/null"]) == 0 and not Path("/dev/null").is_file()


@pytest.mark.parametrize("command", main.commands.values(), ids=main.commands)
def test_every_option_for_an_output_file_is_checked(command):
    assert isinstance(command, CarefulCommand)
    written = {param.name for param in command.params if isinstance(param.type, OutputFile)}
    folders = {"out"} if command.name == "export" else set()  # it refuses other files itself, without --force
    assert written == {param.name for param in command.params if param.name in OUTPUTS} - folders


def test_the_default_store_may_lie_hidden_among_the_images(tmp_path):
    check_outside(tmp_path / "photos" / ".kd2mobile", "--store", tmp_path / "photos", "data", hidden_allowed=True)
    for place in ("photos", "photos/runs", "photos/cat"):
        with pytest.raises(RecipeError, match="--store: must lie outside .*photos, data, got .*"):
            check_outside(tmp_path / place, "--store", tmp_path / "photos", "data", hidden_allowed=True)
