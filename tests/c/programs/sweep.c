/* Inputs from standard input; for each the trace, the scores and the label to standard output. Built with the model "m"
 * in front of it. The state is of exactly its size, so that sanitizers see both ends, and holds rubbish at first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    m_state_t *const state = malloc(sizeof *state);
    m_spike_t *const trace = malloc(M_TRACE_LEN * sizeof *trace);
    m_in_t *const in = malloc(M_IN_LEN * sizeof *in);
    int32_t *const scores = malloc(M_CLASSES * sizeof *scores);
    uint16_t label;
    if (state == NULL || trace == NULL || in == NULL || scores == NULL) {
        return 2;
    }
    while (fread(in, sizeof *in, M_IN_LEN, stdin) == M_IN_LEN) {
        memset(state, 0xA5, sizeof *state);
        if (m_run_traced(state, M_WEIGHTS in, scores, &label, trace) != M_OK) {
            return 3;
        }
        fwrite(trace, sizeof *trace, M_TRACE_LEN, stdout);
        fwrite(scores, sizeof *scores, M_CLASSES, stdout);
        fwrite(&label, sizeof label, 1, stdout);
    }
    free(scores);
    free(in);
    free(trace);
    free(state);
    return 0;
}
