"""Random spaces of a few thousand mappings: tiny layers on tiny chips, with every feature mixed in.

All energies are multiples of a power of two, so that sums of them are exact and equal costs are
equal floats: a comparison of whole keys is then fair, ties included.
"""

from dataclasses import dataclass
from random import Random

from enumeration import Space, count_mappings

from tilewright.errors import InputError
from tilewright.ir.hardware import Capacity, Compute, Fanout, Hardware, Level
from tilewright.ir.workload import Workload, conv2d, einsum

FEWEST = 1_000


@dataclass(frozen=True)
class Kind:
    """What the spaces of a kind have.

    Attributes:
        name: of the kind.
        levels: how many the chip may have.
        fanout: whether at least one of them has a fan-out.
        free: whether no level says what it keeps.
        imperfect: see `Space`.
        uneven: see `Space`.
    """

    name: str
    levels: tuple[int, ...]
    fanout: bool = False
    free: bool = False
    imperfect: bool = False
    uneven: bool = False

    def __str__(self) -> str:
        return self.name


def random_space(kind: Kind, seed: int, most: int) -> Space:
    """A space of a kind, with 1,000 to `most` mappings; the same for the same seed."""
    random = Random(f"{kind.name} {seed}")
    while True:
        workload = random_workload(random)
        chip = random_chip(random, kind, workload)
        space = Space(workload, chip, kind.imperfect, kind.uneven)
        if FEWEST <= count_mappings(space, most) <= most:
            return space


def random_workload(random: Random) -> Workload:
    """A convolution, mostly; or a product, a pooling, something with other operands."""
    if random.random() < 0.5:
        return _convolution(random)
    text = random.choice(
        [
            "Z[M,N] += A[M,K] * B[K,N]",
            "Z[B,M,N] += A[B,M,K] * X[B,N,K]",
            "S[B,H,M,N] += Q[B,H,M,D] * K[B,H,N,D]",
            "O[N,C,P,Q] += I[N,C,2P+R,2Q+S]",
            "O[C,P] += I[C,P+2R]",
            "O[K,P] += W[K,C,R] * I[C,3P+2R]",
            "O[I,J] += A[I,K] * B[K,J] * X[I,J,K]",
            "D[] += A[M,N] * B[M,N]",
            "O[M,N] += A[M] * B[N]",
        ]
    )
    dims = sorted({char for rank in _ranks(text) for char in rank if char.isalpha()})
    sizes = {dim: random.choice((1, 2, 2, 3, 4, 4, 5, 6)) for dim in dims}
    output, *inputs = [piece.split("[")[0].strip("+=* ") for piece in text.split("]")[:-1]]
    bits = {name: random.choice((8, 16)) for name in (output, *inputs)}
    return einsum("einsum", text, sizes, bits | {"psum": random.choice((16, 16, 24, 32))})


def _ranks(text: str) -> list[str]:
    return [piece.split("]")[0] for piece in text.split("[")[1:]]


def _convolution(random: Random) -> Workload:
    depthwise = random.random() < 0.2
    bits = random.choice((None, None, {"O": 8, "psum": 24}, {"W": 8, "I": 4}, {"psum": 32}))
    while True:
        try:
            return conv2d(
                "conv",
                N=random.choice((1, 1, 1, 2)),
                G=random.choice((2, 3)) if depthwise else random.choice((1, 1, 1, 2)),
                K=1 if depthwise else random.choice((1, 2, 3, 4, 6)),
                C=1 if depthwise else random.choice((1, 2, 3, 4)),
                P=random.choice((2, 3, 4, 5, 6)),
                Q=random.choice((1, 1, 2, 3)),
                R=random.choice((1, 2, 3)),
                S=random.choice((1, 1, 2)),
                stride=(random.choice((1, 1, 2, 3)), random.choice((1, 2))),
                dilation=(random.choice((1, 1, 2)), 1),
                padding=random.choice((None, None, 1, (1, 0), (0, 0, 2, 1))),
                bits=bits,
            )
        except InputError:  # padding that leaves no input
            continue


def random_chip(random: Random, kind: Kind, workload: Workload) -> Hardware:
    """A chip of a kind, with memories that hold less than the workload's words."""
    count = random.choice(kind.levels)
    unrolled = random.sample(range(count), random.choice((1, 1, 2))) if kind.fanout else []
    levels = tuple(
        _level(random, index, kind, workload, _fanout(random, workload, index in unrolled))
        for index in range(count)
    )
    return Hardware("chip", levels, Compute(pj=random.choice((0.25, 1.0))))


def _fanout(random: Random, workload: Workload, there: bool) -> Fanout:
    if not there:
        return Fanout()
    dims = list(workload.sizes)
    some = tuple(random.sample(dims, random.randint(1, len(dims))))
    return Fanout(
        random.choice((2, 2, 3, 4)),
        random.choice((1, 1, 2)),
        multicast=random.random() < 0.7,
        reduction=random.random() < 0.7,
        hop_pj=random.choice((0.0, 0.0, 0.5, 4.0)),
        x_dims=random.choice((None, None, some)),
        y_dims=random.choice((None, None, some[:2])),
    )


def _level(random: Random, index: int, kind: Kind, workload: Workload, fanout: Fanout) -> Level:
    """One level; inner ones mostly cost less, not always, so that passing them by may pay."""
    inner = index > 0
    pj = (64.0, *random.choice(((6.0, 1.0), (6.0, 0.5), (1.0, 6.0))))[index]
    ports = random.choice(({}, {}, {"bandwidth": 1.0}, {"bandwidth": 0.5}, _PORTS, _PORTS))
    keeps = None if kind.free or not inner else random.choice((None, _some(random, workload)))
    names = [o.name for o in workload.operands if keeps is None or o.name in keeps]
    return Level(
        ("DRAM", "GLB", "RF")[index],
        _capacity(random, index, names, free=keeps is None) if inner else None,
        double_buffered=inner and random.random() < 0.1,
        keeps=keeps,
        word_bits=random.choice((16, 16, 32)),
        read_pj=pj,
        write_pj=random.choice((pj, 2 * pj)),
        update_pj=random.choice((None, None, pj / 2)),
        read_bandwidth=ports.get("read"),
        write_bandwidth=ports.get("write"),
        bandwidth=ports.get("bandwidth"),
        leak_pj_per_cycle=random.choice((0.0, 0.0, 0.25, 2.0)),
        fanout=fanout,
    )


_PORTS = {"read": 2.0, "write": 0.5}


def _some(random: Random, workload: Workload) -> frozenset[str]:
    """Mostly all operands."""
    names = [operand.name for operand in workload.operands]
    return frozenset(names if random.random() < 0.6 else random.sample(names, len(names) - 1))


def _capacity(random: Random, index: int, names: list[str], *, free: bool) -> Capacity:
    """Some words, shared or apart; a level that is free may have no share for an operand."""
    words = (6, 12, 24, 40) if index == 1 else (2, 3, 6, 10)
    if random.random() < 0.6 or not names:
        return 16 * random.choice(words)
    shared = random.sample(names, random.randint(1, len(names))) if free else names
    return tuple((name, 16 * random.randint(1, random.choice(words) // 2)) for name in shared)
