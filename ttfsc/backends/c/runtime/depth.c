#ifndef TTFS_DEPTH_C
#define TTFS_DEPTH_C
#include "ttfs_types.h"

/* A convolution in groups of few channels, over sums of pooling windows (of 1x1: none): output c reads `each` inputs of its
 * group at every tap. The operand lies [in_h][in_w][each][out_c], every output's own inputs; weights lie
 * [k_h][k_w][each][out_c], a signed byte each (as the unsigned one of the same bits). */
typedef struct {
    int32_t in_h, in_w, each, out_c;
    int32_t mid_h, mid_w; /* positions behind the pooling */
    int32_t pool_h, pool_w, pool_sh, pool_sw, pool_t, pool_l;
    int32_t k_h, k_w, stride_h, stride_w, pad_t, pad_l, dil_h, dil_w;
    int32_t out_w, width; /* sums of a position */
    int32_t groups;
} ttfs_depth_t;
#endif
