/* Texts of trunkline-chaos: toxics and proxies as JSON and as words, timelines, logs; and its random values and wakes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mux/memory.h"
#include "tests/chaos/decision.h"
#include "tests/chaos/draw.h"
#include "tests/chaos/json.h"
#include "tests/chaos/timeline.h"
#include "tests/chaos/wake.h"

static void draws_keep_their_bounds_and_their_mean(void **state)
{
    (void)state;
    static const enum draw_distribution all[] = {DRAW_UNIFORM, DRAW_EXPONENTIAL, DRAW_NORMAL};
    uint64_t key = draw_key(1, "p", 1, 0, "t");
    for (size_t d = 0; d < 3; d++) {
        uint64_t sum = 0;
        for (uint64_t i = 0; i < 20000; i++) {
            uint64_t value = draw_around(key, DRAW_SIZE, i, all[d], 1000, 500);
            assert_in_range(value, 500, all[d] == DRAW_EXPONENTIAL ? 5500 : 1500);
            assert_int_equal(value, draw_around(key, DRAW_SIZE, i, all[d], 1000, 500));
            sum += value;
        }
        assert_in_range(sum / 20000, 980, 1020);
    }
    assert_int_equal(draw_around(key, DRAW_SIZE, 5, DRAW_NORMAL, 77, 0), 77);
    assert_in_range(draw_around(key, DRAW_SIZE, 5, DRAW_UNIFORM, 1, 1000), 0, 1001);
}

static void draws_differ_by_everything_that_they_depend_on(void **state)
{
    (void)state;
    const uint64_t keys[] = {draw_key(1, "p", 1, 0, "t"), draw_key(2, "p", 1, 0, "t"), draw_key(1, "q", 1, 0, "t"),
                             draw_key(1, "p", 2, 0, "t"), draw_key(1, "p", 1, 1, "t"), draw_key(1, "p", 1, 0, "u"),
                             draw_key(1, "pt", 1, 0, "")};
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_true(draw_bits(keys[i], DRAW_SIZE, 0) != draw_bits(keys[j], DRAW_SIZE, 0));
        }
    }
    assert_true(draw_bits(keys[0], DRAW_SIZE, 0) != draw_bits(keys[0], DRAW_DELAY, 0));
    assert_true(draw_bits(keys[0], DRAW_SIZE, 0) != draw_bits(keys[0], DRAW_SIZE, 1));
}

static enum error_code read_toxic(const char *text, struct toxic **toxic, struct option_fault *fault)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    enum error_code error = json_read_toxic(json, toxic, fault);
    json_decref(json);
    return error;
}

static void a_toxic_survives_json_and_gets_its_defaults(void **state)
{
    (void)state;
    struct option_fault fault;
    struct toxic *toxic;
    struct toxic *again;
    for (unsigned i = 0; i < TOXIC_TYPE_COUNT; i++) {
        char text[100];
        sprintf(text, "{\"type\":\"%s\",\"toxicity\":0.25}", toxic_kind((enum toxic_type)i)->name);
        assert_int_equal(read_toxic(text, &toxic, &fault), ERROR_NONE);
        json_t *json = json_of_toxic(toxic);
        assert_int_equal(json_read_toxic(json, &again, &fault), ERROR_NONE);
        assert_true(toxic_equal(toxic, again));
        json_decref(json);
        toxic_free(&toxic);
        toxic_free(&again);
    }
    assert_int_equal(
        read_toxic("{\"type\":\"slicer\",\"stream\":\"upstream\",\"attributes\":{\"delay\":3.0}}", &toxic, &fault),
        ERROR_NONE);
    assert_string_equal(toxic->name, "slicer_upstream");
    assert_int_equal(toxic->values[SLICER_DELAY_US], 3);
    toxic_free(&toxic);
}

static void json_that_will_not_do_says_why(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"{}", "type"},
        {"[]", "object"},
        {"{\"type\":\"nosuch\"}", "nosuch"},
        {"{\"type\":\"latency\",\"stream\":\"sideways\"}", "stream"},
        {"{\"type\":\"latency\",\"toxicity\":1.5}", "toxicity"},
        {"{\"type\":\"latency\",\"toxicity\":\"1\"}", "toxicity"},
        {"{\"type\":\"latency\",\"attributes\":{\"latency\":-1}}", "latency"},
        {"{\"type\":\"latency\",\"attributes\":{\"latency\":1.5}}", "latency"},
        {"{\"type\":\"latency\",\"attributes\":{\"latency\":86400001}}", "86400000"},
        {"{\"type\":\"latency\",\"attributes\":{\"distribution\":\"flat\"}}", "flat"},
        {"{\"type\":\"latency\",\"attributes\":[]}", "attributes"},
        {"{\"type\":\"slicer\",\"attributes\":{\"average_size\":0}}", "average_size"},
        {"{\"type\":\"latency\",\"name\":\"a/b\"}", "a/b"},
        {"{\"type\":\"pause\",\"attributes\":{\"interval\":5,\"duration\":0}}", "duration"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct option_fault fault = {.text = ""};
        struct toxic *toxic;
        assert_int_equal(read_toxic(wrong[i][0], &toxic, &fault), ERROR_CONFIGURATION);
        assert_null(toxic);
        if (strstr(fault.text, wrong[i][1]) == NULL) {
            fail_msg("%s: %s", wrong[i][0], fault.text);
        }
    }
}

static void a_timeline_is_read_and_what_is_wrong_names_its_line(void **state)
{
    (void)state;
    static const char good[] = "# all commands\n\n0 proxy p=127.0.0.1:0,127.0.0.1:9\n"
                               "1.5ms add p latency name=lag latency=5 # and a remark\n1s update p lag latency=6\n"
                               "1s remove p lag\n2s disable p\n1m enable p\n1h delete p\n1h reset\n1h repeat\n2h end";
    static const char *const wrong[][2] = {
        {"x reset", "1: \"x\" is not a time"},      {"5 reset", "1: "},
        {"\n1s explode", "2: there is no command"}, {"2s reset\n1s reset", "2: the time"},
        {"0s add p", "1: there is no type"},        {"0s add p latency x", "1: "},
        {"0s remove p", "1: remove needs"},         {"0s proxy p", "1: must be NAME"},
        {"0s repeat\n", "1: repeat needs"},
    };
    struct timeline timeline;
    struct option_fault fault = {.text = ""};
    assert_int_equal(timeline_read(&timeline, good, strlen(good), &fault), ERROR_NONE);
    assert_int_equal(timeline.count, 10);
    assert_int_equal(timeline.steps[1].time_us, 1500);
    assert_int_equal(timeline.steps[1].toxic->values[LATENCY_LATENCY_MS], 5);
    assert_int_equal(timeline.steps[9].time_us, UINT64_C(7200000000));
    timeline_dispose(&timeline);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_int_equal(timeline_read(&timeline, wrong[i][0], strlen(wrong[i][0]), &fault), ERROR_CONFIGURATION);
        if (strncmp(fault.text, wrong[i][1], strlen(wrong[i][1])) != 0) {
            fail_msg("%s: %s", wrong[i][0], fault.text);
        }
    }
    for (uint64_t nth = 1;; nth++) {
        memory_fail_at(nth);
        enum error_code error = timeline_read(&timeline, good, strlen(good), &fault);
        memory_fail_at(0);
        timeline_dispose(&timeline);
        if (error == ERROR_NONE) {
            return;
        }
        assert_int_equal(error, ERROR_NO_MEMORY);
    }
}

static char written[4096];

static void on_line(void *owner, const char *line, size_t length)
{
    (void)owner;
    size_t used = strlen(written);
    assert_true(used + length < sizeof(written));
    memcpy(written + used, line, length);
    written[used + length] = '\0';
}

static void a_log_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct decisions decisions;
    struct option_fault fault;
    struct decision_event event;
    written[0] = '\0';
    decisions_init(&decisions, 42, 1000, on_line, NULL);
    struct decision_scope scope = {.decisions = &decisions, .proxy = "a b%", .connection = 3, .opened_us = 1500};
    decisions_write_header(&decisions, 4096, 65536);
    decisions_note_change(&decisions, DECISION_CONFIG, "a b%", "{\"name\": \"a b%\"}", 1100);
    decisions_note_open(&scope);
    decisions_note(&scope, "t t", DECISION_SLICE, 7, 99, 1600);
    decisions_note(&scope, "t t", DECISION_PAUSE, 9, 5, 1700);
    decisions_dispose(&decisions);
    decisions_init(&decisions, 0, 90000, NULL, NULL);
    scope.opened_us = 100000;
    /* A last line that was cut off is left out. */
    strcat(written, "12 p 1 - 0");
    assert_int_equal(decisions_load(&decisions, written, strlen(written), &fault), ERROR_NONE);
    assert_int_equal(decisions.seed, 42);
    assert_int_equal(decisions.receive_buffer, 4096);
    assert_int_equal(decisions.step_count, 1);
    assert_string_equal(decisions.steps[0].proxy, "a b%");
    assert_string_equal(decisions.steps[0].text, "{\"name\": \"a b%\"}");
    assert_int_equal(decisions_take(&scope, "t t", DECISION_SLICE, 7, 1), 99);
    assert_int_equal(decisions.missed, 0);
    assert_int_equal(decisions_take(&scope, "t t", DECISION_SLICE, 8, 1), 1);
    assert_int_equal(decisions.missed, 1);
    assert_true(decisions_event(&scope, "t t", DECISION_PAUSE, 0, &event));
    assert_int_equal(event.offset, 9);
    assert_int_equal(event.due_us, 100200);
    assert_false(decisions_event(&scope, "t t", DECISION_PAUSE, 1, &event));
    decisions_dispose(&decisions);
    assert_int_equal(decisions_load(&decisions, "nonsense\n", 9, &fault), ERROR_CONFIGURATION);
    decisions_dispose(&decisions);
}

static int woken[16];
static int woken_count;
static struct wake some[8];

static void on_wake(struct wake *wake)
{
    woken[woken_count++] = (int)(wake - some);
}

static void wakes_come_in_the_order_of_their_times(void **state)
{
    (void)state;
    static const uint64_t due_us[8] = {50, 10, 70, 30, 20, 60, 40, 80};
    static const int order[] = {1, 4, 3, 6, 0, 5};
    struct wakes wakes;
    wakes_init(&wakes);
    assert_int_equal(wakes_next(&wakes), WAKE_NEVER);
    assert_int_equal(wakes_reserve(&wakes, 8), ERROR_NONE);
    for (int i = 0; i < 8; i++) {
        wake_init(&some[i], on_wake);
        wakes_arm(&wakes, &some[i], due_us[i]);
    }
    wakes_arm(&wakes, &some[2], WAKE_NEVER);
    wakes_run(&wakes, 60);
    assert_int_equal(woken_count, 6);
    assert_memory_equal(woken, order, sizeof(order));
    assert_int_equal(wakes_next(&wakes), 80);
    wakes_arm(&wakes, &some[7], WAKE_NEVER);
    assert_int_equal(wakes_next(&wakes), WAKE_NEVER);
    wakes_dispose(&wakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_keep_their_bounds_and_their_mean),
        cmocka_unit_test(draws_differ_by_everything_that_they_depend_on),
        cmocka_unit_test(a_toxic_survives_json_and_gets_its_defaults),
        cmocka_unit_test(json_that_will_not_do_says_why),
        cmocka_unit_test(a_timeline_is_read_and_what_is_wrong_names_its_line),
        cmocka_unit_test(a_log_is_read_as_it_was_written),
        cmocka_unit_test(wakes_come_in_the_order_of_their_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
