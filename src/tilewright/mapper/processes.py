"""Mapping layers in processes of their own, that Ctrl-C ends without losing what they have.

Owns: `stop_on_interrupt`, `solve_all`, `solve_until`, and what a pool of processes runs.

Non-goals: what is solved next (`mapper/design.py`, `mapper/cores.py`); the layers of one network on
one chip (`mapper/network.py`).
"""

import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from threading import Event as ThreadEvent
from typing import TYPE_CHECKING, Protocol

from tilewright.mapper.layer import solve_layer
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Stop
from tilewright.mapper.solved import SolvedLayers

if TYPE_CHECKING:
    from tilewright.mapper.optimal import Progress

OnResult = Callable[[int, LayerResult], None]


class StopEvent(Protocol):
    """An event of a thread or of a process."""

    def set(self) -> None: ...

    def is_set(self) -> bool: ...


@contextmanager
def stop_on_interrupt(stop: StopEvent) -> Generator[None]:
    """Let Ctrl-C end the search, which then hands in what it has, instead of this process."""
    try:
        before = signal.signal(signal.SIGINT, lambda _number, _frame: stop.set())
    except ValueError:  # not the main thread: the caller's own handling stays
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def make_pool(jobs: int, context: SpawnContext, stop: StopEvent) -> ProcessPoolExecutor:
    """A pool whose processes run `solve_in_process` and stop when the event is set."""
    return ProcessPoolExecutor(min(jobs, os.cpu_count() or 1), context, _prepare, (stop,))


_stop_of_process: StopEvent | None = None


def _prepare(stop: StopEvent) -> None:
    global _stop_of_process  # noqa: PLW0603 - an event reaches a process when it starts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _stop_of_process = stop


def solve_in_process(question: Question, enough: float = math.inf) -> LayerResult:
    """Map a layer, in a process of `make_pool`: see `solve_until`."""
    stop = _stop_of_process
    assert stop is not None
    return solve_until(question, enough=enough, should_stop=stop.is_set)


def solve_until(question: Question, *, enough: float, should_stop: Stop) -> LayerResult:
    """Map a layer, until it is proved that nothing is below `enough`, in the objective's unit."""
    seen = False

    def look(progress: "Progress") -> None:
        nonlocal seen
        seen = seen or progress.lower_bound >= enough

    return solve_layer(question, should_stop=lambda: seen or should_stop(), on_progress=look)


def solve_all(
    questions: Sequence[Question],
    *,
    jobs: int = 1,
    solved: SolvedLayers | None = None,
    should_stop: Stop = lambda: False,
    on_result: OnResult = lambda _, __: None,
) -> bool:
    """Map layers on chips, several side by side.

    Args:
        questions: what to map, on what, and how long; fixes are verified already.
        jobs: processes; with 1, this one.
        solved: where answers are kept; what it knows is not searched again.
        should_stop: asked now and then.
        on_result: called with the place in `questions` and the result, as they come.

    Returns: whether it was stopped before its end; then some results are missing, and the last
    ones may be less than the best.
    """
    rest: dict[int, Question] = {}
    for place, question in enumerate(questions):
        known = None if solved is None else solved.find(question)
        if known is None:
            rest[place] = question
        else:
            on_result(place, known)

    def take(place: int, result: LayerResult) -> None:
        if solved is not None:
            solved.keep(questions[place], result)
        on_result(place, result)

    if jobs > 1 and len(rest) > 1:
        return _solve_in_processes(rest, jobs, should_stop, take)
    return _solve_here(rest, should_stop, take)


def _solve_here(asked: Mapping[int, Question], should_stop: Stop, on_result: OnResult) -> bool:
    stop = ThreadEvent()
    with stop_on_interrupt(stop):

        def stopped() -> bool:
            return stop.is_set() or should_stop()

        for place, question in asked.items():
            if stopped():
                return True
            found = solve_layer(question, should_stop=stopped)
            if found.cost is not None or not found.interrupted:
                on_result(place, found)
        return stopped()


def _solve_in_processes(
    asked: Mapping[int, Question], jobs: int, should_stop: Stop, on_result: OnResult
) -> bool:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with make_pool(jobs, context, stop) as pool, stop_on_interrupt(stop):
        futures: dict[Future[LayerResult], int] = {
            pool.submit(solve_in_process, question): place for place, question in asked.items()
        }
        for future in as_completed(futures):
            found = future.result()
            if found.cost is not None or not found.interrupted:
                on_result(futures[future], found)
            if should_stop():
                stop.set()
        return stop.is_set()
