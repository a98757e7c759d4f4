#include "pool.c"

/* How many spikes of value `want` the pooling window (y, x) holds in channel c. */
TTFS_INLINE int32_t ttfs_hits_at(const ttfs_pool_t *p, const ttfs_spike_t *spikes, int32_t y, int32_t x, int32_t c,
    int32_t want)
{
    int32_t count = 0;
    for (int32_t i = 0; i < p->k_h; i++) {
        const int32_t iy = y * p->stride_h - p->pad_t + i;
        for (int32_t j = 0; j < p->k_w; j++) {
            const int32_t ix = x * p->stride_w - p->pad_l + j;
            if (iy >= 0 && iy < p->in_h && ix >= 0 && ix < p->in_w
                && (int32_t)spikes[(iy * p->in_w + ix) * p->channels + c] == want) {
                count++;
            }
        }
    }
    return count;
}
