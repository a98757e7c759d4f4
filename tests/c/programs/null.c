/* Counts the calls that do not answer as the header promises. */
#include "tiny.h"

static tiny_state_t state;
static tiny_in_t in[TINY_IN_LEN];
static tiny_spike_t trace[TINY_TRACE_LEN];
static int32_t scores[TINY_CLASSES];
static uint16_t label;
static void *volatile none = NULL; /* volatile: a compiler that saw the NULL would warn, rightly */

int main(void)
{
    int bad = 0;
    bad += tiny_run(none, in, scores, &label) != TINY_E_ARG;
    bad += tiny_run(&state, none, scores, &label) != TINY_E_ARG;
    bad += tiny_run(&state, in, none, &label) != TINY_E_ARG;
    bad += tiny_run(&state, in, scores, none) != TINY_E_ARG;
    bad += tiny_run_traced(&state, in, scores, &label, none) != TINY_E_ARG;
    bad += tiny_run_traced(&state, in, scores, &label, trace) != TINY_OK;
    bad += tiny_run(&state, in, scores, &label) != TINY_OK;
    return bad;
}
