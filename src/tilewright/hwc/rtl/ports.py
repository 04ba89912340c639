"""The block's ports to memory: streams with ready and valid."""

from amaranth.hdl import Signal, signed


class ReadPort:
    """Addresses out, words in, in the same order.

    Attributes:
        ask: an address is there.
        address: of a word.
        ask_ready: memory takes it.
        answer: a word is there.
        data: the word.
        answer_ready: the block takes it.
    """

    def __init__(self, name: str, address_bits: int, data_bits: int) -> None:
        self.ask = Signal(name=f"{name}_ask")
        self.address = Signal(address_bits, name=f"{name}_address")
        self.ask_ready = Signal(name=f"{name}_ask_ready")
        self.answer = Signal(name=f"{name}_answer")
        self.data = Signal(signed(data_bits), name=f"{name}_data")
        self.answer_ready = Signal(name=f"{name}_answer_ready")

    def signals(self) -> list[Signal]:
        """All of them, in a fixed order."""
        return [
            self.ask, self.address, self.ask_ready, self.answer, self.data, self.answer_ready,
        ]  # fmt: skip


class WritePort:
    """Words out, each with its address.

    Attributes:
        put: a word is there.
        address: where it goes.
        data: a sum, or a result in the low bits.
        is_result: whether it is a result.
        put_ready: memory takes it.
    """

    def __init__(self, name: str, address_bits: int, data_bits: int) -> None:
        self.put = Signal(name=f"{name}_put")
        self.address = Signal(address_bits, name=f"{name}_address")
        self.data = Signal(signed(data_bits), name=f"{name}_data")
        self.is_result = Signal(name=f"{name}_is_result")
        self.put_ready = Signal(name=f"{name}_put_ready")

    def signals(self) -> list[Signal]:
        """All of them, in a fixed order."""
        return [self.put, self.address, self.data, self.is_result, self.put_ready]
