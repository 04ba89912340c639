"""Fronts by sweeping a bound, beside fronts by weighted sums, at equal processor time.

`python experiments/codesign_fronts.py [--seconds 20] [--seeds 3]`: latency against power on
ResNet-18 within an area. Both are the local search of `codesign` with ten seats; what differs is
what the seats want. Writes `front.md` in `--out`, which `resnet18_codesign.py` puts into its page.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from codesign_rivals import Bench, Spent

import tilewright as tw
from tilewright.joint.goal import BOUND_WEIGHT, Goal, Metric, Totals
from tilewright.joint.population import (
    Population,
    Task,
    begin,
    drawn_starts,
    make_task,
    run_round,
    with_goals,
)
from tilewright.joint.study import gather_layers, swept

SPACE = "eyeriss-space"
AREA_MM2 = 4.0
POINTS = 10
ANCHOR_SHARE = 0.25
BEST, WORST = np.array([1e-3, 1e-3]), np.array([10.0, 10.0])
"""Latency in s and power in W."""
SCALE = {Metric.LATENCY: 0.05, Metric.POWER: 0.3}
"""What makes latency and power comparable: about the middle of the front."""


@dataclass(frozen=True)
class Weighted:
    """A goal that is a weighted sum of latency and power, within an area."""

    power: float
    bounds: tuple[tuple[Metric, float], ...] = ((Metric.AREA, AREA_MM2),)
    objective: Metric = Metric.LATENCY

    def parts(self, totals: Totals) -> tuple[Any, Any]:
        return (
            (1 - self.power) * totals.of(Metric.LATENCY) / SCALE[Metric.LATENCY],
            self.power * totals.of(Metric.POWER) / SCALE[Metric.POWER],
        )

    def merit(self, totals: Totals) -> Any:
        over = np.maximum(np.log(totals.of(Metric.AREA) / AREA_MM2), 0)
        return np.log(sum(self.parts(totals))) + BOUND_WEIGHT * over

    def slopes(self, totals: Totals) -> tuple[Any, Any]:
        slow, hot = self.parts(totals)
        whole = slow + hot
        return (hot + 1e-3 * whole) / whole, np.maximum(slow - hot, 1e-3 * whole) / whole

    def excess(self, totals: Totals) -> dict[Metric, float]:
        share = float(totals.of(Metric.AREA) / AREA_MM2)
        return {Metric.AREA: share} if share > 1 else {}


def search(task: Task, goals: Sequence[Any], seconds: float, seed: int, *, sweep: bool) -> Bench:
    """Rounds until the time is over; with `sweep`, bounds are set after a quarter of it."""
    bench = Bench(task, Goal(Metric.LATENCY), seconds)
    random = np.random.default_rng(seed)
    now = begin(task, goals, drawn_starts(task, goals, random), seed)
    number = 0
    anchors = sweep
    try:
        while True:
            bench.check()
            if anchors and bench.spent > ANCHOR_SHARE * seconds:
                goal = cast("Goal", goals[0])
                now = with_goals(task, now, swept(task, now, goal, Metric.POWER, POINTS))
                anchors = False
            number += 1
            now = run_round(task, now, seed, number)
            note(bench, now)
    except Spent:
        return bench


def note(bench: Bench, now: Population) -> None:
    areas = bench.task.sites.areas(now.choices)
    fits = [seat for seat in range(now.seats) if areas[seat] <= AREA_MM2]
    if fits:
        choices = [now.choices[seat] for seat in fits]
        bench.note(choices, now.energy[:, fits], now.cycles[:, fits], now.excess[:, fits])


def hypervolume(archive: np.ndarray) -> float:
    from pymoo.indicators.hv import HV

    if not len(archive):
        return 0.0
    span = np.log(WORST / BEST)
    return float(HV(ref_point=np.ones(2))(np.log(archive[:, :2] / BEST) / span) or 0.0)


def front2(archive: np.ndarray) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for latency, power, _ in sorted(map(tuple, archive.tolist())):
        if not found or power < found[-1][1]:
            found.append((latency, power))
    return found


def hull(points: Sequence[tuple[float, float]]) -> int:
    """How many points of a front a weighted sum can reach: those on its lower convex hull."""
    kept: list[tuple[float, float]] = []
    for x, y in points:
        while len(kept) > 1:
            (a, b), (c, d) = kept[-2:]
            if (c - a) * (y - b) - (d - b) * (x - a) <= 0:
                kept.pop()
            else:
                break
        kept.append((x, y))
    return len(kept)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="of processor time, each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/resnet18-codesign"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    task = make_task(tw.load_space(SPACE), gather_layers([(tw.load("resnet18"), 1.0)]))
    area = ((Metric.AREA, AREA_MM2),)
    ends = [Goal(Metric.LATENCY, area)] * 5 + [Goal(Metric.POWER, area)] * 5
    sums = [Weighted(float(w)) for w in np.linspace(0.05, 0.95, POINTS)]
    began = time.process_time()
    search(task, ends, 1.0, 99, sweep=False)  # compiles
    rows: dict[str, list[tuple[float, int, int]]] = {}
    for seed in range(options.seeds):
        for name, goals, sweep in (("swept bound", ends, True), ("weighted sums", sums, False)):
            bench = search(task, goals, options.seconds, seed, sweep=sweep)
            points = front2(bench.archive)
            row = (hypervolume(bench.archive), len(points), hull(points))
            rows.setdefault(name, []).append(row)
            print(name, seed, row, f"{time.process_time() - began:.0f} s", flush=True)
    write(rows, options)


def write(rows: dict[str, list[tuple[float, int, int]]], options: argparse.Namespace) -> None:
    lines = [
        "## Fronts: a swept bound beside weighted sums",
        "",
        "`python experiments/codesign_fronts.py`: latency against power within",
        f"{AREA_MM2:g} mm², ten seats, {options.seconds:g} s of processor time,",
        f"{options.seeds} seeds; by the batch model. A weighted sum can reach no point off the",
        "convex hull of the front.",
        "",
        "| seats want | hypervolume, each seed | points, median | on the hull, median |",
        "|---|---|---|---|",
    ]
    for name, found in rows.items():
        volumes = ", ".join(f"{row[0]:.4f}" for row in found)
        counts = (statistics.median(row[at] for row in found) for at in (1, 2))
        lines.append(f"| {name} | {volumes} | " + " | ".join(f"{x:g}" for x in counts) + " |")
    (options.out / "front.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
