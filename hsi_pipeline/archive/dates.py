"""Dates as users and catalogs write them -> spans of time, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hsi_pipeline.errors import InputError

_YEAR = re.compile(r"\d{4}")
_MONTH = re.compile(r"\d{4}-\d{2}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*", re.IGNORECASE)
_TICK = timedelta(microseconds=1)


def span(text: str) -> tuple[datetime, datetime]:
    """Return first and last microsecond of a year, month, day or moment.

    Raises:
        ValueError: The text is none of these.
    """
    if _YEAR.fullmatch(text):
        begin = datetime(int(text), 1, 1, tzinfo=UTC)
        return begin, datetime(int(text), 12, 31, 23, 59, 59, 999_999, UTC)
    if _MONTH.fullmatch(text):
        begin = datetime(int(text[:4]), int(text[5:]), 1, tzinfo=UTC)
        return begin, (begin.replace(day=28) + timedelta(days=4)).replace(day=1) - _TICK
    if _DAY.fullmatch(text):
        begin = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return begin, begin + timedelta(days=1) - _TICK
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"{text!r} is no date")
    moment = datetime.fromisoformat(text.upper())
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment, moment


def interval(text: str) -> tuple[datetime | None, datetime | None]:
    """Return begin and end that a user means, both inclusive; None where it is open.

    Args:
        text: A year, month, day or moment, or two of them with "/" between, of which ".." is open.

    Raises:
        InputError: It is none of these, or ends before it begins.
    """
    ends = [part.strip() for part in text.split("/")]
    try:
        if len(ends) == 1:
            return span(ends[0])
        first, last = ends
        begin = None if first in ("", "..") else span(first)[0]
        end = None if last in ("", "..") else span(last)[1]
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"dates are {text!r}, which cannot be understood; give a day, month or year such as "
            '"2024-05", or two of them such as "2024-05-01/2024-09-30" or "2024-05/.."'
        ) from error
    if begin is not None and end is not None and begin > end:
        raise InputError(f"dates are {text!r}, which end before they begin; exchange the two")
    return begin, end


def in_utc(text: object) -> str | None:
    """Return a date of a catalog as ISO 8601 in UTC, None if it is no date."""
    if not isinstance(text, str):
        return None
    try:
        begin, end = span(text.strip())
    except (ValueError, OverflowError):
        return None
    if begin != end:  # a whole day, month or year, which stays as it is
        return text.strip()
    return begin.isoformat().replace("+00:00", "Z")
