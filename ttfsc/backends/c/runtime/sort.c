#include "bundle.c"

/* Of every position behind the pooling, and of every group, the channels that fired, latest spike first: order
 * [mid_h][mid_w][groups][pool_h * pool_w * in_c / groups], and 8 more; start [mid_h][mid_w][groups][ticks + 1]: the
 * spikes of value v are order[start[v - 1]] .. order[start[v] - 1], counted from their position. fired, value: scratch
 * for one position, and one more. */
TTFS_INLINE void ttfs_sort(const ttfs_bundle_t *k, const ttfs_spike_t *restrict x, uint16_t *restrict order,
    uint16_t *restrict start, uint16_t *restrict fired, uint8_t *restrict value)
{
    const int32_t cin = k->in_c / k->groups;
    uint16_t next[ttfs_long + 1];
    for (int32_t p = 0; p < k->mid_h * k->mid_w * k->groups; p++) {
        const int32_t top = p / k->groups / k->mid_w * k->pool_sh - k->pool_t;
        const int32_t left = p / k->groups % k->mid_w * k->pool_sw - k->pool_l;
        int32_t n = 0;
        for (int32_t y = top < 0 ? 0 : top; y < top + k->pool_h && y < k->in_h; y++) {
            for (int32_t z = left < 0 ? 0 : left; z < left + k->pool_w && z < k->in_w; z++) {
                const ttfs_spike_t *const from = x + (y * k->in_w + z) * k->in_c + p % k->groups * cin;
                for (int32_t c = 0; c < cin; c++) {
                    fired[n] = (uint16_t)c;
                    value[n] = from[c];
                    n += from[c] != 0 ? 1 : 0;
                }
            }
        }
        for (int32_t v = 0; v <= k->ticks; v++) {
            next[v] = 0;
        }
        for (int32_t i = 0; i < n; i++) {
            next[value[i]]++;
        }
        for (int32_t v = 0, sum = 0; v <= k->ticks; v++) {
            const int32_t count = next[v];
            next[v] = (uint16_t)sum;
            sum += count;
            start[v] = (uint16_t)sum;
        }
        for (int32_t i = 0; i < n; i++) {
            order[next[value[i]]++] = fired[i];
        }
        order += k->pool_h * k->pool_w * cin;
        start += k->ticks + 1;
    }
}
