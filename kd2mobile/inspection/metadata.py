"""The description inside a .tflite: kd2mobile's own, or TensorFlow Lite Metadata.

Both pack their files into a ZIP behind the model. Labels are a text file of one name per line; TensorFlow Lite's
metadata, a flatbuffer inside the model, defines the normalization of a float input and names the file of labels.
"""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path

import msgspec

from kd2mobile.errors import ModelFileError
from kd2mobile.files import decode_json
from kd2mobile.inspection.flatbuffer import Table, root
from kd2mobile.inspection.graph import read_model
from kd2mobile.inspection.labels import label_lines, read_labels
from kd2mobile.inspection.metadata_schema import ENTRY, NORMALIZATION_OPTIONS, TENSOR_AXIS_LABELS, slot
from kd2mobile.pixels import Resize
from kd2mobile.text import count_of, listed

FORMAT = 1
LABELS_FILE = "labels.txt"
DESCRIPTION_FILE = "kd2mobile.json"
LARGEST_MEMBER = 16 * 2**20
"""Bytes of the largest text that is read out of a file's ZIP."""

_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What Python's zipfile raises about damaged bytes."""
_NEXT = "Ask its author for a complete file, or export it again."


class FileMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The description inside a .tflite; a field is None if it does not define it.

    own: whether kd2mobile made it. classes: the outputs' names in order. texts: the text files inside, if there are
    several and none is declared as the labels. mean, std: a float input's normalization,
    (pixel - mean) / std of 8-bit pixels, one value or one per channel.
    """

    own: bool = False
    classes: list[str] | None = None
    texts: list[str] = []
    resize: Resize | None = None
    input_px: int | None = None
    model: str | None = None
    precision: str | None = None
    compression: str | None = None
    student_fingerprint: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None


class TFLiteMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of TensorFlow Lite Metadata that kd2mobile reads; a field is None if it is not set.

    license: spelled as in the schema. mean, std: of the input. label_file: the name in the ZIP of the output's labels.
    """

    name: str | None = None
    description: str | None = None
    version: str | None = None
    author: str | None = None
    license: str | None = None
    min_parser_version: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    label_file: str | None = None


_TEXTS = ("name", "description", "version", "author", "license", "min_parser_version")


class _Format(msgspec.Struct):
    format: int


class _Description(msgspec.Struct):
    """kd2mobile.json, all its fields required."""

    format: int
    classes: list[str]
    resize: Resize
    input_px: int
    model: str
    precision: str
    compression: str
    student_fingerprint: str


def read_metadata(path: Path) -> FileMetadata:
    """Reads the description inside a .tflite. Raises ModelFileError if it is damaged or of a later format."""
    members = _members(path)
    inside = read_tflite_metadata(path) or TFLiteMetadata()
    mean, std, label_file = inside.mean, inside.std, inside.label_file
    if DESCRIPTION_FILE in members:
        return msgspec.structs.replace(_own(path, _member(path, DESCRIPTION_FILE)), mean=mean, std=std)
    texts: list[str] = []
    if label_file not in members:
        texts = [name for name in members if name.lower().endswith(".txt")]
        label_file = LABELS_FILE if LABELS_FILE in texts else texts[0] if len(texts) == 1 else None
    classes = None if label_file is None else label_lines(_member(path, label_file), f"{path}, {label_file}")
    return FileMetadata(classes=classes, texts=texts if label_file is None else [], mean=mean, std=std)


def output_names(
    model: Path, metadata: FileMetadata, outputs: int, file: Path | None
) -> tuple[list[str] | None, list[str]]:
    """The names of the outputs and notes. The names come from the user's file, else from the model; None if neither has
    any that fit.

    Raises ModelFileError if the number of names in the user's file is not the number of outputs. If the model's own
    labels do not fit, or are in one of several text files, they are not used, and a note gives the reason.
    """
    names = read_labels(file) if file else metadata.classes
    if len(names or []) == outputs or (names is None and not metadata.texts):
        return names, []
    if file:
        got = f"{count_of(len(names), 'label')} for {count_of(outputs, 'output')}"
        next_step = "Give the labels that this model was made with."
        if len(names) == outputs - 1 and not metadata.own:
            next_step += " If its output 0 is a background class, write the line `background` before the others."
        raise ModelFileError(file, "must have one name per output, one per line", got, next_step)
    return None, [f"{model}: its own labels are not used: {unused_labels(metadata, outputs)}"]


def unused_labels(metadata: FileMetadata, outputs: int) -> str:
    """The reason why a model's own labels cannot be used."""
    if metadata.texts:
        shown = listed(repr(name[:60]) for name in metadata.texts)
        return f"{count_of(len(metadata.texts), 'text file')} inside ({shown}), none of which is declared as labels"
    return f"{count_of(len(metadata.classes or []), 'label')} for {count_of(outputs, 'output')}"


def _members(path: Path) -> list[str]:
    """The names in the ZIP behind the model; empty if there is none."""
    try:
        if not zipfile.is_zipfile(path):
            return []
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except _ZIP_FAULTS as fault:
        raise ModelFileError(path, "must have a complete ZIP of labels, or none", _reason(fault), _NEXT) from fault


def _member(path: Path, name: str) -> bytes:
    where = f"{path}, {name}"
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(name).file_size
            if size > LARGEST_MEMBER:
                raise ModelFileError(where, f"must be at most {LARGEST_MEMBER:,} bytes", f"{size:,} bytes", _NEXT)
            return archive.read(name)
    except _ZIP_FAULTS as fault:
        raise ModelFileError(where, "must be complete inside its ZIP", _reason(fault), _NEXT) from fault


def _reason(fault: Exception) -> str:
    return str(fault) or type(fault).__name__


def _own(path: Path, text: bytes) -> FileMetadata:
    where = f"{path}, {DESCRIPTION_FILE}"
    made_as = decode_json(text, _Format, where, _NEXT, error=ModelFileError).format
    if made_as != FORMAT:
        later = "Use the kd2mobile version that made it, or a later one."
        raise ModelFileError(where, f"must be of format {FORMAT}", made_as, later)
    fields = msgspec.structs.asdict(decode_json(text, _Description, where, _NEXT, error=ModelFileError))
    del fields["format"]
    return FileMetadata(own=True, **fields)


def read_tflite_metadata(path: Path) -> TFLiteMetadata | None:
    """The TensorFlow Lite Metadata inside the model, None if it has none. Raises ModelFileError if that is damaged."""
    stored = _metadata_buffer(path)
    if stored is None:
        return None
    try:
        return _parsed(root(stored))
    except ValueError as fault:
        raise ModelFileError(path, "must have complete TensorFlow Lite metadata, or none", fault, _NEXT) from fault


def _parsed(model: Table) -> TFLiteMetadata:
    """The fields of the flatbuffer; of several graphs, inputs or outputs the first is used."""
    texts = {field: model.text(slot("ModelMetadata", field)) or None for field in _TEXTS}
    graphs = model.tables(slot("ModelMetadata", "subgraph_metadata"))[:1]
    inputs = [i for graph in graphs for i in graph.tables(slot("SubGraphMetadata", "input_tensor_metadata"))[:1]]
    outputs = [o for graph in graphs for o in graph.tables(slot("SubGraphMetadata", "output_tensor_metadata"))[:1]]
    mean = std = None
    for unit in (unit for tensor in inputs for unit in tensor.tables(slot("TensorMetadata", "process_units"))):
        if unit.number(slot("ProcessUnit", "options_type"), "B") == NORMALIZATION_OPTIONS:
            options = unit.table(slot("ProcessUnit", "options"))
            mean, std = (options.numbers(slot("NormalizationOptions", field), "f") for field in ("mean", "std"))
    files = [file for tensor in outputs for file in tensor.tables(slot("TensorMetadata", "associated_files"))]
    kind, name = slot("AssociatedFile", "type"), slot("AssociatedFile", "name")
    labels = [file.text(name) for file in files if file.number(kind, "b") == TENSOR_AXIS_LABELS]
    normalized = {"mean": mean, "std": std} if mean and std else {}
    return TFLiteMetadata(**texts, **normalized, label_file=labels[0] if labels else None)


def _metadata_buffer(path: Path) -> bytes | None:
    """The bytes of the model's entry TFLITE_METADATA."""
    data = Path(path).read_bytes()
    try:
        first, size = read_model(data).metadata.get(ENTRY, (0, 0))
    except ValueError:
        return None  # no model at all: the runtime says so with its own reason
    return data[first : first + size] if first else None
