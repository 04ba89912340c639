"""Run AccelForge on one layer of the shared chip; for an interpreter that has it.

`python run_accelforge.py '{"K": 64, …, "stride": 1}' energy` prints its optimum and CPU time as
JSON. AccelForge needs Python 3.12.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

CHIP = Path(__file__).resolve().parent / "data" / "tpu_like_accelforge.yaml"
LAYER = """\
renames:
  einsums:
  - name: default
    tensor_accesses:
    - {{name: input, source: Inputs & Intermediates, expected_count: 1}}
    - {{name: output, source: Outputs, expected_count: 1}}
    - {{name: weight, source: ~(input | output), expected_count: 1}}
workload:
  bits_per_value: {{I: 8, F: 8, T: 16}}
  rank_sizes: {{}}
  einsums:
  - einsum: "T[p, q, k] = I[c, H: p{stride} + r, W: q{stride} + s] * F[r, s, c, k]"
    iteration_space_shape: [{bounds}]
    renames: {{output: T, input: I, weight: F}}
"""


def layer(sizes: dict[str, int]) -> str:
    """The layer as AccelForge's YAML, 8-bit operands, 16-bit sums and results."""
    bounds = ", ".join(f"0 <= {dim.lower()} < {sizes[dim]}" for dim in "KCPQRS")
    return LAYER.format(stride=f" * {sizes['stride']}", bounds=bounds)


def nothing(*_: object, **__: object) -> str:
    """Stand in for the drawing of a mapping, which wants an outside program."""
    return ""


def main() -> None:
    sizes, objective = json.loads(sys.argv[1]), sys.argv[2]
    forge: Any = import_module("accelforge")
    metrics: Any = import_module("accelforge.frontend.mapper.metrics").Metrics
    import_module("accelforge.util.parallel").set_n_parallel_jobs(1)
    import_module("accelforge.mapper.FFM.mappings").Mappings.render = nothing
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)  # it leaves drawings where it runs
        path = Path(folder) / "layer.yaml"
        path.write_text(layer(sizes), encoding="utf-8")
        spec = forge.Spec.from_yaml(str(CHIP), str(path))
        energy = metrics.ENERGY
        spec.mapper.metrics = energy if objective == "energy" else energy | metrics.LATENCY
        began = time.process_time()
        found = spec.map_workload_to_arch(print_progress=False)
        seconds = time.process_time() - began
    joule, cycles = float(found.energy()), float(found.latency())
    print(json.dumps({"energy_pj": joule * 1e12, "cycles": cycles, "cpu_s": seconds}))


if __name__ == "__main__":
    main()
