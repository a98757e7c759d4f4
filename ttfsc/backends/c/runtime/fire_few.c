#include "ttfs_types.h"

/* ttfs_fire_back for few ticks: the loop over them is unrolled, and n neurons are decided in registers. Sums that nothing
 * is added to are compared with their sign; the others, and wide ones, as both sides moved by half the range. */
TTFS_INLINE void ttfs_fire_few(const ttfs_uacc_t *restrict sum, const ttfs_uacc_t *restrict slope,
    const ttfs_theta_t *restrict theta, int32_t per_channel, int32_t ticks, int32_t n, ttfs_spike_t *restrict out)
{
    const uint32_t half = (uint32_t)1 << (8 * sizeof(ttfs_uacc_t) - 1);
    if (slope == NULL && sizeof(ttfs_uacc_t) == 2) {
        for (int32_t j = 0; j < n; j++) {
            const int16_t v = (int16_t)((int32_t)((sum[j] ^ half) & 0xFFFFu) - 0x8000);
            int16_t x = 0;
            for (int32_t t = 0; t < ticks; t++) {
                const int16_t now = (int16_t)(v >= theta[per_channel != 0 ? t * n + j : t] ? ticks - t : 0);
                x = now > x ? now : x;
            }
            out[j] = (ttfs_spike_t)x;
        }
        return;
    }
    for (int32_t j = 0; j < n; j++) {
        ttfs_uacc_t v = (ttfs_uacc_t)(sum[j] + half);
        ttfs_uacc_t x = 0;
        for (int32_t t = 0; t < ticks; t++) {
            const ttfs_uacc_t least = (ttfs_uacc_t)((uint32_t)theta[per_channel != 0 ? t * n + j : t] + half);
            const ttfs_uacc_t now = (ttfs_uacc_t)(v >= least ? ticks - t : 0);
            x = now > x ? now : x;
            v = (ttfs_uacc_t)(v + (slope == NULL ? 0u : slope[j]));
        }
        out[j] = (ttfs_spike_t)x;
    }
}
