#include "ttfs_types.h"

/* Windowed: the first tick t with v + slope t >= theta[t] gives the value ticks - t. Sums are kept without sign, modulo
 * 2^16 or 2^32; the proven width holds the true ones, so both halves of the comparison are moved by half the range.
 * Ticks run backwards: the earliest that reaches its threshold is the last to write. */
TTFS_INLINE void ttfs_fire_back(const ttfs_uacc_t *restrict sum, const ttfs_uacc_t *restrict slope,
    const ttfs_theta_t *restrict theta, int32_t per_channel, int32_t ticks, int32_t n, ttfs_spike_t *restrict out)
{
    const uint32_t half = (uint32_t)1 << (8 * sizeof(ttfs_uacc_t) - 1);
    for (int32_t from = 0; from < n; from += ttfs_block) {
        const int32_t m = n - from < ttfs_block ? n - from : ttfs_block;
        ttfs_uacc_t v[ttfs_block];
        ttfs_uacc_t x[ttfs_block];
        for (int32_t j = 0; j < m; j++) {
            const uint32_t rise = slope == NULL ? 0 : (uint32_t)slope[from + j] * (uint32_t)(ticks - 1);
            v[j] = (ttfs_uacc_t)(sum[from + j] + rise + half);
            x[j] = 0;
        }
        for (int32_t t = ticks - 1; t >= 0; t--) {
            const ttfs_theta_t *const th = theta + (per_channel != 0 ? t * n + from : t);
            const ttfs_uacc_t now = (ttfs_uacc_t)(ticks - t);
            for (int32_t j = 0; j < m; j++) {
                const ttfs_uacc_t least = (ttfs_uacc_t)((uint32_t)th[per_channel != 0 ? j : 0] + half);
                x[j] = v[j] >= least ? now : x[j];
            }
            for (int32_t j = 0; slope != NULL && j < m; j++) {
                v[j] = (ttfs_uacc_t)(v[j] - slope[from + j]);
            }
        }
        for (int32_t j = 0; j < m; j++) {
            out[from + j] = (ttfs_spike_t)x[j];
        }
    }
}
