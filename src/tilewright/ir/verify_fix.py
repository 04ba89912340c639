"""Whether a partly given mapping can be one for these workloads on this chip.

Owns: the rules of `docs/fix.md` that need all three nouns: names, order, axes, what a level may
keep, extents that miss a size. One fix may be for many layers; messages say which.

Non-goals: capacities and the room on axes: whether anything fits is what a mapper answers.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tilewright.errors import InputError, Problem, Span, did_you_mean
from tilewright.ir.fix import Fix, FixedBlock, Pin
from tilewright.ir.hardware import AXES, Hardware
from tilewright.ir.workload import Workload

_FEW = 3
"""Layers that a message names; the others it counts."""


def verify_fix(
    layers: Sequence[Workload],
    hardware: Hardware,
    fix: Fix,
    *,
    imperfect: bool = False,
    uneven: bool = False,
) -> None:
    """Check that a fix can be a part of a mapping of every layer on a chip.

    Args:
        layers: the workloads that it is for.
        hardware: the chip.
        fix: what is given.
        imperfect: whether extents need not divide sizes.
        uneven: whether a memory may head several blocks.

    Raises: `InputError` with every problem: unknown names, extents that miss a size, memories out
    of order, axes that are not there, operands that a level may not or must keep. A layer may lack
    a dim without extent, or of extent 1, if another layer has it.

    Source: `docs/fix.md`.
    """
    checker = _Checker(tuple(layers), hardware, fix, imperfect, uneven)
    problems = list(checker.names())
    if not problems:
        checks = (checker.lacks, checker.blocks, checker.loops, checker.axes, checker.keeps)
        problems = [problem for check in checks for problem in check()]
        problems += checker.extents()
    if problems:
        raise InputError(problems)


@dataclass(frozen=True, slots=True)
class _Checker:
    layers: tuple[Workload, ...]
    hardware: Hardware
    fix: Fix
    imperfect: bool
    uneven: bool

    @property
    def pins(self) -> Iterator[tuple[FixedBlock, Pin]]:
        for block in self.fix.blocks:
            yield from ((block, pin) for pin in (*block.temporal, *block.spatial))

    def names(self) -> Iterable[Problem]:
        """Names that no layer, or the chip, does not know."""
        memories = [level.memory for level in self.hardware.levels]
        for block in self.fix.blocks:
            if block.memory not in memories:
                what = f"{self.hardware.name} has no memory {block.memory}"
                yield Problem(what, did_you_mean(block.memory, memories), _place(block))
            for name in block.operands or ():
                yield from self._operand(block, name)
        for _, pin in self.pins:
            yield from self._dim(pin)

    def _operand(self, block: FixedBlock, name: str) -> Iterable[Problem]:
        without = [w for w in self.layers if name not in [o.name for o in w.operands]]
        if len(without) == len(self.layers):
            known = dict.fromkeys(o.name for w in self.layers for o in w.operands)
            what = f"{_subject(without)} operand {name}"
            yield Problem(what, did_you_mean(name, list(known)), _place(block))

    def _dim(self, pin: Pin) -> Iterable[Problem]:
        without = [w for w in self.layers if pin.dim not in w.sizes]
        if len(without) == len(self.layers):
            known = dict.fromkeys(dim for w in self.layers for dim in w.sizes)
            what = f"{_subject(without)} dim {pin.dim}"
            yield Problem(what, did_you_mean(pin.dim, list(known)), _place(pin))

    def lacks(self) -> Iterable[Problem]:
        """Operands, and dims with an extent, that some layers lack."""
        for block in self.fix.blocks:
            for name in block.operands or ():
                without = [w for w in self.layers if name not in [o.name for o in w.operands]]
                if without:
                    fix = f"leave the brackets of {block.memory} out, or map one layer at a time"
                    yield Problem(f"no operand {name} in {_names(without)}", fix, _place(block))
        for _, pin in self.pins:
            without = [w for w in self.layers if pin.dim not in w.sizes]
            if without and (pin.extent or 1) > 1:
                free = Pin(pin.dim, None, pin.axis)
                fix = f"write {free}, its extent free, or map one layer at a time"
                what = f"{pin}: no dim {pin.dim} in {_names(without)}"
                yield Problem(what, fix, _place(pin))

    def blocks(self) -> Iterable[Problem]:
        """Memories in the order of the hardware, each once unless the mapspace is uneven."""
        deepest = 0
        for at, block in enumerate(self.fix.blocks):
            level = self.hardware.level_index(block.memory)
            if level < deepest:
                below = self.hardware.levels[deepest].memory
                what = f"{block.memory} stands inside {below}, but is the outer memory"
                fix = "list blocks in the order of the hardware, outermost first"
                yield Problem(what, fix, _place(block))
            deepest = max(deepest, level)
            others = [other for other in self.fix.blocks[:at] if other.memory == block.memory]
            if others and not self.uneven:
                what = f"{block.memory} heads two blocks, which only an uneven mapping has"
                yield Problem(what, "write one block, or add --uneven", _place(block))
            elif any((other.operands is None) != (block.operands is None) for other in others):
                what = f"{block.memory} has brackets in one block, and none in another"
                yield Problem(what, "write what it keeps in both, or in none", _place(block))

    def loops(self) -> Iterable[Problem]:
        """A dim has one loop at a place."""
        seen: set[tuple[str, str | None, str]] = set()
        for block, pin in self.pins:
            key = block.memory, pin.axis, pin.dim
            if key in seen:
                place = f"on axis {pin.axis} of" if pin.axis else "below"
                what = f"{pin.dim} stands twice {place} {block.memory}"
                yield Problem(what, "write one loop with both extents multiplied", _place(pin))
            seen.add(key)

    def axes(self) -> Iterable[Problem]:
        for block, pin in self.pins:
            if pin.axis is None or pin.extent == 1:
                continue
            fanout = self.hardware.levels[self.hardware.level_index(block.memory)].fanout
            present = [axis for axis in AXES if fanout.extent(axis) > 1]
            if pin.axis not in present:
                have = f"its axes are {', '.join(present)}" if present else "it has no fan-out"
                what = f"{pin}: there is no axis {pin.axis} below {block.memory}; {have}"
                yield Problem(what, "unroll on an axis that is there", _place(pin))
                continue
            allowed = fanout.allowed_dims(pin.axis)
            if allowed is not None and pin.dim not in allowed:
                what = f"{pin}: {pin.dim} may not be unrolled on axis {pin.axis} of {block.memory}"
                yield Problem(what, f"allowed there: {', '.join(allowed) or 'none'}", _place(pin))

    def keeps(self) -> Iterable[Problem]:
        for index, level in enumerate(self.hardware.levels):
            written = [b for b in self.fix.of(level.memory) if b.operands is not None]
            counts = Counter(name for block in written for name in block.operands or ())
            if not written:
                continue
            for block in written:
                for name in dict.fromkeys(block.operands or ()):
                    if counts[name] > 1:
                        what = f"{name} is listed twice in {level.memory}"
                        yield Problem(what, "list it once", _place(block))
                    if not level.may_keep(name):
                        fix = f"remove {name} from {level.memory}[…]"
                        what = f"{level.memory} may not keep {name}"
                        yield Problem(f"{what}: {_reason(level.keeps)}", fix, _place(block))
            for name in self._must_keep(index):
                if not counts[name]:
                    why = _reason(level.keeps) if index else "it is the outermost level"
                    what = f"{level.memory} must keep {name}: {why}"
                    yield Problem(what, f"list {name} in {level.memory}[…]", _place(written[0]))

    def _must_keep(self, index: int) -> list[str]:
        names = dict.fromkeys(o.name for w in self.layers for o in w.operands)
        keeps = self.hardware.levels[index].keeps or frozenset[str]()
        return [name for name in names if index == 0 or name in keeps]

    def extents(self) -> Iterable[Problem]:
        for dim in dict.fromkeys(pin.dim for _, pin in self.pins):
            pins = [pin for _, pin in self.pins if pin.dim == dim and pin.extent is not None]
            found = list(self._misses(dim, pins))
            yield from found or self._leaves(dim, pins)

    def _misses(self, dim: str, pins: list[Pin]) -> Iterable[Problem]:
        """Extents that cannot be factors of a size."""
        before: list[Pin] = []
        for pin in pins:
            product = _product(before) * (pin.extent or 1)
            having = [w for w in self.layers if dim in w.sizes]
            layers = [w for w in having if self._too_much(pin, product, w.sizes[dim])]
            if not layers:
                before.append(pin)
                continue
            sizes = _sizes(layers, dim)
            if self.imperfect:
                least = min(w.sizes[dim] for w in having)
                what = f"{pin} takes more steps than {dim} has: {sizes}"
                yield Problem(what, f"write {_with(pin, least)} at most", _place(pin))
                continue
            factors = " × ".join(str(p.extent) for p in (*before, pin))
            whole = f"{factors} = {product} does" if before else f"{pin.extent} does"
            what = f"{pin}: {whole} not divide the size of {dim}: {sizes}"
            yield Problem(what, self._instead(pin, _product(before)), _place(pin))

    def _too_much(self, pin: Pin, product: int, size: int) -> bool:
        return (pin.extent or 1) > size if self.imperfect else size % product != 0

    def _instead(self, pin: Pin, before: int) -> str:
        """The nearest extents that divide the sizes of all layers."""
        sizes = [w.sizes[pin.dim] for w in self.layers if pin.dim in w.sizes]
        rest, extent = math.gcd(*sizes) // before, pin.extent or 1
        divisors = [d for d in range(1, min(rest, 2 * extent + 1) + 1) if rest % d == 0]
        below = [d for d in divisors if d < extent][-1:]
        above = [d for d in divisors if d > extent][:1]
        near = [str(_with(pin, d)) for d in (*below, *above)]
        which = "divide it" if len(near) > 1 else "divides it"
        if len(sizes) > 1:
            which = f"{which} in all layers; or map one layer at a time"
        return f"write {' or '.join(near)}, which {which}"

    def _leaves(self, dim: str, pins: list[Pin]) -> Iterable[Problem]:
        """Extents that, with every place of a dim pinned, do not cover its size."""
        places = [
            (level.memory, axis)
            for level in self.hardware.levels
            for axis in (None, *AXES)
            if axis is None
            or _may_unroll(level.fanout.extent(axis), level.fanout.allowed_dims(axis), dim)
        ]
        if any(self.fix.extent(memory, axis, dim) is None for memory, axis in places):
            return
        product = _product(pins)
        layers = [w for w in self.layers if product < w.sizes.get(dim, 1)]
        if layers:
            factors = " × ".join(str(p.extent) for p in pins)
            what = f"all factors of {dim} are given, and miss its size: {factors} = {product}, "
            what += _sizes(layers, dim)
            fix = f"leave one of them out, or write {pins[-1].dim} without an extent there"
            yield Problem(what, fix, _place(pins[-1]))


def _may_unroll(room: int, allowed: tuple[str, ...] | None, dim: str) -> bool:
    return room > 1 and (allowed is None or dim in allowed)


def _product(pins: Iterable[Pin]) -> int:
    return math.prod(pin.extent or 1 for pin in pins)


def _with(pin: Pin, extent: int) -> Pin:
    return Pin(pin.dim, extent, pin.axis)


def _names(layers: Sequence[Workload]) -> str:
    return _listed([layer.name for layer in layers])


def _subject(layers: Sequence[Workload]) -> str:
    return f"{layers[0].name} has no" if len(layers) == 1 else "none of the layers has"


def _sizes(layers: Sequence[Workload], dim: str) -> str:
    """The sizes of a dim, with the layers that have them."""
    by_size: dict[int, list[str]] = {}
    for layer in layers:
        by_size.setdefault(layer.sizes.get(dim, 1), []).append(layer.name)
    return ", ".join(f"{size} in {_listed(names)}" for size, names in by_size.items())


def _listed(names: list[str]) -> str:
    more = len(names) - _FEW
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:_FEW])} and {more} more"


def _reason(keeps: frozenset[str] | None) -> str:
    if keeps is None:
        return "its partitioned capacity names no share for it"
    return f"the hardware says `keeps: [{', '.join(sorted(keeps))}]`"


def _place(noun: FixedBlock | Pin) -> Span | str:
    return noun.where or f"fix, `{noun}`"
