"""What `kd2mobile inspect` prints of a .tflite."""

from kd2mobile.inspection.inspect import GraphInfo, Inspection, SignatureInfo, TensorInfo
from kd2mobile.text import count_of, listed, one_line

MOST_LABELS = 8
"""Labels named; --json has all of them."""
ARITHMETIC = {
    "integer": "in integers",
    "float32": "in floats",
}


def inspect_text(inspection: Inspection) -> str:
    """The inspection as plain text without a newline at its end; names are escaped, long lists cut."""
    parts = [_headline(inspection), _ends(inspection), _computes(inspection)]
    parts += [_ops(graph, index, len(inspection.graphs)) for index, graph in enumerate(inspection.graphs)]
    parts += [_metadata(inspection), _labels(inspection), record_text(inspection), "\n".join(inspection.notes)]
    return "\n\n".join("\n".join(map(one_line, part.splitlines())) for part in parts if part)


def _headline(inspection: Inspection) -> str:
    share = inspection.deflated_bytes / inspection.size_bytes
    size = f"{inspection.size_bytes:,} bytes, {inspection.deflated_bytes:,} compressed ({share:.0%})"
    return f"{inspection.file}: {size}\nsha256 {inspection.sha256}"


def _ends(inspection: Inspection) -> str:
    rows = [_signature(signature, inspection) for signature in inspection.signatures]
    for index, graph in enumerate(inspection.graphs):
        of = f" of graph {index}" if len(inspection.graphs) > 1 else ""
        rows += [f"Input{of}: {_tensor(tensor)}" for tensor in graph.inputs]
        rows += [f"Output{of}: {_tensor(tensor)}" for tensor in graph.outputs]
    return "\n".join(rows or ["No signature, no input and no output."])


def _signature(signature: SignatureInfo, inspection: Inspection) -> str:
    of = f", graph {signature.graph}" if len(inspection.graphs) > 1 else ""
    return f"Signature {signature.key}: {', '.join(signature.inputs)} -> {', '.join(signature.outputs)}{of}"


def _tensor(tensor: TensorInfo) -> str:
    quantized = "" if tensor.scale is None else f", scale {tensor.scale:.7g}, zero point {tensor.zero_point}"
    if tensor.channels:
        quantized = f", {tensor.channels} scales, one per channel"
    return f"{tensor.name} {tensor.dtype} {tensor.shape}{quantized}"


def _computes(inspection: Inspection) -> str:
    words = ARITHMETIC.get(inspection.arithmetic) or f"in floats, with {inspection.arithmetic}"
    lines = [f"Computes {words}."] if inspection.arithmetic else []
    if inspection.float_ops is not None:
        lines = [f"Computes {words}; {'float ops:' if inspection.float_ops else 'no float op.'}"]
        lines += [f"  {op.count:>3}  {op.name}, first at {op.first}" for op in inspection.float_ops]
    if weights := inspection.weights:
        lines.append(
            f"Weights of {count_of(weights.layers, 'convolution')} and dense layers: {weights.zeros:.1%} zeros; "
            f"at most {weights.clusters:,} values per layer, {weights.clusters_of_output:,} per output."
        )
    if inspection.custom_ops:
        lines.append(f"Needs a runtime with {', '.join(inspection.custom_ops)}, which plain LiteRT does not have.")
    return "\n".join(lines)


def _ops(graph: GraphInfo, index: int, graphs: int) -> str:
    ops, kinds = sum(op.count for op in graph.ops), len({op.name for op in graph.ops})
    of = f"Graph {index}{graph.name and f' {graph.name}'}: " if graphs > 1 else ""
    width = max((len(op.name) for op in graph.ops), default=0)
    return "\n".join(
        [f"{of}{ops} ops of {kinds} kinds", *(f"  {op.count:>3}  {op.name:<{width}}  {op.types}" for op in graph.ops)]
    )


def _metadata(inspection: Inspection) -> str:
    metadata = inspection.tflite_metadata
    if metadata is None and not inspection.kd2mobile:
        return "No TensorFlow Lite Metadata."
    lines = []
    if metadata:
        texts = {
            "name": metadata.name,
            "version": metadata.version,
            "author": metadata.author,
            "license": metadata.license,
        }
        lines = [f"Metadata: {', '.join(f'{field} {text}' for field, text in texts.items() if text) or 'no name'}"]
        lines += [f"  {metadata.description}"] * bool(metadata.description)
        if metadata.mean and metadata.std:
            lines.append(f"  input: (pixel - {_channels(metadata.mean)}) / {_channels(metadata.std)}")
    if own := inspection.kd2mobile:
        words = [own.precision, own.compression if own.compression != "none" else None, f"resize {own.resize}"]
        lines.append(f"Made by kd2mobile: {', '.join(word for word in (own.model, *words) if word)}")
        lines.append(f"  student {own.student_fingerprint}")
    return "\n".join(lines)


def _channels(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _labels(inspection: Inspection) -> str:
    if not inspection.labels:
        return "No labels."
    return f"{count_of(len(inspection.labels), 'label')}: {listed(map(one_line, inspection.labels), MOST_LABELS)}"


def record_text(inspection: Inspection) -> str:
    """How the file came to be and what was measured of it, a line each."""
    lines = []
    if inspection.record:
        content = inspection.record.content
        content = content.get("results") or content.get("export") or content
        lines.append(f"Record: {inspection.record.path}")
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
    if inspection.benchmark:
        content = inspection.benchmark.content
        lines.append(f"Measured: {inspection.benchmark.path}")
        top1 = content.get("top1")
        accuracy = "not evaluated" if top1 is None else f"top-1 {top1:.2%} of {content.get('n', 0):,} images"
        lines.append(f"  {content.get('role', 'file')}: {accuracy}")
        p50 = (content.get("latency_ms") or {}).get("p50")
        if p50 is not None:
            lines.append(f"  p50 {p50:.3f} ms on {content.get('device')}")
    return "\n".join(lines) or "No record next to the file."
