#include "depth.c"
#include "depth_row.c"

/* n outputs from w and in on, at output position (y, x), tap by tap. */
TTFS_INLINE void ttfs_depth_rest(const ttfs_depth_t *k, const uint8_t *restrict w, const ttfs_x_t *restrict in, int32_t y,
    int32_t x, int32_t n, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    const int32_t cell = k->each * k->out_c;
    for (int32_t tap = 0; tap < k->k_h * k->k_w; tap++) {
        const int32_t my = y * k->stride_h - k->pad_t + tap / k->k_w * k->dil_h;
        const int32_t mx = x * k->stride_w - k->pad_l + tap % k->k_w * k->dil_w;
        for (int32_t i = 0; my >= 0 && my < k->mid_h && mx >= 0 && mx < k->mid_w && i < k->pool_h * k->pool_w; i++) {
            const int32_t iy = my * k->pool_sh - k->pool_t + i / k->pool_w;
            const int32_t ix = mx * k->pool_sw - k->pool_l + i % k->pool_w;
            for (int32_t e = 0; iy >= 0 && iy < k->in_h && ix >= 0 && ix < k->in_w && e < k->each; e++) {
                ttfs_depth_row(w + tap * cell + e * k->out_c, in + (iy * k->in_w + ix) * cell + e * k->out_c, n, sum,
                               slope);
            }
        }
    }
}
