"""One .tflite image classifier in LiteRT, or in tflite_runtime where that is the one that is installed."""

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd2mobile.errors import ModelFileError, RecipeError
from kd2mobile.files import check_regular
from kd2mobile.inspection.graph import Graph, Op, is_model, read_model, with_readable_names
from kd2mobile.inspection.graph import Tensor as StoredTensor
from kd2mobile.inspection.metadata import read_metadata
from kd2mobile.measure.litert.eight_bit import fits, quantized, stands_for, takes_plain_pixels
from kd2mobile.text import one_line, size_of

RUNTIMES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
"""Packages with an Interpreter, first choice first, and the distributions they come in."""
EIGHT_BIT = ("uint8", "int8")
FLOATS = ("float32", "float16")
OWN_NORMAL = (127.5, 127.5)
"""The mean and std of a student of kd2mobile's, whose quantized input stands for -1 to 1."""
_CARRIERS = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "SQUEEZE")
"""Ops that change the format of a number and not its value; the last op is looked for before them."""

EDGE_TPU_OP = "edgetpu-custom-op"
"""The only op of a file that was compiled for Google's Edge TPU."""
LARGEST_PX = 4096
"""The largest side of an input."""
LARGEST_TENSOR = 2**30
"""Bytes of the largest tensor: a damaged file may declare any shape, and LiteRT allocates memory for it."""

_AGAIN = "Export or download it again."
_MEASURABLE = "A file is measurable if it takes one RGB image [1, px, px, 3] and outputs one vector of class scores."


Normal = float | Sequence[float] | None
"""A mean or std: one value, or one per channel."""


class Tensor(NamedTuple):
    """dtype: `uint8`, `float32`, ...; scale and zero_point: None unless it is quantized."""

    dtype: str
    scale: float | None
    zero_point: int | None


class Classifier:
    """A .tflite that answers one image with one vector, opened and run once.

    input_px: side of its square input; classes: number of outputs; input, output: dtype and quantization;
    metadata: what the file says about itself; mean, std: float32 [1] or [3], of (pixel - mean) / std, None where the
    input takes the pixel itself; last_op: the op that makes the outputs, None if unknown; runtime: in words; init_ms:
    opening and allocation; first_run_ms: the first inference; notes: what a reader of its numbers should know.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        *,
        mean: Normal = None,
        std: Normal = None,
        xnnpack: bool = True,
    ):
        """Opens the file. threads: of the runtime. mean, std: the network gets (pixel - mean) / std of 8-bit pixels,
        before what the file's own metadata says. A quantized input gets them through its own scale; it needs neither
        where its range is that of plain pixels (`eight_bit`). xnnpack: whether the runtime may use its XNNPACK kernels.

        Raises ModelFileError if the file is not a complete classifier, or if it needs normalized pixels and neither the
        arguments nor its metadata define the normalization.
        """
        self.path, self.threads = Path(path), threads
        if threads < 1:
            raise RecipeError("benchmark.threads", "must be at least 1", threads, "Leave --threads out for one.")
        make_interpreter, package = _runtime(xnnpack)
        content, self.last_op = _before_opening(self.path)
        start = time.perf_counter_ns()
        self._interpreter = self._open(make_interpreter, content)
        opened = time.perf_counter_ns()
        self._check_input()
        allocation = time.perf_counter_ns()
        self._allocate()
        self.init_ms = (time.perf_counter_ns() - allocation + opened - start) / 1e6
        self._check_output()
        self._check_scales()
        self.metadata = read_metadata(self.path)
        self._check_metadata()
        self.notes: list[str] = []
        self.mean, self.std, self._table = None, None, None
        if self.input.dtype in FLOATS:
            self.mean, self.std = self._normalization(mean, std)
        else:
            self._find_table(mean, std)
        with _runtime_faults(self.path):
            self.runtime = f"{package}, XNNPACK" if "DELEGATE" in _op_names(self._interpreter) else package
        self.set_pixels(np.zeros((self.input_px, self.input_px, 3), np.uint8))
        start = time.perf_counter_ns()
        self.run()
        self.first_run_ms = (time.perf_counter_ns() - start) / 1e6

    def set_pixels(self, pixels: np.ndarray) -> None:
        """Makes uint8 [px, px, 3] RGB the next run's input."""
        if pixels.dtype != np.uint8 or pixels.shape != (self.input_px, self.input_px, 3):
            raise ValueError(
                f"pixels must be uint8 [{self.input_px}, {self.input_px}, 3], got {pixels.dtype} {pixels.shape}"
            )
        with _runtime_faults(self.path):
            self._interpreter.set_tensor(self._input_index, self._to_input(pixels)[np.newaxis])

    def run(self) -> None:
        """Runs one inference on the pixels that are set."""
        try:
            self._interpreter.invoke()
        except RuntimeError as fault:
            raise _cannot_run(self.path, fault) from fault

    def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """The outputs for the image uint8 [px, px, 3], dequantized: float32 [classes], probabilities or not.

        Raises ModelFileError if one is not a finite number.
        """
        self.set_pixels(pixels)
        self.run()
        with _runtime_faults(self.path):
            answer = self._interpreter.get_tensor(self._output_index).reshape(-1)
        if self.output.scale is not None:
            return (answer.astype(np.float32) - np.float32(self.output.zero_point)) * np.float32(self.output.scale)
        answer = answer.astype(np.float32)
        if not np.isfinite(answer).all():
            got = "NaN" if np.isnan(answer).any() else "infinity"
            broken = "Its weights are missing or damaged: export it again."
            raise ModelFileError(self.path, "must output finite numbers", got, broken)
        return answer

    @property
    def step(self) -> float:
        """The step between neighbouring outputs, 0 for floats."""
        return self.output.scale or 0.0

    def _to_input(self, pixels: np.ndarray) -> np.ndarray:
        if self._table is not None:
            return self._table[pixels, np.arange(3)]
        if self.input.dtype == "uint8":
            return pixels
        if self.input.dtype == "int8":
            return (pixels.astype(np.int16) - 128).astype(np.int8)
        return ((pixels.astype(np.float32) - self.mean) / self.std).astype(self.input.dtype)

    def _open(self, make_interpreter: Any, content: bytes | None) -> Any:
        where = {"model_path": str(self.path)} if content is None else {"model_content": content}
        try:
            with _quiet():
                return make_interpreter(**where, num_threads=self.threads)
        except (ValueError, RuntimeError) as fault:
            raise ModelFileError(self.path, "must be a complete TensorFlow Lite model", _why(fault), _AGAIN) from fault

    def _check_input(self) -> None:
        with _runtime_faults(self.path):
            inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ModelFileError(self.path, "must take one image", f"{len(inputs)} inputs", _MEASURABLE)
        self._input_index, self.input, shape = inputs[0]["index"], _tensor(inputs[0]), _shape(inputs[0])
        if len(shape) != 4 or shape[3] != 3:
            raise ModelFileError(self.path, "must take one RGB image [1, px, px, 3]", shape, _MEASURABLE)
        batch, height, width, _ = shape
        if batch not in (1, -1):
            raise ModelFileError(self.path, "must take one image per run", f"a batch of {batch}", _MEASURABLE)
        if height < 1 or width < 1:
            fixed = "Export it with a fixed input size."
            raise ModelFileError(self.path, "must have a fixed input size", shape, fixed)
        if height != width:
            raise ModelFileError(self.path, "must take a square image", f"{width} x {height} pixels", _MEASURABLE)
        if height > LARGEST_PX:
            must = f"must take an image of at most {LARGEST_PX} x {LARGEST_PX} pixels"
            raise ModelFileError(self.path, must, f"{width} x {height}", _AGAIN)
        if self.input.dtype not in EIGHT_BIT + FLOATS:
            must = "must take 8-bit or float pixels"
            raise ModelFileError(self.path, must, self.input.dtype, "Export it with a uint8, int8 or float32 input.")
        self.input_px = height

    def _allocate(self) -> None:
        """Memory for one image; an open batch becomes 1."""
        shape = [1, self.input_px, self.input_px, 3]
        try:
            with _quiet():
                if list(self._interpreter.get_input_details()[0]["shape"]) != shape:
                    self._interpreter.resize_tensor_input(self._input_index, shape)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as fault:
            raise _cannot_run(self.path, fault) from fault

    def _check_output(self) -> None:
        with _runtime_faults(self.path):
            outputs = self._interpreter.get_output_details()
        if len(outputs) != 1:
            raise ModelFileError(self.path, "must output one vector", f"{len(outputs)} outputs", _MEASURABLE)
        self._output_index, self.output = outputs[0]["index"], _tensor(outputs[0])
        shape = [int(side) for side in outputs[0]["shape"]]
        if not shape or shape[-1] < 2 or math.prod(shape) != shape[-1]:
            raise ModelFileError(self.path, "must output one vector [1, classes] per image", shape, _MEASURABLE)
        if self.output.dtype not in FLOATS and self.output.scale is None:
            must = "must output floats or quantized numbers"
            raise ModelFileError(self.path, must, f"plain {self.output.dtype}", _MEASURABLE)
        self.classes = shape[-1]

    def _find_table(self, mean: Normal, std: Normal) -> None:
        """Sets the table from pixels to values of an 8-bit input. The normalization comes from the user, else from the
        file's metadata, else from the range of the input."""
        dtype, scale, zero_point = self.input
        if scale is None and dtype == "uint8":
            if mean is not None or std is not None:
                why = "its uint8 input takes the pixel itself: --mean and --std are not used"
                self.notes.append(f"{self.path.name}: {why}")
            return
        scale, zero_point = (1.0, 0) if scale is None else (scale, zero_point)
        plain = takes_plain_pixels(dtype, scale, zero_point)
        normal = self._normalization(mean, std)
        if normal and mean is None and plain and not fits(dtype, scale, zero_point, *normal):
            self.notes.append(
                f"{self.path.name}: the mean and std in its metadata do not fit its input and are not used"
            )
            normal = None
        if normal:
            self._table = quantized(dtype, scale, zero_point, *normal)
            self.mean, self.std = normal if self._table is not None else (None, None)
        elif not plain:
            low, high = stands_for(dtype, scale, zero_point)
            must = "must take pixels as 0..255, 0..1 or -1..1, or define their normalization"
            example = "Give --mean and --std: a network gets (pixel - mean) / std."
            raise ModelFileError(self.path, must, f"{dtype} from {low:.4g} to {high:.4g} and no metadata", example)

    def _normalization(self, mean: Normal, std: Normal) -> tuple[np.ndarray, np.ndarray] | None:
        """The mean and std of the network, float32 [1] or [3]; None where an 8-bit file does not define them."""
        if (mean is None) != (std is None):
            present, missing = ("mean", "std") if std is None else ("std", "mean")
            must = "must be given both --mean and --std, or neither"
            raise ModelFileError(self.path, must, f"{present} alone", f"Add --{missing}.")
        if mean is None:
            mean, std = self.metadata.mean, self.metadata.std
            if mean is None and self.input.dtype in EIGHT_BIT:
                if not self.metadata.own:
                    return None
                mean, std = OWN_NORMAL
        if mean is None:
            must = "must define how a pixel becomes a float"
            example = "Give --mean and --std: a network gets (pixel - mean) / std, so 127.5 and 127.5 mean [-1, 1]."
            raise ModelFileError(self.path, must, "no metadata with a normalization", example)
        values = [np.atleast_1d(np.asarray(value, np.float32)) for value in (mean, std)]
        if (
            any(value.shape not in ((1,), (3,)) or not np.isfinite(value).all() for value in values)
            or not values[1].all()
        ):
            must = "must be normalized by one finite value or three, the std not 0"
            raise ModelFileError(self.path, must, f"mean {mean}, std {std}", "Check --mean and --std.")
        return values[0], values[1]

    def _check_scales(self) -> None:
        for tensor in (self.input, self.output):
            if tensor.scale is not None and not 0 < tensor.scale < float("inf"):
                must = "must have quantization scales that are finite and above 0"
                raise ModelFileError(self.path, must, tensor.scale, _AGAIN)

    def _check_metadata(self) -> None:
        declared = self.metadata
        if declared.own and (len(declared.classes), declared.input_px) != (self.classes, self.input_px):
            must = f"must match its own description of {len(declared.classes)} classes at {declared.input_px} px"
            got = f"{self.classes} classes at {self.input_px} px"
            raise ModelFileError(self.path, must, got, "Export it again with kd2mobile.")


def _runtime(xnnpack: bool) -> tuple[Any, str]:
    for package, distribution in RUNTIMES.items():
        try:
            module = import_module(f"{package}.interpreter")
        except ModuleNotFoundError as fault:
            if fault.name not in (package, f"{package}.interpreter"):
                raise
            continue
        plain = {"experimental_op_resolver_type": module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
        make = module.Interpreter if xnnpack else partial(module.Interpreter, **plain)
        return make, f"{distribution} {metadata.version(distribution)}"
    install = "Install it with `python -m pip install ai-edge-litert`, on 32-bit Arm `tflite-runtime`."
    raise ModelFileError(
        "LiteRT",
        "must be installed to run a .tflite file",
        "neither ai-edge-litert nor tflite-runtime",
        install,
    )


def _before_opening(path: Path) -> tuple[bytes | None, str | None]:
    """What the file's bytes say: a copy of them if LiteRT cannot read the file as it is, and the op that makes the
    first output, None if unknown.

    LiteRT's own messages for a file that is missing or of another format do not help, and its Python side accepts no
    names but those in UTF-8.
    """
    check_regular(path, ModelFileError, "Save the model to a file, and give that.")
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ModelFileError(path, "must be a readable .tflite file", fault.strerror, "Check the path.") from fault
    except ValueError as fault:  # NUL in the path
        raise ModelFileError(path, "must be a path", "a NUL character in it", "Check the path.") from fault
    if not data:
        raise ModelFileError(path, "must be a TensorFlow Lite model", "an empty file", _AGAIN)
    if not is_model(data):
        got = f"a file that starts with {data[:8]!r}"
        raise ModelFileError(path, "must be a TensorFlow Lite model", got, "Give the .tflite file itself.")
    try:
        readable, graphs = with_readable_names(data), read_model(data).graphs
    except ValueError:
        return None, None  # LiteRT says what is wrong with it
    for tensor in (tensor for graph in graphs for tensor in graph.tensors):
        if (size := _size(tensor)) > LARGEST_TENSOR:
            must = f"must hold no tensor of more than {size_of(LARGEST_TENSOR)}"
            raise ModelFileError(path, must, f"{size_of(size)}: {tensor.shape} of {tensor.dtype}", _AGAIN)
    return (None if readable == data else readable), _last_op(graphs[0])


def _size(tensor: StoredTensor) -> int:
    """Bytes of its numbers once they are in memory, open sides taken for 1."""
    bits = re.search(r"\d+$", tensor.dtype)
    return math.prod(max(side, 1) for side in tensor.shape) * (int(bits[0]) if bits else 8) // 8


def _last_op(graph: Graph) -> str | None:
    """The op that makes the first output, before a delegate hides it."""
    makers = {index: op for op in graph.ops for index in op.outputs}
    op = makers.get(graph.outputs[0]) if graph.outputs else None
    passed: list[Op] = []
    while op is not None and op.name in _CARRIERS and op not in passed:
        passed.append(op)
        op = makers.get(op.inputs[0]) if op.inputs else None
    return None if op is None else op.name


@contextmanager
def _runtime_faults(path: Path) -> Iterator[None]:
    """Turns what the runtime raises about a damaged file into a ModelFileError."""
    try:
        yield
    except (ValueError, RuntimeError, OverflowError, IndexError) as fault:
        raise ModelFileError(path, "must be a complete TensorFlow Lite model", _why(fault), _AGAIN) from fault


def _cannot_run(path: Path, fault: Exception) -> ModelFileError:
    got = _why(fault)
    next_step = _MEASURABLE
    if EDGE_TPU_OP in got:
        got = f"a file for the Edge TPU (its op {EDGE_TPU_OP})"
        next_step = "Give the input file of the Edge TPU's compiler, whose name does not end in _edgetpu."
    elif "Flex op" in got:
        next_step = "Plain LiteRT has no Flex ops: export it without them."
    elif custom := re.search(r"unresolved custom op: ([^\s.]+)", got):
        got = f"the custom op {custom[1]}"
        next_step = "Plain LiteRT does not have it: export the model without it."
    return ModelFileError(path, "must run in LiteRT", got, next_step)


def _why(fault: Exception) -> str:
    """The runtime's own words, its paragraph about Flex ops cut to their names."""
    text = str(fault).strip().rstrip(".")
    flex = re.findall(r"\((Flex\w+)\)", text)
    return f"the Flex op {', '.join(dict.fromkeys(flex))}" if flex else one_line(text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what LiteRT writes to stderr, such as the name of its delegate; its faults are exceptions as well."""
    try:
        stderr = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _shape(details: dict[str, Any]) -> list[int]:
    """The shape with -1 for what is open."""
    signature = details.get("shape_signature")
    return [int(side) for side in (details["shape"] if signature is None or not len(signature) else signature)]


def _tensor(details: dict[str, Any]) -> Tensor:
    dtype, quantization = np.dtype(details["dtype"]).name, details["quantization_parameters"]
    if dtype in FLOATS or len(quantization["scales"]) != 1 or len(quantization["zero_points"]) != 1:
        return Tensor(dtype, None, None)
    return Tensor(dtype, float(quantization["scales"][0]), int(quantization["zero_points"][0]))


def _op_names(interpreter: Any) -> list[str]:
    """The ops of the graph as it runs, by the runtime's private listing; none if this runtime has no such listing."""
    listing = getattr(interpreter, "_get_ops_details", None)
    return [op["op_name"] for op in listing()] if listing else []
