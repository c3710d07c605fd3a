"""Zeros and shared values, counted on a file: against the same counts over the public schema's own reader."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from kd2mobile.inspection.graph import read_model
from kd2mobile.inspection.inspect import inspect_file
from kd2mobile.inspection.weights import Weights, count_weights
from kd2mobile.pages.terminal.inspect import inspect_text

DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8}


def kernels(data: bytes) -> list[tuple[schema.TensorT, np.ndarray]]:
    """The weights of convolutions and dense layers, as the public schema reads them."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    kinds = [model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators]
    with_weights = (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED)
    tensors = [
        graph.tensors[op.inputs[1]] for op, kind in zip(graph.operators, kinds, strict=True) if kind in with_weights
    ]
    return [(t, np.asarray(model.buffers[t.buffer].data).view(DTYPES[t.type]).reshape(t.shape)) for t in tensors]


@pytest.mark.parametrize("name", ["uint8", "full_int8", "full_uint8", "batch"])
def test_the_counts_are_those_of_the_stored_numbers(models, name):
    data = (models / f"{name}.tflite").read_bytes()
    stored = [values for _, values in kernels(data)]
    assert count_weights(data, read_model(data)) == Weights(
        layers=len(stored),
        zeros=sum(int((values == 0).sum()) for values in stored) / sum(values.size for values in stored),
        clusters=max(len(set(values.ravel().tolist())) for values in stored),
        clusters_of_output=max(len(set(output.ravel().tolist())) for values in stored for output in values),
    )


def test_zeros_and_shared_values_written_into_a_file_are_found(models, tmp_path):
    data = bytearray((models / "uint8.tflite").read_bytes())
    tensor, values = kernels(bytes(data))[0]
    offset = bytes(data).index(values.tobytes())
    shared = np.resize(np.array([0.0, -0.0, 0.25, 0.5], np.float32), values.shape)
    data[offset : offset + values.nbytes] = shared.tobytes()
    path = tmp_path / "shared.tflite"
    path.write_bytes(data)
    others = [values for _, values in kernels(bytes(data))[1:]]
    inspection = inspect_file(path)
    zeros = (shared == 0).sum() + sum((values == 0).sum() for values in others)
    assert inspection.weights.zeros == pytest.approx(zeros / (shared.size + sum(values.size for values in others)))
    assert inspection.weights.clusters == max([3, *(len(np.unique(values)) for values in others)])
    line = f"{inspection.weights.zeros:.1%} zeros; at most {inspection.weights.clusters:,} values per layer, "
    assert f"Weights of {inspection.weights.layers} convolution" in inspect_text(inspection) and line in inspect_text(
        inspection
    )


def test_the_zero_point_is_the_zero(models):
    """Weights of an older kind: uint8 around a zero point."""
    data = (models / "full_int8.tflite").read_bytes()
    model = read_model(data)
    graph = model.graphs[0]
    moved = [t._replace(zero_points=[3]) if t.constant and t.dtype == "int8" else t for t in graph.tensors]
    stored = [values for _, values in kernels(data)]
    expected = sum(int((values == 3).sum()) for values in stored) / sum(values.size for values in stored)
    assert count_weights(data, model._replace(graphs=[graph._replace(tensors=moved)])).zeros == pytest.approx(expected)


def test_a_file_without_such_layers_has_none(models):
    data = (models / "uint8.tflite").read_bytes()
    model = read_model(data)
    assert count_weights(data, model._replace(graphs=[model.graphs[0]._replace(ops=[])])) is None
    empty = [tensor._replace(span=(0, 0)) for tensor in model.graphs[0].tensors]
    assert count_weights(data, model._replace(graphs=[model.graphs[0]._replace(tensors=empty)])) is None
