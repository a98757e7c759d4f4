#include "add.c"
#include "fire_at.c"

/* Windowed: the first tick n with v + slope n >= theta[n] gives the value ticks - n. v is used up. The slope is added
 * tick by tick: the proven width holds every V(n), but not slope * n. out must hold zeros. */
TTFS_INLINE void ttfs_fire(ttfs_acc_t *v, const ttfs_acc_t *slope, const ttfs_theta_t *theta, int32_t per_channel,
    int32_t ticks, int32_t n, ttfs_spike_t *out)
{
    for (int32_t t = 0; t < ticks; t++) {
        if (t > 0) {
            ttfs_add(v, slope, n);
        }
        ttfs_fire_at(v, theta + t * (per_channel != 0 ? n : 1), per_channel, ticks - t, n, out);
    }
}
