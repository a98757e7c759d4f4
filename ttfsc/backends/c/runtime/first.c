#include "ttfs_types.h"

/* The earliest spike; of equals the larger membrane, then the lower index. scores: the spikes' values, channel-major. */
static inline uint16_t ttfs_first(const ttfs_spike_t *x, int32_t channels, int32_t pixels, const int32_t *membrane,
    int32_t *scores)
{
    int32_t best = 0;
    for (int32_t i = 0; i < channels * pixels; i++) {
        scores[i] = (int32_t)x[i % pixels * channels + i / pixels];
        if (scores[i] > scores[best] || (scores[i] == scores[best] && membrane[i] > membrane[best])) {
            best = i;
        }
    }
    return (uint16_t)best;
}
