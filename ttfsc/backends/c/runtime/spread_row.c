#include "ttfs_types.h"

/* to += v * (w - bias), n times. */
TTFS_INLINE void ttfs_spread_row(const uint8_t *restrict w, uint32_t v, uint32_t bias, int32_t n, ttfs_uacc_t *restrict to)
{
    const uint32_t less = v * bias;
    for (int32_t j = 0; j < n; j++) {
        to[j] = (ttfs_uacc_t)(to[j] + (v * w[j] - less));
    }
}
