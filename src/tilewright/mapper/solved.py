"""Layers that were solved before, kept on disk.

Owns: `Question`, all that decides an answer, and `SolvedLayers`, answers in an SQLite file.

A mapping found there is priced anew, and dropped unless it costs what was proved: an answer is
never trusted, only remembered. Several processes may use the file at once.

Non-goals: solving (`mapper/layer.py`).
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypeVar, cast

from tilewright.errors import TilewrightError, Violation
from tilewright.folders import cache_folder
from tilewright.ir.fix import Fix, format_fix
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import format_mapping, parse_mapping
from tilewright.ir.workload import Workload
from tilewright.mapper.result import LayerResult, Objective, Status
from tilewright.model.convention import Convention
from tilewright.model.evaluate import evaluate

T = TypeVar("T")

MOST_ANSWERS = 50_000
"""Older ones are dropped; an answer takes about half a KiB."""
_SECONDS_TO_WAIT = 5.0
_TABLE = "CREATE TABLE IF NOT EXISTS solved (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"
_DROP = "DELETE FROM solved WHERE rowid <= (SELECT max(rowid) FROM solved) - ?"


@dataclass(frozen=True, slots=True)
class Question:
    """What decides the answer for a layer; the arguments of `find_mapping`."""

    workload: Workload
    hardware: Hardware
    objective: Objective
    convention: Convention
    imperfect: bool
    uneven: bool
    fix: Fix | None
    seconds: float | None
    seed: int

    def key(self, *, proved: bool) -> str:
        """A name for the question; what is proved depends on neither time nor chance."""
        parts = [
            _spell(replace(self.workload, name="")),
            _spell(replace(self.hardware, name="", source="")),
            self.objective.value,
            _spell(self.convention),
            f"imperfect {self.imperfect}, uneven {self.uneven}",
            "" if self.fix is None else format_fix(self.fix),
            "" if proved else f"{self.seconds} s, seed {self.seed}",
            _sources(),
        ]
        return sha256("\0".join(parts).encode()).hexdigest()


@dataclass(slots=True)
class SolvedLayers:
    """Answers in a file.

    Attributes:
        file: where; in the user's cache folder if left out.
        on_trouble: told once why nothing is kept, or that a file was set aside.
    """

    file: Path = field(default_factory=lambda: cache_folder("solved") / "layers.sqlite")
    on_trouble: Callable[[str], None] = lambda _: None
    _is_usable: bool = field(default=True, init=False)

    def find(self, question: Question) -> LayerResult | None:
        """The answer that was kept, priced anew; `None` if there is none."""
        keys = [question.key(proved=proved) for proved in (True, False)]
        rows = self._run(
            lambda database: database.execute(
                "SELECT answer FROM solved WHERE key IN (?, ?)", keys
            ).fetchall()
        )
        answers = (_read(question, text) for (text,) in rows or ())
        return next((answer for answer in answers if answer is not None), None)

    def keep(self, question: Question, result: LayerResult) -> None:
        """Keep an answer, unless the search was interrupted."""
        if result.interrupted:
            return
        key = question.key(proved=result.status is not Status.BEST_FOUND)

        def insert(database: sqlite3.Connection) -> None:
            row = key, _write(result)
            database.execute("INSERT OR REPLACE INTO solved VALUES (?, ?)", row)
            database.execute(_DROP, [MOST_ANSWERS])

        self._run(insert)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Work on the database in a transaction; `None` if something is wrong with the file."""
        if not self._is_usable:
            return None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with (
                closing(sqlite3.connect(self.file, timeout=_SECONDS_TO_WAIT)) as database,
                database,
            ):
                database.execute(_TABLE)
                return work(database)
        except (sqlite3.OperationalError, OSError) as error:  # locked, full, not to be written
            self._give_up(error)
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
        return None

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = self.file.with_suffix(".corrupt")
        try:
            self.file.replace(aside)
        except OSError:
            self._give_up(error)
            return
        self.on_trouble(f"{self.file}: {error}; it is now {aside.name}, and a new one is begun")

    def _give_up(self, error: Exception) -> None:
        self._is_usable = False
        self.on_trouble(f"{self.file}: {error}; solved layers are not kept")


def _write(result: LayerResult) -> str:
    return json.dumps(
        {
            "status": result.status.value,
            "mapping": None if result.cost is None else format_mapping(result.cost.mapping),
            "lower_bound": result.lower_bound,
            "mapspace_size": result.mapspace_size,
            "evaluated": result.evaluated,
            "seconds": result.seconds,
            "violations": [asdict(violation) for violation in result.violations],
        }
    )


def _read(question: Question, text: str) -> LayerResult | None:
    """The answer, unless it is not what was written, or not what is counted now."""
    workload, hardware, objective = question.workload, question.hardware, question.objective
    try:
        told = json.loads(text)
        status = Status(told["status"])
        cost = told["mapping"] and evaluate(
            workload, hardware, parse_mapping(told["mapping"]), convention=question.convention
        )
        bound = told["lower_bound"]
        if status is Status.OPTIMAL and objective.of(cost) != bound:
            return None
        violations = [Violation(**violation) for violation in told["violations"]]
        return LayerResult(
            workload,
            1,
            status,
            cost,
            bound,
            objective,
            told["mapspace_size"],
            told["evaluated"],
            told["seconds"],
            tuple(replace(v, operands=tuple(v.operands)) for v in violations),
            is_from_cache=True,
        )
    except (TilewrightError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _spell(value: object) -> str:
    """A value in words that are the same in every process; `repr` orders sets by chance."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = [f"{f.name}={_spell(getattr(value, f.name))}" for f in fields(value)]
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_spell, cast(frozenset[object], value))))}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_spell, cast(tuple[object, ...], value)))}]"
    return repr(value)


@cache
def _sources() -> str:
    """A name for the code that answers: another version may answer better."""
    package = Path(__file__).parent.parent
    parts = ("ir", "mapper", "mapspace", "model")
    files = sorted(file for part in parts for file in (package / part).rglob("*.py"))
    stats = [(file.relative_to(package).as_posix(), file.stat()) for file in files]
    lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
    return sha256("\n".join(lines).encode()).hexdigest()
