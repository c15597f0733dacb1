"""The area of applicability: distances by hand, thresholds, and materials never seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from hsi_pipeline.applicability import fit_applicability
from hsi_pipeline.ground_truth import read_labels
from hsi_pipeline.models.applicability import Applicability, nearest_distance
from hsi_pipeline.models.outputs import PreparedApplicability
from hsi_pipeline.scene import cube_of, open_source
from hsi_pipeline.spectra import band_statistics, bands_to_learn_from, read_spectra

BANDS = 12
SAMPLE = Path(__file__).parents[1] / "sample_data"


def spectra_of(*levels, count=150, seed=0):
    """Noisy spectra around one shape for each level."""
    rng = np.random.default_rng(seed)
    shapes = [level + 0.1 * np.sin(np.arange(BANDS) * level * 9) for level in levels]
    found = [shape + rng.normal(0, 0.01, (count, BANDS)) for shape in shapes]
    return np.concatenate(found).astype(np.float32), np.repeat(np.arange(len(levels)), count)


def dissimilarity(area, spectra):
    with torch.no_grad():
        return area(area.components(torch.from_numpy(spectra))).numpy()


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(1)
    points, centers = rng.normal(size=(50, 6)), rng.normal(size=(9, 6))
    found = nearest_distance(torch.from_numpy(points), torch.from_numpy(centers))
    np.testing.assert_allclose(found.numpy(), cdist(points, centers).min(1), rtol=1e-9)


def test_training_spectra_are_within_and_a_new_material_is_not():
    spectra, labels = spectra_of(0.1, 0.3, 0.5)
    folds = [
        (np.arange(0, 450, 2), np.arange(1, 450, 2)),
        (np.arange(1, 450, 2), np.arange(0, 450, 2)),
    ]
    area = fit_applicability(spectra, labels, folds=folds)
    again, _ = spectra_of(0.1, 0.3, 0.5, seed=7)
    new, _ = spectra_of(0.8, seed=7)
    assert (dissimilarity(area, again) > 1).mean() < 0.1
    assert (dissimilarity(area, new) > 1).all()
    values = np.concatenate([dissimilarity(area, part) for part in (again, new)])
    assert roc_auc_score(np.arange(len(values)) >= len(again), values) > 0.99


def test_the_threshold_is_what_one_in_twenty_exceeds_when_held_out():
    spectra, labels = spectra_of(0.1, 0.3)
    of, out = np.arange(0, 300, 2), np.arange(1, 300, 2)
    area = fit_applicability(spectra, labels, folds=[(of, out)])
    # the same space, with centres of the rows that were described alone
    part = fit_applicability(spectra[of], labels[of])
    points = area.components(torch.from_numpy(spectra)).double()
    centers = np.concatenate(
        [
            KMeans(20, n_init=1, random_state=0).fit(points[of][labels[of] == k]).cluster_centers_
            for k in (0, 1)
        ]
    )
    distances = cdist(points[out], centers).min(1)
    expected = np.quantile(distances, 0.95)
    assert float(area.threshold) == pytest.approx(expected, rel=1e-3)
    assert part.centers.shape == (40, BANDS)


def test_a_class_that_a_fold_lacks_does_not_raise_the_threshold():
    spectra, labels = spectra_of(0.1, 0.3, 0.5)
    known, rare = labels < 2, np.flatnonzero(labels == 2)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(known))
    half = len(rows) // 2
    without = [(rows[:half], rows[half:]), (rows[half:], rows[:half])]
    # all of the third class on one side, as a class of a single polygon is
    with_rare = [(of, np.concatenate([out, rare])) for of, out in without]
    expected = fit_applicability(spectra, labels, folds=without).threshold
    found = fit_applicability(spectra, labels, folds=with_rare).threshold
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_without_folds_thirds_of_the_rows_are_held_out():
    spectra, labels = spectra_of(0.1, 0.3, 0.5, count=30)
    area = fit_applicability(spectra, labels)
    new, _ = spectra_of(0.1, 0.3, 0.5, count=200, seed=5)
    # distances of the rows to their own centres would flag half of these
    assert (dissimilarity(area, new) > 1).mean() < 0.2


def test_a_rare_class_has_centers_of_its_own():
    spectra, labels = spectra_of(0.1, 0.3)
    rare = spectra_of(0.7, count=3)[0]
    area = fit_applicability(np.concatenate([spectra, rare]), np.concatenate([labels, [2, 2, 2]]))
    assert len(area.centers) == 43
    assert (dissimilarity(area, rare) < 1).all()


def test_spectra_that_are_all_the_same():
    spectra = np.full((30, BANDS), 0.25, np.float32)
    area = fit_applicability(spectra, np.repeat([0, 1], 15))
    assert (dissimilarity(area, spectra) <= 1).all()
    assert np.isfinite(dissimilarity(area, spectra + 0.1)).all()


@pytest.mark.parametrize("resampled", [False, True])
def test_digital_numbers_give_what_reflectance_gives(resampled):
    spectra, labels = spectra_of(0.1, 0.3, 0.5)
    area = fit_applicability(spectra, labels)
    rng = np.random.default_rng(2)
    raw = torch.from_numpy(rng.integers(0, 9000, (BANDS, 7, 5)).astype(np.int16))
    scale, offset = torch.full((BANDS,), 1e-4), torch.linspace(-0.01, 0.02, BANDS)
    matrix = torch.from_numpy(rng.dirichlet(np.ones(BANDS), BANDS)) if resampled else None
    valid = torch.ones(7, 5, dtype=torch.bool)
    valid[2, 3] = False
    reflectance = raw.double() * scale[:, None, None] + offset[:, None, None]
    if matrix is not None:
        reflectance = torch.einsum("ob,byx->oyx", matrix, reflectance)
    expected = dissimilarity(area, reflectance.flatten(1).T.float().numpy()).reshape(7, 5)
    with torch.no_grad():
        found = PreparedApplicability(area, scale, offset, matrix)(raw, valid).numpy()
    np.testing.assert_allclose(found[valid], expected[valid], rtol=2e-4)


def test_damaged_states_are_refused():
    state = fit_applicability(*spectra_of(0.1, 0.3)).state_dict()
    with pytest.raises(ValueError, match="has 12 bands, the model 13"):
        Applicability.from_state(state, 13)
    with pytest.raises(ValueError, match="is damaged"):
        Applicability.from_state({"basis": state["basis"]}, BANDS)
    with pytest.raises(RuntimeError):
        Applicability.from_state(state | {"centers": state["centers"][:, :3]}, BANDS)


def test_classes_left_out_of_the_sample_scene_are_told_from_the_others():
    source = open_source(SAMPLE / "scene.tif")
    cube = cube_of(source)
    parts = [read_labels(SAMPLE / f"{name}.gpkg", source.grid) for name in ("train", "test")]
    bands = bands_to_learn_from(cube, band_statistics(cube, parts[0].labels > 0))
    (spectra, labels), (new, truth) = (
        (read_spectra(cube, part.labels > 0, bands), part.labels[part.labels > 0]) for part in parts
    )
    units = parts[0].units[parts[0].labels > 0]
    third = units % 3  # whole polygons
    found = []
    for code in parts[1].scheme.codes:
        kept = labels != code
        place = third[kept]
        folds = [(np.flatnonzero(place != k), np.flatnonzero(place == k)) for k in range(3)]
        area = fit_applicability(spectra[kept], labels[kept], folds=folds)
        found.append(roc_auc_score(truth == code, dissimilarity(area, new)))
    assert np.mean(found) > 0.9
    assert min(found) > 0.8
