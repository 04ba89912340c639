"""A front of ten points for ResNet-18 in ten minutes: latency against power within 4 mm².

`python experiments/codesign_ten.py [--seconds 600] [--jobs 2]`, or `--document FILE` with what
`tilewright codesign resnet18 eyeriss-space --points 10 --versus power --max-area 4 --seconds 600
--jobs 2 --json` printed. Writes `ten.md` in `--out`, for the page of `resnet18_codesign.py`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import tilewright as tw
from tilewright.joint.exhaustive import least_latency
from tilewright.joint.study import codesign, gather_layers

SPACE = "eyeriss-space"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0, help="on the clock")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/resnet18-codesign"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    network, space = tw.load("resnet18"), tw.load_space(SPACE)
    if options.document is None:
        document: dict[str, Any] = codesign(
            network,
            space,
            bounds={"area": 4.0},
            points=10,
            versus="power",
            seconds=options.seconds,
            jobs=options.jobs,
        ).to_json()
    else:
        document = json.loads(options.document.read_text("utf-8"))
    floor_ms = 1e3 * least_latency(space, gather_layers([(network, 1.0)]))
    (options.out / "ten.md").write_text(table(document, floor_ms), encoding="utf-8")


def bound_ms(point: dict[str, Any]) -> str:
    """What no mappings on the chip undercut, by the layers that the mapper has bounds for."""
    bound = 1e3 * point["lower_bound_on_chip"]
    return f"{bound:.2f}" if bound > 0 else "not known"


def table(document: dict[str, Any], floor_ms: float) -> str:
    """The front as a table."""
    front: list[dict[str, Any]] = document["front"]
    lines = [
        "## Ten points",
        "",
        "`python experiments/codesign_ten.py`: latency against power within 4 mm²;",
        f"{len(front)} points after {document['seconds']:.0f} s on the clock of a busy machine of",
        f"two cores, {document['evaluations']:,} mappings priced in batches, {document['solved']}",
        "layers mapped by the optimal mapper. No chip of the space is faster than",
        f"{floor_ms:.2f} ms.",
        "",
        "| latency, ms | power, W | area, mm² | no mappings on this chip below, ms | chip |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {1e3 * p['latency_s']:.2f} | {p['power_w']:.4f} | {p['area_mm2']:.3f} "
        f"| {bound_ms(p)} | {p['hardware']['name']} |"
        for p in front
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
