"""What a plan and a run of the convolution block look like in a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.hwc.config import HwcConfig
from tilewright.hwc.study import Plan, Study
from tilewright.report.tables import figures_table

_NAMES = {"I": "inputs", "W": "weights", "O": "sums and results"}


def plan_report(plan: Plan) -> RenderableType:
    """The schedule of a layer and the words that the model expects on every port."""
    table = figures_table("port", "model words")
    for operand, name in _NAMES.items():
        table.add_row(name, f"{plan.words[operand]:,}")
    table.add_row("all, in words of 16 bits", f"{plan.words_16:,}")
    note = Text("\nnot simulated: add --simulate to run the RTL")
    return Group(_heading(plan), table, note)


def study_report(study: Study) -> RenderableType:
    """A run beside the model: results, words on every port, cycles, the baseline."""
    plan, run = study.plan, study.run
    table = figures_table("port", "words", "model", "difference")
    for operand, name in _NAMES.items():
        words, model = run.words[operand], plan.words[operand]
        table.add_row(name, f"{words:,}", f"{model:,}", f"{words - model:,}")
    lines = [
        f"results   {run.results - run.wrong:,} of {run.results:,} as a plain convolution gives",
        f"cycles    {run.cycles:,}; {plan.model_cycles:,} by the model",
        f"MACs busy {study.utilization:.1%} of the cycles, {plan.config.multipliers} multipliers",
        f"traffic   {run.port_words_16:,} words of 16 bits, a sum being two",
        f"simulator {study.simulator}",
    ]
    if study.program.bias:
        lines.append(f"biases    {run.biases:,} fetched; {study.program.bias_words:,} expected")
    if study.cropped:
        sizes = " ".join(f"{dim}{size}" for dim, size in study.cropped.items())
        lines.append(f"cropped   to {sizes}: the whole layer would take long; see --steps")
    parts = (_heading(plan), table, Text(""), Text("\n".join(lines)), Text(""), _baselines(study))
    return Group(*parts)


def _baselines(study: Study) -> Table:
    """How many times the block's traffic each baseline has; `measured` if it ran and agreed."""
    table = figures_table("baseline of the HWCE's class", "words of 16 bits", "times ours", "how")
    for planes, words in study.baselines.items():
        measured = study.measured_baselines.get(planes)
        label = "1 output plane" if planes == 1 else f"{planes} output planes"
        how = "by the formula" if measured is None else "measured"
        moved = words if measured is None else measured
        ratio = moved / study.run.port_words_16
        table.add_row(label, f"{moved:,}", f"{ratio:.1f}", how)
    return table


def _heading(plan: Plan) -> RenderableType:
    title = Text(f"{plan.layer.name} on block {_describe(plan.config)}", style="bold")
    schedule = Text(f"schedule, {plan.status}")
    return Group(title, Text(""), schedule, Text(str(plan.cost.mapping), style="cyan"), Text(""))


def _describe(config: HwcConfig) -> str:
    return (
        f"{config.name}: {config.buffer_bytes:,} bytes of buffers "
        f"({config.input_words} inputs, {config.weight_words} weights, {config.sum_words} sums), "
        f"{config.multipliers} multipliers"
    )
