import numpy as np
import pytest

from kd2mobile.tflite.convert import Converter, load_student
from kd2mobile.tflite.correction import Exact, correct, mean_at_weights, measure
from kd2mobile.tflite.layers import CONV, DENSE, DEPTHWISE, Layer, read_layers
from kd2mobile.tflite.results import BiasCorrection

from .conftest import dark_images, tiny


def layer_of(kind: int, weights: np.ndarray, **geometry) -> Layer:
    return Layer(kind, 0, 1.0, weights, np.zeros(1), np.ones(1), **geometry)


def mean_output(layer: Layer, image: np.ndarray) -> np.ndarray:
    """The layer's mean output by channel, by definition: one product after another, in float64."""
    (rows, columns, channels), (_, high, wide, _) = image.shape, layer.weights.shape
    (down, across), (lower, further) = layer.strides, layer.dilations
    reach = (high - 1) * lower + 1, (wide - 1) * further + 1
    if layer.same:
        out = -(-rows // down), -(-columns // across)
        before = (
            max((out[0] - 1) * down + reach[0] - rows, 0) // 2,
            max((out[1] - 1) * across + reach[1] - columns, 0) // 2,
        )
    else:
        out, before = ((rows - reach[0]) // down + 1, (columns - reach[1]) // across + 1), (0, 0)
    total = np.zeros(layer.outputs)
    for oy, ox in np.ndindex(*out):
        for y, x in np.ndindex(high, wide):
            iy, ix = oy * down + y * lower - before[0], ox * across + x * further - before[1]
            if 0 <= iy < rows and 0 <= ix < columns:
                for channel in range(layer.outputs):
                    if layer.kind == DEPTHWISE:
                        value = image[iy, ix, channel // (layer.outputs // channels)]
                        total[channel] += value * layer.weights[0, y, x, channel]
                    else:
                        total[channel] += image[iy, ix] @ layer.weights[channel, y, x]
    return total / (out[0] * out[1])


@pytest.mark.parametrize("kind", [CONV, DEPTHWISE])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("strides, dilations", [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (1, 1)), ((1, 1), (2, 1))])
def test_the_mean_input_gives_the_mean_output(kind, same, strides, dilations):
    rng = np.random.default_rng(0)
    image = rng.normal(1.0, 1.0, (7, 6, 2))
    weights = rng.normal(size=(5, 3, 2, 2) if kind == CONV else (1, 3, 2, 4))
    layer = layer_of(kind, weights, strides=strides, dilations=dilations, same=same)
    mean = layer.by_output(weights * mean_at_weights(layer, image[None])).sum(1)
    assert mean == pytest.approx(mean_output(layer, image), abs=1e-12)


def test_the_mean_input_of_a_dense_layer_is_itself():
    layer = layer_of(DENSE, np.ones((3, 4)))
    assert mean_at_weights(layer, np.arange(4.0)[None]).tolist() == [[0, 1, 2, 3]]


@pytest.fixture(scope="module")
def fragile(tmp_path_factory):
    """A student one of whose depthwise channels hardly varies, and is blown up: the case that rounding ruins."""
    student = tiny()
    before, depthwise = student.layers[2], student.layers[4]
    gamma, beta, mean, variance = before.get_weights()
    before.set_weights([gamma * 0.02, beta + 4.0, mean, variance])
    kernel, _ = depthwise.get_weights()
    rng = np.random.default_rng(1)
    kernel = rng.uniform(10, 20, kernel.shape) * rng.choice([-1, 1], kernel.shape)
    depthwise.set_weights([kernel, -4.0 * kernel.sum((0, 1, 3)) + 0.5])
    for layer in student.layers[5:]:  # equal biases, all zero, would be one buffer in the file
        if layer.weights:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    path = tmp_path_factory.mktemp("fragile") / "student.keras"
    student.save(path)
    return load_student(path, 3)


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")  # TensorFlow's own, in its calibrator
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_correction_brings_a_fragile_layer_back(fragile, precision, monkeypatch):
    """The shift left in the depthwise layer, seen by the layer's own arithmetic, is a small part of what it was."""
    images = list(dark_images(12)[0])
    kept = {}

    def spy(model: bytes, exact: list[Exact], keep_clusters: bool):
        assert not keep_clusters
        kept.update(before=model, exact=exact, after=correct(model, exact)[0])
        return correct(model, exact)

    monkeypatch.setattr("kd2mobile.tflite.convert.correct", spy)
    with Converter(*fragile, images) as converter:
        model, counts = converter.convert(precision, "a.tflite")
    assert model == kept["after"] and len(model) == len(kept["before"])
    assert counts.corrected == counts.layers >= 4
    exact = next(e for e in kept["exact"] if e.layer.kind == DEPTHWISE)

    def shift(of: bytes) -> float:
        layer = next(layer for layer in read_layers(bytearray(of)) if layer.kind == DEPTHWISE)
        unit = layer.input_scale * layer.scale.reshape(-1) if precision == "int8" else 1.0
        error = layer.by_output((layer.real_weights - exact.layer.real_weights) * exact.mean).sum(1)
        return np.abs(error + layer.bias * unit - exact.layer.bias).max()

    assert shift(kept["after"]) < 0.2 * shift(kept["before"])


def test_roundings_stay_neighbours_of_the_weight(fragile):
    with Converter(*fragile, list(dark_images(6)[0])) as converter:
        model, _ = converter.convert("fp16", "a.tflite")
        exact = converter._exact("a.tflite", "uint8")
    for layer, twin in zip(read_layers(bytearray(model)), exact, strict=True):
        real = twin.layer.real_weights
        step = np.maximum(np.abs(real) * 2.0**-10, 2.0**-24)
        assert (np.abs(layer.real_weights - real) <= step).all()


def test_a_float32_model_has_nothing_to_correct(case):
    model = case.file("fp32").read_bytes()
    exact = measure(model, dark_images(2)[0])
    assert [e.layer.kind for e in exact][0] == CONV and exact[-1].layer.kind == DENSE
    assert correct(model, exact) == (model, BiasCorrection(layers=0, corrected=0))


def test_a_layer_that_the_reference_lacks_is_left_and_counted(case):
    model = case.file("int8").read_bytes()
    corrected, counts = correct(model, [])
    assert corrected == model and counts == BiasCorrection(layers=5, corrected=0)
