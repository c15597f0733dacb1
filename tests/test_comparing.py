"""Classes of a map beside those of a reference: by name, by code, merged."""

import numpy as np
import pytest

from hsi_pipeline.classes import make_scheme
from hsi_pipeline.commands.comparing import Merge, join_classes, nearest_name, parse_merge
from hsi_pipeline.errors import InputError

MAP = make_scheme(
    [1, 3, 7], {1: "water", 3: "tree", 7: "roof"}, {1: "#0000ff", 3: "#00ff00", 7: "#ff0000"}
)


def names_of(lookup, found):
    """Name by code of what a lookup knows."""
    return {
        code: found.scheme.names[index] for code, index in enumerate(lookup.tolist()) if index >= 0
    }


def test_classes_match_by_name_whatever_their_codes():
    found = join_classes(MAP, make_scheme([1, 2], {1: "roof", 2: "water"}))
    assert found.scheme == MAP
    assert names_of(found.of_map, found) == {1: "water", 3: "tree", 7: "roof"}
    assert names_of(found.of_reference, found) == {1: "roof", 2: "water"}
    assert found.only_in_reference == ()


def test_classes_of_the_reference_alone_stay_with_a_code_that_is_free():
    found = join_classes(MAP, make_scheme([1, 2, 5], {1: "snow", 2: "water", 5: "rock"}))
    assert found.scheme.names == ("water", "snow", "tree", "rock", "roof")
    assert found.scheme.codes == (1, 2, 3, 5, 7)
    assert found.only_in_reference == ("snow", "rock")
    assert names_of(found.of_reference, found) == {1: "snow", 2: "water", 5: "rock"}


def test_classes_match_by_code_where_one_side_has_no_names():
    plain = make_scheme([1, 7, 9])
    found = join_classes(MAP, plain)
    assert found.scheme.names == ("water", "tree", "roof", "class 9")
    assert found.only_in_reference == ("class 9",)
    found = join_classes(plain, MAP)  # names are better than none
    assert found.scheme.names == ("water", "tree", "roof", "class 9")


def test_codes_that_are_made_up_of_names_do_not_match():
    """Names alone are coded in sorted order: class 10 would be 2."""
    names = sorted(f"class {code}" for code in (1, 2, 10))
    reference = make_scheme([1, 2, 3], dict(zip((1, 2, 3), names, strict=True)))
    assert reference.names == ("class 1", "class 10", "class 2")
    plain = make_scheme([1, 2, 10])
    found = join_classes(plain, reference, has_codes=False)
    assert names_of(found.of_reference, found) == {1: "class 1", 2: "class 10", 3: "class 2"}
    with pytest.raises(InputError, match=r"no class in common by name; the map has 1 class 1, 2"):
        join_classes(plain, make_scheme([1, 2], {1: "roof", 2: "tree"}), has_codes=False)


def test_without_a_common_class_both_are_listed():
    with pytest.raises(
        InputError,
        match=r"no class in common by name; the map has 1 water, 3 tree, 7 roof, the reference "
        r"2 ice, 4 snow",
    ):
        join_classes(MAP, make_scheme([2, 4], {2: "ice", 4: "snow"}))
    with pytest.raises(InputError, match=r"in common by code; .*; give names by --class-table"):
        join_classes(MAP, make_scheme([2, 4]))


def test_merged_classes_are_one_with_its_own_name():
    merge = parse_merge(" land = tree , roof")
    assert merge == Merge("land", ("tree", "roof"))
    found = join_classes(MAP, make_scheme([1, 2], {1: "roof", 2: "water"}), [merge])
    assert found.scheme.names == ("water", "land")
    assert found.scheme.codes == (1, 3)
    assert found.scheme.colors == ("#0000ff", "#00ff00")
    assert names_of(found.of_map, found) == {1: "water", 3: "land", 7: "land"}
    assert names_of(found.of_reference, found) == {1: "land", 2: "water"}
    areas = np.zeros(256)
    areas[[1, 3, 7]] = 10, 2, 5
    assert found.sum_of_map(areas).tolist() == [10, 7]


def test_a_merge_joins_what_is_called_so_already():
    reference = make_scheme([1, 2], {1: "land", 2: "water"})
    found = join_classes(MAP, reference, [parse_merge("land=tree,7")])
    assert found.scheme.names == ("water", "land")
    assert found.only_in_reference == ()


@pytest.mark.parametrize("text", ["land", "=tree", "land=", "land= , "])
def test_what_is_no_merge(text):
    with pytest.raises(InputError, match=r'expected a new name and classes, such as "imperv'):
        parse_merge(text)


def test_merges_that_cannot_be():
    reference = make_scheme([1], {1: "water"})
    with pytest.raises(
        InputError, match=r"--merge land: there is no class 'tee', did you mean 'tree'; the cl"
    ):
        join_classes(MAP, reference, [parse_merge("land=tee")])
    twice = [parse_merge("land=tree"), parse_merge("green=tree,roof")]
    with pytest.raises(InputError, match="'tree' is to become 'land' and 'green'; name it once"):
        join_classes(MAP, reference, twice)


def test_more_classes_than_codes():
    many = make_scheme(range(1, 256), {code: f"a {code}" for code in range(1, 256)})
    with pytest.raises(InputError, match="more than 255 classes together"):
        join_classes(many, make_scheme([1, 2], {1: "a 1", 2: "new"}))


def test_the_nearest_name():
    assert nearest_name("Watr", MAP.names) == "water"
    assert nearest_name("TREE", MAP.names) == "tree"
    assert nearest_name("snow", MAP.names) is None
