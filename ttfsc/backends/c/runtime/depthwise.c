#include "unpack.c"

/* As ttfs_rows where every input channel has a group of its own: w [k_h][k_w] rows over all output channels, so that
 * one tap is one pass over the channels. scratch [out_c] always; the packed row is spread into it first. */
TTFS_INLINE void ttfs_depthwise(const ttfs_link_t *k, const uint8_t *w, const ttfs_x_t *x, const ttfs_hits_t *hits,
    int32_t oy, int32_t ox, ttfs_acc_t *restrict sum, ttfs_acc_t *restrict slope,
    uint8_t *restrict scratch)
{
    const int32_t each = k->out_c / k->in_c;
    for (int32_t ky = 0; ky < k->k_h; ky++) {
        const int32_t iy = oy * k->stride_h - k->pad_t + ky * k->dil_h;
        for (int32_t kx = 0; iy >= 0 && iy < k->in_h && kx < k->k_w; kx++) {
            const int32_t ix = ox * k->stride_w - k->pad_l + kx * k->dil_w;
            const int32_t at = (iy * k->in_w + ix) * k->in_c;
            const uint8_t *code = w + (ky * k->k_w + kx) * k->row_bytes;
            if (ix < 0 || ix >= k->in_w) {
                continue;
            }
            if (k->bits < 8) {
                ttfs_unpack(k, code, k->out_c, scratch);
                code = scratch;
            }
            for (int32_t c = 0; c < k->out_c; c++) {
                const int32_t weight = k->mul * (int32_t)code[c] + k->off;
                const int32_t v = (int32_t)x[at + c / each];
                sum[c] = (ttfs_acc_t)((int32_t)sum[c] + v * weight);
                if (slope != NULL) {
                    const int32_t n = hits == NULL ? (v != 0 ? 1 : 0) : (int32_t)hits[at + c / each];
                    slope[c] = (ttfs_acc_t)((int32_t)slope[c] + n * weight);
                }
            }
        }
    }
}
