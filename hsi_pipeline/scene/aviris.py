"""What the names of AVIRIS flight lines say.

From the distribution documents of the Jet Propulsion Laboratory: `angYYYYMMDDtHHMMSS_rfl_VVV_img`
(AVIRIS-NG, in older versions `corr` for reflectance), `AV3YYYYMMDDtHHMMSS_..._RFL_ORT` (AVIRIS-3)
and `fyymmddtNNpNNrNN...` (AVIRIS-Classic, whose names have no time of day).
"""

from __future__ import annotations

import posixpath
import re
from datetime import datetime

_TIMED = re.compile(r"(ang|av[35])(\d{8})t(\d{6})(?!\d)", re.IGNORECASE)
_CLASSIC = re.compile(r"f(\d{6})t\d\dp\d\dr\d\d", re.IGNORECASE)
_SENSORS = {"ang": "AVIRIS-NG", "av3": "AVIRIS-3", "av5": "AVIRIS-5"}
_REFLECTANCE = re.compile(r"(?:_|\d)(?:rfl|refl|reflectance|corr)(?![a-z])", re.IGNORECASE)
_RADIANCE = re.compile(r"(?:_|\d)rdn(?![a-z])", re.IGNORECASE)
# geometry, water vapour, uncertainty and the like
_TABLES = re.compile(r"_(?:glt|igm|loc|obs|h2o|unc|mask|atm|eph|dem)(?![a-z0-9])", re.IGNORECASE)
_FIRST_YEAR = 87  # of the flights; names have two digits
_WRITTEN = re.compile(r"\baviris[\s_-]*(ng|next[\s_-]*gen\w*|classic|c|3|5)?(?![a-z0-9])", re.I)


def flight_line(name: str) -> dict[str, str]:
    """Return what the name of a flight line says about it.

    Args:
        name: Of the image, with folders or without.

    Returns:
        Some of `sensor`, `acquired`, `level` and `quantity`; nothing for any other name.
    """
    base = posixpath.basename(name)
    said = _sensor_and_time(base)
    if not said or _TABLES.search(base):
        return said
    if _REFLECTANCE.search(base):
        level = "L2A" if _TIMED.search(base) and said["sensor"] != "AVIRIS-NG" else "L2"
        return said | {"level": level, "quantity": "reflectance"}
    if _RADIANCE.search(base):
        return said | {"level": "L1B", "quantity": "radiance"}
    return said


def is_spectral(name: str) -> bool:
    """Tell whether a name is that of a flight line's reflectance or radiance."""
    return "quantity" in flight_line(name)


def sensor_in(text: str) -> str | None:
    """Return which AVIRIS a text names, such as a header's description; None if it names none."""
    found = _WRITTEN.search(text)
    if not found:
        return None
    which = (found[1] or "").lower()
    if which[:1] == "n":
        return "AVIRIS-NG"
    return {"": "AVIRIS", "c": "AVIRIS-Classic", "classic": "AVIRIS-Classic"}.get(
        which, f"AVIRIS-{which}"
    )


def _sensor_and_time(base: str) -> dict[str, str]:
    if found := _TIMED.search(base):
        sensor = {"sensor": _SENSORS[found[1].lower()]}
        moment = _moment(found[2] + found[3], "%Y%m%d%H%M%S")
        return sensor | ({"acquired": moment.isoformat() + "Z"} if moment else {})
    if found := _CLASSIC.match(base):
        century = "19" if int(found[1][:2]) >= _FIRST_YEAR else "20"
        day = _moment(century + found[1], "%Y%m%d")
        return {"sensor": "AVIRIS-Classic", "acquired": day.date().isoformat()} if day else {}
    return {}


def _moment(digits: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(digits, form)
    except ValueError:
        return None
