"""What the fields of an ENVI header mean. No I/O."""

from __future__ import annotations

import math
import posixpath
import re
from dataclasses import dataclass

from affine import Affine

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.aviris import flight_line, sensor_in
from hsi_pipeline.scene.band_table import check_plausible, in_nm, numbers, words
from hsi_pipeline.wavelengths import Wavelengths

_KNOWN_SUFFIXES = (".img", ".dat", ".bsq", ".bil", ".bip", ".raw", ".bin", ".cube", ".envi")
# Map coordinates of geographic grids are given in degrees by GDAL, whatever the header's unit.
_PARTS_OF_DEGREE = {"minutes": 60.0, "seconds": 3600.0}
_BSQ_ADVICE = (
    "stored band by band (BSQ): windows are slow; "
    "`hsi-pipeline ingest SCENE --out scene.zarr` rewrites it"
)
_UNSAID = ("", "unknown")


# GDAL gives every field of a header but these.
_KEPT_BACK = re.compile(
    rb"^[ \t]*(map info|description)[ \t]*=[ \t\r\n]*(\{[^}]*\}|[^\r\n]*)",
    re.MULTILINE | re.IGNORECASE,
)


def kept_back(text: bytes) -> dict[str, str]:
    """Return the fields `map_info` and `description` of a header's text, where it has them."""
    return {
        found[1].decode().lower().replace(" ", "_"): found[2].decode("utf-8", "replace")
        for found in _KEPT_BACK.finditer(text)
    }


@dataclass(frozen=True)
class EnviHeader:
    """The fields of a header, checked as they are asked for."""

    path: str
    """The scene, for messages."""
    fields: dict[str, str]
    """As GDAL gives them: names in lower case, with "_" for blanks."""
    count: int
    """Number of bands."""

    def text(self, name: str) -> str:
        """Return a field without braces, "" where the header has none."""
        return self.fields.get(name, "").strip(" {}\n\t")

    def number(self, name: str) -> float | None:
        """Return a number, None where the header has none.

        Raises:
            InputError: It is not a number.
        """
        if not (text := self.text(name)):
            return None
        try:
            return float(text)
        except ValueError:
            raise InputError(
                f"{self.path}: {name.replace('_', ' ')} is not a number: {text[:80]}"
            ) from None

    def listed(self, name: str) -> tuple[float, ...]:
        """Return a list of numbers, one per band, or nothing where the header has none.

        Raises:
            InputError: It is no list of numbers, or of another length.
        """
        if not (text := self.fields.get(name)):
            return ()
        field = name.replace("_", " ")
        try:
            values = numbers(text)
        except ValueError as error:
            raise InputError(
                f"{self.path}: {field} is not a list of numbers ({str(error)[:80]})"
            ) from error
        if len(values) != self.count:
            raise InputError(
                f"{self.path}: {field} has {len(values)} values for {self.count} bands"
            )
        return values

    def wavelengths(self) -> Wavelengths | None:
        """Return the band positions, None where the header does not say."""
        centers = self.listed("wavelength")
        if not centers:
            return None
        try:
            found = in_nm(centers, self.listed("fwhm"), self.fields.get("wavelength_units"))
            check_plausible(found)
            return found
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def good(self) -> tuple[bool, ...]:
        """Return False for bands that `bbl` marks bad."""
        return tuple(value != 0 for value in self.listed("bbl") or (1.0,) * self.count)

    def band_names(self) -> tuple[str, ...]:
        """Return one name per band."""
        names = words(self.fields.get("band_names", ""))
        # A name may hold a comma; then the list cannot be split.
        if len(names) == self.count:
            return names
        return tuple(f"band {i}" for i in range(1, self.count + 1))

    def scale_offset(self) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
        """Return scale and offset to reflectance.

        The reflectance scale factor wins over gains, which may lead to radiance instead.
        """
        factor = self.number("reflectance_scale_factor")
        if factor is not None:
            if not factor > 0:
                raise InputError(
                    f"{self.path}: reflectance scale factor is {factor:g}, not positive"
                )
            return 1.0 / factor, 0.0
        for kind in ("data_reflectance", "data"):
            gains = self.listed(f"{kind}_gain_values")
            offsets = self.listed(f"{kind}_offset_values")
            if gains or offsets:
                return _one_or_each(gains or (1.0,)), _one_or_each(offsets or (0.0,))
        return 1.0, 0.0

    def transform(self) -> Affine | None:
        """Return the map from columns and rows of a rotated image.

        GDAL 3.12 turns the axes but not the way from the corner to the reference pixel, and
        takes the wrong pixel size where the two differ.

        Returns:
            The map, of a geographic grid in degrees; None for images that are not rotated,
            where GDAL's is right.
        """
        fields = words(self.fields.get("map_info", ""))
        self._check_map_info(fields)
        named = dict(_name_and_value(field) for field in fields if "=" in field)
        try:
            degrees = float(named.get("rotation", "0"))
            column, row, east, north, width, height = map(float, fields[1:7])
        except ValueError:
            return None
        # GDAL itself writes 180 for images whose rows go north, and no unit.
        if not degrees or (degrees == 180 and "units" not in named):
            return None
        angle = math.radians(degrees)
        parts = 1.0
        if fields[0].lower().startswith("geographic"):
            parts = _PARTS_OF_DEGREE.get(named.get("units", "").lower(), 1.0)
        turned = (
            Affine.translation(east / parts, north / parts)
            @ Affine.scale(1 / parts)
            @ Affine(math.cos(angle), math.sin(angle), 0, math.sin(angle), -math.cos(angle), 0)
            @ Affine.scale(width, height)
        )
        return turned @ Affine.translation(1 - column, 1 - row)

    def _check_map_info(self, fields: tuple[str, ...]) -> None:
        """Refuse a UTM map info that GDAL would make something else of.

        Raises:
            InputError: The zone is none, the unit is not metres, or a comma has split a number.
        """
        if not fields or fields[0].lower() != "utm" or len(fields) < 8:
            return
        zone, units = fields[7], [f for f in fields if f.lower().startswith("units")]
        metric = all(
            unit.partition("=")[2].strip().lower() in ("meters", "metres") for unit in units
        )
        sides = len(fields) < 9 or fields[8].lower() in ("north", "south")
        if not (zone.isdigit() and 1 <= int(zone) <= 60) or not metric or not sides:
            raise InputError(
                f"{self.path}: map info is {', '.join(fields)}; expected UTM, 1, 1, easting, "
                "northing, pixel width, pixel height, zone 1 to 60, hemisphere, datum, in metres"
            )

    def attrs(self, image: str) -> dict[str, str]:
        """Return what header and file name say about the scene.

        Args:
            image: Name of the image, with folders or without.
        """
        base = posixpath.basename(image.replace("\\", "/"))
        stem, suffix = posixpath.splitext(base)
        # Only a known suffix is dropped: in "flight_2.1" the name of the scene has a dot.
        attrs = {"scene_id": stem if suffix.lower() in _KNOWN_SUFFIXES else base}
        if sensor := self._sensor():
            attrs["sensor"] = sensor
        if self.fields.get("reflectance_scale_factor"):
            attrs["quantity"] = "reflectance"
        attrs |= flight_line(base)
        if acquired := self.text("acquisition_time"):
            attrs["acquired"] = acquired
        if self.text("interleave").lower() == "bsq" and self.count > 1:
            attrs["advice"] = _BSQ_ADVICE
        return attrs

    def _sensor(self) -> str | None:
        written = self.text("sensor_type")
        if written.lower() in _UNSAID:
            return sensor_in(self.text("description"))
        return sensor_in(written) or " ".join(written.split())


def _name_and_value(field: str) -> tuple[str, str]:
    name, _, value = field.partition("=")
    return name.strip().lower(), value.strip()


def _one_or_each(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(set(values)) == 1 else values
