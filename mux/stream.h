/*
 * The two half-machines of a stream: what the peer sends us (input) and what we send it (output), each moved by
 * stream_input_move and stream_output_move only, along a table of legal moves (docs/STATES.md has the diagram).
 *
 *   input:   EXPECT_OPEN --> OPEN --> ENDED            output:  EXPECT_OPEN --> OPEN --> ENDING --> ENDED
 *                  \           \--> RESET <--/                        \           \---> RESET <---/
 *                   \-------------> RESET                              \--------------> RESET
 *
 * EXPECT_OPEN: the CONNECT request awaits its answer. ENDING: the end is asked for, bytes before it are not all sent;
 * also, back from ENDED, when a stream goes on another trunk, where the end is told again.
 */
#ifndef MUX_STREAM_H
#define MUX_STREAM_H

#include <stdint.h>

enum stream_state {
    STREAM_EXPECT_OPEN,
    STREAM_OPEN,
    STREAM_ENDING,
    STREAM_ENDED,
    STREAM_RESET,
    STREAM_STATE_COUNT,
};

/* Moves one half; asserts that the move is legal (an illegal one is a defect of ours, never the peer's doing). A move
 * to the present state has no effect. */
void stream_input_move(uint8_t *state, enum stream_state to);
void stream_output_move(uint8_t *state, enum stream_state to);

/* "open", "ending", ... Static. */
const char *stream_state_name(enum stream_state state);

#endif
