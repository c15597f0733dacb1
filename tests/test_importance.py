"""What a model relies on: known by construction, and by finite differences."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from conftest import NM, class_field, field_polygons, write_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from torch import nn

from hsi_pipeline.commands.importance import importance
from hsi_pipeline.commands.train import train
from hsi_pipeline.errors import InputError
from hsi_pipeline.estimators import PixelClassifier
from hsi_pipeline.importance import (
    GROUP,
    LabelledBatch,
    gather_batches,
    mean_spectrum,
    permute_regions,
    score_gradients,
    some_labels,
    spectral_regions,
)
from hsi_pipeline.models import MODELS, build_model
from hsi_pipeline.plots import plot_importance
from hsi_pipeline.wavelengths import Wavelengths

COLUMNS = [
    "band", "wavelength_nm", "region", "overall_accuracy_drop", "overall_accuracy_drop_std",
    "mean_f1_drop", "mean_f1_drop_std", "gradient", "mean_reflectance",
]  # fmt: skip


class Threshold(nn.Module):
    """Says class 1 where the difference of two bands is above 0, and nothing else matters."""

    halo = 0

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other
        self.seen = []

    def forward(self, x, valid=None):
        self.seen.append(x.clone())
        score = x[:, self.one] - x[:, self.other]
        return torch.stack([-score, score], 1)


def random_batches(bands=12, sizes=((2, 5, 6), (1, 3, 4)), classes=2, seed=0):
    """Windows with noise, with pixels that are invalid and some that are not labelled."""
    rng = np.random.default_rng(seed)
    batches = []
    for windows, rows, columns in sizes:
        image = torch.from_numpy(rng.normal(size=(windows, bands, rows, columns)))
        valid = torch.from_numpy(rng.random((windows, rows, columns)) > 0.2)
        labels = torch.from_numpy(rng.integers(-1, classes, (windows, rows, columns)))
        image.movedim(1, -1)[~valid] = 0
        batches.append(LabelledBatch(image, valid, torch.where(valid, labels, -1)))
    return batches


def test_regions_begin_at_multiples_of_their_width_and_weave_detectors_together():
    wavelengths = Wavelengths((430.0, 460.0, 499.9, 500.0, 930.0, 902.0, 915.0, 951.0))
    assert spectral_regions(wavelengths, 8, 50.0).tolist() == [0, 1, 1, 2, 3, 3, 3, 4]
    assert spectral_regions(wavelengths, 8, 1000.0).tolist() == [0] * 8


def test_without_wavelengths_bands_that_follow_each_other_make_a_region():
    regions = spectral_regions(None, 2 * GROUP + 1, 50.0)
    assert np.bincount(regions).tolist() == [GROUP, GROUP, 1]
    assert (np.diff(regions) >= 0).all()


@given(centers=st.lists(st.floats(400, 2500), min_size=1, max_size=40), width=st.floats(1, 300))
@settings(max_examples=50, deadline=None)
def test_regions_are_numbered_by_wavelength_and_no_wider_than_asked(centers, width):
    regions = spectral_regions(Wavelengths(tuple(centers)), len(centers), width)
    order = np.argsort(centers, kind="stable")
    steps = np.diff(regions[order])
    assert regions.min() == 0
    assert set(steps) <= {0, 1}
    for region in range(regions.max() + 1):
        assert np.ptp(np.array(centers)[regions == region]) < width


def test_some_labels_are_whole_blocks_with_every_class():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, :50] = np.random.default_rng(0).integers(0, 3, (40, 50))
    labels[3, 57] = 9  # one pixel of a rare class
    kept = some_labels(labels, side=10, most=4, seed=1)
    blocks = kept.reshape(4, 10, 6, 10).swapaxes(1, 2)
    whole = labels.reshape(4, 10, 6, 10).swapaxes(1, 2)
    used = blocks.any((2, 3))
    assert used.sum() == 5
    np.testing.assert_array_equal(blocks[used], whole[used])
    assert set(np.unique(kept)) == {0, 1, 2, 9}
    np.testing.assert_array_equal(some_labels(labels, side=10, most=99, seed=1), labels)
    assert (kept != some_labels(labels, side=10, most=4, seed=2)).any()


def test_windows_become_batches_of_one_shape():
    def sample(rows, columns):
        mask = torch.arange(rows * columns).reshape(rows, columns) % 3
        image = torch.rand(4, rows, columns)
        valid = torch.ones(rows, columns, dtype=torch.bool)
        valid[0, 1] = False
        return {"image": image, "valid": valid, "mask": mask}

    samples = [sample(5, 6), sample(5, 6), sample(5, 4)]
    batches = gather_batches(samples, context=True)
    assert [tuple(batch.image.shape) for batch in batches] == [(2, 4, 5, 6), (1, 4, 5, 4)]
    torch.testing.assert_close(batches[0].image[1], samples[1]["image"])
    assert batches[0].labels[0, 0].tolist() == [-1, -1, 1, -1, 0, 1]  # the second is invalid
    (single,) = gather_batches(samples, context=False)
    known = [(s["mask"] > 0) & s["valid"] for s in samples]
    spectra = torch.cat([s["image"][:, k] for s, k in zip(samples, known, strict=True)], 1)
    torch.testing.assert_close(single.image[0, :, 0], spectra)
    assert single.valid.all()
    assert (single.labels >= 0).all()
    assert single.mask() is None
    np.testing.assert_allclose(mean_spectrum([single]), spectra.mean(1), rtol=1e-6)
    assert sum(int((b.labels >= 0).sum()) for b in batches) == spectra.shape[1]


def test_the_bands_of_a_region_are_exchanged_together_and_no_others():
    batches = random_batches()
    model, regions = Threshold(0, 1), np.arange(12) // 3
    before = [batch.image.clone() for batch in batches]
    permute_regions(model, batches, regions, 2, repeats=2, seed=4)
    for batch, image in zip(batches, before, strict=True):
        torch.testing.assert_close(batch.image, image)
    calls = [model.seen[i : i + 2] for i in range(2, len(model.seen), 2)]
    assert len(calls) == 4 * 2

    def rows(images, bands):
        pairs = zip(images, batches, strict=True)
        return torch.cat([i.movedim(1, -1)[b.valid][:, bands] for i, b in pairs]).numpy()

    for call, images in enumerate(calls):
        inside = np.flatnonzero(regions == call // 2)
        outside = np.flatnonzero(regions != call // 2)
        np.testing.assert_array_equal(rows(images, outside), rows(before, outside))
        own, was = rows(images, inside), rows(before, inside)
        assert (own != was).any()
        np.testing.assert_array_equal(np.sort(own, 0), np.sort(was, 0))
        # whole rows: what belongs together stays together
        assert {*map(tuple, own)} == {*map(tuple, was)}
        for image, batch in zip(images, batches, strict=True):
            assert (image.movedim(1, -1)[~batch.valid] == 0).all()


def test_a_model_of_two_bands_needs_their_region_and_no_other():
    rng = np.random.default_rng(1)
    image = torch.from_numpy(rng.normal(size=(1, 20, 40, 50)))
    valid = torch.ones(1, 40, 50, dtype=torch.bool)
    batches = [LabelledBatch(image, valid, (image[:, 7] > image[:, 6]).long())]
    result = permute_regions(Threshold(7, 6), batches, np.arange(20) // 5, 2, repeats=4)
    assert result.accuracy.overall == 1
    # of two equal classes a guess is right half of the time
    np.testing.assert_allclose(result.overall[1], 0.5, atol=0.05)
    np.testing.assert_allclose(result.mean_f1[1], 0.5, atol=0.05)
    assert (result.overall[[0, 2, 3]] == 0).all()
    assert (result.mean_f1[[0, 2, 3]] == 0).all()


def test_a_classifier_of_scikit_learn_relies_on_what_tells_classes_apart():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 1500)
    nm = np.arange(425, 1000, 10.0)
    spectra = rng.normal(size=(1500, len(nm)))
    apart = (nm >= 650) & (nm < 700)
    spectra[:, apart] += 3 * (labels - 1)[:, None]
    model = PixelClassifier(LogisticRegression(C=0.1, max_iter=500).fit(spectra, labels), 3)
    image = torch.from_numpy(spectra.T.copy())[None, :, None]
    batch = LabelledBatch(
        image, torch.ones(1, 1, 1500).bool(), torch.from_numpy(labels)[None, None]
    )
    regions = spectral_regions(Wavelengths(tuple(nm)), len(nm), 50.0)
    result = permute_regions(model, [batch], regions, 3, repeats=3)
    drops = result.overall.mean(1)
    place = regions[apart][0]
    assert set(regions[apart]) == {place}
    assert result.accuracy.overall > 0.98
    assert drops[place] > 0.5
    assert np.abs(np.delete(drops, place)).max() < 0.02


@pytest.mark.parametrize("name", list(MODELS))
def test_gradients_equal_finite_differences(name):
    torch.manual_seed(0)
    bands, classes = 6, 3
    model = build_model(name, bands, classes, width=4).double().eval()
    model.band_std.copy_(torch.linspace(0.5, 2, bands))
    batches = random_batches(bands, ((1, 6, 7), (1, 5, 7)), classes, seed=3)
    for batch in batches:  # few labels, so that there is little to differentiate
        batch.labels[torch.rand(batch.labels.shape) > 0.2] = -1
    found = score_gradients(model, batches)
    step, slopes = 1e-5, []
    for batch in batches:
        places = (batch.labels[0] >= 0).nonzero().tolist()
        for y, x in places:
            # each band a little higher in one image, a little lower in another
            images = batch.image.repeat(2 * bands, 1, 1, 1)
            images[:, :, y, x] += torch.cat([torch.eye(bands), -torch.eye(bands)]) * step
            with torch.no_grad():
                scores = model(images, batch.valid[:, None].double().repeat(2 * bands, 1, 1, 1))
            total = sum(
                scores[:, batch.labels[0, row, column], row, column] for row, column in places
            )
            slopes.append((total[:bands] - total[bands:]).abs().numpy() / (2 * step))
    assert len(slopes) > 2
    expected = np.mean(slopes, 0) * model.band_std.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


@pytest.fixture(scope="module")
def striking(tmp_path_factory):
    """A scene whose classes differ at 650 nm alone, its labels, and models that learnt them."""
    folder = tmp_path_factory.mktemp("importance")
    classes = class_field(48, 40)
    rng = np.random.default_rng(0)
    pixels = rng.normal(3000, 300, (len(NM), *classes.shape))
    levels = np.zeros(8)
    levels[[1, 3, 7]] = -2000, 0, 2000
    pixels[NM.index(650.0)] += levels[classes]
    write_scene(folder / "scene.tif", pixels.round().astype(np.int16))
    field_polygons(classes).to_file(folder / "labels.gpkg")
    for name, model, options in (
        ("linear", "logistic_regression", {}),
        ("network", "hyperloopnet-fusion", {"settings": {"centers": 20, "width": 4}, "epochs": 1}),
    ):
        train(
            folder / "scene.tif", folder / "labels.gpkg", folder / f"{name}.safetensors",
            label_column="code", name_column="name", model=model, device="cpu", baselines=False,
            **options,
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("model", ["linear", "network"])
def test_trained_models_rely_on_the_wavelength_that_tells_classes_apart(model, striking, tmp_path):
    frame = importance(
        striking / "scene.tif", striking / "labels.gpkg", striking / f"{model}.safetensors",
        tmp_path / "i.csv", label_column="code", name_column="name", repeats=2, device="cpu",
    )  # fmt: skip
    assert list(frame.columns) == COLUMNS
    assert frame["wavelength_nm"].tolist() == sorted(set(NM) - {940.0})  # a bad band
    telling = frame["wavelength_nm"] == 650
    assert frame.loc[telling, "overall_accuracy_drop"].item() > 0.4
    assert frame.loc[~telling, "overall_accuracy_drop"].abs().max() < 0.15
    if model == "linear":
        assert frame["gradient"].isna().all()
    else:
        assert frame["gradient"].idxmax() == telling.idxmax()
    written = pd.read_csv(tmp_path / "i.csv")
    pd.testing.assert_frame_equal(written, frame, rtol=1e-4, check_dtype=False)


def test_the_report_says_what_the_accuracy_is_as_evaluate_does(striking, tmp_path, cli):
    for model in ("linear", "network"):
        paths = (
            striking / "scene.tif",
            striking / "labels.gpkg",
            striking / f"{model}.safetensors",
        )
        columns = ("--label-column", "code", "--name-column", "name")
        code, out, _ = cli("evaluate", *paths, *columns)
        assert code == 0
        overall = float(out.split("overall accuracy ")[1].split()[0])
        target = tmp_path / f"{model}.csv"
        options = ("--repeats", 1, "--region", 600, "--figure", target.with_suffix(".png"))
        code, out, err = cli("importance", *paths, *columns, "--out", target, *options)
        assert code == 0
        assert f"overall accuracy {overall:.3f}, mean F1" in err
        assert "importance by 1080 labelled pixels" in err
        assert ("has no gradients" in err) == (model == "linear")
        assert "450 to 550 nm" in out
        height, width, _ = plt.imread(target.with_suffix(".png")).shape
        assert (height, width) == (675, 1350)
        assert pd.read_csv(target)["overall_accuracy_drop_std"].isna().all()  # of one repeat


def test_labels_that_the_model_was_trained_on_are_warned_of(striking, tmp_path, cli):
    paths = (striking / "scene.tif", striking / "labels.gpkg", striking / "linear.safetensors")
    options = ("--label-column", "code", "--name-column", "name", "--repeats", 1, "--region", 900)
    said = "linear.safetensors was trained on these very labels: what it relies on there may be"
    code, _, err = cli("importance", *paths, "--out", tmp_path / "a.csv", *options)
    assert code == 0
    assert said in err
    assert "labels that were held out tell what it relies on elsewhere" in err
    where = ("--where", "fid % 2 = 0")
    code, _, err = cli("importance", *paths, "--out", tmp_path / "b.csv", *options, *where)
    assert code == 0
    assert said not in err


def test_a_scene_of_another_sensor_is_brought_to_the_bands_of_the_model(striking, tmp_path):
    with rasterio.open(striking / "scene.tif") as raster:
        pixels = raster.read()
    other = np.concatenate([pixels, pixels[:1]])[::-1]  # another order, and a band more
    nm = (*[value + 4.0 for value in NM], 700.0)[::-1]
    write_scene(tmp_path / "other.tif", other, wavelengths=nm)
    frame = importance(
        tmp_path / "other.tif", striking / "labels.gpkg", striking / "linear.safetensors",
        tmp_path / "i.csv", label_column="code", name_column="name", resampling="linear", repeats=1,
    )  # fmt: skip
    assert frame["wavelength_nm"].tolist() == sorted(set(NM) - {940.0})
    assert frame["overall_accuracy_drop"].idxmax() == (frame["wavelength_nm"] == 650).idxmax()


def test_without_wavelengths_bands_are_numbered(tmp_path):
    classes = class_field(48, 40)
    pixels = np.random.default_rng(0).normal(3000, 100, (13, *classes.shape))
    pixels[11] += 500.0 * classes
    write_scene(tmp_path / "scene.tif", pixels.round().astype(np.int16), wavelengths=None)
    field_polygons(classes).to_file(tmp_path / "labels.gpkg")
    model = tmp_path / "m.safetensors"
    train(tmp_path / "scene.tif", tmp_path / "labels.gpkg", model, model="logistic_regression",
          label_column="code", name_column="name")  # fmt: skip
    frame = importance(
        tmp_path / "scene.tif", tmp_path / "labels.gpkg", model, tmp_path / "i.csv",
        figure=tmp_path / "i.svg", label_column="code", name_column="name",
    )  # fmt: skip
    assert frame["wavelength_nm"].isna().all()
    assert frame["band"].tolist() == list(range(1, 14))
    assert frame["region"].tolist() == [1] * 10 + [2] * 3
    assert frame["overall_accuracy_drop"][12] > 0.3 > frame["overall_accuracy_drop"][0]
    assert "<svg" in (tmp_path / "i.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region_nm": 0.0}, "--region is 0 nm; it must be above 0"),
        ({"region_nm": float("nan")}, "--region is nan nm"),
        ({"repeats": 0}, "--repeats is 0; it must be at least 1"),
        ({"figure": "picture.gif"}, r"suffix must be one of \.png, \.svg, \.pdf"),
        ({"out": "table.xlsx"}, r"suffix must be one of \.csv"),
        ({"out": "there.csv"}, r"there\.csv exists; choose another name"),
        ({"device": "warp"}, "device 'warp' cannot be used here"),
    ],
)
def test_options_that_make_no_sense_are_refused(striking, tmp_path, options, message):
    (tmp_path / "there.csv").write_text("kept")
    for name in {"out", "figure"} & options.keys():
        options = options | {name: tmp_path / options[name]}
    given = {"out": tmp_path / "i.csv"} | options
    with pytest.raises(InputError, match=message):
        importance(
            striking / "scene.tif", striking / "labels.gpkg", striking / "linear.safetensors",
            **given,
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_labels_that_the_scene_or_the_model_lacks_are_refused(striking, tmp_path):
    classes = class_field(48, 40)
    paths = (striking / "scene.tif", tmp_path / "labels.gpkg", striking / "linear.safetensors")
    frame = field_polygons(classes)
    frame.assign(name=frame["name"].replace("roof", "rock")).to_file(paths[1])
    columns = {"label_column": "code", "name_column": "name"}
    with pytest.raises(InputError, match="'rock', which the model does not know by name"):
        importance(*paths, tmp_path / "i.csv", **columns)
    with rasterio.open(paths[0]) as raster:
        nothing = np.full_like(raster.read(), raster.nodata)
    nothing[:, 0, 0] = 5
    write_scene(tmp_path / "empty.tif", nothing)
    with pytest.raises(InputError, match=r"all labelled pixels are nodata in .*empty\.tif"):
        importance(
            tmp_path / "empty.tif", striking / "labels.gpkg", paths[2], tmp_path / "i.csv",
            **columns,
        )  # fmt: skip


def table_of(nm, gradient=0.3):
    """A table as the command writes it."""
    nm = np.array(nm, float)
    count = len(nm)
    regions = np.arange(count) // 2 + 1
    return pd.DataFrame(
        {
            "band": np.arange(1, count + 1),
            "wavelength_nm": nm,
            "region": regions,
            "overall_accuracy_drop": regions / 10,
            "overall_accuracy_drop_std": 0.01,
            "mean_f1_drop": regions / 20,
            "mean_f1_drop_std": np.nan,
            "gradient": gradient,
            "mean_reflectance": 0.2,
        }
    )


def test_the_figure_has_a_bar_for_each_region_and_gaps_where_there_are_no_bands():
    before = plt.get_fignums()
    figure = plot_importance(table_of([410, 420, 430, 440, 1000, 1010]), "a model")
    assert plt.get_fignums() == before  # nothing that must be closed is left
    axes, behind, side = figure.axes
    bars = axes.containers[-1].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0.1, 0.2, 0.3])
    edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]
    assert edges == [(405, 425), (425, 445), (995, 1015)]
    for line in (behind.lines[0], side.lines[0]):
        x = line.get_xdata()
        assert np.isnan(x).tolist() == [False] * 4 + [True] + [False] * 2
    assert axes.get_xlabel() == "wavelength in nm"
    assert axes.get_title() == "a model"


@pytest.mark.parametrize("nm", [[500], [np.nan] * 5, [410, 420]])
def test_figures_of_few_bands_without_gradients_or_wavelengths(nm, tmp_path):
    figure = plot_importance(table_of(nm, gradient=np.nan))
    figure.savefig(tmp_path / "i.png")
    assert len(figure.axes) == 2  # no axis of gradients
    assert figure.axes[0].get_xlabel() == ("band" if np.isnan(nm[0]) else "wavelength in nm")


def test_inputs_are_never_the_target_and_seeds_are_not_negative(tiny, model, tmp_path, cli):
    table = tmp_path / "classes.csv"
    table.write_text("code,name,color\n1,water,#0000ff\n3,tree,#00ff00\n7,roof,#ff0000\n")
    given = ("importance", tiny.path, tiny.labels, model, "--label-column", "code")
    code, _, err = cli(*given, "--class-table", table, "--out", table, "--overwrite")
    assert code == 2
    assert "write the result elsewhere" in err
    assert table.read_text().startswith("code,name,color")
    code, _, err = cli(*given, "--out", tmp_path / "a.csv", "--seed", "-1")
    assert code == 2
    assert "--seed -1 is negative" in err
