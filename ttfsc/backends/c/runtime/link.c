#ifndef TTFS_LINK_C
#define TTFS_LINK_C
#include "ttfs_types.h"

/* One bundle of synapses: geometry of a convolution (a dense layer is one of 1x1) and how its weights are packed. */
typedef struct {
    int32_t in_h, in_w, in_c; /* the operand, channel-last; behind the pooling where the op pools */
    int32_t out_c, groups;
    int32_t k_h, k_w, stride_h, stride_w, pad_t, pad_l, dil_h, dil_w;
    int32_t row_bytes;      /* a row: the weights of one tap and input channel to all outputs of the group */
    int32_t bits, mul, off; /* weight = mul * code + off, codes of `bits` bits */
} ttfs_link_t;
#endif
