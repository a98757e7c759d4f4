#include "ttfs_types.h"

/* v keeps num / 2^shift, rounded: 0 floor, 1 nearest with halves up, 2 towards zero. Worked on magnitudes split at
 * 2^shift, so that nothing needs more than 32 bits and no negative number is shifted. */
static inline void ttfs_leak(ttfs_acc_t *v, int32_t n, uint32_t num, uint32_t shift, int32_t rounding)
{
    const uint32_t one = (uint32_t)1 << shift;
    for (int32_t j = 0; j < n; j++) {
        const int32_t value = (int32_t)v[j];
        const uint32_t size = value < 0 ? (uint32_t)0 - (uint32_t)value : (uint32_t)value;
        const uint32_t part = (size & (one - 1u)) * num;
        const uint32_t rest = part & (one - 1u);
        uint32_t kept = (size >> shift) * num + (part >> shift);
        if (rounding == 0 && value < 0 && rest != 0u) {
            kept++;
        } else if (rounding == 1 && (2u * rest > one || (2u * rest == one && value > 0))) {
            kept++;
        }
        v[j] = (ttfs_acc_t)(value < 0 ? -(int32_t)kept : (int32_t)kept);
    }
}
