"""The size of a file in a download."""

import zlib


def deflated_size(data: bytes) -> int:
    """Bytes of the deflated data, as an entry of a ZIP without its header: the growth of an app's download.

    >>> deflated_size(bytes(1000))
    11
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(deflate.compress(data)) + len(deflate.flush())
