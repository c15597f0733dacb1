"""From a folder, a pattern, a catalog or an API to the scenes that are meant."""

import hashlib
import json
import os
import shutil
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import geopandas as gpd
import numpy as np
import object_store
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import s3fs
import shapely
import zarr
from moto_store import make_bucket, moto_server, store_settings
from object_store import free_port, s3_store, web_server
from products import emit, enmap, envi
from stac_geoparquet.arrow import parse_stac_items_to_parquet
from test_scene import write_envi, write_tif

from hsi_pipeline.archive.candidates import Candidate, safe_id, unique
from hsi_pipeline.archive.dates import interval
from hsi_pipeline.archive.footprints import from_geojson, to_degrees
from hsi_pipeline.archive.listing import list_scenes
from hsi_pipeline.archive.products import scenes_among
from hsi_pipeline.archive.scenes import ArchiveScene, Selection
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import addresses, open_source

ALL = Selection()
PIXELS = np.arange(3 * 4 * 5, dtype="int16").reshape(3, 4, 5)


def ids(source, selection=ALL, **options):
    return [scene.id for scene in list_scenes(str(source), selection, **options).scenes]


def names(source, selection=ALL, **options):
    scenes = list_scenes(str(source), selection, **options).scenes
    return sorted(os.path.basename(scene.path) for scene in scenes)


def square(west, south, side=0.3):
    return shapely.geometry.mapping(shapely.box(west, south, west + side, south + side))


def item(
    name, href="./scene.tif", *, place=(13.0, 52.0), date="2024-05-01T10:00:00Z", **properties
):
    """Return the JSON of an item; assets of its own by `assets`, other parts by `parts`."""
    assets = properties.pop("assets", {"data": {"href": href, "roles": ["data"]}})
    parts = properties.pop("parts", {})
    footprint = None if place is None else square(*place)
    bbox = {} if place is None else {"bbox": list(shapely.geometry.shape(footprint).bounds)}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": footprint, **bbox,
        "properties": {"datetime": date, **properties}, "links": [], "assets": assets, **parts,
    }  # fmt: skip


def catalog(name, links, kind="Catalog"):
    more = {"license": "other", "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [[None, None]]}}} if kind == "Collection" else {}  # fmt: skip
    listed = [{"rel": rel, "href": href} for rel, href in links]
    return {"type": kind, "stac_version": "1.0.0", "id": name, "description": "made for a test",
            "links": listed, **more}  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def write_items(path, *items):
    return write(path, {"type": "FeatureCollection", "features": list(items)})


def touch(folder, *files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


# Folders


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return a folder of real scenes of several sensors, some of them twice."""
    root = tmp_path_factory.mktemp("archive")
    for name in ("2022/enmap", "emit", "flights/1", "tifs"):
        (root / name).mkdir(parents=True)
    enmap.write_product(root / "2022/enmap")
    emit.write_with_masks(root / "emit")
    envi.aviris_ng(root / "flights/1")
    write_tif(root / "tifs/field.tif", PIXELS)
    write_tif(root / "tifs/.hidden.tif", PIXELS)
    touch(root, "tifs/field.tif.ovr", "tifs/field.tif.aux.xml", "tifs/field.qml", "readme.txt")
    touch(root, ".cache/other.tif", "__MACOSX/other.tif")
    return root


ENMAP = "ENMAP01-____L2A-DT0000001049_20220612T105735Z_028_V010302_20230628T165614Z"
EMIT = "EMIT_L2A_RFL_001_20220903T163129_2224611_012"
AVIRIS = "ang20190802t183054_rfl_v2x1_img"


def test_scenes_of_a_folder_are_found_and_can_be_opened(archive):
    found = list_scenes(str(archive), ALL)
    assert [scene.id for scene in found.scenes] == [EMIT, ENMAP, AVIRIS, "field"]
    assert Path(found.scenes[1].path) == archive / "2022/enmap" / ENMAP
    assert dict(found.left_out) == {}
    assert found.notes == ()
    for scene in found.scenes:
        assert open_source(scene.path).pixels.ndim == 3
        assert scene.size_bytes > 100
        assert scene.acquired is scene.geometry is scene.shape is None


@pytest.mark.parametrize(
    ("selection", "left", "reason"),
    [
        (Selection(dates="2022-06"), [ENMAP, "field"], "of other dates"),
        (Selection(sensors=("enmap",)), [ENMAP, "field"], "of other sensors"),
        (Selection(max_cloud=5), [EMIT, AVIRIS, "field"], "too cloudy"),
        (Selection(bbox=(10.7, 47.7, 10.8, 47.8)), [ENMAP], "outside the area"),
        (Selection(limit=1), [EMIT], "beyond the limit"),
    ],
)
def test_scenes_are_opened_for_what_a_selection_asks(archive, selection, left, reason):
    steps = []
    found = list_scenes(str(archive), selection, progress=lambda *step: steps.append(step))
    assert [scene.id for scene in found.scenes] == left
    assert dict(found.left_out) == {reason: 4 - len(left)}
    assert steps == ([] if selection.limit else [(i, 4) for i in range(1, 5)])
    if ENMAP in left and not selection.limit:
        scene = next(scene for scene in found.scenes if scene.id == ENMAP)
        assert (scene.sensor, scene.cloud_share, scene.shape) == ("EnMAP", 0.12, (23, 17))
        assert scene.acquired == "2022-06-12T10:57:35.160668Z"
        corners = enmap.footprint()
        outline = shapely.geometry.shape(scene.geometry).buffer(1e-4)
        assert all(outline.contains(shapely.Point(east, north)) for _, north, east in corners)


def test_scenes_that_cannot_be_opened_are_kept(archive, tmp_path):
    shutil.copytree(archive / "2022", tmp_path / "a")
    touch(tmp_path, "broken.tif")
    found = list_scenes(str(tmp_path), Selection(dates="2022", max_cloud=50))
    assert [scene.id for scene in found.scenes] == [ENMAP, "broken"]
    assert "cannot be opened, of which nothing is known: 1" in found.notes[0]
    assert "date of 1, cloud cover of 1" in found.notes[1]


def test_loose_products_in_one_folder(tmp_path):
    for number in ("0000000001", "0000000002"):
        product = enmap.write_product(tmp_path / "made", number=number).path
        for file in product.iterdir():
            file.rename(tmp_path / file.name)
    shutil.rmtree(tmp_path / "made")
    write_tif(tmp_path / "other.tif", PIXELS)
    found = names(tmp_path)
    assert len(found) == 3
    assert sum(name.endswith("-METADATA.XML") for name in found) == 2
    assert names(tmp_path / "*.TIF") == [name for name in found if "METADATA" in name]
    scene = list_scenes(str(tmp_path), ALL).scenes[0]
    image = Path(scene.path.replace("METADATA.XML", "SPECTRAL_IMAGE.TIF"))
    os.utime(image, (1, 1))
    assert list_scenes(str(tmp_path), ALL).scenes[0].stamp != scene.stamp
    assert open_source(scene.path).attrs["sensor"] == "EnMAP"


def test_a_stamp_changes_when_a_file_is_written_again(archive, tmp_path):
    root = shutil.copytree(archive, tmp_path / "copy")
    before = {scene.id: scene.stamp for scene in list_scenes(str(root), ALL).scenes}
    assert before == {scene.id: scene.stamp for scene in list_scenes(str(root), ALL).scenes}
    for file in ("flights/1/ang20190802t183054_rfl_v2x1_img.hdr", "tifs/field.tif",
                 "emit/EMIT_L2A_MASK_001_20220903T163129_2224611_012.nc"):  # fmt: skip
        os.utime(root / file, (1, 1))
    next((root / "2022/enmap" / ENMAP).glob("*SPECTRAL*")).touch()
    after = {scene.id: scene.stamp for scene in list_scenes(str(root), ALL).scenes}
    assert [name for name in before if before[name] == after[name]] == []


@pytest.mark.parametrize(
    ("files", "scenes"),
    [
        (["a.bsq", "a.hdr", "a.bsq.aux.xml"], ["a.bsq"]),
        (["a", "a.hdr", "a.img.ovr"], ["a"]),
        (["a.rfl", "a.hdr", "a.txt", "a.png"], ["a.rfl"]),
        (["a.rfl", "a.rfl.hdr"], ["a.rfl"]),
        (["a.tif", "a.hdr", "a.tfw", "a.prj"], ["a.tif"]),
        (["a.hdr", "b.vrt", "c.json", "d.mat"], []),
        (["a.he5", "b.h5", "c.nc", "d.zarr", "e.jp2", "f.TIF"],
         ["a.he5", "b.h5", "c.nc", "d.zarr", "e.jp2", "f.TIF"]),
        (["a.zip", "b.tar.gz", "c.gz", "d.tgz"], ["a.zip", "b.tar.gz", "d.tgz"]),
        (["EMIT_L2A_MASK_001_20220903T163129_2224611_012.nc"], []),
        (["EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc",
          "EMIT_L2A_RFLUNCERT_001_20220903T163129_2224611_012.nc",
          "EMIT_L2A_MASK_002_20220903T163129_2224611_012.nc"],
         ["EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"]),
        (["ang20190624t230039_rfl_v2_img", "ang20190624t230039_rfl_v2_img.hdr",
          "ang20190624t230039_obs_ort", "ang20190624t230039_obs_ort.hdr"],
         ["ang20190624t230039_rfl_v2_img"]),
        (["METADATA.XML", "SPECTRAL_IMAGE.TIF", "QL_QUALITY_CLOUD.TIF"], ["METADATA.XML"]),
        (["METADATA.XML", "other.tif"], ["other.tif"]),
        (["DESIS-A-METADATA.xml", "DESIS-A-SPECTRAL_IMAGE.tif", "DESIS-A-QL_QUALITY.tif",
          "DESIS-A-SPECTRAL_IMAGE.hdr"], ["DESIS-A-METADATA.xml"]),
        (["ENMAP-A-SPECTRAL_IMAGE.TIF", "ENMAP-A-QL_SWIR.TIF"], ["ENMAP-A-SPECTRAL_IMAGE.TIF"]),
    ],
)  # fmt: skip
def test_which_files_of_a_folder_are_scenes(files, scenes):
    assert sorted(scenes_among(files)) == scenes


def test_patterns(archive, tmp_path):
    assert ids(archive / "**/*.tif") == ["field"]
    assert ids(archive / "*/*/*img*") == [AVIRIS]
    assert ids(archive / "**/*.hdr") == [AVIRIS]
    assert ids(archive / "**/*METADATA*") == [ENMAP]
    assert ids(archive / "20*") == [ENMAP]
    assert ids(archive / "emit/*") == [EMIT]
    assert ids(archive / "**/*ENMAP*") == [ENMAP]
    assert ids(f"file://{archive}/tifs") == ["field"]
    assert ids(archive / "**") == [EMIT, ENMAP, AVIRIS, "field"]
    with pytest.raises(InputError, match="holds no scenes"):
        ids(archive / "**/*.qml")


def test_stores_and_links(tmp_path):
    zarr.open_group(tmp_path / "a/cube.zarr", mode="w").create_array("x", data=np.zeros(3))
    zarr.open_group(tmp_path / "plain", mode="w")
    touch(tmp_path, "a/cube.zarr/x/inner.tif", "plain/inner.tif", "b/scene.tif")
    (tmp_path / "b/again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b/nowhere.tif").symlink_to(tmp_path / "missing.tif")
    (tmp_path / "b/circle").symlink_to(tmp_path / "b/circle")
    found = list_scenes(str(tmp_path), ALL)
    assert [scene.id for scene in found.scenes] == ["cube", "nowhere", "plain", "scene"]
    assert "No such file" in found.scenes[1].fault
    assert found.scenes[1].path == ""
    assert ids(tmp_path / "a/**/*") == ["cube"]


def test_archives_without_a_scene_are_left_out_and_damaged_ones_kept(tmp_path):
    write_tif(tmp_path / "scene.tif", PIXELS)
    for name, inner in (("labels.zip", "a.shp"), ("good.zip", "scene.tif"), ("ENMAP-X.zip", "x")):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.writestr(f"inner/{inner}", b"x")
    touch(tmp_path, "damaged.zip")
    found = list_scenes(str(tmp_path), ALL)
    assert [scene.id for scene in found.scenes] == ["ENMAP-X", "damaged", "good", "scene"]
    assert found.notes == (
        f"archives without a scene inside, left out: 1 ({tmp_path / 'labels.zip'})",
    )


def test_arrays_count_with_pixel_coordinates_only(tmp_path):
    touch(tmp_path, "a.mat", "b.npy", "c.tif")
    assert ids(tmp_path) == ["c"]
    assert ids(tmp_path, pixel_coordinates=True) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing", "there is nothing; give a folder, a pattern"),
        ("scene.tif", "it is a file; give a folder"),
        ("empty", "holds no scenes"),
        ("empty/*.tif", "holds no scenes"),
        ("missing.json", "no such file"),
        ("missing.parquet", "no such file"),
        ("nowhere://bucket/prefix", "cannot be read|needs another package"),
    ],
)
def test_sources_that_are_none(tmp_path, source, said):
    touch(tmp_path, "scene.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=said):
        list_scenes(source if "://" in source else str(tmp_path / source), ALL)


def test_a_folder_with_a_catalog_says_so(tmp_path):
    touch(tmp_path, "scene.tif")
    write(tmp_path / "catalog.json", catalog("c", []))
    assert "give that file" in list_scenes(str(tmp_path), ALL).notes[0]


@pytest.mark.parametrize(
    "selection", [Selection(collections=("a",)), Selection(asset="a"), Selection(query={"a": 1})]
)
def test_folders_have_neither_collections_nor_assets(archive, selection):
    with pytest.raises(InputError, match="is no catalog; leave out `"):
        list_scenes(str(archive), selection)


# Static catalogs


@pytest.fixture
def tree(tmp_path):
    """Return a catalog with a collection and items in folders, and scenes beside them."""
    root = tmp_path / "cat"
    touch(root, "one/scene.tif", "c/two/scene.tif", "c/three.tif")
    write(root / "catalog.json", catalog("root", [
        ("root", "./catalog.json"), ("self", "https://nowhere.test/catalog.json"),
        ("item", "./one/one.json"), ("child", "./c/collection.json"), ("license", "../../x"),
    ]))  # fmt: skip
    write(root / "c/collection.json", catalog("c", [
        ("parent", "../catalog.json"), ("item", "./two/two.json"), ("item", "three.json"),
        ("child", "../catalog.json"), ("child", "collection.json"),
    ], "Collection"))  # fmt: skip
    cloudy = {"eo:cloud_cover": 40.5, "platform": "EnMAP-1", "constellation": "EnMAP",
              "instruments": ["HSI"], "proj:shape": [10, 20]}  # fmt: skip
    write(root / "one/one.json", item("one", **cloudy))
    two = item("two", "scene.tif", date="2023-01-01T00:00:00+02:00", place=(179.9, -17))
    write(root / "c/two/two.json", two)
    write(root / "c/three.json", item("three", "./three.tif", date=None, place=None))
    return root


def by_pystac(path):
    """Return id and asset of each item, as pystac reads the same catalog."""
    read = pystac.read_file(str(path))
    items = [read] if isinstance(read, pystac.Item) else read.get_items(recursive=True)
    return sorted((found.id, found.assets["data"].get_absolute_href()) for found in items)


def test_a_static_catalog_is_what_pystac_reads(tree):
    content = json.loads((tree / "c/collection.json").read_text())
    content["links"] = content["links"][:-2]  # in whose loop pystac goes round for ever
    write(tree / "c/collection.json", content)
    write(tree / "c/three.json", item("three", "./three.tif", place=None))
    for file in ("catalog.json", "one/one.json"):
        found = list_scenes(str(tree / file), ALL).scenes
        assert sorted((scene.id, scene.path) for scene in found) == by_pystac(tree / file)


def test_what_an_item_says(tree):
    found = {scene.id: scene for scene in list_scenes(str(tree / "catalog.json"), ALL).scenes}
    assert sorted(found) == ["one", "three", "two"]
    one, two, three = found["one"], found["two"], found["three"]
    assert (one.cloud_share, one.sensor, one.shape) == (0.405, "EnMAP", (10, 20))
    assert one.acquired == "2024-05-01T10:00:00Z"
    assert one.item == str(tree / "one/one.json")
    assert one.size_bytes == len("one/scene.tif")
    assert two.acquired == "2022-12-31T22:00:00Z"
    assert (three.acquired, three.geometry) == (None, None)
    os.utime(one.path, (1, 1))
    assert list_scenes(str(tree / "catalog.json"), ALL).scenes[0].stamp != one.stamp


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(collections=("c",)), ["one", "three", "two"]),
        (Selection(sensors=("ENMAP 1",)), ["one", "three", "two"]),
        (Selection(dates="2024"), ["one", "three"]),
        (Selection(dates="../2022-12-31"), ["three", "two"]),
        (Selection(dates="2023-01-01"), ["three"]),
        (Selection(max_cloud=40.5), ["one", "three", "two"]),
        (Selection(max_cloud=40), ["three", "two"]),
        (Selection(bbox=(13.2, 52.2, 20, 60)), ["one", "three"]),
        (Selection(bbox=(179, -20, -179, -10)), ["three", "two"]),
        (Selection(bbox=(-180, -20, -179.9, -10)), ["three", "two"]),
        (Selection(limit=2), ["one", "three"]),
    ],
)
def test_selections_keep_what_is_unknown(tree, selection, left):
    found = list_scenes(str(tree / "catalog.json"), selection)
    assert [scene.id for scene in found.scenes] == left
    assert sum(found.left_out.values()) == 3 - len(left)
    assert selection.limit or "unknown are kept" in found.notes[-1]


def test_collections_of_items_and_of_the_catalog_around_them(tree):
    write(tree / "one/one.json", item("one", parts={"collection": "other"}))
    assert ids(tree / "catalog.json", Selection(collections=("other",))) == ["one"]
    assert ids(tree / "catalog.json", Selection(collections=("c",))) == ["three", "two"]


def test_nothing_left_says_why(tree):
    asked = Selection(collections=("c",), dates="1999", bbox=(0, 0, 1, 1))
    (tree / "c/three.json").unlink()
    write(tree / "one/one.json", item("one", parts={"collection": "other"}))
    write(tree / "c/three.json", item("three", "./three.tif", place=(0, 0)))
    with pytest.raises(InputError) as caught:
        list_scenes(str(tree / "catalog.json"), asked)
    assert "none of its 3 scenes is selected: 1 of other collections, 1 outside the area, " in str(
        caught.value
    )
    assert "1 of other dates" in str(caught.value)
    write_items(tree / "items.json", item("a", "one/scene.tif", platform="Landsat"))
    with pytest.raises(InputError, match=r"1 of other sensors \(Landsat\)"):
        list_scenes(str(tree / "items.json"), Selection(sensors=("enmap",)))
    write_items(tree / "items.json")
    with pytest.raises(InputError, match="holds no scenes"):
        list_scenes(str(tree / "items.json"), ALL)


OUTSIDE = ("../../outside.json", "/etc/passwd", "file:///etc/passwd", "sub/../../../outside.json",
           "..\\..\\outside.json", "link.json", "linked/outside.json", "ftp://host/x.json",
           "https://host/x::file:///etc/passwd", "/vsizip//etc/x.zip/a",
           "file://host/a")  # fmt: skip


@pytest.mark.parametrize("href", [*OUTSIDE, "", None, 5, "a\0b"])
@pytest.mark.parametrize("rel", ["child", "item"])
def test_links_that_leave_a_catalog_are_refused(tree, rel, href):
    write(tree.parent / "outside.json", item("secret"))
    (tree / "link.json").symlink_to(tree.parent / "outside.json")
    (tree / "linked").symlink_to(tree.parent)
    write(tree / "catalog.json", catalog("root", [("item", "one/one.json"), (rel, href)]))
    with pytest.raises(InputError) as caught:
        list_scenes(str(tree / "catalog.json"), ALL)
    assert str(caught.value).startswith(f"{tree / 'catalog.json'}: its link '{rel}' leads to ")
    if href and str(href).startswith(("..", "/", "l")):
        assert "add the folder to `roots`" in str(caught.value)


@pytest.mark.parametrize("href", [*OUTSIDE, None, "sub/a.vrt", "missing.tif"])
def test_assets_that_leave_a_catalog_are_faults(tree, href):
    write(tree.parent / "outside.json", "secret")
    (tree / "one/link.json").symlink_to(tree.parent / "outside.json")
    (tree / "one/linked").symlink_to(tree.parent)
    assets = {"data": {"href": href, "roles": ["data"], "type": "image/tiff"}}
    write(tree / "one/one.json", item("one", assets=assets))
    found = list_scenes(str(tree / "catalog.json"), Selection(asset="data"))
    assert [bool(scene.fault) for scene in found.scenes] == [True, False, False]
    one = found.scenes[0]
    assert (one.path, one.stamp) == ("", "")
    assert "secret" not in str(found)
    assert any("cannot be used: 1, such as one: " in note for note in found.notes)


def test_roots_and_schemes_open_the_way(tree):
    touch(tree.parent, "store/scene.tif", "store/other.tif")
    write(tree.parent / "store/far.json", item("far", "./other.tif"))
    write(tree / "one/one.json", item("one", "../../store/scene.tif"))
    far = (tree.parent / "store/far.json").as_uri()
    write(tree / "catalog.json", catalog("r", [("item", "one/one.json"), ("item", far)]))
    with pytest.raises(InputError, match="roots"):
        list_scenes(str(tree / "catalog.json"), ALL)
    found = list_scenes(str(tree / "catalog.json"), Selection(roots=(tree.parent / "store",)))
    assert [scene.path for scene in found.scenes] == [
        str(tree.parent / "store" / name) for name in ("other.tif", "scene.tif")
    ]
    write(tree / "one/one.json", item("one", "s3://bucket/scene.tif"))
    assert names(tree / "one/one.json") == ["scene.tif"]
    narrow = Selection(schemes=("https",))
    assert "add it to `schemes`" in list_scenes(str(tree / "one/one.json"), narrow).scenes[0].fault


def test_what_cannot_be_read_is_a_fault_of_its_own(tree):
    write(tree / "catalog.json", catalog("r", [("item", f"./{name}") for name in (
        "one/one.json", "gone.json", "broken.json", "list.json", "bare/item.json", "odd.json",
        "folder",
    )] + [("child", "./2024/catalog.json")]))  # fmt: skip
    write(tree / "broken.json", "{")
    write(tree / "list.json", "[1, 2]")
    write(tree / "bare/item.json", {"type": "Feature"})
    write(tree / "odd.json", "[" * 200_000)
    (tree / "folder").mkdir()
    found = {scene.id: scene for scene in list_scenes(str(tree / "catalog.json"), ALL).scenes}
    assert not found.pop("one").fault
    said = {name: scene.fault.replace(str(tree), "") for name, scene in found.items()}
    assert said["gone"] == "/gone.json: no such file"
    assert "/broken.json is no JSON" in said["broken"]
    assert said["list"] == "/list.json is no STAC item"
    assert "has no id or no assets" in said["bare"]
    assert "no JSON" in said["odd"]
    assert "/folder cannot be read" in said["folder"]
    assert said["2024"] == "/2024/catalog.json: no such file"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("", "is no JSON"),
        ("<html>", "is no JSON .* begins with <html>"),
        ("[]", "its JSON is no object"),
        ('{"type": "Polygon"}', "its type is 'Polygon'"),
        ('{"a": 1}', "its type is None"),
        ('{"type": "FeatureCollection", "features": 5}', "holds no scenes"),
        ('{"type": "Catalog", "links": 5}', "holds no scenes"),
        (b"\xff\xfe\x00", "is no JSON"),
    ],
)
def test_roots_that_are_no_catalog(tmp_path, content, said):
    (tmp_path / "c.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said):
        list_scenes(str(tmp_path / "c.json"), ALL)


def nodes(content, way=()):
    """Give the way to each part of a JSON document."""
    yield way
    parts = content.items() if isinstance(content, dict) else ()
    for key, value in enumerate(content) if isinstance(content, list) else parts:
        yield from nodes(value, (*way, key))


def test_damaged_items_never_end_a_listing(tree):
    whole = item("x", **{"eo:cloud_cover": 4, "platform": "a", "instruments": ["b"],
                         "proj:shape": [1, 2], "start_datetime": "2024"})  # fmt: skip
    whole |= {"collection": "c", "links": [{"rel": "self", "href": "./x.json"}]}
    junk = (None, 5, -1e400, "", "a\x1b[2J\n", [], [[]], {}, {"a": [1]}, True)
    damaged = []
    for way in [way for way in nodes(whole) if way]:
        for part in junk:
            content = json.loads(json.dumps(whole))
            inner = content | {"id": f"x{len(damaged)}"}
            content = inner
            for key in way[:-1]:
                inner = inner[key]
            inner[way[-1]] = part
            damaged.append(content)
    damaged += list(junk)
    path = write_items(tree / "items.json", *damaged)
    asked = Selection(
        bbox=(0, 0, 90, 90), dates="2000/..", max_cloud=90, sensors=("a",), collections=("c",)
    )
    for selection in (ALL, asked):
        found = list_scenes(str(path), selection)
        assert len(found.scenes) + sum(found.left_out.values()) > len(damaged) * 0.7
        assert len({scene.id.lower() for scene in found.scenes}) == len(found.scenes)
        assert all(scene.fault.isprintable() for scene in found.scenes)


def test_only_an_api_understands_a_query(tree):
    with pytest.raises(InputError, match="only one understands `query`"):
        list_scenes(str(tree / "catalog.json"), Selection(query={"gsd": {"lt": 5}}))


def test_parts_of_an_api_are_no_catalog(tree):
    root = {"rel": "root", "href": "https://api.test/?key=secret"}
    page = {"type": "FeatureCollection", "features": [item("a")], "links": [root, {"rel": "next"}]}
    part = {**catalog("c", [], "Collection"), "links": [root, {"rel": "items", "href": "x"}]}
    for content in (page, part):
        write(tree / "part.json", content)
        with pytest.raises(InputError, match=r"give the API .*api.test/. and choose") as caught:
            list_scenes(str(tree / "part.json"), ALL)
        assert "secret" not in str(caught.value)


def test_a_scene_on_the_web_is_not_read_as_a_catalog():
    with pytest.raises(InputError, match="is a scene, not a catalog"):
        list_scenes("https://nowhere.invalid/scene.zip?sig=1", ALL)


def test_endless_levels_end(tree):
    for level in range(80):
        write(tree / f"{level}.json", catalog(f"{level}", [("child", f"{level + 1}.json")]))
    with pytest.raises(InputError, match="go on below level 64"):
        list_scenes(str(tree / "0.json"), ALL)


def test_items_of_a_collection_of_items(tree):
    far = item("far", "./scene.tif", parts={"links": [{"rel": "self", "href": "./one/x.json"}]})
    near = item("near", "c/three.tif")
    write_items(tree / "items.geojson", far, near, 5, {"type": "Feature"})
    scenes = list_scenes(str(tree / "items.geojson"), ALL).scenes
    found = {scene.id: scene for scene in scenes}
    assert found["far"].path == str(tree / "one/scene.tif")
    assert found["near"].path == str(tree / "c/three.tif")
    assert sum(bool(scene.fault) for scene in scenes) == 2
    far["links"] = [{"rel": "self", "href": "https://h.test/x/x.json"}]
    write_items(tree / "items.geojson", far)
    assert list_scenes(str(tree / "items.geojson"), ALL).scenes[0].path == (
        "https://h.test/x/scene.tif"
    )


TIFF = {"type": "image/tiff; application=geotiff"}


@pytest.mark.parametrize(
    ("assets", "chosen"),
    [
        ({"a": {"href": "a.tif"}}, "a.tif"),
        ({"a": {"href": "a.tif"}, "b": {"href": "b.png"}, "m": {"href": "m.xml"}}, "a.tif"),
        ({"a": {"href": "a.tif"}, "t": {"href": "t.tif", "roles": ["thumbnail"]}}, "a.tif"),
        ({"a": {"href": "a.tif"}, "b": {"href": "b.tif", "roles": ["data"]}}, "b.tif"),
        ({"a": {"href": "a.tif", "roles": ["reflectance"]}, "b": {"href": "b.tif"}}, "a.tif"),
        ({"a": {"href": "a.tif"}, "reflectance": {"href": "b.tif"}}, "b.tif"),
        ({"a": {"href": "download", **TIFF}, "b": {"href": "b.json"}}, "download"),
        ({"a": {"href": "a.img"}, "h": {"href": "a.hdr"}}, "a.img"),
        ({"rfl": {"href": "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc", "roles": ["data"]},
          "msk": {"href": "EMIT_L2A_MASK_001_20220903T163129_2224611_012.nc", "roles": ["data"]}},
         "EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc"),
        ({"image": {"href": "ENMAP-A-SPECTRAL_IMAGE.TIF", "roles": ["data"]},
          "cloud": {"href": "ENMAP-A-QL_QUALITY_CLOUD.TIF", "roles": ["data"]},
          "metadata": {"href": "ENMAP-A-METADATA.XML", "roles": ["metadata"]}},
         "ENMAP-A-METADATA.XML"),
        ({"image": {"href": "ENMAP-A-SPECTRAL_IMAGE_COG.tiff", "roles": ["data"]},
          "cloud": {"href": "ENMAP-A-QL_QUALITY_CLOUD_COG.tiff", "roles": ["data"]}},
         "ENMAP-A-SPECTRAL_IMAGE_COG.tiff"),
        ({"a": {"href": "s.zip"}, "b": {"href": "preview.jpg"}}, "s.zip"),
        ({"a": {"href": "https://h/x.tif?sig=1"}, "b": {"href": "s3://h/x.tif"}}, "x.tif?sig=1"),
        ({"a": {"href": "a.tif"}, "b": {"href": "b.tif"}}, None),
        ({"a": {"href": "a.png"}}, None),
        ({"a": {"href": None}, "b": 5, "c": {"roles": 7}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_which_asset_is_the_scene(tmp_path, assets, chosen):
    for asset in assets.values():
        if isinstance(asset, dict) and isinstance(href := asset.get("href"), str):
            touch(tmp_path, *([] if "://" in href else [href]))
    write(tmp_path / "i.json", item("it", assets=assets))
    scene = list_scenes(str(tmp_path / "i.json"), ALL).scenes[0]
    if chosen is None:
        usable = sorted(key for key, asset in assets.items() if isinstance(asset, dict))
        has = f"the assets {', '.join(usable)}" if assets else "none"
        assert scene.fault == f"item it has {has}; say which is the scene with `asset`"
    else:
        assert os.path.basename(scene.path) == chosen


def test_an_asset_by_its_name(tree):
    assets = {"a": {"href": "./scene.tif"}, "b": {"href": "./scene.tif"}}
    write(tree / "one/one.json", item("one", assets=assets))
    assert names(tree / "one/one.json", Selection(asset="b")) == ["scene.tif"]
    found = list_scenes(str(tree / "one/one.json"), Selection(asset="c"))
    assert found.scenes[0].fault == "item one has the assets a, b; there is no asset 'c'"


def test_dates_of_items_and_stamps_behind_addresses(tmp_path):
    span = {"start_datetime": "2024-05-30T00:00:00Z", "end_datetime": "2024-06-02T00:00:00Z"}
    write_items(
        tmp_path / "i.json",
        item("a", "https://h/a.tif?sig=secret", date=None, **span, updated="2024-07-01T00:00:00Z"),
        item("b", date="yesterday", assets={"d": {"href": "s3://h/b.tif", "file:size": 7,
                                                  "file:checksum": "12ab"}}),
        item("c", "https://h/c.tif", parts={"geometry": {"type": "Polygon"}, "bbox": [0, 0, 1]}),
    )  # fmt: skip
    a, b = list_scenes(str(tmp_path / "i.json"), Selection(dates="2024-06/..")).scenes
    assert (a.acquired, a.stamp) == (
        "2024-05-30T00:00:00Z",
        "https://h/a.tif:2024-07-01T00:00:00Z:",
    )
    assert a.path.endswith("?sig=secret")
    assert (b.acquired, b.stamp, b.size_bytes) == (None, "s3://h/b.tif:12ab:7", 7)
    assert list_scenes(str(tmp_path / "i.json"), ALL).scenes[2].geometry is None


# Ids


def candidate(name, path):
    return Candidate(scene=ArchiveScene(id=name, path=path, stamp=""))


def test_ids_are_unique_and_can_name_files():
    listed = [("a b", "/2"), ("a/b", "/1"), ("A_B", "/3"), ("c", "/4"), ("c", "/4"), ("", "/5")]
    found, notes = unique(candidate(*one) for one in listed)
    named = {one.scene.path: one.scene.id for one in found}
    one, two, three = (hashlib.sha256(path).hexdigest()[:6] for path in (b"/1", b"/2", b"/3"))
    expected = {"/1": f"a_b-{one}", "/2": f"a_b-{two}", "/3": f"A_B-{three}"}
    expected |= {"/4": "c", "/5": "scene"}
    assert named == expected
    assert found == sorted(found, key=lambda one: one.scene.id)
    assert notes[0] == "scenes listed more than once, each done once: 1"
    assert notes[1].startswith("ids that several scenes share: 1 (/1 and /2); each gets")
    again, _ = unique(candidate(*one) for one in reversed(listed))
    assert again == found
    assert safe_id("ä../x\n") == "_x_"
    assert len(safe_id("x" * 500)) == 150
    assert safe_id("x" * 500) != safe_id("x" * 501)


def test_a_suffix_never_makes_an_id_of_another_scene():
    taken = f"a-{hashlib.sha256(b'/2').hexdigest()[:6]}"
    found, _ = unique(candidate(*one) for one in [("a", "/1"), ("a", "/2"), (taken, "/3")])
    assert len({one.scene.id for one in found}) == 3


HOSTILE = [
    {"bbox": [10**400, 0, 1, 1], "geometry": None},
    {"geometry": {"type": "Point", "coordinates": [10**400, 1]}},
    {"properties": {"proj:shape": [10**400, 2], "datetime": None}},
    {"properties": {"platform": "\x1b[31mRED\x07", "datetime": None}},
    {"assets": {"data": {"href": "\ud800/a.tif", "roles": ["data"]}}},
    {"assets": {"data": {"href": "https://host/a.tif", "roles": ["data"], "file:size": 10**400}}},
]


@pytest.mark.parametrize("changed", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_item_does_not_end_the_listing(tmp_path, changed):
    asset = {"data": {"href": "https://host/a.tif", "roles": ["data"]}}
    good = {
        "type": "Feature", "stac_version": "1.1.0", "id": "good", "geometry": None,
        "properties": {"datetime": "2024-05-01T00:00:00Z"}, "assets": asset, "links": [],
    }  # fmt: skip
    items = [good, good | {"id": "bad"} | changed]
    text = json.dumps({"type": "FeatureCollection", "features": items})
    (tmp_path / "items.json").write_text(text)
    found = list_scenes(str(tmp_path / "items.json"), Selection(bbox=(0, 0, 1, 1)))
    assert "good" in {scene.id for scene in found.scenes}
    assert all(str(scene.sensor).isprintable() for scene in found.scenes)


def test_a_link_to_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    links = [{"rel": "item", "href": "pipe.json"}]
    root = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": "c",
        "description": "",
        "links": links,
    }
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    (scene,) = list_scenes(str(tmp_path / "catalog.json"), ALL).scenes
    assert "pipe" in scene.fault


# Selections


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2024", "2024-01-01T00:00:00", "2024-12-31T23:59:59.999999"),
        ("2024-02", "2024-02-01T00:00:00", "2024-02-29T23:59:59.999999"),
        ("2023-12", "2023-12-01T00:00:00", "2023-12-31T23:59:59.999999"),
        ("2024-05-01", "2024-05-01T00:00:00", "2024-05-01T23:59:59.999999"),
        ("2024-05-01/2024-09-30", "2024-05-01T00:00:00", "2024-09-30T23:59:59.999999"),
        ("2024-05/..", "2024-05-01T00:00:00", None),
        ("../2024", None, "2024-12-31T23:59:59.999999"),
        ("2024/", "2024-01-01T00:00:00", None),
        ("../..", None, None),
        ("2024-05-01T10:00:00+02:00", "2024-05-01T08:00:00", "2024-05-01T08:00:00"),
        ("9999", "9999-01-01T00:00:00", "9999-12-31T23:59:59.999999"),
    ],
)
def test_intervals(text, begin, end):
    found = [one and one.isoformat().removesuffix("+00:00") for one in interval(text)]
    assert found == [begin, end]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(dates="May 2024"), "cannot be understood"),
        (Selection(dates="2024-13"), "cannot be understood"),
        (Selection(dates="2024-02-30"), "cannot be understood"),
        (Selection(dates="20240501"), "cannot be understood"),
        (Selection(dates=""), "cannot be understood"),
        (Selection(dates="2024/P1D"), "cannot be understood"),
        (Selection(dates="2024/2025/2026"), "cannot be understood"),
        (Selection(dates="2025/2024"), "end before they begin"),
        (Selection(max_cloud=101), "from 0 to 100"),
        (Selection(max_cloud=float("nan")), "from 0 to 100"),
        (Selection(limit=0), "from 1 on"),
        (Selection(bbox=(0, 5, 1, 4)), "bbox is 0, 5, 1, 4"),
        (Selection(bbox=(0, 0, 200, 4)), "west, south, east, north in degrees"),
        (Selection(bbox=(0, 0, float("nan"), 4)), "west, south"),
        (Selection(area_layer="x"), "there is no area"),
        (Selection(area=Path("missing.gpkg")), "there is no such area file"),
    ],
)
def test_selections_that_make_no_sense(tree, selection, said):
    with pytest.raises(InputError, match=said):
        list_scenes(str(tree / "catalog.json"), selection)


def write_area(path, shapes, crs="EPSG:4326", **options):
    gpd.GeoDataFrame(geometry=shapes, crs=crs).to_file(path, **options)
    return path


@pytest.fixture
def places(tmp_path):
    """Return items on a line from 170 degrees east over the antimeridian, and one in Berlin."""
    west = (170, 175, 179.9, -178, -170)
    items = [item(f"at{i}", f"https://h/{i}.tif", place=(x, -17)) for i, x in enumerate(west)]
    return write_items(tmp_path / "places.json", *items, item("berlin", "https://h/b.tif"))


def test_areas_of_any_crs_and_kind(places, tmp_path):
    utm = gpd.GeoSeries([shapely.box(13.1, 52.1, 13.2, 52.2)], crs=4326).to_crs(32633)
    for name, shapes, crs in (
        ("a.gpkg", list(utm), 32633),
        ("b.shp", [shapely.Point(13.1, 52.1)], 4326),
        ("c.geojson", [None, shapely.LineString([(0, 52.1), (20, 52.1)])], 4326),
        ("d.gpkg", [shapely.Polygon([(13, 52), (14, 53), (13, 53), (14, 52)])], 4326),
    ):
        area = write_area(tmp_path / name, shapes, crs)
        found = list_scenes(str(places), Selection(area=area))
        assert [scene.id for scene in found.scenes] == ["berlin"], name
        assert dict(found.left_out) == {"outside the area": 5}


def test_areas_over_the_antimeridian(places, tmp_path):
    fiji = shapely.box(1_800_000, 3_800_000, 2_400_000, 4_300_000)  # 177 E to 177 W
    around = gpd.GeoSeries([fiji], crs=3460).to_crs(4326).union_all()
    assert around.bounds[2] - around.bounds[0] > 300  # what must not be taken for most of the Earth
    assert ids(places, Selection(area=write_area(tmp_path / "a.gpkg", [fiji], 3460))) == [
        "at2", "at3",
    ]  # fmt: skip
    beyond = shapely.box(174, -20, 183, -10)
    assert ids(places, Selection(area=write_area(tmp_path / "b.gpkg", [beyond]))) == [
        "at1", "at2", "at3",
    ]  # fmt: skip
    assert ids(places, Selection(bbox=(174, -20, -177, -10))) == ["at1", "at2", "at3"]
    world = write_area(tmp_path / "c.gpkg", [shapely.box(-180, -80, 180, 80)])
    assert len(ids(places, Selection(area=world))) == 6
    cap = write_area(tmp_path / "d.gpkg", [shapely.Point(0, 0).buffer(3e6)], 3031)
    with pytest.raises(InputError, match="6 outside the area"):
        ids(places, Selection(area=cap))


def test_footprints_over_the_antimeridian():
    uncut = {
        "type": "Polygon",
        "coordinates": [[[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]],
    }
    found = from_geojson(uncut)
    assert found.area == pytest.approx(2)
    assert found.bounds[0] == -180
    assert not found.intersects(shapely.Point(0, 0.5))
    cut = shapely.geometry.mapping(found)
    assert from_geojson(cut).equals(found)
    pole = to_degrees(shapely.box(-1e6, -1e6, 1e6, 1e6), gpd.GeoSeries(crs=3031).crs)
    assert pole.contains(shapely.Point(77, -89))
    assert pole.bounds[3] < -75
    for broken in ({"type": "Polygon"}, {"type": "X", "coordinates": []}, {"type": "Point"},
                   {"type": "Polygon", "coordinates": [[[0, 0], [1, None], [1, 1], [0, 0]]]},
                   {"type": "Polygon", "coordinates": "abc"}, {"type": "Point", "coordinates": []},
                   {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}):  # fmt: skip
        assert from_geojson(broken) is None


def test_layers_of_an_area(places, tmp_path):
    area = tmp_path / "a.gpkg"
    write_area(area, [shapely.box(13, 52, 14, 53)], layer="berlin")
    write_area(area, [shapely.box(169, -20, 171, -10)], layer="fiji")
    assert ids(places, Selection(area=area, area_layer="fiji")) == ["at0"]
    with pytest.raises(InputError, match=r"several layers \(berlin, fiji\)"):
        ids(places, Selection(area=area))
    with pytest.raises(InputError, match="no layer 'x'; its layers are berlin, fiji"):
        ids(places, Selection(area=area, area_layer="x"))


def test_areas_that_cannot_be_used(places, tmp_path):
    empty = write_area(tmp_path / "empty.gpkg", [shapely.Polygon()])
    bare = write_area(tmp_path / "bare.shp", [shapely.box(0, 0, 1, 1)])
    (tmp_path / "bare.prj").unlink()
    none = write(tmp_path / "none.geojson", {"type": "FeatureCollection", "features": []})
    text, table = write(tmp_path / "a.txt", "area"), write(tmp_path / "a.csv", "a,b\n1,2\n")
    for file, said in (
        (empty, "the area is empty"),
        (none, "the area is empty|cannot be used as an area"),
        (bare, "no CRS; assign one"),
        (text, "cannot be used as an area"),
        (table, "cannot be used as an area"),
    ):
        with pytest.raises(InputError, match=said):
            ids(places, Selection(area=file))


# GeoParquet


def test_geoparquet_of_items(tmp_path):
    (tmp_path / "p").mkdir()
    touch(tmp_path, "p/a.tif")
    listed = [
        item("a", "./a.tif", **{"eo:cloud_cover": 10.0, "proj:shape": [3, 4]}),
        item(
            "b", "https://h/b.tif", place=(0, 0), **{"eo:cloud_cover": 90.0, "proj:shape": [3, 4]}
        ),
        item("c", "/etc/passwd.tif", **{"eo:cloud_cover": 1.0, "proj:shape": [3, 4]}),
    ]
    path = tmp_path / "p/items.parquet"
    parse_stac_items_to_parquet(listed, output_path=path)
    found = list_scenes(str(path), Selection(max_cloud=50, dates="2024-05", bbox=(13, 52, 14, 53)))
    a, c = found.scenes
    assert (a.id, a.path, a.cloud_share, a.shape) == ("a", str(tmp_path / "p/a.tif"), 0.1, (3, 4))
    assert a.acquired == "2024-05-01T10:00:00Z"
    assert shapely.geometry.shape(a.geometry).equals(shapely.geometry.shape(square(13, 52)))
    assert "roots" in c.fault
    assert dict(found.left_out) == {"outside the area": 1}
    write_items(tmp_path / "p/items.json", *listed)
    same = list_scenes(str(tmp_path / "p/items.json"), ALL).scenes
    ours = list_scenes(str(path), ALL).scenes
    for one, other in zip(ours, same, strict=True):
        assert replace(one, geometry=None) == replace(other, geometry=None)


def test_items_of_unlike_assets_in_one_parquet(tmp_path):
    listed = [
        item("a", assets={"x": {"href": "https://h/a.tif", "roles": ["data"]}}),
        item("b", assets={"y": {"href": "https://h/b.nc"}, "z": {"href": "https://h/b.png"}}),
    ]
    parse_stac_items_to_parquet(listed, output_path=tmp_path / "i.parquet")
    assert names(tmp_path / "i.parquet") == ["a.tif", "b.nc"]


def test_parquet_without_items(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "x": [1]}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"id": ["a"], "geometry": [1], "assets": ["x"]}), tmp_path / "b.parquet"
    )
    touch(tmp_path, "c.parquet")
    for name, said in (
        ("a", "holds no STAC items: it lacks the columns assets, geometry"),
        ("b", "cannot be read as GeoParquet"),
        ("c", "cannot be read as GeoParquet"),
    ):
        with pytest.raises(InputError, match=said):
            ids(tmp_path / f"{name}.parquet")


# Behind addresses


def test_a_catalog_on_the_web(tree, tmp_path):
    write(tree / "c/two/two.json", item("two", "file:///etc/passwd.tif"))
    steps = []
    with web_server(tree, tmp_path / "log") as server:
        address = f"{server.address}/catalog.json?token=secret"
        found = list_scenes(address, ALL, progress=lambda *step: steps.append(step))
        one, three, two = found.scenes
        assert one.path == f"{server.address}/one/scene.tif"
        assert one.item == f"{server.address}/one/one.json"
        assert three.path == f"{server.address}/c/three.tif"
        assert "a file of this machine" in two.fault
        assert steps[-1] == (6, 6)  # the catalog again, without its token
        write(tree / "catalog.json", catalog("r", [("item", "file:///etc/passwd")]))
        with pytest.raises(InputError, match=r"catalog.json: its link 'item' leads to file:"):
            list_scenes(f"{server.address}/catalog.json", ALL)
        write(tree / "catalog.json", catalog("r", [("item", "one/one.json"), ("item", "no.json")]))
        found = list_scenes(f"{server.address}/catalog.json", ALL)
        assert "no.json answered with status 404, there is no such thing" in found.scenes[0].fault
        write(tree / "here.json", catalog("h", [("child", f"{server.address}/catalog.json")]))
        assert ids(tree / "here.json") == ["no", "one"]
        touch(tree, "one/scene.txt")
        for path, said in (("nope.json?key=secret", "status 404"), ("one/scene.txt", "is no JSON")):
            with pytest.raises(InputError, match=said) as caught:
                list_scenes(f"{server.address}/{path}", ALL)
            assert "secret" not in str(caught.value)


def test_servers_that_do_not_answer(tmp_path):
    with pytest.raises(InputError, match="cannot be reached; check the address") as caught:
        list_scenes(f"http://user:secret@127.0.0.1:{free_port()}/c.json?key=secret", ALL)
    assert "secret" not in str(caught.value)
    limits = patch("hsi_pipeline.archive.documents.READ_SECONDS", 0.3)
    late = pytest.raises(InputError, match="did not answer in time")
    with limits, web_server(tmp_path, tmp_path / "log") as server, late:
        list_scenes(f"{server.address}/never/c.json", ALL)


@pytest.fixture(scope="module")
def moto():
    with moto_server() as endpoint:
        listed = [
            item("a", "./a.tif"),
            item("b", "s3://scenes/b.tif"),
            item("c", "gopher://x/c.tif"),
        ]
        collection = {"type": "FeatureCollection", "features": listed}
        files = {
            "in/ENMAP01-X-METADATA.XML": b"x", "in/ENMAP01-X-SPECTRAL_IMAGE.TIF": b"yy",
            "in/deep/z.zip": b"zip", "in/c.zarr/zarr.json": b"{}", "in/c.zarr/c/0/0": b"1",
            "in/line.img": b"1", "in/line.hdr": b"ENVI", "in/.hid/h.tif": b"1", "in/t.txt": b"1",
            "cat/catalog.json": json.dumps(catalog("r", [("item", "../cat/items.json")])).encode(),
            "cat/items.json": json.dumps(collection).encode(),
        }  # fmt: skip
        make_bucket(endpoint, "scenes", files)
        yield endpoint


@pytest.fixture
def store(moto):
    with store_settings(moto):
        yield moto


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("s3://scenes/in/", ["ENMAP01-X-METADATA.XML", "c.zarr", "deep/z.zip", "line.img"]),
        ("s3://scenes/in", ["ENMAP01-X-METADATA.XML", "c.zarr", "deep/z.zip", "line.img"]),
        ("s3://scenes/**/*.zip", ["deep/z.zip"]),
        ("s3://scenes/in/*.hdr", ["line.img"]),
        ("s3://scenes/in/*", ["ENMAP01-X-METADATA.XML", "c.zarr", "line.img"]),
        ("s3://scenes/in/**", ["ENMAP01-X-METADATA.XML", "c.zarr", "deep/z.zip", "line.img"]),
        ("/vsis3/scenes/in/deep", ["deep/z.zip"]),
    ],
)
def test_a_bucket(store, source, found):
    scenes = list_scenes(source, ALL).scenes
    assert sorted(scene.path for scene in scenes) == [f"s3://scenes/in/{name}" for name in found]


def test_stamps_and_sizes_in_a_bucket(store):
    before = {scene.id: scene for scene in list_scenes("s3://scenes/in", ALL).scenes}
    assert {name: scene.size_bytes for name, scene in before.items()} == {
        "ENMAP01-X": 3, "c": 3, "line": 5, "z": 3,
    }  # fmt: skip
    files = s3fs.S3FileSystem()
    kept = files.cat_file("scenes/in/line.hdr")
    files.pipe_file("scenes/in/line.hdr", b"ENVX")
    after = {scene.id: scene for scene in list_scenes("s3://scenes/in", ALL).scenes}
    files.pipe_file("scenes/in/line.hdr", kept)
    assert [name for name in before if before[name].stamp != after[name].stamp] == ["line"]


def test_a_catalog_in_a_bucket(store, tmp_path):
    a, b, c = list_scenes("s3://scenes/cat/catalog.json", ALL).scenes
    assert (a.path, b.path) == ("s3://scenes/cat/a.tif", "s3://scenes/b.tif")
    assert "gopher://x/c.tif" in c.fault
    with pytest.raises(InputError, match=r"s3://scenes/cat/none\.json"):
        list_scenes("s3://scenes/cat/none.json", ALL)
    with pytest.raises(InputError, match="holds no scenes"):
        list_scenes("s3://scenes/nothing/", ALL)
    with pytest.raises(InputError, match=r"holds no scenes|cannot be read"):
        list_scenes("s3://no-such-bucket/", ALL)


@pytest.mark.parametrize("source", ["s3://scenes/in/", "s3://scenes/cat/catalog.json",
                                    "s3://scenes/a.parquet"])  # fmt: skip
def test_no_credentials(store, source, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError) as caught:
        list_scenes(source, ALL)
    for word in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_NO_SIGN_REQUEST=YES"):
        assert word in str(caught.value)


@pytest.mark.skipif(object_store.missing() is not None, reason=str(object_store.missing()))
def test_forbidden(tmp_path):
    touch(tmp_path, "s/scenes/a.tif")
    with s3_store(tmp_path / "s", tmp_path / "log") as server, store_settings(server.address):
        for source in ("s3://scenes/", "s3://scenes/c.json"):
            with pytest.raises(InputError, match="forbid") as caught:
                list_scenes(source, ALL)
            assert "s3cret" not in str(caught.value)


def test_settings_of_both_libraries_are_shared(store):
    with patch.dict(os.environ):
        del os.environ["AWS_ENDPOINT_URL"]
        os.environ.pop("AWS_ENDPOINT_URL_S3", None)
        os.environ |= {"AWS_S3_ENDPOINT": store.removeprefix("http://"), "AWS_HTTPS": "NO"}
        addresses.share_settings()
        assert ids("s3://scenes/**/*.zip") == ["z"]


# APIs


CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#query",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
]


class _Api(BaseHTTPRequestHandler):
    """A small STAC API of several moods, which the first part of the path names."""

    items: tuple = ()
    asked: list
    busy = 2

    def log_message(self, *arguments):
        """Keep quiet."""

    def do_GET(self):
        asked = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
        for key in ("bbox", "collections"):
            if key in asked:
                asked[key] = asked[key].split(",")
        self.answer("GET", {**asked, "bbox": list(map(float, asked.get("bbox", [])))})

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.answer("POST", json.loads(self.rfile.read(length)))

    def answer(self, method, question):
        mood, _, rest = urlsplit(self.path).path.strip("/").partition("/")
        here = f"http://{self.headers['Host']}/{mood}"
        self.asked.append((mood, method, rest, question))
        if not rest:
            self.root(mood, here)
        elif mood == "busy" and type(self).busy:
            type(self).busy -= 1
            self.say(503, {}, {"Retry-After": "0"})
        elif mood in ("400", "401", "403", "500"):
            self.say(int(mood), {"description": "token=secret is bad"})
        elif mood == "html":
            self.say(200, "<html>login</html>")
        elif mood == "list":
            self.say(200, [1, 2])
        elif mood == "getonly" and method == "POST":
            self.say(405, {})
        else:
            self.page(mood, here, method, question)

    def root(self, mood, here):
        conforms = CONFORMS[: {"noquery": 2, "nosearch": 1, "sorted": 4}.get(mood, 3)]
        if mood == "static":
            self.say(200, catalog("static", [("item", "https://nowhere.invalid/i.json")]))
            return
        methods = ["GET"] if mood == "getlink" else ["GET", "POST"]
        links = [{"rel": "root", "href": here}, {"rel": "self", "href": here}] + [
            {"rel": "search", "href": f"{here}/search", "method": method,
             "type": "application/geo+json"} for method in methods
        ]  # fmt: skip
        self.say(200, {**catalog(mood, []), "conformsTo": conforms, "links": links})

    def page(self, mood, here, method, question):
        found = [one for one in self.items if _fits(one, question)]
        if question.get("sortby") == [{"field": "id", "direction": "asc"}]:
            found.sort(key=lambda one: one["id"])
        first, size = int(question.get("token", 0)), 2
        page = found[first : first + size]
        links = []
        if mood == "loop":
            page, first = found[:size], -size
        if mood == "hostile":
            links = [{"rel": "next", "href": "/etc/passwd"}]
        elif first + size < len(found):
            link = {"rel": "next", "href": f"{here}/search", "method": method}
            if method == "POST":
                link["body"] = {**question, "token": first + size}
            else:
                kept = {k: v for k, v in question.items() if isinstance(v, str) and k != "token"}
                words = "&".join(f"{k}={v}" for k, v in kept.items())
                link["href"] += f"?{words}&token={first + size}"
            links = [link]
        self.say(200, {"type": "FeatureCollection", "features": page, "links": links,
                       "numberMatched": len(found)})  # fmt: skip

    def say(self, status, content, headers=()):
        text = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


def _fits(one, question):
    if question.get("collections") and one["collection"] not in question["collections"]:
        return False
    clouds = question.get("query", {})
    most = clouds.get("eo:cloud_cover", {}).get("lte") if isinstance(clouds, dict) else None
    if most is not None and not one["properties"].get("eo:cloud_cover", 101) <= most:
        return False
    place = shapely.geometry.shape(one["geometry"])
    if question.get("bbox"):
        return place.intersects(shapely.box(*question["bbox"]))
    if question.get("intersects"):
        return place.intersects(shapely.geometry.shape(question["intersects"]))
    return True


@contextmanager
def api_server(items):
    handler = type("_This", (_Api,), {"items": items, "asked": [], "busy": 2})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def api():
    listed = tuple(
        item(f"i{i}", f"https://h.test/{i}.tif", place=(x, -17), date=f"2024-0{i + 1}-01T10:00:00Z",
             **{"eo:cloud_cover": 10 * i}, parts={"collection": "even" if i % 2 == 0 else "odd"})
        for i, x in enumerate((170, 175, 179.5, -178, -170))
    )  # fmt: skip
    with api_server(listed) as (address, asked):
        yield address, asked


EVERY = [f"i{i}" for i in range(5)]


@pytest.mark.parametrize("mood", ["good", "good/search", "getonly", "getlink", "busy", "noquery"])
def test_an_api_gives_all_pages(api, mood):
    address, asked = api
    steps = []
    found = list_scenes(f"{address}/{mood}", ALL, progress=lambda *step: steps.append(step))
    assert [scene.id for scene in found.scenes] == EVERY
    assert found.scenes[1].path == "https://h.test/1.tif"
    assert found.scenes[1].cloud_share == 0.1
    assert steps[-1] == (5, 5)
    assert len([one for one in asked if "search" in one[2]]) >= 3


@pytest.mark.parametrize(
    ("selection", "left", "sent"),
    [
        (Selection(collections=("odd",)), ["i1", "i3"], {"collections": ["odd"]}),
        (Selection(dates="2024-02/2024-03"), ["i1", "i2"],
         {"datetime": "2024-02-01T00:00:00Z/2024-03-31T23:59:59.999999Z"}),
        (Selection(dates="2024-04/.."), ["i3", "i4"], {"datetime": "2024-04-01T00:00:00Z/.."}),
        (Selection(max_cloud=15), ["i0", "i1"], {"query": {"eo:cloud_cover": {"lte": 15}}}),
        (Selection(query={"gsd": {"lt": 5}}), EVERY, {"query": {"gsd": {"lt": 5}}}),
        (Selection(bbox=(174, -20, 176, -10)), ["i1"], {"bbox": [174, -20, 176, -10]}),
        (Selection(bbox=(179, -20, -177, -10)), ["i2", "i3"], {"bbox": [179, -20, 180, -10]}),
        (Selection(limit=2), ["i0", "i1"], {"limit": 250}),
    ],
)  # fmt: skip
def test_what_an_api_is_asked(api, selection, left, sent):
    address, asked = api
    assert ids(f"{address}/good", selection) == left
    questions = [question for _, method, _, question in asked if method == "POST"]
    assert any(sent.items() <= question.items() for question in questions)
    assert ids(f"{address}/getlink", replace(selection, query={})) == left


def test_a_limit_spares_pages_where_an_api_sorts(api):
    address, asked = api
    found = list_scenes(f"{address}/sorted", Selection(limit=3))
    assert [scene.id for scene in found.scenes] == EVERY[:3]
    assert "was asked for the first 3 items by id" in found.notes[0]
    assert len([one for one in asked if one[1] == "POST"]) == 2
    asked.clear()
    assert ids(f"{address}/sorted", Selection(limit=3, sensors=("EnMAP",))) == EVERY[:3]
    assert len([one for one in asked if one[1] == "POST"]) == 3


def test_an_area_is_sent_to_an_api(api, tmp_path):
    address, asked = api
    area = write_area(tmp_path / "a.gpkg", [shapely.box(174, -20, 176, -10)])
    assert ids(f"{address}/good", Selection(area=area)) == ["i1"]
    assert asked[-1][3]["intersects"]["type"] == "Polygon"
    fine = shapely.Point(175, -17).buffer(1, quad_segs=500)
    area = write_area(tmp_path / "b.gpkg", [fine])
    assert ids(f"{address}/good", Selection(area=area)) == ["i1"]
    assert asked[-1][3]["bbox"] == pytest.approx([174, -18, 176, -16])


def test_clouds_are_looked_at_here_where_an_api_cannot(api):
    address, asked = api
    found = list_scenes(f"{address}/noquery", Selection(max_cloud=15))
    assert dict(found.left_out) == {"too cloudy": 3}
    assert all("query" not in question for *_, question in asked)
    found = list_scenes(f"{address}/good", Selection(max_cloud=15))
    assert "leaves out items that do not say it" in found.notes[0]


@pytest.mark.parametrize(
    ("mood", "selection", "said"),
    [
        ("400", ALL, "status 400, it does not take the question: .*is bad"),
        ("401", ALL, "status 401, it wants credentials"),
        ("403", ALL, "status 403, it forbids it"),
        ("500", ALL, "status 500, its server failed; try later"),
        ("html", ALL, "answered with something else|is no JSON"),
        ("list", ALL, "answered with something else"),
        ("loop", ALL, "gives the same page again and again"),
        ("hostile", ALL, "no address of the web|status 404|cannot be"),
        ("nosearch", ALL, "has no search for items"),
        ("good", Selection(query={"a": 1}), "query has a: 1; give operators"),
        ("noquery", Selection(query={"a": {"eq": 1}}), "does not conform to the extension query"),
        ("good", Selection(collections=("none",)), "holds no scenes"),
        ("static", ALL, "cannot be reached"),
    ],
)
def test_apis_that_fail(api, mood, selection, said):
    address, _ = api
    if mood == "static":  # its only item is nowhere, which is a fault of that item
        assert said in list_scenes(f"{address}/{mood}", selection).scenes[0].fault
        return
    with pytest.raises(InputError, match=said) as caught:
        list_scenes(f"{address}/{mood}", selection)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_items_of_an_api_lead_to_addresses_alone():
    listed = tuple(
        item(f"i{i}", href, parts={"collection": "c"})
        for i, href in enumerate(("file:///etc/passwd.tif", "/etc/passwd.tif", "s3://b/a.tif"))
    )
    with api_server(listed) as (address, _):
        scenes = list_scenes(f"{address}/good", ALL).scenes
        assert "a file of this machine" in scenes[0].fault
        assert scenes[1].path == f"{address}/etc/passwd.tif"
        assert scenes[2].path == "s3://b/a.tif"
        bare = item("x", "https://h/x.tif", parts={"collection": "c"})
        for broken in (
            {"type": "Feature", "geometry": square(0, 0)},
            {**bare, "id": "y", "assets": None},
        ):
            with api_server((bare, broken)) as (other, _):
                found = list_scenes(f"{other}/good", ALL).scenes
                assert sum(bool(scene.fault) for scene in found) == 1


def test_envi_scene_with_its_header_alone_in_a_pattern(tmp_path):
    write_envi(tmp_path / "line.img", PIXELS)
    scene = list_scenes(str(tmp_path / "*.hdr"), ALL).scenes[0]
    assert scene.path == str(tmp_path / "line.img")
    assert open_source(scene.path).pixels.shape == PIXELS.shape
