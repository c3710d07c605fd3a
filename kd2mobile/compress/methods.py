"""The compressions by name, as chains of methods, and what each cannot do. Loads no framework."""

from typing import Any

from kd2mobile.errors import CompressionError
from kd2mobile.recipe.schema import Compress, Compression

CHAINS: dict[Compression, tuple[str, ...]] = {
    "none": (),
    "qat": ("qat",),
    "prune": ("prune",),
    "cluster": ("cluster",),
    "pcqat": ("prune", "cluster", "qat"),
}
"""pcqat is prune, then cluster that keeps the zeros, then quantization-aware training that keeps zeros and clusters.
Source: TensorFlow Model Optimization, collaborative optimization."""
VERSIONS = {"qat": 2, "prune": 1, "cluster": 1}
"""Of what each method makes: a new number where the same settings give another student."""
GRAPH_FOLDER = "fake_quantized"
"""The SavedModel that qat leaves beside its student.keras, for the int8 file."""

_NO_END = "its last method used more than 13 GB and 10 minutes without ending"
REFUSED: dict[tuple[str, Compression], str] = {
    ("mobilenetv2", "pcqat"): _NO_END,
}
"""The students, by the beginning of their names, that a compression was tried on and failed, with what was seen."""


def check_compression(student: str, compression: Compression) -> None:
    """Raises CompressionError for a pair of student and compression that is known not to work, with the reason."""
    for (family, refused), reason in REFUSED.items():
        if student.startswith(family) and compression == refused:
            raise CompressionError(
                f"export.compressions, {compression}",
                f"must be a compression that {student} supports",
                reason,
                "Leave it out with --compress, or distil another student.",
            )


def method_settings(compress: Compress, method: str) -> dict[str, Any]:
    """What of the recipe's [compress] can change what a method makes."""
    of_method = {"prune": ("sparsity", "sparsity_pattern"), "cluster": ("clusters",)}.get(method, ())
    return {name: getattr(compress, name) for name in ("epochs", "learning_rate", *of_method)}
