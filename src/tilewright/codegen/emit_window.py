"""The kernel of depthwise convolutions and of pooling: every channel by itself, lanes of channels.

Owns: the C of a tile of pixels, and of a block of rows of a block of channels.
"""

from collections.abc import Iterator

from tilewright.codegen.emit_product import clipped, first_column
from tilewright.codegen.text import Text
from tilewright.codegen.tiling import MOST_PATTERNS, MOST_UNROLLED, Plan, Run, runs

_TILE = "const element *x, const element *w, const element *bias, element *y"


def emit_window(plan: Plan, text: Text) -> None:
    """Write the functions that compute a block."""
    shape = plan.shape
    rows, columns = runs(shape.rows, 1), runs(shape.columns, plan.blocking.width)
    patterns = len({run.taps for run in rows}) * len({run.taps for run in columns})
    size = shape.taps * plan.blocking.width
    if size <= MOST_UNROLLED and patterns <= MOST_PATTERNS * 2:
        _unrolled(plan, text, rows, columns)
    else:
        _rolled(plan, text)


def _unrolled(plan: Plan, text: Text, rows: list[Run], columns: list[Run]) -> None:
    names: dict[tuple[tuple[range, ...], tuple[range, ...]], str] = {}
    for row in rows:
        for run in columns:
            if (row.taps, run.taps) not in names:
                name = f"{plan.prefix}tile_{run.width}_{len(names)}"
                names[row.taps, run.taps] = name
                _tile(plan, text, name, row, run)
    with _block(plan, text):
        for row in rows:
            first, stop = row.start, row.start + row.count
            low = f"p0 > {first} ? p0 : {first}" if first else "p0"
            high = f"p1 < {stop} ? p1 : {stop}" if stop < plan.shape.rows.places else "p1"
            with text.block(f"for (long p = {low}; p < ({high}); p++)"):
                _tiles(plan, text, row, columns, names)


def _tiles(
    plan: Plan,
    text: Text,
    row: Run,
    columns: list[Run],
    names: dict[tuple[tuple[range, ...], tuple[range, ...]], str],
) -> None:
    """All tiles of a row. Pointers stand at the first tap that is real."""
    shape = plan.shape
    above = row.taps[0].start * shape.rows.dilation - shape.rows.before
    text.line(
        f"const element *xr = x + (p * {shape.rows.stride} + {above})"
        f" * {shape.columns.size}L * LANES;"
    )
    text.line(f"element *yr = y + p * {shape.columns.places}L * LANES;")
    for run in columns:
        name = names[row.taps, run.taps]
        call = f"{name}(xr + {{column}} * LANES, w, bias, yr + {{place}} * LANES);"
        start = first_column(shape.columns, run) - shape.columns.before
        if run.count == 1:
            at = run.start * shape.columns.stride + start
            text.line(call.format(column=at, place=run.start))
            continue
        stop = run.start + run.count * run.width
        with text.block(f"for (long q = {run.start}; q < {stop}; q += {run.width})"):
            text.line(call.format(column=f"(q * {shape.columns.stride} + {start})", place="q"))


def _tile(plan: Plan, text: Text, name: str, row: Run, run: Run) -> None:
    shape = plan.shape
    columns = shape.columns
    width = run.width
    with text.block(f"static void {name}({_TILE})"):
        _start(plan, text, width)
        start = first_column(columns, run)
        for r in row.taps[0]:
            line = (r - row.taps[0].start) * shape.rows.dilation * columns.size
            if not shape.pool:
                taps = sorted({tap for taps in run.taps for tap in taps})
                loads = [f"w{s} = load(w + {r * columns.taps + s} * LANES)" for s in taps]
                text.open("")
                text.line(f"const vec {', '.join(loads)};" if loads else "")
            for column, uses in _uses(plan, run).items():
                work = " ".join(_use(plan, place, f"w{tap}") for place, tap in uses)
                at = f"({line}L + {column - start}) * LANES"
                text.line(f"{{ const vec v = load(x + {at}); {work} }}")
            if not shape.pool:
                text.close()
        counts = [len(row.taps[0]) * len(taps) for taps in run.taps]
        for place in range(width):
            _finish(plan, text, place, str(counts[place]))


def _uses(plan: Plan, run: Run) -> dict[int, list[tuple[int, int]]]:
    """For every column that a tile reads: the places that use it, and with which tap."""
    columns = plan.shape.columns
    found: dict[int, list[tuple[int, int]]] = {}
    for place, taps in enumerate(run.taps):
        for tap in taps:
            column = place * columns.stride + tap * columns.dilation
            found.setdefault(column, []).append((place, tap))
    return dict(sorted(found.items()))


def _use(plan: Plan, place: int, weight: str) -> str:
    if plan.shape.pool == "max":
        return f"s{place} = larger(s{place}, v);"
    if plan.shape.pool:
        return f"s{place} += v;"
    return f"MAC(s{place}, v, {weight});"


def _start(plan: Plan, text: Text, width: int) -> None:
    sums = [f"s{place}" for place in range(width)]
    value = "load(bias)"
    if plan.shape.pool:
        low = "-__builtin_inff()" if plan.shape.pool == "max" else "0"
        value = f"(vec){{{', '.join([low] * plan.target.lanes)}}}"
        text.line("(void)w, (void)bias;")
    text.line(f"vec {', '.join(sums)};")
    text.line(f"{' = '.join(sums)} = {value};")


def _finish(plan: Plan, text: Text, place: int, count: str) -> None:
    if plan.shape.pool == "average":
        text.line(f"s{place} *= 1.0f / {count};")
    if plan.shape.relu:
        text.line(f"s{place} = relu(s{place});")
    text.line(f"store(y + {place} * LANES, s{place});")


def _rolled(plan: Plan, text: Text) -> None:
    """Large filters: taps are loops, pixels are done one by one."""
    shape = plan.shape
    rows, columns = shape.rows, shape.columns
    with _block(plan, text), text.block("for (long p = p0; p < p1; p++)"):
        text.line(f"const long h = p * {rows.stride} - {rows.before};")
        low, high = clipped("h", rows.size, rows.taps, rows.dilation)
        text.line(f"const long r0 = {low};")
        text.line(f"const long r1 = {high};")
        with text.block(f"for (long q = 0; q < {columns.places}; q++)"):
            text.line(f"const long column = q * {columns.stride} - {columns.before};")
            low, high = clipped("column", columns.size, columns.taps, columns.dilation)
            text.line(f"const long t0 = {low};")
            text.line(f"const long t1 = {high};")
            _start(plan, text, 1)
            with (
                text.block("for (long r = r0; r < r1; r++)"),
                text.block("for (long s = t0; s < t1; s++)"),
            ):
                pixel = (
                    f"(h + r * {rows.dilation}) * {columns.size}L + column + s * {columns.dilation}"
                )
                text.line(f"const vec v = load(x + ({pixel}) * LANES);")
                text.line(_use(plan, 0, f"load(w + (r * {columns.taps} + s) * LANES)"))
            text.line(f"element *y0 = y; y = y0 + (p * {columns.places}L + q) * LANES;")
            _finish(plan, text, 0, "((r1 - r0) * (t1 - t0))")
            text.line("y = y0;")


class _block:  # noqa: N801 - used like a function
    """The function around the rows of a block of channels."""

    def __init__(self, plan: Plan, text: Text) -> None:
        self._plan, self._text = plan, text

    def __enter__(self) -> None:
        plan, text = self._plan, self._text
        shape, layout = plan.shape, plan.layout
        text.line("/* Rows [p0, p1) of block k of channels of image n. */")
        text.open(
            f"static void {plan.prefix}block(long n, long g, long p0, long p1, long k, "
            "const element *restrict image, const element *restrict weights, "
            "element *restrict output)"
        )
        image, output = layout.image_plane, layout.output_plane
        number = f"(n * {layout.out_blocks} + k)"
        text.line("(void)g;")
        text.line(f"const element *x = image + {number} * {image}L * LANES;")
        text.line(f"element *y = output + {number} * {output}L * LANES;")
        if shape.pool:
            text.line("const element *w = weights, *bias = weights;")
        else:
            text.line(f"const element *w = weights + k * {shape.taps}L * LANES;")
            text.line(f"const element *bias = weights + {layout.filter_elements}L + k * LANES;")

    def __exit__(self, *_: object) -> None:
        self._text.close()


def window_calls(plan: Plan) -> Iterator[str]:
    """The outer loops, outermost first, as C; the last line is the call inside them."""
    rows, blocking = plan.shape.rows, plan.blocking
    blocks = -(-rows.places // blocking.rows)
    yield f"for (long n = 0; n < {plan.shape.batch}; n++)"
    yield f"for (long k = 0; k < {plan.layout.out_blocks}; k++)"
    yield f"for (long b = 0; b < {blocks}; b++)"
    stop = f"b * {blocking.rows} + {blocking.rows}"
    stop = f"{stop} < {rows.places} ? {stop} : {rows.places}"
    yield f"{plan.prefix}block(n, 0, b * {blocking.rows}, {stop}, k, image, weights, output);"
