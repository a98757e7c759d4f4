#include "lists.c"

/* list_cell.c by words of eight bytes: where few channels carry something, most words are passed over at once. */
TTFS_INLINE void ttfs_list_cell(const ttfs_x_t *restrict from, const ttfs_hits_t *restrict hits, int32_t channels,
    int32_t base, const ttfs_lists_t *l, ttfs_listed_t *restrict end)
{
    enum { ttfs_wide = 8 * sizeof(ttfs_x_t), ttfs_many = 8 / sizeof(ttfs_x_t) };
    uint32_t *restrict const where = l->where;
    uint32_t *restrict const value = l->value;
    uint32_t *restrict const count = l->count;
    for (int32_t c = 0; c < channels; c += ttfs_many) {
        uint64_t some = 0;
        __builtin_memcpy(&some, from + c, channels - c < ttfs_many ? (size_t)(channels - c) * sizeof(ttfs_x_t) : 8);
        while (some != 0) {
            const int32_t lane = __builtin_ctzll(some) / ttfs_wide;
            const int32_t one = c + lane;
            const uint32_t v = (uint32_t)(uint16_t)from[one];
            where[end->entries] = (uint32_t)(base + one * ttfs_bytes);
            value[end->entries] = v * 0x10001u;
            if (count != NULL) {
                count[end->entries] = (uint32_t)hits[one] * 0x10001u;
                end->spikes += (uint32_t)hits[one];
            }
            end->entries++;
            end->total += v;
            end->top = v > end->top ? v : end->top;
            some &= ~(((((uint64_t)1 << (ttfs_wide - 1)) - 1u) * 2u + 1u) << (lane * ttfs_wide));
        }
    }
}
