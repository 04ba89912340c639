"""How fast a program is on this machine, and how fast this machine could be.

Owns: `measure_kernel` and `measure_peak`, in CPU time of the calling thread: other programs on the
machine disturb caches, but not the clock.
"""

import ctypes
import statistics
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tilewright.codegen.build import build_library, compiler_flags
from tilewright.codegen.kernel import Kernel
from tilewright.codegen.targets import Target, preamble

SAMPLE_SECONDS = 0.003
MOST_SAMPLES = 101


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a program takes on packed arrays.

    Attributes:
        seconds: of one run, the median; CPU time, or wall time with several threads.
        gflops: nominal operations per second, 2 a multiply-accumulate, padding counted.
        samples: how many were taken.
        clock: `cpu` or `wall`.
    """

    seconds: float
    gflops: float
    samples: int
    clock: str


def measure_kernel(kernel: Kernel, *, seconds: float = 1.0) -> Speed:
    """Run a program for about `seconds`, on packed random arrays; packing is not timed."""
    run = packed_run(kernel)
    threads = kernel.made.choice.blocking.threads
    clock = time.perf_counter if threads > 1 else time.thread_time
    run()
    began = clock()
    run()
    repeats = max(1, round(SAMPLE_SECONDS / max(clock() - began, 1e-7)))
    samples: list[float] = []
    deadline = time.monotonic() + seconds
    while len(samples) < MOST_SAMPLES and (len(samples) < 3 or time.monotonic() < deadline):
        start = clock()
        for _ in range(repeats):
            run()
        samples.append((clock() - start) / repeats)
    took = statistics.median(samples)
    work = 2 * kernel.made.shape.macs / took / 1e9
    return Speed(took, work, len(samples), "wall" if threads > 1 else "cpu")


def packed_run(kernel: Kernel) -> Any:
    """A function without arguments that runs the program on packed random arrays."""
    shape, rng = kernel.made.shape, np.random.default_rng(0)

    def random(sizes: tuple[int, ...]) -> Any:
        if shape.dtype == "int8":
            return rng.integers(-128, 128, sizes, np.int8)
        return rng.standard_normal(sizes, np.float32)

    image = kernel.pack_image(random(kernel.image_shape))
    sizes = kernel.weight_shape
    weights = kernel.pack_weights(None if sizes is None else random(sizes))
    output = kernel.run(image, weights)
    return kernel.bound_run(image, weights, output)


@lru_cache
def measure_peak(target: Target) -> float | None:
    """The multiply-adds of float32 of one core in Gflop/s, sums in registers, best of several.

    `None` for a target whose multiply-adds are left to the compiler.
    """
    if not target.assembly:
        return None
    head = preamble(target, "float32", per_channel=False, max_pool=False)
    sums = [f"s{number}" for number in range(12)]
    text = [
        head,
        "void peak(long rounds, element *out) {",
        "    const vec one = splat(out);",
        f"    vec {', '.join(f'{name} = one' for name in sums)};",
        "    for (long n = 0; n < rounds; n++) {",
        *(f"        MAC({name}, one, one);" for name in sums),
        "    }",
        *(f"    store(out, {name});" for name in sums),
        "}",
        "",
    ]
    flags = compiler_flags(target, threads=1)
    library = ctypes.CDLL(str(build_library("peak", "\n".join(text), flags)))
    library.peak.argtypes = [ctypes.c_long, ctypes.c_void_p]
    out, rounds, best = np.zeros(target.lanes, np.float32), 1_000_000, 0.0
    for _ in range(7):
        start = time.thread_time()
        library.peak(rounds, out.ctypes.data)
        flops = 2.0 * len(sums) * target.lanes * rounds
        best = max(best, flops / max(time.thread_time() - start, 1e-9) / 1e9)
    return best
