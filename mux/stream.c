/* The legal moves of a stream's two halves. No state of its own. */
#include "mux/stream.h"

#include <assert.h>
#include <stdbool.h>

static const bool input_moves[STREAM_STATE_COUNT][STREAM_STATE_COUNT] = {
    [STREAM_EXPECT_OPEN] = {[STREAM_OPEN] = true, [STREAM_RESET] = true},
    [STREAM_OPEN] = {[STREAM_ENDED] = true, [STREAM_RESET] = true},
    [STREAM_ENDED] = {[STREAM_RESET] = true},
};

static const bool output_moves[STREAM_STATE_COUNT][STREAM_STATE_COUNT] = {
    [STREAM_EXPECT_OPEN] = {[STREAM_OPEN] = true, [STREAM_RESET] = true},
    [STREAM_OPEN] = {[STREAM_ENDING] = true, [STREAM_RESET] = true},
    [STREAM_ENDING] = {[STREAM_ENDED] = true, [STREAM_RESET] = true},
    [STREAM_ENDED] = {[STREAM_ENDING] = true, [STREAM_RESET] = true}, /* the former when it is told again */
};

static void stream_move(const bool moves[STREAM_STATE_COUNT][STREAM_STATE_COUNT], uint8_t *state, enum stream_state to)
{
    assert(*state < STREAM_STATE_COUNT && to < STREAM_STATE_COUNT);
    if (*state == (uint8_t)to) {
        return;
    }
    assert(moves[*state][to] && "an engine asked for a move that docs/STATES.md does not have");
    *state = (uint8_t)to;
}

void stream_input_move(uint8_t *state, enum stream_state to)
{
    stream_move(input_moves, state, to);
}

void stream_output_move(uint8_t *state, enum stream_state to)
{
    stream_move(output_moves, state, to);
}

const char *stream_state_name(enum stream_state state)
{
    static const char *const names[STREAM_STATE_COUNT] = {
        [STREAM_EXPECT_OPEN] = "expect-open",
        [STREAM_OPEN] = "open",
        [STREAM_ENDING] = "ending",
        [STREAM_ENDED] = "ended",
        [STREAM_RESET] = "reset",
    };
    return (unsigned)state < STREAM_STATE_COUNT ? names[state] : "unknown";
}
