#include "ttfs_types.h"

/* Pooling windows over a channel-last operand. */
typedef struct {
    int32_t in_h, in_w, channels, out_h, out_w;
    int32_t k_h, k_w, stride_h, stride_w, pad_t, pad_l;
    int32_t kept; /* rows of the operand in memory: row y lies at y % kept */
} ttfs_pool_t;
