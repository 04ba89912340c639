"""A whole network as steps on buffers: what its one program does, in order.

Owns: the nouns: how a tensor is stored (`Blocks`), where (`Ref`), and the kinds of steps.

Non-goals: reading a graph (`lower.py`), where buffers lie (`arena.py`), C (`emit_network.py`).
"""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tilewright.codegen.shape import Shape
from tilewright.codegen.tiling import plane_pixels

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a tensor is stored: [image][group][block of channels][pixel][lane].

    One lane is what users have: [image][channel][pixel].

    Attributes:
        batch: images.
        groups: that are packed apart.
        channels: of a group.
        lanes: channels that stand together.
        pixels: of an image.
    """

    batch: int
    groups: int
    channels: int
    lanes: int
    pixels: int

    @property
    def per_group(self) -> int:
        """Blocks of a group."""
        return -(-self.channels // self.lanes)

    @property
    def image_elements(self) -> int:
        """Elements of one image, those that only fill up included."""
        return self.groups * self.per_group * self.lanes * self.plane

    @property
    def plane(self) -> int:
        """Pixels from one block to the next."""
        return plane_pixels(self.pixels, self.lanes)

    @property
    def elements(self) -> int:
        """Elements of all images."""
        return self.batch * self.image_elements


def blocks(batch: int, groups: int, channels: int, lanes: int, pixels: int) -> Blocks:
    """A layout; groups that need not be packed apart are one.

    >>> blocks(1, 2, 48, 16, 729) == blocks(1, 1, 96, 16, 729)
    True
    """
    if channels % lanes == 0:
        return Blocks(batch, 1, groups * channels, lanes, pixels)
    return Blocks(batch, groups, channels, lanes, pixels)


@dataclass(frozen=True, slots=True)
class Ref:
    """A place: a buffer, and elements from its start."""

    buffer: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory between steps.

    Attributes:
        elements: how many.
        user: the name of the graph's input or output that it is; empty for what steps share.
    """

    elements: int
    user: str = ""


@dataclass(frozen=True, slots=True)
class KernelStep:
    """A convolution, a matrix product, or a pooling.

    Attributes:
        node: as messages call it.
        shape: what is computed; its name is left empty, so that equal ones are one function.
        sources: the image.
        target: the output.
        weights: [group][output][input][row][column]; `None` for pooling.
        bias: [group · output]; `None` for pooling.
    """

    node: str
    shape: Shape
    sources: tuple[Ref, ...]
    target: Ref
    weights: Array | None = None
    bias: Array | None = None


@dataclass(frozen=True, slots=True)
class ScaleStep:
    """`factor · x + shift` by channel, within limits. Stored in blocks of vectors.

    Attributes:
        form: how both tensors are stored.
        factor: by channel.
        shift: by channel.
        low: results below become this; `None` for no limit.
        high: results above become this.
    """

    node: str
    form: Blocks
    sources: tuple[Ref, ...]
    target: Ref
    factor: Array
    shift: Array
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class AddStep:
    """The sum of two tensors of one form, or their product."""

    node: str
    form: Blocks
    sources: tuple[Ref, ...]
    target: Ref
    relu: bool = False
    product: bool = False


@dataclass(frozen=True, slots=True)
class NormStep:
    """Local response normalization across channels.

    `y = x / (bias + alpha / size · Σ x²)^beta` over `size` channels around each.
    """

    node: str
    form: Blocks
    sources: tuple[Ref, ...]
    target: Ref
    size: int
    alpha: float
    beta: float
    bias: float


@dataclass(frozen=True, slots=True)
class SoftmaxStep:
    """`exp(x) / Σ exp(x)` over the channels of each pixel."""

    node: str
    form: Blocks
    sources: tuple[Ref, ...]
    target: Ref


@dataclass(frozen=True, slots=True)
class MoveStep:
    """A copy from one layout to another: packing, unpacking, joining, shuffling.

    Channel c of the source becomes channel `first + c % split · (channels / split) + c / split`.
    """

    node: str
    source_form: Blocks
    target_form: Blocks
    sources: tuple[Ref, ...]
    target: Ref
    first: int = 0
    split: int = 1


Step = KernelStep | ScaleStep | AddStep | NormStep | SoftmaxStep | MoveStep


@dataclass(frozen=True, slots=True)
class Steps:
    """A network.

    Attributes:
        name: of the file.
        producer: the tool that wrote the file.
        steps: in order.
        buffers: between them; each is written by one step, or by several that join.
        inputs: the names and shapes that a caller feeds.
        outputs: the names and shapes that it gets.
        lanes: of the vectors that it is stored for.
    """

    name: str
    producer: str
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    lanes: int
