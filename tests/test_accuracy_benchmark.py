"""The accuracy benchmark's scenes: classic files with their fixed splits, and what is not them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from hsi_pipeline.errors import InputError

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "benchmarks" / "accuracy"))
from scenes import CLASSIC, OPEN  # noqa: E402

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")


def write_cube(path, *shape):
    """Write a made-up cube of a classic scene's shape, as it is distributed."""
    cube = np.random.default_rng(0).integers(1, 4000, shape, dtype=np.int16)
    scipy.io.savemat(path, {"scene": cube})
    return path


@needs_data
@pytest.mark.parametrize(
    ("name", "shape", "train", "test", "classes"),
    [
        ("indian_pines", (145, 145, 200), 695, 9_671, 16),
        ("pavia_university", (610, 340, 103), 2_774, 40_002, 9),
        ("houston_2013", (349, 1905, 144), 2_832, 12_197, 15),
    ],
)
def test_classic_scenes_come_with_their_published_split(
    name, shape, train, test, classes, tmp_path
):
    scene = CLASSIC[name](write_cube(tmp_path / "scene.mat", *shape), DATA)
    assert int(scene.split.train.sum()) == train
    assert int(scene.split.validation.sum()) == test
    assert not (scene.split.train & scene.split.validation).any()
    assert len(scene.scheme) == classes
    assert scene.data.labels.shape == shape[:2]
    assert len(scene.data.bands) == shape[2]


@needs_data
@pytest.mark.parametrize("shape", [(145, 145, 103), (610, 340, 200), (100, 145, 200)])
def test_another_scene_is_refused(shape, tmp_path):
    with pytest.raises(InputError, match="the split is for 200 or 220 bands of 145 x 145"):
        CLASSIC["indian_pines"](write_cube(tmp_path / "scene.mat", *shape), DATA)


@needs_data
def test_salinas_needs_its_labels_beside_it(tmp_path):
    with pytest.raises(InputError, match=r"Salinas_gt\.mat"):
        CLASSIC["salinas"](tmp_path / "Salinas_corrected.mat", DATA)
    labels = np.zeros((512, 217), np.uint8)
    labels[:10, :10] = 1
    scipy.io.savemat(tmp_path / "Salinas_gt.mat", {"salinas_gt": labels})
    with pytest.raises(InputError, match="100 labelled pixels"):
        CLASSIC["salinas"](tmp_path / "Salinas_corrected.mat", DATA)


@needs_data
@pytest.mark.parametrize(
    ("name", "classes", "bands"),
    [
        ("enmap_potsdam", 6, 218),
        ("salinas_a", 6, 204),
        ("jasper_ridge", 4, 198),
        ("idtrees", 7, 369),
    ],
)
def test_open_scenes_test_what_they_do_not_learn_from(name, classes, bands, tmp_path):
    scene = OPEN[name](DATA, tmp_path)
    assert len(scene.scheme) == classes
    assert len(scene.data.bands) == bands
    assert not (scene.split.train & scene.split.validation).any()
    trained = [count.train for count in scene.split.counts]
    assert min(trained) > 0
    if name == "idtrees":  # no plot on both sides
        plots = scene.data.units
        assert set(np.unique(plots[scene.split.train])).isdisjoint(
            np.unique(plots[scene.split.validation])
        )
