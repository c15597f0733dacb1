"""Figures show the numbers they are given, and names as they stand."""

import io
import math
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from odc.geo.geobox import GeoBox

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.figures import (
    AMOUNTS,
    Spectrum,
    areas_figure,
    as_png,
    as_svg,
    confusion_figure,
    frame_of,
    layer_figure,
    length_text,
    map_figure,
    picture_figure,
    reliability_figure,
    round_length,
    spectra_figure,
    training_figure,
)

NAMES = ["<b>roof</b> & $x^{", "_hidden", "草地 $5"]
SCHEME = make_scheme([1, 2, 3], dict(zip((1, 2, 3), NAMES, strict=True)))
UTM = GeoBox((20, 30), Affine(30, 0, 500_000, 0, -30, 5_800_000), "EPSG:32633")
FRAME = frame_of(UTM, 1, (20, 30), 30.0)
CODES = np.arange(600).reshape(20, 30).astype(np.uint8) % 4
POSITIONS = np.array([500, 600, 700, 800, 650, 750, 850, 1400, 1500], float)
BINS = [{"count": 0, "confidence": None, "accuracy": None}] * 7 + [
    {"count": 3, "confidence": 0.75, "accuracy": 1 / 3},
    {"count": 40, "confidence": 0.86, "accuracy": 0.8},
    {"count": 60, "confidence": 0.97, "accuracy": 0.95},
]
EPOCHS = [
    {"epoch": i + 1, "loss": 1 / (i + 1), "overall_accuracy": 0.5 + i / 10, "mean_f1": None,
     "kept": i == 2}
    for i in range(4)
]  # fmt: skip


def spectra():
    mean = np.linspace(0.1, 0.4, 9)
    mean[2] = np.nan
    return [Spectrum(one, mean + i / 10, mean, mean + 0.3, 9) for i, one in
            enumerate(SCHEME.categories)]  # fmt: skip


def estimates():
    return [(2.5, 2.0, 3.0), None, (0.5, 0.2, 0.8)]


FIGURES = {
    "map": lambda: map_figure(CODES, SCHEME, FRAME),
    "picture": lambda: picture_figure(np.full((20, 30, 4), 90, np.uint8), FRAME),
    "layer": lambda: layer_figure(
        np.where(CODES, CODES / 2, np.nan), FRAME, label="_doubt", high=1.0, colors=AMOUNTS
    ),
    "areas": lambda: areas_figure(SCHEME, [2.0, 0.0, 120.0], "km²"),
    "areas with estimates": lambda: areas_figure(SCHEME, [2, 1, 0.4], "ha", estimates()),
    "areas of nothing": lambda: areas_figure(SCHEME, [0, 0, 0], "ha"),
    "confusion": lambda: confusion_figure(NAMES, np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]])),
    "reliability": lambda: reliability_figure([i / 10 for i in range(10)], BINS, BINS),
    "training": lambda: training_figure(EPOCHS),
    "spectra": lambda: spectra_figure(spectra(), POSITIONS, x_label="nm", y_label="reflectance"),
    "one spectrum": lambda: spectra_figure(
        spectra()[:1], POSITIONS, x_label="nm", y_label="y", columns=1, others=spectra()[1:]
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_valid_svg_and_png_of_300_dots_an_inch(name):
    figure = FIGURES[name]()
    root = ET.fromstring(as_svg(figure, name))
    assert root.tag.endswith("svg")
    assert "Matplotlib" not in as_svg(figure, name)
    picture = imread(io.BytesIO(as_png(figure)))
    assert picture.shape[1] == pytest.approx(300 * figure.get_figwidth(), abs=1)
    assert picture[0, 0, :3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["map", "areas", "confusion", "spectra"])
def test_names_of_classes_stand_there_letter_by_letter(name):
    root = ET.fromstring(as_svg(FIGURES[name](), name))
    texts = {
        "".join(node.itertext()).replace("\N{ZERO WIDTH SPACE}", "")
        for node in root.iter("{http://www.w3.org/2000/svg}text")
    }
    assert set(NAMES) <= texts


def test_the_same_figure_is_the_same_file():
    for draw in (FIGURES["areas"], FIGURES["spectra"]):
        assert as_svg(draw(), "a") == as_svg(draw(), "a")
        assert as_png(draw()) == as_png(draw())


def test_bars_are_as_long_as_areas_and_points_lie_at_estimates():
    figure = areas_figure(SCHEME, [2.0, 1.0, 0.4], "ha", estimates())
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [2.0, 1.0, 0.4]
    errors = [one for one in axes.containers if hasattr(one, "has_xerr")]
    assert [one.lines[0].get_xdata()[0] for one in errors] == [2.5, 0.5]
    ends = [one.lines[2][0].get_segments()[0][:, 0].tolist() for one in errors]
    assert ends == [pytest.approx([2.0, 3.0]), pytest.approx([0.2, 0.8])]


def test_shades_of_a_confusion_matrix_are_shares_of_its_rows():
    counts = np.array([[6, 2], [0, 0]])
    (image,) = confusion_figure(["a", "b"], counts).axes[0].images
    np.testing.assert_allclose(image.get_array(), [[0.75, 0.25], [0, 0]])


def test_a_map_has_the_colours_of_its_classes_where_they_are():
    (image,) = map_figure(CODES, SCHEME, FRAME).axes[0].images
    assert image.get_extent() == [500_000, 500_900, 5_799_400, 5_800_000]
    colors = np.array([(0, 0, 0, 0), *((*one.rgb, 255) for one in SCHEME.categories)])
    np.testing.assert_array_equal(image.get_array(), colors[CODES])


def test_bins_of_few_pixels_have_no_line():
    axes = reliability_figure([i / 10 for i in range(10)], BINS, BINS).axes[0]
    joined = next(line for line in axes.lines if line.get_label() == "after")
    assert list(joined.get_xdata()) == [0.86, 0.97]
    hollow = [line for line in axes.lines if list(line.get_xdata()) == [0.75]]
    assert [line.get_linestyle() for line in hollow] == ["None", "None"]


def test_spectra_break_where_detectors_overlap_and_where_bands_lack():
    (axes,) = spectra_figure(spectra()[:1], POSITIONS, x_label="nm", y_label="y", columns=1).axes
    parts = [line.get_xdata().tolist() for line in axes.lines]
    assert parts == [[500, 600, 700, 800], [650, 750, 850], [1400, 1500]]
    assert np.isnan(axes.lines[0].get_ydata()[2])


def test_frames_count_in_the_units_of_the_map_or_in_pixels():
    assert FRAME.extent == (500_000, 500_900, 5_799_400, 5_800_000)
    assert FRAME.x_label == "easting in m (EPSG:32633)"
    assert FRAME.unit_m == pytest.approx(1)
    degrees = frame_of(GeoBox((4, 4), Affine(0.1, 0, 8, 0, -0.1, 50), "EPSG:4326"), 2, (2, 2), 7e3)
    assert degrees.extent == pytest.approx((8, 8.4, 49.6, 50))
    assert degrees.y_label == "latitude in °"
    assert degrees.unit_m == pytest.approx(70e3)
    turned = GeoBox((4, 6), Affine(20, 10, 5e5, 10, -20, 58e5), "EPSG:32633")
    assert frame_of(turned, 1, (4, 6), 22.0).extent == (0, 6, 4, 0)
    plain = frame_of(GeoBox((4, 6), Affine(1, 0, 0, 0, -1, 0), None), 1, (4, 6), None)
    assert (plain.extent, plain.x_label, plain.unit_m) == ((0, 6, 4, 0), "column", None)


@given(st.floats(1e-3, 1e8))
def test_lengths_of_scale_bars_are_round_and_as_long_as_may_be(most):
    length = round_length(most)
    assert length <= most < 2.5 * length * (1 + 1e-9)
    assert float(f"{length / 10 ** math.floor(math.log10(length) + 1e-9):.6g}") in (1, 2, 5)


def test_lengths_are_written_in_m_or_km():
    assert [length_text(length) for length in (0.5, 200, 1000, 50_000)] == [
        "0.5 m", "200 m", "1 km", "50 km",
    ]  # fmt: skip
