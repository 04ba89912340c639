"""The figures of docs/concepts, drawn from what the library counts and proves.

Writes docs/figures/concept-*.svg. Every number in them is computed here: none is typed in.
"""

import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import tilewright as tw
from tilewright.mapper.traffic import least_traffic
from tilewright.report.picture import draw_nest

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
WIDTH = 760
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1b1f24 }
.title { font-size: 15px; font-weight: 700 } .small { font-size: 12px; fill: #57606a }
.on { fill: #fff; font-weight: 700 } .ground { fill: #fff }
.frame { fill: none; stroke: #8c959f } .grid { stroke: #e1e4e8 }
.mark { stroke: #1b1f24; stroke-width: 2 } .kept { fill: #d0d7de } .idle { fill: #f6f8fa }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .on { fill: #fff } .ground { fill: #0d1117 }
  .frame { stroke: #656c76 } .grid { stroke: #2a313c } .mark { stroke: #e6edf3 }
  .kept { fill: #3d444d } .idle { fill: #161b22 }
}
"""

LAYER = "resnet18:layer2.0.conv1"
BY_HAND = "DRAM[W I O]: K4 P2 C4\nGLB[I O]: C8 Q28 | K4@y R3@y P14@x\nRF[W I O]: C2 K8 S3"
CURVED = tw.conv2d("small_conv", K=32, C=32, P=28, Q=28, R=3, S=3, padding=1)
UNEVEN = "resnet18:layer4.0.conv1"
CAPACITY_BITS = 2048 * 8
"""Of the one buffer in which even and uneven mappings are compared: 2 KiB, 16-bit words."""


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    at = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {at} class="{style}">{escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    look = f'class="{fill}"' if not fill.startswith("#") else f'fill="{fill}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" {look}/>'


def _picture(title: str, height: int, body: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            _text(16, 28, title, "title"),
            *body,
            "</svg>",
        ]
    )


def _bars(title: str, rows: Sequence[tuple[str, float, str]], note: str = "") -> str:
    """Horizontal bars on a scale from 0: (name, value, what is written behind it)."""
    left, room, step = 196, 360, 34
    most = max(value for _, value, _ in rows)
    body: list[str] = []
    for number, (name, value, words) in enumerate(rows):
        y = 48 + step * number
        body.append(_text(left - 10, y + 16, name, "", "end"))
        body.append(_box(left, y, room * value / most, 22, _COLOURS[number % len(_COLOURS)]))
        body.append(_text(left + room * value / most + 8, y + 16, words, "small"))
    height = 48 + step * len(rows)
    if note:
        body.append(_text(16, height + 14, note, "small"))
        height += 22
    return _picture(title, height + 8, body)


def mapping() -> str:
    """The mapping of the README as a nest with its tiles."""
    return draw_nest(tw.evaluate(tw.load_layer(LAYER), tw.zoo.eyeriss(), BY_HAND))


def one_buffer(bits: int) -> tw.Hardware:
    """DRAM and one shared buffer, as curves have it."""
    return tw.Hardware("one buffer", (tw.Level("DRAM"), tw.Level("BUF", capacity=bits)))


def uneven() -> str:
    """The best uneven mapping of a late layer, one buffering level per operand."""
    layer = tw.load_layer(UNEVEN)
    (best,) = least_traffic(layer, [CAPACITY_BITS], uneven=True)
    return draw_nest(tw.evaluate(layer, one_buffer(CAPACITY_BITS), best.cost.mapping))


def uneven_words() -> str:
    """The least traffic in each of the four mapspaces."""
    layer = tw.load_layer(UNEVEN)
    rows: list[tuple[str, float, str]] = []
    for is_uneven in (False, True):
        for is_clipped in (False, True):
            (best,) = least_traffic(layer, [CAPACITY_BITS], uneven=is_uneven, imperfect=is_clipped)
            kind = f"{'uneven' if is_uneven else 'even'}, {'im' if is_clipped else ''}perfect"
            rows.append((kind, best.words, f"{best.words:,} words, {best.status.value}"))
    limit = tw.dram_limit(layer, one_buffer(CAPACITY_BITS))
    rows.append(("tighter bound", limit.bound_words, f"{limit.bound_words:,.0f}"))
    rows.append(("physical limit", limit.words, f"{limit.words:,.0f}"))
    return _bars(f"{UNEVEN}: least words to and from DRAM, 2 KiB", rows)


def imperfect() -> str:
    """A dim of 28 cut perfectly and imperfectly where a tile may have at most 10."""
    size, left, unit = 28, 150, 19.8
    body: list[str] = []
    for row, (name, tile) in enumerate(
        (("perfect: P4 outside P7", 7), ("imperfect: P3 of P10", 10))
    ):
        y = 52 + 66 * row
        body.append(_text(16, y + 22, name.split(":")[0], ""))
        body.append(_text(16, y + 38, name.split(": ")[1], "small"))
        for number, base in enumerate(range(0, size, tile)):
            length = min(tile, size - base)
            x = left + unit * base
            body.append(_box(x + 1, y, unit * length - 2, 36, _COLOURS[number]))
            body.append(_text(x + unit * length / 2, y + 23, str(length), "on", "middle"))
            if length < tile:
                body.append(
                    f'<rect class="frame" stroke-dasharray="4 3" x="{x + unit * length:.1f}" '
                    f'y="{y}" width="{unit * (tile - length):.1f}" height="36"/>'
                )
    body.append(
        _text(
            16, 190, "The dashed part does not exist: it is not fetched, counted or timed.", "small"
        )
    )
    return _picture("28 rows in tiles of at most 10", 206, body)


def sliding() -> str:
    """Rows of input under tiles of output that move by two rows, filter of three."""
    rows, filter_rows, steps, unit, left = 2, 3, 4, 30, 170
    tile = rows + filter_rows - 1
    body: list[str] = []
    for step in range(steps):
        y = 50 + 46 * step
        body.append(_text(16, y + 20, f"step {step + 1}"))
        for row in range(rows * steps + filter_rows - 1):
            x = left + unit * row
            inside = rows * step <= row < rows * step + tile
            old = step > 0 and row < rows * (step - 1) + tile
            fill = "idle" if not inside else "kept" if old else _COLOURS[0]
            body.append(_box(x, y, unit - 3, 30, fill))
        fresh = tile if step == 0 else rows
        words = f"fills {fresh} rows" + ("" if step == 0 else f", keeps {tile - rows}")
        body.append(
            _text(left + unit * (rows * steps + filter_rows - 1) + 14, y + 20, words, "small")
        )
    note = "Blue is fetched, grey is the halo: it is there already. `refetch` fetches both."
    body.append(_text(16, 50 + 46 * steps + 12, note, "small"))
    return _picture("Rows of input that a tile of two output rows needs (filter 3)", 256, body)


SLIDES = "DRAM[W I O]: P14\nBUF[W I O]: K32 C32 P2 Q28 R3 S3"


def conventions() -> str:
    """What each convention counts for one mapping whose tile slides."""
    rows: list[tuple[str, float, str]] = []
    for name in tw.CONVENTIONS:
        cost = tw.evaluate(CURVED, one_buffer(1 << 30), SLIDES, convention=name)
        rows.append((name, cost.dram_words, f"{cost.dram_words:,} words"))
    return _bars("Words to and from DRAM of one mapping, by convention", rows)


def certificates() -> str:
    """Energy of one layer: by hand, with a dataflow fixed, free; and the bound of the last."""
    layer, chip = tw.load_layer(LAYER), tw.zoo.eyeriss()
    hand = tw.evaluate(layer, chip, BY_HAND)
    fixed = tw.find_mapping(layer, chip, fix="GLB: | R@y P@x")
    free = tw.find_mapping(layer, chip)
    rows = [("by hand", hand.energy_pj / 1e6, f"{hand.energy_pj / 1e6:,.1f} µJ")]
    for name, found in (("R@y P@x, the rest free", fixed), ("all free", free)):
        assert found.cost is not None
        energy = found.cost.energy_pj / 1e6
        rows.append((name, energy, f"{energy:,.1f} µJ, {found.status.value}"))
    assert free.lower_bound is not None
    bound = free.lower_bound / 1e6
    rows.append(("lower bound of all free", bound, f"{bound:,.1f} µJ: no mapping takes less"))
    return _bars(f"{LAYER} on eyeriss: energy", rows)


DRAWN: dict[str, Callable[[], str]] = {
    "concept-mapping": mapping,
    "concept-uneven": uneven,
    "concept-mapspaces": uneven_words,
    "concept-imperfect": imperfect,
    "concept-sliding": sliding,
    "concept-conventions": conventions,
    "concept-certificates": certificates,
}


def main() -> None:
    """Draw every figure, or those that are named."""
    for name in sys.argv[1:] or DRAWN:
        (FIGURES / f"{name}.svg").write_text(DRAWN[name]() + "\n", encoding="utf-8")
        print(f"wrote {name}.svg")


if __name__ == "__main__":
    main()
