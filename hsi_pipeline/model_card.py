"""What must be known of a trained model to use it: kept with its weights, as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hsi_pipeline.classes import Category, ClassScheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.wavelengths import Wavelengths

CARD_VERSION = 2
_READABLE = (1, 2)  # 2 has temperature and calibration


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything beside the weights."""

    architecture: str
    """Name in `models.MODELS`."""
    settings: Mapping[str, Any]
    """Keyword arguments of the architecture beyond bands and classes."""
    bands: int
    """Number of input bands."""
    wavelengths: Wavelengths | None
    """Input bands in order; None if the training scene had no wavelengths."""
    tolerance_nm: float
    """How far a scene's band may lie from the model's, in nm."""
    classes: ClassScheme
    """Output classes in order."""
    halo: int
    """Pixels of context around a window that make its result exact."""
    scenes: tuple[str, ...]
    """Names of the training scenes."""
    seed: int
    """Seed of the training."""
    version: str
    """Version of hsi_pipeline that trained it."""
    temperature: float = 1.0
    """What scores are divided by before they become probabilities."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """What the temperature rests on: see `calibration.Calibration`; empty where there is none."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained: split, epochs, pixels per class."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores on the validation part, by name."""

    def __post_init__(self) -> None:
        """Refuse band counts that cannot be."""
        if not isinstance(self.bands, int) or self.bands < 1:
            raise InputError(f"the model card has {self.bands!r} bands; it needs one or more")
        if self.wavelengths is not None and len(self.wavelengths) != self.bands:
            raise InputError(
                f"the model card has {len(self.wavelengths)} wavelengths for {self.bands} bands"
            )
        if not (isinstance(self.temperature, int | float) and 0 < self.temperature < math.inf):
            raise InputError(
                f"the model card has the temperature {self.temperature!r}; it must be above 0"
            )

    def to_json(self) -> str:
        """Return the card as JSON."""
        return json.dumps({"card_version": CARD_VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises:
            InputError: The text is not a card of this version.
        """
        try:
            values = json.loads(text)
            version = values.pop("card_version")
            if version not in _READABLE:
                raise InputError(
                    f"the model card has version {version}, this program reads {_READABLE[-1]}; "
                    "update hsi_pipeline or train the model again"
                )
            bands = values.pop("wavelengths")
            categories = values.pop("classes")["categories"]
            return cls(
                **{**values, "scenes": tuple(values["scenes"])},
                wavelengths=None
                if bands is None
                else Wavelengths(tuple(bands["center_nm"]), tuple(bands["fwhm_nm"])),
                classes=ClassScheme(tuple(Category(**category) for category in categories)),
            )
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"the model card cannot be read ({error})") from error
