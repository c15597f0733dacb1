"""Pieces of regions -> regions, chunk after chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from affine import Affine

from hsi_pipeline.polygons.chunks import Pieces, Totals, assemble
from hsi_pipeline.polygons.outlines import Lines, part_ring
from hsi_pipeline.polygons.windows import Frontier


@dataclass
class _Region:
    """A region that is not complete."""

    code: int
    first: int
    links: int
    """Links of its pixels to pixels of chunks that are still to come."""
    sums: np.ndarray
    minimum: float
    members: list[int]
    rings: list[tuple[int, np.ndarray]] = field(default_factory=list)
    """Piece and vertices of whole rings."""
    chains: dict[int, tuple[int, np.ndarray, np.ndarray, int]] = field(default_factory=dict)
    """By their first side: piece, vertices, where it may touch itself, the side that follows."""

    def take(self, other: _Region) -> None:
        """Take in all of another region."""
        self.first = min(self.first, other.first)
        self.links += other.links
        self.sums += other.sums
        self.minimum = float(np.fmin(self.minimum, other.minimum))
        self.members += other.members
        self.rings += other.rings
        self.chains |= other.chains


class OpenRegions:
    """The regions that reach into chunks still to come. Chunks come row by row of chunks."""

    def __init__(self, width: int, connectivity: int, transform: Affine) -> None:
        """Begin with none, for a raster of so many columns."""
        self._transform = transform
        self._count = 0
        self._regions: dict[int, _Region] = {}  # by piece; a region stands under each of its own
        self._joined: dict[int, int] = {}  # piece -> another one that touches it by a side
        self._frontier = Frontier(width, connectivity)

    def __len__(self) -> int:
        """Return how many pieces of regions are held."""
        return len(self._regions)

    def add(self, pieces: Pieces, columns: slice) -> tuple[np.ndarray, Totals] | None:
        """Add the pieces of the next chunk; chunks come row by row.

        Returns:
            Polygons of the regions that are complete by that, and their totals; None if no one is.
        """
        numbers = self._enter(pieces)
        edges = {
            name: np.stack((numbers[of_pixels], codes))
            for name, (of_pixels, codes) in pieces.edges.items()
        }
        touched: set[int] = set()
        for own, others, way in self._frontier.meet(edges, columns):
            touched.update(self._join_along(own, others, by_side=way is not None))
        complete = {id(region): region for region in (self._regions[p] for p in touched)
                    if region.links == 0}  # fmt: skip
        return self._finish(list(complete.values())) if complete else None

    def _enter(self, pieces: Pieces) -> np.ndarray:
        """Make regions of pieces, or of groups of them; return the numbers of pieces."""
        count = len(pieces.links)
        numbers = np.zeros(count + 1, np.int64)
        numbers[1:] = np.arange(self._count + 1, self._count + 1 + count)
        self._count += count
        totals = pieces.totals
        for place, number in enumerate(map(int, numbers[1:])):
            self._joined[number] = number
            self._regions[number] = _Region(
                int(totals.codes[place]), int(totals.first[place]), int(pieces.links[place]),
                totals.sums[place].copy(), float(totals.minima[place]), [number],
            )  # fmt: skip
        rings, chains = pieces.outlines.rings, pieces.outlines.chains
        for ring, (start, stop) in enumerate(pairwise(rings.starts.tolist())):
            number = int(numbers[rings.labels[ring]])
            self._regions[number].rings.append((number, rings.vertices[start:stop].copy()))
        firsts = pieces.outlines.first.tolist()
        nexts = pieces.outlines.following.tolist()
        for chain, (start, stop) in enumerate(pairwise(chains.starts.tolist())):
            number = int(numbers[chains.labels[chain]])
            self._regions[number].chains[firsts[chain]] = (
                number, chains.vertices[start:stop].copy(),
                pieces.outlines.touches[start:stop].copy(), nexts[chain],
            )  # fmt: skip
        for other in np.flatnonzero(pieces.groups != np.arange(1, count + 1)):
            self._unite(int(numbers[other + 1]), int(numbers[pieces.groups[other]]))
        return numbers

    def _join_along(self, own: np.ndarray, other: np.ndarray, *, by_side: bool) -> Iterator[int]:
        """Join the pieces of pixels that face each other and have one code."""
        facing = (own[1] == other[1]) & (own[1] != 0)
        if not facing.any():
            return
        pairs = np.column_stack((own[0][facing], other[0][facing]))
        # runs, so that few pairs are left for Python
        begins = np.flatnonzero(np.append(True, (pairs[1:] != pairs[:-1]).any(axis=1)))
        lengths = np.diff(np.append(begins, len(pairs)))
        for (one, another), length in zip(pairs[begins].tolist(), lengths.tolist(), strict=True):
            if by_side:
                self._joined[self._side_root(one)] = self._side_root(another)
            self._unite(one, another)
            self._regions[one].links -= 2 * length  # each side has counted them
            yield one

    def _unite(self, one: int, another: int) -> None:
        larger, smaller = self._regions[one], self._regions[another]
        if larger is smaller:
            return
        if len(larger.members) + len(larger.chains) < len(smaller.members) + len(smaller.chains):
            larger, smaller = smaller, larger
        larger.take(smaller)
        for member in smaller.members:
            self._regions[member] = larger

    def _side_root(self, piece: int) -> int:
        while (above := self._joined[piece]) != piece:
            self._joined[piece] = self._joined[above]
            piece = above
        return piece

    def _finish(self, regions: list[_Region]) -> tuple[np.ndarray, Totals]:
        """Make polygons of regions that are complete, and forget them."""
        # of equal length for every order in which they were completed
        regions.sort(key=lambda region: region.first)
        vertices: list[np.ndarray] = []
        labels: list[int] = []
        number_of: dict[int, int] = {}  # parts of polygons, by the root of their pieces
        groups = [0]
        for region in regions:
            first = len(groups)
            rings = [*region.rings, *_link(region)]
            for piece, ring in rings:
                root = self._side_root(piece)
                if root not in number_of:
                    number_of[root] = len(groups)
                    groups.append(first)
                vertices.append(ring)
                labels.append(number_of[root])
        starts = np.cumsum([0, *map(len, vertices)])
        lines = Lines(np.concatenate(vertices), starts, np.array(labels))
        geometry, _ = assemble(lines, np.arange(1, len(groups)), np.array(groups), self._transform)
        for region in regions:
            for member in region.members:
                del self._regions[member], self._joined[member]
        totals = Totals(
            np.array([region.code for region in regions], np.uint8),
            np.array([region.first for region in regions]),
            np.array([region.sums for region in regions]),
            np.array([region.minimum for region in regions], np.float32),
        )
        return geometry, totals


def _link(region: _Region) -> Iterator[tuple[int, np.ndarray]]:
    """Link the chains of a complete region to rings."""
    while region.chains:
        first, (piece, vertices, touches, following) = region.chains.popitem()
        parts = [(vertices, touches)]
        while following != first:
            _, vertices, touches, following = region.chains.pop(following)
            parts.append((vertices, touches))
        ring, may_touch = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        for part in part_ring(ring, may_touch):
            yield piece, part
