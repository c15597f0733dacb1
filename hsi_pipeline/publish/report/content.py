"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np

from hsi_pipeline.classes import Category, ClassScheme
from hsi_pipeline.figures import Frame, Spectrum
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.overview import MapOverview


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture of the scene."""

    name: str
    """Such as "true_color"."""
    title: str
    """Such as "True colour"."""
    told: str
    """Which bands are red, green and blue."""
    pixels: np.ndarray
    """Red, green, blue and opacity, uint8 (y, x, 4), where the overview's codes are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassSpectra:
    """Spectra of the classes of a map."""

    classes: tuple[Spectrum, ...]
    """Of each class that has any."""
    positions: np.ndarray
    """Wavelength in nm, or number where there is none, of each band (band,)."""
    in_nm: bool
    """Whether the positions are wavelengths."""
    quantity: str
    """Such as "reflectance", with its unit if it has any."""
    most: int
    """Most pixels that were drawn of a class."""

    @property
    def x_label(self) -> str:
        """What the positions are."""
        return "wavelength in nm" if self.in_nm else "band"


@dataclass(frozen=True)
class FileFacts:
    """A file that the report is of."""

    role: str
    """Such as "model"."""
    name: str
    """Its name without folders."""
    size: int | None
    """Bytes; None for addresses."""
    sha256: str | None = None
    """SHA-256 of its bytes, where they were read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """A class map and all that is known of it; what is None the report says that it lacks."""

    title: str
    """Its heading."""
    overview: MapOverview
    """The map."""
    scheme: ClassScheme
    """Its classes."""
    attrs: Mapping[str, Any]
    """Its attributes."""
    frame: Frame
    """Where it lies."""
    pixel_m: float | None
    """Width of a pixel on the ground."""
    files: tuple[FileFacts, ...]
    """What it was read from, the map first."""
    pictures: tuple[Picture, ...] = ()
    """Pictures of the scene; none without a scene."""
    has_scene: bool = False
    """Whether there is a scene."""
    spectra: ClassSpectra | None = None
    """Spectra of the classes."""
    polygons: gpd.GeoDataFrame | None = None
    """Polygons in the map's CRS."""
    assessment: Mapping[str, Any] | None = None
    """As `assess` writes it."""
    card: ModelCard | None = None
    """Card of the model that made the map."""
    warnings: tuple[str, ...] = field(default=())
    """What a reader must know."""

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes in order."""
        return self.scheme.categories

    @property
    def scene_id(self) -> str:
        """Name of the scene, as the map says."""
        return str(self.attrs.get("scene_id", ""))

    def mapped(self, category: Category) -> float:
        """Return the mapped area of a class in m2, in pixels where there is no CRS."""
        return float(self.overview.areas_m2[category.code])

    @property
    def total_m2(self) -> float:
        """Mapped area of all classes."""
        return float(self.overview.areas_m2[1:].sum())

    def assessed(self, category: Category) -> Mapping[str, Any] | None:
        """Return what the assessment says of a class, found by its name."""
        listed = (self.assessment or {}).get("classes", ())
        return next((one for one in listed if one["name"] == category.name), None)
