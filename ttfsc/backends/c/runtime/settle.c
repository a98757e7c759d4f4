#include "add.c"

/* V at the window's end of one pixel's channels, into channel-major scores: scores[c * stride]. v is used up. */
TTFS_INLINE void ttfs_settle(ttfs_acc_t *v, const ttfs_acc_t *slope, int32_t ticks, int32_t n, int32_t stride,
    int32_t *scores)
{
    for (int32_t t = 0; slope != NULL && t < ticks; t++) {
        ttfs_add(v, slope, n);
    }
    for (int32_t c = 0; c < n; c++) {
        scores[c * stride] = (int32_t)v[c];
    }
}
