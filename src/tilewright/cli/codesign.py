"""The verb `codesign`: networks and a space of chips in, chips with mappings out."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.options import (
    BatchOption,
    DefaultConventionOption,
    JsonOption,
    ReportOption,
    ShapeOption,
    WorkloadArgument,
    parse_shapes,
    require_default,
)
from tilewright.cli.output import (
    check_report,
    json_text,
    print_json,
    print_report,
    stamp,
    write_report,
)
from tilewright.errors import INTERRUPTED, InputError, Problem
from tilewright.ir.workload import Network
from tilewright.joint.files import load_space
from tilewright.loading import load
from tilewright.report.describe import Json, add_work, describe_chip
from tilewright.report.document import RESULT
from tilewright.report.files import write_atomically

if TYPE_CHECKING:
    from tilewright.joint.study import OnProgress, Study, StudyProgress

EXAMPLE = "Example: tilewright codesign resnet18 eyeriss-space --max-power 0.5 --max-area 4"


def codesign_command(  # noqa: PLR0913, PLR0917
    workload: WorkloadArgument,
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="A space of chips: a zoo name or a YAML file.")
    ],
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK=WEIGHT", help="One more network, and how much it counts."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="What to minimise: latency, energy, power, area or edp.")
    ] = "latency",
    max_latency: Annotated[float | None, typer.Option(metavar="S", help="At most.")] = None,
    max_energy: Annotated[float | None, typer.Option(metavar="PJ", help="At most.")] = None,
    max_power: Annotated[float | None, typer.Option(metavar="W", help="At most.")] = None,
    max_area: Annotated[float | None, typer.Option(metavar="MM2", help="At most.")] = None,
    max_edp: Annotated[float | None, typer.Option(metavar="PJ·CYCLES", help="At most.")] = None,
    points: Annotated[int, typer.Option(min=1, help="Points of a front.")] = 1,
    versus: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Whose bound is swept for the front.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Time for all together.")] = None,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="Mappings to price in batches.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choices.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that map layers.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler whose workers map.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep a journal there; go on with the one that is there."),
    ] = None,
    exhaustive: Annotated[
        bool | None,
        typer.Option("--exhaustive/--search", help="Map on every chip, or only search."),
    ] = None,
    convention: DefaultConventionOption = "default",
    batch: BatchOption = None,
    shape: ShapeOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
) -> int:
    """Find a chip of a space, and every layer's mapping on it, for one network or several."""
    require_default(convention, "codesign")
    if report is not None:
        check_report(report)
    chips = load_space(space)
    networks = [(load(workload, batch=batch, shapes=parse_shapes(shape)), 1.0)]
    networks += [_weighted(text) for text in also or []]
    bounds = {
        "latency": max_latency,
        "energy": max_energy,
        "power": max_power,
        "area": max_area,
        "edp": max_edp,
    }
    import_module("tilewright.model.batch")  # says what to install if JAX is missing
    from tilewright.joint.study import codesign

    with _progress(networks[0][0].name, seconds) as on_progress:
        study = codesign(
            networks,
            chips,
            objective=objective,
            bounds={name: bound for name, bound in bounds.items() if bound is not None},
            points=points,
            versus=versus,
            evaluations=evaluations,
            seconds=seconds,
            seed=seed,
            jobs=jobs,
            cluster=cluster,
            run=run,
            exhaustive=exhaustive,
            on_progress=on_progress,
        )
    document = _document(study) | stamp({"workload": workload, "space": space}, seed=seed)
    if run is not None:
        write_atomically(run / RESULT, json_text(document))
    if json:
        print_json(document)
    else:
        from tilewright.report.codesign import study_report

        print_report(study_report(study))
    if report is not None:
        write_report(report, document)
    return INTERRUPTED if study.interrupted else 0


def _document(study: "Study") -> Json:
    """The document, with the cost of every layer and what a page needs to draw it."""
    document: Json = study.to_json()
    for entry, point in zip(document["front"], study.front, strict=True):
        entry["hardware"] |= describe_chip(point.hardware)
        add_work(entry["layers"], [choice.layer.workload for choice in point.layers])
        for layer, choice in zip(entry["layers"], point.layers, strict=True):
            layer["cost"] = choice.cost.to_json()
    return document


def _weighted(text: str) -> tuple[Network, float]:
    name, _, weight = text.rpartition("=")
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not name or not value > 0:
        what = f"--also {text}: expected a network and a weight above 0"
        raise InputError(Problem(what, "write --also vgg16=0.5"))
    return load(name), value


@contextmanager
def _progress(name: str, seconds: float | None) -> Generator["OnProgress"]:
    """A line on stderr: what it does, how much is done, the best, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.fields[stage]} for {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[said]}"),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=1.0, said="", stage="searching")

        def show(now: "StudyProgress") -> None:
            spent = time.monotonic() - began
            left = spent / now.done - spent if now.done > 0.02 else None
            if seconds is not None:
                left = seconds - spent
            said = [f"{now.evaluations:,} mappings priced"]
            said += [] if now.best is None else [f"best {now.best:.4g}"]
            said += [] if left is None else [f"about {max(0.0, left):.0f} s left"]
            progress.update(task, completed=now.done, stage=now.stage, said=", ".join(said))

        yield show
