"""The units: one per operand. Each fetches its next tile while the multipliers are at this one.

A unit runs the loops outside its tile by itself, one tile ahead of the multipliers. `is_ready` says
that the next tile is there; `switch`, that the multipliers go on to it in this cycle. A buffer that
is not doubled holds one tile: then `leave` says that the multipliers are done with it, and wait.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed

from tilewright.hwc.config import SUM_BITS, HwcConfig
from tilewright.hwc.rtl.axis import AxisTable
from tilewright.hwc.rtl.buffer import Buffer
from tilewright.hwc.rtl.fetcher import Fetcher
from tilewright.hwc.rtl.ports import ReadPort, WritePort
from tilewright.hwc.rtl.sequencer import Sequencer
from tilewright.hwc.rtl.walker import Walker

PIPELINE = 4
"""Cycles from a step of the nest to the sum in its buffer."""


class Unit(Elaboratable):
    """What all units have.

    Attributes:
        start: a program begins.
        leave: the multipliers have come to the end of the tile and wait.
        switch: they go on to the next tile in this cycle.
        is_ready: the next tile is there.
        slid: whether the loop along which the input slides took the step to the next tile.
        at: where the next tile is, by dim.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        operand: str,
        sums: tuple[str, ...] = (),
    ) -> None:
        self.config, self.registers, self.operand = config, registers, operand
        self.is_doubled = operand in config.doubled
        self.tiles = Sequencer(config, registers, tiles_of=operand, sums=sums)
        self.at = self.tiles.at
        self.start = Signal(name=f"start_{operand}")
        self.leave = Signal(name=f"leave_{operand}")
        self.switch = Signal(name=f"switch_{operand}")
        self.is_ready = Signal(name=f"is_ready_{operand}")
        self.slid = Signal(name=f"slid_{operand}")

    def begin(self, m: Module, first: str) -> None:
        """Begin the program with the first tile."""
        m.d.comb += self.tiles.restart.eq(1)
        m.d.sync += self.slid.eq(0)
        m.next = first

    def seek(self, m: Module, found: str, over: str) -> None:
        """Step to the next tile."""
        tiles = self.tiles
        with m.If(tiles.is_last):
            m.next = over
        with m.Else():
            m.d.comb += tiles.advance.eq(1)
            m.d.sync += self.slid.eq(tiles.slides)
            with m.If(tiles.moves[self.operand]):
                m.next = found

    def hold(self, m: Module, then: str) -> None:
        """Wait until the multipliers go on to the tile."""
        m.d.comb += self.is_ready.eq(1)
        with m.If(self.switch):
            m.next = then


class WeightUnit(Unit):
    """Fetches the whole tile of weights whenever it has moved.

    Attributes beside those of every unit:
        half: whether the multipliers' tile is in the second half of the buffer.
        offset: where that half begins.
    """

    def __init__(
        self, config: HwcConfig, registers: dict[str, Signal], buffer: Buffer, port: ReadPort
    ) -> None:
        super().__init__(config, registers, "W")
        self.buffer = buffer
        parallel = ("C", registers["parallel.C"], config.channels)
        self.walker = Walker(config, registers, self.at, "W", parallel)
        self.fetcher = Fetcher(port, len(buffer.place) + len(self.walker.part))
        self.half = Signal()
        self.offset = Signal(len(buffer.place))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tiles = self.tiles
        m.submodules.walker = walker = self.walker
        m.submodules.fetcher = fetcher = self.fetcher
        loading = Signal()
        half = self.config.weight_words // self.config.channels // 2 if self.is_doubled else 0
        # A half is half of every part; without parts in parallel it is half of the whole.
        parallel = self.registers["parallel.C"]
        m.d.comb += self.offset.eq(Mux(parallel, half, half * self.config.channels))
        _connect(m, fetcher, walker, Mux(loading, self.offset, 0))
        _store(m, fetcher, self.buffer)
        m.d.comb += self.half.eq(0)
        looks = Signal()
        if self.is_doubled:
            m.d.comb += self.half.eq(looks ^ self.switch)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                self.begin(m, "SET_UP")
                if self.is_doubled:
                    m.d.sync += [looks.eq(1), loading.eq(0)]
            with m.State("SEEK"):
                self.seek(m, "SET_UP", "IDLE")
            with m.State("SET_UP"):
                m.d.comb += walker.set_up.eq(1)
                m.next = "BOX"
            with m.State("BOX"), m.If(walker.is_ready):
                m.d.comb += walker.rewind.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [fetcher.ask.eq(1), walker.step.eq(fetcher.is_taken)]
                with m.If(fetcher.is_taken & walker.is_last):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(fetcher.is_idle):
                m.next = "READY"
            with m.State("READY"):
                self.hold(m, "SEEK" if self.is_doubled else "LEAVE")
                if self.is_doubled:
                    with m.If(self.switch):
                        m.d.sync += [looks.eq(loading), loading.eq(~loading)]
            with m.State("LEAVE"):
                with m.If(self.start):
                    self.begin(m, "SET_UP")
                with m.Elif(self.leave):
                    m.next = "SEEK"
        return m


class SumUnit(Unit):
    """Sends the tile of sums away when it is left, and fetches the next one if it was begun before.

    Attributes beside those of every unit:
        finish: sends the last tile away.
        is_idle: nothing is left to send.
        ended: whether the tile that the multipliers were at needs no more iterations.
        half: which of two buffers the multipliers are at.
        bias: what is added to the sums of the channel whose results are sent.
        biases: the biases fetched.
        sums: the sums sent.
        results: the results sent.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        buffers: list[Buffer],
        ports: tuple[ReadPort, WritePort, ReadPort],
    ) -> None:
        super().__init__(config, registers, "O")
        self.bias_port = ports[2]
        self.bias = Signal(signed(SUM_BITS))
        self.biases = Signal(32)
        self.buffers = buffers
        self.port = ports[1]
        parallel = ("Q", registers["parallel.Q"], config.pixels)
        self.walker = Walker(config, registers, self.at, "O", parallel)
        count = config.count_bits
        self.left = {dim: Signal(count, name=f"left_{dim}") for dim in self.at}
        self.sender = Walker(config, registers, self.left, "O", parallel)
        self.fetcher = Fetcher(ports[0], len(buffers[0].place) + len(self.walker.part))
        self.finish = Signal()
        self.is_idle = Signal()
        self.ended = Signal()
        self.half = Signal()
        self.sending = Signal()
        """Which buffer is sent from."""
        self.sums = Signal(32)
        self.results = Signal(32)
        self.reads = Signal()
        """Whether the unit, not the multipliers, reads the buffer that is sent from."""
        self.enable = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tiles = self.tiles
        m.submodules.walker = walker = self.walker
        m.submodules.sender = sender = self.sender
        m.submodules.fetcher = fetcher = self.fetcher
        loading = Signal()
        looks = Signal()
        _connect(m, fetcher, walker, Const(0))
        for number, buffer in enumerate(self.buffers):
            _store(m, fetcher, buffer, loading == number)
            m.d.comb += buffer.read_part.eq(sender.part)
        m.d.comb += self.half.eq(Mux(self.switch, loading, looks))
        self._note_place(m)
        is_there, is_result, is_over = Signal(), Signal(), Signal()
        waits = Signal(range(PIPELINE + 2))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.is_idle.eq(1)
                with m.If(self.start):
                    self.begin(m, "SET_UP")
                    m.d.sync += [is_there.eq(0), is_over.eq(0), loading.eq(0)]
            with m.State("SEEK"):
                self.seek(m, "SET_UP", "LAST_TILE" if self.is_doubled else "IDLE")
            with m.State("SET_UP"):
                m.d.comb += walker.set_up.eq(1)
                m.next = "BOX"
            with m.State("BOX"), m.If(walker.is_ready):
                m.d.comb += walker.rewind.eq(1)
                m.next = "FETCH"
                with m.If(self.tiles.begins):
                    m.next = "READY"
            with m.State("FETCH"):
                m.d.comb += [fetcher.ask.eq(1), walker.step.eq(fetcher.is_taken)]
                with m.If(fetcher.is_taken & walker.is_last):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(fetcher.is_idle):
                m.next = "READY"
            with m.State("READY"):
                self.hold(m, "SEEK" if self.is_doubled else "LEAVE")
                with m.If(self.switch):
                    m.d.sync += [is_there.eq(1), looks.eq(loading), waits.eq(PIPELINE + 1)]
                    if self.is_doubled:
                        m.d.sync += [is_result.eq(self.ended), self.sending.eq(looks)]
                        m.d.sync += loading.eq(~loading)
                        with m.If(is_there):
                            m.d.comb += sender.set_up.eq(1)
                            m.next = "RUN_DRY"
            if self.is_doubled:
                with m.State("RUN_DRY"):
                    m.d.sync += waits.eq(waits - 1)
                    with m.If((waits == 0) & sender.is_ready):
                        self._begin_sending(m, is_result)
            waiting = "LAST_TILE" if self.is_doubled else "LEAVE"
            with m.State(waiting), m.If(self.leave | self.finish):
                m.d.comb += sender.set_up.eq(1)
                m.d.sync += [is_result.eq(self.ended), is_over.eq(self.finish)]
                m.d.sync += self.sending.eq(looks)
                m.next = "SEND_BOX"
            with m.State("SEND_BOX"), m.If(sender.is_ready):
                self._begin_sending(m, is_result)
            with m.State("SEND"):
                flows = self._drain(m, is_result)
                with m.If(flows & sender.is_last):
                    m.next = "LAST"
                with m.Elif(flows & sender.crosses & is_result & self.registers["bias"]):
                    m.next = "NEXT_CHANNEL"
            self._fetch_bias(m)
            with m.State("LAST"):
                m.d.comb += self.reads.eq(1)
                with m.If(~self.port.put | self.port.put_ready):
                    m.d.sync += self.port.put.eq(0)
                    m.next = "SEEK"
                    with m.If(is_over):
                        m.next = "IDLE"
        self._send(m)
        return m

    def _note_place(self, m: Module) -> None:
        """Remember where the tile is that the multipliers are at, for when it is sent."""
        held = {dim: Signal(self.config.count_bits, name=f"held_{dim}") for dim in self.at}
        with m.If(self.switch):
            m.d.sync += [held[dim].eq(self.at[dim]) for dim in self.at]
        with m.If(self.sender.set_up):
            m.d.sync += [self.left[dim].eq(held[dim]) for dim in self.at]

    def _drain(self, m: Module, is_result: Signal) -> Signal:
        """Read a word and hand the one before to the port, while the port takes them."""
        port, sender = self.port, self.sender
        flows = Signal()
        m.d.comb += [
            flows.eq(~port.put | port.put_ready),
            self.reads.eq(1),
            self.enable.eq(flows),
            sender.step.eq(flows),
        ]
        with m.If(flows):
            m.d.sync += [port.put.eq(1), port.address.eq(sender.memory)]
            m.d.sync += port.is_result.eq(is_result)
        return flows

    def _begin_sending(self, m: Module, is_result: Signal) -> None:
        m.d.comb += self.sender.rewind.eq(1)
        m.next = "SEND"
        with m.If(is_result & self.registers["bias"]):
            m.next = "ASK_BIAS"

    def _fetch_bias(self, m: Module) -> None:
        """The states that fetch the bias of the next channel, once the last word has gone."""
        port, sender = self.bias_port, self.sender
        with m.State("NEXT_CHANNEL"):
            m.d.comb += self.reads.eq(1)
            with m.If(~self.port.put | self.port.put_ready):
                m.d.sync += self.port.put.eq(0)
                m.next = "ASK_BIAS"
        with m.State("ASK_BIAS"):
            group = self.left["G"] + sender.index["G"]
            channel = self.left["K"] + sender.index["K"]
            m.d.comb += port.ask.eq(1)
            m.d.comb += port.address.eq(group * self.registers["size.K"] + channel)
            with m.If(port.ask_ready):
                m.next = "BIAS"
        with m.State("BIAS"):
            m.d.comb += port.answer_ready.eq(1)
            with m.If(port.answer):
                m.d.sync += [self.bias.eq(port.data), self.biases.eq(self.biases + 1)]
                m.next = "SEND"

    def _send(self, m: Module) -> None:
        port, registers = self.port, self.registers
        bits = self.config.data_bits
        highest, lowest = (1 << (bits - 1)) - 1, -(1 << (bits - 1))
        total = Array([buffer.word for buffer in self.buffers])[self.sending]
        biased = Signal(signed(SUM_BITS))
        m.d.comb += biased.eq(total + Mux(registers["bias"], self.bias, 0))
        half = Signal(signed(SUM_BITS + 1))
        shifted = Signal(signed(SUM_BITS + 1))
        m.d.comb += half.eq(
            Mux(registers["shift"] == 0, 0, (Const(1, 33) << registers["shift"]) >> 1)
        )
        m.d.comb += shifted.eq((biased + half) >> registers["shift"])
        result = Signal(signed(bits))
        floor = Mux(registers["relu"], Const(0, signed(bits + 1)), Const(lowest, signed(bits + 1)))
        with m.If(shifted < floor):
            m.d.comb += result.eq(floor)
        with m.Elif(shifted > highest):
            m.d.comb += result.eq(highest)
        with m.Else():
            m.d.comb += result.eq(shifted)
        m.d.comb += port.data.eq(Mux(port.is_result, result, total))
        with m.If(port.put & port.put_ready):
            with m.If(port.is_result):
                m.d.sync += self.results.eq(self.results + 1)
            with m.Else():
                m.d.sync += self.sums.eq(self.sums + 1)


class InputUnit(Unit):
    """Fetches the words of the next tile of inputs that are not there.

    Attributes beside those of every unit:
        rows, columns: the axes' tables.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        steps: Sequencer,
        buffers: list[Buffer],
        port: ReadPort,
    ) -> None:
        super().__init__(config, registers, "I", ("row", "column"))
        self.steps, self.buffers = steps, buffers
        parallel = ("C", registers["parallel.C"], config.channels)
        self.walker = Walker(config, registers, self.at, "I", parallel)
        self.fetcher = Fetcher(port, len(buffers[0].place) + len(self.walker.part))
        self.rows = AxisTable(config, registers, "row", 1)
        self.columns = AxisTable(config, registers, "column", config.pixels)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tiles = self.tiles
        m.submodules.walker = walker = self.walker
        m.submodules.fetcher = fetcher = self.fetcher
        m.submodules.rows, m.submodules.columns = self.rows, self.columns
        rows, columns, at = self.rows, self.columns, self.at
        self._place_axes(m)

        is_there = Signal()
        plane = {dim: Signal(self.config.count_bits, name=f"plane_{dim}") for dim in "NGC"}
        other_plane = Signal()
        different = [plane[dim] != at[dim] for dim in "NGC"]
        m.d.comb += other_plane.eq(~is_there | different[0] | different[1] | different[2])
        row, column, first_row = self._word(m)
        axes_idle = rows.is_idle & columns.is_idle & walker.is_ready

        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                self._begin(m, is_there)
            with m.State("SEEK"):
                self.seek(m, "SET_UP", "IDLE")
            with m.State("SET_UP"):
                m.d.comb += walker.set_up.eq(1)
                m.d.sync += is_there.eq(1)
                m.d.sync += [plane[dim].eq(at[dim]) for dim in "NGC"]
                with m.If(other_plane):
                    m.d.comb += [rows.fill.eq(1), columns.fill.eq(1)]
                    m.next = "FILL"
                with m.Else():
                    m.d.comb += [rows.compare.eq(1), columns.compare.eq(1)]
                    m.next = "COMPARE"
            with m.State("COMPARE"), m.If(axes_idle):
                with m.If(rows.is_same & columns.is_same):
                    m.next = "READY"
                with m.Else():
                    m.d.comb += [rows.fill.eq(1), columns.fill.eq(1)]
                    m.d.comb += [rows.keep.eq(self.slid), columns.keep.eq(self.slid)]
                    m.next = "FILL"
            with m.State("FILL"), m.If(axes_idle):
                m.d.comb += walker.rewind.eq(1)
                m.d.sync += [row.eq(first_row), column.eq(self._first_column(first_row))]
                m.next = "FETCH"
                with m.If((first_row == rows.total) | (columns.total == 0)):
                    m.next = "READY"
            with m.State("FETCH"):
                m.d.comb += fetcher.ask.eq(1)
                with m.If(fetcher.is_taken):
                    self._next_word(m, row, column, first_row)
                    ends = (column + 1 == columns.total) & (row + 1 == rows.total)
                    with m.If(ends & walker.is_last):
                        m.next = "WAIT"
            with m.State("WAIT"), m.If(fetcher.is_idle):
                m.next = "READY"
            with m.State("READY"):
                self.hold(m, "SEEK" if self.is_doubled else "LEAVE")
            with m.State("LEAVE"):
                with m.If(self.start):
                    self._begin(m, is_there)
                with m.Elif(self.leave):
                    m.next = "SEEK"
        return m

    def _begin(self, m: Module, is_there: Signal) -> None:
        self.begin(m, "SET_UP")
        m.d.sync += is_there.eq(0)
        m.d.comb += [self.rows.forget.eq(1), self.columns.forget.eq(1)]

    def _place_axes(self, m: Module) -> None:
        """Tell the axes where the next tile is, and what the multipliers ask for."""
        at, tiles, steps = self.at, self.tiles, self.steps
        for table, outer, inner in ((self.rows, "P", "R"), (self.columns, "Q", "S")):
            register = table.registers
            for length, dim, span in (
                (table.outputs, outer, register["outer_span"]),
                (table.filters, inner, register["inner_span"]),
            ):
                room = self.registers[f"size.{dim}"] - at[dim]
                m.d.comb += length.eq(Mux(span < room, span, room))
            m.d.comb += [
                table.first.eq(tiles.sums[table.name]),
                table.apart.eq(register["apart"]),
                table.switch.eq(self.switch),
            ]
            for pixel, asked in enumerate(table.asked):
                further = register["outer_step"] * pixel
                m.d.comb += asked.eq(steps.sums[table.name] + further)

    def _word(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """The present word: its row and column in the lists; and the first row that has one."""
        rows, columns = self.rows, self.columns
        row = Signal(len(rows.total))
        column = Signal(len(columns.total))
        first_row = Signal(len(rows.total))
        fetcher, walker = self.fetcher, self.walker
        place = Signal(len(self.buffers[0].place))
        for buffer in self.buffers:
            _store(m, fetcher, buffer)
        m.d.comb += [
            first_row.eq(Mux(columns.kept == columns.total, rows.kept, 0)),
            rows.list_index.eq(row),
            columns.list_index.eq(column),
            fetcher.memory.eq(
                walker.memory
                + rows.list_coordinate * self.registers["column.length"]
                + columns.list_coordinate
            ),
            place.eq(
                walker.buffer + rows.list_slot * self.registers["row.pitch"] + columns.list_slot
            ),
            fetcher.buffer.eq(Cat(place, walker.part)),
        ]
        return row, column, first_row

    def _first_column(self, row: Value) -> Value:
        """Of a row that was kept only the new columns are fetched."""
        return Mux(row < self.rows.kept, self.columns.kept, 0)

    def _next_word(self, m: Module, row: Signal, column: Signal, first_row: Signal) -> None:
        with m.If(column + 1 < self.columns.total):
            m.d.sync += column.eq(column + 1)
        with m.Elif(row + 1 < self.rows.total):
            m.d.sync += [row.eq(row + 1), column.eq(self._first_column(row + 1))]
        with m.Else():
            m.d.sync += [row.eq(first_row), column.eq(self._first_column(first_row))]
            m.d.comb += self.walker.step.eq(1)


def _connect(m: Module, fetcher: Fetcher, walker: Walker, offset: Value) -> None:
    """What the walker names is fetched."""
    # A buffer's addresses are shorter than the registers' where it is one of several copies.
    place = Signal(len(fetcher.buffer) - len(walker.part), name="fetched_place")
    m.d.comb += [
        place.eq(walker.buffer + offset),
        fetcher.memory.eq(walker.memory),
        fetcher.buffer.eq(Cat(place, walker.part)),
    ]


def _store(m: Module, fetcher: Fetcher, buffer: Buffer, chosen: Value | None = None) -> None:
    """What arrives is written, if the buffer is chosen."""
    bits = len(buffer.place)
    m.d.comb += [
        buffer.put.eq(fetcher.arrives if chosen is None else fetcher.arrives & chosen),
        buffer.place.eq(fetcher.place[:bits]),
        buffer.put_part.eq(fetcher.place[bits:]),
        buffer.data.eq(fetcher.word),
    ]
