/* Inputs from standard input through m_run_threads; scores and label of each to standard output. Pieces are done by POSIX
 * threads, one each, or by OpenMP; argument: how many pieces at a time, 0: the caller's thread alone. */
#include <stdio.h>
#include <stdlib.h>

#include "m.h"
#if defined(_OPENMP)
#include <omp.h>

#include "m_openmp.h"
#else
#include <pthread.h>
#endif

static m_state_t state;
static m_in_t in[M_IN_LEN];
static int32_t scores[M_CLASSES];

#if !defined(_OPENMP)
typedef struct {
    m_piece_t piece;
    void *work;
    int32_t first, step, pieces;
} job_t;

static void *run_job(void *data)
{
    const job_t *const job = data;
    for (int32_t k = job->first; k < job->pieces; k += job->step) {
        job->piece(job->work, k);
    }
    return NULL;
}

static void split(void *pool, int32_t pieces, m_piece_t piece, void *work)
{
    pthread_t threads[8];
    job_t jobs[8];
    const int32_t count = *(const int32_t *)pool;
    for (int32_t i = 0; i < count; i++) {
        jobs[i] = (job_t){ piece, work, i, count, pieces };
        if (pthread_create(&threads[i], NULL, run_job, &jobs[i]) != 0) {
            abort();
        }
    }
    for (int32_t i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}
#endif

int main(int argc, char **argv)
{
    int32_t count = argc > 1 ? (int32_t)atoi(argv[1]) : 0;
    uint16_t label;
#if defined(_OPENMP)
    const m_threads_t *const threads = count == 0 ? NULL : m_openmp();
    if (count != 0) {
        omp_set_num_threads(count);
        if (threads == NULL) {
            return 4;
        }
    }
#else
    const m_threads_t pool = { split, &count };
    const m_threads_t *const threads = count == 0 ? NULL : &pool;
#endif
    while (fread(in, sizeof in[0], M_IN_LEN, stdin) == M_IN_LEN) {
        if (m_run_threads(&state, threads, in, scores, &label) != M_OK) {
            return 3;
        }
        fwrite(scores, sizeof scores[0], M_CLASSES, stdout);
        fwrite(&label, sizeof label, 1, stdout);
    }
    return 0;
}
