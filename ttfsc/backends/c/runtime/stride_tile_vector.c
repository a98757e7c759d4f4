#include "pile_vector.c"
#include "pile_out_vector.c"

/* stride_tile.c in GNU vectors, one of every row after the other. */
TTFS_INLINE void ttfs_stride_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_buckets_t *b, int32_t y0,
    int32_t y1, uint16_t *restrict sum, uint16_t *restrict slope)
{
    enum { ttfs_size = ttfs_piled * ttfs_block, ttfs_parts = ttfs_block / ttfs_lanes };
    const int32_t apart = k->in_w + 1;
    const int32_t stretch = k->k_h * k->k_w * k->in_c * ttfs_size;
    const int32_t pixels = (y1 - y0) * k->out_w;
    for (int32_t i = 0; i < k->blocks / ttfs_piled * ttfs_parts * pixels; i++) {
        const int32_t p = i % pixels;
        const int32_t block = i / pixels / ttfs_parts;
        const int32_t part = i / pixels % ttfs_parts * ttfs_lanes;
        const int32_t left = p % k->out_w * k->stride_w - k->pad_l;
        const int32_t a = left < 0 ? 0 : left;
        const int32_t z = left + k->k_w < k->in_w ? left + k->k_w : k->in_w;
        const int32_t to = p * k->blocks * ttfs_block + block * ttfs_size + part / 2;
        ttfs_words_t s[2 * ttfs_piled];
        ttfs_words_t n[2 * ttfs_piled];
        uint32_t all[2] = { 0, 0 };
        for (int32_t j = 0; p == 0 && part == 0 && j < stretch; j += 64) {
            TTFS_TOUCH(w + block * stretch + j); /* in order: memory gives that several times as fast as rows */
        }
        for (int32_t q = 0; q < 2 * ttfs_piled; q++) {
            s[q] = (ttfs_words_t){ 0 };
            n[q] = (ttfs_words_t){ 0 };
        }
        for (int32_t ky = 0; ky < k->k_h; ky++) {
            const int32_t r = (y0 + p / k->out_w) * k->stride_h - k->pad_t + ky * k->dil_h;
            const int32_t base = ((block * k->k_h + ky) * k->k_w - left) * k->in_c * ttfs_size + part;
            if (r >= 0 && r < k->in_h && a < z) {
                ttfs_pile(w, base, b->where + r * k->in_w * k->in_c, b->start + r * ttfs_long * apart + a, apart, z - a,
                          s, slope == NULL ? NULL : n, all);
            }
        }
        for (int32_t q = 0; q < ttfs_piled; q++) {
            ttfs_pile_out(s + 2 * q, all[1] * (uint32_t)k->bias, sum + to + q * ttfs_block);
            if (slope != NULL) {
                ttfs_pile_out(n + 2 * q, all[0] * (uint32_t)k->bias, slope + to + q * ttfs_block);
            }
        }
    }
}
