/*
 * One session's bytes, both ways, over trunks that are cut after any byte: all of them arrive once and in order, each
 * end is told once, and nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "tests/unit/trunk_pair.h"

#define WINDOW_BYTES 65536U

#define CUTS_MAX   8
#define SCRIPT_MAX 4096U
/* Sanitizers, which find other faults, are given a part of the offsets. */
#ifdef TRUNKLINE_SANITIZED
#define EVERY 7U
#else
#define EVERY 1U
#endif

#define STEPS_MAX     900U /* of STEP_US: before any stream is given up for its age */
#define STEP_US       10000U
#define SESSION       7U
#define CONSUME_BYTES 97U

enum ends {
    OPENER_ENDS_FIRST,
    ACCEPTOR_ENDS_FIRST,
    BOTH_END_AT_ONCE,
    ENDS_COUNT,
};

/* What is said, and how. */
struct script {
    size_t length[2]; /* by the opener, by the acceptor */
    size_t piece;     /* written at a time */
    enum ends ends;
    bool lazy;               /* CONSUME_BYTES at a time are consumed, not all at once */
    bool acceptor_sees_late; /* the old trunk is alive at the acceptor when the opener asks on another one */
    uint32_t window;
};

struct run {
    struct trunk_pair pair;
    const struct script *script;
    struct pair_stream opened;
    size_t written[2];
    uint64_t cuts[CUTS_MAX]; /* bytes from one cut to the next; 0: no more */
    size_t cuts_done;
    bool second; /* the pair of trunks that is in use */
};

static uint8_t said[2][SCRIPT_MAX];

static void fill_said(void)
{
    pair_fill(said[0], SCRIPT_MAX, 3);
    pair_fill(said[1], SCRIPT_MAX, 5);
}

static struct pair_stream *run_stream(struct run *run, int side)
{
    return side == 0 ? &run->opened : pair_accepted(&run->pair, 0);
}

static bool run_may_end(struct run *run, int side)
{
    enum ends first = side == 0 ? OPENER_ENDS_FIRST : ACCEPTOR_ENDS_FIRST;
    return run->script->ends == BOTH_END_AT_ONCE || run->script->ends == first || run_stream(run, side)->ended > 0;
}

static void run_step(struct run *run, int side)
{
    struct pair_stream *stream = run_stream(run, side);
    if (stream == NULL || !trunk_stream_attached(&stream->stream)) {
        return;
    }
    size_t left = run->script->length[side] - run->written[side];
    size_t room = trunk_stream_room(&stream->stream);
    size_t part = left < run->script->piece ? left : run->script->piece;
    part = part < room ? part : room;
    if (part > 0) {
        assert_int_equal(trunk_stream_write(&stream->stream, said[side] + run->written[side], part), ERROR_NONE);
        run->written[side] += part;
    }
    if (run->written[side] == run->script->length[side] && run_may_end(run, side)) {
        assert_int_equal(trunk_stream_end(&stream->stream), ERROR_NONE);
    }
    stream->consume = !run->script->lazy;
    size_t unconsumed = trunk_stream_unconsumed(&stream->stream);
    if (run->script->lazy && unconsumed > 0) {
        trunk_stream_consume(&stream->stream, unconsumed < CONSUME_BYTES ? unconsumed : CONSUME_BYTES);
    }
}

static void run_plan_cut(struct run *run)
{
    uint64_t next = run->cuts_done < CUTS_MAX ? run->cuts[run->cuts_done] : 0;
    run->pair.cut_at = next != 0 ? run->pair.frames_bytes + next : 0;
}

/* The opener asks on another trunk for what it has left. */
static void run_ask(struct run *run)
{
    struct trunk *trunk = run->second ? run->pair.second_opener.trunk : run->pair.opener.trunk;
    if (!trunk_stream_suspended(&run->opened.stream)) {
        return;
    }
    if (run->opened.opened > 0) {
        assert_int_equal(pair_resume(trunk, &run->opened, SESSION), ERROR_NONE);
        return;
    }
    /* Not answered: the same request again. */
    struct metadata metadata = pair_metadata(SESSION);
    trunk_stream_reset(&run->opened.stream, TRUNK_CODE_CANCEL);
    assert_int_equal(trunk_stream_open(trunk, &run->opened.stream, &metadata), ERROR_NONE);
}

static void run_lose_trunk(struct run *run)
{
    struct pair_end *opener = run->second ? &run->pair.second_opener : &run->pair.opener;
    struct pair_end *acceptor = run->second ? &run->pair.second_acceptor : &run->pair.acceptor;
    run->cuts_done++;
    run->pair.cut_at = 0;
    trunk_free(&opener->trunk);
    if (!run->script->acceptor_sees_late) {
        trunk_free(&acceptor->trunk);
    }
    run_step(run, 0);
    run_step(run, 1);
    run->second = !run->second;
    trunk_free(run->second ? &run->pair.second_acceptor.trunk : &run->pair.acceptor.trunk);
    assert_int_equal(run->second ? pair_connect_second(&run->pair) : pair_connect(&run->pair), ERROR_NONE);
    run_ask(run);
    run_plan_cut(run);
}

static bool run_over(struct run *run)
{
    struct pair_stream *accepted = pair_accepted(&run->pair, 0);
    return run->opened.closed > 0 && accepted != NULL && accepted->closed > 0;
}

/* What is wrong in the end, or NULL. */
static const char *run_wrong(struct run *run)
{
    struct pair_stream *accepted = pair_accepted(&run->pair, 0);
    if (!run_over(run)) {
        return "the streams are not over";
    }
    if (pair_accepted(&run->pair, 1) != NULL || run->opened.opened != 1) {
        return "the session began twice";
    }
    for (int side = 0; side < 2; side++) {
        const struct pair_stream *stream = run_stream(run, side);
        size_t length = run->script->length[1 - side];
        if (stream->closed != 1 || stream->ended != 1) {
            return "an end was not told once";
        }
        if (stream->received_length != length ||
            (length > 0 && memcmp(stream->received, said[1 - side], length) != 0)) {
            return "bytes are lost, doubled or out of order";
        }
    }
    /* The acceptor forgets the stream first: an opener that has not heard so is told that there is none. */
    bool gone = run->opened.error == ERROR_REFUSED && run->opened.detail == 410 && run->cuts_done > 0;
    return accepted->error != ERROR_NONE || (run->opened.error != ERROR_NONE && !gone) ? "the end was not clean" : NULL;
}

static void run_expect_all(struct run *run)
{
    const struct script *script = run->script;
    const char *wrong = run_wrong(run);
    if (wrong == NULL) {
        return;
    }
    for (size_t i = 0; i < CUTS_MAX; i++) {
        print_error("cut after %llu bytes%s\n", (unsigned long long)run->cuts[i], i < run->cuts_done ? ", done" : "");
    }
    /* What is retained for nothing, pair_dispose finds. */
    fail_msg(
        "%s: %zu and %zu bytes in pieces of %zu, ends %d, lazy %d, late %d, window %u; opener %zu %s %u, acceptor %zu",
        wrong, script->length[0], script->length[1], script->piece, (int)script->ends, script->lazy,
        script->acceptor_sees_late, script->window, run->opened.received_length, error_name(run->opened.error),
        run->opened.detail, pair_accepted(&run->pair, 0) != NULL ? pair_accepted(&run->pair, 0)->received_length : 0);
}

/* Returns how many bytes moved after the trunk was there. */
static uint64_t run_script(const struct script *script, const uint64_t cuts[CUTS_MAX], size_t *cuts_done)
{
    struct run run = {.script = script};
    memcpy(run.cuts, cuts, sizeof(run.cuts));
    assert_int_equal(pair_init_resuming(&run.pair, script->window), ERROR_NONE);
    run.pair.consume = !script->lazy;
    uint64_t before = run.pair.frames_bytes;
    assert_int_equal(pair_open_session(&run.pair, &run.opened, SESSION), ERROR_NONE);
    run_plan_cut(&run);
    for (size_t i = 0; i < STEPS_MAX && !run_over(&run); i++) {
        run_step(&run, 0);
        run_step(&run, 1);
        enum error_code error = pair_pump(&run.pair);
        if (error == ERROR_TRUNK_LOST) {
            run_lose_trunk(&run);
        } else {
            assert_int_equal(error, ERROR_NONE);
        }
        scheduler_advance(&run.pair.scheduler, run.pair.scheduler.now_us + STEP_US);
    }
    run_expect_all(&run);
    uint64_t moved = run.pair.frames_bytes - before;
    if (cuts_done != NULL) {
        *cuts_done = run.cuts_done;
    }
    pair_stream_dispose(&run.opened);
    pair_dispose(&run.pair);
    return moved;
}

/* ------------------------------------------------------------------------------------------------ tests */

static const struct script scripts[] = {
    {.length = {700, 500}, .piece = 130, .window = WINDOW_BYTES},
    {.length = {700, 500}, .piece = 130, .window = 300},
    {.length = {700, 500}, .piece = 400, .window = 300, .lazy = true},
    {.length = {500, 0}, .piece = 500, .window = WINDOW_BYTES, .lazy = true},
    {.length = {0, 300}, .piece = 100, .window = WINDOW_BYTES},
    {.length = {0, 0}, .piece = 100, .window = WINDOW_BYTES},
};

#define SCRIPT_COUNT (sizeof(scripts) / sizeof(scripts[0]))

/* The nth way to run the scripts. */
static bool script_variant(size_t nth, struct script *script)
{
    if (nth >= SCRIPT_COUNT * ENDS_COUNT * 2) {
        return false;
    }
    *script = scripts[nth % SCRIPT_COUNT];
    script->ends = (enum ends)(nth / SCRIPT_COUNT % ENDS_COUNT);
    script->acceptor_sees_late = nth / SCRIPT_COUNT / ENDS_COUNT > 0;
    return true;
}

static void a_cut_after_any_byte_loses_and_doubles_nothing(void **state)
{
    (void)state;
    struct script script;
    for (size_t nth = 0; script_variant(nth, &script); nth++) {
        uint64_t total = run_script(&script, (uint64_t[CUTS_MAX]){0}, NULL);
        for (uint64_t cut = 1; cut <= total; cut += EVERY) {
            (void)run_script(&script, (uint64_t[CUTS_MAX]){cut}, NULL);
        }
    }
}

/* The second cut comes after each byte of what follows the first: the request, its answer, and the rest. */
static void a_cut_while_the_session_resumes_loses_and_doubles_nothing(void **state)
{
    (void)state;
    struct script script;
    for (size_t nth = 0; script_variant(nth, &script); nth++) {
        uint64_t total = run_script(&script, (uint64_t[CUTS_MAX]){0}, NULL);
        for (uint64_t first = 1; first <= total; first += 359U * EVERY) {
            size_t cuts_done = 2;
            for (uint64_t second = 1; cuts_done == 2; second += second < 256 ? 1 : 13) {
                (void)run_script(&script, (uint64_t[CUTS_MAX]){first, second}, &cuts_done);
            }
        }
    }
}

static void many_cuts_anywhere_lose_and_double_nothing(void **state)
{
    (void)state;
    struct random_state random;
    for (uint64_t seed = 0; seed < 1500U / EVERY; seed++) {
        uint64_t cuts[CUTS_MAX] = {0};
        random_seed(&random, seed);
        struct script script = {
            .length = {(size_t)random_below(&random, 2000), (size_t)random_below(&random, 2000)},
            .piece = 20 + (size_t)random_below(&random, 600),
            .ends = (enum ends)random_below(&random, ENDS_COUNT),
            .lazy = random_below(&random, 2) == 0,
            .acceptor_sees_late = random_below(&random, 2) == 0,
            .window = 200 + (uint32_t)random_below(&random, 2000),
        };
        for (size_t i = 0; i < CUTS_MAX; i++) {
            cuts[i] = 1 + random_below(&random, i % 2 == 0 ? 1500 : 250);
        }
        (void)run_script(&script, cuts, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_after_any_byte_loses_and_doubles_nothing),
        cmocka_unit_test(a_cut_while_the_session_resumes_loses_and_doubles_nothing),
        cmocka_unit_test(many_cuts_anywhere_lose_and_double_nothing),
    };
    fill_said();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
