"""The command line: verbs, exit codes, and how errors reach the user.

Owns: the program `tilewright`, and turning exceptions into messages, JSON and exit codes
(`spec/formats.md`, Commands).

Non-goals: doing anything; every verb calls one function of the layers below.
"""

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress

import typer

from tilewright.cli import (
    codesign,
    compare,
    compile_,
    cores,
    curve,
    design,
    evaluate,
    explain,
    hwc,
    interchange,
    map_,
    report,
    serve,
    show,
    zoo,
)
from tilewright.cli.output import COMMAND, print_json, print_problem, version
from tilewright.errors import (
    INTERRUPTED,
    InfeasibleError,
    InputError,
    MissingToolError,
    Problem,
    SimulationError,
)

BUG, USAGE = 70, 2

app = typer.Typer(
    name="tilewright",
    help="How should a network run on a memory hierarchy, and what does it cost?",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate_command)
app.command("map", epilog=map_.EXAMPLE)(map_.map_command)
app.command("curve", epilog=curve.EXAMPLE)(curve.curve_command)
app.command("cores", epilog=cores.EXAMPLE)(cores.cores_command)
app.command("codesign", epilog=codesign.EXAMPLE)(codesign.codesign_command)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare_command)
app.command("compile", epilog=compile_.EXAMPLE)(compile_.compile_command)
app.command("design", epilog=design.EXAMPLE)(design.design_command)
app.command("explain", epilog=explain.EXAMPLE)(explain.explain_command)
app.command("export", epilog=interchange.EXPORT_EXAMPLE)(interchange.export_command)
app.command("import", epilog=interchange.IMPORT_EXAMPLE)(interchange.import_command)
app.command("hwc", epilog=hwc.EXAMPLE)(hwc.hwc_command)
app.command("report", epilog=report.EXAMPLE)(report.report_command)
app.command("serve", epilog=serve.EXAMPLE)(serve.serve_command)
app.command("show", epilog=show.EXAMPLE)(show.show_command)
app.command("zoo", epilog=zoo.EXAMPLE)(zoo.zoo_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tilewright {version()}")
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
    _: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Find how a network should run on a memory hierarchy, and what it costs."""
    COMMAND.set(context.invoked_subcommand)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code.

    Given `arguments`, it is called from Python, whose threads are none of its business.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = run(given or ["--help"])
    if arguments is None and any(thread.daemon for thread in threading.enumerate()):
        # Compiled code that nobody waits for any more, such as XLA's compiler, would come back to
        # an interpreter that is being torn down, and abort.
        with suppress(OSError):  # nobody reads any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the program; returns its exit code."""
    as_json = "--json" in arguments
    try:
        code = app(arguments, prog_name="tilewright", standalone_mode=False)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return _stop(as_json)
    except Exception as error:
        return _fail(error, as_json)
    return code if isinstance(code, int) else 0


def _stop(as_json: bool) -> int:
    if as_json:
        print_json({"interrupted": True})
    print_problem("stopped")
    return INTERRUPTED


def _fail(error: Exception, as_json: bool) -> int:
    """Show an error in the way that its kind asks for; returns the exit code."""
    if isinstance(error, InputError | MissingToolError | SimulationError):
        return _refuse(error.kind, error.problems, error.exit_code, as_json)
    if isinstance(error, InfeasibleError):
        if as_json:
            found = [violation.to_json() for violation in error.violations]
            print_json({"status": "infeasible", "violations": found})
        for violation in error.violations:
            print_problem(f"does not fit: {violation}")
        return error.exit_code
    complaint = getattr(error, "format_message", None)  # typer's errors have no stable base
    if complaint is not None:
        problem = Problem(str(complaint()), "see tilewright --help")
        return _refuse("usage", (problem,), USAGE, as_json)
    return _report_bug(error, as_json)


def _refuse(kind: str, problems: Sequence[Problem], code: int, as_json: bool) -> int:
    if as_json:
        listed = [problem.to_json() for problem in problems]
        print_json({"error": {"kind": kind, "problems": listed}})
    for problem in problems:
        print_problem(f"error: {problem}")
    return code


def _report_bug(error: Exception, as_json: bool) -> int:
    what = f"a bug in tilewright {version()}: {type(error).__name__}: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.name} in {os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119
    if os.environ.get("TILEWRIGHT_DEBUG"):
        print_problem("".join(traceback.format_exception(error)))
    fix = f"report it with the command and this line: {place}"
    return _refuse("bug", (Problem(what, fix),), BUG, as_json)
