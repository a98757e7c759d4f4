#ifndef TTFS_DOT_C
#define TTFS_DOT_C
#include "ttfs_types.h"

/* A convolution as dot products of bytes, four at a time. What it reads is laid out first: sums over pooling windows (of
 * 1x1: none) with the padding around them, [plane_h][plane_w][in_c], so that a run of neighbouring taps of an output is a
 * stretch of bytes: `quads` times four of them, in the weights filled up with 0. Behind that lie four bytes of 0 and, for
 * each row, whether it has anything else than 0. Weights, signed bytes (as unsigned ones
 * of the same bits), lie [vectors / n][runs][quads][n][16 outputs][4], n vectors of outputs being computed together. */
typedef struct {
    int32_t in_h, in_w, in_c;
    int32_t mid_h, mid_w; /* positions behind the pooling */
    int32_t pool_h, pool_w, pool_sh, pool_sw, pool_t, pool_l;
    int32_t stride_h, stride_w, pad_t, pad_l, dil_h, dil_w;
    int32_t plane_h, plane_w;
    int32_t runs, across, quads; /* runs in all, and in a kernel row */
    int32_t out_w, width, vectors; /* sums of a position, and 16 of them at a time */
} ttfs_dot_t;
#endif
