"""From a layer to a run of the block: schedule, program, simulation, and the model beside them.

Owns: the nouns `Plan` and `Study`, and the verbs `plan_layer` and `study_layer`.

Non-goals: how it is shown (`report/hwc.py`).
"""

from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

from tilewright.errors import InfeasibleError
from tilewright.hwc.baseline import CONFIG as BASELINE_CONFIG
from tilewright.hwc.baseline import PLANES, baseline_mapping, baseline_words_16
from tilewright.hwc.config import HwcConfig
from tilewright.hwc.convolution import Convolution, fit_widths, read_convolution
from tilewright.hwc.program import Program, lower
from tilewright.hwc.simulate import Memories, Run, simulate
from tilewright.ir.mapping import Mapping
from tilewright.ir.verify import verify_mapping
from tilewright.ir.workload import Dim, Rank, Workload
from tilewright.mapper.layer import find_mapping
from tilewright.model.cost import Cost
from tilewright.model.evaluate import evaluate

MOST_STEPS = 40_000_000
"""Steps that are simulated unless more are asked for: about a minute in Verilator."""

INTERPRETED_STEPS = 3_000
"""Up to so many steps Amaranth's simulator, which needs no compiler, is fast enough."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A layer's schedule for a block.

    Attributes:
        layer: with the block's word sizes.
        config: the block.
        cost: the schedule and what the model says of it.
        status: `given`, or what the mapper says of the schedule: `optimal`, `best_found`.
    """

    layer: Workload
    config: HwcConfig
    cost: Cost
    status: str

    @property
    def convolution(self) -> Convolution:
        """The layer as a convolution."""
        return read_convolution(self.layer)

    @property
    def words(self) -> dict[str, int]:
        """The model's words on every port."""
        counts = self.cost.counts
        return {o: counts["DRAM", o].reads + counts["DRAM", o].updates for o in "IWO"}

    @property
    def words_16(self) -> int:
        """The model's words of 16 bits on all ports: a sum is two, a result one."""
        output = self.cost.counts["DRAM", "O"]
        results = 1
        for extent in self.convolution.shape("O"):
            results *= extent
        return sum(self.words.values()) + output.reads + output.updates - results

    @property
    def model_cycles(self) -> int:
        """Cycles by the model, with its ramp; every port moves a word a cycle.

        Transfers of operands whose buffer is doubled hide behind the work; for those of the others
        it waits. The first tiles come before any work, the last sums go after it.
        """
        output, doubled = self.cost.counts["DRAM", "O"], self.config.doubled
        ports = {
            "I": [self.words["I"]],
            "W": [self.words["W"]],
            "O": [output.reads, output.updates],
        }
        work = self.steps + sum(sum(ports[o]) for o in "IWO" if o not in doubled)
        hidden = [max(ports[o]) for o in doubled]
        ramp = self.cost.counts.ramp_words
        first = max([ramp["BUF", o] for o in "IW" if o in doubled], default=0)
        last = ramp["BUF", "O"] if "O" in doubled else 0
        return max(work, *hidden, 0) + first + last

    @property
    def steps(self) -> int:
        """Steps of the nest with the dims that the block works on in parallel."""
        return self.program.steps_taken

    @property
    def program(self) -> Program:
        """What the block runs, results not shifted."""
        return lower(self.cost.mapping, self.layer, self.config)


@dataclass(frozen=True, slots=True)
class Study:
    """A plan that was run.

    Attributes:
        plan: of the layer, cropped if `cropped`.
        program: what ran.
        run: what happened.
        simulator: where.
        cropped: the dims of the layer that were cut, and the sizes that they were cut to.
        baselines: 16-bit words of the baseline by output planes.
        measured_baselines: those of them that ran, too.
    """

    plan: Plan
    program: Program
    run: Run
    simulator: str
    cropped: dict[str, int]
    baselines: dict[int, int]
    measured_baselines: dict[int, int]

    @property
    def agrees(self) -> bool:
        """Whether the words on every port are the model's, exactly."""
        return self.run.words == self.plan.words

    @property
    def utilization(self) -> float:
        """Multiply-accumulates per multiplier and cycle."""
        return self.plan.layer.macs / (self.run.cycles * self.plan.config.multipliers)

    @property
    def ratio(self) -> float:
        """The words of the baseline with one plane, over the block's, in words of 16 bits."""
        return self.baselines[1] / self.run.port_words_16

    def to_json(self) -> dict[str, object]:
        """The study as a JSON object (`spec/formats.md`, `hwc --simulate`)."""
        run, plan = self.run, self.plan
        return plan_json(plan) | {
            "correct": run.is_correct,
            "agrees": self.agrees,
            "simulator": self.simulator,
            "cropped": self.cropped,
            "cycles": run.cycles,
            "steps": run.steps,
            "utilization": self.utilization,
            "biases": {"words": run.biases, "model_words": self.program.bias_words},
            "words_per_cycle": sum(run.words.values()) / run.cycles,
            "ports": {
                o: {"words": run.words[o], "model_words": plan.words[o]} for o in ("I", "W", "O")
            },
            "sums_in": run.sums_in,
            "sums_out": run.sums_out,
            "words_16": run.port_words_16,
            "baselines": {
                str(planes): {
                    "words_16": words,
                    "measured_words_16": self.measured_baselines.get(planes),
                    "ratio": words / run.port_words_16,
                }
                for planes, words in self.baselines.items()
            },
            "baseline_words": self.baselines[1],
            "ratio": self.ratio,
        }


def plan_json(plan: Plan) -> dict[str, object]:
    """A plan as a JSON object."""
    words_16 = plan.words_16
    baseline = baseline_words_16(plan.convolution, 1)
    return {
        "layer": plan.layer.name,
        "config": plan.config.name,
        "buffer_bytes": plan.config.buffer_bytes,
        "mapping": str(plan.cost.mapping),
        "status": plan.status,
        "macs": plan.layer.macs,
        "model_cycles": plan.model_cycles,
        "ports": {o: {"words": None, "model_words": plan.words[o]} for o in ("I", "W", "O")},
        "model_words_16": words_16,
        "baseline_words": baseline,
        "ratio": baseline / words_16,
        "dram_limit_words": plan.cost.limit.words,
    }


def plan_layer(
    layer: Workload,
    config: HwcConfig,
    mapping: Mapping | None = None,
    *,
    seconds: float | None = None,
    seed: int = 0,
) -> Plan:
    r"""Find a schedule for a layer on a block, or price the one given.

    Args:
        layer: a convolution with operands W, I and O.
        config: the block.
        mapping: the schedule; without it, the one of least words on the ports that is found.
        seconds: time for finding it.
        seed: of the search.

    Raises:
        InputError: the layer is no convolution, or the mapping none for it.
        InfeasibleError: no schedule fits, or the one given does not.

    >>> from tilewright.hwc.config import load_config
    >>> from tilewright.ir.mapping import parse_mapping
    >>> from tilewright.ir.workload import conv2d
    >>> layer = conv2d("c", K=2, C=3, P=4, Q=4, R=3, S=3)
    >>> nest = parse_mapping("DRAM[W I O]: K2\nBUF[W]: P4\nBUF[I O]: Q4 C3 R3 S3")
    >>> plan_layer(layer, load_config("tiny"), nest).words
    {'I': 216, 'W': 54, 'O': 32}
    """
    read_convolution(layer)
    work, chip = fit_widths(layer, config), config.to_hardware()
    if mapping is not None:
        verify_mapping(work, chip, mapping)
        return Plan(work, config, evaluate(work, chip, mapping), "given")
    from tilewright.hwc.schedule import find_schedule

    found = find_schedule(work, config, seconds=seconds)
    if found is not None:
        return Plan(work, config, found.cost, found.status.value)
    result = find_mapping(
        work, chip, objective="dram", uneven=True, imperfect=True, seconds=seconds, seed=seed
    )
    if result.cost is None:
        raise InfeasibleError(result.violations)
    return Plan(work, config, result.cost, result.status.value)


def crop_plan(plan: Plan, most_steps: int) -> tuple[Plan, dict[str, int]]:
    """The same schedule for a corner of the layer, so that it takes fewer steps.

    Rows, columns and output channels are cut to whole tiles of sums, the dim of most tiles first;
    if one tile is still too long, rows and columns further.

    Returns: the plan, and the sizes that dims were cut to.
    """
    if plan.steps <= most_steps:
        return plan, {}
    sizes, tile = plan.layer.sizes, plan.program.spans["O"]
    tiles = {dim: -(-sizes.get(dim, 1) // tile[dim]) for dim in "PQK"}
    cropped, cut = plan, dict[str, int]()
    while cropped.steps > most_steps and max(tiles.values()) > 1:
        most = max(tiles, key=lambda dim: tiles[dim])
        tiles[most] = -(-tiles[most] // 2)
        cut[most] = tiles[most] * tile[most]
        cropped = _cropped(plan, cut)
    if cropped.steps > most_steps:
        share = sqrt(most_steps / cropped.steps)
        cut |= {dim: max(1, int(tile[dim] * share)) for dim in "PQ"}
        cropped = _cropped(plan, cut)
    return cropped, {dim: size for dim, size in cut.items() if size < sizes.get(dim, 1)}


def _cropped(plan: Plan, cut: dict[str, int]) -> Plan:
    layer = _crop(plan.layer, cut)
    cost = evaluate(layer, plan.config.to_hardware(), plan.cost.mapping)
    return replace(plan, layer=layer, cost=cost)


def _crop(layer: Workload, cut: dict[str, int]) -> Workload:
    """The layer with some of its sizes cut, and its input cut to what is then touched."""
    dims = tuple(Dim(dim.name, cut.get(dim.name, dim.size)) for dim in layer.dims)
    sizes = {dim.name: dim.size for dim in dims}

    def crop_rank(rank: Rank) -> Rank:
        if rank.data is None:
            return rank
        reach = 1 + sum(term.coefficient * (sizes[term.dim] - 1) for term in rank.terms)
        return replace(rank, data=(rank.data[0], min(rank.data[1], reach)))

    inputs = tuple(
        replace(operand, ranks=tuple(map(crop_rank, operand.ranks))) for operand in layer.inputs
    )
    return replace(layer, dims=dims, inputs=inputs)


def study_layer(  # noqa: PLR0913
    plan: Plan,
    *,
    simulator: str | None = None,
    memories: Memories | None = None,
    most_steps: int = MOST_STEPS,
    seed: int = 0,
    measure: tuple[int, ...] = (),
    vcd: Path | None = None,
    bias: bool = False,
    relu: bool = False,
) -> Study:
    """Run a plan on the block's RTL.

    Args:
        plan: from `plan_layer`.
        simulator: `amaranth` or `verilator`; without it, whichever suits the length of the run.
        memories: how the memories at the ports behave.
        most_steps: a longer layer is cropped in space.
        seed: of the operands.
        measure: the baselines that are run, too, by output planes.
        vcd: where to write the waveforms.
        bias: add a bias to every output channel.
        relu: cut results off below 0.

    Raises:
        InfeasibleError: the block cannot run the schedule.
        MissingToolError: Amaranth or Verilator is not installed.
        SimulationError: the block is stuck.
    """
    lower(plan.cost.mapping, plan.layer, plan.config)  # refused before anything is built
    cropped, cut = crop_plan(plan, most_steps)
    program = replace(cropped.program, shift=_shift(plan.layer), bias=bias, relu=relu)
    short = program.steps_taken <= INTERPRETED_STEPS
    chosen = simulator or ("amaranth" if short else "verilator")
    run = simulate(program, plan.config, simulator=chosen, memories=memories, seed=seed, vcd=vcd)
    convolution = cropped.convolution
    baselines = {planes: baseline_words_16(convolution, planes) for planes in PLANES}
    measured = {
        planes: run_baseline(cropped.layer, planes, simulator=chosen, seed=seed)
        for planes in measure
    }
    wrong = sum(other.wrong for other in measured.values())
    words = {planes: other.port_words_16 for planes, other in measured.items()}
    return Study(
        cropped, program, replace(run, wrong=run.wrong + wrong), chosen, cut, baselines, words
    )


def run_baseline(
    layer: Workload,
    planes: int,
    *,
    config: HwcConfig = BASELINE_CONFIG,
    simulator: str = "verilator",
    seed: int = 0,
) -> Run:
    """Run the baseline's nest, with so many output planes, on this RTL with HWCE's buffers."""
    work = fit_widths(layer, config)
    mapping = baseline_mapping(read_convolution(work), planes)
    program = lower(mapping, work, config, shift=_shift(layer))
    return simulate(program, config, simulator=simulator, seed=seed)


def _shift(layer: Workload) -> int:
    """Enough that sums of random words rarely saturate."""
    products = max(1, layer.macs // max(1, _outputs(layer)))
    return min(31, 14 + products.bit_length() // 2)


def _outputs(layer: Workload) -> int:
    count = 1
    for dim in layer.output.dims:
        count *= layer.sizes[dim]
    return count
