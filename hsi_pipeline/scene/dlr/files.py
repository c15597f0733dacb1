"""The files of a product as DLR delivers it: an XML, and rasters of the same stem beside it.

EnMAP and DESIS share this form, as a folder, an archive or behind an address.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.places import Place, archive_kind, place_of
from hsi_pipeline.scene.xml import parse_xml

IMAGE = "SPECTRAL_IMAGE"
ENVI_SUFFIXES = (".bsq", ".bil", ".bip")
TIFF_SUFFIXES = (".tif", ".tiff", ".geotiff")
JP2_SUFFIXES = (".jp2", ".jpeg2000")
_METADATA = "metadata.xml"
_SUFFIXES = TIFF_SUFFIXES + ENVI_SUFFIXES + JP2_SUFFIXES
# Behind an address files cannot be listed. DLR's server has rasters under another name than the
# metadata say, which is tried too.
_SERVED_AS = ("_COG.tiff", "_COG.TIF", "_COG.tif")


@dataclass(frozen=True)
class Product:
    """A product's metadata, and where its rasters are."""

    place: Place
    """The folder or archive."""
    metadata: str
    """Name of the XML in it."""
    image: str
    """Name of the image, "" if the user gave none."""

    @property
    def stem(self) -> str:
        """Beginning of the names of all its files, with its folder: "A/ENMAP01-...-"."""
        return self.metadata[: self.metadata.lower().rindex(_METADATA)]

    @property
    def name(self) -> str:
        """The XML as messages call it."""
        return self.place.shown(self.metadata)

    def read(self, root_tag: str) -> Element:
        """Read the XML.

        Args:
            root_tag: Name of its outermost element.

        Raises:
            InputError: It cannot be read, or is of another kind.
        """
        root = parse_xml(self.place.read(self.metadata), self.name)
        if root.tag.rpartition("}")[2] != root_tag:
            raise InputError(
                f"{self.name} begins with <{root.tag}>, expected <{root_tag}>; give the "
                "METADATA.XML of the product"
            )
        return root


def recognises(path: str, prefix: str, root_tag: str) -> bool:
    """Tell whether a path is, or holds, a product whose file names begin with a prefix.

    Args:
        path: Folder, archive, file, or an address of any of these.
        prefix: In upper case, such as "ENMAP".
        root_tag: Outermost element of its XML, asked where a product's files lack the prefix.
    """
    base = _base(path)
    if _is_metadata(base, prefix) or (base.startswith(prefix.lower()) and _is_image(base)):
        return True
    if archive_kind(path) and base.startswith(prefix.lower()):
        return True
    if base != _METADATA and not archive_kind(path) and not _is_folder(path):
        return False
    try:
        place, name = place_of(path)
        names = (name,) if name else place.names or ()
        if any(_is_metadata(_base(found), prefix) for found in names):
            return True
        bare = (found for found in names if _base(found) == _METADATA)
        return any(f"<{root_tag}".encode() in place.read(found)[:4096] for found in bare)
    except InputError:
        return False


def find_product(path: str, sensor: str) -> Product:
    """Find the one product that a path is or holds.

    Args:
        path: As for `recognises`.
        sensor: For messages.

    Raises:
        InputError: There is none or several, or an image lacks its XML.
    """
    place, name = place_of(path)
    base = _base(name)
    if name and base.endswith((_METADATA, f"{_METADATA}.xml")):
        return Product(place, name, "")
    if name:
        metadata = _metadata_beside(place, name)
        if metadata is None:
            raise InputError(
                f"{path} needs the METADATA.XML of the {sensor} product beside it, which has its "
                "wavelengths; if you have written the file anew with wavelengths in it, give it "
                "another name"
            )
        return Product(place, metadata, "" if base.endswith(".hdr") else name)
    found = [
        name
        for name in place.names or ()
        if _base(name).endswith((_METADATA, f"{_METADATA}.xml"))
        and not _base(name).startswith("._")  # what macOS adds to archives
    ]
    if len(found) == 1:
        return Product(place, found[0], "")
    if found:
        some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise InputError(
            f"{path} holds {len(found)} products: {some}; give the METADATA.XML of one of them"
        )
    if inner := place.find("*.zip"):
        raise InputError(
            f"{path} holds archives ({inner[0]}{', ...' if len(inner) > 1 else ''}) and no "
            "METADATA.XML; unpack it and give one of them"
        )
    raise InputError(f"{path} holds no METADATA.XML; give the whole {sensor} product")


def image_of(product: Product, root: Element) -> str:
    """Return the name of a product's image.

    Args:
        product: The product.
        root: Its XML.

    Raises:
        InputError: It has none.
    """
    if product.image:
        return product.image
    name = raster_of(product, root, IMAGE)
    if name is None:
        wanted = f"{posixpath.basename(product.stem)}{IMAGE}"
        raise InputError(
            f"{product.name} has no image beside it; expected {wanted} as .TIF, .BSQ, .BIL, .BIP "
            "or .JP2; download the product again"
        )
    return name


def raster_of(product: Product, root: Element, part: str) -> str | None:
    """Return the name of one of a product's rasters, None if there is none.

    Of several forms a COG is taken, then a TIFF.

    Args:
        product: The product.
        root: Its XML, which lists the files behind an address.
        part: Such as "QL_QUALITY_CLOUD".

    Raises:
        InputError: The XML lists a file outside of the product's folder, or the server cannot be
            asked.
    """
    if product.place.names is None:
        candidates = _listed(product, root, part)
        return next((name for name in candidates if product.place.begins(name, b"")), None)
    endings = [part + form + suffix for form in ("_COG", "") for suffix in _SUFFIXES]
    by_name = {name.lower(): name for name in product.place.names}
    wanted = (f"{product.stem}{ending}".lower() for ending in endings)
    return next((by_name[name] for name in wanted if name in by_name), None)


def _listed(product: Product, root: Element, part: str) -> list[str]:
    """Return the names that a part may have behind an address, likely ones first."""
    folder = posixpath.dirname(product.stem)
    ends = (part.lower(), f"{part.lower()}_cog")
    listed = []
    for element in root.iter("name"):
        name = (element.text or "").strip()
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in _SUFFIXES and stem.lower().endswith(ends):
            if "/" in name or "\\" in name or name.startswith(".."):
                raise InputError(
                    f"{product.name} lists the file {name!r}, a path that leaves the product's "
                    "folder; it is refused"
                )
            listed.append(posixpath.join(folder, name))
    plain = [f"{product.stem}{part}{suffix}" for suffix in (".TIF", ".tif")]
    stems = dict.fromkeys(os.path.splitext(name)[0] for name in (*listed, *plain))
    served = [stem + end for stem in stems for end in _SERVED_AS]
    return list(dict.fromkeys((*listed, *plain, *served)))


def _metadata_beside(place: Place, image: str) -> str | None:
    """Return the name of the XML that belongs to an image."""
    part = image.upper().rfind(IMAGE)
    if part < 0:
        return None
    stem = image[:part]
    if place.names is None:
        names = [f"{stem}{end}" for end in ("METADATA.XML", "METADATA.xml")]
        return next((name for name in names if place.begins(name, b"")), None)
    wanted = (f"{stem}{_METADATA}".lower(), f"{stem}{_METADATA}.xml".lower())
    return next((name for name in place.names if name.lower() in wanted), None)


def _base(path: str) -> str:
    return posixpath.basename(path.replace(os.sep, "/").rstrip("/")).lower()


def _is_metadata(base: str, prefix: str) -> bool:
    return base.startswith(prefix.lower()) and base.endswith((_METADATA, f"{_METADATA}.xml"))


def _is_image(base: str) -> bool:
    stem, suffix = os.path.splitext(base)
    return IMAGE.lower() in stem and suffix in (*_SUFFIXES, ".hdr")


def _is_folder(path: str) -> bool:
    """Tell whether a path is a folder that may hold products: no Zarr store."""
    return os.path.isdir(path) and not any(
        os.path.exists(os.path.join(path, name)) for name in (".zgroup", ".zarray", "zarr.json")
    )
