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
from threading import Event as ThreadEvent
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from tilewright.ir.fix import Fix, parse_fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.verify_fix import verify_fix
from tilewright.ir.workload import Network
from tilewright.mapper.layer import solve_layer
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, NetworkResult, Objective, find_objective
from tilewright.mapper.solved import SolvedLayers
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
    asked = [
        Question(layer.workload, hardware, goal, rules, imperfect, uneven, given, share, seed)
        for layer in network.layers
    ]
    repeats = [layer.repeat for layer in network.layers]

    def tell(index: int, result: LayerResult) -> None:
        on_layer(result.repeated(repeats[index]))

    found, interrupted = _solve(asked, count, solved, tell, on_progress)
    space = Mapspace(network.layers[0].workload, hardware, imperfect, uneven, given)
    return NetworkResult(
        network,
        hardware,
        rules,
        goal,
        space.title,
        tuple(found[i].repeated(repeats[i]) for i in sorted(found)),
        time.monotonic() - began,
        seed,
        interrupted,
        given,
    )


Found = tuple[dict[int, LayerResult], bool]


def _solve(
    asked: list[Question],
    count: int,
    solved: SolvedLayers | None,
    tell: OnResult,
    on_progress: OnLayerProgress,
) -> Found:
    """All answers, by index; those that were found before are not searched again."""
    found: dict[int, LayerResult] = {}
    for index, question in enumerate(asked if solved else ()):
        known = solved.find(question) if solved else None
        if known is not None:
            found[index] = known
            tell(index, known)
    rest = {index: question for index, question in enumerate(asked) if index not in found}
    if not rest:
        return found, False

    def take(index: int, result: LayerResult) -> None:
        if solved:
            solved.keep(asked[index], result)
        found[index] = result
        tell(index, result)

    if count == 1 or len(rest) == 1:
        return found, _solve_here(rest, take, on_progress)
    return found, _solve_in_processes(rest, min(count, len(rest)), take, on_progress)


def _solve_here(asked: dict[int, Question], take: OnResult, on_progress: OnLayerProgress) -> bool:
    """Answer one by one; whether that was interrupted."""
    stop = ThreadEvent()
    with _stop_on_interrupt(stop):
        for index, question in asked.items():
            result = _answer(question, stop, on_progress)
            if result.cost or not result.interrupted:
                take(index, result)
            if result.interrupted:
                return True
    return False


def _answer(question: Question, stop: _Event, on_progress: OnLayerProgress) -> LayerResult:
    name = question.workload.name
    return solve_layer(
        question,
        should_stop=stop.is_set,
        on_progress=lambda progress: on_progress(name, progress),
    )


def _solve_in_processes(
    asked: dict[int, Question], count: int, take: OnResult, on_progress: OnLayerProgress
) -> bool:
    """Answer side by side; whether that was interrupted."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    news: _News = context.Queue()
    with (
        _listening(news, on_progress),
        ProcessPoolExecutor(count, context, _prepare_process, (stop, news)) as pool,
        _stop_on_interrupt(stop) as interrupted,
    ):
        futures: dict[Future[LayerResult], int] = {
            pool.submit(_answer_in_process, question): index for index, question in asked.items()
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


_process: tuple[_Event, _News] | None = None


def _prepare_process(stop: _Event, news: _News) -> None:
    global _process  # noqa: PLW0603 - an event reaches a process when it starts, or not at all
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _process = stop, news


def _answer_in_process(question: Question) -> LayerResult:
    assert _process is not None
    stop, news = _process

    def report(name: str, progress: "Progress") -> None:
        news.put((name, progress))

    return _answer(question, stop, report)
