"""How a network should run on a memory hierarchy, and what it costs.

>>> import tilewright as tw
>>> layer = tw.conv2d("res3_1", K=128, C=64, P=28, Q=28, R=3, S=3, stride=2)
>>> chip = tw.load_hardware("eyeriss")
>>> nest = '''
... DRAM[W I O]: K4 P2 C4
... GLB[I O]: C8 Q28 | K4@y R3@y P14@x
... RF[W I O]: C2 K8 S3
... '''
>>> tw.evaluate(layer, chip, nest).counts["GLB", "I"].reads
846336
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tilewright import tech, zoo
from tilewright.errors import (
    InfeasibleError,
    InputError,
    MissingToolError,
    Problem,
    TilewrightError,
    Violation,
)
from tilewright.ir.blocking import format_blocking, parse_blocking
from tilewright.ir.fix import Fix, format_fix, parse_fix
from tilewright.ir.hardware import Compute, Fanout, Hardware, Level
from tilewright.ir.mapping import Block, Loop, Mapping, format_mapping, parse_mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Layer, Network, Operand, Workload, conv2d, einsum
from tilewright.loading import load, load_hardware, load_layer, load_mapping
from tilewright.model.convention import CONVENTIONS, Convention
from tilewright.model.cost import Cost
from tilewright.model.counts import Counts, Tally
from tilewright.model.evaluate import compare_with_walk, evaluate
from tilewright.model.limit import DramLimit, dram_limit

if TYPE_CHECKING:
    from tilewright.analysis.difference import Comparison, compare_runs
    from tilewright.analysis.explain import Explanation, explain
    from tilewright.analysis.run import Run, read_run
    from tilewright.codegen import cpu
    from tilewright.codegen.kernel import compile_layer as compile  # noqa: A004 - the verb's name
    from tilewright.codegen.network import compile_network
    from tilewright.frontend.torch import from_torch
    from tilewright.joint.files import load_space
    from tilewright.joint.space import Space
    from tilewright.joint.study import codesign
    from tilewright.joint.variable import Field, Variable
    from tilewright.mapper.cores import (
        Buffers,
        CoreStudy,
        Split,
        map_on_cores,
        spread_over_cores,
    )
    from tilewright.mapper.layer import find_mapping
    from tilewright.mapper.network import map_network
    from tilewright.mapper.result import LayerResult, NetworkResult, Objective, Status

__version__ = "0.1.0"

__all__ = [
    "CONVENTIONS",
    "Block",
    "Buffers",
    "Comparison",
    "Compute",
    "Convention",
    "CoreStudy",
    "Cost",
    "Counts",
    "DramLimit",
    "Explanation",
    "Fanout",
    "Field",
    "Fix",
    "Hardware",
    "InfeasibleError",
    "InputError",
    "Layer",
    "LayerResult",
    "Level",
    "Loop",
    "Mapping",
    "MissingToolError",
    "Network",
    "NetworkResult",
    "Objective",
    "Operand",
    "Problem",
    "Run",
    "Space",
    "Split",
    "Status",
    "Tally",
    "TilewrightError",
    "Variable",
    "Violation",
    "Workload",
    "codesign",
    "compare_runs",
    "compare_with_walk",
    "compile",
    "compile_network",
    "conv2d",
    "cpu",
    "dram_limit",
    "einsum",
    "evaluate",
    "explain",
    "find_mapping",
    "format_blocking",
    "format_fix",
    "format_mapping",
    "from_torch",
    "load",
    "load_hardware",
    "load_layer",
    "load_mapping",
    "load_space",
    "map_network",
    "map_on_cores",
    "parse_blocking",
    "parse_fix",
    "parse_mapping",
    "read_run",
    "spread_over_cores",
    "tech",
    "verify_mapping",
    "zoo",
]


_LATER = {
    "tilewright.analysis.difference": ("Comparison", "compare_runs"),
    "tilewright.analysis.explain": ("Explanation", "explain"),
    "tilewright.analysis.run": ("Run", "read_run"),
    "tilewright.codegen.network": ("compile_network",),
    "tilewright.frontend.torch": ("from_torch",),
    "tilewright.joint.files": ("load_space",),
    "tilewright.joint.space": ("Space",),
    "tilewright.joint.study": ("codesign",),
    "tilewright.joint.variable": ("Field", "Variable"),
    "tilewright.mapper.cores": (
        "Buffers",
        "CoreStudy",
        "Split",
        "map_on_cores",
        "spread_over_cores",
    ),
    "tilewright.mapper.layer": ("find_mapping",),
    "tilewright.mapper.network": ("map_network",),
    "tilewright.mapper.result": ("LayerResult", "NetworkResult", "Objective", "Status"),
}
"""What is loaded when it is used: names by module."""


def __getattr__(name: str) -> object:
    """What `import tilewright` alone does not load: it takes longer, or needs NumPy or more."""
    if name == "cpu":
        return import_module("tilewright.codegen.cpu")
    if name == "compile":
        return import_module("tilewright.codegen.kernel").compile_layer
    if name == "codesign":
        import_module("tilewright.model.batch")  # says what to install if JAX is missing
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module `tilewright` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
