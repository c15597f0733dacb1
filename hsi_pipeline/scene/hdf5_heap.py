"""A look at the global heaps of an HDF5 file, where texts of variable length lie.

They have no checksum, and the HDF5 library (2.0 and before) never comes back from a heap that holds
a free object of size 0, as a single wrong bit can make one. So they are looked at before.

Layout: HDF5 File Format Specification 3.0, section III.E (support.hdfgroup.org).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from hsi_pipeline.errors import InputError

_SIGNATURE = b"GCOL\1\0\0\0"
_HEADER = 16  # bytes of a collection's header, and of an object's
_SMALLEST = 4096
_LOOKED_AT = 16 * 2**20  # at both ends of the file: texts are written with the file's frame


def check_heaps(path: str) -> None:
    """Refuse a file with a global heap that cannot be walked.

    Args:
        path: A local file.

    Raises:
        InputError: There is such a heap in the first or last 16 MB.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        for start in {0, max(size - _LOOKED_AT, 0)}:
            file.seek(start)
            if not all(map(_can_be_walked, _collections(file.read(_LOOKED_AT)))):
                raise InputError(f"{path} is damaged: a table of texts in it is; copy it again")


def _collections(content: bytes) -> Iterator[bytes]:
    """Yield the collections that lie whole in a piece of a file."""
    start = content.find(_SIGNATURE)
    while start >= 0:
        size = int.from_bytes(content[start + 8 : start + 16], "little")
        if _SMALLEST <= size <= len(content) - start:
            yield content[start : start + size]
        start = content.find(_SIGNATURE, start + 1)


def _can_be_walked(collection: bytes) -> bool:
    """Tell whether each object of a collection leads to the next one, and the last to its end."""
    place, end = _HEADER, len(collection)
    while end - place >= _HEADER:
        index = int.from_bytes(collection[place : place + 2], "little")
        size = int.from_bytes(collection[place + 8 : place + 16], "little")
        needed = size if index == 0 else _HEADER + -(-size // 8) * 8
        if not _HEADER <= needed <= end - place:
            return False
        place += needed
    return True
