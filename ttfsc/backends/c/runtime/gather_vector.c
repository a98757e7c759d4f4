#include "ttfs_types.h"

/* gather.c in GNU vectors: pairs of bytes are 16-bit lanes, so that the
 * first half of the block is in the low bytes, the second in the high ones. */
TTFS_INLINE void ttfs_gather(const uint8_t *restrict w, const uint32_t *restrict rows, const uint8_t *restrict late,
    int32_t eights, int32_t next, const uint8_t *soon, int32_t lines, uint32_t less_sum, uint32_t less_slope,
    ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    enum { ttfs_parts = ttfs_block < 2 * ttfs_lanes ? 1 : 2 };
    for (int32_t from = 0; from < ttfs_block; from += ttfs_parts * ttfs_lanes) {
        ttfs_words_t s[2 * ttfs_parts];
        ttfs_words_t n[2 * ttfs_parts];
        for (int32_t q = 0; q < 2 * ttfs_parts; q++) {
            s[q] = (ttfs_words_t){ 0 };
            n[q] = (ttfs_words_t){ 0 };
        }
        for (int32_t i = 0; i < eights; i++) {
            const ttfs_loads_t *const a = (const ttfs_loads_t *)(w + from + rows[8 * i]);
            const ttfs_loads_t *const b = (const ttfs_loads_t *)(w + from + rows[8 * i + 1]);
            const ttfs_loads_t *const c = (const ttfs_loads_t *)(w + from + rows[8 * i + 2]);
            const ttfs_loads_t *const d = (const ttfs_loads_t *)(w + from + rows[8 * i + 3]);
            const ttfs_loads_t *const e = (const ttfs_loads_t *)(w + from + rows[8 * i + 4]);
            const ttfs_loads_t *const f = (const ttfs_loads_t *)(w + from + rows[8 * i + 5]);
            const ttfs_loads_t *const g = (const ttfs_loads_t *)(w + from + rows[8 * i + 6]);
            const ttfs_loads_t *const h = (const ttfs_loads_t *)(w + from + rows[8 * i + 7]);
            const uint16_t x = late[i];
            for (int32_t l = 0; next != 0 && from == 0 && l < 8; l++) {
                TTFS_FETCH(w + next + rows[8 * i + l]);
            }
            for (int32_t l = 0; from == 0 && l < lines; l++) {
                TTFS_FETCH(soon + (i * lines + l) * 64);
            }
            for (int32_t q = 0; q < ttfs_parts; q++) {
                ttfs_words_t even;
                ttfs_words_t odd;
                if (ttfs_flush == 8) {
                    const ttfs_words_t t = (ttfs_words_t)(a[q] + b[q] + c[q] + d[q] + e[q] + f[q] + g[q] + h[q]);
                    even = t & 255;
                    odd = t >> 8;
                } else {
                    const ttfs_words_t o = (ttfs_words_t)a[q], p = (ttfs_words_t)b[q], u = (ttfs_words_t)c[q];
                    const ttfs_words_t v = (ttfs_words_t)d[q], r = (ttfs_words_t)e[q], t = (ttfs_words_t)f[q];
                    const ttfs_words_t y = (ttfs_words_t)g[q], z = (ttfs_words_t)h[q];
                    even = (o & 255) + (p & 255) + (u & 255) + (v & 255) + (r & 255) + (t & 255) + (y & 255) + (z & 255);
                    odd = (o >> 8) + (p >> 8) + (u >> 8) + (v >> 8) + (r >> 8) + (t >> 8) + (y >> 8) + (z >> 8);
                }
                s[2 * q] += even * x;
                s[2 * q + 1] += odd * x;
                if (slope != NULL) {
                    n[2 * q] += even;
                    n[2 * q + 1] += odd;
                }
            }
        }
        for (int32_t q = 0; q < ttfs_parts; q++) {
            uint16_t even[ttfs_lanes / 2];
            uint16_t odd[ttfs_lanes / 2];
            const int32_t to = (from + q * ttfs_lanes) / 2;
            __builtin_memcpy(even, &s[2 * q], sizeof even);
            __builtin_memcpy(odd, &s[2 * q + 1], sizeof odd);
            for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                sum[to + j] = (ttfs_uacc_t)(sum[to + j] + even[j] - less_sum);
            }
            for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                sum[to + ttfs_block / 2 + j] = (ttfs_uacc_t)(sum[to + ttfs_block / 2 + j] + odd[j] - less_sum);
            }
            if (slope != NULL) {
                __builtin_memcpy(even, &n[2 * q], sizeof even);
                __builtin_memcpy(odd, &n[2 * q + 1], sizeof odd);
                for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                    slope[to + j] = (ttfs_uacc_t)(slope[to + j] + even[j] - less_slope);
                }
                for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                    slope[to + ttfs_block / 2 + j] = (ttfs_uacc_t)(slope[to + ttfs_block / 2 + j] + odd[j] - less_slope);
                }
            }
        }
    }
}
