"""PyTorch modules in: MACs as PyTorch's own counter has them. Skipped where it is missing."""

from importlib import import_module
from typing import Any

import pytest

from tilewright import zoo
from tilewright.errors import InputError, MissingToolError
from tilewright.frontend import torch as frontend
from tilewright.frontend.torch import from_torch
from tilewright.ir.workload import Network


def test_without_pytorch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> object:
        raise ImportError

    monkeypatch.setattr(frontend, "import_module", missing)
    with pytest.raises(MissingToolError, match=r"tilewright\[torch\]"):
        from_torch(object(), ())


torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn


def macs_by_pytorch(module: Any, inputs: tuple[Any, ...]) -> int:
    """What PyTorch's counter of floating-point operations, which knows nothing of us, finds."""
    counter: Any = import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    attention: Any = import_module("torch.nn.attention")
    # Its counter does not know the fused operators of the processor: the plain ones are run.
    torch.backends.mha.set_fastpath_enabled(False)
    with counter, torch.no_grad(), attention.sdpa_kernel(attention.SDPBackend.MATH):
        module(*inputs)
    return counter.get_total_flops() // 2


class Block(nn.Module):
    """A block of ResNet-18."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        nn.Module.__init__(self)
        self.conv1 = nn.Conv2d(channels, wider, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wider)
        self.downsample = None
        if stride > 1 or channels != wider:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, wider, 1, stride, bias=False), nn.BatchNorm2d(wider)
            )

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet18() -> Any:
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    blocks: list[Any] = []
    channels = 64
    for wider, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(channels, wider, stride), Block(wider, wider, 1)]
        channels = wider
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *blocks, *head).eval()


def image(*shape: int) -> tuple[Any]:
    return (torch.zeros(*shape),)


MODULES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "grouped, dilated": (
        nn.Sequential(
            nn.Conv2d(6, 12, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=3),
            nn.Conv2d(12, 12, 3, groups=12),
        ),
        image(2, 6, 20, 18),
    ),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), image(1, 4, 9, 7)),
    "one axis": (nn.Conv1d(4, 8, 5, padding=2), image(1, 4, 30)),
    "three axes": (nn.Conv3d(2, 4, 3), image(1, 2, 5, 6, 7)),
    "without a batch": (nn.Conv2d(3, 8, 3), image(3, 10, 10)),
    "perceptron": (nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 10)), image(5, 32)),
    "rows of rows": (nn.Linear(16, 24), image(2, 7, 16)),
    "transformer": (nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), image(2, 10, 32)),
    "resnet18": (resnet18(), image(1, 3, 224, 224)),
}


@pytest.mark.parametrize("name", MODULES)
def test_macs_are_those_that_pytorch_counts(name: str) -> None:
    module, inputs = MODULES[name]
    module.eval()
    found = from_torch(module, inputs)
    assert found.macs == macs_by_pytorch(module, inputs)
    assert found.macs > 0


def works(network: Network) -> dict[Any, int]:
    """The loop nests of the products, with how often each occurs; names of dims of size 1 aside."""
    found: dict[Any, int] = {}
    for layer in network.layers:
        if layer.workload.multiplies:
            sizes = frozenset((d, n) for d, n in layer.workload.sizes.items() if n > 1)
            found[sizes] = found.get(sizes, 0) + layer.repeat
    return found


def test_resnet18_is_that_of_the_zoo() -> None:
    ours, theirs = zoo.load_network("resnet18"), from_torch(*MODULES["resnet18"])
    assert works(theirs) == works(ours)
    assert theirs.macs == ours.macs
    by_name = {name for layer in theirs.layers for name in layer.names}
    assert {"0", "4.conv1", "6.downsample.0", "14"} <= by_name
    assert dict(theirs.not_costed)["relu"] == 17
    conv1 = theirs.layers[0].workload
    assert conv1.operand("I").ranks[2].data == (3, 227)  # padding is not data


def test_attention_has_two_products() -> None:
    class Attend(nn.Module):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    shapes = torch.zeros(2, 4, 10, 8), torch.zeros(2, 4, 12, 8), torch.zeros(2, 4, 12, 6)
    found = from_torch(Attend(), shapes)
    assert found.macs == 2 * 4 * 10 * 12 * 8 + 2 * 4 * 10 * 12 * 6


def test_pooling_is_a_layer_without_products() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2))
    found = from_torch(module.eval(), image(1, 3, 16, 16))
    pools = [layer.workload for layer in found.layers if not layer.workload.multiplies]
    assert [(pool.sizes["P"], pool.sizes["R"]) for pool in pools] == [(8, 3), (4, 2)]


def test_word_sizes_are_given() -> None:
    found = from_torch(nn.Linear(4, 8), image(1, 4), bits={"W": 8, "psum": 32}, name="fc")
    layer = found.layers[0].workload
    assert (layer.operand("W").bits, layer.operand("I").bits, layer.psum_bits) == (8, 16, 32)
    assert found.name == "fc"


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match=r"is no torch\.nn\.Module"):
        from_torch(object(), image(1))
    with pytest.raises(InputError, match="no convolution, matrix product or pooling; found: relu"):
        from_torch(nn.ReLU(), image(1, 2))
    with pytest.raises(InputError, match=r"torch\.export cannot export it"):
        from_torch(nn.Linear(4, 8), image(1, 5))
