"""Damaging scene files at random, and opening them in child processes that may crash or hang.

A damage follows from the file and a seed: `python tests/fuzzing.py TARGET SEED FOLDER` writes the
file of a finding into a folder and opens it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import pkgutil
import resource
import shutil
import sys
import tarfile
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import products
import rasterio
import scipy.io
from affine import Affine

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import SceneSource, open_source

PIXEL_TYPES = (".mat", ".npy")
SECONDS = 20
_MEMORY = 6 * 2**30
_HEAD = 2048
_CHILDREN = 2


@dataclass(frozen=True)
class Target:
    """A scene that is whole."""

    name: str
    folder: Path
    path: Path
    """What is opened."""
    files: tuple[Path, ...]
    """What is damaged."""


@dataclass(frozen=True)
class Finding:
    """What opening a damaged file came to, if neither an error of ours nor the same scene."""

    target: str
    seed: int
    kind: str
    """crash, hang, error, message, shape, or altered: grid or wavelengths are other ones."""
    text: str


# --- scenes ---------------------------------------------------------------------------------


def plain_scenes() -> dict[str, Callable[[Path], Path]]:
    """Return writers of small scenes of the kinds that are no product."""
    pixels = np.random.default_rng(3).integers(0, 9000, (6, 20, 24)).astype("int16")

    def tif(folder: Path, **options: object) -> Path:
        path = folder / "scene.tif"
        profile = {"driver": "GTiff", "crs": "EPSG:32633", "dtype": "int16", "nodata": -9999}
        profile |= {"count": 6, "height": 20, "width": 24, **options}
        transform = Affine(30, 0, 364_095, 0, -30, 5_809_965)
        with rasterio.open(path, "w", transform=transform, **profile) as raster:
            raster.write(pixels)
            for band in raster.indexes:
                raster.update_tags(band, wavelength=400 + 50 * band, wavelength_units="Nanometers")
        return path

    def mat(folder: Path) -> Path:
        cube = pixels.transpose(1, 2, 0)
        scipy.io.savemat(folder / "scene.mat", {"cube": cube}, do_compression=True)
        return folder / "scene.mat"

    def npy(folder: Path) -> Path:
        np.save(folder / "scene.npy", pixels.transpose(1, 2, 0))
        return folder / "scene.npy"

    def zipped(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "scene.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tif(folder), "delivery/scene.tif")
        (folder / "scene.tif").unlink()
        return folder / "scene.zip"

    def tarred(folder: Path) -> Path:
        with tarfile.open(folder / "scene.tar.gz", "w:gz") as archive:
            archive.add(tif(folder), "delivery/scene.tif")
        (folder / "scene.tif").unlink()
        return folder / "scene.tar.gz"

    def tiled(folder: Path) -> Path:
        return tif(folder, tiled=True, blockxsize=16, blockysize=16, compress="deflate")

    return {"geotiff": tif, "geotiff tiled": tiled, "mat": mat, "npy": npy, "zip": zipped,
            "tar.gz": tarred}  # fmt: skip


def readers() -> dict[str, dict[str, Callable[[Path], object]]]:
    """Return, for each kind of scene, one or two writers of it by name."""
    found: dict[str, dict[str, Callable[[Path], object]]] = {}
    for module in pkgutil.iter_modules(products.__path__):
        examples = getattr(importlib.import_module(f"products.{module.name}"), "EXAMPLES", {})
        some = list(examples)[:: max(1, len(examples) - 1)][:2]  # the first and the last
        if some:
            found[module.name] = {f"{module.name}: {name}": examples[name] for name in some}
    for name, writer in plain_scenes().items():
        found.setdefault(name.split()[0], {})[name] = writer
    return found


def write_target(name: str, writer: Callable[[Path], object], folder: Path) -> Target:
    """Write a scene into an empty folder."""
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = writer(folder)
    if isinstance(written, Path):
        return Target(name, folder, written, (written,))
    path = written.path  # type: ignore[attr-defined]
    files = written.damage or (path,)  # type: ignore[attr-defined]
    return Target(name, folder, path, tuple(file for file in files if file.is_file()))


# --- damage ---------------------------------------------------------------------------------


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return content with one to three random damages."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = _damaged_once(content, rng)
    return content


def _damaged_once(content: bytes, rng: np.random.Generator) -> bytes:
    size = len(content)
    if not size:
        return bytes(rng.bytes(10))
    # half of all damages near the beginning, where metadata is dense
    first = int(rng.integers(min(size, _HEAD) if rng.random() < 0.5 else size))
    length = int(min(2 ** rng.integers(0, 12), size - first))
    last = first + length
    part = content[first:last]
    kind = rng.choice(("flip", "bit", "zero", "ones", "cut", "insert", "double", "swap", "noise"))
    if kind == "flip":
        raw = bytearray(content)
        for place in first + rng.integers(0, min(length, 64), rng.integers(1, 9)):
            raw[place] = int(rng.integers(256))
        return bytes(raw)
    if kind == "bit":
        return (
            content[:first]
            + bytes([content[first] ^ (1 << rng.integers(8))])
            + content[first + 1 :]
        )
    if kind == "swap":
        other = int(rng.integers(max(1, size - length)))
        raw = bytearray(content)
        raw[first:last], raw[other : other + length] = raw[other : other + length], part
        return bytes(raw[:size])
    new = {
        "zero": bytes(length),
        "ones": b"\xff" * length,
        "cut": b"",
        "insert": rng.bytes(min(length, 64)) + part,
        "double": part + part,
        "noise": rng.bytes(length),
    }[str(kind)]
    if kind == "cut" and rng.random() < 0.5:
        return content[:first]
    return content[:first] + new + content[last:]


def write_damaged(target: Target, seed: int, folder: Path) -> Path:
    """Write a target with one file damaged, and return what to open.

    Whole files are links, so that a product of many files costs little.
    """
    shutil.copytree(target.folder, folder, copy_function=os.link)
    rng = np.random.default_rng(seed)
    file = target.files[int(rng.integers(len(target.files)))]
    copy = folder / file.relative_to(target.folder)
    copy.unlink()
    copy.write_bytes(damaged(file.read_bytes(), rng))
    return folder / target.path.relative_to(target.folder)


# --- judging --------------------------------------------------------------------------------


def open_whole(path: Path) -> SceneSource:
    """Open a scene and read a window and its quality."""
    return open_source(path, pixel_coordinates=path.suffix in PIXEL_TYPES)


def read_some(source: SceneSource) -> None:
    """Read a window of all bands, and its quality."""
    bands, rows, columns = source.pixels.shape
    low, high = slice(rows // 3, rows // 3 + 4), slice(columns // 3, columns // 3 + 5)
    window = source.pixels[0:bands, low, high]
    assert window.shape == (bands, 4, 5), window.shape
    assert window.dtype == source.pixels.dtype, window.dtype
    if source.quality is not None:
        assert source.quality.read(low, high).shape == (4, 5)


def judge(path: Path, whole: SceneSource) -> tuple[str, str] | None:
    """Open a damaged scene and say what is wrong with what came of it; None if nothing is."""
    try:
        source = open_whole(path)
        if source.pixels.shape != whole.pixels.shape:
            return "shape", f"{source.pixels.shape}, not {whole.pixels.shape}"
        read_some(source)
    except InputError as error:
        said = str(error)
        if said.count("\n") > 1 or len(said) > 1500:
            return "message", said[:3000]
        return None
    except Exception:
        return "error", traceback.format_exc()[-3000:]
    if source.grid != whole.grid:
        return "altered", f"grid {source.grid.affine} {source.grid.crs}, not {whole.grid.affine}"
    if source.wavelengths != whole.wavelengths:
        return "altered", "wavelengths"
    return None


# --- children -------------------------------------------------------------------------------


def _judge_all(channel, target: Target, seeds: Sequence[int], work: str, log: str) -> None:
    """Judge damages one by one, in a child; says which one begins before it does."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries complain there, as they should
    with open(log, "w") as stream:
        faulthandler.enable(stream)
        try:
            whole = open_whole(target.path)
            read_some(whole)
        except Exception:
            stream.write(traceback.format_exc())
            raise
        for seed in seeds:
            channel.send(("begin", seed, ""))
            folder = Path(work) / str(seed)
            found = judge(write_damaged(target, seed, folder), whole)
            shutil.rmtree(folder)
            if found:
                channel.send((found[0], seed, found[1]))
        channel.send(("end", 0, ""))


def find(target: Target, seeds: Sequence[int], work: Path) -> list[Finding]:
    """Judge damages of a target in two children at once; new ones replace those that end."""
    parts = [list(seeds[i::_CHILDREN]) for i in range(_CHILDREN)]
    with ThreadPoolExecutor(_CHILDREN) as pool:
        lists = pool.map(lambda part: list(_find_in_turn(target, part, work)), parts)
        return [finding for part in lists for finding in part]


def _find_in_turn(target: Target, seeds: list[int], work: Path) -> Iterator[Finding]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fuzzing"])
    log = tempfile.NamedTemporaryFile(dir=work, delete=False).name  # noqa: SIM115
    while seeds:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_judge_all, args=(theirs, target, seeds, str(work), log))
        child.start()
        theirs.close()
        kind, seed, text = "begin", seeds[0], ""
        with ours:
            while kind not in ("end", "crash", "hang"):
                previous = seed
                kind, seed, text = _next(ours, previous)
                if kind not in ("begin", "end", "crash", "hang"):
                    yield Finding(target.name, seed, kind, text)
        if kind == "hang":
            child.kill()
        child.join()
        if kind == "end":
            return
        if kind == "crash" and (child.exitcode or 0) >= 0:
            raise RuntimeError(f"a child could not work: {Path(log).read_text()[-3000:]}")
        signal = f"signal {-(child.exitcode or 0)}; " * (kind == "crash")
        yield Finding(target.name, seed, kind, signal + Path(log).read_text()[:1500])
        seeds = seeds[seeds.index(seed) + 1 :]


def _next(channel, seed: int) -> tuple[str, int, str]:
    try:
        return channel.recv() if channel.poll(SECONDS) else ("hang", seed, "")
    except EOFError:
        return "crash", seed, ""


def main(name: str, seed: str, folder: str) -> None:
    """Write the damaged file of a finding and open it."""
    writers = {key: writer for some in readers().values() for key, writer in some.items()}
    target = write_target(name, writers[name], Path(folder) / "whole")
    path = write_damaged(target, int(seed), Path(folder) / "damaged")
    print(path)
    with contextlib.suppress(InputError):
        print(judge(path, open_whole(target.path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
