/* Stand-ins for what the compiler fills in, so that every kernel file is C by itself (ttfsc.backends.c.kernels). */
#ifndef TTFS_TYPES_H
#define TTFS_TYPES_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define TTFS_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define TTFS_AVX2 __attribute__((target("avx2")))
#endif
#define TTFS_UNROLL
#define TTFS_INLINE static inline
#define TTFS_FETCH(address) (void)(address)
#define TTFS_TOUCH(address) (void)(address)

typedef int16_t ttfs_acc_t;   /* accumulator, of the width proven for its layer */
typedef uint16_t ttfs_uacc_t; /* the same without sign, for sums modulo its range */
typedef int16_t ttfs_const_t; /* bias or drift */
typedef uint8_t ttfs_x_t;     /* what a synapse reads: spike values, pixels, or sums of them */
typedef uint16_t ttfs_sum_t;  /* sum over a pooling window */
typedef uint8_t ttfs_hits_t;  /* number of spikes in one */
typedef int16_t ttfs_theta_t; /* threshold table entry */
typedef uint8_t ttfs_in_t;    /* the network's input */
typedef uint8_t ttfs_spike_t; /* value of a spike, closes - tick; 0: never */

/* The places of the bytes among n (at most 64) that are v, counted from base; how many. 64 places are written. */
static inline int32_t ttfs_pick(const uint8_t *x, int32_t n, uint8_t v, int32_t base, uint16_t *to)
{
    int32_t found = 0;
    for (int32_t i = 0; i < n; i++) {
        to[found] = (uint16_t)(base + i);
        found += x[i] == v ? 1 : 0;
    }
    return found;
}

enum {
    ttfs_block = 64, /* outputs that a weight row holds */
    ttfs_bytes = 64, /* of a weight row */
    ttfs_budget = 17, /* a biased weight times that fits a byte */
    ttfs_piled = 3,  /* weight rows that lie together */
    ttfs_flush = 8,  /* how many biased weights a byte can sum: 8, or 1 for none */
    ttfs_taps = 9,   /* inputs of a window, per channel */
    ttfs_long = 10,  /* ticks */
    ttfs_planes = 2, /* of values: spikes' values and their numbers */
    ttfs_places = 6, /* output positions whose sums stay in registers */
    ttfs_vectors = 2, /* of outputs, likewise */
    ttfs_most = 300, /* fours of inputs that a row of outputs reads */
    ttfs_few = 200,  /* of them, that are listed */
    ttfs_across = 15, /* columns of inputs */
    ttfs_step = 16,  /* bytes from what one position reads to what the next does */
    ttfs_lanes = 32  /* bytes of a vector */
};

#if defined(__GNUC__)
typedef uint8_t ttfs_bytes_t __attribute__((vector_size(32)));
typedef uint8_t ttfs_loads_t __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint16_t ttfs_words_t __attribute__((vector_size(32)));
typedef uint8_t ttfs_sixteen_t __attribute__((vector_size(16)));
typedef uint16_t ttfs_sums_t __attribute__((vector_size(32)));
typedef uint16_t ttfs_lanes16_t __attribute__((vector_size(32)));
typedef int16_t ttfs_shorts_t __attribute__((vector_size(32)));
typedef int8_t ttfs_signed_t __attribute__((vector_size(16)));
typedef uint8_t ttfs_unsigned_t __attribute__((vector_size(16)));
typedef uint16_t ttfs_eight_t __attribute__((vector_size(16)));
typedef uint32_t ttfs_doubles_t __attribute__((vector_size(32)));
typedef uint32_t ttfs_wide_t __attribute__((vector_size(32)));
typedef int32_t ttfs_sixteen32_t __attribute__((vector_size(64)));
typedef int32_t ttfs_eight32_t __attribute__((vector_size(32)));
typedef uint32_t ttfs_unsigned32_t __attribute__((vector_size(32)));
typedef uint16_t ttfs_pairs16_t __attribute__((vector_size(32)));
typedef uint16_t ttfs_eight16_t __attribute__((vector_size(16)));
#endif

#endif
