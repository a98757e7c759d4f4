#include "ttfs_types.h"

/* n outputs of one tap: sum += x * weight and, unless slope is NULL, slope += weight where x is not 0. */
TTFS_INLINE void ttfs_depth_row(const uint8_t *restrict w, const ttfs_x_t *restrict x, int32_t n,
    ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    for (int32_t j = 0; j < n; j++) {
        sum[j] = (ttfs_uacc_t)(sum[j] + (uint32_t)x[j] * ((w[j] ^ 128u) - 128u));
    }
    for (int32_t j = 0; slope != NULL && j < n; j++) {
        slope[j] = (ttfs_uacc_t)(slope[j] + (x[j] != 0 ? (w[j] ^ 128u) - 128u : 0u));
    }
}
