"""Scenes through xarray: engines by name, values, laziness, and what is refused."""

import pickle

import numpy as np
import pytest
import xarray as xr
from test_products import EXAMPLES, everything, reflectance_of

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_source
from hsi_pipeline.scene.quality import bit
from hsi_pipeline.xarray_engines import ENGINES

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request, tmp_path_factory):
    return EXAMPLES[request.param](tmp_path_factory.mktemp("product"))


def test_the_engines_are_registered():
    known = xr.backends.list_engines()
    assert set(ENGINES) <= set(known)
    for name, engine in ENGINES.items():
        assert isinstance(known[name], engine)


def test_the_engine_of_the_sensor_gives_reflectance(example):
    source = open_source(example.path)
    engine = example.reader if example.reader in ENGINES else "hsi"
    with xr.open_dataset(example.path, engine=engine) as opened:
        name = str(source.attrs.get("quantity", "reflectance"))
        values = opened[name]
        assert values.dims == ("band", "y", "x")
        assert values.dtype == np.float32
        np.testing.assert_allclose(
            values, reflectance_of(source, everything(source)), rtol=1e-4, atol=1e-6
        )
        whole = values.values
        np.testing.assert_array_equal(values[1, 2:5, 3].values, whole[1, 2:5, 3])
        np.testing.assert_array_equal(
            values.isel(band=[2, 0, 1], y=slice(None, None, -2)).values, whole[[2, 0, 1], ::-2]
        )
        if example.center_nm:
            np.testing.assert_allclose(opened["wavelength"], example.center_nm, rtol=1e-6)
        assert opened.odc.geobox.crs == example.grid.crs
        assert ("quality" in opened) == bool(example.flags)
        for flag, wanted in example.flags.items():
            np.testing.assert_array_equal((opened["quality"].values & bit(flag)) != 0, wanted)
        assert opened.attrs["scene_id"]


def test_chunks_are_lazy_and_masks_are_applied(example):
    engine = example.reader if example.reader in ENGINES else "hsi"
    opened = xr.open_dataset(example.path, engine=engine, chunks={}, mask="strict")
    values = next(v for v in opened.data_vars.values() if v.ndim == 3)
    assert values.chunks is not None
    again = pickle.loads(pickle.dumps(values))
    gone = np.zeros(values.shape[1:], bool)
    for flag, where in example.flags.items():
        gone |= where if flag != "water" else False
    found = again.compute(scheduler="threads").values
    assert np.isnan(found[:, gone]).all()
    assert np.isnan(found).all() == gone.all()


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "hsi"])
def test_another_sensor_s_file_is_refused_with_the_engine_that_reads_it(tiny, engine):
    with pytest.raises(InputError, match=rf"engine='{engine}' reads; open it with engine='hsi'"):
        xr.open_dataset(tiny.path, engine=engine)
    assert not ENGINES[engine]().guess_can_open(tiny.path)


def test_the_engine_hsi_opens_anything_but_claims_nothing(tiny):
    with xr.open_dataset(tiny.path, engine="hsi", drop_variables="good") as opened:
        assert "good" not in opened
        expected = np.where(tiny.valid, tiny.pixels * np.float32(1e-4), np.nan)
        np.testing.assert_allclose(opened["reflectance"], expected, rtol=1e-6)
    assert not ENGINES["hsi"]().guess_can_open(tiny.path)


def test_a_folder_of_several_sensors_is_claimed_by_none(tmp_path):
    for name in ("enmap", "prisma"):
        next(w for key, w in EXAMPLES.items() if key.startswith(name))(tmp_path)
    assert not any(engine().guess_can_open(tmp_path) for engine in ENGINES.values())
