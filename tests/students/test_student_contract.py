"""What holds for every registered student."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from kd2mobile.errors import RecipeError, UnknownNameError, WeightsError
from kd2mobile.students import STUDENTS, build_student
from kd2mobile.students.registry import body_layers

CLASSES = 5


def test_listing_loads_no_framework():
    code = (
        "import sys; from kd2mobile.students import STUDENTS; [STUDENTS.summary(name) for name in STUDENTS];"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'numpy', 'PIL', 'h5py') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_input_and_output(built, pixels):
    px = built.input_shape[1]
    assert built.name in STUDENTS
    assert [layer.name for layer in built.layers if isinstance(layer, keras.layers.InputLayer)] == ["pixels"]
    assert built.input_shape == (None, px, px, 3) and built.output_shape == (None, CLASSES)
    assert built.inputs[0].dtype == "float32"
    for x in (pixels(px), np.full((1, px, px, 3), -1, np.float32), np.full((1, px, px, 3), 1, np.float32)):
        z = np.asarray(built(x, training=False))
        assert z.dtype == np.float32 and z.shape == (len(x), CLASSES) and np.isfinite(z).all()


def test_gives_logits_and_not_probabilities(built, pixels):
    z = np.concatenate([np.asarray(built(pixels(built.input_shape[1], seed=s), training=False)) for s in range(4)])
    assert np.ptp(z, axis=0).max() > 0
    assert not np.allclose(z.sum(axis=1), 1)


def test_the_graph_is_flat_and_has_no_preprocessing(built):
    kinds = {type(layer).__name__ for layer in built.layers}
    assert not kinds & {"Functional", "Sequential", "Lambda", "Normalization", "Resizing", "Softmax"}
    first = [node.operation for node in built.get_layer("pixels")._outbound_nodes]
    assert len(first) == 1 and not isinstance(first[0], keras.layers.Rescaling)


def test_the_graph_has_only_layers_so_that_other_tools_can_rewrite_it(built):
    assert [op for op in built.operations if not isinstance(op, keras.Layer)] == []


def test_layer_names_are_unique_and_do_not_depend_on_earlier_models(built):
    again = STUDENTS[built.name].build(keras, built.input_shape[1], CLASSES)
    names = [layer.name for layer in built.layers]
    assert names == [layer.name for layer in again.layers]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/" in name]
    assert again.name == built.name


def test_names_do_not_depend_on_the_input_size(built):
    other = STUDENTS[built.name].build(keras, 48, 7)
    assert [layer.name for layer in other.layers] == [layer.name for layer in built.layers]


def test_body_ends_before_the_head(built):
    body = body_layers(built, STUDENTS[built.name].body_end)
    head = built.layers[len(body) :]
    assert [layer.name for layer in head if layer.weights] in (["logits"], ["conv10"], ["conv_2", "logits"])
    assert not any(weight.shape[-1] == CLASSES for layer in body for weight in layer.weights)


def test_the_seed_decides_every_weight(built):
    px = built.input_shape[1]
    same = build_student(built.name, px, CLASSES, "none", seed=0)
    other = build_student(built.name, px, CLASSES, "none", seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(built.get_weights(), same.get_weights(), strict=True))
    kernel = next(layer for layer in reversed(built.layers) if layer.weights).name
    assert not np.array_equal(built.get_layer(kernel).get_weights()[0], other.get_layer(kernel).get_weights()[0])


def test_saved_and_loaded_it_answers_the_same(built, pixels, tmp_path):
    built.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    x = pixels(built.input_shape[1])
    np.testing.assert_array_equal(loaded(x, training=False), built(x, training=False))


def test_a_saved_student_fills_the_body_of_the_next(built, tmp_path):
    file = tmp_path / "student.keras"
    built.save(file)
    px = built.input_shape[1] if flattens(built) else 48
    next_one = build_student(built.name, px, 7, str(file), seed=3)
    for layer in body_layers(built, STUDENTS[built.name].body_end):
        for a, b in zip(layer.get_weights(), next_one.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def flattens(model):
    """Whether a dense layer of the body counts the pixels, which makes its weights fit one input size only."""
    body = body_layers(model, STUDENTS[model.name].body_end)
    return any(isinstance(layer, keras.layers.Flatten) for layer in body)


def test_weights_of_another_input_size_fit_unless_the_body_is_flat(tmp_path):
    file = tmp_path / "student.keras"
    build_student("mlp-5-4", 6, CLASSES, "none", seed=0).save(file)
    with pytest.raises(WeightsError) as caught:
        build_student("mlp-5-4", 7, CLASSES, str(file), seed=0)
    assert str(caught.value) == (
        f"{file}, layer dense1: must fit mlp-5-4 of 7 px: 49x5 and 5, got 36x5 and 5. "
        "Give the weights of the body of a mlp-5-4 of 7 px (its width too), or `--student-weights none`."
    )


@pytest.mark.parametrize("name", list(STUDENTS))
def test_smallest_input(name):
    smallest = STUDENTS[name].smallest_px
    model = build_student(name, smallest, CLASSES, "none", seed=0)
    assert model.name == name and model.output_shape == (None, CLASSES)
    assert np.isfinite(model(np.zeros((1, smallest, smallest, 3)), training=False)).all()
    with pytest.raises(RecipeError, match=f"must be at least {smallest} for {name}, got {smallest - 1}. Use"):
        build_student(name, smallest - 1, CLASSES, "none", seed=0)


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'mobilenet025'"):
        build_student("mobilenet25", 64, CLASSES, "none", seed=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'mlp-800-800'"):
        build_student("mlp-800x800", 64, CLASSES, "none", seed=0)
    for name in ("mlp-128-x", "MLP", "mlp_128_128", "mlp-0"):
        with pytest.raises(UnknownNameError, match=rf"must be of the form mlp-WIDTH\[-WIDTH...\], got '{name}'"):
            build_student(name, 64, CLASSES, "none", seed=0)


def test_a_dense_net_of_any_widths():
    model = build_student("mlp-7-6-5", 8, CLASSES, "none", seed=0)
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [7, 6, 5, CLASSES]
    with pytest.raises(RecipeError, match="students, mlp-9-8193: must have layers of at most 8192 units, got 8193. U"):
        build_student("mlp-9-8193", 8, CLASSES, "none", seed=0)


@pytest.mark.parametrize(("name", "weights"), [("mlp-128-128", 118_282), ("mnist_cnn", 1_199_882)])
def test_as_many_weights_as_in_the_published_mnist_experiments(name, weights):
    assert build_student(name, 28, 10, "none", seed=0).count_params() == weights


@pytest.mark.parametrize("name", ["mlp-3-2", "mnist_cnn"])
def test_grey_is_the_mean_of_the_channels_of_each_pixel(name, pixels):
    model = build_student(name, 12, CLASSES, "none", seed=0)
    grey = keras.Model(model.input, model.get_layer("grey").output)(pixels(12))
    np.testing.assert_allclose(grey, pixels(12).astype(np.float64).mean(axis=3, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "total", "trainable"),
    [
        ("mobilenet025", 475_544, 470_072),
        ("mobilenet050", 1_342_536, 1_331_592),
        ("mobilenet075", 2_601_976, 2_585_560),
        ("mobilenet100", 4_253_864, 4_231_976),
        ("mobilenetv2_035", 1_691_208, 1_677_128),
        ("mobilenetv2_050", 1_987_224, 1_968_680),
        ("mobilenetv2_100", 3_538_984, 3_504_872),
        ("mobilenetv3_small", 2_554_968, 2_542_856),
        ("squeezenet", 1_235_496, 1_235_496),
    ],
)
def test_as_many_weights_as_published_with_1000_classes(name, total, trainable):
    model = build_student(name, 32, 1000, "none", seed=0)
    assert model.count_params() == total
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == trainable


def test_tf_keras_builds_the_same_and_takes_the_weights_by_name(built, pixels):
    import tf_keras

    px = built.input_shape[1]
    twin = STUDENTS[built.name].build(tf_keras, px, CLASSES)
    named = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in built.layers}
    assert {layer.name: [tuple(w.shape) for w in layer.weights] for layer in twin.layers} == named
    assert {layer.name: type(layer).__name__ for layer in twin.layers} == {
        layer.name: type(layer).__name__ for layer in built.layers
    }
    for layer in built.layers:
        twin.get_layer(layer.name).set_weights(layer.get_weights())
    x = pixels(px)
    np.testing.assert_allclose(twin(x, training=False), built(x, training=False), rtol=1e-5, atol=1e-5)
