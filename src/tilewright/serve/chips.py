"""A chip as text that somebody edits: its problems with their lines, and fields for a form.

Owns: finding the places of capacities, fan-outs and bandwidths in the text, so that a form can
change them and leave comments and order as they are.
"""

from typing import Any

import yaml

from tilewright.errors import InputError, Source
from tilewright.ir.files import parse_hardware
from tilewright.report.describe import describe_chip

Json = dict[str, Any]

MOST_CHARACTERS = 100_000
_FORM = ("capacity", "bandwidth", "read_bandwidth", "write_bandwidth", "read_pj", "write_pj")


def check_chip(text: str) -> Json:
    """Read a chip's file.

    Returns: `{"problems": […]}`, each with its line and column; without any also `chip` and
    `fields`, the texts that a form may change: `label`, `text`, and where it stands.
    """
    try:
        chip = parse_hardware(Source("chip.yaml", text))
    except InputError as error:
        return {"problems": [problem.to_json() for problem in error.problems]}
    return {"problems": [], "chip": describe_chip(chip), "fields": form_fields(text)}


def form_fields(text: str) -> list[Json]:
    """The fields of a chip's levels that a form shows, with their places in the text.

    >>> form_fields("levels: [{memory: GLB, capacity: 8KiB}]")
    [{'memory': 'GLB', 'label': 'capacity', 'text': '8KiB', 'start': 33, 'end': 37}]
    """
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    levels = _child(node, "levels")
    found: list[Json] = []
    inside: list[yaml.Node] = levels.value if isinstance(levels, yaml.SequenceNode) else []
    for level in inside:
        memory = _child(level, "memory")
        name = str(memory.value) if isinstance(memory, yaml.ScalarNode) else ""
        for key in _FORM:
            found += _fields(name, key, _child(level, key))
        found += _fields(name, "fan-out", _child(level, "fanout"), only=("x", "y"))
    return found


def _fields(
    memory: str, label: str, node: yaml.Node | None, only: tuple[str, ...] = ()
) -> list[Json]:
    if isinstance(node, yaml.ScalarNode):
        start, end = node.start_mark.index, node.end_mark.index
        return [{"memory": memory, "label": label, "text": node.value, "start": start, "end": end}]
    found: list[Json] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(value, yaml.ScalarNode) and (not only or key.value in only):
                found += _fields(memory, f"{label} {key.value}", value)
    return found


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)
