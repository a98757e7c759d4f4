#include "lists.c"

/* add_group.c in GNU vectors, `parts` of them from w on. Pairs of bytes are 16-bit lanes; a lane times a value is both
 * its bytes times it while neither carries, so that rows are added before they are taken apart: even bytes into
 * sum[2 q], odd ones into sum[2 q + 1]. */
TTFS_INLINE void ttfs_add_group(const uint8_t *restrict w, int32_t base, const uint32_t *restrict where,
    const uint32_t *restrict value, const uint32_t *restrict count, int32_t many, int32_t parts,
    ttfs_words_t *restrict sum, ttfs_words_t *restrict slope)
{
    for (int32_t q = 0; q < parts; q++) {
        ttfs_words_t t = { 0 };
        ttfs_words_t u = { 0 };
        for (int32_t m = 0; m < many; m++) {
            const ttfs_words_t row = (ttfs_words_t)((const ttfs_loads_t *)(w + (base + (int32_t)where[m])))[q];
            const ttfs_words_t x = (ttfs_words_t)((ttfs_doubles_t){ 0 } + value[m]);
            if (many == 1) {
                sum[2 * q] += (row & 255) * x;
                sum[2 * q + 1] += (row >> 8) * x;
            } else {
                t += row * x;
            }
            if (slope != NULL && count != NULL) {
                const ttfs_words_t n = (ttfs_words_t)((ttfs_doubles_t){ 0 } + count[m]);
                if (many == 1) {
                    slope[2 * q] += (row & 255) * n;
                    slope[2 * q + 1] += (row >> 8) * n;
                } else {
                    u += row * n;
                }
            } else if (slope != NULL) {
                u += row;
            }
        }
        if (many > 1) {
            sum[2 * q] += t & 255;
            sum[2 * q + 1] += t >> 8;
        }
        if (slope != NULL && (many > 1 || count == NULL)) {
            slope[2 * q] += u & 255;
            slope[2 * q + 1] += u >> 8;
        }
    }
}
