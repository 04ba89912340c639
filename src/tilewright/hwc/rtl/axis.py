"""An axis of the input tile: which coordinates it has, and in which slot of the buffer each lies.

A tile's rows are `stride·p + dilation·r` for a range of p and of r: they may have gaps, and
tiles overlap in every way. So a coordinate is given whatever slot is free, and a table says which.
When the tile slides, coordinates that stay keep their slots; the others' are given to the new ones:
circular addressing that works for gaps too.

There are two tables: the multipliers look into that of the tile they are at while the other one is
written for the next tile.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory

from tilewright.hwc.config import HwcConfig


class AxisTable(Elaboratable):
    """The coordinates of the tile on one axis.

    Attributes:
        forget: there is no tile.
        compare: begins to look which coordinates of the next tile the last one has.
        keep: with `fill`: those found by `compare` stay; else none does.
        fill: begins to give slots to those that are not there.
        apart: the slots of the last tile are not given to the next one: it is still in use.
        first: the coordinate of the next tile's first output and filter word.
        outputs: the length of the next tile along the outer dim.
        filters: and along the inner one.
        is_idle: nothing is going on.
        is_same: after `compare`: the next tile has exactly the coordinates of the last one.
        total: how many coordinates the next tile has; its list begins with those kept.
        kept: how many were kept.
        list_index: which one of the list is asked for.
        list_coordinate: the answer.
        list_slot: and its slot.
        switch: the multipliers go on to the next tile in this cycle.
        asked: coordinates of the multipliers, one for each pixel in parallel.
        slots: the slots that they lie in.
        is_padding: whether they are no words.
    """

    def __init__(
        self, config: HwcConfig, registers: dict[str, Signal], name: str, asks: int
    ) -> None:
        size = getattr(config, f"{name}s")
        self.size, self.name = size, name
        self.registers = {
            key.removeprefix(f"{name}."): value
            for key, value in registers.items()
            if key.startswith(f"{name}.")
        }
        count, slot = config.count_bits, max(1, (size - 1).bit_length())
        self.slot_bits, self.count_bits = slot, count
        self.coordinate = signed(count + 2)
        self.forget = Signal()
        self.compare = Signal()
        self.keep = Signal()
        self.fill = Signal()
        self.apart = Signal()
        self.first = Signal(self.coordinate)
        self.outputs = Signal(count)
        self.filters = Signal(count)
        self.is_idle = Signal()
        self.is_same = Signal()
        self.total = Signal(slot + 1)
        self.kept = Signal(slot + 1)
        self.list_index = Signal(slot)
        self.list_coordinate = Signal(count)
        self.list_slot = Signal(slot)
        self.switch = Signal()
        self.asked = [Signal(self.coordinate, name=f"asked{i}") for i in range(asks)]
        self.slots = [Signal(slot, name=f"slot{i}") for i in range(asks)]
        self.is_padding = [Signal(name=f"is_padding{i}") for i in range(asks)]
        self.loaded = Signal()
        """Which table the last tile is in."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slots = self._memory(m, "slots", self.slot_bits, 2)
        owners = self._memory(m, "owners", self.count_bits, 2)
        listed = self._memory(m, "listed", self.slot_bits + self.count_bits, 1)
        x, in_range, step, at_end = self._enumerate(m)
        used = Signal(self.size)
        held_in, is_held = self._look_up(m, x, used, slots, owners)
        free = Signal(self.slot_bits)
        taken = Signal(self.size)
        listing = Signal()
        slot = Signal(self.slot_bits)
        self._note(m, x, slot, listing, slots, owners)
        self._list(m, x, slot, listing, listed)
        blocked = Signal(self.size)
        m.d.comb += blocked.eq(taken | Mux(self.apart, used, 0))
        is_free = ~blocked.bit_select(free, 1)
        before = Signal(self.slot_bits + 1)
        seen = Signal(self.slot_bits + 1)
        keeps = Signal()
        skipped = Signal()
        is_known = self._recognise(m)
        m.d.comb += self.is_same.eq(skipped | ((self.total == seen) & (before == seen)))
        with m.If(self.forget):
            m.d.sync += [used.eq(0), before.eq(0), self.total.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.is_idle.eq(1)
                with m.If(self.compare):
                    m.d.sync += skipped.eq(is_known)
                with m.If(self.compare & ~is_known):
                    m.d.sync += [taken.eq(0), seen.eq(0), before.eq(self.total)]
                    m.d.sync += self.total.eq(0)
                    m.next = "COMPARE"
                with m.Elif(self.fill & is_known & (self.keep | ~self.apart)):
                    m.d.sync += self.kept.eq(Mux(self.keep, self.total, 0))
                with m.Elif(self.fill):
                    m.d.sync += [taken.eq(Mux(self.keep, taken, 0)), free.eq(0)]
                    m.d.sync += self.kept.eq(Mux(self.keep, self.total, 0))
                    m.d.sync += keeps.eq(self.keep)
                    with m.If(~self.keep):
                        m.d.sync += self.total.eq(0)
                    m.next = "FILL"
            with m.State("COMPARE"):
                m.d.comb += [step.eq(1), slot.eq(held_in), listing.eq(in_range & is_held)]
                with m.If(in_range):
                    m.d.sync += seen.eq(seen + 1)
                with m.If(listing):
                    m.d.sync += taken.eq(taken | self._bit(held_in))
                with m.If(at_end):
                    m.next = "IDLE"
            with m.State("FILL"):
                wanted = in_range & ~(is_held & keeps)
                m.d.comb += [step.eq(~wanted | is_free), slot.eq(free)]
                m.d.comb += listing.eq(wanted & is_free)
                with m.If(listing):
                    m.d.sync += taken.eq(taken | self._bit(free))
                with m.If(wanted):
                    m.d.sync += free.eq(free + 1)
                with m.If(step & at_end):
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.sync += [used.eq(taken), self.loaded.eq(~self.loaded)]
                m.next = "IDLE"
        self._answer(m, slots, listed)
        return m

    def _recognise(self, m: Module) -> Value:
        """Whether the next tile's coordinates are, by its place and lengths, the last one's."""
        places = (self.first, self.outputs, self.filters)
        known = Signal()
        last = [Signal.like(place, name=f"last{i}") for i, place in enumerate(places)]
        with m.If(self.forget):
            m.d.sync += known.eq(0)
        with m.Elif(self.fill & self.is_idle):
            m.d.sync += [known.eq(1), *(old.eq(new) for old, new in zip(last, places, strict=True))]
        same = [old == new for old, new in zip(last, places, strict=True)]
        return known & Cat(*same).all()

    def _look_up(
        self, m: Module, x: Signal, used: Signal, slots: Memory, owners: Memory
    ) -> tuple[Signal, Signal]:
        """The slot in which a coordinate may lie, and whether it does: the slot must know of it."""
        slot, owner = slots.read_port(domain="comb"), owners.read_port(domain="comb")
        held_in = Signal(self.slot_bits)
        is_held = Signal()
        m.d.comb += [
            slot.addr.eq(Cat(x[: self.slot_bits], self.loaded)),
            held_in.eq(slot.data),
            owner.addr.eq(Cat(held_in, self.loaded)),
            is_held.eq(used.bit_select(held_in, 1) & (owner.data == x[: self.count_bits])),
        ]
        return held_in, is_held

    def _note(
        self, m: Module, x: Signal, slot: Signal, notes: Signal, slots: Memory, owners: Memory
    ) -> None:
        """Write the slot of a coordinate into the table of the next tile."""
        put, owner = slots.write_port(), owners.write_port()
        m.d.comb += [
            put.en.eq(notes),
            put.addr.eq(Cat(x[: self.slot_bits], ~self.loaded)),
            put.data.eq(slot),
            owner.en.eq(notes),
            owner.addr.eq(Cat(slot, ~self.loaded)),
            owner.data.eq(x[: self.count_bits]),
        ]

    def _list(self, m: Module, x: Signal, slot: Signal, listing: Signal, listed: Memory) -> None:
        """Append a coordinate and its slot to the list."""
        entry = listed.write_port()
        m.d.comb += [
            entry.en.eq(listing),
            entry.addr.eq(self.total[: self.slot_bits]),
            entry.data.eq(Cat(slot, x[: self.count_bits])),
        ]
        with m.If(listing):
            m.d.sync += self.total.eq(self.total + 1)

    def _bit(self, slot: Signal) -> Value:
        """One bit for a slot; a shifter is far smaller than a choice among all bits."""
        return (Const(1, self.size) << slot)[: self.size]

    def _memory(self, m: Module, name: str, bits: int, tables: int) -> Memory:
        memory = Memory(shape=unsigned(bits), depth=tables << self.slot_bits, init=[])
        m.submodules[name] = memory
        return memory

    def _enumerate(self, m: Module) -> tuple[Signal, Signal, Signal, Signal]:
        """Go through all coordinates of the next tile, each once, while `step` is set.

        The same coordinate comes again `outer_repeat` outputs further with `inner_repeat` filter
        words less: from there on, only the last filter words are new.
        """
        register, count = self.registers, self.count_bits
        outer = Signal(count)
        inner = Signal(count)
        skipped = Signal(count)
        row = Signal(self.coordinate)
        x = Signal(self.coordinate)
        skip = Signal(self.coordinate)
        step = Signal()
        at_end = Signal()
        in_range = Signal()
        repeat = register["inner_repeat"]
        m.d.comb += skipped.eq(Mux(self.filters > repeat, self.filters - repeat, 0))
        m.d.comb += skip.eq(skipped * register["inner_step"])
        row_ends = Signal()
        is_last_row = Signal()
        m.d.comb += [
            row_ends.eq(inner + 1 >= self.filters),
            is_last_row.eq(outer + 1 >= self.outputs),
            at_end.eq(row_ends & is_last_row),
            in_range.eq((x >= 0) & (x < register["length"])),
        ]
        following = row + register["outer_step"]
        repeats = outer + 1 >= register["outer_repeat"]
        begins = self.compare | self.fill | (step & at_end)
        with m.If(begins):
            m.d.sync += [outer.eq(0), inner.eq(0), row.eq(self.first), x.eq(self.first)]
        with m.Elif(step & row_ends):
            m.d.sync += [outer.eq(outer + 1), row.eq(following)]
            m.d.sync += inner.eq(Mux(repeats, skipped, 0))
            m.d.sync += x.eq(following + Mux(repeats, skip, Const(0, self.coordinate)))
        with m.Elif(step):
            m.d.sync += [inner.eq(inner + 1), x.eq(x + register["inner_step"])]
        return x, in_range, step, at_end

    def _answer(self, m: Module, slots: Memory, listed: Memory) -> None:
        looks = Signal()
        at = Signal()
        m.d.comb += at.eq(Mux(self.switch, self.loaded, looks))
        m.d.sync += looks.eq(at)
        for asked, slot, is_padding in zip(self.asked, self.slots, self.is_padding, strict=True):
            answer = slots.read_port(domain="comb")
            m.d.comb += [
                answer.addr.eq(Cat(asked[: self.slot_bits], at)),
                slot.eq(answer.data),
                is_padding.eq((asked < 0) | (asked >= self.registers["length"])),
            ]
        entry = listed.read_port(domain="comb")
        m.d.comb += [
            entry.addr.eq(self.list_index),
            self.list_slot.eq(entry.data[: self.slot_bits]),
            self.list_coordinate.eq(entry.data[self.slot_bits :]),
        ]
