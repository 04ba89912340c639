"""How fast batches are evaluated, beside the closed form, in one run: benchmarks/BATCH.md.

Times are medians. Rates "of processor time" count what all threads of this process used, so that
they say what a quiet machine would do; rates "on the clock" are what this run saw.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

import tilewright as tw
from tilewright.model.batch import (
    CHUNK,
    Batch,
    BatchCost,
    Chips,
    encode,
    encode_chip,
    evaluate_batch,
    evaluate_chunk,
    gradients,
    log_factors,
    shape_for,
)
from tilewright.model.evaluate import make_evaluator

LAYER = tw.conv2d("res3_1", K=128, C=64, P=28, Q=28, R=3, S=3, stride=2)
CHIP = "eyeriss"
NEST = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y R3@y P14@x\nRF[W I O]: C2 K8 S3"
PLAIN = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y C2@y P14@x\nRF[W I O]: R3 K8 S3"
LOOPS = 12
MAPPINGS = 64 * CHUNK
REPEATS = 7
REPORT = Path(__file__).parent / "BATCH.md"
ACCELERATOR = "\n## On an accelerator"
"""Where a part of the report begins that another machine measured (`batch_device.py`)."""


@dataclass(frozen=True)
class Rate:
    per_cpu_second: float
    per_second: float

    def __str__(self) -> str:
        return f"{self.per_cpu_second:,.0f} | {self.per_second:,.0f}"


def measure(work: Callable[[], object], count: int) -> Rate:
    clocks: list[tuple[float, float]] = []
    for _ in range(REPEATS):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        clocks.append((time.process_time() - processor, time.perf_counter() - wall))
    processor, wall = (statistics.median(column) for column in zip(*clocks, strict=True))
    return Rate(count / processor, count / wall)


def drawn_batch(text: str, *, places: bool) -> Batch:
    """A mapping with its temporal loops in random orders, also across memories: all legal."""
    chip = tw.load_hardware(CHIP)
    mapping = tw.parse_mapping(text)
    shape = replace(shape_for([LAYER], chip, [mapping], loops=LOOPS), places=places)
    return neighbours(encode(LAYER, chip, [mapping], shape=shape), MAPPINGS)


def neighbours(batch: Batch, count: int) -> Batch:
    """Swap the places of temporal loops at random; factors of every dim stay what they are."""
    random = np.random.default_rng(0)
    nests = jax.tree.map(lambda leaf: np.repeat(leaf, count, axis=-1), batch.nests)
    order = random.permuted(np.tile(np.arange(LOOPS), (count, 1)), axis=1).T

    def shuffled(leaf: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.take_along_axis(leaf, order, axis=0)

    return replace(
        batch,
        nests=replace(nests, extents=shuffled(nests.extents), dims=shuffled(nests.dims)),
    )


def pieces(batch: Batch) -> list[Batch]:
    cut = [slice(start, start + CHUNK) for start in range(0, batch.mappings, CHUNK)]
    return [
        replace(batch, nests=jax.tree.map(lambda leaf, at=at: leaf[..., at], batch.nests))
        for at in cut
    ]


def evaluate(part: Batch, chips: Chips) -> None:
    with jax.enable_x64(True):
        jax.block_until_ready(evaluate_chunk(part, chips))


def differentiate(part: Batch, chips: Chips) -> None:
    with jax.enable_x64(True):
        jax.block_until_ready(gradients(part, log_factors(part), chips, energy))


def energy(cost: BatchCost) -> jax.Array:
    return cost.energy_pj


def rates(text: str, *, places: bool) -> list[str]:
    batch = drawn_batch(text, places=places)
    chips = encode_chip(tw.load_hardware(CHIP), LAYER, batch.shape)
    parts = pieces(batch)
    label = "P and R unrolled" if places else "K, C, P unrolled"
    lines: list[str] = []
    tasks = (("energy, cycles, fit", evaluate, parts), ("gradient", differentiate, parts[:8]))
    for verb, work, few in tasks:
        processor, wall = time.process_time(), time.perf_counter()
        work(parts[0], chips)
        spent = time.process_time() - processor, time.perf_counter() - wall
        rate = both_threads(work, few, chips)
        lines.append(f"| {verb}, {label} | {rate} | {spent[0]:.1f} ({spent[1]:.1f}) |")
    whole = measure(lambda: evaluate_batch(batch, chips, threads=2), batch.mappings)
    lines.append(f"| `evaluate_batch` to NumPy, {label} | {whole} | |")
    return lines


def both_threads(work: Callable[[Batch, Chips], None], parts: list[Batch], chips: Chips) -> Rate:
    with ThreadPoolExecutor(2) as pool:
        return measure(
            lambda: list(pool.map(work, parts, [chips] * len(parts))), CHUNK * len(parts)
        )


def exact_rate(text: str) -> str:
    evaluator = make_evaluator(LAYER, tw.load_hardware(CHIP))
    mapping = tw.parse_mapping(text)
    rate = measure(lambda: [evaluator.price(mapping) for _ in range(50)], 50)
    return f"| `exact`, one mapping at a time | {rate} | |"


def main() -> None:
    lines = [
        "# Batches, measured",
        "",
        f"`python benchmarks/batch.py`: {LAYER.einsum}",
        f"(K128 C64 P28 Q28 R3 S3, stride 2) on {CHIP}, three levels, room for {LOOPS} temporal",
        f"loops, {MAPPINGS:,} random orders of a mapping in chunks of {CHUNK:,}, 64-bit floats;",
        f"medians of {REPEATS}. Batches on two threads, `exact` on one.",
        "",
        f"Machine: {processor_name()}, {os.cpu_count()} processors, JAX {jax.__version__} on",
        f"{jax.devices()[0].device_kind}; load average {os.getloadavg()[0]:.1f} while it ran.",
        "",
        "| what | per processor second | per second on the clock | compile, s: processor (clock) |",
        "|---|---|---|---|",
        exact_rate(NEST),
        *rates(PLAIN, places=False),
        *rates(NEST, places=True),
        "",
        "Two quiet processors do about twice the rate per processor second.",
    ]
    kept = REPORT.read_text("utf-8").partition(ACCELERATOR) if REPORT.exists() else ("", "", "")
    REPORT.write_text("\n".join(lines) + "\n" + "".join(kept[1:]), encoding="utf-8")
    print("\n".join(lines))


def processor_name() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
