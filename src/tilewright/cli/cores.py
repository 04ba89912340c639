"""The verb `cores`: a workload and a chip in, the best way to divide it over several cores out."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    DefaultConventionOption,
    HardwareArgument,
    JsonOption,
    NoCacheOption,
    ReportOption,
    ShapeOption,
    WorkloadArgument,
    parse_shapes,
    require_default,
    solved_layers,
)
from tilewright.cli.output import check_report, print_json, print_report, stamp, write_report
from tilewright.errors import INTERRUPTED, InputError, Problem
from tilewright.loading import load, load_hardware
from tilewright.mapper.cores import MOST_CORES, CoreChoice, CoreStudy, map_on_cores
from tilewright.report.describe import Json, describe_chip, describe_network

EXAMPLE = "Example: tilewright cores vgg16:conv3_2 eyeriss --cores 1..16 --objective edp"
INFEASIBLE = 1


def cores_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    hardware: HardwareArgument,
    cores: Annotated[
        str,
        typer.Option(metavar="LIST", help="Numbers of cores: 1..64 (powers of two), or 2,3,6."),
    ] = "1..64",
    objective: Annotated[
        str, typer.Option(help="What each layer minimises: energy, cycles, edp or dram.")
    ] = "energy",
    hop_pj: Annotated[
        float, typer.Option(min=0.0, help="Energy of a word for each core that it goes to, in pJ.")
    ] = 0.0,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.0, help="Time for all together; 10 s a choice if left out."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    no_cache: NoCacheOption = False,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Divide every layer over several cores: image or kernels, shared or private buffers."""
    require_default(convention, "cores")
    if report is not None:
        check_report(report)
    counts = parse_cores(cores)
    network = load(workload, batch=batch, shapes=parse_shapes(shape))
    chip = load_hardware(hardware)
    with _progress(network.name) as on_choice:
        study = map_on_cores(
            network,
            chip,
            counts,
            objective=objective,
            hop_pj=hop_pj,
            seconds=seconds,
            jobs=jobs,
            solved=solved_layers(no_cache),
            on_choice=on_choice,
        )
    document = _document(study) | stamp({"workload": workload, "hardware": hardware})
    if json:
        print_json(document)
    else:
        from tilewright.report.cores import cores_report

        print_report(cores_report(study))
    if report is not None:
        write_report(report, document)
    return _exit_code(study)


def _document(study: CoreStudy) -> Json:
    """The document, with what a page needs to draw layers, and the chip where they share one."""
    document: Json = study.to_json() | describe_network(study.network)
    for entry, point in zip(document["points"], study.points, strict=True):
        best = [choices[0] for choices in point.layers]
        if len({choice.buffers for choice in best}) == 1:
            entry["chip"] = describe_chip(best[0].hardware)
    return document


def _exit_code(study: CoreStudy) -> int:
    if study.interrupted:
        return INTERRUPTED
    return 0 if study.feasible else INFEASIBLE


def parse_cores(text: str) -> list[int]:
    """Read a list of numbers of cores.

    `1..64` stands for 1, 64 and the powers of two between them; one core is always added.

    >>> parse_cores("2..8"), parse_cores("3,6")
    ([1, 2, 4, 8], [1, 3, 6])
    """
    found = {1}
    problems: list[Problem] = []
    for part in text.split(","):
        low, dots, high = part.strip().partition("..")
        ends = (low, high) if dots else (low, low)
        if not all(end.strip().isdecimal() and len(end) < 10 for end in ends):
            what = f"--cores {text}: `{part}` is neither a number nor a range"
            problems.append(Problem(what, "write --cores 1..64, or --cores 2,3,6"))
            continue
        first, last = int(ends[0]), int(ends[1])
        if not 1 <= first <= last <= MOST_CORES:
            what = f"--cores {text}: `{part}` is not within 1 to {MOST_CORES:,} cores"
            problems.append(Problem(what, "write --cores 1..64"))
            continue
        powers = (2**n for n in range(last.bit_length()))
        found |= {first, last, *(power for power in powers if first <= power <= last)}
    if problems:
        raise InputError(problems)
    return sorted(found)


@contextmanager
def _progress(name: str) -> Generator[Callable[[CoreChoice], None]]:
    """A line on stderr: choices mapped, and the last of them."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"dividing {name} (the first run ever compiles for a minute or two)")
        done = 0

        def on_choice(choice: CoreChoice) -> None:
            nonlocal done
            done += 1
            layer = choice.result.workload.name
            said = f"{done} choices mapped; {layer}, {choice.cores} cores, {choice.label}"
            bar.update(task, description=said)

        yield on_choice
