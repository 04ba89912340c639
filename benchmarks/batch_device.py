"""How fast an accelerator evaluates batches, and whether it agrees with the closed form.

`python benchmarks/batch_device.py [--chunks 16,18,20] [--seconds 60]`: prints a table and writes
`$OUT/batch_device.json` if OUT is set. Needs NumPy, JAX and PyYAML only. The batch lies in the
memory of the device, and what is timed ends with `block_until_ready`; compiling is timed apart.
"""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import tilewright as tw
from tilewright.model.batch import (
    Batch,
    Chips,
    LogFactors,
    encode,
    encode_chip,
    evaluate_chunk,
    log_factors,
    shape_for,
    with_log_factors,
)
from tilewright.model.batch.encode import cast_floats

LAYER = tw.conv2d("res3_1", K=128, C=64, P=28, Q=28, R=3, S=3, stride=2)
CHIP = "eyeriss"
NEST = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y C2@y P14@x\nRF[W I O]: R3 K8 S3"
LOOPS = 12
CHECKED = 256
SHORTEST = 5


def drawn(count: int) -> Batch:
    """One mapping with its temporal loops in random orders, also across memories: all legal."""
    chip = tw.load_hardware(CHIP)
    mapping = tw.parse_mapping(NEST)
    shape = shape_for([LAYER], chip, [mapping], loops=LOOPS)
    one = encode(LAYER, chip, [mapping], shape=shape)
    nests = jax.tree.map(lambda leaf: np.repeat(leaf, count, axis=-1), one.nests)
    order = np.random.default_rng(0).permuted(np.tile(np.arange(LOOPS), (count, 1)), axis=1).T
    return replace(
        one,
        nests=replace(
            nests,
            extents=np.take_along_axis(nests.extents, order, axis=0),
            dims=np.take_along_axis(nests.dims, order, axis=0),
        ),
    )


def as_text(batch: Batch, column: int) -> str:
    """The notation of one mapping of `drawn`."""
    dims, lines = list(LAYER.sizes), [str(line) for line in NEST.splitlines()]
    nests = batch.nests
    for level, line in enumerate(lines):
        head, _, loops = line.partition(":")
        spatial = loops.partition("|")[2]
        own = [
            f"{dims[int(nests.dims[at, column])]}{int(nests.extents[at, column])}"
            for at in range(LOOPS)
            if nests.levels[at, column] == level and nests.extents[at, column] > 1
        ]
        lines[level] = f"{head}: {' '.join(own)}" + (f" |{spatial}" if spatial else "")
    return "\n".join(lines)


def check(batch: Batch, chips: Chips) -> dict[str, float]:
    """The greatest relative differences to the closed form, over the first mappings."""
    few = replace(batch, nests=jax.tree.map(lambda leaf: leaf[..., :CHECKED], batch.nests))
    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, evaluate_chunk(few, chips))
    chip = tw.load_hardware(CHIP)
    worst = {"energy_pj": 0.0, "cycles": 0.0, "dram_words": 0.0}
    for column in range(CHECKED):
        nest = as_text(few, column)
        roomy = replace(chip, levels=tuple(replace(v, capacity=None) for v in chip.levels))
        exact = tw.evaluate(LAYER, roomy, nest)
        for name, before in worst.items():
            want, have = getattr(exact, name), float(getattr(found, name)[column])
            worst[name] = max(before, abs(have - want) / want)
    return worst


@jax.jit
def evaluate(batch: Batch, chips: Chips) -> tuple[jax.Array, jax.Array, jax.Array]:
    cost = evaluate_chunk(batch, chips)
    return cost.energy_pj, cost.cycles, cost.excess


@jax.jit
def differentiate(
    factors: LogFactors, batch: Batch, chips: Chips
) -> tuple[LogFactors, Chips, jax.Array]:
    def total(factors: LogFactors, chips: Chips) -> tuple[jax.Array, jax.Array]:
        cost = evaluate_chunk(with_log_factors(batch, factors), chips, whole_cycles=False)
        return cost.energy_pj.sum(), cost.cycles

    slopes, cycles = jax.grad(total, argnums=(0, 1), has_aux=True)(factors, chips)
    return *slopes, cycles


def measure(work: Callable[[], object], count: int, seconds: float) -> tuple[float, float]:
    """Calls of `work` handle `count` mappings: per second (median), and seconds to compile."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    compiling = time.perf_counter() - began
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < SHORTEST or (time.perf_counter() - began < seconds and len(times) < 50):
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
    return count / statistics.median(times), compiling


def rates(chunk: int, dtype: type[np.floating], seconds: float) -> list[dict[str, object]]:
    chip = tw.load_hardware(CHIP)
    with jax.enable_x64(dtype is np.float64):
        host = cast_floats(drawn(chunk), dtype)
        batch = jax.device_put(host)
        chips = jax.device_put(encode_chip(chip, LAYER, host.shape, dtype=dtype))
        factors = jax.tree.map(jnp.asarray, log_factors(batch))
        tasks = {
            "evaluations": partial(evaluate, batch, chips),
            "gradients": partial(differentiate, factors, batch, chips),
        }
        rows: list[dict[str, object]] = []
        for what, work in tasks.items():
            row: dict[str, object] = {"what": what, "chunk": chunk, "floats": dtype.__name__}
            try:
                rate, compiling = measure(work, chunk, seconds)
                row |= {"per_second": rate, "compile_s": compiling}
            except Exception as error:  # memory may run out: the others still count
                row["failed"] = str(error).splitlines()[0][:200]
            rows.append(row)
            print(json.dumps(row), flush=True)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", default="16,18,20", help="powers of two")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each rate")
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"JAX {jax.__version__} on {device.device_kind} ({device.platform})", flush=True)
    small = drawn(1024)
    worst = check(small, encode_chip(tw.load_hardware(CHIP), LAYER, small.shape))
    print(f"greatest relative difference to `exact`, {CHECKED} mappings: {worst}", flush=True)
    rows = [
        row
        for power in map(int, options.chunks.split(","))
        for dtype in (np.float64, np.float32)
        for row in rates(2**power, dtype, options.seconds)
    ]
    report = {"jax": jax.__version__, "device": device.device_kind, "worst": worst, "rates": rows}
    if "OUT" in os.environ:
        out = Path(os.environ["OUT"]) / "batch_device.json"
        out.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
