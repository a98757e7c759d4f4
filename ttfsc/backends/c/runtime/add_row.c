#include "add_codes.c"
#include "unpack.c"

/* Adds one packed row of n weights. scratch [n]: only for widths 3, 5, 6 and 7. */
TTFS_INLINE void ttfs_add_row(const ttfs_link_t *k, const uint8_t *row, int32_t n, int32_t x, int32_t hits,
    ttfs_acc_t *sum, ttfs_acc_t *slope, uint8_t *scratch)
{
    if (scratch != NULL) {
        ttfs_unpack(k, row, n, scratch);
        ttfs_add_codes(k, scratch, 0, 8, n, x, hits, sum, slope);
    } else {
        const int32_t fields = 8 / k->bits;
        const int32_t q = (n + fields - 1) / fields;
        for (int32_t f = 0; f * q < n; f++) {
            const int32_t left = n - f * q;
            ttfs_add_codes(k, row, f * k->bits, k->bits, left < q ? left : q, x, hits, sum + f * q,
                           slope == NULL ? NULL : slope + f * q);
        }
    }
}
