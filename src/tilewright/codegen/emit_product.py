"""The kernel of convolutions and matrix products: vectors of output channels times pixels.

Owns: the C of the register tile, of a row, and of a block of rows and output channels.
"""

from collections.abc import Iterator
from contextlib import nullcontext

from tilewright.codegen.shape import Window
from tilewright.codegen.text import Text
from tilewright.codegen.tiling import Plan, Run, is_unrolled, row_tiles, runs, vector_groups

PREFETCHED = 64
"""Bytes of a line, for prefetching; a wrong guess costs nothing but the prefetches."""


def emit_product(plan: Plan, text: Text) -> None:
    """Write the functions that compute a block."""
    unrolled = is_unrolled(plan.shape.columns, plan.blocking.width, plan.blocking.vectors)
    for vectors in dict.fromkeys(
        vectors for _, vectors in vector_groups(plan.layout, plan.blocking)
    ):
        if unrolled:
            _unrolled_row(plan, text, vectors)
        else:
            _rolled_row(plan, text, vectors)
    _emit_block(plan, text)


_ROW = (
    "const element *x, long h, const element *w, const element *bias, element *y, "
    "long r0, long r1, long channels, int first, int last, uintptr_t ahead, long step"
)
_SPAN = ", long q0, long q1"
"""Of a row that is not done at once: from which place to which."""
_ROW_CALL = "r0, r1, channels, first, last, ahead, step"


def _unrolled_row(plan: Plan, text: Text, vectors: int) -> None:
    """A row of tiles with all columns of the filter written out; those on padding are left out."""
    pieces = runs(plan.shape.columns, plan.blocking.width)
    names: dict[tuple[range, ...], str] = {}
    for run in pieces:
        if run.taps not in names:
            names[run.taps] = f"{plan.prefix}tile_{vectors}x{run.width}_{len(names)}"
            _unrolled_tile(plan, text, names[run.taps], vectors, run)
    span = _SPAN if _is_cut(plan) else ""
    with text.block(f"static void {plan.prefix}row_{vectors}({_ROW}{span})"):
        for run in pieces:
            call = f"{names[run.taps]}(x, h, {{column}}, w, bias, y + {{at}} * LANES, {_ROW_CALL});"
            _over_run(plan, text, run, call)


def _is_cut(plan: Plan) -> bool:
    """Whether blocks are narrower than rows."""
    return row_tiles(plan.shape.columns, plan.blocking)[0] > 1


def _over_run(plan: Plan, text: Text, run: Run, call: str) -> None:
    columns = plan.shape.columns
    if run.count == 1:
        column = run.start * columns.stride - columns.before + first_column(columns, run)
        here = f"if (q0 <= {run.start} && {run.start} < q1)"
        with text.block(here) if _is_cut(plan) else nullcontext():
            text.line(call.format(column=column, at=run.start))
            text.line("ahead += step * (r1 - r0) * channels;")
        return
    start, stop = str(run.start), str(run.start + run.count * run.width)
    if _is_cut(plan):  # blocks begin at tiles, as runs do
        start, stop = f"q0 > {start} ? q0 : {start}", f"(q1 < {stop} ? q1 : {stop})"
    with text.block(f"for (long q = {start}; q < {stop}; q += {run.width})"):
        before = columns.before - first_column(columns, run)
        text.line(call.format(column=_column("q", columns.stride, before), at="q"))
        text.line("ahead += step * (r1 - r0) * channels;")


def _column(place: str, stride: int, before: int) -> str:
    scaled = place if stride == 1 else f"{place} * {stride}"
    if not before:
        return scaled
    return f"{scaled} - {before}" if before > 0 else f"{scaled} + {-before}"


def first_column(columns: Window, run: Run) -> int:
    """From the column of the first place's first tap to the first that the tile reads."""
    reads = [
        place * columns.stride + tap * columns.dilation
        for place, taps in enumerate(run.taps)
        for tap in taps
    ]
    return min(reads, default=0)


_TILE = (
    "const element *x, long h, long column, const element *w, const element *bias, element *y, "
    "long r0, long r1, long channels, int first, int last, uintptr_t ahead, long step"
)


def _unrolled_tile(plan: Plan, text: Text, name: str, vectors: int, run: Run) -> None:
    with text.block(f"static void {name}({_TILE})"):
        _start_sums(plan, text, vectors, run.width, run.taps)
        with _channel_loops(plan, text, vectors):
            for tap in range(plan.shape.columns.taps):
                _tap(plan, text, vectors, run, tap)
        _finish_sums(plan, text, vectors, run.width)


def _tap(plan: Plan, text: Text, vectors: int, run: Run, tap: int) -> None:
    """One column of the filter, for all pixels of a tile that it is real for."""
    columns, lanes = plan.shape.columns, plan.layout.in_lanes
    places = [place for place in range(run.width) if tap in run.taps[place]]
    if not places:
        return
    start = first_column(columns, run)
    with text.block(""):
        loads = [f"w{k} = load(wr + {tap * vectors + k} * LANES)" for k in range(vectors)]
        text.line(f"const vec {', '.join(loads)};")
        for place in places:
            at = place * columns.stride + tap * columns.dilation - start
            _one_pixel(text, vectors, place, str(at * lanes), _splat(plan, vectors, run.width))


def _splat(plan: Plan, vectors: int, width: int) -> str:
    """The C function for a pixel that several taps share, each for another place.

    A compiler loads it once and keeps it, with a stride for so many taps. Where registers do not
    suffice for all that are alive, it moves them to the stack and back, 64 bytes for 4 (gcc 12, 2 x
    11 sums, stride 4: 88 % of peak, and 95 % without). A tile of one vector has as many pixels as
    multiply-adds: there even the stack is better than twice the loads.
    """
    stride = plan.shape.columns.stride
    alive = width * (vectors + stride) + vectors
    can = bool(plan.target.assembly) and plan.shape.dtype == "float32"
    again = can and vectors > 1 and stride > 1 and alive > plan.target.registers
    return "splat_again" if again else "splat"


def _one_pixel(text: Text, vectors: int, place: int, at: str, splat: str = "splat") -> None:
    work = " ".join(f"MAC(s{place}_{k}, p, w{k});" for k in range(vectors))
    text.line(f"{{ const vec p = {splat}(xr + {at}); {work} }}")


def _rolled_row(plan: Plan, text: Text, vectors: int) -> None:
    """A row whose filter columns are a loop; pixels that padding touches are done one by one."""
    for width in sorted({1, plan.blocking.width}):
        _rolled_tile(plan, text, vectors, width)
    columns = plan.shape.columns
    full = [q for q in range(columns.places) if len(columns.valid(q)) == columns.taps]
    inner = range(full[0], full[-1] + 1) if full else range(0)
    wide = len(inner) // plan.blocking.width * plan.blocking.width
    with text.block(f"static void {plan.prefix}row_{vectors}({_ROW})"):
        _one_by_one(plan, text, vectors, range(inner.start))
        if wide:
            call = f"{plan.prefix}tile_{vectors}x{plan.blocking.width}"
            call += "(x, h, {column}, w, bias, y + q * LANES, "
            call += f"{_ROW_CALL}, 0, {columns.taps});"
            stop = inner.start + wide
            loop = f"for (long q = {inner.start}; q < {stop}; q += {plan.blocking.width})"
            with text.block(loop):
                text.line(call.format(column=_column("q", columns.stride, columns.before)))
        _one_by_one(plan, text, vectors, range(inner.start + wide, columns.places))


def _one_by_one(plan: Plan, text: Text, vectors: int, places: range) -> None:
    columns = plan.shape.columns
    if not places:
        return
    with text.block(f"for (long q = {places.start}; q < {places.stop}; q++)"):
        text.line(f"const long column = {_column('q', columns.stride, columns.before)};")
        low, high = clipped("column", columns.size, columns.taps, columns.dilation)
        text.line(f"const long t0 = {low};")
        text.line(f"const long t1 = {high};")
        call = f"{plan.prefix}tile_{vectors}x1(x, h, column + t0 * {columns.dilation}, w, bias, "
        call += f"y + q * LANES, {_ROW_CALL}, t0, t1);"
        text.line(call)


def clipped(start: str, size: int, taps: int, dilation: int) -> tuple[str, str]:
    """C expressions for the taps that fall on pixels, if the first tap falls on `start`."""
    if dilation == 1:
        stop = f"{size} - {start}"
        return f"{start} < 0 ? -{start} : 0", f"{stop} < {taps} ? {stop} : {taps}"
    low = f"{start} < 0 ? ({dilation - 1} - {start}) / {dilation} : 0"
    stop = f"({size + dilation - 1} - {start}) / {dilation}"
    return low, f"{start} >= {size} ? 0 : {stop} < {taps} ? {stop} : {taps}"


def _rolled_tile(plan: Plan, text: Text, vectors: int, width: int) -> None:
    columns, lanes = plan.shape.columns, plan.layout.in_lanes
    with text.block(f"static void {plan.prefix}tile_{vectors}x{width}({_TILE}, long t0, long t1)"):
        _start_sums(plan, text, vectors, width)
        with (
            _channel_loops(plan, text, vectors),
            text.block("for (long s = t0; s < t1; s++)"),
        ):
            loads = [f"w{k} = load(wr + (s * {vectors} + {k}) * LANES)" for k in range(vectors)]
            text.line(f"const vec {', '.join(loads)};")
            for place in range(width):
                at = f"({place * columns.stride} + (s - t0) * {columns.dilation}) * {lanes}"
                _one_pixel(text, vectors, place, at)
        _finish_sums(plan, text, vectors, width)


def _start_sums(
    plan: Plan, text: Text, vectors: int, width: int, taps: tuple[range, ...] | None = None
) -> None:
    """Sums begin with the bias, or where the chunk before left them.

    `taps` are those of each place that are real; without them `t0` and `t1` say so.
    """
    plane, behind = plan.layout.output_plane, plan.layout.bias_elements
    sums = [f"s{place}_{k}" for place in range(width) for k in range(vectors)]
    text.line(f"vec {', '.join(sums)};")
    with text.block("if (first)"):
        for k in range(vectors):
            value = f"load(bias + {k * behind})"
            text.line(" = ".join([*(f"s{place}_{k}" for place in range(width)), value]) + ";")
        if plan.layout.is_shifted:
            _take_shift_off(plan, text, vectors, width, taps)
    with text.block("else"):
        for k in range(vectors):
            for place in range(width):
                text.line(f"s{place}_{k} = load(y + ({k} * {plane}L + {place}) * LANES);")


def _take_shift_off(
    plan: Plan, text: Text, vectors: int, width: int, taps: tuple[range, ...] | None
) -> None:
    """From all sums: 128 times the weights of the taps that will be used."""
    columns, behind = plan.shape.columns.taps, plan.layout.bias_elements
    everywhere = list(range(width))
    uses = {"s": everywhere}
    if taps is not None:
        each = {str(s): [place for place in everywhere if s in taps[place]] for s in range(columns)}
        uses = {tap: places for tap, places in each.items() if places}
    with text.block("for (long r = r0; r < r1; r++)"):
        if taps is None:
            text.line("for (long s = t0; s < t1; s++)")
        with text.block(""):
            for tap, places in uses.items():
                for k in range(vectors):
                    at = f"bias + {k * behind} + (1 + r * {columns} + {tap}) * LANES"
                    work = " ".join(f"s{place}_{k} -= v;" for place in places)
                    text.line(f"{{ const vec v = load({at}); {work} }}")


def _finish_sums(plan: Plan, text: Text, vectors: int, width: int) -> None:
    plane = plan.layout.output_plane
    sums = [(place, k) for k in range(vectors) for place in range(width)]
    if plan.shape.relu:
        with text.block("if (last)"):
            for place, k in sums:
                text.line(f"s{place}_{k} = relu(s{place}_{k});")
    else:
        text.line("(void)last;")
    for place, k in sums:
        text.line(f"store(y + ({k} * {plane}L + {place}) * LANES, s{place}_{k});")


class _channel_loops:  # noqa: N801 - used like a function
    """The loops over blocks of channels, filter rows and channels; inside, `xr` and `wr` point."""

    def __init__(self, plan: Plan, text: Text, vectors: int) -> None:
        self._plan, self._text, self._vectors = plan, text, vectors
        self._blocks: list[object] = []

    def __enter__(self) -> None:
        shape, layout, text = self._plan.shape, self._plan.layout, self._text
        rows, columns, lanes = shape.rows, shape.columns, layout.in_lanes
        per_channel = columns.taps * self._vectors
        line = columns.size * lanes
        many = self._plan.blocking.chunk > lanes
        bound = "channels"
        if many:
            text.open(f"for (long c0 = 0; c0 < channels; c0 += {lanes})")
            text.line(f"const long some = channels - c0 < {lanes} ? channels - c0 : {lanes};")
            text.line(f"const element *xb = x + c0 / {lanes} * {layout.image_plane * lanes}L;")
            text.line(f"const element *wb = w + c0 * {rows.taps * per_channel}L * LANES;")
            bound = "some"
        image, weights = ("xb", "wb") if many else ("x", "w")
        text.open("for (long r = r0; r < r1; r++)")
        step = f"h + r * {rows.dilation}" if rows.dilation > 1 else "h + r"
        text.line(f"const element *xr = {image} + ({step}) * {line}L + column * {lanes}L;")
        text.line(f"const element *wr = {weights} + r * {bound} * {per_channel}L * LANES;")
        if columns.taps == 1:
            text.line("#pragma GCC unroll 4")
        loop = (
            f"for (long c = 0; c < {bound}; c++, xr++, wr += {per_channel} * LANES, ahead += step)"
        )
        text.open(loop)
        text.line("__builtin_prefetch((const void *)ahead);")
        self._depth = 3 if many else 2

    def __exit__(self, *_: object) -> None:
        for _level in range(self._depth):
            self._text.close()


def _emit_block(plan: Plan, text: Text) -> None:
    """The loops over chunks of input channels, unless they stand outside, and over rows."""
    shape, layout, blocking = plan.shape, plan.layout, plan.blocking
    groups = vector_groups(layout, blocking)
    filters = layout.elements * shape.taps
    image, out_plane = layout.image_plane * layout.in_lanes, layout.output_plane
    text.line("/* Rows [p0, p1) of the output channels of group k of image n, group g. */")
    chunk = "" if blocking.chunks_inside else "long c, "
    span = "long q0, long q1, " if _is_cut(plan) else ""
    with text.block(
        f"static void {plan.prefix}block(long n, long g, {chunk}long p0, long p1, {span}long k, "
        "const element *restrict image, const element *restrict weights, element *restrict output)"
    ):
        text.line(f"const long vectors = {_vectors_of(groups, blocking.vectors)};")
        text.line(f"const long kb = k * {blocking.vectors};")
        if not blocking.chunk_major:
            text.line(
                f"const element *w = weights + (g * {layout.out_blocks} + kb) * {filters}L * LANES;"
            )
        text.line(
            f"const element *bias = weights + {layout.filter_elements}L"
            f" + (g * {layout.out_blocks} + kb) * {layout.bias_elements}L;"
        )
        number = f"(n * {layout.groups} + g)"
        text.line(f"const element *x = image + {number} * {layout.in_blocks * image}L;")
        text.line(
            f"element *y = output + ({number} * {layout.out_blocks} + kb) * {out_plane}L * LANES;"
        )
        with text.block(_chunk_loop(plan)) if blocking.chunks_inside else nullcontext():
            rest = f"{layout.elements} - c"
            text.line(
                f"const long channels = {rest} < {blocking.chunk} ? {rest} : {blocking.chunk};"
            )
            text.line(f"const int first = c == 0, last = c + channels == {layout.elements};")
            if blocking.chunk_major:
                before = f"(g * {layout.elements} + c) * {layout.out_blocks} + kb * channels"
                text.line(f"const element *wc = weights + ({before}) * {shape.taps}L * LANES;")
            else:
                text.line(f"const element *wc = w + c * {shape.taps}L * vectors * LANES;")
            text.line(f"const element *xc = x + c / {layout.in_lanes} * {image}L;")
            _prefetch_start(plan, text)
            with text.block("for (long p = p0; p < p1; p++)"):
                _row_of_block(plan, text, [vectors for _, vectors in groups])


def _vectors_of(groups: list[tuple[int, int]], vectors: int) -> str:
    if len(groups) == 1:
        return str(groups[0][1])
    return f"k < {groups[0][0]} ? {vectors} : {groups[1][1]}"


def _chunk_loop(plan: Plan) -> str:
    return f"for (long c = 0; c < {plan.layout.elements}; c += {plan.blocking.chunk})"


def _prefetch_start(plan: Plan, text: Text) -> None:
    """The weights that come next are fetched a line at a time while these work."""
    size = f"channels * {plan.shape.taps}L * vectors * LANES"
    if plan.blocking.rows == 1 and plan.shape.columns.places <= plan.blocking.width:
        # Each weight is read once, in order: the CPU sees that by itself.
        text.line("uintptr_t ahead = (uintptr_t)wc, stop = ahead;")
        return
    text.line("/* Fetch the weights that come next, a line per step, while these are at work. */")
    text.line(f"const long next = {size};")
    text.line("uintptr_t ahead = (uintptr_t)(wc + next);")
    text.line(f"const uintptr_t stop = ahead + ({_weights_follow(plan)} ? 4 * next : 0);")


def _weights_follow(plan: Plan) -> str:
    """In C: whether the weights behind a block's are those that are read after them."""
    blocking, rows, columns = plan.blocking, plan.shape.rows.places, plan.shape.columns.places
    if blocking.chunks_inside:
        return "!last"
    groups = sum(count for count, _ in vector_groups(plan.layout, blocking))
    follow = f"k + 1 < {groups}" if blocking.chunk_major else "!last"
    if blocking.order.endswith("P"):  # they serve all blocks of places first
        follow += f" && p1 == {rows}" if blocking.rows < rows else ""
        follow += f" && q1 == {columns}" if _is_cut(plan) else ""
    return follow


def _row_of_block(plan: Plan, text: Text, widths: list[int]) -> None:
    rows = plan.shape.rows
    text.line(f"const long h = {_column('p', rows.stride, rows.before)};")
    low, high = clipped("h", rows.size, rows.taps, rows.dilation)
    if rows.taps == 1 and not rows.before and rows.valid(rows.places - 1):
        low, high = "0", "1"
    text.line(f"const long r0 = {low};")
    text.line(f"const long r1 = {high};")
    text.line(f"const long step = ahead < stop ? {PREFETCHED} : 0;")
    row = f"xc, h, wc, bias, y + p * {plan.shape.columns.places} * LANES, {_ROW_CALL}"
    row += ", q0, q1" if _is_cut(plan) else ""
    for place, vectors in enumerate(widths):
        if place + 1 < len(widths):
            text.open(f"if (vectors == {vectors})")
        elif place:
            text.open("else")
        text.line(f"{plan.prefix}row_{vectors}({row});")
        if len(widths) > 1:
            text.close()
    _, tiles = row_tiles(plan.shape.columns, plan.blocking)
    text.line(f"ahead += step * (r1 - r0) * channels * {tiles};")


def block_calls(plan: Plan) -> Iterator[str]:
    """The outer loops, outermost first, as C; the last line is the call inside them."""
    layout, blocking = plan.layout, plan.blocking
    rows, columns = plan.shape.rows.places, plan.shape.columns.places
    across, tiles = row_tiles(plan.shape.columns, blocking)
    groups = sum(count for count, _ in vector_groups(layout, blocking))
    places = [f"for (long b = 0; b < {-(-rows // blocking.rows)}; b++)"]
    places += [f"for (long d = 0; d < {across}; d++)"] if across > 1 else []
    chunks = [] if blocking.chunks_inside else [_chunk_loop(plan)]
    loops = {"K": [f"for (long k = 0; k < {groups}; k++)"], "P": places, "C": chunks}
    yield f"for (long n = 0; n < {plan.shape.batch}; n++)"
    yield f"for (long g = 0; g < {layout.groups}; g++)"
    for letter in blocking.order:
        yield from loops[letter]
    span = _part("b", blocking.rows, rows)
    span += f", {_part('d', tiles * blocking.width, columns)}" if across > 1 else ""
    chunk = "" if blocking.chunks_inside else "c, "
    yield f"{plan.prefix}block(n, g, {chunk}{span}, k, image, weights, output);"


def _part(number: str, size: int, whole: int) -> str:
    """In C: from where to where a part goes; the last one may be smaller."""
    stop = f"{number} * {size} + {size}"
    return f"{number} * {size}, {stop} < {whole} ? {stop} : {whole}"
