"""The program of a child: checks what only decoders can tell, then becomes the command line.

Run as `python -m hsi_pipeline.server.confined MEGAPIXELS COMMAND ...`. A file that crashes a
decoder ends this program, and not the server.
"""

from __future__ import annotations

import math
import os
import runpy
import sys
from pathlib import Path

from hsi_pipeline.errors import InputError
from hsi_pipeline.server.map_files import layers_of

# Drivers of what the two commands read and write. VRT is the form in which GDAL tells the names of
# a raster's classes; nothing is opened by it, as there are no side files to open.
_DRIVERS = frozenset(
    {"GTiff", "COG", "VRT", "MEM", "Memory", "GPKG", "FlatGeobuf", "GeoJSON", "SQLite"}
)
_SURROUNDINGS = {
    # no side file is looked for: .ovr, .msk and .aux.xml may name any file or address
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # of the network, files of no suffix at all
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    # this program ends when the server does, however that came
    "HSI_PIPELINE_STOP_ON_EOF": "1",
    # a folder of modules is none of the folders that requests write to
    "PYTHONSAFEPATH": "1",
}
_USUAL_BLOCK = 2**22  # pixels of a tile that are never too many
_LED_ELSEWHERE = ("GDAL_DRIVER_PATH", "HDF5_PLUGIN_PATH", "PYTHONSTARTUP", "HSI_PIPELINE_DEBUG")


def surroundings() -> dict[str, str]:
    """Return the variables of a child."""
    from rasterio.env import Env

    kept = {name: value for name, value in os.environ.items() if name not in _LED_ELSEWHERE}
    with Env() as environment:
        skipped = set(environment.drivers()) - _DRIVERS
    return kept | _SURROUNDINGS | {"GDAL_SKIP": ",".join(sorted(skipped))}


def main() -> None:
    """Check the inputs, then run the command line with the arguments that are left."""
    most, arguments = float(sys.argv[1]) * 1e6, sys.argv[2:]
    source = arguments[arguments.index("--") + 1]
    try:
        check_size(source, most, is_map=arguments[0] == "polygonize")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.argv = ["hsi-pipeline", *arguments]
    runpy.run_module("hsi_pipeline", run_name="__main__")


def check_size(source: str, most: float, *, is_map: bool) -> None:
    """Refuse too many pixels, too large blocks, and a TIFF that leads to other files.

    Args:
        source: Path.
        most: Pixels that are allowed, of the whole and of a block.
        is_map: Whether it is a class map.

    Raises:
        InputError: Says how large it is.
    """
    path = Path(source)
    if path.suffix.lower() == ".zarr":
        _check_chunks(source, most)
    if path.suffix.lower() in (".tif", ".tiff"):
        rows, columns = _tiff_shape(source, most)
        for layer in layers_of(path) if is_map else ():
            _tiff_shape(str(layer), most)
    elif is_map:
        rows, columns = _map_shape(source)
    else:
        from hsi_pipeline.scene import open_source

        _, rows, columns = open_source(source, pixel_coordinates=True).pixels.shape
    if rows * columns > most:
        raise InputError(
            f"{source} has {rows * columns / 1e6:.3g} million pixels; the server takes at most "
            f"{most / 1e6:.3g}"
        )


def _tiff_shape(source: str, most: float) -> tuple[int, int]:
    """Return rows and columns of a TIFF that holds all of itself."""
    from hsi_pipeline.scene.raster import open_raster

    with open_raster(source, driver="GTiff") as raster:
        # by this tag of a TIFF itself, GDAL takes overviews from any file or address
        if raster.tags(ns="OVERVIEWS"):
            raise InputError(f"{source} takes its overviews from another file; write it anew")
        for shape in raster.block_shapes:
            _check_block(source, math.prod(shape), most)
        return raster.height, raster.width


def _check_block(source: str, pixels: int, most: float) -> None:
    """Refuse a tile or chunk of more pixels than a scene may have: it is unpacked as a whole."""
    if pixels > max(most, _USUAL_BLOCK):
        raise InputError(
            f"{source} is stored in blocks of {pixels / 1e6:.3g} million pixels; the server takes "
            f"at most {max(most, _USUAL_BLOCK) / 1e6:.3g}, write it anew with smaller ones"
        )


def _check_chunks(source: str, most: float) -> None:
    """Refuse a Zarr store that has chunks too large for the server."""
    import zarr
    from zarr.storage import LocalStore

    try:
        group = zarr.open_group(LocalStore(source, read_only=True), mode="r")
        members = [member for _, member in group.members(max_depth=None)]
        arrays = [member for member in members if isinstance(member, zarr.Array)]
    except Exception as error:  # zarr raises nearly anything over damaged metadata
        said = " ".join(str(error).split())
        raise InputError(
            f"{source} is no Zarr store that can be read ({said or type(error).__name__})"
        ) from error
    for array in arrays:
        # axes are in any order; of a cube, the shortest one counts as the bands
        bands = max(min(array.shape), 1) if array.ndim > 2 else 1
        if math.prod(array.chunks) > math.prod(array.shape):
            _check_block(source, math.prod(array.chunks) // bands, most)


def _map_shape(source: str) -> tuple[int, int]:
    """Return rows and columns of the class map in a Zarr store."""
    import zarr
    from zarr.storage import LocalStore

    try:
        classes = zarr.open_group(LocalStore(source, read_only=True), mode="r")["class"]
        rows, columns = classes.shape  # type: ignore[union-attr]
    except Exception as error:  # zarr raises nearly anything over damaged metadata
        said = " ".join(str(error).split())
        raise InputError(f"{source} is no class map ({said or type(error).__name__})") from error
    return rows, columns


if __name__ == "__main__":
    main()
