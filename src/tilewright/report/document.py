"""Documents as `report` finds them: read, bounded, and told apart by what they hold.

Owns: reading a document from text, and its kind. A document may come from anybody: numbers must
be finite, texts are made visible and cut, nesting is bounded.

Non-goals: what is drawn of it (`report/view.py`).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from tilewright.errors import InputError, Problem, visible

Json = dict[str, Any]

MAX_BYTES = 200_000_000
LONGEST = 300
"""Characters of a text that a page shows; mappings are not cut."""
_MAPPING_LONGEST = 20_000
_DEEPEST = 40
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("design", ("grid", "levels")),
    ("codesign", ("front", "space")),
    ("hwc", ("config", "ports")),
    ("compile", ("geometry", "layers")),
    ("map", ("layers", "total")),
    ("evaluate", ("mapping", "levels", "compute")),
)
"""A kind of document, and the keys that tell it from others; the first that fits."""


def entries(document: Json, key: str) -> list[Json]:
    """The objects of a list of a document; none if it is not there.

    >>> entries({"layers": [{"name": "a"}]}, "layers"), entries({}, "layers")
    ([{'name': 'a'}], [])
    """
    found: Any = document.get(key)
    if not isinstance(found, list):
        return []
    return [each for each in cast("list[Any]", found) if isinstance(each, dict)]


def entry(document: Json, key: str) -> Json:
    """An object of a document; an empty one if it is not there."""
    found: Any = document.get(key)
    return cast("Json", found) if isinstance(found, dict) else {}


def read_document(text: str, name: str) -> Json:
    """Read a document that one of the commands wrote.

    Args:
        text: JSON.
        name: what messages call it.

    Raises: `InputError` if it is no JSON, no object, or holds no result.

    >>> read_document('{"layers": [], "total": {}}', "run.json")
    {'layers': [], 'total': {}}
    """
    try:
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        document = _bounded(found, 0)
    except (ValueError, RecursionError) as error:
        what = f"{name} is no JSON document: {error}"
        raise InputError(Problem(what, "give what a command printed with --json")) from None
    if not isinstance(document, dict):
        what = f"{name} is JSON, but no object"
        raise InputError(Problem(what, "give what a command printed with --json"))
    kind_of(cast("Json", document), name)
    return cast("Json", document)


def kind_of(document: Json, name: str = "the document") -> str:
    """Which command wrote a document.

    Raises: `InputError` if none did, or if it holds an error or nothing but violations.

    >>> kind_of({"layers": [], "total": {}})
    'map'
    """
    points = entries(document, "points")
    if points and "grid" not in document:
        return "cores" if "cores" in points[0] else "curve"
    for kind, keys in _KINDS:
        if all(key in document for key in keys):
            return kind
    if "error" in document or "violations" in document:
        what = f"{name} holds no result, but why there is none"
        raise InputError(Problem(what, "mend that, and run the command again"))
    what = f"{name} is no document that a command wrote"
    raise InputError(Problem(what, "give what map, curve, codesign … printed with --json"))


def read_run(given: str, standard_input: Callable[[], str]) -> Json:
    """Read a run: a document's file, `-` for standard input, or the folder of a codesign run.

    Raises: `InputError` if it is none of them.
    """
    if given == "-":
        return read_document(standard_input(), "standard input")
    path = Path(given)
    try:
        if path.is_dir():
            path = _result_in(path)
        if path.stat().st_size > MAX_BYTES:
            what = f"{given} has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}"
            raise InputError(Problem(what, "report on fewer layers or points"))
        return read_document(path.read_text(encoding="utf-8"), given)
    except UnicodeDecodeError:
        raise InputError(Problem(f"{given} is no text in UTF-8", "give a JSON document")) from None
    except (OSError, ValueError) as error:
        what = f"{given} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError(Problem(what, "check the path")) from None


RESULT = "result.json"
"""What a run directory keeps beside its journal, once a study has ended."""


def _result_in(folder: Path) -> Path:
    path = folder / RESULT
    if path.is_file():
        return path
    if (folder / "journal.jsonl").is_file():
        what = f"the study in {folder} has not ended"
        raise InputError(Problem(what, "repeat its command: it goes on from where it is"))
    what = f"{folder} is no run directory: it has no {RESULT}"
    raise InputError(Problem(what, "name one that codesign --run made, or a JSON document"))


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _bounded(value: Any, depth: int, key: str = "") -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"it nests more than {_DEEPEST} deep")
    if isinstance(value, str):
        return _shown(value, key)
    if isinstance(value, list):
        return [_bounded(each, depth + 1, key) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        fields = cast("Json", value).items()
        return {_shown(name, ""): _bounded(each, depth + 1, name) for name, each in fields}
    return value


def _shown(text: str, key: str) -> str:
    if key in ("mapping", "fix"):
        return text[:_MAPPING_LONGEST]
    return visible(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
