"""The verb `compare`: two chips, mappings or runs side by side."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tilewright.analysis.difference import Comparison, Setting, chip_settings, compare_runs
from tilewright.analysis.run import Run, read_run, run_of
from tilewright.cli.map_ import show_progress
from tilewright.cli.options import (
    BatchOption,
    ConventionOption,
    JsonOption,
    ShapeOption,
    parse_shapes,
)
from tilewright.cli.output import print_json, print_report, stamp
from tilewright.errors import InfeasibleError, InputError, Problem
from tilewright.ir.hardware import Hardware
from tilewright.ir.workload import Network
from tilewright.loading import load, load_hardware, load_layer, load_mapping
from tilewright.mapper.network import map_network
from tilewright.model.evaluate import evaluate

EXAMPLE = (
    "Example: tilewright compare eyeriss my-chip.yaml --workload resnet18   or   "
    "tilewright compare a.json b.json"
)
Shapes = dict[str, tuple[int, ...]]


def compare_command(  # noqa: PLR0913, PLR0917
    a: Annotated[
        str, typer.Argument(metavar="A", help="A chip, a mapping, or a file that --json printed.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of the same kind.")],
    workload: Annotated[
        str | None,
        typer.Option(metavar="WORKLOAD", help="Of two chips: the network that both run."),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(metavar="HARDWARE", help="Of two mappings: the chip that both are for."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="Of two chips: what each layer minimises; see map.")
    ] = "energy",
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Of two chips: time for each of them.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per core if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    convention: ConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    json: JsonOption = False,
) -> int:
    """Put two chips, two mappings or two runs side by side: what changed, and why.

    Two chips are compared by the best mappings of --workload on both; two mappings by what they
    cost, of the layer --workload on the chip --hardware; two runs by the documents that their
    commands printed with --json.
    """
    inputs = {"a": a, "b": b}
    inputs |= {} if workload is None else {"workload": workload}
    inputs |= {} if hardware is None else {"hardware": hardware}
    shapes = parse_shapes(shape)
    if hardware is not None:
        layer = _wanted(workload, "two mappings", "--workload resnet18:layer1.0.conv1")
        found = _mappings(a, b, layer, hardware, convention, batch, shapes)
    elif _is_run(a) and _is_run(b):
        found = compare_runs(read_run(a), read_run(b))
    else:
        name = _wanted(workload, "two chips", "--workload resnet18")
        network = load(name, batch=batch, shapes=shapes)

        def run(chip: Hardware, label: str) -> Run:
            with show_progress(network) as (on_layer, on_progress):
                result = map_network(
                    network,
                    chip,
                    objective=objective,
                    convention=convention,
                    seconds=seconds,
                    jobs=jobs,
                    seed=seed,
                    on_layer=on_layer,
                    on_progress=on_progress,
                )
            return run_of(result.to_json(), "map", label)

        found = _chips(a, b, network, run)
    _print(found, inputs, seed, as_json=json)
    return 0


def _wanted(value: str | None, what: str, example: str) -> str:
    if value is None:
        fix = f"add {example}; two runs are files that --json printed"
        raise InputError(
            Problem(f"{what} are compared by what they cost, and --workload is missing", fix)
        )
    return value


def _is_run(name: str) -> bool:
    """Whether a file holds a JSON document."""
    path = Path(name)
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except (OSError, ValueError):
        return False


def _mappings(  # noqa: PLR0913, PLR0917
    a: str, b: str, layer: str, hardware: str, convention: str, batch: int | None, shapes: Shapes
) -> Comparison:
    work, chip = load_layer(layer, batch=batch, shapes=shapes), load_hardware(hardware)
    runs: list[Run] = []
    for side, text in (("A", a), ("B", b)):
        try:
            cost = evaluate(work, chip, load_mapping(text), convention=convention)
        except InfeasibleError as error:
            placed = (replace(v, what=f"mapping {side}: {v.what}") for v in error.violations)
            raise InfeasibleError(placed) from None
        name = text if "[" not in text else f"{work.name} on {chip.name}"
        runs.append(run_of(cost.to_json(), "evaluate", name))
    return compare_runs(*runs, kind="mappings")


def _chips(a: str, b: str, network: Network, run: Callable[[Hardware, str], Run]) -> Comparison:
    chips = load_hardware(a), load_hardware(b)
    runs = [run(chip, label) for chip, label in zip(chips, (a, b), strict=True)]
    found = compare_runs(*runs, kind="chips", chips=chip_settings(*chips))
    names = tuple(f"{network.name} on {label}" for label in (a, b))
    own = tuple(setting for setting in found.settings if not _is_name(setting))
    return replace(found, names=(names[0], names[1]), settings=own)


def _is_name(setting: Setting) -> bool:
    """The chips' names stand in the title."""
    return setting.name == "hardware"


def _print(found: Comparison, inputs: dict[str, str], seed: int, *, as_json: bool) -> None:
    if as_json:
        print_json(found.to_json() | stamp(inputs, seed=seed))
        return
    from tilewright.report.compare import comparison_report

    print_report(comparison_report(found))
