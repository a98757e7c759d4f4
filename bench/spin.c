/* For bench/c_threads.py: a second thread that never sleeps does every other piece. What the cut alone can bring, on a
 * machine that has nothing else to do; not for use. */
#include <pthread.h>
#include <stddef.h>

#include "m.h"

const m_threads_t *bench_spin(void);
void bench_end(void);

static m_piece_t piece_now;
static void *work_now;
static int32_t pieces_now;
static int begun;
static int done;
static int over;
static pthread_t thread;

static void every_other(int32_t first)
{
    for (int32_t k = first; k < pieces_now; k += 2) {
        piece_now(work_now, k);
    }
}

static void *worker(void *none)
{
    for (int last = 0; __atomic_load_n(&over, __ATOMIC_ACQUIRE) == 0;) {
        const int now = __atomic_load_n(&begun, __ATOMIC_ACQUIRE);
        if (now != last) {
            last = now;
            every_other(1);
            __atomic_store_n(&done, now, __ATOMIC_RELEASE);
        }
    }
    return none;
}

static void split(void *pool, int32_t pieces, m_piece_t piece, void *work)
{
    const int now = begun + 1;
    (void)pool;
    piece_now = piece;
    work_now = work;
    pieces_now = pieces;
    __atomic_store_n(&begun, now, __ATOMIC_RELEASE);
    every_other(0);
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) != now) {
    }
}

const m_threads_t *bench_spin(void)
{
    static const m_threads_t threads = { split, NULL };
    return pthread_create(&thread, NULL, worker, NULL) == 0 ? &threads : NULL;
}

void bench_end(void)
{
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    (void)pthread_join(thread, NULL);
}
