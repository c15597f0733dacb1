"""Class schemes: what a scheme must be, and its way through attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsi_pipeline.classes import (
    Category,
    ClassScheme,
    default_color,
    make_scheme,
    scheme_from_attrs,
    scheme_to_attrs,
)
from hsi_pipeline.errors import InputError

colors = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")
tables = st.dictionaries(st.integers(1, 255), st.tuples(st.text(min_size=1), colors), min_size=1)


@st.composite
def schemes(draw):
    """Any scheme, with any unique names."""
    table = draw(tables)
    names = draw(
        st.lists(st.text(min_size=1), min_size=len(table), max_size=len(table), unique=True)
    )
    return ClassScheme(
        tuple(
            Category(code, name, table[code][1])
            for code, name in zip(sorted(table), names, strict=True)
        )
    )


@given(schemes())
def test_attributes_give_the_scheme_back(scheme):
    assert scheme_from_attrs(scheme_to_attrs(scheme)) == scheme


@given(schemes())
def test_cf_flags_have_one_word_for_each_class(scheme):
    attrs = scheme_to_attrs(scheme)
    for name in ("flag_meanings", "flag_colors"):
        assert len(attrs[name].split()) == len(scheme)
    assert attrs["flag_values"] == list(scheme.codes)


@given(schemes())
def test_index_and_code_are_inverse(scheme):
    assert len(scheme) == len(scheme.codes) == len(scheme.names) == len(scheme.colors)
    for code, index in scheme.index_of_code.items():
        assert scheme.categories[index].code == code


@given(st.lists(st.integers(1, 255), min_size=1))
def test_made_schemes_are_in_code_order_whatever_the_order_given(codes):
    scheme = make_scheme(codes)
    assert scheme.codes == tuple(sorted(set(codes)))
    assert scheme == make_scheme(reversed(codes))
    assert scheme.names == tuple(f"class {code}" for code in scheme.codes)


def test_names_and_colors_are_taken_by_code():
    scheme = make_scheme([9, 3], {3: "bare soil", 4: "unused"}, {9: "#AABBCC"})
    assert scheme.names == ("bare soil", "class 9")
    assert scheme.colors == (default_color(0), "#aabbcc")
    assert scheme_to_attrs(scheme)["flag_meanings"] == "bare_soil class_9"


def test_default_colors_are_valid_and_differ_for_twenty_classes():
    assert len({default_color(i) for i in range(20)}) == 20
    assert Category(1, "a", default_color(250)).rgb


def test_rgb_by_hand():
    assert Category(1, "a", "#0180ff").rgb == (1, 128, 255)


def test_attributes_from_other_programs():
    """Numbers as text or one number, names from CF alone."""
    attrs = {"flag_values": "1 7", "flag_meanings": "water bare_soil"}
    assert scheme_from_attrs(attrs).names == ("water", "bare_soil")
    assert scheme_from_attrs({"flag_values": 7}).codes == (7,)
    assert scheme_from_attrs({"flag_values": [1, 2], "class_names": ["a"]}).names == (
        "a",
        "class 2",
    )


def test_a_map_without_flags_is_refused():
    with pytest.raises(InputError, match="has no flag_values; was it made by 'classify'"):
        scheme_from_attrs({"flag_meanings": "a b"})


@pytest.mark.parametrize("values", ["{1,2}", "a b", [None]])
def test_flags_that_are_no_codes_are_refused(values):
    with pytest.raises(InputError, match="flag_values"):
        scheme_from_attrs({"flag_values": values})


@pytest.mark.parametrize(
    ("category", "match"),
    [
        ((0, "a", "#000000"), "code 0 is outside 1 to 255"),
        ((256, "a", "#000000"), "code 256 is outside"),
        ((1, "", "#000000"), "class 1 has an empty name"),
        ((1, "a", "#00000"), "color '#00000' of class 1 is not #rrggbb"),
        ((1, "a", "#ABCDEF"), "is not #rrggbb"),
        ((1, "a", "#000000\n"), "is not #rrggbb"),
        ((1, "a", "red"), "is not #rrggbb"),
    ],
)
def test_impossible_categories_are_refused(category, match):
    with pytest.raises(InputError, match=match):
        Category(*category)


@pytest.mark.parametrize(
    ("codes", "names", "match"),
    [
        ((), (), "there are no classes"),
        ((2, 1), ("a", "b"), "are not ascending and unique"),
        ((1, 1), ("a", "b"), "are not ascending and unique"),
        ((1, 2), ("a", "a"), "class name 'a' stands for more than one code"),
    ],
)
def test_impossible_schemes_are_refused(codes, names, match):
    with pytest.raises(InputError, match=match):
        ClassScheme(tuple(Category(c, n, "#000000") for c, n in zip(codes, names, strict=True)))


def test_no_codes_are_refused():
    with pytest.raises(InputError, match="there are no classes"):
        make_scheme([])
