#include "ttfs_types.h"

/* scores[i] = table[tick of spike i], 0 for a silent neuron; channel-major. */
static inline void ttfs_weigh(const ttfs_spike_t *x, int32_t channels, int32_t pixels, const int32_t *table,
    int32_t ticks, int32_t *scores)
{
    for (int32_t i = 0; i < channels * pixels; i++) {
        const int32_t v = (int32_t)x[i % pixels * channels + i / pixels];
        scores[i] = v == 0 ? 0 : table[ticks - v];
    }
}
