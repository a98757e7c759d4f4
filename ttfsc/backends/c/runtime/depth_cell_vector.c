#include "depth.c"

/* depth_cell.c in GNU vectors, for spikes and sums of 16 bits; n is a multiple of 32 and at most a block. Sums stay in
 * registers over all taps. */
TTFS_INLINE void ttfs_depth_cell(const ttfs_depth_t *k, const uint8_t *restrict w, const ttfs_x_t *restrict in, int32_t y,
    int32_t x, int32_t n, ttfs_uacc_t *restrict sum, ttfs_uacc_t *restrict slope)
{
    enum { ttfs_each = sizeof(ttfs_unsigned_t) };
    const int32_t cell = k->each * k->out_c;
    const int32_t window = k->pool_h * k->pool_w;
    const int32_t top = y * k->stride_h - k->pad_t;
    const int32_t left = x * k->stride_w - k->pad_l;
    ttfs_lanes16_t s[ttfs_block / 16];
    ttfs_lanes16_t t[ttfs_block / 16];
    for (int32_t q = 0; ttfs_each * q < n; q++) {
        __builtin_memcpy(&s[q], sum + ttfs_each * q, sizeof s[q]);
        if (slope != NULL) {
            __builtin_memcpy(&t[q], slope + ttfs_each * q, sizeof t[q]);
        }
    }
    for (int32_t ky = top < 0 ? (-top + k->dil_h - 1) / k->dil_h : 0; ky < k->k_h && top + ky * k->dil_h < k->mid_h; ky++) {
        for (int32_t kx = left < 0 ? (-left + k->dil_w - 1) / k->dil_w : 0;
             kx < k->k_w && left + kx * k->dil_w < k->mid_w; kx++) {
            for (int32_t i = 0; i < window; i++) {
                const int32_t iy = (top + ky * k->dil_h) * k->pool_sh - k->pool_t + i / k->pool_w;
                const int32_t ix = (left + kx * k->dil_w) * k->pool_sw - k->pool_l + i % k->pool_w;
                for (int32_t e = 0; (window == 1 || (iy >= 0 && iy < k->in_h && ix >= 0 && ix < k->in_w)) && e < k->each; e++) {
                    const uint8_t *const row = w + (ky * k->k_w + kx) * cell + e * k->out_c;
                    const ttfs_x_t *const from = in + (iy * k->in_w + ix) * cell + e * k->out_c;
                    for (int32_t q = 0; ttfs_each * q < n; q++) {
                        ttfs_signed_t bytes;
                        ttfs_unsigned_t values;
                        __builtin_memcpy(&bytes, row + ttfs_each * q, sizeof bytes);
                        __builtin_memcpy(&values, from + ttfs_each * q, sizeof values);
                        const ttfs_lanes16_t weight = (ttfs_lanes16_t)__builtin_convertvector(bytes, ttfs_shorts_t);
                        const ttfs_lanes16_t v = __builtin_convertvector(values, ttfs_lanes16_t);
                        s[q] += v * weight;
                        if (slope != NULL) {
                            t[q] += weight & (ttfs_lanes16_t)__builtin_convertvector((ttfs_signed_t)(values != 0), ttfs_shorts_t);
                        }
                    }
                }
            }
        }
    }
    for (int32_t q = 0; ttfs_each * q < n; q++) {
        __builtin_memcpy(sum + ttfs_each * q, &s[q], sizeof s[q]);
        if (slope != NULL) {
            __builtin_memcpy(slope + ttfs_each * q, &t[q], sizeof t[q]);
        }
    }
}
