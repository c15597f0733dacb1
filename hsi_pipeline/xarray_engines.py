"""Scenes through `xr.open_dataset(path, engine="enmap")`, one engine for each sensor.

xarray loads every engine's module when it looks for one, so nothing heavy is imported before a
scene is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

if TYPE_CHECKING:
    from hsi_pipeline.scene.source import SceneSource


class SceneEngine(BackendEntrypoint):
    """Opens any scene that `hsi_pipeline.scene.open_scene` opens: the engine "hsi".

    The dataset holds `reflectance` (or `radiance`) float32 (band, y, x), NaN where invalid, lazily;
    `quality` uint16 (y, x) with CF flag attributes where the product has quality layers; the band
    coordinates `wavelength` and `fwhm` in nm, `good` and `band_name`; and the grid's, as odc-geo
    and rioxarray have them. `chunks={}` gives Dask chunks that suit the file.
    """

    description: ClassVar[str] = "Hyperspectral scenes of any sensor"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "pixel_coordinates", "mask")
    reader: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        """Let xarray list an engine by its docstring."""
        cls.description = str(cls.__doc__)

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        pixel_coordinates: bool = False,
        mask: str = "none",
    ) -> xr.Dataset:
        """Open a scene lazily.

        Args:
            filename_or_obj: Product, file or address.
            drop_variables: Variables to leave out.
            pixel_coordinates: Accept a scene without georeference.
            mask: Flags that become NaN in every band; see `hsi_pipeline.scene.quality`.

        Raises:
            InputError: It cannot be opened, or is of another sensor than the engine's.
        """
        from hsi_pipeline.errors import InputError
        from hsi_pipeline.scene import open_source, reader_of

        path = os.fspath(filename_or_obj)
        found = reader_of(path)
        if self.reader is not None and found != self.reader:
            raise InputError(
                f"{path} is no product that engine={self.reader!r} reads; open it with "
                f"engine={found if found in ENGINES else 'hsi'!r}"
            )
        source = open_source(path, pixel_coordinates=pixel_coordinates, mask=mask)
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return _dataset(source).drop_vars(list(dropped), errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether this is the sensor's product; "hsi" opens only what is asked of it."""
        if self.reader is None or not isinstance(filename_or_obj, str | os.PathLike):
            return False
        from hsi_pipeline.errors import InputError
        from hsi_pipeline.scene import reader_of

        try:
            return reader_of(os.fspath(filename_or_obj)) == self.reader
        except InputError:  # such as a folder of several sensors; another engine may know it
            return False


class EnmapEngine(SceneEngine):
    """EnMAP L2A and L1C."""

    reader = "enmap"


class PrismaEngine(SceneEngine):
    """PRISMA L2D, and L1, L2B, L2C in pixel coordinates."""

    reader = "prisma"


class EmitEngine(SceneEngine):
    """EMIT L2A reflectance."""

    reader = "emit"


class DesisEngine(SceneEngine):
    """DESIS L2A and L1C."""

    reader = "desis"


class NeonEngine(SceneEngine):
    """NEON AOP reflectance."""

    reader = "neon"


class TanagerEngine(SceneEngine):
    """Planet Tanager."""

    reader = "tanager"


class EnviEngine(SceneEngine):
    """ENVI images: AVIRIS, AVIRIS-NG and others."""

    reader = "envi"


ENGINES: dict[str, type[SceneEngine]] = {
    "hsi": SceneEngine,
    **{str(engine.reader): engine for engine in SceneEngine.__subclasses__()},
}
"""Engines by the names under which the package registers them."""


class _Reflectance(BackendArray):
    """Reflectance or radiance of a scene, NaN where a value is invalid."""

    def __init__(self, source: SceneSource) -> None:
        self._source = source
        self.shape = source.pixels.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        source = self._source
        raw = np.asarray(source.pixels[key])  # type: ignore[index]
        values = raw.astype(np.float32)
        for number, operation in ((source.scale, np.multiply), (source.offset, np.add)):
            column = np.broadcast_to(np.asarray(number, np.float32), self.shape[:1])[key[0]]
            operation(values, np.expand_dims(column, tuple(range(column.ndim, raw.ndim))), values)
        if source.nodata is not None:
            values[raw == source.nodata] = np.nan
        return values


class _Quality(BackendArray):
    """Flags of a scene's pixels."""

    def __init__(self, source: SceneSource) -> None:
        from hsi_pipeline.scene.quality import QualityPlane

        assert source.quality is not None
        self._plane = QualityPlane(source.quality)
        self.shape = self._plane.shape
        self.dtype = self._plane.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        support = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._plane.__getitem__)


def _dataset(source: SceneSource) -> xr.Dataset:
    """Return a scene as xarray's users expect it."""
    from hsi_pipeline.scene import chunks_of, cube_of

    cube = cube_of(source)
    chunks = chunks_of(source)
    quantity = str(source.attrs.get("quantity", "reflectance"))
    mapping = {"grid_mapping": "spatial_ref"} if "spatial_ref" in cube.coords else {}
    variables = {
        quantity: xr.Variable(
            ("band", "y", "x"),
            indexing.LazilyIndexedArray(_Reflectance(source)),
            {"long_name": quantity, **({"units": "1"} if quantity == "reflectance" else {})},
            {"preferred_chunks": dict(zip(("band", "y", "x"), chunks, strict=True)), **mapping},
        )
    }
    if source.quality is not None:
        variables["quality"] = xr.Variable(
            ("y", "x"),
            indexing.LazilyIndexedArray(_Quality(source)),
            cube["quality"].attrs,
            {"preferred_chunks": dict(zip(("y", "x"), chunks[1:], strict=True)), **mapping},
        )
        cube = cube.drop_vars("quality")
    attrs = {name: value for name, value in source.attrs.items() if value is not None}
    return xr.Dataset(variables, cube.coords, attrs)
