"""What a product says about the quality of its pixels, in words that all sensors share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.source import Pixels
from hsi_pipeline.scene.windows import Key, read_key

_BLOCK_PIXELS = 2**24

FLAGS: dict[str, str] = {
    "cloud": "opaque cloud",
    "cloud_shadow": "shadow of a cloud",
    "cirrus": "cirrus, thin to thick",
    "cloud_edge": "near a cloud",
    "haze": "haze",
    "snow": "snow or ice",
    "water": "water",
    "saturated": "saturated in some band",
    "invalid": "no data, background, or not measured",
    "low_quality": "measured, but interpolated, an artefact, or of doubtful value",
}
"""Names of flags in the order of their bits, and what they mean."""

MASKS: dict[str, tuple[str, ...]] = {
    "none": (),
    "default": ("cloud", "cloud_shadow", "saturated", "invalid"),
    "strict": tuple(name for name in FLAGS if name != "water"),
}
"""Which flags become nodata, by the name of the mask."""


def bit(flag: str) -> int:
    """Return the bit of a flag's name, as a number such as 1, 2, 4."""
    return 1 << list(FLAGS).index(flag)


class QualityBits(Protocol):
    """Flags of a scene's pixels, read by windows; picklable like `Pixels`."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Names in `FLAGS` that the product tells about."""

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x), that of the scene."""

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the bits (`bit`) of each pixel of a window, uint16 (y, x).

        Args:
            rows: With start and stop inside the scene, step 1.
            columns: Likewise.

        Raises:
            InputError: The window cannot be read.
        """


@dataclass(frozen=True)
class QualityLayer:
    """A plane of a product, or one for each band, that says something about each pixel."""

    pixels: Pixels
    """Where it is, (band, y, x)."""
    band: int | None = 0
    """Which of the bands; None: a pixel has a flag if any of them says so."""
    values: tuple[tuple[int, str], ...] = ()
    """Values of the plane and the flags they mean."""
    bits: tuple[tuple[int, str], ...] = ()
    """Bits of the plane's values, as numbers such as 1, 2, 4, and the flags they mean."""


@dataclass(frozen=True)
class QualityLayers:
    """Flags from several planes; see `QualityBits`."""

    layers: tuple[QualityLayer, ...]
    """The planes, all on the scene's grid."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Names in `FLAGS` that the planes tell about, in the order of `FLAGS`."""
        told = {flag for layer in self.layers for _, flag in (*layer.values, *layer.bits)}
        return tuple(name for name in FLAGS if name in told)

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        _, height, width = self.layers[0].pixels.shape
        return height, width

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the bits of a window, uint16 (y, x)."""
        found = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint16)
        for layer in self.layers:
            bands = slice(None) if layer.band is None else slice(layer.band, layer.band + 1)
            planes = layer.pixels[bands, rows, columns]
            for value, flag in layer.values:
                found[(planes == value).any(axis=0)] |= bit(flag)
            for mask, flag in layer.bits:
                found[(planes.astype(np.int64) & mask).any(axis=0)] |= bit(flag)
        return found


def check_quality_size(path: str, name: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    """Check that a quality layer has the size of the scene.

    Args:
        path: The product, for messages.
        name: Of the layer.
        found: Its (y, x).
        wanted: The scene's (y, x).

    Raises:
        InputError: It has not.
    """
    if tuple(found) != tuple(wanted):
        raise InputError(
            f"{path}: the quality layer {name} has {found[0]} x {found[1]} pixels, the image "
            f"{wanted[0]} x {wanted[1]}; the product is damaged, download it again"
        )


def flags_of_mask(mask: str) -> tuple[str, ...]:
    """Return the flags that a mask turns to nodata.

    Args:
        mask: A name of `MASKS`, or names of `FLAGS` with commas between.

    Raises:
        InputError: A name is not known.
    """
    if mask in MASKS:
        return MASKS[mask]
    names = tuple(name.strip() for name in mask.split(","))
    unknown = [name for name in names if name not in FLAGS]
    if unknown:
        raise InputError(
            f"mask {unknown[0]!r} is not known; use {', '.join(MASKS)}, or some of "
            f"{', '.join(FLAGS)} with commas between"
        )
    return names


def check_flags(path: str, quality: QualityBits | None, flags: Sequence[str]) -> None:
    """Refuse flags that were asked for by name and that a product does not have.

    Raises:
        InputError: Says which it has.
    """
    there = () if quality is None else quality.flags
    missing = [name for name in flags if name not in there]
    if missing:
        raise InputError(
            f"{path} has no quality flag {', '.join(missing)}; "
            + (f"it has {', '.join(there)}" if there else "it has no quality layers at all")
        )


def mask_value(dtype: np.dtype, nodata: float | None) -> float:
    """Return the digital number that stands for masked pixels.

    It is the scene's nodata value where there is one that the type can hold, else NaN, or of
    integers the end of the range where no measurement lies: the lowest of signed ones, the highest
    of unsigned ones.
    """
    if dtype.kind == "f":
        return np.nan if nodata is None else nodata
    info = np.iinfo(dtype)
    if nodata is not None and float(nodata).is_integer() and info.min <= nodata <= info.max:
        return nodata
    return float(info.min if dtype.kind == "i" else info.max)


@dataclass(frozen=True)
class MaskedPixels:
    """Digital numbers with the nodata value in every band of a flagged pixel; see `Pixels`."""

    pixels: Pixels
    """The scene's own."""
    quality: QualityBits
    """Its flags."""
    bits: int
    """Flags that become nodata."""
    nodata: float
    """The value they get."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(band, y, x)."""
        return self.pixels.shape

    @property
    def ndim(self) -> int:
        """Return 3."""
        return 3

    @property
    def dtype(self) -> np.dtype:
        """Type of the digital numbers."""
        return self.pixels.dtype

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window, masked."""
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        first = min(bands)
        window = self.pixels[first : max(bands) + 1, rows, columns]
        if bands != list(range(first, first + len(window))):
            window = window[[band - first for band in bands]]
        masked = (self.quality.read(rows, columns) & self.bits) != 0
        if masked.any():
            window = window if window.flags.writeable else window.copy()
            window[:, masked] = self.nodata
        return window


@dataclass(frozen=True)
class QualityPlane:
    """A scene's flags as a lazy array (y, x), for Dask."""

    quality: QualityBits
    """The flags."""
    dtype = np.dtype(np.uint16)
    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.quality.shape

    def __getitem__(self, key: Key) -> np.ndarray:
        """Read a window, uint16 (y, x)."""

        def read(_: list[int], rows: slice, columns: slice) -> np.ndarray:
            return self.quality.read(rows, columns)[None]

        return read_key((0, *key), (1, *self.shape), self.dtype, read)


def quality_blocks(
    quality: QualityBits, rows: int = 512, most: float = math.inf
) -> Iterator[np.ndarray]:
    """Yield the bits of a scene, some rows at a time, uint16 (y, x).

    Args:
        quality: The flags.
        rows: Rows of a block.
        most: Pixels of all blocks together; of larger scenes evenly spread blocks are left out.
    """
    height, width = quality.shape
    rows = max(min(rows, int(_BLOCK_PIXELS // width)), 1)
    step = max(math.ceil(height * width / most), 1) * rows if most < math.inf else rows
    for top in range(0, height, step):
        yield quality.read(slice(top, min(top + rows, height)), slice(0, width))


def flag_shares(
    quality: QualityBits, flags: Sequence[str], most: float = math.inf
) -> dict[str, float]:
    """Return the share of a scene's pixels with each of some flags, and with any (`any`).

    Pixels beyond the edge of the swath count too; with `most`, about so many pixels at most are
    looked at.
    """
    wanted = {name: bit(name) for name in flags}
    wanted["any"] = sum(wanted.values())
    counts = dict.fromkeys(wanted, 0)
    seen = 0
    for bits in quality_blocks(quality, most=most):
        seen += bits.size
        for name, value in wanted.items():
            counts[name] += int(np.count_nonzero(bits & value))
    return {name: count / max(seen, 1) for name, count in counts.items()}
