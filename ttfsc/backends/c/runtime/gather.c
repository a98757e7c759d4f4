#include "ttfs_types.h"

/* Adds `eights` times eight rows of a block (rows: where they start in w; bytes 2 j and 2 j + 1 of one belong to outputs
 * j and j + block / 2): into sum times their value, into slope (may be NULL) once; sums of
 * ttfs_flush bytes do not carry. Sums are kept in 16 bits here, less_sum and less_slope undo the bias of the bytes.
 * next: how far the rows of the block behind this are, wanted soon; 0: none. With every eight, `lines` cache lines from
 * `soon` on are wanted soon as well. */
TTFS_INLINE void ttfs_gather(const uint8_t *restrict w, const uint32_t *restrict rows, const uint8_t *restrict late,
    int32_t eights, int32_t next, const uint8_t *soon, int32_t lines, uint32_t less_sum, uint32_t less_slope,
    ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    uint16_t s[ttfs_block];
    uint16_t n[ttfs_block];
    uint16_t t[ttfs_block];
    uint8_t byte[ttfs_block];
    (void)next;
    (void)soon;
    (void)lines;
    for (int32_t j = 0; j < ttfs_block; j++) {
        s[j] = 0;
        n[j] = 0;
    }
    for (int32_t i = 0; i < eights; i++) {
        const uint8_t *restrict a = w + rows[8 * i];
        const uint8_t *restrict b = w + rows[8 * i + 1];
        const uint8_t *restrict c = w + rows[8 * i + 2];
        const uint8_t *restrict d = w + rows[8 * i + 3];
        const uint8_t *restrict e = w + rows[8 * i + 4];
        const uint8_t *restrict f = w + rows[8 * i + 5];
        const uint8_t *restrict g = w + rows[8 * i + 6];
        const uint8_t *restrict h = w + rows[8 * i + 7];
        const uint16_t x = late[i];
        if (ttfs_flush == 8) {
            for (int32_t j = 0; j < ttfs_block; j++) {
                byte[j] = (uint8_t)(a[j] + b[j] + c[j] + d[j] + e[j] + f[j] + g[j] + h[j]);
            }
            for (int32_t j = 0; j < ttfs_block; j++) {
                t[j] = byte[j];
            }
        } else {
            for (int32_t j = 0; j < ttfs_block; j++) {
                t[j] = (uint16_t)(a[j] + b[j] + c[j] + d[j] + e[j] + f[j] + g[j] + h[j]);
            }
        }
        for (int32_t j = 0; j < ttfs_block; j++) {
            s[j] = (uint16_t)(s[j] + (uint32_t)x * t[j]);
        }
        for (int32_t j = 0; slope != NULL && j < ttfs_block; j++) {
            n[j] = (uint16_t)(n[j] + t[j]);
        }
    }
    for (int32_t j = 0; j < ttfs_block / 2; j++) {
        sum[j] = (ttfs_uacc_t)(sum[j] + s[2 * j] - less_sum);
        sum[ttfs_block / 2 + j] = (ttfs_uacc_t)(sum[ttfs_block / 2 + j] + s[2 * j + 1] - less_sum);
        if (slope != NULL) {
            slope[j] = (ttfs_uacc_t)(slope[j] + n[2 * j] - less_slope);
            slope[ttfs_block / 2 + j] = (ttfs_uacc_t)(slope[ttfs_block / 2 + j] + n[2 * j + 1] - less_slope);
        }
    }
}
