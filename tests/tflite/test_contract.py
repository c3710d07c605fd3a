import pytest

from kd2mobile.errors import ExportError
from kd2mobile.inspection.layer_names import LayerNames
from kd2mobile.tflite.contract import Graph, Op, Tensor, check_graph, read_graph

PIXELS = Tensor("uint8", [1, 8, 8, 3], 2 / 255, 127)
INNER = Tensor("int8", [1, 8, 8, 3], 2 / 255, -1)
ANSWER = Tensor("uint8", [1, 3], 1 / 256, 0)
FLOAT = Tensor("float32", [1, 8, 8, 3], None, None)
OPS = [Op("QUANTIZE", [0], [1]), Op("CONV_2D", [1], [2]), Op("SOFTMAX", [2], [3]), Op("QUANTIZE", [3], [4])]
INT8 = Graph([PIXELS, INNER, INNER, INNER, ANSWER], OPS, 0, 4, [], False)


def with_tensor(index: int, tensor: Tensor) -> Graph:
    return INT8._replace(tensors=[*INT8.tensors[:index], tensor, *INT8.tensors[index + 1 :]])


def with_ops(*ops: Op) -> Graph:
    return INT8._replace(ops=list(ops))


def test_a_graph_that_keeps_the_contract_passes():
    check_graph(INT8, "int8", 8, 3, "a.tflite")


@pytest.mark.parametrize(
    "graph, message",
    [
        (INT8._replace(custom=["FlexErf"]), "must hold built-in LiteRT ops only, got FlexErf"),
        (INT8._replace(dynamic=True), "must have a fixed size for every tensor, got an open size"),
        (with_tensor(0, FLOAT), r"must go from uint8 \[1, 8, 8, 3\] to uint8 \[1, 3\], got float32"),
        (with_tensor(0, PIXELS._replace(shape=[4, 8, 8, 3])), r"got uint8 \[4, 8, 8, 3\] to"),
        (with_tensor(4, ANSWER._replace(shape=[1, 4])), r"to uint8 \[1, 4\]"),
        (with_tensor(4, ANSWER._replace(dtype="float32")), r"to float32 \[1, 3\]"),
        (with_tensor(2, FLOAT), "must hold no float op, got CONV_2D, SOFTMAX"),
        (with_ops(OPS[0], Op("CAST", [1], [2]), *OPS[2:]), "must hold no float op, got CAST"),
        (with_tensor(0, PIXELS._replace(scale=0.00627)), "with scale 0.007843 and zero point 127 or 128, got 0.00627"),
        (with_tensor(0, PIXELS._replace(scale=None, zero_point=None)), "zero point 127 or 128, got None and None"),
        (with_tensor(0, PIXELS._replace(zero_point=126)), "got .* and 126"),
        (with_tensor(4, ANSWER._replace(scale=1 / 255)), "must output steps of 1/256 from 0, got 0.0039215"),
        (with_ops(OPS[0], Op("QUANTIZE", [1], [2]), *OPS[2:]), "a single QUANTIZE .*, got QUANTIZE and QUANTIZE"),
        (with_ops(Op("CONV_2D", [0], [2]), *OPS[2:]), "a single QUANTIZE .*, got CONV_2D and SOFTMAX"),
    ],
)
def test_each_breach_is_reported(graph, message):
    with pytest.raises(ExportError, match=rf"^a\.tflite: .*{message}.*\. \w+"):
        check_graph(graph, "int8", 8, 3, "a.tflite")


WIDE_PIXELS = Tensor("int16", [1, 8, 8, 3], 255 / 32767, 0)
WIDE = Tensor("int16", [1, 3], 1 / 32768, 0)
FLOAT_ANSWER = Tensor("float32", [1, 3], None, None)
WIDE_OPS = [Op("QUANTIZE", [0], [1]), Op("CONV_2D", [1], [2]), Op("SOFTMAX", [2], [3]), Op("DEQUANTIZE", [3], [4])]
INT16X8 = Graph([FLOAT, WIDE_PIXELS, WIDE, WIDE, FLOAT_ANSWER], WIDE_OPS, 0, 4, [], False)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({0: PIXELS}, r"must go from float32 \[1, 8, 8, 3\] to float32 \[1, 3\], got uint8"),
        ({2: FLOAT}, "first QUANTIZE and the last DEQUANTIZE, got QUANTIZE, CONV_2D, SOFTMAX, DEQUANTIZE"),
        ({1: FLOAT}, "first QUANTIZE and the last DEQUANTIZE, got QUANTIZE, CONV_2D, DEQUANTIZE.*leave int16x8 out"),
        ({1: WIDE_PIXELS._replace(scale=140 / 32767)}, "scale 0.007782 and zero point 0, got int16 with 0.00427"),
        ({1: WIDE_PIXELS._replace(dtype="int8")}, "got int8 with"),
    ],
)
def test_int16x8_breaches_are_reported(changes, message):
    check_graph(INT16X8, "int16x8", 8, 3, "a.tflite")
    tensors = [changes.get(index, tensor) for index, tensor in enumerate(INT16X8.tensors)]
    with pytest.raises(ExportError, match=rf"^a\.tflite: .*{message}"):
        check_graph(INT16X8._replace(tensors=tensors), "int16x8", 8, 3, "a.tflite")


def test_a_float_file_may_hold_floats_but_answers_in_float():
    with pytest.raises(ExportError, match=r"to float32 \[1, 3\], got uint8 \[1, 8, 8, 3\] to uint8"):
        check_graph(INT8, "fp16", 8, 3, "a.tflite")
    check_graph(with_tensor(4, ANSWER._replace(dtype="float32")), "fp16", 8, 3, "a.tflite")


def test_reading_a_file(case):
    graph = read_graph(case.file("int8").read_bytes(), "a.tflite")
    assert [op.name for op in graph.ops[:2]] == ["QUANTIZE", "CONV_2D"] and graph.ops[0].inputs == [graph.input]
    assert graph.op_counts()["CONCATENATION"] == 1 and graph.op_counts()["DEPTHWISE_CONV_2D"] == 1
    assert not graph.custom and not graph.dynamic


def test_another_signature_is_refused(case):
    renamed = case.file("fp32").read_bytes().replace(b"classify\0", b"classifx\0")
    with pytest.raises(ExportError, match=r"must have one signature, 'classify', and one graph, got \['classifx'\]"):
        read_graph(renamed, "a.tflite")
    renamed = case.file("fp32").read_bytes().replace(b"probabilities\0", b"probabilitiez\0")
    with pytest.raises(
        ExportError, match=r"the input 'image' and the output 'probabilities', got \['image'\] to \['probabilitiez'\]"
    ):
        read_graph(renamed, "a.tflite")


NAMES = LayerNames(frozenset(["conv", "relu", "act"]), frozenset(["conv"]))
KEPT = Graph(
    [
        PIXELS,
        INNER,
        FLOAT,
        FLOAT._replace(name="net/relu_1/Relu;net/conv_1/convolution"),
        INNER,
        INNER._replace(name="net/act_1/Tanh"),
        ANSWER,
    ],
    [
        Op("QUANTIZE", [0], [1]),
        Op("DEQUANTIZE", [1], [2]),
        Op("CONV_2D", [2], [3]),
        Op("QUANTIZE", [3], [4]),
        Op("TANH", [4], [5]),
        Op("QUANTIZE", [5], [6]),
    ],
    0,
    6,
    [],
    False,
)


@pytest.mark.parametrize("layer", ["conv", "relu"])
def test_what_is_kept_float_may_be_float_under_any_of_its_layers(layer):
    check_graph(KEPT, "int8", 8, 3, "a.tflite", NAMES, [layer])


def test_every_other_float_op_is_reported_with_its_layer():
    with pytest.raises(ExportError, match=r"a.tflite: must hold no float op, got CONV_2D \(conv\)\. .*--keep-float"):
        check_graph(KEPT, "int8", 8, 3, "a.tflite", NAMES)
    both = KEPT._replace(tensors=[*KEPT.tensors[:5], FLOAT._replace(name="net/act_1/Tanh"), ANSWER])
    with pytest.raises(ExportError, match=r"no float op except in the layers of --keep-float, got TANH \(act\)\. "):
        check_graph(both, "int8", 8, 3, "a.tflite", NAMES, ["conv"])


def test_a_float_detour_around_nothing_is_no_kept_layer():
    detour = [*KEPT.ops[:2], Op("QUANTIZE", [2], [4]), *KEPT.ops[4:]]
    with pytest.raises(ExportError, match="must hold no float op except .*, got DEQUANTIZE"):
        check_graph(KEPT._replace(ops=detour), "int8", 8, 3, "a.tflite", NAMES, ["conv"])
