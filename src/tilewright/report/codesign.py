"""A study of chips and mappings as tables.

Owns: what `codesign` prints.

Non-goals: finding anything (`joint/study.py`).
"""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.joint.finish import Point
from tilewright.joint.study import Study
from tilewright.report.tables import energy


def study_report(study: Study) -> RenderableType:
    """The front, the layers of its best point, and what was done."""
    if not study.front:
        return Text("stopped before the first design was done", style="yellow")
    best = study.best or study.front[0]
    parts: list[RenderableType] = [_front_table(study), Text(""), _layer_table(best), Text("")]
    return Group(*parts, _notes(study))


def _front_table(study: Study) -> Table:
    names = ", ".join(name for name, _ in study.networks)
    title = f"{names} on {study.space.name}, least {study.goal.objective.value}"
    table = Table(title=title, title_justify="left", header_style="bold", box=None)
    for index, column in enumerate(("latency", "power", "area", "energy", "edp", "", "chip")):
        table.add_column(column, justify="left" if index > 4 else "right", no_wrap=index < 6)
    for point in study.front:
        table.add_row(
            f"{point.totals.cycles / point.totals.clock_ghz * 1e-6:.4g} ms",
            f"{_power(point):.4g} W",
            f"{point.totals.area_mm2:.4g} mm²" if point.totals.area_mm2 else "not known",
            energy(float(point.totals.energy_pj)),
            f"{point.totals.energy_pj * point.totals.cycles:.4g}",
            status_of(point),
            point.hardware.name,
        )
    return table


def _power(point: Point) -> float:
    return float(point.totals.energy_pj * point.totals.clock_ghz / point.totals.cycles * 1e-3)


def status_of(point: Point) -> str:
    """How much is known of a point, in a word or two."""
    if point.certified:
        return "best of the space"
    return "mappings proved" if point.proved_on_chip else "best found"


def _layer_table(point: Point) -> Table:
    table = Table(title=point.hardware.name, title_justify="left", header_style="bold", box=None)
    for index, column in enumerate(("layer", "×", "energy", "cycles", "status", "mapping")):
        table.add_column(column, justify="right" if 0 < index < 4 else "left")
    for layer in point.layers:
        table.add_row(
            layer.layer.workload.name,
            str(layer.layer.repeat),
            energy(layer.cost.energy_pj),
            f"{layer.cost.cycles:,}",
            "optimal" if layer.proved else "best found",
            str(layer.cost.mapping),
        )
    return table


def _notes(study: Study) -> Text:
    bounds = ", ".join(
        f"at most {bound:g} {metric.unit} of {metric.value}" for metric, bound in study.goal.bounds
    )
    stopped = "; stopped" if study.interrupted else ""
    return Text(
        f"{bounds or 'no bounds'}; {study.space.size:,} chips in the space"
        f"{', continuous ranges' if study.space.continuous else ''}\n"
        f"{study.evaluations:,} mappings priced in batches, {study.solved} layers mapped by the "
        f"optimal mapper; every number by `exact`\n"
        f"seed {study.seed}; {study.seconds:.1f} s{stopped}"
    )
