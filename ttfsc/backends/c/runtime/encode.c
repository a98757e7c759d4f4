#include "ttfs_types.h"

/* Integers low..high to spike values: tick round((1 - u) ticks), halves up; tick `ticks` is never. */
static inline void ttfs_encode(const ttfs_x_t *x, int32_t n, int32_t low, int32_t high, int32_t ticks,
    ttfs_spike_t *out)
{
    const uint32_t span = (uint32_t)(high - low);
    for (int32_t i = 0; i < n; i++) {
        const uint32_t late = (uint32_t)(high - (int32_t)x[i]);
        const uint32_t tick = (2u * late * (uint32_t)ticks + span) / (2u * span);
        out[i] = (ttfs_spike_t)((uint32_t)ticks - tick);
    }
}
