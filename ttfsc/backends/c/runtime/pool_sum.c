#include "pool.c"

/* Sums over pooling windows, and into hits (may be NULL) how many of the summed values were not 0. */
static inline void ttfs_pool_sum(const ttfs_pool_t *p, const ttfs_x_t *x, ttfs_sum_t *sum, uint16_t *hits)
{
    for (int32_t i = 0; i < p->out_h * p->out_w * p->channels; i++) {
        const int32_t c = i % p->channels;
        const int32_t top = i / p->channels / p->out_w * p->stride_h - p->pad_t;
        const int32_t left = i / p->channels % p->out_w * p->stride_w - p->pad_l;
        int32_t total = 0;
        int32_t count = 0;
        for (int32_t y = top < 0 ? 0 : top; y < top + p->k_h && y < p->in_h; y++) {
            for (int32_t z = left < 0 ? 0 : left; z < left + p->k_w && z < p->in_w; z++) {
                const int32_t v = (int32_t)x[(y * p->in_w + z) * p->channels + c];
                total += v;
                count += v != 0 ? 1 : 0;
            }
        }
        sum[i] = (ttfs_sum_t)total;
        if (hits != NULL) {
            hits[i] = (uint16_t)count;
        }
    }
}
