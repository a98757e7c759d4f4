#include "dot.c"

/* Fours of inputs that hold anything, of the input rows that output row y reads, column by column; how many.
 * which: where each starts in the plane, taps: where its weights do, for the first output position, both with an entry 0
 * behind the last; first: of each column, and the number of all. */
TTFS_INLINE int32_t ttfs_dot_list(const ttfs_dot_t *k, const uint8_t *restrict x, int32_t y, uint16_t *restrict which,
    uint16_t *restrict taps, uint16_t *restrict first)
{
    const int32_t fours = k->in_c / 4;
    const int32_t columns = k->quads / fours;
    int32_t n = 0;
    for (int32_t z = 0; z < k->plane_w; z++) {
        first[z] = (uint16_t)n;
        for (int32_t r = 0; r < k->runs; r++) {
            const int32_t at = ((y * k->stride_h + r * k->dil_h) * k->plane_w + z) * fours;
            for (int32_t i = 0; i < fours; i++) {
                uint32_t four;
                __builtin_memcpy(&four, x + 4 * (at + i), 4);
                which[n] = (uint16_t)(4 * (at + i));
                taps[n] = (uint16_t)(((r * columns + z) * fours + i) * 64 * ttfs_vectors);
                n += four != 0 ? 1 : 0;
            }
        }
    }
    first[k->plane_w] = (uint16_t)n;
    which[n] = 0;
    taps[n] = 0;
    return n;
}
