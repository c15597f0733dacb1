"""How often 95 % intervals hold the truth: simulated samples of maps that are known.

    python benchmarks/intervals.py [--samples 2000] [--sizes 100 200 400 640 1000]
        [--polygons 5 10 20 50]

Each map has a million pixels, whose confusion with the truth is known; samples are drawn without
replacement, stratified by the classes of the map or simple, and estimated as `assess` does. Then
simple samples of polygons, whose pixels are right or wrong together. Prints Markdown tables.
With 2,000 samples, a share of 0.95 comes out between 0.940 and 0.960 by chance alone in 19 of 20
cases.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from hsi_pipeline.estimation import Estimate, Estimates, estimate, poststratify, tally_units
from hsi_pipeline.reference_sample import allocate

PIXELS = 1_000_000
RARE = 0.05  # share of the area below which a class is called rare here
COLUMNS = (
    "design", "points", "overall", "kappa", "areas of 5 % or more", "areas below 5 %",
    "areas not warned of", "warned of", "user's", "producer's",
)  # fmt: skip

POLYGON_COLUMNS = (
    "polygons", "overall", "overall by 1.96 errors", "kappa", "user's", "producer's",
    "post-stratified", "overall then", "areas then",
)  # fmt: skip
ALIKE = (  # intraclass correlation of being right
    ("errors anywhere in a polygon (correlation of its pixels 0.05)", 0.05),
    ("errors in parts of polygons (correlation 0.2)", 0.2),
    ("polygons right or wrong as a whole (correlation 1)", 1.0),
)
POLYGON_CLASSES, POLYGON_RIGHT = 3, 0.85


@dataclass(frozen=True)
class Population:
    """A map of a million pixels beside the truth."""

    name: str
    """What it is like."""
    counts: np.ndarray
    """Pixels (map class, true class)."""

    @property
    def truth(self) -> Estimates:
        """Its true scores: those of a sample of all pixels."""
        mapped, true = np.nonzero(self.counts)
        return estimate(tally_units(mapped, true, units=self.counts[mapped, true]), len(self.areas))

    @property
    def areas(self) -> np.ndarray:
        """Pixels of each class of the map."""
        return self.counts.sum(1)


def population(name: str, shares: list[float], users: list[float], spread: str) -> Population:
    """Make a map by its shares and user's accuracies.

    Args:
        name: What to call it.
        shares: Share of each class in the map.
        users: User's accuracy of each.
        spread: Errors are in truth the other classes alike ("even"), by their shares ("area"), or
            the next class ("neighbour").
    """
    k = len(shares)
    table = np.zeros((k, k))
    for i, (share, right) in enumerate(zip(shares, users, strict=True)):
        others = {
            "even": np.ones(k),
            "area": np.array(shares),
            "neighbour": np.eye(k)[(i + 1) % k],
        }[spread].copy()
        others[i] = 0
        table[i] = share * (1 - right) * others / others.sum()
        table[i, i] = share * right
    return Population(name, np.rint(table * PIXELS).astype(np.int64))


POPULATIONS = (
    Population(
        "Olofsson's example: 4 classes, two of 2 %, OA 0.95",
        np.rint(
            np.array([0.02, 0.015, 0.32, 0.645])[:, None] * PIXELS
            * np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
            / np.array([75, 75, 165, 325])[:, None]
        ).astype(np.int64),
    ),
    population("4 classes alike, OA 0.85", [0.25] * 4, [0.85] * 4, "even"),
    population(
        "8 classes of 1 to 40 %, OA 0.77",
        [0.40, 0.25, 0.12, 0.09, 0.06, 0.05, 0.02, 0.01],
        [0.85, 0.75, 0.70, 0.80, 0.60, 0.75, 0.65, 0.70],
        "area",
    ),
    population(
        "5 classes, one of 0.5 %, OA 0.97",
        [0.45, 0.30, 0.15, 0.095, 0.005],
        [0.98, 0.97, 0.95, 0.96, 0.80],
        "neighbour",
    ),
)  # fmt: skip


def draw(population: Population, size: int, design: str, rng: np.random.Generator) -> Estimates:
    """Draw one sample and estimate."""
    counts, areas = population.counts, population.areas
    if design == "simple":
        drawn = rng.multivariate_hypergeometric(counts.ravel(), size).reshape(counts.shape)
        mapped, true = np.nonzero(drawn)
        sample = tally_units(mapped, true, units=drawn[mapped, true])
        return estimate(poststratify(sample, areas) or sample, len(areas))
    least = min(50, size // (2 * len(areas)))
    points = allocate(size, areas, allocation=design, least=least)
    drawn = np.array(
        [rng.multivariate_hypergeometric(c, n) for c, n in zip(counts, points, strict=True)]
    )
    mapped, true = np.nonzero(drawn)
    sample = tally_units(
        mapped, true, units=drawn[mapped, true], stratum=mapped, weights=areas.astype(float)
    )
    return estimate(sample, len(areas))


def numbers(found: Estimates) -> np.ndarray:
    """Return value, standard error and ends (score, 4): overall, kappa, then by class."""
    kinds: list[Estimate] = [found.overall_accuracy, found.kappa]
    for kind in (found.area_share, found.users_accuracy, found.producers_accuracy):
        kinds += kind
    return np.array([one.numbers for one in kinds])


def simulate(
    population: Population, size: int, design: str, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw samples; tell whether each interval holds the truth, and of which classes is warned.

    Returns:
        1 where an interval holds the truth, 0 where not, NaN where it is undefined (sample, score);
        and whether a class is thinly sampled (sample, class).
    """
    rng = np.random.default_rng(seed)
    true = numbers(population.truth)[:, 0]
    held = np.empty((samples, len(true)))
    warned = np.empty((samples, len(population.areas)), bool)
    for i in range(samples):
        found = draw(population, size, design, rng)
        _, _, low, high = numbers(found).T
        inside = (low - 1e-9 <= true) & (true <= high + 1e-9)
        held[i] = np.where(np.isnan(low), np.nan, inside)
        warned[i] = found.is_thinly_sampled
    return held, warned


def row(population: Population, size: int, design: str, samples: int, seed: int) -> list[str]:
    """Return the cells of a line of the table."""
    held, warned = simulate(population, size, design, samples, seed)
    k = len(population.areas)
    area, user, producer = (held[:, 2 + i * k : 2 + (i + 1) * k] for i in range(3))
    rare = population.truth.proportions.sum(0) < RARE

    def mean(values: np.ndarray) -> str:
        if not values.size:
            return "-"
        by_class = np.nanmean(values, axis=0)
        return f"{by_class.mean():.3f} ({by_class.min():.3f})"

    return [
        design,
        str(size),
        f"{held[:, 0].mean():.3f}",
        f"{np.nanmean(held[:, 1]):.3f}",
        mean(area[:, ~rare]),
        mean(area[:, rare]),
        f"{area[~warned].mean():.3f}",
        f"{warned.mean():.0%}",
        mean(user),
        mean(producer),
    ]


def draw_polygons(
    count: int, alike: float, rng: np.random.Generator
) -> tuple[Estimates, Estimates | None]:
    """Draw polygons of 4 to 40 pixels of one of three classes alike, and estimate.

    Returns:
        Estimates of the polygons as they are, and post-stratified if that can be.
    """
    k, right = POLYGON_CLASSES, POLYGON_RIGHT
    size = rng.integers(4, 41, count)
    rate = (rng.random(count) < right).astype(float)
    if alike < 1:
        rate = rng.beta(*(share * (1 / alike - 1) for share in (right, 1 - right)), count)
    hits = rng.binomial(size, rate)
    true, polygon = rng.integers(0, k, count), np.arange(count)
    held = np.concatenate([hits, size - hits])
    mapped = np.concatenate([true, (true + 1) % k])
    parts = [part[held > 0] for part in (mapped, np.tile(true, 2), np.tile(polygon, 2), held)]
    sample = tally_units(parts[0], parts[1], cluster=parts[2], units=parts[3])
    post = poststratify(sample, np.ones(k))
    return estimate(sample, k), None if post is None else estimate(post, k)


def polygon_row(count: int, alike: float, samples: int, seed: int) -> list[str]:
    """Return the cells of a line of the table of polygons."""
    rng = np.random.default_rng(seed)
    k, right = POLYGON_CLASSES, POLYGON_RIGHT
    truth = np.array([right, (right - 1 / k) / (1 - 1 / k), *[1 / k] * k, *[right] * 2 * k])
    held = np.full((2, samples, len(truth)), np.nan)  # as they are, post-stratified
    plain = np.empty(samples)
    for i in range(samples):
        for j, found in enumerate(draw_polygons(count, alike, rng)):
            if found is None:
                continue
            _, _, low, high = numbers(found).T
            inside = (low - 1e-9 <= truth) & (truth <= high + 1e-9)
            held[j, i] = np.where(np.isnan(low), np.nan, inside)
            if j == 0:
                value, error, *_ = found.overall_accuracy.numbers
                plain[i] = inside[0] if error == 0 else abs(value - right) <= 1.96 * error
    area, user, producer = (slice(2 + i * k, 2 + (i + 1) * k) for i in range(3))
    post = held[1][~np.isnan(held[1, :, 0])]
    cells = [held[0, :, 0], plain, held[0, :, 1], held[0][:, user], held[0][:, producer]]
    then = [post[:, 0], post[:, area]]
    return [
        str(count),
        *(f"{np.nanmean(cell):.3f}" for cell in cells),
        f"{len(post) / samples:.0%}",
        *(f"{cell.mean():.3f}" if len(post) else "-" for cell in then),
    ]


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000, help="samples of each kind")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 200, 400, 640, 1000])
    parser.add_argument("--polygons", type=int, nargs="*", default=[5, 10, 20, 50])
    parser.add_argument(
        "--designs", nargs="+", default=["balanced", "equal", "simple"], help="designs to draw by"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    for number, known in enumerate(POPULATIONS if arguments.sizes else ()):
        print(f"\n{known.name}\n")
        print("| " + " | ".join(COLUMNS) + " |")
        print("| " + " | ".join("---" for _ in COLUMNS) + " |")
        for design in arguments.designs:
            for size in arguments.sizes:
                cells = row(known, size, design, arguments.samples, seed=1000 * number + size)
                print("| " + " | ".join(cells) + " |")
    for number, (words, alike) in enumerate(ALIKE if arguments.polygons else ()):
        print(f"\n{POLYGON_CLASSES} classes alike, OA {POLYGON_RIGHT}, {words}\n")
        print("| " + " | ".join(POLYGON_COLUMNS) + " |")
        print("| " + " | ".join("---" for _ in POLYGON_COLUMNS) + " |")
        for count in arguments.polygons:
            cells = polygon_row(count, alike, arguments.samples, seed=1000 * number + count)
            print("| " + " | ".join(cells) + " |")
    print(f"\n{arguments.samples} samples each; {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
