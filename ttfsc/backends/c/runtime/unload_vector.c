#include "ttfs_types.h"

/* unload.c for the sums of add_rows_vector.c, which are in the order of the outputs. */
TTFS_INLINE void ttfs_unload(uint16_t *restrict from, uint32_t less, ttfs_uacc_t *restrict to)
{
    for (int32_t j = 0; j < ttfs_block; j++) {
        to[j] = (ttfs_uacc_t)(to[j] + from[j] - less);
        from[j] = 0;
    }
}
