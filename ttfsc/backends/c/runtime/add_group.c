#include "lists.c"

/* `many` entries add their weight rows, a block of bytes each, times their values to sum and, unless it is NULL, times
 * their counts (NULL: one each) to slope. Sums are in the order of the bytes. */
TTFS_INLINE void ttfs_add_group(const uint8_t *restrict w, int32_t base, const uint32_t *restrict where,
    const uint32_t *restrict value, const uint32_t *restrict count, int32_t many, uint16_t *restrict sum,
    uint16_t *restrict slope)
{
    for (int32_t j = 0; j < ttfs_block; j++) {
        uint32_t t = 0;
        for (int32_t m = 0; m < many; m++) {
            t += (uint32_t)(uint16_t)value[m] * w[base + (int32_t)where[m] + j];
        }
        sum[j] = (uint16_t)(sum[j] + t);
    }
    for (int32_t j = 0; slope != NULL && j < ttfs_block; j++) {
        uint32_t t = 0;
        for (int32_t m = 0; m < many; m++) {
            t += (count == NULL ? 1u : (uint32_t)(uint16_t)count[m]) * w[base + (int32_t)where[m] + j];
        }
        slope[j] = (uint16_t)(slope[j] + t);
    }
}
