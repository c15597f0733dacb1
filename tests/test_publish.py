"""Class maps and polygons on disk: read back, by other programs too, and never half written."""

import itertools
import os
import shutil
import threading
import time
from xml.etree import ElementTree as ET

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.enums import ColorInterp

from hsi_pipeline.classes import make_scheme, scheme_from_attrs, scheme_to_attrs
from hsi_pipeline.cube import grid_of, pixel_grid
from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import (
    check_target,
    open_class_map,
    write_class_map,
)
from hsi_pipeline.publish.stac import write_stac_item

# odc-geo multiplies affines in the way that affine 3 is about to retire
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SCHEME = make_scheme([1, 2, 7], {1: "roof & <co>", 2: "low plants", 7: "Wälder"}, {2: "#00ff00"})
ATTRS = {"scene_id": "0123", "version": "1.0", "halo": 7, "score": 0.5, "acquired": "2022-07-24"}
SIZE = (50, 70)
UTM = Affine(30, 0, 500_000, 0, -30, 4_000_000)
TURN = Affine.translation(500_000, 4_000_000) @ Affine.rotation(20) @ Affine.scale(30, -30)
GRIDS = {
    "north up": GeoBox(SIZE, UTM, "epsg:32632"),
    "rotated": GeoBox(SIZE, TURN, "epsg:32632"),
    "geographic": GeoBox(SIZE, Affine(0.001, 0, 10, 0, -0.001, 50), "epsg:4326"),
    "own CRS": GeoBox(SIZE, UTM, "+proj=laea +lat_0=50 +lon_0=9 +ellps=GRS80"),
    "no CRS": pixel_grid(*SIZE),
}
UTM_GRID = GRIDS["north up"]


def classify(rows, columns, seed=0):
    random = np.random.default_rng(seed)
    codes = random.choice(np.array([0, 1, 2, 7], np.uint8), (rows, columns))
    confidence = np.where(codes == 0, np.nan, random.random((rows, columns))).astype(np.float32)
    return codes, confidence


def make_map(grid=UTM_GRID, chunk=32, probability=False, seed=0):
    codes, confidence = classify(*grid.shape, seed)
    coords = dict(xr_coords(grid, dims=("y", "x")))
    variables = {
        "class": (("y", "x"), da.from_array(codes, chunks=chunk), scheme_to_attrs(SCHEME)),
        "confidence": (("y", "x"), da.from_array(confidence, chunks=chunk)),
    }
    if probability:
        steps = np.stack([confidence, 1 - confidence, 0 * confidence])
        blocks = da.from_array(steps, chunks=(3, chunk, chunk))
        variables["probability"] = (("category", "y", "x"), blocks)
        coords["category"] = list(SCHEME.names)
    return xr.Dataset(variables, coords=coords, attrs=ATTRS)


def lazy_map(block, grid=UTM_GRID, chunk=32):
    """A map whose class and confidence come from one task for each chunk, as a network's do."""
    rows, columns = (da.core.normalize_chunks(chunk, (n,))[0] for n in grid.shape)

    def both(block_id):
        codes, confidence = block(block_id, rows[block_id[1]], columns[block_id[2]])
        return np.stack([codes.astype(np.float32), confidence])

    pair = da.map_blocks(both, chunks=((2,), rows, columns), dtype="f4", meta=np.empty((0, 0, 0)))
    return xr.Dataset(
        {
            "class": (("y", "x"), pair[0].astype(np.uint8), scheme_to_attrs(SCHEME)),
            "confidence": (("y", "x"), pair[1]),
        },
        coords=xr_coords(grid, dims=("y", "x")),
    )


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_class_map_comes_back(tmp_path, grid, suffix):
    made = make_map(grid, probability=True)
    files = write_class_map(made, tmp_path / f"map{suffix}")
    assert files[0] == tmp_path / f"map{suffix}"
    assert sorted(file.name for file in files) == listing(tmp_path)
    back = open_class_map(files[0])
    assert grid_of(back) == grid
    assert back.attrs == ATTRS
    assert scheme_from_attrs(back["class"].attrs) == SCHEME
    assert back["class"].dtype == np.uint8
    assert all(isinstance(variable.data, da.Array) for variable in back.values())
    np.testing.assert_array_equal(back["class"], made["class"])
    np.testing.assert_array_equal(back["confidence"], made["confidence"])
    assert back["confidence"].dtype == back["probability"].dtype == np.float32
    assert back["category"].values.tolist() == list(SCHEME.names)
    np.testing.assert_allclose(back["probability"], made["probability"], atol=0.5001 / 254)


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
@pytest.mark.parametrize("name", ["tile #1", "50 % & more", "Wälder?"])
def test_folders_may_have_any_name(tmp_path, name, suffix):
    (tmp_path / name).mkdir()
    made = make_map()
    write_class_map(made, tmp_path / name / f"map{suffix}")
    assert listing(tmp_path) == [name]
    back = open_class_map(tmp_path / name / f"map{suffix}")
    np.testing.assert_array_equal(back["class"], made["class"])


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_certainty_comes_back_as_exactly_one(tmp_path, suffix):
    made = make_map(probability=True)
    made["probability"] = xr.ones_like(made["probability"])
    write_class_map(made, tmp_path / f"map{suffix}")
    back = open_class_map(tmp_path / f"map{suffix}")["probability"]
    np.testing.assert_allclose(back, 1, rtol=1e-7)


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_one_format_can_be_written_from_the_other(tmp_path, suffix):
    made = make_map(probability=True)
    other = {".zarr": ".tif", ".tif": ".zarr"}[suffix]
    write_class_map(made, tmp_path / f"one{suffix}")
    write_class_map(open_class_map(tmp_path / f"one{suffix}"), tmp_path / f"two{other}")
    back = open_class_map(tmp_path / f"two{other}")
    np.testing.assert_array_equal(back["class"], made["class"])
    assert grid_of(back) == UTM_GRID
    assert back.attrs == ATTRS


@pytest.mark.parametrize("name", ["north up", "geographic", "own CRS"])
@pytest.mark.parametrize("variable", ["class", "confidence", "probability"])
def test_gdal_reads_the_store_with_its_crs(tmp_path, name, variable):
    made = make_map(GRIDS[name], probability=True)
    write_class_map(made, tmp_path / "map.zarr")
    with rasterio.open(f'ZARR:"{tmp_path / "map.zarr"}":/{variable}') as source:
        assert source.crs == rasterio.CRS.from_wkt(GRIDS[name].crs.to_wkt())
        assert source.transform.almost_equals(GRIDS[name].transform, 1e-6)
        pixels = source.read()
    if variable == "class":
        np.testing.assert_array_equal(pixels[0], made["class"])


def test_the_store_is_zarr_2_and_says_the_crs_in_both_ways(tmp_path):
    write_class_map(make_map(), tmp_path / "map.zarr")
    assert (tmp_path / "map.zarr" / ".zmetadata").exists()
    plain = xr.open_zarr(tmp_path / "map.zarr")  # as anyone would
    for name in ("class", "confidence"):
        assert plain[name].attrs["grid_mapping"] == "spatial_ref"
        assert rasterio.CRS.from_wkt(plain[name].attrs["_CRS"]["wkt"]).to_epsg() == 32632
    assert plain["class"].dtype == np.uint8
    assert plain.odc.geobox == UTM_GRID


def test_stored_chunks_are_the_dask_chunks(tmp_path):
    write_class_map(make_map(chunk=32), tmp_path / "map.zarr")
    chunks = [n for n in listing(tmp_path / "map.zarr" / "class") if not n.startswith(".z")]
    assert chunks == ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"]


def test_uneven_dask_chunks_are_evened_out(tmp_path):
    made = make_map().chunk(y=(10, 25, 15))
    write_class_map(made, tmp_path / "map.zarr")
    np.testing.assert_array_equal(open_class_map(tmp_path / "map.zarr")["class"], made["class"])


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_every_chunk_is_computed_exactly_once(tmp_path, suffix, scheduler):
    calls = []

    def block(block_id, rows, columns):
        calls.append(block_id)
        return classify(rows, columns)

    with dask.config.set(scheduler=scheduler):
        write_class_map(lazy_map(block), tmp_path / f"map{suffix}")
    assert sorted(calls) == [(0, r, c) for r in range(2) for c in range(3)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_chunk_that_fails_leaves_no_trace(tmp_path, suffix, error, exists):
    target = tmp_path / f"map{suffix}"
    if exists:
        write_class_map(make_map(probability=True), target)
    before = listing(tmp_path)

    def block(block_id, rows, columns):
        if block_id == (0, 1, 1):
            raise error("in the middle")
        return classify(rows, columns)

    with pytest.raises(error, match="in the middle"), dask.config.set(scheduler="synchronous"):
        write_class_map(lazy_map(block), target, overwrite=exists)
    assert listing(tmp_path) == before
    if exists:
        np.testing.assert_array_equal(open_class_map(target)["class"], make_map()["class"])


def test_a_chunk_that_is_ready_after_the_failure_is_not_written(tmp_path):
    released, ended = threading.Event(), threading.Event()
    turns = itertools.count()

    def block(block_id, rows, columns):
        if next(turns) > 0:  # while the first is still at work
            raise RuntimeError("in the middle")
        released.wait(10)
        ended.set()
        return classify(rows, columns)

    with (
        pytest.raises(RuntimeError, match="in the middle"),
        dask.config.set(scheduler="threads", num_workers=2),
    ):
        # of one variable, whose chunks Dask computes and stores in one task
        write_class_map(lazy_map(block)[["class"]], tmp_path / "map.zarr")
    assert not ended.is_set()
    released.set()
    assert ended.wait(10)
    time.sleep(0.3)
    assert listing(tmp_path) == []


def test_overwriting_replaces_all_and_forgets_old_siblings(tmp_path):
    for suffix in (".zarr", ".tif"):
        target = tmp_path / f"map{suffix}"
        write_class_map(make_map(probability=True), target)
        fresh = make_map(seed=1).drop_vars("confidence")
        write_class_map(fresh, target, overwrite=True)
        back = open_class_map(target)
        assert list(back) == ["class"]
        np.testing.assert_array_equal(back["class"], fresh["class"])
    names = ["map.qml", "map.sld", "map.tif", "map.tif.aux.xml", "map.zarr"]
    assert listing(tmp_path) == names


def test_cog_is_tiled_with_overviews_by_majority(tmp_path):
    grid = GeoBox((600, 1100), UTM, "epsg:32632")
    made = make_map(grid, chunk=256, probability=True)
    block = made["class"].values.copy()
    block[:100, :100] = 2
    block[1:100:4, 1:100:4] = 7  # a quarter of every second 2 x 2 block
    made["class"] = made["class"].copy(data=da.from_array(block, chunks=256))
    write_class_map(made, tmp_path / "map.tif")
    for name, nodata in (("map", 0), ("map_confidence", np.nan), ("map_probability", 255)):
        with rasterio.open(tmp_path / f"{name}.tif") as source:
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert source.block_shapes[0] == (512, 512)
            assert source.compression.name == "deflate"
            assert source.overviews(1) == [2, 4]
            np.testing.assert_equal(source.nodata, nodata)
            # overviews lie in front of the full image's pixels, the smallest first
            offsets = [_first_tile(source, level) for level in (None, 0, 1)]
            assert offsets == sorted(offsets, reverse=True)
    with rasterio.open(tmp_path / "map.tif", overview_level=0) as half:
        assert (half.read(1)[:50, :50] == 2).all()


def _first_tile(source, level):
    name = "BLOCK_OFFSET_0_0"
    return int(source.get_tag_item(name, "TIFF", bidx=1, ovr=level))


def test_cog_has_colours_and_names(tmp_path):
    write_class_map(make_map(probability=True), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as source:
        assert source.colorinterp == (ColorInterp.palette,)
        assert source.crs.to_epsg() == 32632
        table = source.colormap(1)
        assert {code: table[code][:3] for code in SCHEME.codes} == {
            category.code: category.rgb for category in SCHEME.categories
        }
    with rasterio.open(tmp_path / "map_probability.tif") as source:
        assert source.descriptions == SCHEME.names
        assert source.scales == pytest.approx([1 / 254] * 3)
    # GDAL itself reads the category names: it copies them to a VRT
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    names = [e.text or "" for e in ET.parse(tmp_path / "map.vrt").iter("Category")]
    assert names == ["", "roof & <co>", "low plants", "", "", "", "", "Wälder"]
    style = ET.parse(tmp_path / "map.qml")
    assert [e.get("label") for e in style.iter("paletteEntry")] == list(SCHEME.names)


def _write_raster(path, codes, **profile):
    codes = np.asarray(codes)
    codes = codes if codes.ndim == 3 else codes[None]
    with rasterio.open(
        path, "w", driver="GTiff", count=len(codes), height=codes.shape[1], width=codes.shape[2],
        dtype=codes.dtype, crs="EPSG:32632", transform=UTM, **profile,
    ) as target:  # fmt: skip
        target.write(codes)
    return path


def test_a_raster_of_another_program_has_default_names(tmp_path):
    codes = np.array([[0, 3], [5, 99]], np.int16)
    back = open_class_map(_write_raster(tmp_path / "labels.tif", codes, nodata=99))
    assert scheme_from_attrs(back["class"].attrs) == make_scheme([3, 5])
    assert back["class"].values.tolist() == [[0, 3], [5, 0]]
    assert back["class"].dtype == np.uint8


def test_colours_and_category_names_of_another_program_are_kept(tmp_path):
    path = _write_raster(tmp_path / "labels.tif", np.array([[1, 2]], np.uint8))
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {1: (255, 0, 0, 255), 2: (0, 0, 255, 255)})
    (tmp_path / "labels.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category/><Category>soil</Category>'
        "<Category>lake</Category></CategoryNames></PAMRasterBand></PAMDataset>"
    )
    scheme = scheme_from_attrs(open_class_map(path)["class"].attrs)
    assert scheme == make_scheme([1, 2], {1: "soil", 2: "lake"}, {1: "#ff0000", 2: "#0000ff"})


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (
            np.ones((2, 2), np.float32),
            "one band of whole numbers, this raster holds float32; give",
        ),
        (np.ones((3, 2, 2), np.uint8), "one band of whole numbers, this raster 3 bands"),
        (np.array([[1, 300]], np.uint16), "codes go from 0 to 255, this raster holds 1 to 300"),
        (np.array([[-2, 3]], np.int16), "this raster holds -2 to 3"),
    ],
)
def test_rasters_that_are_no_class_maps_are_refused(tmp_path, codes, message):
    with pytest.raises(InputError, match=message):
        open_class_map(_write_raster(tmp_path / "labels.tif", codes))


def test_what_is_made_up_for_a_raster_of_another_program_is_said(tmp_path):
    said = []
    path = _write_raster(tmp_path / "labels.tif", np.array([[4, 9]], np.uint8))
    scheme = scheme_from_attrs(open_class_map(path, say=said.append)["class"].attrs)
    assert scheme == make_scheme([4, 9])
    assert said == [
        f"{path}: no names for the classes 4, 9; they are called 'class 1' and so on after their "
        "codes",
        f"{path}: no colours for the classes 4, 9; they get default ones",
    ]
    with rasterio.open(path, "r+") as target:  # what is not given is black to GDAL
        target.write_colormap(1, {4: (255, 0, 0, 255)})
    said.clear()
    scheme = scheme_from_attrs(open_class_map(path, say=said.append)["class"].attrs)
    assert scheme.colors[0] == "#ff0000"
    write_class_map(open_class_map(path), tmp_path / "own.tif")
    said.clear()
    open_class_map(tmp_path / "own.tif", say=said.append)
    assert said == []


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_what_a_mask_leaves_out_is_nodata(tmp_path, kind):
    codes, mask = np.array([[1, 2], [2, 1]], np.uint8), np.array([[255, 0], [255, 255]], np.uint8)
    bands = 2 if kind == "alpha" else 1
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            tmp_path / "masked.tif", "w", driver="GTiff", width=2, height=2, count=bands,
            dtype="uint8", crs="EPSG:32632", transform=UTM,
        ) as target,
    ):  # fmt: skip
        target.write(codes, 1)
        if kind == "alpha":
            target.write(mask, 2)
            target.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        else:
            target.write_mask(mask)
    back = open_class_map(tmp_path / "masked.tif")
    assert back["class"].values.tolist() == [[1, 0], [2, 1]]


def test_names_that_repeat_get_their_codes(tmp_path):
    said = []
    path = _write_raster(tmp_path / "labels.tif", np.array([[1, 2, 3]], np.uint8))
    (tmp_path / "labels.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category/><Category>forest</Category>'
        "<Category>forest</Category><Category>lake</Category></CategoryNames></PAMRasterBand>"
        "</PAMDataset>"
    )
    scheme = scheme_from_attrs(open_class_map(path, say=said.append)["class"].attrs)
    assert scheme.names == ("forest 1", "forest 2", "lake")
    assert "several classes have the name 'forest'" in said[0]


def test_a_file_without_bands_is_refused(tmp_path):
    write_class_map(make_map(), tmp_path / "map.tif")
    products = {"class": tmp_path / "map.tif", "confidence": tmp_path / "map_confidence.tif"}
    write_stac_item(tmp_path / "item.json", open_class_map(tmp_path / "map.tif"), products)
    with pytest.raises(InputError, match="this raster 0 bands; name one of its subdatasets"):
        open_class_map(tmp_path / "item.json")


def test_an_empty_raster_of_another_program_opens(tmp_path):
    said = []
    path = _write_raster(tmp_path / "labels.tif", np.zeros((2, 2), np.uint8))
    assert not open_class_map(path, say=said.append)["class"].any()
    assert said[0] == f"{path}: all pixels are nodata or 0"


def test_a_zarr_store_of_another_program_opens(tmp_path):
    said = []
    codes = xr.Dataset({"class": (("y", "x"), np.array([[0, 3], [5, 5]], np.int64))})
    codes.to_zarr(tmp_path / "other.zarr", zarr_format=2)
    back = open_class_map(tmp_path / "other.zarr", say=said.append)
    assert back["class"].dtype == np.uint8
    assert scheme_from_attrs(back["class"].attrs) == make_scheme([3, 5])
    assert len(said) == 2
    (codes + 300).to_zarr(tmp_path / "large.zarr", zarr_format=2)
    with pytest.raises(InputError, match="codes go from 0 to 255, this raster holds 300 to 305"):
        open_class_map(tmp_path / "large.zarr")
    codes["class"].attrs = scheme_to_attrs(SCHEME)
    (codes + 300).to_zarr(tmp_path / "flags.zarr", zarr_format=2)
    with pytest.raises(InputError, match="this raster holds 300 to 305"):
        open_class_map(tmp_path / "flags.zarr")
    (codes + 0.5).to_zarr(tmp_path / "real.zarr", zarr_format=2)
    with pytest.raises(InputError, match="whole numbers, this raster holds float64"):
        open_class_map(tmp_path / "real.zarr")


def test_a_window_of_a_raster_is_read_and_nothing_else(tmp_path):
    write_class_map(make_map(probability=True), tmp_path / "map.tif")
    back = open_class_map(tmp_path / "map.tif")
    for rows, columns in ((slice(3, 9), slice(60, 70)), (slice(0, 50), slice(5, 6))):
        for name, made in make_map(probability=True).items():
            window = back[name][..., rows, columns].compute()
            np.testing.assert_allclose(window, made[..., rows, columns], atol=0.5001 / 254)


def test_a_sibling_on_another_grid_is_refused(tmp_path):
    write_class_map(make_map(), tmp_path / "map.tif")
    write_class_map(make_map(GRIDS["geographic"]), tmp_path / "other.tif")
    shutil.copy(tmp_path / "other_confidence.tif", tmp_path / "map_confidence.tif")
    with pytest.raises(InputError, match="lies on another grid than map"):
        open_class_map(tmp_path / "map.tif")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_class_map(tmp_path / "map.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match="not a Zarr store"):
        open_class_map(tmp_path / "empty.zarr")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match="not a raster"):
        open_class_map(tmp_path / "text.tif")
    xr.Dataset({"b": ("x", [1.0])}).to_zarr(tmp_path / "b.zarr", zarr_format=2)
    with pytest.raises(InputError, match=r"no variable 'class' \(y, x\) in this store, found b"):
        open_class_map(tmp_path / "b.zarr")


def test_targets_that_cannot_be_written_are_refused_early(tmp_path):
    with pytest.raises(InputError, match=r"suffix must be one of \.zarr, \.tif, \.tiff"):
        write_class_map(make_map(), tmp_path / "map.gpkg")
    with pytest.raises(InputError, match="suffix must be one of"):
        check_target(tmp_path / "map.kml")
    with pytest.raises(InputError, match="nowhere does not exist; make it first"):
        check_target(tmp_path / "nowhere" / "map.tif")
    with pytest.raises(InputError, match="no variable 'class'"):
        write_class_map(make_map().drop_vars("class"), tmp_path / "map.zarr")
    for name in ("map.tif", "map.zarr", "map.gpkg"):
        check_target(tmp_path / name)
    assert listing(tmp_path) == []


def test_existing_targets_need_overwrite(tmp_path):
    (tmp_path / "a.gpkg").touch()
    (tmp_path / "b_confidence.tif").touch()
    with pytest.raises(InputError, match=r"a\.gpkg exists; choose another name or .*--overwrite"):
        check_target(tmp_path / "a.gpkg")
    with pytest.raises(InputError, match=r"b_confidence\.tif exists"):
        check_target(tmp_path / "b.tif")
    check_target(tmp_path / "a.gpkg", overwrite=True)
    check_target(tmp_path / "b.tif", overwrite=True)


@pytest.mark.parametrize("name", ["photos.zarr", "photos.tif"])
def test_a_folder_that_is_no_store_is_never_overwritten(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "holiday.jpg").touch()
    with pytest.raises(InputError, match="a folder and no Zarr store"):
        write_class_map(make_map(), tmp_path / name, overwrite=True)
    assert (tmp_path / name / "holiday.jpg").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission to write"):
        check_target(tmp_path / "map.tif")


@pytest.mark.parametrize(
    "values",
    ["[" * 100_000, "{1.5,2}", "{999,1}", "[" + "9" * 5000 + "]"],
    ids=["deep", "half", "high", "long"],
)
def test_wrong_classes_in_tags_name_the_file_and_what_to_do(tmp_path, values):
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 2, "width": 2}
    with rasterio.open(path, "w", **profile, transform=Affine(1, 0, 0, 0, -1, 2)) as raster:
        raster.write(np.ones((1, 2, 2), np.uint8))
        raster.update_tags(flag_values=values)
        raster.update_tags(1, flag_values=values)
    with pytest.raises(InputError) as refused:
        open_class_map(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "correct or remove its tag flag_values" in message
    assert len(message) < len(str(path)) + 250
