#ifndef TTFS_LISTS_C
#define TTFS_LISTS_C
#include "bundle.c"

/* What carries something, by row, group and position: entries first[i] .. first[i + 1] - 1 are those of position i. */
typedef struct {
    uint32_t *where;  /* [entries] where the entry's weight row starts, counted from the first of its kernel row */
    uint32_t *value;  /* [entries] once in each half */
    uint32_t *count;  /* [entries] spikes that the value sums, once in each half; NULL: one each */
    uint32_t *first;  /* [positions + 1] */
    uint32_t *top;    /* [positions] largest value from here to the end of a window that starts here */
    uint32_t *total;  /* [positions + 1] sum of all values before */
    uint32_t *spikes; /* [positions + 1] likewise of count */
} ttfs_lists_t;

/* Behind the last entry: how many, the sums of values and of counts; and the largest value of the position. */
typedef struct {
    uint32_t entries, total, spikes, top;
} ttfs_listed_t;
#endif
