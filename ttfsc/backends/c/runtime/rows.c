#include "add_row.c"

/* What one output pixel receives: every input that carries something brings its weight row to all output channels.
 * x [in_h][in_w][in_c]; hits likewise: how many spikes each sum holds; NULL: one wherever x is not 0.
 * w [groups][k_h][k_w][in_c / groups] rows. slope NULL: hold kernel, only sums. */
TTFS_INLINE void ttfs_rows(const ttfs_link_t *k, const uint8_t *w, const ttfs_x_t *x, const ttfs_hits_t *hits,
    int32_t oy, int32_t ox, ttfs_acc_t *sum, ttfs_acc_t *slope, uint8_t *scratch)
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
                    const int32_t v = (int32_t)x[at + ci];
                    if (v != 0) {
                        ttfs_add_row(k, w + (tap * cin + ci) * k->row_bytes, cout, v,
                                     hits == NULL ? 1 : (int32_t)hits[at + ci], sum + g * cout,
                                     slope == NULL ? NULL : slope + g * cout, scratch);
                    }
                }
            }
        }
    }
}
