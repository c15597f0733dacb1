"""Reflectance spectra of land-cover materials from physical and simple analytical models.

Every spectrum has shape (2101,): reflectance at 400 to 2500 nm, 1 nm apart. A material is drawn
once per patch of the landscape (`draw`) and then varied inside the patch along two axes
(`spectrum`): for plants growth and pigments, for soil brightness and moisture, for built surfaces
age and hue, for water sediment and algae.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from prosail import run_prosail, spectral_lib  # type: ignore[import-untyped]
from scipy.interpolate import PchipInterpolator

Ranges = Mapping[str, tuple[float, float]]
Parameters = dict[str, float]

WAVELENGTH_NM = np.arange(400.0, 2501.0)

SUN_ZENITH, VIEW_ZENITH, RELATIVE_AZIMUTH = 33.0, 6.0, 105.0  # degrees

# Units of PROSPECT and SAIL: cab, car in µg/cm²; cw in cm; cm in g/cm²; lidfa in degrees (mean
# leaf angle); soil_dry 0 wet to 1 dry. shade: part of the canopy that crowns keep in the dark.
CANOPIES: Mapping[str, Ranges] = {
    "meadow": {
        "lai": (1.8, 3.8), "n": (1.5, 1.9), "cab": (20, 36), "cbrown": (0.3, 0.5),
        "cw": (0.009, 0.014), "cm": (0.006, 0.010), "lidfa": (58, 72), "shade": (0.0, 0.05),
        "soil_bright": (0.5, 0.8), "soil_dry": (0.2, 0.7),
    },
    "dry pasture": {
        "lai": (1.2, 2.6), "n": (1.6, 2.0), "cab": (15, 28), "cbrown": (0.5, 0.8),
        "cw": (0.006, 0.011), "cm": (0.007, 0.011), "lidfa": (58, 72), "shade": (0.0, 0.05),
        "soil_bright": (0.5, 0.9), "soil_dry": (0.3, 0.8),
    },
    "green cereal": {
        "lai": (2.4, 5.0), "n": (1.3, 1.6), "cab": (40, 60), "cbrown": (0.0, 0.08),
        "cw": (0.013, 0.022), "cm": (0.003, 0.006), "lidfa": (56, 70), "shade": (0.0, 0.04),
        "soil_bright": (0.5, 0.9), "soil_dry": (0.3, 0.9),
    },
    "ripening cereal": {
        "lai": (1.4, 3.0), "n": (1.8, 2.3), "cab": (4, 13), "cbrown": (0.7, 1.3),
        "cw": (0.003, 0.007), "cm": (0.006, 0.010), "lidfa": (58, 74), "shade": (0.0, 0.04),
        "soil_bright": (0.6, 1.0), "soil_dry": (0.5, 1.0),
    },
    "row crop": {
        "lai": (2.2, 4.8), "n": (1.3, 1.6), "cab": (38, 62), "cbrown": (0.0, 0.06),
        "cw": (0.014, 0.026), "cm": (0.003, 0.006), "lidfa": (32, 48), "shade": (0.0, 0.06),
        "soil_bright": (0.5, 0.9), "soil_dry": (0.2, 0.9),
    },
    "sparse crop": {
        "lai": (0.4, 1.0), "n": (1.3, 1.7), "cab": (34, 56), "cbrown": (0.0, 0.06),
        "cw": (0.012, 0.022), "cm": (0.003, 0.006), "lidfa": (36, 60), "shade": (0.0, 0.04),
        "soil_bright": (0.5, 0.9), "soil_dry": (0.2, 0.9),
    },
    "broadleaf": {
        "lai": (3.5, 6.5), "n": (1.6, 2.1), "cab": (36, 58), "cbrown": (0.0, 0.15),
        "cw": (0.009, 0.016), "cm": (0.008, 0.013), "lidfa": (30, 48), "shade": (0.24, 0.42),
        "soil_bright": (0.3, 0.5), "soil_dry": (0.1, 0.5),
    },
    "needle": {
        "lai": (3.0, 5.5), "n": (2.0, 2.8), "cab": (38, 62), "cbrown": (0.1, 0.4),
        "cw": (0.018, 0.032), "cm": (0.013, 0.022), "lidfa": (50, 64), "shade": (0.35, 0.55),
        "soil_bright": (0.3, 0.5), "soil_dry": (0.1, 0.5),
    },
}  # fmt: skip

# lai: of the straw and weeds that lie on the field; clay, iron: depth of absorption features.
SOILS: Mapping[str, Ranges] = {
    "loam": {
        "bright": (0.45, 0.85), "dry": (0.1, 0.9), "clay": (0.04, 0.10), "iron": (0.06, 0.15),
        "lai": (0.0, 0.25),
    },
    "stubble": {
        "bright": (0.6, 0.95), "dry": (0.5, 1.0), "clay": (0.03, 0.07), "iron": (0.05, 0.12),
        "lai": (0.2, 0.7),
    },
    "sand": {
        "bright": (0.9, 1.15), "dry": (0.7, 1.0), "clay": (0.01, 0.03), "iron": (0.04, 0.10),
        "lai": (0.0, 0.05),
    },
}  # fmt: skip

# chl: chlorophyll a in mg/m³; tsm: suspended matter in g/m³; cdom: absorption of dissolved organic
# matter at 440 nm in 1/m; glint: reflectance of the surface.
WATERS: Mapping[str, Ranges] = {
    "river": {"chl": (6, 14), "tsm": (9, 22), "cdom": (0.6, 1.2), "glint": (0.003, 0.010)},
    "lake": {"chl": (3, 25), "tsm": (1, 6), "cdom": (0.3, 1.0), "glint": (0.002, 0.012)},
    "pond": {"chl": (5, 60), "tsm": (3, 25), "cdom": (0.4, 2.0), "glint": (0.002, 0.012)},
}

# Reflectance at ANCHORS_NM, then absorption features as (centre nm, width nm, depth).
ANCHORS_NM = (400, 550, 700, 900, 1300, 1700, 2100, 2500)
BUILT: Mapping[str, tuple[tuple[float, ...], tuple[tuple[float, float, float], ...]]] = {
    "clay tile": (
        (0.05, 0.10, 0.24, 0.30, 0.37, 0.39, 0.37, 0.31),
        ((530, 45, 0.14), (870, 70, 0.10), (1410, 25, 0.03), (1915, 40, 0.06), (2205, 25, 0.07)),
    ),
    "concrete tile": (
        (0.08, 0.12, 0.16, 0.18, 0.21, 0.22, 0.21, 0.18),
        ((870, 80, 0.04), (1915, 45, 0.05), (2335, 30, 0.05)),
    ),
    "bitumen": (
        (0.05, 0.065, 0.075, 0.085, 0.10, 0.11, 0.115, 0.105),
        ((1730, 22, 0.03), (2310, 35, 0.06)),
    ),
    "metal sheet": (
        (0.22, 0.29, 0.31, 0.30, 0.33, 0.36, 0.37, 0.35),
        ((860, 60, 0.05), (2310, 40, 0.03)),
    ),
    "gravel roof": (
        (0.10, 0.15, 0.19, 0.21, 0.25, 0.26, 0.25, 0.21),
        ((900, 90, 0.03), (1915, 45, 0.06), (2205, 25, 0.03), (2335, 30, 0.04)),
    ),
    "asphalt": (
        (0.06, 0.085, 0.105, 0.12, 0.15, 0.165, 0.165, 0.145),
        ((870, 90, 0.02), (1730, 22, 0.02), (2310, 35, 0.05)),
    ),
    "concrete": (
        (0.15, 0.22, 0.27, 0.30, 0.34, 0.34, 0.31, 0.25),
        ((1410, 25, 0.03), (1915, 45, 0.08), (2205, 25, 0.02), (2335, 30, 0.08)),
    ),
    "paving stone": (
        (0.10, 0.15, 0.19, 0.22, 0.26, 0.27, 0.26, 0.21),
        ((870, 80, 0.04), (1915, 45, 0.06), (2205, 25, 0.03), (2335, 30, 0.05)),
    ),
}
BUILT_RANGES: Ranges = {"gain": (0.85, 1.15), "hue": (-0.05, 0.05)}


def draw(kind: str, rng: np.random.Generator) -> Parameters:
    """Draw the parameters of one patch, each uniform in the range of its kind."""
    for table in (CANOPIES, SOILS, WATERS):
        if kind in table:
            ranges = table[kind]
            break
    else:
        ranges = BUILT_RANGES
    return {name: float(rng.uniform(low, high)) for name, (low, high) in ranges.items()}


def spectrum(
    kind: str, parameters: Parameters, first: float = 0.0, second: float = 0.0
) -> np.ndarray:
    """Return the reflectance of a material, shape (2101,).

    Args:
        kind: A name in `CANOPIES`, `SOILS`, `WATERS` or `BUILT`.
        parameters: As `draw` returns them.
        first: Position on the first axis of variation inside a patch, about -1 to 1.
        second: The same for the second axis.
    """
    p = parameters
    model: Callable[..., np.ndarray]
    if kind in CANOPIES:
        moved = p | {
            "lai": p["lai"] * (1 + 0.30 * first),
            "cab": p["cab"] * (1 - 0.15 * second),
            "cbrown": p["cbrown"] + 0.08 * (1 + second),
        }
        model = canopy
    elif kind in SOILS:
        moved = p | {"bright": p["bright"] * (1 + 0.12 * first), "dry": p["dry"] + 0.12 * second}
        model = soil
    elif kind in WATERS:
        moved = p | {"tsm": p["tsm"] * (1 + 0.15 * first), "chl": p["chl"] * (1 + 0.2 * second)}
        model = water
    else:
        moved = p | {"gain": p["gain"] * (1 + 0.12 * first), "hue": p["hue"] + 0.05 * second}
        return built(kind, **moved)
    return model(**moved)


def canopy(
    lai: float,
    n: float,
    cab: float,
    cbrown: float,
    cw: float,
    cm: float,
    lidfa: float,
    shade: float,
    soil_bright: float,
    soil_dry: float,
) -> np.ndarray:
    """Reflectance of a plant canopy: leaves by PROSPECT-D, canopy by 4SAIL.

    Crowns and rows that shade each other are not in SAIL, which has one even layer: the shaded
    part of the canopy counts as black.

    References:
        Féret et al. (2017), PROSPECT-D, Remote Sensing of Environment 193, 204-215.
        Verhoef et al. (2007), 4SAIL, IEEE TGRS 45(6), 1808-1822.
    """
    reflectance = run_prosail(
        n, cab, cab / 4.5, cbrown, cw, cm, lai, lidfa, 0.05,
        SUN_ZENITH, VIEW_ZENITH, RELATIVE_AZIMUTH,
        prospect_version="D", rsoil0=bare_soil(soil_bright, soil_dry),
    )  # fmt: skip
    return (1 - shade) * reflectance


def bare_soil(bright: float, dry: float) -> np.ndarray:
    """Mix the dry and the wet soil spectrum that come with PROSAIL."""
    part = float(np.clip(dry, 0, 1))
    return bright * (part * spectral_lib.soil.rsoil1 + (1 - part) * spectral_lib.soil.rsoil2)


def soil(bright: float, dry: float, clay: float, iron: float, lai: float) -> np.ndarray:
    """Reflectance of a field without a crop: soil under a little straw, dead leaves and weeds.

    Iron oxides absorb at 530 and 870 nm, clay minerals at 2205 nm (Ben-Dor et al. 1999, Manual of
    Remote Sensing 3, chapter 3).
    """
    bare = absorb(bare_soil(bright, dry), ((530, 60, iron), (870, 80, iron), (2205, 25, clay)))
    return run_prosail(
        2.2, 8.0, 2.0, 0.9, 0.003, 0.008, lai, 40.0, 0.05,
        SUN_ZENITH, VIEW_ZENITH, RELATIVE_AZIMUTH,
        prospect_version="D", rsoil0=bare,
    )  # fmt: skip


def water(chl: float, tsm: float, cdom: float, glint: float) -> np.ndarray:
    """Reflectance of deep water by a semi-analytical model.

    Remote-sensing reflectance below the surface is (0.084 + 0.170 u) u with
    u = bb / (a + bb), above it 0.5 r / (1 - 1.5 r); times pi plus glint. Pure water absorbs as in
    PROSPECT's leaf water; algae absorb in two Gaussian bands; dissolved matter decays
    exponentially; particles scatter back with a power law.

    References:
        Lee et al. (1998), Applied Optics 37(27), 6329-6338, doi 10.1364/AO.37.006329.
        Lee et al. (1999), Applied Optics 38(18), 3831-3843, doi 10.1364/AO.38.003831.
    """
    nm = WAVELENGTH_NM
    algae = 0.05 * chl**0.65 * (_bell(nm, 440, 45) + 0.45 * _bell(nm, 675, 15))
    absorption = 100 * spectral_lib.prospectd.kw + algae + cdom * np.exp(-0.015 * (nm - 440))
    backscatter = 0.0014 * (500 / nm) ** 4.3 + 0.007 * tsm * (550 / nm) ** 0.8
    u = backscatter / (absorption + backscatter)
    below = (0.084 + 0.170 * u) * u
    return np.pi * 0.5 * below / (1 - 1.5 * below) + glint


def built(kind: str, gain: float, hue: float) -> np.ndarray:
    """Reflectance of a roof or pavement: a smooth curve with absorption features.

    Features: iron oxides (530, 870 nm), clay (2205 nm), carbonate (2335 nm), hydrocarbons (1730,
    2310 nm), water (1410, 1915 nm). Levels are typical ones, features as described by Heiden et
    al. (2007), Remote Sensing of Environment 111, 537-552, and Herold et al. (2004), Remote
    Sensing of Environment 91, 304-319.

    Args:
        kind: A name in `BUILT`.
        gain: Factor on the whole spectrum: age and dirt.
        hue: Tilt of the spectrum; positive is redder.
    """
    levels, features = BUILT[kind]
    curve = PchipInterpolator(ANCHORS_NM, levels)(WAVELENGTH_NM)
    tilt = 1 + hue * np.tanh((WAVELENGTH_NM - 900) / 500)
    return absorb(gain * tilt * curve, features)


def absorb(reflectance: np.ndarray, features: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """Multiply Gaussian absorption features (centre nm, width nm, depth) into a spectrum."""
    for center, width, depth in features:
        reflectance = reflectance * (1 - depth * _bell(WAVELENGTH_NM, center, width))
    return reflectance


def _bell(nm: np.ndarray, center: float, width: float) -> np.ndarray:
    return np.exp(-(((nm - center) / width) ** 2))
