"""The verb `zoo`: what is built in, and its files to start one's own from."""

import sys
from typing import Annotated

import typer

from tilewright import tech, zoo
from tilewright.cli.options import JsonOption
from tilewright.cli.output import print_json, print_report, stamp
from tilewright.joint.files import load_space

EXAMPLE = "Example: tilewright zoo eyeriss > my-chip.yaml"


def zoo_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Prints the file of that entry.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """List the networks, chips, spaces of chips and technology tables that are built in."""
    if name is not None:
        text = zoo.entry_text(name)
        if json:
            print_json({"name": name, "file": text} | stamp({"entry": name}))
        else:
            sys.stdout.write(text)
        return 0
    if json:
        print_json(_listing() | stamp({}))
        return 0
    from tilewright.report.tables import zoo_report

    print_report(zoo_report())
    return 0


def _listing() -> dict[str, object]:
    networks = [zoo.load_network(name) for name in zoo.network_names()]
    chips = [zoo.load_hardware(name) for name in zoo.hardware_names()]
    spaces = [load_space(name) for name in zoo.space_names()]
    tables = [tech.find_technology(name) for name in tech.technology_names()]
    return {
        "networks": [{"name": n.name, "macs": n.macs, "source": n.source} for n in networks],
        "hardware": [{"name": c.name, "mac_units": c.mac_units, "source": c.source} for c in chips],
        "spaces": [{"name": s.name, "chips": s.size, "source": s.source} for s in spaces],
        "technologies": [{"name": t.name, "source": t.source} for t in tables],
    }
