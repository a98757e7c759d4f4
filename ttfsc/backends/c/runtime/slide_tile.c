#include "pile.c"
#include "pile_out.c"

/* As ttfs_bundle_tile from buckets, stride 1 downwards: column after column, input rows add to the ttfs_piled output rows
 * that see them, whose sums move on by one with every input row. Rows of a kernel column lie together:
 * [blocks][k_w][in_c][k_h][block]. */
TTFS_INLINE void ttfs_slide_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_buckets_t *b, int32_t y0,
    int32_t y1, uint16_t *restrict sum, uint16_t *restrict slope)
{
    enum { ttfs_size = ttfs_piled * ttfs_block };
    const int32_t apart = k->in_w + 1;
    for (int32_t i = 0; i < k->blocks * k->out_w; i++) {
        const int32_t x = i % k->out_w;
        const int32_t left = x * k->stride_w - k->pad_l;
        const int32_t a = left < 0 ? 0 : left;
        const int32_t z = left + k->k_w < k->in_w ? left + k->k_w : k->in_w;
        const int32_t base = (i / k->out_w * k->k_w - left) * k->in_c * ttfs_size;
        uint16_t s[ttfs_piled * ttfs_block];
        uint16_t n[ttfs_piled * ttfs_block];
        uint32_t all[2 * ttfs_piled];
        for (int32_t j = 0; j < ttfs_size; j++) {
            s[j] = 0;
            n[j] = 0;
        }
        for (int32_t q = 0; q < 2 * ttfs_piled; q++) {
            all[q] = 0;
        }
        for (int32_t r = y0 - k->pad_t; r < y1 - k->pad_t + ttfs_piled - 1; r++) {
            const int32_t y = r + k->pad_t - (ttfs_piled - 1);
            const int32_t to = (((y - y0) * k->out_w + x) * k->blocks + i / k->out_w) * ttfs_block;
            uint32_t more[2] = { 0, 0 };
            if (r >= 0 && r < k->in_h && a < z) {
                ttfs_pile(w, base, b->where + r * k->in_w * k->in_c, b->start + r * ttfs_long * apart + a, apart, z - a,
                          s, slope == NULL ? NULL : n, more);
            }
            for (int32_t q = 0; q < 2 * ttfs_piled; q++) {
                all[q] += more[q % 2];
            }
            if (y >= y0) {
                ttfs_pile_out(s + ttfs_size - ttfs_block, all[2 * ttfs_piled - 1] * (uint32_t)k->bias, sum + to);
            }
            if (y >= y0 && slope != NULL) {
                ttfs_pile_out(n + ttfs_size - ttfs_block, all[2 * ttfs_piled - 2] * (uint32_t)k->bias, slope + to);
            }
            for (int32_t q = ttfs_size - ttfs_block; q >= 0; q -= ttfs_block) {
                for (int32_t j = 0; j < ttfs_block; j++) {
                    s[q + j] = q == 0 ? 0 : s[q - ttfs_block + j];
                    n[q + j] = q == 0 ? 0 : n[q - ttfs_block + j];
                }
            }
            for (int32_t q = 2 * ttfs_piled - 1; q >= 0; q--) {
                all[q] = q < 2 ? 0 : all[q - 2];
            }
        }
    }
}
