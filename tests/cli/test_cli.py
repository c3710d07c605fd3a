"""The command line: help, errors on one line with exit code 2, and what loads to start."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

import kd2mobile
from kd2mobile.api.results import Exported, ExportedFile, Rung
from kd2mobile.cli.commands import main, main_status
from kd2mobile.cli.help import GROUPS
from kd2mobile.cli.options import typed
from kd2mobile.errors import Kd2MobileError, UnknownNameError
from kd2mobile.recipe.compose import FLAGS, option_of
from kd2mobile.recipe.variants import Variant
from tests.made_results import tflite_results

HEAVY = ("numpy", "PIL", "keras", "tensorflow", "jax", "rich", "sklearn", "matplotlib", "ai_edge_litert")


def test_help_loads_no_framework_no_numpy_no_pillow():
    code = f"""
import sys
from kd2mobile.cli.commands import main_status
assert main_status(["--help"]) == 0
assert main_status(["distill", "--help"]) == 0
assert not [name for name in {HEAVY} if name in sys.modules], sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_listing_names_loads_no_framework():
    code = f"""
import sys
from kd2mobile.cli.commands import main_status
for kind in ("teachers", "students", "losses", "data", "fields"):
    assert main_status(["list", kind]) == 0
heavy = [name for name in {[h for h in HEAVY if h not in ("numpy", "PIL")]} if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_every_verb_and_every_option_has_help(verb):
    command = main.commands[verb]
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name
    assert CliRunner().invoke(main, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize("name", sorted(main.commands))
def test_the_help_of_a_command_has_an_example_and_its_options_in_groups(name):
    command = main.commands[name]
    text = CliRunner().invoke(main, [name, "--help"]).output
    assert f"\nExample:\n  {command.example}\n" in text and command.example.startswith(f"kd2mobile {name}")
    titles = re.findall(r"^(\w+):$", text, re.MULTILINE)[1:]
    assert titles == [title for title in GROUPS if title in titles] and "Options:" not in text
    for parameter in command.params:
        if parameter.param_type_name == "option":
            section = text.partition(f"\n{parameter.group}:\n")[2].partition("\n\n")[0]
            assert f"  {parameter.opts[0]}" in section, "under its title"
            wants_file = isinstance(parameter.type, click.Path)
            assert not wants_file or re.search(r"FILE|DIR|PATH|CERT KEY", parameter.metavar), parameter.opts


def test_a_flag_that_turns_off_is_typed_alone():
    assert typed("groups", False) == ("--no-groups",) and typed("resize", "crop") == ("--resize", "crop")


def test_the_flags_that_the_issue_names_are_there():
    distill = {name for parameter in main.commands["distill"].params for name in parameter.opts}
    promised = (
        "--data --teacher --teacher-weights --teacher-input-px --student --student-weights --input-px --resize "
        "--teacher-preprocess --teacher-classes --teacher-output "
        "--views --epochs --batch-size --temperature --hard-label-weight --loss --baseline --seed --run --recipe --set"
    )
    assert set(promised.split()) <= distill
    later = {flag for flag, field in FLAGS.items() if field.startswith(("export.", "benchmark."))}
    assert {option_of(flag) for flag in set(FLAGS) - later} <= distill


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["distil"], "kd2mobile: must be given one of its commands, got 'distil'. Did you mean 'distill'? See `kd2mo"),
        (["frobnicate"], "kd2mobile: must be given one of its commands, got 'frobnicate'. See `kd2mobile --help`."),
        (
            ["distill", "--temprature", "3"],
            "kd2mobile distill: must be given options of this command, got --temprature. Did you mean '--temperature'?",
        ),
        (["benchmark", "--precison", "int8"], "got --precison. Did you mean `kd2mobile export --precision`? See"),
        (["benchmark", "--nothing"], "got --nothing. See `kd2mobile benchmark --help`."),
        (["distill", "--temperature", "x"], "kd2mobile distill, --temperature: must be a number, got 'x'. See"),
        (["distill", "--temperature"], "kd2mobile distill, --temperature: must be given with a value, got none. See"),
        (["distill", "--quiet=1"], "kd2mobile distill, --quiet: must be given without a value. See `kd2mobile distill"),
        (["doctor", "me"], "kd2mobile doctor: must be given no further argument, got me. See `kd2mobile doctor"),
        (
            ["report", "--records", "--out", "x.html"],
            "kd2mobile report, --records: must be followed by at least one FILE, got --out. See `kd2mobile report --he",
        ),
        (["report", "--records"], "kd2mobile report, --records: must be given with a value, got none. See"),
        (["distill", "--run", "--quiet"], "kd2mobile distill, --run: must be followed by its DIR, got --quiet. See"),
        (["benchmark", "--threads", "0"], "--threads, benchmark.threads: must be a whole number from 1 to 256, got 0."),
        (
            ["benchmark", "--threads", "2,0"],
            "--threads, benchmark.threads: must be a whole number from 1 to 256, got 2, 0.",
        ),
        (["inspect"], "kd2mobile inspect: must be given FILE.tflite, got none. See `kd2mobile inspect --help`."),
        (
            ["predict", "a.tflite", "b.jpg", "--top", "0"],
            "kd2mobile predict, --top: must be a whole number from 1 to 100,000, got 0.",
        ),
        (
            ["distill", "--temperature", "-1"],
            "--temperature, distill.temperature: must be a number from 0.01 to 10,000, got -1.0.",
        ),
        (
            ["distill", "--set", "distill.temperature=-1"],
            "--set, distill.temperature: must be a number from 0.01 to 10,000, got -1.",
        ),
        (
            ["export", "--set", "export.precisions=[]"],
            "--set, export.precisions: must be a list that is not empty, each entry one of",
        ),
        (["distill", "--set", "heat=1"], "--set, field: must be one of"),
        (["distill", "--set", "distill.heat=1"], "--set, field of distill: must be one of loss, loss_options"),
        (["distill", "--set", "heat"], "--set: must be FIELD=VALUE, got 'heat'."),
        (["distill", "--recipe", "gone.toml"], "gone.toml: must be a readable recipe, got No such file"),
        (["distill", "--student", "mobilnet025"], "Did you mean 'mobilenet025'? See `kd2mobile list students`."),
        (["distill", "--student", "mlp-800x800"], "Did you mean 'mlp-800-800'? See `kd2mobile list students`."),
        (["distill", "--student", "mlp-128-x"], "students: must be of the form mlp-WIDTH[-WIDTH...], got 'mlp-128-x'."),
        (["distill", "--train-layers", "last:0"], "student.train_layers: must be `all` or `last:N` with N of at least"),
        (["distill", "--teacher", "xcepton"], "Did you mean 'xception'? See `kd2mobile list teachers`."),
        (["distill", "--loss", "kdd"], "losses: must be one of kd, kd-split"),
        (
            ["distill", "--data", "no/where"],
            "no/where: must be a folder of photos, a CSV or TSV of path,label, or the name of a data",
        ),
        (
            ["distill", "--data", "my photos"],
            "data set, got no such folder or file. Check the path, or use a name of `kd2mobile list data`.",
        ),
        (
            ["distill", "--data", "digit"],
            "data set, got no such folder or file. Did you mean 'digits'?",
        ),
        (["distill", "--teacher-weights", "gone.h5"], "gone.h5: must be a weights file, `imagenet` or `none`"),
        (["distill", "--teacher", "gone.keras"], "gone.keras: must be a .keras or .h5 file, got no such file."),
        (["distill", "--teacher", "gone.npz"], "gone.npz: must be an .npz file, got no such file."),
        (["distill", "--teacher", "mine.pt"], "got a .pt file. Save the model with Keras as `model.save('teacher.k"),
        (
            ["distill", "--teacher", "x.npz", "--views", "4"],
            "views.count: must be 1 with the teacher x.npz, whose logi",
        ),
        (["distill", "--teacher-preprocess", "z"], "must be one of 'tf', 'torch', 'caffe', 'none', got 'z'. See"),
        (["distill", "--teacher-output", "logits"], "teacher.output: must be left out: xception is a network of Keras"),
        (["distill", "--teacher", "Xcepton"], "got 'Xcepton'. Did you mean 'xception'? See"),
        (["label", "--teacher-dtype", "float16"], "must be one of 'float32', 'mixed_bfloat16', got 'float16'."),
        (
            ["label", "--workers", "-1"],
            "--workers, label.workers: must be a whole number from 0 to 256, got -1. Processes that decode",
        ),
        (
            ["label", "--label-batch-size", "-1"],
            "--label-batch-size, label.batch_size: must be a whole number from 0 to 65,536, got -1.",
        ),
        (
            ["export", "--precision", "int9,fp32"],
            "--precision, export.precisions: must be one of fp32, fp16, int8_dynamic, int8, int16x8, got int9, fp32. ",
        ),
        (
            ["export", "--max-drop", "1", "--precision", "int8"],
            "--max-drop: must be given with --precision auto, got int8. Add it.",
        ),
        (
            ["benchmark", "--model", "x.tflite"],
            "kd2mobile benchmark: --model and --data must be given together, got --model x.tflite alone. Add the other",
        ),
        (
            ["benchmark", "--data", "x"],
            "kd2mobile benchmark: --model and --data must be given together, got --data x a",
        ),
        (
            ["benchmark", "--labels", "x.txt"],
            "kd2mobile benchmark: --labels must be given with --model, got no --model.",
        ),
        (
            ["benchmark", "--model", "x.tflite", "--data", "y", "--run", "z"],
            "kd2mobile benchmark: --run must be given without --model, got --model x.tflite. Leave one out. See `kd2mo",
        ),
        (
            ["benchmark", "--model", "x.tflite", "--data", "y", "--mean", "1,2"],
            "kd2mobile benchmark, --mean: must be one finite number, or three separated by commas, got '1,2'. See",
        ),
        (
            ["benchmark", "--model", "x", "--data", "y", "--json=no/x.json"],
            "--json: must be a file in an existing folder",
        ),
        (
            ["export", "--force"],
            "--force: must be given with --out, got --force alone. Give --out DIR, or leave out --force",
        ),
        (["export", "--out", "no/where"], "--out: must be a folder, or a new one in an existing folder"),
        (["check", "--json=."], "--json: must be a file in an existing folder, got ."),
        (["export", "--run", "gone"], "gone: must hold a run, got none. Make one with `kd2mobile distill`"),
        (["predict", "gone.tflite", "a.jpg"], "gone.tflite: must be"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main_status(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert said in last and "Traceback" not in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"settings": {"distill.temperature": -1}},
            "settings, distill.temperature: must be a number from 0.01 to 10,000, got -1.",
        ),
        (
            {"temperature": -1},
            "keyword temperature, distill.temperature: must be a number from 0.01 to 10,000, got -1.",
        ),
        ({"temperatur": 1}, "keyword: must be one of the"),
        (
            {"model": "x.tflite"},
            "kd2mobile benchmark: --model and --data must be given together, got --model x.tflite alone",
        ),
        ({"precision": ["int9"]}, "keyword precision, export.precisions: must be one of fp32, fp16, int8_dynamic"),
    ],
)
def test_the_python_api_names_where_a_wrong_value_came_from(given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Kd2MobileError) as caught:
        kd2mobile.benchmark(**given)
    assert str(caught.value).startswith(said)
    assert not list(tmp_path.iterdir())


def test_without_arguments_it_shows_its_help(capsys):
    assert main_status([]) == 0
    assert "\nCommands:\n" in capsys.readouterr().out


def test_on_a_terminal_the_table_is_drawn(capsys, monkeypatch):
    from kd2mobile.api.results import Benchmarked
    from kd2mobile.measure.record import BenchmarkRecord

    record = BenchmarkRecord(
        role="student", model="mobilenet025", precision="int8", n=2, top1=1.0, top5=1.0, logloss=0.1, ece=0.1
    )
    monkeypatch.setattr(kd2mobile, "benchmark", lambda *args, **how: Benchmarked(None, [record], []))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main_status(["benchmark"]) == 0
    out = capsys.readouterr().out
    assert "mobilenet025" in out and "object at 0x" not in out


def test_a_bug_keeps_its_traceback_and_exits_with_1():
    code = """
import kd2mobile
from kd2mobile.cli import commands as cli
def broken(kind): raise ZeroDivisionError("a bug")
kd2mobile.names = broken
import sys; sys.argv = ["kd2mobile", "list", "students"]
cli.run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr and "a bug" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["distill"], "interrupted: finished stages are kept. Run the same command to resume."),
        (
            ["benchmark", "--threads", "1,2"],
            "interrupted: earlier measurements are kept. Run the same command to start this one again.",
        ),
        (["inspect", "x.tflite"], "interrupted"),
    ],
)
def test_ctrl_c_says_what_is_true_of_the_verb(arguments, said, capsys, monkeypatch):
    def interrupted(*args, **given):
        raise KeyboardInterrupt

    monkeypatch.setattr(kd2mobile, arguments[0], interrupted)
    assert main_status(arguments) == 130
    assert capsys.readouterr().err.splitlines()[-1] == said


MODEL = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8"
RICH = """
import sys
from kd2mobile.cli.commands import main_status
import kd2mobile
def names(kind):
    from rich import print
    print("a table")
kd2mobile.names = names
sys.exit(main_status(["list", "students"]))
"""


def unread(words: list[str], buffered: bool) -> tuple[int, str]:
    """The status, and what the command says on standard error, while nobody reads its output."""
    read, write = os.pipe()
    os.close(read)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *words], stdout=write, stderr=subprocess.PIPE, text=True, env=environment
        )
    finally:
        os.close(write)
    return done.returncode, done.stderr


def test_a_shell_may_ask_how_a_word_goes_on(capsys, monkeypatch):
    monkeypatch.setenv("_KD2MOBILE_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "kd2mobile bench")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main_status([]) == 0
    assert "benchmark" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE, and tells of a closed pipe otherwise")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [["list", "students"], ["inspect", str(MODEL)], [], ["--help"], RICH])
def test_output_that_nobody_reads_ends_it_quietly(words, buffered):
    assert unread(["-c", words] if words is RICH else ["-m", "kd2mobile", *words], buffered) == (141, "")


def test_a_broken_pipe_that_is_not_the_output_keeps_its_traceback(monkeypatch):
    def broken(kind):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(kd2mobile, "names", broken)
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    with pytest.raises(BrokenPipeError):
        main_status(["list", "students"])


def test_a_full_disk_is_reported(capsys, monkeypatch):
    def full(kind):
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr(kd2mobile, "names", full)
    assert main_status(["list", "students"]) == 2
    assert "runs/x: must have room to write, got no space left on device" in capsys.readouterr().err


def test_lists_are_text_or_json(capsys):
    assert main_status(["list", "losses", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["kind"] == "losses" and {"kd", "kd-split", "logits", "labels"} <= listed["names"].keys()
    assert main_status(["list", "students"]) == 0
    listed = capsys.readouterr().out
    assert "mobilenet025" in listed
    assert "mlp-WIDTH[-WIDTH...]  dense layers of any width, such as mlp-800-400-200; no" in listed


def test_every_command_has_its_function_in_the_python_api_and_the_other_way_round():
    renamed, command_line_alone = {"list": "names"}, {"doctor"}
    functions = {renamed.get(name, name) for name in main.commands if name not in command_line_alone}
    assert functions == set(kd2mobile.__all__) and functions < set(dir(kd2mobile))
    for name in functions:
        function = getattr(kd2mobile, name)
        assert function.__module__ == f"kd2mobile.api.{name}" and function.__doc__
        assert get_type_hints_of(function).get("return"), f"{name} says what it returns"


def get_type_hints_of(function) -> dict:
    """As they are written: types of heavy modules stand there as text."""
    return inspect.get_annotations(inspect.unwrap(function))


def test_the_python_api_refuses_unknown_keywords(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'temperature'"):
        kd2mobile.distill(temperatur=3)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_writes_its_result_as_json_in_one_form(name):
    (option,) = (parameter for parameter in main.commands[name].params if "--json" in parameter.opts)
    assert option.metavar == "[=FILE]" and option.name == "json_file"


@pytest.mark.parametrize("words", [["list", "--json", "losses"], ["list", "losses", "--json"]])
def test_json_alone_takes_no_word_after_it_and_writes_nothing_else(words, capsys):
    assert main_status(words) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "losses"


def test_json_writes_into_the_file_that_is_named_and_the_text_to_standard_output(tmp_path, capsys):
    assert main_status(["list", "losses", f"--json={tmp_path}/losses.json"]) == 0
    assert capsys.readouterr().out.startswith("kd")
    assert json.loads((tmp_path / "losses.json").read_text())["kind"] == "losses"
    assert main_status(["doctor", "--json", "found.json"]) == 2
    assert "got found.json. A file is given as --json=FILE. See" in capsys.readouterr().err


def test_a_result_is_written_with_its_fields(tmp_path, capsys, monkeypatch):
    made = ExportedFile("student", "int8", tmp_path / "s.tflite", tflite_results(size_bytes=3))
    exported = Exported(tmp_path, [made], [Rung(Variant("none", "int8"), None, "too large")], made.file)
    monkeypatch.setattr(kd2mobile, "export", lambda *words, **given: exported)
    assert main_status(["export", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["folder", "made", "rungs", "found", "copies"] and found["found"] == made.file.as_posix()
    assert found["made"][0] == {
        "role": "student",
        "variant": "int8",
        "file": found["found"],
        "record": msgspec.to_builtins(tflite_results(size_bytes=3)),
    }


LIBRARY_WORDS = re.compile(
    r"Invalid value|not a valid|not in the range|requires|unexpected|x[<>]=|be (an? )?(float|int|integer|str)\b|`\$"
)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_whatever_an_option_is_given_the_message_is_in_our_own_words(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = main.commands[name]
    monkeypatch.setattr(command, "callback", lambda **given: None)
    flags = [parameter.opts[0] for parameter in command.params if parameter.param_type_name == "option"]
    refused = 0
    for flag in flags:
        for words in ([flag], [f"{flag}="], [f"{flag}=?"], [f"{flag}=nan"], [f"{flag}=-1"], [flag, "1", "2", "3"]):
            status = main_status([name, *words])
            err = capsys.readouterr().err
            assert status in (0, 2) and not LIBRARY_WORDS.search(err), err
            refused += status == 2
            assert status == 0 or re.match(r"(kd2mobile [a-z]+|--[a-z-]+).*: .*must .*\. .+\.$", err), err
    assert refused > len(flags)


def test_a_range_of_two_equal_numbers_is_said_to_be_one():
    from kd2mobile.cli.options import _listed

    assert _listed("5,5", once=False) == (5, 5) and _listed("fp32,fp32", once=True) == ("fp32",)
