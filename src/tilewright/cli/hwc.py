"""The verb `hwc`: a layer on the convolution block, scheduled, simulated, written as Verilog."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    DefaultConventionOption,
    JsonOption,
    LayerArgument,
    ReportOption,
    ShapeOption,
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
from tilewright.hwc.baseline import PLANES
from tilewright.hwc.config import HwcConfig, load_config
from tilewright.hwc.program import lower
from tilewright.hwc.study import MOST_STEPS, Plan, plan_json, plan_layer
from tilewright.loading import load_layer, load_mapping
from tilewright.report.describe import describe_cost

EXAMPLE = "Example: tilewright hwc vgg16:conv3_2 --config small --simulate"
FAILED = 1


def hwc_command(  # noqa: PLR0913, PLR0917
    layer: LayerArgument,
    config: Annotated[
        str, typer.Option(help="The block: small, steady, planes, wide, 1KiB … 16KiB, or a file.")
    ] = "small",
    mapping: Annotated[
        str | None, typer.Option(help="The schedule: a file or the text; found if left out.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Run the RTL, check its results, count its words.")
    ] = False,
    verilog: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the block in Verilog there.")
    ] = None,
    vcd: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the waveforms of the run there.")
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Run the baseline's nests on the RTL, too.")
    ] = False,
    bias: Annotated[
        bool, typer.Option("--bias", help="Add a bias to every output channel.")
    ] = False,
    relu: Annotated[bool, typer.Option("--relu", help="Cut results off below 0.")] = False,
    simulator: Annotated[
        str | None,
        typer.Option(help="amaranth or verilator; by the length of the run if left out."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="A layer of more steps is cropped to whole tiles.")
    ] = MOST_STEPS,
    stalls: Annotated[
        int, typer.Option(min=0, max=95, help="Percent of cycles in which a port stalls.")
    ] = 0,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="Time for finding the schedule.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the operands, the stalls and the search.")] = 0,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Run a layer on the convolution block, and count the words on its ports."""
    require_default(convention, "hwc")
    _check_simulator(simulator)
    if report is not None:
        check_report(report)
    block = load_config(config)
    work = load_layer(layer, batch=batch, shapes=parse_shapes(shape))
    given = None if mapping is None else load_mapping(mapping)
    with _stage("finding a schedule"):
        plan = plan_layer(work, block, given, seconds=seconds, seed=seed)
    lower(plan.cost.mapping, plan.layer, block)
    document: dict[str, object] = plan_json(plan) | describe_cost(plan.cost)
    if verilog is not None:
        document["verilog"] = _write_verilog(block, verilog)
    inputs = {"layer": layer, "config": config}
    if not (simulate or vcd):
        document |= stamp(inputs, seed=seed)
        _show_plan(plan, document, as_json=json)
        if report is not None:
            write_report(report, document)
        return 0

    from tilewright.hwc.simulate import Memories
    from tilewright.hwc.study import study_layer

    memories = Memories(stall_percent=stalls, seed=seed)
    with _stage("simulating"):
        study = study_layer(
            plan,
            simulator=simulator,
            memories=memories,
            most_steps=steps,
            seed=seed,
            measure=PLANES if baseline else (),
            vcd=vcd,
            bias=bias,
            relu=relu,
        )
    code = 0 if study.run.is_correct and study.agrees else FAILED
    document |= study.to_json() | describe_cost(study.plan.cost) | stamp(inputs, seed=seed)
    if json:
        print_json(document)
    else:
        from tilewright.report.hwc import study_report

        print_report(study_report(study))
    if report is not None:
        write_report(report, document)
    return code


def _check_simulator(name: str | None) -> None:
    if name not in (None, "amaranth", "verilator"):
        what = f"there is no simulator `{name}`"
        raise InputError(Problem(what, "write --simulator verilator, or amaranth"))


def _show_plan(plan: Plan, document: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from tilewright.report.hwc import plan_report

    print_report(plan_report(plan))


def _write_verilog(block: HwcConfig, folder: Path) -> dict[str, object]:
    """Write the Verilog, and find out what Yosys says of its size."""
    from tilewright.hwc.verilog import synthesize, to_verilog

    with _stage("writing Verilog"):
        text = to_verilog(block)
    path = folder / f"hwc_{block.name}.v"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise InputError(Problem(what, "name a folder that may be written to")) from None
    with _stage("counting cells with Yosys"):
        size = synthesize(path)
    if sys.stderr.isatty():
        print_problem(f"wrote {path}")
    found: dict[str, object] = {"file": str(path)}
    return found | {"cells": size.cells, "memory_bits": size.memory_bits}


@contextmanager
def _stage(what: str) -> Generator[None]:
    """Say on a terminal's stderr what is going on."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
