"""Rivals of `codesign` in one harness: the same space, the same evaluator, the same processor time.

Every method proposes designs, a chip and a mapping of every layer, to a `Bench`, which prices them
with the batch model, keeps what is best for the goal and on the front, and when. Clocks count the
processor time of the process, so that a busy machine harms none.

Settings are those of the methods' own defaults or papers, as recalled:

- `random`: chips at random, 1,000 random mappings of every layer on each (DOSA's random search).
- `GA`, `NSGA-II`: pymoo's defaults, 100 designs, simulated binary crossover, polynomial mutation;
  the genome is random keys, one for every number of the chip, atom, place in an order and bypass.
- `TPE`: Optuna's sampler for the chip, 10 random trials first, 1,000 random mappings inside.
- `GP`: scikit-learn's Gaussian process (Optuna's needs PyTorch), Matern 5/2, expected improvement
  over 2,000 candidates; inside as TPE.
- `Gumbel`: Adam (0.05) on logits of slots and of the chip's values, temperature 5 to 0.3.
- `DOSA`: mapping first: Adam on logarithms of factors, the chip as small as the mappings allow,
  rounding and the best of the orders every 100 steps, 7 starts.
"""

# JAX, pymoo and Optuna type themselves in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tilewright.joint.crew import make_crew
from tilewright.joint.finish import Finisher
from tilewright.joint.genome import FLOATS, Genes, as_genes, as_mapping, drawn, join_genes
from tilewright.joint.goal import Goal, Metric, Totals
from tilewright.joint.local import price_genes
from tilewright.joint.population import (
    Columns,
    Population,
    Start,
    StoppedError,
    Task,
    begin,
    drawn_starts,
    evaluations_of_round,
    gathered,
    price_on,
    run_round,
)
from tilewright.joint.space import Choice
from tilewright.joint.study import drafts_of, seated
from tilewright.joint.variable import Field
from tilewright.mapper.result import Objective

BATCH = 128
"""Designs priced in one batch; the last is repeated until it is full."""
INSIDE = 1024
"""Mappings of a layer that are tried on a chip, where a method looks at chips alone."""
_METRICS = (Metric.LATENCY, Metric.POWER, Metric.AREA)


class Spent(Exception):  # noqa: N818 - not an error: the time is over
    """The processor time of a method is used up."""


@dataclass
class Bench:
    """Prices designs for one method, and keeps its best.

    Attributes:
        task: layers, space, compiled programs.
        goal: what is minimised.
        seconds: of processor time.
        trace: processor seconds, mappings priced and merit, whenever the best got better.
        archive: latency, power and area of designs that fit, the non-dominated ones.
        best: the best design, and its merit.
        elite: the best designs on different chips, by merit.
    """

    task: Task
    goal: Goal
    seconds: float
    began: float = field(default_factory=time.process_time)
    evaluations: int = 0
    trace: list[tuple[float, int, float]] = field(default_factory=list)
    archive: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    best: tuple[float, Start] | None = None
    elite: dict[Choice, tuple[float, Start]] = field(default_factory=dict)

    @property
    def spent(self) -> float:
        return time.process_time() - self.began

    def check(self) -> None:
        if self.spent > self.seconds:
            raise Spent

    def offer(self, choices: Sequence[Choice], genes: Sequence[Genes]) -> np.ndarray:
        """Price whole designs; returns [B, 4]: merit, and metrics, infinite if one does not fit."""
        self.check()
        count = len(choices)
        found = np.full((count, 4), np.inf)
        for start in range(0, count, BATCH):
            at = np.minimum(np.arange(start, start + BATCH), count - 1)
            site = self.task.sites.site([choices[i] for i in at])
            priced = [
                price_genes(one.take(at), layer, site, self.task.frame)
                for one, layer in zip(genes, self.task.arrays, strict=True)
            ]
            energy, cycles, excess = (
                np.stack([np.asarray(getattr(p, name), dtype=float) for p in priced])
                for name in ("energy_pj", "cycles", "excess")
            )
            stop = min(BATCH, count - start)
            found[start : start + stop] = self.note(
                [choices[i] for i in at], energy, cycles, excess
            )[:stop]
        self.evaluations += count * len(self.task.arrays)
        self.keep(choices, genes, found[:, 0])
        return found

    def note(
        self, choices: Sequence[Choice], energy: np.ndarray, cycles: np.ndarray, excess: np.ndarray
    ) -> np.ndarray:
        """[B, 4] of prices; those that fit go to the archive."""
        totals = self.task.totals(choices, energy, cycles)
        over = 20.0 * np.log(np.maximum(excess, 1)).sum(axis=0)
        merit = self.goal.merit(totals) + over
        fits: Any = (excess <= 1).all(axis=0)
        metrics = np.stack([np.asarray(totals.of(m), dtype=float) for m in _METRICS], axis=1)
        self.archive = front(np.concatenate([self.archive, metrics[fits]]))
        merit = np.where(np.isfinite(merit), merit, 1e9)
        return np.column_stack([merit, np.where(fits[:, None], metrics, np.inf)])

    def keep(self, choices: Sequence[Choice], genes: Sequence[Genes], merits: np.ndarray) -> None:
        for at in np.argsort(merits)[:16].tolist():
            merit = float(merits.item(at))
            known = self.elite.get(choices[at])
            if known is not None and known[0] <= merit:
                continue
            if len(self.elite) > 64:
                worst = max(self.elite, key=lambda c: self.elite[c][0])
                if self.elite[worst][0] <= merit:
                    continue
                del self.elite[worst]
            design = (choices[at], [one.take([at]) for one in genes])
            self.elite[choices[at]] = (merit, design)
            if self.best is None or merit < self.best[0]:
                self.best = (merit, design)
                self.trace.append((self.spent, self.evaluations, merit))

    def see(self, _: Sequence[Choice], totals: Totals, fits: Any) -> None:
        """Designs that our search has looked at, [W, C]: those that fit go to the archive."""
        each = [np.broadcast_to(totals.of(m), fits.shape)[fits] for m in _METRICS]
        self.archive = front(np.concatenate([self.archive, np.stack(each, axis=1)]))

    def take(self, now: Population, evaluations: int) -> None:
        """The seats of our own search."""
        self.evaluations += evaluations
        found = self.note(now.choices, now.energy, now.cycles, now.excess)
        self.keep(now.choices, now.genes, found[:, 0])


def front(points: np.ndarray) -> np.ndarray:
    """Rows that no other row beats in all columns."""
    left = np.unique(points, axis=0)
    left = left[np.argsort(np.log(np.maximum(left, 1e-30)).sum(axis=1), kind="stable")]
    kept: list[np.ndarray] = []
    while len(left):
        best = left[0]  # nothing beats the least sum of logarithms
        kept.append(best)
        left = left[(left < best).any(axis=1)]
    return np.array(kept).reshape(-1, points.shape[1])


Method = Callable[[Bench, np.random.Generator], None]


def search_randomly(bench: Bench, random: np.random.Generator) -> None:
    while True:
        inside(bench, drawn_choice(bench.task, random), random)


def drawn_choice(task: Task, random: np.random.Generator) -> Choice:
    return tuple(int(random.integers(len(v.values))) for v in task.space.variables)


def inside(bench: Bench, choice: Choice, random: np.random.Generator) -> float:
    """The best of random mappings of every layer on a chip; its merit for the goal."""
    bench.check()
    task = bench.task
    site = task.sites.site([choice] * INSIDE)
    one = Totals(np.ones(1), np.ones(1), np.ones(1), 1.0)
    worth = [float(x[0]) for x in bench.goal.slopes(one)]
    chosen: list[Genes] = []
    for layer in task.arrays:
        genes = drawn(layer, task.frame, INSIDE, random)
        priced = price_genes(genes, layer, site, task.frame)
        merit = (
            worth[0] * np.log(np.asarray(priced.energy_pj))
            + worth[1] * np.log(np.asarray(priced.cycles))
            + 20 * np.log(np.maximum(np.asarray(priced.excess), 1))
        )
        chosen.append(genes.take([int(np.argmin(merit))]))
    bench.evaluations += INSIDE * len(task.arrays)
    return float(bench.offer([choice], chosen)[0, 0])


# Genomes of random keys


@dataclass(frozen=True)
class Keys:
    """A design as numbers from 0 to 1."""

    task: Task

    @property
    def length(self) -> int:
        frame = self.task.frame
        each = frame.atoms + frame.levels * frame.dims + frame.shape.operands * frame.levels
        return len(self.task.space.variables) + each * len(self.task.arrays)

    def read(self, keys: np.ndarray) -> tuple[list[Choice], list[Genes]]:
        """[B, length] as designs."""
        frame, count = self.task.frame, len(keys)
        keys = np.clip(keys, 0.0, 1.0 - 1e-9)
        variables = self.task.space.variables
        sizes = np.array([len(v.values) for v in variables])
        choices = [tuple(row) for row in (keys[:, : len(sizes)] * sizes).astype(int).tolist()]
        at = len(sizes)
        genes: list[Genes] = []
        for layer in self.task.arrays:
            slots = keys[:, at : at + frame.atoms].T
            at += frame.atoms
            allowed = np.asarray(layer.allowed)[:, np.asarray(layer.dim)]  # [slots, Z]
            place = (slots * allowed.sum(axis=0)[:, None]).astype(int)
            lists = np.argsort(~allowed, axis=0, kind="stable")  # allowed slots first
            slot = np.take_along_axis(lists.T, place, axis=1).astype(np.int8)
            step = frame.levels * frame.dims
            order = keys[:, at : at + step].T.reshape(frame.levels, frame.dims, count)
            at += step
            step = frame.shape.operands * frame.levels
            bits = keys[:, at : at + step].T.reshape(frame.shape.operands, frame.levels, count)
            at += step
            may, must = (np.asarray(x)[:, :, None] for x in (layer.may_keep, layer.must_keep))
            keeps = must | (may & (bits < 0.7))
            genes.append(Genes(slot, np.argsort(order, axis=1).astype(np.int8), keeps))
        return choices, genes


def _pymoo_problem(bench: Bench, metrics: int) -> Any:
    from pymoo.core.problem import Problem

    keys = Keys(bench.task)

    class Designs(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=keys.length, n_obj=metrics, n_ieq_constr=0, xl=0.0, xu=1.0)

        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
            found = bench.offer(*keys.read(x))
            if metrics == 1:
                out["F"] = found[:, 0]
                return
            # A design that does not fit is worse than any that does, by how little it fits.
            worse = 1e3 + found[:, :1]
            logs = np.log(np.where(np.isfinite(found[:, 1:]), found[:, 1:], 1.0))
            out["F"] = np.where(np.isfinite(found[:, 1:]), logs, worse)

    return Designs()


def search_genetically(bench: Bench, random: np.random.Generator) -> None:
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.optimize import minimize

    seed = int(random.integers(2**31))
    minimize(_pymoo_problem(bench, 1), GA(pop_size=100), ("n_gen", 10**9), seed=seed)


def search_with_nsga2(bench: Bench, random: np.random.Generator) -> None:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    seed = int(random.integers(2**31))
    minimize(_pymoo_problem(bench, 3), NSGA2(pop_size=100), ("n_gen", 10**9), seed=seed)


def search_with_tpe(bench: Bench, random: np.random.Generator) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int(random.integers(2**31))
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler)

    def trial_merit(trial: Any) -> float:
        choice = tuple(
            int(trial.suggest_int(v.name, 0, len(v.values) - 1)) for v in bench.task.space.variables
        )
        return inside(bench, choice, random)

    study.optimize(trial_merit, n_trials=10**9, catch=())


def search_with_gp(bench: Bench, random: np.random.Generator) -> None:
    from scipy.stats import norm
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    task = bench.task
    sizes = np.array([max(1, len(v.values) - 1) for v in task.space.variables])
    tried: list[Choice] = []
    merits: list[float] = []
    while True:
        if len(tried) < 10:
            choice = drawn_choice(task, random)
        else:
            lengths: Any = [0.5] * len(sizes)  # one for each number of the chip
            kernel = Matern(nu=2.5, length_scale=lengths) + WhiteKernel(1e-3)
            process = GaussianProcessRegressor(kernel, normalize_y=True)
            recent = slice(max(0, len(tried) - 200), None)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                process.fit(np.array(tried[recent]) / sizes, merits[recent])
            candidates = [drawn_choice(task, random) for _ in range(2000)]
            mean, spread = process.predict(np.array(candidates) / sizes, return_std=True)
            gain = min(merits) - mean
            z = gain / np.maximum(spread, 1e-9)
            better = gain * norm.cdf(z) + spread * norm.pdf(z)
            choice = candidates[int(np.argmax(better))]
        tried.append(choice)
        merits.append(inside(bench, choice, random))


# Gradients


@dataclass(frozen=True)
class _Logits:
    slots: jax.Array
    """[layers, slots, Z, N]."""
    numbers: jax.Array
    """[variables, most values, N]."""


jax.tree_util.register_dataclass(_Logits, ["slots", "numbers"], [])
GUMBEL_DESIGNS, GUMBEL_STEPS = 32, 300


def search_with_gumbel(bench: Bench, random: np.random.Generator) -> None:
    import optax

    from tilewright.joint.relaxed import program_of

    task = bench.task
    program = program_of(task, GUMBEL_DESIGNS)
    count, frame = len(task.arrays), task.frame
    most = max(len(v.values) for v in task.space.variables)
    logs = np.full((len(task.space.variables), most, 1), 0.0, dtype=FLOATS)
    room = np.full_like(logs, -1e9)
    for at, variable in enumerate(task.space.variables):
        logs[at, : len(variable.values), 0] = np.log(np.maximum(variable.values, 1e-9))
        room[at, : len(variable.values), 0] = 0.0
    adam: Any = optax.adam(0.05)
    while True:
        shape = (count, len(frame.slots), frame.atoms, GUMBEL_DESIGNS)
        logits = _Logits(
            jnp.asarray(random.normal(0, 0.1, shape), dtype=FLOATS),
            jnp.asarray(random.normal(0, 0.1, (*logs.shape[:2], GUMBEL_DESIGNS)), dtype=FLOATS),
        )
        places = random.random((count, frame.levels, frame.dims, GUMBEL_DESIGNS))
        orders = np.argsort(places, axis=2).astype(np.int8)
        moments = adam.init(logits)
        key = jax.random.key(int(random.integers(2**31)))
        for step in range(GUMBEL_STEPS):
            bench.check()
            heat = 5.0 * (0.3 / 5.0) ** (step / GUMBEL_STEPS)
            key, draw = jax.random.split(key)
            slopes = _gumbel_slopes(
                program.fixed,
                logits,
                orders,
                logs,
                room,
                heat,
                draw,
                program.relaxation,
                bench.goal,
            )
            slopes = jax.tree.map(lambda s: jnp.clip(jnp.nan_to_num(s), -10, 10), slopes)
            updates, moments = adam.update(slopes, moments)
            logits = jax.tree.map(jnp.add, logits, updates)
            bench.evaluations += GUMBEL_DESIGNS * count
            if step % 50 == 49:
                _offer_logits(bench, logits, orders, room)


@partial(jax.jit, static_argnames=("relaxation", "goal"))
def _gumbel_slopes(  # noqa: PLR0913, PLR0917
    fixed: Any,
    logits: _Logits,
    orders: Any,
    logs: Any,
    room: Any,
    heat: Any,
    key: Any,
    relaxation: Any,
    goal: Goal,
) -> _Logits:
    from tilewright.joint.relaxed import aim_of, lagrangian

    one, two = jax.random.split(key)

    def loss(logits: _Logits) -> jax.Array:
        noise = jax.random.gumbel(one, logits.slots.shape)
        allowed = jax.vmap(lambda layer: layer.allowed[:, layer.dim])(fixed.layers)
        masked = jnp.where(allowed[..., None], logits.slots, -1e9)
        soft = jax.nn.softmax((masked + noise) / heat, axis=1)
        noise = jax.random.gumbel(two, logits.numbers.shape)
        chosen = jax.nn.softmax((logits.numbers + room + noise) / heat, axis=1)
        numbers = (chosen * logs).sum(axis=1)
        aim = aim_of([goal] * GUMBEL_DESIGNS)

        def factors(layer: Any, _: Any, part: Any) -> jax.Array:
            own = layer.dim[None] == jnp.arange(relaxation.frame.dims)[:, None]  # [D, Z]
            each = part * jnp.log(layer.prime)[None, :, None]  # [slots, Z, N]
            return jnp.exp(jnp.einsum("dz,szn->sdn", own.astype(each.dtype), each))

        value, broken = lagrangian(fixed, factors, soft, numbers, orders, aim, relaxation)
        push = 4.0 * jnp.maximum(broken.bounds, 0).sum(axis=0)
        push += 4.0 * jnp.maximum(broken.excess, 0).sum(axis=0)
        return (value + push).sum()

    return jax.grad(loss)(logits)


def _offer_logits(bench: Bench, logits: _Logits, orders: np.ndarray, room: np.ndarray) -> None:
    task = bench.task
    numbers = np.asarray(logits.numbers) + room
    picked = numbers.argmax(axis=1).T.tolist()
    genes: list[Genes] = []
    for at, layer in enumerate(task.arrays):
        allowed = np.asarray(layer.allowed)[:, np.asarray(layer.dim)][:, :, None]
        slots = np.where(allowed, np.asarray(logits.slots[at]), -np.inf)
        keeps = np.repeat(np.asarray(layer.may_keep)[:, :, None], GUMBEL_DESIGNS, axis=-1)
        genes.append(Genes(slots.argmax(axis=0).astype(np.int8), orders[at], keeps))
    bench.offer([tuple(choice) for choice in picked], genes)


DOSA_STARTS, DOSA_STEPS = 7, 100


def search_like_dosa(bench: Bench, random: np.random.Generator) -> None:
    """Mapping first: the chip is what the mappings need, rounded up to the space."""
    import optax

    from tilewright.joint.relaxed import program_of

    task = bench.task
    program = program_of(task, DOSA_STARTS)
    adam: Any = optax.adam(0.05)
    frame, count = task.frame, len(task.arrays)
    while True:
        shape = (count, len(frame.slots), frame.dims, DOSA_STARTS)
        shares = jnp.asarray(random.normal(0, 1.5, shape), dtype=FLOATS)
        places = random.random((count, frame.levels, frame.dims, DOSA_STARTS))
        orders: Any = np.argsort(places, axis=2).astype(np.int8)
        for _ in range(5):
            moments = adam.init(shares)
            for _ in range(DOSA_STEPS):
                bench.check()
                slopes = _dosa_slopes(program.fixed, shares, orders, program.relaxation, bench.goal)
                slopes = jnp.clip(jnp.nan_to_num(slopes), -10, 10)
                updates, moments = adam.update(slopes, moments)
                shares = shares + updates
                bench.evaluations += DOSA_STARTS * count
            numbers = _needed(program.fixed, shares, orders, program.relaxation)
            orders = program.best_orders(shares, numbers, orders)
            starts = program.rounded(shares, numbers, orders, up=True)
            genes = [join_genes([start[1][at] for start in starts]) for at in range(count)]
            bench.offer(_chips_for(task, gathered(starts))[:DOSA_STARTS], genes)


def _chips_for(task: Task, starts: Columns) -> list[Choice]:
    """For every column the smallest chip that its mappings of all layers fit, if there is one."""
    space = task.space
    largest = tuple(len(v.values) - 1 for v in space.variables)
    site = task.sites.site([largest] * len(starts[0]))
    found = [price_on(task, at, genes, site).uses for at, genes in enumerate(starts[1])]
    rows = {o.name: at for at, o in enumerate(task.layers[0][0].workload.inputs)}
    rows[task.layers[0][0].workload.output.name] = task.frame.shape.inputs
    places = [_least_value(v, found, rows, space) for v in space.variables]
    return [tuple(map(int, choice)) for choice in zip(*places, strict=True)]


def _least_value(variable: Any, uses: Sequence[Any], rows: dict[str, int], space: Any) -> Any:
    """[B], the place of the least value of a number of the chip that all layers fit."""
    level = space.template.level_index(variable.memory)
    last = len(variable.values) - 1
    if variable.field is Field.CAPACITY:
        twice = 2 if space.template.levels[level].double_buffered else 1
        parts = [
            x.shared[level] if variable.operand is None else x.parts[rows[variable.operand], level]
            for x in uses
        ]
        need = twice * np.max(parts, axis=0)
    elif variable.field in (Field.X, Field.Y):
        need = np.max([x.axes[level, int(variable.field is Field.Y)] for x in uses], axis=0)
    else:
        need = np.full(uses[0].count, variable.values[-1])
    return np.minimum(np.searchsorted(variable.values, need - 1e-6), last)


@partial(jax.jit, static_argnames=("relaxation",))
def _needed(fixed: Any, shares: Any, orders: Any, relaxation: Any) -> jax.Array:
    return relaxation.needed(fixed, shares, orders)


@partial(jax.jit, static_argnames=("relaxation", "goal"))
def _dosa_slopes(fixed: Any, shares: Any, orders: Any, relaxation: Any, goal: Goal) -> jax.Array:
    from tilewright.joint.relaxed import aim_of, factors_of_shares, lagrangian

    def loss(shares: Any) -> jax.Array:
        numbers = relaxation.needed(fixed, shares, orders)
        aim = aim_of([goal] * DOSA_STARTS)
        value, broken = lagrangian(
            fixed,
            factors_of_shares,
            shares,
            numbers,
            orders,
            aim,
            relaxation,
        )
        push = 4.0 * jnp.maximum(broken.bounds, 0).sum(axis=0)
        push += 4.0 * jnp.maximum(broken.excess, 0).sum(axis=0)
        return (value + push).sum()

    return jax.grad(loss)(shares)


# Ours


OUR_SEATS = 16
OUR_LATENCIES = (0.1, 0.5, 2.0, 8.0)
OUR_AREAS = (0.15, 0.5, 1.5, 8.0)
"""Seconds and mm²: bounds of the seats that look for a front."""
OUR_MAPPED_AT, OUR_MAPPED_SHARE, OUR_LAYER_S = 0.6, 0.2, 0.4
"""When the optimal mapper is asked and for how long, of all time, and its seconds for a layer."""


def our_goals(goal: Goal) -> list[Goal]:
    """Half of the seats for the goal, half for a front over all three metrics."""
    others = [Goal(Metric.POWER, ((Metric.LATENCY, bound),)) for bound in OUR_LATENCIES]
    others += [Goal(Metric.LATENCY, ((Metric.AREA, bound),)) for bound in OUR_AREAS]
    return [goal] * (OUR_SEATS - len(others)) + others


def search_ours(bench: Bench, random: np.random.Generator) -> None:
    """As `codesign` works: search, the best chip's layers given to the optimal mapper, search."""
    seed = int(random.integers(2**31))
    goals = our_goals(bench.goal)
    starts = drawn_starts(bench.task, goals, random)
    _rounds(bench, goals, starts, seed, mapped_at=OUR_MAPPED_AT)


def search_for_one_goal(bench: Bench, random: np.random.Generator) -> None:
    """The same with all seats for the goal."""
    seed = int(random.integers(2**31))
    goals = [bench.goal] * OUR_SEATS
    starts = drawn_starts(bench.task, goals, random)
    _rounds(bench, goals, starts, seed, mapped_at=OUR_MAPPED_AT)


def _rounds(
    bench: Bench, goals: Sequence[Goal], starts: Columns, seed: int, mapped_at: float = math.inf
) -> None:
    def spent() -> bool:
        return bench.spent > bench.seconds

    with suppress(StoppedError):
        now = begin(bench.task, goals, starts, seed, spent, bench.see)
        bench.take(now, evaluations_of_round(bench.task, first=True))
        number = 0
        while True:
            number += 1
            now = run_round(bench.task, now, seed, number, should_stop=spent, on_sweep=bench.see)
            bench.take(now, evaluations_of_round(bench.task))
            if bench.spent > mapped_at * bench.seconds:
                mapped_at = math.inf
                now = _mapped(bench, now, number)


def _mapped(bench: Bench, now: Population, number: int) -> Population:
    """The best chip's layers mapped by the optimal mapper for least energy, in this process."""
    task = bench.task
    own = [seat for seat in range(now.seats) if now.goals[seat] == bench.goal]
    seat = own[int(np.argmin(now.merits(task)[own]))]
    choice = now.choices[seat]
    late = bench.spent + OUR_MAPPED_SHARE * bench.seconds
    with make_crew() as crew:
        finisher = Finisher(task.space, task.layers, crew, OUR_LAYER_S)
        finisher.solve([choice], [Objective.ENERGY], lambda: bench.spent > late)
        point = finisher.as_known(bench.goal, choice, drafts_of(task, now, seat, whole=True))
    if point is None:
        return now
    mapped = [
        as_genes(x.cost.mapping, x.layer.workload, task.space, task.frame) for x in point.layers
    ]
    bench.offer([choice], mapped)
    return seated(task, now, [point], number)


def finish_locally(bench: Bench, elite: Sequence[Start], seed: int) -> None:
    """Our local search from a rival's best designs."""
    _rounds(bench, [bench.goal] * OUR_SEATS, gathered(elite), seed)


ONE_GOAL = "ours, one goal"
METHODS: dict[str, Method] = {
    "ours": search_ours,
    "random": search_randomly,
    "GA": search_genetically,
    "NSGA-II": search_with_nsga2,
    "TPE": search_with_tpe,
    "GP": search_with_gp,
    "Gumbel": search_with_gumbel,
    "DOSA": search_like_dosa,
}


def run_method(name: str, task: Task, goal: Goal, seconds: float, seed: int) -> Bench:
    """A method for so many seconds of processor time."""
    bench = Bench(task, goal, seconds)
    method = search_for_one_goal if name == ONE_GOAL else METHODS[name]
    with suppress(Spent):
        method(bench, np.random.default_rng(seed))
    return bench


def run_finish(bench: Bench, seconds: float, seed: int) -> Bench:
    """Our local search from what a method found."""
    elite = [start for _, start in sorted(bench.elite.values(), key=lambda pair: pair[0])]
    finish = Bench(bench.task, bench.goal, seconds, archive=bench.archive)
    with suppress(Spent):
        finish_locally(finish, elite[:32], seed)
    return finish


def exact_totals(bench: Bench, finisher: Finisher) -> Totals | None:
    """The best design as it is, by `exact`, without the mapper."""
    if bench.best is None:
        return None
    choice, genes = bench.best[1]
    task = bench.task
    chip, (_, present) = task.space.chip(choice), task.space.levels(choice)
    drafts = [
        [as_mapping(one, 0, layer.workload, chip, present, task.frame)]
        for one, (layer, _) in zip(genes, task.layers, strict=True)
    ]
    point = finisher.as_known(bench.goal, choice, drafts)
    return None if point is None else point.totals


__all__ = ["METHODS", "Bench", "exact_totals", "front", "run_finish", "run_method"]
