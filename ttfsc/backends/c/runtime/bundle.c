#ifndef TTFS_BUNDLE_C
#define TTFS_BUNDLE_C
#include "ttfs_types.h"

/* Synapses whose weight rows are gathered by spikes: a convolution over sums of pooling windows (of 1x1: none). A dense
 * layer is one of 1x1. Rows lie [groups][blocks][k_h * k_w * in_c / groups + 1][block], the last of each stretch 0. */
typedef struct {
    int32_t in_h, in_w, in_c, groups; /* the spikes, channel-last */
    int32_t mid_h, mid_w;             /* positions behind the pooling */
    int32_t pool_h, pool_w, pool_sh, pool_sw, pool_t, pool_l;
    int32_t k_h, k_w, stride_h, stride_w, pad_t, pad_l, dil_h, dil_w;
    int32_t out_w, blocks; /* blocks of outputs per group */
    int32_t ticks, bias;   /* weight = stored - bias */
    int32_t ahead;         /* 1: caches do not hold the weights; each block is brought before it is used */
} ttfs_bundle_t;
#endif
