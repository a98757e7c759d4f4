#include "ttfs_types.h"

/* pool_cell.c, 16 channels at a time: compilers unroll a loop over so few instead of making it one of vectors. */
TTFS_INLINE void ttfs_pool_cell(const ttfs_spike_t *restrict from, int32_t n, ttfs_x_t *restrict cell,
    ttfs_hits_t *restrict hits)
{
    int32_t c = 0;
    for (; sizeof(ttfs_x_t) + sizeof(ttfs_hits_t) == 2 && c + 16 <= n; c += 16) {
        ttfs_sixteen_t more;
        ttfs_sixteen_t sum;
        __builtin_memcpy(&more, from + c, sizeof more);
        __builtin_memcpy(&sum, cell + c, sizeof sum);
        sum += more;
        __builtin_memcpy(cell + c, &sum, sizeof sum);
        if (hits != NULL) {
            __builtin_memcpy(&sum, hits + c, sizeof sum);
            sum -= (ttfs_sixteen_t)(more != 0);
            __builtin_memcpy(hits + c, &sum, sizeof sum);
        }
    }
    for (; c < n; c++) {
        cell[c] = (ttfs_x_t)(cell[c] + from[c]);
        if (hits != NULL) {
            hits[c] = (ttfs_hits_t)(hits[c] + (from[c] != 0 ? 1 : 0));
        }
    }
}
