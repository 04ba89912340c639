"""The layers of a network, mapped side by side.

Owns: `map_network`: processes, progress, interruption.

Non-goals: how one layer is mapped (`mapper/layer.py`).
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as ThreadEvent
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from tilewright.ir.fix import Fix, parse_fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.verify_fix import verify_fix
from tilewright.ir.workload import Layer, Network
from tilewright.mapper.layer import solve_layer
from tilewright.mapper.result import LayerResult, NetworkResult, Objective, find_objective
from tilewright.mapper.solved import Question, SolvedLayers
from tilewright.mapspace.space import Mapspace
from tilewright.model.convention import DEFAULT, Convention, find_convention

if TYPE_CHECKING:
    from tilewright.mapper.optimal import Progress

OnLayer = Callable[[LayerResult], None]
OnResult = Callable[[int, LayerResult], None]
OnLayerProgress = Callable[[str, "Progress"], None]
"""Told a layer's name and how far its search has come."""


class _Event(Protocol):
    def set(self) -> None: ...

    def is_set(self) -> bool: ...


class _News(Protocol):
    """A queue of what processes report; `None` ends it."""

    def put(self, obj: "tuple[str, Progress] | None") -> None: ...
    def get(self) -> "tuple[str, Progress] | None": ...


@dataclass(frozen=True, slots=True)
class _Task:
    """What is asked of a process, the same for every layer."""

    hardware: Hardware
    objective: Objective
    convention: Convention
    imperfect: bool
    uneven: bool
    fix: Fix | None
    seconds: float | None
    seed: int

    def question(self, layer: Layer) -> Question:
        """What decides a layer's answer."""
        return Question(
            layer.workload,
            self.hardware,
            self.objective,
            self.convention,
            self.imperfect,
            self.uneven,
            self.fix,
            self.seconds,
            self.seed,
        )

    def solve(self, layer: Layer, stop: _Event, on_progress: OnLayerProgress) -> LayerResult:
        found = solve_layer(
            layer.workload,
            self.hardware,
            objective=self.objective,
            convention=self.convention,
            imperfect=self.imperfect,
            uneven=self.uneven,
            fix=self.fix,
            seconds=self.seconds,
            seed=self.seed,
            should_stop=stop.is_set,
            on_progress=lambda progress: on_progress(layer.workload.name, progress),
        )
        return found.repeated(layer.repeat)


def map_network(  # noqa: PLR0913
    network: Network,
    hardware: Hardware,
    *,
    objective: str | Objective = Objective.ENERGY,
    convention: str | Convention = DEFAULT,
    imperfect: bool = False,
    uneven: bool = False,
    fix: str | Fix | None = None,
    seconds: float | None = None,
    jobs: int | None = None,
    seed: int = 0,
    solved: SolvedLayers | None = None,
    on_layer: OnLayer = lambda _: None,
    on_progress: OnLayerProgress = lambda _, __: None,
) -> NetworkResult:
    """Map every layer of a network on a chip.

    Args:
        network: its layers; equal ones are solved once.
        hardware: the chip.
        objective: what each layer's mapping minimises; see `find_mapping`.
        convention: the rules to count by.
        imperfect: also use tiles that are clipped.
        uneven: also keep operands at different places of one level's loops.
        fix: what every layer's mapping must contain, in mapping notation (`docs/fix.md`).
        seconds: for the whole network, shared out over its layers; see `find_mapping`.
        jobs: processes to use; as many as there are cores if left out.
        seed: of the random choices.
        solved: where answers are kept; layers that it knows are not solved again.
        on_layer: called with every layer's result when it is there.
        on_progress: called now and then with a layer's name and how far its search has come.

    Returns: the results in the order of the network. A layer without a mapping does not stop the
    others. After Ctrl-C, those that there are, `interrupted`.

    Raises: `InputError` if the fix cannot be a part of a mapping of every layer on this chip.

    >>> from tilewright import zoo
    >>> result = map_network(zoo.load_network("yang2016"), zoo.load_hardware("eyeriss"), jobs=1)
    ... # doctest: +SKIP
    """
    began = time.monotonic()
    count = max(1, min(jobs or os.cpu_count() or 1, len(network.layers)))
    share = None if seconds is None else seconds * count / max(1, len(network.layers))
    rules, goal = find_convention(convention), find_objective(objective)
    given = parse_fix(fix) if isinstance(fix, str) else fix
    if given is not None:
        layers = [layer.workload for layer in network.layers]
        verify_fix(layers, hardware, given, imperfect=imperfect, uneven=uneven)
    task = _Task(hardware, goal, rules, imperfect, uneven, given, share, seed)
    found, interrupted = _solve(network.layers, task, count, solved, on_layer, on_progress)
    space = Mapspace(network.layers[0].workload, hardware, imperfect, uneven, given)
    return NetworkResult(
        network,
        hardware,
        rules,
        goal,
        space.title,
        tuple(found[i] for i in sorted(found)),
        time.monotonic() - began,
        seed,
        interrupted,
        given,
    )


Found = tuple[dict[int, LayerResult], bool]


def _solve(  # noqa: PLR0913, PLR0917
    layers: tuple[Layer, ...],
    task: _Task,
    count: int,
    solved: SolvedLayers | None,
    on_layer: OnLayer,
    on_progress: OnLayerProgress,
) -> Found:
    """All layers, by index; those that were solved before are not solved again."""
    found: dict[int, LayerResult] = {}
    for index, layer in enumerate(layers if solved else ()):
        known = solved.find(task.question(layer)) if solved else None
        if known is not None:
            found[index] = known.repeated(layer.repeat)
            on_layer(found[index])
    rest = {index: layer for index, layer in enumerate(layers) if index not in found}
    if not rest:
        return found, False

    def take(index: int, result: LayerResult) -> None:
        found[index] = result
        if solved:
            solved.keep(task.question(layers[index]), result)
        on_layer(result)

    solve = _solve_here if count == 1 or len(rest) == 1 else _solve_in_processes
    return found, solve(rest, task, min(count, len(rest)), take, on_progress)


def _solve_here(
    layers: dict[int, Layer], task: _Task, _: int, take: OnResult, on_progress: OnLayerProgress
) -> bool:
    """Solve layers one by one; whether that was interrupted."""
    stop = ThreadEvent()
    with _stop_on_interrupt(stop):
        for index, layer in layers.items():
            result = task.solve(layer, stop, on_progress)
            if result.cost or not result.interrupted:
                take(index, result)
            if result.interrupted:
                return True
    return False


def _solve_in_processes(
    layers: dict[int, Layer], task: _Task, count: int, take: OnResult, on_progress: OnLayerProgress
) -> bool:
    """Solve layers side by side; whether that was interrupted."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    news: _News = context.Queue()
    with (
        _listening(news, on_progress),
        ProcessPoolExecutor(count, context, _prepare_process, (task, stop, news)) as pool,
        _stop_on_interrupt(stop) as interrupted,
    ):
        futures: dict[Future[LayerResult], int] = {
            pool.submit(_solve_in_process, layer): index for index, layer in layers.items()
        }
        for future in as_completed(futures):
            result = future.result()
            if result.cost or not result.interrupted:
                take(futures[future], result)
    return interrupted()


@contextmanager
def _stop_on_interrupt(stop: _Event) -> Generator[Callable[[], bool]]:
    """Let Ctrl-C end the searches, which then hand in what they have, instead of this process."""

    def end_searches(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    try:
        before = signal.signal(signal.SIGINT, end_searches)
    except ValueError:  # not the main thread: the caller's own handling stays
        yield stop.is_set
        return
    try:
        yield stop.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _listening(news: _News, on_progress: OnLayerProgress) -> Generator[None]:
    """Pass on what the processes report, in a thread of its own."""

    def pass_on() -> None:
        while (item := news.get()) is not None:
            on_progress(*item)

    listener = Thread(target=pass_on, daemon=True)
    listener.start()
    try:
        yield
    finally:
        news.put(None)
        listener.join()


_process: tuple[_Task, _Event, _News] | None = None


def _prepare_process(task: _Task, stop: _Event, news: _News) -> None:
    global _process  # noqa: PLW0603 - an event reaches a process when it starts, or not at all
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _process = task, stop, news


def _solve_in_process(layer: Layer) -> LayerResult:
    assert _process is not None
    task, stop, news = _process

    def report(name: str, progress: "Progress") -> None:
        news.put((name, progress))

    return task.solve(layer, stop, report)
