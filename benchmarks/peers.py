"""Compare what we find with what other mappers found; writes benchmarks/PEERS.md.

Every recorded run of a peer that can be said in our nouns is solved anew. Figures are compared
where both sides count alike: the peer's mapping by our rules, our mapping by the peer's rules.
`python -m benchmarks.peers --zigzag PYTHON --accelforge PYTHON` also runs peers side by side.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.peer_cases import DATA, Case, all_cases, array_chip, array_layer, value_of

import tilewright as tw

PAGE = Path(__file__).parent / "PEERS.md"
LIVE_LAYERS = ("conv2", "conv4_2", "conv5_2")
QUICK = 3.0
"""CPU seconds up to which a solve is repeated, for the median."""


@dataclass(frozen=True)
class Outcome:
    """A case, and what we make of it.

    Attributes:
        case: the peer's run.
        found: our optimum.
        cpu: CPU seconds of finding it: the median of three if that is quick, else of the second
            search, since the first may have compiled kernels for a new kind of chip.
        theirs: the objective of the peer's mapping in our counts.
    """

    case: Case
    found: tw.LayerResult
    cpu: float
    theirs: float | None

    @property
    def ours(self) -> float:
        """The objective of our mapping in our counts."""
        return _value(self.case, self.found.cost)

    @property
    def by_our_rules(self) -> float | None:
        """Ours over the peer's mapping, both in our counts."""
        return None if self.theirs is None else self.ours / self.theirs

    @property
    def by_their_rules(self) -> float | None:
        """Ours over the peer's figure, both in the peer's counts."""
        cost, case = self.found.cost, self.case
        if case.recount is None or case.figure is None or cost is None:
            return None
        return case.recount(cost) / case.figure


@dataclass(frozen=True)
class Pair:
    """A layer solved by a peer and by us, in turns on the same machine: medians of three."""

    peer: str
    layer: str
    their_energy: float
    our_energy: float
    their_cpu: float
    our_cpu: float


def _value(case: Case, cost: tw.Cost | None) -> float:
    return math.nan if cost is None else value_of(case.objective, cost.energy_pj, cost.cycles)


def solve(case: Case, seconds: float | None) -> tuple[tw.LayerResult, float]:
    """Our optimum and the CPU seconds of one search for it."""
    began = time.process_time()
    found = tw.find_mapping(case.workload, case.hardware, objective=case.objective, seconds=seconds)
    return found, time.process_time() - began


def examine(case: Case, seconds: float | None) -> Outcome:
    """Price the peer's mapping and solve its problem."""
    found, cpu = solve(case, seconds)
    if cpu < QUICK:
        cpu = statistics.median([cpu, *(solve(case, seconds)[1] for _ in range(2))])
    else:
        found, cpu = solve(case, seconds)
    theirs = None
    if case.mapping is not None:
        theirs = _value(case, tw.evaluate(case.workload, case.hardware, case.mapping))
    return Outcome(case, found, cpu, theirs)


def warm_up() -> None:
    """Have every kernel compiled, or loaded from the cache, before a clock runs."""
    layer = tw.conv2d("warm-up", K=4, C=4, P=4, Q=4, R=3, S=3)
    for objective in ("energy", "edp"):
        tw.find_mapping(layer, array_chip(("C",), shared_port=False), objective=objective)


def side_by_side(peer: str, python: str, script: str) -> Iterator[Pair]:
    """Run a peer and us in turns, three times each layer."""
    sizes = json.loads((DATA / "tpu_like.json").read_text(encoding="utf-8"))["layers"]
    rows = ("C",) if peer == "ZigZag" else ("C", "R", "S")
    chip = array_chip(rows, shared_port=peer != "ZigZag")
    for name in LIVE_LAYERS:
        case = Case(peer, "", name, "energy", array_layer(name), chip, None)
        theirs: list[dict[str, float]] = []
        ours: list[float] = []
        found = solve(case, None)[0]
        for _ in range(3):
            command = [python, str(Path(__file__).parent / script), json.dumps(sizes[name])]
            run = subprocess.run([*command, "energy"], check=True, capture_output=True, text=True)
            theirs.append(json.loads(run.stdout.splitlines()[-1]))
            ours.append(solve(case, None)[1])
        assert found.cost is not None
        their_cpu = statistics.median(run["cpu_s"] for run in theirs)
        energies = theirs[0]["energy_pj"], found.cost.energy_pj
        yield Pair(peer, name, *energies, their_cpu, statistics.median(ours))


# The page.


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.6g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _times(outcome: Outcome) -> str:
    seconds = outcome.case.seconds
    wall = " wall" if outcome.case.wall else ""
    return "–" if seconds is None else f"{seconds:.2f}{wall}"


def _certificate(found: tw.LayerResult) -> str:
    gap = f", gap {found.gap:.1%}" if found.gap else ""
    return found.status.value + gap


def _row(outcome: Outcome) -> str:
    case = outcome.case
    cells = [
        case.layer,
        _number(case.figure),
        _number(outcome.theirs),
        _number(outcome.ours),
        _ratio(outcome.by_our_rules),
        _ratio(outcome.by_their_rules),
        _certificate(outcome.found),
        _times(outcome),
        f"{outcome.cpu:.3f}",
        case.remark,
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """\
| layer | recorded | its mapping, our counts | ours | ratio, our counts | ratio, its counts \
| certificate | its s | our CPU s | remark |
|---|---|---|---|---|---|---|---|---|---|"""


def _group(title: str, outcomes: list[Outcome]) -> str:
    unit = "pJ · cycles" if outcomes[0].case.objective == "edp" else "pJ"
    rows = [f"### {title} ({unit})", "", HEAD, *map(_row, outcomes)]
    return "\n".join(rows)


def in_resnet18(case: Case) -> bool:
    """Whether a case counts for the sum over the layers of ResNet-18."""
    return case.peer != "Interstellar" and "as given" not in case.layer and "vgg" not in case.layer


@dataclass(frozen=True)
class Sum:
    """The layers of ResNet-18 in one group of cases."""

    title: str
    layers: int
    proved: int
    ratio: float | None
    theirs: float
    ours: float
    wall: bool


def sums(outcomes: Iterable[Outcome]) -> Iterator[Sum]:
    """Costs and times of the layers of ResNet-18, group by group."""
    chosen = [outcome for outcome in outcomes if in_resnet18(outcome.case)]
    for title, group in groupby(chosen, key=lambda outcome: outcome.case.title):
        parts = list(group)
        their_costs = [o.case.figure if o.theirs is None else o.theirs for o in parts]
        known = math.fsum(cost for cost in their_costs if cost is not None)
        yield Sum(
            title,
            len(parts),
            sum(o.found.status is tw.Status.OPTIMAL for o in parts),
            math.fsum(o.ours for o in parts) / known,
            math.fsum(o.case.seconds or 0.0 for o in parts),
            math.fsum(o.cpu for o in parts),
            parts[0].case.wall,
        )


def _sum_row(part: Sum) -> str:
    wall = " wall" if part.wall else ""
    cells = [
        part.title,
        str(part.layers),
        str(part.proved),
        _ratio(part.ratio),
        f"{part.theirs:.1f}{wall}",
        f"{part.ours:.3f}",
        f"{part.theirs / part.ours:.1f} ×",
    ]
    return f"| {' | '.join(cells)} |"


def _pairs(pairs: list[Pair]) -> str:
    rows = [
        f"| {p.peer} | {p.layer} | {p.their_energy:.9g} | {p.our_energy:.9g} "
        f"| {p.our_energy / p.their_energy:.4f} | {p.their_cpu:.2f} | {p.our_cpu:.3f} "
        f"| {p.their_cpu / p.our_cpu:.1f} × |"
        for p in pairs
    ]
    for peer, group in groupby(pairs, key=lambda pair: pair.peer):
        parts = list(group)
        theirs, ours = sum(p.their_cpu for p in parts), sum(p.our_cpu for p in parts)
        rows.append(
            f"| {peer} | sum | | | | {theirs:.2f} | {ours:.3f} | **{theirs / ours:.1f} ×** |"
        )
    head = (
        "| peer | layer | its pJ | our pJ | ratio | its CPU s | our CPU s | times faster |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *rows]) if pairs else "Not run; see `benchmarks/data/README.md`."


def verdict(outcomes: list[Outcome]) -> str:
    """What the comparison comes to, in a few sentences."""
    ours = [o.by_our_rules for o in outcomes if o.by_our_rules is not None]
    theirs = [o.by_their_rules for o in outcomes if o.by_their_rules is not None]
    open_ones = [o for o in outcomes if o.found.status is not tw.Status.OPTIMAL]
    worse = [o for o in outcomes if is_worse(o)]
    listed = "; ".join(f"{o.case.title}: {o.case.layer}" for o in open_ones) or "none"
    return "\n".join(
        [
            f"- {len(outcomes)} cases; {len(worse)} in which ours is worse by equal rules.",
            f"- {len(ours)} mappings of peers priced by our rules: ours costs "
            f"{min(ours):.4f} to {max(ours):.4f} of them.",
            f"- {len(theirs)} figures of peers against our mapping by *their* rules: "
            f"{min(theirs):.4f} to {max(theirs):.4f}.",
            f"- Proved optimal: {len(outcomes) - len(open_ones)}; not: {listed}.",
        ]
    )


def is_worse(outcome: Outcome) -> bool:
    """Whether the peer has the better mapping by rules that both sides share.

    Where its mapping is known, our counts decide: those are what we minimise.
    """
    ratio = outcome.by_our_rules
    ratio = outcome.by_their_rules if ratio is None else ratio
    return ratio is not None and ratio > 1 + 1e-6


RULES = """\
Costs are in our convention `default` unless a column says otherwise. A ratio below 1 is in our
favour. "Ratio, our counts" prices the peer's own mapping by our rules: equal rules, and what we
minimise. "Ratio, its counts" prices *our* mapping by the peer's rules against the figure that it
printed; we minimise something slightly else there, so that 1 is not promised. Where it differs:

| peer | its rules | what is compared |
|---|---|---|
| AccelForge | ours, on these chips, to seven digits; but a strided 1×1 fetches the hull | \
its figure itself; `conv3_ds` as it solves the layer subsampled; "as given" has no fair ratio |
| ZigZag | the first update of a partial sum reads its register; cycles add the first load and the \
last store; the SRAM is read 64 bits at least, which makes conv1 with its 3 channels 5 % dearer \
than ours | its mapping in our counts; our energy with those first reads added |
| Timeloop | bounding boxes, drains not charged, its own step rule | its mapping in our counts; \
our mapping in the convention `timeloop`, which gives back each of its figures exactly |
| Interstellar | no halo reuse, fills and drains not charged, no cycles, a tile must fill half | \
its mapping in our counts only; the dims that its schedule unrolls are the ones that we may unroll |

Times: CPU seconds in one process, kernels compiled and cached, median of three below 3 s. The
peers' are as recorded, on two shared cores; Timeloop's are wall seconds on two threads, of runs
that end by a time limit or by 500 fruitless tries, not by a proof.

For each metric the best of Timeloop's runs for *that* metric is shown; some of its runs for EDP
found less energy than those for energy did (gemmini conv2_x: 410,164,224 pJ). Ours is below those
as well, or equal to the last pJ by its rules (gemmini fc).
"""


def page(outcomes: list[Outcome], pairs: list[Pair]) -> str:
    """The whole page."""
    groups = groupby(outcomes, key=lambda outcome: outcome.case.title)
    return "\n".join(
        [
            "# Beside other mappers",
            "",
            f"Written by `make peers` with Python {platform.python_version()}; where the records",
            "come from: [data/README.md](data/README.md).",
            "",
            verdict(outcomes),
            "",
            "## Rules",
            "",
            RULES,
            "## Sum over the layers of ResNet-18",
            "",
            "The goal is 50 ×.",
            "",
            "| | layers | proved | ours / its, summed | its s | our CPU s | times faster |",
            "|---|---|---|---|---|---|---|",
            *map(_sum_row, sums(outcomes)),
            "",
            "## Side by side, in the same minutes",
            "",
            _pairs(pairs),
            "",
            "## Case by case",
            "",
            "\n\n".join(_group(title, list(group)) for title, group in groups),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zigzag", help="an interpreter that has zigzag-dse")
    parser.add_argument("--accelforge", help="an interpreter that has accelforge")
    parser.add_argument("--seconds", type=float, default=60.0, help="of one search at most")
    arguments = parser.parse_args()
    warm_up()
    pairs: list[Pair] = []
    if arguments.zigzag:
        pairs += side_by_side("ZigZag", arguments.zigzag, "run_zigzag.py")
    if arguments.accelforge:
        pairs += side_by_side("AccelForge", arguments.accelforge, "run_accelforge.py")
    print(_pairs(pairs))
    cases = sorted(all_cases(), key=lambda case: (case.title, case.layer))
    outcomes: list[Outcome] = []
    for case in cases:
        outcomes.append(examine(case, arguments.seconds))
        print(case.title, _row(outcomes[-1]), flush=True)
    PAGE.write_text(page(outcomes, pairs), encoding="utf-8")


if __name__ == "__main__":
    main()
