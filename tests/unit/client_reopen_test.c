/* Clients of the edge whose core is gone: when another one is asked to open their sessions again, and when none is. */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mux/limits.h"

#define TIMEOUT_MS 20000U
#define REOPEN_MS  2000U
#define LOOK_MS    300U /* so much later than it may a session is opened again */

static struct fixture fixture;

static int setup(void **state)
{
    (void)state;
    fixture_prepare(&fixture);
    fixture.resumes = fixture.reopens = true;
    fixture.settings.core_count = 2;
    fixture.settings.resume_timeout_ms = TIMEOUT_MS;
    fixture.settings.reopen_after_ms = REOPEN_MS;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fixture);
    return 0;
}

/* A client with a session that its service would open again. */
static struct fixture_client *connect_one(void)
{
    static const struct metadata_note nothing = {0};
    struct fixture_client *client = fixture_connect_one(&fixture);
    struct fixture_stream *stream = fixture_stream(&fixture, fixture.stream_count - 1);
    assert_int_equal(trunk_stream_note(&stream->stream, &nothing), ERROR_NONE);
    fixture_wait(&fixture, TIMEOUT_TRUNK_OWED_MS);
    return client;
}

static struct fixture_client *start_one(void)
{
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    return connect_one();
}

/* The core of the first session is gone, and its trunks with it. */
static void lose_core(void)
{
    fixture.lost_core = fixture.links[fixture_stream(&fixture, 0)->link].core;
    for (size_t i = 0; i < fixture.link_count; i++) {
        if (fixture.links[i].live && fixture.links[i].core == fixture.lost_core) {
            fixture_link_cut(&fixture.links[i]);
        }
    }
    fixture_pump(&fixture);
}

static void another_core_is_asked_after_a_while(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    fixture_client_send(client, "hello", 5);
    fixture_pump(&fixture);
    lose_core();
    fixture_wait(&fixture, REOPEN_MS - LOOK_MS);
    assert_int_equal(fixture.stream_count, 1);
    fixture_wait(&fixture, 2 * LOOK_MS);
    assert_int_equal(fixture.stream_count, 2);
    struct fixture_stream *again = fixture_stream(&fixture, 1);
    assert_true(fixture.links[again->link].core != fixture.lost_core);
    assert_memory_not_equal(again->session.id, fixture_stream(&fixture, 0)->session.id, METADATA_SESSION_BYTES);
    fixture_client_send(client, "more", 4);
    fixture_stream_send(again, "answer", 6);
    fixture_wait(&fixture, TIMEOUT_TRUNK_OWED_MS);
    assert_int_equal(client->received.length, 6);
    assert_memory_equal(again->received.bytes + again->received.length - 4, "more", 4);
}

/* Its end is looked at in a turn, and it waits only from then on. */
static void a_client_that_half_closes_as_its_core_is_lost_is_moved_as_any(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    fixture_client_end(client);
    fixture_client_finish(client);
    lose_core();
    fixture_wait(&fixture, REOPEN_MS + LOOK_MS);
    assert_int_equal(fixture.stream_count, 2);
    assert_true(fixture_stream(&fixture, 1)->ended);
}

/* No other core would take it up: it waits for its own. */
static void a_session_that_its_core_has_ended_waits_for_it(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    assert_true(client->ended);
    lose_core();
    fixture_wait(&fixture, REOPEN_MS + LOOK_MS);
    assert_int_equal(fixture.stream_count, 1);
    fixture.lost_core = SIZE_MAX;
    fixture_wait(&fixture, TIMEOUT_RECONNECT_MAX_MS);
    assert_int_equal(stream->resumed, 1);
    fixture_client_send(client, "the rest", 8);
    fixture_pump(&fixture);
    assert_int_equal(stream->received.length, 8);
}

static void a_core_without_room_is_asked_at_a_measured_pace(void **state)
{
    (void)state;
    enum { CLIENTS = 8 };
    start_one();
    for (size_t i = 1; i < CLIENTS; i++) {
        connect_one();
    }
    size_t moving = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        moving += fixture.links[fixture_stream(&fixture, i)->link].core ==
                  fixture.links[fixture_stream(&fixture, 0)->link].core;
    }
    assert_true(moving > 1);
    fixture.answer = FIXTURE_DECLINE;
    lose_core();
    fixture_wait(&fixture, REOPEN_MS + 2000);
    assert_in_range(fixture.declined, 10, 21 * moving);
    fixture.answer = FIXTURE_ACCEPT;
    fixture_wait(&fixture, LOOK_MS);
    assert_int_equal(fixture.stream_count, CLIENTS + moving);
}

/* Nor is one that was never answered asked for again and again. */
static void a_core_without_room_is_asked_so_for_unanswered_requests(void **state)
{
    (void)state;
    fixture.settings.core_count = 1;
    fixture.answer = FIXTURE_HOLD;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    fixture_connect_one(&fixture);
    assert_int_equal(fixture.stream_count, 1);
    fixture_stream(&fixture, 0)->session.known = 0; /* it is another process */
    fixture.answer = FIXTURE_DECLINE;
    trunk_stream_reset(&fixture_stream(&fixture, 0)->stream, TRUNK_CODE_INTERNAL_ERROR);
    fixture_link_cut(&fixture.links[fixture_stream(&fixture, 0)->link]);
    fixture_pump(&fixture);
    fixture_wait(&fixture, 1000 + 2 * TIMEOUT_RECONNECT_MIN_MS);
    assert_in_range(fixture.declined, 5, 15);
}

/* Its core sends it away and the other one has no room: the first is asked as soon as it is back. */
static void a_session_that_is_moved_is_offered_to_each_core(void **state)
{
    (void)state;
    start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture.lost_core = fixture.links[stream->link].core;
    assert_int_equal(trunk_goaway(fixture.links[stream->link].link.trunk, TRUNK_CODE_NO_ERROR), ERROR_NONE);
    trunk_stream_abort(&stream->stream, TRUNK_CODE_MOVED);
    fixture.answer = FIXTURE_DECLINE;
    fixture_pump(&fixture);
    assert_int_equal(fixture.declined, 1);
    fixture_wait(&fixture, LOOK_MS);
    assert_in_range(fixture.declined, 3, 4);
    fixture.answer = FIXTURE_ACCEPT;
    for (size_t i = 0; i < fixture.link_count; i++) {
        fixture.decline_link = fixture.links[i].core != fixture.lost_core ? i : fixture.decline_link;
    }
    size_t first = fixture.lost_core;
    fixture.lost_core = SIZE_MAX;
    fixture_wait(&fixture, REOPEN_MS / 2);
    assert_int_equal(fixture.stream_count, 2);
    assert_int_equal(fixture.links[fixture_stream(&fixture, 1)->link].core, first);
}

/* While a core is not asked for sessions that it does not have, it is asked for its own. */
static void a_core_that_pauses_goes_on_with_its_own_sessions(void **state)
{
    (void)state;
    fixture.settings.core_count = 1;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_link_cut(&fixture.links[stream->link]);
    fixture_pump(&fixture);
    fixture.relay.pool.cores[0].resumes_after_us = UINT64_MAX;
    fixture_wait(&fixture, 2 * TIMEOUT_RECONNECT_MIN_MS);
    assert_int_equal(stream->resumed, 1);
    fixture_client_send(client, "on", 2);
    fixture_pump(&fixture);
    assert_int_equal(stream->received.length, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(another_core_is_asked_after_a_while),
        TEST(a_client_that_half_closes_as_its_core_is_lost_is_moved_as_any),
        TEST(a_session_that_its_core_has_ended_waits_for_it),
        TEST(a_core_without_room_is_asked_at_a_measured_pace),
        TEST(a_core_without_room_is_asked_so_for_unanswered_requests),
        TEST(a_session_that_is_moved_is_offered_to_each_core),
        TEST(a_core_that_pauses_goes_on_with_its_own_sessions),
    };
    return cmocka_run_group_tests(tests, fixture_group_setup, fixture_group_teardown);
}
