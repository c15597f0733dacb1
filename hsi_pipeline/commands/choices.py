"""Values that options offer, for completion in shells: as text, since a shell does not wait.

What is refused is decided where an option is used; tests hold these lists against that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MODELS = (
    "hyperloopnet-fusion",
    "hyperloopnet",
    "hyperloopnet-no-attention",
    "spectral",
    "random_forest",
    "svm",
    "logistic_regression",
)
LAYERS = ("entropy", "margin", "dissimilarity")
MASKS = ("default", "strict", "none")
FLAGS = (
    "cloud",
    "cloud_shadow",
    "cirrus",
    "cloud_edge",
    "haze",
    "snow",
    "water",
    "saturated",
    "invalid",
    "low_quality",
)
RESAMPLING = ("auto", "nearest", "linear", "gaussian")
FILLS = ("error", "interpolate", "mean")
PRECISIONS = ("float32", "bfloat16", "auto")
DEVICES = ("auto", "cpu", "cuda")
PROGRESS = ("bar", "json")
JOINS = ("border", "probability")
CONNECTIVITY = ("4", "8")
RULES = ("confident", "newest", "majority")
DESIGNS = ("stratified", "simple")
STATED_DESIGNS = ("auto", "stratified", "simple", "none")
ALLOCATIONS = ("balanced", "proportional", "equal", "optimal")

Complete = Callable[[str], list[str]]
"""From what is typed to what it may become."""


def one_of(choices: Sequence[str]) -> Complete:
    """Return the completion of an option that takes one of some values."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def some_of(choices: Sequence[str], alone: Sequence[str] = ()) -> Complete:
    """Return the completion of an option that takes values with commas between.

    Args:
        choices: The values.
        alone: Values that stand alone.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        offered = [choice for choice in choices if choice not in given]
        found = [f"{before}{comma}{choice}" for choice in offered if choice.startswith(last)]
        return ([] if comma else one_of(alone)(incomplete)) + found

    return complete
