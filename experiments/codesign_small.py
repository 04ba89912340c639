"""How far every method ends from the certified best of a space small enough to solve to its end.

`python experiments/codesign_small.py [--seconds 5] [--seeds 3]`: ResNet-18 on 32 chips around
Eyeriss, least energy within an area. `codesign --exhaustive` certifies the least; then each method
searches the same space by the batch model, and its best design is priced by `exact`. Writes
`small.md` in `--out`, which `resnet18_codesign.py` puts into its page.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import argparse
import json
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from codesign_rivals import METHODS, exact_totals, run_method

import tilewright as tw
from tilewright.joint.crew import make_crew
from tilewright.joint.finish import Finisher
from tilewright.joint.goal import Metric
from tilewright.joint.population import Task, make_task
from tilewright.joint.space import Space
from tilewright.joint.study import codesign, gather_layers, make_goal
from tilewright.joint.variable import Field

AREA_MM2 = 1.0
TAKEN: dict[tuple[str, Field, str | None], tuple[int, ...]] = {
    ("GLB", Field.CAPACITY, None): (2, 4),
    ("GLB", Field.X, None): (4, 5),
    ("GLB", Field.Y, None): (4, 6),
    ("RF", Field.CAPACITY, "W"): (2, 3),
    ("RF", Field.CAPACITY, "O"): (2, 3),
    ("RF", Field.CAPACITY, "I"): (1,),
}
"""Places of the values of eyeriss-space that are kept."""


def small_space() -> Space:
    space = tw.load_space("eyeriss-space")
    variables = tuple(
        replace(v, values=tuple(v.values[at] for at in TAKEN[v.memory, v.field, v.operand]))
        for v in space.variables
    )
    return replace(space, name="eyeriss-space-32", variables=variables)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="of processor time, each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, default=Path("build/resnet18-codesign"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    space, network = small_space(), tw.load("resnet18")
    began = time.process_time()
    study = codesign(
        network,
        space,
        objective=Metric.ENERGY,
        bounds={"area": AREA_MM2},
        exhaustive=True,
        run=options.out / "certified",
    )
    spent = time.process_time() - began
    best = study.best
    assert best is not None
    assert best.certified
    print(best.hardware.name, best.totals.to_json(), study.solved, f"{spent:.0f} s", flush=True)
    task = make_task(space, gather_layers([(network, 1.0)]))
    found = run(task, options)
    write(found, float(best.totals.energy_pj), space, options)


def run(task: Task, options: argparse.Namespace) -> dict[str, list[float]]:
    """Energies of every method's best designs by `exact`, infinite if the bound is broken."""
    goal = make_goal(Metric.ENERGY, {"area": AREA_MM2})
    path = options.out / "small.jsonl"
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    done = {(row["method"], row["seed"]) for row in rows}
    with make_crew() as crew:
        finisher = Finisher(task.space, task.layers, crew)
        for name in options.methods.split(","):
            missing = [seed for seed in range(options.seeds) if (name, seed) not in done]
            if missing:
                run_method(name, task, goal, 1.0, 99)  # compiles
            for seed in missing:
                bench = run_method(name, task, goal, options.seconds, seed)
                totals = exact_totals(bench, finisher)
                kept = totals is not None and not goal.excess(totals)
                energy = totals.energy_pj if kept and totals is not None else None
                rows.append({"method": name, "seed": seed, "energy_pj": energy})
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(name, seed, energy, flush=True)
    found: dict[str, list[float]] = {}
    for row in rows:
        energy = math.inf if row["energy_pj"] is None else row["energy_pj"]
        found.setdefault(row["method"], []).append(energy)
    return found


def write(
    found: dict[str, list[float]], least: float, space: Space, options: argparse.Namespace
) -> None:
    lines = [
        "## From the certified best",
        "",
        "`python experiments/codesign_small.py`: least energy within",
        f"{AREA_MM2:g} mm² on {space.size} chips of eyeriss-space, solved to the end by the",
        f"optimal mapper: {least * 1e-9:.4f} mJ, certified. Each method has",
        f"{options.seconds:g} s of processor time and {options.seeds} seeds; its best design by",
        "`exact`, above that least:",
        "",
        "| method | median | least | most |",
        "|---|---|---|---|",
    ]
    for name, energies in found.items():
        values = (statistics.median(energies), min(energies), max(energies))
        cells = [f"{100 * (x / least - 1):.2f} %" if x < math.inf else "none" for x in values]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    (options.out / "small.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
