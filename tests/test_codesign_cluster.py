"""Layers mapped by the workers of a Dask cluster, some of which die."""

# Dask types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import os
import signal
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import codesign_cases as cases
import pytest

from tilewright.errors import MissingToolError
from tilewright.joint.crew import Ask, Solved, make_crew
from tilewright.mapper.result import Objective

pytestmark = pytest.mark.filterwarnings("ignore")  # a cluster whose workers die complains


@pytest.fixture
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    ) as found:
        yield found


def asks() -> list[Ask]:
    chips = [cases.SPACE.chip(choice) for choice in cases.choices()]
    layers = [layer.workload for layer in cases.NETWORK.layers]
    return [Ask(layer, chip, Objective.ENERGY) for chip in chips[:6] for layer in layers]


def here() -> dict[int, Solved]:
    with make_crew() as crew:
        return dict(crew.solve(asks(), lambda: False))


def test_workers_killed_in_mid_run_lose_nothing(cluster: Any) -> None:
    expected = here()
    done = Event()
    killed: list[int] = []

    def kill() -> None:
        """One worker after another, as long as the study runs, at most three."""
        while not done.wait(1.0) and len(killed) < 3:
            pids = [worker.process.pid for worker in cluster.workers.values() if worker.process]
            if pids:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

    with make_crew(cluster=cluster.scheduler_address) as crew:
        found: dict[int, Solved] = {}
        killer = Thread(target=kill)
        killer.start()
        for place, solved in crew.solve(asks(), lambda: False):
            assert place not in found
            found[place] = solved
        done.set()
        killer.join()
    assert killed
    assert found == expected


def test_a_stop_ends_the_work(cluster: Any) -> None:
    with make_crew(cluster=cluster.scheduler_address) as crew:
        assert len(list(crew.solve(asks(), lambda: True))) < len(asks())


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    with (
        pytest.raises(MissingToolError, match=r"no Dask scheduler answers at 127\.0\.0\.1:9"),
        make_crew(cluster="127.0.0.1:9"),
    ):
        pass
