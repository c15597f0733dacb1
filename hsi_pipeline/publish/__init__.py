"""Results to files: class maps (.zarr, .tif) and polygons (.gpkg and others).

Everything is written beside its target under a temporary name and renamed when complete, so a
file under its own name is always whole. A new format is one module and one line in a table.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import xarray as xr

from hsi_pipeline.errors import InputError, SourceChangedError, did_you_mean
from hsi_pipeline.publish.cog import open_raster, write_cog
from hsi_pipeline.publish.filling import FAILED_CHUNKS as FAILED_CHUNKS
from hsi_pipeline.publish.layer import Layer as Layer
from hsi_pipeline.publish.parquet import write_parquet
from hsi_pipeline.publish.unfinished import working_on
from hsi_pipeline.publish.vector import write_vector
from hsi_pipeline.publish.zarr import NUMBERS, open_store

MAP_WRITERS: dict[str, Callable[[Path, Path], None] | None] = {
    ".zarr": None,
    ".tif": write_cog,
    ".tiff": write_cog,
}
"""Suffixes of class maps, and what makes them of a finished Zarr store, if that is not enough."""

POLYGON_WRITERS: dict[str, Callable[[Iterable[gpd.GeoDataFrame], Path, Layer], None]] = {
    ".gpkg": write_vector,
    ".parquet": write_parquet,
    ".fgb": write_vector,
    ".geojson": write_vector,
    ".shp": write_vector,
}
"""Suffixes of polygons, and what writes a stream of them."""

SUFFIXES = (*MAP_WRITERS, *POLYGON_WRITERS)

# Files that belong to a target and are replaced or removed with it.
_SIBLINGS = {
    ".tif": (
        *(f"{{stem}}_{name}{{suffix}}" for name in (*NUMBERS, "probability")),
        *(f"{{stem}}_{name}.qml" for name in NUMBERS),
        "{name}.aux.xml",
    ),
    # with the indexes that other programs make: an old one would hide what is new
    ".shp": tuple(
        f"{{stem}}.{end}"
        for end in (
            "shx",
            "dbf",
            "prj",
            "cpg",
            "qix",
            "qpj",
            "sbn",
            "sbx",
            "idm",
            "ind",
            "cst",
            "shp.xml",
        )
    ),
    ".gpkg": ("{name}-wal", "{name}-shm", "{name}-journal"),
}
_SIBLINGS[".tiff"] = _SIBLINGS[".tif"]
# Those that QGIS finds by the stem alone, so that files of one stem share them.
_STYLES = (".qml", ".sld")
_STYLED = (
    *(suffix for suffix in SUFFIXES if suffix != ".zarr"),
    ".img", ".vrt", ".jp2", ".json", ".gml", ".kml", ".tab", ".csv",
)  # fmt: skip
_STORE_MARKS = (".zgroup", ".zmetadata", ".zarray", "zarr.json")


def write_class_map(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    job: Mapping[str, str] | None = None,
    restart: bool | None = False,
    check_source: Callable[[], None] = lambda: None,
    skip_failed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Compute and write a class map, each of its chunks computed once.

    Args:
        dataset: `class` uint8 (y, x), 0 unclassified, with the attributes of its scheme;
            `confidence` float32 (y, x) and `probability` float32 (category, y, x), both 0 to 1 and
            optional. Lazy; computed by the Dask scheduler that is active.
        path: Target with a suffix of `MAP_WRITERS`.
        overwrite: Replace an existing target, which stays until the new one is complete.
        job: All that the map depends on, by name. After an error or a crash, the same job goes on
            with what is there. None keeps nothing.
        restart: Begin anew, though the job could go on; None: only if another job has begun.
        check_source: Called when all chunks are there; raises SourceChangedError if they cannot be
            trusted, and nothing is kept.
        skip_failed: Leave chunks that cannot be read as nodata, and list them in the attribute
            `failed_chunks`, instead of ending.
        progress: Called now and then with the number of complete chunks and of all.

    Returns:
        The files written, the class map first.

    Raises:
        InputError: As `check_target`, a chunk cannot be read, the dataset is no class map, another
            job has begun the same target, or another process is at work on it.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite, suffixes=MAP_WRITERS)
    if "class" not in dataset or dataset["class"].dtype != "uint8":
        raise InputError(f"cannot write {path}: the dataset has no variable 'class' of type uint8")
    with working_on(path, job, restart=restart) as work:
        work.fill(dataset, skip_failed=skip_failed, progress=progress)
        try:
            check_source()
        except SourceChangedError:
            work.clear()  # of two scenes, and of no use to the next run
            raise
        convert = MAP_WRITERS[path.suffix.lower()]
        if convert is None:
            _replace(work.store, path)
            return [path]
        with staged(path) as target:
            convert(work.store, target)
            _check_new_styles(target.parent, path)
            names = [file.name for file in _main_first(target)]
    return [path.parent / name for name in names]


def write_polygons(
    batches: Iterable[gpd.GeoDataFrame],
    path: str | os.PathLike[str],
    layer: Layer,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write a stream of polygons with their style.

    Args:
        batches: Frames of polygons with the same columns, among them the layer's field; at least
            one frame, which may be empty. Without CRS they are in pixel coordinates.
        path: Target with a suffix of `POLYGON_WRITERS`.
        layer: What else there is to know.
        overwrite: Replace an existing file, with all layers that it holds.

    Returns:
        The files written, the polygons first.

    Raises:
        InputError: As `check_target`; the format cannot hold them.
    """
    path = Path(path)
    # GDAL writes a Shapefile's suffix in small letters, whatever it is told
    path = path.with_suffix(path.suffix.lower())
    check_target(path, overwrite=overwrite, suffixes=POLYGON_WRITERS)
    with staged(path) as target:
        POLYGON_WRITERS[path.suffix.lower()](batches, target, layer)
        _check_new_styles(target.parent, path)
        names = [file.name for file in _main_first(target)]
    return [path.parent / name for name in names]


def open_class_map(
    path: str | os.PathLike[str], *, say: Callable[[str], None] = lambda _: None
) -> xr.Dataset:
    """Open a class map lazily.

    Args:
        path: A `.zarr` store or a `.tif` with its siblings, as `write_class_map` made them; or any
            raster that GDAL reads with one integer band of class codes 0 to 255. Names and
            colours of such a raster come from its category names and colour table, defaults
            where it has none; its nodata value becomes 0.
        say: Told, in a line each, what names and colours are made up.

    Returns:
        The class map, as described at `write_class_map`.

    Raises:
        InputError: There is no such file, or it holds no class map.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file{did_you_mean(path)}")
    if path.suffix.lower() == ".zarr":
        return open_store(path, say=say)
    return open_raster(path, say)


def check_target(
    path: str | os.PathLike[str], *, overwrite: bool = False, suffixes: Iterable[str] = SUFFIXES
) -> None:
    """Refuse a target that cannot be written, before hours of work.

    Args:
        path: File, or folder of a `.zarr`, to be written.
        overwrite: Allow a target that exists.
        suffixes: Suffixes that will do.

    Raises:
        InputError: Unknown suffix; the parent folder is missing or read-only; the target or one of
            its sibling files exists; an existing folder is no Zarr store.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise InputError(f"{path}: the suffix must be one of {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: no permission to write in the folder {path.parent}")
    _check_styles(path)
    for journal in (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal")):
        if suffix == ".gpkg" and journal.exists() and journal.stat().st_size:
            raise InputError(
                f"{path} is open in another program, which has not written all to it "
                f"({journal.name}); close it there first"
            )
    existing = [file for file in (path, *_siblings(path)) if os.path.lexists(file)]
    if existing and not overwrite:
        raise InputError(f"{existing[0]} exists; choose another name or pass --overwrite")
    # --overwrite must not throw away a folder that only happens to have the name
    if path.is_dir() and not (
        suffix == ".zarr" and any((path / mark).exists() for mark in _STORE_MARKS)
    ):
        raise InputError(f"{path} is a folder and no Zarr store, it will not be overwritten")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Write beside a target and rename when complete.

    Yields:
        A path of the same name in a hidden folder beside the target. All that lies in that folder
        when the block ends moves to the target's folder, the target itself last; after an error
        nothing does. The hidden folder is removed either way.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    try:
        yield folder / path.name
        written = _main_first(folder / path.name)
        for file in reversed(written[1:]):
            os.replace(file, path.parent / file.name)
        for file in _siblings(path):  # of an older target, not of this one
            if file.name not in {new.name for new in written}:
                file.unlink(missing_ok=True)
        _replace(written[0], path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _siblings(path: Path) -> list[Path]:
    """Return the files that belong to a target, whether they exist or not."""
    suffix = path.suffix.lower()
    parts = {"stem": path.stem, "suffix": path.suffix, "name": path.name}
    files = [path.with_name(name.format(**parts)) for name in _SIBLINGS.get(suffix, ())]
    if not _is_format(suffix) or suffix == ".zarr" or _namesakes(path):
        return files  # a style that another file has too is not this one's alone
    return files + [path.with_suffix(style) for style in _STYLES]


def _is_format(suffix: str) -> bool:
    """Tell whether results have a suffix; scripts may have added to the tables."""
    return suffix in MAP_WRITERS or suffix in POLYGON_WRITERS


def _namesakes(path: Path) -> list[Path]:
    """Return the other files of a folder that a style of the target's stem is for."""
    parts = {"stem": path.stem, "suffix": path.suffix, "name": path.name}
    own = {path.name, *(name.format(**parts) for name in _SIBLINGS.get(path.suffix.lower(), ()))}
    return sorted(
        file
        for file in path.parent.iterdir()
        if file.stem == path.stem and file.name not in own and file.suffix.lower() in _STYLED
    )


def _check_styles(path: Path) -> None:
    """Refuse a target whose style would take the place of one for another kind of layer.

    Raises:
        InputError: Names both files.
    """
    suffix = path.suffix.lower()
    if not _is_format(suffix) or suffix in (".zarr", ".gpkg") or not (others := _namesakes(path)):
        return
    for style in (path.with_suffix(end) for end in _STYLES):
        if not style.exists():
            continue
        text = style.read_text(encoding="utf-8", errors="replace")
        of_raster = "rasterrenderer" in text or "RasterSymbolizer" in text
        if of_raster != (suffix in MAP_WRITERS):
            raise InputError(
                f"{style.name} is the style of {others[0].name}, and {path.name} would need "
                "another one of that name; give it another stem"
            )


def _check_new_styles(folder: Path, path: Path) -> None:
    """Refuse to replace a style that other files have too by a different one.

    A GeoPackage, which has its style inside, goes without one beside it then.

    Raises:
        InputError: Names both files.
    """
    others = _namesakes(path)
    for end in _STYLES:
        new, old = folder / f"{path.stem}{end}", path.with_suffix(end)
        if not others or not new.exists():
            continue
        rasters = [other for other in others if other.suffix.lower() not in POLYGON_WRITERS]
        differs = old.exists() and old.read_bytes() != new.read_bytes()
        if path.suffix.lower() == ".gpkg" and (differs or rasters):
            new.unlink()
        elif differs:
            raise InputError(
                f"{old.name} is the style of {others[0].name} too, and that of {path.name} is "
                "another one; give it another stem"
            )


def _main_first(target: Path) -> list[Path]:
    """Return the target and then all else that lies in its folder."""
    return [target, *sorted(file for file in target.parent.iterdir() if file != target)]


def _replace(new: Path, target: Path) -> None:
    """Rename, in place of a file or of a whole folder."""
    if not target.is_dir() or target.is_symlink():
        os.replace(new, target)
        return
    old = new.with_name(f"{new.name}.old")  # goes with the hidden folder
    os.replace(target, old)
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(old, target)
        raise
