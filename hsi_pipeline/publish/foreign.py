"""Class maps of other programs: which classes they have, and what stands for missing names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import dask.array as da
import numpy as np

from hsi_pipeline.classes import UNLABELLED, ClassScheme, make_scheme
from hsi_pipeline.errors import InputError

_LISTED = 10


def check_codes(path: Path, codes: da.Array) -> None:
    """Refuse pixels that cannot be class codes by their type.

    Raises:
        InputError: They are no whole numbers.
    """
    if codes.dtype.kind not in "iu":
        raise InputError(
            f"{path}: a class map has one band of whole numbers, this raster holds {codes.dtype}; "
            "give the class map, or, if these are its codes, convert it: gdal_translate -ot Byte"
        )


def find_codes(path: Path, codes: da.Array) -> list[int]:
    """Return the class codes that occur, reading all pixels, one Dask chunk at a time.

    Raises:
        InputError: Codes outside 0 to 255.
    """
    present: set[int] = set()
    for block in codes.blocks.ravel():
        present.update(np.unique(block.compute(scheduler="synchronous")).tolist())
    present.discard(UNLABELLED)
    if present and (min(present) < 0 or max(present) > 255):
        raise InputError(
            f"{path}: class codes go from 0 to 255, this raster holds {min(present)} to "
            f"{max(present)}; is it a class map? If so, number its classes anew"
        )
    return sorted(present)


def find_scheme(
    path: Path,
    codes: da.Array,
    names: Mapping[int, str],
    colors: Mapping[int, str],
    say: Callable[[str], None],
) -> ClassScheme:
    """Return the classes that occur, and say what is made up.

    Args:
        path: Where the pixels come from, for messages.
        codes: Class codes (y, x), 0 unlabelled.
        names: Names by code, as far as they are known.
        colors: `#rrggbb` by code, as far as they are known.
        say: Tells the user.

    Raises:
        InputError: Codes outside 0 to 255.
    """
    present = find_codes(path, codes)
    if not present:
        say(f"{path}: all pixels are nodata or 0")
        return make_scheme(
            sorted(code for code in names if code != UNLABELLED) or [1], names, colors
        )
    # GDAL's colour tables say black for codes that were given none
    black = [code for code in present if colors.get(code) == "#000000"]
    if len(black) > 1:
        colors = {code: color for code, color in colors.items() if code not in black}
    repeated = _repeated(names[code] for code in present if code in names)
    if repeated:
        say(f"{path}: several classes have the name {repeated[0]!r}; their codes are added to it")
    for what, known, instead in (
        ("names", names, "they are called 'class 1' and so on after their codes"),
        ("colours", colors, "they get default ones"),
    ):
        missing = [str(code) for code in present if code not in known]
        if missing:
            listed = ", ".join(missing[:_LISTED]) + (" ..." if len(missing) > _LISTED else "")
            say(f"{path}: no {what} for the classes {listed}; {instead}")
    return make_scheme(
        present, _distinct({code: names.get(code, f"class {code}") for code in present}), colors
    )


def _repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _distinct(names: Mapping[int, str]) -> dict[int, str]:
    """Return names by code, with the code where several have the same."""
    repeated = _repeated(names.values())
    return {code: f"{name} {code}" if name in repeated else name for code, name in names.items()}
