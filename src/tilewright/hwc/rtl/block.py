"""The block: registers, sequencer, three units with their buffers, and the multipliers."""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, signed

from tilewright.hwc.config import SUM_BITS, HwcConfig
from tilewright.hwc.program import register_widths
from tilewright.hwc.rtl.buffer import Buffer
from tilewright.hwc.rtl.ports import ReadPort, WritePort
from tilewright.hwc.rtl.sequencer import Sequencer
from tilewright.hwc.rtl.units import InputUnit, SumUnit, WeightUnit

PIPELINE = 4
"""Cycles from a step of the nest to the sum in its buffer."""


class Block(Elaboratable):
    """The convolution block.

    A program is written register by register (`load`, `register`, `value`); `start` runs it;
    `is_done` stays set until the next start. The counters count from reset.

    Attributes:
        inputs, weights, sums_in: ports that are read.
        sums_out: the port that sums and results leave by.
        cycles: from start to done.
        steps: of the nest.
    """

    def __init__(self, config: HwcConfig) -> None:
        self.config = config
        widths = register_widths(config)
        self.registers = {name: Signal(bits, name=name) for name, bits in widths.items()}
        self.load = Signal()
        self.register = Signal(range(len(widths)), name="register_number")
        self.value = Signal(32)
        self.start = Signal()
        self.is_done = Signal()
        address, data = config.address_bits, config.data_bits
        self.inputs = ReadPort("inputs", address, data)
        self.weights = ReadPort("weights", address, data)
        self.sums_in = ReadPort("sums_in", address, SUM_BITS)
        self.sums_out = WritePort("sums_out", address, SUM_BITS)
        names = ("cycles", "steps", "count_inputs", "count_weights", "count_sums_in")
        names += ("count_sums_out", "count_results")
        self.counters = {name: Signal(32, name=name) for name in names}

    def ports(self) -> list[Signal]:
        """Every port of the top module beside clock and reset."""
        streams = (self.inputs, self.weights, self.sums_in, self.sums_out)
        return [
            self.load, self.register, self.value, self.start, self.is_done,
            *(signal for stream in streams for signal in stream.signals()),
            *self.counters.values(),
        ]  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, registers = self.config, self.registers
        with m.If(self.load):
            for number, signal in enumerate(registers.values()):
                with m.If(self.register == number):
                    m.d.sync += signal.eq(self.value)

        m.submodules.sequencer = sequencer = Sequencer(config, registers)
        m.submodules.input_buffer = image = Buffer(config.input_words, config.data_bits, 1)
        m.submodules.weight_buffer = filters = Buffer(
            config.weight_words, config.data_bits, config.lanes
        )
        m.submodules.sum_buffer = sums = Buffer(config.sum_words, SUM_BITS, config.lanes)
        units = (
            InputUnit(config, registers, sequencer, image, self.inputs),
            WeightUnit(config, registers, sequencer, filters, self.weights),
            SumUnit(config, registers, sequencer, sums, (self.sums_in, self.sums_out)),
        )
        m.submodules.input_unit, m.submodules.weight_unit, m.submodules.sum_unit = units
        issues = self._control(m, sequencer, units)
        self._multiply(m, issues, sequencer, units, (image, filters, sums))
        counters = self.counters
        m.d.comb += [
            counters["count_inputs"].eq(units[0].fetcher.count),
            counters["count_weights"].eq(units[1].fetcher.count),
            counters["count_sums_in"].eq(units[2].fetcher.count),
            counters["count_sums_out"].eq(units[2].sums),
            counters["count_results"].eq(units[2].results),
        ]
        return m

    def _control(
        self, m: Module, sequencer: Sequencer, units: tuple[InputUnit, WeightUnit, SumUnit]
    ) -> Signal:
        """Run steps until a tile may move; let the pipeline run dry; bring the tiles up to date."""
        inputs, weights, sums = units
        issues = Signal()
        ended = Signal()
        slides = Signal()
        moving = {operand: Signal(name=f"moving_{operand}") for operand in "WIO"}
        left = Signal(range(PIPELINE + 1))
        running = Signal()
        is_over = Signal()
        m.d.comb += [inputs.slides.eq(slides), sums.ended.eq(ended)]
        with m.If(running):
            m.d.sync += self.counters["cycles"].eq(self.counters["cycles"] + 1)
        with m.If(issues):
            m.d.sync += self.counters["steps"].eq(self.counters["steps"] + 1)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.comb += sequencer.restart.eq(1)
                m.d.sync += [self.is_done.eq(0), running.eq(1), is_over.eq(0), slides.eq(0)]
                m.d.sync += [flag.eq(1) for flag in moving.values()]
                m.next = "MOVE"
            with m.State("MOVE"):
                m.d.comb += [
                    inputs.go.eq(moving["I"]),
                    weights.go.eq(moving["W"]),
                    sums.go.eq(moving["O"]),
                    sums.finish.eq(is_over),
                ]
                m.next = "WAIT"
            with m.State("WAIT"), m.If(inputs.is_idle & weights.is_idle & sums.is_idle):
                m.next = "RUN"
                with m.If(is_over):
                    m.d.sync += [self.is_done.eq(1), running.eq(0)]
                    m.next = "IDLE"
            with m.State("RUN"):
                m.d.comb += [issues.eq(1), sequencer.advance.eq(~sequencer.is_last)]
                m.d.sync += [slides.eq(sequencer.slides), ended.eq(sequencer.ends)]
                m.d.sync += [moving[o].eq(sequencer.moves[o]) for o in "WIO"]
                m.d.sync += left.eq(PIPELINE)
                moves = Cat(*sequencer.moves.values()).any()
                with m.If(sequencer.is_last):
                    m.d.sync += is_over.eq(1)
                with m.If(moves | sequencer.is_last):
                    m.next = "RUN_DRY"
            with m.State("RUN_DRY"):
                m.d.sync += left.eq(left - 1)
                with m.If(left == 1):
                    m.next = "MOVE"
        return issues

    def _multiply(
        self,
        m: Module,
        issues: Signal,
        sequencer: Sequencer,
        units: tuple[InputUnit, WeightUnit, SumUnit],
        buffers: tuple[Buffer, Buffer, Buffer],
    ) -> None:
        """The pipeline: find the addresses, read both factors, multiply, add to the sum."""
        image, filters, sums = buffers
        inputs, _, sum_unit = units
        lanes, registers = self.config.lanes, self.registers
        unrolled = registers["unrolled"]
        shift = (lanes - 1).bit_length()

        valid = [Signal(name=f"valid{i}") for i in range(PIPELINE)]
        begins = [Signal(name=f"begins{i}") for i in range(3)]
        place = [Signal(len(sums.read), name=f"place{i}") for i in range(3)]
        row = Signal(len(inputs.rows.slot))
        column = Signal(len(inputs.columns.slot))
        plane = Signal(len(image.read))
        filter_place = Signal(len(filters.read))
        is_padding = Signal()
        was_padding = Signal()
        m.d.sync += [
            valid[0].eq(issues),
            begins[0].eq(sequencer.begins),
            place[0].eq(sequencer.sums["O"]),
            plane.eq(sequencer.sums["I"]),
            filter_place.eq(sequencer.sums["W"]),
            row.eq(inputs.rows.slot),
            column.eq(inputs.columns.slot),
            is_padding.eq(inputs.rows.is_padding | inputs.columns.is_padding),
        ]
        m.d.comb += [
            image.read.eq(plane + row * registers["row.pitch"] + column),
            filters.read.eq(filter_place),
        ]
        m.d.sync += [valid[1].eq(valid[0]), begins[1].eq(begins[0]), place[1].eq(place[0])]
        m.d.sync += was_padding.eq(is_padding)

        m.d.sync += [valid[2].eq(valid[1]), begins[2].eq(begins[1]), place[2].eq(place[1])]
        m.d.comb += [
            sums.read.eq(Mux(sum_unit.reads, sum_unit.read, place[1])),
            sums.enable.eq(Mux(sum_unit.reads, sum_unit.enable, 1)),
            sums.bank_place.eq(place[2]),
        ]
        bank = place[2][:shift] if shift else Const(0)
        factor = Array(filters.words)
        bits = self.config.data_bits
        for lane in range(lanes):
            other = Signal(signed(bits), name=f"weight{lane}")
            product = Signal(signed(2 * bits), name=f"product{lane}")
            m.d.comb += other.eq(Mux(unrolled, factor[lane], filters.word))
            m.d.sync += product.eq(Mux(was_padding, 0, image.word * other))
            before = Mux(begins[2], Const(0, signed(SUM_BITS)), sums.words[lane])
            m.d.comb += sums.bank_data[lane].eq(before + product)
            m.d.comb += sums.put_banks[lane].eq(valid[2] & (unrolled | (bank == lane)))
