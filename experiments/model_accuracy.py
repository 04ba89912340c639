"""How far older bandwidth models are from what moves; writes docs/model-accuracy.md and its figure.

For every layer and buffer each model chooses the schedule that moves least as the model counts. The
same schedule is then counted as it runs. Two questions: by how much does the model err on its own
choice, and what does it cost to choose by it.

The schedules of a layer are counted by formulas of this file, all at once. Those chosen are counted
again by the library, in the model's convention and in `default`: the two must agree to the word.
"""

import math
import platform
import random
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tilewright
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Layer, Rank, Workload
from tilewright.model.convention import CONVENTIONS, Convention, Footprint, Reuse
from tilewright.model.cost import Cost
from tilewright.model.evaluate import compare_with_walk, evaluate
from tilewright.zoo import load_network

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model-accuracy.md"
PICTURE = ROOT / "docs" / "figures" / "model-accuracy.svg"

NETWORKS = ("alexnet", "vgg16", "googlenet", "resnet18", "mobilenetv2")
BUFFERS_KIB = (1, 2, 4, 8, 16, 32, 64)
WORD_BITS = 16
SEED = 2015
REAL = "default"
"""The convention that says what moves: the walk is held against it."""

TILED = "KCPQ"
"""The dims that are tiled: output and input channels, rows and columns of the output."""
INDEXING = {"W": "KC", "I": "CPQ", "O": "KPQ"}
"""Which of them index which operand."""

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
TOO_MANY = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Model:
    """A bandwidth model: its convention, and the orders of tile loops that it chooses from."""

    name: str
    orders: tuple[str, ...]

    @property
    def rules(self) -> Convention:
        return CONVENTIONS[self.name]


ANY_ORDER = tuple("".join(order) for order in permutations(TILED))
"""Every order of the tile loops, outermost first."""

OLDER = (
    Model("blocking2016", ANY_ORDER),
    Model("zhang2015", ("PQKC",)),
    Model("peemen2015", ("KPQC",)),
)
OURS = Model(REAL, ANY_ORDER)


# Counting all schedules of a layer at once


@dataclass(frozen=True, slots=True)
class Axis:
    """The input's tiles along one dim, in words; entry i is for tiles of the i-th divisor.

    Attributes:
        lengths: how many indices of the dim a tile spans: the divisors of its size.
        visited: what all tiles touch, added up.
        shared: what consecutive tiles share, added up.
        largest: what the largest tile touches.
    """

    lengths: Integers
    visited: Integers
    shared: Integers
    largest: Integers


@cache
def axis_of(rank: Rank, dim: str, sizes: tuple[tuple[str, int], ...], in_box: bool) -> Axis:
    """Count the tiles of a dim by listing their coordinates.

    Raises `ValueError` where a tile has no words or the first and the last are the same: the
    formulas of `predict` take it that a tile moves whenever one of its loops does.
    """
    size = dict(sizes)
    lengths = divisors(size[dim])
    found: list[tuple[int, int, int]] = []
    for length in lengths:
        tiles = [
            touched(rank, {**size, dim: length}, {dim: first}, in_box)
            for first in range(0, size[dim], length)
        ]
        if not all(tiles) or (len(tiles) > 1 and tiles[0] == tiles[-1]):
            raise ValueError(f"tiles of {length} of {dim} along {rank} do not all move")
        words = [len(tile) for tile in tiles]
        shared = sum(len(a & b) for a, b in pairwise(tiles))
        found.append((sum(words), shared, max(words)))
    return Axis(np.array(lengths), *np.array(found, dtype=np.int64).T)


def touched(rank: Rank, spans: dict[str, int], first: dict[str, int], in_box: bool) -> set[int]:
    """The coordinates of a tile: with padding and holes if boxes are counted, without if words."""
    coordinates = {0}
    for term in rank.terms:
        start = first.get(term.dim, 0)
        steps = range(start, start + spans[term.dim])
        coordinates = {at + term.coefficient * step for at in coordinates for step in steps}
    if in_box:
        return set(range(min(coordinates), max(coordinates) + 1))
    return coordinates if rank.data is None else coordinates & set(range(*rank.data))


def divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


@dataclass(frozen=True, slots=True)
class Space:
    """Every tiling of a layer by perfect factors; arrays have one entry per tiling.

    Filters are whole in every tile. Groups share nothing, so that they run one after the other,
    outermost, and a layer costs as much as all its groups.

    Attributes:
        workload: the layer.
        sizes: those of its dims, 1 for dims that it lacks.
        tile: the span of a tile in each dim of `TILED`.
        extent: how many tiles there are along it.
        axes: the input along each dim that indexes it: first in words, then in boxes. Arrays have
            one entry per tiling here, too.
    """

    workload: Workload
    sizes: dict[str, int]
    tile: dict[str, Integers]
    extent: dict[str, Integers]
    axes: dict[Footprint, dict[str, Axis]]

    @property
    def taps(self) -> int:
        return self.sizes["R"] * self.sizes["S"]

    def tile_words(self, footprint: Footprint) -> Integers:
        """The words of a tile of all three operands."""
        k, c, p, q = (self.tile[dim] for dim in TILED)
        image = math.prod(axis.largest for axis in self.axes[footprint].values())
        return k * c * self.taps + image + k * p * q

    def mapping(self, order: str, index: int) -> Mapping:
        """A tiling as a mapping onto DRAM and one buffer, its loops in this order."""
        outer = [Loop("G", self.sizes["G"])]
        outer += [Loop(dim, int(self.extent[dim][index])) for dim in order]
        inner = [Loop(dim, int(self.tile[dim][index])) for dim in TILED]
        inner += [Loop(dim, self.sizes[dim]) for dim in "RS"]
        operands = ("W", "I", "O")
        loops = [tuple(loop for loop in part if loop.extent > 1) for part in (outer, inner)]
        return Mapping((Block("DRAM", operands, loops[0]), Block("BUF", operands, loops[1])))


def space_of(workload: Workload) -> Space:
    """List the tilings of a convolution or matrix product of one image.

    Raises `ValueError` for other work.
    """
    sizes = dict.fromkeys("NGKCPQRS", 1) | workload.sizes
    names = {operand.name for operand in workload.operands}
    if sizes["N"] > 1 or names != set(INDEXING) or set(sizes) != set("NGKCPQRS"):
        raise ValueError(f"{workload.name} is no layer for one image")
    factors = [divisors(sizes[dim]) for dim in TILED]
    which = np.indices([len(choice) for choice in factors]).reshape(len(TILED), -1)
    tile = {
        dim: np.array(choice, dtype=np.int64)[row]
        for dim, choice, row in zip(TILED, factors, which, strict=True)
    }
    extent = {dim: sizes[dim] // tile[dim] for dim in TILED}
    place = dict(zip(TILED, which, strict=True))
    axes = {
        footprint: {
            dim: _spread(input_axis(workload, dim, footprint), place[dim]) for dim in INDEXING["I"]
        }
        for footprint in Footprint
    }
    return Space(workload, sizes, tile, extent, axes)


def input_axis(workload: Workload, dim: str, footprint: Footprint) -> Axis:
    """The axis of the input that a dim moves along; one tile of one word if there is none."""
    ranks = workload.operand("I").ranks
    rank = next((r for r in ranks if any(term.dim == dim for term in r.terms)), None)
    if rank is None:
        one = np.ones(1, dtype=np.int64)
        return Axis(one, one, one * 0, one)
    sizes = tuple((term.dim, workload.sizes[term.dim]) for term in rank.terms)
    return axis_of(rank, dim, sizes, footprint is Footprint.BOX)


def _spread(axis: Axis, rows: Integers) -> Axis:
    return Axis(axis.lengths[rows], axis.visited[rows], axis.shared[rows], axis.largest[rows])


def predict(space: Space, order: str, rules: Convention) -> Integers:
    """Words to and from DRAM of every tiling, its tile loops in this order, outermost first.

    Source: `docs/spec/model.md §3`, for one block of all operands below four loops.
    """
    sizes = space.sizes
    weights = sizes["K"] * sizes["C"] * space.taps * visits(space, order, "W")
    results = sizes["K"] * sizes["P"] * sizes["Q"]
    outputs = visits(space, order, "O")
    read_back = outputs - 1 if rules.elides_first_read else outputs
    words = weights + input_words(space, order, rules) + results * (outputs + read_back)
    return words * sizes["G"]


def visits(space: Space, order: str, operand: str) -> Integers:
    """How often every tile of an operand comes.

    A loop that does not index it brings all tiles again, if there is more than one inside.
    """
    times = np.ones_like(space.tile["K"])
    several = np.zeros(times.shape, dtype=np.bool_)
    for dim in reversed(order):
        extent = space.extent[dim]
        if dim in INDEXING[operand]:
            several |= extent > 1
        else:
            times *= np.where(several, extent, 1)
    return times


def input_words(space: Space, order: str, rules: Convention) -> Integers:
    """Words of the input that enter the buffer, for one group.

    What consecutive tiles share stays at the steps of the innermost loop that moves them, if the
    rules keep it.
    """
    words = visits(space, order, "I")
    slides = np.full(words.shape, rules.reuse is Reuse.SLIDING)
    for dim in reversed(order):
        if dim in INDEXING["I"]:
            axis = space.axes[rules.footprint][dim]
            words *= axis.visited - np.where(slides, axis.shared, 0)
            slides &= space.extent[dim] == 1
    return words


# What each model chooses, and what that is worth


@dataclass(frozen=True, slots=True)
class Outcome:
    """The schedule of one layer that a model chose for one buffer.

    Attributes:
        network: where the layer is from.
        layer: the layer, and how often it comes there.
        kib: the buffer.
        model: who chose.
        mapping: the schedule.
        words: its DRAM words by every convention of `RULES`.
        tied_words: what moves for the worst of those schedules that the model finds equally good.
        best_words: what moves for the best schedule of the same orders.
        any_words: what moves for the best schedule of any order.
    """

    network: str
    layer: Layer
    kib: int
    model: Model
    mapping: Mapping
    words: dict[str, int]
    tied_words: int
    best_words: int
    any_words: int

    @property
    def predicted(self) -> int:
        return self.words[self.model.name]

    @property
    def real(self) -> int:
        return self.words[REAL]

    @property
    def error(self) -> float:
        """Signed, relative to what moves."""
        return self.predicted / self.real - 1

    @property
    def price(self) -> float:
        """What moves, over what would if the model were right."""
        return self.real / self.best_words


RULES = ("blocking2016", "zhang2015", "peemen2015", REAL)
"""Each differs from the next by one rule: first reads of outputs, the halo, boxes for words."""
STEPS = ("outputs read before the first update", "halo fetched again", "padding and holes")


def words_by_rules(space: Space) -> dict[str, Integers]:
    """DRAM words by convention; arrays have shape (orders, tilings)."""
    return {
        name: np.stack([predict(space, order, CONVENTIONS[name]) for order in ANY_ORDER])
        for name in RULES
    }


def outcomes_of(network: str, layer: Layer) -> Iterator[Outcome]:
    """What every model chooses for a layer, for every buffer."""
    space = space_of(layer.workload)
    words = words_by_rules(space)
    room = {footprint: space.tile_words(footprint) for footprint in Footprint}
    for kib in BUFFERS_KIB:
        held = kib * 8192 // WORD_BITS
        may_run = room[Footprint.WORDS] <= held
        any_words = int(words[REAL][:, may_run].min())
        for model in (*OLDER, OURS):
            rows = [ANY_ORDER.index(order) for order in model.orders]
            fits = room[model.rules.footprint] <= held
            row, column, tied = choose(words[model.name][rows], words[REAL][rows], fits)
            at = rows[row], column
            yield Outcome(
                network,
                layer,
                kib,
                model,
                space.mapping(ANY_ORDER[at[0]], column),
                {name: int(table[at]) for name, table in words.items()},
                tied,
                int(words[REAL][rows][:, may_run].min()),
                any_words,
            )


def choose(predicted: Integers, real: Integers, fits: Flags) -> tuple[int, int, int]:
    """The schedule of least predicted words that fits: its order and tiling.

    Of several the one is taken that moves least: a model gets the benefit of the doubt. Third,
    what the worst of them moves.
    """
    candidates = np.where(fits, predicted, TOO_MANY)
    tied = candidates == candidates.min()
    row, column = np.unravel_index(np.argmin(np.where(tied, real, TOO_MANY)), real.shape)
    return int(row), int(column), int(real[tied].max())


def chip(kib: int) -> Hardware:
    levels = Level("DRAM", word_bits=WORD_BITS), Level("BUF", kib * 8192, word_bits=WORD_BITS)
    return Hardware(f"buffer of {kib} KiB", levels)


def price(outcome: Outcome, convention: str) -> Cost:
    """Count the chosen schedule by the library; it must fit, and the figures must agree.

    Raises `AssertionError` if they do not.
    """
    layer = outcome.layer.workload
    cost = evaluate(layer, chip(outcome.kib), outcome.mapping, convention=convention)
    expected = outcome.words[convention]
    if cost.dram_words != expected:
        text = f"{layer.name}, {convention}: {expected} here, {cost.dram_words} in the library"
        raise AssertionError(f"{text}\n{outcome.mapping}")
    return cost


# Running a sample


SMALL_MACS = 8_000_000
"""Layers up to this size are run by the walk in about a second."""
WALKED_OF_EACH_KIND = 5
LARGE_WALKED = (("alexnet", "conv5", 64, "blocking2016"), ("vgg16", "conv1_1", 64, "peemen2015"))
"""Network, layer, buffer and model of schedules that are run although it takes long."""


@dataclass(frozen=True, slots=True)
class Walked:
    """The schedules that were run: by model, and on how many figures the library differed."""

    schedules: dict[str, int]
    largest_macs: int
    runs: int
    mismatches: int


def sample(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Of every model some schedules of small convolutions, with and without a halo."""
    pick = random.Random(SEED)
    chosen: list[Outcome] = []
    for model in (*OLDER, OURS):
        small = [o for o in outcomes if o.model == model and _is_small_convolution(o)]
        for halo in (True, False):
            kind = [o for o in small if (o.layer.workload.sizes["R"] > 1) == halo]
            chosen += pick.sample(kind, min(WALKED_OF_EACH_KIND, len(kind)))
    return chosen


def _is_small_convolution(outcome: Outcome) -> bool:
    work = outcome.layer.workload
    return "R" in work.sizes and work.macs <= SMALL_MACS


def large(outcomes: Sequence[Outcome]) -> list[Outcome]:
    keys = {(o.network, o.layer.workload.name, o.kib, o.model.name): o for o in outcomes}
    return [keys[key] for key in LARGE_WALKED]


def walk_sample(outcomes: Sequence[Outcome]) -> Walked:
    """Run the sample as it moves, and the small ones by the rules of their model, too."""
    runs = [(o, name) for o in sample(outcomes) for name in sorted({REAL, o.model.name})]
    runs += [(o, REAL) for o in large(outcomes)]
    mismatches = 0
    for count, (outcome, name) in enumerate(runs, start=1):
        progress(f"walk {count} of {len(runs)}: {outcome.layer.workload.name}, {name}")
        mismatches += len(compare_with_walk(price(outcome, name)))
    schedules = [o for o, name in runs if name == REAL]
    by_model = [o.model.name for o in schedules]
    return Walked(
        {model.name: by_model.count(model.name) for model in (*OLDER, OURS)},
        max(o.layer.workload.macs for o in schedules),
        len(runs),
        mismatches,
    )


# The page


def weighted(outcomes: Iterable[Outcome], part: Callable[[Outcome], float]) -> float:
    """A sum over all layers of a network, equal ones counted as often as they come."""
    return sum(part(o) * o.layer.repeat for o in outcomes)


def signed_error(outcomes: Sequence[Outcome]) -> float:
    """Of the words of all layers together, relative to what moves."""
    return weighted(outcomes, lambda o: o.predicted) / weighted(outcomes, lambda o: o.real) - 1


def price_of_choosing(outcomes: Sequence[Outcome]) -> float:
    """What moves over all layers, over what the best schedules of the same orders would move."""
    return weighted(outcomes, lambda o: o.real) / weighted(outcomes, lambda o: o.best_words)


def price_of_template(outcomes: Sequence[Outcome]) -> float:
    """The same over the best schedules of any order."""
    return weighted(outcomes, lambda o: o.real) / weighted(outcomes, lambda o: o.any_words)


def cell(outcomes: Sequence[Outcome], network: str, kib: int, model: Model) -> list[Outcome]:
    key = (network, kib, model)
    return [o for o in outcomes if (o.network, o.kib, o.model) == key]


def network_table(outcomes: Sequence[Outcome], network: str) -> list[str]:
    lines = [
        "| buffer | model | median error | worst error | all traffic | price | worst price "
        "| price, any order |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kib in BUFFERS_KIB:
        for model in (*OLDER, OURS):
            chosen = cell(outcomes, network, kib, model)
            errors = [abs(o.error) for o in chosen]
            lines.append(
                f"| {kib} KiB | {model.name} | {statistics.median(errors):.1%} | "
                f"{max(errors):.1%} | {percent(signed_error(chosen))} | "
                f"{price_of_choosing(chosen):.3f} | {max(o.price for o in chosen):.3f} | "
                f"{price_of_template(chosen):.3f} |"
            )
    return lines


def percent(share: float) -> str:
    """With a sign, but for nothing at all."""
    return f"{share:+.1%}" if share else "0.0%"


def summary_table(outcomes: Sequence[Outcome]) -> list[str]:
    lines = [
        "| model | median error | filters above 1×1 | worst error | all traffic | price "
        "| worst price |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in (*OLDER, OURS):
        own = [o for o in outcomes if o.model == model]
        cells = [cell(own, network, kib, model) for network in NETWORKS for kib in BUFFERS_KIB]
        signed = [signed_error(chosen) for chosen in cells]
        prices = [price_of_choosing(chosen) for chosen in cells]
        errors = [abs(o.error) for o in own]
        filtered = [abs(o.error) for o in own if has_filter(o.layer.workload)]
        worst, dearest = max(own, key=lambda o: abs(o.error)), max(own, key=lambda o: o.price)
        lines.append(
            f"| {model.name} | {statistics.median(errors):.1%} | "
            f"{statistics.median(filtered):.1%} | "
            f"{max(errors):.1%}{found_at(worst, worst.error)} | "
            f"{percent(min(signed))} to {percent(max(signed))} | "
            f"{min(prices):.3f} to {max(prices):.3f} | "
            f"{dearest.price:.3f}{found_at(dearest, dearest.price - 1)} |"
        )
    return lines


def found_at(outcome: Outcome, deviation: float) -> str:
    """Where a deviation was found, if it is one."""
    if not deviation:
        return ""
    return f" ({outcome.network}:{outcome.layer.workload.name}, {outcome.kib} KiB)"


def cause_table(outcomes: Sequence[Outcome]) -> list[str]:
    """The signed error of all traffic, by the rule that it comes from; means over buffers."""
    lines = [f"| network | model | {' | '.join(STEPS)} | together |", "|---|---|---|---|---|---|"]
    for network in NETWORKS:
        for model in OLDER:
            cells = [cell(outcomes, network, kib, model) for kib in BUFFERS_KIB]
            parts = [
                statistics.fmean(share_of_step(chosen, step) for chosen in cells)
                if step >= RULES.index(model.name)
                else None
                for step in range(len(STEPS))
            ]
            texts = ["–" if part is None else percent(part) for part in parts]
            total = percent(sum(part for part in parts if part is not None))
            lines.append(f"| {network} | {model.name} | {' | '.join(texts)} | {total} |")
    return lines


def share_of_step(outcomes: Sequence[Outcome], step: int) -> float:
    """By how much one rule changes the words of the same schedules, relative to what moves."""
    before, after = RULES[step], RULES[step + 1]
    changed = weighted(outcomes, lambda o: o.words[before] - o.words[after])
    return changed / weighted(outcomes, lambda o: o.real)


def page(outcomes: Sequence[Outcome], walked: Walked) -> str:
    parts = [introduction(outcomes), TEMPLATES, witnesses(outcomes, walked), results(outcomes)]
    parts += [[f"## {network}", "", *network_table(outcomes, network)] for network in NETWORKS]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def paragraph(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), 100, subsequent_indent=indent, break_on_hyphens=False
    )


def introduction(outcomes: Sequence[Outcome]) -> list[str]:
    layers = {(o.network, o.layer.workload.name): o.layer.workload for o in outcomes}
    plain = sum(not has_filter(work) for work in layers.values())
    versions = (
        f"tilewright {tilewright.__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, seed {SEED} of the walked schedules"
    )
    return [
        "# Accuracy of older bandwidth models",
        "",
        f"Written by `make accuracy`: {versions}.",
        "",
        *paragraph(
            """Older bandwidth models count by simpler rules; here they are
            [conventions](spec/model.md). Each chooses, for every layer and buffer, the schedule
            that moves the fewest words to and from DRAM *as the model counts*. That schedule
            is then counted as it runs, in the convention `default`: what enters the buffer is what
            a tile touches and the tile before did not leave there, padding is no data, and the
            first update of an output reads nothing. Two questions: how far is a model from what
            moves when its own schedule runs, and what does it cost to choose by it."""
        ),
        "",
        *paragraph(
            f"""The layers are the {len(layers)} distinct ones of AlexNet, VGG-16, GoogLeNet,
            ResNet-18 and MobileNetV2, for one image, in {WORD_BITS}-bit words; {plain} of them are
            matrix products or have 1×1 filters. Between DRAM and the MACs stands one buffer of
            {BUFFERS_KIB[0]} to {BUFFERS_KIB[-1]} KiB."""
        ),
    ]


TEMPLATES = [
    "## What is compared",
    "",
    "| model | tile loops, outermost first | from tile to tile | a tile is | first reads |",
    "|---|---|---|---|---|",
    "| blocking2016 | any | nothing stays, unless all stays | a box | counted |",
    "| zhang2015 | rows, columns, output channels, input channels | the same | a box | none |",
    "| peemen2015 | output channels, rows, columns, input channels "
    "| the overlap stays along the innermost loop that moves the tile | a box | none |",
    "| default | any | as in peemen2015 | the words touched | none |",
    "",
    *paragraph(
        """*First reads* are those of outputs before their first update. A box holds padding and
        the holes of a stride, and they take room. All models choose tile sizes from the divisors of
        the dims; all operands are buffered at the same loop; filters are whole in every tile; the
        buffer is shared and not double buffered; groups run one after the other."""
    ),
    "",
    *paragraph(
        """**Recalled, not copied.** The models are those of Yang et al. 2016 (arXiv 1606.04209),
        Zhang et al. 2015 (FPGA) and Peemen et al. 2015 (DATE; also 2013), as recalled and as
        [the notes](spec/papers.md) read them; their texts were not at hand, and no figure below is
        theirs. The orders are templates made after what is recalled. Zhang et al.: input channels
        innermost, so that outputs stay until they are finished. Peemen et al.: outputs stay, too;
        the innermost tile loop slides along the image as soon as all input channels are in the
        tile. The recalled formulas are for stride 1; boxes of strided tiles are our reading of
        them. Rows and columns may change places without effect, for all images here are square. Not
        compared is what else these papers have: buffers of their own for each operand, double
        buffers, more levels, computation."""
    ),
]


def has_filter(work: Workload) -> bool:
    return work.sizes.get("R", 1) > 1


def witnesses(outcomes: Sequence[Outcome], walked: Walked) -> list[str]:
    by_model = ", ".join(f"{count} of {name}" for name, count in walked.schedules.items())
    ties = max(o.tied_words / o.real for o in outcomes if o.model != OURS)
    return [
        "## Witnesses",
        "",
        *paragraph(
            f"""- All schedules of a layer are counted at once, by formulas that share no code with
            the library. The {len(outcomes):,} chosen ones were counted again by `evaluate`, in the
            model's convention and in `default`: all the same, to the word, or this page would not
            have been written.""",
            "  ",
        ),
        *paragraph(
            f"""- The walk ran {sum(walked.schedules.values())} of them ({by_model}), of layers with
            up to {walked.largest_macs:,} MACs, as they move, and all but the two largest by the
            rules of the model that chose them, too: **{walked.mismatches} mismatches** in
            {walked.runs} runs. For `default`, that is the error of its predictions.""",
            "  ",
        ),
        *paragraph(
            f"""- Of schedules that a model finds equally good the one that moves least is taken, to
            the model's benefit. The worst of them moves up to {ties - 1:.1%} more for a layer.""",
            "  ",
        ),
    ]


def results(outcomes: Sequence[Outcome]) -> list[str]:
    older = [o for o in outcomes if o.model != OURS]
    short = sum(o.predicted < o.real for o in older)
    exactly = sum(o.predicted == o.real for o in older)
    return [
        "## Results",
        "",
        *paragraph(
            """*Error* is |predicted − moved| / moved, over layers. *All traffic* is its mean with
            the sign, weighted by what moves, equal layers counted as often as they come. *Price* is
            what all layers move, over what they would if each had the best schedule of the same
            orders; *worst price* is that of one layer. Ranges are over networks and buffers."""
        ),
        "",
        *summary_table(outcomes),
        "",
        *paragraph(
            f"""Of the {len(older):,} predictions of the older models {short} are too low and
            {exactly:,} exact; the others are too high. The box of a tile with a 1×1 filter and
            stride 2 has up to four times the words that are touched."""
        ),
        "",
        "![Error and price, by network, model and buffer](figures/model-accuracy.svg)",
        "",
        *paragraph(
            """Where the errors come from: the rules of a model are replaced by those of `default`,
            one after the other, on the same schedules. Shares of all traffic, means over
            buffers:"""
        ),
        "",
        *cause_table(outcomes),
        "",
        *paragraph(
            """A model may be far off and still choose well: what adds about the same to all good
            schedules does not change which is best. And the price is that of a choice within the
            orders that the model has; *price, any order* below is against the best of all orders.
            Schedules that buffer each operand at a loop of its own (uneven mappings) are in none of
            these spaces; what they would save is not measured here."""
        ),
    ]


# The picture


WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 920, 320, 110
LEFT_OF_PANELS, TOP, GAP = (160, 560), 112, 34
COLOURS = {"blocking2016": "#d55e00", "zhang2015": "#0072b2", "peemen2015": "#009e73"}
DASHES = {"blocking2016": "", "zhang2015": "", "peemen2015": "5 4"}
STYLE = """
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1b1f24 }
.title { font-size: 14px; font-weight: 700 } .small { font-size: 11px; fill: #57606a }
.ground { fill: #fff } .grid { stroke: #d8dee4 } .axis { stroke: #57606a }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .ground { fill: #0d1117 }
  .grid { stroke: #2f353d } .axis { stroke: #9198a1 }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes: the buffer on a logarithmic scale, a share from 0 upwards."""

    left: float
    top: float
    most: float

    def x(self, kib: int) -> float:
        last = len(BUFFERS_KIB) - 1
        return self.left + PANEL_WIDTH * BUFFERS_KIB.index(kib) / last

    def y(self, share: float) -> float:
        return self.top + PANEL_HEIGHT * (1 - share / self.most)

    def axes(self, step: float) -> Iterator[str]:
        """Grid and labels, one line every `step`."""
        right, bottom = self.left + PANEL_WIDTH, self.top + PANEL_HEIGHT
        for count in range(round(self.most / step) + 1):
            y, kind = self.y(count * step), "grid" if count else "axis"
            yield f'<line class="{kind}" x1="{self.left}" y1="{y:g}" x2="{right}" y2="{y:g}"/>'
            yield text(self.left - 8, y + 4, f"{count * step:.0%}", "small", "end")
        for kib in BUFFERS_KIB:
            yield text(self.x(kib), bottom + 16, str(kib), "small", "middle")

    def line(self, model: Model, shares: Sequence[float]) -> Iterator[str]:
        places = [(self.x(k), self.y(s)) for k, s in zip(BUFFERS_KIB, shares, strict=True)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="line" {ink(model.name)} points="{points}"/>'
        for x, y in places:
            yield marker(model.name, x, y)


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}" text-anchor="{anchor}">{words}</text>'


def ink(name: str) -> str:
    dashes = f' stroke-dasharray="{DASHES[name]}"' if DASHES[name] else ""
    return f'stroke="{COLOURS[name]}"{dashes}'


def marker(name: str, x: float, y: float) -> str:
    """A disc, a frame or a diamond: told apart without colours, and where one covers another."""
    colour = COLOURS[name]
    if name == "blocking2016":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    if name == "zhang2015":
        frame = f'class="line" stroke="{colour}"'
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" {frame}/>'
    return f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z" fill="{colour}"/>'


def words_too_many(outcomes: Sequence[Outcome]) -> float:
    return price_of_choosing(outcomes) - 1


def picture(outcomes: Sequence[Outcome]) -> str:
    """Signed error (left) and price (right) of every model, one row for each network."""
    measures = (
        ("predicted above what moves", signed_error),
        ("moved above the best choice", words_too_many),
    )
    height = TOP + len(NETWORKS) * (PANEL_HEIGHT + GAP) + 24
    body = [*legend()]
    for left, (title, measure) in zip(LEFT_OF_PANELS, measures, strict=True):
        shares = {
            (network, model): [measure(cell(outcomes, network, k, model)) for k in BUFFERS_KIB]
            for network in NETWORKS
            for model in OLDER
        }
        most = max(max(row) for row in shares.values())
        step = 0.2 if most > 0.2 else 0.05
        body.append(text(left, TOP - 18, title))
        for row, network in enumerate(NETWORKS):
            top = TOP + row * (PANEL_HEIGHT + GAP)
            panel = Panel(left, top, step * math.ceil(most / step))
            body += panel.axes(step)
            for model in OLDER:
                body += panel.line(model, shares[network, model])
            if left == LEFT_OF_PANELS[0]:
                body.append(text(16, top + PANEL_HEIGHT / 2 + 4, network))
        body.append(text(left + PANEL_WIDTH / 2, height - 8, "buffer, KiB", "small", "middle"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'aria-label="Accuracy of older bandwidth models">',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            *body,
            "</svg>",
            "",
        ]
    )


def legend() -> Iterator[str]:
    yield text(16, 28, "Older bandwidth models on the schedules that they choose", "title")
    for column, model in enumerate(OLDER):
        x = LEFT_OF_PANELS[0] + 180 * column
        yield f'<line class="line" {ink(model.name)} x1="{x}" y1="50" x2="{x + 32}" y2="50"/>'
        yield marker(model.name, x + 16, 50)
        yield text(x + 40, 54, model.name)
    yield text(LEFT_OF_PANELS[0] + 180 * len(OLDER), 54, "default: 0 throughout")


def progress(message: str) -> None:
    print(f"[{time.process_time():5.1f} s] {message}", file=sys.stderr, flush=True)


def all_outcomes(network: str) -> list[Outcome]:
    """Every choice of every model, each counted again by the library."""
    outcomes = [o for layer in load_network(network).layers for o in outcomes_of(network, layer)]
    for outcome in outcomes:
        for convention in {outcome.model.name, REAL}:
            price(outcome, convention)
    progress(f"{network}: {len(outcomes)} schedules chosen and counted again")
    return outcomes


def main() -> None:
    outcomes = [outcome for network in NETWORKS for outcome in all_outcomes(network)]
    walked = walk_sample(outcomes)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(outcomes), encoding="utf-8")
    PAGE.write_text(page(outcomes, walked), encoding="utf-8")
    progress(f"wrote {PAGE.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
