"""STAC APIs: a server is asked for the items that are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import shapely
from pystac_client import Client, ItemSearch
from pystac_client.conformance import ConformanceClasses
from pystac_client.exceptions import APIError, ParametersError

from hsi_pipeline.archive.candidates import Candidate
from hsi_pipeline.archive.dates import interval
from hsi_pipeline.archive.documents import GuardedIO, unreadable
from hsi_pipeline.archive.guards import Guard
from hsi_pipeline.archive.items import scene_of_item
from hsi_pipeline.archive.selecting import Wanted
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene.files import one_line, shown

_PAGE = 250  # items; most servers take 1000 at most, some fewer
_MOST_CORNERS = 500  # of an area that is sent whole
_MOST_SAID = 200
_CLOUDS = "eo:cloud_cover"
_WRONG_METHOD = (404, 405, 501)
_SURPRISES = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Answer:
    """What a server has."""

    candidates: list[Candidate]
    notes: list[str]


def is_api(address: str, document: dict[str, Any]) -> bool:
    """Tell whether an address and its JSON are those of a STAC API."""
    return "conformsTo" in document or address.partition("?")[0].rstrip("/").endswith("/search")


def search_api(
    address: str,
    wanted: Wanted,
    guard: Guard,
    io: GuardedIO,
    progress: Callable[[int, int], None] | None = None,
) -> Answer:
    """Ask a STAC API for the items of a selection.

    Args:
        address: Of its root, or of its search.
        wanted: The selection. Whatever the server makes of it, it is applied here again.
        guard: Where assets may lead.
        io: Asks the server.
        progress: Called with the number of items received and of all, if the server says it.

    Raises:
        InputError: It cannot be reached, fails, or does not understand what is asked.
    """
    client = None if _is_search(address) else _open(address, io)
    question, notes = _question(address, client, wanted)
    places = _where(wanted)
    if len(places) == 1 and (limit := _limit(client, wanted, places[0])):
        question |= {"sortby": [{"field": "id", "direction": "asc"}], "max_items": limit}
        notes.append(f"{shown(address)} was asked for the first {limit} items by id")
    items: dict[tuple[str, str], Any] = {}
    listed = []
    for place in places:
        for item in _pages(address, client, io, question | place, progress):
            first = items.setdefault(_key(item), item)
            listed += [item] if first is item or first != item else []
    asset = wanted.selection.asset
    found = [scene_of_item(item, address, guard, asset=asset, is_own_file=False) for item in listed]
    return Answer(found, notes)


def _question(
    address: str, client: Client | None, wanted: Wanted
) -> tuple[dict[str, Any], list[str]]:
    """Return what to ask for beside the place, and lines to tell the user."""
    chosen = wanted.selection
    question: dict[str, Any] = {"limit": _PAGE, "collections": list(chosen.collections) or None}
    query, notes = dict(chosen.query), []
    has_query = client is None or client.conforms_to(ConformanceClasses.QUERY)
    if query and not has_query:
        raise InputError(
            f"{shown(address)} does not conform to the extension query; leave out `query`; areas, "
            "dates and clouds are understood without it"
        )
    if wrong := [key for key, value in query.items() if not isinstance(value, Mapping)]:
        raise InputError(
            f"query has {wrong[0]}: {query[wrong[0]]!r}; give operators and values, such as "
            '{"lt": 5}'
        )
    if _sends_clouds(client, wanted):
        query[_CLOUDS] = {"lte": chosen.max_cloud} | dict(query.get(_CLOUDS, {}))
        notes.append(
            f"{shown(address)} was asked for {_CLOUDS} of at most {chosen.max_cloud:g}; it leaves "
            "out items that do not say it"
        )
    if chosen.dates is not None and any(ends := interval(chosen.dates)):
        question["datetime"] = "/".join(
            ".." if end is None else end.isoformat().replace("+00:00", "Z") for end in ends
        )
    return question | {"query": query or None}, notes


def _sends_clouds(client: Client | None, wanted: Wanted) -> bool:
    """Tell whether the server is asked for clouds: it says that it understands it."""
    return wanted.selection.max_cloud is not None and client is not None and bool(
        client.conforms_to(ConformanceClasses.QUERY)
    )  # fmt: skip


def _limit(client: Client | None, wanted: Wanted, place: Mapping[str, Any]) -> int | None:
    """Return how many items suffice, None where all are needed to know the first by id."""
    chosen = wanted.selection
    is_sorted = client is not None and client.conforms_to(ConformanceClasses.SORT)
    is_exact = not wanted.area or ("intersects" in place and wanted.box is None)
    is_clear = chosen.max_cloud is None or _sends_clouds(client, wanted)
    is_chosen_there = is_exact and is_clear and not chosen.sensors
    return chosen.limit if is_sorted and is_chosen_there else None


def _is_search(address: str) -> bool:
    return address.partition("?")[0].rstrip("/").endswith("/search")


def _open(address: str, io: GuardedIO) -> Client:
    try:
        client = Client.open(address, stac_io=io)
    except APIError as error:
        raise unreadable(address, error) from error
    except Exception as error:  # pystac's own, of many kinds
        raise InputError(
            f"{shown(address)} is no STAC API that can be read ({one_line(error)[:_MOST_SAID]})"
        ) from error
    if not isinstance(client.extra_fields.get("conformsTo"), list):
        raise InputError(f"{shown(address)} is no STAC API: its `conformsTo` is no list")
    if not client.conforms_to(ConformanceClasses.ITEM_SEARCH) or client.get_search_link() is None:
        raise InputError(
            f"{shown(address)} has no search for items; give its address that ends in /search, or "
            "a static catalog"
        )
    return client


def _where(wanted: Wanted) -> list[dict[str, Any]]:
    """Return the places to ask for: all but one where a box goes over the antimeridian.

    A server takes a box or an area, not both; a large area is asked for by its box.
    """
    if wanted.area:
        whole = shapely.union_all(wanted.area)
        is_area = whole.geom_type in ("Polygon", "MultiPolygon")
        if is_area and shapely.get_num_coordinates(whole) <= _MOST_CORNERS:
            return [{"intersects": shapely.geometry.mapping(whole)}]
        return [{"bbox": list(whole.bounds)}]
    if wanted.box is not None:
        return [{"bbox": list(part.bounds)} for part in shapely.get_parts(wanted.box)]
    return [{}]


def _key(item: Any) -> tuple[str, str]:
    if not isinstance(item, dict):
        return "", repr(item)
    return str(item.get("collection")), str(item.get("id"))


def _pages(
    address: str,
    client: Client | None,
    io: GuardedIO,
    question: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Any]:
    """Give the items of all pages; a server that takes no POST is asked by GET."""
    methods = _methods(client)
    seen: set[tuple[str, str]] = set()
    for last, method in ((method == methods[-1], method) for method in methods):
        try:
            url = address if client is None else client._search_href()
            search = ItemSearch(url, stac_io=io, client=client, method=method, **question)
            for page in search.pages_as_dicts():
                keys = {_key(item) for item in page["features"]}
                if keys <= seen:
                    raise InputError(f"{shown(address)} gives the same page again and again")
                seen |= keys
                yield from page["features"]
                if progress is not None:
                    matched = page.get("numberMatched") or page.get("numMatched")
                    progress(len(seen), matched if isinstance(matched, int) else len(seen))
            return
        except APIError as error:
            if not last and not seen and getattr(error, "status_code", None) in _WRONG_METHOD:
                continue
            raise unreadable(address, error) from error
        except InputError:
            raise
        except ParametersError as error:
            raise InputError(f"{shown(address)} cannot be asked so ({one_line(error)})") from error
        except _SURPRISES as error:
            raise InputError(
                f"{shown(address)} was asked for items and answered with something else "
                f"({type(error).__name__}: {one_line(error)[:_MOST_SAID]})"
            ) from error


def _methods(client: Client | None) -> list[str]:
    """Return the methods to ask by, that which the server advertises first."""
    if client is None:
        return ["POST", "GET"]
    links = client.get_links("search")
    methods = {str(link.extra_fields.get("method") or "GET").upper() for link in links}
    return [method for method in ("POST", "GET") if method in methods] or ["GET"]
