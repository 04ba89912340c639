"""Batches on JAX count and cost what the closed form does; slopes are those of differences."""

# JAX types itself in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# NumPy's arrays are taken for JAX's.
# pyright: reportArgumentType=false

import json
import math
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import DATA, Json
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from strategies import MAX_ITERATIONS, Triple, chips, mappings, workloads

from tilewright.errors import InputError, Source
from tilewright.ir.files import parse_hardware, parse_network
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.mapping import parse_mapping
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import conv2d, einsum
from tilewright.model import exact
from tilewright.model.batch import (
    Batch,
    BatchCost,
    BatchCounts,
    Shape,
    access_pj,
    count_batch,
    encode,
    encode_chip,
    evaluate_batch,
    gradients,
    join,
    log_factors,
    price_batch,
    shape_for,
    with_log_factors,
)
from tilewright.model.batch import count as count_module
from tilewright.model.batch import loops as loops_module
from tilewright.model.batch.encode import bare_of_padding
from tilewright.model.batch.overlap import shared, shared_along, words
from tilewright.model.batch.relax import LogFactors
from tilewright.model.capacity import capacity_violations
from tilewright.model.convention import CONVENTIONS, DEFAULT, Convention
from tilewright.model.cost import price
from tilewright.model.counts import Counts, Tally
from tilewright.tech import apply_technology, find_technology

NO_FORM = "no matrix form", "the matrix form knows"
CASES: list[Json] = json.loads((DATA / "worked_cases.json").read_text("utf-8"))


def roomy(levels: int, convention: Convention = DEFAULT) -> Shape:
    """A shape with room for whatever is drawn, so that few programs are compiled."""
    return Shape(
        loops=16,
        levels=levels,
        dims=8,
        inputs=2,
        sums=(0, 1, 2),
        ranks=3,
        terms=3,
        places=True,
        hops=True,
        convention=convention,
    )


@st.composite
def priced_chips(draw: DrawFn) -> Hardware:
    chip = draw(chips())
    pj = st.sampled_from([0.0, 0.5, 1.2, 6.0, 200.0])
    bandwidths = st.sampled_from([None, 0.1, 1.0, 3.0, 12.8])
    levels: list[Level] = []
    for level in chip.levels:
        both = draw(bandwidths)
        bits = draw(st.sampled_from([None, 64, 1024, 8192]))
        names = ("W", "I", "O", "A", "B", "X", "Z", "D")
        capacity = tuple((name, bits) for name in names) if bits and draw(st.booleans()) else bits
        levels.append(
            replace(
                level,
                read_pj=draw(pj),
                write_pj=draw(pj),
                update_pj=draw(st.none() | pj),
                word_bits=draw(st.sampled_from([8, 16, 64])),
                bandwidth=both,
                read_bandwidth=None if both else draw(bandwidths),
                write_bandwidth=None if both else draw(bandwidths),
                leak_pj_per_cycle=draw(st.sampled_from([0.0, 0.25])),
                area_mm2=draw(st.sampled_from([0.5, 2.0])),
                capacity=capacity,
                double_buffered=draw(st.booleans()),
            )
        )
    unit = Compute(pj=draw(pj), area_mm2=0.01)
    return Hardware("chip", tuple(levels), unit, clock_ghz=draw(st.sampled_from([0.2, 1.0])))


@st.composite
def perfect_triples(draw: DrawFn, levels: int | None = None) -> Triple:
    """As `triples`, with perfect factors, without padding, and with a priced chip."""
    workload, hardware = bare_of_padding(draw(workloads)), draw(priced_chips())
    assume(levels in (None, len(hardware.levels)))
    mapping = draw(mappings(workload, hardware, perfect=True))
    loops = [loop for block in mapping.blocks for loop in block.loops]
    assume(math.prod(loop.extent for loop in loops) <= MAX_ITERATIONS)
    try:
        verify_mapping(workload, hardware, mapping)
    except InputError:
        assume(False)
    assume(not axis_violations(hardware, mapping))
    return Triple(workload, hardware, mapping)


def on_host(noun: Any) -> Any:
    return jax.tree.map(np.asarray, noun)


def encoded(triple: Triple, convention: Convention) -> Batch | None:
    """The triple as a batch of one; `None` if it has no matrix form, or no closed form."""
    nouns = (triple.workload, triple.hardware)
    try:
        exact.count(*nouns, triple.mapping, convention)
        shape = roomy(len(triple.hardware.levels), convention)
        return encode(*nouns, [triple.mapping], shape=shape)
    except InputError as error:
        if "overlapping tiles of the output" in str(error):
            return None
        if any(text in str(error) for text in NO_FORM):
            return None
        raise


def assert_same_counts(triple: Triple, found: BatchCounts, expected: Counts) -> None:
    assert (found.macs[0], found.steps[0]) == (expected.macs, expected.steps)
    operands = [*enumerate(triple.workload.inputs), (-1, triple.workload.output)]
    for v, level in enumerate(triple.hardware.levels):
        for o, operand in operands:
            key = level.memory, operand.name
            tile = found.tile_words[o, v, 0]
            assert tile == expected.tile_words.get(key, 0), key
            for group in expected.groups.get(level.memory, ()):
                tally = group.tallies.get(operand.name, Tally())
                assert tally_of(found, o, v) == tally, key
        groups = expected.groups.get(level.memory, ())
        assert not groups or found.instances[v, 0] == sum(group.instances for group in groups)
        hops = sum(n for (memory, _), n in expected.hop_words.items() if memory == level.memory)
        assert level.fanout.hop_pj == 0 or found.hop_words[v, 0] == hops


def tally_of(found: BatchCounts, o: int, v: int) -> Tally:
    inwards = found.reads[o, v, 0], found.fills[o, v, 0]
    if o != -1:
        return Tally(*map(exactly, inwards))
    outwards = found.updates, found.drains, found.finished_updates, found.finished_drains
    return Tally(*map(exactly, inwards), *(exactly(moves[v, 0]) for moves in outwards))


def exactly(number: float) -> int:
    assert number == int(number)
    return int(number)


def assert_same_cost(triple: Triple, batch: Batch, found: BatchCost, counted: Counts) -> None:
    convention = batch.shape.convention
    hardware, tables = apply_technology(triple.hardware)
    nouns = triple.workload, hardware, triple.mapping, counted
    expected = price(*nouns, convention=convention, overlap="perfect", tables=tables)
    close = partial(pytest.approx, rel=1e-9)
    for label in ("energy_pj", "cycles", "dram_words", "utilization", "power_w", "area_mm2", "edp"):
        assert getattr(found, label)[0] == close(getattr(expected, label)), label
    for v, level in enumerate(expected.levels):
        assert found.level_pj[v, 0] == close(level.energy_pj)
        assert found.port_cycles[v, 0] == level.cycles
    violations = capacity_violations(triple.workload, hardware, counted, convention)
    assert bool(found.fits[0]) == (not violations)


def compare(triple: Triple, convention: Convention) -> None:
    batch = encoded(triple, convention)
    if batch is None:
        return
    counts = count_batch(batch)
    expected = exact.count(triple.workload, triple.hardware, triple.mapping, convention)
    assert_same_counts(triple, on_host(counts), expected)
    chip = encode_chip(triple.hardware, triple.workload, batch.shape)
    assert_same_cost(triple, batch, on_host(price_batch(batch, counts, chip)), expected)


WALKED = [convention for name, convention in CONVENTIONS.items() if name != "timeloop"]


@settings(max_examples=200)
@given(perfect_triples())
def test_batches_equal_the_closed_form(triple: Triple) -> None:
    compare(triple, DEFAULT)


@pytest.mark.parametrize("name", ["ideal", "blocking2016"])
@settings(max_examples=40)
@given(triple=perfect_triples(levels=3))
def test_other_conventions(name: str, triple: Triple) -> None:
    compare(triple, CONVENTIONS[name])


@pytest.mark.slow
@settings(max_examples=6000)
@given(perfect_triples(), st.sampled_from(WALKED))
def test_batches_equal_the_closed_form_thoroughly(triple: Triple, convention: Convention) -> None:
    compare(triple, convention)


def triple_of(case: Json) -> Triple:
    layer = parse_network(Source("workload", json.dumps(case["workload"]))).layers[0].workload
    hardware = parse_hardware(Source("hardware", json.dumps(case["hardware"])))
    return Triple(layer, hardware, parse_mapping(case["mapping"]))


def test_worked_cases() -> None:
    compared = 0
    for case in CASES:
        triple = triple_of(case)
        batch = encoded(triple, DEFAULT) if "default" in case["expect"] else None
        if batch is None:
            continue
        found, expected = on_host(count_batch(batch)), case["expect"]["default"]
        assert (found.macs[0], found.steps[0]) == (expected["macs"], expected["cycles"])
        names = [operand.name for operand in triple.workload.inputs]
        for place, moves in expected["counts"].items():
            memory, operand = place.split(".")
            v = triple.hardware.level_index(memory)
            tally = tally_of(found, names.index(operand) if operand in names else -1, v)
            total = tally * int(found.instances[v, 0])
            assert {name: getattr(total, name) for name in moves} == moves
        compared += 1
    assert compared >= 20


SLIDING = conv2d("sliding", K=4, C=2, P=6, Q=4, R=3, S=2, stride=(1, 2))
CHIP = Hardware(
    "chip",
    (
        Level("DRAM", read_pj=200.0, write_pj=200.0, bandwidth=2.0),
        Level("GLB", 8192, read_pj=6.0, write_pj=5.0, read_bandwidth=4.0, fanout=Fanout(4, 4)),
        Level("RF", 512, read_pj=1.0, write_pj=1.5),
    ),
    Compute(pj=0.5),
)
NESTS = [
    "DRAM[W I O]: K2 P6\nGLB[W I O]: C2 Q2 R3 | K2@x Q2@y\nRF[W I O]: S2",
    "DRAM[W I O]: P3 R3\nGLB[W I O]: C2 Q4 | K4@x P2@y\nRF[W I O]: S2",
    "DRAM[W I O]: K4 C2\nGLB[W]: P2 R3\nGLB[I O]: Q4 | P3@x\nRF[W O]: S2",
    "DRAM[W I O]: C2 K4 Q4\nGLB[I O]: P6 | R3@y\nRF[W I]: S2",
]


def sliding_batch(*, loops: int = 8) -> Batch:
    nests = [parse_mapping(text) for text in NESTS]
    return encode(SLIDING, CHIP, nests, shape=shape_for([SLIDING], CHIP, nests, loops=loops))


def nothing_shared(lengths: tuple[jax.Array, ...], *_: object) -> jax.Array:
    return jnp.zeros_like(lengths[0])


def never_still(view: "count_module._View") -> jax.Array:
    return jnp.zeros_like(view.tiles[:1, 1:])


def one_copy(of_level: jax.Array) -> jax.Array:
    return jnp.ones_like(of_level)


def no_step(whole: jax.Array, *_: object) -> jax.Array:
    return jnp.zeros_like(whole)


FAULTS: dict[str, tuple[Any, Callable[..., jax.Array]]] = {
    "shared_along": (count_module, nothing_shared),
    "_still_steps": (count_module, never_still),
    "_inwards": (count_module, one_copy),
    "step_of": (loops_module, no_step),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_planted_fault_is_seen(fault: str | None) -> None:
    batch = sliding_batch()
    program = jax.jit(
        partial(count_module._count_all)
    )  # a program of its own, traced with the fault
    with patch.object(count_module, "_count", program):
        if fault is None:
            found = on_host(count_batch(batch))
        else:
            module, replacement = FAULTS[fault]
            with patch.object(module, fault, replacement):
                found = on_host(count_batch(batch))
    wrong = 0
    for b, text in enumerate(NESTS):
        triple = Triple(SLIDING, CHIP, parse_mapping(text))
        one: BatchCounts = jax.tree.map(lambda leaf, b=b: leaf[..., b : b + 1], found)
        try:
            assert_same_counts(triple, one, exact.count(SLIDING, CHIP, triple.mapping))
        except AssertionError:
            wrong += 1
    assert (wrong > 0) == (fault is not None)


small = st.integers(1, 9)


@given(small, small, small, small, st.integers(-12, 12), st.integers(-12, 12))
def test_shared_words_are_those_of_sets(  # noqa: PLR0917
    a: int, b: int, long: int, short: int, u: int, v: int
) -> None:
    a, b = a // math.gcd(a, b), b // math.gcd(a, b)
    tile = {a * i + b * j for i in range(long) for j in range(short)}
    moved = {word + a * u + b * v for word in tile}
    lengths, ratio = (np.float32(long), np.float32(short)), (np.float32(a), np.float32(b))
    assert words(lengths, ratio) == len(tile)
    assert shared(lengths, (np.float32(u), np.float32(v)), ratio) == len(tile & moved)
    assert shared_along(lengths, np.float32(u), ratio) == len(
        tile & {word + a * u for word in tile}
    )


@contextmanager
def compilations() -> Generator[list[str]]:
    """The programs that are compiled meanwhile."""
    seen: list[str] = []

    def listen(event: str, _: float, **__: object) -> None:
        if event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_one_compilation_serves_orders_layers_and_chips() -> None:
    shape = replace(roomy(3), sums=(1,), ranks=2, terms=2, places=False)
    text = "DRAM[W I O]: K4 P2\nGLB[W I O]: C8 Q7 P7\nRF[W I O]: K2 R3 S3 P2"
    other = "DRAM[W I O]: Q5\nGLB[I O]: P5 K3\nGLB[W]: S5\nRF[W O]: R5"
    layers = [
        (conv2d("one", K=8, C=8, P=28, Q=7, R=3, S=3, stride=2), text),
        (conv2d("two", K=3, C=1, P=5, Q=5, R=5, S=5, dilation=2), other),
        (einsum("three", "O[M] += A[M,L] * X[L]", {"M": 6, "L": 4}), "DRAM[A X O]: M6 L4"),
    ]
    costs: list[float] = []
    first = 0
    fast = replace(CHIP, levels=(replace(CHIP.levels[0], bandwidth=64.0), *CHIP.levels[1:]))
    with compilations() as seen:
        for layer, nest in layers:
            for chip in (CHIP, fast):
                batch = encode(layer, chip, [parse_mapping(nest)], shape=shape)
                cost = evaluate_batch(batch, encode_chip(chip, layer, shape))
                costs.append(float(cost.cycles[0]))
                first = first or len(seen)
    assert len(seen) == first > 0
    assert len(set(costs)) > 3


def test_chunks_change_nothing() -> None:
    batch = join([sliding_batch(), sliding_batch(), sliding_batch()])
    chip = encode_chip(CHIP, SLIDING, batch.shape)
    whole = evaluate_batch(batch, chip)
    chunked = evaluate_batch(batch, chip, chunk=5, threads=2)
    assert whole.energy_pj.shape == (12,)
    for item in fields(BatchCost):
        assert np.array_equal(getattr(whole, item.name), getattr(chunked, item.name)), item.name


def test_chips_are_a_leading_axis_of_vmap() -> None:
    batch = sliding_batch()
    from tilewright.model.batch import evaluate_chunk

    chip = encode_chip(CHIP, SLIDING, batch.shape)
    with jax.enable_x64(True):
        bandwidths = jnp.array([1.0, 2.0, 1e6])[:, None, None] * jnp.ones((3, 1))

        def cycles(bandwidth: jax.Array) -> jax.Array:
            return evaluate_chunk(batch, replace(chip, bandwidth=bandwidth)).cycles

        found = np.asarray(jax.vmap(cycles)(bandwidths))
    assert found.shape == (3, 4)
    assert (found[0] >= found[1]).all()
    assert (found[0] > found[2]).all()


def test_slopes_in_factors_are_those_of_differences() -> None:
    """At random points between integers; of a product, in which the slope of each part shows."""
    batch, random = join([sliding_batch()] * 3), np.random.default_rng(0)
    start = on_host(log_factors(batch))
    there = LogFactors(
        *(
            np.where(x > 0, x + random.uniform(-0.3, 0.3, x.shape), 0.0)
            for x in (start.temporal, start.unrolled)
        )
    )
    chip = encode_chip(CHIP, SLIDING, batch.shape)
    value, slope, _ = on_host(gradients(batch, there, chip, all_in_factors))
    assert (value > 0).all()
    for name in ("temporal", "unrolled"):
        found, live = getattr(slope, name), getattr(start, name) > 0
        assert live.any()
        for at in {index[:-1] for index in zip(*np.nonzero(live), strict=True)}:
            step = np.zeros_like(getattr(there, name))
            step[at] = 1e-6
            ahead = value_at(batch, moved(there, name, step), chip, all_in_factors)
            behind = value_at(batch, moved(there, name, -step), chip, all_in_factors)
            expected = (ahead - behind) / 2e-6
            error = np.abs(found[at] - expected) / (np.abs(value) + np.abs(expected))
            assert error[live[at]].max() < 1e-7, (all_in_factors, name, at)


def all_in_factors(cost: BatchCost) -> jax.Array:
    return cost.energy_pj * cost.cycles * cost.dram_words


def all_in_chip(cost: BatchCost) -> jax.Array:
    return cost.energy_pj * cost.cycles * cost.area_mm2


def moved(factors: LogFactors, name: str, step: np.ndarray) -> LogFactors:
    return replace(factors, **{name: getattr(factors, name) + step})


def value_at(
    batch: Batch, factors: LogFactors, chip: object, objective: Callable[..., jax.Array]
) -> np.ndarray:
    with jax.enable_x64(True):
        there = on_host(with_log_factors(batch, factors))
    return np.asarray(objective(evaluate_batch(there, chip, whole_cycles=False)))


def test_slopes_in_the_chip_are_those_of_differences() -> None:
    batch = sliding_batch()
    chip = jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (*leaf.shape[:-1], batch.mappings)).copy(),
        encode_chip(CHIP, SLIDING, batch.shape),
    )
    chip = replace(chip, area_mm2=chip.area_mm2 + 0.3, leak_pj_per_cycle=chip.area_mm2 + 0.1)
    factors = log_factors(batch)
    value, _, slope = on_host(gradients(batch, factors, chip, all_in_chip))
    for name in (
        "read_pj",
        "update_pj",
        "bandwidth",
        "read_bandwidth",
        "copies",
        "area_mm2",
        "mac_pj",
    ):
        given_, found = getattr(chip, name), getattr(slope, name)
        for at in np.ndindex(given_.shape[:-1]):
            if not np.isfinite(given_[at]).all():
                continue
            step = np.zeros_like(given_)
            step[at] = 1e-6
            ahead, behind = (
                value_at(batch, factors, replace(chip, **{name: given_ + s}), all_in_chip)
                for s in (step, -step)
            )
            expected = (ahead - behind) / 2e-6
            error = np.abs(found[at] - expected) / (np.abs(value) + np.abs(expected))
            assert error.max() < 1e-7, (all_in_chip, name, at)


@pytest.mark.parametrize("name", ["yang2016", "fitted28", "fitted45"])
def test_energies_follow_capacities(name: str) -> None:
    table = find_technology(name)
    with jax.enable_x64(True):
        for width in (8, 16, 64):
            sizes = np.array([100.0, 4096.0, 70_000.0, 1e6, 1e9])
            found = access_pj(table, sizes, width)
            expected = [table.access_pj(int(size), width) for size in sizes]
            assert np.asarray(found) == pytest.approx(expected, rel=1e-12)
        slope = jax.grad(lambda size: access_pj(table, size, 16))(jnp.float64(70_000.0))
        ahead, behind = (table.access_pj(70_000 + step, 16) for step in (1, -1))
        assert float(slope) == pytest.approx((ahead - behind) / 2, rel=1e-5)


def test_what_has_no_matrix_form_is_refused() -> None:
    chip = Hardware("chip", (Level("DRAM", fanout=Fanout(4, 4)), Level("RF")))
    padded = conv2d("padded", K=1, C=1, P=4, R=3, Q=1, padding=(1, 0))
    nest = parse_mapping("DRAM[W I O]: P4\nRF[W I O]: R3")
    with pytest.raises(InputError, match=r"rank P\+R of I has padding, which has no matrix form"):
        encode(padded, chip, [nest])
    as_words = count_batch(encode(padded, chip, [nest], padding_as_words=True))
    assert as_words.output_words.tolist() == [4.0]
    bare = conv2d("bare", K=1, C=1, P=4, R=3, Q=1)
    with pytest.raises(InputError, match="imperfect factors have no matrix form"):
        encode(bare, chip, [parse_mapping("DRAM[W I O]: P3\nRF[W I O]: R3 P2")])
    up = einsum("up", "O[2P+R] += W[R] * I[P]", {"P": 4, "R": 2})
    with pytest.raises(InputError, match="unrolled outside a block of it"):
        encode(up, chip, [parse_mapping("DRAM[W I O]: | P4@x\nRF[W I O]: R2")])
    inside = parse_mapping("DRAM[W I O]: P4\nRF[W I O]: R2")
    with pytest.raises(InputError, match="of the output in the footprint `box`"):
        encode(up, chip, [inside], convention=CONVENTIONS["peemen2015"])
    with pytest.raises(InputError, match="`timeloop` has no matrix form"):
        shape_for([bare], chip, convention=CONVENTIONS["timeloop"])
    three = einsum("three", "O[P] += I[P+2R+5S]", {"P": 4, "R": 2, "S": 2})
    with pytest.raises(InputError, match="3 different coefficients"):
        encode(three, chip, [parse_mapping("DRAM[I O]: P4\nRF[I O]: R2 S2")])


def test_a_shape_says_what_it_has_no_room_for() -> None:
    batch = sliding_batch()
    wide = parse_mapping("DRAM[W I O]: K2 K2 P2 P3 Q2 Q2 C2 R3 S2\nGLB[W I O]:\nRF[W I O]:")
    with pytest.raises(InputError, match="9 temporal loops, the shape has room for 8"):
        encode(SLIDING, CHIP, [wide], shape=batch.shape)
    matmul = einsum("product", "Z[M,J] += A[M,L] * X[L,J]", {"M": 2, "L": 2, "J": 2})
    tight = shape_for([matmul], CHIP, loops=9)
    with pytest.raises(InputError, match="7 dims, the shape has room for 3"):
        encode(SLIDING, CHIP, [wide], shape=tight)
    with pytest.raises(ValueError, match="different shapes"):
        join([batch, sliding_batch(loops=9)])


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_jax_is_imported_only_when_used() -> None:
    assert run("import sys, tilewright; print('jax' in sys.modules)") == "False\n"


def test_a_missing_jax_is_explained() -> None:
    said = run(
        "import sys; sys.modules['jax'] = None\n"
        "from tilewright.errors import MissingToolError\n"
        "try: import tilewright.model.batch\n"
        "except MissingToolError as error: print(error)"
    )
    assert "evaluating batches needs JAX, which is not installed" in said
    assert "pip install 'tilewright[codesign]'" in said
