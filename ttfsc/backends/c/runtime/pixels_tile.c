#include "bundle.c"

/* As ttfs_bundle_tile for an operand that is no spikes: every input times its row. No pooling. */
TTFS_INLINE void ttfs_pixels_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const ttfs_x_t *restrict in,
    int32_t y0, int32_t y1, ttfs_uacc_t *restrict sum)
{
    const int32_t cin = k->in_c / k->groups;
    const int32_t width = k->groups * k->blocks * ttfs_block;
    const int32_t stretch = (k->k_h * k->k_w * cin + 1) * ttfs_block;
    for (int32_t p = 0; p < (y1 - y0) * k->out_w; p++) {
        for (int32_t block = 0; block < k->groups * k->blocks; block++) {
            const ttfs_x_t *const x = in + block / k->blocks * cin;
            ttfs_uacc_t *const to = sum + p * width + block * ttfs_block;
            ttfs_uacc_t s[ttfs_block];
            uint32_t total = 0;
            for (int32_t j = 0; j < ttfs_block; j++) {
                s[j] = 0;
            }
            for (int32_t ky = 0; ky < k->k_h; ky++) {
                const int32_t iy = (y0 + p / k->out_w) * k->stride_h - k->pad_t + ky * k->dil_h;
                for (int32_t kx = 0; iy >= 0 && iy < k->in_h && kx < k->k_w; kx++) {
                    const int32_t ix = p % k->out_w * k->stride_w - k->pad_l + kx * k->dil_w;
                    for (int32_t ci = 0; ix >= 0 && ix < k->in_w && ci < cin; ci++) {
                        const int32_t v = (int32_t)x[(iy * k->in_w + ix) * k->in_c + ci];
                        const uint32_t times = (uint32_t)v;
                        const uint8_t *const row = w + block * stretch + ((ky * k->k_w + kx) * cin + ci) * ttfs_block;
                        for (int32_t j = 0; j < ttfs_block; j++) {
                            s[j] = (ttfs_uacc_t)(s[j] + times * row[j]);
                        }
                        total = total + times;
                    }
                }
            }
            total *= (uint32_t)k->bias;
            for (int32_t j = 0; j < ttfs_block / 2; j++) {
                to[j] = (ttfs_uacc_t)(to[j] + s[2 * j] - total);
                to[ttfs_block / 2 + j] = (ttfs_uacc_t)(to[ttfs_block / 2 + j] + s[2 * j + 1] - total);
            }
        }
    }
}
