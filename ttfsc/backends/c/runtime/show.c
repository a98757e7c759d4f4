#include "ttfs_types.h"

/* `count` positions of a layer's spikes for the trace: channel-last becomes channel-major; pixels: of the layer. */
static inline void ttfs_show(const ttfs_spike_t *x, int32_t channels, int32_t count, int32_t pixels, ttfs_spike_t *trace)
{
    for (int32_t c = 0; c < channels; c++) {
        for (int32_t p = 0; p < count; p++) {
            trace[c * pixels + p] = x[p * channels + c];
        }
    }
}
