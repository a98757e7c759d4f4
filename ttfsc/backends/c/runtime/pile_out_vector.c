#include "bundle.c"

/* pile_out.c for one vector of a row: sums of pairs of bytes, and of their odd ones. */
TTFS_INLINE void ttfs_pile_out(const ttfs_words_t *restrict from, uint32_t less, uint16_t *restrict to)
{
    const ttfs_words_t off = (ttfs_words_t){ 0 } + (uint16_t)less;
    ttfs_words_t even;
    ttfs_words_t odd;
    __builtin_memcpy(&even, to, sizeof even);
    __builtin_memcpy(&odd, to + ttfs_block / 2, sizeof odd);
    even += from[0] - (from[1] << 8) - off;
    odd += from[1] - off;
    __builtin_memcpy(to, &even, sizeof even);
    __builtin_memcpy(to + ttfs_block / 2, &odd, sizeof odd);
}
