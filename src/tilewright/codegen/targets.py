"""What the C of one instruction set looks like: vectors, registers, multiply-accumulate, flags.

Owns: the targets and the few C functions at the head of every program. All else is the same C
for every target.
"""

from dataclasses import dataclass, replace
from textwrap import dedent

ELEMENT = {"float32": "float", "int8": "int32_t"}
"""What packed arrays consist of. For int8 an element is two channels of 16 bits, or four of 8."""


@dataclass(frozen=True, slots=True)
class Target:
    """An instruction set.

    Attributes:
        name: as the command line calls it.
        lanes: of 32 bits, in a vector.
        registers: vectors that there are.
        flags: for the compiler.
        needs: what the CPU must have, as /proc/cpuinfo calls it.
        assembly: the fused multiply-add of three registers; empty leaves it to the compiler.
        packed_int8: channels of int8 in an element: 4 are multiplied as unsigned by signed.
    """

    name: str
    lanes: int
    registers: int
    flags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    assembly: str = ""
    packed_int8: int = 2


_AVX512 = ("f", "bw", "dq", "vl")
AVX512 = Target(
    "avx512",
    16,
    32,
    ("-mfma", *(f"-mavx512{part}" for part in _AVX512)),
    ("fma", *(f"avx512{part}" for part in _AVX512)),
    "vfmadd231ps",
)
AVX2 = Target("avx2", 8, 16, ("-mavx2", "-mfma"), ("avx2", "fma"), "vfmadd231ps")
PORTABLE = Target("portable", 4, 16)
NEON = Target("neon", 4, 32)
TARGETS = {target.name: target for target in (AVX512, AVX2, PORTABLE, NEON)}

VNNI = "avx512_vnni"
AVX512_VNNI = replace(
    AVX512, flags=(*AVX512.flags, "-mavx512vnni"), needs=(*AVX512.needs, VNNI), packed_int8=4
)
"""What AVX-512 becomes for int8 where the CPU has these instructions."""


def preamble(target: Target, dtype: str, *, per_channel: bool, max_pool: bool) -> str:
    """The head of a program: element and vector types, loads, stores, multiply-accumulate."""
    element = ELEMENT[dtype]
    splat = ", ".join(["*p"] * target.lanes)
    text = f"""
    #include <stddef.h>
    #include <stdint.h>
    #include <stdlib.h>

    #ifdef TILEWRIGHT_TRACE /* a build that reports every access of the kernel */
    void tilewright_touch(const void *address, size_t bytes, int writes);
    #define TOUCH(address, bytes, writes) tilewright_touch(address, bytes, writes)
    #else
    #define TOUCH(address, bytes, writes) ((void)0)
    #endif

    enum {{ LANES = {target.lanes} }};
    typedef {element} element;
    typedef element vec __attribute__((vector_size(4 * LANES)));
    typedef int32_t mask __attribute__((vector_size(4 * LANES)));
    typedef element loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
    #define INLINE static inline __attribute__((always_inline))

    INLINE vec load(const element *p) {{ TOUCH(p, sizeof(vec), 0); return *(const loose *)p; }}
    INLINE void store(element *p, vec v) {{ TOUCH(p, sizeof(vec), 1); *(loose *)p = v; }}
    INLINE vec splat(const element *p) {{ TOUCH(p, 4, 0); return (vec){{{splat}}}; }}
    INLINE vec relu(vec v) {{ return (vec)((mask)v & (v > 0)); }}
    """
    return (
        "\n".join(line for line in dedent(text).split("\n"))
        + _mac(target, dtype, per_channel)
        + (_MAX if max_pool else "")
    )


_MAX = """INLINE vec larger(vec a, vec b)
{
    mask of_a = a > b;
    return (vec)(((mask)a & of_a) | ((mask)b & ~of_a));
}
"""


def _mac(target: Target, dtype: str, per_channel: bool) -> str:
    if dtype == "float32":
        return _FUSED % target.assembly if target.assembly else _PLAIN
    if per_channel:
        return _PLAIN
    if target.packed_int8 == 4:
        return _QUADS
    if target.name == "avx512":
        return _PAIRS_AVX512
    return _PAIRS_AVX2 if target.name == "avx2" else _PAIRS


_FUSED = """/* In assembly, so that the compiler keeps the sums where they are: in registers. */
#define MAC(sum, a, b) __asm__ volatile("%s %%2, %%1, %%0" : "+v"(sum) : "v"(a), "v"(b))

/* A splat that the compiler does not keep for the next tap: there is no register for it. */
INLINE vec splat_again(const element *p)
{
#ifdef __SANITIZE_ADDRESS__ /* which does not look into assembly */
    return splat(p);
#else
    vec v;
    TOUCH(p, 4, 0);
    __asm__ volatile("vbroadcastss %%1, %%0" : "=v"(v) : "m"(*p));
    return v;
#endif
}
"""
_PLAIN = "#define MAC(sum, a, b) ((sum) += (a) * (b))\n"
_PAIRS = """/* An element is two channels of 16 bits: both products are added. */
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
INLINE vec even(vec v) { return (vec)((bits)v << 16) >> 16; }
#define MAC(sum, a, b) ((sum) += even(a) * even(b) + ((a) >> 16) * ((b) >> 16))
"""
_PAIRS_AVX2 = """#include <immintrin.h>
/* An element is two channels of 16 bits: both products are added. */
#define MAC(sum, a, b) ((sum) += (vec)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
"""
_PAIRS_AVX512 = """#include <immintrin.h>
/* An element is two channels of 16 bits: both products are added. */
#define MAC(sum, a, b) ((sum) += (vec)_mm512_madd_epi16((__m512i)(a), (__m512i)(b)))
"""
_QUADS = """/* An element is four channels of 8 bits. The image's are unsigned, 128 more than they
   are; sums begin with 128 times the weights that will be used taken off. */
#define MAC(sum, a, b) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
"""
