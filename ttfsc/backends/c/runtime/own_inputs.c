#include "depth.c"

/* The operand, channel-last, as ttfs_depth_t wants it: outputs of a group share their inputs. */
TTFS_INLINE void ttfs_own_inputs(const ttfs_depth_t *k, const ttfs_x_t *restrict x, ttfs_x_t *restrict own)
{
    const int32_t outputs = k->out_c / k->groups;
    for (int32_t i = 0; i < k->in_h * k->in_w; i++) {
        for (int32_t e = 0; e < k->each; e++) {
            for (int32_t c = 0; c < k->out_c; c++) {
                own[(i * k->each + e) * k->out_c + c] = x[(i * k->groups + c / outputs) * k->each + e];
            }
        }
    }
}
