"""A program that another one started ends with it: cleaned up, or hard, its workers too."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from archive_scenes import raster_scene, write_workflow
from conftest import write_scene

from hsi_pipeline.checkpoint import load_checkpoint, save_checkpoint
from hsi_pipeline.models import build_model

WATCHED = {**os.environ, "HSI_PIPELINE_STOP_ON_EOF": "1"}

# Starts the rest of its arguments with a pipe as standard input, as QGIS's plugin does, says so,
# and reads what it prints, if it is not to go to a file, for as long as it lives.
PARENT = """
import subprocess, sys, time
pipe = subprocess.PIPE
said = open("said.txt", "w")
out = pipe if sys.argv[1] == "pipe" else said
child = subprocess.Popen(sys.argv[2:], stdin=pipe, stdout=out, stderr=said)
print(child.pid, flush=True)
for line in child.stdout or ():
    pass
time.sleep(1e6)
"""


def wait_for(happened, words, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, words
        time.sleep(0.02)


def start_by_a_parent(out, *arguments, folder):
    """Start our program by another one that can be killed: (the other, ours)."""
    command = [sys.executable, "-m", "hsi_pipeline", *map(str, arguments)]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, out, *command],
        cwd=folder, env=WATCHED, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return parent, psutil.Process(int(parent.stdout.readline()))


def still_alive(processes, seconds):
    """Return which processes have not ended after a while, and end those."""
    end = time.monotonic() + seconds
    while (alive := [one for one in processes if runs(one)]) and time.monotonic() < end:
        time.sleep(0.05)
    for one in alive:
        one.kill()
    return alive


def runs(process):
    """Say whether a process runs; one that has ended may wait for whoever asks for its code."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_and_wait(parent, program):
    """Kill the parent; return the program and its workers, which have all ended since."""
    family = [program, *program.children(recursive=True)]
    parent.kill()
    parent.communicate()
    assert not still_alive(family, 20)
    return family


@pytest.fixture(scope="module")
def slow(model, tmp_path_factory):
    """Return an untrained network that takes about half a second for 48 x 48 pixels."""
    _, card = load_checkpoint(model)
    path = tmp_path_factory.mktemp("slow") / "slow.safetensors"
    card = replace(card, architecture="hyperloopnet", halo=37)
    save_checkpoint(path, build_model("hyperloopnet", 9, 3), card)
    return path


def test_it_cleans_up_and_ends_when_its_parent_was_killed(tiny, slow, tmp_path):
    scene = write_scene(tmp_path / "large.tif", np.tile(tiny.pixels, (1, 5, 8)))
    out = tmp_path / "out"
    out.mkdir()
    parent, program = start_by_a_parent(
        "file", "classify", scene, slow, "--out", out / "map.zarr", "--chunk", 48,
        "--device", "cpu", "--progress", "json", folder=tmp_path,
    )  # fmt: skip
    wait_for(lambda: any(out.glob(".map.*/**/class/[0-9]*")), "it never began")
    kill_and_wait(parent, program)
    assert "stopped; nothing unfinished stands" in (tmp_path / "said.txt").read_text()
    assert [file.name for file in out.iterdir()] == [".map.zarr.unfinished"]


def test_workers_of_an_archive_end_with_it(slow, tmp_path):
    (tmp_path / "scenes").mkdir()
    for number in range(2):
        raster_scene(tmp_path / "scenes", number, rows=640, columns=640)
    path = write_workflow(tmp_path, slow)
    parent, program = start_by_a_parent(
        "pipe", "run", path, "--workers", 2, "--progress", "json", folder=tmp_path
    )
    work = tmp_path / "out" / ".work"
    wait_for(lambda: work.exists() and any(work.rglob("*map*")), "it never began")
    family = kill_and_wait(parent, program)
    assert len(family) >= 3  # the program and its two workers, whatever else Python starts
    assert not list((tmp_path / "out").glob("[!.]*/*/*"))  # no scene was done


STUCK = """
import hashlib, multiprocessing, signal, sys, time
from hsi_pipeline import lifeline

def never_end(begun):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begun.set()
    hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)  # hours in native code

if __name__ == "__main__":
    lifeline.GRACE_S = 0.5
    begun = multiprocessing.Event()
    multiprocessing.Process(target=never_end, args=(begun,)).start()
    begun.wait()
    signal.signal(signal.SIGTERM, ON_SIGTERM)
    lifeline.end_with_standard_input()
    print("begun", flush=True)
    WORK
"""


def run_stuck(tmp_path, on_sigterm, work):
    """Start a program that hangs, end its standard input: (exit code, processes still alive)."""
    script = tmp_path / "stuck.py"
    script.write_text(STUCK.replace("ON_SIGTERM", on_sigterm).replace("WORK", work))
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, script], stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout.readline() == b"begun\n"
            workers = psutil.Process(process.pid).children(recursive=True)
            assert workers
            assert process.poll() is None
            process.stdin.close()
            code = process.wait(20)
        finally:
            process.kill()
    return code, still_alive(workers, 1)


HOURS = 'hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)'


def test_it_ends_where_the_main_thread_is_in_native_code(tmp_path):
    assert run_stuck(tmp_path, "lambda *_: sys.exit(130)", HOURS) == (130, [])


def test_it_ends_where_cleaning_up_takes_for_ever(tmp_path):
    assert run_stuck(tmp_path, f"lambda *_: {HOURS}", "time.sleep(1e6)") == (130, [])


def test_it_ends_where_cleaning_up_holds_pythons_lock(tmp_path):
    # sum() runs in C and lets no other thread run
    code, _ = run_stuck(tmp_path, "lambda *_: sum(range(10**15))", "time.sleep(1e6)")
    assert code == 1


@pytest.mark.parametrize("work", ["threading.Lock().__enter__()", "time.sleep(1e6)", "spin()"])
def test_it_ends_at_once_where_the_main_thread_waits_or_computes(work):
    code = (
        "import itertools, signal, sys, threading, time\n"
        "from hsi_pipeline.lifeline import end_with_standard_input\n"
        "def spin():\n    for _ in itertools.count(): pass\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "end_with_standard_input()\n"
        f"lock = {work}\n"
    )
    if "Lock" in work:
        code = code.replace(work, "threading.Lock(); lock.acquire(); lock.acquire()")
    result = subprocess.run(
        [sys.executable, "-c", code], input=b"is dropped" * 10_000, capture_output=True, timeout=20
    )
    assert (result.returncode, result.stderr) == (
        7,
        b"",
    )  # the handler's, so it was not the hard end


def run_cli(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "hsi_pipeline", *arguments],
        capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


def test_programs_that_it_starts_are_not_told_to_watch():
    code = (
        "import os, sys, time\n"
        "from hsi_pipeline import cli\n"
        "cli.app = lambda: sys.exit(int('HSI_PIPELINE_STOP_ON_EOF' in os.environ))\n"
        "cli.main()\n"
    )
    for value in ("1", "0"):
        environment = {**WATCHED, "HSI_PIPELINE_STOP_ON_EOF": value}
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE
        ) as process:
            assert process.wait(20) == 0


def test_without_the_variable_standard_input_is_left_alone(tmp_path):
    environment = {**WATCHED, "HSI_PIPELINE_STOP_ON_EOF": "0"}
    result = run_cli("info", "nowhere.tif", env=environment, stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert result.returncode == 2
    assert "nowhere.tif" in result.stderr


def test_without_standard_input_it_says_what_to_do():
    result = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m hsi_pipeline --version <&-"],
        env=WATCHED, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 2
    assert "HSI_PIPELINE_STOP_ON_EOF is set, but standard input is closed" in result.stderr


def test_it_ends_with_the_code_of_a_stopped_program():
    result = run_cli("info", "sample_data/scene.tif", env=WATCHED, stdin=subprocess.DEVNULL,
                     cwd=Path(__file__).parents[1])  # fmt: skip
    assert result.returncode == 130
    assert result.stderr == "stopped; nothing unfinished stands under its final name\n"


def test_it_needs_the_standard_library_alone():
    code = (
        "import sys; before = {*sys.modules, '__mp_main__'}; import hsi_pipeline.lifeline\n"
        "print({name.partition('.')[0] for name in {*sys.modules} - before}"
        " - sys.stdlib_module_names)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "{'hsi_pipeline'}\n", result.stderr


WINDOWS = """
import array, fcntl, itertools, multiprocessing, os, select, signal, sys, termios, time, types
looks = []

def peek(pipe, size):  # as Windows: what waits in the pipe, an error once it is closed
    looks.append(pipe)
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not count[0] and dict(poll.poll(0)).get(pipe, 0) & select.POLLHUP:
        raise BrokenPipeError
    return count[0], 0

sys.modules["_winapi"] = types.SimpleNamespace(PeekNamedPipe=peek)
sys.modules["msvcrt"] = types.SimpleNamespace(get_osfhandle=lambda descriptor: descriptor)
del signal.pthread_kill, signal.SIGKILL  # which Windows lacks
sys.platform = "win32"
from hsi_pipeline import lifeline
lifeline._POLL_S = 0.05
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7 if len(looks) > 3 else 8))
lifeline.end_with_standard_input()
print("begun", flush=True)
for _ in itertools.count(): pass
"""


def test_on_windows_it_looks_at_the_pipe_instead_of_waiting_in_a_read():
    """With Windows' calls made of this system's: a read would block imports there."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WINDOWS], stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"begun\n"
        process.stdin.write(b"is dropped")
        process.stdin.flush()
        time.sleep(0.5)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(20) == 7
