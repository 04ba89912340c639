"""YAML documents that remember where everything stands.

Owns: turning YAML text into typed fields, collecting every problem with its place in the text.

Non-goals: what the fields mean (`ir/files.py`). Nothing is constructed from tags; sizes and depth
are bounded, so that a hostile file ends in a message.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import yaml

from tilewright.errors import InputError, Problem, Source, Span, did_you_mean

MAX_CHARACTERS = 4_000_000
MAX_DEPTH = 32
EXAMPLES = "see `tilewright zoo resnet18` and `tilewright zoo eyeriss` for examples"
TOO_LARGE = 10**15
"""Whole numbers in files stay below this; a product of a few of them still takes no time."""
T = TypeVar("T")
Node = yaml.MappingNode | yaml.SequenceNode | yaml.ScalarNode

_TRUE, _FALSE = ("true", "True", "yes"), ("false", "False", "no")


@dataclass(slots=True)
class Reader:
    """One mapping of a document, read field by field.

    A method that reads a field returns its value, or the default if the field is absent or wrong;
    what is wrong is added to `problems`, which all readers of a document share.
    """

    source: Source
    node: yaml.MappingNode
    problems: list[Problem]
    known: list[str] = field(default_factory=list[str])

    def span(self, key: str | None = None) -> Span:
        """Where the value of `key` stands; the whole mapping without a key or if it is absent."""
        return node_span(self.source, (self._find(key) if key else None) or self.node)

    def report(self, key: str | None, what: str, fix: str = "") -> None:
        """Note a problem at a field."""
        self.problems.append(Problem(what, fix, self.span(key)))

    def has(self, key: str) -> bool:
        """Whether the field is there."""
        self.known.append(key)
        return self._find(key) is not None

    def integer(self, key: str, default: int = 0, *, at_least: int = 1) -> int:
        """Read a whole number."""
        return self._read(key, default, lambda node: _integer(node, at_least))

    def number(
        self, key: str, default: float | None = None, *, positive: bool = False
    ) -> float | None:
        """Read a finite number that is not negative; not 0 either, if it must be `positive`."""
        return self._read(key, default, lambda node: _number(node, positive))

    def flag(self, key: str, default: bool) -> bool:
        """Read `true` or `false`."""
        return self._read(key, default, _flag)

    def text(self, key: str, default: str = "") -> str:
        """Read a text."""
        return self._read(key, default, _text)

    def name(self, key: str, default: str = "") -> str:
        """Read a name: a text without control characters."""
        return self._read(key, default, _name)

    def name_list(self, key: str) -> tuple[str, ...] | None:
        """Read a list of names."""
        return self._read(key, None, _names)

    def integer_list(self, key: str, lengths: tuple[int, ...], *, at_least: int) -> list[int]:
        """Read a list of whole numbers of one of the given lengths; empty if absent."""
        return self._read(key, [], lambda node: _integers(node, lengths, at_least))

    def integer_map(self, key: str) -> dict[str, int]:
        """Read a mapping of names to positive whole numbers."""
        child = self.child(key)
        return {name: child.integer(name, 1) for name in child.names()} if child else {}

    def child(self, key: str) -> "Reader | None":
        """The mapping under `key`."""
        node = self._read(key, None, _mapping)
        return Reader(self.source, node, self.problems) if node else None

    def children(self, key: str) -> "list[Reader]":
        """The mappings in the list under `key`."""
        nodes = self._read(key, [], _mappings)
        return [Reader(self.source, node, self.problems) for node in nodes]

    def is_mapping(self, key: str) -> bool:
        """Whether the value of `key` is a mapping."""
        return isinstance(self._find(key), yaml.MappingNode)

    def names(self) -> list[str]:
        """The keys, in the order of the text."""
        return [str(key.value) for key, _ in self.node.value]

    def finish(self) -> None:
        """Report keys that nothing asked for, and keys that stand twice."""
        seen: set[str] = set()
        for key, _ in self.node.value:
            where, name = node_span(self.source, key), str(key.value)
            if name in seen:
                found = Problem(f"`{name}` stands twice", "keep one of them", where)
                self.problems.append(found)
            elif name not in self.known:
                fix = did_you_mean(name, sorted(set(self.known)))
                self.problems.append(Problem(f"unknown key `{name}`", fix, where))
            seen.add(name)

    def _find(self, key: str | None) -> Node | None:
        return next((value for name, value in self.node.value if name.value == key), None)

    def _read(self, key: str, default: T, convert: "Callable[[Node], T]") -> T:
        self.known.append(key)
        node = self._find(key)
        if node is None:
            return default
        try:
            return convert(node)
        except ValueError as error:
            what, _, example = str(error).partition("; write ")
            self.report(key, f"`{key}`: {what}", f"write {key}: {example}")
            return default


def read_document(source: Source) -> Reader:
    """Parse YAML text whose top is a mapping.

    Raises `InputError` if it is no YAML, has no mapping at its top, or is too large or too deep.
    """
    if len(source.text) > MAX_CHARACTERS:
        size = f"{len(source.text):,} characters, the limit is {MAX_CHARACTERS:,}"
        raise InputError(Problem(f"the file is too large: {size}", where=source.name))
    node = _compose(source)
    if not isinstance(node, yaml.MappingNode):
        found = "nothing" if node is None else f"a {kind_of(node)}"
        what = f"expected `key: value` lines at the top of the file, found {found}"
        where = node_span(source, node) if node is not None else source.name
        raise InputError(Problem(what, EXAMPLES, where))
    return Reader(source, node, [])


def _compose(source: Source) -> yaml.Node | None:
    try:
        _check_depth(source)
        return yaml.compose(source.text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = Span(source, mark.index, mark.index + 1) if mark else source.name
        raise InputError(Problem(f"this is not YAML: {error.problem}", where=where)) from None
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise InputError(Problem(f"this is not YAML: {first}", where=source.name)) from None


def _check_depth(source: Source) -> None:
    """Walk the events, which take no stack, before nodes are built, which do."""
    depth = 0
    for event in yaml.parse(source.text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        where = event_span(source, event)
        if isinstance(event, yaml.AliasEvent):
            raise InputError(Problem("an alias is not read here", "write the value out", where))
        if depth > MAX_DEPTH:
            what = f"nested deeper than {MAX_DEPTH} levels"
            raise InputError(Problem(what, EXAMPLES, where))


def node_span(source: Source, node: yaml.Node) -> Span:
    """Where a node stands."""
    return Span(source, node.start_mark.index, node.end_mark.index)


def event_span(source: Source, event: yaml.Event) -> Span:
    """Where an event stands."""
    start, end = event.start_mark, event.end_mark
    return Span(source, start.index if start else 0, end.index if end else 0)


def kind_of(node: yaml.Node) -> str:
    """What a reader of the file would call the node."""
    if isinstance(node, yaml.MappingNode):
        return "mapping"
    return "list" if isinstance(node, yaml.SequenceNode) else "text"


def _scalar(node: Node, expected: str, example: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"expected {expected}, found a {kind_of(node)}; write {example}")
    return node.value


def _integer(node: Node, at_least: int) -> int:
    expected = f"a whole number of at least {at_least}"
    text = _scalar(node, expected, str(at_least))
    try:
        value = int(text)
    except ValueError:
        value = at_least - 1
    if value >= TOO_LARGE:
        raise ValueError(f"expected a whole number below {TOO_LARGE:,}; write {at_least}")
    if value < at_least:
        raise ValueError(f"expected {expected}, found `{text[:40]}`; write {at_least}")
    return value


def _number(node: Node, positive: bool) -> float:
    expected = f"a finite number {'above' if positive else 'of at least'} 0"
    example = "1.0" if positive else "0"
    text = _scalar(node, expected, example)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"expected {expected}, found `{text[:40]}`; write {example}")
    return value


def _flag(node: Node) -> bool:
    text = _scalar(node, "true or false", "true")
    if text not in _TRUE + _FALSE:
        raise ValueError(f"expected true or false, found `{text[:40]}`; write true")
    return text in _TRUE


def _text(node: Node) -> str:
    text = _scalar(node, "a text", "a text")
    if not text.strip():
        raise ValueError("expected a text, found nothing; write a text")
    return text


def _name(node: Node) -> str:
    text = _text(node).strip()
    if not text.isprintable():
        raise ValueError("expected a name without control characters; write a plain name")
    return text


def _names(node: Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        found = kind_of(node)
        raise ValueError(f"expected a list of names, found a {found}; write [W, I]")
    return tuple(_scalar(item, "a name", "[W, I]") for item in node.value)


def _integers(node: Node, lengths: tuple[int, ...], at_least: int) -> list[int]:
    wanted = f"a list of {' or '.join(map(str, lengths))} whole numbers"
    example = [at_least] * lengths[0]
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError(f"expected {wanted}, found a {kind_of(node)}; write {example}")
    if len(node.value) not in lengths:
        raise ValueError(f"expected {wanted}, found {len(node.value)}; write {example}")
    return [_integer(item, at_least) for item in node.value]


def _mapping(node: Node) -> yaml.MappingNode | None:
    if not isinstance(node, yaml.MappingNode):
        found = kind_of(node)
        raise ValueError(f"expected `key: value` fields, found a {found}; write {{key: value}}")
    return node


def _mappings(node: Node) -> list[yaml.MappingNode]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise ValueError("expected a list of entries; write each on a line that begins with `-`")
    wrong = next((item for item in node.value if not isinstance(item, yaml.MappingNode)), None)
    if wrong is not None:
        found = kind_of(wrong)
        what = f"expected entries with `key: value` fields, found a {found}"
        raise ValueError(f"{what}; write - {{key: value}}")
    return list(node.value)
