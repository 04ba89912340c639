"""One job of the explorer, in a process of its own: a request in, lines of JSON out.

Owns: what a job does. It reads one request from standard input, and prints lines: `{"progress"}`
now and then, at the end `{"document", "view"}`, or `{"problems"}`. SIGINT ends a search; what was
found until then is the result.

Non-goals: processes and clients (`serve/jobs.py`, `serve/app.py`).
"""

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from tilewright.errors import InfeasibleError, InputError, Source
from tilewright.ir.files import parse_hardware
from tilewright.ir.quantity import parse_capacity
from tilewright.ir.workload import Network
from tilewright.loading import load
from tilewright.report.describe import add_work, describe_chip, describe_network

if TYPE_CHECKING:
    from tilewright.mapper.optimal import Progress

Json = dict[str, Any]
CHIP_FILE = "chip.yaml"
_MOST_BYTES = 12 * 2**30
"""Of address space; a file that asks for more ends its own worker, not the server."""
_BETWEEN = 0.15
"""Seconds from one line of progress to the next."""


def main() -> None:
    """Do the job that stands on standard input."""
    _limit_memory()
    request: Json = json.loads(sys.stdin.readline())
    try:
        say(_VERBS[request["verb"]](request))
    except InputError as error:
        say({"problems": [problem.to_json() for problem in error.problems]})
    except InfeasibleError as error:
        say({"problems": [{"what": v.what, "fix": v.fix} for v in error.violations]})
    except KeyboardInterrupt:
        say({"problems": [{"what": "stopped before anything was found", "fix": ""}]})
    except MemoryError:
        say({"problems": [{"what": "this takes more memory than a job may use", "fix": ""}]})


def say(message: Json) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps(message, allow_nan=False) + "\n")
    sys.stdout.flush()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on every system
        return
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))


def _network(request: Json) -> Network:
    name, layer = request["network"], request.get("layer")
    shapes = {"batch": request["batch"]} if request.get("batch") else {}
    return load(f"{name}:{layer}" if layer else name, **shapes)


def list_layers(request: Json) -> Json:
    """The layers of a network."""
    network = _network(request)
    return {
        "layers": [
            {"name": layer.workload.name, "repeat": layer.repeat, "macs": layer.workload.macs}
            for layer in network.layers
        ],
        "name": network.name,
        "macs": network.macs,
        "not_costed": [{"op": op, "count": count} for op, count in network.not_costed],
    }


def map_layers(request: Json) -> Json:
    """The best mapping of every layer."""
    from tilewright.mapper.network import map_network
    from tilewright.mapper.result import LayerResult

    network = _network(request)
    chip = parse_hardware(Source(CHIP_FILE, request["chip"]))
    done, last = 0, 0.0

    def on_layer(result: LayerResult) -> None:
        nonlocal done
        done += 1
        share = done / len(network.layers)
        say({"progress": {"share": share, "text": f"mapped {result.workload.name}"}})

    def on_progress(name: str, progress: "Progress") -> None:
        nonlocal last
        if time.monotonic() - last < _BETWEEN:
            return
        last = time.monotonic()
        text = f"mapping {name}: {_so_far(progress)}"
        say({"progress": {"share": done / len(network.layers), "text": text}})

    say({"progress": {"share": 0.0, "text": f"mapping {network.name}"}})
    result = map_network(
        network,
        chip,
        objective=request.get("objective", "energy"),
        imperfect=bool(request.get("imperfect")),
        seconds=request.get("seconds"),
        jobs=1,
        on_layer=on_layer,
        on_progress=on_progress,
    )
    document: Json = result.to_json()
    add_work(document["layers"], [layer.workload for layer in result.layers])
    return _shown(document | {"chip": describe_chip(chip)})


def _so_far(progress: "Progress") -> str:
    if progress.incumbent is None or progress.gap is None:
        return f"nothing below {progress.lower_bound:.4g}"
    return f"found {progress.incumbent:.4g}, gap {progress.gap:.1%}"


def find_curve(request: Json) -> Json:
    """The least traffic for buffers of several sizes."""
    from tilewright.mapper.curve import traffic_curve

    network = _network(request)
    ends = [parse_capacity(request[key], 16) for key in ("from", "to")]
    sizes = [ends[0]]
    while sizes and sizes[-1] * 2 <= ends[1]:
        sizes.append(sizes[-1] * 2)
    alone = len(network.layers) == 1 and network.layers[0].repeat == 1
    done = 0

    def on_layer(name: str) -> None:
        nonlocal done
        done += 1
        share = done / len(network.layers)
        say({"progress": {"share": share, "text": f"curve of {name}"}})

    say({"progress": {"share": 0.0, "text": f"curve of {network.name}"}})
    found = traffic_curve(
        network.layers[0].workload if alone else network,
        sizes,
        imperfect=bool(request.get("imperfect")),
        seconds=request.get("seconds"),
        on_layer=on_layer,
    )
    return _shown(found.to_json() | describe_network(network))


def _shown(document: Json) -> Json:
    """A document with its view, made here so that the server need not."""
    from tilewright.report.document import read_document
    from tilewright.report.page import safe_view

    checked = read_document(json.dumps(document), "the result")
    return {"document": document, "view": safe_view(checked)}


_VERBS = {"list": list_layers, "map": map_layers, "curve": find_curve}
VERBS = tuple(_VERBS)


if __name__ == "__main__":
    main()
