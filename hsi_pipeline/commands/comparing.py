"""The classes of a map beside those of a reference: matched, merged, and listed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hsi_pipeline.classes import Category, ClassScheme
from hsi_pipeline.errors import InputError

_CODES = 256


@dataclass(frozen=True)
class Merge:
    """Classes that are taken for one."""

    name: str
    """What it is called."""
    members: tuple[str, ...]
    """Names or codes of the classes."""


@dataclass(frozen=True, eq=False)
class ComparedClasses:
    """The classes of a map and of its reference."""

    scheme: ClassScheme
    """All of them, after merging."""
    of_map: np.ndarray
    """Index of each code of the map (256,), -1 where it has no class."""
    of_reference: np.ndarray
    """Index of each code of the reference (256,), likewise."""

    @property
    def only_in_reference(self) -> tuple[str, ...]:
        """Names of the classes that the map does not have."""
        lacking = set(self.of_reference.tolist()) - set(self.of_map.tolist())
        return tuple(self.scheme.names[index] for index in sorted(lacking))

    def sum_of_map(self, by_code: np.ndarray) -> np.ndarray:
        """Sum what is known of each code of the map (256,) by class (class,)."""
        known = self.of_map >= 0
        return np.bincount(self.of_map[known], by_code[known], len(self.scheme))


def parse_merge(text: str) -> Merge:
    """Read "impervious=roof,pavement".

    Raises:
        InputError: It is not of this form.
    """
    name, _, listed = text.partition("=")
    members = tuple(part.strip() for part in listed.split(",") if part.strip())
    if not name.strip() or not members:
        raise InputError(
            f'--merge {text!r}: expected a new name and classes, such as "impervious=roof,pavement"'
        )
    return Merge(name.strip(), members)


def join_classes(
    mapped: ClassScheme,
    reference: ClassScheme,
    merges: Sequence[Merge] = (),
    *,
    has_codes: bool = True,
) -> ComparedClasses:
    """Match the classes of a map with those of a reference.

    Classes match by name where both have names of their own, else by code. Those that only the
    reference has stay: where they lie the map is wrong, and without them it would look better.

    Args:
        mapped: Classes of the map.
        reference: Classes of the reference.
        merges: Classes to join before that, of the map or of both.
        has_codes: Whether the reference has codes; else its classes match by name, whatever the
            map has.

    Raises:
        InputError: There is no class in common, or classes to merge cannot be found.
    """
    by_name = not has_codes or (_has_own_names(mapped) and _has_own_names(reference))
    found: dict[str | int, Category] = {_key(c, by_name): c for c in mapped.categories}
    for category in reference.categories:
        key = _key(category, by_name)
        if key not in found:
            found[key] = replace(category, code=_free_code(category.code, found.values()))
        elif not by_name and not _is_own(found[key]):
            found[key] = replace(found[key], name=category.name)
    merged = _merge(list(found.values()), merges)
    final = sorted({id(c): c for c in merged.values()}.values(), key=lambda c: c.code)
    index = {key: final.index(merged[category.code]) for key, category in found.items()}
    lookups = []
    for scheme in (mapped, reference):
        lookup = np.full(_CODES, -1)
        for category in scheme.categories:
            lookup[category.code] = index[_key(category, by_name)]
        lookups.append(lookup)
    if not set(lookups[0]) & set(lookups[1]) - {-1}:
        what = "names" if not by_name else "codes" if not has_codes else "the same names"
        raise InputError(
            f"map and reference have no class in common by {'name' if by_name else 'code'}; the "
            f"map has {_listed(mapped)}, the reference {_listed(reference)}; give {what} by "
            "--class-table"
        )
    return ComparedClasses(ClassScheme(tuple(final)), *lookups)


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """Return the name that another may be a mistyping of."""
    lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.8)
    return lower[near[0]] if near else None


def _has_own_names(scheme: ClassScheme) -> bool:
    return any(map(_is_own, scheme.categories))


def _is_own(category: Category) -> bool:
    """Tell whether a class has a name other than the default one."""
    return category.name != f"class {category.code}"


def _key(category: Category, by_name: bool) -> str | int:
    return category.name if by_name else category.code


def _free_code(code: int, taken: Iterable[Category]) -> int:
    """Return a code, or the lowest free one if it is taken.

    Raises:
        InputError: All are taken.
    """
    codes = {category.code for category in taken}
    free = [other for other in (code, *range(1, _CODES)) if other not in codes]
    if not free:
        raise InputError(f"map and reference have more than {_CODES - 1} classes together")
    return free[0]


def _merge(categories: list[Category], merges: Sequence[Merge]) -> dict[int, Category]:
    """Return what becomes of each class, by its code.

    Raises:
        InputError: A class is not there, or is to become two things.
    """
    merged = {category.code: category for category in categories}
    taken: dict[int, str] = {}
    for merge in merges:
        members = [_find(member, categories, merge) for member in merge.members]
        # a class that is called so already, in the reference perhaps, is the same
        members += [c for c in categories if c.name == merge.name and c not in members]
        for member in members:
            if taken.setdefault(member.code, merge.name) != merge.name:
                raise InputError(
                    f"--merge: class {member.name!r} is to become {taken[member.code]!r} and "
                    f"{merge.name!r}; name it once"
                )
        joined = replace(min(members, key=lambda c: c.code), name=merge.name)
        joined = replace(joined, color=members[0].color)
        merged |= dict.fromkeys((member.code for member in members), joined)
    return merged


def _find(member: str, categories: Sequence[Category], merge: Merge) -> Category:
    """Return the class with a name or code.

    Raises:
        InputError: There is none.
    """
    for category in categories:
        if member == category.name:
            return category
    for category in categories:
        if member == str(category.code):
            return category
    near = nearest_name(member, [category.name for category in categories])
    raise InputError(
        f"--merge {merge.name}: there is no class {member!r}"
        + (f", did you mean {near!r}" if near else "")
        + f"; the classes are {', '.join(f'{c.code} {c.name}' for c in categories)}"
    )


def _listed(scheme: ClassScheme) -> str:
    return ", ".join(f"{category.code} {category.name}" for category in scheme.categories)
