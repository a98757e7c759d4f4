#include "ttfs_types.h"

/* Whoever has not fired fires at the last tick. */
static inline void ttfs_force_last(ttfs_spike_t *out, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        out[j] = out[j] == 0 ? 1 : out[j];
    }
}
