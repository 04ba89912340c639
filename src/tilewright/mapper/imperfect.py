"""The best mapping of a layer with tiles of any size, proved: even mappings, imperfect factors.

Owns: `find_imperfect`: thresholds, choices of what is kept where, prices that are bounds only.

Non-goals: the compiled search (`mapper/imperfect_kernels.py`), its tables (`imperfect_tables.py`).
"""

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np

from tilewright.errors import InfeasibleError
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.workload import Workload, conv2d
from tilewright.mapper import imperfect_kernels as kernels
from tilewright.mapper.first_use import compile_apart
from tilewright.mapper.floor import least_of
from tilewright.mapper.imperfect_kernels import ANY_ORDER, Chain, Layer
from tilewright.mapper.imperfect_tables import (
    PlanMaker,
    dram_words,
    energies,
    list_classes,
    list_spreads,
    make_layer,
    make_plan,
)
from tilewright.mapper.problem import Floats, Integers, Mask
from tilewright.mapper.result import Objective, Stop
from tilewright.mapspace.space import Mapspace
from tilewright.model.evaluate import Cost, Evaluator, make_evaluator

_KEYS = {
    Objective.ENERGY: [[kernels.ENERGY, kernels.CYCLES, kernels.WORDS]],
    Objective.EDP: [[kernels.EDP, kernels.CYCLES, kernels.ENERGY, kernels.WORDS]],
    Objective.CYCLES: [[kernels.CYCLES], [kernels.ENERGY, kernels.WORDS]],
    Objective.DRAM: [[kernels.WORDS], [kernels.CYCLES], [kernels.ENERGY]],
}
"""What is compared, search after search, each among what the searches before found best."""
_SLACK = 1e-11
"""How far sums of the same energies in another order may lie apart."""
_WIDER = 1.04
"""By how much the threshold is raised, at least."""
_MOST_ORDERS = 5_000
"""Orders of loops that are priced one by one."""
_ROWS = 256
"""Tiles of the innermost memory that are tried at once."""
_BUFFER = 4_096
"""Chains with loose prices that are remembered at once, at first."""


@dataclass(slots=True)
class Found:
    """What a search has found.

    Attributes:
        cost: the best mapping, priced; `None` if there is none.
        bound: what no mapping undercuts, in the objective's unit.
        is_proved: whether all ties are decided, too.
        evaluated: chains that were priced.
        interrupted: whether Ctrl-C was pressed.
    """

    cost: Cost | None
    bound: float
    is_proved: bool
    evaluated: int
    interrupted: bool = False


class OutOfTimeError(Exception):
    """The budget is spent, or the search is told to stop."""


@dataclass(slots=True, eq=False)
class _Choice:
    """One choice of what is kept where."""

    keeps: Mask
    plan: kernels.Plan
    chain: Chain
    floor: tuple[float, float]
    """The least energy and DRAM words of any mapping."""
    rates: Floats | None = None
    """The least energy of all chains, by the class of their innermost tile, ascending."""


def compile_kernels(should_stop: Stop = lambda: False) -> bool:
    """Load or compile the kernels, so that no budget pays for it; false if told to stop first."""
    if not compile_apart(__name__, should_stop):
        return False
    solve_smallest()
    return True


@cache
def solve_smallest() -> None:
    """Solve the smallest problem that uses every kernel."""
    layer = conv2d("smallest", K=2, C=2, P=3, Q=1, R=2, S=1, padding=(1, 0))
    levels = (Level("DRAM"), Level("GLB", 512, fanout=Fanout(2)), Level("RF", 256))
    chip = Hardware("smallest", levels)
    ImperfectSearch(make_evaluator(layer, chip), Objective.ENERGY).run()


@dataclass(slots=True)
class ImperfectSearch:
    """The search of one layer on one chip.

    Attributes:
        evaluator: of the layer on the chip, in the convention `default`.
        objective: what is minimised.
        best: the best known so far.
        deadline: when to stop, by `time.monotonic`.
        should_stop: asked now and then.
        tell: told the best and the bound now and then.
    """

    evaluator: Evaluator
    objective: Objective
    best: Cost | None = None
    deadline: float | None = None
    should_stop: Stop = lambda: False
    tell: Callable[[float | None, float, int], None] = lambda _best, _bound, _count: None
    bound: float = 0.0
    unresolved: float = math.inf
    evaluated: int = 0
    layer: Layer = field(init=False)
    dims: list[str] = field(init=False)
    tried: set[bytes] = field(default_factory=set[bytes])

    @property
    def workload(self) -> Workload:
        return self.evaluator.workload

    @property
    def hardware(self) -> Hardware:
        return self.evaluator.hardware

    def run(self) -> Found:
        """Search until all is proved or time is up."""
        proved = interrupted = False
        try:
            self._prove()
            proved = self.unresolved == math.inf
        except KeyboardInterrupt:
            interrupted = True
        except OutOfTimeError:
            pass
        bound = min(self.bound, self.unresolved)
        if self.best is not None:
            bound = min(bound, self.objective.of(self.best))
        return Found(self.best, bound, proved, self.evaluated, interrupted)

    def _prove(self) -> None:
        self.bound = least_of(self.evaluator, self.objective)
        self.dims = [dim for dim, size in self.workload.sizes.items() if size > 1]
        spreads = tuple(
            list_spreads(self.workload, self.hardware, index) if level.fanout.copies > 1 else None
            for index, level in enumerate(self.hardware.levels)
        )
        self.layer = layer = make_layer(self.workload, self.hardware, spreads)
        classes = list_classes(layer)
        maker = PlanMaker(layer, classes, spreads)
        choices = list(self._choices(maker))
        for choice in choices:
            if not choice.plan.by_words and self._least(
                choice, kernels.ENERGY
            ) <= self._most_energy(_KEYS[self.objective][0], math.inf):
                self._rate(choice)
                if choice.rates is not None:
                    choice.floor = max(choice.floor[0], float(choice.rates[0])), choice.floor[1]
        limits = np.full(4, np.inf)
        for turn, order in enumerate(_KEYS[self.objective]):
            self.tried.clear()
            self._search(choices, order, limits, primary=turn == 0)
            if self.best is None:
                return
            if turn == 0:
                self.bound = self.objective.of(self.best)
            limits[order[0]] = _value(self.best, order[0]) * (1 + _SLACK)

    def _choices(self, maker: PlanMaker) -> Iterator[_Choice]:
        space = Mapspace(self.workload, self.hardware, imperfect=True)
        names = [operand.name for operand in self.workload.operands]
        options = [
            [
                forced | {n for n, kept in zip(sorted(free), pick, strict=True) if kept}
                for pick in itertools.product((True, False), repeat=len(free))
            ]
            for forced, free in zip(space.forced, space.optional, strict=True)
        ]
        for kept in itertools.product(*options):
            self._check_time()
            keeps = np.array([[name in level for name in names] for level in kept])
            parent = _parents(keeps)
            if self._is_hopeless(maker, keeps, parent):
                continue
            plan = make_plan(maker, keeps, parent, self.objective is Objective.DRAM)
            chain = _chain(maker.layer, keeps, parent)
            if len(keeps) > 1 and not np.isfinite(plan.at[1:]).any(axis=1).all():
                continue
            cycles = self.layer.macs / float(np.prod(self.layer.fan_copies))
            inside = self.layer.mac_pj + self.layer.leak * cycles
            pj = inside + float(plan.least_macs.max())
            words = maker.macs(dram_words(self.layer), parent)
            if len(keeps) > 1:
                pj += float(plan.at[-1].min())
                words += float(plan.at_words[-1].min())
            yield _Choice(keeps, plan, chain, (pj, words))

    def _is_hopeless(self, maker: PlanMaker, keeps: Mask, parent: Integers) -> bool:
        """Whether what must move costs more than the best known, whatever the tiles are."""
        order = _KEYS[self.objective][0]
        most = self._most_energy(order, math.inf)
        if most == math.inf:
            return False
        costs, least = energies(self.layer), self.layer.mac_pj
        least += max(maker.least_macs(parent))
        for c in range(1, len(keeps)):
            for o in np.nonzero(keeps[c])[0]:
                words = np.array(self.layer.distinct[o])
                least += float(maker.edge(costs, int(parent[c, o]), c, int(o), words))
        return least > most

    def _check_time(self) -> None:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        if late or self.should_stop():
            raise OutOfTimeError

    def _least(self, choice: _Choice, key: int) -> float:
        cycles = math.ceil(self.layer.macs / float(np.prod(self.layer.fan_copies)) - 1e-9)
        if key == kernels.ENERGY:
            return choice.floor[0]
        if key == kernels.WORDS:
            return choice.floor[1]
        return cycles if key == kernels.CYCLES else choice.floor[0] * cycles

    def _search(
        self, choices: list[_Choice], order: list[int], limits: Floats, *, primary: bool
    ) -> None:
        """Find the best by an order, within limits, with rising thresholds."""
        key = order[0]
        ordered = sorted(choices, key=lambda choice: self._least(choice, key))
        first = self._least(ordered[0], key) if ordered else math.inf
        if first == math.inf:
            return
        threshold, wider = max(first, 1e-30), 1.0 + (_WIDER - 1) / 4
        if primary:
            self.bound = max(self.bound, first)
            known = None if self.best is None else _value(self.best, key)
            self.tell(known, self.bound, self.evaluated)
        while True:
            threshold *= wider
            wider = max(_WIDER, 1 + 2 * (wider - 1))
            known = math.inf if self.best is None else _value(self.best, key)
            last = threshold >= known * 0.97
            if last:
                threshold = math.inf
            for choice in ordered:
                if self._least(choice, key) <= min(threshold, known):
                    self._pass(choice, order, limits, threshold)
            known = math.inf if self.best is None else _value(self.best, key)
            if primary:
                self.bound = max(self.bound, min(threshold, known))
                self.tell(None if self.best is None else known, self.bound, self.evaluated)
            if known <= threshold:
                return

    def _most_energy(self, order: list[int], threshold: float) -> float:
        """What chains may take that are no worse than the threshold and the best."""
        known = math.inf if self.best is None else _value(self.best, order[0])
        most = min(threshold, known) * (1 + _SLACK)
        if order[0] == kernels.ENERGY:
            return most
        cycles = math.ceil(self.layer.macs / float(np.prod(self.layer.fan_copies)) - 1e-9)
        return most / cycles if order[0] == kernels.EDP else math.inf

    def _rate(self, choice: _Choice) -> None:
        """Sort the innermost tiles by the least energy of all chains that have one."""
        levels, plan = len(choice.keeps), choice.plan
        starts = plan.spread_start
        if (
            levels < 3
            or starts[levels] > starts[levels - 1]
            or starts[levels - 1] == starts[levels - 2]
        ):
            return  # only a fan-out just outside the innermost memory is looked at
        low, high = plan.list_start[levels - 1], plan.list_start[levels]
        rates = np.full(high - low, np.inf)
        state = self._state(choice, [kernels.ENERGY], np.full(4, np.inf), math.inf, 1)
        state.limits[:] = np.inf
        self._run(state, partial(kernels.rate_rows, self.layer, plan, choice.chain, state, rates))
        order = np.argsort(rates, kind="stable")
        plan.cell[low:high] = plan.cell[low:high][order]
        choice.rates = rates[order]

    def _pass(self, choice: _Choice, order: list[int], limits: Floats, threshold: float) -> None:
        """Go through all chains of a choice below a threshold."""
        levels = len(choice.keeps)
        rows = 1
        if levels > 1:
            rows = int(choice.plan.list_start[levels] - choice.plan.list_start[levels - 1])
        if choice.rates is not None and not choice.plan.by_words:
            most = min(float(limits[kernels.ENERGY]), self._most_energy(order, threshold))
            rows = max(1, int(np.searchsorted(choice.rates, most, side="right")))
        size, at, room = _ROWS, 0, _BUFFER
        while at < max(rows, 1):
            self._check_time()
            state = self._state(choice, order, limits, threshold, room)
            state.rows[0], state.rows[1] = at, at + size
            search = partial(kernels.search, self.layer, choice.plan, choice.chain, state)
            try:
                self._run(state, search)
            except BaseException:
                self._take(choice, state)
                raise
            self.evaluated += int(state.counts[0])
            self._take(choice, state)
            if state.counts[3] == 2:
                size = max(1, size // 4)
                room = room * 2 if size == 1 else room
                self._take_loose(choice, state, order, limits, room)
                continue
            self._take_loose(choice, state, order, limits, len(state.buffer_loose))
            at += size

    def _run(self, state: kernels.State, work: Callable[[], None]) -> None:
        """Run a kernel, and stop it when time is up."""
        thread = threading.Thread(target=work)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.02)
                self._check_time()
        except BaseException:
            state.counts[3] = 1
            thread.join()
            raise

    def _state(
        self, choice: _Choice, order: list[int], limits: Floats, threshold: float, room: int
    ) -> kernels.State:
        levels, dims = choice.keeps.shape[0], len(self.layer.size)
        operands = len(self.layer.uses)
        widest = int(choice.plan.spreads.max(initial=1))
        state = _make_state(levels, dims, operands, widest, room)
        state.limits[:] = limits
        state.limits[order[0]] = min(state.limits[order[0]], threshold)
        state.order[: len(order)] = order
        if self.best is not None and self._is_within(self.best, limits):
            state.found[0] = 1
            for key in range(4):
                state.best[key] = _value(self.best, key)
            key = order[0]
            state.limits[key] = min(state.limits[key], state.best[key] * (1 + kernels.TIE))
        return state

    @staticmethod
    def _is_within(cost: Cost, limits: Floats) -> bool:
        return all(_value(cost, key) <= limits[key] for key in range(4))

    def _take(self, choice: _Choice, state: kernels.State) -> None:
        """Price the best chain that was found, exactly.

        Were it dearer than the kernel says, that would bound what has been left out.
        """
        if state.found[0] == 0 or not state.best_extent[0].any():
            return
        mapping = self._mapping(choice, state.best_extent, state.best_spread, state.best_class)
        cost = self.evaluator.price(mapping)
        first = int(state.order[0])
        claimed = float(state.best[first])
        if abs(_value(cost, first) - claimed) > _SLACK * claimed:
            self.unresolved = min(self.unresolved, claimed)
        if self.best is None or self._is_better(cost, [int(k) for k in state.order if k >= 0]):
            self.best = cost

    def _take_loose(
        self, choice: _Choice, state: kernels.State, order: list[int], limits: Floats, most: int
    ) -> None:
        """Price chains whose price is a bound only, the most promising first."""
        count = min(int(state.counts[2]), most, len(state.buffer_loose))
        values = state.buffer_value[:count]
        for at in np.lexsort([values[:, key] for key in reversed(order)]):
            self._check_time()
            if not self._may_improve(values[at], order):
                continue
            extent, spread = state.buffer_extent[at], state.buffer_spread[at]
            self._price_loose(choice, extent, spread, state, int(at), order, limits)

    def _may_improve(self, value: Floats, order: list[int]) -> bool:
        if self.best is None:
            return True
        for key in order:
            known = _value(self.best, key)
            if value[key] < known * (1 - _SLACK):
                return True
            if value[key] > known * (1 + _SLACK):
                return False
        return False

    def _price_loose(  # noqa: PLR0913, PLR0917
        self,
        choice: _Choice,
        extent: Integers,
        spread: Integers,
        state: kernels.State,
        at: int,
        order: list[int],
        limits: Floats,
    ) -> None:
        classes = state.buffer_class[at]
        any_order = state.buffer_loose[at] == ANY_ORDER
        name = choice.keeps.tobytes() + extent.tobytes() + spread.tobytes()
        name += b"" if any_order else classes.tobytes()
        if name in self.tried:
            return
        self.tried.add(name)
        mappings: Iterator[Mapping] = iter([self._mapping(choice, extent, spread, classes)])
        if any_order:
            moved = [int((row > 1).sum()) for row in extent[:-1]]
            if math.prod(map(math.factorial, moved)) > _MOST_ORDERS:
                self.unresolved = min(self.unresolved, float(state.buffer_value[at, order[0]]))
            else:
                mappings = self._all_orders(choice, extent, spread)
        for mapping in mappings:
            self.evaluated += 1
            try:
                cost = self.evaluator.price(mapping)
            except InfeasibleError:
                continue
            if self._is_within(cost, limits) and self._is_better(cost, order):
                self.best = cost

    def _is_better(self, cost: Cost, order: list[int]) -> bool:
        if self.best is None:
            return True
        mine = tuple(_value(cost, key) for key in order)
        best = tuple(_value(self.best, key) for key in order)
        return mine < best

    def _all_orders(self, choice: _Choice, extent: Integers, spread: Integers) -> Iterator[Mapping]:
        """Every order of the loops of every stage but the innermost."""
        orders = [
            list(itertools.permutations(np.nonzero(row > 1)[0].tolist())) for row in extent[:-1]
        ]
        last = tuple(np.nonzero(extent[-1] > 1)[0].tolist())
        for picked in itertools.product(*orders):
            yield self._write(choice, extent, spread, [*picked, last])

    def _mapping(
        self, choice: _Choice, extent: Integers, spread: Integers, classes: Integers
    ) -> Mapping:
        orders: list[tuple[int, ...]] = []
        for k, row in enumerate(extent):
            moved = np.nonzero(row > 1)[0].tolist()
            stay, slide, glide = (int(value) for value in classes[k])
            missing = [d for d in moved if stay >= 0 and not int(self.layer.uses[stay]) >> d & 1]
            inner = [*(d for d in missing if d != slide), *([slide] if slide in moved else [])]
            rest = [d for d in moved if d not in inner and d != glide]
            middle = [glide] if glide in moved and glide not in inner else []
            orders.append((*rest, *middle, *inner))
        return self._write(choice, extent, spread, orders)

    def _write(
        self,
        choice: _Choice,
        extent: Integers,
        spread: Integers,
        orders: list[tuple[int, ...]],
    ) -> Mapping:
        blocks: list[Block] = []
        names = [operand.name for operand in self.workload.operands]
        left = self._left(extent, spread)
        for k, level in enumerate(self.hardware.levels):
            temporal = tuple(Loop(self.dims[d], int(extent[k, d])) for d in orders[k])
            spatial = self._spatial(choice, k, spread[k], left[k])
            kept = tuple(n for n, keep in zip(names, choice.keeps[k], strict=True) if keep)
            if kept or temporal or spatial:
                blocks.append(Block(level.memory, kept, temporal, spatial))
        return Mapping(tuple(blocks))

    def _left(self, extent: Integers, spread: Integers) -> Integers:
        """(K, D) how many tiles unrolling has to cover at most."""
        left = np.zeros_like(extent)
        tile = np.ones(extent.shape[1], np.int64)
        for k in range(len(extent) - 1, -1, -1):
            left[k] = -(-self.layer.size // tile)
            tile = tile * spread[k] * extent[k]
        return left

    def _spatial(
        self, choice: _Choice, k: int, spread: Integers, left: Integers
    ) -> tuple[Loop, ...]:
        if not (spread > 1).any():
            return ()
        plan = choice.plan
        low, high = plan.spread_start[k], plan.spread_start[k + 1]
        (row,) = np.nonzero((plan.spreads[low:high] == spread).all(axis=1))[0][:1]
        loops: list[Loop] = []
        for d, dim in enumerate(self.dims):
            along_y = min(int(plan.along_y[low + row, d]), int(left[d]))
            most = -(-int(left[d]) // along_y)
            along_x = min(int(spread[d]) // int(plan.along_y[low + row, d]), most)
            loops += [Loop(dim, n, axis) for n, axis in ((along_x, "x"), (along_y, "y")) if n > 1]
        return tuple(loops)


def _value(cost: Cost, key: int) -> float:
    if key == kernels.ENERGY:
        return cost.energy_pj
    if key == kernels.CYCLES:
        return cost.cycles
    return cost.edp if key == kernels.EDP else cost.dram_words


def _parents(keeps: Mask) -> Integers:
    levels, operands = keeps.shape
    parent = np.full((levels + 1, operands), -1, np.int64)
    for c in range(1, levels + 1):
        for o in range(operands):
            parent[c, o] = max(k for k in range(c) if keeps[k, o])
    return parent


def _chain(layer: Layer, keeps: Mask, parent: Integers) -> Chain:
    levels, dims = keeps.shape[0], len(layer.size)
    reach = 1
    for rank in range(len(layer.rank_op)):
        b = int(layer.rank_b[rank])
        size_b = int(layer.size[b]) if b >= 0 else 1
        along_a = int(layer.step_a[rank]) * int(layer.size[layer.rank_a[rank]])
        reach = max(reach, along_a + int(layer.step_b[rank]) * size_b + 2)
    return Chain(
        keeps=keeps,
        parent=parent,
        tile=np.ones((levels + 1, dims), np.int64),
        span=np.ones((levels, dims), np.int64),
        extent=np.ones((levels, dims), np.int64),
        spread=np.ones((levels, dims), np.int64),
        moved=np.zeros(levels, np.int64),
        sums=np.zeros(4),
        reads=np.zeros(levels),
        writes=np.zeros(levels),
        loose=np.zeros(1, np.int64),
        words=np.zeros(4 * reach, np.int64),
    )


def _make_state(levels: int, dims: int, operands: int, widest: int, room: int) -> kernels.State:
    def whole(*shape: int) -> Integers:
        return np.zeros(shape, np.int64)

    return kernels.State(
        inside=np.zeros(levels + 1),
        inside_words=np.zeros(levels + 1),
        value=np.zeros(4),
        limits=np.full(4, np.inf),
        best=np.full(4, np.inf),
        order=np.full(4, -1, np.int64),
        found=whole(1),
        best_extent=whole(levels, dims),
        best_spread=whole(levels, dims),
        best_class=whole(levels, 3),
        buffer_extent=whole(room, levels, dims),
        buffer_spread=whole(room, levels, dims),
        buffer_class=whole(room, levels, 3),
        buffer_value=np.zeros((room, 4)),
        buffer_loose=whole(room),
        rows=whole(2),
        step=whole(levels),
        spread=whole(levels),
        entry=whole(levels),
        option=whole(levels),
        unrolled=whole(levels, dims),
        cell=whole(levels),
        is_bare=whole(levels),
        floor=np.zeros(levels),
        known=np.zeros(levels),
        mac_words=np.zeros(levels),
        moved_rest=np.zeros(levels),
        bound=np.zeros(levels),
        bound_words=np.zeros(levels),
        cycles=np.zeros(levels),
        counts=whole(4),
        moves=np.zeros(operands),
        bare=np.zeros((levels, operands)),
        cuts=np.zeros((levels, operands, dims, widest + 1)),
        kinds=whole(levels, operands),
        paid=np.zeros((levels, operands)),
        moving=np.zeros(levels),
        sure=np.zeros(levels),
        pick=whole(levels, dims),
        low=whole(levels, dims),
        high=whole(levels, dims),
        number=whole(levels),
        chosen=whole(levels),
        classes=whole(levels, 64, 3),
        class_sums=np.zeros((levels, 64, 4)),
        class_reads=np.zeros((levels, 64, levels)),
        class_writes=np.zeros((levels, 64, levels)),
        base_reads=np.zeros(levels),
        base_writes=np.zeros(levels),
    )
