#include "add_group_vector.c"

/* add_rows.c in GNU vectors, sums in the order of the outputs. Four, three or two rows are added before their bytes are
 * taken apart where top times the largest byte allows. */
TTFS_INLINE void ttfs_add_rows(const uint8_t *restrict w, int32_t base, const ttfs_lists_t *l, int32_t from, int32_t to,
    uint32_t top, uint16_t *restrict sum, uint16_t *restrict slope)
{
    enum { ttfs_parts = ttfs_block < 4 * ttfs_lanes ? ttfs_block / ttfs_lanes : 4 };
    const uint32_t *const where = l->where;
    const uint32_t *const value = l->value;
    const uint32_t *const count = l->count;
    for (int32_t part = 0; part < ttfs_block; part += ttfs_parts * ttfs_lanes) {
        const int32_t at = base + part;
        ttfs_words_t s[8];
        ttfs_words_t sloping[8];
        ttfs_words_t *const n = slope == NULL ? NULL : sloping;
        int32_t i = from;
        for (int32_t q = 0; q < 2 * ttfs_parts; q++) {
            const int32_t lane = (part + q / 2 * ttfs_lanes + q % 2 * ttfs_block) / 2;
            __builtin_memcpy(&s[q], sum + lane, ttfs_lanes);
            if (slope != NULL) {
                __builtin_memcpy(&n[q], slope + lane, ttfs_lanes);
            }
        }
        for (; 4 * top <= ttfs_budget && i + 4 <= to; i += 4) {
            ttfs_add_group(w, at, where + i, value + i, count == NULL ? NULL : count + i, 4, ttfs_parts, s, n);
        }
        for (; 3 * top <= ttfs_budget && i + 3 <= to; i += 3) {
            ttfs_add_group(w, at, where + i, value + i, count == NULL ? NULL : count + i, 3, ttfs_parts, s, n);
        }
        for (; 2 * top <= ttfs_budget && i + 2 <= to; i += 2) {
            ttfs_add_group(w, at, where + i, value + i, count == NULL ? NULL : count + i, 2, ttfs_parts, s, n);
        }
        for (; i < to; i++) {
            ttfs_add_group(w, at, where + i, value + i, count == NULL ? NULL : count + i, 1, ttfs_parts, s, n);
        }
        for (int32_t q = 0; q < 2 * ttfs_parts; q++) {
            const int32_t lane = (part + q / 2 * ttfs_lanes + q % 2 * ttfs_block) / 2;
            __builtin_memcpy(sum + lane, &s[q], ttfs_lanes);
            if (slope != NULL) {
                __builtin_memcpy(slope + lane, &n[q], ttfs_lanes);
            }
        }
    }
}
