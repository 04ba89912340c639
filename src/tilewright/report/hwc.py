"""What a plan and a run of the convolution block look like in a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.hwc.config import HwcConfig
from tilewright.hwc.study import Plan, Study

_NAMES = {"I": "inputs", "W": "weights", "O": "sums and results"}


def plan_report(plan: Plan, width: int) -> RenderableType:
    """The schedule of a layer and the words that the model expects on every port."""
    table = _table(width, "port", "model words")
    for operand, name in _NAMES.items():
        table.add_row(name, f"{plan.words[operand]:,}")
    table.add_row("all, in words of 16 bits", f"{plan.words_16:,}")
    return Group(_heading(plan), table, Text("not simulated: add --simulate to run the RTL"))


def study_report(study: Study, width: int) -> RenderableType:
    """A run beside the model: results, words on every port, cycles, the baseline."""
    plan, run = study.plan, study.run
    table = _table(width, "port", "words", "model", "difference")
    for operand, name in _NAMES.items():
        words, model = run.words[operand], plan.words[operand]
        table.add_row(name, f"{words:,}", f"{model:,}", f"{words - model:,}")
    lines = [
        f"results   {run.results - run.wrong:,} of {run.results:,} as a plain convolution gives",
        f"cycles    {run.cycles:,}; {plan.model_cycles:,} by the model",
        f"MACs busy {study.utilization:.1%} of the cycles, {plan.config.multipliers} multipliers",
        f"traffic   {run.port_words_16:,} words of 16 bits, a sum being two",
        f"baseline  {_baselines(study)}",
        f"simulator {study.simulator}",
    ]
    if study.program.bias:
        lines.append(f"biases    {run.biases:,} fetched; {study.program.bias_words:,} expected")
    if study.cropped:
        sizes = " ".join(f"{dim}{size}" for dim, size in study.cropped.items())
        lines.append(f"cropped   to {sizes}: the whole layer would take long; see --steps")
    return Group(_heading(plan), table, Text("\n".join(lines)))


def _baselines(study: Study) -> str:
    """How many times the block's traffic each baseline has; `measured` if it ran and agreed."""
    found: list[str] = []
    for planes, words in study.baselines.items():
        measured = study.measured_baselines.get(planes)
        how = "by the formula" if measured is None else f"{measured:,} measured"
        label = "plane" if planes == 1 else "planes"
        times = (measured or words) / study.run.port_words_16
        found.append(f"{planes} {label} {times:.1f}× as much ({how})")
    return ", ".join(found)


def _heading(plan: Plan) -> RenderableType:
    title = Text(f"{plan.layer.name} on block {_describe(plan.config)}", style="bold")
    return Group(title, Text(f"schedule ({plan.status}):"), Text(str(plan.cost.mapping)))


def _describe(config: HwcConfig) -> str:
    return (
        f"{config.name}: {config.buffer_bytes:,} bytes of buffers "
        f"({config.input_words} inputs, {config.weight_words} weights, {config.sum_words} sums), "
        f"{config.multipliers} multipliers"
    )


def _table(width: int, *columns: str) -> Table:
    table = Table(width=min(width, 80))
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table
