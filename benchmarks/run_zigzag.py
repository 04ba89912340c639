"""Run ZigZag on one layer of the shared chip; for an interpreter that has it.

`python run_zigzag.py '{"K": 64, …, "stride": 1}' energy` prints its optimum and CPU time as JSON.
"""

import json
import logging
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT: Any = import_module("zigzag.api")


def layer(sizes: dict[str, int]) -> dict[str, Any]:
    """The layer, 8-bit operands, 16-bit sums and results."""
    extents = [1, *(sizes[dim] for dim in ("K", "C", "P", "Q", "R", "S"))]
    stride = sizes["stride"]
    return {
        "id": 0,
        "name": "layer",
        "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
        "dimension_relations": [f"ix={stride}*ox+1*fx", f"iy={stride}*oy+1*fy"],
        "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": extents,
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 16},
        "operand_source": {"I": 0, "W": 0},
    }


def main() -> None:
    sizes, objective = json.loads(sys.argv[1]), sys.argv[2]
    logging.disable(logging.CRITICAL)
    inputs = Path(ROOT.__file__).parent / "inputs"
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        energy, cycles, _ = ROOT.get_hardware_performance_zigzag(
            [layer(sizes)],
            str(inputs / "hardware" / "tpu_like.yaml"),
            str(inputs / "mapping" / "tpu_like.yaml"),
            opt={"energy": "energy", "edp": "EDP"}[objective],
            dump_folder=folder,
            loma_show_progress_bar=False,
        )
        seconds = time.process_time() - began
    print(json.dumps({"energy_pj": float(energy), "cycles": float(cycles), "cpu_s": seconds}))


if __name__ == "__main__":
    main()
