"""Sums of pixels by parcel -> columns that join the parcels' own, and a report."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hsi_pipeline.classes import ClassScheme

# Parts of parcels are rounded to this, since parts of pixels come in float32.
DECIMALS = 6


@dataclass(frozen=True)
class ParcelReport:
    """What became of the parcels."""

    parcels: int
    """Parcels in the layer."""
    repaired: int
    """Parcels whose geometry was invalid and was repaired."""
    without_geometry: int
    """Parcels without geometry, or without an area."""
    outside: int
    """Parcels that cover no pixel of the map."""
    partly_outside: int
    """Parcels that cover some, and reach beyond the map."""
    unclassified: int
    """Parcels that cover pixels, none of which has a class."""
    partly_unclassified: int
    """Parcels that cover pixels with and without a class."""
    suffix: str
    """What was added to the new columns' names, as the layer had some of them; "" as a rule."""


@dataclass
class Sums:
    """What the pixels of each parcel add up to; grows window by window."""

    areas: np.ndarray
    """Area (parcel, class), unclassified first and then as in the scheme."""
    pixels: np.ndarray
    """Pixels of the map (parcel,), in parts."""
    confidence: np.ndarray
    """Confidence times area (parcel,)."""
    confident: np.ndarray
    """Area with a confidence (parcel,)."""


def make_table(sums: Sums, inside: np.ndarray, scheme: ClassScheme, unit: str) -> pd.DataFrame:
    """Make columns of the sums.

    Args:
        sums: By parcel.
        inside: Part of each parcel that lies in the map, NaN where it has no geometry.
        scheme: Classes.
        unit: Of areas, for the names.
    """
    areas = sums.areas[:, 1:]
    classified, in_map = areas.sum(axis=1), sums.areas.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is missing
        shares = areas / classified[:, None]
        confidence = sums.confidence / sums.confident
        unclassified = np.maximum(1 - inside * np.nan_to_num(classified / in_map), 0)
    # rounded, so that classes of equal area are equal whatever the order of summing
    best = np.nan_to_num(shares).round(DECIMALS).argmax(axis=1)
    majority = pd.DataFrame(
        {
            "majority": pd.array(np.array(scheme.codes)[best], dtype="Int32"),
            "majority_name": np.array(scheme.names, dtype=object)[best],
            "majority_share": shares[np.arange(len(best)), best],
            "confidence": confidence,
            f"classified_{unit}": classified,
            "unclassified_share": unclassified.round(DECIMALS),
        }
    )
    majority.loc[classified == 0, ["majority", "majority_name"]] = None
    names = _identifiers(scheme)
    return pd.concat(
        [
            majority,
            pd.DataFrame(areas, columns=[f"area_{name}_{unit}" for name in names]),
            pd.DataFrame(shares, columns=[f"share_{name}" for name in names]),
        ],
        axis=1,
    )


def _identifiers(scheme: ClassScheme) -> list[str]:
    """Return class names as parts of column names, unique even where case makes no difference."""
    names = [re.sub(r"\W+", "_", name.lower()).strip("_") or "class" for name in scheme.names]
    while len(set(names)) < len(names):
        count = Counter(names)
        names = [
            f"{name}_{code}" if count[name] > 1 else name
            for name, code in zip(names, scheme.codes, strict=True)
        ]
    return names


def free_suffix(new: Iterable[str], taken: Iterable[str]) -> str:
    """Return the first of "", "_2", "_3" ... with which no name is taken in any case."""
    lower = {str(name).lower() for name in taken}
    suffixes = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    return next(s for s in suffixes if not any(f"{name}{s}" in lower for name in new))


def make_report(sums: Sums, inside: np.ndarray, repaired: int, suffix: str) -> ParcelReport:
    """Count what became of the parcels."""
    there, unclassified = sums.pixels > 0, sums.areas[:, 0] > 0
    classified = sums.areas[:, 1:].any(axis=1)
    return ParcelReport(
        parcels=len(inside),
        repaired=repaired,
        without_geometry=int(np.isnan(inside).sum()),
        outside=int((~there & ~np.isnan(inside)).sum()),
        partly_outside=int((there & (inside < 1)).sum()),
        unclassified=int((there & ~classified).sum()),
        partly_unclassified=int((classified & unclassified).sum()),
        suffix=suffix,
    )
