"""The seeded search, its mapspace, and networks."""

import math
import sys
from collections import Counter
from random import Random

import pytest
from mapper_contract import CHIP, CONV, MapperContract

from tilewright.errors import InputError, MissingToolError
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Layer, conv2d, einsum, gather_network
from tilewright.mapper.network import map_network
from tilewright.mapper.result import LayerResult, Status
from tilewright.mapper.search import search_mapping
from tilewright.mapspace.draft import first_draft, neighbour, random_draft, to_mapping
from tilewright.mapspace.space import Mapspace, prime_exponents

NETWORK = gather_network("net", [Layer(CONV, 2), Layer(conv2d("pw", K=8, C=8, P=6, Q=6))])


class TestSearch(MapperContract):
    pass


@pytest.mark.parametrize("imperfect", [False, True])
@pytest.mark.parametrize("uneven", [False, True])
def test_every_draft_is_legal(imperfect: bool, uneven: bool) -> None:
    space = Mapspace(CONV, CHIP, imperfect, uneven)
    random = Random(1)
    draft = first_draft(space)
    for step in range(600):
        draft = random_draft(space, random) if step % 50 == 0 else neighbour(draft, space, random)
        verify_mapping(CONV, CHIP, to_mapping(draft, space))


def test_the_random_steps_reach_every_mapping_of_a_tiny_space() -> None:
    """M4 on two levels: factors 4·1, 2·2, 1·4; and I, O, W kept inside or not."""
    layer = einsum("tiny", "O[M] += W[M] * I[M]", {"M": 4})
    space = Mapspace(layer, Hardware("c", (Level("DRAM"), Level("RF"))))
    random, seen = Random(0), set[str]()
    draft = first_draft(space)
    for _ in range(2000):
        draft = neighbour(draft, space, random)
        seen.add(str(to_mapping(draft, space)))
    # Three factorizations for each of eight choices; with nothing kept and no loop RF has no block.
    assert len(seen) == 3 * 8


def test_mapspace_size() -> None:
    layer = einsum("tiny", "O[M,N] += W[M] * I[N]", {"M": 4, "N": 3})
    space = Mapspace(layer, Hardware("c", (Level("DRAM", fanout=Fanout(2)), Level("RF"))))
    # Three places: C(2+2, 2) · C(1+2, 2) factorizations, 2! orders on 2 levels, 2³ choices.
    assert space.size() == 6 * 3 * 2**2 * 2**3
    assert space.title == "even, perfect factors, any order, any bypass"
    wide = Mapspace(layer, space.hardware, imperfect=True, uneven=True).title
    assert wide.startswith("uneven (one loop per dim and memory), imperfect")


def test_prime_exponents() -> None:
    assert prime_exponents(2**5 * 3 * 997) == {2: 5, 3: 1, 997: 1}
    assert prime_exponents(1) == {}


def test_the_search_finds_the_least_traffic_of_a_small_layer() -> None:
    """Everything fits: the least that DRAM can do is every word once."""
    chip = Hardware("roomy", (Level("DRAM"), Level("GLB", 10**6)))
    found = search_mapping(CONV, chip, objective="dram")
    assert found.cost is not None
    assert found.cost.dram_words == found.cost.limit.compulsory_words


def test_a_network_maps_layer_by_layer() -> None:
    seen: list[str] = []

    def note(result: LayerResult) -> None:
        seen.append(result.workload.name)

    result = map_network(NETWORK, CHIP, jobs=1, on_layer=note)
    assert seen == ["conv", "pw"]
    assert [layer.repeat for layer in result.layers] == [2, 1]
    costs = [layer.cost for layer in result.layers]
    assert None not in costs
    assert math.isclose(
        result.energy_pj, sum(c.energy_pj * r for c, r in zip(costs, (2, 1), strict=True) if c)
    )
    assert result.cycles == sum(c.cycles * r for c, r in zip(costs, (2, 1), strict=True) if c)
    assert result.feasible
    assert len(result.to_frame()) == 2
    assert "<table" in result._repr_html_()
    assert "net on contract" in str(result)


def test_a_network_shows_as_a_table_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    chip = Hardware("halves", (Level("DRAM"), Level("RF", 40, keeps=frozenset({"W", "I", "O"}))))
    network = gather_network("net", [Layer(CONV), Layer(conv2d("<pw>", K=1, C=1, P=1, Q=1))])
    result = map_network(network, chip, jobs=1)
    title, head, first, second = str(result).split("\n")
    assert title == "net on halves"
    assert head.split()[:3] == ["layer", "repeat", "energy_pj"]
    assert (first.split(), second.split()) == (["conv", "1"], ["<pw>", "1"])
    assert "<td>&lt;pw&gt;</td>" in result._repr_html_()
    with pytest.raises(MissingToolError, match="pip install"):
        result.to_frame()


def test_processes_give_the_same_answer() -> None:
    alone, together = (map_network(NETWORK, CHIP, jobs=jobs, seed=3) for jobs in (1, 2))
    assert [layer.cost and layer.cost.mapping for layer in alone.layers] == [
        layer.cost and layer.cost.mapping for layer in together.layers
    ]


def test_a_layer_that_cannot_be_mapped_does_not_stop_the_others() -> None:
    chip = Hardware("halves", (Level("DRAM"), Level("RF", 40, keeps=frozenset({"W", "I", "O"}))))
    narrow = conv2d("narrow", K=2, C=2, P=2, Q=2, bits={"W": 8, "I": 8, "O": 8})
    network = gather_network("net", [Layer(CONV), Layer(narrow)])
    result = map_network(network, chip, jobs=1)
    assert [layer.status for layer in result.layers] == [Status.INFEASIBLE, Status.OPTIMAL]
    document = result.to_json()
    assert document["status"] == "infeasible"
    layers = document["layers"]
    assert isinstance(layers, list)
    assert layers[0]["cost"] is None
    assert layers[0]["reason"] == "RF: tiles need 6 B (W 2 B, I 2 B, O 2 B), 5 B are there"
    assert document["total"]["energy_pj"] == result.energy_pj  # type: ignore[index]


def test_stopping_keeps_what_was_found() -> None:
    calls = Counter[str]()

    def stop_soon() -> bool:
        calls["asked"] += 1
        return calls["asked"] > 50

    found = search_mapping(CONV, CHIP, should_stop=stop_soon)
    assert found.interrupted
    assert found.cost is not None
    assert found.evaluated < 100


def test_ctrl_c_keeps_what_was_found() -> None:
    calls = Counter[str]()

    def interrupt() -> bool:
        calls["asked"] += 1
        if calls["asked"] > 50:
            raise KeyboardInterrupt
        return False

    found = search_mapping(CONV, CHIP, should_stop=interrupt)
    assert found.interrupted
    assert found.cost is not None


def test_unknown_objective() -> None:
    with pytest.raises(InputError, match="did you mean `energy`"):
        search_mapping(CONV, CHIP, objective="enrgy")


def test_a_transposed_convolution_is_mapped() -> None:
    """Some of its mappings have no closed form; the search passes them by."""
    layer = einsum("up", "O[K,2P+R] += W[C,K,R] * I[C,P]", {"K": 4, "P": 8, "R": 4, "C": 4})
    chip = Hardware("c", (Level("DRAM", read_pj=9, fanout=Fanout(4, 4)), Level("RF", 4096)))
    assert search_mapping(layer, chip).cost is not None


def test_timeloop_maps_perfect_factors_only() -> None:
    found = search_mapping(CONV, CHIP, convention="timeloop", seconds=0.2)
    assert found.cost is not None
    with pytest.raises(InputError, match="even mappings with perfect factors only"):
        search_mapping(CONV, CHIP, convention="timeloop", imperfect=True)
