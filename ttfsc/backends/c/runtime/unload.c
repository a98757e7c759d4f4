#include "ttfs_types.h"

/* 16-bit sums in the order of the bytes of a row, less `less`, are added to those of the outputs, and begin again at 0. */
TTFS_INLINE void ttfs_unload(uint16_t *restrict from, uint32_t less, ttfs_uacc_t *restrict to)
{
    for (int32_t j = 0; j < ttfs_block / 2; j++) {
        to[j] = (ttfs_uacc_t)(to[j] + from[2 * j] - less);
        to[ttfs_block / 2 + j] = (ttfs_uacc_t)(to[ttfs_block / 2 + j] + from[2 * j + 1] - less);
    }
    for (int32_t j = 0; j < ttfs_block; j++) {
        from[j] = 0;
    }
}
