#include "pool.c"

/* One row of the largest values, i.e. the earliest spikes, of each window; padding never wins. */
static inline void ttfs_max_pool(const ttfs_pool_t *p, int32_t row, const ttfs_x_t *x, ttfs_x_t *out)
{
    const int32_t top = row * p->stride_h - p->pad_t;
    const int32_t first_y = top < 0 ? 0 : top;
    for (int32_t i = 0; i < p->out_w; i++) {
        const int32_t left = i * p->stride_w - p->pad_l;
        const int32_t first_z = left < 0 ? 0 : left;
        ttfs_x_t *const to = out + (row * p->out_w + i) * p->channels;
        const ttfs_x_t *const start = x + (first_y % p->kept * p->in_w + first_z) * p->channels;
        for (int32_t c = 0; c < p->channels; c++) {
            to[c] = start[c];
        }
        for (int32_t y = first_y; y < top + p->k_h && y < p->in_h; y++) {
            for (int32_t z = first_z; z < left + p->k_w && z < p->in_w; z++) {
                const ttfs_x_t *const from = x + (y % p->kept * p->in_w + z) * p->channels;
                for (int32_t c = 0; c < p->channels; c++) {
                    to[c] = from[c] > to[c] ? from[c] : to[c];
                }
            }
        }
    }
}
