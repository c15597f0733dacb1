"""Latitude and longitude of each pixel, as products hold them that lie as the sensor saw them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import h5py
import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.hdf5 import dataset_of, file_name

_METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class Geolocation:
    """Where each pixel's centre lies; read while its file is open."""

    latitude: h5py.Dataset
    """Degrees north (y, x)."""
    longitude: h5py.Dataset
    """Degrees east (y, x)."""

    def extent(self) -> str:
        """Return text such as "9.81 to 10.07 E, 53.4 to 53.7 N", "" where nothing is of use."""
        ranges = []
        for dataset, letter, limit in ((self.longitude, "E", 180), (self.latitude, "N", 90)):
            # The outline says it all, and costs little.
            edge = np.concatenate([dataset[0], dataset[-1], dataset[:, 0], dataset[:, -1]])
            edge = edge[np.isfinite(edge) & (np.abs(edge) <= limit) & (edge != 0)]
            if not edge.size:
                return ""
            ranges.append(f"{edge.min():.4g} to {edge.max():.4g} {letter}")
        return ", ".join(ranges)

    def check_grid(self, path: str, grid: GeoBox, tolerance_m: float) -> None:
        """Hold nine pixels against a map grid; those at 0 degrees are outside the swath.

        Args:
            path: The product, for messages.
            grid: As its other metadata have it.
            tolerance_m: Accepted distance in metres.

        Raises:
            InputError: They lie elsewhere.
        """
        to_degrees = Transformer.from_crs(grid.crs.to_epsg(), 4326, always_xy=True)
        rows, columns = (sorted({0, size // 2, size - 1}) for size in grid.shape)
        for row, column in ((row, column) for row in rows for column in columns):
            north, east = float(self.latitude[row, column]), float(self.longitude[row, column])
            if north == 0 or east == 0:
                continue
            x, y = to_degrees.transform(*(grid.affine @ (column + 0.5, row + 0.5)))
            across = ((x - east + 180) % 360 - 180) * math.cos(math.radians(y))
            if not math.hypot(y - north, across) * _METRES_PER_DEGREE < tolerance_m:
                raise InputError(
                    f"{path}: its column {column}, row {row} lies at {north:.6f} N {east:.6f} E by "
                    f"the pixel's latitude and longitude, and at {y:.6f} N {x:.6f} E by the "
                    "corners of the map; the product is damaged, download it again"
                )


def geolocation(
    file: h5py.File, latitude: str, longitude: str, size: tuple[int, ...]
) -> Geolocation:
    """Find a product's latitudes and longitudes.

    Args:
        file: The open file.
        latitude: Path of the dataset.
        longitude: Likewise.
        size: The image's (y, x).

    Raises:
        InputError: They are missing, no numbers, or not of the image's size.
    """
    found = [dataset_of(file, name, 2, ["<f4", "<f8"]) for name in (latitude, longitude)]
    for dataset in found:
        if dataset.shape != size:
            raise InputError(
                f"{file_name(file)}: {dataset.name} has {dataset.shape[0]} x {dataset.shape[1]} "
                f"pixels, the image {size[0]} x {size[1]}; the product is damaged"
            )
    return Geolocation(*found)


def check_not_on_a_grid(
    path: str, kind: str, advice: str, extent: str, *, pixel_coordinates: bool
) -> None:
    """Refuse a product whose pixels lie as the sensor saw them, unless that is asked for.

    Args:
        path: The product.
        kind: What it is, such as "PRISMA L1".
        advice: What to do instead, such as "download level L2D of the same scene".
        extent: As `Geolocation.extent` returns.
        pixel_coordinates: Permits it.

    Raises:
        InputError: It is not permitted.
    """
    if not pixel_coordinates:
        where = f" (extent {extent})" if extent else ""
        raise InputError(
            f"{path} is {kind}, whose pixels lie as the sensor saw them and not on a map grid"
            f"{where}; {advice}, or work in pixel coordinates with --pixel-coordinates"
        )
