"""The official schemas of STAC items, kept here so that a check needs no network.

The path of a schema is its address on the web; README.md says where the copies come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

from hsi_pipeline.errors import InputError

_ITEM = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
_CLASSES = "https://stac-extensions.github.io/classification/v{}/schema.json"


def validate_item(item: Mapping[str, Any]) -> None:
    """Check a STAC item against the core schema and those of the extensions that it names.

    Args:
        item: The item, as it will stand in a file.

    Raises:
        InputError: It is not valid, or names an extension whose schema is not kept here.
    """
    name = f"STAC item {item.get('id')}"
    try:
        written = json.loads(json.dumps(item, allow_nan=False))  # a tuple is a list there
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be written as JSON ({error})") from error
    extensions = written.get("stac_extensions", [])
    for address in (_ITEM, *extensions):
        if address not in _schemas():
            raise InputError(
                f"{name}: there is no copy of the schema {address}; use one of "
                f"{', '.join(sorted(known for known in _schemas() if 'extensions' in known))}"
            )
        validator = Draft7Validator({"$ref": address}, registry=_registry())
        worst = best_match(validator.iter_errors(written))
        if worst is not None:
            raise InputError(
                f"{name} is not valid by {address}: {worst.json_path}: {worst.message[:200]}"
            )


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by address."""
    here = Path(__file__).parent
    found = {
        f"https://{file.relative_to(here).as_posix()}": json.loads(file.read_text(encoding="utf-8"))
        for file in here.rglob("*.json")
    }
    # mlm 1.4.0 refers to classification 1.1.0, whose classes are those of 2.0.0 but for two things:
    # they need a description, and no name. 2.0.0 stands in for it, with the description needed too.
    stand_in = deepcopy(found[_CLASSES.format("2.0.0")])
    stand_in["definitions"]["class_object"]["required"].append("description")
    stand_in["$id"] = _CLASSES.format("1.1.0")
    return found | {stand_in["$id"]: stand_in}


@cache
def _registry() -> Registry:
    """Return what references resolve to: the schemas kept here and nothing else."""
    resources = [(name, Resource.from_contents(schema)) for name, schema in _schemas().items()]
    return Registry().with_resources(resources)
