"""The verb `show`: a network listed, or a mapping drawn as the nest that it is."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    ConventionOption,
    JsonOption,
    ShapeOption,
    WorkloadArgument,
    parse_shapes,
)
from tilewright.cli.output import print_json, print_problem, print_report, stamp
from tilewright.errors import InputError, Problem
from tilewright.ir.workload import Network
from tilewright.loading import load, load_hardware, load_layer, load_mapping
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate

EXAMPLE = "Example: tilewright show resnet18   or   tilewright show LAYER HARDWARE MAPPING --svg F"


def show_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    hardware: Annotated[
        str | None, typer.Argument(metavar="[HARDWARE", help="With a mapping: the chip.")
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Argument(metavar="MAPPING]", help="Draws this mapping of one layer on the chip."),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the nest as a picture.")
    ] = None,
    convention: ConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    json: JsonOption = False,
) -> int:
    """List a network's layers, or draw the nest of a mapping."""
    shapes = parse_shapes(shape)
    if hardware is None:
        if svg is not None:
            raise InputError(Problem("--svg draws a mapping", "give HARDWARE and MAPPING, too"))
        _show_network(load(workload, batch=batch, shapes=shapes), workload, as_json=json)
        return 0
    if mapping is None:
        what = "a chip is given, but no mapping"
        raise InputError(Problem(what, "write show LAYER HARDWARE MAPPING"))
    text = sys.stdin.read() if mapping == "-" else mapping
    cost = evaluate(
        load_layer(workload, batch=batch, shapes=shapes),
        load_hardware(hardware),
        load_mapping(text),
        convention=convention,
    )
    if svg is not None:
        _write_picture(cost, svg)
    inputs = {"workload": workload, "hardware": hardware, "mapping": text}
    _show_nest(cost, inputs, as_json=json)
    return 0


def _show_network(network: Network, name: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_network_json(network) | stamp({"workload": name}))
        return
    from tilewright.report.tables import network_report

    print_report(network_report(network))


def _network_json(network: Network) -> dict[str, object]:
    return {
        "workload": network.name,
        "macs": network.macs,
        "layers": [
            {
                "name": layer.workload.name,
                "repeat": layer.repeat,
                "macs": layer.workload.macs,
                "einsum": layer.workload.einsum,
                "sizes": layer.workload.sizes,
                "names": list(layer.names),
            }
            for layer in network.layers
        ],
        "not_costed": [{"op": op, "count": count} for op, count in network.not_costed],
        "source": network.source,
        "tables": {},
    }


def _show_nest(cost: Cost, inputs: dict[str, str], *, as_json: bool) -> None:
    from tilewright.report.nest import format_nest, nest_lines

    if as_json:
        lines = [line.to_json() for line in nest_lines(cost)]
        print_json(cost.to_json() | {"nest": lines} | stamp(inputs))
    else:
        print_report(format_nest(cost))


def _write_picture(cost: Cost, path: Path) -> None:
    from tilewright.report.picture import draw_nest

    try:
        path.write_text(draw_nest(cost), encoding="utf-8")
    except OSError as error:
        raise InputError(Problem(f"cannot write: {error.strerror}", "", str(path))) from None
    print_problem(f"wrote {path}")
