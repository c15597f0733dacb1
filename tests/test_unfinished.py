"""Class maps in the making: whatever stops the work, the same job ends it, to the byte."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from unfinished_job import CHUNKS, make_map

from hsi_pipeline.errors import InputError, SourceChangedError, WindowError
from hsi_pipeline.publish import filling, open_class_map, write_class_map

PROGRAM = Path(__file__).with_name("unfinished_job.py")
JOB = {"scene": "a.tif", "model": "1234"}


class Chunks:
    """Computes chunks, notes which, and may be told to fail at one or at the n-th."""

    def __init__(self, fail_at=None, error=None, after=None):
        self.seen, self.fail_at, self.error, self.after = [], fail_at, error, after

    def __call__(self, i, j):
        if self.fail_at == (i, j) or (self.after is not None and len(self.seen) >= self.after):
            raise self.error
        self.seen.append((i, j))


def write(path, chunks, **options):
    with dask.config.set(scheduler="synchronous"):
        options = {"job": JOB, **options}
        return write_class_map(make_map(chunks), path, **options)


def content(folder):
    """Every file of a folder with its bytes."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def hidden(path):
    return path.with_name(f".{path.name}.unfinished")


def attempt(path):
    """Where the store and the ledger lie."""
    (folder,) = (part for part in hidden(path).iterdir() if part.is_dir())
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that was written without interruption."""
    path = tmp_path_factory.mktemp("whole") / "map.zarr"
    write(path, Chunks())
    return content(path)


def test_nothing_is_left_but_the_map(tmp_path, whole):
    chunks = Chunks()
    assert write(tmp_path / "map.zarr", chunks) == [tmp_path / "map.zarr"]
    assert [file.name for file in tmp_path.iterdir()] == ["map.zarr"]
    assert Counter(chunks.seen) == dict.fromkeys([(i, j) for i in range(6) for j in range(5)], 1), (
        "each chunk once, for all variables together"
    )
    assert content(tmp_path / "map.zarr") == whole


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "full")])
@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_the_same_job_computes_only_what_is_missing(tmp_path, whole, suffix, error):
    path = tmp_path / f"map{suffix}"
    first, second = Chunks(fail_at=(2, 3), error=error), Chunks()
    with pytest.raises(type(error)):
        write(path, first)
    assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == [hidden(path).name]
    done = zarr.open_array(attempt(path) / "done.zarr")[:]
    assert sorted(map(tuple, np.argwhere(done == 1).tolist())) == sorted(first.seen)
    assert first.seen
    write(path, second)
    assert len(first.seen) + len(second.seen) == CHUNKS
    assert not set(first.seen) & set(second.seen)
    if suffix == ".zarr":
        assert content(path) == whole
    else:
        expected = make_map(lambda i, j: None).compute()
        np.testing.assert_array_equal(open_class_map(path)["class"], expected["class"])
    assert not hidden(path).exists()


def test_a_chunk_that_is_not_in_the_ledger_is_written_anew(tmp_path, whole):
    """Its file may be torn: the ledger is written after it."""
    path = tmp_path / "map.zarr"
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=20, error=ValueError("stop")))
    entry = next((attempt(path) / "done.zarr").glob("[0-9]*"))
    entry.unlink()
    (attempt(path) / "map.zarr" / "class" / entry.name).write_bytes(b"torn")
    write(path, Chunks())
    assert content(path) == whole


def test_what_a_killed_process_left_half_written_is_removed(tmp_path, whole):
    path = tmp_path / "map.zarr"
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=9, error=ValueError("stop")))
    (attempt(path) / "map.zarr" / "confidence" / "2.0123.partial").write_bytes(b"half")
    write(path, Chunks())
    assert content(path) == whole


@pytest.mark.parametrize("lost", ["job.json", "map.zarr", "done.zarr"])
def test_a_folder_that_lacks_a_part_is_begun_anew(tmp_path, whole, lost):
    path, chunks = tmp_path / "map.zarr", Chunks()
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=9, error=ValueError("stop")))
    part = (hidden(path) if lost == "job.json" else attempt(path)) / lost
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    write(path, chunks)
    assert len(chunks.seen) == CHUNKS
    assert content(path) == whole


def test_another_job_is_refused_and_named(tmp_path):
    path = tmp_path / "map.zarr"
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=9, error=ValueError("stop")))
    kept = content(hidden(path))
    for other, words in (
        ({**JOB, "model": "5678"}, "its model was 1234, now 5678; --restart"),
        ({**JOB, "chunk": "8"}, "its chunk was not given, now 8; --restart"),
        ({"scene": "a.tif"}, "its model was 1234, now not given; --restart"),
    ):
        with pytest.raises(InputError, match=words):
            write(path, Chunks(), job=other)
        assert content(hidden(path)) == kept
    chunks = Chunks()
    write(path, chunks, job={**JOB, "model": "5678"}, restart=True)
    assert len(chunks.seen) == CHUNKS


class Unreadable(Chunks):
    """Some chunks cannot be read."""

    def __init__(self, *places):
        super().__init__()
        self.places = places

    def __call__(self, i, j):
        if (i, j) in self.places:
            raise WindowError("the disk is torn there", (i, j))
        super().__call__(i, j)


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_chunks_that_cannot_be_read_are_nodata_if_the_user_says_so(tmp_path, suffix):
    path, chunks = tmp_path / f"map{suffix}", Unreadable((0, 1), (5, 4))
    write(path, chunks, skip_failed=True)
    assert len(set(chunks.seen)) == len(chunks.seen) == CHUNKS - 2
    found, expected = open_class_map(path), make_map(lambda i, j: None).compute()
    skipped = np.zeros(expected["class"].shape, bool)
    skipped[0:16, 16:32] = skipped[80:90, 64:70] = True
    np.testing.assert_array_equal(found["class"], np.where(skipped, 0, expected["class"]))
    np.testing.assert_array_equal(
        found["confidence"], np.where(skipped, np.nan, expected["confidence"])
    )
    assert np.isnan(found["probability"].values[:, skipped]).all()
    assert found.attrs["failed_chunks"] == [
        "rows 0 to 15, columns 16 to 31 are nodata, since the disk is torn there",
        "rows 80 to 89, columns 64 to 69 are nodata, since the disk is torn there",
    ]


def test_chunks_that_could_not_be_read_are_tried_again_by_the_next_run(tmp_path, whole):
    path = tmp_path / "map.zarr"

    class Stops(Unreadable):
        def __call__(self, i, j):
            if len(self.seen) > 9:
                raise ValueError("stop")
            super().__call__(i, j)

    first, second, third = Stops((0, 0)), Unreadable((0, 0)), Chunks()
    with pytest.raises(ValueError, match="stop"):
        write(path, first, skip_failed=True)
    assert zarr.open_array(attempt(path) / "done.zarr")[0, 0] == 0

    def gone():
        raise InputError("gone")

    with pytest.raises(InputError, match="gone"):
        write(path, second, skip_failed=True, check_source=gone)
    assert "failed_chunks" in zarr.open_group(attempt(path) / "map.zarr").attrs
    write(path, third)
    assert third.seen == [(0, 0)]
    assert len(first.seen + second.seen) == CHUNKS - 1
    assert content(path) == whole, "and nothing tells of a failure that has passed"


def test_a_map_with_failures_tells_of_them_in_every_format(tmp_path):
    write(tmp_path / "map.zarr", Unreadable((0, 1)), skip_failed=True)
    stored = open_class_map(tmp_path / "map.zarr")
    write_class_map(stored, tmp_path / "map.tif")
    write_class_map(stored, tmp_path / "again.zarr")
    told = stored.attrs["failed_chunks"]
    assert len(told) == 1
    assert open_class_map(tmp_path / "map.tif").attrs["failed_chunks"] == told
    assert open_class_map(tmp_path / "again.zarr").attrs["failed_chunks"] == told


def test_without_being_told_to_skip_a_failure_ends_the_run_and_keeps_the_rest(tmp_path, whole):
    path = tmp_path / "map.zarr"
    with pytest.raises(WindowError, match="torn there"):
        write(path, Unreadable((3, 3)))
    assert not path.exists()
    write(path, Chunks())
    assert content(path) == whole


def test_progress_counts_what_earlier_runs_have_done_too(tmp_path):
    path, calls = tmp_path / "map.zarr", []
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=9, error=ValueError("stop")))
    write(path, Chunks(), progress=lambda done, total: calls.append((done, total)))
    counts = [done for done, _ in calls]
    assert counts == sorted(counts)
    assert min(counts) >= 9
    assert calls[-1] == (CHUNKS, CHUNKS)


def test_without_a_job_nothing_is_kept(tmp_path):
    with pytest.raises(ValueError, match="stop"):
        write(tmp_path / "map.zarr", Chunks(after=9, error=ValueError("stop")), job=None)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_changed_is_no_finished_map(tmp_path):
    path = tmp_path / "map.zarr"

    def changed():
        raise SourceChangedError("it changed")

    with pytest.raises(SourceChangedError, match="it changed"):
        write(path, Chunks(), check_source=changed)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_cannot_be_asked_loses_nothing(tmp_path, whole):
    path, chunks = tmp_path / "map.zarr", Chunks()

    def gone():
        raise InputError("the share is gone")

    with pytest.raises(InputError, match="the share is gone"):
        write(path, Chunks(), check_source=gone)
    assert not path.exists()
    write(path, chunks)
    assert chunks.seen == []
    assert content(path) == whole


def test_workers_of_an_older_attempt_cannot_reach_the_new_one(tmp_path):
    """A cluster's workers end what they have begun, though the program that asked is gone."""
    path = tmp_path / "map.zarr"
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=3, error=ValueError("stop")))
    old = attempt(path)
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=3, error=ValueError("stop")), job={"other": "1"}, restart=True)
    assert attempt(path) != old
    layers = [np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.float32)]
    with pytest.raises(FileNotFoundError):
        filling._store_chunk(
            (0, 0), *layers, store=str(old / "map.zarr"), ledger=str(old / "done.zarr"),
            names=["class", "confidence"],
        )  # fmt: skip
    assert not old.exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_job_that_cannot_be_read_is_begun_anew(tmp_path, whole, text):
    path, chunks = tmp_path / "map.zarr", Chunks()
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=9, error=ValueError("stop")))
    (hidden(path) / "job.json").write_text(text)
    write(path, chunks)
    assert len(chunks.seen) == CHUNKS
    assert content(path) == whole


def test_an_older_map_stays_until_the_new_one_is_complete(tmp_path, whole):
    path = tmp_path / "map.zarr"
    write(path, Chunks())
    (path / "old").write_text("yes")
    with pytest.raises(ValueError, match="stop"):
        write(path, Chunks(after=9, error=ValueError("stop")), overwrite=True)
    assert (path / "old").exists()
    write(path, Chunks(), overwrite=True)
    assert content(path) == whole


def start(path, log, seconds=0.02, *more):
    command = [sys.executable, str(PROGRAM), str(path), str(log), str(seconds), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def wait_for(condition, process, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_killed_at_random_instants_it_ends_with_the_same_bytes(tmp_path, whole):
    path, log = tmp_path / "map.zarr", tmp_path / "log"
    draw = random.Random(7)
    kills = 0
    for attempt in range(40):
        process = start(path, log)
        before = len(lines(log))
        if attempt < 8:
            # anywhere from the first moments of the process to some chunks later
            if draw.random() < 0.8:
                wanted = min(before + draw.randint(0, 4), CHUNKS - 1)
                wait_for(lambda n=wanted: len(lines(log)) >= n or path.exists(), process)
            time.sleep(draw.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.stderr.close()
            continue
        _, message = process.communicate(timeout=60)
        assert process.returncode == 0, message
        break
    assert kills >= 5
    assert content(path) == whole
    assert not hidden(path).exists()
    # two chunks are in flight at most when a process is killed
    assert CHUNKS <= len(lines(log)) <= CHUNKS + 2 * kills


def test_two_processes_do_not_write_the_same_map(tmp_path, whole):
    path, log = tmp_path / "map.zarr", tmp_path / "log"
    first = start(path, log, 0.2)
    wait_for(lambda: lines(log), first)
    second = start(path, tmp_path / "other")
    _, message = second.communicate(timeout=60)
    assert second.returncode != 0
    assert f"{path} is being written by another process" in message
    assert not lines(tmp_path / "other")
    _, message = first.communicate(timeout=60)
    assert first.returncode == 0, message
    assert content(path) == whole


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own with room for little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(small_disk, whole):
    path = small_disk / "map.zarr"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    with pytest.raises(OSError, match="No space left"):
        write(path, Chunks())
    assert not path.exists()
    assert json.loads((hidden(path) / "job.json").read_text())["job"] == JOB
    ballast.unlink()
    chunks = Chunks()
    write(path, chunks)
    assert 0 < len(chunks.seen) < CHUNKS
    assert content(path) == whole
