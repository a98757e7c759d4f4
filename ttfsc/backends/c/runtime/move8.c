#include "ttfs_types.h"

/* Eight channels become starts of their weight rows. */
TTFS_INLINE void ttfs_move8(uint32_t *restrict to, const uint16_t *restrict from, uint32_t row)
{
    for (int32_t l = 0; l < 8; l++) {
        to[l] = (uint32_t)from[l] * ttfs_bytes + row;
    }
}
