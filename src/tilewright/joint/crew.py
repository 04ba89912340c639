"""Who maps layers on chips: this process, others on this machine, or a cluster.

Owns: the noun `Solved`, the protocol `Crew`, `make_crew`.

Non-goals: which layers and chips (`joint/finish.py`), how one is mapped (`mapper/layer.py`).
"""

# Dask types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from tilewright.errors import MissingToolError, Problem
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import format_mapping
from tilewright.ir.workload import Workload
from tilewright.mapper.layer import find_mapping
from tilewright.mapper.processes import make_pool, solve_in_process
from tilewright.mapper.question import Question
from tilewright.mapper.result import LayerResult, Objective, Status

Stop = Callable[[], bool]
_PAUSE_S = 0.2
_CONNECT_S = 10
_MOST_TRIES = 5
"""How often a layer is tried anew whose worker died."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A layer to map on a chip, what to minimise, and the time that there is."""

    workload: Workload
    chip: Hardware
    objective: Objective
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Solved:
    """A mapping that a mapper found, priced by `exact`; no mapping if there is none.

    Attributes:
        mapping: in its notation.
        energy_pj: of one run of the layer.
        cycles: likewise.
        lower_bound: of the objective, in its unit; 0 if not known.
        proved: whether it is the best.
    """

    mapping: str | None
    energy_pj: float
    cycles: int
    lower_bound: float
    proved: bool

    def to_json(self) -> list[object]:
        """The fields, as a list."""
        return [self.mapping, self.energy_pj, self.cycles, self.lower_bound, self.proved]


class Crew(Protocol):
    """Maps layers, in any order."""

    def solve(self, asks: Sequence[Ask], should_stop: Stop) -> Iterator[tuple[int, Solved]]:
        """Results with their places in `asks`, as they come; fewer if it is stopped."""
        ...


def solved_of(result: LayerResult) -> Solved:
    """What is kept of a mapper's answer."""
    cost = result.cost
    bound = result.lower_bound or 0.0
    if cost is None:
        return Solved(None, 0.0, 0, bound, result.status is Status.INFEASIBLE)
    proved = result.status is Status.OPTIMAL
    return Solved(format_mapping(cost.mapping), cost.energy_pj, cost.cycles, bound, proved)


class _Here:
    def solve(self, asks: Sequence[Ask], should_stop: Stop) -> Iterator[tuple[int, Solved]]:
        for place, ask in enumerate(asks):
            if should_stop():
                return
            found = find_mapping(
                ask.workload,
                ask.chip,
                objective=ask.objective,
                seconds=ask.seconds,
                should_stop=should_stop,
            )
            if not found.interrupted:
                yield place, solved_of(found)


class _Processes:
    def __init__(self, pool: Any, stop: Any) -> None:
        self._pool, self._stop = pool, stop

    def solve(self, asks: Sequence[Ask], should_stop: Stop) -> Iterator[tuple[int, Solved]]:
        self._stop.clear()
        futures: dict[Future[LayerResult], int] = {
            self._pool.submit(
                solve_in_process,
                Question(ask.workload, ask.chip, ask.objective, seconds=ask.seconds),
            ): place
            for place, ask in enumerate(asks)
        }
        left = set(futures)
        while left:
            done, left = wait(left, timeout=_PAUSE_S, return_when=FIRST_COMPLETED)
            if should_stop():
                self._stop.set()
                for future in left:
                    future.cancel()
                left = {future for future in left if not future.cancelled()}
            for future in done:
                found = future.result()
                if not found.interrupted:
                    yield futures[future], solved_of(found)


def solve_on_worker(ask: Ask) -> Solved:
    """What a worker of a cluster runs."""
    found = find_mapping(ask.workload, ask.chip, objective=ask.objective, seconds=ask.seconds)
    return solved_of(found)


class _Cluster:
    def __init__(self, client: Any) -> None:
        self._client = client

    def solve(self, asks: Sequence[Ask], should_stop: Stop) -> Iterator[tuple[int, Solved]]:
        from distributed import wait as wait_for

        tries = dict.fromkeys(range(len(asks)), 0)
        running: dict[Any, int] = {}
        waiting = list(tries)
        while running or waiting:
            for place in waiting:
                # A layer is mapped again if its worker dies: it depends on nothing else.
                future = self._client.submit(solve_on_worker, asks[place], pure=False)
                running[future] = place
            waiting = []
            with suppress(TimeoutError):
                wait_for(list(running), timeout=_PAUSE_S, return_when="FIRST_COMPLETED")
            if should_stop():
                self._client.cancel(list(running))
                return
            for future in [future for future in running if future.done()]:
                place = running.pop(future)
                if future.status == "finished":
                    yield place, future.result()
                    continue
                tries[place] += 1
                if tries[place] >= _MOST_TRIES:
                    what = f"{asks[place].workload.name} failed {_MOST_TRIES} times on the cluster"
                    reason = f"the last time: {future.exception()}"
                    raise MissingToolError(Problem(what, reason))
                waiting.append(place)


@contextmanager
def make_crew(jobs: int = 1, cluster: str | None = None) -> Generator[Crew]:
    """A crew: the workers of a Dask cluster, or `jobs` processes, or this one.

    Raises: `MissingToolError` if Dask, the extra `cluster`, is not installed, or nothing answers.
    """
    if cluster is not None:
        with _client(cluster) as client:
            yield _Cluster(client)
    elif jobs > 1:
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        with make_pool(jobs, context, stop) as pool:
            yield _Processes(pool, stop)
    else:
        yield _Here()


@contextmanager
def _client(address: str) -> Generator[Any]:
    try:
        from distributed import Client
    except ImportError:
        what = "a cluster needs Dask, which is not installed"
        raise MissingToolError(Problem(what, "pip install 'tilewright[cluster]'")) from None
    try:
        client = Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        what = f"no Dask scheduler answers at {address}: {error}"
        raise MissingToolError(Problem(what, "start one: dask scheduler")) from None
    try:
        yield client
    finally:
        client.close()
