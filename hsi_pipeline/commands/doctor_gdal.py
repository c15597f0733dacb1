"""Checks of GDAL and PROJ, of which rasterio, pyogrio and pyproj each bring one of their own."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator

from hsi_pipeline.commands.checks import Finding

_RASTERS = ("GTiff", "COG", "ENVI", "VRT", "JP2OpenJPEG")  # JPEG 2000: EnMAP
_VECTORS = {"GPKG": "w", "FlatGeobuf": "w", "GeoJSON": "w", "ESRI Shapefile": "w"}
_POINT, _EXPECTED = (15.0, 52.0), (500_000.0, 5_761_038.2126)  # EPSG:4326, EPSG:32633
_NEAR = 0.01  # m
_FOREIGN = ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA", "GDAL_DRIVER_PATH")
_ANEW = "pip install --force-reinstall --no-cache-dir rasterio pyogrio pyproj"


def check_gdal() -> Iterator[Finding]:
    """Look for the formats that are read and written."""
    import rasterio

    with rasterio.Env() as environment:
        has = environment.drivers()
    missing = [name for name in _RASTERS if name not in has]
    yield _formats(f"GDAL {rasterio.__gdal_version__} of rasterio {rasterio.__version__}",
                   _RASTERS, missing)  # fmt: skip
    import pyogrio

    able = pyogrio.list_drivers()
    missing = [name for name, mode in _VECTORS.items() if mode not in able.get(name, "")]
    version = ".".join(map(str, pyogrio.__gdal_version__))
    yield _formats(f"GDAL {version} of pyogrio {pyogrio.__version__}", tuple(_VECTORS), missing)


def _formats(library: str, needed: tuple[str, ...], missing: list[str]) -> Finding:
    if missing:
        return Finding("wrong", f"{library} cannot do {', '.join(missing)}", _ANEW)
    return Finding("ok", f"{library}: {', '.join(needed)}")


def check_proj() -> Iterator[Finding]:
    """Transform a point by each PROJ."""
    failed = False
    for name, transform in (("rasterio", _by_rasterio), ("pyproj", _by_pyproj)):
        try:
            found = transform()
        except Exception as error:  # each library has errors of its own
            failed = True
            said = " ".join(str(error).split())
            yield Finding("wrong", f"{name} knows no coordinate systems: {said}", _mend())
            continue
        off = math.dist(found, _EXPECTED)
        if off < _NEAR:
            yield Finding("ok", f"{name} transforms coordinates (EPSG:4326 to EPSG:32633)")
        else:
            failed = True
            yield Finding("wrong", f"{name} transforms coordinates {off:.3g} m off", _mend())
    if not failed and (foreign := _foreign()):
        yield Finding("note", f"{', '.join(foreign)} is set for another program, and does no harm")


def _by_rasterio() -> tuple[float, float]:
    from rasterio.warp import transform

    x, y = transform("EPSG:4326", "EPSG:32633", [_POINT[0]], [_POINT[1]])
    return x[0], y[0]


def _by_pyproj() -> tuple[float, float]:
    from pyproj import Transformer

    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(*_POINT)
    return x, y


def _foreign() -> list[str]:
    """Return variables that lead GDAL and PROJ to files outside this environment."""
    here = os.path.realpath(sys.prefix)
    return [
        f"{name}={os.environ[name]}"
        for name in _FOREIGN
        if os.environ.get(name) and not os.path.realpath(os.environ[name]).startswith(here)
    ]


def _mend() -> str:
    foreign = _foreign()
    if not foreign:
        return _ANEW
    names = " ".join(text.partition("=")[0] for text in foreign)
    way = f"set {names.split()[0]}=" if sys.platform == "win32" else f"unset {names}"
    return (
        f"{', '.join(foreign)} leads to the files of another program (QGIS, OSGeo4W, PostGIS, "
        f"conda); in this terminal: {way}"
    )


def check_postgis() -> Iterator[Finding]:
    """Look whether databases can be spoken to."""
    try:
        import psycopg
    except ImportError as error:
        said = " ".join(str(error).split())
        mend = 'pip install --force-reinstall "psycopg[binary]"'
        yield Finding("wrong", f"PostGIS cannot be written: {said}", mend)
        return
    yield Finding("ok", f"PostGIS by psycopg {psycopg.__version__} ({psycopg.pq.__impl__})")
