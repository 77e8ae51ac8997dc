/* The two halves of a stream: every move that docs/STATES.md has, and none that it has not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mux/stream.h"

/* As drawn in docs/STATES.md, written down once more. */
static const struct {
    enum stream_state from;
    enum stream_state to;
    bool input;
    bool output;
} legal[] = {
    {STREAM_EXPECT_OPEN, STREAM_OPEN, true, true}, {STREAM_EXPECT_OPEN, STREAM_RESET, true, true},
    {STREAM_OPEN, STREAM_ENDED, true, false},      {STREAM_OPEN, STREAM_ENDING, false, true},
    {STREAM_OPEN, STREAM_RESET, true, true},       {STREAM_ENDING, STREAM_ENDED, false, true},
    {STREAM_ENDING, STREAM_RESET, false, true},    {STREAM_ENDED, STREAM_RESET, true, true},
    {STREAM_ENDED, STREAM_ENDING, false, true},
};

static bool drawn(enum stream_state from, enum stream_state to, bool input)
{
    for (size_t i = 0; i < sizeof(legal) / sizeof(legal[0]); i++) {
        if (legal[i].from == from && legal[i].to == to) {
            return input ? legal[i].input : legal[i].output;
        }
    }
    return from == to;
}

/* Makes the move in a child, as an illegal one ends the process. */
static bool survives(enum stream_state from, enum stream_state to, bool input)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        uint8_t state = (uint8_t)from;
        if (input) {
            stream_input_move(&state, to);
        } else {
            stream_output_move(&state, to);
        }
        _exit(state == (uint8_t)to ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void exactly_the_drawn_moves_are_legal(void **state)
{
    (void)state;
    for (int from = 0; from < STREAM_STATE_COUNT; from++) {
        for (int to = 0; to < STREAM_STATE_COUNT; to++) {
            for (int input = 0; input < 2; input++) {
                bool expected = drawn((enum stream_state)from, (enum stream_state)to, input);
                assert_int_equal(survives((enum stream_state)from, (enum stream_state)to, input), expected);
            }
        }
    }
}

static void every_state_has_a_name(void **state)
{
    (void)state;
    for (int i = 0; i < STREAM_STATE_COUNT; i++) {
        assert_string_not_equal(stream_state_name((enum stream_state)i), "unknown");
    }
    assert_string_equal(stream_state_name(STREAM_STATE_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_the_drawn_moves_are_legal),
        cmocka_unit_test(every_state_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
