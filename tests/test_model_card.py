"""Model cards: any card survives JSON, and what is no card is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.model_card import CARD_VERSION, ModelCard
from hsi_pipeline.wavelengths import Wavelengths

numbers = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False)
values = st.none() | st.booleans() | numbers | st.text() | st.lists(numbers)
nm = st.floats(0.1, 1e5)


@st.composite
def cards(draw):
    """Any card."""
    centers = draw(st.lists(nm, min_size=1, max_size=6))
    widths = st.lists(st.none() | nm, min_size=len(centers), max_size=len(centers))
    known = draw(st.booleans())
    return ModelCard(
        architecture=draw(st.text()),
        settings=draw(st.dictionaries(st.text(), values)),
        bands=len(centers) if known else draw(st.integers(1, 10**6)),
        wavelengths=Wavelengths(tuple(centers), tuple(draw(widths))) if known else None,
        tolerance_nm=draw(st.floats(0, 100)),
        classes=make_scheme(draw(st.lists(st.integers(1, 255), min_size=1))),
        halo=draw(st.integers(0, 99)),
        scenes=tuple(draw(st.lists(st.text()))),
        seed=draw(st.integers(0, 2**63)),
        version=draw(st.text()),
        training=draw(st.dictionaries(st.text(), values)),
        scores=draw(st.dictionaries(st.text(), st.floats(allow_nan=False))),
    )


@given(cards())
def test_json_gives_the_card_back(card):
    assert ModelCard.from_json(card.to_json()) == card


@pytest.fixture
def card():
    """A card."""
    return ModelCard(
        architecture="spectral",
        settings={"width": 8},
        bands=2,
        wavelengths=Wavelengths((500.0, 400.0)),
        tolerance_nm=10.0,
        classes=make_scheme([1, 2]),
        halo=0,
        scenes=("a",),
        seed=0,
        version="1",
    )


def test_scores_that_are_not_numbers_survive(card):
    text = card.to_json().replace('"scores": {}', '"scores": {"kappa": NaN}')
    score = ModelCard.from_json(text).scores["kappa"]
    assert score != score


def test_a_card_of_another_version_is_refused(card):
    text = json.dumps({**json.loads(card.to_json()), "card_version": CARD_VERSION + 1})
    with pytest.raises(InputError, match=r"has version 3, this program reads 2; update hsi_pip"):
        ModelCard.from_json(text)


@pytest.mark.parametrize(
    "key", ["card_version", "wavelengths", "classes", "scenes", "bands", "seed"]
)
def test_a_card_that_lacks_something_is_refused(card, key):
    content = json.loads(card.to_json())
    del content[key]
    with pytest.raises(InputError, match=f"card cannot be read .*{key}"):
        ModelCard.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"text"', "{}", "[" * 50_000])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(InputError, match="the model card cannot be read"):
        ModelCard.from_json(text)


@given(st.recursive(values, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8))
def test_any_other_json_is_refused(content):
    with pytest.raises(InputError, match="the model card cannot be read"):
        ModelCard.from_json(json.dumps(content))


def test_band_counts_that_cannot_be_are_refused(card):
    content = json.loads(card.to_json())
    for bands, match in ((0, "0 bands"), (-1, "-1 bands"), (3, "2 wavelengths for 3 bands")):
        with pytest.raises(InputError, match=match):
            ModelCard.from_json(json.dumps({**content, "bands": bands}))


def test_a_card_of_before_calibration_is_read(card):
    values = json.loads(card.to_json())
    old = {k: v for k, v in values.items() if k not in ("temperature", "calibration")}
    read = ModelCard.from_json(json.dumps(old | {"card_version": 1}))
    assert (read.temperature, read.calibration) == (1.0, {})
    assert read.classes == card.classes
