#include "pool.c"

/* The largest value, i.e. the earliest spike, of each window; padding never wins. */
static inline void ttfs_max_pool(const ttfs_pool_t *p, const ttfs_x_t *x, ttfs_x_t *out)
{
    for (int32_t i = 0; i < p->out_h * p->out_w * p->channels; i++) {
        const int32_t c = i % p->channels;
        const int32_t top = i / p->channels / p->out_w * p->stride_h - p->pad_t;
        const int32_t left = i / p->channels % p->out_w * p->stride_w - p->pad_l;
        const int32_t first_y = top < 0 ? 0 : top;
        const int32_t first_z = left < 0 ? 0 : left;
        ttfs_x_t best = x[(first_y * p->in_w + first_z) * p->channels + c];
        for (int32_t y = first_y; y < top + p->k_h && y < p->in_h; y++) {
            for (int32_t z = first_z; z < left + p->k_w && z < p->in_w; z++) {
                const ttfs_x_t v = x[(y * p->in_w + z) * p->channels + c];
                best = v > best ? v : best;
            }
        }
        out[i] = best;
    }
}
