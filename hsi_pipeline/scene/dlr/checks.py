"""Whether an image lies where its metadata and its quality layers say."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.io import DatasetReader

from hsi_pipeline.errors import InputError

_MOST_OFF = 10.0  # pixels that corners may lie off a small image
_UTM = re.compile(r"utm_zone_?(\d{1,2})_(north|south)", re.IGNORECASE)


def check_corners(
    image: str, grid: GeoBox, corners: Sequence[tuple[float, float]], slack: float
) -> None:
    """Check that an image spans its footprint.

    Corners of the footprint are those of the sensor's frame, rotated inside the north-up image,
    of which they touch the edges within a few pixels (heights of the terrain move them).

    Args:
        image: The image, for messages.
        grid: Its grid.
        corners: Longitude and latitude of each corner as the metadata say, in degrees.
        slack: Share of the image's longer side that corners may lie off.

    Raises:
        InputError: It lies elsewhere.
    """
    if grid.crs is None or not corners:
        return
    longitudes, latitudes = np.array(corners, float).T
    if grid.crs.geographic:  # longitudes mean the same after a full turn
        middle = (grid.affine @ (grid.width / 2, grid.height / 2))[0]
        longitudes = longitudes - 360 * np.round((longitudes - middle) / 360)
    try:
        to_grid = Transformer.from_crs(4326, grid.crs.to_wkt(), always_xy=True)
    except ProjError as error:
        raise InputError(
            f"{image} has a CRS that cannot be used ({error}); it is damaged"
        ) from error
    x, y = to_grid.transform(longitudes, latitudes)
    columns, rows = ~grid.affine @ (np.asarray(x), np.asarray(y))
    most = max(_MOST_OFF, slack * max(grid.shape))
    off = np.abs([min(columns), max(columns) - grid.width, min(rows), max(rows) - grid.height])
    if not (off <= most).all():
        raise InputError(
            f"{image} does not lie where its metadata say: edges of the footprint are "
            f"{', '.join(f'{value:.4g}' for value in off)} pixels off (left, right, top, bottom), "
            f"expected {most:g} at most; one of them is damaged or of another product"
        )


def check_projection(image: str, grid: GeoBox, projection: str, pixel_size: float | None) -> None:
    """Check an image's projection and pixel size.

    Args:
        image: The image, for messages.
        grid: Its grid.
        projection: As the metadata say: UTM_Zone32_North and the like, or "UTM", which means any
            zone if it is projected; other names are not understood.
        pixel_size: In the unit of the projection, None where the metadata do not say.

    Raises:
        InputError: They are others than the metadata say.
    """
    if grid.crs is None:
        return
    if named := _UTM.search(projection):
        wanted = (32600 if named[2].lower() == "north" else 32700) + int(named[1])
        if grid.crs.epsg != wanted:
            found = f"EPSG:{grid.crs.epsg}" if grid.crs.epsg else "another CRS"
            raise InputError(
                f"{image} is in {found}, its metadata say {projection} (EPSG:{wanted}); one of "
                "them is damaged or of another product"
            )
    zones = {*range(32601, 32661), *range(32701, 32761)}
    if projection == "UTM" and grid.crs.projected and grid.crs.epsg not in zones:
        raise InputError(
            f"{image} is projected in {grid.crs.epsg or 'another CRS'}, expected a UTM zone of WGS "
            "84; it is damaged or was written anew"
        )
    if grid.crs.projected and pixel_size:
        found_size = (abs(grid.resolution.x), abs(grid.resolution.y))
        if not np.allclose(found_size, pixel_size, rtol=1e-4):
            raise InputError(
                f"{image} has pixels of {found_size[0]:g} x {found_size[1]:g}, its metadata say "
                f"{pixel_size:g}; one of them is damaged or of another product"
            )


def check_same_place(image: str, name: str, raster: DatasetReader, layer: DatasetReader) -> None:
    """Check that a quality layer lies on an image's pixels.

    Args:
        image: The image, for messages.
        name: Of the layer.
        raster: The image.
        layer: The layer, of the same size.

    Raises:
        InputError: It lies elsewhere. One without georeference is taken to fit.
    """
    if layer.crs is None or layer.transform.is_identity or raster.crs is None:
        return
    there = layer.crs == raster.crs or layer.crs.to_epsg() == raster.crs.to_epsg()
    corners = ((0, 0), (raster.width, 0), (0, raster.height))
    to_image = ~raster.transform @ layer.transform
    if not there or not np.allclose([to_image @ corner for corner in corners], corners, atol=0.01):
        raise InputError(
            f"{image} and the quality layer {name} lie at different places "
            f"({_place(raster)} and {_place(layer)}); one of them is damaged, download them again"
        )


def _place(raster: DatasetReader) -> str:
    code = raster.crs.to_epsg()
    transform = raster.transform
    named = f"EPSG:{code}" if code else "a CRS without EPSG code"
    return f"x {transform.c:.10g}, y {transform.f:.10g}, pixels of {transform.a:.10g} in {named}"
