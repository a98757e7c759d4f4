#include "link.c"

/* Codes of one row of n weights whose width is not 1, 2, 4 or 8: a plane of 4 bits, then of 2, then of 1, lowest
 * first. In a plane of b bits, field f of byte j belongs to weight f * q + j, with q the bytes of the plane. */
TTFS_INLINE void ttfs_unpack(const ttfs_link_t *k, const uint8_t *restrict row, int32_t n, uint8_t *restrict code)
{
    int32_t done = 0;
    for (int32_t j = 0; j < n; j++) {
        code[j] = 0;
    }
    for (int32_t b = 4; b > 0; b /= 2) {
        if ((k->bits & b) != 0) {
            const int32_t fields = 8 / b;
            const int32_t q = (n + fields - 1) / fields;
            for (int32_t f = 0; f < fields; f++) {
                const int32_t left = n - f * q;
                const int32_t count = left < q ? left : q;
                for (int32_t j = 0; j < count; j++) {
                    const uint32_t field = ((uint32_t)row[j] >> (f * b)) & ((1u << b) - 1u);
                    code[f * q + j] = (uint8_t)(code[f * q + j] | (field << done));
                }
            }
            row += q;
            done += b;
        }
    }
}
