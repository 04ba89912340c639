"""Counting a program's memory accesses: its own C, built to report every address it touches.

Owns: `simulate`, which runs the instrumented program against caches of a given geometry.

Non-goals: time, prefetching, address translation. Caches are set-associative, least recently used
lines leave, writes allocate; the next cache sees what misses.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from tilewright.codegen.build import build_library
from tilewright.codegen.cpu import Cache
from tilewright.codegen.kernel import Generated

MOST_ACCESSES = 3_000_000_000
"""Beyond, the simulation would take minutes."""
MOST_CACHES = 4
LINE = 16
"""Elements."""

SIMULATOR = r"""
/* The caches that the accesses above go to. Innermost first; the most recent line stands first. */
#include <string.h>
enum { MOST_CACHES = 4 };
typedef struct { size_t sets; int ways, shift; uint64_t *tags; } cache_t;
static cache_t caches[MOST_CACHES];
static int levels;
static uint64_t accesses, fetched[MOST_CACHES];

static int is_held(cache_t *cache, uint64_t line)
{
    uint64_t *set = cache->tags + line % cache->sets * (size_t)cache->ways;
    int way = 0;
    while (way < cache->ways - 1 && set[way] != line + 1) way++;
    const int held = set[way] == line + 1;
    memmove(set + 1, set, (size_t)way * sizeof *set);
    set[0] = line + 1;
    return held;
}

void tilewright_touch(const void *address, size_t bytes, int writes)
{
    (void)writes;
    const uint64_t first = (uintptr_t)address >> caches[0].shift;
    const uint64_t last = ((uintptr_t)address + bytes - 1) >> caches[0].shift;
    for (uint64_t line = first; line <= last; line++) {
        accesses++;
        for (int level = 0; level < levels; level++) {
            const uint64_t own = line >> (caches[level].shift - caches[0].shift);
            if (is_held(&caches[level], own)) break;
            fetched[level]++;
        }
    }
}

/* capacity, ways and log2 of the line's bytes of each cache; counts come back. */
int tilewright_simulate(int count, const int64_t *geometry, const element *image,
    const element *weights, element *output, uint64_t *counts)
{
    int failed = 0;
    levels = count, accesses = 0;
    for (int i = 0; i < count; i++, geometry += 3) {
        const size_t lines = (size_t)geometry[0] >> geometry[2];
        caches[i] = (cache_t){lines / (size_t)geometry[1], (int)geometry[1], (int)geometry[2],
            calloc(lines, sizeof(uint64_t))};
        fetched[i] = 0;
        failed |= !caches[i].tags;
    }
    if (!failed) NAME_run(image, weights, output);
    for (int i = 0; i < count; i++) counts[i] = fetched[i], free(caches[i].tags);
    counts[count] = accesses;
    return failed;
}
"""


@dataclass(frozen=True, slots=True)
class Accesses:
    """What one run of a program fetched, from cold caches.

    Attributes:
        caches: the geometry.
        lines: fetched into each cache, innermost first: the first are the accesses to L2.
        touched: lines touched by loads and stores, one after the other.
    """

    caches: tuple[Cache, ...]
    lines: tuple[int, ...]
    touched: int


def simulate(made: Generated, caches: Sequence[Cache]) -> Accesses | None:
    """Run a generated program with every access going to simulated caches.

    The addresses are the program's own; the arrays are those that it would get, packed. One
    thread runs all blocks in order.

    Returns: the counts; `None` if the program has too many accesses to follow.

    Raises: `MissingToolError` if it cannot be built.

    >>> from tilewright.codegen.kernel import generate
    >>> from tilewright.ir.workload import conv2d
    >>> made = generate(conv2d("one", K=16, C=16, P=4, Q=4), target="portable")
    >>> simulate(made, [Cache(1, 32768, 8)]).lines  # 16 + 16 + 16 lines, and a line of biases
    (49,)
    """
    shape, layout = made.shape, made.choice.plan.layout
    if shape.macs // made.target.lanes > MOST_ACCESSES or len(caches) > MOST_CACHES:
        return None
    source = made.program.source + SIMULATOR.replace("NAME", made.program.name)
    flags = tuple(flag for flag in made.flags if flag != "-fopenmp")
    flags = (*flags, "-Wno-unknown-pragmas", "-DTILEWRIGHT_TRACE")
    library = ctypes.CDLL(str(build_library(made.program.name, source, flags)))
    sizes = (layout.image_elements, max(layout.weight_elements, 1), layout.output_elements)
    arrays = _side_by_side(sizes)
    numbers = [(c.capacity_bytes, c.ways, c.line_bytes.bit_length() - 1) for c in caches]
    geometry, counts = np.array(numbers, np.int64), np.zeros(len(caches) + 1, np.uint64)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (geometry, *arrays, counts)]
    if library.tilewright_simulate(len(caches), *pointers):
        return None
    *lines, touched = counts.tolist()
    return Accesses(tuple(caches), tuple(lines), touched)


def _side_by_side(sizes: Sequence[int]) -> "list[np.ndarray[tuple[int], np.dtype[np.int32]]]":
    """Arrays one behind the other, each from a line on: counts are then the same every time.

    Wherever the first one begins, it only turns all sets around.
    """
    starts = [0, *accumulate(-(-size // LINE) * LINE for size in sizes)]
    raw = np.zeros(starts[-1] + LINE, np.int32)
    first = -raw.ctypes.data % (4 * LINE) // 4
    return [raw[first + at : first + at + size] for at, size in zip(starts, sizes, strict=False)]
