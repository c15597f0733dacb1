"""Class maps for tests of polygons, and rasters to draw them from."""

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.xr import xr_coords
from rasterio.features import rasterize
from scipy import ndimage

from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.cube import pixel_grid
from hsi_pipeline.polygons import polygonize

SCHEME = make_scheme([1, 2, 3], {1: "roof", 2: "tree", 3: "water"})
UTM = Affine(10, 0, 400_000, 0, -10, 5_800_000)


def rasters(largest=9, codes=3):
    """Return a strategy for rasters of codes, 0 included, from one pixel on."""
    return st.tuples(st.integers(1, largest), st.integers(1, largest)).flatmap(
        lambda size: arrays(np.uint8, size, elements=st.integers(0, codes))
    )


def make_map(codes, grid=None, confidence=None, probability=None, chunks=4, attrs=None):
    codes = np.asarray(codes, np.uint8)
    grid = grid or pixel_grid(*codes.shape)
    pixels = {"class": (("y", "x"), da.from_array(codes, chunks=chunks), scheme_to_attrs(SCHEME))}
    coords = dict(xr_coords(grid, dims=("y", "x")))
    if confidence is not None:
        values = np.asarray(confidence, np.float32)
        pixels["confidence"] = (("y", "x"), da.from_array(values, chunks=chunks))
    if probability is not None:
        values = np.asarray(probability, np.float32)
        pixels["probability"] = (("category", "y", "x"), da.from_array(values, chunks=chunks))
        coords["category"] = list(SCHEME.names)
    return xr.Dataset(pixels, coords=coords, attrs=attrs or {})


def whole(class_map, **options):
    """Return all polygons of a map as one frame, in the order of their first pixels."""
    return pd.concat(list(polygonize(class_map, **options))).sort_index()


def burn(polygons, size, grid=None, column="code"):
    """Return polygons as a raster."""
    grid = grid or pixel_grid(*size)
    pairs = list(zip(polygons.geometry, polygons[column], strict=True))
    if not pairs:
        return np.zeros(size, np.uint8)
    return rasterize(pairs, out_shape=size, transform=grid.transform, dtype="uint8")


def patches(side, *, classes=3, grain=3.0, seed=0):
    """Return a raster of patches as land cover has them."""
    rng = np.random.default_rng(seed)
    fields = [
        ndimage.gaussian_filter(rng.standard_normal((side, side)), grain) for _ in range(classes)
    ]
    return (np.argmax(fields, axis=0) + 1).astype(np.uint8)
