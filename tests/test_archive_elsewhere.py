"""Archives across machines and programs: web and object stores, other hosts, QGIS, mosaics."""

import json
import os
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import network_hosts
import numpy as np
import pystac
import pytest
import rasterio
import s3fs
from archive_scenes import content_of, raster_scene, write_archive, write_workflow
from moto_store import make_bucket, moto_server, store_settings
from network_hosts import dask_hosts, loopback_cluster
from object_store import web_server
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from test_qgis import has_qgis, open_in_qgis

from hsi_pipeline import config
from hsi_pipeline.commands.archive import run_archive
from hsi_pipeline.commands.scheduling import cluster
from hsi_pipeline.commands.terminal import Terminal
from hsi_pipeline.publish.stac_schemas import _schemas

EXTRA = "polygonize: {}\n"
PROGRAM = shutil.which("hsi-pipeline", path=os.path.dirname(sys.executable))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Return a folder of four scenes of two sensors and five broken ones."""
    return write_archive(tmp_path_factory.mktemp("archive"), 4)


@pytest.fixture(scope="module")
def finished(scenes, model, tmp_path_factory):
    """Return an archive that was mapped by threads of this process."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_workflow(folder, model, scenes=scenes, extra=EXTRA)
    run_archive(config.load(path), workers=0)
    return folder / "out"


def test_every_item_is_valid_by_pystac(finished):
    validator = JsonSchemaSTACValidator()
    validator.schema_cache.update(_schemas())  # of extensions, which it would fetch
    catalog = pystac.Catalog.from_file(str(finished / "catalog.json"))
    assert catalog.validate(validator=validator) is not None
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 4
    for item in items:
        # as it is written: what pystac has read it brings to newer extensions
        written = json.loads(Path(item.get_self_href()).read_text())
        found = pystac.validation.validate_dict(written, validator=validator)
        assert len(found) == 1 + len(written["stac_extensions"])


def test_workers_on_loopback_make_the_same_archive(finished, scenes, model, tmp_path):
    path = write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA)
    (tmp_path / "dask").mkdir()
    with loopback_cluster(2, folder=tmp_path / "dask") as cluster:
        done = cluster.run([PROGRAM, "run", str(path), "--scheduler", cluster.scheduler])
    assert done.returncode == 1, done.stderr  # five scenes are broken
    assert content_of(tmp_path / "out") == content_of(finished)


@pytest.mark.skipif(network_hosts.missing() is not None, reason=str(network_hosts.missing()))
def test_workers_on_other_hosts_make_the_same_archive(finished, scenes, model, tmp_path):
    path = write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA)
    (tmp_path / "dask").mkdir()
    with dask_hosts(2, folder=tmp_path / "dask") as hosts:
        done = hosts.run([PROGRAM, "run", str(path), "--scheduler", hosts.scheduler])
    assert done.returncode == 1, done.stderr
    assert content_of(tmp_path / "out") == content_of(finished)


def test_scenes_of_a_catalog_on_the_web_become_an_archive_in_an_object_store(model, tmp_path):
    web = tmp_path / "web"
    (web / "data").mkdir(parents=True)
    links = []
    for number in range(3):
        scene = raster_scene(web / "data", number, rows=300, columns=300)
        item = pystac.Item(
            id=f"scene-{number}", bbox=None, geometry=None, properties={},
            datetime=pystac.utils.str_to_datetime(f"2023-0{number + 1}-05T10:00:00Z"),
        )  # fmt: skip
        item.add_asset("data", pystac.Asset(f"./data/{scene.name}", roles=["data"]))
        (web / f"{item.id}.json").write_text(json.dumps(item.to_dict(include_self_link=False)))
        links.append({"rel": "item", "href": f"./{item.id}.json"})
        with rasterio.open(scene, "r+") as raster:  # the time is known to the catalog alone
            raster.update_tags(start_time="")
    root = {"type": "Catalog", "stac_version": "1.1.0", "id": "web", "description": "scenes"}
    (web / "catalog.json").write_text(json.dumps(root | {"links": links}))
    with (
        web_server(web, tmp_path / "web.log") as server,
        moto_server() as endpoint,
        store_settings(endpoint),
    ):
        make_bucket(endpoint, "maps")
        path = write_workflow(
            tmp_path, model, scenes=f"{server.address}/catalog.json", out="s3://maps/archive",
            extra=EXTRA,
        )  # fmt: skip
        assert run_archive(config.load(path), workers=0).is_complete
        assert run_archive(config.load(path), workers=0).finished == 3
        sent = server.requests()
        files = s3fs.S3FileSystem()
        files.invalidate_cache()
        files.get("maps/archive/", str(tmp_path / "copy"), recursive=True)
    whole = sum((web / "data" / f"tif-{number:03}.tif").stat().st_size for number in range(3))
    assert sum(size for name, size in sent if name.endswith(".tif")) < 1.5 * whole
    for number in range(3):
        month = f"2023-0{number + 1}"
        item = json.loads(
            (tmp_path / "copy" / month / f"scene-{number}" / f"scene-{number}.json").read_text()
        )
        assert item["properties"]["datetime"] == f"{month}-05T10:00:00Z"
        derived = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
        assert derived == [f"{server.address}/scene-{number}.json"]


def test_dashboard_and_metrics_are_where_it_is_said():
    class Listening(Terminal):
        said = ""

        def say(self, text):
            self.said += text

    terminal = Listening(quiet=True)
    with cluster(terminal, None, 0, imports="hsi_pipeline.errors"):
        pages = re.findall(r"http://\S+(?=,|$)", terminal.said)
        dashboard, metrics = (urllib.request.urlopen(page, timeout=20).read() for page in pages)
    assert b"dask_scheduler_workers" in metrics
    assert b"Dask" in dashboard


def test_a_mosaic_and_a_change_of_an_archive(finished, tmp_path, cli):
    code, _, said = cli("mosaic", finished, "--out", tmp_path / "all.zarr", "--rule", "confident")
    assert code == 0, said
    maps = sorted(finished.glob("*/tif-*/*_map.tif"))
    code, _, said = cli("mosaic", *maps, "--out", tmp_path / "mosaic.tif", "--rule", "newest")
    assert code == 0, said
    with rasterio.open(tmp_path / "mosaic.tif") as mosaic:
        whole = mosaic.read(1)
        for path in maps:
            with rasterio.open(path) as one:
                row, column = mosaic.index(*one.xy(0, 0))
                part = whole[row : row + one.height, column : column + one.width]
                assert np.array_equal(part, one.read(1))
    code, _, said = cli(
        "change", maps[0], tmp_path / "mosaic.tif", "--out", tmp_path / "change.tif",
        "--polygons", tmp_path / "change.gpkg", "--matrix", tmp_path / "matrix.csv",
    )  # fmt: skip
    assert code == 0, said
    with rasterio.open(tmp_path / "change.tif") as change:
        assert set(np.unique(change.read(1))) == {1}  # the mosaic is that map there: unchanged
    code, _, said = cli("change", *maps, "--out", tmp_path / "none.tif")
    assert code == 2
    assert "overlap" in said


def test_qgis_opens_the_maps_and_the_items(finished, tmp_path):
    if not has_qgis(tmp_path):
        pytest.skip("QGIS is not installed (Debian: qgis python3-qgis qgis-providers)")
    item = next(finished.glob("*/tif-001/tif-001.json"))
    place, name = item.parent, item.stem
    layers = {
        "map": {"raster": str(place / f"{name}_map.tif")},
        "polygons": {"vector": str(place / f"{name}_landcover.gpkg")},
        "footprints": {"vector": str(finished / "footprints.gpkg")},
    }
    found = open_in_qgis(tmp_path, layers)
    footprints = found.pop("footprints")
    assert footprints["valid"]
    assert footprints["crs"] == "EPSG:4326"
    assert all(layer["valid"] and layer["crs"] == "EPSG:32633" for layer in found.values())
    names = [[1, "water"], [3, "tree"], [7, "roof"]]
    assert [entry[:2] for entry in found["map"]["legend"]] == names
    assert [[int(code), name] for code, name, _ in found["polygons"]["legend"]][:3] == names
    colors = {color for *_, color in found["map"]["legend"]}
    assert colors <= set(found["map"]["colors"])
    assert Path(place).exists()
