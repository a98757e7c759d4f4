#include "ttfs_types.h"

/* v += more; more NULL: nothing. */
TTFS_INLINE void ttfs_add(ttfs_acc_t *restrict v, const ttfs_acc_t *restrict more, int32_t n)
{
    for (int32_t j = 0; more != NULL && j < n; j++) {
        v[j] = (ttfs_acc_t)((int32_t)v[j] + (int32_t)more[j]);
    }
}
