"""The units: one per operand. Each brings its tile up to date when the nest has moved on.

`go` tells a unit that its tile may have moved to `at`; `is_idle` says that the tile is there.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Const, Elaboratable, Module, Mux, Signal, Value, signed

from tilewright.hwc.config import SUM_BITS, HwcConfig
from tilewright.hwc.rtl.axis import AxisTable
from tilewright.hwc.rtl.buffer import Buffer
from tilewright.hwc.rtl.fetcher import Fetcher
from tilewright.hwc.rtl.ports import ReadPort, WritePort
from tilewright.hwc.rtl.sequencer import Sequencer
from tilewright.hwc.rtl.walker import Walker


class WeightUnit(Elaboratable):
    """Fetches the whole tile of weights whenever it has moved."""

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        sequencer: Sequencer,
        buffer: Buffer,
        port: ReadPort,
    ) -> None:
        self.buffer = buffer
        self.walker = Walker(config, registers, sequencer.at, "W")
        self.fetcher = Fetcher(port, len(buffer.place))
        self.go = Signal()
        self.is_idle = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = self.walker
        m.submodules.fetcher = fetcher = self.fetcher
        _connect(m, fetcher, walker, self.buffer)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.is_idle.eq(1), walker.set_up.eq(self.go)]
                with m.If(self.go):
                    m.next = "SET_UP"
            with m.State("SET_UP"), m.If(walker.is_ready):
                m.d.comb += walker.rewind.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [fetcher.ask.eq(1), walker.step.eq(fetcher.is_taken)]
                with m.If(fetcher.is_taken & walker.is_last):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(fetcher.is_idle):
                m.next = "IDLE"
        return m


class SumUnit(Elaboratable):
    """Sends the tile of sums away when it moves, and fetches the next one if it has been begun.

    Attributes beside those of every unit:
        finish: sends the last tile away.
        ended: whether the tile that is there needs no more iterations; read at `go` and `finish`.
        sums: the sums sent.
        results: the results sent.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        sequencer: Sequencer,
        buffer: Buffer,
        ports: tuple[ReadPort, WritePort],
    ) -> None:
        self.config, self.registers = config, registers
        self.buffer, self.sequencer = buffer, sequencer
        self.port = ports[1]
        self.walker = Walker(config, registers, sequencer.at, "O")
        self.fetcher = Fetcher(ports[0], len(buffer.place))
        self.go = Signal()
        self.finish = Signal()
        self.is_idle = Signal()
        self.ended = Signal()
        self.sums = Signal(32)
        self.results = Signal(32)
        self.reads = Signal()
        self.read = Signal(len(buffer.read))
        """Whether the unit, not the multipliers, reads the buffer; and where."""
        self.enable = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = self.walker
        m.submodules.fetcher = fetcher = self.fetcher
        _connect(m, fetcher, walker, self.buffer)
        is_there = Signal()
        is_over = Signal()
        is_result = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.is_idle.eq(1)
                with m.If(self.go | self.finish):
                    m.d.comb += walker.rewind.eq(1)
                    m.d.sync += [is_over.eq(self.finish), is_result.eq(self.ended)]
                    m.next = "DRAIN"
                with m.If(self.go & ~is_there):
                    m.next = "MOVE"
            with m.State("DRAIN"):
                is_done = self._drain(m, is_result)
                with m.If(is_done):
                    m.next = "LAST"
            with m.State("LAST"):
                m.d.comb += self.reads.eq(1)
                with m.If(~self.port.put | self.port.put_ready):
                    m.d.sync += self.port.put.eq(0)
                    m.next = "MOVE"
                    with m.If(is_over):
                        m.d.sync += is_there.eq(0)
                        m.next = "IDLE"
            with m.State("MOVE"):
                m.d.comb += walker.set_up.eq(1)
                m.d.sync += is_there.eq(1)
                m.next = "SET_UP"
            with m.State("SET_UP"), m.If(walker.is_ready):
                m.d.comb += walker.rewind.eq(1)
                m.next = "FETCH"
                with m.If(self.sequencer.begins):
                    m.next = "IDLE"
            with m.State("FETCH"):
                m.d.comb += [fetcher.ask.eq(1), walker.step.eq(fetcher.is_taken)]
                with m.If(fetcher.is_taken & walker.is_last):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(fetcher.is_idle):
                m.next = "IDLE"
        self._send(m)
        return m

    def _drain(self, m: Module, is_result: Signal) -> Signal:
        """Read a word and hand the one before to the port, while the port takes them."""
        port, walker = self.port, self.walker
        flows = Signal()
        is_done = Signal()
        m.d.comb += [
            flows.eq(~port.put | port.put_ready),
            self.reads.eq(1),
            self.enable.eq(flows),
            self.read.eq(walker.buffer),
            walker.step.eq(flows),
            is_done.eq(flows & walker.is_last),
        ]
        with m.If(flows):
            m.d.sync += [port.put.eq(1), port.address.eq(walker.memory)]
            m.d.sync += port.is_result.eq(is_result)
        return is_done

    def _send(self, m: Module) -> None:
        port, registers = self.port, self.registers
        bits = self.config.data_bits
        highest, lowest = (1 << (bits - 1)) - 1, -(1 << (bits - 1))
        total = self.buffer.word
        half = Signal(signed(SUM_BITS + 1))
        shifted = Signal(signed(SUM_BITS + 1))
        m.d.comb += half.eq(
            Mux(registers["shift"] == 0, 0, (Const(1, 33) << registers["shift"]) >> 1)
        )
        m.d.comb += shifted.eq((total + half) >> registers["shift"])
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


class InputUnit(Elaboratable):
    """Fetches the words of the next tile of inputs that are not there.

    Attributes beside those of every unit:
        slides: the loop along which the tile slides took the step; read at `go`.
        rows, columns: the axes' tables.
    """

    def __init__(
        self,
        config: HwcConfig,
        registers: dict[str, Signal],
        sequencer: Sequencer,
        buffer: Buffer,
        port: ReadPort,
    ) -> None:
        self.config, self.registers = config, registers
        self.sequencer, self.buffer = sequencer, buffer
        self.walker = Walker(config, registers, sequencer.at, "I")
        self.fetcher = Fetcher(port, len(buffer.place))
        self.rows = AxisTable(config, registers, "row", config.rows)
        self.columns = AxisTable(config, registers, "column", config.columns)
        self.go = Signal()
        self.slides = Signal()
        self.is_idle = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = self.walker
        m.submodules.fetcher = fetcher = self.fetcher
        m.submodules.rows, m.submodules.columns = self.rows, self.columns
        rows, columns, at = self.rows, self.columns, self.sequencer.at
        self._place_axes(m)

        is_there = Signal()
        slid = Signal()
        plane = {dim: Signal(self.config.count_bits, name=f"plane_{dim}") for dim in "NGC"}
        other_plane = Signal()
        different = [plane[dim] != at[dim] for dim in "NGC"]
        m.d.comb += other_plane.eq(~is_there | different[0] | different[1] | different[2])
        row, column, first_row = self._word(m)
        axes_idle = rows.is_idle & columns.is_idle & walker.is_ready

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.is_idle.eq(1), walker.set_up.eq(self.go)]
                with m.If(self.go):
                    m.d.sync += [slid.eq(self.slides), is_there.eq(1)]
                    m.d.sync += [plane[dim].eq(at[dim]) for dim in "NGC"]
                    with m.If(other_plane):
                        m.d.comb += [rows.fill.eq(1), columns.fill.eq(1)]
                        m.next = "FILL"
                    with m.Else():
                        m.d.comb += [rows.compare.eq(1), columns.compare.eq(1)]
                        m.next = "COMPARE"
            with m.State("COMPARE"), m.If(axes_idle):
                with m.If(rows.is_same & columns.is_same):
                    m.next = "IDLE"
                with m.Else():
                    m.d.comb += [rows.fill.eq(1), columns.fill.eq(1)]
                    m.d.comb += [rows.keep.eq(slid), columns.keep.eq(slid)]
                    m.next = "FILL"
            with m.State("FILL"), m.If(axes_idle):
                m.d.comb += walker.rewind.eq(1)
                m.d.sync += [row.eq(first_row), column.eq(self._first_column(first_row))]
                m.next = "FETCH"
                with m.If((first_row == rows.total) | (columns.total == 0)):
                    m.next = "IDLE"
            with m.State("FETCH"):
                m.d.comb += fetcher.ask.eq(1)
                with m.If(fetcher.is_taken):
                    self._next_word(m, row, column, first_row)
                    ends = (column + 1 == columns.total) & (row + 1 == rows.total)
                    with m.If(ends & walker.is_last):
                        m.next = "WAIT"
            with m.State("WAIT"), m.If(fetcher.is_idle):
                m.next = "IDLE"
        return m

    def _place_axes(self, m: Module) -> None:
        """Tell the axes where the next tile is: the nest stands at its first iteration."""
        at = self.sequencer.at
        for table, outer, inner in ((self.rows, "P", "R"), (self.columns, "Q", "S")):
            register = table.registers
            for length, dim, span in (
                (table.outputs, outer, register["outer_span"]),
                (table.filters, inner, register["inner_span"]),
            ):
                room = self.registers[f"size.{dim}"] - at[dim]
                m.d.comb += length.eq(Mux(span < room, span, room))
            m.d.comb += table.first.eq(self.sequencer.sums[table.name])
            m.d.comb += table.asked.eq(self.sequencer.sums[table.name])

    def _word(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """The present word: its row and column in the lists; and the first row that has one."""
        rows, columns = self.rows, self.columns
        row = Signal(len(rows.total))
        column = Signal(len(columns.total))
        first_row = Signal(len(rows.total))
        fetcher, walker = self.fetcher, self.walker
        m.d.comb += [
            first_row.eq(Mux(columns.kept == columns.total, rows.kept, 0)),
            rows.list_index.eq(row),
            columns.list_index.eq(column),
            fetcher.memory.eq(
                walker.memory
                + rows.list_coordinate * self.registers["column.length"]
                + columns.list_coordinate
            ),
            fetcher.buffer.eq(
                walker.buffer + rows.list_slot * self.registers["row.pitch"] + columns.list_slot
            ),
            self.buffer.put.eq(fetcher.arrives),
            self.buffer.place.eq(fetcher.place),
            self.buffer.data.eq(fetcher.word),
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


def _connect(m: Module, fetcher: Fetcher, walker: Walker, buffer: Buffer) -> None:
    """What the walker names is fetched, and what arrives is written."""
    m.d.comb += [
        fetcher.memory.eq(walker.memory),
        fetcher.buffer.eq(walker.buffer),
        buffer.put.eq(fetcher.arrives),
        buffer.place.eq(fetcher.place),
        buffer.data.eq(fetcher.word),
    ]
