"""The three nouns: what they say of themselves, and that what is printed is read back."""

import pytest
from hypothesis import given
from strategies import Triple, triples

from tilewright.errors import InputError, Source
from tilewright.ir.blocking import format_blocking, parse_blocking
from tilewright.ir.files import parse_hardware, parse_network
from tilewright.ir.hardware import Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping, format_mapping, parse_mapping
from tilewright.ir.nest import flatten
from tilewright.ir.quantity import format_bytes, parse_capacity
from tilewright.ir.verify import axis_violations, verify_mapping
from tilewright.ir.workload import Layer, conv2d, einsum, gather_network
from tilewright.model.convention import CONVENTIONS
from tilewright.model.exact import count
from tilewright.model.walk import walk


def layer_of(text: str) -> Layer:
    return parse_network(Source("layer.yaml", text)).layers[0]


def test_conv2d_is_the_einsum_it_prints() -> None:
    layer = conv2d("c", K=8, C=4, P=6, Q=5, R=3, S=2, stride=(2, 1), dilation=(1, 3))
    assert layer.einsum == "O[N,K,P,Q] += W[K,C,R,S] * I[N,C,2P+R,Q+3S]"
    again = einsum("other name", layer.einsum, layer.sizes)
    assert again.inputs == layer.inputs
    assert again.output == layer.output
    assert again.macs == layer.macs == 8 * 4 * 6 * 5 * 3 * 2


def test_groups_index_every_operand() -> None:
    layer = conv2d("dw", G=32, K=1, C=1, P=14, Q=14, R=3, S=3)
    assert layer.einsum == "O[N,G,K,P,Q] += W[G,K,C,R,S] * I[N,G,C,P+R,Q+S]"
    assert layer.macs == 32 * 14 * 14 * 9


def test_output_size_follows_from_the_input() -> None:
    text = """
    conv2d:
      {in_channels: 3, out_channels: 64, kernel: [7, 7], stride: [2, 2], padding: [3, 3],
       in_height: 224, in_width: 224}
    """
    work = layer_of(text).workload
    assert (work.sizes["P"], work.sizes["Q"]) == (112, 112)
    assert work.inputs[1].ranks[2].data == (3, 227)


def test_padding_by_four_sides() -> None:
    work = conv2d("c", K=1, C=1, R=3, S=3, padding=(0, 1, 2, 0), in_height=8, in_width=8)
    assert (work.sizes["P"], work.sizes["Q"]) == (8, 7)
    assert [rank.data for rank in work.inputs[1].ranks[2:]] == [(0, 8), (1, 9)]


def test_padding_without_effect_is_no_padding() -> None:
    plain = conv2d("a", K=2, C=2, P=4, Q=4, R=3, S=3)
    padded = conv2d("b", K=2, C=2, R=3, S=3, padding=0, in_height=6, in_width=6)
    assert plain == padded


@pytest.mark.parametrize(
    ("text", "sizes", "macs"),
    [
        ("Z[M,J] += A[M,L] * X[L,J]", {"M": 3, "J": 4, "L": 5}, 60),
        ("O[B,H,M,N] += Q[B,H,M,D]*K[B,H,N,D]", {"B": 1, "H": 2, "M": 3, "N": 3, "D": 4}, 72),
        ("O[N,C,P] += I[N,C,2*P+R]", {"N": 1, "C": 2, "P": 3, "R": 2}, 12),
        ("O[C,X,Y,Z] += W[C,R] * I[C,X+R,Y,Z]", {"C": 1, "X": 2, "Y": 3, "Z": 4, "R": 2}, 48),
        ("D[] += A[M] * B[M]", {"M": 7}, 7),
        ("O[P] += I[P+P]", {"P": 3}, 3),
    ],
)
def test_einsum(text: str, sizes: dict[str, int], macs: int) -> None:
    assert einsum("e", text, sizes).macs == macs


def test_terms_of_one_dim_are_added() -> None:
    assert str(einsum("e", "O[P] += I[P+P]", {"P": 3}).inputs[0]) == "I[2P]"


def test_sizes_may_stand_in_any_order() -> None:
    text = "Z[M,J] += A[M,L] * X[L,J]"
    assert einsum("a", text, {"M": 1, "J": 2, "L": 3}) == einsum(
        "b", text, {"L": 3, "J": 2, "M": 1}
    )


def test_bits() -> None:
    work = layer_of(
        "einsum: O[M] += W[M,K] * I[K]\nsizes: {M: 2, K: 3}\nbits: {W: 4, O: 8, psum: 24}"
    ).workload
    assert [operand.bits for operand in work.operands] == [4, 16, 8]
    assert work.psum_bits == 24
    assert einsum("e", "O[M] += I[M]", {"M": 1}, {"O": 8}).psum_bits == 8


def test_equal_layers_are_counted_once() -> None:
    first, second = (conv2d(name, K=2, C=2, P=4, Q=4) for name in ("a", "b"))
    other = conv2d("c", K=2, C=2, P=4, Q=5)
    network = gather_network("net", [Layer(first), Layer(other), Layer(second, 3)])
    assert [(layer.workload.name, layer.repeat) for layer in network.layers] == [("a", 4), ("c", 1)]
    assert network.layer("b").name == "b"
    assert network.layer("b") == first
    assert network.macs == 4 * 64 + 80


def test_pooling_has_no_macs() -> None:
    pool = einsum("pool", "O[C,P] += I[C,2P+R]", {"C": 2, "P": 3, "R": 2})
    assert gather_network("net", [Layer(pool)]).macs == 0


@given(triples())
def test_mappings_are_read_back(triple: Triple) -> None:
    assert parse_mapping(format_mapping(triple.mapping)) == triple.mapping


def test_comments_and_blank_lines_say_nothing() -> None:
    text = "# a mapping\n\nDRAM[W I O]: K4   # four\n  GLB[]: C2 | K2@x\n"
    assert parse_mapping(text) == Mapping(
        (
            Block("DRAM", ("W", "I", "O"), (Loop("K", 4),)),
            Block("GLB", (), (Loop("C", 2),), (Loop("K", 2, "x"),)),
        )
    )


def test_steps_are_products_of_what_is_inside() -> None:
    chip = Hardware("c", (Level("DRAM", fanout=Fanout(4)), Level("RF")))
    nest = flatten(parse_mapping("DRAM[W O]: K2 C1 K3 | K4@x\nRF[W]: K5 C7"), chip)
    assert [(loop.dim, loop.extent, loop.step) for loop in nest.loops] == [
        ("K", 2, 60),
        ("K", 3, 20),
        ("K", 4, 5),
        ("K", 5, 1),
        ("C", 7, 1),
    ]
    assert [store.depth for store in nest.stores["W"]] == [0, 3]


def test_uneven_blocks_may_interleave_where_no_fanout_stands_between() -> None:
    layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    chip = Hardware("c", (Level("DRAM"), Level("GLB"), Level("RF")))
    verify_mapping(layer, chip, parse_mapping("DRAM[W I O]: M2\nRF[W]: K2\nGLB[I]: M2\nRF[O]: K4"))


def test_dims_that_an_axis_does_not_allow() -> None:
    layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    chip = Hardware("c", (Level("DRAM", fanout=Fanout(x=4, x_dims=("K",))), Level("RF")))
    verify_mapping(layer, chip, parse_mapping("DRAM[W I O]: M4 K2 | K4@x"))
    with pytest.raises(InputError, match="M may not be unrolled on axis x of DRAM"):
        verify_mapping(layer, chip, parse_mapping("DRAM[W I O]: K8 | M4@x"))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("DRAM[W I O]: M4 K8\nRF[W I]:", "RF must keep O"),
        ("DRAM[W I O]: M4 K8\nRF[O W]:", "RF may not keep W"),
    ],
)
def test_a_level_keeps_exactly_what_it_says(mapping: str, message: str) -> None:
    layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    chip = Hardware("c", (Level("DRAM"), Level("RF", keeps=frozenset({"O"}))))
    verify_mapping(layer, chip, parse_mapping("DRAM[W I O]: M4 K8\nRF[O]:"))
    with pytest.raises(InputError, match=message):
        verify_mapping(layer, chip, parse_mapping(mapping))


def test_a_partitioned_capacity_names_what_may_be_kept() -> None:
    layer = einsum("fc", "O[M] += W[M,K] * I[K]", {"M": 4, "K": 8})
    chip = Hardware("c", (Level("DRAM"), Level("RF", capacity=(("W", 64), ("O", 16)))))
    with pytest.raises(InputError, match="RF may not keep I: its partitioned capacity"):
        verify_mapping(layer, chip, parse_mapping("DRAM[W I O]: M4 K8\nRF[I]:"))


def test_axes_have_room() -> None:
    chip = Hardware("c", (Level("DRAM", fanout=Fanout(x=4, y=2)), Level("RF")))
    fits = parse_mapping("DRAM[W I O]: | K2@x C2@x K2@y\nRF[W]:")
    assert axis_violations(chip, fits) == []
    (violation,) = axis_violations(chip, parse_mapping("DRAM[W I O]: | K2@x C3@x K2@y\nRF[W]:"))
    assert "takes 6 copies of axis x, the fan-out has 4" in violation.what


def test_hardware_file() -> None:
    chip = parse_hardware(
        Source(
            "chip.yaml",
            """
            clock_ghz: 0.5
            levels:
              - {memory: DRAM, bandwidth: 4, word_bits: 32}
              - {memory: GLB, capacity: 100 words, word_bits: 32, double_buffered: true,
                 fanout: {x: 14, y: 12, multicast: false, x_dims: [K, C]}}
              - {memory: RF, capacity: {W: 448B, O: 2 words}, keeps: [W, O]}
            compute: {pj: 0.5, bits: 8}
            """,
        )
    )
    dram, glb, rf = chip.levels
    assert (chip.name, chip.clock_ghz, chip.compute.pj) == ("chip", 0.5, 0.5)
    assert (dram.usable_bits(), glb.usable_bits(), rf.usable_bits("W")) == (None, 1600, 3584)
    assert (rf.usable_bits("O"), rf.usable_bits()) == (32, 3616)
    assert [chip.instances(index) for index in range(4)] == [1, 1, 168, 168]
    assert glb.fanout == Fanout(14, 12, multicast=False, x_dims=("K", "C"))
    assert glb.fanout.reduction
    assert not rf.may_keep("I")


def test_capacities() -> None:
    assert parse_capacity("1.5KiB", 16) == 12288
    assert parse_capacity("3 words", 24) == 72
    assert format_bytes(parse_capacity("1MiB", 16)) == "1 MiB"
    with pytest.raises(ValueError, match="not a whole number of bits"):
        parse_capacity("0.3B", 16)


PAPER = "Fw Fh X0=4 Y0=2 C0=2 K0=4 C1 K1 X1 Y1"


def test_blocking_strings_are_read_back() -> None:
    layer = conv2d("c", K=16, C=8, P=6, Q=8, R=3, S=3)
    blocking = parse_blocking(PAPER, layer)
    assert str(blocking) == "Fw=3 Fh=3 X0=4 Y0=2 C0=2 K0=4 C1=8 K1=16 X1=8 Y1=6"
    assert parse_blocking(str(blocking), layer) == blocking
    assert format_blocking(blocking.mapping(layer)) == str(blocking)


def test_a_blocking_places_a_buffer_below_every_loop_that_does_not_index() -> None:
    """The footprints and refetch rates of the 2016 paper's table, from the walk."""
    layer = conv2d("c", K=16, C=8, P=8, Q=8, R=3, S=3)
    blocking = parse_blocking("Fw Fh X0=4 Y0=4 C0=4 K0=4 C1 K1 X1 Y1", layer)
    chip, mapping = blocking.hierarchy(layer), blocking.mapping(layer)
    verify_mapping(layer, chip, mapping)
    counts = count(layer, chip, mapping, CONVENTIONS["blocking2016"])
    walked = walk(layer, chip, mapping, CONVENTIONS["blocking2016"])
    assert all(counts[key] == walked[key] for key in counts.kept())
    # K1 puts an input buffer below itself: (X+Fw-1)(Y+Fh-1)·C, read K1/K0 times.
    assert counts.tile_words["I0", "I"] == 6 * 6 * 8
    assert counts["I0", "I"].fills == 4 * 6 * 6 * 8
    assert counts["I0", "I"].reads == 4 * counts["I0", "I"].fills
    # C1 puts an output buffer below itself: X·Y·K, every sum read and written C1/C0 times.
    assert counts.tile_words["O0", "O"] == 4 * 4 * 4
    assert counts["O0", "O"].reads + counts["O0", "O"].updates == 2 * 2 * 8 * 8 * 16
    # X1 and Y1 put weight buffers below themselves: Fw·Fh·C·K, refetched by each step of Y1.
    assert counts.tile_words["W0", "W"] == 9 * 8 * 16
    assert counts["W0", "W"].fills == 9 * 8 * 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Fw Fh X0 Y0 C0 Q1 K0", "`Q1` is no loop of c"),
        ("Fw Fh X0 Y0 C0 K0 C1", "`C0` needs the extent"),
        ("Fw Fh X0 Y0 C0=9 C1 K0", "`C0=9` reaches 9: it must be from 1"),
        ("Fw Fh X0 Y0 C0=4 C1=2 K0", "`C1=2` reaches 2: it must be from 4"),
        ("Fw Fh X0 Y0 C0=4 K0", "`C0=4` reaches 4, the size is 8"),
        ("Fw Fh X0 Y0 C0", "no loop reaches K 16"),
    ],
)
def test_wrong_blocking_strings(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_blocking(text, conv2d("c", K=16, C=8, P=6, Q=8, R=3, S=3))


def test_a_spatial_loop_has_no_place_in_a_blocking_string() -> None:
    with pytest.raises(InputError, match="has no place in a blocking string"):
        format_blocking(parse_mapping("DRAM[W I O]: | K4@x"))
