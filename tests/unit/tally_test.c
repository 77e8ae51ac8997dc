/* Unit tests of what a run comes to: adding up the processes, percentile text, verdicts, the storm's times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/load/verdict.h"

static struct tally one, two, probe; /* 350 KB each: too much for a stack */

static int set_up(void **state)
{
    (void)state;
    tally_init(&one);
    tally_init(&two);
    tally_init(&probe);
    return 0;
}

static void counters_and_histograms_add_up_over_processes(void **state)
{
    (void)state;
    one.opened = 3;
    two.opened = 4;
    one.faults.altered = 1;
    two.faults.broken = 2;
    two.failures[CLIENT_STAGE_HANDSHAKE][ERROR_TIMEOUT] = 5;
    two.failed = 5;
    snprintf(two.first_failure, sizeof(two.first_failure), "client 7");
    two.tls_version = 0x0304;
    histogram_record(&one.measures[MEASURE_ECHO], 10);
    histogram_record(&two.measures[MEASURE_ECHO], 30);
    histogram_record(&two.measures[MEASURE_BACK], 5);
    two.cut_short = true;
    tally_add(&one, &two);
    assert_int_equal(one.opened, 7);
    assert_int_equal(one.faults.altered, 1);
    assert_int_equal(one.faults.broken, 2);
    assert_int_equal(one.failures[CLIENT_STAGE_HANDSHAKE][ERROR_TIMEOUT], 5);
    assert_int_equal(one.failed, 5);
    assert_string_equal(one.first_failure, "client 7");
    assert_int_equal(one.tls_version, 0x0304);
    assert_int_equal(one.measures[MEASURE_ECHO].count, 2);
    assert_int_equal(one.measures[MEASURE_ECHO].smallest, 10);
    assert_int_equal(one.measures[MEASURE_ECHO].largest, 30);
    assert_int_equal(histogram_mean(&one.measures[MEASURE_ECHO]), 20);
    assert_int_equal(one.measures[MEASURE_BACK].count, 1);
    assert_true(one.cut_short);
}

static void every_counter_adds_up(void **state)
{
    (void)state;
    /* All plain counters lie between the failures and the durations of phases. */
    size_t first = offsetof(struct tally, failed);
    size_t end = offsetof(struct tally, ramp_us);
    for (size_t at = first; at < end; at += sizeof(uint64_t)) {
        uint64_t value = at;
        memcpy((char *)&one + at, &value, sizeof(value));
        memcpy((char *)&two + at, &value, sizeof(value));
    }
    tally_add(&one, &two);
    for (size_t at = first; at < end; at += sizeof(uint64_t)) {
        uint64_t value = 0;
        memcpy(&value, (char *)&one + at, sizeof(value));
        assert_int_equal(value, 2 * at);
    }
}

static void the_longest_process_tells_how_long_a_phase_was(void **state)
{
    (void)state;
    one.ramp_us = 5;
    two.ramp_us = 9;
    one.traffic_us = 8;
    two.traffic_us = 2;
    tally_add(&one, &two);
    assert_int_equal(one.ramp_us, 9);
    assert_int_equal(one.traffic_us, 8);
}

static void measures_are_found_by_their_names(void **state)
{
    (void)state;
    enum measure found;
    for (int measure = 0; measure < MEASURE_COUNT; measure++) {
        assert_non_null(measure_name((enum measure)measure));
        assert_true(measure_find(measure_name((enum measure)measure), &found));
        assert_int_equal(found, measure);
    }
    assert_false(measure_find("nothing", &found));
}

static void percentiles_are_written_in_the_format_of_hdrhistogram(void **state)
{
    (void)state;
    char text[16384];
    struct histogram *echo = &one.measures[MEASURE_ECHO];
    for (uint64_t value = 1; value <= 100; value++) {
        histogram_record(echo, value * 1000);
    }
    FILE *file = fmemopen(text, sizeof(text), "w");
    assert_non_null(file);
    histogram_write_percentiles(echo, 1000.0, file);
    fclose(file);
    double value = 0.0, percentile = -1.0, inverse = 0.0, last = -1.0;
    unsigned long long count = 0;
    unsigned lines = 0;
    assert_ptr_equal(strstr(text, "       Value"), text);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (line[0] == '#') {
            continue;
        }
        int fields = sscanf(line, "%lf %lf %llu %lf", &value, &percentile, &count, &inverse);
        if (fields < 3) {
            continue;
        }
        /* Percentiles rise; a value is where its percentile's rank is, within the histogram's error. */
        assert_true(percentile > last);
        assert_true(value + 0.001 >= percentile * 100.0 && (double)count + 0.001 >= percentile * 100.0);
        assert_true(percentile == 1.0 ? fields == 3 : inverse >= 1.0);
        last = percentile;
        lines++;
    }
    assert_true(lines > 20);
    assert_true(last == 1.0);
    assert_true(value == 100.0);
    assert_int_equal(count, 100);
}

static void an_empty_histogram_is_written_without_lines(void **state)
{
    (void)state;
    char text[1024];
    FILE *file = fmemopen(text, sizeof(text), "w");
    assert_non_null(file);
    histogram_write_percentiles(&one.measures[MEASURE_ECHO], 1000.0, file);
    assert_int_equal(ferror(file), 0);
    fclose(file);
    assert_non_null(strstr(text, "Total count    =            0]"));
}

static void a_clean_run_is_served(void **state)
{
    (void)state;
    const struct load_options options = {.clients = 2};
    one.opened = 2;
    assert_true(verdict_served(&options, &one));
}

static void each_single_fault_fails_the_run(void **state)
{
    (void)state;
    const struct load_options options = {.clients = 2};
    const size_t faults[] = {offsetof(struct tally, failed),          offsetof(struct tally, unanswered),
                             offsetof(struct tally, unsent),          offsetof(struct tally, wrong_status),
                             offsetof(struct tally, wrong_length),    offsetof(struct tally, dropped),
                             offsetof(struct tally, opened),          offsetof(struct tally, faults.missing),
                             offsetof(struct tally, faults.repeated), offsetof(struct tally, faults.altered),
                             offsetof(struct tally, faults.broken),   offsetof(struct tally, silent)};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        const uint64_t fault = 1;
        tally_init(&one);
        one.opened = 2;
        memcpy((char *)&one + faults[i], &fault, sizeof(fault));
        assert_false(verdict_served(&options, &one));
        bool damaged = faults[i] >= offsetof(struct tally, faults) ||
                       faults[i] == offsetof(struct tally, wrong_status) ||
                       faults[i] == offsetof(struct tally, wrong_length);
        assert_int_equal(verdict_damaged(&one), damaged);
    }
    tally_init(&one);
    one.opened = 2;
    one.interrupted = true;
    assert_false(verdict_served(&options, &one));
}

static void a_generator_that_falls_short_says_how(void **state)
{
    (void)state;
    struct verdict_bottleneck bottleneck;
    for (int i = 0; i < 100; i++) {
        histogram_record(&one.measures[MEASURE_LAG], 100);
    }
    assert_false(verdict_bottleneck(&one, &probe, &bottleneck));
    histogram_record(&one.measures[MEASURE_LAG], VERDICT_LAG_P99_MAX_US * 2);
    histogram_record(&one.measures[MEASURE_LAG], VERDICT_LAG_P99_MAX_US * 2);
    assert_true(verdict_bottleneck(&one, &probe, &bottleneck));
    assert_true(bottleneck.late);

    two.failures[CLIENT_STAGE_CONNECT][ERROR_LIMIT] = 1;
    two.failures[CLIENT_STAGE_CONNECT][ERROR_NO_FILES] = 2;
    two.failures[CLIENT_STAGE_HANDSHAKE][ERROR_NO_MEMORY] = 3;
    assert_true(verdict_bottleneck(&two, &probe, &bottleneck));
    assert_false(bottleneck.late);
    assert_int_equal(bottleneck.out_of_ports, 1);
    assert_int_equal(bottleneck.out_of_files, 2);
    assert_int_equal(bottleneck.out_of_memory, 3);
}

static void late_probes_count_once_there_are_enough(void **state)
{
    (void)state;
    struct verdict_bottleneck bottleneck;
    for (unsigned i = 0; i < VERDICT_PROBES_LEAST; i++) {
        assert_false(verdict_bottleneck(&one, &probe, &bottleneck));
        histogram_record(&probe.measures[MEASURE_LAG], VERDICT_LAG_P99_MAX_US * 2);
    }
    assert_true(verdict_bottleneck(&one, &probe, &bottleneck));
    assert_true(bottleneck.late && bottleneck.lag_p99_us >= VERDICT_LAG_P99_MAX_US * 2);
}

static void a_storms_times_count_those_who_were_dropped(void **state)
{
    (void)state;
    one.dropped = 100;
    for (uint64_t i = 1; i <= 95; i++) {
        histogram_record(&one.measures[MEASURE_BACK], i);
        one.returned++;
    }
    assert_int_equal(verdict_back_us(&one, 50), 50);
    assert_int_equal(verdict_back_us(&one, 90), 90);
    assert_true(verdict_back_us(&one, 99) == UINT64_MAX);
    assert_true(verdict_back_us(&one, 100) == UINT64_MAX);
    assert_int_equal(verdict_back_us(&two, 100), 0);
}

static void a_probe_that_saw_nothing_fails(void **state)
{
    (void)state;
    struct load_options options = {.clients = 1};
    assert_true(verdict_probe(&options, &one));
    options.probe.text = "https://localhost/";
    assert_false(verdict_probe(&options, &one));
    one.opened = 1;
    assert_true(verdict_probe(&options, &one));
    one.wrong_status = 1;
    assert_false(verdict_probe(&options, &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(counters_and_histograms_add_up_over_processes, set_up),
        cmocka_unit_test_setup(every_counter_adds_up, set_up),
        cmocka_unit_test_setup(the_longest_process_tells_how_long_a_phase_was, set_up),
        cmocka_unit_test_setup(measures_are_found_by_their_names, set_up),
        cmocka_unit_test_setup(percentiles_are_written_in_the_format_of_hdrhistogram, set_up),
        cmocka_unit_test_setup(an_empty_histogram_is_written_without_lines, set_up),
        cmocka_unit_test_setup(a_clean_run_is_served, set_up),
        cmocka_unit_test_setup(each_single_fault_fails_the_run, set_up),
        cmocka_unit_test_setup(a_generator_that_falls_short_says_how, set_up),
        cmocka_unit_test_setup(late_probes_count_once_there_are_enough, set_up),
        cmocka_unit_test_setup(a_storms_times_count_those_who_were_dropped, set_up),
        cmocka_unit_test_setup(a_probe_that_saw_nothing_fails, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
