/* The trunks of an edge worker: picking, replacing, coming back. */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mux/limits.h"
#include "mux/memory.h"

static struct fixture fixture;

static int setup(void **state)
{
    (void)state;
    fixture_prepare(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fixture);
    return 0;
}

static struct fixture_client *connect_one(void)
{
    return fixture_connect_one(&fixture);
}

/* A session that ends cleanly from the client's side and the core's. */
static void end_one(struct fixture_client *client, size_t stream)
{
    fixture_client_end(client);
    fixture_client_finish(client);
    trunk_stream_end(&fixture_stream(&fixture, stream)->stream);
    fixture_pump(&fixture);
    assert_true(client->ended);
}

static void every_place_gets_a_trunk(void **state)
{
    (void)state;
    fixture.settings.core_count = 2;
    fixture.settings.trunks = 3;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    assert_int_equal(fixture_trunks_up(&fixture), 6);
    assert_int_equal(fixture.links[0].core + fixture.links[1].core, 1);
}

static void sessions_go_to_the_trunk_with_the_fewest(void **state)
{
    size_t streams[4] = {0};
    (void)state;
    fixture.settings.core_count = 2;
    fixture.settings.trunks = 2;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    for (size_t i = 0; i < 8; i++) {
        connect_one();
        streams[fixture_stream(&fixture, i)->link]++;
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(streams[i], 2);
    }
    size_t emptied = fixture_stream(&fixture, 5)->link;
    end_one(&fixture.clients[5], 5);
    connect_one();
    assert_int_equal(fixture_stream(&fixture, 8)->link, emptied);
}

static void a_trunk_that_got_goaway_is_replaced_and_drains(void **state)
{
    (void)state;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture_wait(&fixture, 2000);
    struct fixture_client *old = connect_one();
    assert_int_equal(trunk_goaway(fixture.links[0].link.trunk, TRUNK_CODE_NO_ERROR), ERROR_NONE);
    fixture_pump(&fixture);
    assert_int_equal(fixture.dials, 2);
    assert_int_equal(fixture_trunks_up(&fixture), 1);
    struct fixture_client *new = connect_one();
    assert_int_equal(fixture_stream(&fixture, 1)->link, 1);

    fixture_client_send(old, "still", 5);
    fixture_pump(&fixture);
    assert_memory_equal(fixture_stream(&fixture, 0)->received.bytes, "still", 5);
    assert_true(fixture.links[0].live);
    end_one(old, 0);
    assert_false(fixture.links[0].live);
    assert_true(list_empty(&fixture.relay.pool.draining));
    assert_int_equal(fixture.relay.pool.links, 1);
    end_one(new, 1);
    assert_true(fixture.links[1].live);
}

static void a_trunk_near_its_last_stream_is_replaced_before_it_is_retired(void **state)
{
    (void)state;
    fixture.settings.trunk_opens_max = 8; /* the successor is due with the 7th */
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    for (size_t i = 0; i < 6; i++) {
        connect_one();
    }
    assert_int_equal(fixture.dials, 1);
    assert_int_equal(fixture.links[0].goaways, 0);
    connect_one();
    assert_int_equal(fixture.dials, 2);
    assert_int_equal(fixture.links[0].goaways, 1);
    for (size_t i = 7; i < 10; i++) {
        connect_one();
        assert_int_equal(fixture_stream(&fixture, i)->link, 1);
    }
    assert_int_equal(fixture.relay.counters.sessions_refused, 0);
    for (size_t i = 0; i < 7; i++) {
        assert_true(fixture.links[0].live);
        end_one(&fixture.clients[i], i);
    }
    assert_false(fixture.links[0].live);
}

static void an_exhausted_trunk_waits_for_its_successor(void **state)
{
    (void)state;
    fixture.settings.trunk_opens_max = 2;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture.dial_fails = true;
    connect_one();
    connect_one();
    struct fixture_client *third = connect_one();
    assert_int_equal(fixture.stream_count, 2);
    fixture.dial_fails = false;
    fixture_wait(&fixture, 5000);
    assert_int_equal(fixture.stream_count, 3);
    assert_int_equal(fixture_stream(&fixture, 2)->link, 1);
    assert_false(third->reset);
}

static void a_lost_trunk_comes_back_with_growing_waits(void **state)
{
    (void)state;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture_wait(&fixture, 2000);
    fixture.dial_fails = true;
    fixture_link_cut(&fixture.links[0]);
    uint64_t lost_us = fixture.scheduler.now_us;
    uint64_t waits[12];
    fixture_pump(&fixture);
    for (size_t i = 0; i < 12; i++) {
        unsigned before = fixture.dials;
        uint64_t from = fixture.scheduler.now_us;
        while (fixture.dials == before) {
            fixture_wait(&fixture, 1);
            assert_true(fixture.scheduler.now_us - from < 11000000U);
        }
        waits[i] = (fixture.scheduler.now_us - from) / 1000U;
        uint64_t full = (uint64_t)TIMEOUT_RECONNECT_MIN_MS << i;
        full = full > TIMEOUT_RECONNECT_MAX_MS ? TIMEOUT_RECONNECT_MAX_MS : full;
        assert_in_range(waits[i], full / 2 - 1, full + 2);
    }
    assert_true(fixture.scheduler.now_us > lost_us);
    assert_int_not_equal(waits[10], waits[11]); /* chance is in it: a seed for which it holds */
    fixture.dial_fails = false;
    fixture_wait(&fixture, 11000);
    assert_int_equal(fixture_trunks_up(&fixture), 1);
    assert_int_equal(fixture.relay.counters.trunks_up, 2);
    assert_int_equal(fixture.relay.counters.trunks_down, 1);
}

static void a_core_that_says_goaway_at_once_is_not_dialled_in_a_tight_loop(void **state)
{
    (void)state;
    fixture.goaway_at_once = true;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture_wait(&fixture, 1000);
    assert_in_range(fixture.dials, 2, 8);
}

static void a_silent_core_is_given_up(void **state)
{
    (void)state;
    fixture.core_silent = true;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture_wait(&fixture, TIMEOUT_TRUNK_DIAL_MS - 100);
    assert_int_equal(fixture.dials, 1);
    fixture_wait(&fixture, 3000);
    assert_int_equal(fixture.dials, 2);
    assert_int_equal(fixture.relay.pool.links, 1);
}

static void a_dead_trunk_is_found_by_ping(void **state)
{
    (void)state;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture.wires[0][1].transport = NULL; /* the core hears nothing more */
    fixture_wait(&fixture, TIMEOUT_PING_INTERVAL_MS + TIMEOUT_PING_ANSWER_MS + 2000);
    assert_int_equal(fixture.relay.counters.trunks_down, 1);
    assert_int_equal(fixture_trunks_up(&fixture), 1);
}

static void the_cores_limit_of_streams_is_kept(void **state)
{
    (void)state;
    fixture.core_streams_max = 2;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    connect_one();
    connect_one();
    connect_one();
    assert_int_equal(fixture.stream_count, 2);
    end_one(&fixture.clients[0], 0);
    fixture_pump(&fixture);
    assert_int_equal(fixture.stream_count, 3);
}

static void a_closing_pool_says_goaway_and_dials_no_more(void **state)
{
    (void)state;
    fixture.settings.trunks = 2;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    relay_drain(&fixture.relay, 1000);
    fixture_pump(&fixture);
    fixture_wait(&fixture, 5000);
    assert_int_equal(fixture.stops, 1);
    assert_int_equal(fixture.relay.state, RELAY_STOPPED);
    assert_int_equal(fixture.dials, 2);
    assert_int_equal(fixture.links[0].goaways, 1);
    assert_int_equal(fixture.links[1].goaways, 1);
    assert_int_equal(fixture.relay.pool.links, 0);
}

static void a_pool_closes_while_it_waits_for_a_core(void **state)
{
    (void)state;
    fixture.dial_fails = true;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    relay_drain(&fixture.relay, 1000);
    fixture_pump(&fixture);
    assert_int_equal(fixture.stops, 1);
    fixture_wait(&fixture, 60000);
    assert_int_equal(fixture.dials, 1);
}

static void too_many_trunks_are_a_wrong_configuration(void **state)
{
    (void)state;
    fixture.settings.trunks = LIMIT_TRUNKS_PER_WORKER + 1;
    assert_int_equal(fixture_start(&fixture), ERROR_CONFIGURATION);
}

static void every_failing_allocation_of_the_start_is_survived(void **state)
{
    (void)state;
    for (uint64_t nth = 1;; nth++) {
        fixture_prepare(&fixture);
        fixture.settings.trunks = 2;
        memory_fail_at(nth);
        enum error_code error = fixture_start(&fixture);
        fixture_wait(&fixture, 3000);
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (error == ERROR_NONE) {
            fixture_wait(&fixture, 12000);
            /* A place without memory stays empty; every other one has its trunk in the end. */
            assert_in_range(fixture_trunks_up(&fixture), 1, 2);
        } else {
            assert_int_equal(error, ERROR_NO_MEMORY);
        }
        if (faults == 0) {
            assert_int_equal(fixture_trunks_up(&fixture), 2);
            assert_true(nth > 10);
            break;
        }
        fixture_dispose(&fixture);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_place_gets_a_trunk),
        TEST(sessions_go_to_the_trunk_with_the_fewest),
        TEST(a_trunk_that_got_goaway_is_replaced_and_drains),
        TEST(a_trunk_near_its_last_stream_is_replaced_before_it_is_retired),
        TEST(an_exhausted_trunk_waits_for_its_successor),
        TEST(a_lost_trunk_comes_back_with_growing_waits),
        TEST(a_core_that_says_goaway_at_once_is_not_dialled_in_a_tight_loop),
        TEST(a_silent_core_is_given_up),
        TEST(a_dead_trunk_is_found_by_ping),
        TEST(the_cores_limit_of_streams_is_kept),
        TEST(a_closing_pool_says_goaway_and_dials_no_more),
        TEST(a_pool_closes_while_it_waits_for_a_core),
        TEST(too_many_trunks_are_a_wrong_configuration),
        TEST(every_failing_allocation_of_the_start_is_survived),
    };
    return cmocka_run_group_tests(tests, fixture_group_setup, fixture_group_teardown);
}
