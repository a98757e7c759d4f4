#include "ttfs_types.h"

/* One tick: who has not fired and reaches the threshold fires, with value x. theta: one, or one per channel. */
TTFS_INLINE void ttfs_fire_at(const ttfs_acc_t *restrict v, const ttfs_theta_t *restrict theta, int32_t per_channel,
    int32_t x, int32_t n, ttfs_spike_t *restrict out)
{
    if (per_channel != 0) {
        for (int32_t j = 0; j < n; j++) {
            out[j] = (ttfs_spike_t)(out[j] == 0 && v[j] >= theta[j] ? x : out[j]);
        }
    } else {
        const ttfs_theta_t same = theta[0];
        for (int32_t j = 0; j < n; j++) {
            out[j] = (ttfs_spike_t)(out[j] == 0 && v[j] >= same ? x : out[j]);
        }
    }
}
