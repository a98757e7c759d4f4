/* The weights in memory of one's own: the blob need not be linked. */
#include <stdio.h>

#include "tiny.h"

static uint8_t blob[TINY_WEIGHTS_LEN];
static tiny_state_t state;

int main(void)
{
    static const tiny_in_t in[TINY_IN_LEN];
    int32_t scores[TINY_CLASSES];
    uint16_t label = 0;
    FILE *file = fopen("tiny_weights.bin", "rb");
    if (file == NULL || fread(blob, 1, sizeof blob, file) != sizeof blob) {
        return 1;
    }
    fclose(file);
    if (tiny_run(&state, NULL, in, scores, &label) != TINY_E_ARG) {
        return 2;
    }
    if (tiny_run(&state, blob, in, scores, &label) != TINY_OK) {
        return 3;
    }
    printf("%d %ld %ld %ld\n", (int)label, (long)scores[0], (long)scores[1], (long)scores[2]);
    return 0;
}
