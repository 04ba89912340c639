"""What limits a layer, as tables for a terminal.

Owns: what `explain` prints.

Non-goals: finding it out (`analysis/explain.py`).
"""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from tilewright.analysis.explain import Explanation, Gain
from tilewright.ir.mapping import format_mapping
from tilewright.ir.quantity import format_bytes
from tilewright.mapper.result import Status
from tilewright.report.tables import energy, figures_table


def explanation_report(found: Explanation) -> RenderableType:
    """The answer in words, the mapping, cycles, array, capacities, energy, gains."""
    title = f"{found.workload.name} on {found.hardware.name}, least {found.objective.value}"
    parts: list[RenderableType] = [Text(title, style="bold")]
    parts += [Text(f"  {sentence}") for sentence in found.sentences]
    for section in (_mapping, _cycles, _axes, _rooms, _energy, _gains):
        rows = list(section(found))
        parts += [Text(""), *rows] if rows else []
    if found.interrupted:
        parts.append(Text("\nstopped: not everything was doubled", style="yellow"))
    return Group(*parts)


def _mapping(found: Explanation) -> Iterator[RenderableType]:
    if found.cost is None:
        return
    label = "given" if found.given is not None else _status(found)
    yield Text(f"mapping, {label}").append("\n" + format_mapping(found.cost.mapping), style="cyan")


def _status(found: Explanation) -> str:
    if found.best.status is Status.OPTIMAL:
        return "proved the best"
    gap = found.best.gap
    return "the best found" if gap is None else f"the best found, within {gap:.1%}"


def _cycles(found: Explanation) -> Iterator[RenderableType]:
    if not found.cycles_of:
        return
    table = figures_table("cycles", "", "of the longest")
    longest = max(found.cycles_of.values()) or 1
    for name, cycles in found.cycles_of.items():
        mark = " ◂ limit" if name == found.bound_by else ""
        table.add_row(name + mark, f"{cycles:,}", f"{cycles / longest:.1%}")
    yield table


def _axes(found: Explanation) -> Iterator[RenderableType]:
    if not found.axes:
        return
    table = figures_table("array", "used", "copies", "share", "unrolled")
    for axis in found.axes:
        share = f"{axis.used / axis.copies:.0%}"
        name = f"{axis.memory} {axis.axis}"
        table.add_row(name, f"{axis.used:,}", f"{axis.copies:,}", share, axis.loops or "–")
    yield table


def _rooms(found: Explanation) -> Iterator[RenderableType]:
    rooms = [room for room in found.rooms if room.operands and room.capacity_bits is not None]
    if not rooms:
        return
    table = figures_table("capacity", "tiles", "room", "full")
    for room in rooms:
        name = f"{room.memory} {' '.join(room.operands)}"
        whole = room.capacity_bits or 1
        row = (format_bytes(room.used_bits), format_bytes(whole), f"{room.used_bits / whole:.1%}")
        table.add_row(name, *row)
    yield table


def _energy(found: Explanation) -> Iterator[RenderableType]:
    if found.cost is None or not found.cost.energy_pj:
        return
    table = figures_table("energy", "", "share")
    whole = found.cost.energy_pj
    parts = [(level.memory, level.energy_pj) for level in found.cost.levels]
    for name, pj in [*parts, (found.hardware.compute.name, found.cost.compute_pj)]:
        table.add_row(name, energy(pj), f"{pj / whole:.1%}")
    yield table


def _gains(found: Explanation) -> Iterator[RenderableType]:
    if not found.gains:
        return
    head = ("doubled", "from", "to", "energy", "cycles", "DRAM words", found.objective.value)
    table = figures_table(*head, "proof", "energies")
    before = found.best.cost
    if before is not None:
        figures = (energy(before.energy_pj), f"{before.cycles:,}", f"{before.dram_words:,}")
        table.add_row("as it is", "", "", *figures, "", _proof(found.best.status.value), "")
    for gain in found.gains:
        table.add_row(*_gain_row(gain))
    yield table
    if before is not None and found.given is not None:
        yield Text("gains are those of the best mapping, not of the given one")


def _gain_row(gain: Gain) -> list[str]:
    cost = gain.after.cost
    if cost is None:
        return [gain.name, gain.now, gain.then, "–", "–", "–", "–", gain.after.status.value, ""]
    saved = gain.saved or 0.0
    change = "=" if abs(saved) < 1e-9 else f"{-saved:+.1%}".replace("-", "−")
    figures = (energy(cost.energy_pj), f"{cost.cycles:,}", f"{cost.dram_words:,}")
    proof = _proof(gain.after.status.value) if gain.is_proved else _doubt(gain)
    return [gain.name, gain.now, gain.then, *figures, change, proof, gain.pricing]


def _proof(status: str) -> str:
    return "proved" if status == Status.OPTIMAL.value else status.replace("_", " ")


def _doubt(gain: Gain) -> str:
    return "no bound" if gain.at_most is None else f"at most −{gain.at_most:.1%}"
