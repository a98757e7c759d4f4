#include "buckets.c"

/* bucket_row.c in GNU vectors: values are counted by comparing, and the channels that fired are the bits of a word. */
TTFS_INLINE void ttfs_bucket_row(const ttfs_spike_t *restrict x, int32_t columns, int32_t channels,
    uint16_t *restrict fired, uint16_t *restrict where, uint16_t *restrict start)
{
    const uint64_t low = UINT64_C(0x7F7F7F7F7F7F7F7F);
    const int32_t size = columns * channels;
    uint32_t next[ttfs_long + 1];
    uint32_t sum = 0;
    (void)fired;
    for (int32_t v = 1; v <= ttfs_long; v++) {
        const ttfs_bytes_t same = (ttfs_bytes_t){ 0 } + (uint8_t)v;
        int32_t i = 0;
        next[v] = sum;
        while (i + ttfs_lanes <= size) {
            const int32_t end = size - i < 255 * ttfs_lanes ? size : i + 255 * ttfs_lanes;
            ttfs_bytes_t count = { 0 };
            uint16_t lanes[ttfs_lanes / 2];
            for (; i + ttfs_lanes <= end; i += ttfs_lanes) {
                count -= (ttfs_bytes_t)(*(const ttfs_loads_t *)(x + i) == (ttfs_loads_t)same);
            }
            const ttfs_words_t both = ((ttfs_words_t)count & 255) + ((ttfs_words_t)count >> 8);
            __builtin_memcpy(lanes, &both, sizeof lanes);
            for (int32_t j = 0; j < ttfs_lanes / 2; j++) {
                sum += lanes[j];
            }
        }
        for (; i < size; i++) {
            sum += x[i] == v ? 1u : 0u;
        }
    }
    for (int32_t column = 0; column <= columns; column++) {
        const ttfs_spike_t *const cell = x + column * channels;
        for (int32_t v = 0; v < ttfs_long; v++) {
            start[v * (columns + 1) + column] = (uint16_t)next[v + 1];
        }
        for (int32_t c = 0; column < columns && c < channels; c += 64) {
            uint64_t bits = 0;
            for (int32_t d = c; d < c + 64 && d < channels; d += 8) {
                uint64_t some = 0;
                __builtin_memcpy(&some, cell + d, channels - d < 8 ? (size_t)(channels - d) : 8);
                some = (((some & low) + low) | some) & ~low;
                bits |= ((some >> 7) * UINT64_C(0x0102040810204080) >> 56) << (d - c);
            }
            for (; bits != 0; bits &= bits - 1) {
                const int32_t one = c + __builtin_ctzll(bits);
                where[next[cell[one]]++] = (uint16_t)(column * channels + one);
            }
        }
    }
}
