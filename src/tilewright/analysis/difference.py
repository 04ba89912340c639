"""What differs between two runs, and why: every level and operand, every layer, every figure.

Owns: the nouns `Comparison`, `PartChange`, `LayerChange`, `Change`, and the split of a change of
energy into words moved and the price of a word.

Non-goals: making the runs (`mapper/`, `model/`), tables of differences (`report/compare.py`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import cast

from tilewright.analysis.run import (
    Json,
    PricedLayer,
    Run,
    leaves,
    number,
    numeric_leaves,
    operand_parts,
)
from tilewright.errors import InputError, Problem
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.quantity import format_bytes, format_energy

PRICED = ("energy_pj", "cycles", "edp", "dram_words")
_MOVES = ("reads", "fills", "updates", "drains")
_EPSILON = 1e-12
"""Figures that differ by less, as a share, are equal: sums of floats in another order."""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure in both runs; `None` where one does not have it."""

    a: float | None
    b: float | None

    @property
    def difference(self) -> float:
        """B less A, what is absent taken as 0."""
        return (self.b or 0) - (self.a or 0)

    @property
    def share(self) -> float | None:
        """The difference as a share of A; `None` if A is 0 or either is absent."""
        if self.a is None or self.b is None or not self.a:
            return None
        return self.difference / self.a

    @property
    def is_equal(self) -> bool:
        """Whether both are the same, up to the last digits of sums of floats."""
        if self.a is None or self.b is None:
            return self.a is self.b
        return math.isclose(self.a, self.b, rel_tol=_EPSILON)

    def to_json(self) -> dict[str, float | None]:
        """Both figures and the change as a share of A."""
        return {"a": self.a, "b": self.b, "change": self.share}


@dataclass(frozen=True, slots=True)
class PartChange:
    """One level and operand over all layers that both runs have.

    Attributes:
        memory: the level; the compute unit's entry is called `compute`.
        operand: kept there; `""` for hops, leakage and compute.
        words: moved there: reads, fills, updates and drains.
        tile_words: of one instance; only where one layer is compared.
        energy_pj: of those words.
        by_words_pj: the part of the change of energy that comes from words moved.
        by_price_pj: the part that comes from the price of a word: another memory, or another share
            of reads and writes. Both sum to the whole.
    """

    memory: str
    operand: str
    words: Change
    tile_words: Change
    energy_pj: Change
    by_words_pj: float
    by_price_pj: float

    @property
    def name(self) -> str:
        """The level and the operand, as tables have them."""
        return f"{self.memory} {self.operand}".strip()

    def to_json(self) -> dict[str, object]:
        """The part as a JSON object."""
        return {
            "memory": self.memory,
            "operand": self.operand,
            "words": self.words.to_json(),
            "tile_words": self.tile_words.to_json(),
            "energy_pj": self.energy_pj.to_json(),
            "by_words_pj": self.by_words_pj,
            "by_price_pj": self.by_price_pj,
        }


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A layer that both runs have.

    Attributes:
        name: of the layer.
        repeat: how many equal ones there are.
        status: in A and in B.
        figures: energy, cycles, edp and DRAM words of one of them.
        bound: what sets the cycles in A and in B, such as `compute` or `DRAM ports`.
        waterfall: the cycles of compute and of every memory's ports.
        mapping: in A and in B.
    """

    name: str
    repeat: int
    status: tuple[str, str]
    figures: dict[str, Change]
    bound: tuple[str, str]
    waterfall: dict[str, Change]
    mapping: tuple[str, str]

    def to_json(self) -> dict[str, object]:
        """The layer as a JSON object."""
        return {
            "name": self.name,
            "repeat": self.repeat,
            "status": _pair(self.status),
            "bound_by": _pair(self.bound),
            "mapping": _pair(self.mapping),
            **{key: change.to_json() for key, change in self.figures.items()},
            "cycles_of": {key: change.to_json() for key, change in self.waterfall.items()},
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """What is said otherwise in A and in B: a field of the chip, or how a run was made."""

    name: str
    a: str
    b: str

    def to_json(self) -> dict[str, str]:
        """The setting as a JSON object."""
        return {"name": self.name, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        kind: what was compared: `mappings`, `chips` or `runs`.
        names: what A and B are called.
        totals: of the layers that both have.
        parts: levels and operands, the largest change of energy first.
        layers: that both have, the largest change of energy first.
        missing: layers that are not compared, with the reason.
        settings: what is said otherwise.
        figures: of runs that price no layers, every figure that differs, the largest change first.
        points: of curves and studies of cores, one point each, by what it is the point of.
    """

    kind: str
    names: tuple[str, str]
    totals: dict[str, Change]
    parts: tuple[PartChange, ...] = ()
    layers: tuple[LayerChange, ...] = ()
    missing: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    figures: tuple[tuple[str, Change], ...] = ()
    points: tuple[tuple[str, dict[str, Change]], ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether nothing differs that is compared."""
        mapped = all(layer.mapping[0] == layer.mapping[1] for layer in self.layers)
        points = [change for _, figures in self.points for change in figures.values()]
        changes = [*self.totals.values(), *(change for _, change in self.figures), *points]
        settled = not self.settings and not self.missing
        return settled and mapped and all(change.is_equal for change in changes)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the totals differ, in sentences, the largest cause first."""
        return tuple(_reasons(self))

    def to_json(self) -> dict[str, object]:
        """The document of `compare --json` (`docs/compare.md`)."""
        return {
            "kind": self.kind,
            "a": self.names[0],
            "b": self.names[1],
            "same": self.is_same,
            "total": {key: change.to_json() for key, change in self.totals.items()},
            "reasons": list(self.reasons),
            "parts": [part.to_json() for part in self.parts],
            "layers": [layer.to_json() for layer in self.layers],
            "points": [
                {"at": at, **{key: change.to_json() for key, change in figures.items()}}
                for at, figures in self.points
            ],
            "figures": [{"name": name, **change.to_json()} for name, change in self.figures],
            "settings": [setting.to_json() for setting in self.settings],
            "not_compared": list(self.missing),
        }


def compare_runs(
    a: Run, b: Run, *, kind: str = "runs", chips: Iterable[Setting] = ()
) -> Comparison:
    """Put two runs side by side.

    Args:
        a: one.
        b: the other.
        kind: what the comparison is called.
        chips: what is said otherwise of their chips, if that is known.

    Returns: layers, levels and operands where both price layers; points where both are curves;
        else every figure that differs.

    Raises: `InputError` if their documents have nothing in common to compare, or are wrong.

    Source: `docs/compare.md`.
    """
    settings = (*_run_settings(a, b), *chips)
    if a.layers and b.layers:
        return _compare_layers(a, b, kind, settings)
    if a.command != b.command:
        what = f"A was made by `{a.command}`, B by `{b.command}`: they say different things"
        raise InputError(Problem(what, "compare runs of one command, or of map and evaluate"))
    if a.command in _POINTS:
        return _compare_points(a, b, settings)
    figures = _figures(a, b)
    return Comparison(kind, (a.name, b.name), {}, settings=settings, figures=figures)


def _compare_layers(a: Run, b: Run, kind: str, settings: tuple[Setting, ...]) -> Comparison:
    pairs, missing = _shared_layers(a, b)
    if not pairs:
        what = "A and B have no layer in common that has a cost in both"
        raise InputError(Problem(what, "; ".join(missing) or "compare runs of one network"))
    layers = [_layer_change(first, second) for first, second in pairs]
    totals = _totals(layers)
    parts = sorted(_parts(pairs), key=lambda part: -abs(part.energy_pj.difference))
    layers.sort(key=lambda each: -abs(each.figures["energy_pj"].difference * each.repeat))
    return Comparison(
        kind, (a.name, b.name), totals, tuple(parts), tuple(layers), tuple(missing), settings
    )


def _shared_layers(a: Run, b: Run) -> tuple[list[tuple[PricedLayer, PricedLayer]], list[str]]:
    first = {layer.name: layer for layer in a.layers}
    second = {layer.name: layer for layer in b.layers}
    if len(first) == len(second) == 1:  # one layer each: their names may differ
        second = {name: second.popitem()[1] for name in first}
    pairs: list[tuple[PricedLayer, PricedLayer]] = []
    missing = [f"{name} is in A only" for name in first if name not in second]
    missing += [f"{name} is in B only" for name in second if name not in first]
    for name in [name for name in first if name in second]:
        without = [label for label, of in (("A", first), ("B", second)) if of[name].cost is None]
        if without:
            missing.append(f"{name} has no mapping in {' and '.join(without)}")
        elif first[name].repeat != second[name].repeat:
            times = f"{first[name].repeat} times in A, {second[name].repeat} times in B"
            missing.append(f"{name} stands {times}")
        else:
            pairs.append((first[name], second[name]))
    return pairs, missing


def _layer_change(a: PricedLayer, b: PricedLayer) -> LayerChange:
    first, second = _cost(a), _cost(b)
    figures = {key: Change(number(first, key), number(second, key)) for key in PRICED}
    falls = _waterfall(first), _waterfall(second)
    names = dict.fromkeys([*falls[0], *falls[1]])
    return LayerChange(
        a.name,
        a.repeat,
        (a.status, b.status),
        figures,
        (_bound(falls[0]), _bound(falls[1])),
        {name: Change(falls[0].get(name), falls[1].get(name)) for name in names},
        (a.mapping or "", b.mapping or ""),
    )


def _cost(layer: PricedLayer) -> Json:
    assert layer.cost is not None
    return layer.cost


def _waterfall(cost: Json) -> dict[str, float]:
    found: dict[str, float] = {"compute": number(cost, "compute_cycles")}
    for level in _levels(cost):
        found[f"{level.get('memory')} ports"] = number(level, "cycles", "levels")
    if cost.get("overlap") == "serial":
        found["ramp"] = number(cost, "ramp_cycles")
    return found


def _bound(fall: Mapping[str, float]) -> str:
    """What sets the cycles; compute where ports only keep up with it."""
    return max((name for name in fall if name != "ramp"), key=lambda name: fall[name])


def _levels(cost: Json) -> list[Json]:
    return cast("list[Json]", cost.get("levels", []))


def _totals(layers: Sequence[LayerChange]) -> dict[str, Change]:
    """Sums over layers; the product of energy and delay is that of the sums."""

    def total(key: str, side: str) -> float:
        parts = (getattr(layer.figures[key], side) * layer.repeat for layer in layers)
        return math.fsum(parts)

    found = {key: Change(total(key, "a"), total(key, "b")) for key in PRICED if key != "edp"}
    energy, cycles = found["energy_pj"], found["cycles"]
    edp = Change((energy.a or 0) * (cycles.a or 0), (energy.b or 0) * (cycles.b or 0))
    return {"energy_pj": energy, "cycles": cycles, "edp": edp, "dram_words": found["dram_words"]}


Key = tuple[str, str]


def _parts(pairs: Sequence[tuple[PricedLayer, PricedLayer]]) -> Iterator[PartChange]:
    alone = len(pairs) == 1
    sides = [_sums(layer for layer, _ in pairs), _sums(layer for _, layer in pairs)]
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = sides[0].get(key), sides[1].get(key)
        energy = Change(a and a.energy_pj, b and b.energy_pj)
        by_words, by_price = _split(a, b)
        tiles = Change(a and a.tile_words, b and b.tile_words) if alone else Change(None, None)
        words = Change(a and a.words, b and b.words)
        if energy.difference or words.difference or words.a is None or words.b is None:
            yield PartChange(*key, words, tiles, energy, by_words, by_price)


@dataclass(slots=True)
class _Sum:
    words: float = 0
    energy_pj: float = 0.0
    tile_words: float | None = None


def _sums(layers: Iterable[PricedLayer]) -> dict[Key, _Sum]:
    found: dict[Key, _Sum] = {}
    for layer in layers:
        for row in operand_parts(layer):
            part = found.setdefault((str(row["memory"]), str(row["operand"])), _Sum())
            figures = cast("Mapping[str, float]", row)
            part.words += layer.repeat * sum(figures[move] for move in _MOVES)
            part.energy_pj += layer.repeat * figures["energy_pj"]
            part.tile_words = figures["tile_words"]
        for key, energy in _other_energy(_cost(layer)):
            if energy or key in found:
                found.setdefault(key, _Sum()).energy_pj += layer.repeat * energy
    return found


def _other_energy(cost: Json) -> Iterator[tuple[Key, float]]:
    for level in _levels(cost):
        for label, key in (("hops", "network_pj"), ("leakage", "leak_pj")):
            if key in level:
                yield (str(level.get("memory")), label), number(level, key, "levels")
    yield ("compute", ""), number(cast("Json", cost.get("compute", {})), "energy_pj", "compute")


def _split(a: _Sum | None, b: _Sum | None) -> tuple[float, float]:
    """The change of energy by words moved and by the price of a word; their sum is the change.

    With `E = words · price`, the difference of two products is the difference of each factor times
    the mean of the other. Without words on one side the price is that of the other.
    """
    first, second = a or _Sum(), b or _Sum()
    if not first.words and not second.words:
        return 0.0, second.energy_pj - first.energy_pj
    if not first.words or not second.words:
        return second.energy_pj - first.energy_pj, 0.0
    prices = first.energy_pj / first.words, second.energy_pj / second.words
    by_words = (second.words - first.words) * sum(prices) / 2
    by_price = (prices[1] - prices[0]) * (first.words + second.words) / 2
    return by_words, by_price


_POINTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "curve": ("capacity_bytes", ("dram_words", "dram_limit_words")),
    "cores": ("cores", ("energy_pj", "cycles", "edp", "dram_words")),
    "codesign": ("", ("latency_s", "energy_pj", "power_w", "area_mm2", "edp")),
}
"""By command: what its points are told apart by (nothing: by their place), and their figures."""


def _compare_points(a: Run, b: Run, settings: tuple[Setting, ...]) -> Comparison:
    key, figures = _POINTS[a.command]
    sides = _points(a, key), _points(b, key)
    shared = [at for at in sides[0] if at in sides[1]]
    if not shared:
        what = f"A and B have no {'point' if key else 'chip'} to compare"
        fix = f"run both with a {key} in common" if key else "run both to their end"
        raise InputError(Problem(what, fix))
    points = tuple(
        (
            _label(key, at),
            {
                name: Change(_figure(sides[0][at], name), _figure(sides[1][at], name))
                for name in figures
            },
        )
        for at in sorted(shared)
    )
    missing = [
        f"{_label(key, at)} is in {label} only"
        for label, own, other in (("A", sides[0], sides[1]), ("B", sides[1], sides[0]))
        for at in own
        if at not in other
    ]
    return Comparison(
        "runs", (a.name, b.name), {}, missing=tuple(missing), settings=settings, points=points
    )


def _label(key: str, at: float) -> str:
    if key == "capacity_bytes":
        return format_bytes(int(at) * 8)
    return f"{at:g} {key}" if key else f"chip {at:g} of the front"


def _points(run: Run, key: str) -> dict[float, Json]:
    listed = cast("list[Json]", run.document.get("points" if key else "front", []))
    if not key:
        return dict(enumerate(listed, start=1))
    return {number(point, key, "points"): point for point in listed}


def _figure(point: Json, name: str) -> float | None:
    source = cast("Json", point.get("total") or point)
    return number(source, name, "points") if source.get(name) is not None else None


_HOW = ("workload", "hardware", "convention", "objective", "mapspace", "overlap", "version", "seed")
_NOT_RESULTS = ("seconds", "evaluated", "inputs.", "version", "schema", "seed")


def _run_settings(a: Run, b: Run) -> Iterator[Setting]:
    """How the runs were made, where that differs."""
    for key in _HOW:
        first, second = a.document.get(key), b.document.get(key)
        if first != second and not isinstance(first, dict) and not isinstance(second, dict):
            yield Setting(key, _said(first), _said(second))
    chips = _chip_leaves(a), _chip_leaves(b)
    for key in dict.fromkeys([*chips[0], *chips[1]]):
        first, second = chips[0].get(key), chips[1].get(key)
        if first != second:
            yield Setting(key, _said(first), _said(second))


def _chip_leaves(run: Run) -> dict[str, object]:
    """The fields of the chip that a run has chosen, by path; of other runs none."""
    if run.command == "design":
        return leaves({"levels": run.document.get("levels")})
    front = cast("list[Json]", run.document.get("front", []))
    if run.command == "codesign" and front:
        return leaves({"chip": front[0].get("hardware")})
    return {}


def _said(value: object) -> str:
    return "–" if value is None else str(value)


def _figures(a: Run, b: Run) -> tuple[tuple[str, Change], ...]:
    sides = numeric_leaves(a.document), numeric_leaves(b.document)
    found = [
        (name, Change(sides[0].get(name), sides[1].get(name)))
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if not name.endswith(_NOT_RESULTS[:2]) and not name.startswith(_NOT_RESULTS[2:])
    ]
    changed = [(name, change) for name, change in found if not change.is_equal]
    return tuple(sorted(changed, key=lambda entry: -_size(entry[1])))


def _size(change: Change) -> float:
    return math.inf if change.share is None else abs(change.share)


def chip_settings(a: Hardware, b: Hardware) -> Iterator[Setting]:
    """What is said otherwise of two chips, level by level.

    >>> from tilewright.ir.hardware import Hardware, Level
    >>> one, two = (Hardware("c", (Level("DRAM"), Level("GLB", kib * 8192))) for kib in (1, 2))
    >>> [str(setting) for setting in chip_settings(one, two)]
    ["Setting(name='GLB.capacity', a='1 KiB', b='2 KiB')"]
    """
    if a.clock_ghz != b.clock_ghz:
        yield Setting("clock_ghz", f"{a.clock_ghz:g}", f"{b.clock_ghz:g}")
    first = {level.memory: level for level in a.levels}
    second = {level.memory: level for level in b.levels}
    for memory in dict.fromkeys([*first, *second]):
        if memory not in first or memory not in second:
            there = ("–", "there") if memory in second else ("there", "–")
            yield Setting(memory, *there)
            continue
        yield from _level_settings(first[memory], second[memory])
    yield from _field_settings(a.compute, b.compute, "compute", ())


def _level_settings(a: Level, b: Level) -> Iterator[Setting]:
    if a.capacity != b.capacity:
        yield Setting(f"{a.memory}.capacity", _capacity(a), _capacity(b))
    yield from _field_settings(a, b, a.memory, ("capacity", "fanout", "where"))
    yield from _field_settings(a.fanout, b.fanout, f"{a.memory}.fanout", ())


def _field_settings(a: object, b: object, name: str, but: Sequence[str]) -> Iterator[Setting]:
    for field in fields(a):  # type: ignore[arg-type]
        first, second = getattr(a, field.name), getattr(b, field.name)
        if field.name not in but and first != second:
            yield Setting(f"{name}.{field.name}", _value(first), _value(second))


def _value(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(map(str, cast("Iterable[object]", value))))
    return _said(value)


def _capacity(level: Level) -> str:
    if level.capacity is None:
        return "unlimited"
    if isinstance(level.capacity, tuple):
        return ", ".join(f"{name} {format_bytes(bits)}" for name, bits in level.capacity)
    return format_bytes(level.capacity)


def _pair(both: tuple[str, str]) -> dict[str, str]:
    return {"a": both[0], "b": both[1]}


MOST_REASONS = 5
_WORTH_SAYING = 0.02
"""A part is named if it moves the total by this share of all that moved."""


def _reasons(comparison: Comparison) -> Iterator[str]:
    moved = math.fsum(abs(part.energy_pj.difference) for part in comparison.parts)
    named = [p for p in comparison.parts if abs(p.energy_pj.difference) > _WORTH_SAYING * moved]
    for part in named[:MOST_REASONS]:
        yield _why_energy(part)
    slower = [layer for layer in comparison.layers if not layer.figures["cycles"].is_equal]
    slower.sort(key=lambda layer: -abs(layer.figures["cycles"].difference * layer.repeat))
    for layer in slower[:MOST_REASONS]:
        yield _why_cycles(layer)


def _why_energy(part: PartChange) -> str:
    energy, change = part.energy_pj, part.energy_pj.difference
    how = f"{format_energy(abs(change))} {'more' if change > 0 else 'less'}"
    if part.operand in ("", "hops", "leakage"):
        return f"{part.name}: {how}"
    if energy.a is None or energy.b is None:
        side, other = ("B", "A") if energy.a is None else ("A", "B")
        return f"{part.name}: {how}, {side} keeps {part.operand} in {part.memory}, {other} does not"
    because: list[str] = []
    if abs(part.by_words_pj) >= abs(part.by_price_pj) / 4:
        because.append(_why_words(part))
    if abs(part.by_price_pj) >= abs(part.by_words_pj) / 4:
        prices = (energy.a / (part.words.a or 1), energy.b / (part.words.b or 1))
        because.append(f"a word costs {prices[0]:.3g} pJ in A, {prices[1]:.3g} pJ in B")
    return f"{part.name}: {how}, {'; '.join(because)}"


def _why_words(part: PartChange) -> str:
    words, tiles = part.words, part.tile_words
    moved = f"{words.a:,.0f} words move in A, {words.b:,.0f} in B"
    if tiles.a is None or tiles.b is None or tiles.a == tiles.b:
        return moved
    return f"{moved}, with tiles of {tiles.a:,.0f} and {tiles.b:,.0f} words"


def _why_cycles(layer: LayerChange) -> str:
    cycles = layer.figures["cycles"]
    change = f"{abs(cycles.difference):,.0f} cycles {'more' if cycles.difference > 0 else 'fewer'}"
    if layer.bound[0] == layer.bound[1]:
        return f"{layer.name}: {change}, set by {layer.bound[0]} in both"
    return f"{layer.name}: {change}, set by {layer.bound[0]} in A, by {layer.bound[1]} in B"
