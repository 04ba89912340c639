"""The verb `map`: a network and a chip in, every layer's mapping and cost out."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    ConventionOption,
    FixOption,
    HardwareArgument,
    JsonOption,
    NoCacheOption,
    ReportOption,
    ShapeOption,
    WorkloadArgument,
    parse_shapes,
    solved_layers,
)
from tilewright.cli.output import (
    check_report,
    output_width,
    print_json,
    print_report,
    stamp,
    write_report,
)
from tilewright.errors import INTERRUPTED
from tilewright.ir.verify_fix import verify_fix
from tilewright.ir.workload import Network
from tilewright.loading import load, load_fix, load_hardware
from tilewright.mapper.network import OnLayer, OnLayerProgress, map_network
from tilewright.mapper.result import LayerResult, NetworkResult
from tilewright.report.describe import Json, add_work, describe_chip

if TYPE_CHECKING:
    from tilewright.mapper.optimal import Progress as LayerProgress

EXAMPLE = "Example: tilewright map resnet18 eyeriss --objective edp"
INFEASIBLE = 1


def map_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    hardware: HardwareArgument,
    objective: Annotated[
        str, typer.Option(help="What each layer minimises: energy, cycles, edp or dram.")
    ] = "energy",
    imperfect: Annotated[
        bool, typer.Option("--imperfect", help="Also use tiles that are clipped.")
    ] = False,
    uneven: Annotated[
        bool, typer.Option("--uneven", help="Also keep operands at different loops of a level.")
    ] = False,
    fix: FixOption = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Time for all layers together.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per core if left out.")
    ] = (None),
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    convention: ConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    no_cache: NoCacheOption = False,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Find a mapping for every layer of a network, and price the whole.

    With --fix TEXT, every mapping contains what TEXT says, in the notation of mappings, one line
    per memory; all that it does not say is free, and the best completion is found and proved.
    `GLB[I O]:` gives what a memory keeps; `GLB: K4 C` an extent, and the order of the loops that
    are written; `GLB: | K@x C@y` a dataflow, the dims that may be unrolled on an axis;
    `GLB: | K4@x` an unrolling.
    """
    if report is not None:
        check_report(report)
    network = load(workload, batch=batch, shapes=parse_shapes(shape))
    chip = load_hardware(hardware)
    text = sys.stdin.read() if fix == "-" else fix
    given = None if text is None else load_fix(text)
    if given is not None:  # before the bar, which would stand above its messages
        layers = [layer.workload for layer in network.layers]
        verify_fix(layers, chip, given, imperfect=imperfect, uneven=uneven)
    with show_progress(network) as (on_layer, on_progress):
        result = map_network(
            network,
            chip,
            objective=objective,
            convention=convention,
            imperfect=imperfect,
            uneven=uneven,
            fix=given,
            seconds=seconds,
            jobs=jobs,
            seed=seed,
            solved=solved_layers(no_cache),
            on_layer=on_layer,
            on_progress=on_progress,
        )
    inputs = {"workload": workload, "hardware": hardware}
    inputs |= {} if text is None else {"fix": text}
    document = _document(result) | stamp(inputs, seed=seed)
    if json:
        print_json(document)
    else:
        from tilewright.report.tables import result_report

        print_report(result_report(result, output_width()))
    if report is not None:
        write_report(report, document)
    return _exit_code(result)


def _document(result: NetworkResult) -> Json:
    """The document, with what a page needs to draw chip and layers."""
    document = result.to_json()
    add_work(document["layers"], [layer.workload for layer in result.layers])
    return document | {"chip": describe_chip(result.hardware)}


def _exit_code(result: NetworkResult) -> int:
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.feasible else INFEASIBLE


@contextmanager
def show_progress(network: Network) -> Generator[tuple[OnLayer, OnLayerProgress]]:
    """A bar on stderr: layers done, time left, and what is found and proved of the one at work."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.fields[news]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        starting = f"mapping {network.name} (the first run ever compiles for a minute or two)"
        task = bar.add_task("", total=len(network.layers), news=starting)

        def on_layer(result: LayerResult) -> None:
            bar.update(task, news=f"mapped {result.workload.name}", advance=1)

        def on_progress(name: str, progress: "LayerProgress") -> None:
            bar.update(task, news=f"mapping {name}: {_so_far(progress)}")

        yield on_layer, on_progress


def _so_far(progress: "LayerProgress") -> str:
    bound = f"nothing below {progress.lower_bound:.4g}"
    if progress.incumbent is None or progress.gap is None:
        return bound
    return f"found {progress.incumbent:.4g}, {bound}, gap {progress.gap:.1%}"
