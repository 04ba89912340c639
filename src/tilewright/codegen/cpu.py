"""A CPU as the generator sees it: caches, vectors, registers, cores.

Owns: the nouns `Cpu` and `Cache`, reading them from this machine (`host`) or from a file
(`load_cpu`).

Non-goals: choosing a blocking for it (`blocking.py`).
"""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tilewright.codegen.targets import AVX2, AVX512, NEON, PORTABLE, TARGETS, Target
from tilewright.errors import InputError, Problem, Source, did_you_mean
from tilewright.ir.document import Reader, read_document
from tilewright.ir.files import read_source
from tilewright.ir.quantity import format_bytes, parse_capacity

SYSFS, CPUINFO = Path("/sys/devices/system/cpu"), Path("/proc/cpuinfo")
LARGEST_CACHE = 1 << 44


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache for data.

    Attributes:
        level: 1 is next to the core.
        capacity_bytes: of all of it.
        ways: of associativity.
        line_bytes: of a line.
        sharers: cores that share it.
    """

    level: int
    capacity_bytes: int
    ways: int
    line_bytes: int = 64
    sharers: int = 1

    def __str__(self) -> str:
        return f"L{self.level} {format_bytes(8 * self.capacity_bytes).replace(' ', '')}/{self.ways}"


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU.

    Attributes:
        name: as it calls itself.
        caches: for data, L1 first.
        cores: that a program may use.
        flags: instruction sets, as /proc/cpuinfo calls them.
        fma_per_cycle: vector multiply-adds that a core begins per cycle.
        loads_per_cycle: vector loads.
        fma_latency: cycles from one multiply-add to the next on the same sum.
        source: where this is known from.

    Raises `InputError` when made, if caches are missing or make no sense.
    """

    name: str
    caches: tuple[Cache, ...]
    cores: int = 1
    flags: frozenset[str] = frozenset()
    fma_per_cycle: int = 2
    loads_per_cycle: int = 2
    fma_latency: int = 4
    source: str = field(default="given", compare=False)

    def __post_init__(self) -> None:
        problems = [replace(problem, where=self.name) for problem in _problems(self)]
        if problems:
            raise InputError(problems)

    @property
    def geometry(self) -> str:
        """The caches in short.

        >>> Cpu("paper", (Cache(1, 32768, 8), Cache(2, 262144, 8))).geometry
        'L1 32KiB/8, L2 256KiB/8'
        """
        return ", ".join(map(str, self.caches))

    def supports(self, target: Target) -> bool:
        """Whether the CPU runs programs for a target."""
        if target is NEON:
            return "asimd" in self.flags
        return all(flag in self.flags for flag in target.needs)

    def native(self) -> Target:
        """The best target that the CPU runs."""
        return next((t for t in (AVX512, AVX2, NEON) if self.supports(t)), PORTABLE)


def _problems(cpu: Cpu) -> Iterable[Problem]:
    if not cpu.caches:
        yield Problem("no caches", "give at least L1")
    levels = [cache.level for cache in cpu.caches]
    if levels != list(range(1, len(levels) + 1)):
        yield Problem(f"caches of levels {levels}", "give L1, L2, … once each, in this order")
    for cache in cpu.caches:
        if not 0 < cache.capacity_bytes <= LARGEST_CACHE:
            what = f"L{cache.level} has {cache.capacity_bytes} bytes: from 1 to {LARGEST_CACHE}"
            yield Problem(what, "32KiB is usual for L1")
        elif cache.ways < 1 or cache.line_bytes < 4 or cache.line_bytes & (cache.line_bytes - 1):
            what = f"L{cache.level} has {cache.ways} ways of lines of {cache.line_bytes} bytes"
            yield Problem(what, "8 ways of 64 bytes are usual")
        elif cache.capacity_bytes % (cache.ways * cache.line_bytes):
            what = f"L{cache.level}: {cache.capacity_bytes} bytes are no whole number of sets of "
            yield Problem(f"{what}{cache.ways} lines of {cache.line_bytes} bytes", "")
    sizes = [cache.capacity_bytes for cache in cpu.caches]
    if sizes != sorted(sizes):
        yield Problem("an outer cache is smaller than an inner one", "give L1 first")
    if min(cpu.cores, cpu.fma_per_cycle, cpu.loads_per_cycle, cpu.fma_latency) < 1:
        yield Problem("cores, multiply-adds, loads and latency are at least 1", "")


_DEFAULT_CACHES = (Cache(1, 32 << 10, 8), Cache(2, 256 << 10, 8), Cache(3, 8 << 20, 16))


def host() -> Cpu:
    """The machine that runs this, read from /sys and /proc; usual caches where they say nothing.

    >>> host().caches[0].level
    1
    """
    caches = _read_caches(SYSFS / "cpu0" / "cache")
    name, flags = _read_cpuinfo(CPUINFO)
    known = caches[0].level == 1 if caches else False
    source = "this machine" if known else "this machine; its caches are not known, usual ones taken"
    return Cpu(
        name or platform.machine() or "cpu",
        caches if known else _DEFAULT_CACHES,
        _usable_cores(),
        flags,
        source=source,
    )


def _usable_cores() -> int:
    count = getattr(os, "sched_getaffinity", None)
    return len(count(0)) if count else os.cpu_count() or 1


def _read_caches(folder: Path) -> tuple[Cache, ...]:
    found: dict[int, Cache] = {}
    for entry in sorted(folder.glob("index*")):
        text = {key: _read(entry / key) for key in ("type", "level", "size")}
        ways, line = _read(entry / "ways_of_associativity"), _read(entry / "coherency_line_size")
        numbers = [text["level"], text["size"].removesuffix("K"), ways, line]
        if text["type"] not in ("Data", "Unified") or not all(n.isdecimal() for n in numbers):
            continue
        level, kib, way, line_bytes = map(int, numbers)
        sharers = _count_cores(_read(entry / "shared_cpu_list"))
        sets = kib * 1024 // (max(way, 1) * max(line_bytes, 1))
        if way and sets:
            found[level] = Cache(level, sets * way * line_bytes, way, line_bytes, sharers)
    return tuple(found[level] for level in sorted(found))


def _count_cores(text: str) -> int:
    """How many cores a list such as `0-3,8` names.

    >>> _count_cores("0-3,8")
    5
    """
    total = 0
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        if first.isdecimal():
            total += int(last or first) - int(first) + 1
    return max(total, 1)


def _read_cpuinfo(path: Path) -> tuple[str, frozenset[str]]:
    name, flags = "", frozenset[str]()
    for line in _read(path).split("\n"):
        key, _, value = line.partition(":")
        if key.strip() == "model name" and not name:
            name = value.strip()
        if key.strip() in ("flags", "Features") and not flags:
            flags = frozenset(value.split())
    return name, flags


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def load_cpu(path: str | Path) -> Cpu:
    """Read a CPU from a YAML file.

    Raises: `InputError` with every problem in the file.

    Source: `docs/compile.md`, The CPU.
    """
    return parse_cpu(read_source(Path(path)))


def parse_cpu(source: Source) -> Cpu:
    r"""Read a CPU from YAML text.

    Raises: `InputError` with every problem in the text.

    >>> text = "name: old\nisa: avx2\ncaches:\n  - {capacity: 32KiB, ways: 8}"
    >>> parse_cpu(Source("old.yaml", text)).native().name
    'avx2'
    """
    reader = read_document(source)
    name = reader.name("name", Path(source.name).stem)
    isa = reader.name("isa", PORTABLE.name)
    if isa not in TARGETS:
        reader.report("isa", f"`{isa}` is no instruction set", did_you_mean(isa, list(TARGETS)))
    caches = [_cache(child, index) for index, child in enumerate(reader.children("caches"))]
    numbers = {
        key: reader.integer(key, usual)
        for key, usual in (
            ("cores", 1),
            ("fma_per_cycle", 2),
            ("loads_per_cycle", 2),
            ("fma_latency", 4),
        )
    }
    if not reader.has("caches"):
        reader.report(None, "`caches` is missing", "add caches: [{capacity: 32KiB, ways: 8}]")
    reader.finish()
    if reader.problems:
        raise InputError(reader.problems)
    target = TARGETS[isa]
    flags = frozenset({"asimd"} if target is NEON else {*target.needs, *_below(target)})
    return Cpu(name, tuple(caches), flags=flags, source=source.name, **numbers)


def _below(target: Target) -> tuple[str, ...]:
    return AVX2.needs if target is AVX512 else ()


def _cache(reader: Reader, index: int) -> Cache:
    text = reader.text("capacity", "32KiB")
    bits = 0
    try:
        bits = parse_capacity(text, 32)
    except ValueError as error:
        reader.report("capacity", f"`{text}` is no capacity: {error}", "write capacity: 32KiB")
    if not reader.has("capacity"):
        reader.report(None, "a cache needs `capacity`", "add capacity: 32KiB")
    ways, line = reader.integer("ways", 8), reader.integer("line_bytes", 64)
    sharers = reader.integer("sharers", 1)
    reader.finish()
    return Cache(index + 1, bits // 8, ways, line, sharers)
