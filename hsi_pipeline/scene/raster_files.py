"""Which file of a folder or archive is the scene, and which ENVI header belongs to an image."""

from __future__ import annotations

import os
import posixpath
from pathlib import PurePosixPath

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import aviris
from hsi_pipeline.scene.files import inside_archive, shown
from hsi_pipeline.scene.places import Place, archive_kind, folder_of, place_of

ENVI_SUFFIXES = ("", ".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".cube", ".envi")
"""How ENVI images are called, beside any other ending."""

# A .vrt is left out: in an archive of unknown origin it may lead to any file of this machine.
_RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".img")
# Files of these kinds may have a header of the same name beside them and are not read by it.
_OTHER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".nc", ".h5", ".he5", ".hdf", ".zarr", ".zip")
_MOST_SHOWN = 8
_GDAL_PREFIX = {"zip": "/vsizip/", "tar": "/vsitar/"}


def raster_at(path: str) -> tuple[Place, str]:
    """Find the raster that a path means: the file itself, or the only one of a folder or archive.

    Args:
        path: A file, a folder, an archive, a file in an archive as GDAL writes it, or an address
            of any of these but a folder.

    Returns:
        Where it is, and its name there. The folder of a plain file is not listed.

    Raises:
        InputError: A folder or archive holds none, or several; or an archive cannot be read.
    """
    inside = inside_archive(path)
    if not inside and not archive_kind(path) and not os.path.isdir(path):
        return folder_of(path)
    place, name = place_of(path)
    if name and name not in (place.names or ()):
        raise InputError(
            f"{path} cannot be opened as a raster: the archive has no such file, "
            f"{_only(place.names or ())}"
        )
    return place, name or _only_raster(path, place)


def is_envi(place: Place, name: str) -> bool:
    """Tell whether a file is an ENVI header, or an image with an ENVI header beside it."""
    suffix = _suffix(name)
    if suffix == ".hdr":
        return True
    return suffix not in _OTHER_SUFFIXES and envi_header(place, name) is not None


def envi_header(place: Place, image: str) -> str | None:
    """Return the ENVI header beside an image, `scene.hdr` or `scene.img.hdr`, or None.

    Raises:
        InputError: The server that may have it cannot be asked.
    """
    if not image or "?" in image:  # a signed address is good for one file
        return None
    stems = (posixpath.splitext(image)[0], image)
    names = (stem + end for stem in stems for end in (".hdr", ".HDR"))
    return next((name for name in names if place.begins(name, b"ENVI")), None)


def envi_image(place: Place, name: str) -> str:
    """Return the image that belongs to a header; an image is returned as it is.

    Raises:
        InputError: The header is none of ENVI's, or has no image beside it, or several.
    """
    if _suffix(name) != ".hdr":
        return name
    header = place.shown(name)
    if not place.begins(name, b"ENVI"):
        raise InputError(f"{header} is not an ENVI header: its first line is not ENVI")
    possible = _possible_images(name)
    if not place.is_local and place.names is None:  # each name is a question to the server
        possible = {image for image in possible if image == image.lower() or name != name.lower()}
    images = sorted(image for image in possible if place.begins(image, b""))
    if len(images) != 1:
        several = ", ".join(map(place.shown, images))
        found = f"several ({several}); give the image itself" if images else "none"
        raise InputError(f"{header} needs one image of the same name beside it, found {found}")
    return images[0]


def _possible_images(header: str) -> set[str]:
    stem = header[: -len(".hdr")]
    return {f"{stem}{end}" for suffix in ENVI_SUFFIXES for end in (suffix, suffix.upper())}


def _suffix(name: str) -> str:
    return PurePosixPath(name.partition("?")[0]).suffix.lower()


def _only_raster(path: str, place: Place) -> str:
    """Return the name of the only raster."""
    rasters = _rasters(place.names or ())
    # An airborne delivery has its reflectance or radiance beside tables of geometry.
    spectral = [name for name in rasters if aviris.is_spectral(name)]
    chosen = spectral if len(spectral) == 1 else rasters
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        kind = "an archive" if place.archive else "a folder; give the scene file inside it"
        raise InputError(
            f"{shown(path)} is {kind}: no raster was found, {_only(place.names or ())}"
        )
    way = _named(place, chosen[0])
    raise InputError(f"{shown(path)} holds {len(chosen)} rasters ({_few(chosen)}); name one: {way}")


def _rasters(names: tuple[str, ...]) -> list[str]:
    visible = {name for name in names if not any(_is_junk(part) for part in name.split("/"))}
    headers = {name for name in visible if _suffix(name) == ".hdr"}
    images = {image for name in headers for image in _possible_images(name) & visible}
    others = {name for name in visible if _suffix(name) in _RASTER_SUFFIXES}
    return sorted(images | others)


def _is_junk(part: str) -> bool:
    """Tell whether a part of a name is hidden, or what macOS adds to archives."""
    return part.startswith(".") or part == "__MACOSX"


def _named(place: Place, name: str) -> str:
    """Return how a user names a file of a place."""
    if not place.archive:
        return place.shown(name)
    return f"{_GDAL_PREFIX[place.archive]}{shown(place.root)}/{name}"


def _few(names: tuple[str, ...] | list[str]) -> str:
    """List some names in one line."""
    some = ", ".join(" ".join(name.split())[-80:] for name in names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return some + more


def _only(names: tuple[str, ...]) -> str:
    return f"only {_few(names)}" if names else "it is empty"
