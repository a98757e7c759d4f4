#include "bundle.c"
#include "spread_row.c"

/* As ttfs_walk_tile for few input channels that are no spikes: every input that is not 0 adds its weights, times itself,
 * to the positions that see it. One group, no pooling, one block of outputs in their own order; neighbouring positions
 * see neighbouring inputs (stride and dilation 1 along a row). Rows lie [in_c][k_h][k_w from right to left][block]. */
TTFS_INLINE void ttfs_spread(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_x_t *restrict in, int32_t y0,
    int32_t y1, ttfs_uacc_t *restrict sum)
{
    const int32_t lowest = y0 * k->stride_h - k->pad_t;
    const int32_t highest = (y1 - 1) * k->stride_h - k->pad_t + (k->k_h - 1) * k->dil_h;
    for (int32_t iy = lowest < 0 ? 0 : lowest; iy < k->in_h && iy <= highest; iy++) {
        for (int32_t i = 0; i < k->in_w * k->in_c; i++) {
            const ttfs_x_t v = in[iy * k->in_w * k->in_c + i];
            const int32_t right = i / k->in_c + k->pad_l;
            const int32_t left = right - k->k_w + 1;
            const int32_t from = left < 0 ? 0 : left;
            const int32_t count = (right < k->out_w ? right + 1 : k->out_w) - from;
            for (int32_t ky = 0; v != 0 && ky < k->k_h; ky++) {
                const int32_t down = iy + k->pad_t - ky * k->dil_h;
                if (down % k->stride_h == 0 && down >= y0 * k->stride_h && down < y1 * k->stride_h) {
                    const uint8_t *const row = w + ((i % k->in_c * k->k_h + ky) * k->k_w + from - left) * ttfs_block;
                    ttfs_spread_row(row, (uint32_t)v, (uint32_t)k->bias, count * ttfs_block,
                                    sum + ((down / k->stride_h - y0) * k->out_w + from) * ttfs_block);
                }
            }
        }
    }
}
