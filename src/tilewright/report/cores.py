"""Several cores as tables: what each number of them costs, and how every layer is divided.

Owns: what `cores` prints when nobody asks for JSON.

Non-goals: finding it (`mapper/cores.py`).
"""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.mapper.cores import CoreChoice, CorePoint, CoreStudy, CoreTotal, private_notes
from tilewright.mapper.result import Status
from tilewright.model.convention import DEFAULT
from tilewright.report.tables import energy, sources


def cores_report(study: CoreStudy) -> RenderableType:
    """The table of totals; of a single layer its choices; and what the figures rest on."""
    parts: list[RenderableType] = [_layer_table(study) if _is_layer(study) else _totals(study)]
    if not _is_layer(study):
        parts += [Text(""), _choices(study)]
    return Group(*parts, Text(""), *_notes(study))


def _is_layer(study: CoreStudy) -> bool:
    return len(study.network.layers) == 1


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=None)
    for index, column in enumerate(columns):
        side = "left" if index in (1,) else "right"
        table.add_column(Text(column), justify=side, no_wrap=True)
    return table


def _title(study: CoreStudy) -> str:
    name, chip = study.network.name, study.hardware.name
    return f"{name} on cores of {chip}, least {study.objective.value}"


_FIGURES = ("energy", "pJ / MAC", "cycles", "speedup", "DRAM words")


def _layer_table(study: CoreStudy) -> Table:
    """Every choice of the only layer, the best first and in bold."""
    table = _table(_title(study), "cores", "choice", "busy", *_FIGURES, "status")
    for point in study.points:
        for place, choice in enumerate(point.layers[0]):
            first = place == 0
            total = CoreTotal(choice.label, (choice,))
            figures = _figures(total, study.alone) if choice.result.cost else ["–"] * len(_FIGURES)
            row = (choice.label, str(choice.busy), *figures, _status(choice))
            count = str(point.cores) if first else ""
            table.add_row(count, *row, style="bold" if first else None, end_section=False)
    return table


def _status(choice: CoreChoice) -> str:
    result = choice.result
    if result.status is not Status.BEST_FOUND:
        return result.status.value
    return "best found, no bound" if result.gap is None else f"within {result.gap:.1%}"


def _totals(study: CoreStudy) -> Table:
    """The whole network: each layer its own, then what one chip, then one choice, can do."""
    table = _table(_title(study), "cores", "choice", *_FIGURES, "status")
    for point in study.points:
        best = point.best
        if best is None:
            missing = [c[0].result.workload.name for c in point.layers if c[0].result.cost is None]
            table.add_row(str(point.cores), f"does not fit: {', '.join(missing)}")
            continue
        label = "one core" if point.cores == 1 else best.label
        row = (label, *_figures(best, study.alone), "optimal" if point.proved else "best found")
        table.add_row(str(point.cores), *row, style="bold")
        for total in [*point.with_buffers(), *point.single()]:
            status = "optimal" if total.proved else "best found"
            table.add_row("", total.label, *_figures(total, study.alone), status)
    return table


def _figures(total: CoreTotal, alone: CorePoint | None) -> list[str]:
    one = None if alone is None else alone.best
    return [
        energy(total.energy_pj),
        f"{total.energy_per_mac_pj:.3f}",
        f"{total.cycles:,}",
        "–" if one is None else f"{one.cycles / total.cycles:.2f}",
        f"{total.dram_words:,}",
    ]


def _choices(study: CoreStudy) -> Table:
    """How each layer is divided, for every number of cores, and how many are busy."""
    points = [point for point in study.points if point.cores > 1]
    heads = [f"{point.cores} cores" for point in points]
    table = Table(
        title="the best choice of each layer, and the cores that are busy",
        title_justify="left",
        header_style="bold",
        box=None,
    )
    for index, head in enumerate(["layer", *heads]):
        table.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for place, layer in enumerate(study.network.layers):
        cells = [f"{_short(point.layers[place][0])}" for point in points]
        table.add_row(layer.workload.name, *cells)
    return table


def _short(choice: CoreChoice) -> str:
    return f"{choice.label}, {choice.busy}" if choice.result.cost else "–"


def _notes(study: CoreStudy) -> Iterator[Text]:
    if study.interrupted:
        yield Text("stopped: choices that were not reached are missing", style="yellow")
    proved = all(point.proved for point in study.points)
    end = "no choice is better than the first: proved"
    if not proved:
        end = "a choice, or a mapping, may be better than the first: not all is proved"
    yield Text(
        f"split: image (weights shared) or kernels (inputs shared); buffers: last level shared, "
        f"or private with a part of its capacity\n"
        f"mapspace: {study.mapspace}; convention `{DEFAULT.name}`; {end}; {study.seconds:.1f} s"
    )
    for note in private_notes(study.hardware, [point.cores for point in study.points]):
        yield Text(note)
    costs = (c[0].result.cost for point in study.points for c in point.layers)
    priced = next((cost for cost in costs if cost is not None), None)
    if priced is not None:
        yield Text(sources(priced.tables))
