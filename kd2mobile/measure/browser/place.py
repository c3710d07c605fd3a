"""Where the page is served: what stands behind `browser:`."""

from typing import Annotated
from urllib.parse import parse_qsl, urlencode

import msgspec
from msgspec import Meta

from kd2mobile.errors import RecipeError, UnknownNameError

_FORM = "Write it as browser:lan=true&port=8000, or use --lan and --port."


class Place(msgspec.Struct, frozen=True):
    """Where the page is served, the `address` of this device as a query: `lan=true&port=8000`.

    lan: to other machines too. port: 0 takes any free one. certificate, key: PEM files, for https. open: in this
    host's own browser.
    """

    lan: bool = False
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    certificate: str | None = None
    key: str | None = None
    open: bool = True

    def address(self) -> str:
        """It as the words behind `browser:`; none if all is as by default."""
        said = {name: value for name, value in msgspec.to_builtins(self).items() if value != getattr(Place(), name)}
        return urlencode(
            {name: str(value).lower() if isinstance(value, bool) else value for name, value in said.items()}
        )


def place_of(address: str) -> Place:
    """The place that an address says, all by default for an empty one. Raises RecipeError.

    >>> place_of("lan=true&port=8000").port
    8000
    """
    said = dict(parse_qsl(address, keep_blank_values=True))
    known = list(Place.__struct_fields__)
    if unknown := [name for name in said if name not in known]:
        raise UnknownNameError("--device browser", unknown[0], known, see="kd2mobile benchmark --help")
    try:
        place = msgspec.convert(said, Place, strict=False)
    except msgspec.ValidationError as fault:
        raise RecipeError("--device browser", "must have valid settings", f"{address}: {fault}", _FORM) from fault
    if (place.certificate is None) != (place.key is None):
        raise RecipeError("--tls", "must be a certificate and its key", "one of them", "Give both files.")
    return place
