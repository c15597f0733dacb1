"""Class tables: CSV or YAML files that give class codes their names and colours."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from hsi_pipeline.classes import UNLABELLED, Category
from hsi_pipeline.errors import InputError


@dataclass(frozen=True)
class ClassTable:
    """Names and colours by class code; a code may lack either."""

    names: Mapping[int, str] = field(default_factory=dict)
    """Names by code."""
    colors: Mapping[int, str] = field(default_factory=dict)
    """`#rrggbb` by code, lower case."""


def read_class_table(path: str | PathLike[str]) -> ClassTable:
    """Read names and colours by code from CSV (header code, name, color) or YAML (a list).

    Raises:
        InputError: The file cannot be read, a row has no code, a code or name is there twice, or
            a colour is malformed.
    """
    names: dict[int, str] = {}
    colors: dict[int, str] = {}
    for row in _read_rows(path):
        cells = {
            str(key).strip().lower(): "" if cell is None else str(cell).strip()
            for key, cell in row.items()
        }
        if not cells.get("code", "").isdecimal():
            raise InputError(
                f"{path}: expected a whole number as code in each row, found {row}; "
                "the columns are code, name, color"
            )
        code, name = int(cells["code"]), cells.get("name", "")
        color = cells.get("color", "").lower()
        if code == UNLABELLED:
            continue
        if code in names or (name and name in names.values()):
            raise InputError(f"{path}: class {code} {name!r} is there twice")
        try:
            Category(code, name or "unnamed", color or "#000000")
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        names[code], colors[code] = name, color
    return ClassTable(
        {code: name for code, name in names.items() if name},
        {code: color for code, color in colors.items() if color},
    )


def _read_rows(path: str | PathLike[str]) -> list[dict[Any, Any]]:
    """Return the rows of a class table, at least one."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if Path(path).suffix.lower() in (".yaml", ".yml"):
            rows = yaml.safe_load(text)
        else:
            delimiter = ";" if ";" in text.partition("\n")[0] else ","
            rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, csv.Error) as error:
        raise InputError(f"{path}: the class table cannot be read ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise InputError(f"{path}: expected a list of classes with code, name and color")
    return rows
