"""Options of a loss: by flag, TOML, `--set` and keyword; what is refused; when they are part of a fingerprint."""

import re

import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import RecipeError, UnknownNameError
from kd2mobile.losses import LOSSES, Loss, Options, describe_losses, make_loss
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Distill
from kd2mobile.recipe.toml import recipe_toml
from kd2mobile.stages.configs import distill_settings


def options(name, given):
    return LOSSES[name].own_options(Distill(loss=name, loss_options=given))


def test_options_have_defaults_and_accept_given_values(trial_loss):
    assert options("trial", {}) == {"beta": 1.0, "squared": True}
    assert options("trial", {"beta": 2, "squared": False}) == {"beta": 2.0, "squared": False}


@pytest.mark.parametrize(
    ("loss", "given", "kind", "message"),
    [
        (
            "trial",
            {"beta": -1},
            RecipeError,
            "distill.loss_options, beta: must be a number from 0 to 10, got -1. Weight of the batch's mean. "
            "The default is 1.0.",
        ),
        ("trial", {"beta": "x"}, RecipeError, "distill.loss_options, beta: must be a number from 0 to 10, got 'x'. "),
        ("trial", {"beta": True}, RecipeError, "beta: must be a number from 0 to 10, got True. "),
        ("trial", {"squared": 1}, RecipeError, "distill.loss_options, squared: must be true or false, got 1. Whether"),
        (
            "trial",
            {"bet": 1},
            UnknownNameError,
            "distill.loss_options, options of trial: must be one of beta, squared, got 'bet'. Did you mean 'beta'? "
            "See `kd2mobile list losses`.",
        ),
        (
            "kd",
            {"beta": 1},
            RecipeError,
            "distill.loss_options: must be left out: the loss kd has no options of its own, got beta. See `kd2mobile",
        ),
    ],
)
def test_what_cannot_be_is_refused(trial_loss, loss, given, kind, message):
    with pytest.raises(kind) as caught:
        make_loss(Distill(loss=loss, loss_options=given))
    assert message in str(caught.value)


def test_flag_recipe_and_set_write_one_table_and_merge(tmp_path, trial_loss):
    file = tmp_path / "my.toml"
    file.write_text('[distill]\nloss = "trial"\n[distill.loss_options]\nbeta = 2\nsquared = false\n')
    assert compose(file).distill.loss_options == {"beta": 2, "squared": False}
    recipe = compose(file, {"distill.loss_options": {"beta": 0.5}})
    assert recipe.distill.loss_options == {"beta": 0.5, "squared": False}
    file.write_bytes(recipe_toml(recipe))
    assert compose(file) == recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--loss-option", "beta"],
            "--loss-option: must be NAME=VALUE, got 'beta'. For example `--loss-option beta=2`",
        ),
        (["--loss-option", "=2"], "--loss-option: must be NAME=VALUE, got '=2'."),
        (["--loss-option", "beta=[1]"], "--loss-option, distill.loss_options: must be true or false, or a whole num"),
        (["--loss-option", "beta=nan"], "--loss-option, distill.loss_options: must be a finite number, got nan."),
        (["--loss-option", "beta=11"], "distill.loss_options, beta: must be a number from 0 to 10, got 11."),
        (["--loss-option", "betta=1"], "got 'betta'. Did you mean 'beta'? See `kd2mobile list losses`."),
        (["--loss", "kd", "--loss-option", "beta=1"], "the loss kd has no options of its own, got beta."),
        (["--set", "distill.loss_options=2"], "--set, distill.loss_options: must be a table, each value true or false"),
    ],
)
def test_the_command_line_refuses_with_status_2(trial_loss, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main_status(["distill", "--loss", "trial", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_an_option_counts_in_the_fingerprint_of_its_loss_alone(trial_loss):
    def config(loss, **given):
        return distill_settings(Distill(loss=loss, loss_options=given))

    assert config("trial") == config("trial", beta=1) != config("trial", beta=2)
    assert config("trial")["loss_options"] == {"beta": 1.0, "squared": True}
    assert "loss_options" not in config("kd") and "hard_label_weight" not in config("trial")


def test_the_list_shows_options_and_what_is_used(trial_loss, capsys):
    assert describe_losses()["trial"].splitlines() == [
        "for tests (uses temperature)",
        "--loss-option beta=1.0: Weight of the batch's mean. Takes a number from 0 to 10.",
        "--loss-option squared=true: Whether distances are squared. Takes true or false.",
    ]
    assert main_status(["list", "losses"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"\n {5,}--loss-option squared=true: Whether", listed)
    assert "squared (uses temperature, hard_label_weight)\n" in listed


def test_a_function_of_another_form_is_refused():
    class Own(Options):
        beta: float = 1.0

    def without_its_option(student_logits, teacher_logits, one_hot):
        return one_hot

    def of_epochs(student_logits, teacher_logits, one_hot, *, epochs):
        return one_hot

    def by_other_names(z, v, labels):
        return z

    for function, own in ((without_its_option, Own), (of_epochs, Options), (by_other_names, Options)):
        with pytest.raises(TypeError, match=f"{function.__name__} must be a function of"):
            Loss(function, options=own)
