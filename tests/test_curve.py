"""The least traffic against enumeration, and the curve on top of it."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise, permutations, product
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tilewright.cli.main import main
from tilewright.errors import InputError
from tilewright.ir.hardware import Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Layer, Term, Workload, conv2d, einsum, gather_network
from tilewright.loading import load_layer
from tilewright.mapper import traffic_options
from tilewright.mapper.curve import traffic_curve
from tilewright.mapper.result import Status
from tilewright.mapper.traffic import buffer_machine, least_traffic
from tilewright.mapper.traffic_options import ClassSpace
from tilewright.model import exact
from tilewright.model.evaluate import evaluate
from tilewright.report.curve import draw_curves

OPEN = Hardware("open", (Level("DRAM"), Level("BUF")))
MODES = [(False, False), (False, True), (True, False), (True, True)]

Spans = tuple[int, ...]
Loops = tuple[tuple[str, int], ...]


@dataclass
class Enumeration:
    """Every mapping of a small workload, one loop per dim in each block, counted by the model."""

    workload: Workload
    uneven: bool
    imperfect: bool
    known: dict[tuple[str, Loops, Spans], tuple[int, int]] = field(default_factory=dict)

    def staircase(self) -> dict[int, int]:
        """The least words by bits needed, over all mappings."""
        found: dict[int, int] = {}
        for bits, words in self.points():
            found[bits] = min(words, found.get(bits, words))
        return found

    def points(self) -> Iterator[tuple[int, int]]:
        names = [operand.name for operand in self.workload.operands]
        for count in range(len(names) + 1):
            for order in permutations(names, count):
                if self.uneven or order == tuple(n for n in names if n in order):
                    yield from self.of_order(order)

    def of_order(self, order: tuple[str, ...]) -> Iterator[tuple[int, int]]:
        """Even mappings have one place for all blocks, uneven ones a place for each."""
        places = len(order) if self.uneven else min(1, len(order))
        dims = [dim for dim, size in self.workload.sizes.items() if size > 1]
        missing = [o.name for o in self.workload.operands if o.name not in order]
        fixed = sum(self.bypassed(name) for name in missing)
        for chains in product(*(self.chains(self.workload.sizes[d], places) for d in dims)):
            spans = dict(zip(dims, chains, strict=True))
            yield from self.place(order, spans, (), 0, 0, fixed)

    def place(  # noqa: PLR0917
        self,
        order: tuple[str, ...],
        spans: dict[str, Spans],
        outside: Loops,
        block: int,
        bits: int,
        words: int,
    ) -> Iterator[tuple[int, int]]:
        """Choose the order of the loops between two blocks, then what lies further in."""
        if not order or block == (len(order) if self.uneven else 1):
            yield bits, words
            return
        loops: list[tuple[str, int]] = []
        for dim, chain in spans.items():
            whole = chain[block - 1] if block else self.workload.sizes[dim]
            extent = -(-whole // chain[block])
            loops += [(dim, extent)] if extent > 1 else []
        inside = tuple(chain[block] for chain in spans.values())
        for between in permutations(loops):
            nest = outside + between
            if self.is_ragged(nest, dict(zip(spans, inside, strict=True)), order[block]):
                continue
            here = [order[block]] if self.uneven else list(order)
            found = [self.entering(name, nest, tuple(spans), inside) for name in here]
            yield from self.place(
                order,
                spans,
                nest,
                block + 1,
                bits + sum(b for b, _ in found),
                words + sum(w for _, w in found),
            )

    def is_ragged(self, nest: Loops, tiles: dict[str, int], name: str) -> bool:
        """Whether a round that is cut to one step lets a tile stay: see docs/traffic.md."""
        if not (self.uneven and self.imperfect):
            return False
        operand = self.workload.operand(name)
        for place, (dim, _) in enumerate(nest):
            rank = {t.dim for r in operand.ranks for t in r.terms if dim in map(dim_of, r.terms)}
            inside = {d for d, _ in nest[place + 1 :] if d in operand.dims} - rank
            alone = len(rank) == 1  # its tiles are disjoint: every step moves them
            if not alone and inside and all(self.cut(d, tiles[d], nest, place) for d in inside):
                return True
        return False

    def cut(self, dim: str, tile: int, nest: Loops, place: int) -> bool:
        """Whether the last round of a dim's loops inside a place has one step of several."""
        outer = math.prod(extent for d, extent in nest[:place] if d == dim)
        inner = math.prod(extent for d, extent in nest[place + 1 :] if d == dim)
        steps = -(-self.workload.sizes[dim] // tile)
        return outer > 1 and inner > 1 and steps % inner == 1

    def chains(self, size: int, places: int) -> list[Spans]:
        """What a dim may span inside each block, outermost first."""
        tiles = [t for t in range(1, size + 1) if self.imperfect or size % t == 0]
        chains: list[Spans] = [()]
        for _ in range(places):
            chains = [(*chain, t) for chain in chains for t in tiles if t <= (*chain, size)[-1]]
        return [c for c in chains if all(nests(o, i, size) for o, i in pairwise((size, *c)))]

    def entering(self, name: str, outside: Loops, dims: tuple[str, ...], inside: Spans):
        """(bits of the tile, words to and from DRAM) of one operand, whatever the others do."""
        key = name, outside, inside
        if key not in self.known:
            work = self.workload
            names = tuple(operand.name for operand in work.operands)
            outer = tuple(Loop(dim, extent) for dim, extent in outside)
            inner = tuple(Loop(dim, span) for dim, span in zip(dims, inside, strict=True))
            mapping = Mapping((Block("DRAM", names, outer), Block("BUF", (name,), inner)))
            counts = exact.count(work, OPEN, mapping)
            moves = counts["DRAM", name]
            width = work.operand(name).bits
            if name == work.output.name and counts["BUF", name].updates > moves_of_once(work):
                width = work.psum_bits
            tile = counts.tile_words["BUF", name]
            self.known[key] = tile * width, moves.reads + moves.updates
        return self.known[key]

    def bypassed(self, name: str) -> int:
        names = tuple(operand.name for operand in self.workload.operands)
        loops = tuple(Loop(dim, size) for dim, size in self.workload.sizes.items())
        counts = exact.count(self.workload, OPEN, Mapping((Block("DRAM", names, loops),)))
        return counts["DRAM", name].reads + counts["DRAM", name].updates


def dim_of(term: Term) -> str:
    return term.dim


def nests(outer: int, inner: int, size: int) -> bool:
    """Whether loops over tiles of `inner` may fill tiles of `outer`."""
    return outer == size or outer % inner == 0


def moves_of_once(work: Workload) -> int:
    return math.prod(work.sizes[dim] for dim in work.output.dims)


def small_workload(pick: random.Random, most: int) -> Workload:
    """A convolution, a product or a pooling with few iterations."""
    kind = pick.choice(["conv", "conv", "conv", "conv", "product", "pool", "depthwise", "batch"])
    bits = pick.choice([None, None, {"O": 8, "psum": 24}, {"psum": 32}])
    if kind == "product":
        sizes = shrunk({dim: pick.randint(1, 5) for dim in "MNK"}, most)
        return einsum("product", "O[M,N] += A[M,K] * B[K,N]", sizes, bits)
    if kind == "batch":
        sizes = shrunk({dim: pick.randint(1, 3) for dim in "BMNK"}, most)
        return einsum("batch", "O[B,M,N] += A[B,M,K] * B[B,K,N]", sizes, bits)
    if kind == "pool":
        sizes = {"C": pick.randint(1, 2), "P": pick.randint(2, 5), "R": pick.randint(2, 4)}
        sizes = shrunk(sizes, most)
        step = pick.choice(["P+R", "2P+R", "P+2R", "3P+R"])
        return einsum("pool", f"O[C,P] += I[C,{step}]", sizes, bits)
    limits = {"K": 3, "C": 3, "P": 6, "R": 4, "Q": 3, "S": 3}
    wide = pick.sample("KCPRQS", 3)
    sizes = {dim: pick.randint(2, limits[dim]) if dim in wide else 1 for dim in "KCPRQS"}
    if pick.random() < 0.6:
        sizes["P"], sizes["R"] = pick.randint(2, 6), pick.randint(2, 4)
    if kind == "depthwise":
        sizes |= {"K": 1, "C": 1, "G": pick.randint(2, 3)}
    try:
        return conv2d(
            "conv",
            **shrunk(sizes, most),
            stride=pick.choice([1, 1, 2, 3]),
            dilation=pick.choice([1, 1, 1, 2]),
            padding=pick.choice([None, None, 1, (1, 0), (2, 1)]),
            bits=bits,
        )
    except InputError:
        return small_workload(pick, most)


def shrunk(sizes: dict[str, int], most: int) -> dict[str, int]:
    """The sizes, the largest made smaller until there are few iterations."""
    while math.prod(sizes.values()) > most:
        largest = max(sizes, key=lambda dim: sizes[dim])
        sizes = sizes | {largest: sizes[largest] - 1}
    return sizes


def disagreements(
    seed: int, *, uneven: bool, imperfect: bool, most: int = 24
) -> tuple[list[str], int]:
    """Where the least traffic differs from enumeration, and how many points are not proved."""
    workload = small_workload(random.Random(seed), most)
    stairs = sorted(Enumeration(workload, uneven, imperfect).staircase().items())
    capacities = [bits for bits, _ in stairs if bits] or [16]
    found = least_traffic(workload, capacities, uneven=uneven, imperfect=imperfect)
    wrong: list[str] = []
    for capacity, answer in zip(capacities, found, strict=True):
        least = min(words for bits, words in stairs if bits <= capacity)
        proved = answer.status is Status.OPTIMAL
        right = answer.lower_bound <= least <= answer.words
        if not right or (proved and answer.lower_bound < answer.words):
            head = f"{seed}: {workload.einsum} {workload.sizes}, {capacity} bits: {answer.words}"
            wrong.append(
                f"{head}, bound {answer.lower_bound}, enumeration {least}\n{answer.cost.mapping}"
            )
    return wrong, sum(answer.status is not Status.OPTIMAL for answer in found)


@pytest.mark.parametrize(("uneven", "imperfect"), MODES)
def test_the_least_is_what_enumeration_finds(uneven: bool, imperfect: bool) -> None:
    unproved = 0
    for seed in range(60):
        most = 18 if uneven and imperfect else 24
        wrong, more = disagreements(seed, uneven=uneven, imperfect=imperfect, most=most)
        assert wrong == []
        unproved += more
    assert unproved <= 12  # of more than a thousand points


@pytest.mark.slow
@pytest.mark.parametrize(("uneven", "imperfect"), MODES)
def test_the_least_of_larger_spaces_too(uneven: bool, imperfect: bool) -> None:
    for seed in range(1000, 1200):
        most = 36 if uneven and imperfect else 60
        found = disagreements(seed, uneven=uneven, imperfect=imperfect, most=most)
        assert found[0] == []


def never(*_: object) -> bool:
    return False


def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassSpace, "_may_slide", never)
    assert any(disagreements(seed, uneven=False, imperfect=True)[0] for seed in range(30))


def test_a_chain_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(traffic_options._PLAIN_CHAINS, 2, "S11")
    assert any(disagreements(seed, uneven=True, imperfect=False)[0] for seed in range(30))


CONV = conv2d("conv", K=48, C=20, P=14, Q=15, R=3, S=3, padding=1, bits={"O": 8, "psum": 24})
STRIDED = conv2d("strided", K=16, C=24, P=13, Q=13, R=5, S=5, stride=2, dilation=2, padding=3)
DEPTHWISE = conv2d("depthwise", G=24, K=1, C=1, P=14, Q=14, R=3, S=3, padding=1)
POOLING = einsum("pool", "O[C,P,Q] += I[C,2P+R,2Q+S]", {"C": 8, "P": 9, "Q": 9, "R": 3, "S": 3})
ATTENTION = einsum(
    "attention", "O[H,M,N] += A[H,M,D] * B[H,N,D]", {"H": 4, "M": 49, "N": 49, "D": 32}
)
SIZES = [8 * 2**power for power in range(1, 18, 2)]


@pytest.mark.parametrize("workload", [CONV, STRIDED, DEPTHWISE, POOLING, ATTENTION])
@pytest.mark.parametrize(("uneven", "imperfect"), MODES)
def test_mappings_are_legal_fit_and_cost_what_is_said(
    workload: Workload, uneven: bool, imperfect: bool
) -> None:
    found = least_traffic(workload, SIZES, uneven=uneven, imperfect=imperfect)
    for capacity, answer in zip(SIZES, found, strict=True):
        machine = buffer_machine(capacity)
        verify_mapping(workload, machine, answer.cost.mapping)
        cost = evaluate(workload, machine, str(answer.cost.mapping))
        assert cost.dram_words == answer.words
        assert cost.limit.words <= answer.lower_bound <= answer.words
        if not imperfect:
            covered = dict.fromkeys(workload.sizes, 1)
            for block in answer.cost.mapping.blocks:
                for loop in block.loops:
                    covered[loop.dim] *= loop.extent
            assert covered == workload.sizes
    words = [answer.words for answer in found]
    assert words == sorted(words, reverse=True)


@pytest.mark.parametrize("workload", [CONV, STRIDED, DEPTHWISE, POOLING, ATTENTION])
def test_wider_mapspaces_are_no_worse(workload: Workload) -> None:
    words = {
        mode: [a.words for a in least_traffic(workload, SIZES, uneven=mode[0], imperfect=mode[1])]
        for mode in MODES
    }
    for narrow, wide in product(MODES, MODES):
        if narrow[0] <= wide[0] and narrow[1] <= wide[1]:
            assert all(a >= b for a, b in zip(words[narrow], words[wide], strict=True))


def test_layers_of_networks_are_proved() -> None:
    layer = load_layer("resnet18:layer2.0.conv1")
    for uneven, imperfect in MODES:
        capacities = [8 * 2**power for power in range(10, 21)]
        found = least_traffic(layer, capacities, uneven=uneven, imperfect=imperfect)
        assert all(answer.status is Status.OPTIMAL for answer in found)
        assert all(answer.lower_bound == answer.words for answer in found)


def test_an_interrupted_search_has_a_valid_bound() -> None:
    optimum = least_traffic(CONV, SIZES, uneven=True, imperfect=True)
    for stopped in (
        least_traffic(CONV, SIZES, uneven=True, imperfect=True, seconds=0.0),
        least_traffic(CONV, SIZES, uneven=True, imperfect=True, should_stop=lambda: True),
    ):
        for answer, best in zip(stopped, optimum, strict=True):
            assert answer.status is Status.BEST_FOUND or answer.words == answer.lower_bound
            assert answer.lower_bound <= best.words <= answer.words


def test_a_layer_of_one_iteration() -> None:
    one = einsum("one", "O[M] += W[M,K] * I[K]", {"M": 1, "K": 1})
    (found,) = least_traffic(one, [1], uneven=True, imperfect=True)
    assert (found.words, found.status) == (3, Status.OPTIMAL)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("O[M] += A[M,K] * B[M,K] * C[M,K]", "4 operands"),
        ("O[M] += A[M] * B[K]", "indexes neither"),
        ("O[P] += A[P+K] * B[P+2K]", "tiles of A and B slide"),
        ("O[P+K] += A[P] * B[P,K]", "tiles of O slide"),
        ("O[P] += A[P+K+M] * B[P,K,M]", "sums 3 dims"),
    ],
)
def test_what_is_not_covered_is_refused(text: str, said: str) -> None:
    sizes = {dim: 4 for dim in "MKP" if dim in text}
    with pytest.raises(InputError, match=said) as caught:
        least_traffic(einsum("odd", text, sizes), [1024])
    assert all(problem.fix for problem in caught.value.problems)


def test_a_capacity_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="holds nothing"):
        least_traffic(CONV, [0])


def test_a_network_is_the_sum_of_its_layers() -> None:
    network = gather_network("two", [Layer(CONV, 2), Layer(ATTENTION)])
    seen: list[str] = []
    whole = traffic_curve(network, SIZES, on_layer=seen.append)
    parts = [traffic_curve(work, SIZES) for work in (CONV, ATTENTION)]
    for point, one, other in zip(whole.points, parts[0].points, parts[1].points, strict=True):
        assert point.words == 2 * one.words + other.words
        assert point.limit_words == pytest.approx(2 * one.limit_words + other.limit_words)
    assert seen == ["conv", "attention"]
    assert whole.proved
    document = json.loads(json.dumps(whole.to_json()))
    assert list(document["points"][0]["mapping"]) == seen
    assert [(repeat, curve.points) for repeat, curve in whole.layers] == [
        (2, parts[0].points),
        (1, parts[1].points),
    ]
    assert [layer["repeat"] for layer in document["layers"]] == [2, 1]
    assert document["layers"][1]["points"][0]["dram_words"] == parts[1].points[0].words


def test_pictures_are_whole_and_escape_names() -> None:
    evil = einsum("<script>&", "O[M,N] += A[M,K] * B[K,N]", {"M": 4, "N": 4, "K": 4})
    curves = [traffic_curve(evil, SIZES, uneven=u, imperfect=i) for u, i in MODES]
    root = ElementTree.fromstring(draw_curves(curves))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 1 + len(curves)
    assert "<script>" not in draw_curves(curves)
    assert draw_curves([traffic_curve(evil, [8])])


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(["curve", *arguments])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "curve.svg"
    code, out, _ = run(
        capsys, "vgg16:conv5_1", "--to", "8KiB", "--all", "--json", "--plot", str(picture)
    )
    document = json.loads(out)
    assert code == 0
    assert [point["capacity_bytes"] for point in document["points"]] == [1024, 2048, 4096, 8192]
    keys = {"capacity_bytes", "dram_words", "dram_limit_words", "mapping", "status"}
    assert all(keys <= point.keys() for point in document["points"])
    assert len(document["curves"]) == 4
    assert picture.read_text().startswith("<svg")


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "vgg16:conv5_1", "--from", "1KiB", "--to", "3KiB", "--points", "2")
    assert code == 0
    assert "physical limit" in out
    assert "DRAM[W I O]" in out
    assert "3 KiB" in out


def test_the_command_takes_a_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        """name: net
layers:
  - {name: one, einsum: "O[M,N] += A[M,K] * B[K,N]", sizes: {M: 8, N: 8, K: 8}, repeat: 3}
  - {name: two, einsum: "O[M,N] += A[M,K] * B[K,N]", sizes: {M: 8, N: 4, K: 16}}
"""
    )
    sizes = ("--from", "64B", "--to", "256B")
    code, out, _ = run(capsys, str(tmp_path / "net.yaml"), *sizes, "--json")
    document = json.loads(out)
    assert code == 0
    one, two = (layer["points"] for layer in document["layers"])
    for whole, first, second in zip(document["points"], one, two, strict=True):
        assert whole["dram_words"] == 3 * first["dram_words"] + second["dram_words"]
    code, out, _ = run(capsys, str(tmp_path / "net.yaml"), *sizes)
    assert code == 0
    assert "by layer, once" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vgg16:conv5_1", "--from", "2KiB", "--to", "1KiB"), "is more than --to"),
        (("vgg16:conv5_1", "--from", "1 furlong"), "unknown unit"),
        (("vgg16:conv5_1", "--from", "0B"), "holds nothing"),
        (("vgg16:conv5_9",), "no layer"),
        (("vgg16:conv5_1", "--to", "1KiB", "--plot", "/nowhere/at/all.svg"), "cannot be written"),
    ],
)
def test_wrong_input_is_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err
