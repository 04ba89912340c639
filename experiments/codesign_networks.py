"""Other networks co-designed: least latency within a power and an area, beside its certified floor.

`python experiments/codesign_networks.py [--seconds 45]`: each network on eyeriss-space, as
`tilewright codesign` does it, with the optimal mapper's finish. Writes `networks.md` in `--out`,
which `resnet18_codesign.py` puts into its page.
"""

import argparse
from pathlib import Path

import tilewright as tw
from tilewright.joint.exhaustive import least_latency
from tilewright.joint.study import Study, codesign, gather_layers

NETWORKS = ("vgg16", "mobilenetv2", "resnet50", "bert-base")
TOKENS = 128
SPACE = "eyeriss-space"
BOUNDS = {"power": 0.5, "area": 4.0}


def load(name: str) -> tw.Network:
    """A network of the zoo, or BERT-base: 12 blocks, 12 heads of 64, for TOKENS tokens."""
    return bert() if name == "bert-base" else tw.load(name)


def bert() -> tw.Network:
    def product(label: str, m: int, k: int, n: int, repeat: int) -> tw.Layer:
        sizes = {"M": m, "K": k, "N": n}
        return tw.Layer(tw.einsum(label, "O[M,N] += W[K,N] * I[M,K]", sizes), repeat)

    return tw.Network(
        "bert-base",
        (
            product("projections", TOKENS, 768, 768, 48),
            product("scores", TOKENS, 64, TOKENS, 144),
            product("context", TOKENS, TOKENS, 64, 144),
            product("up", TOKENS, 768, 3072, 12),
            product("down", TOKENS, 3072, 768, 12),
        ),
    )


def row_of(name: str, study: Study, floor_s: float) -> str:
    best = study.best
    if best is None:
        return f"| {name} | none within the bounds | | {1e3 * floor_s:.2f} | | |"
    totals = best.totals.to_json()
    latency, power, area = (float(str(totals[key])) for key in ("latency_s", "power_w", "area_mm2"))
    return (
        f"| {name} | {1e3 * latency:.2f} | {power:.3f}, {area:.2f} | {1e3 * floor_s:.2f} "
        f"| {latency / floor_s:.2f}× | {study.evaluations:,}, {study.solved} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=45.0, help="on the clock, each network")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--out", type=Path, default=Path("build/resnet18-codesign"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    space = tw.load_space(SPACE)
    lines = [
        "## Other networks",
        "",
        f"`python experiments/codesign_networks.py`: {SPACE}, least latency within 0.5 W and",
        f"4 mm², {options.seconds:g} s on the clock of a busy machine, compiling and the optimal",
        "mapper included; by `exact`. The floor holds for all mappings on all chips of the space,",
        f"whatever power and area. BERT-base: the products of 12 blocks for {TOKENS} tokens.",
        "",
        "| network | latency, ms | W, mm² | floor, ms | of the floor | priced, mapped |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.networks.split(","):
        network = load(name)
        floor_s = least_latency(space, gather_layers([(network, 1.0)]))
        study = codesign(network, space, bounds=BOUNDS, seconds=options.seconds)
        lines.append(row_of(name, study, floor_s))
        print(lines[-1], f"{study.seconds:.1f} s", flush=True)
        (options.out / "networks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
