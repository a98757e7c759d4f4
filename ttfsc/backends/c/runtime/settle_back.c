#include "ttfs_types.h"

/* V at the window's end of one position, from sums without sign, into channel-major scores. */
TTFS_INLINE void ttfs_settle_back(const ttfs_uacc_t *sum, const ttfs_uacc_t *slope, int32_t ticks, int32_t n,
    int32_t stride, int32_t *scores)
{
    const uint32_t most = ((uint32_t)1 << (8 * sizeof(ttfs_uacc_t) - 1)) - 1u;
    for (int32_t c = 0; c < n; c++) {
        const uint32_t rise = slope == NULL ? 0 : (uint32_t)slope[c] * (uint32_t)ticks;
        const ttfs_uacc_t v = (ttfs_uacc_t)(sum[c] + rise);
        scores[c * stride] = v <= most ? (int32_t)v : -(int32_t)(ttfs_uacc_t)(~v) - 1;
    }
}
