#include "lists.c"

/* What follows the last position; and top becomes that of windows. */
TTFS_INLINE void ttfs_list_ends(const ttfs_bundle_t *k, const ttfs_lists_t *l, const ttfs_listed_t *end)
{
    const int32_t run = k->dil_w == 1 ? k->k_w : 1;
    const int32_t positions = k->mid_h * k->groups * k->mid_w;
    l->first[positions] = end->entries;
    l->total[positions] = end->total;
    if (l->count != NULL) {
        l->spikes[positions] = end->spikes;
    }
    for (int32_t i = 0; i < positions; i++) {
        for (int32_t j = 1; j < run && i % k->mid_w + j < k->mid_w; j++) {
            l->top[i] = l->top[i + j] > l->top[i] ? l->top[i + j] : l->top[i];
        }
    }
}
