#include "dot.c"

/* Behind the planes that ttfs_dot_t describes: for each row, whether it has anything else than 0. */
TTFS_INLINE void ttfs_dot_seen(const ttfs_dot_t *k, uint8_t *restrict plane, uint8_t *restrict hits)
{
    for (int32_t y = 0; y < k->plane_h; y++) {
        uint8_t any = 0;
        for (int32_t i = 0; i < k->plane_w * k->in_c; i++) {
            any = (uint8_t)(any | plane[y * k->plane_w * k->in_c + i]);
        }
        plane[k->plane_h * k->plane_w * k->in_c + 4 + y] = any;
        if (hits != NULL) {
            hits[k->plane_h * k->plane_w * k->in_c + 4 + y] = any;
        }
    }
}
