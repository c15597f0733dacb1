"""An archive of 200 scenes, five of them broken, killed at random and restarted.

    python benchmarks/archive/kills.py --scenes 200 --kills 20

Two sensors by turns (GeoTIFF and PRISMA L2D). Once without a kill, then killed (SIGKILL, with all
its processes) at random moments until it has been killed often enough, and let run to its end.
Compared are all pixels, polygons, items, catalogs and notes of failures. A scene computed again
after it was finished would have a new item: their times of change are watched after each kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from archive_scenes import content_of, write_archive, write_workflow
from conftest import make_tiny_scene

PROGRAM = shutil.which("hsi-pipeline", path=os.path.dirname(sys.executable)) or "hsi-pipeline"


def run(workflow: Path, seconds: float | None = None) -> bool:
    """Run an archive; kill it and all its processes after some seconds. Tell whether it ended."""
    process = subprocess.Popen(
        [PROGRAM, "run", str(workflow), "--quiet"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    return True


def items(out: Path) -> dict[str, int]:
    """Return when each item was written; all of them are whole."""
    found = {}
    for path in out.glob("*/*/*.json"):
        json.loads(path.read_text())
        found[path.stem] = path.stat().st_mtime_ns
    return found


def events(out: Path, kind: str) -> list[dict]:
    """Return the events of a kind in all logs."""
    lines = [line for log in (out / "logs").iterdir() for line in log.read_text().splitlines()]
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def main() -> None:
    """Compare a run without and one with kills."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=200, help="five of them are broken")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = make_tiny_scene(folder)
        model = folder / "model.safetensors"
        subprocess.run(
            [PROGRAM, "train", tiny.path, tiny.labels, "--out", model, "--label-column", "code",
             "--name-column", "name", "--model", "spectral", "--epochs", "3", "--no-baselines"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        scenes = write_archive(folder, options.scenes - 5, rows=options.side, columns=options.side)
        extra = "polygonize: {}\n"
        (folder / "calm").mkdir()
        (folder / "killed").mkdir()
        calm = write_workflow(folder / "calm", model, scenes=scenes, extra=extra)
        started, begun = time.monotonic(), time.time()
        run(calm)
        seconds = time.monotonic() - started
        killed = write_workflow(folder / "killed", model, scenes=scenes, extra=extra)
        out, seen, kills, again = folder / "killed" / "out", {}, 0, 0
        first = events(folder / "calm" / "out", "scene started")[0]
        work = events(folder / "calm" / "out", "scene done")[-1]["since_start"]
        work -= first["since_start"]
        start = datetime.fromisoformat(first["time"]).timestamp() - begun  # of program and workers
        while kills < options.kills:
            # a fifth while it starts; the others so that they are spread over all the work
            early = dice.random() < 0.2
            wait = (
                start * dice.random()
                if early
                else start + dice.uniform(0, 1.7 * work / options.kills)
            )
            ended = run(killed, wait)
            kills += not ended
            for item, moment in items(out).items():
                again += seen.setdefault(item, moment) != moment
            print(f"kill {kills} after {wait:.1f} s: {len(seen)} items", flush=True)
            if ended:
                break
        run(killed)
        for item, moment in items(out).items():
            again += seen.setdefault(item, moment) != moment
        mine, calmly = content_of(out), content_of(folder / "calm" / "out")
        differ = sum(mine.get(name) != calmly.get(name) for name in {*mine, *calmly})
        ends = events(folder / "calm" / "out", "run ended")
        print(
            f"\nwithout a kill: {seconds:.0f} s, peak of a worker {ends[-1]['peak_mb']} MB, "
            f"{ends[-1]['open_files']} open files\n"
            f"{kills} kills: {len(items(out))} items, {len(list((out / 'failures').iterdir()))} "
            f"failures, {differ} of {len(calmly)} results differ, {again} items made again after "
            f"they were finished, {len(list(out.glob('.work/*')))} leftovers"
        )
        starts = len(events(out, "scene started"))
        print(f"scenes started {starts} times, of which {options.scenes} are needed")


if __name__ == "__main__":
    main()
