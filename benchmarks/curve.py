"""How fast traffic curves are found, layer by layer: writes benchmarks/CURVE.md.

One process, every distinct layer once after a first one to warm up; 11 buffers, 1 KiB to 1 MiB.
Time is that of the processor, so that a busy machine does not count.
"""

import platform
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import tilewright
from tilewright import zoo
from tilewright.mapper.curve import traffic_curve

NETWORKS = ("alexnet", "vgg16", "resnet18", "resnet50", "mobilenetv2")
KINDS = ((False, False), (False, True), (True, False), (True, True))
"""Uneven, imperfect."""
TARGETS = {(False, False): 0.3, (True, True): 2.0}
"""Seconds a layer."""
CAPACITIES = tuple(1024 * 8 * 2**n for n in range(11))


@dataclass(frozen=True)
class Row:
    network: str
    uneven: bool
    imperfect: bool
    seconds: list[float]
    slowest: str
    proved: int

    def __str__(self) -> str:
        kind = f"{'uneven' if self.uneven else 'even'}, "
        kind += "imperfect" if self.imperfect else "perfect"
        target = TARGETS.get((self.uneven, self.imperfect))
        met = "–" if target is None else f"{sum(s <= target for s in self.seconds)} of "
        met += "" if target is None else f"{len(self.seconds)} within {target:g} s"
        points = len(self.seconds) * len(CAPACITIES)
        return (
            f"| {self.network} | {kind} | {statistics.median(self.seconds):.3f} | "
            f"{max(self.seconds):.2f} | {self.slowest} | {met} | {self.proved} of {points} |"
        )


def measure(network: str, uneven: bool, imperfect: bool) -> Row:
    seconds: list[float] = []
    names: list[str] = []
    proved = 0
    for layer in zoo.load_network(network).layers:
        began = time.process_time()
        found = traffic_curve(layer.workload, CAPACITIES, uneven=uneven, imperfect=imperfect)
        seconds.append(time.process_time() - began)
        names.append(layer.workload.name)
        proved += sum(point.status.value == "optimal" for point in found.points)
    slowest = names[seconds.index(max(seconds))]
    return Row(network, uneven, imperfect, seconds, slowest, proved)


def main() -> None:
    first = zoo.load_network("resnet18").layers[0].workload
    for uneven, imperfect in KINDS:
        traffic_curve(first, CAPACITIES[:1], uneven=uneven, imperfect=imperfect)
    rows = [measure(network, *kind) for network in NETWORKS for kind in KINDS]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    text = [
        "# How fast traffic curves are found",
        "",
        "Written by `make bench-curve`: one process, processor time, every distinct layer,",
        "11 buffers from 1 KiB to 1 MiB. Asked for: 0.3 s a layer even and perfect, 2 s uneven and",
        f"imperfect. Peak memory {memory:.2f} GiB.",
        "",
        "| network | mapspace | median s | worst s | slowest layer | target | points proved |",
        "|---|---|---|---|---|---|---|",
        *map(str, rows),
        "",
        f"tilewright {tilewright.__version__}, Python {platform.python_version()} on",
        f"{platform.machine()}. Nothing is random: there is no seed.",
    ]
    (Path(__file__).parent / "CURVE.md").write_text("\n".join(text) + "\n", "utf-8")


if __name__ == "__main__":
    main()
