"""Results as tables for a terminal.

Owns: what `evaluate`, `map`, `show` and `zoo` print when nobody asks for JSON.

Non-goals: printing (the command line does), and pages (a report's business).
"""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright import tech, zoo
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import format_mapping
from tilewright.ir.quantity import format_bytes
from tilewright.ir.quantity import format_energy as energy
from tilewright.ir.workload import Network
from tilewright.joint.files import load_space
from tilewright.mapper.result import LayerResult, NetworkResult, Status
from tilewright.model.cost import Cost
from tilewright.tech import Provenance

WIDE = 118
"""Columns from which on mappings stand beside the figures."""


def figures_table(*columns: str, title: str = "") -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if index == 0 else "right", no_wrap=True)
    return table


def duration(seconds: float) -> str:
    """A time in the unit that keeps it short."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.3f} {unit}"
    return f"{seconds / 1e-9:,.1f} ns"


def cost_report(cost: Cost) -> RenderableType:
    """Everything that a priced mapping says: words, energy, cycles, area, and their sources."""
    parts: list[RenderableType] = [
        Text(f"{cost.workload.name} on {cost.hardware.name}", style="bold"),
        Text(cost.workload.einsum),
        Text(""),
        Text(format_mapping(cost.mapping), style="cyan"),
        Text(""),
        words_table(cost),
        Text(""),
        energy_table(cost),
        Text(""),
        cycles_table(cost),
        Text(""),
        summary(cost),
    ]
    return Group(*parts)


def words_table(cost: Cost) -> Table:
    """Words moved, by memory and operand."""
    table = figures_table("words", "tile", "reads", "fills", "updates", "drains", "energy")
    for level in cost.levels:
        for name, part in level.operands.items():
            moves = part.moves
            figures = (part.tile_words, moves.reads, moves.fills, moves.updates, moves.drains)
            row = [f"{level.memory} {name}", *(f"{figure:,}" for figure in figures)]
            table.add_row(*row, energy(part.energy_pj))
    return table


def energy_table(cost: Cost) -> Table:
    """Energy by level, summing to the total."""
    table = figures_table("energy", "accesses", "hops", "leakage", "sum", "share")
    whole = cost.energy_pj or 1.0
    for level in cost.levels:
        parts = (level.access_pj, level.network_pj, level.leak_pj, level.energy_pj)
        share = f"{level.energy_pj / whole:.1%}"
        table.add_row(level.memory, *(energy(part) for part in parts), share)
    name = cost.hardware.compute.name
    share = f"{cost.compute_pj / whole:.1%}"
    table.add_row(name, energy(cost.compute_pj), "", "", energy(cost.compute_pj), share)
    table.add_row("total", "", "", "", energy(cost.energy_pj), "100.0%", style="bold")
    return table


def cycles_table(cost: Cost) -> Table:
    """The cycles waterfall: the longest bar decides, the ramp is added if overlap is serial."""
    table = figures_table("cycles", "", "")
    longest = max(cycles for _, cycles in cost.waterfall) or 1
    for name, cycles in cost.waterfall:
        table.add_row(name, f"{cycles:,}", Text("█" * round(30 * cycles / longest), style="green"))
    table.columns[2].justify = "left"
    how = "the longest, ramp hidden" if cost.overlap == "perfect" else "the longest, and the ramp"
    table.add_row("total", f"{cost.cycles:,}", how, style="bold")
    return table


def summary(cost: Cost) -> Text:
    """The figures of the whole, and where energies and areas come from."""
    area = "not known" if cost.area_mm2 is None else f"{cost.area_mm2:,.3f} mm²"
    ratio = cost.dram_words / cost.limit.words
    lines = [
        f"{cost.counts.macs:,} MACs, {cost.utilization:.1%} of {cost.hardware.mac_units:,} units",
        f"{energy(cost.energy_pj)}, {duration(cost.latency_s)}, {cost.power_w:,.3f} W, "
        f"EDP {cost.edp:.4g} pJ·cycles, area {area}",
        f"{cost.hardware.levels[0].memory}: {cost.dram_words:,} words, {ratio:.2f} × the physical "
        f"limit of {cost.limit.words:,.0f}",
        f"counted in the convention `{cost.convention.name}`",
        sources(cost.tables),
    ]
    return Text("\n".join(lines))


def sources(tables: dict[str, Provenance]) -> str:
    """Where energies and areas come from, memories with the same sources together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, origin in tables.items():
        groups.setdefault((origin.energy, origin.area), []).append(name)
    return "\n".join(
        f"{', '.join(names)}: energy {energy_from}, area {area_from}"
        for (energy_from, area_from), names in groups.items()
    )


def result_report(result: NetworkResult, width: int) -> RenderableType:
    """The table of a mapped network: every layer, and the totals."""
    beside = width >= WIDE
    columns = ["layer", "×", "energy", "cycles", "util.", "DRAM words", "× limit", "status"]
    table = figures_table(*columns, title=_title(result))
    if beside:
        table.add_column("mapping", no_wrap=True)
    for layer in result.layers:
        row = _layer_row(layer)
        mapping = _mapping_of(layer) if layer.cost else ""  # reasons stand below
        table.add_row(*row, *([Text(mapping, style="cyan")] if beside else []))
    table.add_row(*_total_row(result), style="bold")
    parts: list[RenderableType] = [table]
    if not beside:
        parts += [_named_mapping(layer) for layer in result.layers if layer.cost]
    parts += list(_notes(result))
    return Group(*parts)


def _title(result: NetworkResult) -> str:
    return f"{result.network.name} on {result.hardware.name}, least {result.objective.value}"


def _layer_row(layer: LayerResult) -> list[str]:
    cost, head = layer.cost, [layer.workload.name, str(layer.repeat)]
    if cost is None:
        return [*head, "–", "–", "–", "–", "–", layer.status.value]
    return [
        *head,
        energy(cost.energy_pj),
        f"{cost.cycles:,}",
        f"{cost.utilization:.1%}",
        f"{cost.dram_words:,}",
        f"{cost.dram_words / cost.limit.words:.2f}",
        _status(layer),
    ]


def _status(layer: LayerResult) -> str:
    if layer.status is not Status.BEST_FOUND:
        return layer.status.value
    return "best found, no bound" if layer.gap is None else f"within {layer.gap:.1%}"


def _mapping_of(layer: LayerResult) -> str:
    if layer.cost is None:
        return "\n".join(f"{v.memory}: {v.what}; {v.fix}" for v in layer.violations)
    return format_mapping(layer.cost.mapping)


def _named_mapping(layer: LayerResult) -> Text:
    text = Text(f"\n{layer.workload.name}\n", style="bold")
    return text.append(_mapping_of(layer), style="cyan")


def _total_row(result: NetworkResult) -> list[str]:
    layers = sum(layer.repeat for layer in result.layers)
    limit = result.dram_limit_words
    return [
        "total",
        str(layers),
        energy(result.energy_pj),
        f"{result.cycles:,}",
        f"{result.utilization:.1%}",
        f"{result.dram_words:,}",
        f"{result.dram_words / limit:.2f}" if limit else "–",
        "",
    ]


def _notes(result: NetworkResult) -> Iterable[RenderableType]:
    yield Text("")
    missing = [layer for layer in result.layers if layer.cost is None]
    for layer in missing:
        yield Text(f"{layer.workload.name} cannot be mapped: {_mapping_of(layer)}", style="red")
    if missing:
        yield Text("the total leaves out what cannot be mapped", style="red")
    if result.interrupted:
        left = len(result.network.layers) - len(result.layers)
        yield Text(f"stopped: {left} different layers were not reached", style="yellow")
    if result.network.not_costed:
        listed = ", ".join(f"{op} {count}" for op, count in result.network.not_costed)
        yield Text(f"not costed: {listed}")
    if result.cycles:
        power = result.energy_pj * 1e-12 / result.latency_s
        yield Text(
            f"total: {duration(result.latency_s)} at {result.hardware.clock_ghz:g} GHz, "
            f"{power:.3f} W on average"
        )
    yield Text(
        f"mapspace: {result.mapspace}; convention `{result.convention.name}`; "
        f"seed {result.seed}; {result.seconds:.1f} s"
    )
    priced = next((layer.cost for layer in result.layers if layer.cost), None)
    if priced:
        yield Text(sources(priced.tables))


def network_report(network: Network) -> RenderableType:
    """The layers of a network."""
    table = figures_table("layer", "×", "MACs", title=network.name)
    table.add_column("work", no_wrap=True)
    for layer in network.layers:
        work = layer.workload
        sizes = " ".join(f"{dim}{size}" for dim, size in work.sizes.items() if size > 1)
        row = (work.name, str(layer.repeat), f"{work.macs:,}" if work.multiplies else "–")
        table.add_row(*row, f"{work.einsum}   {sizes}")
    repeats = sum(layer.repeat for layer in network.layers)
    table.add_row("total", str(repeats), f"{network.macs:,}", style="bold")
    parts: list[RenderableType] = [table]
    if network.not_costed:
        listed = ", ".join(f"{op} {count}" for op, count in network.not_costed)
        parts.append(Text(f"\nnot costed: {listed}"))
    if network.source:
        parts.append(Text(f"\nsource: {network.source.strip()}"))
    return Group(*parts)


def hardware_report(hardware: Hardware) -> RenderableType:
    """The levels of a chip."""
    table = figures_table("level", "instances", "capacity", "word", "below it", title=hardware.name)
    for index, level in enumerate(hardware.levels):
        bits = level.usable_bits()
        fanout = level.fanout
        table.add_row(
            level.memory,
            f"{hardware.instances(index):,}",
            "unlimited" if bits is None else format_bytes(bits),
            f"{level.word_bits} bits",
            f"{fanout.x} × {fanout.y}" if fanout.copies > 1 else "",
        )
    table.add_row(hardware.compute.name, f"{hardware.mac_units:,}", "", "", "")
    parts: list[RenderableType] = [table]
    if hardware.source:
        parts.append(Text(f"\nsource: {hardware.source.strip()}"))
    return Group(*parts)


def zoo_report() -> RenderableType:
    """What is built in: networks, chips, spaces, technology tables, each with its source."""
    networks = figures_table("network", "layers", "MACs")
    networks.add_column("source")
    for name in zoo.network_names():
        network = zoo.load_network(name)
        repeats = sum(layer.repeat for layer in network.layers)
        networks.add_row(name, str(repeats), f"{network.macs:,}", _first_sentence(network.source))
    chips = figures_table("chip", "memories", "MAC units")
    chips.add_column("source")
    for name in zoo.hardware_names():
        chip = zoo.load_hardware(name)
        row = (name, str(len(chip.levels)), f"{chip.mac_units:,}", _first_sentence(chip.source))
        chips.add_row(*row)
    spaces = figures_table("space", "chips")
    spaces.add_column("source")
    for name in zoo.space_names():
        space = load_space(name)
        spaces.add_row(name, f"{space.size:,}", _first_sentence(space.source))
    tables = figures_table("technology")
    tables.add_column("source")
    for name in tech.technology_names():
        tables.add_row(name, _first_sentence(tech.find_technology(name).source))
    return Group(networks, Text(""), chips, Text(""), spaces, Text(""), tables)


def _first_sentence(source: str) -> str:
    return " ".join(source.split()).partition(". ")[0]
