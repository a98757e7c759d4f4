#include "ttfs_types.h"

/* One tick of one pixel: keep V of those whose spike has value x (0: silent), channel-major. spike_c, spike_p: channels
 * and pixels of the spikes' own channel-last order; pixel, pixels: which of this layer's. */
static inline void ttfs_recall_at(const ttfs_acc_t *v, const ttfs_spike_t *spikes, int32_t spike_c, int32_t spike_p,
    int32_t x, int32_t n, int32_t pixel, int32_t pixels, int32_t *at)
{
    for (int32_t c = 0; c < n; c++) {
        const int32_t i = c * pixels + pixel;
        if ((int32_t)spikes[i % spike_p * spike_c + i / spike_p] == x) {
            at[i] = (int32_t)v[c];
        }
    }
}
