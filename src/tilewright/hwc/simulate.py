"""Running a program on the block's RTL, with memories at its ports, and counting what they move.

Owns: the noun `Run`, `simulate`, and the check of results. Words are counted twice: by the block's
own counters and by the memories.

Non-goals: any model. What should have come out and moved is for the caller to compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tilewright.errors import Problem, SimulationError
from tilewright.hwc.config import HwcConfig
from tilewright.hwc.program import Program
from tilewright.hwc.reference import (
    Tensors,
    Words,
    add_biases,
    convolve,
    random_tensors,
    requantise,
)
from tilewright.hwc.verilog import missing_amaranth

COUNTED = ("inputs", "weights", "sums_in", "sums_out", "results", "biases")


@dataclass(frozen=True, slots=True)
class Memories:
    """How the memories at the ports behave.

    Attributes:
        latency_cycles: from a question to its answer.
        stall_percent: of the cycles in which a port is not ready, or gives no answer, at random.
        dead: a port that never answers: `inputs`, `weights`, `sums` or `biases`; empty for none.
        seed: of the stalls.
        patience_cycles: a block that takes no step and moves no word for so long is stuck.
    """

    latency_cycles: int = 1
    stall_percent: int = 0
    dead: str = ""
    seed: int = 0
    patience_cycles: int = 20_000


@dataclass(frozen=True, slots=True)
class Job:
    """What a simulator is given."""

    program: Program
    config: HwcConfig
    tensors: Tensors
    memories: Memories


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulator gives back.

    Attributes:
        outputs: the results, flat; words that never came are `NOTHING`.
        counters: the block's, by name.
        moved: words that the memories moved, by `COUNTED`.
        is_done: whether the block said so.
    """

    outputs: Words
    counters: dict[str, int]
    moved: dict[str, int]
    is_done: bool


NOTHING = -(1 << 40)


@dataclass(frozen=True, slots=True)
class Run:
    """A program that was run.

    Attributes:
        wrong: how many results differ from the plain convolution's.
        results: how many there are.
        words: moved on each port: `I` and `W` fetched; `O` sums read back, sums and results sent.
        biases: fetched, beside the operands.
        sums_in: of the words of O: sums read back.
        sums_out: sums sent.
        cycles: from start to done.
        steps: of the nest.
        lanes: multiply-accumulates that a step may do.
    """

    wrong: int
    results: int
    words: dict[str, int]
    biases: int
    sums_in: int
    sums_out: int
    cycles: int
    steps: int
    lanes: int

    @property
    def is_correct(self) -> bool:
        """Whether every result is right, bit for bit."""
        return self.wrong == 0

    @property
    def port_words_16(self) -> int:
        """Words on all ports, where a 32-bit sum counts as two."""
        return sum(self.words.values()) + self.sums_in + self.sums_out


Simulator = Callable[[Job, Path | None], Outcome]


def simulate(  # noqa: PLR0913
    program: Program,
    config: HwcConfig,
    *,
    simulator: str = "amaranth",
    memories: Memories | None = None,
    seed: int = 0,
    vcd: Path | None = None,
) -> Run:
    """Run a program on random operands, and compare the results with a plain convolution.

    Args:
        program: from `lower`, for this configuration.
        config: the block.
        simulator: `amaranth` (Python, small layers) or `verilator` (compiled once and kept).
        memories: how the memories behave; at once and always, if left out.
        seed: of the operands.
        vcd: where to write the waveforms.

    Raises:
        MissingToolError: Amaranth or Verilator is not installed.
        SimulationError: the block is stuck, or its counters and the memories disagree.

    Source: `docs/hwc.md`.
    """
    tensors = random_tensors(program.convolution, config.data_bits, seed)
    job = Job(program, config, tensors, memories or Memories())
    outcome = _find(simulator)(job, vcd)
    _check(outcome, job.memories)
    sums = convolve(program.convolution, tensors)
    if program.bias:
        sums = add_biases(program.convolution, sums, tensors.biases)
    expected = requantise(sums, bits=config.data_bits, shift=program.shift, relu=program.relu)
    moved = outcome.moved
    return Run(
        int(np.count_nonzero(outcome.outputs != expected)),
        len(expected),
        {
            "I": moved["inputs"],
            "W": moved["weights"],
            "O": moved["sums_in"] + moved["sums_out"] + moved["results"],
        },
        moved["biases"],
        moved["sums_in"],
        moved["sums_out"],
        outcome.counters["cycles"],
        outcome.counters["steps"],
        prod(program.steps.values()),
    )


def _find(simulator: str) -> Simulator:
    if simulator == "verilator":
        from tilewright.hwc.verilator import run_compiled

        return run_compiled
    try:
        from tilewright.hwc.pysim import run_interpreted
    except ImportError as error:
        raise missing_amaranth() from error

    return run_interpreted


def _check(outcome: Outcome, memories: Memories) -> None:
    if not outcome.is_done:
        moved = ", ".join(f"{name} {words:,}" for name, words in outcome.moved.items())
        what = (
            f"the block is stuck: no step and no word for {memories.patience_cycles:,} cycles, "
            f"after {outcome.counters['steps']:,} steps; words moved: {moved}"
        )
        raise SimulationError(Problem(what, "see that every memory port answers", "simulation"))
    for name, words in outcome.moved.items():
        counted = outcome.counters[f"count_{name}"]
        if counted != words:
            what = f"the block counts {counted:,} words of {name}, the memory {words:,}"
            raise SimulationError(Problem(what, "please report this", "simulation"))
