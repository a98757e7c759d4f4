#include "add_rows.c"
#include "unload.c"

/* One position of one block of outputs: the entries in its window, kernel row by kernel row, add their weight rows times
 * their values to sum and, unless it is NULL, times their counts to slope. Sums are kept in 16 bits for `most` entries;
 * bytes are weights with k->bias added, which is taken off at the end. */
TTFS_INLINE void ttfs_walk(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_lists_t *l, int32_t y, int32_t x,
    int32_t group, int32_t most, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    const int32_t row = k->in_c / k->groups * ttfs_block;
    const int32_t run = k->dil_w == 1 ? k->k_w : 1;
    uint16_t s[ttfs_block];
    uint16_t n[ttfs_block];
    uint32_t times = 0;
    uint32_t spikes = 0;
    int32_t held = 0;
    for (int32_t j = 0; j < ttfs_block; j++) {
        s[j] = 0;
        n[j] = 0;
    }
    for (int32_t tap = 0; tap < k->k_h * k->k_w; tap += run) {
        const int32_t iy = y * k->stride_h - k->pad_t + tap / k->k_w * k->dil_h;
        const int32_t ix = x * k->stride_w - k->pad_l + tap % k->k_w * k->dil_w;
        const int32_t line = (iy * k->groups + group) * k->mid_w;
        const int32_t a = line + (ix < 0 ? 0 : ix);
        const int32_t z = line + (ix + run < k->mid_w ? ix + run : k->mid_w);
        if (iy >= 0 && iy < k->mid_h && a < z) {
            const int32_t end = (int32_t)l->first[z];
            for (int32_t i = (int32_t)l->first[a]; i < end;) {
                const int32_t left = end - i;
                const int32_t now = sizeof(ttfs_uacc_t) == 2 || left < most - held ? left : most - held;
                ttfs_add_rows(w, (tap - ix) * row, l, i, i + now, l->top[a], s, slope == NULL ? NULL : n);
                i += now;
                held += now;
                if (sizeof(ttfs_uacc_t) == 4 && held == most) {
                    held = 0;
                    ttfs_unload(s, 0, sum);
                    if (slope != NULL) {
                        ttfs_unload(n, 0, slope);
                    }
                }
            }
            times += l->total[z] - l->total[a];
            spikes += l->count == NULL ? l->first[z] - l->first[a] : l->spikes[z] - l->spikes[a];
        }
    }
    ttfs_unload(s, times * (uint32_t)k->bias, sum);
    if (slope != NULL) {
        ttfs_unload(n, spikes * (uint32_t)k->bias, slope);
    }
}
