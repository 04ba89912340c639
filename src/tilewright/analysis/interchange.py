"""Files of other tools in, and files for them out.

Owns: `import_files`: which tool a file is of, and our own files for what it says; `export_files`.

Non-goals: the formats (`frontend/`), writing to disk (the command line does).
"""

from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilewright.errors import InputError, Problem, Source, did_you_mean
from tilewright.frontend.accelforge import is_accelforge, is_template, read_accelforge
from tilewright.frontend.foreign import Document, Imported
from tilewright.frontend.timeloop_files import is_timeloop, read_timeloop
from tilewright.frontend.timeloop_write import Exported, write_timeloop
from tilewright.frontend.zigzag import (
    is_zigzag_hardware,
    is_zigzag_workload,
    read_zigzag_hardware,
    read_zigzag_workload,
)
from tilewright.ir.files import parse_hardware, parse_network, read_source
from tilewright.ir.hardware import Hardware
from tilewright.ir.mapping import Mapping, format_mapping, parse_mapping
from tilewright.ir.workload import Workload
from tilewright.ir.write import format_hardware, format_network
from tilewright.model.evaluate import evaluate
from tilewright.tech import apply_technology

TOOLS = ("timeloop",)
"""Whose files can be written."""


@dataclass(frozen=True, slots=True)
class OurFiles:
    """What files of another tool say, as files of ours.

    Attributes:
        tool: whose files they were.
        files: ours, by name: `chip.yaml`, `layer.yaml` or `network.yaml`, `mapping.txt`.
        found: the nouns.
        warnings: what the files say and ours do not.
    """

    tool: str
    files: dict[str, str]
    found: Imported
    warnings: tuple[Problem, ...]


def import_files(
    paths: Sequence[Path | str],
    hardware: Hardware | None = None,
    values: Dict[str, str] | None = None,
) -> OurFiles:
    """Read files of Timeloop, Accelergy, ZigZag or AccelForge.

    Args:
        paths: of one tool; Timeloop's may be split over several.
        hardware: a chip that a table of energies alone is put into.
        values: of variables of AccelForge's templates.

    Returns: our files, each of which has been read back and found equal.

    Raises: `InputError` if a file is of no tool that is known, or cannot be said in our words.

    Source: `docs/interchange.md`.
    """
    sources = [read_source(Path(path)) for path in paths]
    kinds = {_kind(source) for source in sources}
    if len(kinds) > 1:
        listed = " and ".join(sorted(kinds))
        raise InputError(Problem(f"these are files of {listed}", "import them one by one"))
    (kind,) = kinds
    if kind == "timeloop":
        found = read_timeloop(sources, hardware)
    elif len(sources) > 1:
        raise InputError(Problem(f"{len(sources)} files of {kind}", "import them one by one"))
    elif kind == "accelforge":
        found = read_accelforge(sources[0], values)
    else:
        read = read_zigzag_hardware if kind == "zigzag hardware" else read_zigzag_workload
        found = read(sources[0])
    return OurFiles(found.tool, write_ours(found), found, found.warnings)


def _kind(source: Source) -> str:
    if is_template(source):
        return "accelforge"
    _, item = Document.parse(source)
    if is_zigzag_hardware(item):
        return "zigzag hardware"
    if is_zigzag_workload(item):
        return "zigzag workload"
    if is_accelforge(item):
        return "accelforge"
    if is_timeloop(item):
        return "timeloop"
    what = "this is no file of Timeloop, Accelergy, ZigZag or AccelForge"
    known = "architecture, problem, mapping, ERT; memories; equation; workload"
    raise InputError(Problem(what, f"at its top one of: {known}", source.name))


def write_ours(found: Imported) -> dict[str, str]:
    """Our files for what was read, by name; each is read back and found equal.

    Raises: `InputError` for padding that no file can say.
    """
    files: dict[str, str] = {}
    if found.hardware is not None:
        files["chip.yaml"] = format_hardware(found.hardware)
        assert parse_hardware(Source("chip.yaml", files["chip.yaml"])) == found.hardware
    if found.network is not None:
        name = "layer.yaml" if len(found.network.layers) == 1 else "network.yaml"
        files[name] = format_network(found.network)
        again = parse_network(Source(name, files[name]))
        assert again.layers == found.network.layers
    if found.mapping is not None:
        files["mapping.txt"] = format_mapping(found.mapping) + "\n"
        assert parse_mapping(files["mapping.txt"]) == found.mapping
    return files


def export_files(
    workload: Workload, hardware: Hardware, mapping: Mapping | None = None, *, to: str = "timeloop"
) -> Exported:
    """Write a layer, a chip and a mapping as files of another tool.

    Args:
        workload: the layer.
        hardware: the chip; energies that a table gives are written as numbers.
        mapping: of the layer on the chip; it is checked and has to fit.
        to: whose files: `timeloop`.

    Returns: the files, and what they do not say.

    Raises: `InputError` for what the tool has no word for; `InfeasibleError` if the mapping does
        not fit.

    Source: `docs/interchange.md`.
    """
    if to not in TOOLS:
        raise InputError(Problem(f"files for `{to}` are not written", did_you_mean(to, TOOLS)))
    if mapping is not None:
        evaluate(workload, hardware, mapping)
    priced, tables = apply_technology(hardware)
    written = write_timeloop(workload, priced, mapping)
    from_tables = [
        name for name, origin in tables.items() if origin.energy not in ("given", "none")
    ]
    if not from_tables:
        return written
    note = f"energies of {', '.join(from_tables)} come from a table and are written as numbers"
    return Exported(written.files, (*written.warnings, note))
