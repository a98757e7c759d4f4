#include "dot_list.c"
#include "dot_vnni.c"
#if defined(TTFS_VNNI)

/* As ttfs_dot_vnni with both planes, but only fours of inputs that hold anything are multiplied, row by row of outputs:
 * those that the row reads are listed column by column, so that each output position reads one stretch of the list and
 * its loop is the only one whose end is not foreseen. In that the entries at even and odd places have sums of their own;
 * of an odd number the first is taken apart, always, times 0 if the number is even. Rows with more than ttfs_few such
 * fours are multiplied whole. */
TTFS_VNNI static void ttfs_dot_listed(const ttfs_dot_t *k, const uint8_t *restrict w, const uint8_t *restrict x, int32_t apart,
    int32_t y0, int32_t y1, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    typedef ttfs_uacc_t ttfs_uacc16_t __attribute__((vector_size(16 * sizeof(ttfs_uacc_t))));
    const uint8_t *const hits = x + apart;
    const int32_t fours = k->in_c / 4;
    const int32_t columns = k->quads / fours;
    for (int32_t y = y0; y < y1; y++) {
        uint16_t which[ttfs_most + 1];
        uint16_t taps[ttfs_most + 1];
        uint16_t first[ttfs_across + 1];
        const int32_t n = ttfs_dot_list(k, x, y, which, taps, first);
        if (n > ttfs_few) {
            const int32_t to = (y - y0) * k->out_w * k->width;
            ttfs_dot_vnni(k, w, x, apart, y, y + 1, sum + to, slope + to);
            if (ttfs_planes == 1) {
                ttfs_dot_vnni(k, w, hits, 0, y, y + 1, slope + to, NULL);
            }
            continue;
        }
        for (int32_t v = 0; v < k->vectors; v += ttfs_vectors) {
            const uint8_t *const rows = w + v * k->runs * k->quads * 64;
            for (int32_t z = 0; z < k->out_w; z++) {
                const uint32_t left = (uint32_t)(z * k->stride_w * fours * 64 * ttfs_vectors);
                const int32_t from = first[z * k->stride_w];
                const int32_t end = first[z * k->stride_w + columns];
                const uint32_t odd = (uint32_t)(end - from) % 2;
                const int32_t place = ((y - y0) * k->out_w + z) * k->width + v * 16;
                ttfs_sixteen32_t s[4 * ttfs_vectors];
                TTFS_UNROLL
                for (int32_t i = 0; i < 4 * ttfs_vectors; i++) {
                    s[i] = (ttfs_sixteen32_t){ 0 };
                }
                TTFS_UNROLL
                for (int32_t i = 0; i < 2 * ttfs_vectors; i++) {
                    uint32_t four;
                    ttfs_sixteen32_t weights;
                    __builtin_memcpy(&four, (i < ttfs_vectors ? x : hits) + which[from], 4);
                    __builtin_memcpy(&weights, rows + (taps[from] - left) * odd + i % ttfs_vectors * 64, sizeof weights);
                    __asm__("vpdpbusd {%2, %1, %0|%0, %1, %2}"
                            : "+v"(s[i])
                            : "v"((ttfs_sixteen32_t){ 0 } + (int32_t)(four * odd)), "v"(weights));
                }
                for (int32_t e = from + (int32_t)odd; e < end; e += 2) {
                    TTFS_UNROLL
                    for (int32_t i = 0; i < 4 * ttfs_vectors; i++) {
                        const int32_t j = e + i / (2 * ttfs_vectors);
                        int32_t four;
                        ttfs_sixteen32_t weights;
                        __builtin_memcpy(&four, (i / ttfs_vectors % 2 == 0 ? x : hits) + which[j], 4);
                        __builtin_memcpy(&weights, rows + (taps[j] - left) + i % ttfs_vectors * 64, sizeof weights);
                        __asm__("vpdpbusd {%2, %1, %0|%0, %1, %2}" /* gcc copies s[i] around its own builtin */
                                : "+v"(s[i])
                                : "v"((ttfs_sixteen32_t){ 0 } + four), "v"(weights));
                    }
                }
                TTFS_UNROLL
                for (int32_t i = 0; i < 2 * ttfs_vectors; i++) {
                    ttfs_uacc_t *const to = (i < ttfs_vectors ? sum : slope) + place + i % ttfs_vectors * 16;
                    ttfs_uacc16_t all;
                    __builtin_memcpy(&all, to, sizeof all);
                    all += __builtin_convertvector(s[i] + s[i + 2 * ttfs_vectors], ttfs_uacc16_t);
                    __builtin_memcpy(to, &all, sizeof all);
                }
            }
        }
    }
}
#endif
