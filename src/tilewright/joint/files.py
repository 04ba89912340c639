"""Files that describe a space of chips.

Owns: the fields of such a file and what they mean (`docs/codesign.md`, Spaces), and finding one.

Non-goals: what a space may be (`joint/space.py`).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tilewright import zoo
from tilewright.errors import InputError, Problem, Source, Span, did_you_mean
from tilewright.ir.document import Reader, read_document
from tilewright.ir.files import read_source
from tilewright.ir.hardware import Hardware
from tilewright.ir.quantity import EXPECTED, parse_capacity
from tilewright.joint.space import Space, check
from tilewright.joint.variable import BANDWIDTHS, WHOLE, Field, Variable, points_between, steps_of
from tilewright.loading import load_hardware

_RANGE = "write [4, 8, 16], or {from: 4, to: 64, times: 2}"
Convert = Callable[[str], float]


def load_space(name: str | Path) -> Space:
    """Load a space: a zoo name or a YAML file.

    Raises: `InputError` if there is no such space or file, or it does not match its template.

    >>> load_space("eyeriss-space").template.name
    'eyeriss'

    Source: `docs/codesign.md`, Spaces.
    """
    text = str(name)
    if text in zoo.space_names():
        return parse_space(zoo.space_source(text))
    if not Path(text).is_file() and not Path(text).suffix:
        what = f"`{text}` is no file, and the zoo has no such space"
        raise InputError(Problem(what, did_you_mean(text, zoo.space_names())))
    return parse_space(read_source(Path(text)))


def parse_space(source: Source) -> Space:
    """Read a space from the text of its file.

    Raises: `InputError` with every problem in the file, each at its line.
    """
    reader = read_document(source)
    name = reader.name("name", Path(source.name).stem)
    origin = reader.text("source")
    template = _template(reader, Path(source.name).parent)
    technology = reader.name("technology") or None
    variables: list[tuple[Variable, Span]] = []
    if not reader.has("vary"):
        reader.report(None, "`vary` is missing", "list the memories whose fields vary")
    for child in reader.children("vary"):
        variables += _variables(child, template)
    reader.finish()
    problems = list(reader.problems)
    if template is None:
        raise InputError(problems)
    if technology is not None:
        template = _with_technology(template, technology)
    for variable, where in variables:
        problems += [replace(problem, where=where) for problem in check(variable, template)]
    if problems:
        raise InputError(problems)
    return Space(name, template, tuple(variable for variable, _ in variables), origin)


def _template(reader: Reader, folder: Path) -> Hardware | None:
    text = reader.text("template")
    if not reader.has("template"):
        reader.report(None, "`template` is missing", "name a chip of the zoo, or a hardware file")
    if not text:
        return None
    beside = folder / text
    try:
        return load_hardware(beside if beside.is_file() else text)
    except InputError as error:
        own = [p for p in error.problems if isinstance(p.where, Span)]
        reader.problems += own or [
            replace(problem, where=reader.span("template")) for problem in error.problems
        ]
        return None


def _with_technology(template: Hardware, technology: str) -> Hardware:
    """The template with every energy and area from a table: given ones would not follow."""
    bare = tuple(
        replace(
            level, technology=technology, read_pj=None, write_pj=None, update_pj=None, area_mm2=None
        )
        for level in template.levels
    )
    compute = replace(template.compute, technology=technology, pj=None, area_mm2=None)
    return replace(template, levels=bare, compute=compute)


def _variables(reader: Reader, template: Hardware | None) -> list[tuple[Variable, Span]]:
    memory = reader.name("memory", "?")
    if not reader.has("memory"):
        reader.report(None, "an entry needs `memory`, the level that varies", "add memory: GLB")
    levels = {} if template is None else {level.memory: level for level in template.levels}
    if template is not None and reader.has("memory") and memory not in levels:
        what = f"the template {template.name} has no memory `{memory}`"
        reader.report("memory", what, did_you_mean(memory, list(levels)))
        return []
    word_bits = levels[memory].word_bits if memory in levels else 16
    found = _capacities(reader, memory, word_bits)
    for field in (Field.WORD_BITS, *BANDWIDTHS):
        found += _one(reader, field.value, Variable(memory, field, ()), _number)
    fanout = reader.child("fanout")
    if fanout is not None:
        for field, axis in ((Field.X, "x"), (Field.Y, "y")):
            found += _one(fanout, axis, Variable(memory, field, ()), _number)
        fanout.finish()
    if reader.flag("optional", default=False):
        variable = Variable(memory, Field.PRESENT, (0.0, 1.0))
        found.append((variable, reader.span("optional")))
    reader.finish()
    return found


def _capacities(reader: Reader, memory: str, word_bits: int) -> list[tuple[Variable, Span]]:
    def convert(text: str) -> float:
        return float(parse_capacity(text, word_bits))

    whole = Variable(memory, Field.CAPACITY, ())
    if not reader.is_mapping("capacity"):
        return _one(reader, "capacity", whole, convert)
    shares = reader.child("capacity")
    assert shares is not None
    if {"from", "to"} & set(shares.names()):
        return _one(reader, "capacity", whole, convert)
    found: list[tuple[Variable, Span]] = []
    for operand in shares.names():
        found += _one(shares, operand, replace(whole, operand=operand), convert)
    return found


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise ValueError("expected a number above 0")
    return value


def _one(
    reader: Reader, key: str, variable: Variable, convert: Convert
) -> list[tuple[Variable, Span]]:
    """The variable with the values that stand under a key; none if the key is absent or wrong."""
    if not reader.has(key):
        return []
    before = len(reader.problems)
    if reader.is_mapping(key):
        found = _range(reader, key, variable, convert)
    else:
        found = replace(variable, values=_list(reader, key, convert))
    return [(found, reader.span(key))] if len(reader.problems) == before else []


def _list(reader: Reader, key: str, convert: Convert) -> tuple[float, ...]:
    texts = reader.name_list(key) or ()
    if not texts:
        reader.report(key, f"`{key}` has no values", _RANGE)
    values = [_value(reader, key, text, convert) for text in texts]
    return tuple(sorted({value for value in values if value is not None}))


def _value(reader: Reader, key: str, text: str, convert: Convert) -> float | None:
    try:
        value = convert(text)
    except ValueError as error:
        example = EXPECTED if convert is not _number else "4"
        reader.report(key, f"`{text[:80]}`: {error}", f"write {example}")
        return None
    if value <= 0:
        reader.report(key, f"`{text[:80]}` holds nothing", _RANGE)
        return None
    return value


def _range(reader: Reader, key: str, variable: Variable, convert: Convert) -> Variable:
    child = reader.child(key)
    assert child is not None
    ends: list[float | None] = []
    for end in ("from", "to"):
        if not child.has(end):
            child.report(None, f"a range needs `{end}`", _RANGE)
            ends.append(None)
        else:
            ends.append(_value(child, end, child.text(end, "1"), convert))
    times = child.number("times", positive=True)
    plus = None
    if child.has("plus"):
        plus = _value(child, "plus", child.text("plus", "1"), convert)
    child.finish()
    low, high = ends
    if low is None or high is None:
        return variable
    if low > high:
        child.report("to", "the range ends before it begins", "swap `from` and `to`")
    elif times is not None and plus is not None:
        child.report("plus", "`plus` beside `times`", "keep one of them")
    elif times is not None and times <= 1:
        child.report("times", f"`times` is {times:g}: it must be above 1", "write times: 2")
    elif times is None and plus is None:
        if variable.field is Field.WORD_BITS:
            child.report("from", "a word's width cannot be continuous", "write [16, 32, 64]")
            return variable
        points = points_between(low, high, whole=variable.field in WHOLE)
        return replace(variable, values=points, continuous=True)
    else:
        values = tuple(steps_of(low, high, plus=plus, times=times))
        return replace(variable, values=values)
    return variable
