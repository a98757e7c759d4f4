#ifndef TTFS_BUCKETS_C
#define TTFS_BUCKETS_C
#include "bundle.c"

/* Spikes of every input row sorted by value, each value's from left to right: value v of columns a to z - 1 of row r is
 * where[r * in_w * in_c + i] for i from at[v - 1][a] to at[v - 1][z] - 1 of start's row r. */
typedef struct {
    uint16_t *where; /* [in_h][in_w * in_c] column * in_c + channel */
    uint16_t *start; /* [in_h][ticks][in_w + 1] */
    uint16_t *fired; /* [in_w * in_c + 1] scratch for one row */
} ttfs_buckets_t;
#endif
