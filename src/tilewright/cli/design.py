"""The verb `design`: a workload and a budget in, the memories of least energy and blockings out."""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    DefaultConventionOption,
    JsonOption,
    NoCacheOption,
    ReportOption,
    ShapeOption,
    WorkloadArgument,
    parse_shapes,
    require_default,
    solved_layers,
)
from tilewright.cli.output import (
    check_report,
    print_json,
    print_problem,
    print_report,
    stamp,
    write_report,
)
from tilewright.errors import INTERRUPTED, InputError, Problem
from tilewright.ir.hardware import Hardware
from tilewright.ir.quantity import parse_capacity
from tilewright.loading import load, load_hardware
from tilewright.mapper.design import (
    DesignGrid,
    DesignProgress,
    DesignResult,
    OnProgress,
    design_hierarchy,
    mac_array,
)
from tilewright.mapper.result import Objective, find_objective
from tilewright.report.describe import Json, add_work, describe_chip

EXAMPLE = (
    "Example: tilewright design yang2016:Conv5 --capacity 1MiB --like diannao --plot front.svg"
)
WORD_BITS = 16
"""Of a word, where a capacity is given in words."""


def design_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    area: Annotated[
        float | None, typer.Option(metavar="MM2", help="The most that memories and MACs may take.")
    ] = None,
    capacity: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The most that all memories may hold.")
    ] = None,
    levels: Annotated[
        str, typer.Option(metavar="1..3", help="Numbers of on-chip levels to try.")
    ] = "1..2",
    start: Annotated[
        str, typer.Option("--from", metavar="SIZE", help="The smallest level to try.")
    ] = "1KiB",
    stop: Annotated[
        str, typer.Option("--to", metavar="SIZE", help="The largest level to try.")
    ] = "1MiB",
    step: Annotated[int, typer.Option(help="From one capacity to the next: a power of two.")] = 2,
    words: Annotated[
        str, typer.Option(metavar="BITS,…", help="Widths of a word to try.")
    ] = "64,128,256,512",
    technology: Annotated[str, typer.Option(help="The table of energies.")] = "yang2016",
    objective: Annotated[str, typer.Option(help="What to minimise: energy or edp.")] = "energy",
    macs: Annotated[
        str | None, typer.Option(metavar="16x16", help="The array of MAC units.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="HARDWARE", help="A chip whose MACs, clock and DRAM to keep."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time for all together.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that map layers.")] = 1,
    front: Annotated[
        bool, typer.Option(help="Prove the whole front of energy and area, not its best alone.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Also draw energy against area.")
    ] = None,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    no_cache: NoCacheOption = False,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Choose on-chip memories of least energy under a budget, with every layer's blocking."""
    require_default(convention, "design")
    if report is not None:
        check_report(report)
    problems = [] if area is not None or capacity is not None else [_NO_BUDGET]
    if macs is not None and like is not None:
        problems.append(Problem("--macs beside --like", "a chip has its own MAC units: drop one"))
    counts, sizes = _levels(levels, problems), _sizes(start, stop, step, problems)
    widths, budget = _words(words, problems), _capacity("--capacity", capacity, problems)
    array = _array(macs, problems)
    if problems:
        raise InputError(problems)
    goal = find_objective(objective)
    grid = DesignGrid(counts, sizes, widths, technology, area, budget)
    base = mac_array(*array, technology=technology) if like is None else load_hardware(like)
    network = load(workload, batch=batch, shapes=parse_shapes(shape))
    with _progress(network.name, seconds, goal) as on_progress:
        result = design_hierarchy(
            network,
            grid,
            base,
            objective=goal,
            whole_front=front,
            seconds=seconds,
            jobs=jobs,
            solved=solved_layers(no_cache),
            on_progress=on_progress,
        )
    if plot is not None and result.points:
        from tilewright.report.design import draw_front

        _write(plot, draw_front(result))
    document = _document(result) | _tables(base, grid) | stamp(_inputs(workload, like))
    if json:
        print_json(document)
    else:
        from tilewright.report.design import design_report

        print_report(design_report(result))
    if report is not None:
        write_report(report, document)
    return INTERRUPTED if result.interrupted else 0


def _document(result: DesignResult) -> Json:
    """The document, with what a page needs to draw chip and layers."""
    document, best = result.to_json(), result.best
    if best is None:
        return document
    add_work(document["layers"], [layer.workload for layer in best.layers])
    return document | {"chip": describe_chip(best.hardware)}


_NO_BUDGET = Problem("no budget is given", "write --capacity 1MiB or --area 5, or both")


def _inputs(workload: str, like: str | None) -> dict[str, str]:
    return {"workload": workload} | ({} if like is None else {"hardware": like})


def _tables(base: Hardware, grid: DesignGrid) -> dict[str, object]:
    """The tables that were used, under the names of the parts."""
    from tilewright.tech import Quantity, apply_technology, find_technology

    hierarchy = next(grid.hierarchies())
    _, origins = apply_technology(grid.chip(hierarchy, base))
    compute = apply_technology(base)[1]
    found = {name: origin.to_json() for name, origin in (origins | compute).items()}
    found = {name: found[name] for name in found if name in (base.levels[0].memory, _unit(base))}
    energy = find_technology(grid.technology).label(Quantity.MEMORY_ENERGY)
    area = find_technology(grid.area_table).label(Quantity.MEMORY_AREA)
    return {"tables": found | {"on chip": {"energy": energy, "area": area}}}


def _unit(base: Hardware) -> str:
    return base.compute.name


def _levels(text: str, problems: list[Problem]) -> tuple[int, ...]:
    match = re.fullmatch(r"([1-3])(?:\.\.([1-3]))?", text.strip())
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        what = f"--levels {text}: expected 1, 2 or 3, or a range of them"
        problems.append(Problem(what, "write --levels 1..2"))
    return tuple(range(first, last + 1))


def _capacity(option: str, text: str | None, problems: list[Problem]) -> int | None:
    if text is None:
        return None
    try:
        bits = parse_capacity(text, WORD_BITS)
    except ValueError as error:
        problems.append(Problem(f"{option} {text}: {error}", f"write {option} 1MiB"))
        return None
    if bits < 1:
        problems.append(Problem(f"{option} {text} holds nothing", f"write {option} 1MiB"))
    return bits


def _sizes(start: str, stop: str, step: int, problems: list[Problem]) -> tuple[int, ...]:
    """The capacities from one to the other, in bits: powers of two."""
    ends: list[int] = []
    for option, text in (("--from", start), ("--to", stop)):
        bits = _capacity(option, text, problems)
        if not bits:
            continue
        ends.append(bits)
        if bits & (bits - 1) or bits < 8:
            what = f"{option} {text} is no power of two of bytes"
            problems.append(Problem(what, f"write {option} 1KiB"))
    if step < 2 or step & (step - 1):
        problems.append(Problem(f"--step {step}: expected a power of two", "write --step 2"))
        return ()
    if len(ends) < 2:
        return ()
    if ends[0] > ends[1]:
        what = f"--from {start} is more than --to {stop}"
        problems.append(Problem(what, f"write --from {stop} --to {start}"))
    found = [ends[0]]
    while found[-1] * step <= ends[1]:
        found.append(found[-1] * step)
    return tuple(found)


def _words(text: str, problems: list[Problem]) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 65_536 for part in parts):
        what = f"--words {text}: expected widths from 1 to 65,536 bits"
        problems.append(Problem(what, "write --words 64,128,256,512"))
        return ()
    return tuple(int(part) for part in parts)


def _array(text: str | None, problems: list[Problem]) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", (text or "16x16").strip())
    if match is None or not 0 < int(match[1]) <= 65_536 or not 0 < int(match[2]) <= 65_536:
        what = f"--macs {text}: expected columns and rows, up to 65,536 each"
        problems.append(Problem(what, "write --macs 16x16"))
        return 1, 1
    return int(match[1]), int(match[2])


@contextmanager
def _progress(name: str, seconds: float | None, objective: Objective) -> Generator[OnProgress]:
    """A line on stderr: hierarchies excluded, the best, how far it may be improved, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("designing for {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
    )
    began, unit = time.monotonic(), "pJ" if objective is Objective.ENERGY else "pJ·cycles"
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None, said="")

        def show(now: DesignProgress) -> None:
            said = [f"{now.solved} layers mapped"]
            if now.best is not None:
                gap = max(0.0, 1 - now.lower_bound / now.best) if now.best else 0.0
                said.append(f"best {now.best:.4g} {unit}, within {gap:.1%}")
            if seconds is not None:
                said.append(f"{max(0.0, seconds - time.monotonic() + began):.0f} s left")
            progress.update(
                task, completed=now.excluded, total=now.candidates, said=", ".join(said)
            )

        yield show


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise InputError(Problem(what, "name a file in a folder that is there")) from None
    print_problem(f"wrote {path}")
