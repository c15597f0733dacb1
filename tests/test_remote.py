"""Scenes behind addresses: values, how much is fetched, one set of settings, and failures."""

import os
import pickle
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import fsspec.config
import h5py
import numpy as np
import object_store
import pytest
import rasterio
import s3fs
from object_store import KEY, SECRET, s3_store, web_server
from test_scene import CRS, TRANSFORM, listed, write_envi, write_tif

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import addresses, open_scene, open_source
from hsi_pipeline.scene.hdf5 import HdfPart, HdfPixels, hdf5_file
from hsi_pipeline.scene.places import place_of

needs_store = pytest.mark.skipif(
    object_store.missing() is not None, reason=str(object_store.missing())
)
SHAPE = (30, 256, 256)
FIELDS = {
    "reflectance_scale_factor": 10000,
    "data_ignore_value": -9999,
    "wavelength": listed(range(400, 700, 10)),
    "wavelength_units": "Nanometers",
}
NAMES = ("scene.tif", "line.img", "line.hdr", "stored.zip", "line.tar")


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(5).integers(0, 10_000, SHAPE).astype("int16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pixels):
    """Return a folder with the bucket `scenes`."""
    root = tmp_path_factory.mktemp("store")
    bucket = root / "scenes"
    bucket.mkdir()
    write_tif(bucket / "scene.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    write_envi(bucket / "line.img", pixels, interleave="bil", **FIELDS)
    with zipfile.ZipFile(bucket / "stored.zip", "w") as archive:
        archive.write(bucket / "scene.tif", "product/scene.tif")
        archive.writestr("product/METADATA.XML", "<scene/>")
    with tarfile.open(bucket / "line.tar", "w") as archive:
        for name in ("line.img", "line.hdr"):
            archive.add(bucket / name, f"./delivery/{name}")
    with h5py.File(bucket / "scene.h5", "w") as file:
        file.create_dataset("cube", data=pixels.transpose(1, 2, 0), chunks=(64, 64, 30))
    for name in ("other.tif", "secret.tif", "third.tif"):
        (bucket / name).write_bytes((bucket / "scene.tif").read_bytes())
    return root


@pytest.fixture(scope="module")
def web(folder, tmp_path_factory):
    with web_server(folder, tmp_path_factory.mktemp("log") / "web.log") as server:
        yield server


@pytest.fixture(scope="module")
def private(folder, tmp_path_factory):
    with s3_store(folder, tmp_path_factory.mktemp("log") / "s3.log") as store:
        yield store


@pytest.fixture(scope="module")
def public(folder, tmp_path_factory):
    with s3_store(folder, tmp_path_factory.mktemp("log") / "s3.log", is_public=True) as store:
        yield store


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Return a function that sets variables, in an environment that says nothing of S3."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GDAL_HTTP", "FSSPEC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with patch.dict(fsspec.config.conf, clear=True):
        yield lambda **said: [monkeypatch.setenv(name, value) for name, value in said.items()]
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["http", pytest.param("s3", marks=needs_store)])
def root(request, settings):
    """Return the address of the bucket."""
    if request.param == "http":
        return request.getfixturevalue("web").address + "/scenes"
    store = request.getfixturevalue("private")
    settings(
        AWS_ENDPOINT_URL=store.address, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_REGION="us-east-1",
    )  # fmt: skip
    return "s3://scenes"


@pytest.mark.parametrize("name", NAMES)
def test_values_and_meaning_are_those_of_the_file(root, pixels, name):
    source = open_source(f"{root}/{name}")
    assert source.pixels.shape == SHAPE
    np.testing.assert_array_equal(source.pixels[:, 100:140, 7:80], pixels[:, 100:140, 7:80])
    assert (source.grid.crs, source.grid.affine) == (CRS, TRANSFORM)
    if name.startswith("line"):
        assert source.scale == 1e-4
        assert source.nodata == -9999
        assert source.wavelengths.center_nm == tuple(range(400, 700, 10))
        assert source.attrs["scene_id"] == "line"
    cube = open_scene(f"{root}/{name}")
    np.testing.assert_array_equal(cube[3, 5:9, ::7].values, pixels[3, 5:9, ::7])


def test_many_threads_and_another_process_read_it(root, pixels):
    found = pickle.loads(pickle.dumps(open_source(f"{root}/scene.tif").pixels))

    def is_right(row):
        window = found[:, row : row + 20, 30:90]
        return np.array_equal(window, pixels[:, row : row + 20, 30:90])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(is_right, range(0, 220, 11)))


def test_hdf5_is_read_by_windows(root, pixels):
    place, name = place_of(f"{root}/scene.h5")
    path = place.opened(name)
    with hdf5_file(path, "stamp") as file:
        assert file["cube"].shape == (256, 256, 30)
    parts = (HdfPart("cube", "yxb", tuple(range(30))),)
    found = HdfPixels(path, "stamp", parts, SHAPE, np.dtype("int16"))
    np.testing.assert_array_equal(found[2:9, 60:70, 3:9], pixels[2:9, 60:70, 3:9])


def test_a_product_in_an_archive_is_read_by_its_files(root, pixels):
    place, name = place_of(f"{root}/stored.zip")
    assert name == ""
    assert place.find("*metadata.xml") == ("product/METADATA.XML",)
    assert place.read("product/METADATA.XML") == b"<scene/>"
    with rasterio.open(place.gdal("product/scene.tif")) as raster:
        np.testing.assert_array_equal(raster.read(3), pixels[2])


@pytest.mark.parametrize("name", NAMES)
def test_a_window_fetches_little_and_nothing_is_listed(web, settings, folder, pixels, name):
    addresses.share_settings()
    size = pixels.nbytes
    web.requests()
    source = open_source(f"{web.address}/scenes/{name}")
    asked = web.requests()
    assert not [path for path, _ in asked if path.endswith("/")]
    assert len(asked) < 40
    assert sum(sent for _, sent in asked) < 0.1 * size
    source.pixels[:, 70:74, 10:50]
    assert sum(sent for _, sent in web.requests()) < 0.15 * size


def test_a_window_of_an_hdf5_file_fetches_part_of_it(web, settings, folder):
    cube = np.random.default_rng(0).integers(0, 10_000, (640, 640, 30)).astype("int16")
    with h5py.File(folder / "scenes" / "large.h5", "w") as file:
        file.create_dataset("cube", data=cube, chunks=(64, 64, 30))
    place, name = place_of(f"{web.address}/scenes/large.h5")
    parts = (HdfPart("cube", "yxb", tuple(range(30))),)
    found = HdfPixels(place.opened(name), "stamp", parts, (30, 640, 640), np.dtype("int16"))
    web.requests()
    window = found[:, 330:340, 100:120]
    np.testing.assert_array_equal(window, cube[330:340, 100:120].transpose(2, 0, 1))
    assert sum(sent for _, sent in web.requests()) < 0.7 * cube.nbytes


@needs_store
def test_s3_is_not_listed(private, settings):
    settings(AWS_ENDPOINT_URL=private.address, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    private.requests()
    open_source("s3://scenes/other.tif").pixels[:, 0:9, 0:9]
    asked = private.requests()
    assert asked
    listings = [path for path, _ in asked if "/scenes/?" in path]
    assert all("prefix=other." in path for path in listings)  # of files beside it, by name


# --- one set of settings for both libraries ---------------------------------------------------


def both_read(path, pixels):
    """Read a scene by GDAL and a file by fsspec."""
    np.testing.assert_array_equal(open_source(path).pixels[2, 3:5, 4:9], pixels[2, 3:5, 4:9])
    place, name = place_of(path)
    assert place.begins(name, b"II*\0")


@needs_store
@pytest.mark.parametrize(
    "said",
    [
        {"AWS_ENDPOINT_URL": "http://{}"},
        {"AWS_ENDPOINT_URL_S3": "http://{}", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        {"AWS_S3_ENDPOINT": "{}", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"},
    ],
    ids=["botocore's words", "botocore's words for S3", "GDAL's words"],
)
def test_an_endpoint_said_once_holds_for_both(private, settings, pixels, said):
    host = private.address.removeprefix("http://")
    settings(
        AWS_ACCESS_KEY_ID=KEY,
        AWS_SECRET_ACCESS_KEY=SECRET,
        **{name: value.format(host) for name, value in said.items()},
    )
    both_read("s3://scenes/scene.tif", pixels)


@needs_store
def test_public_buckets_need_no_credentials(public, settings, pixels):
    settings(AWS_ENDPOINT_URL=public.address, AWS_NO_SIGN_REQUEST="YES")
    both_read("s3://scenes/scene.tif", pixels)


@needs_store
def test_anonymity_said_to_fsspec_holds_for_gdal(public, settings, pixels):
    settings(AWS_ENDPOINT_URL=public.address)
    fsspec.config.conf["s3"] = {"anon": True}
    both_read("s3://scenes/other.tif", pixels)


def test_what_the_user_set_is_left_alone(settings):
    said = {"GDAL_HTTP_TIMEOUT": "7", "AWS_ENDPOINT_URL": "http://a", "AWS_S3_ENDPOINT": "b"}
    settings(**said)
    addresses.share_settings()
    assert {name: os.environ[name] for name in said} == said
    assert "AWS_HTTPS" not in os.environ
    assert os.environ["GDAL_HTTP_MAX_RETRY"] == "2"


# --- failures -------------------------------------------------------------------------------


def refused(path, words):
    began = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        open_source(path)
    assert time.monotonic() - began < 15
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.tif", "nowhere.img", "nowhere.hdr", "nowhere.zip"])
def test_what_is_not_there(root, name):
    assert f"{root}/{name}" in refused(f"{root}/{name}", "nowhere")


@pytest.mark.parametrize("name", ["a.tif", "a.img", "a.zip"])
def test_no_server(settings, name):
    refused(f"http://127.0.0.1:1/{name}", r"http://127\.0\.0\.1:1/a\..*(?i:connect)")


@needs_store
@pytest.mark.parametrize("name", ["secret.tif", "secret.img"])
def test_credentials_that_are_missing(private, settings, name):
    settings(AWS_ENDPOINT_URL=private.address)
    refused(f"s3://scenes/{name}", "(?i)credentials|AWS_SECRET_ACCESS_KEY|not defined|denied")


@needs_store
@pytest.mark.parametrize("name", ["third.tif", "third.img"])
def test_credentials_that_are_wrong(private, settings, name):
    settings(AWS_ENDPOINT_URL=private.address)
    settings(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY="wrong")
    refused(f"s3://scenes/{name}", "(?i)cannot be opened|denied|signature|forbidden")


def test_a_server_that_does_not_answer(web, settings, monkeypatch):
    settings(GDAL_HTTP_TIMEOUT="1", GDAL_HTTP_MAX_RETRY="0")
    refused(f"{web.address}/never.tif", r"never\.tif.*(?i:timeout|timed out)")
    monkeypatch.setattr(addresses, "READ_SECONDS", 1)
    refused(f"{web.address}/never.img", r"never\.(img|hdr).*(?i:timeout|timed out)")


def test_a_busy_server(web, settings):
    refused(f"{web.address}/busy.tif", r"busy\.tif.*503")


def test_messages_keep_passwords_and_signatures(web, settings):
    address = web.address.replace("://", "://user:s3cret@")
    for path in (f"{address}/nowhere.tif?X-Sig=abc", f"{address}/nowhere.zip?X-Sig=abc"):
        said = refused(path, "nowhere")
        assert "s3cret" not in said
        assert "abc" not in said


def test_a_signed_address(web, settings, pixels):
    source = open_source(f"{web.address}/scenes/scene.tif?X-Sig=a/b.hdr")
    np.testing.assert_array_equal(source.pixels[1, 2:4, 3], pixels[1, 2:4, 3])
    assert source.attrs["scene_id"] == "scene"
