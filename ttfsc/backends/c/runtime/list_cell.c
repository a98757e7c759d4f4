#include "lists.c"

/* The channels of one position that carry something become the next entries; base: where channel 0's row starts; hits:
 * as count, for each channel. Writes one entry more. */
TTFS_INLINE void ttfs_list_cell(const ttfs_x_t *restrict from, const ttfs_hits_t *restrict hits, int32_t channels,
    int32_t base, const ttfs_lists_t *l, ttfs_listed_t *restrict end)
{
    uint32_t *restrict const where = l->where;
    uint32_t *restrict const value = l->value;
    uint32_t *restrict const count = l->count;
    for (int32_t c = 0; c < channels; c++) {
        const uint32_t v = (uint32_t)(uint16_t)from[c];
        where[end->entries] = (uint32_t)(base + c * ttfs_bytes);
        value[end->entries] = v * 0x10001u;
        if (count != NULL) {
            count[end->entries] = (uint32_t)hits[c] * 0x10001u;
            end->spikes += (uint32_t)hits[c];
        }
        end->entries += v != 0 ? 1u : 0u;
        end->total += v;
        end->top = v > end->top ? v : end->top;
    }
}
