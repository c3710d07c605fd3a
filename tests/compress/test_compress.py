"""Each method on a small student: what it promises is counted on what came out."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd2mobile import progress
from kd2mobile.compress import worker
from kd2mobile.compress.fine_tune import evaluate
from kd2mobile.compress.methods import CHAINS, GRAPH_FOLDER
from kd2mobile.errors import CompressionError, TrainingError
from kd2mobile.pixels import to_int8_input
from kd2mobile.recipe.schema import COMPRESSIONS
from kd2mobile.training.feed import Evaluated

from ..training.conftest import CLASSES, PX
from ..training.test_train import interrupt_after

pytest.importorskip("tensorflow_model_optimization")
import tf_keras

from kd2mobile.compress.qat import even_out_depthwise, wrap_qat


def kernels(file: Path) -> list[np.ndarray]:
    """Of the layers that compression is for, in order."""
    model = keras.saving.load_model(file, compile=False)
    return [np.asarray(layer.kernel) for layer in model.layers if type(layer).__name__ in ("Conv2D", "Dense")]


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def pruned(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prune")
    return folder, case.run(folder, "prune", sparsity=0.6)


def test_pruning_leaves_the_requested_fraction_of_zeros(pruned):
    folder, result = pruned
    sizes = [(int((kernel == 0).sum()), kernel.size) for kernel in kernels(folder / "student.keras")]
    assert all(zeros / size == pytest.approx(0.6, abs=1 / size) for zeros, size in sizes)
    assert result.zeros == pytest.approx(sum(zeros for zeros, _ in sizes) / sum(size for _, size in sizes))


def test_only_an_epoch_that_has_all_its_zeros_is_chosen(pruned):
    folder, result = pruned
    lines = history(folder)
    assert len(lines) == result.epochs_run == 4 and result.best_epoch >= 2
    best = max(lines[1:], key=lambda line: (line["val_top1"], -line["val_logloss"]))
    assert (best["epoch"], best["val_top1"]) == (result.best_epoch, result.val_top1)


def test_two_of_every_four_weights_are_zero(case, tmp_path):
    case.run(tmp_path, "prune", sparsity_pattern="2:4", epochs=2)
    for kernel in kernels(tmp_path / "student.keras"):
        by_output = np.moveaxis(kernel, -1, 0)  # as a .tflite stores it, the input channels last
        whole = by_output[..., : by_output.shape[-1] // 4 * 4].reshape(-1, 4)
        assert ((whole == 0).sum(axis=1) >= 2).all()


def test_clustering_leaves_so_many_values_a_layer(case, tmp_path):
    result = case.run(tmp_path, "cluster", clusters=6, epochs=1)
    counts = [len(np.unique(kernel)) for kernel in kernels(tmp_path / "student.keras")]
    assert max(counts) == result.clusters <= 6


@pytest.fixture(scope="module")
def quantized(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qat")
    return folder, case.run(folder, "qat", epochs=2)


def test_quantization_aware_training_pins_the_input_and_quantizes_every_layer(quantized):
    folder, _ = quantized
    graph = tf.saved_model.load(str(folder / GRAPH_FOLDER)).signatures["classify"]
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    (entrance,) = [node for node in nodes if node.op == "FakeQuantWithMinMaxArgs"]
    assert (entrance.attr["min"].f, entrance.attr["max"].f) == (-1.0, 1.0)
    by_channel = [node for node in nodes if node.op == "FakeQuantWithMinMaxVarsPerChannel"]
    assert len(by_channel) == len(kernels(folder / "student.keras")) - 1, "all but the last, which has one scale"


def test_no_step_of_a_relu_is_below_zero(quantized):
    folder, _ = quantized
    loaded = tf.saved_model.load(str(folder / GRAPH_FOLDER))
    ends = {v.name: float(v.numpy()) for v in loaded.signatures["classify"].variables if "relu/output_m" in v.name}
    least = [end for name, end in ends.items() if name.endswith("min:0")]
    largest = [end for name, end in ends.items() if name.endswith("max:0")]
    assert least and set(least) == {0.0}, "the library's own ranges begin at -6 and take thousands of steps to move"
    assert all(end > 0 and end != 6 for end in largest)


@pytest.fixture
def depthwise():
    """A separable convolution of channels of very different sizes, one of them dead, with used statistics."""
    layers, drawn = tf_keras.layers, np.random.default_rng(0)
    model = tf_keras.Sequential(
        [
            layers.DepthwiseConv2D(3, use_bias=False, input_shape=(8, 8, 4), name="depthwise"),
            layers.BatchNormalization(name="normalization"),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, name="biased"),
        ]
    )
    model.layers[0].set_weights([drawn.normal(size=(3, 3, 4, 1)) * np.array([9, 1, 0.01, 0])[:, None]])
    statistics = [drawn.uniform(0.5, 2, 4), drawn.normal(size=4), drawn.normal(size=4), [80.0, 2.0, 1e-4, 0.0]]
    model.layers[1].set_weights(list(map(np.array, statistics)))
    return model


def test_depthwise_channels_get_one_largest_weight_and_the_same_answers(depthwise):
    pixels = np.random.default_rng(1).normal(size=(5, 8, 8, 4)).astype(np.float32)
    before, biased = depthwise(pixels, training=False).numpy(), depthwise.get_layer("biased").get_weights()
    even_out_depthwise(depthwise)
    largest = np.abs(depthwise.get_layer("depthwise").depthwise_kernel.numpy()).max(axis=(0, 1)).ravel()
    assert largest[:3] == pytest.approx(largest[0]) and largest[3] == 0
    np.testing.assert_allclose(depthwise(pixels, training=False).numpy(), before, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(depthwise.get_layer("biased").get_weights()[0], biased[0])


@dataclass(frozen=True)
class Shown:
    """A feed of noise, for the ranges."""

    def epoch(self, number):
        yield (np.random.default_rng(number).integers(0, 256, (4, 16, 16, 3), np.uint8),)


def test_weights_directly_before_a_relu_are_quantized_too(case, tmp_path):
    layers = tf_keras.layers
    image = tf_keras.Input((16, 16, 3))
    x = layers.ReLU()(layers.Conv2D(4, 3, name="before_relu")(image))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, name="depthwise_before_relu")(x))
    both = layers.Concatenate()([layers.ReLU()(layers.Conv2D(4, 1, name=name)(x)) for name in ("left", "right")])
    model = tf_keras.Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(both)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = wrap_qat(model, case.job(tmp_path, "qat"), Shown()).model
    least = [weight.name for weight in wrapped.weights if weight.name.endswith("kernel_min:0")]
    assert len(least) == 5, "every convolution and dense layer"
    between = [weight.name for weight in wrapped.weights if "activation_min" in weight.name]
    assert between == ["quant_logits/post_activation_min:0"], "nothing is rounded between a layer and its ReLU"


def test_the_graph_answers_as_its_weights_do_but_for_rounding(case, quantized):
    folder, _ = quantized
    pixels = np.load(case.stores.pixels_folder / "val-00000.npy")[:, 0]
    graph = tf.saved_model.load(str(folder / GRAPH_FOLDER))
    batch = graph.signatures["classify_batch"](image=tf.constant(to_int8_input(pixels)))["probabilities"].numpy()
    one = graph.signatures["classify"](image=tf.constant(to_int8_input(pixels[:1])))["probabilities"].numpy()
    np.testing.assert_allclose(one, batch[:1], atol=1e-6)
    plain = keras.saving.load_model(folder / "student.keras", compile=False)
    expected = keras.ops.softmax(plain(to_int8_input(pixels), training=False)).numpy()
    assert 0 < np.abs(batch - expected).max() < 0.2
    assert (batch.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_all_three_in_turn_keep_what_came_before(case, pruned, tmp_path):
    folder, _ = pruned
    before, clustered = folder / "student.keras", tmp_path / "cluster" / "student.keras"
    case.run(tmp_path / "cluster", "cluster", student=before, preserve=["prune"], clusters=6, epochs=1)
    result = case.run(tmp_path / "qat", "qat", student=clustered, preserve=["prune", "cluster"], epochs=1)
    after = kernels(tmp_path / "qat" / "student.keras")
    for pruned_kernel, kernel in zip(kernels(before), after, strict=True):
        assert (kernel[pruned_kernel == 0] == 0).all(), "every pruned weight stays zero"
        by_output = np.moveaxis(kernel, -1, 0)
        assert max(len(np.unique(weights)) for weights in by_output) <= 7, "six clusters an output, and zero"
    assert result.zeros >= 0.59
    assert result.clusters == max(len(np.unique(kernel)) for kernel in after)


def test_a_stopped_process_resumes_to_the_same_weights(case, tmp_path, monkeypatch, capsys):
    case.run(tmp_path / "unbroken", "prune")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, images=2 * len(case.stores.train_labels) + 20)
        case.run(tmp_path / "stopped", "prune")
    assert len(history(tmp_path / "stopped")) == 2
    case.run(tmp_path / "stopped", "prune")
    assert "compress prune: resuming after epoch 2/4" in capsys.readouterr().err
    for one, other in zip(
        kernels(tmp_path / "unbroken/student.keras"), kernels(tmp_path / "stopped/student.keras"), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("method", ["prune", "qat"])
def test_a_process_killed_after_its_files_stood_makes_them_again_without_training(case, tmp_path, monkeypatch, method):
    class Killed(Exception):
        pass

    def killed(folder):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(worker, "remove_checkpoints", killed)
        case.run(tmp_path, method, epochs=1)
    before, lines = kernels(tmp_path / "student.keras"), history(tmp_path)
    assert list(tmp_path.glob("checkpoint-*"))
    monkeypatch.setattr(progress, "bar", None)
    result = case.run(tmp_path, method, epochs=1)
    assert result.epochs_run == 1 and history(tmp_path) == lines
    for one, other in zip(before, kernels(tmp_path / "student.keras"), strict=True):
        np.testing.assert_array_equal(one, other)
    left = {"student.keras", "history.jsonl"} | ({GRAPH_FOLDER} if method == "qat" else set())
    assert {path.name for path in tmp_path.iterdir()} == left


def test_logits_that_are_not_finite_stop_it_as_well(case):
    import tf_keras

    pixels = tf_keras.Input((PX, PX, 3))
    dense = tf_keras.layers.Dense(CLASSES, bias_initializer=tf_keras.initializers.Constant(np.nan))
    model = tf_keras.Model(pixels, dense(tf_keras.layers.GlobalAveragePooling2D()(pixels)))
    evaluated = Evaluated(case.stores.val_labels, case.stores.pixels_folder)
    with pytest.raises(
        TrainingError, match="compress qat, before it, validation: must have finite logits, got NaN or inf"
    ):
        evaluate(model, evaluated, "compress qat, before it")


def test_the_teacher_teaches(case, tmp_path):
    case.run(tmp_path / "taught", "qat", epochs=1)
    case.run(tmp_path / "labels", "qat", epochs=1, teacher=False)
    taught, labels = (history(tmp_path / name)[0]["loss"] for name in ("taught", "labels"))
    assert taught != labels


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step(case, tmp_path):
    with pytest.raises(
        TrainingError, match=r"compress qat, epoch 1, batch \d/6, learning rate .*: must have a finite loss, got nan"
    ):
        case.run(tmp_path, "qat", learning_rate=1e30, epochs=2)


def test_what_the_library_does_not_know_is_refused_with_its_reason(case, tmp_path, monkeypatch):
    def refuse(model, job, steps):
        raise RuntimeError("Layer rescaling:<class 'Rescaling'> is not supported.")

    monkeypatch.setitem(worker.WRAPPERS, "qat", refuse)
    with pytest.raises(CompressionError, match=r"small_cnn, qat: must consist of layers .*: Layer rescaling"):
        case.run(tmp_path, "qat")


def test_every_compression_has_a_chain():
    assert tuple(CHAINS) == COMPRESSIONS
