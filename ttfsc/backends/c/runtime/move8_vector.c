#include "ttfs_types.h"

/* move8.c in GNU vectors: compilers take the loop around it for the one worth vectorising. */
TTFS_INLINE void ttfs_move8(uint32_t *restrict to, const uint16_t *restrict from, uint32_t row)
{
    ttfs_eight_t eight;
    __builtin_memcpy(&eight, from, sizeof eight);
    const ttfs_wide_t starts = __builtin_convertvector(eight, ttfs_wide_t) * ttfs_bytes + row;
    __builtin_memcpy(to, &starts, sizeof starts);
}
