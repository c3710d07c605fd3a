"""Every number that a recipe or a flag takes has bounds: outside them there is one line and exit status 2."""

import math
import re
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kd2mobile
from kd2mobile.cli.commands import main, main_status
from kd2mobile.errors import RecipeError
from kd2mobile.measure.predict import predict
from kd2mobile.measure.ssh.address import parsed
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import TABLES, bounds, fields, takes
from kd2mobile.students import STUDENTS, check_student
from kd2mobile.students.mlp import MOST_WEIGHTS, largest_px, widths_of

HUGE = (2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**18, 10**40, 1e300, -1e300)
NEVER = (math.nan, math.inf, -math.inf)


@pytest.fixture(autouse=True)
def _nothing_begins(monkeypatch):
    """A value that is taken by mistake must not train a network."""

    def begins(*args, **kwargs):
        raise AssertionError("it was taken")

    for command in ("distill", "benchmark"):
        monkeypatch.setattr(kd2mobile, command, begins)


LISTS = {"benchmark.cores": "[{0}]", "data.range": "[{0}, 1e99]", "ensemble.temperatures": "[{0}]"}
"""How a field that takes several numbers is written."""


def numbers() -> dict[str, tuple[type, dict[str, float]]]:
    """Every number of a recipe by its dotted name: its type and bounds. Of a list, those of its entries."""
    found = {}
    for table, struct in TABLES.items():
        for field, kind in get_type_hints(struct, include_extras=True).items():
            for number, metas in inner(kind):
                limits = {
                    bound: getattr(meta, bound)
                    for meta in metas
                    for bound in ("gt", "ge", "lt", "le")
                    if getattr(meta, bound) is not None
                }
                found[f"{table}.{field}"] = number, limits
    return found


def inner(kind: Any, metas: tuple = ()) -> list[tuple[type, tuple]]:
    parts = get_args(kind)
    if get_origin(kind) is dict:
        return []  # a loss has the bounds of its options: tests/losses
    if kind in (int, float):
        return [(kind, metas)]
    if hasattr(kind, "__metadata__"):
        return inner(parts[0], kind.__metadata__)
    return [one for part in parts if not isinstance(part, str | bool) for one in inner(part)]


def just_outside(kind: type, limits: dict[str, float]) -> list[float]:
    step = 1 if kind is int else 1e-9
    low = limits["ge"] - step * max(1, -limits["ge"]) if "ge" in limits else limits["gt"]
    high = limits["le"] + step * max(1, limits["le"]) if "le" in limits else limits["lt"]
    return [low, high]


def is_refused(capsys, arguments: list[str]) -> str:
    assert main_status(arguments) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and "Traceback" not in output, output
    assert re.match(r".+: must .+, got .+\. .+\.$", output), output
    assert len(output) < 1000
    return output


def test_the_numbers_of_a_recipe_are_known_and_have_a_limit_on_either_side():
    plain = {name for name, field in fields().items() if type(field.default) in (int, float)}
    others = {"teacher.input_px", "export.calibration_images", "benchmark.cores", "data.range"}
    ensemble = {"ensemble.members", "ensemble.keep_best", "ensemble.temperatures"}
    assert plain | others | ensemble == numbers().keys()
    for name, (_, limits) in numbers().items():
        assert len(limits) == 2, name
        assert limits.keys() & {"lt", "le"} and limits.keys() & {"gt", "ge"}, name
        assert takes(name).startswith(("a whole number ", "a number ", "a list, each entry a "))


@pytest.mark.parametrize("name", numbers())
def test_a_number_outside_its_bounds_is_one_line_and_exit_status_2(name, capsys):
    kind, limits = numbers()[name]
    for value in (*just_outside(kind, limits), *HUGE):
        text = LISTS.get(name, "{0}").format(value)
        command = "benchmark" if name.startswith("benchmark.") else "distill"
        message = is_refused(capsys, [command, "--set", f"{name}={text}"])
        if isinstance(value, int) or kind is float:
            assert f"--set, {name}: must be {takes(name)}" in message or f"must be {takes(name, entry=True)}" in message
    for value in ("nan", "inf", "-inf"):
        assert f"{name}: must be a finite number, got {value}" in is_refused(
            capsys, ["distill", "--set", f"{name}={value}"]
        )
    is_refused(capsys, ["distill", "--set", f"{name}={'9' * 5000}"])
    is_refused(capsys, ["distill", "--set", f"{name}={'[' * 5000}"])


@pytest.mark.parametrize("name", numbers())
def test_a_number_at_its_bounds_is_taken(name):
    kind, limits = numbers()[name]
    for bound in ("ge", "le"):
        if bound in limits:
            value = kind(limits[bound])
            lists = {
                "benchmark.cores": (value,),
                "data.range": tuple(sorted((value, 0.0))),
                "ensemble.temperatures": (value, 1.0),
            }
            beside = {
                "ensemble.temperatures": {"teacher.name": "xception,mobilenet"},
                "ensemble.keep_best": {"ensemble.members": 100},
            }
            assert compose(settings={name: lists.get(name, value), "data.source": "photos", **beside.get(name, {})})


@pytest.mark.parametrize("name", numbers())
def test_python_refuses_them_too(name):
    kind, limits = numbers()[name]
    for value in (*just_outside(kind, limits), *HUGE, *NEVER, 10**5000):
        with pytest.raises(RecipeError) as caught:
            compose(settings={name: value})
        assert len(str(caught.value)) < 1000


@given(st.sampled_from(sorted(fields())), st.integers() | st.floats() | st.text() | st.lists(st.integers() | st.text()))
def test_any_value_of_any_field_is_taken_or_refused_in_one_line(name, value):
    try:
        compose(settings={name: value})
    except RecipeError as refusal:
        assert "\n" not in str(refusal) and f"{name}: must be " in str(refusal)


def test_text_that_no_path_and_no_recipe_can_hold_is_refused(capsys, tmp_path):
    for name in ("data.source", "teacher.name", "student.weights", "export.author"):
        for text in ("a\0b", "\udcff"):
            with pytest.raises(RecipeError, match="must be text of whole characters, without NUL, got '"):
                compose(settings={name: text})
    with pytest.raises(RecipeError, match="data.source: must be text of whole characters, without NUL"):
        compose(settings={"data.source": ["a", "a\0b"]})
    file = tmp_path / "r.toml"
    file.write_text('[data]\nsource = "a\\u0000b"\n')
    assert "r.toml, data.source: must be text of whole" in is_refused(capsys, ["check", "--recipe", str(file)])
    for arguments in (["inspect", "a\0b"], ["distill", "--run", "a\0b"], ["report", "--records", "a\0b"]):
        assert "must be a path, which has no NUL in it, got 'a\\x00b'" in is_refused(capsys, arguments)


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, f"[distill]\nepochs = {'9' * 5000}", "a = 0x" + "f" * 5000])
def test_a_recipe_file_of_absurd_depth_or_numbers(text, capsys, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    is_refused(capsys, ["check", "--recipe", str(tmp_path / "r.toml")])


def numeric_options() -> list[tuple[str, click.Option]]:
    return [
        (name, parameter)
        for name, command in main.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
    ]


ALONE = {
    "show": ["a.png"],
    "predict": ["a.tflite", "a.png"],
    "report": ["--records", "a.json"],
}
"""What a command must be given beside a flag."""


@pytest.mark.parametrize(("command", "option"), numeric_options(), ids=lambda one: getattr(one, "name", one))
def test_a_number_of_a_flag_has_bounds(command, option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beside = ALONE.get(command, []) + (["--device", "browser"] if option.name == "port" else [])
    for value in (*HUGE, -1, *NEVER, "9" * 5000, "x"):
        is_refused(capsys, [command, *beside, f"{option.opts[0]}={value}"])


@pytest.mark.parametrize("flag", ["--mean", "--std"])
@pytest.mark.parametrize("value", ["nan", "inf", "1,2", "1,2,inf", "x", "9" * 5000])
def test_mean_and_std_are_finite(flag, value, capsys):
    assert "must be one finite number, or three separated by commas" in is_refused(
        capsys, ["predict", "a.tflite", "a.png", f"{flag}={value}"]
    )


@pytest.mark.parametrize("flag", ["--threads", "--cores"])
@pytest.mark.parametrize("value", ["-1", "1,1000000", "9" * 5000, "1,x", ""])
def test_lists_of_numbers_have_bounds(flag, value, capsys):
    is_refused(capsys, ["benchmark", flag, value])


def test_predict_takes_a_count_of_classes(tmp_path):
    with pytest.raises(RecipeError, match="top: must be 1 or more, got 0"):
        predict(tmp_path / "a.tflite", [], top=0)


def test_a_port_behind_ssh():
    for port in ("0", "65536", "9" * 5000):
        with pytest.raises(Exception, match="must be of the form ssh:USER"):
            parsed(f"board:{port}")
    assert parsed("board:65535").port == 65535


def test_the_widths_and_the_weights_of_dense_nets_have_bounds():
    assert widths_of("mlp-8192") == (8192,)
    for name in ("mlp-8193", "mlp-10000", "mlp-" + "9" * 5000):
        with pytest.raises(RecipeError, match="must have layers of at most 8192 units, got") as caught:
            STUDENTS[name]
        assert len(str(caught.value)) < 1200
    with pytest.raises(RecipeError, match="must have at most 500,000,000 weights, got 536,870,912"):
        STUDENTS["mlp" + 9 * "-8192"]
    for name in ("mlp-8192", "mlp-800-800", "mlp-128"):
        px = largest_px(widths_of(name))
        first = widths_of(name)[0]
        rest = 800 * 800 if name == "mlp-800-800" else 0
        assert px * px * first + rest <= MOST_WEIGHTS < (px + 1) ** 2 * first + rest
    check_student("mlp-8192", 247, "none")
    with pytest.raises(RecipeError, match="student.input_px: must be at most 247 for mlp-8192, which would have too"):
        check_student("mlp-8192", 248, "none")


def test_bounds_in_words():
    assert bounds(msgspec.Meta(ge=0)) == "from 0" and bounds(msgspec.Meta(le=5)) == "at most 5"
