"""What `kd2mobile inspect` prints of a .tflite."""

from kd2mobile.inspection.inspect import GraphInfo, Inspection, SignatureInfo, TensorInfo
from kd2mobile.text import count_of, listed, one_line

MOST_LABELS = 8
"""Labels named; --json has all of them."""
ARITHMETIC = {
    "integer": "in integers",
    "float32": "in floats",
}


def inspect_text(found: Inspection) -> str:
    """What was found as plain text without a newline at its end; names are escaped, long lists cut."""
    parts = [_headline(found), _ends(found), _computes(found)]
    parts += [_ops(graph, place, len(found.graphs)) for place, graph in enumerate(found.graphs)]
    parts += [_metadata(found), _labels(found), record_text(found), "\n".join(found.notes)]
    return "\n\n".join("\n".join(map(one_line, part.splitlines())) for part in parts if part)


def _headline(found: Inspection) -> str:
    share = found.deflated_bytes / found.size_bytes
    size = f"{found.size_bytes:,} bytes, {found.deflated_bytes:,} compressed ({share:.0%})"
    return f"{found.file}: {size}\nsha256 {found.sha256}"


def _ends(found: Inspection) -> str:
    rows = [_signature(signature, found) for signature in found.signatures]
    for place, graph in enumerate(found.graphs):
        of = f" of graph {place}" if len(found.graphs) > 1 else ""
        rows += [f"Input{of}: {_tensor(tensor)}" for tensor in graph.inputs]
        rows += [f"Output{of}: {_tensor(tensor)}" for tensor in graph.outputs]
    return "\n".join(rows or ["No signature, no input and no output."])


def _signature(signature: SignatureInfo, found: Inspection) -> str:
    of = f", graph {signature.graph}" if len(found.graphs) > 1 else ""
    return f"Signature {signature.key}: {', '.join(signature.inputs)} -> {', '.join(signature.outputs)}{of}"


def _tensor(tensor: TensorInfo) -> str:
    quantized = "" if tensor.scale is None else f", scale {tensor.scale:.7g}, zero point {tensor.zero_point}"
    if tensor.channels:
        quantized = f", {tensor.channels} scales, one per channel"
    return f"{tensor.name} {tensor.dtype} {tensor.shape}{quantized}"


def _computes(found: Inspection) -> str:
    words = ARITHMETIC.get(found.arithmetic) or f"in floats, with {found.arithmetic}"
    lines = [f"Computes {words}."] if found.arithmetic else []
    if found.float_ops is not None:
        lines = [f"Computes {words}; {'float ops:' if found.float_ops else 'no float op.'}"]
        lines += [f"  {op.count:>3}  {op.name}, first at {op.first}" for op in found.float_ops]
    if weights := found.weights:
        lines.append(
            f"Weights of {count_of(weights.layers, 'convolution')} and dense layers: {weights.zeros:.1%} zeros; "
            f"at most {weights.clusters:,} values per layer, {weights.clusters_of_output:,} per output."
        )
    if found.custom_ops:
        lines.append(f"Needs a runtime with {', '.join(found.custom_ops)}, which plain LiteRT does not have.")
    return "\n".join(lines)


def _ops(graph: GraphInfo, place: int, graphs: int) -> str:
    ops, kinds = sum(op.count for op in graph.ops), len({op.name for op in graph.ops})
    of = f"Graph {place}{graph.name and f' {graph.name}'}: " if graphs > 1 else ""
    width = max((len(op.name) for op in graph.ops), default=0)
    return "\n".join(
        [f"{of}{ops} ops of {kinds} kinds", *(f"  {op.count:>3}  {op.name:<{width}}  {op.types}" for op in graph.ops)]
    )


def _metadata(found: Inspection) -> str:
    said = found.tflite_metadata
    if said is None and not found.kd2mobile:
        return "No TensorFlow Lite Metadata."
    lines = []
    if said:
        texts = {"name": said.name, "version": said.version, "author": said.author, "license": said.license}
        lines = [f"Metadata: {', '.join(f'{field} {text}' for field, text in texts.items() if text) or 'no name'}"]
        lines += [f"  {said.description}"] * bool(said.description)
        if said.mean and said.std:
            lines.append(f"  input: (pixel - {_channels(said.mean)}) / {_channels(said.std)}")
    if own := found.kd2mobile:
        words = [own.precision, own.compression if own.compression != "none" else None, f"resize {own.resize}"]
        lines.append(f"Made by kd2mobile: {', '.join(word for word in (own.model, *words) if word)}")
        lines.append(f"  student {own.student_fingerprint}")
    return "\n".join(lines)


def _channels(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _labels(found: Inspection) -> str:
    if not found.labels:
        return "No labels."
    return f"{count_of(len(found.labels), 'label')}: {listed(map(one_line, found.labels), MOST_LABELS)}"


def record_text(found: Inspection) -> str:
    """How the file came to be and what was measured of it, a line each."""
    lines = []
    if found.record:
        content = found.record.content
        content = content.get("results") or content.get("export") or content
        lines.append(f"Record: {found.record.path}")
        if converter := content.get("converter"):
            lines.append(f"  by {converter}")
        compressed = content.get("compression") not in (None, "none")
        if parity := content.get("parity"):
            student = f"student after {content['compression']}" if compressed else "student"
            lines.append(f"  {parity['agreement']:.2%} of {parity['n']:,} images have the top-1 class of the {student}")
        if lost := content.get("against_student"):
            low, high = (100 * bound for bound in lost["interval_95"])
            drop = f"{100 * lost['difference']:+.2f} points ({low:+.2f} to {high:+.2f})"
            student = "student before it" if compressed else "student"
            lines.append(f"  top-1 on validation {lost['top1']:.2%}, against the {student} {drop}")
        if calibration := content.get("calibration"):
            lines.append(f"  calibrated with {len(calibration):,} images")
        if made_from := content.get("made_from"):
            lines.append(f"  made from {', '.join(f'{name} {value}' for name, value in made_from.items())}")
    if found.benchmark:
        content = found.benchmark.content
        lines.append(f"Measured: {found.benchmark.path}")
        top1 = content.get("top1")
        said = "not evaluated" if top1 is None else f"top-1 {top1:.2%} of {content.get('n', 0):,} images"
        lines.append(f"  {content.get('role', 'file')}: {said}")
        p50 = (content.get("latency_ms") or {}).get("p50")
        if p50 is not None:
            lines.append(f"  p50 {p50:.3f} ms on {content.get('device')}")
    return "\n".join(lines) or "No record next to the file."
