#include "list_cell.c"
#include "list_ends.c"

/* The lists of an operand that is not pooled. */
TTFS_INLINE void ttfs_list(const ttfs_bundle_t *k, const ttfs_x_t *restrict x, const ttfs_lists_t *l)
{
    const int32_t cin = k->in_c / k->groups;
    ttfs_listed_t end = { 0, 0, 0, 0 };
    for (int32_t i = 0; i < k->mid_h * k->groups * k->mid_w; i++) {
        const int32_t column = i % k->mid_w;
        const int32_t line = i / k->mid_w;
        const ttfs_x_t *const from = x + (line / k->groups * k->mid_w + column) * k->in_c + line % k->groups * cin;
        l->first[i] = end.entries;
        l->total[i] = end.total;
        end.top = 0;
        ttfs_list_cell(from, NULL, cin, column * cin * ttfs_bytes, l, &end);
        l->top[i] = end.top;
    }
    ttfs_list_ends(k, l, &end);
}
