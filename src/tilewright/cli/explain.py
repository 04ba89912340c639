"""The verb `explain`: what limits a layer on a chip, and what more of each thing would gain."""

import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import Annotated

import typer

from tilewright.analysis.explain import Explanation, explain
from tilewright.cli.options import (
    BatchOption,
    DefaultConventionOption,
    HardwareArgument,
    JsonOption,
    LayerArgument,
    NoCacheOption,
    ShapeOption,
    parse_shapes,
    require_default,
    solved_layers,
)
from tilewright.cli.output import print_json, print_report, stamp
from tilewright.errors import INTERRUPTED
from tilewright.loading import load_hardware, load_layer, load_mapping

EXAMPLE = "Example: tilewright explain resnet18:layer2.0.conv1 eyeriss --objective cycles"
INFEASIBLE = 1


def explain_command(  # noqa: PLR0913, PLR0917
    layer: LayerArgument,
    hardware: HardwareArgument,
    mapping: Annotated[
        str | None,
        typer.Argument(
            metavar="[MAPPING]",
            help="Explains this one: a file, `-`, or the text itself; else the best one.",
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="What is minimised: energy, cycles, edp or dram.")
    ] = "energy",
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time for each search.")] = None,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    no_cache: NoCacheOption = False,
    json: JsonOption = False,
) -> int:
    """Say what limits a layer on a chip, and what twice the capacity or bandwidth would gain.

    Every finite capacity and bandwidth is doubled, one at a time, and the layer mapped anew, with
    the mapper's proof. Of a layer without a mapping: what makes it infeasible, and what would do.
    """
    require_default(convention, "explain")
    text = sys.stdin.read() if mapping == "-" else mapping
    work = load_layer(layer, batch=batch, shapes=parse_shapes(shape))
    chip = load_hardware(hardware)
    nest = None if text is None else load_mapping(text)
    with _stoppable() as stop, _progress(work.name) as on_step:
        found = explain(
            work,
            chip,
            nest,
            objective=objective,
            seconds=seconds,
            solved=solved_layers(no_cache),
            should_stop=stop.is_set,
            on_step=on_step,
        )
    if json:
        inputs = {"workload": layer, "hardware": hardware}
        inputs |= {} if text is None else {"mapping": text}
        print_json(found.to_json() | stamp(inputs))
    else:
        from tilewright.report.explain import explanation_report

        print_report(explanation_report(found))
    return _exit_code(found)


def _exit_code(found: Explanation) -> int:
    if found.interrupted:
        return INTERRUPTED
    return INFEASIBLE if found.cost is None else 0


@contextmanager
def _stoppable() -> Generator[Event]:
    """Let Ctrl-C end the search, which then hands in what it has."""
    stop = Event()

    def end_search(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    try:
        before = signal.signal(signal.SIGINT, end_search)
    except ValueError:  # not the main thread
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(name: str) -> Generator[Callable[[str, int, int], None]]:
    """A bar on stderr: what is searched, and how many searches are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{name} (the first run ever compiles for a minute or two)", total=None)

        def on_step(what: str, done: int, count: int) -> None:
            bar.update(task, description=f"{name}: {what}", completed=done, total=count)

        yield on_step
