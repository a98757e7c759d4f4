#include "dot.c"
#include "dot_seen.c"
#include "pool_cell.c"

/* Lays out what a convolution reads as ttfs_dot_t says, four bytes of 0 behind it; hits (may be NULL): the number of
 * spikes in each place. */
TTFS_INLINE void ttfs_dot_lay(const ttfs_dot_t *k, const uint8_t *restrict x, uint8_t *restrict plane,
    uint8_t *restrict hits)
{
    const int32_t all = k->plane_h * k->plane_w * k->in_c;
    for (int32_t i = 0; i < all + 4; i++) {
        plane[i] = 0;
    }
    for (int32_t i = 0; hits != NULL && i < all + 4; i++) {
        hits[i] = 0;
    }
    for (int32_t y = 0; y < k->plane_h; y++) {
        const int32_t top = (y - k->pad_t) * k->pool_sh - k->pool_t;
        for (int32_t z = 0; y >= k->pad_t && y - k->pad_t < k->mid_h && z < k->plane_w; z++) {
            const int32_t left = (z - k->pad_l) * k->pool_sw - k->pool_l;
            const int32_t to = (y * k->plane_w + z) * k->in_c;
            for (int32_t i = 0; z >= k->pad_l && z - k->pad_l < k->mid_w && i < k->pool_h * k->pool_w; i++) {
                const int32_t iy = top + i / k->pool_w;
                const int32_t ix = left + i % k->pool_w;
                if (iy >= 0 && iy < k->in_h && ix >= 0 && ix < k->in_w) {
                    ttfs_pool_cell(x + (iy * k->in_w + ix) * k->in_c, k->in_c, plane + to,
                                   hits == NULL ? NULL : hits + to);
                }
            }
        }
    }
    ttfs_dot_seen(k, plane, hits);
}
