/* The engine of trunkline-chaos: each toxic on one direction, under virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mux/memory.h"
#include "tests/chaos/flow.h"

#define MS          UINT64_C(1000)
#define START_US    UINT64_C(5000000)
#define ROOM        300000U
#define LOG_ROOM    400000U
#define TOXICS_HERE 3U

/* A flow with its toxics, a source and a sink. */
struct bench {
    struct decisions decisions;
    struct flow flow;
    struct toxic *toxics[TOXICS_HERE];
    size_t toxic_count;
    uint64_t now_us;
    uint8_t given[ROOM];
    size_t given_length;
    uint8_t taken[ROOM];
    size_t taken_length;
    size_t sends[1000];
    size_t send_count;
    bool blocked; /* the sink takes nothing */
    enum flow_end end;
    char log[LOG_ROOM];
    size_t log_length;
};

static struct bench bench;
static uint8_t scratch[FLOW_SCRATCH_BYTES];

static void on_line(void *owner, const char *line, size_t length)
{
    (void)owner;
    assert_true(bench.log_length + length < LOG_ROOM);
    memcpy(bench.log + bench.log_length, line, length);
    bench.log_length += length;
}

static void begin_with(uint64_t seed, const char *replay)
{
    struct option_fault fault;
    memset(&bench, 0, sizeof(bench));
    bench.now_us = START_US;
    decisions_init(&bench.decisions, seed, START_US, on_line, NULL);
    if (replay != NULL) {
        assert_int_equal(decisions_load(&bench.decisions, replay, strlen(replay), &fault), ERROR_NONE);
    }
    const struct decision_scope scope = {.decisions = &bench.decisions,
                                         .proxy = "p",
                                         .connection = 1,
                                         .stream = TOXIC_DOWNSTREAM,
                                         .opened_us = START_US};
    flow_init(&bench.flow, &scope, FLOW_LATENCY_BYTES);
}

static void begin(void)
{
    begin_with(42, NULL);
}

static void finish(void)
{
    flow_dispose(&bench.flow);
    decisions_dispose(&bench.decisions);
    for (size_t i = 0; i < bench.toxic_count; i++) {
        toxic_free(&bench.toxics[i]);
    }
}

static uint64_t *add(enum toxic_type type)
{
    struct toxic toxic;
    struct option_fault fault;
    toxic_init(&toxic, type);
    assert_int_equal(toxic_complete(&toxic, &fault), ERROR_NONE);
    struct toxic *copy = toxic_copy(&toxic);
    toxic_dispose(&toxic);
    bench.toxics[bench.toxic_count++] = copy;
    return copy->values;
}

/* Puts the toxics added so far to work. */
static void set(void)
{
    for (size_t i = 0; i < bench.toxic_count; i++) {
        assert_int_equal(flow_add(&bench.flow, bench.toxics[i], bench.now_us), ERROR_NONE);
    }
}

/* What the connection does: lets things happen, and sends what may leave. */
static void turn(void)
{
    flow_run(&bench.flow, bench.now_us);
    for (;;) {
        const uint8_t *bytes;
        size_t length = flow_output(&bench.flow, scratch, &bytes);
        if (length == 0 || bench.blocked) {
            break;
        }
        assert_true(bench.taken_length + length <= ROOM);
        memcpy(bench.taken + bench.taken_length, bytes, length);
        bench.taken_length += length;
        if (bench.send_count < 1000) {
            bench.sends[bench.send_count++] = length;
        }
        flow_written(&bench.flow, length);
    }
    enum flow_end end = flow_pending_end(&bench.flow);
    if (end != FLOW_GOES_ON) {
        bench.end = end;
        flow_delivered(&bench.flow);
    }
}

static void give(size_t length)
{
    uint8_t bytes[65536];
    assert_true(length <= sizeof(bytes) && bench.given_length + length <= ROOM);
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)((bench.given_length + i) * 7U);
    }
    memcpy(bench.given + bench.given_length, bytes, length);
    bench.given_length += length;
    assert_int_equal(flow_feed(&bench.flow, bytes, length, bench.now_us), ERROR_NONE);
    turn();
}

static void pass_time(uint64_t us)
{
    uint64_t until_us = bench.now_us + us;
    while (bench.flow.wake_us <= until_us) {
        bench.now_us = bench.flow.wake_us > bench.now_us ? bench.flow.wake_us : bench.now_us;
        turn();
        assert_true(bench.flow.wake_us > bench.now_us);
    }
    bench.now_us = until_us;
    turn();
}

static void assert_taken(size_t length)
{
    assert_int_equal(bench.taken_length, length);
    assert_memory_equal(bench.taken, bench.given, length);
}

static void without_toxics_all_passes_and_a_fin_is_last(void **state)
{
    (void)state;
    begin();
    assert_true(flow_plain(&bench.flow));
    bench.blocked = true;
    give(70000 - 10000);
    give(10000);
    assert_int_equal(flow_room(&bench.flow), 0); /* the sink is blocked: the source must wait */
    flow_source_end(&bench.flow, FLOW_FINISH);
    turn();
    assert_int_equal(bench.end, FLOW_GOES_ON);
    bench.blocked = false;
    turn();
    assert_taken(70000);
    assert_int_equal(bench.end, FLOW_FINISH);
    assert_true(flow_over(&bench.flow));
    finish();
}

static void a_reset_of_the_source_does_not_wait_for_a_blocked_sink(void **state)
{
    (void)state;
    begin();
    bench.blocked = true;
    give(100);
    flow_source_end(&bench.flow, FLOW_RESET);
    turn();
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
}

static void latency_delays_bytes_and_the_end_behind_them(void **state)
{
    (void)state;
    begin();
    add(TOXIC_LATENCY)[LATENCY_LATENCY_MS] = 50;
    set();
    give(1000);
    pass_time(20 * MS);
    give(1000);
    flow_source_end(&bench.flow, FLOW_FINISH);
    turn();
    pass_time(30 * MS - 1);
    assert_taken(0);
    pass_time(1);
    assert_taken(1000);
    pass_time(20 * MS - 1);
    assert_taken(1000);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    pass_time(1);
    assert_taken(2000);
    assert_int_equal(bench.end, FLOW_FINISH);
    finish();
}

static void latency_with_jitter_keeps_the_order_and_its_bounds(void **state)
{
    (void)state;
    begin();
    uint64_t *values = add(TOXIC_LATENCY);
    values[LATENCY_LATENCY_MS] = 50;
    values[LATENCY_JITTER_MS] = 20;
    set();
    for (int i = 0; i < 100; i++) {
        give(300);
        pass_time(500);
    }
    pass_time(70 * MS);
    assert_taken(30000);
    assert_true(bench.toxics[0]->hits >= 100);
    finish();
}

static void latency_stops_reading_at_its_bound_and_when_the_sink_is_blocked(void **state)
{
    (void)state;
    begin();
    bench.flow.latency_bytes = 100000;
    add(TOXIC_LATENCY)[LATENCY_LATENCY_MS] = 50;
    set();
    give(60000);
    assert_int_equal(flow_room(&bench.flow), 40000);
    give(40000);
    assert_int_equal(flow_room(&bench.flow), 0);
    bench.blocked = true;
    pass_time(50 * MS);
    assert_int_equal(flow_room(&bench.flow), 0);
    bench.blocked = false;
    turn();
    assert_taken(100000);
    assert_true(flow_room(&bench.flow) > 0);
    finish();
}

static void bandwidth_keeps_its_rate_and_a_small_backlog(void **state)
{
    (void)state;
    begin();
    add(TOXIC_BANDWIDTH)[BANDWIDTH_RATE] = 100; /* 100 bytes a millisecond */
    set();
    give(60000);
    assert_true(flow_room(&bench.flow) <= FLOW_BACKLOG_BYTES);
    pass_time(100 * MS);
    assert_in_range(bench.taken_length, 10000, 12100);
    pass_time(500 * MS);
    assert_taken(60000);
    finish();
}

static void slices_are_sent_one_by_one_with_their_gaps(void **state)
{
    (void)state;
    begin();
    uint64_t *values = add(TOXIC_SLICER);
    values[SLICER_AVERAGE_SIZE] = 100;
    values[SLICER_SIZE_VARIATION] = 50;
    values[SLICER_DELAY_US] = 10;
    set();
    give(20000);
    assert_int_equal(bench.send_count, 1);
    pass_time(20000);
    assert_taken(20000);
    size_t sum = 0;
    for (size_t i = 0; i + 1 < bench.send_count; i++) {
        assert_in_range(bench.sends[i], 50, 150);
        sum += bench.sends[i];
    }
    assert_in_range(sum / (bench.send_count - 1), 90, 110);
    finish();
}

/* The lines of a run without their times. */
static void decisions_of_run(uint64_t seed, size_t cut, const char *replay, char *into)
{
    begin_with(seed, replay);
    uint64_t *values = add(TOXIC_SLICER);
    values[SLICER_AVERAGE_SIZE] = 300;
    values[SLICER_SIZE_VARIATION] = 299;
    values = add(TOXIC_LATENCY);
    values[LATENCY_LATENCY_MS] = 1;
    values[LATENCY_JITTER_MS] = 1;
    values = add(TOXIC_CORRUPT);
    values[CORRUPT_EVERY] = 1000;
    set();
    for (size_t given = 0; given < 24000; given += cut) {
        give(cut);
    }
    pass_time(10 * MS);
    assert_int_equal(bench.taken_length, 24000);
    size_t used = 0;
    bench.log[bench.log_length] = '\0';
    /* The order between toxics depends on the cuts; that within each does not. */
    static const char *const names[] = {" slicer_downstream ", " latency_downstream ", " corrupt_downstream "};
    for (size_t i = 0; i < 3; i++) {
        for (char *line = bench.log; *line != '\0';) {
            char *end = strchr(line, '\n');
            *end = '\0';
            if (strstr(line, names[i]) != NULL) {
                used += (size_t)sprintf(into + used, "%s\n", strchr(line, ' '));
            }
            *end = '\n';
            line = end + 1;
        }
    }
    finish();
}

static char left[LOG_ROOM];
static char right[LOG_ROOM];

static void decisions_do_not_depend_on_how_reads_are_cut(void **state)
{
    (void)state;
    decisions_of_run(42, 24000, NULL, left);
    assert_true(strlen(left) > 5000);
    decisions_of_run(42, 100, NULL, right);
    assert_string_equal(left, right);
    decisions_of_run(43, 100, NULL, right);
    assert_string_not_equal(left, right);
}

static void a_replay_takes_its_decisions_from_the_log(void **state)
{
    (void)state;
    static char log[LOG_ROOM];
    decisions_of_run(42, 1000, NULL, left);
    /* Another seed in the header: what agrees comes from the lines. */
    int used = sprintf(log, "# trunkline-chaos-log 1 seed=7 receive_buffer=0 latency_buffer=67108864\n");
    memcpy(log + used, bench.log, bench.log_length);
    log[(size_t)used + bench.log_length] = '\0';
    decisions_of_run(0, 1000, log, right);
    assert_string_equal(left, right);
    assert_int_equal(bench.decisions.missed, 0);
}

static void a_replayed_reset_waits_for_its_time_at_its_offset(void **state)
{
    (void)state;
    begin_with(0, "# trunkline-chaos-log 1 seed=7 receive_buffer=0 latency_buffer=1\n"
                  "1000 p 1 - 0 - open 0\n"
                  "31000 p 1 downstream 500 reset_downstream reset 0\n");
    add(TOXIC_RESET)[RESET_AFTER_MS] = 1;
    set();
    give(1000);
    assert_taken(500);
    pass_time(30 * MS - 1);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    pass_time(1);
    assert_taken(500);
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
}

static void a_pause_holds_and_stops_reading_and_comes_again(void **state)
{
    (void)state;
    begin();
    uint64_t *values = add(TOXIC_PAUSE);
    values[PAUSE_AFTER_MS] = 10;
    values[PAUSE_INTERVAL_MS] = 20;
    values[PAUSE_DURATION_MS] = 5;
    set();
    turn();
    pass_time(10 * MS);
    assert_int_equal(flow_room(&bench.flow), 0);
    give(100);
    assert_taken(0);
    pass_time(5 * MS);
    assert_taken(100);
    assert_true(flow_room(&bench.flow) > 0);
    pass_time(20 * MS);
    assert_int_equal(flow_room(&bench.flow), 0);
    assert_int_equal(bench.toxics[0]->hits, 2);
    finish();
}

static void a_reset_by_bytes_by_time_and_by_idleness(void **state)
{
    (void)state;
    begin();
    add(TOXIC_RESET)[RESET_AFTER_BYTES] = 150;
    set();
    give(100);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    give(100);
    assert_taken(150);
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
    begin();
    add(TOXIC_RESET)[RESET_AFTER_MS] = 30;
    set();
    give(100);
    pass_time(30 * MS);
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
    begin();
    add(TOXIC_RESET)[RESET_IDLE_MS] = 30;
    set();
    for (int i = 0; i < 5; i++) {
        give(10);
        pass_time(29 * MS);
    }
    assert_int_equal(bench.end, FLOW_GOES_ON);
    pass_time(1 * MS);
    assert_taken(50);
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
}

static void half_close_and_limit_data_end_at_their_byte(void **state)
{
    (void)state;
    begin();
    add(TOXIC_HALF_CLOSE)[HALF_CLOSE_AFTER_BYTES] = 10;
    set();
    give(100);
    assert_taken(10);
    assert_int_equal(bench.end, FLOW_FINISH);
    assert_true(flow_room(&bench.flow) > 0); /* the rest is read and dropped */
    give(100);
    assert_taken(10);
    finish();
    begin();
    add(TOXIC_LIMIT_DATA)[LIMIT_DATA_BYTES] = 10;
    set();
    give(100);
    assert_taken(10);
    assert_int_equal(bench.end, FLOW_CLOSE);
    finish();
}

static void a_black_hole_drops_bytes_and_the_end(void **state)
{
    (void)state;
    begin();
    add(TOXIC_BLACK_HOLE)[BLACK_HOLE_AFTER_MS] = 10;
    set();
    give(100);
    assert_taken(100);
    pass_time(10 * MS);
    give(100);
    flow_source_end(&bench.flow, FLOW_FINISH);
    turn();
    assert_taken(100);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    assert_true(flow_over(&bench.flow));
    finish();
}

static void a_reset_passes_a_black_hole_behind_it(void **state)
{
    (void)state;
    begin();
    add(TOXIC_RESET)[RESET_AFTER_MS] = 20;
    (void)add(TOXIC_BLACK_HOLE);
    set();
    give(100);
    assert_taken(0);
    pass_time(20 * MS);
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
}

static void a_timeout_drops_then_closes_and_closes_when_removed(void **state)
{
    (void)state;
    begin();
    add(TOXIC_TIMEOUT)[TIMEOUT_TIMEOUT_MS] = 20;
    set();
    give(100);
    pass_time(20 * MS - 1);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    pass_time(1);
    assert_taken(0);
    assert_int_equal(bench.end, FLOW_CLOSE);
    finish();
    begin();
    (void)add(TOXIC_TIMEOUT);
    set();
    give(100);
    pass_time(1000 * MS);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    flow_remove(&bench.flow, bench.toxics[0]);
    turn();
    assert_int_equal(bench.end, FLOW_CLOSE);
    finish();
    begin();
    add(TOXIC_RESET_PEER)[RESET_PEER_TIMEOUT_MS] = 20;
    set();
    turn();
    pass_time(20 * MS);
    assert_int_equal(bench.end, FLOW_RESET);
    finish();
}

static void slow_close_holds_the_end_only(void **state)
{
    (void)state;
    begin();
    add(TOXIC_SLOW_CLOSE)[SLOW_CLOSE_DELAY_MS] = 20;
    set();
    give(100);
    flow_source_end(&bench.flow, FLOW_FINISH);
    turn();
    assert_taken(100);
    pass_time(20 * MS - 1);
    assert_int_equal(bench.end, FLOW_GOES_ON);
    pass_time(1);
    assert_int_equal(bench.end, FLOW_FINISH);
    finish();
}

static void corrupt_changes_one_byte_in_each_stretch(void **state)
{
    (void)state;
    begin();
    uint64_t *values = add(TOXIC_CORRUPT);
    values[CORRUPT_AFTER_BYTES] = 50;
    values[CORRUPT_EVERY] = 100;
    set();
    for (int i = 0; i < 50; i++) {
        give(21);
    }
    size_t changed = 0;
    assert_int_equal(bench.taken_length, 1050);
    for (size_t stretch = 0; stretch < 10; stretch++) {
        size_t here = 0;
        for (size_t i = 50 + stretch * 100; i < 150 + stretch * 100; i++) {
            here += bench.taken[i] != bench.given[i] ? 1 : 0;
        }
        assert_int_equal(here, 1);
        changed += here;
    }
    assert_int_equal(bench.toxics[0]->hits, changed);
    finish();
}

static void toxics_come_and_go_while_bytes_are_held(void **state)
{
    (void)state;
    begin();
    add(TOXIC_LATENCY)[LATENCY_LATENCY_MS] = 50;
    set();
    give(1000);
    bench.toxics[0]->values[LATENCY_LATENCY_MS] = 10;
    assert_int_equal(flow_update(&bench.flow, bench.toxics[0], bench.now_us), ERROR_NONE);
    turn();
    assert_taken(0);
    pass_time(10 * MS);
    assert_taken(1000);
    give(500);
    flow_remove(&bench.flow, bench.toxics[0]);
    turn();
    assert_taken(1500);
    assert_true(flow_plain(&bench.flow));
    finish();
}

static void a_share_of_the_connections_is_affected(void **state)
{
    (void)state;
    size_t affected = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        begin_with(seed, NULL);
        (void)add(TOXIC_BLACK_HOLE);
        bench.toxics[0]->toxicity = 0.3;
        set();
        give(1);
        affected += bench.taken_length == 0 ? 1 : 0;
        finish();
    }
    assert_in_range(affected, 250, 350);
}

/* Each allocation of a run fails in turn: the bytes that come are a prefix, and nothing leaks. */
static void any_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        uint8_t bytes[1000] = {1};
        begin();
        add(TOXIC_LATENCY)[LATENCY_LATENCY_MS] = 1;
        (void)add(TOXIC_SLICER);
        memory_fail_at(nth);
        enum error_code error = flow_add(&bench.flow, bench.toxics[0], bench.now_us);
        if (error == ERROR_NONE) {
            error = flow_add(&bench.flow, bench.toxics[1], bench.now_us);
        }
        for (int i = 0; i < 40 && error == ERROR_NONE; i++) {
            error = flow_feed(&bench.flow, bytes, sizeof(bytes), bench.now_us);
            bench.now_us += 10;
            flow_run(&bench.flow, bench.now_us);
        }
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (error == ERROR_NONE) {
            pass_time(5 * MS);
            assert_int_equal(bench.taken_length, 40000);
        }
        finish();
        if (faults == 0) {
            assert_true(nth > 4);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_toxics_all_passes_and_a_fin_is_last),
        cmocka_unit_test(a_reset_of_the_source_does_not_wait_for_a_blocked_sink),
        cmocka_unit_test(latency_delays_bytes_and_the_end_behind_them),
        cmocka_unit_test(latency_with_jitter_keeps_the_order_and_its_bounds),
        cmocka_unit_test(latency_stops_reading_at_its_bound_and_when_the_sink_is_blocked),
        cmocka_unit_test(bandwidth_keeps_its_rate_and_a_small_backlog),
        cmocka_unit_test(slices_are_sent_one_by_one_with_their_gaps),
        cmocka_unit_test(decisions_do_not_depend_on_how_reads_are_cut),
        cmocka_unit_test(a_replay_takes_its_decisions_from_the_log),
        cmocka_unit_test(a_replayed_reset_waits_for_its_time_at_its_offset),
        cmocka_unit_test(a_pause_holds_and_stops_reading_and_comes_again),
        cmocka_unit_test(a_reset_by_bytes_by_time_and_by_idleness),
        cmocka_unit_test(half_close_and_limit_data_end_at_their_byte),
        cmocka_unit_test(a_black_hole_drops_bytes_and_the_end),
        cmocka_unit_test(a_reset_passes_a_black_hole_behind_it),
        cmocka_unit_test(a_timeout_drops_then_closes_and_closes_when_removed),
        cmocka_unit_test(slow_close_holds_the_end_only),
        cmocka_unit_test(corrupt_changes_one_byte_in_each_stretch),
        cmocka_unit_test(toxics_come_and_go_while_bytes_are_held),
        cmocka_unit_test(a_share_of_the_connections_is_affected),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
