"""Bands of PRISMA's two detectors, whose cubes lie side by side in a product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.hdf5 import HdfPart, HdfPixels, attribute, dataset_of, number, spectrum
from hsi_pipeline.scene.windows import Key, read_key
from hsi_pipeline.wavelengths import Wavelengths

# Cubes are (rows, bands, columns). Rows of L2D run from north to south and columns from west to
# east, which `Geolocation.check_grid` holds against the latitude and longitude of pixels. Rows of
# the other levels run across the track (L2C of a real product is turned by 90 degrees, not
# mirrored); they stay as stored, as in SNAP and the EnMAP-Box.
AXES = "ybx"
_DN_MAX = 65535
_VISIBLE_NM = (490.0, 560.0, 660.0)


@dataclass(frozen=True)
class Detector:
    """The bands of one detector that were delivered."""

    part: HdfPart
    """Where they are."""
    size: tuple[int, int]
    """(y, x)."""
    wavelengths: Wavelengths
    """As stored, descending."""
    bands: tuple[str, ...]
    """Their names, such as "VNIR 4": the fourth that is stored."""
    scale: float
    """From digital numbers to reflectance, or to W m-2 sr-1 um-1."""
    offset: float
    """Added after scaling."""


@dataclass(frozen=True)
class FootprintPixels:
    """Windows of L2D in which zero means beyond the swath and nothing else; see `Pixels`.

    The product has zeros there, and zeros too where a dark surface came out negative in a band: as
    nodata these would tear holes into every lake, so they become 1, the next digital number. No
    surface is black in blue, green and red alike, by which the swath is told.
    """

    pixels: HdfPixels
    """The cubes."""
    visible: tuple[int, ...]
    """Zero-based bands that are all zero beyond the swath, and there alone."""

    @property
    def shape(self) -> tuple[int, int, int]:
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
        """Read a window: digital numbers (band, y, x), zero beyond the swath."""
        return read_key(key, self.shape, self.dtype, self._read)

    def _read(self, bands: list[int], rows: slice, columns: slice) -> np.ndarray:
        window = self.pixels.read(bands, rows, columns)
        if window.min() == 0:
            within = self.pixels.read(list(self.visible), rows, columns).any(0)
            np.maximum(window, within, out=window)
        return window


def within_swath(pixels: HdfPixels, wavelengths: Wavelengths) -> FootprintPixels:
    """Return pixels that know the swath's edge, by bands in blue, green and red."""
    centers = np.array(wavelengths.center_nm)
    visible = {int(np.abs(centers - nm).argmin()) for nm in _VISIBLE_NM}
    return FootprintPixels(pixels, tuple(sorted(visible)))


def joined(detectors: Sequence[Detector]) -> dict[str, Any]:
    """Return what `SceneSource` keeps of the bands of all detectors."""
    names = tuple(band for d in detectors for band in d.bands)
    return {
        "wavelengths": Wavelengths(
            tuple(nm for d in detectors for nm in d.wavelengths.center_nm),
            tuple(nm for d in detectors for nm in d.wavelengths.fwhm_nm),
        ),
        "good": (True,) * len(names),
        "band_names": names,
        "scale": tuple(d.scale for d in detectors for _ in d.bands),
        "offset": tuple(d.offset for d in detectors for _ in d.bands),
    }


def fields_of(level: str) -> str:
    """Return the group of a level's hyperspectral images."""
    return f"HDFEOS/SWATHS/PRS_{level}_HCO/Data Fields"


def detector_of(file: h5py.File, path: str, level: str, name: str) -> Detector:
    """Find out which bands of a detector were delivered, and what they mean.

    Args:
        file: The open file.
        path: The product, for messages.
        level: Such as "L2D".
        name: "Vnir" or "Swir".

    Raises:
        InputError: Cube and lists do not fit each other, or are not plausible.
    """
    cube = dataset_of(file, f"{fields_of(level)}/{name.upper()}_Cube", 3, ["<u2"])
    stored, centers, widths = _delivered(file, path, name, cube.shape[1])
    scale, offset = _scale_offset(file, path, level, name)
    return Detector(
        part=HdfPart(cube.name, AXES, tuple(stored.tolist())),
        size=(cube.shape[0], cube.shape[2]),
        wavelengths=spectrum(path, centers.tolist(), widths.tolist(), "nm"),
        bands=tuple(f"{name.upper()} {band + 1}" for band in stored),
        scale=scale,
        offset=offset,
    )


def _delivered(
    file: h5py.File, path: str, name: str, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return numbers, centres and widths of a detector's bands; those not delivered are at 0 nm."""
    lists = {}
    for kind in ("Cw", "Fwhm"):
        lists[kind] = np.atleast_1d(attribute(file, f"List_{kind}_{name}")).astype(float)
    delivered = lists["Cw"] != 0
    flagged = file.attrs.get(f"List_Cw_{name}_Flags")
    for kind, values in {**lists, "Cw flags": delivered if flagged is None else flagged}.items():
        if np.shape(values) != (count,):
            raise InputError(
                f"{path}: the list of {kind} of {name} has {np.size(values)} values, the cube "
                f"{count} bands; the product is damaged"
            )
    if flagged is not None and not np.array_equal(np.asarray(flagged) != 0, delivered):
        raise InputError(
            f"{path}: wavelengths and flags of {name} disagree on which bands were delivered; "
            "the product is damaged"
        )
    stored = np.flatnonzero(delivered)
    if not stored.size:
        raise InputError(f"{path}: no band of {name} was delivered")
    return stored, lists["Cw"][stored], lists["Fwhm"][stored]


def _scale_offset(file: h5py.File, path: str, level: str, name: str) -> tuple[float, float]:
    """Return scale and offset from digital numbers to reflectance, or W m-2 sr-1 um-1."""
    if level == "L1":
        factor = number(file, f"ScaleFactor_{name}")
        if not factor > 0:
            raise InputError(f"{path}: ScaleFactor_{name} is {factor:g}, not positive")
        return 1.0 / factor, -number(file, f"Offset_{name}")
    low, high = number(file, f"L2Scale{name}Min"), number(file, f"L2Scale{name}Max")
    if not low < high:
        raise InputError(f"{path}: L2Scale{name}Min is {low:g}, not below its Max {high:g}")
    return (high - low) / _DN_MAX, low
