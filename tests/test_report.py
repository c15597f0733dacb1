"""Reports: what they say, what they refuse, and how they behave in a browser."""

import base64
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from chromium import (
    chromium,
    complaints_of,
    open_page,
    print_page,
    requests_of,
    screenshot,
)
from conftest import NODATA, make_pixels, write_scene
from matplotlib.image import imread
from odc.geo.geobox import GeoBox
from selenium.common.exceptions import NoAlertPresentException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from shapely.geometry import LineString, Point, box
from test_overview import make_map

from hsi_pipeline.checkpoint import load_applicability, load_checkpoint, save_checkpoint
from hsi_pipeline.classes import make_scheme, scheme_to_attrs
from hsi_pipeline.commands.assess import assess
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.report import report
from hsi_pipeline.errors import InputError
from hsi_pipeline.overview import LAYERS
from hsi_pipeline.publish import write_class_map
from hsi_pipeline.publish.report.layer_styles import LAYER_STYLES
from hsi_pipeline.publish.report.outlines import PARTS, encode_outlines
from hsi_pipeline.publish.report.paper import FIGURE_NAMES
from hsi_pipeline.publish.report.rasters import Scale, class_png

HOSTILE = {1: "<script>alert(1)</script>", 3: 'Grün & "Wiese"', 7: "_$x^{\u2028</script>"}
ATTACK = "</script></title><img src=x onerror=alert(2)>"


def estimate(value, error=0.02):
    if value is None:
        return dict.fromkeys(("value", "standard_error", "low", "high"))
    return {"value": value, "standard_error": error,
            "low": max(0, value - 2 * error), "high": value + 2 * error}  # fmt: skip


def make_assessment(names, *, random=True, **changes):
    """Return an assessment of three classes as `assess` writes it."""
    counts = [[50, 3, 1], [4, 80, 0], [0, 2, 20]]
    classes = [
        {"code": code, "name": name, "color": "#123456",
         "mapped_area_m2": None, "mapped_share": 0.3, "area_share": estimate(0.3),
         "area_m2": estimate(5e5, 2e4),
         "users_accuracy": estimate(0.9), "producers_accuracy": estimate(None),
         "f1": estimate(0.8), "iou": estimate(0.7),
         "units_in_map": sum(counts[i]), "units_in_reference": sum(row[i] for row in counts)}
        for i, (code, name) in enumerate(names.items())
    ]  # fmt: skip
    return {
        "format": "hsi_pipeline assessment 1", "map": "map.tif", "reference": "points.gpkg",
        "design": "stratified" if random else "none", "probability_sample": random,
        "confidence_level": 0.95, "sample_units": 160, "unit": "point",
        "left_out": {"outside": 3, "nodata": 0, "without_class": 0, "duplicate": 1},
        "overall_accuracy": estimate(0.9375), "kappa": estimate(0.9), "mean_f1": estimate(0.85),
        "mean_iou": estimate(0.75), "classes": classes,
        "confusion_matrix": {"rows": "map", "columns": "reference", "classes": list(names.values()),
                             "counts": counts,
                             "proportions": (np.array(counts) / 160).tolist()},
        "strata": [{"name": "a", "pixels": 9, "area_m2": 1.0, "weight": 1.0, "units": 160}],
        "warnings": ["a caution"], **changes,
    }  # fmt: skip


def history():
    return [{"epoch": i + 1, "loss": 1 / (i + 1), "overall_accuracy": 0.8, "mean_f1": 0.7,
             "kept": i == 1} for i in range(3)]  # fmt: skip


def calibration():
    bins = [{"count": 9 * i, "confidence": i / 10 + 0.05, "accuracy": i / 10} for i in range(10)]
    bins[0] = {"count": 0, "confidence": None, "accuracy": None}
    return {"method": "temperature", "temperature": 1.31, "pixels": 405, "ece_before": 0.062,
            "ece_after": 0.017, "cross_validated": True, "nll_before": 0.4, "nll_after": 0.3,
            "bins": {"lower": [i / 10 for i in range(10)], "before": bins,
                     "after": bins}}  # fmt: skip


@pytest.fixture(scope="module")
def made(tiny, model, tmp_path_factory):
    """Return files of a map with all layers, all that belongs to it, and its full report."""
    folder = tmp_path_factory.mktemp("made")
    network, card = load_checkpoint(model)
    told = {**card.training, "history": history(), "own_score": 0.9, "baselines": {"svm": 0.8}}
    rich = folder / "model.safetensors"
    card = dataclasses.replace(card, calibration=calibration(), temperature=1.31, training=told)
    save_checkpoint(rich, network, card, load_applicability(model))
    layers = ["entropy", "margin", "dissimilarity"]
    classify(tiny.path, rich, folder / "map.tif", layers=layers, device="cpu")
    polygonize(folder / "map.tif", folder / "landcover.gpkg")
    names = dict(zip(card.classes.codes, card.classes.names, strict=True))
    (folder / "assessment.json").write_text(json.dumps(make_assessment(names)))
    options = {"scene": tiny.path, "model": rich, "polygons": folder / "landcover.gpkg",
               "assessment": folder / "assessment.json"}  # fmt: skip
    out = folder / "report.html"
    written = report(folder / "map.tif", out, **options, figures=folder / "figures")
    return SimpleNamespace(
        folder=folder,
        map=folder / "map.tif",
        options=options,
        out=out,
        written=written,
        names=names,
    )


class Elements(HTMLParser):
    """Collects start tags, and text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.title, self._hidden = [], "", "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag if tag in ("script", "style", "title") else None

    def handle_endtag(self, tag):
        self._hidden = None
        self.text += " "

    def handle_data(self, text):
        if self._hidden == "title":
            self.title += text
        elif not self._hidden:
            self.text += text


def read(path):
    return Elements(path.read_text(encoding="utf-8"))


def says(page, *parts):
    text = " ".join(page.text.split())
    for part in parts:
        assert part in text, part


# --- what is written ----------------------------------------------------------------------------


def test_a_report_is_two_files_and_figures(made):
    assert made.written[:2] == [made.out, made.folder / "report.json"]
    drawn = {path.stem for path in made.written[2:]}
    assert drawn == set(FIGURE_NAMES) - {"other_colors"}
    assert all(path.exists() for path in made.written)
    assert {path.name for path in (made.folder / "figures").iterdir()} == {
        f"{n}.png" for n in drawn
    }
    assert not list(made.folder.rglob(".*partial*"))
    assert made.out.stat().st_size < 2e6


def test_a_report_says_what_it_was_given(made):
    says(
        read(made.out), "Land cover of scene", "93.8%", "89.8\N{EN DASH}97.8%",
        "from a random sample of",
        "160 points", "stratified random sample", "3 outside the map", "A caution.",
        "Expected calibration error 6.2% before and 1.7% after", "405 validation pixels",
        "3 epochs, epoch 2 was kept", "this model", "svm", "0.900", "EPSG:32633", "SHA-256",
        hashlib.sha256(made.options["model"].read_bytes()).hexdigest(), "map.tif",
    )  # fmt: skip


def test_numbers_are_those_of_the_map(made, tiny):
    found = json.loads((made.folder / "report.json").read_text())
    with rasterio.open(made.map) as raster:
        codes = raster.read(1)
    with rasterio.open(made.folder / "map_dissimilarity.tif") as raster:
        unlike = raster.read(1)[codes > 0]
    assert found["format"] == "hsi_pipeline report 1"
    assert found["grid"]["transform"] == [30, 0, 364_095, 0, -30, 5_809_965]
    assert found["outside_share"] == pytest.approx((unlike > 1).mean())
    for one in found["classes"]:
        inside = codes == one["code"]
        assert one["pixels"] == inside.sum()
        assert one["mapped_area_m2"] == pytest.approx(inside.sum() * 900)
        assert one["mapped_share"] == pytest.approx(inside.sum() / (codes > 0).sum())
    assert found["assessment"] == json.loads((made.folder / "assessment.json").read_text())
    assert found["model"]["calibration"] == calibration()
    assert found["model"]["training"]["history"] == history()
    for one in found["spectra"]["classes"]:
        mean = np.array(one["mean"], float)
        assert np.isnan(mean[4])  # the bad band
        inside = (codes == one["code"]) & tiny.valid
        everywhere = tiny.pixels[:, inside].mean(1) * 1e-4
        np.testing.assert_allclose(np.delete(mean, 4), np.delete(everywhere, 4), atol=0.01)


def test_a_map_alone_is_enough_and_the_rest_is_asked_for(made, tmp_path):
    written = report(made.map, tmp_path / "bare.html")
    assert [path.name for path in written] == ["bare.html", "bare.json"]
    page = read(written[0])
    says(
        page, "no assessment was given", "hsi-pipeline assess", "report --model MODEL",
        "report --scene SCENE", "report --polygons FILE",
    )  # fmt: skip
    assert not [attrs for tag, attrs in page.tags if attrs.get("id") in ("swipe", "polygons")]
    numbers = json.loads(written[1].read_text())
    assert (numbers["assessment"], numbers["model"], numbers["spectra"]) == (None, None, None)


def test_a_model_without_calibration_and_history_will_do(tiny, model, tmp_path):
    network, card = load_checkpoint(model)
    old = {k: v for k, v in card.training.items() if k in ("split", "guard_px", "train_pixels")}
    plain = tmp_path / "old.safetensors"
    bare = dataclasses.replace(card, calibration={}, training=old, scores={})
    save_checkpoint(plain, network, bare)
    classify(tiny.path, plain, tmp_path / "map.zarr", device="cpu")
    report(tmp_path / "map.zarr", tmp_path / "r.html", model=plain)
    says(
        read(tmp_path / "r.html"), "was not calibrated", "no record of the epochs",
        "was not compared with others", "Accuracy unknown",
    )  # fmt: skip


def test_what_assess_writes_is_understood(made, tiny, tmp_path):
    out = tmp_path / "assessment.json"
    assess(made.map, tiny.labels, label_column="code", name_column="name", out=out)
    report(made.map, tmp_path / "r.html", assessment=out)
    overall = json.loads(out.read_text())["overall_accuracy"]["value"]
    says(
        read(tmp_path / "r.html"), f"{overall:.1%}", "not a random sample",
        "The reference is not a probability sample", "labels.gpkg",
    )  # fmt: skip


def test_a_map_without_georeference_is_in_pixels(tmp_path):
    scene = tmp_path / "scene.tif"
    codes = np.kron([[1, 3], [7, 0]], np.ones((20, 25))).astype(np.uint8)
    pixels = np.where(codes, make_pixels(np.where(codes, codes, 1)), NODATA).astype(np.int16)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        write_scene(scene, pixels, crs=None, transform=Affine.identity())
    grid = GeoBox(codes.shape, Affine(1, 0, 0, 0, -1, 0), None)
    write_class_map(make_map(codes, grid), tmp_path / "map.zarr")
    frame = gpd.GeoDataFrame({"a": [1]}, geometry=[box(5, -15, 20, -5)])
    frame.to_parquet(tmp_path / "p.parquet")
    report(tmp_path / "map.zarr", tmp_path / "r.html", scene=scene,
           polygons=tmp_path / "p.parquet", figures=tmp_path / "figures")  # fmt: skip
    says(read(tmp_path / "r.html"), "no CRS", "Mapped, pixels", "500", "33.3%", "1,500 pixels")
    numbers = json.loads((tmp_path / "r.json").read_text())
    assert [one["mapped_area_m2"] for one in numbers["classes"]] == [None] * 7
    (shape,) = decoded(SimpleNamespace(**data_of(tmp_path / "r.html")["polygons"]))
    assert shape.equals(box(5, 5, 20, 15))


def test_a_map_without_a_class_is_reported_as_such(tiny, tmp_path, capfd):
    empty = np.zeros(tiny.classes.shape, np.uint8)
    write_class_map(make_map(empty, tiny.grid), tmp_path / "map.zarr")
    report(tmp_path / "map.zarr", tmp_path / "r.html", scene=tiny.path, figures=tmp_path / "f")
    says(read(tmp_path / "r.html"), "holds no classified pixel", "No spectra")


def test_a_scene_without_wavelengths_has_other_colours(tiny, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", tiny.pixels, wavelengths=None)
    write_class_map(make_map(tiny.classes, tiny.grid), tmp_path / "map.zarr")
    report(tmp_path / "map.zarr", tmp_path / "r.html", scene=scene)
    says(read(tmp_path / "r.html"), "Other colours", "Red, green and blue are band")


def test_another_scene_and_other_classes_are_said_aloud(made, tiny, tmp_path, cli):
    other = shutil.copy(tiny.path, tmp_path / "other.tif")
    strange = tmp_path / "a.json"
    names = {**made.names, 1: "lava"}
    strange.write_text(json.dumps(make_assessment(names, random=False)))
    code, _, err = cli("report", made.map, "--out", tmp_path / "r.html", "--scene", other,
                       "--assessment", strange)  # fmt: skip
    assert code == 0
    for told in (
        "was made of the scene scene; pictures and spectra are of other",
        "Classes that the assessment has not: water; were they joined to lava?",
    ):
        assert told in err
        says(read(tmp_path / "r.html"), told)


# --- the page and what is in it -------------------------------------------------------------------


def data_of(path):
    page = path.read_text(encoding="utf-8")
    text = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.S)
    return json.loads(text[1])


@pytest.fixture(scope="module")
def hostile(tiny, tmp_path_factory):
    """Return a report whose every text from files would like to be HTML."""
    folder = tmp_path_factory.mktemp("hostile")
    dataset = make_map(tiny.classes, tiny.grid)
    scheme = make_scheme(HOSTILE, HOSTILE)
    dataset["class"] = dataset["class"].assign_attrs(scheme_to_attrs(scheme))
    dataset.attrs = {"scene_id": ATTACK, "acquired": ATTACK, ATTACK: "<b>bold</b>"}
    write_class_map(dataset, folder / "map.zarr")
    west, south, east, north = tiny.grid.boundingbox.bbox
    frame = gpd.GeoDataFrame({ATTACK[:30]: [ATTACK], "n": [None]}, crs=tiny.grid.crs.proj,
                             geometry=[box(west, south, east, north)])  # fmt: skip
    frame.to_file(folder / "p.gpkg")
    found = make_assessment(HOSTILE, random=False, reference=ATTACK, warnings=[ATTACK])
    (folder / "a.json").write_text(json.dumps(found))
    out = folder / "report.html"
    report(folder / "map.zarr", out, scene=tiny.path, polygons=folder / "p.gpkg",
           assessment=folder / "a.json", title=ATTACK)  # fmt: skip
    return out


def test_text_of_files_stays_text(hostile):
    page = read(hostile)
    names = [name for name, _ in page.tags]
    assert names.count("script") == 3
    assert names.count("title") == names.count("h1") == 1
    assert "b" not in names
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert [attrs for tag, attrs in page.tags if tag == "img" and attrs["src"] == "x"] == []
    says(page, HOSTILE[1], HOSTILE[3], "_$x^{", ATTACK, "<b>bold</b>")
    assert page.title == ATTACK
    data = data_of(hostile)
    assert [one["name"] for one in data["classes"]] == list(HOSTILE.values())
    columns = {one["name"]: one["values"] for one in data["polygons"]["columns"]}
    assert columns[ATTACK[:30]] == [ATTACK]
    raw = hostile.read_text(encoding="utf-8")
    assert "\u2028" not in re.search(r'id="report-data">(.*?)</script>', raw, re.S)[1]


@pytest.mark.parametrize("page", ["made", "hostile"])
def test_nothing_refers_to_anything_outside(request, page):
    fixture = request.getfixturevalue(page)
    path = fixture.out if page == "made" else fixture
    ids = [attrs["id"] for _, attrs in read(path).tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in read(path).tags:
        for key in ("src", "href", "action", "srcset", "data", "poster"):
            address = attrs.get(key, "#")
            assert address.startswith(("data:", "#")), (tag, key, address[:60])
            assert not address.startswith("#") or address == "#" or address[1:] in ids
    text = path.read_text(encoding="utf-8")
    style = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert all(one.startswith(("data:", "#")) for one in re.findall(r"url\([\"']?([^)]*)", style))
    assert "@import" not in style
    assert "sourceMappingURL" not in text


def test_only_the_two_programs_of_the_page_may_run(made):
    text = made.out.read_text(encoding="utf-8")
    policy = next(attrs["content"] for tag, attrs in read(made.out).tags
                  if attrs.get("http-equiv") == "Content-Security-Policy")  # fmt: skip
    assert policy.startswith("default-src 'none'; img-src data:;")
    programs = re.findall(r"<script>(.*?)</script>", text, re.S)
    sums = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in programs]
    assert f"script-src 'sha256-{sums[0]}' 'sha256-{sums[1]}';" in policy
    assert "BSD 2-Clause License" in programs[0]  # as its licence wants
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_headings_are_in_order_and_pictures_are_told(made):
    tags = read(made.out).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")
    assert all(attrs.get("aria-label") and attrs["role"] == "img"
               for tag, attrs in tags if tag == "svg")  # fmt: skip


def test_the_bytes_of_a_class_picture_are_its_codes():
    codes = np.random.default_rng(0).integers(0, 256, (13, 7)).astype(np.uint8)
    scheme = make_scheme(range(1, 250))
    picture = imread(io.BytesIO(class_png(codes, scheme)))
    colors = np.zeros((256, 4))
    for one in scheme.categories:
        colors[one.code] = (*one.rgb, 255)
    np.testing.assert_array_equal((picture * 255).round(), colors[codes])


def test_every_layer_that_a_map_may_have_has_a_style():
    assert tuple(LAYER_STYLES) == LAYERS
    for style in LAYER_STYLES.values():
        assert style.scale.steps < 255
        assert style.gradient.count("#") == 97


def test_layers_keep_their_values_to_half_a_step():
    scale = Scale(0.02, 3.0)
    values = np.array([[0, 0.011, 1.0, 2.999, 7, np.nan]])
    stored = scale.to_bytes(values)
    assert stored[0, -1] == 0
    back = (stored[0, :5] - 1.0) * scale.step
    np.testing.assert_allclose(back, [0, 0.011, 1, 2.999, 3], atol=0.0101)


# --- polygons -------------------------------------------------------------------------------------


def decoded(outlines):
    shapes = []
    for rings in outlines.rings:
        paths = [np.array(ring).reshape(-1, 2).cumsum(axis=0) / PARTS for ring in rings]
        shapes.append(functools.reduce(shapely.symmetric_difference, map(shapely.Polygon, paths)))
    return shapes


GRID = GeoBox((100, 100), Affine(10, 0, 0, 0, -10, 1000), "EPSG:32633")


@pytest.mark.parametrize("step", [1, 3])
def test_polygons_come_back_to_a_part_of_a_pixel(step):
    ring = shapely.Point(500, 500).buffer(300).difference(shapely.Point(520, 520).buffer(100))
    two = shapely.MultiPolygon([box(0, 0, 100, 100), box(150, 0, 190, 40)])
    frame = gpd.GeoDataFrame(geometry=[two, ring], crs=GRID.crs.proj)
    outlines = encode_outlines(frame, GRID, step, 10**6)
    assert outlines.total == 2
    for shape, expected in zip(decoded(outlines), (ring, two), strict=True):
        pixels = shapely.transform(
            expected,
            lambda points: np.column_stack((points[:, 0], 1000 - points[:, 1])) / 10 / step,
        )
        assert shapely.hausdorff_distance(shape, pixels) < 1.5 / PARTS


def test_the_largest_polygons_are_kept_and_those_elsewhere_are_not():
    sides = np.arange(1, 41)
    boxes = [box(i * 20, 0, i * 20 + side, side) for i, side in enumerate(sides)]
    frame = gpd.GeoDataFrame(
        {"side": sides}, geometry=[*boxes[:-1], box(5000, 0, 5100, 100)], crs=GRID.crs.proj
    )
    everything = encode_outlines(frame, GRID, 1, 10**6)
    assert everything.total == 39
    assert everything.columns == [{"name": "side", "values": list(range(39, 0, -1))}]
    some = encode_outlines(frame, GRID, 1, 400)
    assert 5 < len(some.rings) < 39
    assert some.total == 39
    assert some.columns[0]["values"] == list(range(39, 39 - len(some.rings), -1))
    assert encode_outlines(frame, GRID, 1, 0).rings == []


def test_attributes_are_those_of_the_file():
    frame = gpd.GeoDataFrame(
        {"big": [2**60, 1], "share": [0.1234567891, np.nan], "same": ["a", "a"], "no": [None, "x"],
         "flag": [True, False]},
        geometry=[box(0, 0, 100, 100), box(0, 0, 90, 90)], crs=GRID.crs.proj,
    )  # fmt: skip
    columns = {one["name"]: one for one in encode_outlines(frame, GRID, 1, 10**6).columns}
    assert columns["big"]["values"] == [str(2**60), 1]  # a number of JavaScript would be rounded
    assert columns["share"]["values"] == [0.1234568, None]
    assert columns["same"] == {"name": "same", "levels": ["a"], "places": [0, 0]}
    assert columns["no"]["values"] == [None, "x"]
    assert columns["flag"]["values"] == [True, False]


def test_polygons_in_another_crs_lie_where_they_are(made, tmp_path):
    frame = gpd.read_file(made.options["polygons"], layer="landcover")
    frame.to_crs("EPSG:4326").to_file(tmp_path / "degrees.geojson")
    here = report(made.map, tmp_path / "here.html", polygons=made.options["polygons"])
    there = report(made.map, tmp_path / "there.html", polygons=tmp_path / "degrees.geojson")
    found = []
    for paths in (here, there):
        polygons = data_of(paths[0])["polygons"]
        shapes = decoded(SimpleNamespace(rings=polygons["rings"]))
        found.append(sorted(shape.bounds for shape in shapes))
    assert len(found[0]) == len(frame)
    assert found[0] == found[1]


# --- what is refused ------------------------------------------------------------------------------


def points(path, tiny):
    gpd.GeoDataFrame(geometry=[Point(1, 1), LineString([(0, 0), (1, 1)])],
                     crs=tiny.grid.crs.proj).to_file(path)  # fmt: skip
    return path


def bad_input(kind, made, tiny, folder):
    """Return arguments of `report` that cannot work, and words of the error."""
    out, given = folder / "r.html", {}
    words = []
    if kind == "no html":
        return made.map, folder / "r.pdf", given, ["r.pdf", ".html"]
    if kind == "no folder":
        return made.map, folder / "nowhere" / "r.html", given, ["nowhere", "does not exist"]
    if kind == "no map":
        return tiny.labels, out, given, [""]
    if kind == "missing map":
        return folder / "none.tif", out, given, ["no such file"]
    if kind == "grid":
        other = write_scene(folder / "s.tif", tiny.pixels, transform=Affine(30, 0, 0, 0, -30, 0))
        given, words = (
            {"scene": other},
            ["s.tif", "another grid", "origin 0, 0", "364095", "map.tif"],
        )
    if kind == "no polygons":
        given = {"polygons": points(folder / "p.gpkg", tiny)}
        words = ["holds no polygons", "LineString, Point"]
    if kind == "layers":
        frame = gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=tiny.grid.crs.proj)
        for layer in ("one", "two"):
            frame.to_file(folder / "p.gpkg", layer=layer)
        given, words = {"polygons": folder / "p.gpkg"}, ["one, two", "--layer"]
    if kind == "layer alone":
        given, words = {"layer": "one"}, ["--polygons"]
    if kind == "no crs":
        gpd.GeoDataFrame({"a": [1]}, geometry=[box(0, 0, 1, 1)]).to_parquet(folder / "p.parquet")
        given, words = {"polygons": folder / "p.parquet"}, ["have no CRS", "the map has one"]
    if kind == "missing polygons":
        given, words = {"polygons": folder / "none.gpkg"}, ["none.gpkg"]
    if kind == "model":
        network, card = load_checkpoint(made.options["model"])
        save_checkpoint(folder / "m.safetensors", network, dataclasses.replace(card, seed=77))
        given = {"model": folder / "m.safetensors"}
        words = ["m.safetensors", "is not the model that made the class map"]
    texts = {"no json": "nothing", "list": "[]", "format": '{"format": "accuracy"}',
             "no classes": '{"format": "hsi_pipeline assessment 1"}'}  # fmt: skip
    if kind in texts:
        (folder / "a.json").write_text(texts[kind])
        given = {"assessment": folder / "a.json"}
        words = [
            "a.json",
            {"no json": "no JSON", "no classes": "classes"}.get(kind, "its format is"),
        ]
    if kind == "missing assessment":
        given, words = {"assessment": folder / "a.json"}, ["a.json", "No such file"]
    if kind == "figures":
        (folder / "f").write_text("a file")
        given, words = {"figures": folder / "f"}, ["is a file", "--figures needs a folder"]
    return made.map, out, given, words


@pytest.mark.parametrize(
    "kind",
    ["no html", "no folder", "no map", "missing map", "grid", "no polygons", "layers",
     "layer alone", "no crs", "missing polygons", "model", "no json", "list", "format",
     "no classes", "missing assessment", "figures"],
)  # fmt: skip
def test_input_that_will_not_do_is_named_and_nothing_is_left(made, tiny, tmp_path, kind):
    class_map, out, given, words = bad_input(kind, made, tiny, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError) as error:
        report(class_map, out, **given)
    for word in words:
        assert word in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_existing_files_are_replaced_only_if_told_so(made, tmp_path):
    out, figures = tmp_path / "r.html", tmp_path / "figures"
    report(made.map, out, figures=figures)
    with pytest.raises(InputError, match=r"r\.html exists.*--overwrite"):
        report(made.map, out)
    with pytest.raises(InputError, match=r"map\.png exists.*--overwrite"):
        report(made.map, tmp_path / "other.html", figures=figures)
    assert not (tmp_path / "other.html").exists()
    report(made.map, out, figures=figures, title="Anew", overwrite=True)
    assert json.loads((tmp_path / "r.json").read_text())["title"] == "Anew"


def test_figures_of_an_earlier_report_are_named(made, tmp_path, cli):
    figures = tmp_path / "figures"
    report(made.map, tmp_path / "r.html", figures=figures, assessment=made.options["assessment"])
    code, _, err = cli("report", made.map, "--out", tmp_path / "r.html", "--figures", figures,
                       "--overwrite")  # fmt: skip
    assert code == 0
    assert "confusion_matrix.png is of an earlier report" in err
    assert "map.png is of" not in err


def test_json_of_another_program_is_not_replaced(made, tmp_path):
    item = tmp_path / "item.json"
    item.write_text('{"type": "Feature"}')
    with pytest.raises(InputError, match=r"item\.json exists and holds no numbers of a report"):
        report(made.map, tmp_path / "item.html", overwrite=True)
    assert item.read_text() == '{"type": "Feature"}'


def test_the_command_line_takes_all_options(made, tmp_path, cli):
    options = [text for name, path in made.options.items() for text in (f"--{name}", path)]
    code, _, err = cli("report", made.map, "--out", tmp_path / "r.html", *options,
                       "--figures", tmp_path / "figures", "--layer", "landcover",
                       "--title", "Mine")  # fmt: skip
    assert (code, "MB)" in err, "figures in" in err) == (0, True, True)
    says(read(tmp_path / "r.html"), "Mine")


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(made, tmp_path_factory):
    """Return a browser that has the full report open."""
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        open_page(driver, made.out)
        yield driver


def position(driver, row, column):
    """Return where the middle of a pixel is from the middle of the map, in CSS pixels."""
    return driver.execute_script(
        "const map = window.report.map, size = map.getSize();"
        "const at = map.latLngToContainerPoint([-(arguments[0] + 0.5), arguments[1] + 0.5]);"
        "return [at.x - size.x / 2, at.y - size.y / 2];", row, column,
    )  # fmt: skip


def set_range(driver, name, value):
    driver.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input'));", name, value,
    )  # fmt: skip


def popup(driver):
    """Wait for what a click or key opens; returns its texts: title, then names and values."""
    WebDriverWait(driver, 10).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, ".leaflet-popup-content dl")
    )
    return driver.execute_script(
        "return [...document.querySelectorAll('.leaflet-popup-content :is(.popup-title, dt, dd)')]"
        ".map((one) => one.textContent);"
    )


def close_popup(driver):
    driver.execute_script("window.report.map.closePopup()")
    WebDriverWait(driver, 10).until(
        lambda driver: not driver.find_elements(By.CSS_SELECTOR, ".leaflet-popup")
    )


def click(driver, row, column):
    """Click the middle of a pixel as a user does; returns the lines of what opens."""
    close_popup(driver)
    element = driver.find_element(By.ID, "leaflet")
    driver.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element
    )
    across, down = position(driver, row, column)
    ActionChains(driver).move_to_element_with_offset(element, across, down).click().perform()
    return popup(driver)


def shown_layer(driver, pane):
    """Return the address of the picture in a pane of the map."""
    return driver.execute_script(
        "const one = document.querySelector(`.leaflet-${arguments[0]}-pane img`);"
        "return one && one.src", pane,
    )  # fmt: skip


def test_nothing_is_fetched_and_nothing_complains(made, tmp_path):
    with chromium(tmp_path) as driver:
        open_page(driver, made.out)
        assert requests_of(driver) == [made.out.resolve().as_uri()]
        assert complaints_of(driver) == []


def test_a_click_names_the_class_its_confidence_and_place(made, tiny, browser, tmp_path):
    set_range(browser, "swipe", 0)
    with rasterio.open(made.map) as raster:
        codes, transform = raster.read(1), raster.transform
    with rasterio.open(made.folder / "map_confidence.tif") as raster:
        confidence = raster.read(1)
    random = np.random.default_rng(1)
    for code in (1, 3, 7, 0):
        row, column = random.choice(np.argwhere(codes == code))
        lines = click(browser, int(row), int(column))
        if code == 0:
            assert lines[0] == "Unclassified"
            continue
        assert lines[0] == made.names[code]
        told = dict(zip(lines[1::2], lines[2::2], strict=False))
        assert told["Class code"] == str(code)
        assert told["Confidence"] == f"{confidence[row, column]:.0%}"
        x, y = transform @ (column + 0.5, row + 0.5)
        assert told["Coordinates (EPSG:32633)"] == f"{x:.1f}, {y:.1f}"
    screenshot(browser, tmp_path / "click.png")


def test_the_popup_of_a_polygon_has_its_attributes(made, tiny, browser):
    frame = gpd.read_file(made.options["polygons"], layer="landcover")
    largest = frame.loc[frame.area.idxmax()]
    inside = largest.geometry.representative_point()
    column, row = ~tiny.grid.transform @ (inside.x, inside.y)
    lines = click(browser, int(row), int(column))
    start = lines.index("Polygon")
    told = dict(zip(lines[start + 1 :: 2], lines[start + 2 :: 2], strict=False))
    assert told["name"] == largest["name"] == lines[0]
    assert float(told["area_m2"]) == pytest.approx(largest["area_m2"])
    assert int(told["pixels"]) == largest["pixels"]
    assert set(told) <= {"fid", *frame.columns}


def test_layers_change_with_their_legend(browser):
    for value, words in (("confidence", "50%"), ("dissimilarity", "3 or more"), ("class", "roof")):
        box = browser.find_element(By.CSS_SELECTOR, f"input[name=layer][value={value}]")
        browser.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", box
        )
        box.click()
        still = browser.find_element(By.CSS_SELECTOR, f"#still-{value} img").get_attribute("src")
        assert shown_layer(browser, "top") == still
        panels = browser.find_elements(By.CSS_SELECTOR, ".panel .legend")
        (legend,) = [one for one in panels if one.is_displayed()]
        assert words in legend.text
    before = shown_layer(browser, "below")
    browser.find_element(By.CSS_SELECTOR, "input[name=picture][value=false_color]").click()
    assert shown_layer(browser, "below") not in (None, before)
    set_range(browser, "opacity", 40)
    pane = browser.find_element(By.CSS_SELECTOR, ".leaflet-top-pane")
    assert pane.value_of_css_property("opacity") == "0.4"
    set_range(browser, "opacity", 100)


def test_polygons_can_be_hidden(browser):
    def drawn():
        return browser.execute_script(
            "const one = document.querySelector('.leaflet-outlines-pane canvas');"
            "if (!one) return 0;"
            "const pixels = one.getContext('2d').getImageData(0, 0, one.width, one.height).data;"
            "return pixels.reduce((sum, value) => sum + (value > 0), 0);"
        )

    close_popup(browser)  # and the line around its polygon
    wait = WebDriverWait(browser, 10)
    wait.until(lambda _: drawn() > 100)
    box = browser.find_element(By.ID, "polygons")
    box.click()
    wait.until(lambda _: drawn() == 0)
    box.click()
    wait.until(lambda _: drawn() > 100)


def test_the_swipe_moves_by_keyboard_and_cuts_the_layer(browser):
    close_popup(browser)
    handle = browser.find_element(By.ID, "swipe")
    set_range(browser, "swipe", 50)
    width = browser.find_element(By.ID, "leaflet").size["width"]

    def left():  # where the layer begins, in CSS pixels of the map
        return browser.execute_script(
            "const map = window.report.map;"
            "const cut = document.querySelector('.leaflet-top-pane').style.clipPath;"
            "const corner = map.containerPointToLayerPoint([0, 0]);"
            "return parseFloat(cut.slice(cut.indexOf('(') + 1)) - corner.x;"
        )

    assert left() == pytest.approx(width / 2, abs=1)
    handle.send_keys(Keys.ARROW_RIGHT * 3)
    assert handle.get_attribute("value") == "53"
    assert left() == pytest.approx(0.53 * width, abs=1)
    assert handle.get_attribute("aria-valuetext").startswith("53%")
    handle.send_keys(Keys.HOME)
    pane = browser.find_element(By.CSS_SELECTOR, ".leaflet-top-pane")
    assert pane.value_of_css_property("clip-path") == "none"


def test_the_map_can_be_used_with_the_keyboard_alone(made, browser):
    close_popup(browser)
    browser.execute_script("document.body.focus(); window.scrollTo(0, 0)")
    element = browser.find_element(By.ID, "leaflet")
    for _ in range(40):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        if browser.switch_to.active_element == element:
            break
    assert browser.switch_to.active_element == element
    assert element.value_of_css_property("outline-style") == "solid"
    browser.execute_script("window.report.map.setView([-20.5, 20.5], 3, {animate: false})")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    with rasterio.open(made.map) as raster:
        code = int(raster.read(1)[20, 20])
    assert popup(browser)[0] == made.names[code]
    assert (
        browser.find_element(By.ID, "said")
        .get_attribute("textContent")
        .startswith(made.names[code])
    )


def test_a_large_map_names_the_class_of_the_pixel_that_is_shown(tmp_path, monkeypatch):
    random = np.random.default_rng(2)
    codes = random.integers(1, 8, (1300, 40)).astype(np.uint8)
    grid = GeoBox(codes.shape, Affine(10, 0, 4e5, 0, -10, 58e5), "EPSG:32633")
    write_class_map(make_map(codes, grid).chunk(500), tmp_path / "map.zarr")
    report(tmp_path / "map.zarr", tmp_path / "r.html")
    says(read(tmp_path / "r.html"), "they show one of 2 x 2 pixels")
    with chromium(tmp_path) as driver:
        open_page(driver, tmp_path / "r.html")
        driver.execute_script("window.report.map.setView([-300, 10], 3, {animate: false})")
        for row, column in ((300, 10), (297, 7)):
            lines = click(driver, row, column)
            assert lines[0] == f"class {codes[2 * row + 1, 2 * column + 1]}"
            x, y = grid.transform @ (2 * column + 1.5, 2 * row + 1.5)
            assert f"{x:.1f}, {y:.1f}" in lines


def test_a_page_of_hostile_text_runs_nothing(hostile, tmp_path):
    with chromium(tmp_path) as driver:
        open_page(driver, hostile)
        with pytest.raises(NoAlertPresentException):
            driver.switch_to.alert.text  # noqa: B018
        set_range(driver, "swipe", 0)
        lines = click(driver, 12, 12)
        assert lines[0] in {
            name.replace("\u2028", "\n").splitlines()[0] for name in HOSTILE.values()
        }
        assert ATTACK in lines
        with pytest.raises(NoAlertPresentException):
            driver.switch_to.alert.text  # noqa: B018
        assert (
            driver.find_elements(By.CSS_SELECTOR, ".leaflet-popup img, .leaflet-popup script") == []
        )
        assert complaints_of(driver) == []
        assert requests_of(driver) == [hostile.resolve().as_uri()]


@pytest.mark.parametrize("page", ["made", "hostile"])
def test_a_phone_shows_the_page_without_moving_sideways(request, page, tmp_path):
    fixture = request.getfixturevalue(page)
    with chromium(tmp_path, size=(360, 740), scale=2, touch=True) as driver:
        open_page(driver, fixture.out if page == "made" else fixture)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 360
        assert (
            driver.execute_script(
                "return [...document.querySelectorAll('main *')].filter((one) =>"
                " !one.closest('.scroll, .leaflet-container, .swipe, svg, .viewport') &&"
                " one.getBoundingClientRect().right > 361).map((one) => one.outerHTML.slice(0, 80))"
            )
            == []
        )
        screenshot(driver, tmp_path / "phone.png", whole=True)


def test_print_has_pictures_in_place_of_the_map(made, tmp_path):
    with chromium(tmp_path) as driver:
        open_page(driver, made.out)
        assert not driver.find_element(By.CSS_SELECTOR, ".stills").is_displayed()
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert driver.find_element(By.CSS_SELECTOR, "#still-class img").is_displayed()
        assert not driver.find_element(By.ID, "leaflet").is_displayed()
        printed = print_page(driver, tmp_path / "report.pdf")
        assert printed.read_bytes().startswith(b"%PDF")


def test_without_scripts_the_pictures_are_there(made, tmp_path):
    with chromium(tmp_path) as driver:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        driver.get(made.out.resolve().as_uri())
        assert driver.find_element(By.CSS_SELECTOR, "#still-class img").is_displayed()
        assert not driver.find_element(By.ID, "leaflet").is_displayed()


def test_an_assessment_of_another_map_is_refused(made, tmp_path):
    found = json.loads((made.folder / "assessment.json").read_text())
    numbers = json.loads((made.folder / "report.json").read_text())
    for one, own in zip(found["classes"], numbers["classes"], strict=True):
        one["mapped_area_m2"] = own["mapped_area_m2"]
    path = tmp_path / "assessment.json"
    path.write_text(json.dumps(found))
    report(made.map, tmp_path / "a.html", assessment=path)
    found["classes"][0]["mapped_area_m2"] *= 1.5
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match="is the assessment of another map: of "):
        report(made.map, tmp_path / "b.html", assessment=path)
    assert not (tmp_path / "b.html").exists()


def test_classes_that_were_joined_have_their_areas_too(made, tmp_path):
    found = json.loads((made.folder / "assessment.json").read_text())
    found["classes"][2]["name"] = "water and tree"
    path = tmp_path / "assessment.json"
    path.write_text(json.dumps(found))
    report(made.map, tmp_path / "a.html", assessment=path)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "water and tree" in page.split('id="areas"')[1].split("</section>")[0]
