#include "depth_rest.c"

/* n outputs from w and in on, at output position (y, x). */
TTFS_INLINE void ttfs_depth_cell(const ttfs_depth_t *k, const uint8_t *restrict w, const ttfs_x_t *restrict in, int32_t y,
    int32_t x, int32_t n, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    ttfs_depth_rest(k, w, in, y, x, n, sum, slope);
}
