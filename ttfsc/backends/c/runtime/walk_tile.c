#include "walk.c"

/* As ttfs_bundle_tile from lists that need no merging: output rows y0 .. y1 - 1, a block of outputs after the other. */
TTFS_INLINE void ttfs_walk_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_lists_t *l, int32_t y0,
    int32_t y1, int32_t most, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    const int32_t width = k->groups * k->blocks * ttfs_block;
    const int32_t stretch = (k->k_h * k->k_w * (k->in_c / k->groups) + 1) * ttfs_block;
    for (int32_t block = 0; block < k->groups * k->blocks; block++) {
        for (int32_t p = 0; p < (y1 - y0) * k->out_w; p++) {
            const int32_t at = p * width + block * ttfs_block;
            ttfs_walk(k, w + block * stretch, l, y0 + p / k->out_w, p % k->out_w, block / k->blocks, most, sum + at,
                      slope == NULL ? NULL : slope + at);
        }
    }
}
