#include "pile.c"
#include "pile_out.c"

/* As ttfs_bundle_tile from buckets, for any stride downwards: one output position of ttfs_piled blocks of outputs after
 * the other, whose rows lie together: [blocks / ttfs_piled][k_h][k_w][in_c][ttfs_piled][block]. */
TTFS_INLINE void ttfs_stride_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_buckets_t *b, int32_t y0,
    int32_t y1, uint16_t *restrict sum, uint16_t *restrict slope)
{
    enum { ttfs_size = ttfs_piled * ttfs_block };
    const int32_t apart = k->in_w + 1;
    const int32_t pixels = (y1 - y0) * k->out_w;
    for (int32_t i = 0; i < k->blocks / ttfs_piled * pixels; i++) {
        const int32_t p = i % pixels;
        const int32_t left = p % k->out_w * k->stride_w - k->pad_l;
        const int32_t a = left < 0 ? 0 : left;
        const int32_t z = left + k->k_w < k->in_w ? left + k->k_w : k->in_w;
        const int32_t to = p * k->blocks * ttfs_block + i / pixels * ttfs_size;
        uint16_t s[ttfs_piled * ttfs_block];
        uint16_t n[ttfs_piled * ttfs_block];
        uint32_t all[2] = { 0, 0 };
        for (int32_t j = 0; j < ttfs_size; j++) {
            s[j] = 0;
            n[j] = 0;
        }
        for (int32_t ky = 0; ky < k->k_h; ky++) {
            const int32_t r = (y0 + p / k->out_w) * k->stride_h - k->pad_t + ky * k->dil_h;
            const int32_t base = ((i / pixels * k->k_h + ky) * k->k_w - left) * k->in_c * ttfs_size;
            if (r >= 0 && r < k->in_h && a < z) {
                ttfs_pile(w, base, b->where + r * k->in_w * k->in_c, b->start + r * ttfs_long * apart + a, apart, z - a,
                          s, slope == NULL ? NULL : n, all);
            }
        }
        for (int32_t q = 0; q < ttfs_size; q += ttfs_block) {
            ttfs_pile_out(s + q, all[1] * (uint32_t)k->bias, sum + to + q);
            if (slope != NULL) {
                ttfs_pile_out(n + q, all[0] * (uint32_t)k->bias, slope + to + q);
            }
        }
    }
}
