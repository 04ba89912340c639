"""Many starts at once, by gradients: the study as a constrained nonlinear program.

Owns: `relaxed_starts`. Variables are the shares of each dim's logarithm that its slots take, which
keeps every factorization whole, and the logarithms of the chip's numbers between the ends of their
ranges. The objective is the logarithm of the goal's; bounds, capacities and axes are constraints of
an augmented Lagrangian, which Adam (optax) minimises for all starts in one batch. Between rounds of
gradients every level of every layer takes the innermost loop that serves it best. What comes out is
rounded: atoms go to the slots that lack most, numbers to the nearest of their values.

Non-goals: bypasses and widths of words, which the local search varies.

Source: `docs/codesign.md`, Starts.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.errors import MissingToolError, Problem
from tilewright.ir.hardware import AXES
from tilewright.joint.genome import FLOATS, Frame, Genes, LayerArrays, simplest
from tilewright.joint.goal import Goal, Metric
from tilewright.joint.local import Site, nests_of, price_factors
from tilewright.joint.population import Start, Task
from tilewright.joint.space import Space
from tilewright.joint.variable import Field, Variable
from tilewright.model.batch import Batch, Chips, access_pj, count_batch
from tilewright.model.batch.nouns import Array
from tilewright.model.batch.relax import curve_at
from tilewright.tech import find_technology

STARTS = 64
ROUNDS, STEPS = 4, 25
"""Rounds of multipliers, and steps of Adam in each."""
_RATE = 0.12
_PENALTY = 4.0
_METRICS = tuple(Metric)


@dataclass(frozen=True, slots=True)
class _Point:
    """What varies, N starts.

    Attributes:
        shares: [layers, slots, D, N], of which the softmax over slots is taken.
        numbers: [variables, N], of which the logistic function is taken.
    """

    shares: Array
    numbers: Array


@dataclass(frozen=True, slots=True)
class _Aim:
    """Goals as arrays: objective and bounds are linear in three logarithms.

    Attributes:
        objective: [metrics, N], 1 for the objective.
        bounds: [metrics, N], logarithms; infinite for none.
    """

    objective: Array
    bounds: Array


@dataclass(frozen=True, slots=True)
class _Weights:
    """Multipliers: [metrics, N] of bounds, [layers, N] of capacities and axes."""

    bounds: Array
    excess: Array


for _noun in (_Point, _Aim, _Weights):
    jax.tree_util.register_dataclass(_noun, list(_noun.__dataclass_fields__), [])


def gradients_of_starts(task: Task) -> int:
    """Mappings whose gradient is taken for the starts."""
    return STARTS * ROUNDS * STEPS * len(task.arrays)


def relaxed_starts(task: Task, goals: Sequence[Goal], random: np.random.Generator) -> list[Start]:
    """Starts for the local search, for each of the goals in turn.

    Raises: `MissingToolError` if optax, of the extra `codesign`, is not installed.
    """
    program = program_of(task, STARTS)
    count = len(task.arrays)
    slots, dims = len(task.frame.slots), task.frame.dims
    shape = (count, slots, dims, STARTS)
    point = _Point(
        jnp.asarray(random.normal(0.0, 1.5, shape), dtype=FLOATS),
        jnp.asarray(random.normal(0.0, 1.0, (len(task.space.variables), STARTS)), dtype=FLOATS),
    )
    places = random.random((count, task.frame.levels, dims, STARTS))
    orders: Any = np.argsort(places, axis=2).astype(np.int8)
    aim = aim_of([goals[at % len(goals)] for at in range(STARTS)])
    weights = _Weights(jnp.zeros((len(_METRICS), STARTS)), jnp.zeros((count, STARTS)))
    adam = _adam()
    for round_ in range(ROUNDS):
        penalty = _PENALTY * 2.0**round_
        point, broken = _descend(
            program.fixed,
            adam,
            point,
            orders,
            aim,
            weights,
            jnp.float32(penalty),
            program.relaxation,
        )
        weights = _Weights(
            jnp.maximum(weights.bounds + penalty * broken.bounds, 0),
            jnp.maximum(weights.excess + penalty * broken.excess, 0),
        )
        numbers = program.relaxation.numbers(point.numbers)
        orders = program.best_orders(point.shares, numbers, orders)
    return program.rounded(point.shares, program.relaxation.numbers(point.numbers), orders)


@cache
def _adam() -> Any:
    """The optimiser: the same each time, so that nothing is compiled anew."""
    try:
        import optax  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        what = "gradients of hardware and mappings need optax, which is not installed"
        raise MissingToolError(Problem(what, "pip install 'tilewright[codesign]'")) from None
    return optax.adam(_RATE)


def program_of(task: Task, starts: int) -> "_Program":
    """What is compiled for so many starts of a task."""
    return _Program(task, starts)


def aim_of(goals: Sequence[Goal]) -> _Aim:
    objective = np.array([[goal.objective is m for goal in goals] for m in _METRICS], dtype=FLOATS)
    bounds = [[dict(goal.bounds).get(m, math.inf) for goal in goals] for m in _METRICS]
    return _Aim(jnp.asarray(objective), jnp.asarray(np.log(bounds), dtype=FLOATS))


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What does not vary: layers stacked, their weights [layers], log sizes [layers, D], chips."""

    layers: LayerArrays
    weights: Array
    sizes: Array
    site: Site


jax.tree_util.register_dataclass(_Fixed, ["layers", "weights", "sizes", "site"], [])


class _Relaxation:
    """How numbers between the ends of ranges make a chip."""

    def __init__(self, space: Space, frame: Frame, rows: dict[str, int]) -> None:
        self.rows = rows
        self.space, self.frame = space, frame
        self.levels = [level.memory for level in space.template.levels]
        values = [np.log(np.maximum(v.values, 1e-9)) for v in space.variables]
        self.low = np.array([x[0] for x in values], dtype=FLOATS)[:, None]
        self.high = np.array([x[-1] for x in values], dtype=FLOATS)[:, None]

    def numbers(self, logits: Any) -> Any:
        """[variables, N], the logarithm of each."""
        return self.low + (self.high - self.low) * jax.nn.sigmoid(logits)

    def chips(self, chips: Chips, numbers: Array) -> tuple[Chips, Array]:
        """The chips with the numbers, and their areas."""
        for at, variable in enumerate(self.space.variables):
            chips = self._with(chips, variable, jnp.exp(numbers[at]))
        for level, memory in enumerate(self.levels):
            own = [
                (v, jnp.exp(numbers[at]))
                for at, v in enumerate(self.space.variables)
                if v.memory == memory and v.field is Field.CAPACITY
            ]
            chips = self._following(chips, level, own) if own else chips
        return chips, self._area(chips)

    def _with(self, chips: Chips, variable: Variable, value: Array) -> Chips:
        level = self.levels.index(variable.memory)
        if variable.field in (Field.X, Field.Y):
            axis = AXES.index("x" if variable.field is Field.X else "y")
            return replace(chips, copies=jnp.asarray(chips.copies).at[level, axis].set(value))
        if variable.field in (Field.PRESENT, Field.WORD_BITS):
            return chips
        if variable.field is not Field.CAPACITY:
            name = variable.field.value
            return replace(chips, **{name: jnp.asarray(getattr(chips, name)).at[level].set(value)})
        usable = value / (2 if self.space.template.levels[level].double_buffered else 1)
        if variable.operand is None:
            return replace(
                chips, capacity_bits=jnp.asarray(chips.capacity_bits).at[level].set(usable)
            )
        shares = jnp.asarray(chips.share_bits)
        return replace(chips, share_bits=shares.at[self.rows[variable.operand], level].set(usable))

    def __eq__(self, other: object) -> bool:
        """One program serves all that are equal."""
        own = (self.space, self.frame, self.rows)
        return isinstance(other, _Relaxation) and own == (other.space, other.frame, other.rows)

    def __hash__(self) -> int:
        return hash((self.space, self.frame))

    def _following(self, chips: Chips, level: int, own: list[tuple[Variable, Array]]) -> Chips:
        """Energies and areas that follow capacities, where the template does not give them."""
        template = self.space.template.levels[level]
        if template.technology is None:
            return chips
        table = find_technology(template.technology)
        access = access_pj(table, self._largest(level, own), template.word_bits)
        for name in ("read_pj", "write_pj"):
            if getattr(template, name) is None:
                old = jnp.asarray(getattr(chips, name))
                chips = replace(chips, **{name: old.at[level].set(access)})
        if template.update_pj is None:
            writes = jnp.asarray(chips.write_pj)[level]
            chips = replace(chips, update_pj=jnp.asarray(chips.update_pj).at[level].set(writes))
        if template.area_mm2 is None and table.memory_area is not None:
            whole = self._fixed_shares(level, own)
            area = sum(curve_at(table.memory_area, bits) for bits in whole)
            chips = replace(chips, area_mm2=jnp.asarray(chips.area_mm2).at[level].set(area))
        return chips

    def _fixed_shares(self, level: int, own: list[tuple[Variable, Array]]) -> list[Any]:
        """The capacities of all arrays of a level."""
        capacity = self.space.template.levels[level].capacity
        varied = {v.operand: bits for v, bits in own}
        if not isinstance(capacity, tuple):
            return list(varied.values())
        return [varied.get(name, jnp.full_like(own[0][1], bits)) for name, bits in capacity]

    def _largest(self, level: int, own: list[tuple[Variable, Array]]) -> Array:
        arrays = self._fixed_shares(level, own)
        found = arrays[0]
        for array in arrays[1:]:
            found = jnp.maximum(found, array)
        return found

    def needed(self, fixed: "_Fixed", shares: Array, orders: Array) -> Array:
        """[variables, N], logarithms of the least numbers that mappings need, within the ranges."""

        def one(given: tuple[LayerArrays, Array, Array, Array]) -> Array:
            layer, sizes, part, order = given
            factors = factors_of_shares(layer, sizes, part)
            keeps = jnp.broadcast_to(
                layer.may_keep[:, :, None], (*layer.may_keep.shape, order.shape[-1])
            )
            nests = nests_of(factors, order, keeps, self.frame)
            batch = Batch(nests, layer.works, fixed.site.networks, self.frame.shape)
            bits = count_batch(batch).tile_words * layer.works.bits[:, None]
            return jnp.stack([self._need(v, factors, bits) for v in self.space.variables])

        found = jax.lax.map(one, (fixed.layers, fixed.sizes, shares, orders)).max(axis=0)
        return jnp.clip(jnp.log(jnp.maximum(found, 1e-6)), self.low, self.high)

    def _need(self, variable: Variable, factors: Array, bits: Array) -> Array:
        """[N], of one layer; what costs nothing is as large as it may be."""
        level = self.levels.index(variable.memory)
        if variable.field is Field.CAPACITY:
            twice = 2 if self.space.template.levels[level].double_buffered else 1
            own = (
                bits[:, level]
                if variable.operand is None
                else bits[self.rows[variable.operand], level]
            )
            return twice * (own.sum(axis=0) if variable.operand is None else own)
        if variable.field in (Field.X, Field.Y):
            axis = AXES.index("x" if variable.field is Field.X else "y")
            return jnp.prod(factors[self.frame.slots.index((level, axis))], axis=0)
        return jnp.full(factors.shape[-1], variable.values[-1], factors.dtype)

    def _area(self, chips: Chips) -> Array:
        """[N], memories on the chip and MAC units."""
        instances: Any = 1.0
        total: Any = 0.0
        for level in range(len(self.levels)):
            total = total + (instances * chips.area_mm2[level] if level else 0.0)
            instances = instances * chips.copies[level, 0] * chips.copies[level, 1]
        return total + instances * chips.mac_area_mm2


@partial(jax.jit, static_argnames=("adam", "relaxation"))
def _descend(  # noqa: PLR0913, PLR0917
    fixed: _Fixed,
    adam: Any,
    point: _Point,
    orders: Array,
    aim: _Aim,
    weights: _Weights,
    penalty: Array,
    relaxation: _Relaxation,
) -> tuple[_Point, _Weights]:
    """Steps of Adam with fixed multipliers; returns the point, and what it breaks there."""

    def loss(point: _Point) -> tuple[Array, _Weights]:
        numbers = relaxation.numbers(point.numbers)
        value, broken = lagrangian(
            fixed, factors_of_shares, point.shares, numbers, orders, aim, relaxation
        )
        pairs = ((broken.bounds, weights.bounds), (broken.excess, weights.excess))
        for found, weight in pairs:
            pushed = jnp.maximum(weight + penalty * found, 0)
            value = value + ((pushed**2 - weight**2) / (2 * penalty)).sum(axis=0)
        return value.sum(), broken

    def step(_: Array, state: tuple[_Point, Any, _Weights]) -> tuple[_Point, Any, _Weights]:
        now, moments, _broken = state
        slopes, broken = jax.grad(loss, has_aux=True)(now)
        slopes = jax.tree.map(lambda s: jnp.clip(jnp.nan_to_num(s), -10, 10), slopes)
        updates, moments = adam.update(slopes, moments)
        return jax.tree.map(jnp.add, now, updates), moments, broken

    start = (point, adam.init(point), weights)
    found, _, broken = jax.lax.fori_loop(0, STEPS, step, start)
    return found, broken


Factors = Callable[[LayerArrays, Array, Any], Array]
"""From a layer, its log sizes [D] and what varies, to factors [slots, D, N]."""


def lagrangian(  # noqa: PLR0913, PLR0917
    fixed: _Fixed,
    factors: Factors,
    parts: Any,
    numbers: Array,
    orders: Array,
    aim: _Aim,
    relaxation: _Relaxation,
) -> tuple[Array, _Weights]:
    """The logarithm of the objective, and by how much in logarithms each limit is broken.

    Args:
        fixed: layers and chips.
        factors: of each layer.
        parts: what they are made from, layers first.
        numbers: [variables, N], logarithms of the chip's numbers.
        orders: [layers, V, D, N].
        aim: goals.
        relaxation: how numbers make a chip.

    Returns: [N], and limits as `_Weights`.
    """
    chips, area = relaxation.chips(fixed.site.chips, numbers)
    site = replace(fixed.site, chips=chips)

    @jax.checkpoint
    def one(given: tuple[LayerArrays, Array, Any, Array]) -> tuple[Array, Array, Array]:
        layer, sizes, part, order = given
        return _price(factors(layer, sizes, part), layer, order, site, relaxation.frame)

    energy, cycles, excess = jax.lax.map(one, (fixed.layers, fixed.sizes, parts, orders))
    log_energy = jnp.log(fixed.weights @ energy)
    log_cycles = jnp.log(fixed.weights @ cycles)
    clock = math.log(relaxation.space.template.clock_ghz * 1e9)
    power = log_energy - log_cycles + clock + math.log(1e-12)
    logs = {
        Metric.LATENCY: log_cycles - clock,
        Metric.ENERGY: log_energy,
        Metric.POWER: power,
        Metric.AREA: jnp.log(jnp.maximum(area, 1e-9)),
        Metric.EDP: log_energy + log_cycles,
    }
    stacked = jnp.stack([logs[metric] for metric in _METRICS])
    broken = jnp.where(jnp.isfinite(aim.bounds), stacked - aim.bounds, -jnp.inf)
    broken = jnp.maximum(broken, -1.0)
    value = (aim.objective * stacked).sum(axis=0) + 1e-2 * (log_energy + log_cycles)
    return value, _Weights(broken, jnp.log(jnp.maximum(excess, 0.3)))


def _price(
    factors: Array, layer: LayerArrays, order: Array, site: Site, frame: Frame
) -> tuple[Array, Array, Array]:
    keeps = jnp.broadcast_to(layer.may_keep[:, :, None], (*layer.may_keep.shape, order.shape[-1]))
    return price_factors(factors, order, keeps, layer, site, frame, whole_cycles=False)


def factors_of_shares(layer: LayerArrays, sizes: Array, shares: Any) -> Array:
    """[slots, D, N], whose product over slots is the size."""
    masked = jnp.where(layer.allowed[:, :, None], shares, -1e9)
    return jnp.exp(sizes[:, None] * jax.nn.softmax(masked, axis=0))


@partial(jax.jit, static_argnames="relaxation")
def _ordered(
    fixed: _Fixed, shares: Array, numbers: Array, orders: Array, relaxation: _Relaxation
) -> Array:
    """Every level's loops, with that dim innermost which serves the layer best."""
    chips, _ = relaxation.chips(fixed.site.chips, numbers)
    site = replace(fixed.site, chips=chips)
    frame = relaxation.frame

    def one(given: tuple[LayerArrays, Array, Array, Array]) -> Array:
        layer, sizes, shares, order = given

        def merit(order: Array) -> Array:
            factors = factors_of_shares(layer, sizes, shares)
            energy, cycles, _ = _price(factors, layer, order, site, frame)
            return jnp.log(energy) + jnp.log(cycles)

        for level in range(frame.levels):
            choices = jnp.stack([_innermost(order, level, dim) for dim in range(frame.dims)])
            merits = jax.lax.map(merit, choices)
            best = jnp.argmin(merits, axis=0)
            order = jnp.take_along_axis(choices, best[None, None, None], axis=0)[0]
        return order

    return jax.lax.map(one, (fixed.layers, fixed.sizes, shares, orders))


def _innermost(order: Array, level: int, dim: int) -> Array:
    """The order with a dim last in a level, in exchange for the one that is."""
    own = order[level]
    last = own[-1:]
    swapped = jnp.where(own == dim, last, own)
    swapped = swapped.at[-1].set(dim)
    return order.at[level].set(swapped)


class _Program:
    """The compiled program's inputs, and the way back to genes."""

    def __init__(self, task: Task, starts: int) -> None:
        self.task, self.starts = task, starts
        space = task.space
        work = task.layers[0][0].workload
        rows = {operand.name: at for at, operand in enumerate(work.inputs)}
        rows[work.output.name] = task.frame.shape.inputs
        self.relaxation = _Relaxation(space, task.frame, rows)
        middle = tuple(self._usual(variable) for variable in space.variables)
        site = task.sites.site([middle] * starts)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *task.arrays)
        sizes = np.zeros((len(task.arrays), task.frame.dims), dtype=FLOATS)
        for at, layer in enumerate(task.arrays):
            np.add.at(sizes[at], np.asarray(layer.dim), np.log(np.asarray(layer.prime)))
        weights = jnp.asarray(task.weights, dtype=FLOATS)
        self.fixed = _Fixed(stacked, weights, jnp.asarray(sizes), site)

    def _usual(self, variable: Variable) -> int:
        """What the template has, of a field that is not relaxed; present, if it may be absent."""
        if variable.field is not Field.WORD_BITS:
            return len(variable.values) - 1
        level = self.task.space.template.level_index(variable.memory)
        bits = self.task.space.template.levels[level].word_bits
        return int(np.argmin([abs(value - bits) for value in variable.values]))

    def best_orders(self, shares: Any, numbers: Any, orders: Any) -> Any:
        """Orders whose innermost loops serve best."""
        return np.asarray(_ordered(self.fixed, shares, numbers, orders, self.relaxation))

    def rounded(self, shares: Any, numbers: Any, orders: Any, *, up: bool = False) -> list[Start]:
        """Starts for a search in whole numbers: the chip's the nearest, or the next ones `up`."""
        logs = np.asarray(numbers)
        found: list[Start] = []
        for start in range(self.starts):
            choice = tuple(
                self._nearest(v, float(logs[at, start]), up=up)
                for at, v in enumerate(self.task.space.variables)
            )
            genes = [
                self._genes(at, np.asarray(shares[at, :, :, start]), orders[at, :, :, start])
                for at in range(len(self.task.arrays))
            ]
            found.append((choice, genes))
        return found

    def _nearest(self, variable: Variable, log: float, *, up: bool) -> int:
        if variable.field in (Field.WORD_BITS, Field.PRESENT):
            return self._usual(variable)
        known = np.log(variable.values)
        if up:
            return min(len(known) - 1, int(np.searchsorted(known, log - 1e-4)))
        return int(np.argmin(np.abs(known - log)))

    def _genes(self, at: int, shares: np.ndarray, order: np.ndarray) -> Genes:
        """Atoms, the greatest first, in the slots whose factors lack most."""
        layer = self.task.arrays[at]
        sizes = self.fixed.sizes[at]
        left = np.log(np.array(factors_of_shares(layer, sizes, shares[:, :, None]))[:, :, 0])
        genes = simplest(layer, self.task.frame, 1)
        slot = genes.slot.copy()
        allowed = np.asarray(layer.allowed)
        pairs = zip(np.asarray(layer.dim), np.asarray(layer.prime), strict=True)
        for atom, (dim, prime) in enumerate(pairs):
            if prime > 1:
                place = int(np.argmax(np.where(allowed[:, dim], left[:, dim], -np.inf)))
                slot[atom, 0] = place
                left[place, dim] -= math.log(prime)
        return Genes(slot, np.asarray(order)[:, :, None].astype(np.int8), genes.keeps)
