"""The classes of a map: codes, names, colours, and the order the model uses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hsi_pipeline.errors import InputError

UNLABELLED = 0
"""The raster code of pixels without a label, and of nodata in class maps."""

# Distinct at map scale and for the common colour-vision deficiencies as far as 20 colours can
# be: Paul Tol's "muted" and "bright" schemes (2021), interleaved.
_PALETTE = (
    "#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933",
    "#aa4499", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb",
    "#e69f00", "#56b4e9", "#009e73", "#d55e00",
)  # fmt: skip
_COLOR = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True)
class Category:
    """One land-cover class."""

    code: int
    """Raster code, 1 to 255; 0 is unlabelled."""
    name: str
    """Name shown in legends."""
    color: str
    """`#rrggbb`, lower case."""

    def __post_init__(self) -> None:
        """Refuse codes outside 1..255, empty names and malformed colours."""
        if not 1 <= self.code <= 255:
            raise InputError(f"class code {self.code} is outside 1 to 255 (0 is unlabelled)")
        if not self.name:
            raise InputError(f"class {self.code} has an empty name")
        if not _COLOR.fullmatch(self.color):
            raise InputError(f"color {self.color!r} of class {self.code} is not #rrggbb")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        value = int(self.color[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255


@dataclass(frozen=True)
class ClassScheme:
    """The classes of a map, in code order; position is the model's output index."""

    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        """Refuse empty, unsorted or repeated codes and repeated names."""
        if not self.categories:
            raise InputError("there are no classes")
        if any(a >= b for a, b in zip(self.codes, self.codes[1:], strict=False)):
            raise InputError(f"class codes {self.codes} are not ascending and unique")
        repeated = sorted({n for n in self.names if self.names.count(n) > 1})
        if repeated:
            raise InputError(f"class name {repeated[0]!r} stands for more than one code")

    @property
    def codes(self) -> tuple[int, ...]:
        """Raster codes in model order."""
        return tuple(category.code for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in model order."""
        return tuple(category.name for category in self.categories)

    @property
    def colors(self) -> tuple[str, ...]:
        """Colours in model order."""
        return tuple(category.color for category in self.categories)

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.categories)

    @property
    def index_of_code(self) -> dict[int, int]:
        """Model index of each raster code."""
        return {code: index for index, code in enumerate(self.codes)}


def default_color(position: int) -> str:
    """Return the colour of the class at a position (from 0) in a scheme without colours."""
    return _PALETTE[position % len(_PALETTE)]


def make_scheme(
    codes: Sequence[int],
    names: Mapping[int, str] | None = None,
    colors: Mapping[int, str] | None = None,
) -> ClassScheme:
    """Make a scheme of codes, with default names (`class 7`) and colours where none are given.

    Args:
        codes: Raster codes in any order, repeats allowed.
        names: Names by code.
        colors: `#rrggbb` by code, any case.

    Returns:
        The scheme in ascending code order.

    Raises:
        InputError: As `Category` and `ClassScheme`.
    """
    return ClassScheme(
        tuple(
            Category(
                code=code,
                name=(names or {}).get(code, f"class {code}"),
                color=(colors or {}).get(code, default_color(position)).lower(),
            )
            for position, code in enumerate(sorted(set(codes)))
        )
    )


def scheme_to_attrs(scheme: ClassScheme) -> dict[str, list[int] | list[str] | str]:
    """Return the attributes that a class map variable carries (CF flags, plus exact names).

    CF joins `flag_meanings` with blanks, so names lose theirs there; `class_names` keeps them.
    """
    return {
        "flag_values": list(scheme.codes),
        "flag_meanings": " ".join(re.sub(r"[^\w.+@-]", "_", name) for name in scheme.names),
        "flag_colors": " ".join(scheme.colors),
        "class_names": list(scheme.names),
    }


def scheme_from_attrs(attrs: Mapping[str, object]) -> ClassScheme:
    """Read the attributes of a class map variable back.

    Raises:
        InputError: The variable has no `flag_values`, or they are no class codes.
    """
    if "flag_values" not in attrs:
        raise InputError("the class map has no flag_values; was it made by 'classify'?")
    try:
        codes = _listed(attrs["flag_values"], int)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the class map's flag_values {str(attrs['flag_values'])[:60]!r} are no class codes"
        ) from error
    names = _listed(attrs.get("class_names", attrs.get("flag_meanings", "")), str)
    colors = _listed(attrs.get("flag_colors", ""), str)
    return make_scheme(
        codes, dict(zip(codes, names, strict=False)), dict(zip(codes, colors, strict=False))
    )


def _listed(value: object, kind: type) -> list:
    """Return an attribute as a list, whether a program stored it as list, text or one number."""
    if isinstance(value, str):
        value = value.split()
    elif not hasattr(value, "__iter__"):
        value = [value]
    if kind is int and any(isinstance(item, float) and item != int(item) for item in value):  # type: ignore[attr-defined]
        raise ValueError("not whole")
    return [kind(item) for item in value]  # type: ignore[attr-defined]
