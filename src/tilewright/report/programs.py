"""Generated programs as a table for a terminal.

Owns: what `compile` prints when nobody asks for JSON.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.codegen.cpu import Cpu
from tilewright.codegen.network_result import NetworkProgram
from tilewright.codegen.result import LayerProgram
from tilewright.ir.quantity import format_bytes
from tilewright.report.tables import duration


def programs_report(cpu: Cpu, programs: Sequence[LayerProgram]) -> RenderableType:
    """A line for each program: its blocking, its predicted traffic, what was found running it."""
    heads = ["layer", "×", "register tile", "chunk", "rows", "lines from L2", "L3", "DRAM"]
    checked = any(program.check for program in programs)
    timed = any(program.speed for program in programs)
    heads += ["output"] if checked else []
    heads += ["time", "GF/s", "of peak"] if timed else []
    table = Table(header_style="bold", box=None)
    for index, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if index == 0 else "right", no_wrap=True)
    for program in programs:
        table.add_row(*_row(program, checked, timed))
    target = programs[0].made.target.name
    title = Text(f"{target} programs for {cpu.name}: {cpu.geometry}", style="bold")
    note = "lines: predicted, cold caches"
    if any(program.accesses for program in programs):
        note += "; behind / as simulated with the program's own addresses"
    return Group(title, Text(""), table, Text(""), Text(note))


def network_report(program: NetworkProgram) -> RenderableType:
    """A line for each kernel, then what is known of the whole."""
    made = program.made
    heads = ["node", "kernel", "MMAC", "register tile", "chunk", "rows", "lines from L2", "L3"]
    table = Table(header_style="bold", box=None)
    for index, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if index < 2 else "right", no_wrap=True)
    for step in made.kernels:
        choice = made.choices[step.shape]
        blocking, lines = choice.blocking, [p.total_lines for p in choice.traffic.caches]
        cells = [step.node, choice.plan.prefix.rstrip("_"), f"{step.shape.macs / 1e6:,.1f}"]
        cells += [f"{blocking.vectors}×{made.target.lanes} by {blocking.width}"]
        cells += [str(blocking.chunk), str(blocking.rows), *(f"{n:,}" for n in lines[:2])]
        table.add_row(*map(Text, cells))
    title = f"{made.steps.name}: {made.target.name} for {made.cpu.name}, {made.cpu.geometry}"
    return Group(Text(title, style="bold"), Text(""), table, Text(""), *_whole(program))


def _whole(program: NetworkProgram) -> list[Text]:
    made, size = program.made, format_bytes
    memory = f"weights {size(32 * made.text.raw_elements)}, workspace "
    memory += size(32 * made.text.workspace_elements)
    lines = [
        f"{len(made.arena.steps)} steps, {len(made.choices)} different kernels, "
        f"{made.macs / 1e6:,.0f} million multiply-accumulates; {memory}"
    ]
    built = f"generated in {made.seconds:.1f} s"
    if program.compile_seconds is not None:
        built += f", compiled in {program.compile_seconds:.1f} s: {program.library}"
    lines.append(built)
    if program.check:
        check = program.check
        verdict = "agrees with" if check.correct else "WRONG against"
        lines.append(
            f"{verdict} {check.reference}: differs by {check.max_error:.1e} at most, "
            f"{check.allowed_error:.1e} are allowed"
            + ("" if check.telling else " (all outputs are equal: this shows little)")
        )
    if program.seconds:
        speed = 2 * made.macs / program.seconds / 1e9
        lines.append(f"{duration(program.seconds)} a run, {speed:.1f} GF/s")
    return [Text(line) for line in lines]


def _row(program: LayerProgram, checked: bool, timed: bool) -> list[str]:
    blocking, made = program.made.choice.blocking, program.made
    lanes = made.target.lanes
    tile = f"{blocking.vectors}×{lanes} by {blocking.width}"
    lines = [part.total_lines for part in made.choice.traffic.caches]
    shown = [f"{count:,}" for count in lines]
    if program.accesses:
        pairs = zip(lines, program.accesses.lines, strict=True)
        shown = [f"{count:,} / {counted:,}" for count, counted in pairs]
    levels = [*shown[: min(2, len(shown) - 1)], *["–"] * (3 - len(shown)), shown[-1]]
    row = [made.workload.name, str(program.repeat), tile, str(blocking.chunk)]
    row += [str(blocking.rows), *levels]
    if checked:
        row.append(_verdict(program))
    if timed and program.speed:
        speed, peak = program.speed, program.peak_gflops
        row += [duration(speed.seconds), f"{speed.gflops:.1f}"]
        row.append(f"{speed.gflops * _real_share(program) / peak:.0%}" if peak else "–")
    return row


def _real_share(program: LayerProgram) -> float:
    """Of the multiply-accumulates, those on pixels: the others are not computed."""
    shape = program.made.shape
    return shape.real_macs / shape.macs


def _verdict(program: LayerProgram) -> str:
    if program.check is None:
        return "not run"
    if program.check.correct:
        return "exact" if program.check.max_error == 0 else f"±{program.check.max_error:.1e}"
    return f"WRONG by {program.check.max_error:.1e}"
