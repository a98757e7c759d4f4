#include "pile_vector.c"
#include "pile_out_vector.c"

/* slide_tile.c in GNU vectors: sums never leave the registers before they are complete. */
TTFS_INLINE void ttfs_slide_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_buckets_t *b, int32_t y0,
    int32_t y1, uint16_t *restrict sum, uint16_t *restrict slope)
{
    enum { ttfs_twice = 2 * ttfs_piled, ttfs_parts = ttfs_block / ttfs_lanes };
    const int32_t apart = k->in_w + 1;
    const int32_t stretch = k->k_w * k->in_c * (ttfs_piled * ttfs_block);
    for (int32_t i = 0; i < k->blocks * ttfs_parts * k->out_w; i++) {
        const int32_t x = i % k->out_w;
        const int32_t block = i / k->out_w / ttfs_parts;
        const int32_t part = i / k->out_w % ttfs_parts * ttfs_lanes;
        const int32_t left = x * k->stride_w - k->pad_l;
        const int32_t a = left < 0 ? 0 : left;
        const int32_t z = left + k->k_w < k->in_w ? left + k->k_w : k->in_w;
        const int32_t base = (block * k->k_w - left) * k->in_c * (ttfs_piled * ttfs_block) + part;
        ttfs_words_t s[2 * ttfs_piled];
        ttfs_words_t n[2 * ttfs_piled];
        uint32_t all[2 * ttfs_piled];
        for (int32_t j = 0; x == 0 && part == 0 && j < stretch; j += 64) {
            TTFS_TOUCH(w + block * stretch + j); /* in order: memory gives that several times as fast as rows */
        }
        for (int32_t q = 0; q < ttfs_twice; q++) {
            s[q] = (ttfs_words_t){ 0 };
            n[q] = (ttfs_words_t){ 0 };
            all[q] = 0;
        }
        for (int32_t r = y0 - k->pad_t; r < y1 - k->pad_t + ttfs_piled - 1; r++) {
            const int32_t y = r + k->pad_t - (ttfs_piled - 1);
            const int32_t to = (((y - y0) * k->out_w + x) * k->blocks + block) * ttfs_block + part / 2;
            uint32_t more[2] = { 0, 0 };
            if (r >= 0 && r < k->in_h && a < z) {
                ttfs_pile(w, base, b->where + r * k->in_w * k->in_c, b->start + r * ttfs_long * apart + a, apart, z - a,
                          s, slope == NULL ? NULL : n, more);
            }
            for (int32_t q = 0; q < ttfs_twice; q++) {
                all[q] += more[q % 2];
            }
            if (y >= y0) {
                ttfs_pile_out(s + ttfs_twice - 2, all[ttfs_twice - 1] * (uint32_t)k->bias, sum + to);
                if (slope != NULL) {
                    ttfs_pile_out(n + ttfs_twice - 2, all[ttfs_twice - 2] * (uint32_t)k->bias, slope + to);
                }
            }
            for (int32_t q = ttfs_twice - 1; q >= 0; q--) {
                s[q] = q < 2 ? (ttfs_words_t){ 0 } : s[q - 2];
                n[q] = q < 2 ? (ttfs_words_t){ 0 } : n[q - 2];
                all[q] = q < 2 ? 0 : all[q - 2];
            }
        }
    }
}
