#include "ttfs_types.h"

/* v = constants, or 0 where there are none. */
TTFS_INLINE void ttfs_start(ttfs_acc_t *restrict v, const ttfs_acc_t *restrict constants, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        v[j] = constants == NULL ? (ttfs_acc_t)0 : constants[j];
    }
}
