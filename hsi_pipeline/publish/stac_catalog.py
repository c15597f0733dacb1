"""The catalogs of an archive, static and self-contained with relative links, and its index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio
from shapely.geometry import shape
from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

JSON = "application/json"
INDEX = "items.parquet"
FOOTPRINTS = "footprints.gpkg"
_ROWS = 1024
ITEM_LINKS = (
    {"rel": "root", "href": "../../catalog.json", "type": JSON},
    {"rel": "parent", "href": "../catalog.json", "type": JSON},
)
"""Of an item two folders below the root of its archive."""


def month_of(item: Mapping[str, Any]) -> str:
    """Return the folder of an item: the month of its scene, or "undated"."""
    moment = item["properties"].get("datetime")
    return str(moment)[:7] if moment else "undated"


def root_catalog(title: str, months: Iterable[str], facts: Mapping[str, Any]) -> bytes:
    """Return the catalog of an archive.

    Args:
        title: For people.
        months: Folders of the catalogs below.
        facts: Further fields, such as what all items have in common.
    """
    links = [
        {"rel": "root", "href": "./catalog.json", "type": JSON},
        {"rel": "items", "href": f"./{INDEX}", "type": "application/vnd.apache.parquet",
         "title": "GeoParquet of all items"},
        {"rel": "items", "href": f"./{FOOTPRINTS}", "type": "application/geopackage+sqlite3",
         "title": "where the maps are"},
        *(
            {"rel": "child", "href": f"./{month}/catalog.json", "type": JSON, "title": month}
            for month in sorted(months)
        ),
    ]  # fmt: skip
    return _catalog("land-cover", title, links, facts)


def month_catalog(month: str, items: Mapping[str, str]) -> bytes:
    """Return the catalog of a month.

    Args:
        month: Its folder.
        items: Title of each item by identifier.
    """
    links = [
        {"rel": "root", "href": "../catalog.json", "type": JSON},
        {"rel": "parent", "href": "../catalog.json", "type": JSON},
        *(
            {"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json",
             "title": items[name]}
            for name in sorted(items)
        ),
    ]  # fmt: skip
    return _catalog(month, f"Land cover, scenes of {month}", links, {})


def write_index(path: Path, items: Iterable[tuple[Mapping[str, Any], str]]) -> None:
    """Write the GeoParquet of items (stac-geoparquet), some at a time, with hrefs from its folder.

    Args:
        path: Target.
        items: At least one, each with its folder in the archive.
    """
    moved = (_from_root(item, folder) for item, folder in items)
    to_parquet(parse_stac_items_to_arrow(moved, chunk_size=_ROWS), path)


def write_footprints(path: Path, items: Iterable[tuple[Mapping[str, Any], str]]) -> None:
    """Write a GeoPackage of where maps are, for QGIS, which has no GeoParquet everywhere.

    Args:
        path: Target.
        items: At least one, each with its folder in the archive.
    """
    for rows in batched(items, _ROWS):
        frame = gpd.GeoDataFrame(
            [_row(item, folder) for item, folder in rows],
            geometry=[shape(item["geometry"]) if item["geometry"] else None for item, _ in rows],
            crs="EPSG:4326",
        )
        pyogrio.write_dataframe(
            frame, path, layer="footprints", driver="GPKG", append=path.exists(),
            geometry_type="Unknown", dataset_options={"VERSION": "1.2"},
        )  # fmt: skip


def _row(item: Mapping[str, Any], folder: str) -> dict[str, Any]:
    facts, assets = item["properties"], _from_root(item, folder)["assets"]
    return {
        "id": item["id"],
        "title": facts.get("title"),
        "acquired": facts.get("datetime"),
        "map": assets["class"]["href"],
        "polygons": assets["landcover"]["href"] if "landcover" in assets else None,
    }


def _catalog(
    name: str, title: str, links: Sequence[Mapping[str, str]], facts: Mapping[str, Any]
) -> bytes:
    catalog = {
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": name,
        "title": title,
        "description": f"{title}, by hsi_pipeline",
        **facts,
        "links": list(links),
    }
    return (json.dumps(catalog, indent=2, ensure_ascii=False) + "\n").encode()


def _from_root(item: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return an item whose assets are named from the archive's root; the index lies there."""
    assets = {}
    for name, asset in item["assets"].items():
        href = str(asset["href"])
        if href.startswith("./"):
            href = f"./{folder}/{href[2:]}"
        elif href.startswith("../../"):
            href = f"./{href[6:]}"
        assets[name] = {**asset, "href": href}
    links = [
        {"rel": "self", "href": f"./{folder}/{item['id']}.json", "type": "application/geo+json"}
    ]
    return {**item, "assets": assets, "links": links}
