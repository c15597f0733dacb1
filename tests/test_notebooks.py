"""What the pages for people of TorchGeo, xarray and notebooks say is so, and their code runs."""

import importlib.util
import io
import re
import shutil
from pathlib import Path

import geopandas as gpd
import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from lightning.pytorch import Trainer
from PIL import Image
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from hsi_pipeline.commands.train import train
from hsi_pipeline.errors import InputError
from hsi_pipeline.samplers import window_query
from hsi_pipeline.scene import open_source

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    # of Lightning: workers that one could have, and its own use of torch
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*srun. command is available"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval"),
]


def program_of_docs(name):
    """Import a program of the documentation."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "programs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebook_of_page = program_of_docs("notebook_of_page")


def blocks(page):
    """Return the Python blocks of a page."""
    return re.findall(
        r"```python\n(.*?)```\n", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL
    )


def run_blocks(page, folder, monkeypatch):
    """Run a page's Python blocks in one namespace, in a folder."""
    monkeypatch.chdir(folder)
    names = {"__name__": page}
    for number, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sample scene, its polygons, and a model of them."""
    folder = tmp_path_factory.mktemp("notebook with blank")
    shutil.copy(ROOT / "sample_data" / "scene.tif", folder)
    shutil.copy(ROOT / "sample_data" / "train.gpkg", folder / "polygons.gpkg")
    train(
        folder / "scene.tif", folder / "polygons.gpkg", folder / "model.safetensors",
        label_column="class_id", name_column="class_name", model="spectral", epochs=3,
        class_table=ROOT / "sample_data" / "classes.csv",
        baselines=False, device="cpu",
    )  # fmt: skip
    return folder


def truth():
    with rasterio.open(ROOT / "sample_data" / "truth.tif") as source:
        return source.read(1)


# --- TorchGeo -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchgeo_page(folder):
    """What the page's code leaves behind."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return run_blocks("torchgeo.md", folder, monkeypatch)


def test_both_tasks_learn_in_torchgeos_trainer(torchgeo_page):
    metrics = torchgeo_page["trainer"].callback_metrics
    assert {"train_loss", "val_loss", "val_OverallAccuracy"} <= set(metrics)
    assert float(metrics["val_loss"]) < np.log(7)  # that of seven equal guesses
    assert float(metrics["val_OverallAccuracy"]) > 0.5
    assert type(torchgeo_page["task"].model).__name__ == "SpectralNet"


def test_the_network_that_torchgeo_trained_maps_the_scene(torchgeo_page, folder, cli):
    out = folder / "torchgeo.tif"
    code, _, error = cli(
        "classify", folder / "scene.tif", folder / "torchgeo.safetensors", "--out", out
    )
    assert code == 0, error
    with rasterio.open(out) as source:
        found = source.read(1)
    seen = (found > 0) & (truth() > 0)
    assert (found == truth())[seen].mean() > 0.6


def test_samples_are_what_the_table_says(torchgeo_page):
    table = dict(
        re.findall(r"^\| (`image`|`valid`|`mask`|`bounds`.*?) \| (\w+) ", page_of("torchgeo"), re.M)
    )
    assert len(table) == 4
    sample = torchgeo_page["train"][torchgeo_page["scene"].bounds]
    for names, dtype in table.items():
        for name in re.findall(r"`(\w+)`", names):
            assert sample[name].dtype == getattr(torch, dtype), name
    assert set(sample) == {"image", "valid", "mask", "bounds", "transform"}
    assert sample["image"].shape == (110, 160, 160)
    assert sample["bounds"].shape == sample["transform"].shape == (18,)  # of both
    assert sorted(sample["mask"].unique().tolist()) == [-1, *range(7)]
    assert not sample["image"][:, ~sample["valid"]].any()


def page_of(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_every_spectrum_of_a_batch_is_one_of_the_scene(torchgeo_page, folder):
    source = open_source(folder / "scene.tif")
    good = np.flatnonzero(source.good)
    stored = source.pixels[:, :, :][good]
    spectra = {column.tobytes() for column in stored.reshape(len(good), -1).T}
    sampler = RandomPatchSampler(torchgeo_page["train"], size=16, length=3, generator=1)
    batch = stack_samples([torchgeo_page["train"][query] for query in sampler])
    pixels = batch["image"].movedim(1, -1)[batch["valid"]].numpy()
    assert len(pixels) > 100
    raw = np.rint(pixels / 1e-4).astype(np.int16)
    assert {row.tobytes() for row in raw} <= spectra


def test_splits_share_no_label(torchgeo_page):
    here, there = (
        torchgeo_page[name][torchgeo_page["scene"].bounds]["mask"] >= 0
        for name in ("train", "validation")
    )
    assert here.any()
    assert there.any()
    assert not (here & there).any()


def test_what_the_page_warns_of_is_so(torchgeo_page, folder):
    train, scene, grid = (torchgeo_page[name] for name in ("train", "scene", "grid"))
    # a random patch is never drawn near the border, and there may be none though len() says so
    sampler = RandomPatchSampler(train, size=140, length=5, generator=0)
    assert (len(sampler), list(sampler)) == (5, [])
    west = min(query[0].start for query in RandomPatchSampler(train, size=32, length=500))
    assert west > grid.boundingbox.left + 30 * 2
    # a grid reaches beyond the scene, where nothing is valid
    patches = [scene[query] for query in GriddedPatchSampler(scene, size=96, stride=96)]
    box = grid.boundingbox
    west, south, east, north = (
        np.array([float(p["bounds"][i]) for p in patches]) for i in (0, 3, 1, 4)
    )
    assert (west < box.left).any()
    assert (east > box.right).any()
    assert (south < box.bottom).any()
    assert (north > box.top).any()
    edge = round((box.left - west[0]) / 30)
    assert not patches[0]["valid"][:, :edge].any()
    # a batch without labels has no loss
    loss = torchgeo_page["task"].criterion(torch.zeros(1, 7, 4, 4), torch.full((1, 4, 4), -1))
    assert torch.isnan(loss)
    # augmentation of a batch turns images and masks, and nothing else
    one = scene[window_query(grid, slice(60, 68), slice(60, 68))]
    one = {**one, "mask": torch.arange(64).reshape(8, 8)}
    one["valid"] = one["mask"] % 2 == 0
    turned = AugmentationSequential(RandomHorizontalFlip(p=1), data_keys=None, keepdim=True)(
        {name: tensor[None].clone() for name, tensor in one.items()}
    )
    torch.testing.assert_close(turned["image"][0], one["image"].flip(2))
    torch.testing.assert_close(turned["mask"][0].squeeze().long(), one["mask"].flip(1))
    torch.testing.assert_close(turned["valid"][0], one["valid"])
    # another grid is refused, not resampled
    coarse = grid.zoom_out(2)
    with rasterio.open(
        folder / "coarse.tif", "w", driver="GTiff", width=80, height=80, count=1, dtype="uint8",
        crs="EPSG:32633", transform=coarse.affine,
    ) as other:  # fmt: skip
        other.write(np.ones((1, 80, 80), np.uint8))
    with pytest.raises(InputError, match="no resampling"):
        scene & type(scene)(folder / "coarse.tif")


def test_workers_read_what_this_process_reads(torchgeo_page):
    """One worker, by spawn: what it is given must travel."""
    dataset, grid = torchgeo_page["scene"], torchgeo_page["grid"]
    queries = [window_query(grid, slice(k, k + 8), slice(k, k + 8)) for k in (40, 90)]
    loader = torch.utils.data.DataLoader(
        dataset, sampler=queries, batch_size=2, collate_fn=stack_samples, num_workers=1,
        multiprocessing_context="spawn",
    )  # fmt: skip
    (batch,) = loader
    torch.testing.assert_close(
        batch["image"], stack_samples([dataset[query] for query in queries])["image"]
    )


def test_landcovertask_takes_the_same_datasets(torchgeo_page):
    from hsi_pipeline.training import LandCoverTask, TrainingSettings

    scene, grid, labels = (torchgeo_page[name] for name in ("scene", "grid", "labels"))
    dataset = scene & torchgeo_page["GroundTruthDataset"](labels, grid)
    sampler = torchgeo_page["LabelledWindowSampler"](
        dataset, labels, grid, size=8, length=64, generator=0
    )
    loader = torch.utils.data.DataLoader(
        dataset, sampler=sampler, batch_size=16, collate_fn=stack_samples
    )
    task = LandCoverTask(
        torchgeo_page["build_model"]("spectral", 110, 7), 7, TrainingSettings(epochs=1)
    )
    before = task.model.classifier.weight.detach().clone()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, loader, loader)
    assert not torch.equal(before, task.model.classifier.weight)


# --- xarray and the notebook ----------------------------------------------------------------


def test_the_notebook_is_the_page():
    page = page_of("xarray")
    notebook = nbformat.read(DOCS / "classify_cube.ipynb", as_version=4)
    nbformat.validate(notebook)
    made = notebook_of_page.notebook_of(page)
    assert notebook.cells == made.cells, "run python docs/programs/notebook_of_page.py FOLDER"
    assert [c.source for c in notebook.cells if c.cell_type == "code"] == [
        block.strip() for block in blocks("xarray.md")
    ]
    assert "![" not in "".join(cell.source for cell in notebook.cells)


@pytest.fixture(scope="module")
def executed(folder):
    """The notebook of the repository after a run in Jupyter's kernel."""
    notebook = nbformat.read(DOCS / "classify_cube.ipynb", as_version=4)
    return notebook_of_page.run(notebook, folder)


def test_the_notebook_runs_and_shows_its_figures(executed):
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    said = [output for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert [output.text for output in said if output.name == "stderr"] == []
    figures = notebook_of_page.figures_of(executed)
    assert len(figures) == 5
    for code, png in figures.items():
        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        assert min(image.shape[:2]) > 200, code
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20, code


def test_the_map_in_the_notebook_and_on_the_page_has_the_colours_of_the_classes(executed, folder):
    with rasterio.open(folder / "notebook.tif") as source:
        codes, colors = source.read(1), source.colormap(1)
    (drawn,) = (
        png for code, png in notebook_of_page.figures_of(executed).items() if "land cover" in code
    )
    size = (DOCS / "classify_cube.png").stat().st_size
    assert size < 100_000
    for png in (drawn, (DOCS / "classify_cube.png").read_bytes()):
        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))[:, :440]  # no colour bar
        shares = {code: float((image == colors[code][:3]).all(-1).sum()) for code in range(1, 8)}
        total = sum(shares.values())
        for code, share in shares.items():
            assert share / total == pytest.approx(
                (codes == code).sum() / (codes > 0).sum(), abs=0.03
            )


def test_the_notebooks_map_and_polygons_are_the_command_lines(executed, folder, cli):
    out = folder / "by_command.tif"
    assert cli("classify", folder / "scene.tif", folder / "model.safetensors", "--out", out)[0] == 0
    with rasterio.open(out) as one, rasterio.open(folder / "notebook.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())
    table = next(
        output.data["text/plain"]
        for cell in executed.cells if "groupby" in cell.source and "area_m2" in cell.source
        for output in cell.outputs if "text/plain" in output.get("data", {})
        and "area_m2" in output.data["text/plain"]
    )  # fmt: skip
    assert cli("polygonize", out, "--out", folder / "by_command.gpkg")[0] == 0
    areas = gpd.read_file(folder / "by_command.gpkg", layer="landcover")
    areas = areas.groupby("name")["area_m2"].sum() / 1e4
    for name, area in areas.items():
        assert f"{name} " in table
        assert f"{area:.2f}" in table


def test_the_pages_blocks_run_on_the_page_too(folder, monkeypatch):
    with mpl.rc_context({"backend": "Agg"}):
        names = run_blocks("xarray.md", folder, monkeypatch)
        plt.close("all")
    spectra = names["spectra"].compute()
    assert (np.diff(spectra.wavelength) >= 0).all()
    # mean spectra by hand, of one class
    with rasterio.open(folder / "notebook.tif") as source:
        forest = source.read(1) == 5
    with rasterio.open(folder / "scene.tif") as source:
        expected = source.read(1)[forest].mean() * 1e-4
    assert float(spectra.sel({"class": 5})[0]) == pytest.approx(expected, rel=1e-4)
    # bands at 650, 560 and 470 nm
    nm = names["scene"].wavelength.values
    assert [abs(nm[names[c]] - v) < 6 for c, v in (("red", 650), ("green", 560), ("blue", 470))]


def test_a_zarr_map_opens_in_xarray_alone(folder, cli):
    out = folder / "map.zarr"
    assert cli("classify", folder / "scene.tif", folder / "model.safetensors", "--out", out)[0] == 0
    found = xr.open_zarr(out, decode_coords="all")
    assert {"class", "confidence"} <= set(found.data_vars)
    assert "32633" in found.spatial_ref.attrs["crs_wkt"]
