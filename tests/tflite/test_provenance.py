import io
import zipfile

import numpy as np
import pytest

from kd2mobile.errors import ExportError
from kd2mobile.inspection.size import deflated_size
from kd2mobile.tflite.contract import Graph, Op, Tensor
from kd2mobile.tflite.parity import Parity
from kd2mobile.tflite.provenance import against_student, check_per_tensor, op_types, weight_scales
from kd2mobile.tflite.results import OpTypes, WeightScales

FLOAT, HALF = Tensor("float32", [1], None, None), Tensor("float16", [1], None, None, constant=True)
INT8 = Tensor("int8", [1], 0.1, 0, "x", 1)
PER_CHANNEL = Tensor("int8", [1], None, None, "kernel", 8, True)
PER_TENSOR = PER_CHANNEL._replace(scale=0.1, scales=1)


def graph(tensors: list[Tensor], *ops: Op) -> Graph:
    return Graph(tensors, list(ops), 0, len(tensors) - 1, [], False)


def test_compressed_is_what_a_zip_holds_of_it():
    model = bytes(5000) + np.random.default_rng(0).bytes(3000)
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model.tflite", model)
    with zipfile.ZipFile(into) as archive:
        assert deflated_size(model) == archive.getinfo("model.tflite").compress_size < 3100


def test_ops_are_counted_by_their_types():
    int8 = graph([INT8, PER_CHANNEL, INT8, INT8], Op("CONV_2D", [0, 1], [2]), Op("CONV_2D", [2, 1], [3]))
    conv = OpTypes("CONV_2D", "int8", "int8", "int8", 2)
    assert op_types(int8) == [conv] and weight_scales(int8) == WeightScales(2, 0, 0)
    dynamic = graph([FLOAT, PER_TENSOR, FLOAT, FLOAT], Op("FULLY_CONNECTED", [0, 1], [2]), Op("SOFTMAX", [2], [3]))
    dense = OpTypes("FULLY_CONNECTED", "float32", "int8", "float32", 1)
    softmax = OpTypes("SOFTMAX", "float32", None, "float32", 1)
    assert op_types(dynamic) == [dense, softmax] and weight_scales(dynamic).per_tensor == 1


def test_float16_weights_are_recognized_behind_dequantize():
    fp16 = graph([FLOAT, HALF, FLOAT, FLOAT], Op("DEQUANTIZE", [1], [2]), Op("CONV_2D", [0, 2], [3]))
    assert op_types(fp16)[1].weights == "float16"
    assert weight_scales(fp16) == WeightScales(0, 0, 1)


def test_a_scale_per_channel_in_a_per_tensor_file_is_reported():
    check_per_tensor(graph([INT8, PER_TENSOR]), "a.tflite")
    with pytest.raises(
        ExportError, match="a.tflite: must have one scale per tensor, got 1 with .*, the first kernel. "
    ):
        check_per_tensor(graph([INT8, PER_CHANNEL]), "a.tflite")


def test_what_a_file_loses():
    """Of ten images both get six, the student alone three, the file alone one: p = 2 * (1 + 4) / 2^4."""
    student, file = (1.0,) * 9 + (0.0,), (1.0,) * 6 + (0.0,) * 3 + (1.0,)
    lost = against_student(Parity(10, 6, 0.1, student, file))
    assert (lost.n, lost.top1, lost.student_top1) == (10, 0.7, 0.9)
    assert lost.difference == pytest.approx(-0.2) and lost.p_value == pytest.approx(10 / 16)
    assert (lost.only_file, lost.only_student) == (1, 3)
    assert -0.6 <= lost.interval_95[0] < -0.2 < lost.interval_95[1] <= 0.2
    assert against_student(Parity(10, 6, 0.1)) is None
