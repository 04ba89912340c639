"""An append-only journal of what a study has done, that survives being killed.

Owns: the noun `Journal`: JSON lines, each on the disk before the work goes on.

Non-goals: what the lines say (`joint/study.py`).
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tilewright.errors import InputError, Problem

Record = dict[str, Any]
FILE = "journal.jsonl"


class Journal:
    r"""A run directory's journal; without a directory, one that keeps nothing.

    The first line says what is studied; a directory with another study is refused. A last line
    that was cut off when the process died is dropped.

    >>> with Journal(None, {"seed": 0}) as journal:
    ...     journal.append({"kind": "round"})
    ...     journal.earlier
    []
    """

    def __init__(self, folder: Path | None, header: Record) -> None:
        self.earlier: list[Record] = []
        self._file: IO[bytes] | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / FILE
            records, whole = _read(path)
            if records and records[0] != header:
                raise InputError(_another_study(records[0], header, path))
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(whole)
            self._file.seek(whole)
            _sync_folder(folder)
        except OSError as error:
            what = f"{folder} cannot be used as a run directory: {error.strerror}"
            raise InputError(Problem(what, "name a folder that can be written")) from None
        self.earlier = records[1:]
        if not records:
            self.append(header)

    def append(self, record: Record) -> None:
        """Write a line; it is on the disk when this returns."""
        if self._file is None:
            return
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _read(path: Path) -> tuple[list[Record], int]:
    """The whole lines, and how many bytes they take."""
    if not path.exists():
        return [], 0
    records: list[Record] = []
    whole = 0
    for line in _lines(path.read_bytes()):
        try:
            record = json.loads(line)
        except ValueError:
            break
        records.append(record)
        whole += len(line)
    return records, whole


def _lines(text: bytes) -> Iterator[bytes]:
    """Lines that end; what is behind the last end of a line was cut off."""
    start = 0
    while (end := text.find(b"\n", start)) >= 0:
        yield text[start : end + 1]
        start = end + 1


def _another_study(found: Record, header: Record, path: Path) -> Problem:
    names = sorted({*found, *header})
    different = [name for name in names if found.get(name) != header.get(name)]
    what = f"{path} is of another study: {', '.join(different)} differ"
    return Problem(what, "name a new run directory, or repeat the command as it was")


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
