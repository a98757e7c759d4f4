#include "add_group.c"

/* Entries from .. to - 1, no value above top, add their weight rows to sum and slope (may be NULL). */
TTFS_INLINE void ttfs_add_rows(const uint8_t *restrict w, int32_t base, const ttfs_lists_t *l, int32_t from, int32_t to,
    uint32_t top, uint16_t *restrict sum, uint16_t *restrict slope)
{
    const uint32_t *const count = l->count;
    int32_t i = from;
    (void)top;
    for (; i + 4 <= to; i += 4) {
        ttfs_add_group(w, base, l->where + i, l->value + i, count == NULL ? NULL : count + i, 4, sum, slope);
    }
    for (; i < to; i++) {
        ttfs_add_group(w, base, l->where + i, l->value + i, count == NULL ? NULL : count + i, 1, sum, slope);
    }
}
