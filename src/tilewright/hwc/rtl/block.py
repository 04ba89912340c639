"""The block: registers, sequencer, three units with their buffers, and the multipliers."""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed

from tilewright.hwc.config import SUM_BITS, HwcConfig
from tilewright.hwc.program import register_widths
from tilewright.hwc.rtl.buffer import Buffer
from tilewright.hwc.rtl.ports import ReadPort, WritePort
from tilewright.hwc.rtl.sequencer import Sequencer
from tilewright.hwc.rtl.units import PIPELINE, InputUnit, SumUnit, WeightUnit


class Block(Elaboratable):
    """The convolution block.

    A program is written register by register (`load`, `register`, `value`); `start` runs it;
    `is_done` stays set until the next start. The counters count from reset.

    Attributes:
        inputs, weights, sums_in, biases: ports that are read.
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
        self.biases = ReadPort("biases", address, SUM_BITS)
        names = ("cycles", "steps", "count_inputs", "count_weights", "count_sums_in")
        names += ("count_sums_out", "count_results", "count_biases")
        self.counters = {name: Signal(32, name=name) for name in names}

    def ports(self) -> list[Signal]:
        """Every port of the top module beside clock and reset."""
        streams = (self.inputs, self.weights, self.sums_in, self.sums_out, self.biases)
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
        image, filters, sums = self._buffers(m)
        units = (
            InputUnit(config, registers, sequencer, image, self.inputs),
            WeightUnit(config, registers, filters, self.weights),
            SumUnit(config, registers, sums, (self.sums_in, self.sums_out, self.biases)),
        )
        m.submodules.input_unit, m.submodules.weight_unit, m.submodules.sum_unit = units
        issues = self._control(m, sequencer, units)
        self._multiply(m, issues, sequencer, units)
        counters = self.counters
        m.d.comb += [
            counters["count_inputs"].eq(units[0].fetcher.count),
            counters["count_weights"].eq(units[1].fetcher.count),
            counters["count_sums_in"].eq(units[2].fetcher.count),
            counters["count_sums_out"].eq(units[2].sums),
            counters["count_results"].eq(units[2].results),
            counters["count_biases"].eq(units[2].biases),
        ]
        return m

    def _buffers(self, m: Module) -> tuple[list[Buffer], Buffer, list[Buffer]]:
        """A copy of the inputs for each pixel in parallel; the weights; the sums, once or twice."""
        config, registers = self.config, self.registers
        pixels, channels, lanes = config.pixels, config.channels, config.lanes
        words = config.input_words // pixels
        image = [Buffer(words, config.data_bits, 1, channels) for _ in range(pixels)]
        filters = Buffer(config.weight_words, config.data_bits, lanes, channels)
        copies = 2 if "O" in config.doubled else 1
        words = config.sum_words // copies
        sums = [Buffer(words, SUM_BITS, lanes, pixels) for _ in range(copies)]
        for number, buffer in enumerate(image):
            m.submodules[f"input_buffer{number}"] = buffer
        m.submodules.weight_buffer = filters
        for number, buffer in enumerate(sums):
            m.submodules[f"sum_buffer{number}"] = buffer
        m.d.comb += [buffer.is_parallel.eq(registers["parallel.C"]) for buffer in (*image, filters)]
        m.d.comb += [buffer.is_parallel.eq(registers["parallel.Q"]) for buffer in sums]
        return image, filters, sums

    def _control(
        self, m: Module, sequencer: Sequencer, units: tuple[InputUnit, WeightUnit, SumUnit]
    ) -> Signal:
        """Take a step a cycle, as long as every tile that it needs is there."""
        sums = units[2]
        issues, running = Signal(), Signal()
        needs = [Signal(name=f"needs_{unit.operand}") for unit in units]
        left = Signal(range(PIPELINE + 1))
        is_dry = left == 0
        all_there = Signal()
        here = [~need | unit.is_ready for need, unit in zip(needs, units, strict=True)]
        m.d.comb += all_there.eq(Cat(*here).all())
        for need, unit in zip(needs, units, strict=True):
            m.d.comb += [
                unit.start.eq(self.start),
                unit.switch.eq(issues & need),
                unit.leave.eq(running & need & is_dry),
            ]
        with m.If(running):
            m.d.sync += self.counters["cycles"].eq(self.counters["cycles"] + 1)
        with m.If(issues):
            m.d.sync += self.counters["steps"].eq(self.counters["steps"] + 1)
            m.d.sync += [left.eq(PIPELINE), sums.ended.eq(sequencer.ends)]
            m.d.sync += [
                need.eq(sequencer.moves[unit.operand])
                for need, unit in zip(needs, units, strict=True)
            ]
        with m.Elif(~is_dry):
            m.d.sync += left.eq(left - 1)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.comb += sequencer.restart.eq(1)
                m.d.sync += [self.is_done.eq(0), running.eq(1), *(need.eq(1) for need in needs)]
                m.next = "RUN"
            with m.State("RUN"), m.If(all_there):
                m.d.comb += [issues.eq(1), sequencer.advance.eq(~sequencer.is_last)]
                with m.If(sequencer.is_last):
                    m.d.sync += [need.eq(0) for need in needs]
                    m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += sums.finish.eq(is_dry)
                with m.If(sums.is_idle):
                    m.d.sync += [self.is_done.eq(1), running.eq(0)]
                    m.next = "IDLE"
        return issues

    def _multiply(
        self,
        m: Module,
        issues: Signal,
        sequencer: Sequencer,
        units: tuple[InputUnit, WeightUnit, SumUnit],
    ) -> None:
        """The pipeline: find the addresses, read both factors, multiply, add to the sum."""
        valid = _delayed(m, "valid", issues, 3)
        begins = _delayed(m, "begins", sequencer.begins, 3)
        place = _delayed(m, "place", sequencer.sums["O"], 3)
        half = _delayed(m, "half", units[2].half, 3)
        is_pixel = [
            _delayed(m, f"is_pixel{i}", self._exists(sequencer, "Q", i), 3)[-1]
            for i in range(self.config.pixels)
        ]
        products = self._products(m, sequencer, units)
        for number, buffer in enumerate(units[2].buffers):
            sends = units[2].reads & (units[2].sending == number)
            m.d.comb += [
                buffer.read.eq(Mux(sends, units[2].sender.buffer, place[1])),
                buffer.enable.eq(Mux(sends, units[2].enable, 1)),
                buffer.bank_place.eq(place[2]),
            ]
            adds = valid[2] & (half[2] == number)
            self._add(m, buffer, products, (adds, begins[2], place[2]), is_pixel)

    def _add(
        self,
        m: Module,
        buffer: Buffer,
        products: list[list[Signal]],
        step: tuple[Value, Signal, Signal],
        is_pixel: list[Signal],
    ) -> None:
        """Add products to sums that were read, and write them back."""
        adds, begins, place = step
        registers, lanes = self.registers, self.config.lanes
        every, pixels = registers["parallel.K"], registers["parallel.Q"]
        bank = place[: (lanes - 1).bit_length()] if lanes > 1 else Const(0)
        for part, of_pixel in enumerate(buffer.words):
            here = Mux(pixels, is_pixel[part], buffer.bank_part == part)
            for lane in range(lanes):
                product = Mux(pixels, products[part][lane], products[0][lane])
                before = Mux(begins, Const(0, signed(SUM_BITS)), of_pixel[lane])
                m.d.comb += buffer.bank_data[part][lane].eq(before + product)
                m.d.comb += buffer.put_banks[part][lane].eq(adds & here & (every | (bank == lane)))

    def _products(
        self, m: Module, sequencer: Sequencer, units: tuple[InputUnit, WeightUnit, SumUnit]
    ) -> list[list[Signal]]:
        """For every pixel and lane, the product, summed over the input channels in parallel."""
        config = self.config
        is_channel = [
            _delayed(m, f"is_channel{i}", self._exists(sequencer, "C", i), 2)[-1]
            for i in range(config.channels)
        ]
        factors = self._weights(m, sequencer, units[1])
        bits, found = config.data_bits, list[list[Signal]]()
        for pixel, words in enumerate(self._inputs(m, sequencer, units[0])):
            row: list[Signal] = []
            for lane in range(config.lanes):
                name = f"product{pixel}_{lane}"
                product = Signal(signed(2 * bits + config.channels.bit_length()), name=name)
                parts = [
                    Mux(is_channel[c], word * factors[c][lane], 0) for c, word in enumerate(words)
                ]
                m.d.sync += product.eq(sum(parts[1:], start=parts[0]))
                row.append(product)
            found.append(row)
        return found

    def _inputs(self, m: Module, sequencer: Sequencer, unit: InputUnit) -> list[list[Signal]]:
        """The words of every pixel, by input channel; 0 in the padding."""
        registers = self.registers
        plane = _delayed(m, "plane", sequencer.sums["I"], 1)[0]
        row = _delayed(m, "row", unit.rows.slots[0], 1)[0]
        found: list[list[Signal]] = []
        for pixel, buffer in enumerate(unit.buffers):
            column = _delayed(m, f"column{pixel}", unit.columns.slots[pixel], 1)[0]
            outside = unit.rows.is_padding[0] | unit.columns.is_padding[pixel]
            is_padding = _delayed(m, f"is_padding{pixel}", outside, 2)[-1]
            m.d.comb += buffer.read.eq(plane + row * registers["row.pitch"] + column)
            words: list[Signal] = []
            for channel, of_channel in enumerate(buffer.words):
                word = Signal.like(buffer.word, name=f"input{pixel}_{channel}")
                read = of_channel[0]
                if channel == 0:
                    read = Mux(registers["parallel.C"], read, buffer.word)
                m.d.comb += word.eq(Mux(is_padding, 0, read))
                words.append(word)
            found.append(words)
        return found

    def _weights(self, m: Module, sequencer: Sequencer, unit: WeightUnit) -> list[list[Signal]]:
        """The weights of every input channel, by lane."""
        registers, buffer = self.registers, unit.buffer
        place = _delayed(m, "filter_place", sequencer.sums["W"], 1)[0]
        half = _delayed(m, "filter_half", unit.half, 1)[0]
        m.d.comb += buffer.read.eq(place + Mux(half, unit.offset, 0))
        found: list[list[Signal]] = []
        for channel, banks in enumerate(buffer.words):
            alone = Array(banks)[buffer.bank] if channel else buffer.word
            row: list[Signal] = []
            for lane, word in enumerate(banks):
                factor = Signal.like(buffer.word, name=f"weight{channel}_{lane}")
                several = word
                if channel == 0:
                    several = Mux(registers["parallel.C"], word, buffer.banks_words[lane])
                if channel == 0:
                    alone = Mux(registers["parallel.C"], Array(banks)[buffer.bank], buffer.word)
                m.d.comb += factor.eq(Mux(registers["parallel.K"], several, alone))
                row.append(factor)
            found.append(row)
        return found

    def _exists(self, sequencer: Sequencer, dim: str, number: int) -> Value:
        """Whether a lane over a dim has an index of the layer to work on."""
        if number == 0:
            return Const(1)
        index = sequencer.at[dim] + number
        return self.registers[f"parallel.{dim}"] & (index < self.registers[f"size.{dim}"])


def _delayed(m: Module, name: str, value: Value, cycles: int) -> list[Signal]:
    """The value as it was 1, 2, … cycles ago."""
    found: list[Signal] = []
    for number in range(cycles):
        stage = Signal(value.shape(), name=f"{name}_{number}")
        m.d.sync += stage.eq(found[-1] if found else value)
        found.append(stage)
    return found
