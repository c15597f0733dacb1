"""Spatial folds for cross-validation: labelled pixels -> parts that lie apart.

Polygons stay whole and neighbouring ones stay together: the scene is cut into square blocks, from
coarse to fine and at random offsets, and blocks are dealt to the folds so that every fold gets
its share of every class, as far as the blocks allow. Training pixels near a fold's own pixels are
dropped, since a network sees the surroundings of each pixel.

Source of the reasons: Roberts et al., Cross-validation strategies for data with temporal, spatial,
hierarchical, or phylogenetic structure, Ecography 40:913-929, 2017, doi 10.1111/ecog.02881.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import distance_transform_cdt

from hsi_pipeline.classes import UNLABELLED
from hsi_pipeline.errors import InputError
from hsi_pipeline.splits import MIN_KEPT, MIN_TRAIN, Split, make_split

_BLOCKS = (3, 4, 5, 6, 8, 10, 12, 16)  # along the longer side of what is labelled
_TRIALS = 12  # per block size
_FINALISTS = 5


def spatial_folds(
    labels: np.ndarray,
    units: np.ndarray,
    *,
    folds: int = 5,
    guard: int = 0,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Split labelled pixels into folds; in each split one fold is the validation side.

    The guard is reduced as far as needed for every class to keep `splits.MIN_TRAIN` pixels and
    `splits.MIN_KEPT` of its pixels outside the fold.

    Args:
        labels: Class codes (y, x), 0 unlabelled.
        units: Id of the polygon of each pixel (y, x), 0 where there is none.
        folds: Number of folds, at least 2.
        guard: Wanted distance in pixels between training and validation pixels.
        seed: The same seed gives the same folds.

    Returns:
        One split per fold. Every labelled pixel is a validation pixel of exactly one of them. A
        class may be missing in a fold: its count is then 0.

    Raises:
        InputError: The labels cannot be cut into so many folds, or an argument is out of range.
    """
    if folds < 2:
        raise InputError(f"folds is {folds}; cross-validation needs 2 or more")
    if guard < 0:
        raise InputError(f"the guard is {guard} pixels; it cannot be negative")
    place = np.argwhere(labels != UNLABELLED)
    if not len(place):
        raise InputError("there are no labelled pixels to cut into folds")
    kind = np.unique(labels[tuple(place.T)], return_inverse=True)[1]
    group, center = _groups(place, units[tuple(place.T)])
    trials = _arrange(place, kind, group, center, folds, np.random.default_rng(seed))
    finalists = sorted(trials, key=lambda trial: trial[0])[:_FINALISTS]
    if not finalists:
        raise InputError(
            f"the labels lie in too few places for {folds} folds; use fewer folds, or label more "
            "places"
        )
    splits = (_splits(labels, place, fold, folds, guard) for _, fold in finalists)
    return min(splits, key=lambda split: _badness(split, folds))


def guarded(labels: np.ndarray, held_out: np.ndarray, guard: int) -> np.ndarray:
    """Return the labelled pixels that may be learnt from when some are held out.

    Args:
        labels: Class codes (y, x), 0 unlabelled.
        held_out: Pixels held out, bool (y, x).
        guard: Wanted distance in pixels; reduced as `spatial_folds` says.

    Returns:
        bool (y, x).
    """
    distance = distance_transform_cdt(~held_out, "chessboard")
    outside = (labels != UNLABELLED) & ~held_out
    for code in np.unique(labels[outside]):
        far = np.sort(distance[outside & (labels == code)])[::-1]
        keep = max(MIN_KEPT * len(far), min(MIN_TRAIN, len(far)))
        guard = int(min(guard, far[int(np.ceil(keep)) - 1]))
    return outside & (distance >= guard)


def _groups(place: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the group of each pixel (pixel,) and the groups' centres (group, 2)."""
    unit = unit.astype(np.int64)
    single = unit == 0
    unit[single] = unit.max(initial=0) + 1 + np.arange(single.sum())
    group = np.unique(unit, return_inverse=True)[1]
    members = np.bincount(group)
    center = np.column_stack([np.bincount(group, weights=p) / members for p in place.T])
    return group, center


def _arrange(
    place: np.ndarray,
    kind: np.ndarray,
    group: np.ndarray,
    center: np.ndarray,
    folds: int,
    rng: np.random.Generator,
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield how uneven folds are, and the fold of each pixel (pixel,)."""
    low, high = place.min(axis=0), place.max(axis=0) + 1
    sizes = np.bincount(kind)
    for blocks in _BLOCKS:
        side = max(int((high - low).max()) / blocks, 1.0)
        for _ in range(_TRIALS):
            cell = ((center - low + rng.uniform(0, side, size=2)) // side).astype(int)
            block = np.unique(cell, axis=0, return_inverse=True)[1].ravel()[group]
            number = int(block.max()) + 1
            if number < folds:
                continue
            counts = np.bincount(block * len(sizes) + kind, minlength=number * len(sizes))
            shares = counts.reshape(number, len(sizes)) / sizes
            dealt, held = _deal(shares, folds, rng)
            # Finer blocks even out more, but leave more borders: they must be worth it.
            uneven = float(np.abs(held * folds - 1).mean()) + 0.02 * blocks
            yield uneven, dealt[block]


def _deal(
    shares: np.ndarray, folds: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Deal blocks to folds, the biggest first, each to the fold that most lacks its classes.

    Args:
        shares: What a block holds of each class (block, class).
        folds: Number of folds.
        rng: Breaks ties.

    Returns:
        The fold of each block (block,) and what each fold holds (fold, class).
    """
    held = np.zeros((folds, shares.shape[1]))
    dealt = np.zeros(len(shares), dtype=int)
    size = shares.max(1) + rng.uniform(0, 0.05, len(shares))
    for index in np.argsort(-size, kind="stable"):
        excess = np.square(held + shares[index]).sum(1) - np.square(held).sum(1)
        dealt[index] = int(excess.argmin())
        held[dealt[index]] += shares[index]
    return dealt, held


def _splits(
    labels: np.ndarray, place: np.ndarray, fold: np.ndarray, folds: int, guard: int
) -> tuple[Split, ...]:
    found = []
    for index in range(folds):
        validation = np.zeros(labels.shape, dtype=bool)
        validation[tuple(place[fold == index].T)] = True
        train = guarded(labels, validation, guard)
        found.append(make_split(labels, train, validation, guard))
    return tuple(found)


def _badness(splits: tuple[Split, ...], folds: int) -> float:
    """Judge folds; lower is better. Dropped pixels and a narrow guard count like uneven shares."""
    shares = np.array(
        [[c.validation / (c.train + c.validation + c.dropped) for c in s.counts] for s in splits]
    )
    total = sum(c.train + c.validation + c.dropped for c in splits[0].counts)
    dropped = np.mean([split.dropped for split in splits]) / total
    narrow = np.mean([1 - min(s.guard_px / max(s.guard_wanted, 1), 1) for s in splits])
    return float(np.abs(shares * folds - 1).mean() + dropped + narrow)
