"""Accuracy in a map's own attributes: read back by other programs, pixels and order untouched."""

import hashlib
import json

import numpy as np
import pytest
import rasterio
import xarray as xr
from system_programs import class_map

from hsi_pipeline.errors import InputError
from hsi_pipeline.publish import open_class_map, write_class_map
from hsi_pipeline.publish.record import accuracy_summary, record_accuracy

ESTIMATE = {"value": 0.9, "standard_error": 0.01, "low": 0.88, "high": 0.92}
FOUND = {
    "design": "stratified",
    "overall_accuracy": ESTIMATE,
    "classes": [{"code": 1, "name": "Grün & <Wiese>", "f1": None}],
}


@pytest.fixture(params=["map.zarr", "map.tif"])
def path(request, tmp_path):
    path = tmp_path / request.param
    write_class_map(class_map(), path)
    return path


def test_it_comes_back_and_all_else_stays(path):
    before = open_class_map(path).load()
    record_accuracy(path, {"old": 1})
    record_accuracy(path, FOUND)
    after = open_class_map(path).load()
    assert after.attrs.pop("accuracy") == FOUND
    xr.testing.assert_identical(after, before)


def test_other_programs_read_it(path):
    record_accuracy(path, FOUND)
    if path.suffix == ".zarr":
        with xr.open_zarr(path, consolidated=True) as dataset:
            assert dataset.attrs["accuracy"] == FOUND
        return
    with rasterio.open(path) as raster:
        assert json.loads(raster.tags()["accuracy"]) == FOUND
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_the_file_of_a_cog_is_not_touched(tmp_path):
    path = tmp_path / "map.tif"
    write_class_map(class_map(), path)
    digest = hashlib.sha256(path.read_bytes()).digest()
    names = path.with_name("map.tif.aux.xml").read_text()
    assert record_accuracy(path, FOUND) == tmp_path / "map.tif.aux.xml"
    assert hashlib.sha256(path.read_bytes()).digest() == digest
    now = (tmp_path / "map.tif.aux.xml").read_text()
    assert now.count("<Category>") == names.count("<Category>") > 0


def test_a_raster_without_a_side_file_gets_one(tmp_path):
    path = tmp_path / "foreign.tif"
    codes = np.ones((4, 5), np.uint8)
    size = {"count": 1, "height": 4, "width": 5, "transform": rasterio.Affine(30, 0, 0, 0, -30, 0)}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", crs="EPSG:32633", **size) as file:
        file.write(codes, 1)
    record_accuracy(path, FOUND)
    assert open_class_map(path).attrs["accuracy"] == FOUND


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<PAMDataset><broken", "cannot be recorded with it .*--out"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset>&b;</PAMDataset>', "cannot be recorded"),
        ("<html/>", r"no side file of GDAL \(it begins with <html>\)"),
    ],
)
def test_a_side_file_that_is_none_is_named_and_stays(content, words, tmp_path):
    path = tmp_path / "map.tif"
    write_class_map(class_map(), path)
    side = tmp_path / "map.tif.aux.xml"
    side.write_text(content)
    with pytest.raises(InputError, match=words):
        record_accuracy(path, FOUND)
    assert side.read_text() == content


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_store_of_another_program_stays_consolidated(tmp_path):
    path = tmp_path / "foreign.zarr"
    class_map().load().to_zarr(path, zarr_format=3, consolidated=True)
    record_accuracy(path, FOUND)
    with xr.open_zarr(path, consolidated=True) as dataset:
        assert dataset.attrs["accuracy"] == FOUND


def test_a_summary_leaves_out_what_is_long():
    whole = FOUND | {"confusion_matrix": {"counts": [[1]]}, "warnings": ["w"], "kappa": ESTIMATE}
    assert accuracy_summary(whole) == FOUND | {"kappa": ESTIMATE}
