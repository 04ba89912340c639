"""YAML files of other tools, read by place: what is not read is named, never dropped in silence.

Owns: the nouns `Document`, `Item` and `Imported`; anchors, merge keys and arithmetic in such files,
and their limits.

Non-goals: what the fields mean (one module for each tool). Our own files allow less
(`ir/document.py`): no aliases, no expressions.
"""

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import yaml

from tilewright.errors import InputError, Problem, Source, Span
from tilewright.ir.document import MAX_CHARACTERS, MAX_DEPTH, TOO_LARGE, kind_of, node_span
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping as LoopNest
from tilewright.ir.workload import Network

MAX_NODES = 200_000
"""Nodes of a document with every alias written out: a few lines can stand for billions."""
MAX_EXPRESSION = 80
"""Characters of an arithmetic expression."""
MAX_TEXT = 4096
"""Characters of one text: patterns are matched against them."""
MERGE = "<<"


@dataclass(frozen=True, slots=True)
class Imported:
    """What files of another tool say.

    Attributes:
        tool: whose files they are.
        network: the layers; `None` if the files have none.
        hardware: the chip; `None` if the files have none.
        mapping: the mapping of the one layer; `None` if the files have none.
        warnings: what the files say and this does not.
    """

    tool: str
    network: Network | None = None
    hardware: Hardware | None = None
    mapping: LoopNest | None = None
    warnings: tuple[Problem, ...] = ()


@dataclass(slots=True)
class Document:
    """A file of another tool, what was read of it, and what is said about it.

    Attributes:
        source: the text.
        problems: what is wrong or cannot be said in our words; any ends the import.
        warnings: what is not read, or read as something else.
        seen: the keys that were asked for, by mapping.
    """

    source: Source
    problems: list[Problem] = field(default_factory=list[Problem])
    warnings: list[Problem] = field(default_factory=list[Problem])
    seen: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])

    @classmethod
    def parse(cls, source: Source) -> "tuple[Document, Item]":
        """Read a text whose top is a mapping or a list.

        Raises `InputError` if it is no YAML, too large, too deep, or expands to too much.
        """
        document = cls(source)
        node = _compose(document)
        return document, Item(node, document, "")

    def check(self) -> None:
        """Raise `InputError` with all problems, if there are any."""
        if self.problems:
            raise InputError(self.problems)


@dataclass(frozen=True, slots=True)
class Item:
    """A value of a document, and where it stands."""

    node: yaml.Node
    document: Document
    path: str

    @property
    def span(self) -> Span:
        """Its place in the text."""
        return node_span(self.document.source, self.node)

    @property
    def tag(self) -> str:
        """Its own tag, such as `!Container`; `""` if it has none."""
        tag = self.node.tag
        return tag if tag.startswith("!") else ""

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is written: null, an empty text, list or mapping."""
        return not self.node.value or self.node.tag.endswith(":null")

    def refuse(self, what: str, fix: str = "") -> None:
        """Note that this ends the import."""
        self.document.problems.append(Problem(f"{self.path}: {what}", fix, self.span))

    def warn(self, what: str, fix: str = "") -> None:
        """Note that this is not read, or read as something else."""
        self.document.warnings.append(Problem(f"{self.path}: {what}", fix, self.span))

    def keys(self) -> list[str]:
        """The keys, as written."""
        return [str(key.value) for key, _ in self._pairs()]

    def get(self, *names: str) -> "Item | None":
        """The value under the first of several spellings of a key; `None` if there is none.

        `_` and `-` are the same.
        """
        wanted = {_spelling(name) for name in names}
        found: Item | None = None
        for key, value in self._pairs():
            name = str(key.value)
            if _spelling(name) in wanted:
                self.document.seen.add((id(self.node), name))
                found = found or Item(value, self.document, _join(self.path, name))
        return found

    def entries(self) -> "Iterator[tuple[str, Item]]":
        """Every key with its value; all count as read."""
        for key, value in self._pairs():
            name = str(key.value)
            self.document.seen.add((id(self.node), name))
            yield name, Item(value, self.document, _join(self.path, name))

    def items(self) -> "list[Item]":
        """The values of a list; a problem if it is none."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse(f"expected a list, found a {self.kind}")
            return []
        nodes = cast("list[yaml.Node]", self.node.value)
        return [Item(n, self.document, f"{self.path}[{i}]") for i, n in enumerate(nodes)]

    def rest(self, why: str = "is not read") -> None:
        """Warn of every key that nothing asked for."""
        for key, value in self._pairs():
            name = str(key.value)
            if (id(self.node), name) not in self.document.seen:
                Item(value, self.document, _join(self.path, name)).warn(why)

    @property
    def kind(self) -> str:
        """What a reader of the file would call it."""
        return kind_of(self.node)

    def text(self) -> str:
        """A text without control characters; a problem if it is none."""
        if not isinstance(self.node, yaml.ScalarNode):
            self.refuse(f"expected a text, found a {self.kind}")
            return ""
        text = str(self.node.value).strip()
        if len(text) > MAX_TEXT:
            self.refuse(f"a text of {len(text):,} characters, the limit is {MAX_TEXT:,}")
            return ""
        if not text.isprintable():
            self.refuse("expected a text without control characters")
            return ""
        return text

    def texts(self) -> tuple[str, ...]:
        """A list of texts, or one text with commas or spaces between."""
        if self.is_list:
            return tuple(item.text() for item in self.items())
        return tuple(self.text().replace(",", " ").split())

    def number(self, *, at_least: float = 0.0) -> float:
        """A finite number, or arithmetic on numbers; a problem if it is none."""
        value = self._value()
        if value is None or not math.isfinite(value) or value < at_least:
            if value is not None:
                self.refuse(f"expected a number of at least {at_least:g}, found {value:g}")
            return max(at_least, 1.0)
        return value

    def integer(self, *, at_least: int = 1) -> int:
        """A whole number, or arithmetic that gives one; a problem if it is none."""
        value = self.number(at_least=at_least)
        if value != int(value) or value >= TOO_LARGE:
            self.refuse(f"expected a whole number below {TOO_LARGE:,}, found {value:g}")
            return max(at_least, 1)
        return int(value)

    def flag(self) -> bool:
        """True or false; a problem if it is neither."""
        text = self.text().casefold()
        if text not in ("true", "false", "yes", "no"):
            self.refuse(f"expected true or false, found `{text[:40]}`")
        return text in ("true", "yes")

    def _pairs(self) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(self.node, yaml.MappingNode):
            return []
        return cast("list[tuple[yaml.ScalarNode, yaml.Node]]", self.node.value)

    def _value(self) -> float | None:
        text = self.text()
        try:
            return float(text)
        except ValueError:
            pass
        value = calculate(text)
        if value is None and text:
            fix = "write the number: names and functions are not worked out here"
            self.refuse(f"expected a number, found `{text[:40]}`", fix)
        return value


def entries_of(item: Item | None) -> Iterator[tuple[str, Item]]:
    """Every key of a mapping that may be absent, with its value."""
    if item is not None:
        yield from item.entries()


def calculate(text: str) -> float | None:
    """The value of arithmetic on numbers; `None` if it is anything else.

    >>> calculate("2 * (64 + 8) / 16"), calculate("depth * 2"), calculate("9**9**9")
    (9.0, None, None)
    """
    if len(text) > MAX_EXPRESSION:
        return None
    try:
        return _calculate(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _calculate(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_calculate(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = _calculate(node.left), _calculate(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError("no arithmetic on numbers")


def _spelling(name: str) -> str:
    return name.replace("-", "_")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _compose(document: Document) -> yaml.Node:
    source = document.source
    if len(source.text) > MAX_CHARACTERS:
        size = f"{len(source.text):,} characters, the limit is {MAX_CHARACTERS:,}"
        raise InputError(Problem(f"the file is too large: {size}", where=source.name))
    try:
        _check_depth(source)
        nodes = list(yaml.compose_all(source.text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = Span(source, mark.index, mark.index + 1) if mark else source.name
        raise InputError(Problem(f"this is not YAML: {error.problem}", where=where)) from None
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(Problem(f"this is not YAML: {first}", where=source.name)) from None
    if len(nodes) != 1 or isinstance(nodes[0], yaml.ScalarNode):
        found = "a text" if len(nodes) == 1 else f"{len(nodes)} documents"
        what = f"expected one document with keys or a list at its top, found {found}"
        raise InputError(Problem(what, where=source.name))
    node = nodes[0]
    _measure(source, node)
    _merge(document, node, set())
    return node


def _check_depth(source: Source) -> None:
    depth = 0
    for event in yaml.parse(source.text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(Problem(f"nested deeper than {MAX_DEPTH} levels", where=source.name))


def _measure(source: Source, top: yaml.Node) -> None:
    """Refuse what grows too large or too deep once every alias is written out."""
    known: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) in known:
            return known[id(node)]
        if id(node) in open_nodes:
            what = "an alias that contains itself"
            raise InputError(Problem(what, "write the value out", node_span(source, node)))
        open_nodes.add(id(node))
        sizes = [measure(inner) for inner in _inner(node)]
        count, depth = 1 + sum(s for s, _ in sizes), 1 + max((d for _, d in sizes), default=0)
        open_nodes.discard(id(node))
        if count > MAX_NODES or depth > MAX_DEPTH:
            what = f"with its aliases written out this has {count:,} values, {depth} levels deep"
            fix = f"the limits are {MAX_NODES:,} and {MAX_DEPTH}"
            raise InputError(Problem(what, fix, node_span(source, node)))
        known[id(node)] = count, depth
        return known[id(node)]

    measure(top)


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from cast("list[yaml.Node]", node.value)


def _merge(document: Document, node: yaml.Node, done: set[int]) -> None:
    """Put what `<<` refers to in its place; what stands beside it wins."""
    if id(node) in done:
        return
    done.add(id(node))
    for inner in list(_inner(node)):
        _merge(document, inner, done)
    if isinstance(node, yaml.MappingNode):
        node.value = _merged(document, cast("list[tuple[yaml.Node, yaml.Node]]", node.value))


Pairs = list[tuple[yaml.Node, yaml.Node]]


def _merged(document: Document, pairs: Pairs) -> Pairs:
    """The pairs with `<<` put in its place; of a key that stands twice the last one counts."""
    source = document.source
    own: dict[object, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in pairs:
        if not isinstance(key, yaml.ScalarNode):
            what = f"a {kind_of(key)} stands as a key"
            raise InputError(Problem(what, "write a text", node_span(source, key)))
        if key.value in own:
            what = f"`{str(key.value)[:40]}` stands twice: the last is read"
            document.warnings.append(Problem(what, "keep one of them", node_span(source, key)))
        if key.value != MERGE:
            own[key.value] = key, value
    for merged in [node for key, value in pairs if key.value == MERGE for node in _sources(value)]:
        if not isinstance(merged, yaml.MappingNode):
            what = f"`<<` of a {kind_of(merged)}"
            raise InputError(Problem(what, "merge keys only", node_span(source, merged)))
        for key, inner in cast("Pairs", merged.value):
            own.setdefault(key.value, (key, inner))
    return list(own.values())


def _sources(node: yaml.Node) -> list[yaml.Node]:
    return cast("list[yaml.Node]", node.value) if isinstance(node, yaml.SequenceNode) else [node]
