"""Kill `hsi-pipeline classify` at random instants, run it again, compare the bytes of the map.

    python benchmarks/inference/kills.py [--kills 50] [--size 1536] [--bands 40] [--chunk 128]

Every run of the command is killed with SIGKILL after a random time, until the map is complete; then
it begins anew, until so many kills have hit. Each finished map must be equal, byte for byte, to the
one of a run that nobody disturbed. A chunk is noted when the network begins with it: what is noted
more than once was in flight at a kill. Prints a Markdown table; fails if a byte differs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from mapping import make_model, make_scene

# What the command runs, with a note of each chunk.
_PROGRAM = """
import sys
from hsi_pipeline import chunk_tasks
from hsi_pipeline.cli import main
predict = chunk_tasks.ChunkTasks.predict
def noted(self, raw, network, *, block_info):
    with open(LOG, "a") as log:
        log.write(f"{block_info[None]['chunk-location']}\\n")
    return predict(self, raw, network, block_info=block_info)
chunk_tasks.ChunkTasks.predict = noted
LOG = sys.argv.pop(1)
main()
"""


def content(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder with its bytes."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--bands", type=int, default=40)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    centers = np.linspace(420, 2450, arguments.bands)
    chunks = (-(-arguments.size // arguments.chunk)) ** 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_scene(folder / "scene.tif", arguments.size, centers)
        make_model(folder / "model.safetensors", centers)

        def start(out: Path) -> subprocess.Popen:
            command = [
                sys.executable, "-c", _PROGRAM, str(folder / "log"), "classify",
                str(folder / "scene.tif"), str(folder / "model.safetensors"), "--out", str(out),
                "--chunk", str(arguments.chunk), "--device", "cpu", "--quiet",
            ]  # fmt: skip
            return subprocess.Popen(command, stderr=subprocess.PIPE)

        began = time.monotonic()
        process = start(folder / "whole.zarr")
        _, message = process.communicate()
        assert process.returncode == 0, message.decode()
        seconds = time.monotonic() - began
        whole = content(folder / "whole.zarr")
        (folder / "log").unlink()
        hidden = folder / ".map.zarr.unfinished"
        kills = maps = 0
        while kills < arguments.kills or hidden.exists():
            process = start(folder / "map.zarr")
            # start-up takes a good part: most kills should hit the work behind it
            patience = draw.uniform(0, seconds) if kills < arguments.kills else None
            try:
                _, message = process.communicate(timeout=patience)
                assert process.returncode == 0, message.decode()
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            if (folder / "map.zarr").exists():  # a kill may come after it was complete
                assert content(folder / "map.zarr") == whole, "the map differs"
                maps += 1
                shutil.rmtree(folder / "map.zarr")
        begun = len((folder / "log").read_text().splitlines())
    print(
        "| kills | maps, all equal to the byte | chunks of a map | chunks begun | twice, a kill |"
    )
    print("| --- | --- | --- | --- | --- |")
    print(
        f"| {kills} | {maps} | {chunks} | {begun} | {(begun - maps * chunks) / max(kills, 1):.2f} |"
    )


if __name__ == "__main__":
    main()
