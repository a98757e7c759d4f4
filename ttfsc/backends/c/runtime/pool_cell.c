#include "ttfs_types.h"

/* The spikes of one position are added to cell, and to hits (may be NULL) one for each. */
TTFS_INLINE void ttfs_pool_cell(const ttfs_spike_t *restrict from, int32_t n, ttfs_x_t *restrict cell,
    ttfs_hits_t *restrict hits)
{
    for (int32_t c = 0; c < n; c++) {
        cell[c] = (ttfs_x_t)(cell[c] + from[c]);
    }
    for (int32_t c = 0; hits != NULL && c < n; c++) {
        hits[c] = (ttfs_hits_t)(hits[c] + (from[c] != 0 ? 1 : 0));
    }
}
