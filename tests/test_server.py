"""The server as its clients see it: a real one, started by the command line, on a free port."""

import contextlib
import ctypes
import errno
import http.client
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import RLock
from uuid import uuid4

import geopandas as gpd
import h5py
import jsonschema
import numpy as np
import psutil
import pytest
import rasterio
import requests
import zarr
from conftest import CRS, TRANSFORM, write_scene

from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.errors import InputError

pytest.importorskip("pygeoapi")

from hsi_pipeline.server.child import Child, End
from hsi_pipeline.server.confined import check_size, surroundings
from hsi_pipeline.server.folder import SharedFolder
from hsi_pipeline.server.job import Job
from hsi_pipeline.server.processes import Work
from hsi_pipeline.server.records import RecordFolder, new_record

DOCS = Path(__file__).parents[1] / "docs" / "server.md"
CLASSIFY = {"scene": "scene.tif", "model": "model.safetensors", "out": "map.tif"}
TIMEOUT = 60


class Server:
    """A server in a process of its own."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hsi_pipeline", "serve", folder, "--port", "0", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        first = self.process.stderr.readline()
        self.said.append(first)
        found = re.search(r" at http://127\.0\.0\.1:(\d+)", first)
        if not found:
            self.process.kill()
            raise AssertionError(first + self.process.stderr.read())
        self.url, self.port = f"http://127.0.0.1:{found[1]}", int(found[1])
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self.reader.start()

    def post(self, process, inputs=None, *, later=False, body=None, **headers):
        headers |= {"Prefer": "respond-async"} if later else {}
        return requests.post(
            f"{self.url}/processes/{process}/execution",
            data=json.dumps({"inputs": inputs}) if body is None else body,
            headers={"Content-Type": "application/json"} | headers,
            timeout=TIMEOUT,
        )

    def get(self, path, **options):
        return requests.get(f"{self.url}{path}", timeout=TIMEOUT, **options)

    def delete(self, path):
        return requests.delete(f"{self.url}{path}", timeout=TIMEOUT)

    def wait(self, job, states=("successful", "failed")):
        for _ in range(600):
            status = self.get(f"/jobs/{job}").json()
            if status["status"] in states:
                return status
            time.sleep(0.1)
        raise AssertionError(status)

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(30)
        self.reader.join(10)
        self.process.stderr.close()
        return code


def fill(folder, tiny, model):
    """Put a scene and a model into a folder."""
    folder.mkdir(exist_ok=True)
    shutil.copy(tiny.path, folder / "scene.tif")
    shutil.copy(model, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny, model):
    running = Server(fill(tmp_path_factory.mktemp("served") / "data ä", tiny, model))
    yield running
    assert running.stop() == 130
    assert not [line for line in running.said if "Traceback" in line]


@pytest.fixture(scope="module")
def class_map(server):
    """Return the name of a map that the server has made."""
    answer = server.post("classify", CLASSIFY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["out"] == "map.tif"
    return "map.tif"


def refused(answer, match, status=400):
    """Check that an answer is an exception of OGC's in a line, without paths of the machine."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    said = answer.json()
    assert said["status"] == status
    assert said["type"]
    assert re.search(match, said["detail"]), said["detail"]
    assert said["detail"].count("\n") <= 1
    assert "Traceback" not in answer.text
    assert "/tmp" not in answer.text.replace("/tmp/outside", "")  # but for what the request said
    assert "site-packages" not in answer.text
    return said


# --- results ---


def test_the_map_is_that_of_the_command_line(server, class_map, tmp_path):
    expected = tmp_path / "map.tif"
    classify(server.folder / "scene.tif", server.folder / "model.safetensors", expected)
    with rasterio.open(server.folder / class_map) as ours, rasterio.open(expected) as theirs:
        np.testing.assert_array_equal(ours.read(), theirs.read())
        assert (ours.tags(1), ours.transform, ours.crs) == (
            theirs.tags(1),
            theirs.transform,
            theirs.crs,
        )
    with (
        rasterio.open(server.folder / "map_confidence.tif") as ours,
        rasterio.open(tmp_path / "map_confidence.tif") as theirs,
    ):
        np.testing.assert_array_equal(ours.read(), theirs.read())


def test_a_job_is_followed_from_its_begin_to_its_result(server, class_map, tmp_path):
    inputs = {
        "map": class_map,
        "out": "fields.gpkg",
        "min_area": 4000,
        "simplify": 45,
        "smooth": True,
    }
    answer = server.post("polygonize", inputs, later=True)
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "respond-async"
    job = answer.json()["jobID"]
    assert answer.headers["Location"] == f"{server.url}/jobs/{job}"
    assert answer.json()["status"] in ("accepted", "running")
    refused(server.get(f"/jobs/{job}/results"), "has not ended yet", 404)
    status = server.wait(job)
    assert (status["status"], status["progress"], status["processID"]) == (
        "successful",
        100,
        "polygonize",
    )
    assert f"{server.url}/jobs/{job}/results" in [link["href"] for link in status["links"]]
    results = server.get(f"/jobs/{job}/results").json()
    assert results["out"] == "fields.gpkg"
    assert any("polygons in fields.gpkg" in line for line in results["messages"])
    polygonize(
        server.folder / class_map, tmp_path / "x.gpkg", min_area=4000, simplify=45, smooth=True
    )
    ours, theirs = (
        gpd.read_file(path, layer="landcover")
        for path in (server.folder / "fields.gpkg", tmp_path / "x.gpkg")
    )
    assert len(ours) > 3
    assert ours.drop(columns="scene_id").equals(theirs.drop(columns="scene_id"))
    # the list has it, and deleting forgets it
    assert job in [entry["jobID"] for entry in server.get("/jobs").json()["jobs"]]
    assert server.delete(f"/jobs/{job}").json()["status"] == "dismissed"
    said = refused(server.get(f"/jobs/{job}"), "there is no job", 404)
    assert said["type"].endswith("/no-such-job")


def test_outputs_are_chosen_and_given_raw(server, class_map):
    body = {"inputs": {"map": class_map, "out": "raw.fgb"}, "outputs": {"out": {}}}
    answer = server.post("polygonize", body=json.dumps(body | {"response": "raw"}))
    assert answer.json() == "raw.fgb"
    job = answer.headers["Location"].rpartition("/")[2]
    assert set(server.get(f"/jobs/{job}/results").json()) == {"out", "messages"}


def test_what_the_command_line_refuses_is_told_without_the_folder(server):
    write_scene(server.folder / "fewer.tif", np.ones((2, 8, 8), np.int16), wavelengths=(450, 550))
    answer = server.post("classify", {**CLASSIFY, "scene": "fewer.tif", "out": "never.tif"})
    said = refused(answer, "model .*nm|bands")
    job = answer.headers.get("Location", "").rpartition("/")[2]
    assert str(server.folder) not in answer.text
    newest = server.get("/jobs", params={"limit": 1}).json()["jobs"][0]
    assert not job or job == newest["jobID"]
    assert (newest["status"], newest["message"]) == ("failed", said["detail"])
    refused(server.get(f"/jobs/{newest['jobID']}/results"), re.escape(said["detail"][:40]))
    assert not list(server.folder.glob("*never*"))


# --- what the standard asks for ---


def test_the_server_describes_itself(server):
    landing = server.get("/").json()
    links = {link["rel"].rpartition("/")[2]: link["href"] for link in landing["links"]}
    assert {"self", "service-desc", "conformance", "processes", "job-list"} <= links.keys()
    assert all(requests.get(link, timeout=TIMEOUT).ok for link in links.values())
    classes = server.get("/conformance").json()["conformsTo"]
    prefix = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf"
    assert {f"{prefix}/core", f"{prefix}/json", f"{prefix}/dismiss"} <= set(classes)
    assert not [name for name in classes if "html" in name or "callback" in name]
    openapi = server.get("/openapi").json()
    assert openapi["openapi"].startswith("3.0")
    expected = {f"/processes/{name}/execution" for name in ("classify", "polygonize")}
    assert expected <= openapi["paths"].keys()
    assert not [path for path in openapi["paths"] if "collections" in path or "Tile" in path]


def test_processes_are_described_by_schemas_that_their_examples_fit(server):
    listed = server.get("/processes").json()["processes"]
    assert [process["id"] for process in listed] == ["classify", "polygonize"]
    for summary in listed:
        process = server.get(f"/processes/{summary['id']}").json()
        assert {"sync-execute", "async-execute", "dismiss"} == set(process["jobControlOptions"])
        assert process["outputTransmission"] == ["value"]
        assert {"version", "title", "description", "outputs"} <= process.keys()
        relations = {link["rel"].rpartition("/")[2] for link in process["links"]}
        assert {"self", "execute"} <= relations
        example = process["example"]["inputs"]
        for name, described in process["inputs"].items():
            jsonschema.Draft202012Validator.check_schema(described["schema"])
            assert {"title", "schema", "minOccurs"} <= described.keys()
            assert (described["minOccurs"] == 1) <= (name in example)
            if name in example:
                jsonschema.validate(example[name], described["schema"])


@pytest.mark.parametrize(
    "path",
    ["/collections", "/admin/config", "/stac", "/TileMatrixSets", "/static/x.js", "/asyncapi",
     "/schemas/x", "/.hsi-pipeline/lock", "/../../etc/passwd", "/jobs/..%2f..%2flock"],
)  # fmt: skip
def test_nothing_else_is_there(server, path):
    refused(server.get(path), "Not Found|there is no job", 404)


def test_answers_are_json_whatever_is_accepted(server):
    answer = server.get("/processes", headers={"Accept": "text/html", "Accept-Language": "fr"})
    assert answer.headers["Content-Type"] == "application/json"
    assert "pygeoapi" not in str(answer.headers)
    assert "Access-Control-Allow-Origin" not in answer.headers
    refused(server.get("/?f=html"), "answers are JSON")
    refused(server.get("/jobs?limit=-1"), "limit must be a whole number")
    refused(server.get("/jobs?limit=1&limit=2"), "given more than once")
    refused(server.get("/jobs?x=1"), "'x' is unknown")
    refused(requests.put(f"{server.url}/processes", timeout=TIMEOUT), "Method Not Allowed", 405)
    refused(requests.options(f"{server.url}/jobs", timeout=TIMEOUT), "Method Not Allowed", 405)


# --- requests that are no requests ---


@pytest.mark.parametrize(
    ("headers", "match"),
    [
        ({"Host": "evil.example"}, "Host header is 'evil.example'"),
        ({"Host": "127.0.0.1:1"}, "Host header"),
        ({"Origin": "https://evil.example"}, "pages of other sites"),
        ({"Host": "x" * 60_000}, "'x{60}'; this server"),
        ({"Origin": "http://[::1"}, "pages of other sites"),
        ({"Origin": "null"}, "pages of other sites"),
        ({"Sec-Fetch-Site": "cross-site"}, "pages of other sites"),
    ],
)
def test_pages_of_other_sites_are_not_answered(server, headers, match):
    refused(server.get("/jobs", headers=headers), match, 403)
    refused(server.post("classify", CLASSIFY, **headers), match, 403)


def test_the_servers_own_names_are_answered(server):
    for name in ("127.0.0.1", "localhost"):
        host = f"{name}:{server.port}"
        answer = server.get("/jobs", headers={"Host": host, "Origin": f"http://{host}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[]", "JSON object"),
        ("3", "JSON object"),
        ("{}", "no 'inputs'"),
        ('{"inputs": []}', "a value for each name"),
        ('{"inputs": null}', "a value for each name"),
        ('{"inputs": {"scene": NaN}}', "NaN is no number"),
        ('{"inputs": {"scene": -Infinity}}', "Infinity is no number"),
        ('{"inputs": {}, "inputs": {}}', "given twice"),
        ('{"inputs": {}, "mode": "x"}', "'mode' is no part"),
        ('{"inputs": {}, "outputs": {"secret": {}}}', "found 'secret'"),
        ('{"inputs": {}, "outputs": ["out"]}', "'outputs' is an object"),
        ('{"inputs": {}, "outputs": {"out": {"transmissionMode": "reference"}}}', "by value"),
        ('{"inputs": {}, "response": "xml"}', "raw or document"),
        ('{"inputs": {}, "subscriber": {"successUri": "http://127.0.0.1:9/"}}', "callbacks"),
        ('{"inputs": {"scene": ' + "[" * 50 + "]" * 50 + "}}", "nested too deeply"),
        ('{"inputs": ' + '{"a":' * 9000 + "1" + "}" * 9000 + "}", "nested too deeply"),
    ],
)
def test_a_body_that_is_no_execute_request_is_refused(server, body, match):
    refused(server.post("classify", body=body.encode("latin-1")), match)


def test_large_foreign_and_endless_bodies_are_refused(server):
    refused(server.post("classify", body=b" " * 70_000), "at most 65536 bytes", 413)
    refused(
        server.post("classify", body=b"{}", **{"Content-Type": "text/plain"}),
        "application/json",
        415,
    )
    refused(server.post("classify", body=iter([b"{}"])), "length must be given", 411)
    refused(server.post("nothing", CLASSIFY), "no process 'nothing'", 404)
    # a length that is promised and not kept does not keep others from being answered
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/processes/classify/execution")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    assert server.get("/jobs").ok
    connection.close()


# --- inputs that are none ---


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scene": None}, "None is not of type 'string'"),
        ({"scene": 3}, "3 is not of type 'string'"),
        ({"scene": ["scene.tif"]}, "not of type 'string'"),
        ({"scene": {"href": "http://127.0.0.1:9/x.tif"}}, "not of type 'string'"),
        ({"scene": {"value": "scene.tif"}}, "not of type 'string'"),
        ({"scene": ""}, "input 'scene'"),
        ({"scene": "a" * 30_000 + ".tif"}, "is too long"),
        ({"overwrite": "yes"}, "'yes' is not of type 'boolean'"),
        ({"overwrite": 1}, "1 is not of type 'boolean'"),
        ({"layers": "entropy"}, "not of type 'array'"),
        ({"layers": ["entropy", "entropy"]}, "non-unique"),
        ({"layers": ["--scheduler=tcp://x"]}, "is not one of"),
        ({"precision": "float64"}, "is not one of"),
        ({"mask": "none --scheduler=tcp://127.0.0.1:9"}, "does not match"),
        ({"mask": "--help"}, "does not match"),
        ({"scheduler": "tcp://127.0.0.1:9"}, "'scheduler' was unexpected"),
        ({"--overwrite": True}, "'--overwrite' was unexpected"),
    ],
)
def test_inputs_are_held_against_their_schemas(server, changes, match):
    refused(server.post("classify", CLASSIFY | changes), match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"min_area": -1}, "less than the minimum"),
        ({"min_area": "1"}, "not of type 'number'"),
        ({"min_area": 10**400}, "greater than the maximum"),
        ({"simplify": 1e300}, "greater than the maximum"),
        ({"connectivity": 6}, "6 is not one of"),
        ({"smooth": "--append"}, "not of type 'boolean'"),
        ({"out": "postgresql://user@host/gis?table=x"}, "addresses"),
        ({"out": "a.shp"}, "suffix must be one of"),
        ({"out": "map.tif"}, "suffix must be one of"),
    ],
)
def test_inputs_of_polygonize_are_held_against_their_schemas(server, class_map, changes, match):
    refused(server.post("polygonize", {"map": class_map, "out": "a.gpkg"} | changes), match)


def test_a_missing_input_is_named(server):
    said = refused(
        server.post("classify", {"scene": "scene.tif", "out": "x.tif"}), "'model' is a required"
    )
    assert said["code"] == "MissingParameterValue"


NAMES = [
    "", "/etc/passwd", "/tmp/outside/secret.tif", "../secret.tif", "a/../../secret.tif", "..", ".",
    "~/x.tif", "./scene.tif", "sub//x.tif", "sub/", "C:\\x.tif", "C:/x.tif", "..\\secret.tif",
    "\\\\host\\x.tif", "scene.tif\0.png", "scene\n.tif", "/vsicurl/http://127.0.0.1/x.tif",
    "/vsizip/x.zip/x.tif", "s3://bucket/x.tif", "http://127.0.0.1/x.tif", "file:///etc/x.tif",
    "postgresql://h/x.tif", "scene.tif|layername=x", 'ZARR:"/etc"', "GTIFF_DIR:1:scene.tif",
    "NETCDF:x.nc:a", "<VRTDataset/>", '{"type":"x"}.tif', ".hsi-pipeline/jobs/x.tif", ".hidden.tif",
    "\ud800.tif", "?.tif",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["scene", "model", "out"])
def test_names_that_lead_elsewhere_are_refused(server, key, name):
    inputs = CLASSIFY | {"out": "x.tif"} | {key: name}
    match = (
        "is too short|non-empty|no name of a file|has none of|relative to the folder|suffix must be"
    )
    refused(server.post("classify", inputs), match)


@pytest.mark.parametrize("stem", ["a" * 480, "a" * 250, "ä" * 100, "a" * 300 + "/a"])
@pytest.mark.parametrize("key", ["scene", "model", "out"])
def test_names_that_no_file_can_have_are_refused(server, key, stem):
    end = ".safetensors" if key == "model" else ".tif"
    inputs = CLASSIFY | {"out": "x.tif"} | {key: f"{stem}{end}"}
    refused(server.post("classify", inputs), "is too long: .* at most 200 bytes")
    refused(server.post("classify", CLASSIFY | {"out": "a" * 197 + ".tif"}), "is too long")


@pytest.mark.parametrize(
    "name",
    [
        "scene.vrt",
        "scene.zip",
        "scene.tar.gz",
        "scene.img",
        "scene.hdr",
        "scene",
        "scene.npy",
        "item.json",
    ],
)
def test_other_kinds_of_files_are_refused_by_name(server, name):
    (server.folder / name).write_bytes(b"x")
    refused(
        server.post("classify", {**CLASSIFY, "scene": name, "out": "x.tif"}),
        "suffix must be one of",
    )


# --- no file outside is read or written ---


class Watch:
    """Counts how often files are opened, by the system's own account (inotify)."""

    def __init__(self, *paths):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        for path in paths:
            assert (
                self._libc.inotify_add_watch(self._fd, os.fsencode(path), 0x20 | 0x2 | 0x100) >= 0
            )

    def opened(self):
        with contextlib.suppress(BlockingIOError):
            found = os.read(self._fd, 65536)
            return len(found) // struct.calcsize("iIII")
        return 0

    def close(self):
        os.close(self._fd)


@pytest.fixture
def outside(tmp_path):
    """Return a folder with what nobody may open, watched."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name, count in (("secret.tif", 10), ("one.tif", 1)):
        write_scene(folder / name, np.ones((count, 48, 40), np.int16), wavelengths=None)
    with h5py.File(folder / "secret.h5", "w") as file:
        file["x"] = np.ones((10, 48, 40))
    zarr.create_array(folder / "chunk.zarr", data=np.ones((48, 40), np.uint8), zarr_format=2)
    shutil.copy(folder / "chunk.zarr" / "0.0", folder / "0.0")
    return folder


@pytest.fixture
def web():
    """Return a web server and the paths that it was asked for."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    listener = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_port}", asked
    listener.shutdown()
    listener.server_close()


def vrt(source, bands=1):
    each = "".join(
        f'<VRTRasterBand dataType="Int16" band="{band}"><SimpleSource><SourceFilename>{source}'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in range(1, bands + 1)
    )
    return (
        '<VRTDataset rasterXSize="40" rasterYSize="48"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>0,30,0,0,0,-30</GeoTransform>{each}</VRTDataset>"
    )


def write_map(path, **overviews):
    """Write a raster of codes without names, for which GDAL's other sources are asked."""
    codes = np.ones((1, 48, 40), np.uint8)
    write_scene(path, codes, wavelengths=None, nodata=0)
    if overviews:
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(ns="OVERVIEWS", **overviews)


def hdf5_scene(path, outside, kind):
    with h5py.File(path, "w") as file:
        if kind == "external":
            source = [(str(outside / "secret.tif"), 0, 48 * 40 * 2)]
            file.create_dataset("cube", (1, 48, 40), "int16", external=source)
        elif kind == "virtual":
            layout = h5py.VirtualLayout((10, 48, 40), "f8")
            layout[...] = h5py.VirtualSource(outside / "secret.h5", "x", shape=(10, 48, 40))
            file.create_virtual_dataset("cube", layout)
        else:
            file["cube"] = h5py.ExternalLink(outside / "secret.h5", "x")


@pytest.fixture
def nook(server, request):
    """Return a folder of the server's for one test, and its name."""
    name = re.sub(r"\W", "_", request.node.name)[:80]
    folder = server.folder / name
    folder.mkdir()
    return folder, name


needs_links = pytest.mark.skipif(sys.platform != "linux", reason="watches files by inotify")


@needs_links
@pytest.mark.parametrize("source", ["file", "web"])
@pytest.mark.parametrize("suffix", [".tif", ".TIF", ".h5", ".nc"])
def test_a_virtual_raster_is_refused_whatever_its_name(server, nook, outside, web, suffix, source):
    folder, name = nook
    address = outside / "secret.tif" if source == "file" else f"/vsicurl/{web[0]}/x.tif"
    (folder / f"a{suffix}").write_text(vrt(address, 10))
    watch = Watch(outside / "secret.tif")
    for process, key in (("classify", "scene"), ("polygonize", "map")):
        if key == "map" and "tif" not in suffix.lower():
            continue
        out = f"{name}/x.tif" if key == "scene" else f"{name}/x.gpkg"
        inputs = {key: f"{name}/a{suffix}", "out": out}
        inputs |= {"model": "model.safetensors"} if key == "scene" else {}
        refused(server.post(process, inputs), "is not a (TIFF|HDF5 or netCDF-4) file")
    assert (watch.opened(), web[1]) == (0, [])


@needs_links
@pytest.mark.parametrize("kind", ["tag-file", "tag-web", "beside-file", "beside-web", "layer"])
def test_a_map_leads_to_no_other_file(server, nook, outside, web, kind):
    folder, name = nook
    path = folder / "m.tif"
    other = outside / "one.tif"
    address = other if kind.endswith("file") else f"/vsicurl/{web[0]}/x.tif"
    write_map(path, **({"OVERVIEW_FILE": str(address)} if kind.startswith("tag") else {}))
    if kind == "layer":
        (folder / "m_confidence.tif").write_text(vrt(other))
    if kind.startswith("beside"):
        for end in ("ovr", "msk"):
            (folder / f"m.tif.{end}").write_text(vrt(address))
        (folder / "m.tif.aux.xml").write_text(
            '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
            f"{address}</MDI></Metadata></PAMDataset>"
        )
    watch = Watch(other)
    answer = server.post("polygonize", {"map": f"{name}/m.tif", "out": f"{name}/x.gpkg"})
    if kind.startswith("tag") or kind == "layer":
        refused(answer, "takes its overviews from another file|is not a TIFF file")
    else:
        assert answer.status_code == 200, answer.text
    assert (watch.opened(), web[1]) == (0, [])


@needs_links
def test_the_watch_sees_what_gdal_opens_without_the_server(tmp_path, outside):
    """The check above can fail: GDAL itself follows such a tag."""
    write_map(tmp_path / "m.tif", OVERVIEW_FILE=str(outside / "one.tif"))
    watch = Watch(outside / "one.tif")
    with rasterio.open(tmp_path / "m.tif") as raster:
        raster.overviews(1)
    assert watch.opened() > 0
    watch.close()


@needs_links
@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
def test_hdf5_that_is_stored_elsewhere_is_refused(server, nook, outside, kind):
    folder, name = nook
    hdf5_scene(folder / "a.nc", outside, kind)
    watch = Watch(outside / "secret.tif", outside / "secret.h5")
    answer = server.post("classify", {**CLASSIFY, "scene": f"{name}/a.nc", "out": f"{name}/x.tif"})
    refused(answer, "stored in another file|link to another file")
    assert watch.opened() == 0


@needs_links
@pytest.mark.parametrize(
    "kind", ["file", "folder", "chunk", "beside", "style", "unfinished", "ring"]
)
def test_links_that_lead_out_are_refused(server, nook, outside, kind):
    folder, name = nook
    scene, out = f"{name}/a.tif", f"{name}/x.tif"
    shutil.copy(server.folder / "scene.tif", folder / "a.tif")
    watch = Watch(outside / "secret.tif", outside / "0.0", outside)
    if kind == "file":
        (folder / "a.tif").unlink()
        (folder / "a.tif").symlink_to(outside / "secret.tif")
    elif kind == "folder":
        (folder / "sub").symlink_to(outside)
        scene = f"{name}/sub/secret.tif"
        refused(server.post("classify", {**CLASSIFY, "out": f"{name}/sub/x.tif"}), "leads out of")
    elif kind == "chunk":
        scene = f"{name}/a.zarr"
        zarr.create_array(folder / "a.zarr", data=np.ones((48, 40), np.uint8), zarr_format=2)
        (folder / "a.zarr" / "0.0").unlink()
        (folder / "a.zarr" / "0.0").symlink_to(outside / "0.0")
    elif kind == "beside":
        (folder / "METADATA.XML").symlink_to(outside / "secret.tif")
    elif kind == "style":
        (folder / "x.qml").symlink_to(outside / "secret.tif")
    elif kind == "unfinished":
        (folder / ".x.tif.unfinished").symlink_to(outside)
    else:
        (folder / "ring.tif").symlink_to(folder / "ring.tif")
        scene = f"{name}/ring.tif"
    answer = server.post("classify", {**CLASSIFY, "scene": scene, "out": out})
    refused(answer, "leads out of|a link out of|is a link or no file|cannot be opened|no such file")
    assert not (outside / "x.tif").exists()
    assert watch.opened() == 0


def test_a_link_that_stays_inside_and_values_that_look_like_options_are_names(server, nook):
    folder, name = nook
    link = server.folder / "--help.tif"
    link.symlink_to("scene.tif")
    inputs = {**CLASSIFY, "scene": link.name, "out": "--version.zarr"}
    assert server.post("classify", inputs).json()["out"] == "--version.zarr"
    assert (server.folder / "--version.zarr" / ".zgroup").exists()
    (folder / "b.tif").symlink_to(folder / "x.tif")
    inputs = {**CLASSIFY, "out": f"{name}/b.tif", "overwrite": True}
    refused(server.post("classify", inputs), "is a link")


def test_codecs_that_run_code_are_refused(server, nook):
    folder, name = nook
    zarr.create_array(folder / "a.zarr", data=np.ones((48, 40), np.uint8), zarr_format=2)
    metadata = folder / "a.zarr" / ".zarray"
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(content | {"filters": [{"id": "pickle"}]}))
    refused(
        server.post("polygonize", {"map": f"{name}/a.zarr", "out": f"{name}/x.gpkg"}),
        "packed by 'pickle'",
    )
    metadata.write_text("[" * 5000)
    refused(
        server.post("polygonize", {"map": f"{name}/a.zarr", "out": f"{name}/x.gpkg"}),
        "cannot be read",
    )


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "a.h5", "a.safetensors"])
def test_files_of_other_kinds_folders_and_pipes_are_refused(server, nook, name):
    folder, nook_name = nook
    key = "model" if "safe" in name else "scene"
    inputs = {**CLASSIFY, key: f"{nook_name}/{name}", "out": f"{nook_name}/x.tif"}
    path = folder / name
    refused(server.post("classify", inputs), "no such file in the folder")
    (path.touch if name == "a.zarr" else path.mkdir)()
    refused(server.post("classify", inputs), "is not a f")
    (path.unlink if name == "a.zarr" else path.rmdir)()
    (path.mkdir() if name == "a.zarr" else path.write_bytes(b"PK\x03\x04" * 9))
    refused(server.post("classify", inputs), "is not a")
    if name != "a.zarr" and hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)  # would keep who opens it waiting for ever
        refused(server.post("classify", inputs), "is not a file")


def test_results_are_not_written_over_what_is_read(server, nook):
    folder, name = nook
    for other in ("a.tif", "x_confidence.tif"):
        shutil.copy(server.folder / "scene.tif", folder / other)
    shutil.copytree(make_store(server), folder / "s.zarr")
    said = "which is read"
    for scene, out, match in (
        ("a.tif", "a.tif", said),
        ("x_confidence.tif", "x.tif", said),
        ("s.zarr", "s.zarr", said),
        ("s.zarr", "s.zarr/x.zarr", "inside of a Zarr store"),
        ("s.zarr/class", "x.tif", "inside of a Zarr store"),
        ("a.tif", "no/such/x.tif", "folder does not exist"),
    ):
        before = (folder / "a.tif").read_bytes()
        inputs = {**CLASSIFY, "scene": f"{name}/{scene}", "out": f"{name}/{out}", "overwrite": True}
        refused(server.post("classify", inputs), match)
        assert (folder / "a.tif").read_bytes() == before


def make_store(server):
    """Return a map as Zarr in the server's folder."""
    path = server.folder / "store.zarr"
    if not path.exists():
        classify(server.folder / "scene.tif", server.folder / "model.safetensors", path)
    return path


def test_an_existing_result_needs_overwrite(server, class_map):
    refused(server.post("classify", CLASSIFY), "'map.tif' exists; .* overwrite")
    assert server.post("classify", CLASSIFY | {"overwrite": True}).status_code == 200


def test_what_the_command_line_says_is_told_in_the_words_of_requests(server, nook):
    folder, name = nook
    (folder / "x_confidence.tif").touch()
    answer = server.post("classify", {**CLASSIFY, "out": f"{name}/x.tif"})
    refused(answer, "x_confidence.tif exists; choose another name or set overwrite to true")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "no room left to write {} (No space left on device); run the same command again"),
        (1, f"[Errno {errno.ENOSPC}] No space left on device: '{{}}'"),
    ],
)
def test_a_full_disk_is_no_mistake_of_the_request(tmp_path, code, said):
    out = tmp_path / "x.tif"
    kept = []
    work = Work(("classify",), (), out, ("classifying",))
    job = Job(new_record("1", "classify"), work, SharedFolder(tmp_path), kept.append, RLock())
    job.finish(End(code, said.format(out), ""))
    assert (job.record["status"], job.record["fault"]) == ("failed", 507)
    assert str(tmp_path) not in job.record["message"]
    assert "command" not in job.record["message"]
    assert kept


def test_a_child_does_not_tell_of_drivers_that_gdal_lacks(tmp_path):
    environment = surroundings() | {"GDAL_SKIP": "NoSuchDriver"}
    code = "import pyogrio, sys; print('error: mine', file=sys.stderr)"
    end = Child(["-c", code], environment, tmp_path, print).wait(60)
    assert (end.code, end.said, end.log) == (0, "mine", "error: mine")


# --- limits, dismissal, ends ---


@pytest.fixture
def small(tmp_path, tiny, model):
    """Start servers with small limits, and stop them."""
    running = []

    def start(*options):
        running.append(Server(fill(tmp_path / "small", tiny, model), *options))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def test_a_scene_of_too_many_pixels_is_refused_before_it_is_read(small):
    server = small("--max-megapixels", "0.0019")  # the scene has 1920 pixels
    said = refused(
        server.post("classify", CLASSIFY), "has 0.00192 million pixels; .* at most 0.0019"
    )
    assert said["detail"].startswith("scene.tif")
    make_store(server)
    inputs = {"map": "store.zarr", "out": "x.gpkg"}
    refused(server.post("polygonize", inputs), "store.zarr has 0.00192 million pixels")
    assert server.get("/jobs").json()["jobs"][0]["status"] == "failed"


@pytest.mark.parametrize("is_map", [False, True])
def test_blocks_that_are_unpacked_to_more_than_the_limit_are_refused(tmp_path, is_map):
    said = r"blocks of 1.6e\+03 million pixels; the server takes at most 4.19"
    bands = 1 if is_map else 3
    path = sparse_tiff(tmp_path / "a.tif", bands, 40_000)
    with pytest.raises(InputError, match=said):
        check_size(path, 1e6, is_map=is_map)
    check_size(sparse_tiff(tmp_path / "b.tif", bands, 512), 1e4, is_map=is_map)
    sparse_store(tmp_path / "a.zarr", bands, 40_000)
    with pytest.raises(InputError, match=said):
        check_size(str(tmp_path / "a.zarr"), 1e6, is_map=is_map)
    if is_map:
        sparse_tiff(tmp_path / "b_confidence.tif", 1, 40_000)
        with pytest.raises(InputError, match=r"b_confidence\.tif is stored in blocks"):
            check_size(str(tmp_path / "b.tif"), 1e6, is_map=True)
        sparse_store(tmp_path / "b.zarr", 1, 512)
        check_size(str(tmp_path / "b.zarr"), 1e4, is_map=True)


def sparse_tiff(path, bands, side):
    """Write a TIFF of 100 x 100 pixels in tiles of any size, none of which is stored."""
    options = {"dtype": "uint8", "count": bands, "height": 100, "width": 100, "tiled": True}
    options |= {"transform": TRANSFORM, "crs": CRS, "interleave": "band", "SPARSE_OK": True}
    with rasterio.open(path, "w", blockxsize=side, blockysize=side, **options):
        return str(path)


def sparse_store(path, bands, side):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    shape, chunks = (
        ((100, 100), (side, side)) if bands == 1 else ((bands, 100, 100), (bands, side, side))
    )
    group.create_array("class", shape=shape, chunks=chunks, dtype="uint8")


def large_scene(folder, tiny):
    """Write a scene that takes minutes."""
    pixels = np.tile(tiny.pixels, (1, 60, 60))
    return write_scene(folder / "large.tif", pixels)


def gone(processes):
    _, left = psutil.wait_procs(processes, timeout=10)
    return not left


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_jobs_wait_conflict_are_dismissed_and_end_with_the_server(small, tiny):
    server = small("--jobs", "1")
    large_scene(server.folder, tiny)
    inputs = {**CLASSIFY, "scene": "large.tif", "precision": "float32"}

    def begin(out, **more):
        return server.post("classify", {**inputs, "out": out, **more}, later=True)

    first = begin("one.tif").json()["jobID"]
    server.wait(first, ["running"])
    # two at the same file, or one that reads what another writes
    refused(begin("one.tif"), f"job {first} is at work on 'one.tif'", 409)
    refused(begin("one.zarr"), "is at work on 'one.zarr'", 409)
    refused(begin("large.tif", scene="scene.tif", overwrite=True), "at work on 'large.tif'", 409)
    waiting = [begin(f"{i}.tif") for i in range(8)]
    assert [answer.status_code for answer in waiting] == [201] * 8
    second = waiting[0].json()["jobID"]
    assert server.get(f"/jobs/{second}").json()["status"] == "accepted"
    refused(begin("more.tif"), "9 jobs run or wait", 429)
    # dismissing one that waits, then the one that runs
    for answer in waiting[1:]:
        assert server.delete(f"/jobs/{answer.json()['jobID']}").json()["status"] == "dismissed"
    while not (server.folder / ".one.tif.unfinished").exists():
        time.sleep(0.05)
    family = server.children()
    assert family
    assert server.delete(f"/jobs/{first}").status_code == 200
    assert gone(family)
    left = [path.name for path in server.folder.iterdir() if "one" in path.name]
    assert left == []
    refused(server.get(f"/jobs/{first}"), "there is no job", 404)
    # the next one begins, and ends with a server that is killed
    server.wait(second, ["running"])
    family = server.children()
    assert family
    server.process.kill()
    server.process.wait()
    assert gone(family)
    assert not (server.folder / "0.tif").exists()
    # a new one knows that it has failed
    again = small("--timeout", "2")
    status = again.get(f"/jobs/{second}").json()
    assert (status["status"], status["message"]) == (
        "failed", "the server ended while the job was at work; send the request again",
    )  # fmt: skip
    # and ends jobs that take too long
    refused(
        again.post("classify", {**inputs, "out": "late.tif"}), "ended after 2 s, the longest", 500
    )
    assert not [path.name for path in again.folder.iterdir() if "late" in path.name]
    # Ctrl-C while a job runs
    job = again.post("classify", {**inputs, "out": "last.tif"}, later=True).json()["jobID"]
    again.wait(job, ["running"])
    family = again.children()
    assert again.stop(signal.SIGINT) == 0
    assert gone(family)
    record = json.loads((again.folder / ".hsi-pipeline" / "jobs" / f"{job}.json").read_text())
    assert record["status"] == "failed"


# --- starting ---


@pytest.mark.parametrize(
    "change",
    [
        {"created": 5}, {"status": "asleep"}, {"status": []}, {"message": {}}, {"progress": "1"},
        {"outputs": 3}, {"status": "successful", "outputs": None}, {"fault": []}, {"fault": 7},
        {"started": 1},
    ],
)  # fmt: skip
def test_damaged_records_are_none(tmp_path, change):
    good, bad = (new_record(str(uuid4()), "classify") for _ in range(2))
    for record in (good, bad | {"status": "failed"} | change):
        (tmp_path / f"{record['identifier']}.json").write_text(json.dumps(record))
    (tmp_path / f"{uuid4()}.json").write_text("[" * 100_000)
    cut = new_record(str(uuid4()), "classify")
    del cut["outputs"]
    (tmp_path / f"{cut['identifier']}.json").write_text(json.dumps(cut))
    assert [record["identifier"] for record in RecordFolder(tmp_path).read()] == [
        good["identifier"]
    ]


def test_a_server_that_cannot_start_says_why_in_a_line(server, cli, tmp_path, monkeypatch):
    for arguments, match in (
        ([tmp_path / "none"], "no such folder; make it"),
        ([server.folder], "another server is at work on"),
        ([tmp_path, "--port", server.port], "give another one by --port"),
        ([tmp_path, "--port", 70000], "is no port"),
        ([tmp_path, "--jobs", 0], "--jobs 0 must be more than 0"),
        ([tmp_path, "--timeout", "nan"], "--timeout nan must be more"),
        ([tmp_path, "--port", 0, "--url", "ftp://x"], "is no address such as"),
        ([tmp_path, "--port", 0, "--url", "http://[::1"], "is no address such as"),
    ):
        code, out, err = cli("serve", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert re.search(match, err), err
    (tmp_path / ".hsi-pipeline" / "lock").unlink(missing_ok=True)
    monkeypatch.setitem(sys.modules, "pygeoapi", None)
    code, _, err = cli("serve", tmp_path)
    assert (code, err) == (
        2,
        "error: serve needs pygeoapi; install it: pip install pygeoapi\n",
    )


def test_a_server_behind_a_proxy_gives_the_address_that_clients_know(small):
    server = small("--url", "https://maps.example/landcover")
    host = {"Host": "maps.example", "Origin": "https://maps.example"}
    links = server.get("/", headers=host).json()["links"]
    assert all(link["href"].startswith("https://maps.example/landcover") for link in links)
    refused(server.get("/", headers={"Host": "other.example"}), "Host header", 403)


# --- the page ---


def test_the_examples_of_the_page_run(server, class_map, tmp_path):
    page = DOCS.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```", page, re.M | re.S)
    assert [kind for kind, _ in blocks].count("python") == 1
    assert len(blocks) >= 4
    for file in server.folder.glob("map*"):
        file.unlink()
    for kind, block in blocks:
        code = block.replace("http://127.0.0.1:5000", server.url)
        program = [sys.executable, "-c"] if kind == "python" else ["bash", "-ec"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [*program, code], capture_output=True, text=True, timeout=120, check=False,
            cwd=tmp_path, env={**os.environ, "PATH": path},
        )  # fmt: skip
        assert done.returncode == 0, (block, done.stderr)
        assert '"status": 4' not in done.stdout
        if kind == "python":
            assert "successful {'out': 'landcover.gpkg'" in done.stdout, done.stdout
    with rasterio.open(server.folder / "map.tif") as raster:
        assert raster.shape == (48, 40)
    assert len(gpd.read_file(server.folder / "landcover.gpkg", layer="landcover")) > 3
    for status in re.findall(r"^\| (\d{3}) ", page, re.M):
        assert 400 <= int(status) <= 507
