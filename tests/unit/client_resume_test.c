/* Clients of the edge whose trunk is lost: where their sessions go on, and what ends them. */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mux/limits.h"
#include "mux/memory.h"

#define TIMEOUT_MS 20000U
#define BACK_MS    (2U * TIMEOUT_RECONNECT_MIN_MS) /* a trunk is there again */

static struct fixture fixture;

static int setup(void **state)
{
    (void)state;
    fixture_prepare(&fixture);
    fixture.resumes = true;
    fixture.settings.resume_timeout_ms = TIMEOUT_MS;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fixture);
    return 0;
}

static struct fixture_client *start_one(void)
{
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    return fixture_connect_one(&fixture);
}

static void cut_link_of(const struct fixture_stream *stream)
{
    fixture_link_cut(&fixture.links[stream->link]);
}

static void expect_cut(const struct fixture_client *client)
{
    assert_int_equal(client->error, ERROR_TLS_ALERT);
    assert_int_equal(tls_last_alert(&client->tls), -TLS_ALERT_INTERNAL_ERROR);
    assert_false(client->ended);
    assert_true(client->finished || client->reset);
}

/* Bytes go both ways, and nothing of the client is kept any more. */
static void expect_alive(struct fixture_client *client, struct fixture_stream *stream)
{
    size_t before[2] = {client->received.length, stream->received.length};
    fixture_client_send(client, "ping", 4);
    fixture_stream_send(stream, "answer", 6);
    fixture_wait(&fixture, 2 * TIMEOUT_TRUNK_OWED_MS);
    assert_int_equal(stream->received.length, before[1] + 4);
    assert_int_equal(client->received.length, before[0] + 6);
    assert_int_equal(fixture.relay.work_slab.objects, 0);
    assert_int_equal(fixture.relay.extra_slab.objects, 0);
}

static void a_session_goes_on_at_once_on_a_sister_trunk(void **state)
{
    (void)state;
    fixture.settings.trunks = 2;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    size_t first = stream->link;
    uint64_t before_us = fixture.scheduler.now_us;
    fixture_client_send(client, "hello", 5);
    cut_link_of(stream);
    fixture_stream_send(stream, "news", 4);
    fixture_pump(&fixture);
    assert_int_equal(fixture.scheduler.now_us, before_us);
    assert_int_equal(stream->resumed, 1);
    assert_true(stream->link != first);
    assert_int_equal(stream->received.length, 5);
    assert_int_equal(client->received.length, 4);
    assert_int_equal(fixture.relay.counters.sessions_suspended, 1);
    assert_int_equal(fixture.relay.counters.sessions_resumed, 1);
    assert_int_equal(fixture.relay.counters.sessions_trunk_lost, 0);
    expect_alive(client, stream);
}

static void a_session_waits_for_the_only_trunk(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    cut_link_of(stream);
    fixture_client_send(client, "hello", 5);
    fixture_pump(&fixture);
    assert_int_equal(stream->resumed, 0);
    assert_int_equal(client->error, ERROR_NONE);
    fixture_wait(&fixture, BACK_MS);
    assert_int_equal(stream->resumed, 1);
    assert_int_equal(stream->received.length, 5);
    expect_alive(client, stream);
    fixture_wait(&fixture, 2 * TIMEOUT_MS); /* the deadline is off */
    assert_int_equal(client->error, ERROR_NONE);
    fixture_client_end(client);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    assert_true(client->ended);
    assert_true(stream->closed);
    assert_int_equal(stream->error, ERROR_NONE);
}

static void trunks_that_are_lost_again_do_not_prolong_the_wait(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    cut_link_of(stream);
    fixture_pump(&fixture);
    fixture.dial_fails = true;
    fixture_wait(&fixture, TIMEOUT_MS - 1);
    assert_int_equal(client->error, ERROR_NONE);
    fixture_wait(&fixture, 3);
    expect_cut(client);
    assert_int_equal(fixture.relay.counters.sessions_trunk_lost, 1);
    fixture_client_finish(client);
    fixture_wait(&fixture, TIMEOUT_LINGER_MS);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void a_session_that_its_core_forgot_is_cut(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    fixture.forgetful = true;
    cut_link_of(fixture_stream(&fixture, 0));
    fixture_pump(&fixture);
    fixture_wait(&fixture, BACK_MS);
    expect_cut(client);
    assert_int_equal(fixture_stream(&fixture, 0)->resumed, 0);
}

/* Both ends were told: what the core forgot is over, and cleanly so. */
static void a_session_that_is_over_needs_no_core(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    cut_link_of(stream);
    fixture_client_end(client);
    fixture_pump(&fixture);
    fixture.forgetful = true;
    fixture_wait(&fixture, BACK_MS);
    assert_true(client->ended);
    assert_int_equal(client->error, ERROR_NONE);
    assert_int_equal(fixture.relay.counters.sessions_ended, 1);
    assert_int_equal(fixture.relay.counters.sessions_trunk_lost, 0);
}

static void a_client_that_dies_while_suspended_leaves_nothing(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    cut_link_of(stream);
    fixture_pump(&fixture);
    fixture_client_reset(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
    fixture_wait(&fixture, BACK_MS);
    assert_int_equal(fixture_trunks_up(&fixture), 1);
    assert_int_equal(stream->resumed, 0);
}

/* The same id, so that a core that has processed the first request does not begin a second session. */
static void an_unanswered_request_is_asked_again_under_its_id(void **state)
{
    (void)state;
    fixture.settings.trunks = 2;
    fixture.answer = FIXTURE_HOLD;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    assert_true(stream->attached);
    cut_link_of(stream);
    fixture_pump(&fixture);
    assert_int_equal(fixture.stream_count, 1);
    assert_int_equal(stream->asked_again, 1);
    assert_int_equal(trunk_stream_accept(&stream->stream), ERROR_NONE);
    fixture_pump(&fixture);
    expect_alive(client, stream);
}

static void an_unanswered_request_is_asked_again_at_the_same_core_only(void **state)
{
    (void)state;
    fixture.settings.core_count = 2;
    fixture.answer = FIXTURE_HOLD;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    cut_link_of(stream);
    fixture_pump(&fixture);
    assert_int_equal(fixture_trunks_up(&fixture), 1);
    assert_int_equal(fixture.stream_count, 1);
    assert_int_equal(stream->asked_again, 0);
    fixture_wait(&fixture, BACK_MS);
    assert_int_equal(fixture.stream_count, 1);
    assert_int_equal(stream->asked_again, 1);
    assert_int_equal(trunk_stream_accept(&stream->stream), ERROR_NONE);
    fixture_pump(&fixture);
    expect_alive(client, stream);
}

/* The answer does not come any more: the time for it is what it was. */
static void an_unanswered_request_has_no_longer_to_wait(void **state)
{
    (void)state;
    fixture.answer = FIXTURE_HOLD;
    struct fixture_client *client = start_one();
    cut_link_of(fixture_stream(&fixture, 0));
    fixture_pump(&fixture);
    fixture.dial_fails = true;
    fixture_wait(&fixture, TIMEOUT_OPEN_MS + 1);
    expect_cut(client);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_false(edge_resumes_waiting(&fixture.relay));
}

static void sessions_return_to_their_own_core(void **state)
{
    (void)state;
    enum { CLIENTS = 6 };
    struct fixture_client *clients[CLIENTS];
    size_t cores[CLIENTS];
    fixture.settings.core_count = 2;
    clients[0] = start_one();
    for (size_t i = 1; i < CLIENTS; i++) {
        clients[i] = fixture_connect_one(&fixture);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        cores[i] = fixture.links[fixture_stream(&fixture, i)->link].core;
    }
    size_t links = fixture.link_count;
    for (size_t i = 0; i < links; i++) {
        fixture_link_cut(&fixture.links[i]);
    }
    fixture_pump(&fixture);
    fixture_wait(&fixture, BACK_MS);
    assert_int_equal(fixture.stream_count, CLIENTS);
    size_t second = 0;
    for (size_t i = 0; i < CLIENTS; i++) {
        struct fixture_stream *stream = fixture_stream(&fixture, i);
        assert_int_equal(stream->resumed, 1);
        assert_int_equal(fixture.links[stream->link].core, cores[i]);
        second += cores[i];
        expect_alive(clients[i], stream);
    }
    assert_int_equal(second, CLIENTS / 2);
}

static void a_drain_waits_for_suspended_clients(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    cut_link_of(stream);
    fixture_pump(&fixture);
    relay_drain(&fixture.relay, 10000);
    fixture_wait(&fixture, BACK_MS);
    assert_int_equal(stream->resumed, 1);
    assert_int_equal(fixture.stops, 0);
    fixture_client_end(client);
    fixture_client_finish(client);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    assert_true(client->ended);
    assert_int_equal(fixture.stops, 1);
}

static void a_drain_ends_suspended_clients_in_time(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    cut_link_of(fixture_stream(&fixture, 0));
    fixture_pump(&fixture);
    fixture.dial_fails = true;
    relay_drain(&fixture.relay, 1000);
    fixture_wait(&fixture, 1001);
    expect_cut(client);
    assert_int_equal(fixture.relay.counters.sessions_forced, 1);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.stops, 1);
}

static void a_core_that_does_not_resume_ends_sessions_as_ever(void **state)
{
    (void)state;
    fixture.resumes = false;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    assert_false(stream->session.known);
    cut_link_of(stream);
    fixture_pump(&fixture);
    expect_cut(client);
    assert_int_equal(fixture.relay.counters.sessions_suspended, 0);
}

/* Its core is replaced by one that knows nothing of resuming. */
static void a_core_that_has_unlearnt_to_resume_is_waited_for_in_vain(void **state)
{
    (void)state;
    struct fixture_client *client = start_one();
    fixture.resumes = false;
    cut_link_of(fixture_stream(&fixture, 0));
    fixture_pump(&fixture);
    fixture_wait(&fixture, BACK_MS);
    assert_int_equal(fixture_trunks_up(&fixture), 1);
    fixture_wait(&fixture, TIMEOUT_MS);
    expect_cut(client);
    assert_int_equal(fixture_stream(&fixture, 0)->resumed, 0);
}

/* A client ends without close_notify while its request to resume is under way. */
static void a_truncated_client_leaves_no_gap(void **state)
{
    (void)state;
    fixture.settings.trunks = 2;
    fixture.answer = FIXTURE_ACCEPT;
    struct fixture_client *client = start_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_client_send(client, "0123456789", 10);
    cut_link_of(stream);
    fixture_client_send(client, "abc", 3);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_true(stream->received.length <= 13);
    assert_memory_equal(stream->received.bytes != NULL ? stream->received.bytes : (const uint8_t *)"", "0123456789abc",
                        stream->received.length);
    assert_false(stream->ended);
    fixture_wait(&fixture, TIMEOUT_LINGER_MS);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void every_failing_allocation_of_a_loss_is_survived(void **state)
{
    (void)state;
    bool failed = true;
    for (unsigned nth = 1; failed; nth++) {
        fixture.settings.trunks = 2;
        struct fixture_client *client = start_one();
        struct fixture_stream *stream = fixture_stream(&fixture, 0);
        assert_non_null(stream);
        fixture_client_send(client, "hello", 5);
        memory_fail_at(nth);
        cut_link_of(stream);
        fixture_wait(&fixture, 2 * TIMEOUT_TRUNK_OWED_MS);
        failed = memory_faults() > 0;
        memory_fail_at(0);
        fixture_wait(&fixture, TIMEOUT_MS + TIMEOUT_LINGER_MS);
        /* It goes on, or is told that it does not. */
        bool cut = client->finished || client->reset;
        assert_true(cut || (stream->received.length == 5 && !stream->closed));
        assert_true(failed || !cut);
        (void)teardown(NULL);
        (void)setup(NULL);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_goes_on_at_once_on_a_sister_trunk),
        TEST(a_session_waits_for_the_only_trunk),
        TEST(trunks_that_are_lost_again_do_not_prolong_the_wait),
        TEST(a_session_that_its_core_forgot_is_cut),
        TEST(a_session_that_is_over_needs_no_core),
        TEST(a_client_that_dies_while_suspended_leaves_nothing),
        TEST(an_unanswered_request_is_asked_again_under_its_id),
        TEST(an_unanswered_request_is_asked_again_at_the_same_core_only),
        TEST(an_unanswered_request_has_no_longer_to_wait),
        TEST(sessions_return_to_their_own_core),
        TEST(a_drain_waits_for_suspended_clients),
        TEST(a_drain_ends_suspended_clients_in_time),
        TEST(a_core_that_does_not_resume_ends_sessions_as_ever),
        TEST(a_core_that_has_unlearnt_to_resume_is_waited_for_in_vain),
        TEST(a_truncated_client_leaves_no_gap),
        TEST(every_failing_allocation_of_a_loss_is_survived),
    };
    return cmocka_run_group_tests(tests, fixture_group_setup, fixture_group_teardown);
}
