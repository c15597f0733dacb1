"""Class maps: the same for every cut, lazily, and the same as the network on the whole scene."""

import pickle
import re
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from torch import nn

from hsi_pipeline import chunk_tasks, inference
from hsi_pipeline.applicability import fit_applicability
from hsi_pipeline.classes import make_scheme, scheme_from_attrs
from hsi_pipeline.cube import grid_of, make_cube, pixel_grid
from hsi_pipeline.errors import InputError, WindowError
from hsi_pipeline.estimators import fit_estimator, is_estimator
from hsi_pipeline.inference import chunk_for_memory, classify_cube, resolve_precision
from hsi_pipeline.models import build_model
from hsi_pipeline.resampling import resample
from hsi_pipeline.spectra import bands_for_model
from hsi_pipeline.wavelengths import Wavelengths

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

BANDS = 4
SCHEME = make_scheme([3, 7, 250])
NODATA = -9999
NM = Wavelengths((993.1, 902.3, 500.0, 2200.0))
NETWORKS = {  # all of the smallest kernels that still have a halo
    "sigmoid": ("hyperloopnet", {"kernels": [1, 3], "window": 3, "width": 4}),
    "relu": ("hyperloopnet", {"kernels": [3], "window": 5, "width": 4, "gate": "relu"}),
    "no attention": ("hyperloopnet-no-attention", {"kernels": [3], "window": 3, "width": 4}),
    "spectral": ("spectral", {"width": 6}),
    "fusion": ("hyperloopnet-fusion", {"window": 3, "width": 4, "components": 3, "centers": 9}),
    "forest": ("random_forest", {"n_estimators": 5}),
}


def network(name="sigmoid"):
    """A small network with random statistics whose maps hold several classes."""
    torch.manual_seed(5)
    architecture, arguments = NETWORKS[name]
    spectra = torch.rand(60, BANDS) / 2
    classes = spectra.mul(torch.tensor([[1.0, -1.0, 1.0, -1.0]])).sum(1).argsort().argsort() // 20
    if is_estimator(architecture):
        return fit_estimator(
            architecture, spectra.numpy(), classes.numpy(), len(SCHEME), settings=arguments
        )[0].eval()
    model = build_model(architecture, BANDS, len(SCHEME), **arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, 0.0, 0.4)
            nn.init.uniform_(module.running_var, 0.2, 0.5)
    model.eval().band_mean.fill_(0.25)
    model.band_std.fill_(0.15)
    if name == "fusion":
        model.start(spectra, classes)
        return model
    with torch.no_grad():  # equal shares of the classes, with confidence
        scores = model(torch.rand(1, BANDS, 40, 40) / 2)
        factor = 2 / scores.std((0, 2, 3))
        model.classifier.weight.data.mul_(
            factor.view(-1, *[1] * (model.classifier.weight.ndim - 1))
        )
        model.classifier.bias.data.sub_(scores.mean((0, 2, 3))).mul_(factor)
    return model


class Watched(nn.Module):
    """A network that is not known by its class, so that it runs as it is, and says how often."""

    def __init__(self, model):
        super().__init__()
        self.model, self.halo, self.runs = model, model.halo, []

    def forward(self, x, valid=None):
        self.runs.append(tuple(x.shape[2:]))
        return self.model(x, valid)


class Scene:
    """A source of pixels that keeps a record of what is read, and may refuse."""

    ndim = 3

    def __init__(self, array, *, refuse=False):
        self.array, self.refuse, self.windows = array, refuse, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        if self.refuse:
            raise AssertionError("pixels were read")
        self.windows.append(key)
        return self.array[key]


def cube_of(array, *, chunks=-1, grid=None, source=None, **arguments):
    defaults = {"scale": 1e-4, "nodata": NODATA, "wavelengths": NM}
    pixels = (
        da.from_array(array, chunks=chunks)
        if source is None
        else da.from_array(
            source,
            chunks=chunks,
            name=f"scene-{id(source)}",
            asarray=False,
            meta=np.empty((0, 0, 0), array.dtype),
        )
    )
    return make_cube(
        pixels,
        grid
        if grid is not None
        else GeoBox(array.shape[1:], Affine(30, 0, 0, 0, -30, 0), "EPSG:32633"),
        good=(True,) * len(array),
        band_names=tuple(f"b{i}" for i in range(len(array))),
        **{**defaults, **arguments},
    )


def random_scene(rows, columns, *, holes="none", seed=0):
    random = np.random.default_rng(seed)
    array = random.integers(0, 5000, (BANDS, rows, columns)).astype(np.int16)
    r, c = np.mgrid[:rows, :columns]
    invalid = {
        "none": np.zeros((rows, columns), bool),
        "all": np.ones((rows, columns), bool),
        "rotated": (2 * r + c < rows) | (r - c > rows // 2),
        "stripe": r == rows // 2,
        "scattered": random.random((rows, columns)) < 0.2,
        "half": c >= columns // 2,
        "one left": (r != rows // 2) | (c != columns // 3),
    }[holes]
    array[:, invalid] = NODATA
    return array


HOLES = ("none", "all", "rotated", "stripe", "scattered", "half", "one left")


def by_hand(array, model, *, scale=1e-4, offset=0.0, nodata=NODATA):
    """Probabilities (class, y, x) of one pass over the whole scene, and validity."""
    valid = np.isfinite(array).all(0)
    if nodata is not None:
        valid &= (array != nodata).all(0)
    x = torch.from_numpy((np.where(valid, array, 0) * scale + offset).astype(np.float32))[None]
    with torch.no_grad():
        scores = model(x, torch.from_numpy(valid.astype(np.float32))[None, None])
    return scores.softmax(1)[0].numpy(), valid


def classify(cube, model, **arguments):
    arguments = {"bands": tuple(range(BANDS)), "probabilities": True, **arguments}
    with dask.config.set(scheduler="synchronous"):
        return classify_cube(cube, model, SCHEME, **arguments).compute()


def assert_is(class_map, probabilities, valid, tolerance=1e-5):
    """The map holds these probabilities, and the class of the highest one."""
    np.testing.assert_allclose(
        class_map["probability"].values, np.where(valid, probabilities, np.nan), atol=tolerance
    )
    np.testing.assert_allclose(
        class_map["confidence"].values,
        np.where(valid, probabilities.max(0), np.nan),
        atol=tolerance,
    )
    ordered = np.sort(probabilities, 0)
    clear = valid & (ordered[-1] - ordered[-2] > 2 * tolerance)
    codes = np.array(SCHEME.codes)[probabilities.argmax(0)]
    np.testing.assert_array_equal(class_map["class"].values[clear], codes[clear])
    assert (class_map["class"].values[~valid] == 0).all()
    assert (class_map["class"].values[valid] > 0).all()


# --- the same map for every cut ---


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 34),
    columns=st.integers(1, 34),
    tile=st.integers(3, 20),
    chunk=st.integers(1, 50) | st.none(),
    own_chunks=st.tuples(st.integers(1, 4), st.integers(1, 34), st.integers(1, 34)),
    holes=st.sampled_from(HOLES),
    name=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 99),
)
def test_map_is_that_of_one_pass_over_the_whole_scene(
    rows, columns, tile, chunk, own_chunks, holes, name, seed
):
    array = random_scene(rows, columns, holes=holes, seed=seed)
    model = network(name)
    if chunk is not None:  # thousands of tiles show no more than dozens
        chunk = max(chunk, max(rows, columns) // 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "TILE", tile)
        class_map = classify(cube_of(array, chunks=own_chunks), model, chunk=chunk)
    assert_is(class_map, *by_hand(array, model))


def test_the_maps_under_test_hold_several_classes():
    """Else the test above would show little."""
    for name in NETWORKS:
        codes = classify(cube_of(random_scene(34, 34)), network(name))["class"].values
        counts = np.unique(codes, return_counts=True)[1]
        assert len(counts) == len(SCHEME), name
        assert counts.min() > 50, name


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (5, 6)])
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_scenes_smaller_than_the_halo(shape, chunk):
    model = network("relu")
    assert max(min(shape), 6) < model.halo
    array = random_scene(*shape)
    assert_is(classify(cube_of(array), model, chunk=chunk), *by_hand(array, model))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("holes", ["none", "rotated"])
def test_maps_are_equal_to_the_byte_for_all_chunks_of_whole_tiles(monkeypatch, precision, holes):
    monkeypatch.setattr(inference, "TILE", 16)
    array, model = random_scene(70, 53, holes=holes), network()
    first = classify(cube_of(array), model, chunk=16, precision=precision)
    for chunk, own_chunks in ((32, (1, 7, 53)), (17, -1), (48, (4, 16, 16)), (999, -1), (None, 9)):
        other = classify(cube_of(array, chunks=own_chunks), model, chunk=chunk, precision=precision)
        for name in ("class", "confidence", "probability"):
            assert other[name].values.tobytes() == first[name].values.tobytes(), (chunk, name)


ALL_LAYERS = ["entropy", "margin", "dissimilarity"]


def area_of(array):
    """An area of applicability of some of a scene's pixels."""
    spectra = array.reshape(BANDS, -1).T[:200] * np.float32(1e-4)
    return fit_applicability(spectra.clip(0), np.arange(200) % 3)


@pytest.mark.parametrize("holes", ["none", "rotated"])
def test_layers_are_the_same_for_every_chunk_in_half_precision(monkeypatch, holes):
    monkeypatch.setattr(inference, "TILE", 16)
    array, model = random_scene(50, 41, holes=holes), network()
    options = {"layers": ALL_LAYERS, "applicability": area_of(random_scene(20, 20))}
    first = classify(cube_of(array), model, chunk=16, precision="bfloat16", **options)
    exact = classify(cube_of(array), model, chunk=16, **options)
    other = classify(cube_of(array), model, chunk=48, precision="bfloat16", **options)
    for name in ALL_LAYERS:
        assert other[name].values.tobytes() == first[name].values.tobytes(), name
    # which spectra are known does not depend on the network's number type
    np.testing.assert_array_equal(first["dissimilarity"], exact["dissimilarity"])


@pytest.mark.parametrize("holes", ["none", "rotated"])
def test_layers_are_what_they_say_and_the_same_for_every_chunk(monkeypatch, holes):
    monkeypatch.setattr(inference, "TILE", 16)
    array, model = random_scene(50, 41, holes=holes), network()
    area = area_of(random_scene(20, 20))
    options = {"layers": ALL_LAYERS, "applicability": area, "temperature": 1.7}
    first = classify(cube_of(array), model, chunk=16, **options)
    probabilities, valid = by_hand(array, model)
    logarithms = np.log(probabilities) / 1.7
    expected = np.exp(logarithms - logarithms.max(0))
    expected /= expected.sum(0)
    assert_is(first, expected, valid)
    ordered = np.sort(expected, 0)
    entropy = -(expected * np.log(expected)).sum(0) / np.log(len(SCHEME))
    reflectance = torch.from_numpy(array.reshape(BANDS, -1).T * np.float32(1e-4))
    distance = area(area.components(reflectance)).view(array.shape[1:]).numpy()
    for name, values in (
        ("entropy", entropy), ("margin", ordered[-1] - ordered[-2]), ("dissimilarity", distance)
    ):  # fmt: skip
        np.testing.assert_allclose(
            first[name].values, np.where(valid, values, np.nan), atol=1e-4, err_msg=name
        )
        assert first[name].dtype == np.float32
    for chunk in (32, 17, 999):
        other = classify(cube_of(array, chunks=(1, 7, 41)), model, chunk=chunk, **options)
        for name in (*ALL_LAYERS, "confidence", "probability", "class"):
            assert other[name].values.tobytes() == first[name].values.tobytes(), (chunk, name)


def test_a_temperature_changes_no_class():
    array, model = random_scene(34, 34), network()
    plain, divided = (classify(cube_of(array), model, temperature=t) for t in (1.0, 4.0))
    np.testing.assert_array_equal(plain["class"], divided["class"])
    assert (divided["confidence"] < plain["confidence"]).mean() > 0.9


def test_layers_that_cannot_be_made_are_refused():
    cube, model = cube_of(random_scene(5, 5)), network()
    with pytest.raises(InputError, match="there is no layer 'doubt'; layers are entropy, margin"):
        classify(cube, model, layers=["doubt"])
    with pytest.raises(InputError, match=r"does not know the area.*train it again"):
        classify(cube, model, layers=["dissimilarity"])
    absent = resample(NM, Wavelengths(NM.center_nm[:3]), [True] * 3, 5.0, fill="mean")
    three = cube_of(random_scene(5, 5)[:3], wavelengths=Wavelengths(NM.center_nm[:3]))
    area = area_of(random_scene(20, 20))
    with pytest.raises(InputError, match=r"the scene lacks 1 of them; leave it out"):
        classify(three, model, bands=absent, layers=["dissimilarity"], applicability=area)


def test_the_real_network_over_real_tiles():
    """Kernels up to 7 and window 11, halo 37, in 64 pixel tiles."""
    torch.manual_seed(0)
    model = build_model("hyperloopnet", BANDS, len(SCHEME), width=4).eval()
    array = random_scene(130, 90, holes="rotated")
    class_map = classify(cube_of(array), model, chunk=64)
    assert model.halo == 37
    assert_is(class_map, *by_hand(array, model))


def test_threads_give_the_map_that_one_thread_gives(monkeypatch):
    monkeypatch.setattr(inference, "TILE", 8)
    array, model = random_scene(40, 40, holes="scattered"), network()
    expected = classify(cube_of(array), model)
    with dask.config.set(scheduler="threads", num_workers=4):
        found = classify_cube(
            cube_of(array), model, SCHEME, bands=tuple(range(BANDS)), probabilities=True
        ).compute()
    assert found.identical(expected)


@pytest.fixture
def _one_thread():
    """Let Torch compute with one thread here, as Dask lets its workers do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_workers_in_other_processes_give_the_same_map(precision):
    distributed = pytest.importorskip("distributed")
    array, model = random_scene(40, 30, holes="rotated"), network()
    options = {"layers": ALL_LAYERS, "applicability": area_of(random_scene(20, 20))}
    options |= {"chunk": 16, "precision": precision, "temperature": 1.3}
    expected = classify(cube_of(array), model, **options)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, distributed.Client(cluster):
        found = classify_cube(
            cube_of(array), model, SCHEME, bands=tuple(range(BANDS)), probabilities=True, **options
        ).compute()  # fmt: skip
    assert found.identical(expected)


# --- meaning of the numbers ---


@pytest.mark.parametrize("holes", ["none", "scattered"])
def test_scale_and_offset_of_each_band(holes):
    scale, offset = (1e-4, 2e-4, 5e-5, 1e-4), (0.0, -0.1, 0.2, 0.05)
    array, model = random_scene(20, 20, holes=holes), network()
    column = lambda values: np.array(values, np.float32)[:, None, None]  # noqa: E731
    expected = by_hand(array, model, scale=column(scale), offset=column(offset))
    assert_is(classify(cube_of(array, scale=scale, offset=offset), model), *expected)
    # and of the bands chosen, not of the first ones
    order = (2, 0, 3, 1)
    chosen = by_hand(
        array[list(order)],
        model,
        scale=column([scale[i] for i in order]),
        offset=column([offset[i] for i in order]),
    )
    assert_is(classify(cube_of(array, scale=scale, offset=offset), model, bands=order), *chosen)


@pytest.mark.parametrize("nodata", [None, np.nan, -3.4e38, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_scenes_are_invalid_where_they_are_nan_or_nodata(nodata, dtype):
    array = (random_scene(20, 22) * 1e-4).astype(dtype)
    array[1, 3:7, 5] = np.nan  # one band is enough
    array[:, 11] = np.inf
    marked = array.copy()
    if nodata is not None:
        marked[:, 15:, 15:] = nodata
        array[:, 15:, 15:] = np.nan
    model = network()
    expected = by_hand(array, model, scale=1.0, nodata=None)
    found = classify(cube_of(marked, scale=1.0, nodata=nodata), model, chunk=9)
    assert_is(found, *expected)
    assert (found["class"].values[3:7, 5] == 0).all()
    assert not expected[1][11].any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_all_number_types_of_scenes(dtype):
    array = np.random.default_rng(0).integers(1, 255, (BANDS, 12, 14)).astype(dtype)
    array[:, 4:6, 3] = 0
    model = network()
    expected = by_hand(array, model, scale=0.002, nodata=0)
    assert_is(classify(cube_of(array, scale=0.002, nodata=0), model), *expected)


def test_bands_in_another_order_give_the_same_map():
    array, model = random_scene(25, 19, holes="rotated"), network()
    order = [2, 0, 3, 1]
    cube = cube_of(array)
    permuted = cube_of(array[order], wavelengths=NM.select(order))
    first, second = (
        classify(c, model, bands=bands_for_model(c, NM, BANDS, 1.0)) for c in (cube, permuted)
    )
    assert second.identical(first)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("chunk", [9, 16, 64])
def test_another_sensor_s_scene_is_classified_as_if_it_were_resampled_first(name, chunk):
    """Seven bands of another sensor, one of them dead, in an order of their own."""
    model = network(name)
    random = np.random.default_rng(3)
    raw = random.integers(100, 5000, (7, 30, 25)).astype(np.int16)
    raw[:, 3:6, 2:20] = NODATA
    raw[2] = NODATA
    span = (min(NM.center_nm) - 20, max(NM.center_nm) + 20)
    centers = np.linspace(*span, 7)[[3, 1, 6, 0, 5, 2, 4]]
    other = Wavelengths(tuple(centers.tolist()))
    good = tuple(i != 2 for i in range(7))
    operator = resample(NM, other, good, 1e4, method="linear")
    assert 2 not in operator.bands
    cube = make_cube(
        da.from_array(raw, chunks=(7, 11, 13)),
        GeoBox((30, 25), Affine(30, 0, 0, 0, -30, 0), "EPSG:32633"),
        wavelengths=other, good=good, band_names=tuple("abcdefg"), scale=1e-4, nodata=NODATA,
    )  # fmt: skip
    valid = raw[0] != NODATA
    made = operator.apply(raw[list(operator.bands)].astype(np.float64))
    made[:, ~valid] = np.nan
    probabilities, _ = by_hand(made, model, nodata=None)
    found = classify(cube, model, bands=operator, chunk=chunk)
    assert_is(found, probabilities, valid)


def test_bands_that_the_model_does_not_use_do_not_matter():
    array, model = random_scene(25, 19, holes="stripe"), network()
    extra = np.full((1, 25, 19), NODATA, np.int16)  # a dead band, which must not hide all pixels
    more = np.concatenate([array[:2], extra, array[2:]])
    wavelengths = Wavelengths((*NM.center_nm[:2], 1400.0, *NM.center_nm[2:]))
    bands = bands_for_model(cube_of(more, wavelengths=wavelengths), NM, BANDS, 1.0)
    assert bands.bands == (0, 1, 3, 4)
    found = classify(cube_of(more, wavelengths=wavelengths), model, bands=bands)
    assert_is(found, *by_hand(array, model))


def test_bfloat16_changes_a_class_only_where_two_are_nearly_equal():
    array, model = random_scene(40, 40, holes="rotated"), network()
    probabilities, valid = by_hand(array, model)
    found = classify(cube_of(array), model, precision="bfloat16")
    difference = np.abs(found["probability"].values - probabilities)[:, valid]
    assert 0 < difference.max() < 0.15
    changed = valid & (found["class"].values != np.array(SCHEME.codes)[probabilities.argmax(0)])
    ordered = np.sort(probabilities, 0)
    assert (ordered[-1] - ordered[-2])[changed].max(initial=0) < 0.2
    assert changed.sum() < 0.1 * valid.sum()
    assert (found["class"].values[~valid] == 0).all()


def test_precisions():
    assert resolve_precision("float32", "cpu") == torch.float32
    assert resolve_precision("bfloat16", "cpu") == torch.bfloat16
    assert resolve_precision("auto", "cpu") in (torch.float32, torch.bfloat16)
    with pytest.raises(InputError, match="precision 'half' is not one of float32, bfloat16, auto"):
        resolve_precision("half", "cpu")
    with pytest.raises(InputError, match="precision 'half'"):
        classify(cube_of(random_scene(3, 3)), network(), precision="half")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_map_of_the_processor():
    array, model = random_scene(60, 50, holes="rotated"), network()
    expected = by_hand(array, model)
    assert_is(classify(cube_of(array), model, device="cuda", chunk=16), *expected, tolerance=1e-4)
    options = {"layers": ALL_LAYERS, "applicability": area_of(random_scene(20, 20)), "chunk": 16}
    here, there = (classify(cube_of(array), model, device=d, **options) for d in ("cpu", "cuda"))
    for name in ALL_LAYERS:
        np.testing.assert_allclose(there[name], here[name], atol=1e-3, err_msg=name)


# --- lazily, and each thing once ---


@pytest.mark.parametrize("holes", ["none", "rotated"])
def test_building_the_graph_reads_nothing(holes):
    array = random_scene(30, 30, holes=holes)
    cube = cube_of(array, source=Scene(array, refuse=True))
    class_map = classify_cube(cube, network(), SCHEME, bands=(0, 1, 2, 3), probabilities=True)
    assert all(dask.is_dask_collection(v.data) for v in class_map.data_vars.values())
    with pytest.raises(AssertionError, match="pixels were read"):
        class_map["class"].isel(x=0, y=0).compute(scheduler="synchronous")


def test_the_network_runs_once_a_tile_for_all_variables_together(monkeypatch):
    monkeypatch.setattr(inference, "TILE", 16)
    array, model = random_scene(64, 40), Watched(network())
    runs = model.runs
    lazy = classify_cube(
        cube_of(array), model, SCHEME, bands=(0, 1, 2, 3), chunk=32, probabilities=True
    )
    dask.compute(lazy["class"], lazy["confidence"], lazy["probability"])
    assert len(runs) == 4 * 3
    assert max(runs) <= (16 + 2 * model.halo,) * 2
    runs.clear()
    lazy["class"][:20, :10].compute()
    assert len(runs) == 4 + 0  # rows 0 to 19 touch one chunk of 32, that is four tiles


def test_the_network_does_not_run_where_nothing_is_valid(monkeypatch):
    monkeypatch.setattr(inference, "TILE", 10)
    array, model = random_scene(40, 40, holes="half"), Watched(network())
    found = classify(cube_of(array), model)
    assert len(model.runs) == 4 * 2
    assert_is(found, *by_hand(array, model))


def test_each_chunk_reads_its_window_and_halo_and_nothing_else(monkeypatch):
    monkeypatch.setattr(inference, "TILE", 16)
    array, model = random_scene(100, 90), network()
    source = Scene(array)
    lazy = classify_cube(cube_of(array, source=source), model, SCHEME, bands=(1, 2, 3, 1), chunk=32)
    halo = model.halo
    lazy["class"][64:70, 32:40].compute(scheduler="synchronous")
    bands, rows, columns = source.windows[0]
    assert len(source.windows) == 1
    assert (bands.start, bands.stop) == (1, 4)
    assert (rows.start, rows.stop) == (64 - halo, min(96 + halo, 100))
    assert (columns.start, columns.stop) == (32 - halo, min(64 + halo, 90))
    source.windows.clear()
    dask.compute(lazy["class"], lazy["confidence"], scheduler="synchronous")
    assert len(source.windows) == 4 * 3


class Flaky(Scene):
    """A source whose windows fail, each some times, or for ever."""

    def __init__(self, array, failures):
        super().__init__(array)
        self.failures = failures

    def __getitem__(self, key):
        window = super().__getitem__(key)
        if self.windows.count(key) <= self.failures:
            raise OSError("the network share is gone")
        return window


def test_a_fault_that_passes_is_waited_for(monkeypatch):
    monkeypatch.setattr(chunk_tasks, "_PAUSES_S", (0.0, 0.0))
    array, model = random_scene(20, 20), network()
    found = classify(cube_of(array, source=Flaky(array, 2)), model, chunk=10)
    assert_is(found, *by_hand(array, model))


def test_a_window_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setattr(chunk_tasks, "_PAUSES_S", (0.0, 0.0))
    array, model = random_scene(20, 40), network("spectral")
    words = "rows 0 to 19, columns 0 to 39 cannot be read, tried 3 times: the network share is gone"
    with pytest.raises(InputError, match=words):
        classify(cube_of(array, source=Flaky(array, 3)), model)


def test_the_error_of_a_window_tells_its_chunk_to_other_processes_too(monkeypatch):
    monkeypatch.setattr(chunk_tasks, "_PAUSES_S", ())
    array, model = random_scene(20, 40), network("spectral")

    class Torn(Scene):
        def __getitem__(self, key):
            if key[2].start == 30:
                raise OSError("torn")
            return super().__getitem__(key)

    with pytest.raises(WindowError) as error:
        classify(cube_of(array, source=Torn(array)), model, chunk=10)
    assert error.value.chunk[1] == 3
    again = pickle.loads(pickle.dumps(error.value))
    assert (str(again), again.chunk) == (str(error.value), error.value.chunk)


# --- devices and cores ---


class Cramped(nn.Module):
    """A network on a device that has no memory for windows of more than some pixels."""

    def __init__(self, model, pixels):
        super().__init__()
        self.model, self.halo, self.pixels, self.tried = model, model.halo, pixels, []

    def forward(self, x, valid=None):
        self.tried.append(x.shape[2:].numel())
        if self.tried[-1] > self.pixels:
            raise torch.OutOfMemoryError("too large")
        return self.model(x, valid)


def test_a_device_without_memory_for_a_tile_goes_on_with_smaller_ones(monkeypatch):
    monkeypatch.setattr(inference, "TILE", 32)
    monkeypatch.setattr(chunk_tasks, "_SMALLEST_TILE", 4)
    array, model = random_scene(70, 50, holes="rotated"), network()
    cramped = Cramped(model, (8 + 2 * model.halo) ** 2)
    with pytest.warns(UserWarning, match="ran out of memory") as warned:
        found = classify(cube_of(array), cramped, chunk=64)
    assert_is(found, *by_hand(array, model))
    # halved once or twice and remembered, not tried anew at every tile
    assert sum(pixels > cramped.pixels for pixels in cramped.tried) == 2
    assert len(cramped.tried) > 20
    assert "going on with tiles of 8 pixels" in str(warned[-1].message)


def test_a_device_without_memory_for_anything_is_named(monkeypatch):
    monkeypatch.setattr(chunk_tasks, "_SMALLEST_TILE", 8)
    array, model = random_scene(40, 40), network()
    with (
        pytest.warns(UserWarning, match="ran out of memory"),
        pytest.raises(InputError, match="no memory for the network, even for a tile of 10 x 10"),
    ):
        classify(cube_of(array), Cramped(model, 0))


@pytest.mark.parametrize(("threads", "passes"), [(3, 1), (1, 3)])
def test_as_many_passes_at_a_time_as_cores_serve(monkeypatch, threads, passes):
    """With more, Torch's threads would fight for the cores; with fewer, cores would idle."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(chunk_tasks, "_CORES", 3)
    count, lock, most = 0, threading.Lock(), 0

    class Counting(Watched):
        def forward(self, x, valid=None):
            nonlocal count, most
            with lock:
                count += 1
                most = max(most, count)
            time.sleep(0.05)
            with lock:
                count -= 1
            return super().forward(x, valid)

    array = random_scene(48, 48)
    lazy = classify_cube(cube_of(array), Counting(network("spectral")), SCHEME, bands=(0, 1, 2, 3),
                         chunk=8)  # fmt: skip
    with dask.config.set(scheduler="threads", num_workers=5):
        lazy.compute()
    assert most == passes


# --- chunks for a memory ---


def side_for(memory, model, size=5000, **options):
    scene = da.zeros((BANDS, size, size), chunks=1000, dtype=np.int16)
    cube = make_cube(
        scene, GeoBox((size, size), Affine(30, 0, 0, 0, -30, 0), "EPSG:32633"), wavelengths=NM,
        good=(True,) * BANDS, band_names=tuple("abcd"), nodata=NODATA,
    )  # fmt: skip
    return chunk_for_memory(int(memory), cube, model, bands=(0, 1, 2, 3), **options)


def test_more_memory_makes_larger_chunks():
    model = build_model("hyperloopnet", BANDS, 3)
    sides = [side_for(memory * 1e9, model) for memory in np.arange(2.4, 4, 0.05)]
    assert sides == sorted(sides)
    assert len(set(sides)) > 3
    assert all(side % inference.TILE == 0 for side in sides)
    assert side_for(1e12, model) == 2048
    assert side_for(2.5e9, model, threads=8) < side_for(2.5e9, model, threads=1)
    assert side_for(2.5e9, model, classes=30) < side_for(2.5e9, model)


def test_a_scene_that_fits_is_one_chunk_whatever_a_larger_one_would_take():
    model = build_model("hyperloopnet", BANDS, 3)
    assert side_for(1.5e9, model, size=50) == 2048


def test_too_little_memory_says_how_much_would_do():
    model = build_model("hyperloopnet", BANDS, 3)
    with pytest.raises(InputError, match=r"a memory of 95.37 MiB is too small .*GiB would do") as e:
        side_for(1e8, model)
    enough = float(re.search(r"([\d.]+) GiB would do", str(e.value)).group(1)) * 2**30
    assert side_for(enough, model) >= 64
    with pytest.raises(InputError):
        side_for(enough - 2**27, model)


def test_maps_of_different_scenes_models_and_settings_can_be_computed_together(monkeypatch):
    """Their tasks must not be taken for each other."""
    monkeypatch.setattr(inference, "TILE", 12)
    array, other = random_scene(20, 22), random_scene(20, 22, seed=1)
    wide, deep = network("sigmoid"), network("relu")
    cases = [
        (cube_of(array), wide, {}),
        (cube_of(array), deep, {}),
        (cube_of(array, scale=2e-4), wide, {}),
        (cube_of(array, nodata=int(array[0, 0, 0])), wide, {}),
        (cube_of(other), wide, {}),
        (cube_of(array), wide, {"bands": (3, 2, 1, 0)}),
        (cube_of(array), wide, {"chunk": 5}),
        (cube_of(array), wide, {"precision": "bfloat16"}),
    ]
    bands = {"bands": (0, 1, 2, 3)}
    lazy = [classify_cube(c, m, SCHEME, **{**bands, **extra}) for c, m, extra in cases]
    together = dask.compute(*lazy, scheduler="synchronous")
    for found, (cube, model, extra) in zip(together, cases, strict=True):
        assert found.identical(classify(cube, model, probabilities=False, **extra))


# --- the result ---


def test_the_result_says_what_it_is():
    array = random_scene(20, 14)
    cube = cube_of(array, attrs={"scene_id": "S1", "acquired": "2020-01-01", "other": "x"})
    found = classify_cube(cube, network(), SCHEME, bands=(0, 1, 2, 3), chunk=8, probabilities=True)
    assert set(found.data_vars) == {"class", "confidence", "probability"}
    assert found["class"].dtype == np.uint8
    assert found["confidence"].dtype == found["probability"].dtype == np.float32
    assert found["class"].data.chunks == ((8, 8, 4), (8, 6))
    assert found["probability"].dims == ("category", "y", "x")
    assert found["category"].values.tolist() == list(SCHEME.names)
    assert scheme_from_attrs(found["class"].attrs) == SCHEME
    assert found.attrs == {"scene_id": "S1", "acquired": "2020-01-01"}
    assert all(v.attrs["grid_mapping"] == "spatial_ref" for v in found.data_vars.values())
    assert grid_of(found) == grid_of(cube)
    computed = found.compute()
    np.testing.assert_allclose(computed["probability"].sum("category"), 1, rtol=1e-5)
    without = classify_cube(cube, network(), SCHEME, bands=(0, 1, 2, 3))
    assert set(without.data_vars) == {"class", "confidence"}


@pytest.mark.parametrize(
    "grid",
    [
        GeoBox((20, 14), Affine(28, 10, 3e5, 10, -28, 5e6), "EPSG:32633"),
        GeoBox((20, 14), Affine(0.001, 0, 11, 0, -0.001, 48), "EPSG:4326"),
        pixel_grid(20, 14),
        GeoBox((1, 14), Affine(28, 10, 3e5, 10, -28, 5e6), "EPSG:32633"),
    ],
    ids=["rotated", "degrees", "pixels", "one row, rotated"],
)
def test_the_grid_is_the_scene_s(grid):
    array, model = random_scene(*grid.shape, holes="rotated"), network()
    found = classify(cube_of(array, grid=grid), model, chunk=7)
    assert grid_of(found).crs == grid.crs
    np.testing.assert_allclose(grid_of(found).affine, grid.affine, rtol=1e-12)
    assert_is(found, *by_hand(array, model))


@pytest.mark.parametrize(("chunk", "side"), [(5, 5), (16, 16), (17, 32), (40, 48), (None, 64)])
def test_chunks_group_whole_tiles(monkeypatch, chunk, side):
    monkeypatch.setattr(inference, "TILE", 16)
    monkeypatch.setattr(inference, "CHUNK", 56)
    found = classify_cube(
        cube_of(random_scene(70, 70)), network(), SCHEME, bands=(0, 1, 2, 3), chunk=chunk
    )
    assert found["class"].data.chunks[0][0] == side


@pytest.mark.parametrize("chunk", [0, -3])
def test_impossible_chunks_are_refused(chunk):
    with pytest.raises(InputError, match=f"chunk is {chunk}; it must be at least 1 pixel"):
        classify(cube_of(random_scene(3, 3)), network(), chunk=chunk)
