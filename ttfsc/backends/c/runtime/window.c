#include "bundle.c"
#include "move8.c"

/* The weight rows that the output position (y, x) gets: latest spikes first, those of each value filled up to a
 * multiple of 8 by the row of zeros. late[i]: value of rows 8 i to 8 i + 7. all: number of spikes and sum of their
 * values. Returns the number of eights. Copies go by eight, so rows needs 8 entries more. */
TTFS_INLINE int32_t ttfs_window(const ttfs_bundle_t *k, const uint16_t *restrict order, const uint16_t *restrict start,
    int32_t y, int32_t x, int32_t group, uint32_t *restrict rows, uint8_t *restrict late, uint32_t *restrict all)
{
    const uint16_t *from[ttfs_taps];
    const uint16_t *ends[ttfs_taps];
    uint32_t row[ttfs_taps];
    const int32_t cin = k->in_c / k->groups;
    int32_t taps = 0;
    int32_t eights = 0;
    uint32_t count = 0;
    uint32_t value = 0;
    for (int32_t ky = 0; ky < k->k_h; ky++) {
        const int32_t iy = y * k->stride_h - k->pad_t + ky * k->dil_h;
        for (int32_t kx = 0; iy >= 0 && iy < k->mid_h && kx < k->k_w; kx++) {
            const int32_t ix = x * k->stride_w - k->pad_l + kx * k->dil_w;
            if (ix >= 0 && ix < k->mid_w) {
                const int32_t at = (iy * k->mid_w + ix) * k->groups + group;
                from[taps] = order + at * (k->pool_h * k->pool_w * cin);
                ends[taps] = start + at * (k->ticks + 1);
                row[taps] = (uint32_t)((ky * k->k_w + kx) * cin * ttfs_bytes);
                taps++;
            }
        }
    }
    for (int32_t v = 1; v <= k->ticks; v++) {
        uint32_t *const to = rows + 8 * eights;
        int32_t n = 0;
        for (int32_t i = 0; i < taps; i++) {
            const int32_t first = ends[i][v - 1];
            const int32_t more = ends[i][v] - first;
            const uint16_t *const source = from[i] + first;
            for (int32_t j = 0; j < more; j += 8) {
                ttfs_move8(to + n + j, source + j, row[i]);
            }
            n += more;
        }
        for (int32_t l = 0; l < 8; l++) {
            to[n + l] = (uint32_t)(k->k_h * k->k_w * cin * ttfs_bytes);
        }
        for (const int32_t end = eights + (n + 7) / 8; eights < end; eights++) {
            late[eights] = (uint8_t)v;
        }
        count += (uint32_t)n;
        value += (uint32_t)n * (uint32_t)v;
    }
    all[0] = count;
    all[1] = value;
    return eights;
}
