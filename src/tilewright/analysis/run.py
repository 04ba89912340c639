"""Saved runs: the documents that `--json` prints, read back, older ones brought up to date.

Owns: the version of the documents' schema, what changed from one to the next, and the nouns `Run`
and `PricedLayer`.

Non-goals: writing documents (each result knows its own), comparing them (`analysis/difference.py`).
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tilewright.errors import InputError, Problem, visible
from tilewright.model.table import Row, as_frame, as_html, as_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2
"""What documents of this version of the program say under `schema`."""

MAX_BYTES = 256 * 2**20
MAX_DEPTH = 64
Json = Mapping[str, object]

_MARKS = (
    ("codesign", ("front", "space")),
    ("design", ("front", "grid")),
    ("cores", ("points", "notes", "hardware")),
    ("curve", ("points",)),
    ("map", ("layers", "mapspace")),
    ("show", ("nest",)),
    ("evaluate", ("levels", "mapping")),
    ("hwc", ("config",)),
    ("compile", ("target",)),
    ("show", ("layers", "not_costed")),
    ("zoo", ("networks", "hardware")),
)
"""Keys by which a document of schema 1, which does not name its command, is told."""


@dataclass(frozen=True, slots=True)
class PricedLayer:
    """One layer of a run.

    Attributes:
        name: what it is called.
        repeat: how many equal ones there are.
        status: `optimal`, `best_found`, `infeasible`; `evaluated` where a mapping was given.
        mapping: in the notation of mappings; `None` if there is none.
        cost: as `evaluate --json` has it; `None` if there is none.
    """

    name: str
    repeat: int
    status: str
    mapping: str | None
    cost: Json | None


@dataclass(frozen=True, slots=True)
class Run:
    """A document that a command has printed.

    Attributes:
        name: of the file, or what stands for it.
        command: the verb that made it.
        written_as: the schema that it was written in.
        document: all of it, as the present schema has it.
    """

    name: str
    command: str
    written_as: int
    document: Json

    @property
    def layers(self) -> tuple[PricedLayer, ...]:
        """The layers with their costs; of commands that price none, or not in full, none."""
        return tuple(self._layers())

    def _layers(self) -> Iterator[PricedLayer]:
        if self.command in ("evaluate", "show") and "levels" in self.document:
            name = self.text("workload")
            yield PricedLayer(name, 1, "evaluated", self.text("mapping"), self.document)
            return
        for index, entry in enumerate(_list(self.document.get("layers", []), "layers")):
            layer = _object(entry, f"layers[{index}]")
            if "cost" not in layer:
                return
            yield _priced_layer(layer, f"layers[{index}]")

    def text(self, key: str) -> str:
        """A text of the document, by its key at the top. Raises `InputError` if it is none."""
        value = self.document.get(key)
        if not isinstance(value, str):
            raise _wrong(key, "a text", value)
        return value

    def to_frame(self) -> "pd.DataFrame":
        """One row per layer, level and operand as a pandas frame, words and pJ.

        Raises: `MissingToolError` if pandas, an extra, is not installed.
        """
        return as_frame(self._rows())

    def to_parquet(self, path: Path | str) -> None:
        """Write the rows of `to_frame` as a Parquet file, with the run's origin in its metadata.

        Raises: `MissingToolError` if pyarrow, an extra, is not installed; `InputError` if the file
        cannot be written.
        """
        from tilewright.analysis.parquet import write_parquet

        origin = {
            key: self.document.get(key) for key in ("version", "inputs", "seed", "convention")
        }
        write_parquet(
            self._rows(), Path(path), {"command": self.command, "schema": SCHEMA, **origin}
        )

    def _rows(self) -> list[Row]:
        return [
            {
                "layer": layer.name,
                "repeat": layer.repeat,
                "status": layer.status,
                "memory": part["memory"],
                "operand": part["operand"],
                **{key: part[key] for key in _FIGURES},
            }
            for layer in self.layers
            for part in operand_parts(layer)
        ]

    def __str__(self) -> str:
        return f"{self.command}: {self.name}\n{as_text(self._rows())}"

    def _repr_html_(self) -> str:
        return as_html(self._rows())


_FIGURES = ("tile_words", "reads", "fills", "updates", "drains", "energy_pj")


def operand_parts(layer: PricedLayer) -> Iterator[Row]:
    """What every level and operand of a layer moved and spent: words, pJ."""
    if layer.cost is None:
        return
    for index, entry in enumerate(_list(layer.cost.get("levels"), "levels")):
        level = _object(entry, f"levels[{index}]")
        operands = _object(level.get("operands"), f"levels[{index}].operands")
        for name, figures in operands.items():
            where = f"levels[{index}].operands.{name}"
            known = _object(figures, where)
            row = {key: number(known, key, where) for key in _FIGURES}
            yield {"memory": str(level.get("memory")), "operand": name, **row}


def number(document: Json, key: str, where: str = "") -> int | float:
    """A figure of a document. Raises `InputError`, with its place, if it is none."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"{where}.{key}" if where else key, "a number", value)
    return value


def _priced_layer(layer: Json, where: str) -> PricedLayer:
    name, mapping, cost = layer.get("name"), layer.get("mapping"), layer.get("cost")
    if not isinstance(name, str):
        raise _wrong(f"{where}.name", "a text", name)
    if mapping is not None and not isinstance(mapping, str):
        raise _wrong(f"{where}.mapping", "a text", mapping)
    priced = None if cost is None else _object(cost, f"{where}.cost")
    repeat = number(layer, "repeat", where) if "repeat" in layer else 1
    return PricedLayer(name, int(repeat), str(layer.get("status")), mapping, priced)


def read_run(path: Path | str) -> Run:
    """Read a document that `--json` has printed; older ones are brought up to date.

    Args:
        path: the file.

    Raises: `InputError` if it cannot be read, is too large or too deep, is no such document, or was
        written by a newer version of the program.

    Source: `docs/interchange.md`, Saved runs.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Problem(f"cannot read: {reason}", where=name)) from None
    if len(content) > MAX_BYTES:
        what = f"the file is too large: the limit is {MAX_BYTES // 2**20} MiB"
        raise InputError(Problem(what, where=name))
    return parse_run(content, name)


def parse_run(content: bytes | str, name: str = "run") -> Run:
    """Read a document from its text. See `read_run`.

    >>> parse_run('{"version": "0.1.0", "points": []}').command
    'curve'
    """
    document = _decode(content, name)
    if not isinstance(document, dict):
        raise InputError(Problem("expected one JSON object", "save what --json prints", name))
    known = cast("dict[str, object]", document)
    if "error" in known or known.keys() <= {"interrupted"}:
        what = "this is the message of a command that failed, and no result"
        raise InputError(Problem(what, "run the command again", name))
    schema = known.get("schema", 1)
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise InputError(
            Problem(f"schema `{schema}` is none", f"this program reads 1 to {SCHEMA}", name)
        )
    if schema > SCHEMA:
        what = f"schema {schema} is newer than this program, which reads up to {SCHEMA}"
        raise InputError(Problem(what, "install a newer tilewright", name))
    for step in range(schema, SCHEMA):
        known = _UPGRADES[step](known, name)
    command = known.get("command")
    if not isinstance(command, str):
        raise InputError(Problem("the document does not say its `command`", _SAVE, name))
    return Run(name, command, schema, known)


def run_of(document: Json, command: str, name: str) -> Run:
    """A run that has just been made, from its result's document."""
    return Run(name, command, SCHEMA, document)


_SAVE = "save what a command prints with --json"


def _decode(content: bytes | str, name: str) -> object:
    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        found = json.loads(content, parse_constant=refuse)
    except RecursionError:
        what = f"nested deeper than {MAX_DEPTH} levels"
        raise InputError(Problem(what, _SAVE, name)) from None
    except (ValueError, UnicodeDecodeError) as error:
        what = f"this is not JSON: {visible(str(error))[:200]}"
        raise InputError(Problem(what, _SAVE, name)) from None
    _check_depth(found, name)
    return found


def _check_depth(value: object, name: str) -> None:
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise InputError(Problem(f"nested deeper than {MAX_DEPTH} levels", _SAVE, name))
        layer = [inner for outer in layer for inner in _inside(outer)]


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else ()


def _name_the_command(document: dict[str, object], name: str) -> dict[str, object]:
    """Schema 1 to 2: the verb that made the document stands in it."""
    for command, keys in _MARKS:
        if all(key in document for key in keys):
            return {**document, "schema": 2, "command": command}
    raise InputError(Problem("this is no document of tilewright", _SAVE, name))


_UPGRADES: dict[int, Callable[[dict[str, object], str], dict[str, object]]] = {
    1: _name_the_command,
}
"""By the schema that they begin with: each leads to the next."""


def leaves(document: Json) -> dict[str, object]:
    """Every text and figure of a document, by its path such as `ports.I.words`.

    >>> leaves({"a": {"b": 1, "c": [2.5, "x"]}, "ok": True})
    {'a.b': 1, 'a.c[0]': 2.5, 'a.c[1]': 'x', 'ok': True}
    """
    found: dict[str, object] = {}
    stack: list[tuple[str, object]] = [("", document)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Mapping):
            inner = cast("Json", value)
            stack += [(f"{path}.{key}" if path else key, item) for key, item in inner.items()][::-1]
        elif isinstance(value, list):
            items = cast("list[object]", value)
            stack += [(f"{path}[{i}]", item) for i, item in enumerate(items)][::-1]
        else:
            found[path] = value
    return found


def numeric_leaves(document: Json) -> dict[str, float]:
    """Every finite figure of a document, by its path.

    >>> numeric_leaves({"a": {"b": 1, "c": [2.5, "x"]}, "ok": True})
    {'a.b': 1.0, 'a.c[0]': 2.5}
    """
    return {
        path: float(value)
        for path, value in leaves(document).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _object(value: object, where: str) -> Json:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    return cast("Json", value)


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    return cast("list[object]", value)


def _wrong(where: str, expected: str, found: object) -> InputError:
    shown = visible(json.dumps(found, default=str))[:40]
    return InputError(Problem(f"{where}: expected {expected}, found `{shown}`", _SAVE, "run"))
