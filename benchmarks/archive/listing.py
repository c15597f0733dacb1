"""What is left to do in an archive of 10,000 scenes, and what each part of the answer costs.

    python benchmarks/archive/listing.py --items 10000

A static catalog of scenes and a land-cover archive that has all but ten of them. Items are copies
of one that the project wrote, with ids, places and times of their own; their products are empty
files. Each part is measured in this process, median of some rounds; the command is run as a user
would.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from archive_scenes import raster_scene, write_workflow
from conftest import make_tiny_scene

from hsi_pipeline import config
from hsi_pipeline.archive.ledger import FINGERPRINT, fingerprint_of, plan, read_done
from hsi_pipeline.archive.listing import list_scenes
from hsi_pipeline.archive.scenes import Selection
from hsi_pipeline.archive.target import target_of
from hsi_pipeline.commands.archive import run_archive
from hsi_pipeline.commands.archive_plan import planned, write_catalogs, write_items
from hsi_pipeline.commands.terminal import Terminal

PROGRAM = shutil.which("hsi-pipeline", path=os.path.dirname(sys.executable)) or "hsi-pipeline"


def first_archive(folder: Path) -> tuple[Path, Path]:
    """Map one scene; return the workflow and the item."""
    tiny = make_tiny_scene(folder)
    model = folder / "model.safetensors"
    subprocess.run(
        [PROGRAM, "train", tiny.path, tiny.labels, "--out", model, "--label-column", "code",
         "--name-column", "name", "--model", "spectral", "--epochs", "1", "--no-baselines"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (folder / "scenes").mkdir()
    raster_scene(folder / "scenes", 1)
    workflow = write_workflow(folder, model, extra="polygonize: {}\n")
    run_archive(config.load(workflow), workers=0)  # type: ignore[arg-type]
    (item,) = (folder / "out").glob("*/*/*.json")
    return workflow, item


def source_catalog(folder: Path, count: int) -> Path:
    """Write a static catalog of scenes, in sub-catalogs of 100."""
    root = folder / "source"
    children = []
    for start in range(0, count, 100):
        name = f"part-{start // 100:03}"
        (root / name).mkdir(parents=True)
        links = []
        for number in range(start, min(start + 100, count)):
            item = {
                "type": "Feature", "stac_version": "1.1.0", "id": f"scene-{number:06}",
                "geometry": {"type": "Point", "coordinates": [13 + number % 100 / 100, 52]},
                "bbox": [13 + number % 100 / 100, 52, 13 + number % 100 / 100, 52],
                "properties": {
                    "datetime": f"2024-{number % 12 + 1:02}-05T10:00:00Z",
                    "eo:cloud_cover": number % 90, "platform": "enmap",
                    "updated": "2024-12-01T00:00:00Z", "proj:shape": [1200, 1100],
                },
                "assets": {
                    "data": {"href": f"https://archive.invalid/{number}.tif", "roles": ["data"]}
                },
                "links": [],
            }  # fmt: skip
            (root / name / f"{item['id']}.json").write_text(json.dumps(item))
            links.append({"rel": "item", "href": f"./{item['id']}.json"})
        write_catalog(root / name / "catalog.json", name, links)
        children.append({"rel": "child", "href": f"./{name}/catalog.json"})
    write_catalog(root / "catalog.json", "scenes", children)
    return root / "catalog.json"


def write_catalog(path: Path, name: str, links: list[dict[str, str]]) -> None:
    """Write a catalog."""
    content = {"type": "Catalog", "stac_version": "1.1.0", "id": name, "description": name}
    path.write_text(json.dumps(content | {"links": links}))


def finish(folder: Path, pattern: Path, fingerprints: dict[str, str]) -> None:
    """Write items of finished scenes, as copies of one."""
    item = json.loads(pattern.read_text())
    for number, (name, fingerprint) in enumerate(fingerprints.items()):
        month = f"2024-{number % 12 + 1:02}"
        place = folder / "out" / month / name
        place.mkdir(parents=True)
        new = copy.deepcopy(item)
        new["id"] = name
        new["properties"] |= {FINGERPRINT: fingerprint, "datetime": f"{month}-05T10:00:00Z"}
        for asset in new["assets"].values():
            if asset["href"].startswith("./"):
                asset["href"] = asset["href"].replace(item["id"], name)
                (place / asset["href"]).touch()
                asset["file:size"] = 0
        (place / f"{name}.json").write_text(json.dumps(new, indent=2))
    shutil.rmtree(pattern.parent)


def seconds(function: Callable[[], Any], rounds: int) -> float:
    """Return the median of some rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, pattern = first_archive(folder)
        source = source_catalog(folder, options.items)
        workflow = write_workflow(
            folder, folder / "model.safetensors", scenes=source, extra="polygonize: {}\n"
        )
        settings = config.load(workflow)
        assert isinstance(settings, config.Archive)
        size = pattern.stat().st_size
        with planned(settings, terminal=Terminal(quiet=True)) as work:
            todo = {scene.id: work.plan.fingerprints[scene.id] for scene in work.plan.todo}
        finish(folder, pattern, dict(list(todo.items())[:-10]))
        target = target_of(folder / "out")
        scenes = list_scenes(str(source), Selection()).scenes
        done = read_done(target)
        prints = {scene.id: fingerprint_of(scene, "m", {}) for scene in scenes}
        parts = {
            "reading the source catalog": lambda: list_scenes(str(source), Selection()),
            "fingerprints": lambda: [fingerprint_of(scene, "m", {}) for scene in scenes],
            "reading the items of finished scenes": lambda: read_done(target),
            "comparing": lambda: plan(scenes, prints, done, {}, settings={}),
            "writing all catalogs": lambda: write_catalogs(work, done, indexed=""),
            "writing items.parquet": lambda: write_items(work, done),
        }
        print(f"{len(scenes)} scenes, {len(done)} items of {size / 1000:.1f} kB\n")
        print("| part | s | us an item |\n| --- | --- | --- |")
        for part, function in parts.items():
            took = seconds(function, options.rounds)
            print(f"| {part} | {took:.2f} | {took / options.items * 1e6:.0f} |", flush=True)
        index = (folder / "out" / "items.parquet").stat().st_size
        command = [PROGRAM, "run", workflow, "--dry-run"]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        took = seconds(
            lambda: subprocess.run(command, check=True, capture_output=True), options.rounds
        )
        helped = seconds(
            lambda: subprocess.run([PROGRAM, "run", "--help"], check=True, capture_output=True),
            options.rounds,
        )
        print(f"\n{told.stderr.strip()}\n\nindex {index / 1e6:.1f} MB")
        print(f"'run --dry-run' {took:.1f} s, start of the program {helped:.1f} s")


if __name__ == "__main__":
    main()
