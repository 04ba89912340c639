"""The verb `curve`: least DRAM traffic of a layer or a network against its buffer's capacity."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    DefaultConventionOption,
    JsonOption,
    ReportOption,
    ShapeOption,
    WorkloadArgument,
    parse_shapes,
    require_default,
)
from tilewright.cli.output import (
    check_report,
    print_json,
    print_problem,
    print_report,
    stamp,
    write_report,
)
from tilewright.errors import InputError, Problem
from tilewright.ir.quantity import parse_capacity
from tilewright.ir.workload import Network, Workload
from tilewright.loading import load
from tilewright.mapper.curve import TrafficCurve, traffic_curve
from tilewright.report.describe import describe_network

EXAMPLE = "Example: tilewright curve vgg16:conv3_2 --from 1KiB --to 1MiB --all --plot curve.svg"
WORD_BITS = 16
"""Of a word, where a capacity is given in words."""

MOST_POINTS = 1000


def curve_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    start: Annotated[
        str, typer.Option("--from", metavar="SIZE", help="The smallest buffer: B, KiB, MiB, words.")
    ] = "1KiB",
    stop: Annotated[str, typer.Option("--to", metavar="SIZE", help="The largest buffer.")] = "1MiB",
    points: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_POINTS,
            help="Buffers from one to the other, in equal ratios; by default every power of two.",
        ),
    ] = None,
    uneven: Annotated[
        bool, typer.Option("--uneven", help="Also keep operands at different loops.")
    ] = False,
    imperfect: Annotated[
        bool, typer.Option("--imperfect", help="Also use tiles that are clipped.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="All four mapspaces, side by side.")] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Time for every mapspace; unlimited if left out.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Also draw the curves as a picture.")
    ] = None,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Find the least DRAM traffic for buffers of several sizes, with proof.

    Of a network: the sum over its layers, and every layer.
    """
    require_default(convention, "curve")
    if report is not None:
        check_report(report)
    sizes = _capacities(start, stop, points)
    network = load(workload, batch=batch, shapes=parse_shapes(shape))
    alone = len(network.layers) == 1 and network.layers[0].repeat == 1
    work = network.layers[0].workload if alone else network
    kinds = (
        [(u, i) for u in (False, True) for i in (False, True)] if every else [(uneven, imperfect)]
    )
    curves = list(_find(work, sizes, kinds, seconds))
    if plot is not None:
        from tilewright.report.curve import draw_curves

        _write(plot, draw_curves(curves))
    document = _document(curves) | describe_network(network) | stamp({"workload": workload})
    if json:
        print_json(document)
    else:
        from tilewright.report.curve import curve_report

        print_report(curve_report(curves))
    if report is not None:
        write_report(report, document)
    return 0


def _find(
    work: Workload | Network,
    sizes: list[int],
    kinds: list[tuple[bool, bool]],
    seconds: float | None,
) -> Iterator[TrafficCurve]:
    """One curve for each mapspace, with a bar on stderr while they are found."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        layers = len(work.layers) if isinstance(work, Network) else 1
        task = progress.add_task(f"curve of {work.name}", total=len(kinds) * layers)
        for uneven, imperfect in kinds:
            yield traffic_curve(
                work,
                sizes,
                uneven=uneven,
                imperfect=imperfect,
                seconds=seconds,
                on_layer=lambda _: progress.advance(task),
            )


def _document(curves: list[TrafficCurve]) -> dict[str, object]:
    """The document of one curve; with several, of the last and widest, and `curves` with all."""
    document = curves[-1].to_json()
    if len(curves) > 1:
        document["curves"] = [curve.to_json() for curve in curves]
    return document


def _capacities(start: str, stop: str, points: int | None) -> list[int]:
    """The capacities from one to the other, in bits, rising."""
    problems: list[Problem] = []
    ends: list[int] = []
    for option, text in (("--from", start), ("--to", stop)):
        try:
            ends.append(parse_capacity(text, WORD_BITS))
            if ends[-1] < 1:
                problems.append(Problem(f"{option} {text} holds nothing", f"write {option} 1KiB"))
        except ValueError as error:
            problems.append(Problem(f"{option} {text}: {error}", f"write {option} 1KiB"))
    if not problems and ends[0] > ends[1]:
        what = f"--from {start} is more than --to {stop}"
        problems.append(Problem(what, f"write --from {stop} --to {start}"))
    if problems:
        raise InputError(problems)
    return _spread(ends[0], ends[1], points)


def _spread(low: int, high: int, points: int | None) -> list[int]:
    octaves = math.log2(high / low)
    count = points or (int(octaves) + 1 if octaves.is_integer() and octaves < 31 else 11)
    if count == 1 or low == high:
        return [low]
    steps = [low * (high / low) ** (number / (count - 1)) for number in range(count)]
    return sorted(
        {round(step / 8) * 8 if low >= 64 else round(step) for step in steps} | {low, high}
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise InputError(Problem(what, "name a file in a folder that is there")) from None
    if sys.stderr.isatty():
        print_problem(f"wrote {path}")
