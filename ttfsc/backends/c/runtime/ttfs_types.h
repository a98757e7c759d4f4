/* Stand-ins for what the compiler fills in, so that every kernel file is C by itself (ttfsc.backends.c.kernels). */
#ifndef TTFS_TYPES_H
#define TTFS_TYPES_H

#include <stddef.h>
#include <stdint.h>

#define TTFS_INLINE static inline

typedef int16_t ttfs_acc_t;   /* accumulator, of the width proven for its layer */
typedef uint8_t ttfs_x_t;     /* what a synapse reads: spike values, pixels, or sums of them */
typedef uint16_t ttfs_sum_t;  /* sum over a pooling window */
typedef int16_t ttfs_theta_t; /* threshold table entry */
typedef uint8_t ttfs_in_t;    /* the network's input */
typedef uint8_t ttfs_spike_t; /* value of a spike, closes - tick; 0: never */

#endif
