"""Samples against the pixels of the file: nothing resampled, nothing mixed, nothing leaked."""

import copy

import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from conftest import BAD, CRS, NM, NODATA, TRANSFORM, make_pixels, write_scene
from matplotlib import pyplot as plt
from odc.geo.geobox import GeoBox
from torch.utils.data import DataLoader
from torchgeo.datasets import (
    GeoDataset,
    IntersectionDataset,
    RasterDataset,
    UnionDataset,
    VectorDataset,
    random_bbox_assignment,
    random_bbox_splitting,
    roi_split,
    stack_samples,
    unbind_samples,
)
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.datasets import (
    GroundTruthDataset,
    HyperspectralDataset,
)
from hsi_pipeline.errors import InputError
from hsi_pipeline.loaders import LandCoverDataModule, ValidationTiles
from hsi_pipeline.samplers import LabelledWindowSampler, window_query
from hsi_pipeline.wavelengths import Wavelengths

GOOD = [band for band in range(len(NM)) if band != BAD]


@pytest.fixture
def scene(tiny):
    return HyperspectralDataset(tiny.path)


@pytest.fixture
def truth(tiny):
    return GroundTruthDataset(tiny.labelled, tiny.grid)


def reflectance(pixels, bands=GOOD):
    return pixels[bands].astype(np.float32) * np.float32(1e-4)


def spectra(image):
    """The spectra of an image (band, y, x) as a set of bytes, to look them up exactly."""
    flat = np.ascontiguousarray(np.moveaxis(np.asarray(image, np.float32), 0, -1))
    return {row.tobytes() for row in flat.reshape(-1, flat.shape[-1])}


def samplers(dataset, tiny):
    yield RandomPatchSampler(dataset, size=9, length=20, generator=0)
    yield GriddedPatchSampler(dataset, size=16, stride=13)
    yield LabelledWindowSampler(dataset, tiny.labelled, tiny.grid, size=11, length=20, generator=0)


def check_pixels(sample, pixels, grid):
    """Compare a sample with the file, pixel by pixel, at the place that its transform names."""
    a = Affine(*sample["transform"][:6].tolist())
    column, row = (round(v) for v in ~grid.affine @ (a.c, a.f))
    image, valid = sample["image"].numpy(), sample["valid"].numpy()
    inside = (pixels[GOOD] != NODATA).all(axis=0)
    rows, columns = np.indices(valid.shape)
    rows, columns = rows + row, columns + column
    there = (rows >= 0) & (columns >= 0) & (rows < inside.shape[0]) & (columns < inside.shape[1])
    there[there] = inside[rows[there], columns[there]]
    np.testing.assert_array_equal(valid, there)
    wanted = np.zeros_like(image)
    wanted[:, there] = reflectance(pixels)[:, rows[there], columns[there]]
    np.testing.assert_array_equal(image, wanted)
    return rows, columns


def test_both_are_geodatasets_with_torchgeos_index(scene, truth, tiny):
    for dataset in (scene, truth):
        assert isinstance(dataset, GeoDataset)
        assert len(dataset) == 1
        assert dataset.res == (30, 30)
        assert dataset.crs.to_epsg() == 32633
        assert list(dataset.index.columns) == ["filepath", "geometry"]
        assert dataset.index.index.name == "datetime"
        x, y, _ = dataset.bounds
        assert (x.start, y.start, x.stop, y.stop) == tuple(tiny.grid.boundingbox)


def test_samples_have_torchgeos_keys_and_types(scene, truth, tiny):
    image = scene[window_query(tiny.grid, slice(4, 20), slice(3, 15))]
    assert {k: (v.dtype, tuple(v.shape)) for k, v in image.items()} == {
        "bounds": (torch.float64, (9,)),
        "transform": (torch.float64, (9,)),
        "image": (torch.float32, (len(GOOD), 16, 12)),
        "valid": (torch.bool, (16, 12)),
    }
    labels = truth[window_query(tiny.grid, slice(4, 20), slice(3, 15))]
    assert labels["mask"].dtype == torch.int64
    np.testing.assert_array_equal(labels["mask"], tiny.labelled[4:20, 3:15])
    joined = (scene & truth)[window_query(tiny.grid, slice(4, 20), slice(3, 15))]
    assert set(joined) == {"bounds", "transform", "image", "valid", "mask"}


def test_bounds_and_transform_name_the_window_that_was_read(scene, tiny):
    x, y = window_query(tiny.grid, slice(4, 20), slice(3, 15))
    nudged = slice(x.start + 9, x.stop + 9), slice(y.start - 9, y.stop - 9)
    for query in ((x, y), nudged):
        sample = scene[query]
        west, east, width, south, north, height = sample["bounds"][:6].tolist()
        assert (west, east, south, north) == (x.start, x.stop, y.start, y.stop)
        assert (width, height) == (30, 30)
        wanted = TRANSFORM * Affine.translation(3, 4)
        assert tuple(sample["transform"].tolist()) == pytest.approx(tuple(wanted))
        check_pixels(sample, tiny.pixels, tiny.grid)


def test_a_query_of_everything_gives_the_scene_as_rasterio_reads_it(scene, tiny):
    with rasterio.open(tiny.path) as raster:
        wanted = raster.read()
    sample = scene[:, :, :]
    np.testing.assert_array_equal(sample["valid"], tiny.valid)
    np.testing.assert_array_equal(
        sample["image"], reflectance(np.where(tiny.valid, wanted, 0)), strict=True
    )


def test_every_spectrum_of_every_sampler_is_one_of_the_file(scene, truth, tiny):
    known = spectra(reflectance(tiny.pixels)[:, tiny.valid][..., None])
    for sampler in samplers(scene & truth, tiny):
        loader = DataLoader(scene & truth, batch_size=5, sampler=sampler, collate_fn=stack_samples)
        count = 0
        for batch in loader:
            for sample in unbind_samples(batch):
                count += int(sample["valid"].sum())
                assert spectra(sample["image"][:, sample["valid"]][..., None]) <= known
                rows, columns = check_pixels(sample, tiny.pixels, tiny.grid)
                there = (rows >= 0) & (columns >= 0) & (rows < 48) & (columns < 40)
                np.testing.assert_array_equal(
                    sample["mask"][torch.from_numpy(there)],
                    tiny.labelled[rows[there], columns[there]],
                )
                assert not sample["mask"][~torch.from_numpy(there)].any()
        assert count > 500


def test_spectra_stay_whole_where_the_other_dataset_lies_off_the_pixel_grid(tiny):
    # the polygons begin inside a pixel, so TorchGeo's samplers ask for places between pixels
    offset = Affine(30, 0, TRANSFORM.c + 41, 0, -30, TRANSFORM.f - 52)
    labels = GroundTruthDataset(tiny.labelled[:30, :30], GeoBox((30, 30), offset, CRS))
    dataset = HyperspectralDataset(tiny.path) & labels
    known = spectra(reflectance(tiny.pixels)[:, tiny.valid][..., None])
    for sample in (dataset[q] for q in RandomPatchSampler(dataset, size=8, length=15)):
        assert sample["image"].shape[1:] == sample["mask"].shape == (8, 8)
        assert spectra(sample["image"][:, sample["valid"]][..., None]) <= known


def test_the_stock_classes_would_resample_the_same_spectra(tiny, tmp_path):
    """The reason for classes of our own; when TorchGeo mends this, they may go."""
    noise = make_pixels(tiny.classes).astype(np.float32)
    write_scene(tmp_path / "scene.tif", noise, nodata=None)
    stock = RasterDataset(tmp_path) & VectorDataset(
        tiny.labels, crs=RasterDataset(tmp_path).crs, res=(30, 30), label_name="code"
    )
    # off the grid by a third of a pixel, as polygons that someone drew
    stock.index.geometry = stock.index.geometry.translate(10, 10)
    known = spectra(noise)
    sampler = RandomPatchSampler(stock, size=8, length=3, generator=0)
    found = set.union(*(spectra(stock[q]["image"]) for q in sampler))
    assert not found & known


def test_reflectance_may_be_negative_and_bad_bands_are_left_out(scene, tiny):
    assert scene.wavelengths.center_nm == tuple(NM[band] for band in GOOD)
    image = scene[:, :, :]["image"]
    assert (image[GOOD.index(7)] < 0).any()
    chosen = HyperspectralDataset(tiny.path, bands=[8, 2])
    assert chosen.wavelengths.center_nm == (NM[8], NM[2])
    np.testing.assert_array_equal(
        chosen[:, :, :]["image"][:, tiny.valid], reflectance(tiny.pixels, [8, 2])[:, tiny.valid]
    )


def test_nodata_and_what_lies_beyond_the_scene_is_zero_and_invalid(scene, truth, tiny):
    query = window_query(tiny.grid, slice(-6, 10), slice(-5, 45))
    sample = (scene & truth)[query]
    valid = np.zeros((16, 50), bool)
    valid[6:, 5:45] = tiny.valid[:10]
    np.testing.assert_array_equal(sample["valid"], valid)
    assert not sample["image"][:, ~sample["valid"]].any()
    assert not sample["mask"][:6].any()
    check_pixels(sample, tiny.pixels, tiny.grid)


def test_nan_is_invalid(tmp_path, tiny):
    pixels = tiny.pixels.astype(np.float32)
    pixels[3, 20, 20] = np.nan
    write_scene(tmp_path / "scene.tif", pixels, nodata=None)
    sample = HyperspectralDataset(tmp_path / "scene.tif")[:, :, :]
    assert not sample["valid"][20, 20]
    assert not sample["image"][:, 20, 20].any()
    assert sample["valid"].sum() == 48 * 40 - 1


def test_a_query_beside_the_scene_is_an_index_error(scene, truth, tiny):
    for dataset in (scene, truth):
        with pytest.raises(IndexError, match="not found in dataset"):
            dataset[window_query(tiny.grid, slice(0, 5), slice(40, 45))]


def test_time_takes_part_in_queries(tmp_path, tiny):
    path = write_scene(tmp_path / "scene.tif", tiny.pixels)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(start_time="2022-07-24T10:45:26+02:00")
    dataset = HyperspectralDataset(path)
    moment = dataset.index.index[0].left
    assert str(moment) == "2022-07-24 08:45:26"  # UTC
    assert dataset[:, :, moment:moment]["valid"].any()
    with pytest.raises(IndexError, match="not found"):
        dataset[:, :, moment.replace(year=2023) : moment.replace(year=2024)]
    assert dataset & GroundTruthDataset(tiny.labelled, tiny.grid)  # labels hold at all times


# --- several scenes -----------------------------------------------------------------------------


def halves(tmp_path, tiny, overlap):
    """The tiny scene as two files; the right one repeats some columns, one DN brighter."""
    left = write_scene(tmp_path / "left.tif", tiny.pixels[:, :, :20])
    start = 20 - overlap
    right = np.where(tiny.pixels == NODATA, NODATA, tiny.pixels + 1)[:, :, start:]
    right = right.astype(np.int16)
    return left, write_scene(
        tmp_path / "right.tif", right, transform=TRANSFORM * Affine.translation(start, 0)
    )


@pytest.mark.parametrize("overlap", [0, 6])
@pytest.mark.parametrize("how", ["list", "union", "union with labels"])
def test_scenes_are_joined_pixel_by_pixel_and_the_first_wins(tmp_path, tiny, truth, overlap, how):
    paths = halves(tmp_path, tiny, overlap)
    if how == "list":
        dataset = HyperspectralDataset(paths)
    else:
        dataset = HyperspectralDataset(paths[0]) | HyperspectralDataset(paths[1])
        assert isinstance(dataset, UnionDataset)
    if how == "union with labels":
        dataset = dataset & truth
        assert isinstance(dataset, IntersectionDataset)
    sample = dataset[window_query(tiny.grid, slice(0, 48), slice(0, 40))]
    wanted = tiny.pixels + (np.arange(40) >= 20)
    np.testing.assert_array_equal(sample["valid"], tiny.valid)
    np.testing.assert_array_equal(
        sample["image"][:, tiny.valid], reflectance(wanted)[:, tiny.valid]
    )
    assert (sample["image"] < 0).any()  # a maximum with zero would have lost these


def test_a_union_of_three_keeps_spectra_whole(tmp_path, tiny):
    paths = [
        write_scene(tmp_path / f"{shift}.tif", (tiny.pixels * shift).clip(NODATA + 1))
        for shift in (1, -1, 2)
    ]
    one, two, three = map(HyperspectralDataset, paths)
    for dataset in ((one | two) | three, one | (two | three)):
        sample = dataset[:, :, :]
        assert sample["valid"].all()  # the corner of the second is no longer nodata
        np.testing.assert_array_equal(
            sample["image"][:, tiny.valid], reflectance(tiny.pixels)[:, tiny.valid]
        )


def test_a_union_of_labels_takes_the_first_label(tiny):
    first = np.where(np.arange(40) < 15, tiny.labelled, 0)
    second = np.where(tiny.labelled > 0, 9, 0).astype(np.uint8)
    union = GroundTruthDataset(first, tiny.grid) | GroundTruthDataset(second, tiny.grid)
    np.testing.assert_array_equal(union[:, :, :]["mask"], np.where(first, first, second))


def test_bands_of_other_scenes_are_found_by_wavelength(tmp_path, tiny):
    order = [9, 3, 4, 0, 1, 2, 5, 8, 7, 6]
    names = [NM[i] if i == BAD else NM[i] + 2 for i in order]
    first = write_scene(tmp_path / "a.tif", tiny.pixels[:, :, :20])
    second = write_scene(
        tmp_path / "b.tif",
        tiny.pixels[order][:, :, 20:],
        wavelengths=names,
        transform=TRANSFORM * Affine.translation(20, 0),
    )
    sample = HyperspectralDataset([first, second], resampling="nearest")[:, :, :]
    np.testing.assert_array_equal(
        sample["image"][:, tiny.valid], reflectance(tiny.pixels)[:, tiny.valid]
    )
    with pytest.raises(InputError, match=r"within 1(\.0)? nm"):
        HyperspectralDataset([first, second], tolerance_nm=1)


def test_scenes_of_different_sensors_are_brought_to_the_same_bands(tmp_path, tiny):
    """The second one's bands lie between those of the first; what is linear stays as it is."""
    first = write_scene(tmp_path / "a.tif", tiny.pixels[:, :, :20])
    chosen = [i for i in range(len(NM)) if i != BAD]
    order = np.argsort(np.array(NM)[chosen])
    nm = np.array(NM)[chosen][order]
    middle = (nm[:-1] + nm[1:]) / 2
    other = np.clip(tiny.pixels[:, :, 20:], -3000, 12_000)
    other[:, ~tiny.valid[:, 20:]] = NODATA
    second = write_scene(
        tmp_path / "b.tif",
        other[chosen][order],
        wavelengths=nm.tolist(),
        transform=TRANSFORM * Affine.translation(20, 0),
    )
    wanted = Wavelengths(tuple(middle.tolist()))
    both = HyperspectralDataset([first, second], wavelengths=wanted, tolerance_nm=300)
    sample = both[:, :, :]
    pixels = np.concatenate([tiny.pixels[:, :, :20], other], axis=2)[chosen][order] * 1e-4
    expected = (pixels[:-1] + pixels[1:]) / 2
    np.testing.assert_array_equal(sample["valid"], tiny.valid)
    np.testing.assert_allclose(sample["image"][:, tiny.valid], expected[:, tiny.valid], atol=1e-5)
    assert (sample["image"][:, ~tiny.valid] == 0).all()
    assert both.wavelengths == wanted


@pytest.mark.parametrize("bands", [[2, 1, 0], [2, 0, 1], [0, 0, 1], [3, 1, 1, 2, 0]])
def test_chosen_bands_come_in_the_order_given(tiny, bands):
    sample = HyperspectralDataset(tiny.path, bands=bands)[:, :, :]
    np.testing.assert_array_equal(
        sample["image"][:, tiny.valid], (tiny.pixels[bands] * np.float32(1e-4))[:, tiny.valid]
    )


def test_a_second_scene_with_descending_wavelengths_gives_the_same_spectra(tmp_path, tiny):
    chosen = [0, 1, 2]
    nm = [NM[i] for i in chosen]
    first = write_scene(tmp_path / "a.tif", tiny.pixels[chosen][:, :, :20], wavelengths=nm)
    second = write_scene(
        tmp_path / "b.tif",
        tiny.pixels[chosen[::-1]][:, :, 20:],
        wavelengths=nm[::-1],
        transform=TRANSFORM * Affine.translation(20, 0),
    )
    sample = HyperspectralDataset([first, second])[:, :, :]
    np.testing.assert_array_equal(
        sample["image"][:, tiny.valid], (tiny.pixels[chosen] * np.float32(1e-4))[:, tiny.valid]
    )


def test_bands_are_not_resampled_in_silence(tmp_path, tiny):
    first = write_scene(tmp_path / "a.tif", tiny.pixels[:3], wavelengths=NM[:3])
    shifted = [nm + 2 for nm in NM[:3]]
    second = write_scene(
        tmp_path / "b.tif", tiny.pixels[:3], wavelengths=shifted,
        transform=TRANSFORM * Affine.translation(60, 0),
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"b\.tif: its bands are resampled .*linear, up to 2\.00"):
        HyperspectralDataset([first, second])


def test_bands_and_wavelengths_together_are_refused(tiny):
    with pytest.raises(InputError, match="give bands of the first scene or wavelengths for all"):
        HyperspectralDataset(tiny.path, bands=[0], wavelengths=Wavelengths((450.0,)))


def test_scenes_without_wavelengths_are_not_joined(tmp_path, tiny):
    paths = [write_scene(tmp_path / f"{i}.tif", tiny.pixels, wavelengths=None) for i in "ab"]
    with pytest.raises(InputError, match=r"b\.tif: several scenes can be joined only where"):
        HyperspectralDataset(paths)


# --- what is refused ----------------------------------------------------------------------------


def test_grids_that_do_not_fit_are_refused_and_not_resampled(tmp_path, tiny, scene):
    other_size = write_scene(
        tmp_path / "size.tif", tiny.pixels, transform=TRANSFORM * Affine.scale(0.5)
    )
    other_crs = write_scene(tmp_path / "crs.tif", tiny.pixels, crs="EPSG:32632")
    for path in (other_size, other_crs):
        with pytest.raises(InputError, match=rf"{path.name}: CRS or pixel size differ from .*tif"):
            HyperspectralDataset([tiny.path, path])
    for dataset in (HyperspectralDataset(other_size), HyperspectralDataset(other_crs)):
        for join in (GeoDataset.__and__, GeoDataset.__or__):
            with pytest.raises(InputError, match=r"cannot be joined: .*resampl"):
                join(scene, dataset)


@pytest.mark.parametrize(
    "transform",
    [TRANSFORM * Affine.rotation(20), TRANSFORM * Affine.scale(1, -1)],
    ids=["rotated", "south up"],
)
def test_a_grid_that_is_not_north_up_is_refused(tmp_path, tiny, transform):
    path = write_scene(tmp_path / "turned.tif", tiny.pixels, transform=transform)
    with pytest.raises(InputError, match=r"turned\.tif: the grid is rotated or flipped.*gdalwarp"):
        HyperspectralDataset(path)


def test_labels_of_another_shape_are_refused(tiny):
    with pytest.raises(InputError, match=r"labels have shape \(48, 39\), the grid \(48, 40\)"):
        GroundTruthDataset(tiny.labelled[:, :39], tiny.grid)


# --- TorchGeo's splits --------------------------------------------------------------------------


def test_whole_scenes_can_be_assigned_to_splits(tmp_path, tiny):
    dataset = HyperspectralDataset(halves(tmp_path, tiny, overlap=0))
    parts = random_bbox_assignment(dataset, [1, 1])
    seen = np.zeros((48, 40), int)
    for part in parts:
        assert len(part) == 1
        for query in GriddedPatchSampler(part, size=12):
            rows, columns = split_places(part[query], tiny)
            seen[rows, columns] += 1
    assert (seen == tiny.valid).all()


def split_places(sample, tiny):
    a = Affine(*sample["transform"][:6].tolist())
    column, row = (round(v) for v in ~tiny.grid.affine @ (a.c, a.f))
    rows, columns = np.nonzero(sample["valid"].numpy())
    return rows + row, columns + column


def regions(tiny):
    """Two regions whose border runs across the scene slantwise."""
    west, south, east, north = tiny.grid.boundingbox
    border = [(west + 300, south), (west + 900, north)]
    return (
        shapely.Polygon([(west, south), *border, (west, north)]),
        shapely.Polygon([(east, south), *border, (east, north)]),
    )


@pytest.mark.parametrize("split", ["roi_split", "random_bbox_splitting"])
def test_no_sample_crosses_torchgeos_splits(scene, truth, tiny, split):
    seen = []
    for number, dataset in enumerate((scene, truth)):
        parts = (
            roi_split(dataset, regions(tiny))
            if split == "roi_split"
            else random_bbox_splitting(dataset, [0.5, 0.5], torch.Generator().manual_seed(0))
        )
        for part in parts:
            counts = np.zeros((48, 40), int)
            for query in GriddedPatchSampler(part, size=16):  # reaches beyond the region
                sample = part[query]
                sample["valid"] = sample["mask"] > 0 if number else sample["valid"]
                counts[split_places(sample, tiny)] = 1
            seen.append(counts)
    # together all pixels, none of them twice
    np.testing.assert_array_equal(seen[0] + seen[1], tiny.valid)
    np.testing.assert_array_equal(seen[2] + seen[3], tiny.labelled > 0)
    assert min(part.sum() for part in seen) > 100


# --- workers ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_after_a_warm_parent_read_right(scene, truth, tiny, context, workers):
    dataset = scene & truth
    dataset[:, :, :]  # opens the file in this process
    sampler = RandomPatchSampler(dataset, size=7, length=40, generator=1)
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=sampler,
        num_workers=workers,
        collate_fn=stack_samples,
        multiprocessing_context=context,
    )
    chips = [sample for batch in loader for sample in unbind_samples(batch)]
    assert len(chips) == 40
    for chip in chips:
        check_pixels(chip, tiny.pixels, tiny.grid)


# --- plots --------------------------------------------------------------------------------------


def test_plots_are_figures(scene, truth, tiny):
    sample = (scene & truth)[window_query(tiny.grid, slice(0, 16), slice(0, 16))]
    sample["prediction"] = sample["mask"]
    colored = GroundTruthDataset(
        tiny.labelled, tiny.grid, scheme=make_scheme([1, 3, 7], colors={3: "#00ff00"})
    )
    for figure, titles in (
        (scene.plot(sample, suptitle="a place"), ["image", "mask", "prediction"]),
        (truth.plot(sample), ["mask", "prediction"]),
        (colored.plot(sample), ["mask", "prediction"]),
    ):
        assert isinstance(figure, plt.Figure)
        assert [axis.get_title() for axis in figure.axes] == titles
        figure.canvas.draw()
    green = figure.axes[0].images[0].get_array()[sample["mask"].numpy() == 3]
    assert (green == (0, 1, 0)).all()
    plt.close("all")


def test_transforms_see_the_sample(tiny):
    dataset = HyperspectralDataset(tiny.path, transforms=lambda s: {**s, "image": s["image"] * 2})
    np.testing.assert_array_equal(
        dataset[:, :, :]["image"], HyperspectralDataset(tiny.path)[:, :, :]["image"] * 2
    )


# --- loaders ------------------------------------------------------------------------------------


def make_module(tiny, **options):
    train = (tiny.labelled > 0) & (np.arange(40) < 16) & tiny.valid
    validation = (tiny.labelled > 0) & (np.arange(40) >= 24) & tiny.valid
    index = np.searchsorted([0, 1, 3, 7], tiny.labelled).astype(np.uint8)
    return (
        train,
        validation,
        LandCoverDataModule(
            HyperspectralDataset(tiny.path),
            index,
            train=train,
            validation=validation,
            hidden=(tiny.labelled > 0) & ~train,
            **{"halo": 5, "window": 24, "batch_size": 4, "batches": 6} | options,
        ),
    )


def test_no_training_sample_shows_a_pixel_of_another_split(tiny):
    train, _, module = make_module(tiny)
    other = (tiny.labelled > 0) & ~train
    crossed = 0
    for batch in module.train_dataloader():
        for sample in unbind_samples(batch):
            a = Affine(*sample["transform"][:6].tolist())
            column, row = (round(v) for v in ~tiny.grid.affine @ (a.c, a.f))
            window = np.s_[row : row + 24, column : column + 24]
            crossed += other[window].sum()
            shown = (sample["valid"] & ~sample["hidden"]).numpy()
            assert not (shown & other[window]).any()
            np.testing.assert_array_equal(sample["mask"].numpy() > 0, train[window])
    assert crossed > 100  # windows do reach over: it is the mask that hides


def test_validation_tiles_hold_each_pixel_once_with_its_context(tiny):
    _, validation, module = make_module(tiny)
    for tile in (256, 10):
        tiles = ValidationTiles(
            module._images & module._validation,
            module._validation.labels,
            tiny.grid,
            halo=5,
            tile=tile,
        )
        seen = np.zeros((48, 40), int)
        for sample in (tiles[i] for i in range(len(tiles))):
            check_pixels(sample, tiny.pixels, tiny.grid)
            a = Affine(*sample["transform"][:6].tolist())
            column, row = (round(v) for v in ~tiny.grid.affine @ (a.c, a.f))
            rows, columns = np.nonzero(sample["mask"].numpy())
            seen[rows + row, columns + column] += 1
            height, width = sample["mask"].shape
            reach = min(
                np.where(row, rows, 5).min(),
                np.where(column, columns, 5).min(),
                np.where(row + height < 48, height - 1 - rows, 5).min(),
                np.where(column + width < 40, width - 1 - columns, 5).min(),
            )
            assert reach >= 5  # the halo around every labelled pixel, or the scene's edge
        np.testing.assert_array_equal(seen, validation)
    assert sum(int((b["mask"] > 0).sum()) for b in module.val_dataloader()) == validation.sum()


def test_the_same_seed_gives_the_same_batches_in_any_number_of_workers(tiny):
    loaders = [
        make_module(tiny, seed=3, workers=workers, batches=2)[2].train_dataloader()
        for workers in (0, 0, 1)
    ]
    for batches in zip(*loaders, strict=True):
        for other in batches[1:]:
            for key, value in batches[0].items():
                assert torch.equal(value, other[key])


def test_a_scene_smaller_than_a_window_is_filled_up(tiny):
    _, _, module = make_module(tiny, window=64)
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape[2:] == (64, 64)
    assert (batch["valid"].sum(dim=(1, 2)) == int(tiny.valid.sum())).all()


def test_datasets_are_copied_and_keep_working(scene, tiny):
    check_pixels(copy.deepcopy(scene)[:, :, :], tiny.pixels, tiny.grid)
