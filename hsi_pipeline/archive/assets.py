"""Which of an item's assets is the scene."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from hsi_pipeline.archive.products import ARRAY_SUFFIXES, SUFFIXES, is_product, scenes_among
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.places import archive_kind

_DATA_ROLES = {"data", "reflectance"}
_OTHER_ROLES = {"thumbnail", "overview", "visual", "metadata", "graphic", "local-metadata"}
_COMMON_NAMES = (
    "data", "reflectance", "surface_reflectance", "rfl", "spectral_image", "image", "cube", "hsi",
    "hyperspectral", "scene", "product",
)  # fmt: skip
_MEDIA_TYPES = (
    "image/tiff", "image/geotiff", "image/vnd.stac.geotiff", "image/jp2", "application/x-hdf",
    "application/hdf", "application/x-hdf5", "application/netcdf", "application/x-netcdf",
    "application/vnd+zarr", "application/vnd.zarr", "application/x-zarr",
)  # fmt: skip
_MOST_SHOWN = 12


def choose_asset(item: Mapping[str, Any], wanted: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return key and asset of the scene.

    An asset counts that looks like a scene by its ending or media type and is no preview. Those
    with the role `data` or `reflectance` come first; files that belong to another one (the rasters
    of an EnMAP product, an EMIT mask) do not count; among several an obvious name decides.

    Args:
        item: The item.
        wanted: Key that the user said.

    Raises:
        InputError: There is none, or it is unclear which.
    """
    assets = {str(k): a for k, a in item["assets"].items() if isinstance(a, Mapping)}
    listed = ", ".join(sorted(assets)[:_MOST_SHOWN]) + (
        ", ..." if len(assets) > _MOST_SHOWN else ""
    )
    has = f"item {item['id']} has the assets {listed}" if assets else f"item {item['id']} has none"
    if wanted is not None:
        if wanted not in assets:
            raise InputError(f"{has}; there is no asset {wanted!r}")
        return wanted, assets[wanted]
    possible = {key: asset for key, asset in assets.items() if _is_possible(asset)}
    main = [key for key, asset in possible.items() if _roles(asset) & _DATA_ROLES]
    products = [key for key, asset in possible.items() if is_product(_base(asset))]
    chosen = _mains(possible, products + main) if main else _mains(possible, list(possible))
    if len(chosen) > 1:
        named = [key for key in chosen if key.lower() in _COMMON_NAMES]
        chosen = named if len(named) == 1 else chosen
    if len(chosen) != 1:
        raise InputError(f"{has}; say which is the scene with `asset`")
    return chosen[0], assets[chosen[0]]


def _mains(assets: Mapping[str, Mapping[str, Any]], keys: list[str]) -> list[str]:
    """Return those of some assets whose files do not belong to another one; each file once."""
    by_base: dict[str, str] = {}
    for key in keys:
        by_base.setdefault(_base(assets[key]), key)
    scenes = scenes_among(by_base, arrays=True)
    belonging = {member for members in scenes.values() for member in members} - set(scenes)
    # an address without an ending is known by its media type alone
    return [
        key for base, key in by_base.items() if base in scenes or not _is_named(base, belonging)
    ]


def _is_named(base: str, belonging: set[str]) -> bool:
    return base in belonging or is_product(base)


def _is_possible(asset: Mapping[str, Any]) -> bool:
    base = _base(asset)
    if is_product(base):
        return True
    if _roles(asset) & _OTHER_ROLES and not _roles(asset) & _DATA_ROLES:
        return False
    media_type = asset.get("type")
    return bool(
        base.lower().endswith(SUFFIXES + ARRAY_SUFFIXES) or archive_kind(base)
        or (isinstance(media_type, str) and media_type.lower().startswith(_MEDIA_TYPES))
    )  # fmt: skip


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {str(role).lower() for role in roles} if isinstance(roles, list) else set()


def _base(asset: Mapping[str, Any]) -> str:
    """Return the file name of an asset, "" if it has none."""
    href = asset.get("href")
    if not isinstance(href, str):
        return ""
    end = href.partition("?")[0] if "://" in href else href
    return posixpath.basename(end.replace("\\", "/").rstrip("/"))
