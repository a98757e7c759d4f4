#include "list_cell.c"
#include "list_ends.c"
#include "pool_cell.c"

/* The lists of sums over pooling windows. cell, hits: scratch for one position. */
TTFS_INLINE void ttfs_list_pooled(const ttfs_bundle_t *k, const ttfs_spike_t *restrict x, ttfs_x_t *restrict cell,
    ttfs_hits_t *restrict hits, const ttfs_lists_t *l)
{
    const int32_t cin = k->in_c / k->groups;
    ttfs_listed_t end = { 0, 0, 0, 0 };
    for (int32_t i = 0; i < k->mid_h * k->groups * k->mid_w; i++) {
        const int32_t column = i % k->mid_w;
        const int32_t line = i / k->mid_w;
        const int32_t top = line / k->groups * k->pool_sh - k->pool_t;
        const int32_t left = column * k->pool_sw - k->pool_l;
        for (int32_t c = 0; c < cin; c++) {
            cell[c] = 0;
            hits[c] = 0;
        }
        for (int32_t y = top < 0 ? 0 : top; y < top + k->pool_h && y < k->in_h; y++) {
            for (int32_t z = left < 0 ? 0 : left; z < left + k->pool_w && z < k->in_w; z++) {
                const ttfs_spike_t *const from = x + (y * k->in_w + z) * k->in_c + line % k->groups * cin;
                ttfs_pool_cell(from, cin, cell, l->count == NULL ? NULL : hits);
            }
        }
        l->first[i] = end.entries;
        l->total[i] = end.total;
        if (l->count != NULL) {
            l->spikes[i] = end.spikes;
        }
        end.top = 0;
        ttfs_list_cell(cell, hits, cin, column * cin * ttfs_bytes, l, &end);
        l->top[i] = end.top;
    }
    ttfs_list_ends(k, l, &end);
}
