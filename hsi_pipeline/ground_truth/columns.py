"""Columns of vector labels: which one holds the class, and what its values mean."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.errors import InputError
from hsi_pipeline.ground_truth.checks import checked_codes
from hsi_pipeline.ground_truth.class_table import ClassTable
from hsi_pipeline.ground_truth.truth import MAX_CODE, TEST, TRAIN, VALIDATION

OBVIOUS_COLUMNS = ("class_id", "class", "code", "label", "classid", "class_code", "category")
"""Names of label columns that are found without being named, in any case."""

_PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


def obvious_column(path: str, columns: Sequence[str]) -> str:
    """Return the one column that is obviously the label.

    Raises:
        InputError: There is none, or more than one.
    """
    found = [column for column in columns if column.lower() in OBVIOUS_COLUMNS]
    if len(found) != 1:
        raise InputError(
            f"{path}: which column holds the class? name it with --label-column; "
            f"there are {', '.join(columns) or 'none'}"
        )
    return found[0]


def check_column(path: str, column: str, columns: Sequence[str]) -> None:
    """Check that a column is there.

    Raises:
        InputError: It is not; suggests the one with the nearest name.
    """
    if column in columns:
        return
    lower = {name.lower(): name for name in columns}
    near = difflib.get_close_matches(column.lower(), lower, n=1)
    raise InputError(
        f"{path}: there is no column {column!r}"
        + (f", did you mean {lower[near[0]]!r}" if near else "")
        + f"; the columns are {', '.join(columns) or 'none'}"
    )


def codes_of_column(
    path: str, values: pd.Series, table: ClassTable
) -> tuple[np.ndarray, dict[int, str]]:
    """Read the column that holds the class.

    Args:
        path: The label file.
        values: Class codes, or class names; the class table codes names, else sorted order does.
        table: Class table.

    Returns:
        Class code (feature,) uint8, 0 without, and the names by code that the column gives.

    Raises:
        InputError: The values are neither, or too many, or not in the class table.
    """
    column = values.name
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return checked_codes(values.to_numpy(), f"{path}: column {column!r}"), {}
    if not all(isinstance(value, str) for value in values.dropna()):
        raise InputError(
            f"{path}: column {column!r} holds {values.dtype} values; "
            "classes are whole numbers or names"
        )
    texts = _texts(values)
    found = sorted(set(texts) - {""})
    if len(found) > MAX_CODE:
        raise InputError(
            f"{path}: column {column!r} has {len(found)} different names, {MAX_CODE} classes "
            "are the most; choose another with --label-column"
        )
    code_of = {name: code for code, name in table.names.items()}
    if not code_of:
        code_of = {name: code for code, name in enumerate(found, start=1)}
    unknown = [name for name in found if name not in code_of]
    if unknown:
        raise InputError(
            f"{path}: class {unknown[0]!r} of column {column!r} is not in the class table, "
            f"which has {', '.join(code_of)}"
        )
    codes = np.array([code_of.get(text, UNLABELLED) for text in texts], dtype=np.uint8)
    return codes, {code_of[name]: name for name in found}


def names_of_codes(path: str, codes: np.ndarray, values: pd.Series) -> dict[int, str]:
    """Return the one name of each code; codes without a name are left out.

    Raises:
        InputError: A code has two names.
    """
    names: dict[int, str] = {}
    for code, name in zip(codes.tolist(), _texts(values), strict=True):
        if code == UNLABELLED or not name:
            continue
        if names.setdefault(code, name) != name:
            raise InputError(
                f"{path}: class {code} has two names in column {values.name!r}, "
                f"{names[code]!r} and {name!r}; make them one"
            )
    return names


def parts_of_column(path: str, values: pd.Series) -> np.ndarray:
    """Return the part (train, validation, test) of each feature, (feature,) uint8, 0 where null.

    Raises:
        InputError: A value is none of the three.
    """
    texts = _texts(values)
    unknown = sorted({text for text in texts if text and text.lower() not in _PARTS})
    if unknown:
        raise InputError(
            f"{path}: split column {values.name!r} holds {', '.join(map(repr, unknown[:5]))}; "
            "expected train, validation or test"
        )
    return np.array([_PARTS.get(text.lower(), 0) for text in texts], dtype=np.uint8)


def _texts(values: pd.Series) -> list[str]:
    """Return a column as text without outer blanks, "" for null."""
    return ["" if pd.isna(value) else str(value).strip() for value in values]
