"""EMIT's mask files: clouds, water and what else hides the ground, as quality flags.

Bands are found by their names, since versions have different ones: those of SpecTf, a newer cloud
detection, were added by version 2. Aerosol, water vapour, probabilities, distances and the
aggregate of all flags are left aside.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import file_stamp, full_path, is_remote
from hsi_pipeline.scene.hdf5 import HdfPart, HdfPixels, dataset_of, hdf5_file, small
from hsi_pipeline.scene.lookup import LookupPixels, LookupTable
from hsi_pipeline.scene.places import folder_of
from hsi_pipeline.scene.quality import FLAGS, bit, check_quality_size
from hsi_pipeline.scene.source import Pixels

_SCENE = re.compile(r"EMIT_L(?:2A_RFL|1B_RAD)_(\d+)_(\d{8}T\d{6}_\d+_\d+)\.nc", re.IGNORECASE)
_NODATA = -9999.0
_MEANING = {
    "cloud flag": "cloud",
    "spectf-cloud flag": "cloud",
    "cirrus flag": "cirrus",
    "dilated cloud flag": "cloud_edge",
    "water flag": "water",
    "spacecraft flag": "invalid",  # a part of the station is seen instead of the ground
}


@dataclass(frozen=True)
class MaskBands:
    """Flags of a mask file; see `QualityBits`. Pixels that show nothing are invalid."""

    pixels: Pixels
    """Bands of the mask, 1 where a flag is set."""
    meaning: tuple[str, ...]
    """Flag of each band, "" for those left aside."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Names in `FLAGS` that the file tells about."""
        return tuple(name for name in FLAGS if name in (*self.meaning, "invalid"))

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x), that of the scene."""
        _, height, width = self.pixels.shape
        return height, width

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the bits of a window, uint16 (y, x)."""
        used = [band for band, flag in enumerate(self.meaning) if flag]
        planes = self.pixels[slice(used[0], used[-1] + 1), rows, columns]
        found = np.zeros(planes.shape[1:], np.uint16)
        for band in used:
            plane = planes[band - used[0]]
            found[plane > 0] |= bit(self.meaning[band])
            found[~(plane >= 0)] |= bit("invalid")
        return found


def find_mask(path: str) -> str | None:
    """Find the mask of a scene beside it, of the same version if there is one, else the newest.

    Args:
        path: File or address of the scene; of an address only the same version is looked for.
    """
    place, name = folder_of(path)
    scene = _SCENE.fullmatch(name)
    if scene is None:
        return None
    version, rest = scene.groups()
    same = f"EMIT_L2A_MASK_{version}_{rest}.nc"
    if is_remote(path):
        return place.opened(same) if place.begins(same, b"\x89HDF") else None
    pattern = re.compile(rf"EMIT_L2A_MASK_\d+_{rest}\.nc", re.IGNORECASE)
    names = sorted(entry for entry in os.listdir(place.root) if pattern.fullmatch(entry))
    if not names:
        return None
    return os.path.join(place.root, same if same in names else names[-1])


def read_mask(path: str, table: LookupTable | None, size: Sequence[int]) -> MaskBands:
    """Open a mask file.

    Args:
        path: The file.
        table: The scene's lookup table; None: as the sensor saw it.
        size: Rows and columns of the scene's image.

    Raises:
        InputError: The file is damaged, or does not fit the scene.
    """
    file, stamp = full_path(path), file_stamp(path)
    with hdf5_file(file, stamp) as opened:
        mask = dataset_of(opened, "mask", 3, ["<f4", ">f4"])
        check_quality_size(path, "mask", mask.shape[:2], size)
        names = _names(opened)
        if len(names) != mask.shape[2]:
            raise InputError(f"{path}: {mask.shape[2]} mask bands but {len(names)} names of them")
        meaning = tuple(_MEANING.get(name, "") for name in names)
        if not any(meaning):
            raise InputError(f"{path}: none of the mask bands is known: {', '.join(names)}")
        count, dtype = len(names), np.dtype(np.float32)
        if table is not None:
            return MaskBands(
                LookupPixels(file, stamp, "mask", table, count, dtype, _NODATA), meaning
            )
        part = HdfPart("mask", "yxb", tuple(range(count)))
        return MaskBands(HdfPixels(file, stamp, (part,), (count, *mask.shape[:2]), dtype), meaning)


def _names(file: h5py.File) -> list[str]:
    """Return the names of the mask's bands in lower case, with single spaces."""
    found = small(file["sensor_band_parameters/mask_bands"])
    texts = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in found)
    return [" ".join(str(text).lower().split()) for text in texts]
