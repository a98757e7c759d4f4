#include "ttfs_types.h"

/* spread_row.c in GNU vectors, for sums of 16 bits; n is a multiple of 16. */
TTFS_INLINE void ttfs_spread_row(const uint8_t *restrict w, uint32_t v, uint32_t bias, int32_t n, ttfs_uacc_t *restrict to)
{
    const uint16_t times = (uint16_t)v;
    const uint16_t less = (uint16_t)(v * bias);
    for (int32_t j = 0; j < n; j += 16) {
        ttfs_sixteen_t bytes;
        ttfs_sums_t sum;
        __builtin_memcpy(&bytes, w + j, sizeof bytes);
        __builtin_memcpy(&sum, to + j, sizeof sum);
        sum += __builtin_convertvector(bytes, ttfs_sums_t) * times - less;
        __builtin_memcpy(to + j, &sum, sizeof sum);
    }
}
