#include "ttfs_types.h"

/* 1 if all n inputs lie in low..high, else 0. */
static inline int32_t ttfs_in_range(const ttfs_in_t *in, int32_t n, int32_t low, int32_t high)
{
    int32_t wrong = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t v = (int32_t)in[i];
        wrong |= (v < low || v > high) ? 1 : 0;
    }
    return wrong == 0 ? 1 : 0;
}
