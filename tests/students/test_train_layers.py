"""Which layers are trained, counted from the end, and what is said of a number that cannot be."""

import pytest

from kd2mobile.errors import RecipeError
from kd2mobile.students import build_student, freeze_all_but, last_layers


@pytest.fixture
def model():
    return build_student("mlp-4-3", 4, 2, "none", seed=0)


@pytest.mark.parametrize(
    ("train_layers", "trained"),
    [("all", ["dense1", "dense2", "logits"]), ("last:3", ["dense1", "dense2", "logits"]), ("last:1", ["logits"])],
)
def test_layers_with_weights_are_counted_from_the_end(model, train_layers, trained):
    assert freeze_all_but(model, train_layers) == trained
    assert [layer.name for layer in model.layers if layer.trainable and layer.weights] == trained
    assert {v.path.split("/")[0] for v in model.trainable_variables} == set(trained)


def test_a_batch_normalization_is_a_layer_of_its_own():
    model = build_student("mobilenet025", 32, 2, "none", seed=0)
    assert freeze_all_but(model, "last:2") == ["conv_pw_13_bn", "logits"]


def test_more_layers_than_there_are(model):
    with pytest.raises(RecipeError) as caught:
        freeze_all_but(model, "last:4")
    assert str(caught.value) == (
        "student.train_layers: must be `all` or `last:N` with N of at most 3, the layers with weights of mlp-4-3, "
        "got last:4. Use `--train-layers all` to train every layer."
    )
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize(
    "text", ["last:0", "last:-1", "last:", "last:2.5", "last", "first:2", "2", "", "ALL", "last:\u0662"]
)
def test_invalid_train_layers_are_refused(text):
    with pytest.raises(RecipeError) as caught:
        last_layers(text)
    assert str(caught.value) == (
        f"student.train_layers: must be `all` or `last:N` with N of at least 1, got {text!r}. "
        "Use `--train-layers last:2` for the last two layers with weights."
    )
