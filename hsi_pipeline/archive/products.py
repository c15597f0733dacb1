"""Which files of one folder are scenes, and which only belong to one; by their names alone.

So the same holds for a disk, a bucket and the assets of a STAC item, and nothing is opened.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from hsi_pipeline.scene import aviris
from hsi_pipeline.scene.places import archive_kind
from hsi_pipeline.scene.raster_files import ENVI_SUFFIXES

ARRAY_SUFFIXES = (".mat", ".npy")
SUFFIXES = (
    ".tif", ".tiff", ".geotiff", ".jp2", ".img", ".bsq", ".bil", ".bip", ".nc", ".nc4", ".zarr",
    ".h5", ".hdf5", ".he5",
)  # fmt: skip
"""Of files that are scenes unless they belong to one."""

_METADATA = re.compile(r"(.*)metadata\.xml(?:\.xml)?", re.IGNORECASE)
_IMAGE = re.compile(r"(.*)spectral_image(?:_cog)?\.\w+", re.IGNORECASE)
_DLR = ("enmap", "desis")
_BARE_PARTS = ("spectral_image", "ql_")  # of a product whose files lack the usual prefix
_EMIT = re.compile(r"EMIT_L(?:2A_RFL|1B_RAD)_\d+_(\d{8}T.*)\.nc", re.IGNORECASE)
_EMIT_TABLES = re.compile(
    r"EMIT_L(?:2A_MASK|2A_RFLUNCERT|1B_OBS)_\d+_(\d{8}T.*)\.nc", re.IGNORECASE
)
# ENVI images have these beside them; other files with a header beside them are read by another way
_NO_ENVI = (*SUFFIXES[:4], *SUFFIXES[8:], ".vrt", ".hdf", ".zip", ".hdr")
_SIDECARS = re.compile(r".*\.(hdr|aux\.xml|ovr|qml|msk|xml|json|txt|csv|pdf|png|jpe?g|sta)", re.I)
_ARCHIVE_ENDING = re.compile(r"\.(zip|tar\.gz|tgz|tar)$", re.IGNORECASE)
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")
_PART = re.compile(r"[-_. ]*(metadata\.xml(\.xml)?|spectral_image(_cog)?\.\w+)$", re.IGNORECASE)


def scenes_among(names: Iterable[str], *, arrays: bool = False) -> dict[str, tuple[str, ...]]:
    """Find the scenes among the files of one folder.

    Args:
        names: Of its files and Zarr stores, without folders.
        arrays: Whether `.mat` and `.npy` files count.

    Returns:
        For each scene its file and all files that belong to it, the first one included.
    """
    visible = sorted(name for name in set(names) if not name.startswith("."))
    scenes = _dlr_products(visible)
    taken = {member for members in scenes.values() for member in members}
    rest = [name for name in visible if name not in taken]
    scenes |= _envi_images(rest)
    taken |= {member for members in scenes.values() for member in members}
    suffixes = SUFFIXES + (ARRAY_SUFFIXES if arrays else ())
    for name in rest:
        if name not in taken and (name.lower().endswith(suffixes) or archive_kind(name)):
            scenes[name] = (name,)
    return dict(sorted(_without_tables(scenes).items()))


def is_no_scene(name: str) -> bool:
    """Tell whether a file is none, whatever a pattern says: a header, a mask, an overview."""
    return bool(_SIDECARS.fullmatch(name) or _EMIT_TABLES.fullmatch(name))


def is_product(main: str) -> bool:
    """Tell whether a scene's file is the metadata of a product whose files lie beside it."""
    return _METADATA.fullmatch(main) is not None


def scene_name(main: str, folder: str) -> str:
    """Return what a scene is called: its file without endings, or its folder if that says nothing.

    Args:
        main: Name of its file or Zarr store.
        folder: Name of the folder that it is in.
    """
    name = _PART.sub("", main)
    if name == main:
        name = _ENDING.sub("", _ARCHIVE_ENDING.sub("", main))
    return name or folder


def _dlr_products(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return products of EnMAP and DESIS: the XML, or the image where there is none."""
    mains: dict[str, str] = {}
    images = {found[1].lower(): name for name in names if (found := _IMAGE.fullmatch(name))}
    for name in names:
        found = _METADATA.fullmatch(name)
        if found and (name.lower().startswith(_DLR) or (not found[1] and "" in images)):
            mains.setdefault(found[1].lower(), name)
    for stem, name in images.items():
        if stem.startswith(_DLR):
            mains.setdefault(stem, name)
    products = {}
    for stem, main in mains.items():
        begins = (stem,) if stem else _BARE_PARTS
        others = (name for name in names if name.lower().startswith(begins) and name != main)
        products[main] = (main, *others)
    return products


def _envi_images(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return images with an ENVI header of the same name beside them."""
    present = {name for name in names if not name.lower().endswith(_NO_ENVI)}
    images: dict[str, tuple[str, ...]] = {}
    for header in (name for name in names if name.lower().endswith(".hdr")):
        stem = header[: -len(".hdr")]
        usual = {stem + end for suffix in ENVI_SUFFIXES for end in (suffix, suffix.upper())}
        found = usual & present
        same = [name for name in names if posixpath.splitext(name)[0] == stem and name != header]
        if not found and not any(name.lower().endswith(SUFFIXES) for name in same):
            others = [name for name in same if not is_no_scene(name)]
            found = set(others) if len(others) == 1 else set()
        images |= {image: (image, header) for image in sorted(found)}
    return images


def _without_tables(scenes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Move masks, uncertainties and geometry of EMIT and AVIRIS to the scene that they are of."""
    emit = {found[1].lower(): name for name in scenes if (found := _EMIT.fullmatch(name))}
    flights = {_flight(name): name for name in scenes if aviris.is_spectral(name)}
    kept = dict(scenes)
    for name, members in scenes.items():
        owner: str | None = None
        if table := _EMIT_TABLES.fullmatch(name):
            owner = emit.get(table[1].lower(), "")
        elif aviris.flight_line(name) and not aviris.is_spectral(name):
            owner = flights.get(_flight(name))
        if owner is not None:
            del kept[name]
        if owner:
            kept[owner] += members
    return kept


def _flight(name: str) -> str:
    return re.split(r"[_.]", posixpath.basename(name), maxsplit=1)[0].lower()
