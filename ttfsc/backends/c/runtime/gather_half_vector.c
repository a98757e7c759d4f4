#include "ttfs_types.h"

/* gather_half.c in GNU vectors. A 16-bit lane holds the weights of four outputs, a quarter of a block apart: the first
 * and third are added up as bytes; the sums of everything above the first still hold the third, which is taken off. */
TTFS_INLINE void ttfs_gather(const uint8_t *restrict w, const uint32_t *restrict rows, const uint8_t *restrict late,
    int32_t eights, int32_t next, const uint8_t *soon, int32_t lines, uint32_t less_sum, uint32_t less_slope,
    ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    for (int32_t from = 0; from < ttfs_block / 2; from += ttfs_lanes) {
        ttfs_words_t s[4];
        ttfs_words_t n[4];
        for (int32_t q = 0; q < 4; q++) {
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
            const ttfs_words_t low = ((ttfs_words_t)*a & 0x0F0F) + ((ttfs_words_t)*b & 0x0F0F)
                + ((ttfs_words_t)*c & 0x0F0F) + ((ttfs_words_t)*d & 0x0F0F)
                + ((ttfs_words_t)*e & 0x0F0F) + ((ttfs_words_t)*f & 0x0F0F)
                + ((ttfs_words_t)*g & 0x0F0F) + ((ttfs_words_t)*h & 0x0F0F);
            const ttfs_words_t third = low >> 8;
            const ttfs_words_t up = ((ttfs_words_t)*a >> 4) + ((ttfs_words_t)*b >> 4) + ((ttfs_words_t)*c >> 4) + ((ttfs_words_t)*d >> 4)
                + ((ttfs_words_t)*e >> 4) + ((ttfs_words_t)*f >> 4) + ((ttfs_words_t)*g >> 4) + ((ttfs_words_t)*h >> 4) - (third << 4);
            const ttfs_words_t part[4] = { low & 255, up & 255, third, up >> 8 };
            const uint16_t x = late[i];
            for (int32_t l = 0; next != 0 && from == 0 && l < 8; l++) {
                TTFS_FETCH(w + next + rows[8 * i + l]);
            }
            for (int32_t l = 0; from == 0 && l < lines; l++) {
                TTFS_FETCH(soon + (i * lines + l) * 64);
            }
            for (int32_t q = 0; q < 4; q++) {
                s[q] += part[q] * x;
                if (slope != NULL) {
                    n[q] += part[q];
                }
            }
        }
        for (int32_t q = 0; q < 4; q++) {
            uint16_t lanes[ttfs_lanes / 2];
            ttfs_uacc_t *const to = sum + q * (ttfs_block / 4) + from / 2;
            __builtin_memcpy(lanes, &s[q], sizeof lanes);
            for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                to[j] = (ttfs_uacc_t)(to[j] + lanes[j] - less_sum);
            }
        }
        if (slope != NULL) {
            for (int32_t q = 0; q < 4; q++) {
                uint16_t lanes[ttfs_lanes / 2];
                ttfs_uacc_t *const to = slope + q * (ttfs_block / 4) + from / 2;
                __builtin_memcpy(lanes, &n[q], sizeof lanes);
                for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                    to[j] = (ttfs_uacc_t)(to[j] + lanes[j] - less_slope);
                }
            }
        }
    }
}
