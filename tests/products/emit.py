"""EMIT granules (JPL, LP DAAC): L2A reflectance with and without masks, L1B radiance.

Layout after the EMIT L2A Data Product User Guide and the agency's own writer of these files
(emit-sds/emit-utils): netCDF-4, images (downtrack, crosstrack, bands) float32, fill value -9999;
lookup tables (ortho_y, ortho_x) int32, 1-based, 0 where there is nothing, deflated.
"""

from dataclasses import dataclass

import h5netcdf
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from products import Example, spectra_like

BANDS, LINES, SAMPLES = 9, 23, 17
PIXEL = 0.000542232520256367
WEST, NORTH = -115.9463982, 33.3865592
FILL = -9999.0
WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
    'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,'
    'AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],'
    'AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]]'
)
V1_BANDS = ("Cloud flag", "Cirrus flag", "Water flag", "Spacecraft Flag", "Dilated Cloud Flag",
            "AOD550", "H2O (g cm-2)", "Aggregate Flag")  # fmt: skip
V2_BANDS = (*(name.title() for name in V1_BANDS[:5]), *V1_BANDS[5:], "SpecTf-Cloud Probability",
            "SpecTf-Cloud Flag", "SpecTf-Buffer Distance")  # fmt: skip


@dataclass(frozen=True)
class Swath:
    """A swath across the map grid: what the sensor saw, and where each of its pixels lies."""

    image: np.ndarray  # (line, sample, band), FILL where the sensor failed
    lon: np.ndarray  # (line, sample), pixel centres
    lat: np.ndarray
    source: np.ndarray  # (ortho y, ortho x, 2) line and sample, -1 where the map is empty
    filled: np.ndarray  # (ortho y, ortho x) bool, nearest neighbours, negative in the tables


def make_swath(angle=24.0, seed=1):
    """Lay a rotated swath on the smallest map grid that holds it."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    line, sample = np.mgrid[:LINES, :SAMPLES]
    across = sample * cos - line * sin  # in pixels of the map
    down = sample * sin + line * cos
    across, down = across - across.min() + 0.5, down - down.min() + 0.5
    lon, lat = WEST + across * PIXEL, NORTH - down * PIXEL
    source = np.full((int(np.ceil(down.max())) + 2, int(np.ceil(across.max())) + 1, 2), -1)
    filled = np.zeros(source.shape[:2], bool)
    for y, x in np.ndindex(filled.shape):
        distance = np.hypot(across - (x + 0.5), down - (y + 0.5))
        nearest = np.unravel_index(distance.argmin(), distance.shape)
        if distance[nearest] < 0.72:
            source[y, x] = nearest
            filled[y, x] = distance[nearest] > 0.6
    source[9:11, 12:15] = -1  # a hole inside the swath
    image = spectra_like((BANDS, LINES, SAMPLES), seed).transpose(1, 2, 0).astype("f4")
    image[5, 6:8] = FILL  # lost on board
    return Swath(image, lon, lat, source, filled)


def ortho(plane, swath, empty):
    """Put (line, sample, ...) on the map grid by a loop over its pixels."""
    height, width = swath.source.shape[:2]
    found = np.full((height, width, *plane.shape[2:]), empty, plane.dtype)
    for y, x in np.ndindex(height, width):
        line, sample = swath.source[y, x]
        if line >= 0:
            found[y, x] = plane[line, sample]
    return found


def grid_of(swath):
    return GeoBox(swath.source.shape[:2], Affine(PIXEL, 0, WEST, 0, -PIXEL, NORTH), "EPSG:4326")


def write_frame(file, swath, title, bands):
    """Write what all of EMIT's files share: dimensions, attributes, location."""
    height, width = swath.source.shape[:2]
    file.dimensions = {"downtrack": LINES, "crosstrack": SAMPLES, "bands": bands,
                       "ortho_y": height, "ortho_x": width}  # fmt: skip
    attributes = {
        "ncei_template_version": "NCEI_NetCDF_Swath_Template_v2.0",
        "Conventions": "CF-1.63",
        "sensor": "EMIT (Earth Surface Mineral Dust Source Investigation)",
        "instrument": "EMIT",
        "platform": "ISS",
        "title": title,
        "time_coverage_start": "2022-09-03T16:31:29+0000",
        "time_coverage_end": "2022-09-03T16:31:41+0000",
        "westernmost_longitude": WEST,
        "easternmost_longitude": WEST + width * PIXEL,
        "northernmost_latitude": NORTH,
        "southernmost_latitude": NORTH - height * PIXEL,
        "spatialResolution": PIXEL,
        "spatial_ref": WKT,
        "geotransform": np.array([WEST, PIXEL, -0.0, NORTH, -0.0, -PIXEL]),
        "day_night_flag": "Day",
    }
    for name, value in attributes.items():  # as netCDF-C writes texts: of a fixed length
        file.attrs[name] = np.bytes_(value) if isinstance(value, str) else value
    for name, values in (("lon", swath.lon), ("lat", swath.lat), ("elev", swath.lat * 0 + 300)):
        file.create_variable(
            f"location/{name}", ("downtrack", "crosstrack"), "f8", fillvalue=FILL, data=values
        )
    sign = np.where(swath.filled, -1, 1)
    for name, numbers in (("glt_x", swath.source[..., 1]), ("glt_y", swath.source[..., 0])):
        table = file.create_variable(
            f"location/{name}", ("ortho_y", "ortho_x"), "i4", fillvalue=-9999, chunks=(16, 13),
            compression="gzip", compression_opts=9, data=((numbers + 1) * sign).astype("i4"),
        )  # fmt: skip
        table.attrs["units"] = np.bytes_("pixel location")


def write_image(path, swath, image="reflectance", **storage):
    """Write a file of reflectance or radiance; returns the band table (nm, fwhm, good)."""
    nm = np.linspace(381.0, 381.0 + 7.4 * (BANDS - 1), BANDS).astype("f4")
    nm += np.where(np.arange(BANDS) % 2, 0.03, 0).astype("f4")
    fwhm = np.linspace(8.4, 8.9, BANDS).astype("f4")
    good = np.ones(BANDS, "u1")
    good[4] = 0
    with h5netcdf.File(path, "w") as file:
        write_frame(file, swath, f"EMIT {image} 60 m V001", BANDS)
        group = file.create_group("sensor_band_parameters")
        for name, values in (("wavelengths", nm), ("fwhm", fwhm)):
            group.create_variable(name, ("bands",), "f4", fillvalue=FILL, data=values)
            group[name].attrs["units"] = np.bytes_("nm")
        if image == "reflectance":
            group.create_variable("good_wavelengths", ("bands",), "u1", data=good)
        pixels = file.create_variable(
            image, ("downtrack", "crosstrack", "bands"), "f4", fillvalue=FILL, data=swath.image,
            **storage,
        )  # fmt: skip
        unit = "unitless" if image == "reflectance" else "uW/cm^2/SR/nm"
        pixels.attrs["units"] = np.bytes_(unit)
    return tuple(map(float, nm)), tuple(map(float, fwhm)), tuple(map(bool, good))


def write_mask(path, swath, names=V1_BANDS, lines=LINES, seed=5):
    """Write a mask file; returns the flags on the map grid."""
    random = np.random.default_rng(seed)
    mask = (random.random((lines, SAMPLES, len(names))) < 0.2).astype("f4")
    for band, name in enumerate(names):
        if name in ("AOD550", "H2O (g cm-2)") or name.endswith(("Probability", "Distance")):
            mask[..., band] = random.uniform(0.01, 3, (lines, SAMPLES))
    mask[5, 6:8] = FILL
    with h5netcdf.File(path, "w") as file:
        write_frame(file, swath, "EMIT L2A Masks 60 m", len(names))
        if lines != LINES:
            file.dimensions["more_lines"] = lines
        dims = ("downtrack" if lines == LINES else "more_lines", "crosstrack", "bands")
        file.create_variable("mask", dims, "f4", fillvalue=FILL, data=mask)
        group = file.create_group("sensor_band_parameters")
        variable = group.create_variable(
            "mask_bands", ("bands",), h5netcdf.core.h5py.string_dtype()
        )
        variable[...] = np.array(names, dtype=object)
    if lines != LINES:
        return {}
    layers = {name.lower(): ortho(mask[..., i], swath, FILL) for i, name in enumerate(names)}
    flags = {
        "cloud": layers["cloud flag"] == 1,
        "cirrus": layers["cirrus flag"] == 1,
        "cloud_edge": layers["dilated cloud flag"] == 1,
        "water": layers["water flag"] == 1,
        "invalid": (layers["spacecraft flag"] == 1) | (layers["cloud flag"] == FILL),
    }
    if "spectf-cloud flag" in layers:
        flags["cloud"] |= layers["spectf-cloud flag"] == 1
    return flags


def example_of(path, swath, bands, level="L2A", quantity="reflectance", **more):
    values = ortho(swath.image.astype(float), swath, FILL).transpose(2, 0, 1)
    nm, fwhm, good = bands
    return Example(
        path=path,
        reader="emit",
        reflectance=np.where(values == FILL, np.nan, values),
        grid=grid_of(swath),
        center_nm=nm,
        fwhm_nm=fwhm,
        good=good if quantity == "reflectance" else (),
        attrs={
            "sensor": "EMIT", "level": level, "quantity": quantity,
            "acquired": "2022-09-03T16:31:29Z", "scene_id": path.stem,
        },
        **more,
    )  # fmt: skip


def write_reflectance(folder):
    """As it is delivered first: the image is contiguous, no masks beside it."""
    path = folder / "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"
    swath = make_swath()
    return example_of(path, swath, write_image(path, swath))


def write_with_masks(folder):
    """With masks of the same version, chunked and deflated, beside another scene."""
    path = folder / "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"
    swath = make_swath(-31, seed=2)
    storage = {"chunks": (8, 7, 5), "compression": "gzip", "compression_opts": 4, "shuffle": True}
    bands = write_image(path, swath, **storage)
    mask = folder / "EMIT_L2A_MASK_001_20220903T163129_2224611_012.nc"
    flags = write_mask(mask, swath)
    write_mask(folder / "EMIT_L2A_MASK_001_20220903T163141_2224611_013.nc", swath, seed=77)
    return example_of(path, swath, bands, flags=flags, damage=(path, mask))


def write_with_newer_masks(folder):
    """The masks are of a newer version than the reflectance, with SpecTf's clouds."""
    path = folder / "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"
    swath = make_swath(10, seed=3)
    bands = write_image(path, swath)
    mask = folder / "EMIT_L2A_MASK_002_20220903T163129_2224611_012.nc"
    flags = write_mask(mask, swath, V2_BANDS)
    return example_of(path, swath, bands, flags=flags, damage=(mask,))


def write_radiance(folder):
    """Level 1B: no good_wavelengths."""
    path = folder / "EMIT_L1B_RAD_001_20220903T163129_2224611_012.nc"
    swath = make_swath(seed=4)
    return example_of(path, swath, write_image(path, swath, "radiance"), "L1B", "radiance")


EXAMPLES = {
    "reflectance": write_reflectance,
    "with masks": write_with_masks,
    "newer masks": write_with_newer_masks,
    "radiance": write_radiance,
}
