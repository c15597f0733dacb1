"""Estimates against printed examples, equations written out, other programs and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from hsi_pipeline.estimation import (
    QUANTILE,
    ReferenceUnits,
    estimate,
    poststratify,
    tally_units,
)

# Olofsson et al. (2014), Remote Sens. Environ. 148:42-57, table 8 and section 5.2: deforestation,
# forest gain, stable forest, stable non-forest; pixels of 30 m; map by lines
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
OLOFSSON_PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
OLOFSSON_HA = OLOFSSON_PIXELS.sum() * 0.09

# Stehman (2014), Int. J. Remote Sens. 35:4923-4939, strata and classes A to D; the sample as the
# documentation of the R package mapaccuracy 0.1.2 has it, with the pages of printed figures
STEHMAN_STRATUM = np.repeat(np.arange(4), 10)
STEHMAN_MAP = np.array([0] * 7 + [1] * 3 + [0] + [1] * 11 + [2] * 6 + [1] * 2 + [3] * 10)
STEHMAN_TRUE = np.array(
    [0] * 5 + [2, 1, 0, 1, 2] + [0] + [1] * 5 + [0, 0, 1, 1] + [2] * 5 + [3, 3, 1, 1, 0]
    + [3] * 7 + [2, 2, 1]
)  # fmt: skip
STEHMAN_PIXELS = np.array([40_000, 30_000, 20_000, 10_000])


def of_matrix(counts, areas=None):
    """Units of a matrix (map, reference); with areas its lines are the strata."""
    mapped, reference = np.nonzero(counts)
    return tally_units(
        mapped, reference, units=counts[mapped, reference],
        stratum=None if areas is None else mapped, weights=areas,
    )  # fmt: skip


def values(estimates):
    return [one.value for one in estimates]


def errors(estimates):
    return [one.standard_error for one in estimates]


def halves(estimates, digits):
    return [round(QUANTILE * one.standard_error, digits) for one in estimates]


# --- printed examples ---------------------------------------------------------------------------


def test_the_example_of_olofsson_to_all_printed_digits():
    found = estimate(of_matrix(OLOFSSON, OLOFSSON_PIXELS), 4)
    # table 9, page 55
    np.testing.assert_array_equal(found.proportions.round(4), [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ])  # fmt: skip
    # section 5.2.1, page 54
    assert round(found.overall_accuracy.value, 2) == 0.95
    assert halves([found.overall_accuracy], 2) == [0.02]
    assert np.round(values(found.users_accuracy), 2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert halves(found.users_accuracy, 2) == [0.07, 0.10, 0.04, 0.02]
    assert np.round(values(found.producers_accuracy), 2).tolist() == [0.75, 0.85, 0.93, 0.96]
    # The paper prints 0.21, 0.23, 0.03, 0.01: the second and fourth contradict its equation 7,
    # which gives 0.254 and 0.018 (the next test writes it out; so do the R packages mapaccuracy
    # and mapac).
    assert halves(found.producers_accuracy, 2) == [0.21, 0.25, 0.03, 0.02]
    # section 5.2.2, page 54
    areas = [one.times(OLOFSSON_HA) for one in found.area_share]
    assert np.round(values(areas)).tolist() == [21_158, 11_686, 285_770, 581_386]
    assert halves(areas, 0) == [6_158, 3_756, 15_510, 16_282]
    # equation 9: 235,086 pixels of deforestation, +/- 68,418
    deforested = found.area_share[0].times(OLOFSSON_PIXELS.sum())
    assert round(deforested.value) == 235_086
    assert halves([deforested], 0) == [68_418]


def olofsson_equations(counts, areas):
    """Variances of equations 5, 6, 7 and 10 of Olofsson et al. (2014), written as printed."""
    n = counts.sum(1)
    weights = areas / areas.sum()
    users = np.diag(counts) / n
    overall = (weights**2 * users * (1 - users) / (n - 1)).sum()
    user = users * (1 - users) / (n - 1)
    pixels = (areas[:, None] * counts / n[:, None]).sum(0)  # N_.j
    producers = np.diag(counts) / n * areas / pixels
    producer = np.zeros(len(n))
    for j in range(len(n)):
        others = sum(
            areas[i] ** 2 * counts[i, j] / n[i] * (1 - counts[i, j] / n[i]) / (n[i] - 1)
            for i in range(len(n))
            if i != j
        )
        own = areas[j] ** 2 * (1 - producers[j]) ** 2 * users[j] * (1 - users[j]) / (n[j] - 1)
        producer[j] = (own + producers[j] ** 2 * others) / pixels[j] ** 2
    part = weights[:, None] * counts / n[:, None]
    area = ((weights[:, None] * part - part**2) / (n[:, None] - 1)).sum(0)
    return overall, user, producer, area


matrices = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(1, 40), min_size=k * k, max_size=k * k).map(
            lambda numbers: np.array(numbers).reshape(k, k)
        ),
        st.lists(st.floats(0.01, 100), min_size=k, max_size=k).map(np.array),
    )
)


@settings(deadline=None, max_examples=50)
@given(matrices)
def test_classes_as_strata_give_the_equations_of_olofsson(case):
    counts, areas = case
    found = estimate(of_matrix(counts, areas), len(counts))
    overall, user, producer, area = olofsson_equations(counts, areas)
    assert found.overall_accuracy.standard_error**2 == pytest.approx(overall)
    np.testing.assert_allclose(np.square(errors(found.users_accuracy)), user, rtol=1e-7)
    np.testing.assert_allclose(np.square(errors(found.producers_accuracy)), producer, rtol=1e-7)
    np.testing.assert_allclose(np.square(errors(found.area_share)), area, rtol=1e-7)
    assert found.proportions.sum() == pytest.approx(1)
    assert sum(values(found.area_share)) == pytest.approx(1)


def test_the_two_half_widths_that_olofsson_misprints():
    _, _, producer, _ = olofsson_equations(OLOFSSON, OLOFSSON_PIXELS)
    assert np.round(1.96 * np.sqrt(producer), 3).tolist() == [0.213, 0.254, 0.034, 0.018]


def test_the_example_of_stehman_where_strata_are_not_the_classes():
    sample = tally_units(STEHMAN_MAP, STEHMAN_TRUE, stratum=STEHMAN_STRATUM, weights=STEHMAN_PIXELS)
    found = estimate(sample, 4)
    # pages 4932 to 4936
    assert round(found.overall_accuracy.value, 2) == 0.63
    assert round(found.overall_accuracy.standard_error, 3) == 0.085
    assert round(found.area_share[0].value, 2) == 0.35
    assert round(found.area_share[0].standard_error, 3) == 0.082
    assert round(found.area_share[2].value, 2) == 0.20
    assert round(found.area_share[2].standard_error, 3) == 0.064
    assert round(found.users_accuracy[1].value, 3) == 0.574
    assert round(found.users_accuracy[1].standard_error, 3) == 0.125
    assert round(found.producers_accuracy[1].value, 3) == 0.794
    # The paper prints 0.114, having taken 0 for a variance in stratum 4, where its table 3 has 0.1
    # (so the tests of lulc-validation 0.0.4); mapaccuracy gives 0.1165, mapac 0.1165671.
    assert round(found.producers_accuracy[1].standard_error, 3) == 0.117
    assert round(found.proportions[1, 2], 2) == 0.08
    # as printed in the documentation of mapac (aa_stratified), which has no correction for finite
    # populations either
    np.testing.assert_allclose(values(found.f1)[:3], [0.6969697, 0.6666667, 0.375], atol=5e-8)
    np.testing.assert_allclose(
        errors(found.users_accuracy)[:3], [0.1645627, 0.1248023, 0.2151657], atol=5e-8
    )
    np.testing.assert_allclose(
        errors(found.producers_accuracy)[:3], [0.1477318, 0.1165671, 0.1504438], atol=5e-8
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000))
def test_any_strata_give_the_equations_of_stehman(seed):
    """Equations 2 and 25 for means, 27 and 28 for ratios, without the finite correction."""
    rng = np.random.default_rng(seed)
    strata, classes = rng.integers(1, 5), rng.integers(2, 5)
    stratum = np.repeat(np.arange(strata), rng.integers(5, 30, strata))
    mapped, true = rng.integers(0, classes, (2, len(stratum)))
    pixels = rng.uniform(1, 50, strata)
    found = estimate(tally_units(mapped, true, stratum=stratum, weights=pixels), int(classes))

    def ratio(y, x):
        parts = [(y[stratum == h], x[stratum == h], pixels[h]) for h in range(strata)]
        top, bottom = (sum(area * part[i].mean() for *part, area in parts) for i in (0, 1))
        share = top / bottom if bottom else math.nan
        variance = sum(
            area**2
            * (
                np.var(one, ddof=1)
                + share**2 * np.var(other, ddof=1)
                - 2 * share * np.cov(one, other)[0, 1]
            )
            / len(one)
            for one, other, area in parts
        )
        return share, math.sqrt(max(variance, 0)) / bottom if bottom else math.nan

    ones = np.ones(len(stratum))
    got = [found.overall_accuracy, *found.users_accuracy, *found.producers_accuracy,
           *found.area_share, *found.iou]  # fmt: skip
    wanted = [ratio((mapped == true) * 1.0, ones)]
    each = range(classes)
    wanted += [ratio(((mapped == k) & (true == k)) * 1.0, (mapped == k) * 1.0) for k in each]
    wanted += [ratio(((mapped == k) & (true == k)) * 1.0, (true == k) * 1.0) for k in each]
    wanted += [ratio((true == k) * 1.0, ones) for k in each]
    wanted += [
        ratio(((mapped == k) & (true == k)) * 1.0, ((mapped == k) | (true == k)) * 1.0)
        for k in each
    ]
    np.testing.assert_allclose(
        [(one.value, one.standard_error) for one in got], wanted, rtol=1e-6, atol=1e-7
    )


# --- other programs, and simulation -------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_counts_alone_give_the_scores_of_scikit_learn(pairs):
    mapped, true = np.array(pairs).T
    found = estimate(tally_units(mapped, true), 4)
    labels = np.arange(4)
    np.testing.assert_array_equal(
        found.counts, metrics.confusion_matrix(true, mapped, labels=labels).T
    )
    assert found.overall_accuracy.value == pytest.approx(metrics.accuracy_score(true, mapped))
    one_class = min(len(np.unique(mapped)), len(np.unique(true))) == 1
    if one_class and found.overall_accuracy.value > 0:  # kappa is 0 / 0, or 0 whatever the units
        assert all(map(math.isnan, found.kappa.numbers))
    else:
        kappa = metrics.cohen_kappa_score(true, mapped)
        assert found.kappa.value == pytest.approx(kappa)
    kwargs = {"labels": labels, "average": None, "zero_division": np.nan}
    for ours, theirs in (
        (found.users_accuracy, metrics.precision_score),
        (found.producers_accuracy, metrics.recall_score),
        (found.f1, metrics.f1_score),
    ):
        np.testing.assert_allclose(values(ours), theirs(true, mapped, **kwargs))
    in_either = np.isin(labels, np.union1d(mapped, true))
    jaccard = metrics.jaccard_score(true, mapped, labels=labels, average=None, zero_division=0)
    np.testing.assert_allclose(values(found.iou), np.where(in_either, jaccard, np.nan))
    present = np.unique(true)
    mean_f1 = metrics.f1_score(true, mapped, labels=present, average="macro", zero_division=0)
    assert found.mean_f1.value == pytest.approx(mean_f1)
    mean_iou = metrics.jaccard_score(true, mapped, labels=present, average="macro", zero_division=0)
    assert found.mean_iou.value == pytest.approx(mean_iou)


def fleiss_kappa_variance(counts):
    """Large-sample variance of kappa: Fleiss, Cohen & Everitt (1969), Psychol. Bull. 72:323."""
    n = counts.sum()
    p = counts / n
    rows, columns = p.sum(1), p.sum(0)
    right, chance = np.trace(p), rows @ columns
    total = 0.0
    for i in range(len(p)):
        total += p[i, i] * ((1 - chance) - (columns[i] + rows[i]) * (1 - right)) ** 2
        total += (1 - right) ** 2 * sum(
            p[i, j] * (columns[i] + rows[j]) ** 2 for j in range(len(p)) if i != j
        )
    total -= (right * chance - 2 * chance + right) ** 2
    return total / (n * (1 - chance) ** 4)


def test_kappa_of_a_simple_sample_has_the_variance_of_fleiss():
    for counts in (OLOFSSON, np.array([[20, 5], [10, 15]]), OLOFSSON[::-1]):
        found = estimate(of_matrix(counts), len(counts)).kappa
        n = counts.sum()
        wanted = fleiss_kappa_variance(counts) * n / (n - 1)  # which the estimator divides by
        assert found.standard_error**2 == pytest.approx(wanted)


def test_errors_of_a_simple_sample_are_those_of_the_jackknife():
    """An oracle that knows no derivative: scikit-learn's scores without one unit at a time."""
    rng = np.random.default_rng(2)
    counts = np.array([[90, 10, 5], [8, 60, 12], [2, 15, 110]])
    mapped, true = np.repeat(np.argwhere(counts >= 0), counts.ravel(), axis=0).T
    order = rng.permutation(len(true))
    mapped, true = mapped[order], true[order]

    def scores(keep):
        t, m = true[keep], mapped[keep]
        f1 = metrics.f1_score(t, m, average=None)
        iou = metrics.jaccard_score(t, m, average=None)
        return [metrics.cohen_kappa_score(t, m), f1.mean(), iou.mean(), *f1, *iou]

    n = len(true)
    # like units have like jackknife values: one of each cell will do
    cells, first, number = np.unique(
        np.stack((mapped, true)), axis=1, return_index=True, return_counts=True
    )
    assert cells.shape[1] == 9
    left = np.array([scores(np.arange(n) != i) for i in first])
    mean = (left * number[:, None]).sum(0) / n
    jackknife = np.sqrt((n - 1) / n * (number[:, None] * (left - mean) ** 2).sum(0))
    found = estimate(tally_units(mapped, true), 3)
    ours = [found.kappa, found.mean_f1, found.mean_iou, *found.f1, *found.iou]
    np.testing.assert_allclose(values(ours), scores(slice(None)))
    np.testing.assert_allclose(errors(ours), jackknife, rtol=0.01)


def test_errors_of_a_stratified_sample_are_those_of_repeated_samples():
    rng = np.random.default_rng(3)
    shares = np.array([[0.85, 0.1, 0.05], [0.1, 0.7, 0.2], [0.02, 0.03, 0.95]])
    areas, sizes = np.array([0.1, 0.3, 0.6]), (100, 120, 150)
    found = [
        estimate(
            of_matrix(np.array([rng.multinomial(n, p) for n, p in zip(sizes, shares, strict=True)]),
                      areas), 3,
        )
        for _ in range(1500)
    ]  # fmt: skip
    for kind in (
        lambda one: one.overall_accuracy,
        lambda one: one.kappa,
        lambda one: one.mean_f1,
        lambda one: one.mean_iou,
        lambda one: one.users_accuracy[1],
        lambda one: one.producers_accuracy[0],
        lambda one: one.f1[0],
        lambda one: one.iou[1],
        lambda one: one.area_share[2],
    ):
        spread = np.std(values([kind(one) for one in found]))
        assert np.mean(errors([kind(one) for one in found])) == pytest.approx(spread, rel=0.06)


# --- clusters -----------------------------------------------------------------------------------


def test_clusters_by_hand():
    """Cochran (1977), equation 6.13 for a ratio: three polygons of 4, 2 and 6 pixels."""
    right, size = np.array([4, 1, 3]), np.array([4, 2, 6])
    mapped = np.zeros(6, int)
    true = np.array([0, 1, 0, 1, 0, 1])
    sample = tally_units(
        mapped, true, cluster=np.repeat([7, 3, 9], 2),
        units=np.stack((right, size - right), 1).ravel(),
    )  # fmt: skip
    found = estimate(sample, 2).overall_accuracy
    ratio = 8 / 12
    assert found.value == pytest.approx(ratio)
    apart = right - ratio * size
    variance = (apart**2).sum() / (3 - 1) / (3 * 4.0**2)  # s2 / (n mbar**2), mbar is 4
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert sample.size == 12
    assert sample.draws == 3


def test_clusters_in_strata_by_hand():
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(12), rng.integers(2, 9, 12))
    stratum = (cluster >= 5).astype(int)
    mapped, true = rng.integers(0, 2, (2, len(cluster)))
    sample = tally_units(mapped, true, stratum=stratum, weights=[3, 1], cluster=cluster)
    found = estimate(sample, 2).overall_accuracy
    value = variance = 0.0
    for h, weight in ((0, 0.75), (1, 0.25)):
        own = np.unique(cluster[stratum == h])
        hits = np.array([(mapped == true)[cluster == c].sum() for c in own])
        size = np.array([(cluster == c).sum() for c in own])
        ratio, mean, n = hits.sum() / size.sum(), size.mean(), len(own)
        value += weight * ratio
        variance += weight**2 * ((hits - size * ratio) / mean).var(ddof=1) / n
    assert found.value == pytest.approx(value)
    assert found.standard_error**2 == pytest.approx(variance)


def test_clusters_of_one_unit_are_units():
    single = tally_units(STEHMAN_MAP, STEHMAN_TRUE, stratum=STEHMAN_STRATUM, weights=STEHMAN_PIXELS)
    clusters = tally_units(
        STEHMAN_MAP, STEHMAN_TRUE, stratum=STEHMAN_STRATUM, weights=STEHMAN_PIXELS,
        cluster=np.arange(40),
    )  # fmt: skip
    assert len(clusters.units) == 40
    assert len(single.units) < 40
    one, other = (estimate(sample, 4) for sample in (single, clusters))
    for kind in ("users_accuracy", "producers_accuracy", "f1", "iou", "area_share"):
        first, second = getattr(one, kind), getattr(other, kind)
        # only the quantile of the interval is another
        np.testing.assert_allclose(
            [x.numbers[:2] for x in first], [x.numbers[:2] for x in second], rtol=1e-12
        )


def test_post_strata_that_clusters_reach_over():
    """The errors of areas are those of repeated samples of polygons, of two classes each."""
    rng = np.random.default_rng(5)
    areas = np.array([0.3, 0.7])
    found = []
    for _ in range(1500):
        size = rng.integers(1, 12, (40, 2))  # pixels of each polygon by class of the map
        wrong = rng.binomial(size, rng.beta(1, 4, (40, 1)))  # polygons err each in their way
        cluster, mapped = np.indices((40, 2))
        units = np.stack((size - wrong, wrong))
        reference = np.stack((mapped, 1 - mapped))
        sample = tally_units(
            np.stack((mapped, mapped)).ravel(), reference.ravel(),
            cluster=np.stack((cluster, cluster)).ravel(), units=units.ravel(),
        )  # fmt: skip
        post = poststratify(sample, areas)
        assert post.one_sample
        found.append(estimate(post, 2).area_share[0])
    assert np.mean(values(found)) == pytest.approx(0.3 * 0.8 + 0.7 * 0.2, abs=0.005)
    assert np.mean(errors(found)) == pytest.approx(np.std(values(found)), rel=0.06)


def test_post_strata_that_clusters_reach_over_by_hand():
    """All clusters are one sample, though each has pixels in both strata or in one alone."""
    cluster = np.array([0, 0, 1, 1, 2, 2])
    mapped = np.array([0, 1, 0, 0, 1, 1])
    true = np.array([0, 0, 1, 0, 0, 1])
    units = np.array([4, 3, 2, 5, 1, 6])
    weights = np.array([0.25, 0.75])
    post = poststratify(tally_units(mapped, true, cluster=cluster, units=units), weights)
    found = estimate(post, 2).area_share[0]
    size = np.array([11, 10])  # pixels by class of the map
    share = np.array([9 / 11, 4 / 10])  # of which are of class 0
    assert found.value == pytest.approx(weights @ share)
    apart = [
        sum(
            weights[m] * n * ((t == 0) - share[m]) / size[m]
            for c, m, t, n in zip(cluster, mapped, true, units, strict=True)
            if c == one
        )
        for one in range(3)
    ]
    assert found.standard_error == pytest.approx(math.sqrt(3 / 2 * np.square(apart).sum()))


def test_post_strata_need_two_units_in_each_class_that_is_mapped():
    sample = of_matrix(np.array([[5, 1, 0], [1, 0, 0], [0, 0, 0]]))
    assert poststratify(sample, np.array([3.0, 2.0, 0.0])) is None
    sample = of_matrix(np.array([[5, 1, 0], [1, 1, 0], [0, 0, 0]]))
    post = poststratify(sample, np.array([3.0, 2.0, 0.0]))
    assert post.weights.tolist() == [0.6, 0.4, 0]
    assert post.units_of_stratum.tolist() == [6, 2, 0]
    found = estimate(post, 3)
    assert found.overall_accuracy.value == pytest.approx(0.6 * 5 / 6 + 0.4 / 2)
    assert math.isnan(found.users_accuracy[2].value)


def polygons_of(rng, count, right=0.7, alike=0.1):
    """Polygons of 4 to 40 pixels of three classes, whose pixels err together."""
    size = rng.integers(4, 41, count)
    hits = rng.binomial(size, rng.beta(right / alike - right, (1 - right) * (1 / alike - 1), count))
    mapped = rng.integers(0, 3, count)
    cluster = np.arange(count)
    return tally_units(
        np.tile(mapped, 2), np.concatenate([mapped, (mapped + 1) % 3]),
        cluster=np.tile(cluster, 2), units=np.concatenate([hits, size - hits]),
    )  # fmt: skip


@pytest.mark.parametrize("count", [4, 8, 20])
def test_intervals_of_few_clusters_hold_the_truth(count):
    """Those of 1.96 standard errors do in 0.81 of cases with 4 polygons, 0.90 with 8."""
    rng = np.random.default_rng(count)
    found = [estimate(polygons_of(rng, count), 3).overall_accuracy for _ in range(800)]
    held = np.mean([one.low <= 0.7 <= one.high for one in found])
    assert held > 0.915
    narrow = np.mean([abs(one.value - 0.7) <= 1.96 * one.standard_error for one in found])
    assert narrow < held - (0.1 if count == 4 else 0)


def test_the_quantile_is_that_of_the_clusters_that_a_score_rests_on():
    """Printed tables of Student's t: 4.303, 2.776 and 12.706 for 2, 4 and 1 degrees of freedom."""
    cluster = np.repeat(np.arange(5), 2)
    mapped = np.repeat([0, 0, 0, 1, 1], 2)
    true = np.where(np.arange(10) % 2, 1 - mapped, mapped)
    units = np.array([5, 5, 3, 6, 9, 1, 4, 2, 6, 7])
    sample = tally_units(mapped, true, cluster=cluster, units=units)
    found = estimate(sample, 2)
    for one, quantile in (
        (found.overall_accuracy, 2.776),
        (found.kappa, 2.776),
        (found.mean_f1, 2.776),
        (found.area_share[0], 2.776),
        (found.users_accuracy[0], 4.303),
        (found.users_accuracy[1], 12.706),
        (found.producers_accuracy[1], 2.776),
    ):
        assert one.half_width == pytest.approx(quantile * one.standard_error, rel=2e-4)
        assert one.low == max(one.value - one.half_width, one.low)
        assert one.times(3).half_width == 3 * one.half_width
    # of which each stratum is a sample takes one
    stratum = np.repeat([0, 0, 0, 1, 1], 2)
    apart = tally_units(mapped, true, cluster=cluster, units=units, stratum=stratum, weights=[1, 1])
    one = estimate(apart, 2).overall_accuracy
    assert one.half_width == pytest.approx(3.182 * one.standard_error, rel=2e-4)
    # post-strata are none
    post = estimate(poststratify(sample, np.array([2.0, 1.0])), 2).overall_accuracy
    assert post.half_width == pytest.approx(2.776 * post.standard_error, rel=2e-4)
    single = estimate(tally_units(mapped, true, units=units), 2).overall_accuracy
    assert single.half_width == 1.96 * single.standard_error


def test_post_strata_need_two_clusters_too():
    """One alone, however many pixels it has, would look as if it were sure."""
    mapped, true = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
    units = np.array([9, 3, 20, 7])
    one = tally_units(mapped, true, cluster=np.array([0, 1, 2, 2]), units=units)
    assert poststratify(one, np.array([2.0, 1.0])) is None
    two = tally_units(mapped, true, cluster=np.array([0, 1, 2, 1]), units=units)
    assert poststratify(two, np.array([2.0, 1.0])) is not None


# --- no doubt, and nothing to tell --------------------------------------------------------------


def test_where_all_units_agree_the_interval_is_that_of_clopper_and_pearson():
    found = estimate(of_matrix(np.diag([30, 50])), 2)
    exact = binomtest(80, 80).proportion_ci(0.95, method="exact")
    assert found.overall_accuracy.numbers == pytest.approx((1, 0, exact.low, 1))
    for k, n in ((0, 30), (1, 50)):
        exact = binomtest(n, n).proportion_ci(0.95, method="exact")
        for kind in (found.users_accuracy, found.producers_accuracy, found.iou):
            assert kind[k].numbers == pytest.approx((1, 0, exact.low, 1))
        assert found.f1[k].low == pytest.approx(2 * exact.low / (1 + exact.low))
    chance = (30**2 + 50**2) / 80**2
    low = binomtest(80, 80).proportion_ci(0.95, method="exact").low
    assert found.kappa.numbers == pytest.approx((1, 0, (low - chance) / (1 - chance), 1))
    assert found.mean_iou.low == pytest.approx(np.mean([one.low for one in found.iou]))
    assert found.area_share[0].standard_error > 0  # other samples would hold other numbers


def test_where_no_unit_agrees_too():
    found = estimate(of_matrix(np.array([[0, 30], [20, 0]])), 2)
    exact = binomtest(0, 50).proportion_ci(0.95, method="exact")
    assert found.overall_accuracy.numbers == pytest.approx((0, 0, 0, exact.high))
    assert found.iou[0].high == pytest.approx(exact.high)
    assert found.f1[0].high == pytest.approx(2 * exact.high / (1 + exact.high))
    exact = binomtest(0, 20).proportion_ci(0.95, method="exact")
    assert found.producers_accuracy[0].high == pytest.approx(exact.high)
    assert -1 <= found.kappa.low < found.kappa.high < 0


def test_a_class_that_no_unit_is_of_may_be_there_all_the_same():
    found = estimate(of_matrix(np.array([[40, 3, 0], [2, 55, 0], [0, 0, 0]])), 3)
    exact = binomtest(0, 100).proportion_ci(0.95, method="exact")
    assert found.area_share[2].numbers == pytest.approx((0, 0, 0, exact.high))


def test_units_that_stand_for_unlike_areas_count_as_fewer():
    """Kish's number: 10 units for 90 % and 90 for 10 % of the area tell as much as 12."""
    found = estimate(of_matrix(np.diag([10, 90]), np.array([0.9, 0.1])), 2)
    number = 1 / (0.9**2 / 10 + 0.1**2 / 90)
    assert number == pytest.approx(12.3, abs=0.05)
    assert found.overall_accuracy.low == pytest.approx(0.025 ** (1 / number))
    # what is mapped as a class may be another, and the other way round
    assert found.area_share[0].numbers == pytest.approx(
        (0.9, 0, 0.9 * 0.025 ** (1 / 10), 0.9 + 0.1 * (1 - 0.025 ** (1 / 90)))
    )


def test_pixels_of_clusters_that_agree_count_as_their_clusters():
    sample = tally_units(
        np.zeros(3, int), np.zeros(3, int), cluster=np.arange(3), units=np.array([400, 400, 400])
    )
    found = estimate(sample, 1).overall_accuracy
    exact = binomtest(3, 3).proportion_ci(0.95, method="exact")
    assert found.numbers == pytest.approx((1, 0, exact.low, 1))


def test_one_unit_or_one_cluster_tells_no_error():
    for sample in (
        of_matrix(np.array([[1, 0], [0, 0]])),
        tally_units(np.array([0, 1]), np.array([0, 0]), cluster=np.array([4, 4])),
    ):
        found = estimate(sample, 2)
        assert found.overall_accuracy.value in (1, 0.5)
        assert all(map(math.isnan, found.overall_accuracy.numbers[1:]))


def test_one_class_alone():
    found = estimate(of_matrix(np.array([[25]])), 1)
    assert found.overall_accuracy.value == found.f1[0].value == found.area_share[0].value == 1
    assert all(map(math.isnan, found.kappa.numbers))


def test_a_class_in_the_reference_alone_is_an_error_of_the_map():
    found = estimate(of_matrix(np.array([[8, 2], [0, 0]])), 2)
    assert found.producers_accuracy[1].value == found.f1[1].value == 0
    assert math.isnan(found.users_accuracy[1].value)
    assert found.mean_f1.value == pytest.approx((16 / 18 + 0) / 2)


def test_intervals_keep_to_the_range_of_a_score():
    found = estimate(of_matrix(np.array([[9, 1], [1, 1]])), 2)
    assert found.users_accuracy[0].high == 1
    assert found.producers_accuracy[1].low == 0
    assert found.kappa.low > -1
    whole = found.users_accuracy[0]
    assert whole.low == pytest.approx(whole.value - 1.96 * whole.standard_error)


def test_a_stratum_that_is_wholly_known_adds_no_error():
    counts, areas = np.array([[30, 10], [0, 1]]), np.array([0.9, 0.1])
    mapped, true = np.nonzero(counts)
    kwargs = {"units": counts[mapped, true], "stratum": mapped, "weights": areas}
    assert math.isnan(
        estimate(tally_units(mapped, true, **kwargs), 2).overall_accuracy.standard_error
    )
    known = tally_units(mapped, true, complete=np.array([False, True]), **kwargs)
    found = estimate(known, 2).overall_accuracy
    assert found.value == pytest.approx(0.9 * 0.75 + 0.1)
    assert found.standard_error == pytest.approx(0.9 * math.sqrt(0.75 * 0.25 / 39))


def test_a_census_leaves_no_doubt():
    counts, areas = np.array([[30, 10], [0, 20]]), np.array([40.0, 20])
    mapped, true = np.nonzero(counts)
    known = tally_units(
        mapped, true, units=counts[mapped, true], stratum=mapped, weights=areas,
        complete=np.array([True, True]),
    )  # fmt: skip
    found = estimate(known, 2)
    each = (found.users_accuracy, found.producers_accuracy, found.f1, found.iou, found.area_share)
    singles = (found.overall_accuracy, found.kappa, found.mean_f1, found.mean_iou)
    for one in (*singles, *(one for kind in each for one in kind)):
        assert one.low == pytest.approx(one.value)
        assert one.high == pytest.approx(one.value)
        assert one.standard_error == 0


def test_complete_strata_are_not_among_what_may_be_otherwise():
    """A tenth of the area is known and wrong; 30 units that are right speak for the rest."""
    sample = tally_units(
        np.array([0, 1]), np.array([0, 0]), units=np.array([30, 5]), stratum=np.array([0, 1]),
        weights=np.array([0.9, 0.1]), complete=np.array([False, True]),
    )  # fmt: skip
    found = estimate(sample, 2).overall_accuracy
    low = binomtest(30, 30).proportion_ci(0.95, method="exact").low
    assert found.numbers == pytest.approx((0.9, 0, 0.9 * low, 0.9))


def test_classes_that_may_be_overlooked_are_told():
    """In 300 units, each for 0.3 % of the area, one of class 0 may well be missed."""
    counts, areas = np.array([[45, 5], [0, 300]]), np.array([0.02, 0.98])
    found = estimate(of_matrix(counts, areas), 2)
    half = QUANTILE * found.area_share[0].standard_error
    assert half / 2 < 0.98 / 300
    assert found.is_thinly_sampled == (True, False)
    counts[1] = [3, 297]  # now some are seen, and the interval is wider
    found = estimate(of_matrix(counts, areas), 2)
    assert QUANTILE * found.area_share[0].standard_error > half
    assert found.is_thinly_sampled == (False, False)
    share = np.array([[45, 5], [0, 700]])  # one unit would move it by more than half of `half`
    found = estimate(of_matrix(share, areas), 2)
    half = QUANTILE * found.area_share[0].standard_error
    assert half / 2 < 0.98 / 700 < half
    assert found.is_thinly_sampled == (True, False)
    many = np.array([[45, 5], [0, 10_000]])
    assert estimate(of_matrix(many, areas), 2).is_thinly_sampled == (False, False)
    # no doubt at all: the interval is exact and allows for it
    assert estimate(of_matrix(np.diag([50, 300]), areas), 2).is_thinly_sampled == (False, False)


# --- what makes no difference -------------------------------------------------------------------


def test_neither_order_nor_unit_of_areas_matters():
    rng = np.random.default_rng(6)
    order = rng.permutation(40)
    one = tally_units(STEHMAN_MAP, STEHMAN_TRUE, stratum=STEHMAN_STRATUM, weights=STEHMAN_PIXELS)
    other = tally_units(
        STEHMAN_MAP[order], STEHMAN_TRUE[order], stratum=STEHMAN_STRATUM[order],
        weights=STEHMAN_PIXELS * 900.0,
    )  # fmt: skip
    assert one.size == other.size == 40
    first, second = (estimate(sample, 4) for sample in (one, other))
    assert first.kappa == second.kappa
    assert first.area_share == second.area_share


def test_alike_units_in_one_row_or_in_many():
    sample = of_matrix(OLOFSSON, OLOFSSON_PIXELS)
    rows = np.repeat(np.arange(len(sample.units)), sample.units)
    split = ReferenceUnits(
        mapped=sample.mapped[rows],
        reference=sample.reference[rows],
        stratum=sample.stratum[rows],
        weights=sample.weights,
        units=np.ones(len(rows), int),
    )
    one, other = estimate(sample, 4), estimate(split, 4)
    np.testing.assert_allclose(one.mean_iou.numbers, other.mean_iou.numbers)
    np.testing.assert_allclose(one.proportions, other.proportions)
