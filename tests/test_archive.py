"""Archives: every scene to products and an item, whatever fails, however often it is stopped."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import geopandas as gpd
import numpy as np
import odc.stac
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import s3fs
from archive_scenes import (
    BROKEN,
    content_of,
    raster_scene,
    write_archive,
    write_workflow,
)
from moto_store import make_bucket, moto_server, store_settings
from stac_geoparquet.arrow import stac_table_to_items

from hsi_pipeline import config, publish
from hsi_pipeline.archive import lock
from hsi_pipeline.archive.faults import kind_of
from hsi_pipeline.archive.ledger import (
    Done,
    Failure,
    failure_print,
    fingerprint_of,
    plan,
    read_done,
)
from hsi_pipeline.archive.lock import locked
from hsi_pipeline.archive.scenes import ArchiveScene
from hsi_pipeline.archive.target import Target, target_of
from hsi_pipeline.commands import archive, archive_run, archive_scene
from hsi_pipeline.commands.archive import run_archive
from hsi_pipeline.errors import InputError, TargetError
from hsi_pipeline.publish.stac_schemas import validate_item

EXTRA = "polygonize: {}\n"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Return a folder of six good scenes of two sensors and five broken ones."""
    return write_archive(tmp_path_factory.mktemp("archive"), 6)


@pytest.fixture(scope="module")
def finished(scenes, model, tmp_path_factory):
    """Return a finished archive, mapped by a worker in this process, and its report."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_workflow(folder, model, scenes=scenes, extra=EXTRA)
    return folder / "out", run_archive(config.load(path), workers=0)


def run_quietly(path, **options):
    return run_archive(config.load(path), **{"workers": 0} | options)


def test_good_scenes_become_items_and_broken_ones_are_noted(finished, scenes):
    out, report = finished
    assert (report.done, report.finished, len(report.failed)) == (6, 0, 5)
    assert not report.is_complete
    assert {failure.id for failure in report.failed} == set(BROKEN)
    assert {failure.kind for failure in report.failed} == {"data"}
    names = {path.stem for path in scenes.iterdir()} - set(BROKEN)
    assert set(read_done(target_of(out))) == names
    noted = [json.loads(path.read_text()) for path in (out / "failures").iterdir()]
    assert {note["id"] for note in noted} == set(BROKEN)
    assert all(note["message"] and Path(note["scene"]).exists() for note in noted)
    assert not (out / ".work").exists()


def test_the_map_of_a_scene_is_that_of_classify(finished, scenes, model, tmp_path):
    from hsi_pipeline.commands.classify import classify

    out, _ = finished
    for path in scenes.glob("tif-*.tif"):
        classify(path, model, tmp_path / "map.tif", overwrite=True)
        with rasterio.open(tmp_path / "map.tif") as alone:
            month = f"2024-{int(path.stem[-3:]) % 12 + 1:02}"
            with rasterio.open(out / month / path.stem / f"{path.stem}_map.tif") as mapped:
                assert np.array_equal(alone.read(), mapped.read())
                assert alone.transform == mapped.transform


def test_pystac_walks_the_catalog_and_every_file_is_there(finished):
    out, report = finished
    assert report.catalog == str(out / "catalog.json")
    catalog = pystac.Catalog.from_file(report.catalog)
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 6
    for item in items:
        assert item.get_root() is catalog
        validate_item(json.loads(Path(item.get_self_href()).read_text()))
        for asset in item.assets.values():
            assert os.path.exists(asset.get_absolute_href()), asset.href
        derived = next(link for link in item.links if link.rel == "derived_from")
        assert os.path.exists(derived.get_absolute_href())
    for one in (catalog, *catalog.get_children()):  # core schemas, which pystac has with it
        assert pystac.validation.validate_dict(one.to_dict(), extensions=[]) is not None


def test_no_link_of_the_catalog_is_absolute(finished):
    out, _ = finished
    for path in out.rglob("*.json"):
        if path.parent.name != "failures":
            found = json.loads(path.read_text())
            hrefs = [link["href"] for link in found["links"]]
            hrefs += [asset["href"] for asset in found.get("assets", {}).values()]
            assert not [href for href in hrefs if href.startswith("/") or "://" in href]


@pytest.mark.filterwarnings("ignore:.*shapely.ops.transform:DeprecationWarning")  # odc-geo
def test_a_moved_archive_still_opens(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "elsewhere")
    catalog = pystac.Catalog.from_file(str(tmp_path / "elsewhere" / "catalog.json"))
    items = list(catalog.get_items(recursive=True))
    found = odc.stac.load(items, bands=["class", "confidence"], chunks={})
    assert found["class"].dtype == "uint8"
    assert set(np.unique(found["class"].values)) == {0, 1, 3, 7}


def test_the_index_names_every_item_from_the_root(finished):
    out, _ = finished
    items = list(stac_table_to_items(pq.read_table(out / "items.parquet")))
    assert [item["id"] for item in items] == sorted(read_done(target_of(out)))
    for item in items:
        assert (out / item["assets"]["class"]["href"]).exists()
    frame = gpd.read_parquet(out / "items.parquet")
    assert frame.crs == "EPSG:4326"
    assert frame.geometry.is_valid.all()


def test_running_again_does_nothing_and_says_why(finished, model, scenes, tmp_path, cli):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    path = write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.tif")}
    code, shown, said = cli("run", path)
    assert code == 1  # five scenes are still not there
    assert "11 scenes: 6 done, 5 set aside as faulty, 0 to do" in said
    assert "few-bands: InputError" in said
    assert "--retry-failed" in said
    assert shown.strip().endswith("catalog.json")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.tif")} == before


def test_a_faulty_scene_is_tried_again_when_asked_or_when_it_changed(
    finished, model, scenes, tmp_path
):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(scenes, tmp_path / "scenes")
    path = write_workflow(tmp_path, model, extra=EXTRA)
    report = run_quietly(path, retry_failed=True)
    assert (report.done, len(report.failed)) == (0, 5)
    shutil.copy(tmp_path / "scenes" / "tif-001.tif", tmp_path / "scenes" / "empty.tif")
    report = run_quietly(path)
    assert (report.done, report.finished, len(report.quarantined)) == (1, 6, 4)
    assert not (tmp_path / "out" / "failures" / "empty.json").exists()


def test_moving_the_scenes_changes_nothing(finished, model, scenes, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(scenes, tmp_path / "scenes")  # with their times
    report = run_quietly(write_workflow(tmp_path, model, extra=EXTRA))
    assert (report.done, report.finished) == (0, 6)


def test_a_scene_that_was_written_again_is_mapped_again(model, tmp_path):
    scenes = write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model)
    assert run_quietly(path).done == 2
    raster_scene(scenes, 1, rows=48)
    report = run_quietly(path)
    assert (report.done, report.finished) == (1, 1)
    with rasterio.open(tmp_path / "out" / "2024-02" / "tif-001" / "tif-001_map.tif") as raster:
        assert raster.height == 48


def test_a_scene_of_another_month_moves(model, tmp_path):
    scenes = write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model)
    run_quietly(path)
    with rasterio.open(scenes / "tif-001.tif", "r+") as raster:
        raster.update_tags(start_time="2023-12-31T10:00:00Z")
    run_quietly(path)
    assert not (tmp_path / "out" / "2024-02" / "tif-001").exists()
    catalog = pystac.Catalog.from_file(str(tmp_path / "out" / "catalog.json"))
    children = {child.id: [i.id for i in child.get_items()] for child in catalog.get_children()}
    assert children["2023-12"] == ["tif-001"]
    assert "2024-02" not in children


def test_force_maps_all_anew(finished, model, scenes, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    report = run_quietly(write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA), force=True)
    assert (report.done, report.finished, len(report.failed)) == (6, 0, 5)
    assert content_of(tmp_path / "out") == content_of(out)


@pytest.mark.parametrize("scenes", ["archive", "archive/**/*.tif"])
def test_maps_among_the_scenes_are_no_scenes(model, tmp_path, scenes):
    folder = write_archive(tmp_path / "made", 2, broken=False)
    (tmp_path / "archive").mkdir()
    shutil.copy2(folder / "tif-001.tif", tmp_path / "archive")
    path = write_workflow(tmp_path, model, scenes=scenes, out="archive/out")
    assert run_quietly(path).done == 1
    report = run_quietly(path)
    assert (report.done, report.finished, report.is_complete) == (0, 1, True)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("polygonize: {min_area: 2000}\n", r"polygonize\.min_area the default, now 2000\.0"),
        ("classify: {probabilities: true}\n", r"classify\.probabilities the default, now True"),
        ("mask: none\n" + EXTRA, "mask the default, now 'none'"),
    ],
)
def test_other_settings_are_refused_where_an_archive_is(
    finished, model, scenes, tmp_path, extra, said
):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    path = write_workflow(tmp_path, model, scenes=scenes, extra=extra)
    with pytest.raises(InputError, match=said):
        run_quietly(path)
    assert content_of(tmp_path / "out") == content_of(out)


def test_another_model_is_refused_where_an_archive_is(finished, tiny, scenes, tmp_path):
    from hsi_pipeline.commands.train import train

    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    other = tmp_path / "other.safetensors"
    options = {"label_column": "code", "name_column": "name", "model": "spectral"}
    options |= {"epochs": 1, "baselines": False}
    train(tiny.path, tiny.labels, other, seed=5, device="cpu", **options)
    path = write_workflow(tmp_path, other, scenes=scenes, extra=EXTRA)
    with pytest.raises(
        InputError, match=r"made by the model model-\w+\.safetensors, now it is oth"
    ):
        run_quietly(path)


def test_chunks_and_memory_are_no_other_settings(finished, model, scenes, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    extra = EXTRA + "classify: {chunk: 32}\n"
    report = run_quietly(write_workflow(tmp_path, model, scenes=scenes, extra=extra))
    assert report.finished == 6


def test_a_folder_of_something_else_is_left_alone(model, scenes, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.docx").write_text("three years of work")
    path = write_workflow(tmp_path, model, scenes=scenes)
    with pytest.raises(InputError, match=r"holds other files \(thesis.docx\)"):
        run_quietly(path)
    (out / "thesis.docx").rename(out / "catalog.json")
    with pytest.raises(InputError, match="holds another STAC catalog"):
        run_quietly(path)
    assert (out / "catalog.json").read_text() == "three years of work"


def test_two_runs_at_once_are_refused(model, scenes, tmp_path):
    path = write_workflow(tmp_path, model, scenes=scenes)
    (tmp_path / "out").mkdir()
    with locked(target_of(tmp_path / "out")), pytest.raises(InputError, match="another run is at"):
        run_quietly(path)


def test_a_dry_run_writes_nothing(model, scenes, tmp_path, cli):
    path = write_workflow(tmp_path, model, scenes=scenes)
    code, _, said = cli("run", path, "--dry-run")
    assert code == 0
    assert "11 scenes: 0 done, 0 set aside as faulty, 11 to do" in said
    assert "measured now" in said
    assert not (tmp_path / "out").exists()


def test_the_list_shows_each_scene_and_its_state(finished, model, scenes, tmp_path, cli):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    raster_scene(tmp_path, 3)
    shutil.copytree(scenes, tmp_path / "scenes")
    raster_scene(tmp_path / "scenes", 99)
    path = write_workflow(tmp_path, model, extra=EXTRA)
    code, shown, said = cli("archive", "list", path)
    assert code == 0
    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert rows["tif-001"].endswith("done")
    assert rows["tif-099"].endswith("to do")
    assert "set aside: InputError" in rows["few-bands"]
    assert "12 scenes: 6 done, 5 set aside as faulty, 1 to do" in said
    assert "measured on 6 scenes of this archive" in said


def test_options_of_the_other_kind_of_workflow_are_refused(model, tiny, scenes, tmp_path, cli):
    path = write_workflow(tmp_path, model, scenes=scenes)
    for option in ("--overwrite", "--restart"):
        code, _, said = cli("run", path, option)
        assert code == 2
        assert "--force makes all anew" in said
    one = tmp_path / "one.yaml"
    one.write_text(f"scene: {tiny.path}\nout: here\nmodel: {model}\nclassify: {{}}\n")
    for option in (["--force"], ["--workers", "2"], ["--dry-run"], ["--retry-failed"]):
        code, _, said = cli("run", one, *option)
        assert code == 2
        assert f"{option[0]} is for a workflow of an archive" in said
    code, _, said = cli("archive", "list", one)
    assert code == 2
    assert "workflow of one scene" in said


# Other places and other workers.


def test_workers_in_processes_make_the_same_archive(finished, model, scenes, tmp_path):
    out, _ = finished
    path = write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA)
    report = run_quietly(path, workers=2)
    assert (report.done, len(report.failed)) == (6, 5)
    assert content_of(tmp_path / "out") == content_of(out)


def test_scenes_in_chunks_make_the_same_archive(finished, model, scenes, tmp_path):
    (tmp_path / "scenes").mkdir()
    for name in ("tif-001.tif", "few-bands.tif"):
        shutil.copy2(scenes / name, tmp_path / "scenes")
    path = write_workflow(tmp_path, model, extra=EXTRA + "whole_pixels: 1000\n")
    report = run_quietly(path, workers=2)
    assert (report.done, len(report.failed)) == (1, 1)
    mine, whole = content_of(tmp_path / "out"), content_of(finished[0])
    same = [name for name in mine if "tif-001/" in name and not name.endswith(".json")]
    assert len(same) == 3
    assert all(mine[name] == whole[name] for name in same)
    (log,) = (tmp_path / "out" / "logs").iterdir()
    assert log.read_text().count("scene in chunks") == 2


@pytest.fixture(scope="module")
def store():
    """Return the endpoint of an S3 server that can be written to."""
    with moto_server() as endpoint:
        make_bucket(endpoint, "archive")
        yield endpoint


def test_an_archive_in_an_object_store_is_the_same(finished, model, scenes, tmp_path, store):
    out, _ = finished
    address = "s3://archive/land/cover"
    with store_settings(store):
        path = write_workflow(tmp_path, model, scenes=scenes, out=address, extra=EXTRA)
        report = run_quietly(path)
        assert (report.done, len(report.failed)) == (6, 5)
        files = s3fs.S3FileSystem()
        files.invalidate_cache()
        files.get("archive/land/cover/", str(tmp_path / "copy"), recursive=True)
        assert not files.exists("archive/land/cover/.lock")
        again = run_quietly(path)
        assert (again.done, again.finished, len(again.quarantined)) == (0, 6, 5)
    mine, theirs = content_of(tmp_path / "copy"), content_of(out)
    for found in (mine, theirs):  # where scenes on this disk are, an archive elsewhere says in full
        for item in found.values():
            if isinstance(item, dict) and item.get("type") == "Feature":
                item["links"] = [link for link in item["links"] if link["rel"] != "derived_from"]
    assert mine == theirs
    assert not list(Path(tmp_path).rglob("*.work"))


def test_missing_credentials_name_the_variables(model, scenes, tmp_path, store, monkeypatch):
    path = write_workflow(tmp_path, model, scenes=scenes, out="s3://archive/other")
    with store_settings(store):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        with pytest.raises(InputError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            run_quietly(path)


def test_an_archive_among_remote_scenes_is_refused(model, tmp_path):
    path = write_workflow(tmp_path, model, scenes="s3://archive/a/", out="s3://archive/a/out")
    with pytest.raises(InputError, match="lies among the scenes in s3://archive/a"):
        run_quietly(path)


def test_a_run_in_an_object_store_keeps_others_out(store):
    target = target_of("s3://archive/locked")
    with (
        store_settings(store),
        patch.object(lock, "BEAT_S", 0.2),
        locked(target),
        pytest.raises(InputError, match=r"another run is at work on s3://archive/locked \(process"),
        locked(target),
    ):
        raise AssertionError


def test_a_run_that_died_in_an_object_store_does_not_keep_others_out(store):
    target = target_of("s3://archive/dead")
    with store_settings(store), patch.object(lock, "BEAT_S", 0.1):
        target.write(".lock", json.dumps({"owner": "gone:1:2", "beat": 3}).encode())
        with locked(target):
            assert json.loads(target.read(".lock"))["owner"] != "gone:1:2"
        assert target.read(".lock") is None


# Faults.


def scripted(monkeypatch, outcomes):
    """Let scenes fail as told, by id and attempt, before they are mapped; returns the calls."""
    calls, made = [], archive_scene._made

    def pretend(job, *arguments):
        calls.append(job.scene.id)
        told = outcomes.get(job.scene.id, [])
        if calls.count(job.scene.id) <= len(told):
            raise told[calls.count(job.scene.id) - 1]
        return made(job, *arguments)

    monkeypatch.setattr(archive_scene, "_made", pretend)
    monkeypatch.setattr(archive_run, "_PAUSE_S", 0.05)
    return calls


def test_a_fault_that_passes_is_tried_again(model, tmp_path, monkeypatch):
    write_archive(tmp_path, 2, broken=False)
    error = ConnectionResetError(errno.ECONNRESET, "reset by peer")
    calls = scripted(monkeypatch, {"tif-001": [error, MemoryError()]})
    report = run_quietly(write_workflow(tmp_path, model))
    assert report.is_complete
    assert calls.count("tif-001") == 3


def test_a_fault_that_does_not_pass_in_time_is_tried_by_the_next_run(model, tmp_path, monkeypatch):
    write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model, extra="retries: 1\n")
    calls = scripted(monkeypatch, {"tif-001": [TimeoutError("no answer")] * 2})
    report = run_quietly(path)
    assert calls.count("tif-001") == 2
    (failure,) = report.failed
    assert (failure.kind, failure.error, failure.attempts) == ("passing", "TimeoutError", 2)
    assert run_quietly(path).is_complete
    assert not list((tmp_path / "out" / "failures").iterdir())


def test_a_full_disk_stops_the_run_and_blames_no_scene(model, tmp_path, monkeypatch):
    write_archive(tmp_path, 4, broken=False)
    path = write_workflow(tmp_path, model)
    error = OSError(errno.ENOSPC, "No space left on device")
    scripted(monkeypatch, {"tif-001": [error]})
    with pytest.raises(InputError, match="No space left on device; the run was stopped at tif-001"):
        run_quietly(path)
    assert not (tmp_path / "out" / "failures").exists()
    assert run_quietly(path).is_complete


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("the model needs 9 bands"), "data"),
        (ValueError("5000 is too large"), "data"),
        (OSError(errno.ENOENT, "gone"), "data"),
        (OSError(errno.ENOSPC, "full"), "stop"),
        (OSError(errno.EMFILE, "Too many open files"), "passing"),
        (MemoryError(), "passing"),
        (RuntimeError("HTTP response code: 503"), "passing"),
        (RuntimeError("HTTP response code: 404"), "data"),
        (RuntimeError("HTTP error code : 403"), "passing"),
        (PermissionError(errno.EACCES, "not yours"), "passing"),
        (RuntimeError("An error occurred (ExpiredToken) when calling GetObject"), "passing"),
        (RuntimeError("'/data/timed out/a.tif' not recognized as a supported format"), "data"),
        (RuntimeError("grid of 400 x 500, expected 503, found 502: no"), "data"),
        (TargetError("it cannot be written"), "stop"),
        (RuntimeError("Could not resolve host: archive.example"), "passing"),
        (RuntimeError("CURL error: Connection timed out after 10001 milliseconds"), "passing"),
    ],
)
def test_faults_are_told_apart(error, kind):
    assert kind_of(error) == kind
    wrapped = InputError("/data/temporarily unavailable/a.tif cannot be read")
    wrapped.__cause__ = error
    assert kind_of(wrapped) == kind


def test_a_network_that_fails_while_results_are_written_passes():
    error = TargetError("it cannot be written")
    error.__cause__ = ConnectionResetError("by peer")
    assert kind_of(error) == "passing"


def test_a_worker_that_dies_costs_no_scene(model, tmp_path, monkeypatch):
    scenes = write_archive(tmp_path, 8, broken=False, rows=200, columns=200)
    begin, begun = archive_run.ArchiveRun._begin, []

    def begin_and_kill(run, one):
        begin(run, one)
        begun.append(one.id)
        if len(begun) == 4:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    monkeypatch.setattr(archive_run.ArchiveRun, "_begin", begin_and_kill)
    report = run_quietly(write_workflow(tmp_path, model), workers=2)
    assert report.is_complete
    assert report.done == len(list(scenes.iterdir()))


def kill_at(command, seconds, folder):
    """Start a program in a group of its own and kill all of it after a while; False if it ended."""
    with open(folder / "killed.txt", "a") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    return False


@pytest.mark.slow
def test_killed_at_any_time_it_ends_as_if_never_killed(finished, model, scenes, tmp_path):
    out, _ = finished
    path = write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA)
    program = shutil.which("hsi-pipeline", path=os.path.dirname(sys.executable))
    command = [program, "run", str(path)]
    finished_before: dict[str, int] = {}
    for seconds in (4.5, 6.0, 7.0, 7.5):
        kill_at(command, seconds, tmp_path)
        for item in (tmp_path / "out").glob("*/*/*.json"):  # whole, and never made again
            json.loads(item.read_text())
            before = finished_before.setdefault(item.stem, item.stat().st_mtime_ns)
            assert item.stat().st_mtime_ns == before
    report = run_quietly(path)
    assert report.done + report.finished == 6
    for name, before in finished_before.items():
        (item,) = (tmp_path / "out").glob(f"*/{name}/{name}.json")
        assert item.stat().st_mtime_ns == before
    assert content_of(tmp_path / "out") == content_of(out)
    assert not (tmp_path / "out" / ".work").exists()


def test_what_a_crash_left_is_gone_on_with(model, tmp_path):
    write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model, extra=EXTRA + "retries: 0\n")
    with patch.object(archive_scene, "polygonize", side_effect=ConnectionError("gone")):
        report = run_quietly(path)
    assert {failure.kind for failure in report.failed} == {"passing"}
    work = tmp_path / "out" / ".work"
    maps = {file.name: file.stat().st_mtime_ns for file in work.glob("*/*_map.tif")}
    assert len(maps) == 2
    assert run_quietly(path).is_complete
    placed = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "out").glob("*/*/*_map.tif")}
    assert placed == maps  # not computed again
    assert not work.exists()


def test_what_killed_writers_left_does_not_get_into_the_archive(model, tmp_path):
    write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model, extra=EXTRA + "retries: 0\n")
    with patch.object(archive_scene, "polygonize", side_effect=ConnectionError("gone")):
        run_quietly(path)
    for place in (tmp_path / "out" / ".work").glob("*/"):
        left = place / f".{place.name}_map.tif.partial-x1"
        left.mkdir()
        (left / "half.tif").write_bytes(b"II*")
        (place / ".half").write_bytes(b"")
    assert run_quietly(path).is_complete
    names = {file.name for file in (tmp_path / "out").rglob("*")}
    assert not {name for name in names if "half" in name or "partial" in name}


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of 700 kB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_stops_the_run_and_blames_no_scene(model, tmp_path, small_disk):
    write_archive(tmp_path, 6, broken=False, rows=200, columns=200)
    path = write_workflow(tmp_path, model, out=small_disk / "out", extra=EXTRA)
    with pytest.raises(InputError, match=r"[Nn]o (room|space) left"):
        run_quietly(path)
    assert not list((small_disk / "out").glob("failures/*"))
    for item in (small_disk / "out").glob("*/*/*.json"):
        json.loads(item.read_text())


@pytest.mark.parametrize("damage", ["model", "catalog", "product", "indexes"])
def test_what_is_damaged_in_an_archive_is_mended(
    finished, model, scenes, tmp_path, damage, monkeypatch
):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    if damage == "model":
        (file,) = (tmp_path / "out" / "models").iterdir()
        file.write_bytes(file.read_bytes()[:-40] + bytes(40))
        shutil.rmtree(next((tmp_path / "out").glob("*/tif-001")))
    elif damage == "catalog":
        file = tmp_path / "out" / "catalog.json"
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "product":
        (file,) = (tmp_path / "out").glob("*/tif-001/tif-001_map.tif")
        file.write_bytes(file.read_bytes()[:-100])
    else:
        (tmp_path / "out" / "items.parquet").unlink()
        (tmp_path / "out" / "footprints.gpkg").unlink()
    run_quietly(write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA))
    assert content_of(tmp_path / "out") == content_of(out)
    assert (tmp_path / "out" / "items.parquet").exists()


@pytest.mark.parametrize(
    "damage",
    [
        '{"id": "tif-001", "properties": {}, "assets": {"class": null}, "links": []}',
        "[" * 100_000,
        "",
    ],
)
def test_an_odd_item_or_failure_is_made_anew(finished, model, scenes, tmp_path, damage):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    (item,) = (tmp_path / "out").glob("*/tif-001/tif-001.json")
    item.write_text(damage)
    (tmp_path / "out" / "failures" / "empty.json").write_text(damage)
    report = run_quietly(write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA))
    assert (report.done, report.finished, len(report.failed)) == (1, 5, 1)
    assert content_of(tmp_path / "out") == content_of(out)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("mask: nonsense\n", "nonsense"),
        ("polygonize: {by: nothing.gpkg}\n", "nothing.gpkg"),
    ],
)
def test_mistakes_of_the_workflow_are_no_scenes_faults(model, scenes, tmp_path, extra, said):
    path = write_workflow(tmp_path, model, scenes=scenes, extra=extra)
    with pytest.raises(InputError, match=said):
        run_quietly(path)
    assert not (tmp_path / "out" / "failures").exists()


@pytest.mark.parametrize("out", ["s3://", "memory://x", "https://host/archive"])
def test_places_that_are_none_are_refused(model, scenes, tmp_path, out):
    path = write_workflow(tmp_path, model, scenes=scenes, out=out)
    with pytest.raises(InputError, match="is no place for an archive"):
        run_quietly(path)


def test_a_warning_of_a_scene_is_shown_and_counted(model, tmp_path, cli):
    scenes = write_archive(tmp_path, 2, broken=False)
    with rasterio.open(scenes / "tif-001.tif", "r+") as raster:
        raster.scales = [1.0] * raster.count
    code, _, said = cli("run", write_workflow(tmp_path, model), "--workers", 0, "--quiet")
    assert code == 0
    assert "warning: tif-001: its values are about" in said
    assert "1 of the maps made now may be wrong" in said


def test_quiet_tells_failures(finished, model, scenes, tmp_path, cli):
    path = write_workflow(tmp_path, model, scenes=scenes / "few*.tif")
    code, _, said = cli("run", path, "--workers", 0, "--quiet")
    assert code == 1
    assert "warning: few-bands: failed: InputError" in said


# The ledger.


def scene(name="a", stamp="1:2", path="/data/a.tif"):
    return ArchiveScene(id=name, path=path, stamp=stamp)


def test_a_fingerprint_changes_with_all_that_counts_and_nothing_else():
    first = fingerprint_of(scene(), "m", {"mask": "none"})
    assert first == fingerprint_of(scene(), "m", {"mask": "none"})
    assert first != fingerprint_of(scene(stamp="1:3"), "m", {"mask": "none"})
    assert first != fingerprint_of(scene(), "n", {"mask": "none"})
    assert first != fingerprint_of(scene(), "m", {"mask": "strict"})
    there = scene(stamp="/data/a.tif:5:6")
    elsewhere = replace(there, path="/mnt/a.tif", stamp="/mnt/a.tif:5:6")
    assert fingerprint_of(there, "m", {}) == fingerprint_of(elsewhere, "m", {})


def test_the_plan_takes_what_is_left():
    names = ["done", "stale", "faulty", "passed", "new"]
    listed = [scene(name) for name in names]
    prints = dict.fromkeys(names, "now")

    done = {name: Done(name, f"2024-01/{name}", print_)
            for name, print_ in (("done", "now"), ("stale", "old"))}  # fmt: skip
    common = {"scene": "", "error": "", "message": "", "attempts": 1, "time": ""}
    failures = {
        name: Failure(id=name, kind=kind, fingerprint=failure_print("now", {}), **common)
        for name, kind in (("faulty", "data"), ("passed", "passing"))
    }
    found = plan(listed, prints, done, failures, settings={})
    assert [one.id for one in found.todo] == ["stale", "passed", "new"]
    assert found.finished == ("done",)
    assert [one.id for one in found.quarantined] == ["faulty"]
    again = plan(listed, prints, done, failures, settings={}, retry_failed=True)
    assert [one.id for one in again.todo] == ["stale", "faulty", "passed", "new"]
    assert len(plan(listed, prints, done, failures, settings={}, force=True).todo) == 5
    other = plan(listed, prints, done, failures, settings={"device": "cuda"})
    assert not other.quarantined


def test_an_item_that_is_damaged_or_lost_its_files_is_none(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    target = Target(str(tmp_path / "out"))
    names = sorted(read_done(target))
    first, second, third = (next((tmp_path / "out").glob(f"*/{n}/{n}.json")) for n in names[:3])
    first.write_text(first.read_text()[:100])
    next(second.parent.glob("*_map.tif")).unlink()
    third.write_text("[1, 2]")
    assert sorted(read_done(target)) == names[3:]


def test_clocks_that_went_wrong_change_nothing(finished, model, scenes, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    later = time.time() + 10**8  # the results are of the future, two of them of the past
    for number, path in enumerate(sorted((tmp_path / "out").rglob("*"))):
        if number % 3:
            os.utime(path, (later, later) if number % 2 else (0, 0))
    shutil.rmtree(next((tmp_path / "out").glob("*/tif-001")))
    report = run_quietly(write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA))
    assert (report.done, report.finished, len(report.quarantined)) == (1, 5, 5)
    assert content_of(tmp_path / "out") == content_of(out)


def test_an_index_that_a_killed_run_left_behind_is_renewed(finished, model, scenes, tmp_path):
    out, _ = finished
    shutil.copytree(scenes, tmp_path / "scenes")
    moved = tmp_path / "scenes" / "tif-003.tif"
    moved.rename(tmp_path / "tif-003.tif")
    path = write_workflow(tmp_path, model, extra=EXTRA)
    run_quietly(path)
    before = (tmp_path / "out" / "items.parquet").read_bytes()
    catalog = (tmp_path / "out" / "catalog.json").read_bytes()
    (tmp_path / "tif-003.tif").rename(moved)
    run_quietly(path)
    (tmp_path / "out" / "items.parquet").write_bytes(before)  # as after a kill before it was
    (tmp_path / "out" / "catalog.json").write_bytes(catalog)
    run_quietly(path)
    ids = gpd.read_parquet(tmp_path / "out" / "items.parquet")["id"]
    assert sorted(ids) == sorted(read_done(target_of(out)))


def test_a_scene_without_a_place_is_mapped_and_not_in_the_index(model, scenes, tmp_path):
    (tmp_path / "scenes").mkdir()
    for name in ("tif-001.tif", "no-crs.tif"):
        shutil.copy2(scenes / name, tmp_path / "scenes")
    path = write_workflow(tmp_path, model, extra="pixel_coordinates: true\n")
    assert run_quietly(path).is_complete
    assert gpd.read_parquet(tmp_path / "out" / "items.parquet")["id"].tolist() == ["tif-001"]
    assert len(gpd.read_file(tmp_path / "out" / "footprints.gpkg")) == 2
    (tmp_path / "scenes" / "tif-001.tif").unlink()
    shutil.rmtree(tmp_path / "out")
    assert run_quietly(path).is_complete
    assert not (tmp_path / "out" / "items.parquet").exists()


def test_what_was_begun_with_other_chunks_is_begun_anew(model, tmp_path):
    write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model, extra="retries: 0\n")
    with patch.object(publish, "_check_new_styles", side_effect=ConnectionError("gone")):
        assert len(run_quietly(path).failed) == 2
    assert list((tmp_path / "out" / ".work").glob("*/.*.unfinished"))
    path = write_workflow(tmp_path, model, extra="classify: {chunk: 32}\n")
    assert run_quietly(path).is_complete


def test_a_scene_that_another_worker_finished_meanwhile_is_not_mapped_again(
    finished, model, scenes, tmp_path
):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    settings = config.load(write_workflow(tmp_path, model, scenes=scenes, extra=EXTRA))
    target = target_of(tmp_path / "out")
    done = read_done(target)["tif-001"]
    job = archive_scene.SceneJob(
        scene=ArchiveScene(id="tif-001", path=str(scenes / "tif-001.tif"), stamp=""),
        fingerprint=done.fingerprint, target=target, scratch=target.path(".work"),
        model="none", settings=settings, threads=1, whole=True,
    )  # fmt: skip
    with (
        archive._own_settings(),
        patch.object(archive_scene, "_products", side_effect=AssertionError),
    ):
        result = archive_scene.map_scene(job, tell=lambda event: None)
    assert result.done == done


def test_ids_stay_when_scenes_of_the_same_name_come_and_go(model, tmp_path):
    for name in ("b", "a"):
        (tmp_path / "scenes" / name).mkdir(parents=True)
    first = raster_scene(tmp_path / "scenes" / "b", 1)
    path = write_workflow(tmp_path, model)
    assert run_quietly(path).done == 1
    second = raster_scene(tmp_path / "scenes" / "a", 1, rows=48)
    report = run_quietly(path)
    assert (report.done, report.finished) == (1, 1)
    second.unlink()
    assert (run_quietly(path).done, len(read_done(target_of(tmp_path / "out")))) == (0, 2)
    raster_scene(tmp_path / "scenes" / "a", 1, rows=48)
    first.unlink()
    os.utime(tmp_path / "scenes" / "a" / first.name, ns=(5, 5))
    assert run_quietly(path).done == 1  # its time is another


def test_new_settings_are_refused_for_a_part_of_an_archive(finished, model, scenes, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    path = write_workflow(tmp_path, model, scenes=scenes / "tif-*.tif", extra="mask: none\n")
    with pytest.raises(InputError, match="leave 3 of other scenes as they were made before"):
        run_quietly(path, force=True)


def test_secrets_of_addresses_are_in_no_log(finished):
    said = archive_scene._without_secrets("at https://me:word@host/a.tif?sig=abc, s3://b/c\n  x")
    assert said == "at https://host/a.tif s3://b/c\n  x"


def test_a_target_writes_whole_files_or_none(tmp_path):
    target = Target(str(tmp_path))
    target.write("a/b.json", b"one")
    with (
        patch("os.replace", side_effect=OSError("no")),
        pytest.raises(InputError, match=r"a/b\.json"),
    ):
        target.write("a/b.json", b"two")
    assert target.read("a/b.json") == b"one"
    assert target.files("a") == ["b.json"]
    assert target.read("nothing") is None
    assert target.folders("nothing") == []


def test_progress_comes_as_lines_for_programs(model, tmp_path, cli):
    write_archive(tmp_path, 2, broken=False)
    path = write_workflow(tmp_path, model)
    code, shown, _ = cli("run", path, "--workers", 0, "--progress", "json")
    assert code == 0
    events = [json.loads(line) for line in shown.splitlines()]
    labels = {event["label"] for event in events if event["event"] == "progress"}
    assert "archive" in labels
    assert events[-2]["text"].endswith("catalog.json")
    assert events[-1]["event"] == "finished"
    assert events[-1]["results"]["archive"]["done"] == 2


def test_the_log_tells_each_scene_in_json_lines(finished):
    out, _ = finished
    (log,) = (out / "logs").iterdir()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[0]["event"] == "run started"
    assert events[-1]["event"] == "run ended"
    assert (events[-1]["done"], events[-1]["failed"]) == (6, 5)
    assert {e["id"] for e in events if e["event"] == "scene failed"} == set(BROKEN)
    seconds = [event["since_start"] for event in events]
    assert seconds == sorted(seconds)
