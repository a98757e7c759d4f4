#include "ttfs_types.h"

/* Sums of `pixels` positions, `stride` apart, begin as the bias ([n], or [pixels][n], or none); the rest is 0. */
static inline void ttfs_begin(ttfs_uacc_t *restrict sum, int32_t pixels, int32_t stride, int32_t n,
    const ttfs_const_t *restrict bias, int32_t per_pixel)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t j = 0; j < stride; j++) {
            sum[p * stride + j] = bias != NULL && j < n ? (ttfs_uacc_t)bias[p * per_pixel + j] : 0;
        }
    }
}
