#include "bundle.c"

/* Sums in the order of the bytes of a row, less `less`, are added to those of the outputs. */
TTFS_INLINE void ttfs_pile_out(const uint16_t *restrict from, uint32_t less, uint16_t *restrict to)
{
    for (int32_t j = 0; j < ttfs_block / 2; j++) {
        to[j] = (uint16_t)(to[j] + from[2 * j] - less);
        to[ttfs_block / 2 + j] = (uint16_t)(to[ttfs_block / 2 + j] + from[2 * j + 1] - less);
    }
}
