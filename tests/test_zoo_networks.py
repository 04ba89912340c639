"""The networks of the zoo against publications, and against graphs that others exported."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx.backend.test
import pytest

from tilewright.errors import InputError
from tilewright.frontend.onnx import read_onnx
from tilewright.ir.workload import Layer, Network, Workload
from tilewright.zoo import load_network, network_names

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


@dataclass(frozen=True)
class Published:
    """What others say of a network: layers, MACs exactly, MACs as printed, parameters exactly.

    Parameters are those of weights, of a bias per output channel, and of a scale and a shift per
    channel where batch normalization stands in for the bias (`normalized`: in all layers but the
    last).
    """

    layers: int
    macs: int
    printed_macs: float
    parameters: int
    normalized: bool = False


PUBLISHED = {
    # MACs: Sze et al., Efficient Processing of Deep Neural Networks, 2017, Table II: 724 M.
    # Parameters: the reference model of Caffe.
    "alexnet": Published(8, 724_406_816, 0.724e9, 60_965_224),
    # MACs: Sze et al.: 15.5 G. Parameters: torchvision.
    "vgg16": Published(16, 15_470_264_320, 15.47e9, 138_357_544),
    # MACs: the paper says 1.5 G; counters that are run on Caffe's model find 1.58 G.
    # Parameters: Caffe's model without the auxiliary classifiers.
    "googlenet": Published(58, 1_582_671_872, 1.58e9, 6_998_552),
    # MACs and parameters: torchvision, which prints 1.81, 4.09, 0.30 and 0.35 G.
    "resnet18": Published(21, 1_814_073_344, 1.81e9, 11_689_512, normalized=True),
    "resnet50": Published(54, 4_089_184_256, 4.09e9, 25_557_032, normalized=True),
    "mobilenetv2": Published(53, 300_774_272, 0.30e9, 3_504_872, normalized=True),
    "squeezenet": Published(26, 349_151_936, 0.35e9, 1_235_496),
}

LAYERS = {
    **{name: published.layers for name, published in PUBLISHED.items()},
    "vit_b16_block": 6,
    "yang2016": 8,
}


def weights(layer: Layer) -> int:
    workload = layer.workload
    return layer.repeat * math.prod(workload.sizes[dim] for dim in workload.operand("W").dims)


def out_channels(layer: Layer) -> int:
    sizes = layer.workload.sizes
    return layer.repeat * sizes["K"] * sizes.get("G", 1)


def parameters(network: Network, *, normalized: bool) -> int:
    per_channel = sum(out_channels(layer) for layer in network.layers)
    if normalized:
        per_channel += per_channel - out_channels(network.layers[-1])
    return sum(weights(layer) for layer in network.layers) + per_channel


def find(network: Network, name: str) -> Workload:
    return next(layer.workload for layer in network.layers if layer.workload.name == name)


def test_every_network_is_tested() -> None:
    assert set(network_names()) == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_every_network_has_its_layers_and_a_source(name: str) -> None:
    network = load_network(name)
    assert network.name == name
    assert sum(layer.repeat for layer in network.layers) == LAYERS[name]
    assert "arXiv" in network.source or "NIPS" in network.source
    assert "left out" in network.source


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_are_the_published_ones(name: str) -> None:
    network, published = load_network(name), PUBLISHED[name]
    assert network.macs == published.macs
    assert network.macs == pytest.approx(published.printed_macs, rel=0.005)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    published = PUBLISHED[name]
    assert parameters(load_network(name), normalized=published.normalized) == published.parameters


def test_the_parameters_can_disagree() -> None:
    network, published = load_network("resnet18"), PUBLISHED["resnet18"]
    first, *others = network.layers
    wrong = Network("wrong", (Layer(first.workload, first.repeat + 1), *others))
    assert parameters(wrong, normalized=True) != published.parameters
    assert wrong.macs != published.macs


# The same architectures, exported by others: layer for layer the same work.


def work(network: Network) -> Counter[Workload]:
    found = Counter[Workload]()
    for layer in network.layers:
        if layer.workload.multiplies:
            found[layer.workload] += layer.repeat
    return found


@pytest.mark.parametrize("name", ["resnet50", "squeezenet"])
def test_layers_are_those_of_an_exported_graph(name: str) -> None:
    exported = work(read_onnx(LIGHT / f"light_{name}.onnx"))
    assert work(load_network(name)) == exported
    assert work(load_network("resnet18")) != exported


def test_vgg16_repeats_the_layers_of_vgg19() -> None:
    larger, smaller = work(read_onnx(LIGHT / "light_vgg19.onnx")), work(load_network("vgg16"))
    assert set(smaller) == set(larger)
    # Configuration E has one more convolution in each of the last three blocks.
    more = larger - smaller
    assert sorted((w.sizes["K"], w.sizes["P"], count) for w, count in more.items()) == [
        (256, 56, 1),
        (512, 14, 1),
        (512, 28, 1),
    ]
    assert not smaller - larger


@pytest.mark.parametrize(
    ("name", "file"), [("alexnet", "bvlc_alexnet"), ("googlenet", "inception_v1")]
)
def test_weights_are_those_of_an_exported_graph(name: str, file: str) -> None:
    """These files shrink the images otherwise than the papers do; their filters are the same."""

    def filters(network: Network) -> Counter[tuple[tuple[str, int], ...]]:
        found = Counter[tuple[tuple[str, int], ...]]()
        for workload, count in work(network).items():
            dims = workload.operand("W").dims
            found[tuple((dim, workload.sizes[dim]) for dim in dims)] += count
        return found

    assert filters(load_network(name)) == filters(read_onnx(LIGHT / f"light_{file}.onnx"))


# What the totals would not show.


def test_outputs_are_those_of_the_papers() -> None:
    alexnet, googlenet = load_network("alexnet"), load_network("googlenet")
    outputs = [layer.workload.sizes["P"] for layer in alexnet.layers[:5]]
    assert outputs == [55, 27, 13, 13, 13]
    assert [find(alexnet, name).sizes.get("G", 1) for name in ("conv2", "conv3", "conv4")] == [
        2,
        1,
        2,
    ]
    assert find(googlenet, "conv1").sizes["P"] == 112
    assert {layer.workload.sizes.get("P", 1) for layer in googlenet.layers} == {
        112,
        56,
        28,
        14,
        7,
        1,
    }
    resnet = load_network("resnet50")
    assert find(resnet, "layer2.0.conv1").sizes["P"] == 56  # the stride is in conv2: "v1.5"
    assert find(resnet, "layer2.0.conv2").sizes["P"] == 28


def test_depthwise_layers_have_groups_of_one_channel() -> None:
    network = load_network("mobilenetv2")
    depthwise = [layer for layer in network.layers if layer.workload.sizes.get("G", 1) > 1]
    assert sum(layer.repeat for layer in depthwise) == 17
    assert {(x.workload.sizes["K"], x.workload.sizes["C"]) for x in depthwise} == {(1, 1)}
    assert len(find(network, "features.2.conv.1.0").operand("I").ranks) == 5


def test_padding_is_no_data() -> None:
    workload = find(load_network("vgg16"), "conv1_1")
    height = workload.operand("I").ranks[2]
    assert (str(height), height.data) == ("P+R", (1, 225))


def test_twelve_blocks_make_a_vision_transformer() -> None:
    """torchvision prints 17.56 G for ViT-B/16: 12 blocks, the patches and the last layer."""
    block = load_network("vit_b16_block")
    patches, head = 196 * 768 * 16 * 16 * 3, 768 * 1000
    assert 12 * block.macs + patches + head == pytest.approx(17.56e9, rel=0.001)
    # torchvision has 86,567,656 parameters, 7,087,872 of them in a block; without its biases
    # and its two layer normalizations those are the weights of its four products.
    biases, norms = 2304 + 768 + 3072 + 768, 2 * 2 * 768
    products = [layer for layer in block.layers if "B" not in layer.workload.sizes]
    assert sum(weights(layer) for layer in products) == 7_087_872 - biases - norms
    scores, context = find(block, "scores"), find(block, "context")
    assert scores.sizes == {"B": 12, "N": 197, "K": 197, "C": 64}
    assert context.sizes == {"B": 12, "N": 197, "K": 64, "C": 197}


def test_the_benchmark_of_2016_is_as_recalled() -> None:
    network = load_network("yang2016")
    assert "as recalled" in network.source
    table = {  # X Y C K Fw Fh
        "Conv1": (256, 256, 256, 384, 11, 11),
        "Conv2": (500, 375, 32, 48, 9, 9),
        "Conv3": (32, 32, 108, 200, 4, 4),
        "Conv4": (56, 56, 128, 256, 3, 3),
        "Conv5": (28, 28, 256, 512, 3, 3),
    }
    for name, numbers in table.items():
        workload = find(network, name)
        assert tuple(workload.sizes[dim] for dim in "QPCKSR") == numbers
        assert all(rank.data is None for rank in workload.operand("I").ranks)
    assert [find(network, name).macs for name in ("FC1", "FC2")] == [200 * 100, 4096 * 4096]
    pool = find(network, "Pool")
    assert pool.einsum == "O[N,C,P,Q] += I[N,C,2P+R,2Q+S]"
    assert (pool.macs, pool.multiplies) == (56 * 56 * 128 * 2 * 2, False)
    assert network.macs == sum(math.prod(numbers) for numbers in table.values()) + 16_797_216


def test_an_unknown_network_is_answered_with_a_near_name() -> None:
    with pytest.raises(InputError, match=r"no network `resnet5`\n.*did you mean `resnet50`\?"):
        load_network("resnet5")
