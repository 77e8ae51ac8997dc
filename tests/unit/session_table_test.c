/* The table of sessions by their keys: against a list, while it grows, and without memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/session.h"
#include "core/session_table.h"
#include "mux/clock.h"
#include "mux/memory.h"

#define SESSIONS 5000U

static trunkline_session sessions[SESSIONS];

static void make_keys(uint64_t seed)
{
    struct random_state random;
    random_seed(&random, seed);
    memset(sessions, 0, sizeof(sessions));
    for (size_t i = 0; i < SESSIONS; i++) {
        for (size_t k = 0; k < METADATA_SESSION_BYTES; k++) {
            sessions[i].key[k] = (uint8_t)random_below(&random, 256);
        }
    }
}

static bool insert(struct session_table *table, size_t nth)
{
    sessions[nth].keyed = session_table_insert(table, &sessions[nth]);
    return sessions[nth].keyed;
}

static size_t longest_bucket(const struct session_table *table)
{
    size_t longest = 0;
    for (size_t i = 0; i < table->bucket_count; i++) {
        size_t length = 0;
        for (const trunkline_session *at = table->buckets[i]; at != NULL; at = at->same_bucket) {
            length++;
        }
        longest = length > longest ? length : longest;
    }
    return longest;
}

static void an_empty_table_takes_no_memory_and_finds_nothing(void **state)
{
    (void)state;
    struct session_table table;
    make_keys(1);
    session_table_init(&table, 7);
    assert_null(table.buckets);
    assert_null(session_table_find(&table, sessions[0].key));
    session_table_remove(&table, &sessions[0]); /* without a key: no effect */
    assert_int_equal(table.count, 0);
    session_table_dispose(&table);
}

static void sessions_are_found_until_they_are_removed(void **state)
{
    (void)state;
    struct session_table table;
    struct random_state random;
    random_seed(&random, 3);
    make_keys(2);
    session_table_init(&table, 11);
    for (size_t step = 0; step < 60000; step++) {
        size_t nth = (size_t)random_below(&random, SESSIONS);
        if (!sessions[nth].keyed) {
            assert_null(session_table_find(&table, sessions[nth].key));
            assert_true(insert(&table, nth));
        } else if (random_below(&random, 3) == 0) {
            session_table_remove(&table, &sessions[nth]);
            assert_false(sessions[nth].keyed);
        }
        assert_ptr_equal(session_table_find(&table, sessions[nth].key), sessions[nth].keyed ? &sessions[nth] : NULL);
    }
    size_t count = 0;
    for (size_t i = 0; i < SESSIONS; i++) {
        count += sessions[i].keyed;
        assert_ptr_equal(session_table_find(&table, sessions[i].key), sessions[i].keyed ? &sessions[i] : NULL);
        session_table_remove(&table, &sessions[i]);
    }
    assert_true(count > SESSIONS / 2);
    assert_int_equal(table.count, 0);
    session_table_dispose(&table);
    assert_null(table.buckets);
}

/* Never more sessions than buckets, but one: so the average bucket holds one, and none holds many. */
static void the_table_grows_by_one_bucket_at_a_time(void **state)
{
    (void)state;
    struct session_table table;
    make_keys(4);
    session_table_init(&table, 13);
    for (size_t i = 0; i < SESSIONS; i++) {
        size_t before = table.bucket_count;
        assert_true(insert(&table, i));
        assert_true(table.bucket_count == before || before == 0 || table.bucket_count == before + 1);
        assert_true(table.count <= table.bucket_count + 1 && table.bucket_count <= table.capacity);
    }
    assert_true(longest_bucket(&table) < 12);
    for (size_t i = 0; i < SESSIONS; i++) {
        assert_ptr_equal(session_table_find(&table, sessions[i].key), &sessions[i]);
        session_table_remove(&table, &sessions[i]);
    }
    session_table_dispose(&table);
}

/* An edge chooses its keys: ones that differ in few bits must not share a bucket. */
static void keys_that_look_alike_are_spread(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < METADATA_SESSION_BYTES - 1; shift++) {
        struct session_table table;
        memset(sessions, 0, sizeof(sessions));
        session_table_init(&table, 17);
        for (size_t i = 0; i < SESSIONS; i++) {
            sessions[i].key[shift] = (uint8_t)i;
            sessions[i].key[shift + 1] = (uint8_t)(i >> 8);
            assert_true(insert(&table, i));
        }
        assert_true(longest_bucket(&table) < 16);
        for (size_t i = 0; i < SESSIONS; i++) {
            session_table_remove(&table, &sessions[i]);
        }
        session_table_dispose(&table);
    }
}

static void without_memory_buckets_are_shared(void **state)
{
    (void)state;
    struct session_table table;
    make_keys(5);
    session_table_init(&table, 19);
    memory_fail_at(1);
    assert_false(insert(&table, 0));
    memory_fail_at(0);
    assert_null(session_table_find(&table, sessions[0].key));
    assert_true(insert(&table, 0));
    size_t buckets = table.bucket_count;
    for (size_t i = 1; i < 200; i++) {
        memory_fail_at(1);
        assert_true(insert(&table, i));
        memory_fail_at(0);
    }
    assert_int_equal(table.bucket_count, buckets);
    /* It catches up when there is some again. */
    for (size_t i = 200; i < 400; i++) {
        assert_true(insert(&table, i));
    }
    assert_true(table.bucket_count > buckets);
    for (size_t i = 0; i < 400; i++) {
        assert_ptr_equal(session_table_find(&table, sessions[i].key), &sessions[i]);
        session_table_remove(&table, &sessions[i]);
    }
    session_table_dispose(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_takes_no_memory_and_finds_nothing),
        cmocka_unit_test(sessions_are_found_until_they_are_removed),
        cmocka_unit_test(the_table_grows_by_one_bucket_at_a_time),
        cmocka_unit_test(keys_that_look_alike_are_spread),
        cmocka_unit_test(without_memory_buckets_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
