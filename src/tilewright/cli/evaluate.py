"""The verb `evaluate`: counts and cost of one mapping."""

import sys
from typing import Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    ConventionOption,
    HardwareArgument,
    JsonOption,
    LayerArgument,
    MappingArgument,
    ReportOption,
    ShapeOption,
    parse_shapes,
)
from tilewright.cli.output import (
    check_report,
    print_json,
    print_problem,
    print_report,
    stamp,
    write_report,
)
from tilewright.loading import load_hardware, load_layer, load_mapping
from tilewright.model.cost import Cost
from tilewright.model.evaluate import Mismatch, compare_with_walk, evaluate
from tilewright.report.describe import describe_cost

EXAMPLE = (
    "Example: tilewright evaluate resnet18:layer2.0.conv1 eyeriss "
    "'DRAM[W I O]: K8 P4 C16 R3 S3 ...' --walk"
)
FAILED = 1


def evaluate_command(  # noqa: PLR0913, PLR0917
    layer: LayerArgument,
    hardware: HardwareArgument,
    mapping: MappingArgument,
    walk: Annotated[
        bool, typer.Option("--walk", help="Also count by running the nest, and compare.")
    ] = False,
    overlap: Annotated[
        str, typer.Option(help="perfect; or serial, which adds first loads and last stores.")
    ] = "perfect",
    convention: ConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Count and price one mapping of a layer on a chip."""
    if report is not None:
        check_report(report)
    text = sys.stdin.read() if mapping == "-" else mapping
    cost = evaluate(
        load_layer(layer, batch=batch, shapes=parse_shapes(shape)),
        load_hardware(hardware),
        load_mapping(text),
        convention=convention,
        overlap=overlap,
    )
    mismatches = _walk(cost) if walk else None
    inputs = {"workload": layer, "hardware": hardware, "mapping": text}
    document = cost.to_json() | describe_cost(cost) | stamp(inputs) | _walk_json(mismatches)
    if json:
        print_json(document)
    else:
        _print_cost(cost, mismatches)
    if report is not None:
        write_report(report, document)
    return FAILED if mismatches else 0


def _walk(cost: Cost) -> list[Mismatch]:
    """Walk with a bar on stderr: a layer of 60 million MACs takes a minute or two."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"walking {cost.counts.macs:,} MACs", total=1.0)
        return compare_with_walk(cost, lambda share: progress.update(task, completed=share))


def _walk_json(mismatches: list[Mismatch] | None) -> dict[str, object]:
    if mismatches is None:
        return {}
    found = [mismatch.to_json() for mismatch in mismatches]
    return {"walk": {"agrees": not mismatches, "mismatches": found}}


def _print_cost(cost: Cost, mismatches: list[Mismatch] | None) -> None:
    from tilewright.report.tables import cost_report

    print_report(cost_report(cost))
    for mismatch in mismatches or []:
        counted = f"counted {mismatch.exact:,}, walked {mismatch.walked:,}"
        print_problem(f"the walk differs at {mismatch.place}: {counted}")
    if mismatches == []:
        print_report("the walk agrees, word for word")
