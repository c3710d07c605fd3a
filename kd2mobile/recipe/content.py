"""How a field that names a file stands in a fingerprint: as the file's content, so that its path does not count."""

from pathlib import Path

from kd2mobile.files import sha256_of
from kd2mobile.recipe.compose import weights_file


def content_of(file: Path) -> str:
    """`sha256:...` of the file's bytes."""
    return f"sha256:{sha256_of(file)}"


def weights_content(field: str, weights: str) -> str:
    """`imagenet` or `none` as it stands, a weights file as its content. field: the dotted name of the field.

    Raises WeightsError for anything else.
    """
    file = weights_file(field, weights)
    return content_of(file) if file else weights
