#include "ttfs_types.h"

/* Index of the largest score, the lowest of equals. */
static inline uint16_t ttfs_best(const int32_t *scores, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    return (uint16_t)best;
}
