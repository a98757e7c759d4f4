#include "gather.c"
#include "window.c"

/* Output rows y0 .. y1 - 1 get what the spikes of one bundle bring them. sum, slope (NULL: hold): [pixels][groups *
 * blocks * block] from row y0 on. at [pixels] and whole [2 * pixels]: where each position's rows start, and how many
 * spikes they are; eights at a time do not carry over 16 bits. */
TTFS_INLINE void ttfs_bundle_tile(const ttfs_bundle_t *k, const uint8_t *restrict w, const uint16_t *restrict order,
    const uint16_t *restrict start, int32_t y0, int32_t y1, int32_t most, uint32_t *restrict rows,
    uint8_t *restrict late, int32_t *restrict at, uint32_t *restrict whole, ttfs_uacc_t *restrict sum,
    ttfs_uacc_t *restrict slope)
{
    const int32_t pixels = (y1 - y0) * k->out_w;
    const int32_t width = k->groups * k->blocks * ttfs_block;
    const int32_t stretch = (k->k_h * k->k_w * (k->in_c / k->groups) + 1) * ttfs_bytes;
    for (int32_t g = 0; g < k->groups; g++) {
        int32_t eights = 0;
        for (int32_t p = 0; p < pixels; p++) {
            at[p] = eights;
            eights += ttfs_window(k, order, start, y0 + p / k->out_w, p % k->out_w, g, rows + 8 * eights,
                                  late + eights, whole + 2 * p);
        }
        at[pixels] = eights;
        for (int32_t b = 0; b < k->blocks; b++) {
            const int32_t block = g * k->blocks + b;
            const int32_t next = pixels == 1 && k->ahead != 0 && b + 1 < k->blocks ? stretch : 0;
            const int32_t more = pixels > 1 && k->ahead != 0 && b + 1 < k->blocks && eights > 0 ? stretch / 64 : 0;
            const int32_t lines = more > 0 ? more / eights + 1 : 0;
            for (int32_t i = 0; pixels > 1 && k->ahead != 0 && b == 0 && i < stretch; i += 64) {
                TTFS_TOUCH(w + block * stretch + i); /* in order: memory gives that four times as fast as rows */
            }
            for (int32_t p = 0; p < pixels; p++) {
                ttfs_uacc_t *const s = sum + p * width + block * ttfs_block;
                ttfs_uacc_t *const n = slope == NULL ? NULL : slope + p * width + block * ttfs_block;
                uint32_t less_sum = whole[2 * p + 1] * (uint32_t)k->bias;
                uint32_t less_slope = whole[2 * p] * (uint32_t)k->bias;
                for (int32_t i = at[p]; i < at[p + 1]; i += most) {
                    const int32_t left = at[p + 1] - i;
                    ttfs_gather(w + block * stretch, rows + 8 * i, late + i, left < most ? left : most,
                                next, w + (block + 1) * stretch + i * lines * 64, lines, less_sum, less_slope, s, n);
                    less_sum = 0;
                    less_slope = 0;
                }
            }
        }
    }
}
