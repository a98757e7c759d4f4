#include "pool.c"

/* One row of sums over pooling windows, and into hits (may be NULL) how many of the summed values were not 0. */
static inline void ttfs_pool_sum(const ttfs_pool_t *p, int32_t row, const ttfs_x_t *x, ttfs_sum_t *sum, ttfs_hits_t *hits)
{
    const int32_t top = row * p->stride_h - p->pad_t;
    for (int32_t i = 0; i < p->out_w; i++) {
        const int32_t left = i * p->stride_w - p->pad_l;
        const int32_t to = (row * p->out_w + i) * p->channels;
        for (int32_t c = 0; c < p->channels; c++) {
            sum[to + c] = 0;
        }
        for (int32_t c = 0; hits != NULL && c < p->channels; c++) {
            hits[to + c] = 0;
        }
        for (int32_t y = top < 0 ? 0 : top; y < top + p->k_h && y < p->in_h; y++) {
            for (int32_t z = left < 0 ? 0 : left; z < left + p->k_w && z < p->in_w; z++) {
                const ttfs_x_t *const from = x + (y % p->kept * p->in_w + z) * p->channels;
                for (int32_t c = 0; c < p->channels; c++) {
                    sum[to + c] = (ttfs_sum_t)((int32_t)sum[to + c] + (int32_t)from[c]);
                }
                for (int32_t c = 0; hits != NULL && c < p->channels; c++) {
                    hits[to + c] = (ttfs_hits_t)(hits[to + c] + (from[c] != 0 ? 1 : 0));
                }
            }
        }
    }
}
