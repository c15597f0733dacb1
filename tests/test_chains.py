"""The page on chains: each of its lines runs, and what comes of it is what it must be."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio.features import rasterize, shapes
from rasterio.rio.main import main_group
from shapely.geometry import shape
from system_programs import require_programs, run_program

from hsi_pipeline.classes import scheme_from_attrs
from hsi_pipeline.cli import app
from hsi_pipeline.publish import open_class_map
from hsi_pipeline.scene import open_source

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "sample_data"
PAGE = (ROOT / "docs" / "chains.md").read_text(encoding="utf-8")
NAMES = ["roof", "pavement", "grassland", "crop", "forest", "bare soil", "water"]
LINES = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]  # fmt: skip
PROGRAMS = (
    "gdalinfo", "gdal_translate", "gdalwarp", "gdalbuildvrt", "gdal_rasterize", "gdaldem",
    "gdal_calc.py", "gdal_polygonize.py", "gdalattachpct.py", "ogrinfo", "ogr2ogr",
)  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def ours(line):
    """Run a line of our command line in this process; nothing may fail."""
    program, *arguments = shlex.split(line)
    assert program == "hsi-pipeline"
    app([*arguments, "--quiet"], standalone_mode=False)


def class_scheme(path):
    return scheme_from_attrs(open_class_map(path)["class"].attrs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder where all lines of the page have run, in their order."""
    require_programs(*PROGRAMS, package="gdal-bin python3-gdal")
    folder = tmp_path_factory.mktemp("chain with blank")
    shutil.copy(SAMPLE / "scene.tif", folder)
    shutil.copy(SAMPLE / "truth.tif", folder)
    shutil.copy(SAMPLE / "train.gpkg", folder / "polygons.gpkg")
    shutil.copy(SAMPLE / "test.gpkg", folder / "other_polygons.gpkg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ours(
            "hsi-pipeline train scene.tif polygons.gpkg --label-column class_id --name-column "
            "class_name --model spectral --epochs 3 --no-baselines --out model.safetensors"
        )
        for out in ("map.tif", "map.zarr"):
            ours(
                f"hsi-pipeline classify scene.tif model.safetensors --out {out} --probabilities "
                "--layers entropy,margin"
            )
        for suffix in ("gpkg", "fgb", "geojson", "shp"):
            name = "landcover" if suffix == "gpkg" else f"from_{suffix}"
            ours(f"hsi-pipeline polygonize map.tif --out {name}.{suffix}")
        for line in LINES:
            if line.startswith("hsi-pipeline"):
                ours(line)
            else:
                run_program("bash", "-c", line, folder=folder)
    return folder


def read(path):
    with rasterio.open(path) as source:
        return source.read(1)


def described(folder, name):
    """Return what GDAL of the system says of a raster."""
    said = run_program("gdalinfo", "-json", name, folder=folder)
    return json.loads(said.stdout)


def gdal(folder, *arguments):
    return run_program(*arguments, folder=folder)


def by_nearest(folder, name, like):
    """Take a raster to the grid of another by the nearest pixel, by rasterio's own warper."""
    with rasterio.open(folder / name) as source, rasterio.open(folder / like) as target:
        grid = {"crs": target.crs, "transform": target.transform}
        grid |= {"width": target.width, "height": target.height}
        with rasterio.vrt.WarpedVRT(source, **grid) as warped:
            return warped.read(1)


# --- from scene to report -------------------------------------------------------------------


def test_a_part_of_a_scene_is_mapped_as_the_whole_is(folder):
    """The same model on GDAL's cut, pixel for pixel what the whole map has there."""
    out = folder / "part.tif"
    ours(f"hsi-pipeline classify '{folder}/cut.tif' '{folder}/model.safetensors' --out '{out}'")
    np.testing.assert_array_equal(read(out), read(folder / "map.tif")[10:150, 10:150])


def test_the_chain_leaves_whole_products(folder):
    assert read(folder / "cover.tif").shape == read(folder / "cover_margin.tif").shape
    figures = json.loads((folder / "assessment.json").read_text())
    assert figures["overall_accuracy"]["value"] > 0.6
    assert "<html" in (folder / "report.html").read_text().lower()
    item = json.loads((folder / "item.json").read_text())
    assert {asset["href"] for asset in item["assets"].values()} >= {"./cover.tif", "./cover.gpkg"}
    said = gdal(folder, "ogrinfo", "-so", "item.json", "item").stdout.decode()
    assert "Feature Count: 1\n" in said
    assert "Geometry: Polygon\n" in said


def test_ogr2ogr_takes_what_was_asked_for_to_another_crs(folder):
    here = gpd.read_file(folder / "cover.gpkg", layer="landcover")
    wanted = here[(here["name"] == "forest") & (here["area_m2"] >= 10_000)]
    there = gpd.read_file(folder / "forests.gpkg", layer="landcover")
    assert there.crs == "EPSG:25833"
    assert len(there) == len(wanted) > 3
    assert there.area.sum() == pytest.approx(wanted["area_m2"].sum(), rel=1e-3)
    # the minimum mapping unit of the chain
    assert here["area_m2"].min() >= 2700


# --- scenes ---------------------------------------------------------------------------------

COPIES = {
    "cog": "gdal_translate -q -of COG scene.tif {}.tif",
    "vrt": "gdal_translate -q -of VRT scene.tif {}.vrt",
    "bands": "gdal_translate -q -b 1 -b 20 -b 66 -b 100 scene.tif {}.tif",
    "coarser": "gdal_translate -q -r average -outsize 50% 50% scene.tif {}.tif",
    "warped_vrt": "gdalwarp -q -of VRT -t_srs EPSG:32632 scene.tif {}.vrt",
    "window": "gdalwarp -q -te 513000 5630100 516000 5633100 scene.tif {}.tif",
    "cutline": "gdalwarp -q -cutline other_polygons.gpkg -crop_to_cutline scene.tif {}.tif",
    "several": "gdalwarp -q west.tif east.tif {}.tif",
    "mosaic": "gdalbuildvrt -q {}.vrt west.tif east.tif",
}


def kept(path, bands=None):
    """Tell what a copy of the scene kept: (band table, scale, nodata)."""
    scene, copy = open_source(SAMPLE / "scene.tif"), open_source(path)
    bands = list(range(121)) if bands is None else bands
    table = copy.wavelengths == scene.wavelengths.select(bands) and copy.good == tuple(
        scene.good[band] for band in bands
    )
    return table, copy.scale == scene.scale, copy.nodata == scene.nodata


@pytest.mark.parametrize("name", COPIES)
def test_gdal_keeps_of_a_scene_what_the_table_says(folder, name):
    gdal(folder, *shlex.split(COPIES[name].format(name)))
    (path,) = folder.glob(f"{name}.[tv][ir][ft]")
    found = kept(path, [0, 19, 65, 99] if name == "bands" else None)
    assert found == {"several": (True, False, True), "mosaic": (False, True, True)}.get(
        name, (True, True, True)
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["warp", "scene.tif", "rio.tif", "--dst-crs", "EPSG:32632"],
        ["clip", "scene.tif", "rio.tif", "--bounds", "513000 5630000 515000 5632000"],
        ["merge", "west.tif", "east.tif", "rio.tif"],
        ["convert", "scene.tif", "rio.tif"],
        ["stack", "scene.tif", "rio.tif"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_rio_keeps_only_nodata(folder, arguments, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main_group, [*arguments, "--overwrite"])
    assert result.exit_code == 0, result.output
    assert kept(folder / "rio.tif") == (False, False, True)


def test_a_scene_without_wavelengths_is_refused_with_what_to_do(folder, cli):
    gdal(folder, "gdalbuildvrt", "-q", "tagless.vrt", "scene.tif")
    code, _, error = cli(
        "classify", folder / "tagless.vrt", folder / "model.safetensors", "--out", folder / "x.tif"
    )
    assert code == 2
    assert "has no wavelengths" in error
    assert "add band tags 'wavelength'" in error
    assert not (folder / "x.tif").exists()


def test_a_lost_scale_is_warned_of(folder, cli):
    code, _, error = cli(
        "classify", folder / "both.tif", folder / "model.safetensors", "--out", folder / "y.tif"
    )
    assert code == 0
    assert "does its scale to reflectance lack" in " ".join(error.split())


def test_two_parts_make_the_scene_again(folder):
    whole, scene = open_source(folder / "whole.tif"), open_source(folder / "scene.tif")
    assert whole.grid == scene.grid
    np.testing.assert_array_equal(whole.pixels[:, :, :], scene.pixels[:, :, :])
    assert kept(folder / "whole.tif") == (True, True, True)


def test_a_warped_scene_gives_the_warped_map(folder):
    """Of a network that looks at single spectra; two independent ways to one map."""
    found = read(folder / "warped_map.tif")
    assert (found > 0).mean() > 0.5
    gdal(folder, *shlex.split("gdalwarp -q -t_srs EPSG:32632 -tr 30 30 -r near map.tif w.tif"))
    np.testing.assert_array_equal(found, read(folder / "w.tif"))


# --- maps -----------------------------------------------------------------------------------


def colors_of(band):
    return [tuple(entry) for entry in band["colorTable"]["entries"][:8]]


def test_every_layer_is_read_by_both_gdals(folder):
    map_, layers = described(folder, "map.tif")["bands"], {}
    assert (map_[0]["type"], map_[0]["noDataValue"]) == ("Byte", 0)
    assert map_[0]["categories"][1:] == NAMES
    for name in ("confidence", "entropy", "margin"):
        (layers[name],) = described(folder, f"map_{name}.tif")["bands"]
        assert layers[name]["type"] == "Float32"
        gdal(folder, "gdal_translate", "-q", f"map_{name}.tif", "layer.tif")
        np.testing.assert_array_equal(read(folder / "layer.tif"), read(folder / f"map_{name}.tif"))
        np.testing.assert_array_equal(
            np.isnan(read(folder / f"map_{name}.tif")), read(folder / "map.tif") == 0
        )
    bands = described(folder, "map_probability.tif")["bands"]
    assert [band["description"] for band in bands] == NAMES
    assert {(band["type"], round(band["scale"], 6)) for band in bands} == {("Byte", 0.003937)}
    with rasterio.open(folder / "map_probability.tif") as source:
        best = source.read(masked=True).argmax(0) + 1
        seen = ~source.read(1, masked=True).mask
    codes = read(folder / "map.tif")
    assert (best == codes)[seen].mean() > 0.99  # where two are equal after rounding


def test_a_warped_map_keeps_colours_and_gets_its_names_back(folder):
    before, after = (described(folder, name)["bands"][0] for name in ("map.tif", "there.tif"))
    assert colors_of(after) == colors_of(before)
    assert after["categories"] == before["categories"]
    assert (after["type"], after["noDataValue"]) == ("Byte", 0)
    assert (folder / "there.qml").read_bytes() == (folder / "map.qml").read_bytes()
    np.testing.assert_array_equal(
        read(folder / "there.tif"), by_nearest(folder, "map.tif", "there.tif")
    )
    # as GDAL leaves it: no names but in our tags, by which our commands know them
    gdal(folder, *shlex.split("gdalwarp -q -t_srs EPSG:25832 -tr 30 30 map.tif bare.tif"))
    bare = described(folder, "bare.tif")["bands"][0]
    assert "categories" not in bare
    assert colors_of(bare) == colors_of(before)
    said = []
    assert (
        open_class_map(folder / "bare.tif", say=said.append)["class"].attrs["class_names"] == NAMES
    )
    assert said == []


def test_polygons_of_a_warped_map_are_those_of_gdal(folder):
    ours_ = gpd.read_file(folder / "there.gpkg", layer="landcover")
    gdal(folder, "gdal_polygonize.py", "-q", "there.tif", "theirs.gpkg", "theirs", "code")
    theirs = gpd.read_file(folder / "theirs.gpkg")
    assert ours_.crs == "EPSG:25832"
    found, expected = (
        sorted(zip(frame["code"], frame.area.round(1), strict=True)) for frame in (ours_, theirs)
    )
    assert found == expected
    assert ours_["confidence"].between(0, 1).all()  # of the confidence warped with it


def test_a_joined_map_and_its_changes_fit_the_maps_they_are_of(folder):
    joined, changed = read(folder / "joined.tif"), (folder / "changed.csv").read_text()
    assert joined.max() == 7
    with rasterio.open(folder / "joined.tif") as source:
        assert source.crs == "EPSG:32633"
        west, north = source.transform * (0, 0)
    left, top = round((512_400 - west) / 30), round((north - 5_634_000) / 30)
    part = joined[top : top + 160, left : left + 160]
    codes = read(folder / "map.tif")
    same = (part == codes)[codes > 0].mean()
    assert 0.8 < same <= 1
    rows = [line.split(",") for line in changed.splitlines()]
    assert any("forest" in row for row in rows)


def test_calculated_maps_have_their_colours_and_names_again(folder):
    with rasterio.open(folder / "map_confidence.tif") as source:
        sure = source.read(1) >= 0.7
    np.testing.assert_array_equal(
        read(folder / "sure.tif"), np.where(sure, read(folder / "map.tif"), 0)
    )
    before, after = (described(folder, name)["bands"][0] for name in ("map.tif", "sure.tif"))
    assert colors_of(after)[1:] == colors_of(before)[1:]
    assert after["categories"] == before["categories"]
    assert "categories" not in described(folder, "plain.tif")["bands"][0]
    frame = gpd.read_file(folder / "sure.gpkg", layer="landcover")
    assert set(frame["name"]) <= set(NAMES)
    assert frame["pixels"].sum() == (read(folder / "sure.tif") > 0).sum()


def test_pictures_have_the_colours_of_the_map(folder):
    codes = read(folder / "map.tif")
    with rasterio.open(folder / "map.tif") as source:
        table = np.array([source.colormap(1)[code] for code in range(256)], np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "map.png")), table[codes])
    picture = np.asarray(Image.open(folder / "confidence.png"))
    confidence = read(folder / "map_confidence.tif")
    np.testing.assert_array_equal(picture[..., 3] == 0, codes == 0)
    low, high = (picture[np.nanpercentile(confidence, q) == confidence][0] for q in (0, 100))
    assert low[0] > low[1]
    assert high[1] > high[0]


def test_gdal_reads_zarr_without_colours_and_names(folder):
    np.testing.assert_array_equal(read(folder / "from_zarr.tif"), read(folder / "map.tif"))
    seen = described(folder, "from_zarr.tif")
    assert seen["coordinateSystem"]["wkt"].count('"EPSG",32633')
    assert not {"categories", "colorTable"} & set(seen["bands"][0])
    with rasterio.open(f'ZARR:"{folder / "map.zarr"}":/class') as source:
        np.testing.assert_array_equal(source.read(1), read(folder / "map.tif"))
        assert source.crs == "EPSG:32633"


def test_a_built_vrt_keeps_colours_and_loses_names(folder):
    gdal(folder, "gdalbuildvrt", "-q", "maps.vrt", "map.tif")
    seen, before = (described(folder, name)["bands"][0] for name in ("maps.vrt", "map.tif"))
    assert colors_of(seen) == colors_of(before)
    assert "categories" not in seen
    said = []
    found = open_class_map(folder / "maps.vrt", say=said.append)
    np.testing.assert_array_equal(found["class"], read(folder / "map.tif"))
    assert "no names for the classes" in said[0]


def test_statistics_of_other_programs_keep_the_names(folder):
    for name in ("map.tif", "map.tif.aux.xml"):
        shutil.copy(folder / name, folder / f"seen_{name}")
    gdal(folder, "gdalinfo", "-stats", "-hist", "seen_map.tif")
    assert "STATISTICS_MEAN" in (folder / "seen_map.tif.aux.xml").read_text()
    assert described(folder, "seen_map.tif")["bands"][0]["categories"][1:] == NAMES
    assert open_class_map(folder / "seen_map.tif")["class"].attrs["class_names"] == NAMES


# --- polygons -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("landcover.gpkg", "landcover"),
        ("from_fgb.fgb", "landcover"),
        ("from_geojson.geojson", "landcover"),
        ("from_shp.shp", "from_shp"),
    ],
)
def test_gdal_reads_the_areas_of_each_format(folder, name, layer):
    sql = f"SELECT name, SUM(area_m2) AS area, COUNT(*) AS n FROM {layer} GROUP BY name"
    said = gdal(folder, "ogrinfo", "-q", "-dialect", "SQLite", "-sql", sql, name).stdout.decode()
    names, sums = (
        re.findall(rf"{field} = (.+)", said) for field in (r"name \(String\)", "area .+")
    )
    areas = dict(zip(names, map(float, sums), strict=True))
    codes = read(folder / "map.tif")
    assert areas == {n: 900 * (codes == code).sum() for code, n in enumerate(NAMES, start=1)}


def test_filtered_united_and_reprojected_polygons(folder):
    all_ = gpd.read_file(folder / "landcover.gpkg", layer="landcover")
    crops = gpd.read_file(folder / "crops.fgb")
    wanted = all_[(all_["name"] == "crop") & (all_["confidence"] > 0.5)]
    assert len(crops) == len(wanted) > 10
    assert crops.area.sum() == pytest.approx(wanted.area.sum())
    united = gpd.read_file(folder / "united.gpkg", layer="united").set_index("name")
    codes = read(folder / "map.tif")
    assert {name: round(area / 900) for name, area in united.area.items()} == {
        name: (codes == code).sum() for code, name in enumerate(NAMES, start=1)
    }
    world = gpd.read_file(folder / "landcover.geojson")
    assert world.crs == "EPSG:4326"
    assert len(world) == len(all_)


def test_a_geopackage_copied_without_a_name_has_the_styles_too(folder):
    gdal(folder, "ogr2ogr", "copied.gpkg", "landcover.gpkg")
    said = gdal(folder, "ogrinfo", "-q", "copied.gpkg").stdout.decode()
    assert "landcover (Polygon)" in said
    assert "layer_styles" in said


def test_polygons_are_the_pixels_again(folder):
    np.testing.assert_array_equal(read(folder / "back.tif"), read(folder / "map.tif"))


def test_gdals_polygons_are_parcels(folder):
    """Shares against a count of pixels by hand; most of GDAL's polygons are whole pixels."""
    frame = gpd.read_file(folder / "summary.gpkg", layer="parcels")
    segments = gpd.read_file(folder / "segments.gpkg")
    assert len(frame) == len(segments) > 100
    largest = frame.loc[frame.area.idxmax()]
    inside = rasterize([largest.geometry], (160, 160), transform=grid_of(folder)) > 0
    counts = np.bincount(read(folder / "map.tif")[inside], minlength=8)[1:]
    assert largest["majority"] == counts.argmax() + 1
    assert largest["majority_share"] == pytest.approx(counts.max() / counts.sum(), abs=1e-6)


def grid_of(folder):
    with rasterio.open(folder / "map.tif") as source:
        return source.transform


def test_a_polygonised_raster_is_the_same_reference_as_the_raster(folder):
    matrices = [
        json.loads((folder / f"against_{kind}.json").read_text())["confusion_matrix"]
        for kind in ("segments", "raster")
    ]
    assert matrices[0]["counts"] == matrices[1]["counts"]
    codes, truth = read(folder / "map.tif"), read(folder / "truth.tif")
    both = (codes > 0) & (truth > 0)
    expected = np.zeros((7, 7), int)
    np.add.at(expected, (codes[both] - 1, truth[both] - 1), 1)
    assert matrices[0]["counts"] == expected.tolist()


def test_rasterios_own_polygons_are_labels(folder, cli):
    """As another program of the wheels makes them; as many pixels as the raster has."""
    with rasterio.open(folder / "truth.tif") as source:
        codes, transform, crs = source.read(1), source.transform, source.crs
    made = [(shape(geometry), int(code)) for geometry, code in shapes(codes, transform=transform)]
    frame = gpd.GeoDataFrame(made, columns=["geometry", "class_id"], crs=crs)
    frame[frame["class_id"] > 0].to_file(folder / "labels.fgb")
    code, _, error = cli(
        "train", folder / "scene.tif", folder / "labels.fgb", "--label-column", "class_id",
        "--model", "spectral", "--epochs", "1", "--no-baselines", "--out",
        folder / "labels.safetensors",
    )  # fmt: skip
    assert code == 0, error
    counts = np.bincount(codes.ravel(), minlength=8)
    for name, count in enumerate(counts[1:], start=1):
        assert re.search(rf"{name} class {name}: \d+ features, {count} pixels", error), error


# --- make -----------------------------------------------------------------------------------


def test_make_does_what_is_left_to_do_and_stops_at_an_error(folder, tmp_path):
    require_programs("make", package="make")
    (text,) = re.findall(r'```make title="Makefile"\n(.*?)```', PAGE, re.DOTALL)
    (tmp_path / "Makefile").write_text(text)
    for name in ("scene.tif", "model.safetensors"):
        shutil.copy(folder / name, tmp_path)
    shutil.copy(folder / "other_polygons.gpkg", tmp_path / "fields.gpkg")
    place = Path(sys.executable).parent

    def make():
        return subprocess.run(
            ["make"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            env={"PATH": f"{place}:/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    done = make()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hsi-pipeline") == 2
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), read(folder / "map.tif"))
    parcels = gpd.read_file(tmp_path / "parcels.gpkg", layer="parcels")
    assert len(parcels) == 58
    assert "up to date" in make().stdout
    (tmp_path / "fields.gpkg").write_bytes(b"no GeoPackage")
    stamp = (tmp_path / "parcels.gpkg").stat().st_mtime_ns
    failed = make()
    assert failed.returncode == 2
    assert "error: " in failed.stderr
    assert (tmp_path / "parcels.gpkg").stat().st_mtime_ns == stamp  # what was there stays


def test_an_envi_copy_keeps_its_bands_beside_the_header(folder):
    gdal(folder, "gdal_translate", "-q", "-of", "ENVI", "scene.tif", "copy.img")
    assert not re.search(r"^wavelength", (folder / "copy.hdr").read_text(), re.MULTILINE)
    assert kept(folder / "copy.img") == (True, True, True)
    (folder / "copy.img.aux.xml").unlink()
    assert open_source(folder / "copy.img").wavelengths is None


def test_a_map_that_gdal_took_out_of_zarr_has_its_classes(folder):
    ours = class_scheme(folder / "map.tif")
    assert list(ours.names) == NAMES
    assert class_scheme(folder / "from_zarr.tif") == ours


def test_names_that_a_comma_would_split_are_not_guessed(folder, tmp_path):
    shutil.copy(folder / "from_zarr.tif", tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif", "r+") as raster:
        raster.update_tags(class_names=raster.tags()["class_names"].replace("crop", "crop, maize"))
    found = class_scheme(tmp_path / "map.tif")
    assert found.codes == class_scheme(folder / "map.tif").codes
    assert not set(found.names) & set(NAMES)


def test_a_palette_without_a_colour_table_is_a_map(folder):
    gdal(folder, "gdal_translate", "-q", "-of", "VRT", "map.tif", "palette.vrt")
    text = (folder / "palette.vrt").read_text()
    bare = re.sub(r"<ColorTable>.*?</ColorTable>|<CategoryNames>.*?</CategoryNames>", "", text,
                  flags=re.DOTALL)  # fmt: skip
    bare = re.sub(r'<MDI key="(flag|class)_.*?</MDI>', "", bare, flags=re.DOTALL)
    (folder / "palette.vrt").write_text(bare)
    assert "<ColorInterp>Palette</ColorInterp>" in bare
    codes = open_class_map(folder / "palette.vrt")["class"].values
    np.testing.assert_array_equal(codes, read(folder / "map.tif"))
