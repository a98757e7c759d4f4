#include "ttfs_types.h"

/* The channel-major input becomes channel-last. */
static inline void ttfs_take(const ttfs_in_t *in, int32_t channels, int32_t pixels, ttfs_in_t *out)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            out[p * channels + c] = in[c * pixels + p];
        }
    }
}
