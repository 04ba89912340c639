"""The block in Amaranth's own simulator: slow, in Python, with waveforms.

Owns: memories as Python processes at the ports.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from amaranth.sim._async import TestbenchContext

from tilewright.hwc.reference import Words
from tilewright.hwc.rtl.block import Block
from tilewright.hwc.rtl.ports import ReadPort, WritePort
from tilewright.hwc.simulate import COUNTED, NOTHING, Job, Outcome

_PERIOD = 1e-8


def run_interpreted(job: Job, vcd: Path | None = None) -> Outcome:
    """Run a job in Amaranth's simulator; with `vcd`, write the waveforms there."""
    block = Block(job.config)
    simulator = Simulator(block)
    simulator.add_clock(_PERIOD)
    bench = _Bench(job, block)
    simulator.add_testbench(bench.run)
    with simulator.write_vcd(str(vcd)) if vcd else nullcontext():
        simulator.run()
    counters = dict(bench.counters)
    return Outcome(bench.outputs, counters, bench.moved, bench.is_done)


@dataclass(slots=True)
class _Reader:
    """A memory behind a port that is read."""

    port: ReadPort
    name: str
    words: Words
    waiting: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])


class _Bench:
    """Writes the program, plays the memories, and waits for the end."""

    def __init__(self, job: Job, block: Block) -> None:
        self.job, self.block = job, block
        self.random = Random(job.memories.seed)
        count = int(np.prod(job.program.convolution.shape("O")))
        self.outputs = np.full(count, NOTHING, dtype=np.int64)
        self.sums = np.full(count, 0, dtype=np.int64)
        self.moved: dict[str, int] = dict.fromkeys(COUNTED, 0)
        self.counters: dict[str, int] = {}
        self.is_done = False
        self.readers = (
            _Reader(block.inputs, "inputs", job.tensors.inputs),
            _Reader(block.weights, "weights", job.tensors.weights),
            _Reader(block.sums_in, "sums_in", self.sums),
            _Reader(block.biases, "biases", job.tensors.biases),
        )

    async def run(self, ctx: TestbenchContext) -> None:
        block = self.block
        await self._write_program(ctx)
        ctx.set(block.start, 1)
        await ctx.tick()
        ctx.set(block.start, 0)
        await ctx.tick()
        cycle = last_sign = 0
        signs: tuple[int, ...] = ()
        while not ctx.get(block.is_done) and cycle - last_sign < self.job.memories.patience_cycles:
            self._offer(ctx, cycle)
            events = self._handshakes(ctx)
            await ctx.tick()
            for event in events:
                event(cycle)
            now = (ctx.get(block.counters["steps"]), *self.moved.values())
            last_sign = cycle if now != signs else last_sign
            signs, cycle = now, cycle + 1
        self.is_done = bool(ctx.get(block.is_done))
        self.counters = {name: ctx.get(signal) for name, signal in block.counters.items()}

    async def _write_program(self, ctx: TestbenchContext) -> None:
        block, values = self.block, self.job.program.registers(self.job.config)
        ctx.set(block.load, 1)
        for number, value in enumerate(values.values()):
            ctx.set(block.register, number)
            ctx.set(block.value, value)
            await ctx.tick()
        ctx.set(block.load, 0)

    def _offer(self, ctx: TestbenchContext, cycle: int) -> None:
        """Decide what every port offers in this cycle."""
        memories = self.job.memories
        for reader in self.readers:
            is_dead = bool(memories.dead) and reader.name.startswith(memories.dead)
            due = bool(reader.waiting) and reader.waiting[0][0] <= cycle
            ctx.set(reader.port.ask_ready, self._flows())
            # An answer, once given, stays until it is taken.
            answers = due and not is_dead and (bool(ctx.get(reader.port.answer)) or self._flows())
            ctx.set(reader.port.answer, answers)
            if answers:
                ctx.set(reader.port.data, int(reader.words[reader.waiting[0][1]]))
        ctx.set(self.block.sums_out.put_ready, self._flows())

    def _flows(self) -> bool:
        percent = self.job.memories.stall_percent
        return percent == 0 or self.random.randrange(100) >= percent

    def _handshakes(self, ctx: TestbenchContext) -> list[Callable[[int], None]]:
        """What happens at the next clock edge."""
        events: list[Callable[[int], None]] = []
        for reader in self.readers:
            port = reader.port
            if ctx.get(port.ask) and ctx.get(port.ask_ready):
                events.append(_question(reader, ctx.get(port.address), self.job))
            if ctx.get(port.answer) and ctx.get(port.answer_ready):
                events.append(self._answer(reader, ctx, port))
        out = self.block.sums_out
        if ctx.get(out.put) and ctx.get(out.put_ready):
            events.append(self._store(out, ctx))
        return events

    def _answer(
        self, reader: _Reader, ctx: TestbenchContext, port: ReadPort
    ) -> Callable[[int], None]:
        def happen(_: int) -> None:
            reader.waiting.popleft()
            self.moved[reader.name] += 1
            ctx.set(port.answer, 0)

        return happen

    def _store(self, out: WritePort, ctx: TestbenchContext) -> Callable[[int], None]:
        address, data, is_result = ctx.get(out.address), ctx.get(out.data), ctx.get(out.is_result)

        def happen(_: int) -> None:
            self.moved["results" if is_result else "sums_out"] += 1
            (self.outputs if is_result else self.sums)[address] = data

        return happen


def _question(reader: _Reader, address: Any, job: Job) -> Callable[[int], None]:
    def happen(cycle: int) -> None:
        reader.waiting.append((cycle + job.memories.latency_cycles, int(address)))

    return happen
