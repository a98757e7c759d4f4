#include "add_row.c"
#include "hits_at.c"

/* Streaming: what one output pixel receives at one tick, from the spikes of value `want`. Layouts as ttfs_rows;
 * p NULL: the operand is not pooled. */
TTFS_INLINE void ttfs_rows_at(const ttfs_link_t *k, const ttfs_pool_t *p, const uint8_t *w, const ttfs_spike_t *x,
    int32_t want, int32_t oy, int32_t ox, ttfs_acc_t *v, uint8_t *scratch)
{
    const int32_t cin = k->in_c / k->groups;
    const int32_t cout = k->out_c / k->groups;
    for (int32_t g = 0; g < k->groups; g++) {
        for (int32_t ky = 0; ky < k->k_h; ky++) {
            const int32_t iy = oy * k->stride_h - k->pad_t + ky * k->dil_h;
            for (int32_t kx = 0; iy >= 0 && iy < k->in_h && kx < k->k_w; kx++) {
                const int32_t ix = ox * k->stride_w - k->pad_l + kx * k->dil_w;
                const int32_t at = (iy * k->in_w + ix) * k->in_c + g * cin;
                const int32_t tap = (g * k->k_h + ky) * k->k_w + kx;
                for (int32_t ci = 0; ix >= 0 && ix < k->in_w && ci < cin; ci++) {
                    int32_t hits = 0;
                    if (p != NULL) {
                        hits = ttfs_hits_at(p, x, iy, ix, g * cin + ci, want);
                    } else if ((int32_t)x[at + ci] == want) {
                        hits = 1;
                    }
                    if (hits != 0) {
                        ttfs_add_row(k, w + (tap * cin + ci) * k->row_bytes, cout, hits, 0, v + g * cout, NULL,
                                     scratch);
                    }
                }
            }
        }
    }
}
