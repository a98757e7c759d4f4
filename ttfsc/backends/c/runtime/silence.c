#include "ttfs_types.h"

/* Before a window: nobody has fired. */
static inline void ttfs_silence(ttfs_spike_t *out, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        out[j] = 0;
    }
}
