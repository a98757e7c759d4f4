#include "dot.c"
#if defined(TTFS_VNNI)

/* Output rows y0 .. y1 - 1 get what one convolution brings them, by AVX-512 VNNI: x are planes of ttfs_dot_t, `apart`
 * bytes from each other; the second, if it is computed at the same time, goes to `slope`. ttfs_places output positions of
 * a row, ttfs_step bytes from each other, times ttfs_vectors vectors of outputs stay in registers; the last positions of
 * a row are computed together with some that are done, which are not added again. */
TTFS_VNNI static void ttfs_dot_vnni(const ttfs_dot_t *k, const uint8_t *restrict w, const uint8_t *restrict x, int32_t apart,
    int32_t y0, int32_t y1, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    typedef ttfs_uacc_t ttfs_uacc16_t __attribute__((vector_size(16 * sizeof(ttfs_uacc_t))));
    const uint8_t *const seen = x + k->plane_h * k->plane_w * k->in_c + 4;
    for (int32_t v = 0; v < k->vectors; v += ttfs_vectors) {
        for (int32_t y = y0; y < y1; y++) {
            for (int32_t done = 0; done < k->out_w; done += ttfs_places) {
                const int32_t left = done + ttfs_places <= k->out_w ? done : k->out_w - ttfs_places;
                const uint8_t *row = w + v * k->runs * k->quads * 64;
                int32_t r = 0;
                ttfs_sixteen32_t s[ttfs_planes * ttfs_places * ttfs_vectors];
                TTFS_UNROLL
                for (int32_t i = 0; i < ttfs_planes * ttfs_places * ttfs_vectors; i++) {
                    s[i] = (ttfs_sixteen32_t){ 0 };
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
                        for (int32_t i = 0; i < ttfs_planes * ttfs_places * ttfs_vectors; i++) {
                            const int32_t p = i / ttfs_vectors;
                            int32_t four;
                            ttfs_sixteen32_t weights;
                            __builtin_memcpy(&four, from + p / ttfs_places * apart + p % ttfs_places * ttfs_step, 4);
                            __builtin_memcpy(&weights, row + i % ttfs_vectors * 64, sizeof weights);
                            __asm__("vpdpbusd {%2, %1, %0|%0, %1, %2}" /* gcc copies s[i] around its own builtin */
                                    : "+v"(s[i])
                                    : "v"((ttfs_sixteen32_t){ 0 } + four), "v"(weights));
                        }
                        row += 64 * ttfs_vectors;
                        from += 4;
                    } while (from < end);
                } while (++r < k->runs);
                TTFS_UNROLL
                for (int32_t i = 0; i < ttfs_planes * ttfs_places * ttfs_vectors; i++) {
                    const int32_t p = i / ttfs_vectors % ttfs_places;
                    ttfs_uacc_t *const to = (i < ttfs_places * ttfs_vectors ? sum : slope)
                        + ((y - y0) * k->out_w + left + p) * k->width + (v + i % ttfs_vectors) * 16;
                    ttfs_uacc16_t all;
                    if (left + p >= done) {
                        __builtin_memcpy(&all, to, sizeof all);
                        all += __builtin_convertvector(s[i], ttfs_uacc16_t);
                        __builtin_memcpy(to, &all, sizeof all);
                    }
                }
            }
        }
    }
}
#endif
