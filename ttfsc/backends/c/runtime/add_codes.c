#include "link.c"

/* sum += x * weight and, for the ramp kernel, slope += hits * weight, over n weights: one field of every byte. */
TTFS_INLINE void ttfs_add_codes(const ttfs_link_t *k, const uint8_t *restrict code, int32_t shift, int32_t bits,
    int32_t n, int32_t x, int32_t hits, ttfs_acc_t *restrict sum,
    ttfs_acc_t *restrict slope)
{
    const uint32_t mask = (1u << bits) - 1u;
    const int32_t mul = k->mul;
    const int32_t off = k->off;
    if (slope == NULL) {
        for (int32_t j = 0; j < n; j++) {
            const int32_t w = mul * (int32_t)(((uint32_t)code[j] >> shift) & mask) + off;
            sum[j] = (ttfs_acc_t)((int32_t)sum[j] + x * w);
        }
    } else {
        for (int32_t j = 0; j < n; j++) {
            const int32_t w = mul * (int32_t)(((uint32_t)code[j] >> shift) & mask) + off;
            sum[j] = (ttfs_acc_t)((int32_t)sum[j] + x * w);
            slope[j] = (ttfs_acc_t)((int32_t)slope[j] + hits * w);
        }
    }
}
