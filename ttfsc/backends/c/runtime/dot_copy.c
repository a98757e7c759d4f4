#include "dot.c"
#include "dot_seen.c"

/* As ttfs_dot_lay where nothing is pooled: rows are copied. */
TTFS_INLINE void ttfs_dot_copy(const ttfs_dot_t *k, const uint8_t *restrict x, uint8_t *restrict plane,
    uint8_t *restrict hits)
{
    const int32_t row = k->plane_w * k->in_c;
    const int32_t before = k->pad_l * k->in_c < row ? k->pad_l * k->in_c : row;
    const int32_t n = k->in_w * k->in_c < row - before ? k->in_w * k->in_c : row - before;
    for (int32_t y = 0; y < k->plane_h; y++) {
        const int32_t iy = y - k->pad_t;
        const int32_t some = iy >= 0 && iy < k->in_h ? n : 0;
        uint8_t *const to = plane + y * row;
        for (int32_t i = 0; i < before; i++) {
            to[i] = 0;
        }
        for (int32_t i = 0; i < some; i++) {
            to[before + i] = x[iy * k->in_w * k->in_c + i];
        }
        for (int32_t i = before + some; i < row; i++) {
            to[i] = 0;
        }
    }
    for (int32_t i = 0; i < 4; i++) {
        plane[k->plane_h * row + i] = 0;
    }
    for (int32_t i = 0; hits != NULL && i < k->plane_h * row + 4; i++) {
        hits[i] = plane[i] != 0 ? 1 : 0;
    }
    ttfs_dot_seen(k, plane, hits);
}
