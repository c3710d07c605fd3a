"""What a file takes of a download."""

import zlib


def deflated_size(data: bytes) -> int:
    """Bytes of the data as an entry of a ZIP, without the entry's own head: what an app's download grows by.

    >>> deflated_size(bytes(1000))
    11
    """
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(deflate.compress(data)) + len(deflate.flush())
