"""The verb `compile`: a network in, C programs out; built, checked, measured.

Owns: a program for every layer. One program for a whole ONNX file: `compile_network.py`.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.compile_network import compile_whole, is_whole
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
from tilewright.ir.workload import Network, Workload
from tilewright.loading import load
from tilewright.report.describe import Json, add_work

if TYPE_CHECKING:
    from tilewright.codegen.cpu import Cpu
    from tilewright.codegen.kernel import Generated
    from tilewright.codegen.result import LayerProgram

EXAMPLE = "Example: tilewright compile resnet18:layer1.0.conv1 --run --bench --out programs"
WRONG = 1


def compile_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    target: Annotated[
        str, typer.Option(help="Instruction set: native, avx2, avx512, neon or portable.")
    ] = "native",
    threads: Annotated[int, typer.Option(min=1, help="Cores that share the work.")] = 1,
    dtype: Annotated[
        str, typer.Option(help="float32, or int8 with sums of 32 bits; `bits` are not looked at.")
    ] = "float32",
    relu: Annotated[bool, typer.Option("--relu", help="Results below 0 become 0.")] = False,
    pool: Annotated[
        str, typer.Option(help="What pooling does with a window: sum, average or max.")
    ] = "sum",
    objective: Annotated[
        str, typer.Option(help="time, or accesses: the fewest lines from L2, L3 and DRAM.")
    ] = "time",
    cpu: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Block for this CPU's caches, not this machine's."),
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="Run each program and compare with numpy.")
    ] = False,
    bench: Annotated[
        bool, typer.Option("--bench", help="Also measure speed and simulate the caches.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Time to measure each program for.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the .c and .h files there.")
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Of an ONNX file, too, a program for every layer.")
    ] = False,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Write, build, check and measure C programs: of an ONNX file one for all, else one a layer."""
    require_default(convention, "compile")
    from tilewright.codegen import cpu as cpus
    from tilewright.codegen.result import summarise

    if report is not None:
        check_report(report)
    machine = _for_here(cpus.load_cpu(cpu), cpus.host()) if cpu else cpus.host()
    if is_whole(workload) and not per_layer:
        from tilewright.codegen.network import generate_network

        _check_whole(dtype=dtype, relu=relu, pool=pool)
        whole = generate_network(
            workload,
            batch=batch,
            shapes=parse_shapes(shape),
            cpu=machine,
            target=target,
            threads=threads,
            objective=objective,
        )
        return compile_whole(
            workload,
            whole,
            run=run,
            bench=bench,
            seconds=seconds,
            out=out,
            report=report,
            json=json,
        )
    network = load(workload, batch=batch, shapes=parse_shapes(shape))
    options = {"target": target, "dtype": dtype, "pool": pool, "objective": objective}
    made = _generate(network, machine, options, relu=relu, threads=threads)
    files = {one.workload.name: one.write(out) for one in made} if out else {}
    found = list(_work(network, made, run=run or bench, bench=bench, seconds=seconds, out=out))
    document: Json = summarise(machine, found) | {"workload": network.name}
    add_work(document["layers"], [one.workload for one in made])
    for layer, one in zip(document["layers"], made, strict=True):
        layer["files"] = [str(path) for path in files.get(one.workload.name, ())]
    document["files"] = [path for layer in document["layers"] for path in layer["files"]]
    document |= stamp({"workload": workload}, seed=0)
    if json:
        print_json(document)
    else:
        from tilewright.report.programs import programs_report

        print_report(programs_report(machine, found))
        if out:
            print_problem(f"wrote {2 * len(files)} files to {out}")
    if report is not None:
        write_report(report, document)
    return WRONG if any(each.check and not each.check.correct for each in found) else 0


def _check_whole(*, dtype: str, relu: bool, pool: str) -> None:
    """Raise `InputError` for options that a whole network has no use for."""
    problems: list[Problem] = []
    if dtype != "float32":
        what = f"--dtype {dtype}: whole networks are compiled for float32"
        problems.append(Problem(what, "add --per-layer"))
    if relu or pool != "sum":
        what = "--relu and --pool: a graph says itself what its layers do"
        problems.append(Problem(what, "leave them out, or add --per-layer"))
    if problems:
        raise InputError(problems)


def _for_here(given: "Cpu", host: "Cpu") -> "Cpu":
    """A given CPU's caches; with the flags of the host, if it runs what the given one does."""
    return replace(given, flags=host.flags) if host.supports(given.native()) else given


def _generate(
    network: Network, machine: "Cpu", options: dict[str, str], *, relu: bool, threads: int
) -> "list[Generated]":
    """A program for every layer, or every problem of every layer: nothing is written before."""
    from tilewright.codegen.kernel import generate

    made: list[Generated] = []
    problems: list[Problem] = []
    for work in _named(network):
        try:
            made.append(generate(work, cpu=machine, relu=relu, threads=threads, **options))
        except InputError as error:
            problems += [p for p in error.problems if p not in problems]
    if problems:
        raise InputError(problems)
    return made


def _named(network: Network) -> list[Workload]:
    """The layers, those whose names are the same in C numbered."""
    from tilewright.codegen.emit import c_name

    taken: dict[str, int] = {}
    works: list[Workload] = []
    for layer in network.layers:
        work = layer.workload
        times = taken[c_name(work.name)] = taken.get(c_name(work.name), 0) + 1
        works.append(work if times == 1 else replace(work, name=f"{work.name}_{times}"))
    return works


def _work(  # noqa: PLR0913
    network: Network,
    made: "list[Generated]",
    *,
    run: bool,
    bench: bool,
    seconds: float,
    out: Path | None,
) -> "list[LayerProgram]":
    """Build, check and measure, with a bar on stderr. With `out` alone nothing is built."""
    from rich.console import Console
    from rich.progress import Progress

    from tilewright.codegen.result import LayerProgram, examine

    found: list[LayerProgram] = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"compiling {network.name}", total=len(made))
        for layer, one in zip(network.layers, made, strict=True):
            bar.update(task, description=f"compiling {one.workload.name}")
            if out and not run:
                found.append(LayerProgram(one, layer.repeat))
            else:
                found.append(examine(one, layer.repeat, check=run, bench=bench, seconds=seconds))
            bar.advance(task)
    return found
