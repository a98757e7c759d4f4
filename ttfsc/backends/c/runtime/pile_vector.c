#include "buckets.c"

/* pile.c in GNU vectors, one of every row from base on. A 16-bit lane is a pair of bytes: sums of the pairs are in
 * sum[2 q], of their odd bytes in sum[2 q + 1]; the former less 256 times the latter is the even bytes'. */
TTFS_INLINE void ttfs_pile(const uint8_t *restrict w, int32_t base, const uint16_t *restrict where,
    const uint16_t *restrict start, int32_t apart, int32_t run, ttfs_words_t *restrict sum,
    ttfs_words_t *restrict slope, uint32_t *restrict all)
{
    ttfs_words_t n[2 * ttfs_piled];
    uint32_t spikes = 0;
    for (int32_t q = 0; q < 2 * ttfs_piled; q++) {
        n[q] = (ttfs_words_t){ 0 };
    }
    for (int32_t v = ttfs_long - 1; v >= 0; v--) {
        const uint16_t *i = where + start[v * apart];
        const uint16_t *const end = where + start[v * apart + run];
        ttfs_bytes_t bytes[ttfs_piled];
        for (int32_t q = 0; q < ttfs_piled; q++) {
            bytes[q] = (ttfs_bytes_t){ 0 };
        }
        spikes += (uint32_t)(end - i);
        all[1] += spikes;
        while (__builtin_expect(end - i > ttfs_budget, 0)) {
            for (const uint16_t *const stop = i + ttfs_budget; i < stop; i++) {
                const uint8_t *const row = w + (base + *i * (ttfs_piled * ttfs_block));
                for (int32_t q = 0; q < ttfs_piled; q++) {
                    bytes[q] += (ttfs_bytes_t)*(const ttfs_loads_t *)(row + q * ttfs_block);
                }
            }
            for (int32_t q = 0; q < ttfs_piled; q++) {
                n[2 * q] += (ttfs_words_t)bytes[q];
                n[2 * q + 1] += (ttfs_words_t)bytes[q] >> 8;
                bytes[q] = (ttfs_bytes_t){ 0 };
            }
        }
        for (; i < end; i++) {
            const uint8_t *const row = w + (base + *i * (ttfs_piled * ttfs_block));
            for (int32_t q = 0; q < ttfs_piled; q++) {
                bytes[q] += (ttfs_bytes_t)*(const ttfs_loads_t *)(row + q * ttfs_block);
            }
        }
        for (int32_t q = 0; q < ttfs_piled; q++) {
            n[2 * q] += (ttfs_words_t)bytes[q];
            n[2 * q + 1] += (ttfs_words_t)bytes[q] >> 8;
            sum[2 * q] += n[2 * q];
            sum[2 * q + 1] += n[2 * q + 1];
        }
    }
    for (int32_t q = 0; slope != NULL && q < 2 * ttfs_piled; q++) {
        slope[q] += n[q];
    }
    all[0] += spikes;
}
