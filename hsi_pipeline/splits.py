"""Splits: labelled pixels -> training and validation pixels that lie apart.

Neighbouring pixels look alike, and a network sees the surroundings of each pixel: pixels drawn
at random for validation would mostly test memory. Whole polygons therefore go to one side, sides
are made of blocks of the scene, and training pixels near validation pixels are dropped.

The scene is cut into square blocks, from coarse to fine and at random offsets. In each trial
blocks join the validation side, in random order or by distance from a random block, as long as
that brings the classes nearer to their share. The trial wins that best weighs a wide guard
against shares that are off and pixels that are dropped.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_cdt
from scipy.spatial import KDTree

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.errors import InputError

MIN_TRAIN = 5
"""Fewest training pixels of a class."""
MIN_VALIDATION = 3
"""Fewest validation pixels of a class."""
MIN_KEPT = 0.5
"""Share of a class's pixels outside validation that the guard must leave for training."""

_BLOCKS = (2, 3, 4, 5, 6, 8, 10)  # along the longer side of what is labelled
_RANDOM_TRIALS, _COMPACT_TRIALS = 4, 16  # per block size
_FINALISTS = 3
_SAMPLE = 20_000  # pixels; more than this are judged by a sample, finalists by all
_TRAIN_CODE, _VALIDATION_CODE = 1, 2  # as in GroundTruth.splits


@dataclass(frozen=True)
class SplitCount:
    """How a class was split, in pixels."""

    code: int
    """Class code."""
    train: int
    """Pixels for training."""
    validation: int
    """Pixels for validation."""
    dropped: int
    """Labelled pixels on neither side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Labelled pixels for training and for validation."""

    train: np.ndarray
    """(y, x) bool."""
    validation: np.ndarray
    """(y, x) bool, nowhere true together with `train`."""
    guard_px: int
    """The distance that holds: the smallest Chebyshev distance, max(|rows|, |columns|) between
    pixel centres in pixels, from any training to any validation pixel; 1 means that some touch."""
    guard_wanted: int
    """The distance that was asked for; `guard_px` is smaller where labels would not have lasted."""
    counts: tuple[SplitCount, ...]
    """One row per class."""
    cut: tuple[int, ...]
    """Codes of the classes whose polygons had to be cut, for want of polygons to share out."""

    @property
    def dropped(self) -> int:
        """Labelled pixels on neither side."""
        return sum(count.dropped for count in self.counts)


@dataclass(frozen=True, eq=False)
class _Pixels:
    """The labelled pixels as a table, one row each."""

    place: np.ndarray  # (pixel, 2) row and column
    kind: np.ndarray  # (pixel,) index of the class
    sizes: np.ndarray  # (class,) pixels
    group: np.ndarray  # (pixel,) pixels of one group stay together: a polygon, or one pixel
    center: np.ndarray  # (group, 2) mean place
    sample: np.ndarray  # rows that stand for all


def split_labels(
    labels: np.ndarray,
    units: np.ndarray,
    *,
    validation_share: float = 0.2,
    guard: int,
    seed: int,
    names: Mapping[int, str] | None = None,
) -> Split:
    """Split labelled pixels into training and validation pixels that lie apart.

    Polygons stay whole, except those of a class that has too few of them (usually one); pixels
    without polygon are cut by blocks. The guard is reduced as far as needed for every class to
    keep `MIN_TRAIN` pixels and `MIN_KEPT` of its pixels outside validation.

    Args:
        labels: Class codes (y, x), 0 unlabelled.
        units: Id of the polygon of each pixel (y, x), 0 where there is none.
        validation_share: Wanted share of validation pixels in every class, between 0 and 1.
        guard: Wanted distance between the sides in pixels: training pixels nearer than this to a
            validation pixel are dropped.
        seed: The same seed gives the same split.
        names: Class names by code, for messages.

    Returns:
        The split, every class on both sides.

    Raises:
        InputError: A class has too few pixels, or an argument is out of range.
    """
    if not 0 < validation_share < 1:
        raise InputError(f"the validation share is {validation_share}; it lies between 0 and 1")
    if guard < 0:
        raise InputError(f"the guard is {guard} pixels; it cannot be negative")
    _check_sizes(labels, names or {})
    rng = np.random.default_rng(seed)
    codes = np.unique(labels[labels != UNLABELLED])
    for cut in (_inseparable(labels, units, codes), codes):
        pixels = _tabulate(labels, units, codes, cut, rng)
        validation = _choose(pixels, guard, validation_share, rng)
        if validation is not None:
            break
    assert validation is not None  # whole polygons may fit no trial; pixels always do
    train, _ = _train_side(pixels, validation, guard, np.arange(len(pixels.kind)))
    return make_split(
        labels,
        _raster(labels, pixels, train),
        _raster(labels, pixels, validation),
        guard,
        tuple(int(c) for c in cut if (units[labels == c] > 0).any()),
    )


def split_from_column(labels: np.ndarray, splits: np.ndarray, *, guard: int = 0) -> Split:
    """Take the split that the label file names, as it is.

    Args:
        labels: Class codes (y, x), 0 unlabelled.
        splits: (y, x) 1 train, 2 validation; pixels of other parts are on neither side.
        guard: Wanted distance, recorded but not enforced.

    Returns:
        The split with the distance that holds; a class may be missing on a side.

    Raises:
        InputError: There is no training or no validation pixel.
    """
    train = (splits == _TRAIN_CODE) & (labels != UNLABELLED)
    validation = (splits == _VALIDATION_CODE) & (labels != UNLABELLED)
    for side, name in ((train, "train"), (validation, "validation")):
        if not side.any():
            raise InputError(
                f"the split column marks no labelled pixel of the scene as {name}; mark some, or "
                "leave out --split-column to have the pixels split"
            )
    return make_split(labels, train, validation, guard)


def make_split(
    labels: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    guard: int,
    cut: tuple[int, ...] = (),
) -> Split:
    """Count the sides and measure how far they lie apart.

    Args:
        labels: Class codes (y, x), 0 unlabelled.
        train: Pixels to learn from, bool (y, x), some.
        validation: Pixels to score, bool (y, x), some.
        guard: Wanted distance in pixels.
        cut: Codes of classes whose polygons were cut.

    Returns:
        The split.
    """
    total, trained, validated = (
        np.bincount(labels[side], minlength=256)
        for side in (labels != UNLABELLED, train, validation)
    )
    apart = total - trained - validated
    return Split(
        train=train,
        validation=validation,
        guard_px=int(distance_transform_cdt(~validation, "chessboard")[train].min()),
        guard_wanted=guard,
        counts=tuple(
            SplitCount(c, int(trained[c]), int(validated[c]), int(apart[c]))
            for c in np.flatnonzero(total).tolist()
        ),
        cut=cut,
    )


def _check_sizes(labels: np.ndarray, names: Mapping[int, str]) -> None:
    """Refuse classes with fewer pixels than both sides need."""
    pixels = np.bincount(labels[labels != UNLABELLED], minlength=1)
    if not pixels.any():
        raise InputError("there are no labelled pixels to split")
    few = [int(c) for c in np.flatnonzero(pixels) if pixels[c] < MIN_TRAIN + MIN_VALIDATION]
    if few:
        listed = ", ".join(f"{names.get(c, f'class {c}')!r} has {pixels[c]}" for c in few)
        raise InputError(
            f"too few labelled pixels to split: {listed}, a class needs "
            f"{MIN_TRAIN + MIN_VALIDATION}; add polygons, mend a misspelt name, leave the class "
            "out (--where), or name the split with --split-column"
        )


def _inseparable(labels: np.ndarray, units: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the classes whose whole polygons cannot give both sides their fewest pixels."""
    found = []
    for code in codes:
        mine = units[labels == code]
        sizes = np.unique(mine[mine > 0], return_counts=True)[1].tolist()
        sizes += [1] * min(int((mine == 0).sum()), MIN_TRAIN + MIN_VALIDATION)
        fitting = (1 << (mine.size - MIN_TRAIN - MIN_VALIDATION + 1)) - 1
        sums = 1  # bit n is set if some of the polygons have n pixels together
        for size in sorted(sizes):
            sums |= sums << size
            if sums >> MIN_VALIDATION & fitting:
                break
        else:
            found.append(code)
    return np.array(found, dtype=codes.dtype)


def _tabulate(
    labels: np.ndarray,
    units: np.ndarray,
    codes: np.ndarray,
    cut: np.ndarray,
    rng: np.random.Generator,
) -> _Pixels:
    """Return the labelled pixels as a table, the polygons of some classes cut to pixels.

    At most about `_SAMPLE` of the pixels are the sample.
    """
    rows, columns = np.nonzero(labels)
    place = np.column_stack([rows, columns])
    kind = np.searchsorted(codes, labels[rows, columns])
    unit = units[rows, columns].astype(np.int64)
    single = (unit == 0) | np.isin(codes[kind], cut)
    unit[single] = unit.max() + 1 + np.arange(single.sum())
    group = np.unique(unit, return_inverse=True)[1]
    members = np.bincount(group)
    center = np.column_stack([np.bincount(group, weights=p) / members for p in place.T])
    shuffled = rng.permutation(len(kind))
    per_class = max(_SAMPLE // len(codes), 1)
    sample = np.concatenate([shuffled[kind[shuffled] == k][:per_class] for k in range(len(codes))])
    return _Pixels(place, kind, np.bincount(kind), group, center, sample)


def _choose(
    pixels: _Pixels, guard: int, share: float, rng: np.random.Generator
) -> np.ndarray | None:
    """Return the best validation side (pixel,) bool, None if no trial fits."""
    rows = np.arange(len(pixels.kind))
    finalists = heapq.nlargest(
        _FINALISTS,
        _arrange(pixels, share, rng),
        key=lambda side: _score(pixels, side, guard, share, pixels.sample),
    )
    return max(finalists, key=lambda side: _score(pixels, side, guard, share, rows), default=None)


def _arrange(pixels: _Pixels, share: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield validation sides, (pixel,) bool each, with enough pixels of all classes on both."""
    low, high = pixels.place.min(axis=0), pixels.place.max(axis=0) + 1
    for blocks in _BLOCKS:
        side = max(int((high - low).max()) / blocks, 1.0)
        for trial in range(_RANDOM_TRIALS + _COMPACT_TRIALS):
            cell = ((pixels.center - low + rng.uniform(0, side, size=2)) // side).astype(int)
            columns = int(cell[:, 1].max()) + 1
            block = cell[:, 0] * columns + cell[:, 1]
            filled = np.flatnonzero(np.bincount(block))
            order = rng.permutation(filled)
            if trial >= _RANDOM_TRIALS:
                row, column = np.divmod(order, columns)
                away = np.maximum(np.abs(row - row[0]), np.abs(column - column[0]))
                order = order[np.argsort(away, kind="stable")]
            chosen = _grow(pixels, block[pixels.group], order, share)
            validation = _mend(pixels, chosen[block][pixels.group], share)
            counts = np.bincount(pixels.kind[validation], minlength=len(pixels.sizes))
            if (counts >= MIN_VALIDATION).all() and (pixels.sizes - counts >= MIN_TRAIN).all():
                yield validation


def _grow(pixels: _Pixels, block: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """Choose validation blocks, (block,) bool, in an order, each if it helps the shares."""
    classes = len(pixels.sizes)
    blocks = int(order.max()) + 1
    counts = np.bincount(block * classes + pixels.kind, minlength=blocks * classes)
    shares = counts.reshape(blocks, classes) / pixels.sizes
    chosen = np.zeros(blocks, dtype=bool)
    held = np.zeros(classes)
    error = np.abs(held - share).sum()
    for index in order:
        grown = np.abs(held + shares[index] - share).sum()
        if grown < error:
            chosen[index], error, held = True, grown, held + shares[index]
    return chosen


def _mend(pixels: _Pixels, validation: np.ndarray, share: float) -> np.ndarray:
    """Give classes with less than half their share more groups, from one end of them.

    A class that lies in one block alone is never chosen by blocks. A class with too little left
    for training starts again from nothing.
    """
    for kind, size in enumerate(pixels.sizes):
        mine = pixels.kind == kind
        held = int(validation[mine].sum())
        wanted = min(max(share * size, MIN_VALIDATION), size - MIN_TRAIN)
        if size - held < MIN_TRAIN:
            leaves = np.zeros(len(pixels.center), dtype=bool)
            leaves[pixels.group[mine]] = True
            validation, held = validation & ~leaves[pixels.group], 0
        if held >= wanted / 2 and held >= MIN_VALIDATION:
            continue
        groups, members = np.unique(pixels.group[mine & ~validation], return_counts=True)
        center = pixels.center[groups]
        axis = int(np.ptp(center, axis=0).argmax())
        toward = pixels.center[pixels.group[validation], axis].mean() if validation.any() else 0
        flip = -1 if toward > center[:, axis].mean() else 1
        taken = np.zeros(len(pixels.center), dtype=bool)
        for i in np.argsort(flip * center[:, axis], kind="stable"):
            grown = held + members[i]
            nearer = abs(grown - wanted) < abs(held - wanted) or held < MIN_VALIDATION
            if nearer and grown <= size - MIN_TRAIN:
                taken[groups[i]], held = True, grown
            if held >= wanted:
                break
        validation = validation | taken[pixels.group]
    return validation


def _score(
    pixels: _Pixels, validation: np.ndarray, guard: int, share: float, rows: np.ndarray
) -> float:
    """Judge a validation side by some of the pixels; higher is better.

    A tenth of the wanted guard weighs as much as shares that are off by a tenth (root mean
    square), and as all of the pixels dropped.
    """
    train, kept = _train_side(pixels, validation, guard, rows)
    shares = np.bincount(pixels.kind[validation], minlength=len(pixels.sizes)) / pixels.sizes
    off = float(np.sqrt(np.mean((shares - share) ** 2))) / share
    dropped = float(np.mean(~validation[rows] & ~train))
    return kept / max(guard, 1) - off - dropped / 10


def _train_side(
    pixels: _Pixels, validation: np.ndarray, guard: int, rows: np.ndarray
) -> tuple[np.ndarray, int]:
    """Find the widest guard up to the wanted one that leaves every class its training pixels.

    With n pixels to keep, that is the n-th largest distance of the class's pixels outside
    validation.

    Returns:
        The training side (row,) bool of the given rows, and its guard.
    """
    outside = ~validation
    tree = KDTree(pixels.place[rows[validation[rows]]])
    # Chebyshev distance, inf beyond the guard
    distance, _ = tree.query(pixels.place[rows], p=np.inf, distance_upper_bound=guard + 0.5)
    for kind in range(len(pixels.sizes)):
        far = np.sort(distance[(pixels.kind[rows] == kind) & outside[rows]])[::-1]
        # In a sample, the same share of the class's pixels is to be kept as in all of them.
        keep = max(MIN_KEPT, MIN_TRAIN / (outside & (pixels.kind == kind)).sum()) * len(far)
        if len(far):
            guard = int(min(guard, far[max(int(np.ceil(keep)), 1) - 1]))
    return outside[rows] & (distance >= guard), guard


def _raster(labels: np.ndarray, pixels: _Pixels, side: np.ndarray) -> np.ndarray:
    """Return a side as (y, x) bool."""
    raster = np.zeros(labels.shape, dtype=bool)
    raster[tuple(pixels.place[side].T)] = True
    return raster
