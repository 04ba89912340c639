"""The windows that ONNX's operators slide along the axes of a tensor.

Owns: one operator's attributes, checked, and what strides, dilations and every form of padding mean
along one axis.

Non-goals: channels, operands and loop nests (`frontend/onnx_operators.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilewright.errors import InputError, Problem, did_you_mean
from tilewright.frontend.onnx_graph import Attribute
from tilewright.ir.workload import Rank, Term

Sizes = tuple[int, ...]

Range = tuple[int, int]
"""Coordinates from the first up to, but without, the second."""

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Call:
    """An operator, the sizes of the tensors that are its operands, and the bits of their words."""

    name: str
    attributes: Mapping[str, Attribute]
    shapes: tuple[Sizes, ...]
    bits: Mapping[str, int]

    def integer(self, key: str, default: int) -> int:
        """A whole number among the attributes."""
        value = self.attributes.get(key, default)
        if not isinstance(value, int):
            raise self.problem(f"attribute {key} is {value!r}: expected a whole number")
        return value

    def integers(self, key: str, default: Sizes) -> Sizes:
        """A list among the attributes, as long as the default."""
        value = self.attributes.get(key, default)
        if not isinstance(value, tuple) or len(value) != len(default):
            expected = f"expected {len(default)} whole numbers"
            raise self.problem(f"attribute {key} is {value!r}: {expected}")
        return value

    def problem(self, what: str, fix: str = "") -> InputError:
        """The error that names this operator."""
        return InputError(Problem(what, fix, self.name))


@dataclass(frozen=True, slots=True)
class Window:
    """A filter that slides along one axis: `size` coordinates of data, padding before and after.

    `rounds_up` says that a last, partial stride is taken too.
    """

    size: int
    taps: int
    stride: int
    dilation: int
    before: int = 0
    after: int = 0
    rounds_up: bool = False

    @property
    def reach(self) -> int:
        """The coordinates from its first to its last tap."""
        return self.dilation * (self.taps - 1) + 1

    def span(self, places: int) -> int:
        """The coordinates that it touches at so many places, from the first to the last."""
        return (places - 1) * self.stride + self.reach

    @property
    def steps(self) -> int:
        """The number of places at which it stands."""
        room = self.size + self.before + self.after - self.reach
        if not self.rounds_up:
            return room // self.stride + 1
        steps = -(-room // self.stride) + 1
        # One that would begin behind the data, in the padding, is left out.
        return steps - ((steps - 1) * self.stride >= self.size + self.before)

    def same(self, *, upper: bool) -> "Window":
        """The window with as much padding as gives ceil(size / stride) places."""
        places = -(-self.size // self.stride)
        total = max(self.span(places) - self.size, 0)
        small, large = total // 2, total - total // 2
        before, after = (small, large) if upper else (large, small)
        return replace(self, before=before, after=after)

    def rank(self, step: str, tap: str, places: int, data: Range) -> Rank:
        """The coordinate under a tap at a place, of which those in `data` are words."""
        touched = self.span(places)
        first, stop = max(data[0], 0), min(data[1], touched)
        terms = (Term(step, self.stride), Term(tap, self.dilation))
        return Rank(terms, None if (first, stop) == (0, touched) else (first, stop))


def read_slides(call: Call, sizes: Sizes, taps: Sizes) -> list[Window]:
    """Read strides and dilations: windows without padding."""
    ones = (1,) * len(taps)
    strides, dilations = call.integers("strides", ones), call.integers("dilations", ones)
    if min(sizes + taps + strides + dilations) < 1:
        what = f"sizes {list(sizes)}, kernel {list(taps)}, strides {list(strides)}"
        raise call.problem(f"{what}, dilations {list(dilations)}: the least of each is 1")
    return [Window(*numbers) for numbers in zip(sizes, taps, strides, dilations, strict=True)]


def read_windows(call: Call, sizes: Sizes, taps: Sizes) -> list[Window]:
    """Read strides, dilations and padding, explicit or by `auto_pad`."""
    windows, mode, none = read_slides(call, sizes, taps), read_auto_pad(call), (0,) * 2 * len(taps)
    if mode.startswith("SAME"):
        return [window.same(upper=mode == "SAME_UPPER") for window in windows]
    pads = none if mode == "VALID" else call.integers("pads", none)
    rounds_up = mode == "NOTSET" and call.integer("ceil_mode", 0) == 1
    if min(pads) < 0:
        raise call.problem(f"pads are {list(pads)}: the least is 0")
    befores, afters = pads[: len(taps)], pads[len(taps) :]
    made = [
        replace(window, before=before, after=after, rounds_up=rounds_up)
        for window, before, after in zip(windows, befores, afters, strict=True)
    ]
    for window in made:
        _check_fit(call, window)
    return made


def _check_fit(call: Call, window: Window) -> None:
    room = window.size + window.before + window.after
    if window.reach > room:
        what = f"a filter that reaches over {window.reach} does not fit an input of {room}"
        raise call.problem(f"{what}, padding included", "use a larger input or more padding")
    if window.before >= window.span(window.steps):
        what = f"the padding [{window.before}, {window.after}] is all that the filter meets"
        raise call.problem(what, "use less padding")


def read_auto_pad(call: Call) -> str:
    """Read how padding is given: one of `AUTO_PADS`."""
    mode = call.attributes.get("auto_pad", AUTO_PADS[0])
    if mode not in AUTO_PADS:
        raise call.problem(f"auto_pad is {mode!r}", did_you_mean(str(mode), AUTO_PADS))
    return str(mode)
