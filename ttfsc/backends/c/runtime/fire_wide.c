#include "ttfs_types.h"

/* ttfs_fire_few where 16 bits hold every sum and slope, but not what a sum becomes over the ticks. */
TTFS_INLINE void ttfs_fire_wide(const uint16_t *restrict sum, const uint16_t *restrict slope,
    const ttfs_theta_t *restrict theta, int32_t per_channel, int32_t ticks, int32_t n, ttfs_spike_t *restrict out)
{
    for (int32_t j = 0; j < n; j++) {
        const int32_t rise = slope == NULL ? 0 : (int32_t)(slope[j] ^ 0x8000u) - 0x8000;
        int32_t v = (int32_t)(sum[j] ^ 0x8000u) - 0x8000;
        int32_t x = 0;
        for (int32_t t = 0; t < ticks; t++) {
            const int32_t now = v >= theta[per_channel != 0 ? t * n + j : t] ? ticks - t : 0;
            x = now > x ? now : x;
            v += rise;
        }
        out[j] = (ttfs_spike_t)x;
    }
}
