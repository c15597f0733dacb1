"""Accuracy and area of a map, estimated from reference units, with their standard errors.

One estimator for all scores. Every score is a smooth function of the shares of area p[i, j] that
the map gives class i and that are class j in truth. Shares are estimated stratum by stratum, from
units or from clusters of units; the variance of a score is that of its linear part (Taylor
linearisation; Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, section 5.5). With
single units, this gives

- equations 4 to 7, 10 and 11 of Olofsson et al. (2014), Remote Sens. Environ. 148:42-57,
  doi:10.1016/j.rse.2014.02.015, where the strata are the classes of the map;
- equations 2, 3, 25, 27 and 28 of Stehman (2014), Int. J. Remote Sens. 35:4923-4939,
  doi:10.1080/01431161.2014.930207, where they are others;
- the ratio estimator of cluster sampling (Cochran 1977, Sampling Techniques, section 9A) for
  clusters of one stratum.

There is no correction for finite populations: a sample is a small part of a map, and without it
the standard error is at worst too large. Only strata of which every pixel is a unit are taken for
what they are: known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse, stats

QUANTILE = 1.96
"""Half width of a 95 % interval of single units in standard errors, rounded as in Olofsson et al.
(2014): with 1.95996 one of the areas that they print would be a hectare off."""
LEAST = 2
"""Units or clusters of a stratum, below which its variance cannot be estimated."""

_TAIL = 0.025  # of either side of an interval
_ZERO = 1e-12  # standard errors below this are rounding


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty; all are NaN where it is undefined."""

    value: float
    """The estimate."""
    standard_error: float
    """Its standard error; NaN if there is one unit or cluster alone."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    half_width: float
    """Half of the interval, before it is cut to the range of the score; NaN of an exact one."""

    def times(self, factor: float) -> Estimate:
        """Return the estimate in another unit, as m2 of a share."""
        return Estimate(*(factor * number for number in (*self.numbers, self.half_width)))

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """Value, standard error, lower and upper end."""
        return self.value, self.standard_error, self.low, self.high


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceUnits:
    """What a map says and what is true at reference units, alike ones in one row.

    Classes, strata and clusters are numbered from 0.
    """

    mapped: np.ndarray
    """Class of the map (row,)."""
    reference: np.ndarray
    """True class (row,)."""
    stratum: np.ndarray
    """Stratum (row,)."""
    weights: np.ndarray
    """Share of each stratum in the area (stratum,)."""
    cluster: np.ndarray | None = None
    """Cluster (row,); None where every unit was drawn for itself."""
    units: np.ndarray
    """How many units are alike (row,)."""
    complete: np.ndarray | None = None
    """Strata all of whose pixels are units, which leaves nothing to chance there (stratum,)."""
    one_sample: bool = False
    """Whether all clusters are one sample, though they may reach over several strata, as polygons
    do over classes of the map; else each stratum is a sample of its own."""

    @property
    def size(self) -> int:
        """Number of units."""
        return int(self.units.sum())

    @property
    def draws(self) -> int:
        """Number of clusters, or of units where there are none."""
        return self.size if self.cluster is None else len(np.unique(self.cluster))

    @property
    def units_of_stratum(self) -> np.ndarray:
        """Number of units in each stratum (stratum,)."""
        return np.bincount(self.stratum, self.units, len(self.weights)).astype(np.int64)

    @property
    def shares(self) -> np.ndarray:
        """Share of the area that one unit of a row stands for (row,)."""
        return (self.weights / np.maximum(self.units_of_stratum, 1))[self.stratum]


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """Scores of a map."""

    counts: np.ndarray
    """Units (map class, reference class)."""
    proportions: np.ndarray
    """Estimated shares of the area (map class, reference class); their sum is 1."""
    overall_accuracy: Estimate
    """Share of the area that is right."""
    kappa: Estimate
    """Cohen's kappa."""
    mean_f1: Estimate
    """Mean F1 over the classes of the reference."""
    mean_iou: Estimate
    """Mean intersection over union over the classes of the reference."""
    users_accuracy: tuple[Estimate, ...]
    """Of the area mapped as a class, the share that is right."""
    producers_accuracy: tuple[Estimate, ...]
    """Of the true area of a class, the share that is mapped as such."""
    f1: tuple[Estimate, ...]
    """Harmonic mean of both."""
    iou: tuple[Estimate, ...]
    """Intersection over union."""
    area_share: tuple[Estimate, ...]
    """Share of the true area of a class."""
    is_thinly_sampled: tuple[bool, ...]
    """Whether the intervals of area and producer's accuracy are too narrow, as some stratum in
    which no unit is of the class has so few units that a single one, were it of the class, would
    move its area by more than a quarter of the interval. Of simulated samples, intervals of area
    hold the truth in 95 % without this and in 65 % with it (benchmarks/intervals.py)."""


def tally_units(
    mapped: np.ndarray,
    reference: np.ndarray,
    *,
    stratum: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    complete: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> ReferenceUnits:
    """Put like units together.

    Args:
        mapped: Class of the map (row,).
        reference: True class (row,).
        stratum: Stratum (row,); None: there is one.
        weights: Area of each stratum in any unit, not all 0 (stratum,).
        complete: Strata all of whose pixels are units (stratum,).
        cluster: Cluster (row,); None where every unit was drawn for itself.
        units: How many units a row stands for; None: one.
    """
    parts = [mapped, reference, np.zeros_like(mapped) if stratum is None else stratum]
    rows = np.stack(parts if cluster is None else [*parts, cluster]).astype(np.int64)
    rows, place = np.unique(rows, axis=1, return_inverse=True)
    number = np.ones(len(mapped)) if units is None else units
    areas = np.ones(1) if weights is None else np.asarray(weights, float)
    return ReferenceUnits(
        mapped=rows[0],
        reference=rows[1],
        stratum=rows[2],
        weights=areas / areas.sum(),
        complete=complete,
        cluster=None if cluster is None else np.unique(rows[3], return_inverse=True)[1],
        units=np.bincount(place.ravel(), number, rows.shape[1]).astype(np.int64),
    )


def poststratify(sample: ReferenceUnits, areas: np.ndarray) -> ReferenceUnits | None:
    """Take the classes of the map for strata, as Olofsson et al. (2014) advise for simple samples.

    Args:
        sample: Units of one stratum.
        areas: Area that the map gives each class (class,).

    Returns:
        The same units; None where some class of the map has fewer units, or pixels of fewer
        clusters, than `LEAST`.
    """
    if sample.cluster is None:
        held = np.bincount(sample.mapped, sample.units, len(areas))
    else:
        held = _count_held(sample.cluster, np.equal.outer(sample.mapped, np.arange(len(areas))))
    if (held[areas > 0] < LEAST).any():
        return None
    return replace(
        sample,
        stratum=sample.mapped,
        weights=areas / areas.sum(),
        one_sample=sample.cluster is not None,
    )


def estimate(sample: ReferenceUnits, classes: int) -> Estimates:
    """Estimate all scores of a map.

    Intervals are 1.96 standard errors to either side, within the range of the score. Of clusters
    there are often few: then it is the quantile of Student's t instead, whose degrees of freedom
    are the clusters that the score rests on, less one for each sample (the strata, or all of them;
    Korn & Graubard 1999, Analysis of Health Surveys). A user's accuracy rests on the
    clusters where the class is mapped, a producer's accuracy on those where it is.

    Where the units leave no doubt, as all of them agree, the standard error is 0 and such an
    interval would have no width; it is then that of Clopper & Pearson (1934, Biometrika
    26:404-413) for as many units as the score rests on: exact for units of equal weight, else
    approximate, as units that stand for unlike areas, and those of a cluster, which were drawn
    together, count as the number of like ones that tells as much: (sum of areas)**2 / sum of
    squared areas (Kish 1965, Survey Sampling). Complete strata leave nothing to chance: where all
    are, an interval has no width.

    Args:
        sample: At least one unit in each stratum that has a weight.
        classes: Number of classes.

    Returns:
        The scores; undefined ones, as the user's accuracy of a class that no unit is mapped as,
        are NaN.
    """
    mapped, reference = (
        np.equal.outer(labels, np.arange(classes)) for labels in (sample.mapped, sample.reference)
    )
    right, either = mapped & reference, mapped | reference
    errors = _standard_errors(sample)
    every = np.ones((len(sample.units), 1), bool)
    overall = _ratios(sample, errors, right.any(1, keepdims=True), every)
    iou = _ratios(sample, errors, right, either)
    f1 = _harmonic(sample, errors, iou, right, mapped, reference)
    counts, proportions = (
        _matrix(sample, per_unit, classes) for per_unit in (np.ones(len(every)), sample.shares)
    )
    areas = _ratios(sample, errors, reference, every).estimates
    return Estimates(
        counts=counts.astype(np.int64),
        proportions=proportions,
        overall_accuracy=overall.estimates[0],
        kappa=_kappa(sample, errors, overall, proportions),
        mean_f1=_mean(errors, f1, overall, proportions),
        mean_iou=_mean(errors, iou, overall, proportions),
        users_accuracy=_ratios(sample, errors, right, mapped).estimates,
        producers_accuracy=_ratios(sample, errors, right, reference).estimates,
        f1=f1.estimates,
        iou=iou.estimates,
        area_share=areas,
        is_thinly_sampled=_find_thinly_sampled(sample, areas),
    )


_Errors = Callable[[np.ndarray], np.ndarray]
"""Standard errors (score,) of the linear parts (row, score) of scores."""


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores of one kind."""

    estimates: tuple[Estimate, ...]
    linear: np.ndarray
    """What a unit adds to each score, to the first order (row, score)."""
    exact: np.ndarray
    """Lower and upper ends by Clopper and Pearson where the standard error is 0, else NaN
    (2, score)."""
    quantile: np.ndarray
    """Half widths of other intervals in standard errors (score,)."""


def _standard_errors(sample: ReferenceUnits) -> _Errors:
    """Return what gives standard errors for a sample.

    In stratum h, with weight W_h and M_h units, a cluster c of m_c units adds
    u_c = W_h (z_c - m_c zbar_h) / M_h; the variance is the sum over strata of
    n_h / (n_h - 1) sum u_c**2, with n_h clusters.
    """
    rows, strata = len(sample.units), len(sample.weights)
    held = np.maximum(sample.units_of_stratum, 1)[:, None]
    by_stratum = sparse.csr_array(
        (sample.units, (sample.stratum, np.arange(rows))), shape=(strata, rows)
    )
    shares = sample.shares[:, None]
    if sample.cluster is None:
        group, drawn, by_cluster = sample.stratum, sample.units, None
    else:
        clusters = int(sample.cluster.max()) + 1
        by_cluster = sparse.csr_array(
            (sample.units, (sample.cluster, np.arange(rows))), shape=(clusters, rows)
        )
        group = np.zeros(clusters, np.int64)
        if not sample.one_sample:
            group[sample.cluster] = sample.stratum
        drawn = np.ones(clusters, np.int64)
    draws = np.bincount(group, drawn)[group]
    factor = drawn * np.divide(draws, draws - 1, out=np.full(len(draws), np.nan), where=draws > 1)
    if sample.complete is not None:
        factor = np.where(sample.complete[group], 0, factor)

    def errors(linear: np.ndarray) -> np.ndarray:
        apart = shares * (linear - (by_stratum @ linear / held)[sample.stratum])
        if by_cluster is not None:
            apart = by_cluster @ apart
        return np.sqrt(factor @ apart**2)

    return errors


def _quantiles(sample: ReferenceUnits, whole: np.ndarray) -> np.ndarray:
    """Return half widths of 95 % intervals in standard errors (score,), see `estimate`.

    Args:
        sample: The units.
        whole: Whether a score rests on a unit (row, score).
    """
    if sample.cluster is None:
        return np.full(whole.shape[1], QUANTILE)
    clusters, strata = (_count_held(group, whole) for group in (sample.cluster, sample.stratum))
    freedom = clusters - (1 if sample.one_sample else strata)
    return stats.t.ppf(1 - _TAIL, np.where(freedom > 0, freedom, np.nan))


def _count_held(group: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Count the groups of which some unit is in the mask (row, score)."""
    rows = np.arange(len(group))
    by_group = sparse.csr_array((np.ones(len(group)), (group, rows)))
    return (by_group @ whole.astype(float) > 0).sum(0)


def _ratios(
    sample: ReferenceUnits, errors: _Errors, part: np.ndarray, whole: np.ndarray
) -> _Scores:
    """Estimate ratios of two areas.

    Args:
        sample: The units.
        errors: Of `_standard_errors`.
        part: Whether a unit is of the one (row, score); such are of the other too.
        whole: Whether it is of the other (row, score), or (row, 1) for all scores.
    """
    area = sample.shares * sample.units
    wholes = np.broadcast_to(area @ whole, part.shape[1:])
    wholes = np.where(wholes > 0, wholes, np.nan)
    values = area @ part / wholes
    linear = (part - values * whole) / wholes
    found = errors(linear)
    exact = _exact(sample, values, found, part, whole)
    quantile = np.broadcast_to(_quantiles(sample, whole), values.shape)
    return _Scores(_intervals(values, found, exact, quantile), linear, exact, quantile)


def _harmonic(
    sample: ReferenceUnits,
    errors: _Errors,
    iou: _Scores,
    right: np.ndarray,
    mapped: np.ndarray,
    reference: np.ndarray,
) -> _Scores:
    """Estimate F1, twice the area that is right over the sum of the mapped and the true one."""
    both = mapped.astype(float) + reference
    area = sample.shares * sample.units
    wholes = area @ both
    wholes = np.where(wholes > 0, wholes, np.nan)
    values = 2 * (area @ right) / wholes
    linear = (2 * right - values * both) / wholes
    exact = 2 * iou.exact / (1 + iou.exact)
    estimates = _intervals(values, errors(linear), exact, iou.quantile)
    return _Scores(estimates, linear, exact, iou.quantile)


def _kappa(
    sample: ReferenceUnits, errors: _Errors, overall: _Scores, proportions: np.ndarray
) -> Estimate:
    """Estimate kappa, which depends on the area of every class in map and reference."""
    maps, truths = proportions.sum(1), proportions.sum(0)
    chance = float(maps @ truths)
    rest = 1 - chance if chance < 1 - _ZERO else np.nan
    right = overall.estimates[0].value
    hit = (sample.mapped == sample.reference) / rest
    more = (truths[sample.mapped] + maps[sample.reference]) * (1 - right) / rest**2
    exact = (overall.exact - chance) / rest
    value, found = np.array([(right - chance) / rest]), errors((hit - more)[:, None])
    if found[0] < _ZERO and np.isnan(overall.exact).any():
        # the map or the reference is of one class, and kappa 0 whatever the units
        value, found = np.full(1, np.nan), np.full(1, np.nan)
    return _intervals(value, found, exact, overall.quantile, least=-1)[0]


def _mean(errors: _Errors, scores: _Scores, overall: _Scores, proportions: np.ndarray) -> Estimate:
    """Average a score over the classes of the reference; it rests on all clusters."""
    present = proportions.sum(0) > 0
    value = np.array([one.value for one in scores.estimates])[present].mean(keepdims=True)
    linear = scores.linear[:, present].mean(1, keepdims=True)
    exact = scores.exact[:, present].mean(1, keepdims=True)
    return _intervals(value, errors(linear), exact, overall.quantile)[0]


def _find_thinly_sampled(sample: ReferenceUnits, areas: tuple[Estimate, ...]) -> tuple[bool, ...]:
    """Tell of which classes `Estimates.is_thinly_sampled` holds."""
    held = np.zeros((len(sample.weights), len(areas)), bool)
    held[sample.stratum, sample.reference] = True
    units = sample.units_of_stratum
    share = np.divide(sample.weights, units, out=np.zeros(len(units)), where=units > 0)
    if sample.complete is not None:
        share = np.where(sample.complete, 0, share)
    unseen = np.where(held, 0, share[:, None]).max(axis=0)
    # an interval of Clopper and Pearson, which has no half width, allows for what is not seen
    half = np.array([one.half_width for one in areas])
    return tuple((unseen > half / 2).tolist())


def _matrix(sample: ReferenceUnits, per_unit: np.ndarray, classes: int) -> np.ndarray:
    """Sum over units (map class, reference class)."""
    cell = sample.mapped * classes + sample.reference
    return np.bincount(cell, per_unit * sample.units, classes**2).reshape(classes, classes)


def _exact(
    sample: ReferenceUnits,
    values: np.ndarray,
    errors: np.ndarray,
    part: np.ndarray,
    whole: np.ndarray,
) -> np.ndarray:
    """Return ends of intervals where the standard error is 0, else NaN (2, score).

    For n units, of which all or none agree, the ends of Clopper and Pearson are 0.025**(1 / n)
    and 1 - 0.025**(1 / n). A ratio between 0 and 1 has no standard error where some strata are
    part of it wholly and the others not at all: then the former may be less, the latter more.
    Complete strata can be neither. Exact for units of one area, else approximate.
    """
    ends = np.full((2, len(values)), np.nan)
    sure = np.flatnonzero(errors < _ZERO)
    if len(sure):
        inside, bases = part[:, sure], whole if whole.shape[1] == 1 else whole[:, sure]
        area = sample.shares * sample.units
        open_to_chance = np.ones((len(area), 1), bool)
        if sample.complete is not None:
            open_to_chance = ~sample.complete[sample.stratum][:, None]
        for end, sign, mask in ((0, -1, inside), (1, 1, bases & ~inside)):
            unsure = mask & open_to_chance
            number = _like_units(sample, unsure)
            with np.errstate(divide="ignore"):  # no unit: the end is the value itself
                kept = np.where(number > 0, _TAIL ** (1 / number), 1)
            ends[end, sure] = values[sure] + sign * (area @ unsure) / (area @ bases) * (1 - kept)
    return ends


def _like_units(sample: ReferenceUnits, mask: np.ndarray) -> np.ndarray:
    """Return how many units of one area tell as much as those of a mask (row, score)."""
    shares, units = sample.shares[:, None], sample.units[:, None]
    areas = (units * shares * mask).sum(0)
    if sample.cluster is None:
        squares = (units * shares**2 * mask).sum(0)
    else:
        rows = np.arange(len(units))
        by_cluster = sparse.csr_array((sample.units, (sample.cluster, rows)))
        squares = ((by_cluster @ (shares * mask)) ** 2).sum(0)
    return np.divide(areas**2, squares, out=np.zeros_like(areas), where=squares > 0)


def _intervals(
    values: np.ndarray,
    errors: np.ndarray,
    exact: np.ndarray,
    quantile: np.ndarray,
    least: float = 0,
) -> tuple[Estimate, ...]:
    """Put intervals around values: those of `_exact` where the standard error is 0."""
    sure = errors < _ZERO
    wide = quantile * errors
    low = np.where(sure, exact[0], values - wide).clip(least, 1)
    high = np.where(sure, exact[1], values + wide).clip(least, 1)
    table = np.stack([values, np.where(sure, 0, errors), low, high, np.where(sure, np.nan, wide)])
    return tuple(Estimate(*numbers) for numbers in table.T.tolist())
