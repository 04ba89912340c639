/*
 * Peers behind one small interface: oneDNN's convolution, and im2col with a BLAS's sgemm.
 * Built by benchmarks/cpu.py with -DWITH_ONEDNN where oneDNN's headers are.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t batch, groups, inputs, outputs; /* channels of a group */
    int64_t height, width, rows, columns, taps_r, taps_s;
    int64_t stride_h, stride_w, dilation_h, dilation_w, top, left, bottom, right;
} conv_t;

#ifdef WITH_ONEDNN
#include <dnnl.h>

typedef struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[3];
    const char *implementation;
} onednn_t;

/* The two interfaces of oneDNN, version 2 (as Debian 12 has it) and 3, as one. */
#if DNNL_VERSION_MAJOR < 3
typedef dnnl_memory_desc_t desc_t;
typedef const dnnl_memory_desc_t *chosen_t;
#define DESCRIBE(d, n, dims) \
    dnnl_memory_desc_init_by_tag(d, (int)(n), dims, dnnl_f32, dnnl_format_tag_any)
static int find(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const desc_t *md,
    const int64_t *strides, const int64_t *dilates, const int64_t *before, const int64_t *after)
{
    dnnl_convolution_desc_t wanted;
    return dnnl_dilated_convolution_forward_desc_init(&wanted, dnnl_forward_inference,
               dnnl_convolution_direct, &md[0], &md[1], NULL, &md[2], strides, dilates, before,
               after)
        || dnnl_primitive_desc_create(pd, &wanted, NULL, engine, NULL);
}
#else
typedef dnnl_memory_desc_t desc_t;
typedef const_dnnl_memory_desc_t chosen_t;
#define DESCRIBE(d, n, dims) \
    dnnl_memory_desc_create_with_tag(d, (int)(n), dims, dnnl_f32, dnnl_format_tag_any)
static int find(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const desc_t *md,
    const int64_t *strides, const int64_t *dilates, const int64_t *before, const int64_t *after)
{
    return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_inference,
        dnnl_convolution_direct, md[0], md[1], NULL, md[2], strides, dilates, before, after, NULL);
}
#endif

static int fill(dnnl_memory_t memory, size_t bytes)
{
    void *data;
    if (dnnl_memory_map_data(memory, &data)) return 1;
    for (size_t i = 0; i < bytes / 4; i++) ((float *)data)[i] = (float)(i * 7 % 13) / 13 - 0.5f;
    return dnnl_memory_unmap_data(memory, data) != dnnl_success;
}

/* Layouts are oneDNN's own choice ("any"): nothing is reordered while time is taken. */
void *onednn_create(const conv_t *c)
{
    onednn_t *o = calloc(1, sizeof *o);
    dnnl_dims_t x = {c->batch, c->groups * c->inputs, c->height, c->width};
    dnnl_dims_t y = {c->batch, c->groups * c->outputs, c->rows, c->columns};
    dnnl_dims_t w1 = {c->outputs, c->inputs, c->taps_r, c->taps_s};
    dnnl_dims_t w2 = {c->groups, c->outputs, c->inputs, c->taps_r, c->taps_s};
    dnnl_dims_t strides = {c->stride_h, c->stride_w};
    dnnl_dims_t dilates = {c->dilation_h - 1, c->dilation_w - 1};
    dnnl_dims_t before = {c->top, c->left}, after = {c->bottom, c->right};
    desc_t md[3];
    dnnl_primitive_desc_t pd;
    if (dnnl_engine_create(&o->engine, dnnl_cpu, 0)) return NULL;
    if (dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags)) return NULL;
    DESCRIBE(&md[0], 4, x);
    DESCRIBE(&md[1], c->groups > 1 ? 5 : 4, c->groups > 1 ? w2 : w1);
    DESCRIBE(&md[2], 4, y);
    if (find(&pd, o->engine, md, strides, dilates, before, after)) return NULL;
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &o->implementation);
    const dnnl_query_t which[3] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md};
    for (int i = 0; i < 3; i++) {
        chosen_t chosen = dnnl_primitive_desc_query_md(pd, which[i], 0);
        if (dnnl_memory_create(&o->memory[i], chosen, o->engine, DNNL_MEMORY_ALLOCATE)) return NULL;
        if (i < 2 && fill(o->memory[i], dnnl_memory_desc_get_size(chosen))) return NULL;
    }
    return dnnl_primitive_create(&o->primitive, pd) ? NULL : o;
}

int onednn_run(void *handle)
{
    onednn_t *o = handle;
    dnnl_exec_arg_t arguments[3] = {{DNNL_ARG_SRC, o->memory[0]}, {DNNL_ARG_WEIGHTS, o->memory[1]},
        {DNNL_ARG_DST, o->memory[2]}};
    return dnnl_primitive_execute(o->primitive, o->stream, 3, arguments)
        || dnnl_stream_wait(o->stream);
}

const char *onednn_implementation(void *handle) { return ((onednn_t *)handle)->implementation; }
#endif

typedef void (*sgemm_t)(int, int, int, int64_t, int64_t, int64_t, float, const float *, int64_t,
    const float *, int64_t, float, float *, int64_t);

/* Image [batch][channel][row][column], weights [output][input][tap], as a BLAS user has them. */
void im2col_run(const conv_t *c, sgemm_t sgemm, const float *image, const float *weights,
    float *columns, float *output)
{
    const int64_t pixels = c->rows * c->columns, depth = c->inputs * c->taps_r * c->taps_s;
    const int direct = c->taps_r * c->taps_s == 1 && c->stride_h == 1 && c->stride_w == 1
        && c->rows == c->height && c->columns == c->width;
    for (int64_t group = 0; group < c->batch * c->groups; group++) {
        const float *x = image + group * c->inputs * c->height * c->width;
        const float *w = weights + group % c->groups * c->outputs * depth;
        float *to = columns;
        for (int64_t i = 0; i < c->inputs && !direct; i++)
            for (int64_t r = 0; r < c->taps_r; r++)
                for (int64_t s = 0; s < c->taps_s; s++)
                    for (int64_t p = 0; p < c->rows; p++, to += c->columns) {
                        const int64_t h = p * c->stride_h + r * c->dilation_h - c->top;
                        const int64_t first = s * c->dilation_w - c->left;
                        if (h < 0 || h >= c->height) {
                            memset(to, 0, (size_t)c->columns * 4);
                            continue;
                        }
                        const float *row = x + (i * c->height + h) * c->width;
                        for (int64_t q = 0; q < c->columns; q++) {
                            const int64_t at = first + q * c->stride_w;
                            to[q] = at >= 0 && at < c->width ? row[at] : 0;
                        }
                    }
        sgemm(101, 111, 111, c->outputs, pixels, depth, 1, w, depth, direct ? x : columns, pixels,
            0, output + group * c->outputs * pixels, pixels);
    }
}

/* The most multiply-adds per second of this core: sums in registers, no loads. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define VEC __m512
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define VEC __m256
#define LANES 8
#else
typedef float VEC __attribute__((vector_size(16)));
#define LANES 4
#endif
#if defined(__FMA__)
#define STEP(s) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(s) : "v"(one))
#else
#define STEP(s) ((s) += one * one)
#endif

double peak_flops(long rounds)
{
    VEC one = {0}, a = one, b = one, c = one, d = one, e = one, f = one, g = one, h = one;
    VEC i = one, j = one, k = one, l = one;
    for (long n = 0; n < rounds; n++) {
        STEP(a); STEP(b); STEP(c); STEP(d); STEP(e); STEP(f);
        STEP(g); STEP(h); STEP(i); STEP(j); STEP(k); STEP(l);
    }
    volatile float sink = a[0] + b[0] + c[0] + d[0] + e[0] + f[0] + g[0] + h[0] + i[0] + j[0]
        + k[0] + l[0];
    (void)sink;
    return 2.0 * 12 * LANES * (double)rounds;
}
