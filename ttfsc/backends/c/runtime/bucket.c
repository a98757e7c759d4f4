#include "bucket_row.c"

/* Every row of inputs. */
TTFS_INLINE void ttfs_bucket(const ttfs_bundle_t *k, const ttfs_spike_t *restrict x, const ttfs_buckets_t *b)
{
    const int32_t row = k->in_w * k->in_c;
    for (int32_t y = 0; y < k->in_h; y++) {
        ttfs_bucket_row(x + y * row, k->in_w, k->in_c, b->fired, b->where + y * row,
                        b->start + y * (ttfs_long * (k->in_w + 1)));
    }
}
