"""Workloads: one perfectly nested loop nest over integer dims, and the operands that it touches.

Owns: the nouns `Workload`, `Operand`, `Rank`, `Term`, `Dim`, `Network`, `Layer`; the ways to make
them (`conv2d`, `einsum`) and their text.

Non-goals: files (`ir/files.py`, `frontend/`), and any meaning of a dim's name: `conv2d` is the only
place that knows that P is a height.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tilewright.errors import InputError, Problem, Source, Span, did_you_mean

DEFAULT_BITS = 16


@dataclass(frozen=True, slots=True)
class Dim:
    """An iteration variable and its size."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Term:
    """`coefficient · dim`, one summand of a coordinate."""

    dim: str
    coefficient: int = 1

    def __str__(self) -> str:
        return f"{self.coefficient}{self.dim}" if self.coefficient > 1 else self.dim


@dataclass(frozen=True, slots=True)
class Rank:
    """One coordinate of an operand: a sum of terms.

    `data` is the half-open range of coordinates that are words; those outside are padding. `None`
    says that every coordinate touched is a word.
    """

    terms: tuple[Term, ...]
    data: tuple[int, int] | None = None

    def __str__(self) -> str:
        return "+".join(map(str, self.terms))


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor, indexed by one affine sum of dims per rank; `bits` is the size of a word of it."""

    name: str
    ranks: tuple[Rank, ...]
    bits: int = DEFAULT_BITS

    @property
    def dims(self) -> tuple[str, ...]:
        """The dims that index it, in the order in which they are written."""
        return tuple(term.dim for rank in self.ranks for term in rank.terms)

    def __str__(self) -> str:
        return f"{self.name}[{','.join(map(str, self.ranks))}]"


@dataclass(frozen=True, slots=True)
class Workload:
    """A loop nest: its dims, its output, its inputs.

    `psum_bits` is the size of a word of the output before it is finished. Two workloads that
    differ in nothing but `name` are the same work: `same_work` compares them so.

    Make one with `conv2d` or `einsum`. Source: `spec/model.md §1`.
    """

    name: str = field(compare=False)
    dims: tuple[Dim, ...]
    output: Operand
    inputs: tuple[Operand, ...]
    psum_bits: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The inputs, then the output."""
        return (*self.inputs, self.output)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every dim, by name."""
        return {dim.name: dim.size for dim in self.dims}

    @property
    def macs(self) -> int:
        """The number of iterations, those on padding included."""
        total = 1
        for dim in self.dims:
            total *= dim.size
        return total

    @property
    def multiplies(self) -> bool:
        """Whether an iteration multiplies inputs: true for convolutions, false for pooling."""
        return len(self.inputs) > 1

    def operand(self, name: str) -> Operand:
        """The operand of that name. Raises `KeyError` if there is none."""
        for operand in self.operands:
            if operand.name == name:
                return operand
        raise KeyError(name)

    @property
    def einsum(self) -> str:
        """The workload in einsum form, without sizes.

        >>> conv2d("small", K=8, C=4, P=6, Q=1, R=3, S=1, stride=2).einsum
        'O[N,K,P,Q] += W[K,C,R,S] * I[N,C,2P+R,2Q+S]'
        """
        return f"{self.output} += {' * '.join(map(str, self.inputs))}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A workload of a network, how many equal ones the network has, and what it calls them."""

    workload: Workload
    repeat: int = 1
    names: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Network:
    """Layers, equal ones together, and the operators whose cost is not counted (name, count)."""

    name: str
    layers: tuple[Layer, ...]
    not_costed: tuple[tuple[str, int], ...] = ()
    source: str = field(default="", compare=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all convolutions and matrix products; pooling has none."""
        return sum(
            layer.workload.macs * layer.repeat for layer in self.layers if layer.workload.multiplies
        )

    def layer(self, name: str) -> Workload:
        """The layer of that name, also if it is counted under the name of an equal one.

        Raises `InputError`, with the nearest name, if there is none.
        """
        for layer in self.layers:
            if name in (layer.workload.name, *layer.names):
                return replace(layer.workload, name=name)
        names = [name for layer in self.layers for name in layer.names or (layer.workload.name,)]
        what = f"{self.name} has no layer `{name}`"
        raise InputError(Problem(what, did_you_mean(name, names)))


def gather_network(
    name: str,
    layers: Iterable[Layer],
    not_costed: Mapping[str, int] | None = None,
    source: str = "",
) -> Network:
    """Make a network, with equal layers found and counted once, under the first one's name."""
    repeats: dict[Workload, int] = {}
    names: dict[Workload, tuple[str, ...]] = {}
    for layer in layers:
        work = layer.workload
        repeats[work] = repeats.get(work, 0) + layer.repeat
        names[work] = (*names.get(work, ()), work.name)
    kept = tuple(Layer(work, repeat, names[work]) for work, repeat in repeats.items())
    return Network(name, kept, tuple(sorted((not_costed or {}).items())), source)


def conv2d(  # noqa: PLR0913 - a convolution has that many numbers
    name: str,
    *,
    K: int,  # noqa: N803 - the field's own letters
    C: int,  # noqa: N803
    P: int | None = None,  # noqa: N803
    Q: int | None = None,  # noqa: N803
    R: int = 1,  # noqa: N803
    S: int = 1,  # noqa: N803
    N: int = 1,  # noqa: N803
    G: int = 1,  # noqa: N803
    stride: int | tuple[int, int] = 1,
    dilation: int | tuple[int, int] = 1,
    padding: tuple[int, ...] | int | None = None,
    in_height: int | None = None,
    in_width: int | None = None,
    bits: Mapping[str, int] | None = None,
) -> Workload:
    """Make a convolution with operands W, I and O.

    Args:
        name: what to call it.
        K: output channels, of one group.
        C: input channels, of one group.
        P: output height; may be left out if `in_height` is given.
        Q: output width; may be left out if `in_width` is given.
        R: filter height.
        S: filter width.
        N: batch.
        G: groups; with more than one, a dim G indexes all three operands.
        stride: of both axes, or (height, width).
        dilation: of both axes, or (height, width).
        padding: of all sides, (height, width) or (top, left, bottom, right). Coordinates of the
            input that fall into it are not words. Without it the input is what is touched.
        in_height: input height without padding.
        in_width: input width without padding.
        bits: word sizes by operand, and `psum`; 16 for what is left out, the output's for `psum`.

    Returns: the workload, with dims N K C P Q R S (and G).

    Raises: `InputError` if a number is not positive, or the numbers contradict one another.

    >>> conv2d("res3_1", K=128, C=64, P=28, Q=28, R=3, S=3, stride=2).macs
    57802752

    Source: `spec/formats.md`, Workload.
    """
    stride_h, stride_w = _pair(stride)
    dilation_h, dilation_w = _pair(dilation)
    counts = {"K": K, "C": C, "R": R, "S": S, "N": N, "G": G}
    counts |= {"stride height": stride_h, "stride width": stride_w}
    counts |= {"dilation height": dilation_h, "dilation width": dilation_w}
    optional = {"P": P, "Q": Q, "in_height": in_height, "in_width": in_width}
    counts |= {key: value for key, value in optional.items() if value is not None}
    _check_positive(name, counts)
    top, left, bottom, right = _four_sides(name, padding)
    height = _Axis("height", P, in_height, R, stride_h, dilation_h, (top, bottom))
    width = _Axis("width", Q, in_width, S, stride_w, dilation_w, (left, right))
    problems = [*height.problems(), *width.problems()]
    if problems:
        raise InputError(replace(problem, where=name) for problem in problems)
    group = [_rank("G")] if G > 1 else []
    row = Rank(_terms(("P", stride_h), ("R", dilation_h)), height.data())
    column = Rank(_terms(("Q", stride_w), ("S", dilation_w)), width.data())
    sizes = {"N": N, "G": G, "K": K, "C": C, "P": height.out(), "Q": width.out(), "R": R, "S": S}
    if G == 1:
        del sizes["G"]
    plain = {letter: _rank(letter) for letter in "NKCPQRS"}
    weights = (*group, *(plain[letter] for letter in "KCRS"))
    inputs = (plain["N"], *group, plain["C"], row, column)
    outputs = (plain["N"], *group, *(plain[letter] for letter in "KPQ"))
    return make_workload(name, sizes, ("O", outputs), [("W", weights), ("I", inputs)], bits)


def einsum(
    name: str, text: str, sizes: Mapping[str, int], bits: Mapping[str, int] | None = None
) -> Workload:
    """Make a workload from its einsum form.

    Args:
        name: what to call it.
        text: one output left of `+=`, one or more operands right, joined by `*`. A rank is a sum of
            dims with optional coefficients (`2P+R` or `2*P+R`); a dim is letters and `_`.
        sizes: the size of every dim.
        bits: word sizes by operand, and `psum`; 16 for what is left out, the output's for `psum`.

    Raises: `InputError` with every problem found, placed in the text.

    >>> einsum("product", "Z[M,N] += A[M,K] * B[K,N]", {"M": 9, "N": 8, "K": 64}).macs
    4608

    Source: `spec/formats.md`, Workload.
    """
    output, inputs = parse_einsum(Source("einsum", text))
    appearance = [
        term.dim for _, ranks in [output, *inputs] for rank in ranks for term in rank.terms
    ]
    ordered = {dim: sizes[dim] for dim in appearance if dim in sizes} | dict(sizes)
    return make_workload(name, ordered, output, inputs, bits)


ParsedOperand = tuple[str, tuple[Rank, ...]]

_OPERAND = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*\[([^\[\]]*)\]\s*")
_TERM = re.compile(r"\s*(?:(\d+)\s*\*?\s*)?([A-Za-z_]+)\s*")


def parse_einsum(source: Source) -> tuple[ParsedOperand, list[ParsedOperand]]:
    """Read the einsum form: the output's name and ranks, and those of the inputs.

    Raises `InputError` with every problem, placed in the text.
    """
    text, problems = source.text, list[Problem]()
    arrow = text.find("+=")
    if arrow < 0:
        what = "expected one output left of `+=` and operands right of it, found no `+=`"
        raise InputError(
            Problem(what, "write O[M,N] += A[M,K] * B[K,N]", Span(source, 0, len(text)))
        )
    output = _parse_operand(Span(source, 0, arrow), problems)
    inputs: list[ParsedOperand] = []
    start = arrow + 2
    for piece in _split_operands(text[start:]):
        inputs.append(_parse_operand(Span(source, start, start + len(piece)), problems))
        start += len(piece) + 1
    if problems:
        raise InputError(problems)
    return output, inputs


def _split_operands(text: str) -> list[str]:
    """Split at `*`, but not at the `*` of a coefficient, which stands inside brackets."""
    pieces, depth = [""], 0
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "*" and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += char
    return pieces


def _parse_operand(span: Span, problems: list[Problem]) -> ParsedOperand:
    text = span.source.text[span.start : span.end]
    match = _OPERAND.fullmatch(text)
    if match is None:
        what = f"expected an operand such as W[K,C,R,S], found `{text.strip()}`"
        problems.append(Problem(what, "", span))
        return "", ()
    ranks: list[Rank] = []
    start = match.start(2)
    for piece in match[2].split(",") if match[2].strip() else []:
        ranks.append(_parse_rank(piece, span.within(start, start + len(piece)), problems))
        start += len(piece) + 1
    return match[1], tuple(ranks)


def _parse_rank(text: str, span: Span, problems: list[Problem]) -> Rank:
    terms: dict[str, int] = {}
    for piece in text.split("+"):
        match = _TERM.fullmatch(piece)
        if match is None:
            what = f"expected a sum of dims such as 2P+R, found `{text.strip()}`"
            fix = "a coefficient stands before its dim; there are no constants and no minus"
            problems.append(Problem(what, fix, span))
            break
        coefficient = int(match[1]) if match[1] else 1
        if coefficient == 0:
            problems.append(Problem("a coefficient of 0", "leave the dim out", span))
        terms[match[2]] = terms.get(match[2], 0) + coefficient
    return Rank(tuple(Term(dim, coefficient) for dim, coefficient in terms.items()))


def make_workload(
    name: str,
    sizes: Mapping[str, int],
    output: ParsedOperand,
    inputs: Iterable[ParsedOperand],
    bits: Mapping[str, int] | None = None,
) -> Workload:
    """Put a workload together and check it as a whole.

    Raises `InputError` with every problem: dims without size or without use, sizes below 1,
    operands named twice, a dim in two ranks of one operand, word sizes of unknown operands.
    """
    given, widths = list(inputs), dict(bits or {})
    problems = [
        *_check_operands([output, *given]),
        *_check_sizes([output, *given], sizes),
        *_check_bits([output, *given], widths),
    ]
    if problems:
        raise InputError(replace(problem, where=problem.where or name) for problem in problems)
    made = [Operand(key, ranks, widths.get(key, DEFAULT_BITS)) for key, ranks in given]
    result = Operand(output[0], output[1], widths.get(output[0], DEFAULT_BITS))
    dims = tuple(Dim(dim, size) for dim, size in sizes.items())
    return Workload(name, dims, result, tuple(made), widths.get("psum", result.bits))


def _check_operands(operands: list[ParsedOperand]) -> Iterable[Problem]:
    names = [name for name, _ in operands]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem(f"operand {name} stands twice", "give each operand a name of its own")
    for name, ranks in operands:
        dims = [term.dim for rank in ranks for term in rank.terms]
        for dim in sorted({dim for dim in dims if dims.count(dim) > 1}):
            what = f"dim {dim} indexes two ranks of {name}: its tiles would not be boxes"
            yield Problem(what, "give each rank dims of its own")


def _check_sizes(operands: list[ParsedOperand], sizes: Mapping[str, int]) -> Iterable[Problem]:
    used = {term.dim for _, ranks in operands for rank in ranks for term in rank.terms}
    for dim in sorted(used - set(sizes)):
        yield Problem(f"dim {dim} has no size", f"add {dim} to the sizes", field="sizes")
    for dim, size in sizes.items():
        if dim not in used:
            what = f"dim {dim} has a size but indexes no operand"
            yield Problem(what, "remove it", field=f"sizes.{dim}")
        if size < 1:
            what = f"size {dim} is {size}: the least is 1"
            yield Problem(what, f"set {dim} to 1 or more", field=f"sizes.{dim}")


def _check_bits(operands: list[ParsedOperand], bits: Mapping[str, int]) -> Iterable[Problem]:
    names = [name for name, _ in operands]
    for name, width in bits.items():
        if name != "psum" and name not in names:
            known = ", ".join([*names, "psum"])
            what = f"bits of {name}: there is no such operand"
            yield Problem(what, f"one of: {known}", field=f"bits.{name}")
        if width < 1:
            what = f"bits of {name} are {width}: the least is 1"
            yield Problem(what, "16 is usual", field=f"bits.{name}")


def _check_positive(name: str, counts: Mapping[str, int]) -> None:
    problems = [
        Problem(f"{key} is {value}: the least is 1", f"set {key} to 1 or more", name)
        for key, value in counts.items()
        if value < 1
    ]
    if problems:
        raise InputError(problems)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Height or width of a convolution: the numbers of one axis, and what follows from them."""

    label: str
    given_out: int | None
    given_in: int | None
    taps: int
    stride: int
    dilation: int
    padding: tuple[int, int]

    def out(self) -> int:
        return self.given_out if self.given_out is not None else self._out_of_input()

    def data(self) -> tuple[int, int] | None:
        """The coordinates that are words; `None` if every coordinate that is touched is one."""
        first, stop = self._real()
        return None if first == 0 and stop >= self._touched() else (first, stop)

    def problems(self) -> Iterable[Problem]:
        letter = "P" if self.label == "height" else "Q"
        if self.given_out is None and self.given_in is None:
            what = f"neither the output {self.label} nor the input {self.label} is given"
            yield Problem(what, f"give {letter} (out_{self.label}), or in_{self.label}")
            return
        if self.given_in is not None and self._out_of_input() < 1:
            reach = self.dilation * (self.taps - 1) + 1
            have = self.given_in + sum(self.padding)
            what = (
                f"a filter that reaches over {reach} does not fit an input {self.label} of {have}"
            )
            yield Problem(f"{what}, padding included", "use a smaller filter or more padding")
            return
        if None not in (self.given_in, self.given_out) and self.given_out != self._out_of_input():
            what = f"output {self.label} {self.given_out} contradicts the input's {self.given_in}"
            yield Problem(f"{what}: it gives {self._out_of_input()}", "leave one of them out")
            return
        first, stop = self._real()
        if first >= stop or first >= self._touched():
            what = f"the padding {list(self.padding)} leaves no input {self.label}"
            yield Problem(what, "use less padding")

    def _real(self) -> tuple[int, int]:
        before, after = self.padding
        stop = before + self.given_in if self.given_in is not None else self._touched() - after
        return (before, stop)

    def _touched(self) -> int:
        return (self.out() - 1) * self.stride + (self.taps - 1) * self.dilation + 1

    def _out_of_input(self) -> int:
        room = (self.given_in or 0) + sum(self.padding) - self.dilation * (self.taps - 1) - 1
        return room // self.stride + 1


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _four_sides(name: str, padding: tuple[int, ...] | int | None) -> tuple[int, int, int, int]:
    sides = (padding,) * 2 if isinstance(padding, int) else padding or (0, 0)
    if len(sides) not in (2, 4) or min(sides) < 0:
        what = f"padding {list(sides)}: expected [height, width] or [top, left, bottom, right]"
        raise InputError(Problem(f"{what}, none below 0", "", name))
    top, left, bottom, right = sides if len(sides) == 4 else (*sides, *sides)
    return top, left, bottom, right


def _terms(*pairs: tuple[str, int]) -> tuple[Term, ...]:
    return tuple(Term(dim, coefficient) for dim, coefficient in pairs)


def _rank(dim: str) -> Rank:
    return Rank((Term(dim),))
