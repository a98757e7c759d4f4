#include "dot.c"
#if defined(TTFS_AVX2)

/* As ttfs_dot_vnni, one plane, by AVX2: pairs of products are added in 16 bits, which the layer's values and weights are
 * proven to fit, and the sums of pairs modulo 2^16, as the sums themselves. */
TTFS_AVX2 static void ttfs_dot_avx2(const ttfs_dot_t *k, const uint8_t *restrict w, const uint8_t *restrict x, int32_t y0,
    int32_t y1, uint16_t *restrict sum)
{
    const uint8_t *const seen = x + k->plane_h * k->plane_w * k->in_c + 4;
    for (int32_t v = 0; v < k->vectors; v++) {
        const int32_t group = v / ttfs_vectors * ttfs_vectors;
        for (int32_t y = y0; y < y1; y++) {
            for (int32_t done = 0; done < k->out_w; done += ttfs_places) {
                const int32_t left = done + ttfs_places <= k->out_w ? done : k->out_w - ttfs_places;
                const uint8_t *row = w + (group * k->runs * k->quads + v - group) * 64;
                uint16_t *const to = sum + ((y - y0) * k->out_w + left) * k->width + 16 * v;
                int32_t r = 0;
                ttfs_eight32_t s[2 * ttfs_places];
                TTFS_UNROLL
                for (int32_t i = 0; i < 2 * ttfs_places; i++) {
                    s[i] = (ttfs_eight32_t){ 0 };
                }
                do {
                    const int32_t line = y * k->stride_h + r / k->across * k->dil_h;
                    const int32_t at = line * k->plane_w + left * k->stride_w + r % k->across * k->dil_w;
                    const uint8_t *from = x + at * k->in_c;
                    const uint8_t *const end = from + 4 * k->quads;
                    if (seen[line] == 0) {
                        row += 64 * ttfs_vectors * k->quads;
                        continue;
                    }
                    do {
                        TTFS_UNROLL
                        for (int32_t i = 0; i < 2 * ttfs_places; i++) {
                            int32_t four;
                            ttfs_eight32_t weights;
                            ttfs_eight32_t pairs;
                            __builtin_memcpy(&four, from + i / 2 * ttfs_step, 4);
                            __builtin_memcpy(&weights, row + i % 2 * 32, sizeof weights);
                            __asm__("vpmaddubsw {%2, %1, %0|%0, %1, %2}"
                                    : "=x"(pairs)
                                    : "x"((ttfs_eight32_t){ 0 } + four), "x"(weights));
                            s[i] = (ttfs_eight32_t)((ttfs_pairs16_t)s[i] + (ttfs_pairs16_t)pairs);
                        }
                        row += 64 * ttfs_vectors;
                        from += 4;
                    } while (from < end);
                } while (++r < k->runs);
                TTFS_UNROLL
                for (int32_t i = 0; i < 2 * ttfs_places; i++) {
                    uint16_t *const here = to + i / 2 * k->width + i % 2 * 8;
                    ttfs_eight16_t all;
                    if (left + i / 2 >= done) {
                        __builtin_memcpy(&all, here, sizeof all);
                        all += __builtin_convertvector((ttfs_unsigned32_t)s[i] + ((ttfs_unsigned32_t)s[i] >> 16), ttfs_eight16_t);
                        __builtin_memcpy(here, &all, sizeof all);
                    }
                }
            }
        }
    }
}
#endif
