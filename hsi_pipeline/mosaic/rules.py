"""Which of several class maps decides, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.gather import ChunkSources, gather


def join_chunk(
    chunk: ChunkSources, *, grid: GeoBox, rule: str, with_confidence: bool
) -> np.ndarray:
    """Join a chunk; returns its classes and, if asked, confidences as float32 (plane, y, x)."""
    shape = (chunk.rows.stop - chunk.rows.start, chunk.columns.stop - chunk.columns.start)
    join = {"confident": _most_confident, "newest": _newest, "majority": _majority}[rule]
    codes, confidence = join(_Readings(chunk, grid, with_confidence=with_confidence), shape)
    if not with_confidence:
        return codes[None].astype(np.float32)
    return np.stack([codes.astype(np.float32), confidence])


class _Readings:
    """What the maps of a chunk say of it, one after another, the newest first."""

    def __init__(self, chunk: ChunkSources, grid: GeoBox, *, with_confidence: bool) -> None:
        self.chunk, self.grid, self.with_confidence = chunk, grid, with_confidence

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read them; yields the age of the map, classes and confidences, NaN where unknown."""
        yield from self.until(lambda _: False)

    def until(self, enough: Any) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Read them until enough is known to skip the maps of an age and older ones."""
        for source in self.chunk.sources:
            if enough(source.age):
                return
            found = gather(
                source.layers, self.grid, self.chunk.rows, self.chunk.columns,
                confidence=self.with_confidence,
            )  # fmt: skip
            if found is not None:
                codes, confidence = found
                if confidence is None:
                    confidence = np.full(codes.shape, np.nan, np.float32)
                yield source.age, codes, confidence


def _most_confident(readings: _Readings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the class of the map that is the most confident; of equal ones of the first."""
    best, confidence = np.zeros(shape, np.uint8), np.full(shape, np.nan, np.float32)
    highest = np.full(shape, -np.inf, np.float32)
    for _, codes, values in readings:
        sure = np.where(np.isnan(values), np.float32(-1), values)
        better = (codes != UNLABELLED) & (sure > highest)
        best[better], confidence[better], highest[better] = (
            codes[better], values[better], sure[better],
        )  # fmt: skip
    return best, confidence


def _newest(readings: _Readings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the class of the newest map; of those of one time that of the most confident."""
    best, confidence = np.zeros(shape, np.uint8), np.full(shape, np.nan, np.float32)
    highest = np.full(shape, -np.inf, np.float32)
    chosen = np.full(shape, np.iinfo(np.int64).max)
    for age, codes, values in readings.until(lambda age: bool((chosen < age).all())):
        sure = np.where(np.isnan(values), np.float32(-1), values)
        better = (codes != UNLABELLED) & (
            (best == UNLABELLED) | ((chosen == age) & (sure > highest))
        )
        best[better], confidence[better], highest[better] = (
            codes[better], values[better], sure[better],
        )  # fmt: skip
        chosen[better] = age
    return best, confidence


def _majority(readings: _Readings, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Take the class that most maps have; see `mosaic` for ties."""
    tallies: dict[int, _Tally] = {}
    for age, codes, values in readings:
        sure = np.nan_to_num(values, nan=0.0)
        for code in np.flatnonzero(np.bincount(codes.ravel())).tolist():
            if code != UNLABELLED:
                tallies.setdefault(code, _Tally.none(shape)).add(codes == code, sure, age)
    best, winner = np.zeros(shape, np.uint8), _Tally.none(shape)
    for code in sorted(tallies):
        better = tallies[code].beats(winner)
        best[better] = code
        winner.take(tallies[code], better)
    with np.errstate(invalid="ignore"):
        mean = (winner.confidence / winner.votes).astype(np.float32)
    return best, np.where(best == UNLABELLED, np.float32(np.nan), mean)


@dataclass(frozen=True)
class _Tally:
    """What a class has in each pixel."""

    votes: np.ndarray
    """Maps that have it."""
    confidence: np.ndarray
    """Their sum; 0 without confidences, so that it decides nothing."""
    age: np.ndarray
    """Of the newest of them."""

    @classmethod
    def none(cls, shape: tuple[int, int]) -> _Tally:
        return cls(
            np.zeros(shape, np.uint16),
            np.zeros(shape),
            np.full(shape, np.iinfo(np.int32).max, np.int32),
        )

    def add(self, where: np.ndarray, confidence: np.ndarray, age: int) -> None:
        """Count a map."""
        np.copyto(self.age, age, where=where & (self.votes == 0))  # the newest one comes first
        np.add(self.votes, 1, out=self.votes, where=where)
        np.add(self.confidence, confidence, out=self.confidence, where=where)

    def beats(self, other: _Tally) -> np.ndarray:
        """Tell where it has more than another, which has the lower code."""
        sums = self.confidence - other.confidence
        by_age = (sums == 0) & (self.age < other.age)
        more = self.votes > other.votes
        return more | ((self.votes == other.votes) & ((sums > 0) | by_age))

    def take(self, other: _Tally, where: np.ndarray) -> None:
        """Become another one in some pixels."""
        for own, others in (
            (self.votes, other.votes), (self.confidence, other.confidence), (self.age, other.age),
        ):  # fmt: skip
            np.copyto(own, others, where=where)
