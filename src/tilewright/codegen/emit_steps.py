"""The C of what stands between convolutions: scaling, sums, normalization, softmax, copies.

Owns: these functions, which know vectors of `LANES` and nothing of a network.
"""

from textwrap import dedent

from tilewright.codegen.steps import (
    AddStep,
    MoveStep,
    NormStep,
    ScaleStep,
    SoftmaxStep,
    Step,
)

_MOVE = """
/* Where a channel begins, in [group][block of lanes][pixel][lane], blocks a plane apart. */
INLINE long place_of(long channel, long channels, long lanes, long plane)
{
    const long group = channel / channels, c = channel % channels;
    const long blocks = (channels + lanes - 1) / lanes;
    return (group * blocks + c / lanes) * plane * lanes + c % lanes;
}

/* Channel c of one image becomes channel first + c % split * (count / split) + c / split. */
static void step_move(const element *from, element *to, long count, long pixels, long from_channels,
    long from_lanes, long from_plane, long to_channels, long to_lanes, long to_plane, long first,
    long split)
{
    for (long c = 0; c < count; c++) {
        const long target = first + c % split * (count / split) + c / split;
        const element *x = from + place_of(c, from_channels, from_lanes, from_plane);
        element *y = to + place_of(target, to_channels, to_lanes, to_plane);
        for (long pixel = 0; pixel < pixels; pixel++) y[pixel * to_lanes] = x[pixel * from_lanes];
    }
}
"""
_SCALE = """
INLINE vec smaller(vec a, vec b)
{
    mask of_a = a < b;
    return (vec)(((mask)a & of_a) | ((mask)b & ~of_a));
}

/* factor * x + shift by channel; then no less than low, no more than high. */
static void step_scale(const element *x, element *y, const element *numbers, long images,
    long blocks, long pixels, long plane, element low, element high)
{
    const vec least = splat(&low), most = splat(&high);
    for (long i = 0; i < images * blocks; i++) {
        const vec factor = load(numbers + i % blocks * LANES);
        const vec shift = load(numbers + (blocks + i % blocks) * LANES);
        const element *from = x + i * plane * LANES;
        element *to = y + i * plane * LANES;
        for (long pixel = 0; pixel < pixels; pixel++, from += LANES, to += LANES)
            store(to, smaller(larger(load(from) * factor + shift, least), most));
    }
}

static void pack_scale(const float *factor, const float *shift, element *packed, long channels)
{
    const long padded = (channels + LANES - 1) / LANES * LANES;
    for (long c = 0; c < padded; c++) {
        packed[c] = c < channels ? factor[c] : 0;
        packed[padded + c] = c < channels ? shift[c] : 0;
    }
}
"""
_ADD = """
static void step_add(const element *a, const element *b, element *y, long elements, int positive)
{
    for (long i = 0; i < elements; i += LANES) {
        const vec sum = load(a + i) + load(b + i);
        store(y + i, positive ? relu(sum) : sum);
    }
}
"""
_MULTIPLY = """
static void step_multiply(const element *a, const element *b, element *y, long elements,
    int positive)
{
    for (long i = 0; i < elements; i += LANES) {
        const vec product = load(a + i) * load(b + i);
        store(y + i, positive ? relu(product) : product);
    }
}
"""
_NORM = """
/* x / (bias + alpha / size * sum of squares)^beta, over the channels around each. */
static void step_norm(const element *x, element *y, long images, long channels, long pixels,
    long plane, long size, float alpha, float beta, float bias, element *squares)
{
    const long blocks = (channels + LANES - 1) / LANES, before = (size - 1) / 2;
    const long padded = blocks * LANES + size;
    for (long i = 0; i < padded; i++) squares[i] = 0;
    for (long n = 0; n < images; n++)
        for (long pixel = 0; pixel < pixels; pixel++) {
            for (long c = 0; c < channels; c++) {
                const element value = x[((n * blocks + c / LANES) * plane + pixel) * LANES
                    + c % LANES];
                squares[before + c] = value * value;
            }
            for (long k = 0; k < blocks; k++) {
                const long at = ((n * blocks + k) * plane + pixel) * LANES;
                element sums[LANES];
                vec sum = load(squares + k * LANES);
                for (long i = 1; i < size; i++) sum += load(squares + k * LANES + i);
                store(sums, sum);
                for (long lane = 0; lane < LANES; lane++) {
                    const float base = bias + alpha / (float)size * sums[lane];
                    const float root = sqrtf(base);
                    const float power = beta == 0.75f ? root * sqrtf(root) : powf(base, beta);
                    y[at + lane] = x[at + lane] / power;
                }
            }
        }
}
"""
_SOFTMAX = """
static void step_softmax(const element *x, element *y, long images, long channels, long pixels,
    long plane)
{
    const long blocks = (channels + LANES - 1) / LANES;
    for (long i = 0; i < images * pixels; i++) {
        const long start = (i / pixels * blocks * plane + i % pixels) * LANES;
        element most = x[start];
        float total = 0;
        for (long c = 0; c < channels; c++) {
            const element value = x[start + c / LANES * plane * LANES + c % LANES];
            most = value > most ? value : most;
        }
        for (long c = 0; c < channels; c++) {
            const long at = start + c / LANES * plane * LANES + c % LANES;
            y[at] = expf(x[at] - most);
            total += y[at];
        }
        for (long c = 0; c < channels; c++)
            y[start + c / LANES * plane * LANES + c % LANES] /= total;
    }
}
"""


def step_functions(steps: tuple[Step, ...]) -> str:
    """The functions that these steps call."""
    products = [step.product for step in steps if isinstance(step, AddStep)]
    parts = {
        _MOVE: any(isinstance(step, MoveStep) for step in steps),
        _SCALE: any(isinstance(step, ScaleStep) for step in steps),
        _ADD: False in products,
        _MULTIPLY: True in products,
        _NORM: any(isinstance(step, NormStep) for step in steps),
        _SOFTMAX: any(isinstance(step, SoftmaxStep) for step in steps),
    }
    return "".join(dedent(text) for text, used in parts.items() if used)
