"""The fetcher: asks memory for words and puts the answers where they belong, in order."""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from tilewright.hwc.rtl.ports import ReadPort

IN_FLIGHT = 8
"""Words asked for and not yet there: as long as memory answers within so many cycles, it never
waits for the next question."""


class Fetcher(Elaboratable):
    """Reads single words from a port into a buffer.

    Attributes:
        ask: a word is wanted.
        memory: its address in memory.
        buffer: the address in the buffer where it is to go.
        is_taken: the wish is accepted in this cycle.
        is_idle: every answer is there.
        arrives: a word arrives.
        place: its address in the buffer.
        word: the word.
        count: the words that have arrived since reset.
    """

    def __init__(self, port: ReadPort, buffer_bits: int) -> None:
        self.port = port
        self.ask = Signal()
        self.memory = Signal(len(port.address))
        self.buffer = Signal(buffer_bits)
        self.is_taken = Signal()
        self.is_idle = Signal()
        self.arrives = Signal()
        self.place = Signal(buffer_bits)
        self.word = Signal(port.data.shape())
        self.count = Signal(32)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.places = places = SyncFIFOBuffered(width=len(self.buffer), depth=IN_FLIGHT)
        port = self.port
        in_flight = Signal(range(IN_FLIGHT + 1))
        m.d.sync += in_flight.eq(in_flight + self.is_taken - self.arrives)
        m.d.comb += [
            port.ask.eq(self.ask & places.w_rdy),
            port.address.eq(self.memory),
            self.is_taken.eq(port.ask & port.ask_ready),
            places.w_en.eq(self.is_taken),
            places.w_data.eq(self.buffer),
            port.answer_ready.eq(places.r_rdy),
            self.arrives.eq(port.answer & port.answer_ready),
            places.r_en.eq(self.arrives),
            self.place.eq(places.r_data),
            self.word.eq(port.data),
            self.is_idle.eq(in_flight == 0),
        ]
        with m.If(self.arrives):
            m.d.sync += self.count.eq(self.count + 1)
        return m
