#include "buckets.c"

/* One row of inputs: where and start are those of the row. */
TTFS_INLINE void ttfs_bucket_row(const ttfs_spike_t *restrict x, int32_t columns, int32_t channels,
    uint16_t *restrict fired, uint16_t *restrict where, uint16_t *restrict start)
{
    uint32_t next[ttfs_long + 1];
    int32_t n = 0;
    int32_t done = 0;
    uint32_t sum = 0;
    for (int32_t i = 0; i < columns * channels; i++) {
        fired[n] = (uint16_t)i;
        n += x[i] != 0 ? 1 : 0;
    }
    for (int32_t v = 0; v <= ttfs_long; v++) {
        next[v] = 0;
    }
    for (int32_t i = 0; i < n; i++) {
        next[x[fired[i]]]++;
    }
    for (int32_t v = 0; v <= ttfs_long; v++) {
        const uint32_t count = next[v];
        next[v] = sum;
        sum += count;
    }
    for (int32_t column = 0; column <= columns; column++) {
        for (int32_t v = 0; v < ttfs_long; v++) {
            start[v * (columns + 1) + column] = (uint16_t)next[v + 1];
        }
        for (; done < n && fired[done] < (column + 1) * channels; done++) {
            where[next[x[fired[done]]]++] = fired[done];
        }
    }
}
