#include "ttfs_types.h"

/* As gather.c with two weights in a byte: bytes 2 j and 2 j + 1 of a row belong, lower half first, to the outputs j,
 * j + block / 4, j + block / 2 and j + 3 block / 4. */
TTFS_INLINE void ttfs_gather(const uint8_t *restrict w, const uint32_t *restrict rows, const uint8_t *restrict late,
    int32_t eights, int32_t next, const uint8_t *soon, int32_t lines, uint32_t less_sum, uint32_t less_slope,
    ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    uint16_t s[2][ttfs_block / 2];
    uint16_t n[2][ttfs_block / 2];
    uint8_t low[ttfs_block / 2];
    uint8_t up[ttfs_block / 2];
    (void)next;
    (void)soon;
    (void)lines;
    for (int32_t j = 0; j < ttfs_block / 2; j++) {
        s[0][j] = 0;
        s[1][j] = 0;
        n[0][j] = 0;
        n[1][j] = 0;
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
        for (int32_t j = 0; j < ttfs_block / 2; j++) {
            low[j] = (uint8_t)((a[j] & 15) + (b[j] & 15) + (c[j] & 15) + (d[j] & 15) + (e[j] & 15) + (f[j] & 15) + (g[j] & 15) + (h[j] & 15));
        }
        for (int32_t j = 0; j < ttfs_block / 2; j++) {
            up[j] = (uint8_t)((a[j] >> 4) + (b[j] >> 4) + (c[j] >> 4) + (d[j] >> 4) + (e[j] >> 4) + (f[j] >> 4) + (g[j] >> 4) + (h[j] >> 4));
        }
        for (int32_t j = 0; j < ttfs_block / 2; j++) {
            s[0][j] = (uint16_t)(s[0][j] + (uint32_t)x * low[j]);
            s[1][j] = (uint16_t)(s[1][j] + (uint32_t)x * up[j]);
        }
        for (int32_t j = 0; slope != NULL && j < ttfs_block / 2; j++) {
            n[0][j] = (uint16_t)(n[0][j] + low[j]);
            n[1][j] = (uint16_t)(n[1][j] + up[j]);
        }
    }
    for (int32_t q = 0; q < 4; q++) {
        const int32_t to = q * (ttfs_block / 4);
        for (int32_t j = 0; j < ttfs_block / 4; j++) {
            sum[to + j] = (ttfs_uacc_t)(sum[to + j] + s[q % 2][2 * j + q / 2] - less_sum);
            if (slope != NULL) {
                slope[to + j] = (ttfs_uacc_t)(slope[to + j] + n[q % 2][2 * j + q / 2] - less_slope);
            }
        }
    }
}
