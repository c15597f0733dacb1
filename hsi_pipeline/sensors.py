"""Each sensor's products as a TorchGeo GeoDataset of its own name.

They are `HyperspectralDataset` with the sensor's checks and defaults: products as delivered, clouds
and shadows invalid, samples pixel-exact, `plot` in natural colours, `&` and `|` as TorchGeo has
them. Several products must share a CRS and a pixel size, since nothing is resampled in space.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import ClassVar

from hsi_pipeline.datasets import HyperspectralDataset, Scene, Transform
from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths


class SensorDataset(HyperspectralDataset):
    """Products of one sensor."""

    sensor: ClassVar[str]
    """As `SceneSource.attrs` says it; of a family the beginning."""

    def __init__(
        self,
        paths: Scene | Iterable[Scene],
        *,
        bands: Sequence[int] | None = None,
        wavelengths: Wavelengths | None = None,
        tolerance_nm: float = 5.0,
        resampling: str = "auto",
        mask: str = "default",
        pixel_coordinates: bool = False,
        transforms: Transform | None = None,
    ) -> None:
        """Open products; no pixel is read.

        Args: as `HyperspectralDataset`, but `mask` is "default": cloud, cloud shadow, saturated and
            unmeasured pixels are invalid.

        Raises:
            InputError: A product cannot be opened, is of another sensor, or bands or grids do not
                fit.
        """
        super().__init__(
            paths,
            bands=bands,
            wavelengths=wavelengths,
            tolerance_nm=tolerance_nm,
            resampling=resampling,
            mask=mask,
            pixel_coordinates=pixel_coordinates,
            transforms=transforms,
        )
        for source in self.sources:
            found = str(source.attrs.get("sensor", "unknown"))
            if not found.startswith(self.sensor):
                raise InputError(
                    f"{os.fspath(source.path)} is no {self.sensor} product (sensor: {found}); "
                    "HyperspectralDataset takes scenes of any sensor"
                )


class EnMAP(SensorDataset):
    """EnMAP L2A and L1C, 224 bands, 30 m."""

    sensor = "EnMAP"


class PRISMA(SensorDataset):
    """PRISMA L2D, about 234 bands, 30 m."""

    sensor = "PRISMA"


class EMIT(SensorDataset):
    """EMIT L2A reflectance, 285 bands, 60 m, orthorectified as it is read."""

    sensor = "EMIT"


class DESIS(SensorDataset):
    """DESIS L2A and L1C, 235 bands of 400 to 1000 nm, 30 m."""

    sensor = "DESIS"


class AVIRIS(SensorDataset):
    """AVIRIS Classic, AVIRIS-NG and AVIRIS-3 in ENVI format; warp rotated flight lines first."""

    sensor = "AVIRIS"


class NEON(SensorDataset):
    """NEON AOP reflectance in HDF5, 426 bands, 1 m."""

    sensor = "NEON"


class Tanager(SensorDataset):
    """Planet Tanager ortho products, about 426 bands, 30 m."""

    sensor = "Tanager"
