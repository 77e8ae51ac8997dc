/* Unit tests of the load generator's histogram: exactness where promised, bounded error elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mux/clock.h"
#include "tests/load/histogram.h"

static struct histogram histogram; /* 35 KB: too much for some stacks */

static void an_empty_histogram_answers_zero(void **state)
{
    (void)state;
    histogram_init(&histogram);
    assert_int_equal(histogram_quantile(&histogram, 50000), 0);
    assert_int_equal(histogram_mean(&histogram), 0);
    assert_int_equal(histogram.count, 0);
    assert_int_equal(histogram.largest, 0);
    assert_true(histogram.smallest == UINT64_MAX);
}

static void a_single_value_is_every_quantile(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 255, 256, 257, 511, 512, 1000003, (1ULL << 40) - 1};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        histogram_init(&histogram);
        histogram_record(&histogram, values[i]);
        /* The end of the bucket may lie above, but never above the largest value. */
        assert_true(histogram_quantile(&histogram, 0) == values[i]);
        assert_true(histogram_quantile(&histogram, 50000) == values[i]);
        assert_true(histogram_quantile(&histogram, HISTOGRAM_WHOLE) == values[i]);
        assert_true(histogram.smallest == values[i]);
        assert_true(histogram_mean(&histogram) == values[i]);
    }
}

static void small_values_are_exact(void **state)
{
    (void)state;
    histogram_init(&histogram);
    for (uint64_t value = 1; value <= 200; value++) {
        histogram_record(&histogram, value);
    }
    assert_int_equal(histogram_quantile(&histogram, 500), 1);
    assert_int_equal(histogram_quantile(&histogram, 501), 2);
    assert_int_equal(histogram_quantile(&histogram, 50000), 100);
    assert_int_equal(histogram_quantile(&histogram, 90000), 180);
    assert_int_equal(histogram_quantile(&histogram, 99000), 198);
    assert_int_equal(histogram_quantile(&histogram, 99900), 200);
    assert_int_equal(histogram_quantile(&histogram, HISTOGRAM_WHOLE), 200);
    assert_int_equal(histogram_quantile(&histogram, HISTOGRAM_WHOLE + 5), 200);
    assert_int_equal(histogram_mean(&histogram), 100);
}

/* Each value is recorded together with a huge one, so that the largest does not mask the end of its bucket. */
static void assert_error_bounded(uint64_t value)
{
    histogram_init(&histogram);
    histogram_record(&histogram, value);
    histogram_record(&histogram, UINT64_MAX / 4);
    uint64_t answer = histogram_quantile(&histogram, 50000);
    assert_true(answer >= value);
    assert_true((answer - value) * 128 <= value);
}

static void the_error_is_below_one_percent_up_to_twelve_days(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 40; bit++) {
        uint64_t power = 1ULL << bit;
        assert_error_bounded(power - 1);
        assert_error_bounded(power);
        assert_error_bounded(power + 1);
        assert_error_bounded(power + power / 2);
    }
    uint64_t seed = clock_monotonic_us();
    struct random_state random;
    random_seed(&random, seed);
    for (int i = 0; i < 2000; i++) {
        uint64_t value = random_below(&random, 1ULL << (1 + random_below(&random, 39)));
        histogram_init(&histogram);
        histogram_record(&histogram, value);
        histogram_record(&histogram, UINT64_MAX / 4);
        uint64_t answer = histogram_quantile(&histogram, 50000);
        if (answer < value || (answer - value) * 128 > value) {
            fail_msg("seed %llu: %llu became %llu", (unsigned long long)seed, (unsigned long long)value,
                     (unsigned long long)answer);
        }
    }
}

static void values_beyond_the_range_keep_the_maximum_exact(void **state)
{
    (void)state;
    histogram_init(&histogram);
    histogram_record(&histogram, 5);
    histogram_record(&histogram, 1ULL << 40);
    histogram_record(&histogram, UINT64_MAX / 4);
    assert_int_equal(histogram.count, 3);
    assert_true(histogram.largest == UINT64_MAX / 4);
    assert_int_equal(histogram_quantile(&histogram, 33333), 5);
    assert_true(histogram_quantile(&histogram, 99000) == UINT64_MAX / 4);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static void quantiles_agree_with_a_sorted_array(void **state)
{
    (void)state;
    enum { VALUES = 20000 };
    static uint64_t values[VALUES];
    uint64_t seed = clock_monotonic_us();
    struct random_state random;
    random_seed(&random, seed);
    histogram_init(&histogram);
    for (size_t i = 0; i < VALUES; i++) {
        /* Long-tailed, as latencies are. */
        values[i] = random_below(&random, 1ULL << (4 + random_below(&random, 24)));
        histogram_record(&histogram, values[i]);
    }
    qsort(values, VALUES, sizeof(values[0]), compare);
    uint64_t before = 0;
    for (uint32_t quantile = 5; quantile <= HISTOGRAM_WHOLE; quantile += 5) {
        uint64_t rank = (VALUES * (uint64_t)quantile + HISTOGRAM_WHOLE - 1) / HISTOGRAM_WHOLE;
        uint64_t exact = values[rank - 1];
        uint64_t answer = histogram_quantile(&histogram, quantile);
        if (answer < exact || (answer - exact) * 128 > exact || answer < before) {
            fail_msg("seed %llu, quantile %u: %llu, not %llu", (unsigned long long)seed, quantile,
                     (unsigned long long)answer, (unsigned long long)exact);
        }
        before = answer;
    }
    assert_true(histogram.smallest == values[0]);
    assert_true(histogram.largest == values[VALUES - 1]);
}

static void one_slow_value_in_a_thousand_shows_in_p99_9_only_beyond_its_rank(void **state)
{
    (void)state;
    histogram_init(&histogram);
    for (int i = 0; i < 999; i++) {
        histogram_record(&histogram, 100);
    }
    histogram_record(&histogram, 900000);
    assert_int_equal(histogram_quantile(&histogram, 99900), 100);
    assert_int_equal(histogram_quantile(&histogram, 99901), 900000);
    histogram_record(&histogram, 900000);
    assert_int_equal(histogram_quantile(&histogram, 99900), 900000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_histogram_answers_zero),
        cmocka_unit_test(a_single_value_is_every_quantile),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(the_error_is_below_one_percent_up_to_twelve_days),
        cmocka_unit_test(values_beyond_the_range_keep_the_maximum_exact),
        cmocka_unit_test(quantiles_agree_with_a_sorted_array),
        cmocka_unit_test(one_slow_value_in_a_thousand_shows_in_p99_9_only_beyond_its_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
