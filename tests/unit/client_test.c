/* One client of the edge, from its handshake to its end. */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/limits.h"
#include "mux/memory.h"

static struct fixture fixture;
static uint8_t pattern[400000];

static int setup(void **state)
{
    (void)state;
    fixture_prepare(&fixture);
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(i * 7 + i / 251);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&fixture);
    return 0;
}

static void start(void)
{
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
}

static struct fixture_client *connect_one(void)
{
    return fixture_connect_one(&fixture);
}

/* The client saw no clean end, but the alert, and then the end of the connection. */
static void assert_alerted(const struct fixture_client *client, int alert)
{
    assert_int_equal(client->error, ERROR_TLS_ALERT);
    assert_int_equal(tls_last_alert(&client->tls), -alert);
    assert_false(client->ended);
    assert_true(client->finished || client->reset);
}

static void bytes_go_both_ways(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    assert_non_null(stream);
    assert_string_equal(stream->service, "echo");
    assert_string_equal(stream->server_name, "localhost");
    assert_int_equal(stream->client.port, 50000);
    fixture_client_send(client, pattern, 100000);
    fixture_pump(&fixture);
    assert_int_equal(stream->received.length, 100000);
    assert_memory_equal(stream->received.bytes, pattern, 100000);
    for (size_t sent = 0; sent < 100000; sent += 10000) {
        fixture_stream_send(stream, pattern + sent, 10000);
        fixture_pump(&fixture);
    }
    assert_int_equal(client->received.length, 100000);
    assert_memory_equal(client->received.bytes, pattern, 100000);
    assert_int_equal(fixture.relay.counters.bytes_from_clients, 100000);
    assert_int_equal(fixture.relay.counters.bytes_to_clients, 100000);
}

static void a_client_that_ended_still_receives(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_client_send(client, "ask", 3);
    fixture_client_end(client);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_true(stream->ended);
    assert_false(stream->closed);
    fixture_stream_send(stream, "answer", 6);
    fixture_pump(&fixture);
    assert_memory_equal(client->received.bytes, "answer", 6);
    assert_false(client->ended);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    assert_true(client->ended);
    assert_true(client->finished);
    assert_false(client->reset);
    assert_true(stream->closed);
    assert_int_equal(stream->error, ERROR_NONE);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_int_equal(fixture.relay.counters.sessions_ended, 1);
}

static void a_client_still_sends_after_the_core_ended(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_stream_send(stream, "bye", 3);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    assert_memory_equal(client->received.bytes, "bye", 3);
    assert_true(client->ended);
    assert_true(client->finished);
    fixture_client_send(client, pattern, 200000);
    fixture_pump(&fixture);
    assert_int_equal(stream->received.length, 200000);
    fixture_client_end(client);
    fixture_pump(&fixture);
    assert_true(stream->ended);
    assert_int_equal(stream->error, ERROR_NONE);
    assert_int_equal(fixture.relay.client_count, 1); /* lingers for the FIN */
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_false(client->reset);
}

static void lingering_has_an_end(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    fixture_client_end(client);
    trunk_stream_end(&fixture_stream(&fixture, 0)->stream);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 1);
    fixture_wait(&fixture, TIMEOUT_LINGER_MS - 10);
    assert_int_equal(fixture.relay.client_count, 1);
    fixture_wait(&fixture, 20);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void a_fin_without_close_notify_is_a_truncation(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_client_send(client, "half", 4);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    /* What came before is delivered, the end is not clean. */
    assert_int_equal(stream->received.length, 4);
    assert_memory_equal(stream->received.bytes, "half", 4);
    assert_false(stream->ended);
    assert_true(stream->closed);
    assert_int_equal(stream->error, ERROR_PEER_RESET);
    assert_int_equal(stream->detail, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(fixture.relay.counters.sessions_truncated, 1);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_false(client->ended);
}

static void a_reset_client_resets_its_stream(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_client_reset(client);
    fixture_pump(&fixture);
    assert_true(stream->closed);
    assert_int_equal(stream->error, ERROR_PEER_RESET);
    assert_int_equal(stream->detail, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(fixture.relay.counters.sessions_client_lost, 1);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void a_reset_stream_is_no_clean_end(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    fixture_stream_send(fixture_stream(&fixture, 0), "partial", 7);
    fixture_pump(&fixture);
    trunk_stream_reset(&fixture_stream(&fixture, 0)->stream, TRUNK_CODE_INTERNAL_ERROR);
    fixture_pump(&fixture);
    assert_alerted(client, TLS_ALERT_INTERNAL_ERROR);
    assert_true(client->reset);
    assert_int_equal(fixture.relay.counters.sessions_trunk_lost, 1);
}

static void no_error_before_the_end_is_no_clean_end_either(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    trunk_stream_reset(&fixture_stream(&fixture, 0)->stream, TRUNK_CODE_NO_ERROR);
    fixture_pump(&fixture);
    assert_alerted(client, TLS_ALERT_INTERNAL_ERROR);
}

static void no_error_after_the_end_only_stops_the_client(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_stream_send(stream, "all", 3);
    trunk_stream_end(&stream->stream);
    fixture_pump(&fixture);
    trunk_stream_reset(&stream->stream, TRUNK_CODE_NO_ERROR);
    fixture_client_send(client, pattern, 100000);
    fixture_pump(&fixture);
    assert_true(client->ended);
    assert_false(client->reset);
    assert_int_equal(client->error, ERROR_NONE);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void a_lost_trunk_is_no_clean_end(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    fixture_link_cut(&fixture.links[0]);
    fixture_pump(&fixture);
    assert_alerted(client, TLS_ALERT_INTERNAL_ERROR);
    assert_true(client->reset);
    assert_int_equal(fixture.relay.client_count, 0);
    fixture_wait(&fixture, 1000);
    struct fixture_client *next = connect_one();
    fixture_client_send(next, "again", 5);
    fixture_pump(&fixture);
    assert_int_equal(fixture_stream(&fixture, 1)->received.length, 5);
}

static void refused_with(int status, int alert)
{
    fixture.answer = FIXTURE_REFUSE;
    fixture.status = status;
    start();
    struct fixture_client *client = connect_one();
    assert_alerted(client, alert);
    assert_int_equal(fixture.relay.counters.sessions_refused, 1);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void a_client_refused_with_404_is_denied_access(void **state)
{
    (void)state;
    refused_with(404, TLS_ALERT_ACCESS_DENIED);
}

static void a_client_refused_with_502_hears_of_an_internal_error(void **state)
{
    (void)state;
    refused_with(502, TLS_ALERT_INTERNAL_ERROR);
}

static void a_client_without_a_route_is_denied_access(void **state)
{
    static char name[] = "elsewhere.example.com";
    static char service[] = "echo";
    (void)state;
    fixture.routes[0] = (struct edge_route_settings){.server_name = name, .service = service};
    fixture.settings.route_count = 1;
    fixture.settings.service = NULL;
    start();
    assert_alerted(connect_one(), TLS_ALERT_ACCESS_DENIED);
    assert_int_equal(fixture.stream_count, 0);
    struct fixture_client *other = fixture_connect(&fixture, name);
    fixture_pump(&fixture);
    assert_int_equal(other->error, ERROR_NONE);
    assert_int_equal(fixture.stream_count, 1);
}

static void a_declined_stream_is_tried_on_another_trunk(void **state)
{
    (void)state;
    fixture.settings.trunks = 2;
    fixture.decline_link = 0;
    start();
    for (size_t i = 0; i < 4; i++) {
        struct fixture_client *client = connect_one();
        fixture_client_send(client, "x", 1);
        fixture_pump(&fixture);
        assert_int_equal(fixture_stream(&fixture, i)->link, 1);
        assert_int_equal(fixture_stream(&fixture, i)->received.length, 1);
    }
    assert_true(fixture.relay.counters.opens_retried > 0);
}

static void a_stream_that_all_decline_is_refused_after_three_attempts(void **state)
{
    (void)state;
    fixture.answer = FIXTURE_DECLINE;
    start();
    assert_alerted(connect_one(), TLS_ALERT_INTERNAL_ERROR);
    assert_int_equal(fixture.relay.counters.opens_retried, EDGE_CLIENT_ATTEMPTS_MAX - 1);
    assert_int_equal(fixture.relay.counters.sessions_refused, 1);
}

static void a_client_waits_for_a_trunk(void **state)
{
    (void)state;
    fixture.dial_fails = true;
    start();
    struct fixture_client *first = connect_one();
    struct fixture_client *second = connect_one();
    assert_true(first->established);
    fixture_client_send(first, "early", 5);
    fixture_client_send(second, "later", 5);
    fixture_wait(&fixture, 1000);
    assert_int_equal(fixture.stream_count, 0);
    fixture.dial_fails = false;
    fixture_wait(&fixture, 4000);
    assert_int_equal(fixture.stream_count, 2);
    assert_memory_equal(fixture_stream(&fixture, 0)->received.bytes, "early", 5);
    assert_memory_equal(fixture_stream(&fixture, 1)->received.bytes, "later", 5);
}

static void waiting_for_a_trunk_has_an_end(void **state)
{
    (void)state;
    fixture.dial_fails = true;
    start();
    struct fixture_client *client = connect_one();
    fixture_wait(&fixture, TIMEOUT_OPEN_MS - 10);
    assert_int_equal(client->error, ERROR_NONE);
    fixture_wait(&fixture, 20);
    assert_alerted(client, TLS_ALERT_INTERNAL_ERROR);
    assert_true(list_empty(&fixture.relay.waiting));
}

static void waiting_for_an_answer_has_an_end(void **state)
{
    (void)state;
    fixture.answer = FIXTURE_HOLD;
    start();
    struct fixture_client *client = connect_one();
    assert_true(fixture_stream(&fixture, 0)->attached);
    fixture_wait(&fixture, TIMEOUT_OPEN_MS + 10);
    assert_alerted(client, TLS_ALERT_INTERNAL_ERROR);
    assert_true(fixture_stream(&fixture, 0)->closed);
}

static void nothing_is_read_before_the_answer(void **state)
{
    (void)state;
    fixture.answer = FIXTURE_HOLD;
    start();
    struct fixture_client *client = connect_one();
    fixture_client_send(client, pattern, sizeof(pattern));
    fixture_client_end(client);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_true(client->wire->peer->incoming.length >= sizeof(pattern));
    assert_int_equal(trunk_stream_accept(&fixture_stream(&fixture, 0)->stream), ERROR_NONE);
    fixture_pump(&fixture);
    assert_int_equal(fixture_stream(&fixture, 0)->received.length, sizeof(pattern));
    assert_memory_equal(fixture_stream(&fixture, 0)->received.bytes, pattern, sizeof(pattern));
    assert_true(fixture_stream(&fixture, 0)->ended);
}

static void what_comes_with_the_handshake_is_delivered_first(void **state)
{
    (void)state;
    fixture.answer = FIXTURE_HOLD;
    start();
    struct fixture_client *client = fixture_connect(&fixture, "localhost");
    /* Carry the handshake by hand, so that Finished, data and close_notify arrive in one read. */
    while (!client->established) {
        scheduler_run_tasks(&fixture.scheduler);
        struct wire_end *edge = client->wire->peer;
        if (edge->transport != NULL && edge->events != 0) {
            edge->events = 0;
            transport_tell(edge->transport, TRANSPORT_READABLE);
        }
        struct fixture_bytes *came = &client->wire->incoming;
        assert_true(came->length > 0);
        assert_int_equal(tls_receive(&client->tls, fixture_tls_events, came->bytes, came->length), ERROR_NONE);
        came->length = 0;
    }
    fixture_client_send(client, pattern, 3000);
    fixture_client_end(client);
    fixture_pump(&fixture);
    assert_int_equal(client->wire->peer->incoming.length, 0);
    assert_int_equal(fixture_stream(&fixture, 0)->received.length, 0);
    assert_int_equal(trunk_stream_accept(&fixture_stream(&fixture, 0)->stream), ERROR_NONE);
    fixture_pump(&fixture);
    assert_int_equal(fixture_stream(&fixture, 0)->received.length, 3000);
    assert_memory_equal(fixture_stream(&fixture, 0)->received.bytes, pattern, 3000);
    assert_true(fixture_stream(&fixture, 0)->ended);
}

static void a_stalled_client_holds_its_window_and_nobody_else(void **state)
{
    (void)state;
    start();
    struct fixture_client *stalled = connect_one();
    struct fixture_client *other = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    stalled->stalled = true;
    fixture_stream_send(stream, pattern, sizeof(pattern));
    fixture_pump(&fixture);
    size_t held = sizeof(pattern) - trunk_stream_queued(&stream->stream);
    /* What its connection holds, and one window. */
    assert_in_range(held, 65536 - TLS_RECORD_MAX_BYTES, 65536 + LIMIT_STREAM_WINDOW_BYTES);
    assert_int_equal(trunk_stream_room(&stream->stream), 0);
    /* Nothing is consumed before the transport has taken it. */
    struct edge_client *edge = slab_next(&fixture.relay.client_slab, NULL);
    assert_int_equal(fixture.relay.client_slab.objects, 2);
    edge = edge->extra != NULL ? edge : slab_next(&fixture.relay.client_slab, edge);
    assert_non_null(edge->extra);
    assert_false(chain_empty(&edge->extra->pending));
    assert_true(edge->extra->encrypted_bytes > 0);
    assert_int_equal(edge->extra->encrypted_bytes + chain_bytes(&edge->extra->output),
                     trunk_stream_unconsumed(&edge->stream));
    for (size_t sent = 0; sent < sizeof(pattern); sent += 50000) {
        fixture_stream_send(fixture_stream(&fixture, 1), pattern + sent, 50000);
        fixture_pump(&fixture);
    }
    assert_int_equal(other->received.length, sizeof(pattern));
    trunk_stream_end(&stream->stream);
    stalled->stalled = false;
    fixture_pump(&fixture);
    assert_int_equal(stalled->received.length, sizeof(pattern));
    assert_memory_equal(stalled->received.bytes, pattern, sizeof(pattern));
    assert_true(stalled->ended);
}

static void a_stalled_core_stops_its_client_and_nobody_else(void **state)
{
    (void)state;
    fixture.hold_data = true;
    start();
    struct fixture_client *client = connect_one();
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    fixture_client_send(client, pattern, sizeof(pattern));
    fixture_pump(&fixture);
    assert_in_range(stream->received.length, LIMIT_STREAM_WINDOW_BYTES, LIMIT_STREAM_WINDOW_BYTES);
    /* The rest is still in the network: at most a record more than the window was read. */
    assert_true(client->wire->peer->incoming.length + LIMIT_STREAM_WINDOW_BYTES + 2U * TLS_RECORD_MAX_BYTES >=
                sizeof(pattern));
    fixture.hold_data = false;
    connect_one();
    fixture_client_send(&fixture.clients[1], pattern, sizeof(pattern));
    fixture_pump(&fixture);
    assert_int_equal(fixture_stream(&fixture, 1)->received.length, sizeof(pattern));
    fixture_stream_consume(stream);
    fixture_pump(&fixture);
    assert_int_equal(stream->received.length, sizeof(pattern));
    assert_memory_equal(stream->received.bytes, pattern, sizeof(pattern));
}

static void a_reset_is_noticed_while_the_core_takes_no_more(void **state)
{
    (void)state;
    fixture.hold_data = true;
    start();
    struct fixture_client *client = connect_one();
    fixture_client_send(client, pattern, sizeof(pattern));
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 1);
    fixture_client_reset(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_true(fixture_stream(&fixture, 0)->closed);
    assert_int_equal(fixture_stream(&fixture, 0)->error, ERROR_PEER_RESET);
}

static void one_client_does_not_keep_the_others_waiting(void **state)
{
    (void)state;
    fixture.settings.stream_window_bytes = 65536;
    start();
    struct fixture_client *busy = connect_one();
    fixture_client_send(busy, pattern, sizeof(pattern));
    struct wire_end *edge = busy->wire->peer;
    edge->events = 0;
    transport_tell(edge->transport, TRANSPORT_READABLE);
    /* One turn took no more than its reads; the rest waits for the client's task. */
    assert_true(edge->incoming.length > 0);
    fixture_pump(&fixture);
    assert_int_equal(fixture_stream(&fixture, 0)->received.length, sizeof(pattern));
}

static void a_silent_client_is_closed_in_time(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = fixture_connect_raw(&fixture);
    fixture_wait(&fixture, TIMEOUT_HANDSHAKE_MS - 10);
    assert_int_equal(fixture.relay.handshake_count, 1);
    fixture_wait(&fixture, 20 + TIMEOUT_LINGER_MS);
    assert_int_equal(fixture.relay.handshake_count, 0);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_int_equal(fixture.relay.counters.handshakes_failed, 1);
    assert_true(client->finished || client->reset);
}

static void half_a_hello_is_closed_in_time(void **state)
{
    static const uint8_t hello[] = {22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3};
    (void)state;
    start();
    struct fixture_client *client = fixture_connect_raw(&fixture);
    fixture_client_send_raw(client, hello, sizeof(hello));
    fixture_wait(&fixture, TIMEOUT_HANDSHAKE_MS + TIMEOUT_LINGER_MS + 20);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_int_equal(fixture.relay.counters.handshakes_failed, 1);
    assert_true(client->finished || client->reset);
}

static void a_client_that_speaks_no_tls_is_sent_away(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = fixture_connect_raw(&fixture);
    fixture_client_send_raw(client, "GET / HTTP/1.0\r\n\r\n", 18);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.counters.handshakes_failed, 1);
    assert_int_equal(fixture.relay.handshake_count, 0);
    assert_true(client->finished);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void garbage_after_the_handshake_ends_the_session_with_an_alert(void **state)
{
    uint8_t record[5 + 32] = {23, 3, 3, 0, 32};
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    fixture_client_send_raw(client, record, sizeof(record));
    fixture_pump(&fixture);
    assert_alerted(client, 20); /* bad_record_mac */
    assert_true(fixture_stream(&fixture, 0)->closed);
    assert_int_equal(fixture_stream(&fixture, 0)->detail, TRUNK_CODE_CONNECT_ERROR);
    assert_int_equal(fixture.relay.counters.sessions_client_lost, 1);
}

static void clients_over_the_limit_are_turned_away(void **state)
{
    (void)state;
    fixture.settings.sessions_max = 2;
    start();
    connect_one();
    connect_one();
    assert_true(fixture_connect_raw(&fixture)->refused);
    assert_int_equal(fixture.relay.counters.clients_over_limit, 1);
    fixture_client_reset(&fixture.clients[0]);
    fixture_pump(&fixture);
    assert_false(connect_one()->refused);
}

static void handshakes_over_the_limit_are_turned_away(void **state)
{
    (void)state;
    fixture.settings.handshakes_max = 1;
    start();
    struct fixture_client *slow = fixture_connect_raw(&fixture);
    assert_true(fixture_connect_raw(&fixture)->refused);
    assert_int_equal(fixture.relay.counters.clients_over_limit, 1);
    fixture_client_reset(slow);
    fixture_pump(&fixture);
    assert_true(connect_one()->established);
    assert_true(connect_one()->established);
}

static void a_draining_relay_waits_for_its_clients(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    relay_drain(&fixture.relay, TIMEOUT_DRAIN_MS);
    fixture_wait(&fixture, 1000);
    assert_true(fixture_connect_raw(&fixture)->refused);
    assert_int_equal(fixture.stops, 0);
    fixture_client_send(client, "last", 4);
    fixture_client_end(client);
    fixture_client_finish(client);
    fixture_pump(&fixture);
    trunk_stream_end(&fixture_stream(&fixture, 0)->stream);
    fixture_pump(&fixture);
    assert_true(client->ended);
    fixture_wait(&fixture, 2000);
    assert_int_equal(fixture.stops, 1);
    assert_int_equal(fixture.relay.counters.sessions_forced, 0);
}

static void a_draining_relay_resets_who_stays_too_long(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    relay_drain(&fixture.relay, 1000);
    fixture_wait(&fixture, 990);
    assert_int_equal(client->error, ERROR_NONE);
    fixture_wait(&fixture, 20);
    assert_alerted(client, TLS_ALERT_INTERNAL_ERROR);
    assert_true(fixture_stream(&fixture, 0)->closed);
    fixture_wait(&fixture, 2000);
    assert_int_equal(fixture.stops, 1);
    assert_int_equal(fixture.relay.counters.sessions_forced, 1);
}

static void a_second_drain_hastens_the_first(void **state)
{
    (void)state;
    fixture.dial_fails = true;
    start();
    struct fixture_client *waiting = connect_one();
    relay_drain(&fixture.relay, TIMEOUT_DRAIN_MS);
    fixture_wait(&fixture, 10);
    relay_drain(&fixture.relay, 0);
    fixture_wait(&fixture, 10);
    assert_alerted(waiting, TLS_ALERT_INTERNAL_ERROR);
    assert_int_equal(fixture.stops, 1);
    assert_int_equal(fixture.relay.counters.sessions_forced, 1);
}

static void an_idle_client_holds_no_buffers(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = connect_one();
    fixture_client_send(client, pattern, 50000);
    fixture_stream_send(fixture_stream(&fixture, 0), pattern, 50000);
    fixture_pump(&fixture);
    fixture_wait(&fixture, 3000); /* windows are measured for a moment after the last byte */
    struct edge_client *edge = slab_next(&fixture.relay.client_slab, NULL);
    assert_null(edge->extra);
    assert_null(edge->stream.work);
    assert_int_equal(fixture.relay.extra_slab.objects, 0);
    assert_int_equal(slab_group_objects(&fixture.relay.tls), 1);
    assert_true(fixture.relay.client_slab.object_bytes <= 128);
}

/* A whole session, during which one allocation fails. The client sees all of it and a clean end, or none. */
static bool session_with_a_fault(uint64_t nth)
{
    fixture_prepare(&fixture);
    start();
    struct fixture_client *client = NULL;
    memory_fail_at(nth);
    client = connect_one();
    if (!client->refused && client->error == ERROR_NONE && client->established) {
        client->stalled = true;
        fixture_client_send(client, pattern, 20000);
        fixture_pump(&fixture);
        struct fixture_stream *stream = fixture_stream(&fixture, 0);
        if (stream != NULL && trunk_stream_attached(&stream->stream)) {
            fixture_stream_send(stream, pattern, 150000);
            trunk_stream_end(&stream->stream);
            fixture_pump(&fixture);
        }
        client->stalled = false;
        fixture_pump(&fixture);
        fixture_client_end(client);
        fixture_client_finish(client);
    }
    fixture_pump(&fixture);
    uint64_t faults = memory_faults();
    memory_fail_at(0);
    fixture_wait(&fixture, TIMEOUT_HANDSHAKE_MS + TIMEOUT_LINGER_MS + TIMEOUT_OPEN_MS);
    if (client->ended) {
        assert_int_equal(client->received.length, 150000);
        assert_memory_equal(client->received.bytes, pattern, 150000);
    } else {
        assert_true(faults > 0);
    }
    struct fixture_stream *stream = fixture_stream(&fixture, 0);
    if (stream != NULL && stream->ended) {
        assert_int_equal(stream->received.length, 20000);
        assert_memory_equal(stream->received.bytes, pattern, 20000);
    }
    assert_int_equal(fixture_trunks_up(&fixture), 1);
    return faults > 0;
}

static void every_failing_allocation_of_a_session_is_survived(void **state)
{
    uint64_t nth = 1;
    (void)state;
    while (session_with_a_fault(nth)) {
        fixture_dispose(&fixture);
        assert_int_equal(fixture.relay.client_slab.objects, 0);
        nth++;
    }
    assert_true(nth > 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_go_both_ways),
        TEST(a_client_that_ended_still_receives),
        TEST(a_client_still_sends_after_the_core_ended),
        TEST(lingering_has_an_end),
        TEST(a_fin_without_close_notify_is_a_truncation),
        TEST(a_reset_client_resets_its_stream),
        TEST(a_reset_stream_is_no_clean_end),
        TEST(no_error_before_the_end_is_no_clean_end_either),
        TEST(no_error_after_the_end_only_stops_the_client),
        TEST(a_lost_trunk_is_no_clean_end),
        TEST(a_client_refused_with_404_is_denied_access),
        TEST(a_client_refused_with_502_hears_of_an_internal_error),
        TEST(a_client_without_a_route_is_denied_access),
        TEST(a_declined_stream_is_tried_on_another_trunk),
        TEST(a_stream_that_all_decline_is_refused_after_three_attempts),
        TEST(a_client_waits_for_a_trunk),
        TEST(waiting_for_a_trunk_has_an_end),
        TEST(waiting_for_an_answer_has_an_end),
        TEST(nothing_is_read_before_the_answer),
        TEST(what_comes_with_the_handshake_is_delivered_first),
        TEST(a_stalled_client_holds_its_window_and_nobody_else),
        TEST(a_stalled_core_stops_its_client_and_nobody_else),
        TEST(a_reset_is_noticed_while_the_core_takes_no_more),
        TEST(one_client_does_not_keep_the_others_waiting),
        TEST(a_silent_client_is_closed_in_time),
        TEST(half_a_hello_is_closed_in_time),
        TEST(a_client_that_speaks_no_tls_is_sent_away),
        TEST(garbage_after_the_handshake_ends_the_session_with_an_alert),
        TEST(clients_over_the_limit_are_turned_away),
        TEST(handshakes_over_the_limit_are_turned_away),
        TEST(a_draining_relay_waits_for_its_clients),
        TEST(a_draining_relay_resets_who_stays_too_long),
        TEST(a_second_drain_hastens_the_first),
        TEST(an_idle_client_holds_no_buffers),
        TEST(every_failing_allocation_of_a_session_is_survived),
    };
    return cmocka_run_group_tests(tests, fixture_group_setup, fixture_group_teardown);
}
