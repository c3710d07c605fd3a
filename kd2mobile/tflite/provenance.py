"""What a file's record says of the file itself: its ops and their types, its weights, its sizes, what it lost."""

from collections import Counter

import numpy as np

from kd2mobile.errors import ExportError
from kd2mobile.metrics import mcnemar, paired_interval
from kd2mobile.tflite.contract import Graph, Op
from kd2mobile.tflite.parity import Parity
from kd2mobile.tflite.results import AgainstStudent, OpTypes, WeightScales

WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""The ops whose second input is weights."""


def op_types(graph: Graph) -> list[OpTypes]:
    """The ops by their types, in the order of first use."""
    made = {index: op for op in graph.ops for index in op.outputs}

    def types(op: Op) -> tuple[str, str, str | None, str]:
        first = [graph.tensors[index].dtype for index in (op.inputs[0], op.outputs[0])]
        weights = graph.tensors[_weights(graph, op, made)].dtype if op.name in WITH_WEIGHTS else None
        return op.name, first[0], weights, first[1]

    counted = Counter(types(op) for op in graph.ops)
    return [OpTypes(*of, count=n) for of, n in counted.items()]


def weight_scales(graph: Graph) -> WeightScales:
    """How many layers' weights have a scale per channel, one scale for all, or none."""
    made = {index: op for op in graph.ops for index in op.outputs}
    scales = [graph.tensors[_weights(graph, op, made)].scales for op in graph.ops if op.name in WITH_WEIGHTS]
    return WeightScales(
        per_channel=sum(count > 1 for count in scales), per_tensor=scales.count(1), float=scales.count(0)
    )


def check_per_tensor(graph: Graph, where: str) -> None:
    """Raises ExportError if any tensor of the file has more scales than one."""
    several = [tensor.name for tensor in graph.tensors if tensor.scales > 1]
    if several:
        got = f"{len(several)} with a scale per channel, the first {several[0]}"
        next_step = (
            "Leave out --per-tensor. The converter of this TensorFlow version behaves differently; please report it."
        )
        raise ExportError(where, "must have one scale per tensor", got, next_step)


def against_student(parity: Parity) -> AgainstStudent | None:
    """Top-1 of the file less that of its Keras student, before any compression; None where no labels are known.

    Equal probabilities share a hit, as in `kd2mobile benchmark`.
    """
    if not parity.file_hits:
        return None
    file, student = np.array(parity.file_hits), np.array(parity.student_hits)
    test = mcnemar(file >= 0.5, student >= 0.5)
    return AgainstStudent(
        n=parity.n,
        top1=float(file.mean()),
        difference=float(file.mean() - student.mean()),
        interval_95=tuple(map(float, paired_interval(file, student))),
        student_top1=float(student.mean()),
        only_file=test.only_a,
        only_student=test.only_b,
        p_value=test.p_value,
    )


def _weights(graph: Graph, op: Op, made: dict[int, Op]) -> int:
    """The tensor of an op's stored weights; float16 ones lie behind a DEQUANTIZE."""
    weights = op.inputs[1]
    maker = made.get(weights)
    return maker.inputs[0] if maker and maker.name == "DEQUANTIZE" else weights
