#include "depth_cell.c"

/* Output rows y0 .. y1 - 1 get what one convolution in groups brings them; sum, slope (NULL: hold) from row y0 on. */
TTFS_INLINE void ttfs_depth_tile(const ttfs_depth_t *k, const uint8_t *restrict w, const ttfs_x_t *restrict in,
    int32_t y0, int32_t y1, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    for (int32_t p = 0; p < (y1 - y0) * k->out_w; p++) {
        const int32_t y = y0 + p / k->out_w;
        const int32_t x = p % k->out_w;
        ttfs_uacc_t *const s = sum + p * k->width;
        ttfs_uacc_t *const t = slope == NULL ? NULL : slope + p * k->width;
        int32_t c = 0;
        for (; c + ttfs_block <= k->out_c; c += ttfs_block) {
            ttfs_depth_cell(k, w + c, in + c, y, x, ttfs_block, s + c, t == NULL ? NULL : t + c);
        }
        if (c < k->out_c) {
            ttfs_depth_rest(k, w + c, in + c, y, x, k->out_c - c, s + c, t == NULL ? NULL : t + c);
        }
    }
}
