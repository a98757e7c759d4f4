#include "buckets.c"

/* A stretch of one input row, `run` columns from where `start` points (values are `apart`), adds its weights: every entry
 * brings ttfs_piled rows that lie together, rows of spikes of one value are added as bytes, and every sum takes what is
 * piled up once for each value from the largest down, so that each spike counts as often as its value says, without a
 * product. sum, slope (NULL: hold) [ttfs_piled * ttfs_block] in the order of the bytes. all: number of spikes and sum of
 * their values. */
TTFS_INLINE void ttfs_pile(const uint8_t *restrict w, int32_t base, const uint16_t *restrict where,
    const uint16_t *restrict start, int32_t apart, int32_t run, uint16_t *restrict sum, uint16_t *restrict slope,
    uint32_t *restrict all)
{
    enum { ttfs_size = ttfs_piled * ttfs_block };
    uint16_t n[ttfs_piled * ttfs_block];
    uint8_t bytes[ttfs_piled * ttfs_block];
    uint8_t four[ttfs_piled * ttfs_block];
    uint32_t spikes = 0;
    for (int32_t j = 0; j < ttfs_size; j++) {
        n[j] = 0;
    }
    for (int32_t v = ttfs_long - 1; v >= 0; v--) {
        const int32_t end = start[v * apart + run];
        int32_t i = start[v * apart];
        spikes += (uint32_t)(end - i);
        all[1] += spikes;
        while (i < end) {
            const int32_t stop = end - i < ttfs_budget ? end : i + ttfs_budget;
            for (int32_t j = 0; j < ttfs_size; j++) {
                bytes[j] = 0;
            }
            for (; i + 4 <= stop; i += 4) { /* apart from `bytes`, or gcc makes no vectors of it */
                const uint8_t *restrict a = w + (base + where[i] * ttfs_size);
                const uint8_t *restrict b = w + (base + where[i + 1] * ttfs_size);
                const uint8_t *restrict c = w + (base + where[i + 2] * ttfs_size);
                const uint8_t *restrict d = w + (base + where[i + 3] * ttfs_size);
                for (int32_t j = 0; j < ttfs_size; j++) {
                    four[j] = (uint8_t)(a[j] + b[j] + c[j] + d[j]);
                }
                for (int32_t j = 0; j < ttfs_size; j++) {
                    bytes[j] = (uint8_t)(bytes[j] + four[j]);
                }
            }
            for (; i < stop; i++) {
                const uint8_t *restrict const row = w + (base + where[i] * ttfs_size);
                for (int32_t j = 0; j < ttfs_size; j++) {
                    bytes[j] = (uint8_t)(bytes[j] + row[j]);
                }
            }
            for (int32_t j = 0; j < ttfs_size; j++) {
                n[j] = (uint16_t)(n[j] + bytes[j]);
            }
        }
        for (int32_t j = 0; j < ttfs_size; j++) {
            sum[j] = (uint16_t)(sum[j] + n[j]);
        }
    }
    for (int32_t j = 0; slope != NULL && j < ttfs_size; j++) {
        slope[j] = (uint16_t)(slope[j] + n[j]);
    }
    all[0] += spikes;
}
