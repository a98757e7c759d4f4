#include "buckets.c"

/* bucket_row.c where a processor picks the bytes of one value out of 64 at once: value after value, nothing is counted
 * before. Writes up to 64 entries more. */
TTFS_INLINE void ttfs_bucket_row(const ttfs_spike_t *restrict x, int32_t columns, int32_t channels,
    uint16_t *restrict fired, uint16_t *restrict where, uint16_t *restrict start)
{
    int32_t n = 0;
    (void)fired;
    for (int32_t v = 0; v < ttfs_long; v++) {
        for (int32_t column = 0; column < columns; column++) {
            start[v * (columns + 1) + column] = (uint16_t)n;
            for (int32_t c = 0; c < channels; c += 64) {
                const int32_t at = column * channels + c;
                n += ttfs_pick(x + at, channels - c < 64 ? channels - c : 64, (uint8_t)(v + 1), at, where + n);
            }
        }
        start[v * (columns + 1) + columns] = (uint16_t)n;
    }
}
