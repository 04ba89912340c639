"""The first lines that run: Ctrl-C ends the program without a traceback while it loads, too.

Owns: loading the command line so that an interrupt meanwhile is an interrupt like any other.
"""

import sys

from tilewright.errors import INTERRUPTED


def main() -> None:
    """Load the program and run it; stopped while it loads, it says so and leaves with 130."""
    try:
        from tilewright.cli.main import main as run_program
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(INTERRUPTED)
    run_program()
