/* Limits that clients meet: turns of handshakes, limits of addresses, clients that are idle or take nothing. */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
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
    assert_int_equal(admission_entries(fixture.admission), 0);
    admission_free(&fixture.admission);
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

static unsigned established_count(void)
{
    unsigned count = 0;
    for (size_t i = 0; i < fixture.client_count; i++) {
        count += fixture.clients[i].established;
    }
    return count;
}

/* ---- handshakes ---- */

static void one_handshake_is_looked_at_in_a_batch(void **state)
{
    (void)state;
    start();
    connect_one();
    for (unsigned i = 0; i < 10; i++) {
        fixture_connect(&fixture, "localhost");
    }
    /* Ten ClientHellos are there: of those who sent them one in each batch gets TLS. */
    for (unsigned batch = 0; batch < 10; batch++) {
        scheduler_run_tasks(&fixture.scheduler);
        unsigned begun = 0;
        for (struct edge_client *client = NULL; (client = slab_next(&fixture.relay.client_slab, client)) != NULL;) {
            begun += tls_initialized(&client->tls);
        }
        assert_in_range(begun, 1 + batch, 2 + batch);
        if (scheduler_wait_ms(&fixture.scheduler) != 0) {
            break;
        }
    }
    fixture_pump(&fixture);
    assert_int_equal(established_count(), 11);
}

static void who_says_nothing_has_no_tls(void **state)
{
    (void)state;
    start();
    struct fixture_client *client = fixture_connect_raw(&fixture);
    fixture_pump(&fixture);
    assert_false(tls_initialized(&((struct edge_client *)slab_next(&fixture.relay.client_slab, NULL))->tls));
    fixture_client_send_raw(client, "\x16", 1);
    fixture_pump(&fixture);
    assert_true(tls_initialized(&((struct edge_client *)slab_next(&fixture.relay.client_slab, NULL))->tls));
    fixture_client_reset(client);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void handshakes_begin_at_their_rate(void **state)
{
    (void)state;
    fixture.settings.handshakes_per_second = 10;
    start();
    for (unsigned i = 0; i < 20; i++) {
        fixture_connect(&fixture, "localhost");
    }
    fixture_pump(&fixture);
    unsigned at_once = established_count();
    assert_in_range(at_once, 1, 2);
    fixture_wait(&fixture, 1000);
    assert_in_range(established_count(), at_once + 9, at_once + 11);
    fixture_wait(&fixture, 1000);
    assert_int_equal(established_count(), 20);
}

static void whoever_waits_too_long_for_its_turn_is_closed(void **state)
{
    (void)state;
    fixture.settings.handshakes_per_second = 1;
    fixture.settings.handshake_timeout_ms = 2500;
    start();
    for (unsigned i = 0; i < 10; i++) {
        fixture_connect(&fixture, "localhost");
    }
    fixture_wait(&fixture, 3000);
    assert_in_range(established_count(), 3, 4);
    assert_int_equal(fixture.relay.counters.handshakes_completed, established_count());
    assert_int_equal(fixture.relay.counters.handshakes_failed, 10 - established_count());
    assert_int_equal(fixture.relay.handshake_count, 0);
}

/* ---- addresses ---- */

static void connections_of_an_address_are_limited_and_come_back(void **state)
{
    const struct admission_limits limits = {
        .connections_per_address = 2, .network_ip4_bits = 24, .network_ip6_bits = 48};
    (void)state;
    assert_int_equal(admission_new(&fixture.admission, &limits, 1), ERROR_NONE);
    start();
    connect_one();
    connect_one();
    assert_true(fixture_connect_raw(&fixture)->refused);
    assert_int_equal(fixture.relay.counters.clients_over_limit, 1);
    fixture_client_reset(&fixture.clients[0]);
    fixture_pump(&fixture);
    fixture_wait(&fixture, 1000);
    assert_true(connect_one()->established);
    memory_fail_at(1); /* the client's own memory */
    struct fixture_client *client = fixture_connect_raw(&fixture);
    memory_fail_at(0);
    assert_true(client->refused);
    for (size_t i = 0; i < fixture.client_count; i++) {
        fixture_client_reset(&fixture.clients[i]);
    }
    fixture_wait(&fixture, 1000);
}

/* ---- idle ---- */

static void who_says_nothing_is_reset_after_the_idle_timeout(void **state)
{
    (void)state;
    fixture.settings.idle_timeout_ms = 16000;
    start();
    struct fixture_client *silent = connect_one();
    struct fixture_client *speaker = connect_one();
    struct fixture_client *hearer = connect_one();
    for (unsigned second = 0; second < 60; second++) {
        bool over = fixture.relay.counters.sessions_idle > 0;
        assert_true(second > 15 || !over);
        assert_true(second < 19 || over);
        fixture_client_send(speaker, "x", 1);
        fixture_stream_send(fixture_stream(&fixture, 2), "y", 1);
        fixture_wait(&fixture, 1000);
    }
    assert_int_equal(fixture.relay.counters.sessions_idle, 1);
    assert_int_equal(silent->error, ERROR_TLS_ALERT);
    assert_true(fixture_stream(&fixture, 0)->closed);
    assert_int_equal(fixture_stream(&fixture, 1)->received.length, 60);
    assert_int_equal(hearer->received.length, 60);
    fixture_wait(&fixture, 20000);
    assert_int_equal(fixture.relay.counters.sessions_idle, 3);
    assert_int_equal(fixture.relay.client_count, 0);
}

static void clients_may_come_and_go_while_idle_ones_are_looked_for(void **state)
{
    (void)state;
    fixture.settings.idle_timeout_ms = 160;
    start();
    for (unsigned round = 0; round < 30; round++) {
        struct fixture_client *client = connect_one();
        scheduler_advance(&fixture.scheduler, fixture.scheduler.now_us + 10000);
        if (round % 3 == 0) {
            fixture_client_reset(client);
        }
        fixture_pump(&fixture);
    }
    fixture_wait(&fixture, 400);
    assert_int_equal(fixture.relay.client_count, 0);
    assert_int_equal(fixture.relay.counters.sessions_idle + fixture.relay.counters.sessions_client_lost, 30);
}

/* ---- stalled ---- */

static void who_takes_nothing_is_reset_after_the_stall_timeout(void **state)
{
    (void)state;
    start();
    struct fixture_client *stalled = connect_one();
    struct fixture_client *slow = connect_one();
    struct fixture_client *idle = connect_one();
    stalled->stalled = true;
    slow->stalled = true;
    fixture_stream_send(fixture_stream(&fixture, 0), pattern, 200000);
    fixture_stream_send(fixture_stream(&fixture, 1), pattern, 200000);
    fixture_pump(&fixture);
    fixture_wait(&fixture, TIMEOUT_STALL_MS - 1000);
    slow->stalled = false;
    fixture_pump(&fixture); /* takes all there is, */
    slow->stalled = true;
    fixture_stream_send(fixture_stream(&fixture, 1), pattern + 200000, 200000);
    fixture_wait(&fixture, 2000); /* and has its time again. */
    assert_int_equal(fixture.relay.counters.sessions_stalled, 1);
    assert_true(stalled->wire->reset);
    assert_true(fixture_stream(&fixture, 0)->closed);
    assert_int_equal(fixture_stream(&fixture, 0)->detail, TRUNK_CODE_CONNECT_ERROR);
    assert_false(fixture_stream(&fixture, 1)->closed);
    slow->stalled = false;
    fixture_pump(&fixture);
    assert_int_equal(slow->received.length, 400000);
    assert_memory_equal(slow->received.bytes, pattern, 400000);
    fixture_wait(&fixture, 2 * (uint64_t)TIMEOUT_STALL_MS);
    assert_int_equal(fixture.relay.counters.sessions_stalled, 1);
    assert_int_equal(fixture.relay.client_count, 2);
    (void)idle;
}

/* ---- those who leave ---- */

static size_t relaying_count(void)
{
    size_t count = 0;
    for (struct edge_client *client = NULL; (client = slab_next(&fixture.relay.client_slab, client)) != NULL;) {
        count += client->state == EDGE_CLIENT_RELAYING;
    }
    return count;
}

/* An outage for `count` clients: each of their events is told, and nothing else has run yet. */
static void break_connections(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct wire_end *edge_end = fixture.clients[i].wire->peer;
        fixture_client_reset(&fixture.clients[i]);
        edge_end->events = 0;
        transport_tell(edge_end->transport, TRANSPORT_READABLE | TRANSPORT_WRITABLE | TRANSPORT_BROKEN);
    }
}

static void broken_connections_end_some_in_each_batch(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 24; i++) {
        connect_one();
    }
    assert_int_equal(relaying_count(), 24);
    break_connections(20);
    assert_int_equal(relaying_count(), 24);
    scheduler_run_tasks(&fixture.scheduler);
    assert_int_equal(relaying_count(), 24 - EDGE_CLIENT_LEAVING_PER_BATCH);
    assert_int_equal(scheduler_wait_ms(&fixture.scheduler), 0);
    fixture_pump(&fixture);
    assert_int_equal(relaying_count(), 4);
    assert_int_equal(fixture.relay.client_count, 4);
    assert_int_equal(fixture.relay.extra_slab.objects, 0);
    assert_int_equal(fixture.relay.counters.sessions_client_lost, 20);
}

static void a_broken_connection_that_ends_otherwise_leaves_the_list(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 3; i++) {
        connect_one();
    }
    break_connections(2);
    break_connections(2); /* another event of the same */
    edge_client_reset(slab_next(&fixture.relay.client_slab, NULL));
    edge_client_free(slab_next(&fixture.relay.client_slab, slab_next(&fixture.relay.client_slab, NULL)));
    fixture_pump(&fixture);
    assert_true(list_empty(&fixture.relay.leaving.clients));
    assert_in_range(fixture.relay.client_count, 0, 1);
}

static void without_memory_for_a_turn_a_broken_connection_ends_at_once(void **state)
{
    (void)state;
    start();
    connect_one();
    connect_one();
    assert_null(((struct edge_client *)slab_next(&fixture.relay.client_slab, NULL))->extra);
    memory_fail_at(1);
    break_connections(1);
    memory_fail_at(0);
    assert_int_equal(relaying_count(), 1);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 1);
}

static size_t half_count(enum edge_client_half input, enum edge_client_half output)
{
    size_t count = 0;
    for (struct edge_client *client = NULL; (client = slab_next(&fixture.relay.client_slab, client)) != NULL;) {
        count += client->input_half == input && client->output_half == output;
    }
    return count;
}

/* close_notify and FIN of `count` clients: each of their events is told, and nothing else has run yet. */
static void say_goodbye(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct wire_end *edge_end = fixture.clients[i].wire->peer;
        fixture_client_end(&fixture.clients[i]);
        fixture_client_finish(&fixture.clients[i]);
        unsigned events = edge_end->events;
        edge_end->events = 0;
        transport_tell(edge_end->transport, events);
    }
}

static void clients_that_leave_are_looked_at_some_in_each_batch(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 24; i++) {
        connect_one();
    }
    say_goodbye(20);
    assert_int_equal(half_count(EDGE_CLIENT_HALF_OPEN, EDGE_CLIENT_HALF_OPEN), 24);
    scheduler_run_tasks(&fixture.scheduler);
    assert_int_equal(half_count(EDGE_CLIENT_HALF_OPEN, EDGE_CLIENT_HALF_OPEN), 24 - EDGE_CLIENT_LEAVING_PER_BATCH);
    assert_int_equal(scheduler_wait_ms(&fixture.scheduler), 0);
    fixture_pump(&fixture);
    assert_int_equal(half_count(EDGE_CLIENT_HALF_ENDED, EDGE_CLIENT_HALF_OPEN), 20);
    for (size_t i = 0; i < 20; i++) {
        trunk_stream_end(&fixture_stream(&fixture, i)->stream);
    }
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 4);
    assert_int_equal(fixture.relay.extra_slab.objects, 0);
    assert_int_equal(fixture.relay.counters.sessions_ended, 20);
}

static void sessions_that_the_core_ends_end_some_in_each_batch(void **state)
{
    (void)state;
    const size_t per_batch = EDGE_CLIENT_LEAVING_PER_BATCH / EDGE_CLIENT_END_COST;
    start();
    for (unsigned i = 0; i < 12; i++) {
        connect_one();
    }
    for (struct edge_client *client = NULL; (client = slab_next(&fixture.relay.client_slab, client)) != NULL;) {
        edge_client_stream_end(NULL, &client->stream);
        edge_client_defer(client); /* whatever else happens to it */
    }
    for (size_t batch = 0; batch < 12 / per_batch; batch++) {
        assert_int_equal(half_count(EDGE_CLIENT_HALF_OPEN, EDGE_CLIENT_HALF_ENDED), batch * per_batch);
        scheduler_run_tasks(&fixture.scheduler);
    }
    assert_int_equal(half_count(EDGE_CLIENT_HALF_OPEN, EDGE_CLIENT_HALF_ENDED), 12);
    fixture_pump(&fixture);
    for (size_t i = 0; i < fixture.client_count; i++) {
        assert_true(fixture.clients[i].finished);
    }
    assert_int_equal(fixture.relay.client_count, 12); /* they may still send */
    assert_int_equal(fixture.relay.extra_slab.objects, 0);
}

/* The FIN of one whose end has been said is not lost, whether it lingers by then or is about to. */
static void a_farewell_while_the_turn_is_awaited_is_heard(void **state)
{
    (void)state;
    start();
    connect_one();
    fixture_client_end(&fixture.clients[0]);
    fixture_pump(&fixture);
    trunk_stream_end(&fixture_stream(&fixture, 0)->stream);
    fixture_pump(&fixture);
    struct edge_client *client = slab_next(&fixture.relay.client_slab, NULL);
    assert_int_equal(client->state, EDGE_CLIENT_LINGERING);
    struct wire_end *edge_end = fixture.clients[0].wire->peer;
    fixture_client_finish(&fixture.clients[0]);
    transport_tell(edge_end->transport, edge_end->events);
    edge_end->events = 0;
    assert_int_equal(client->state, EDGE_CLIENT_LINGERING);
    assert_true(client->extra->leaving);
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.client_count, 0);
}

/* ---- memory of buffers ---- */

/* What a client that reads nothing holds at most: its window. */
#define STALLED_BYTES ((uint64_t)LIMIT_STREAM_WINDOW_BYTES)

static void stall(struct fixture_client *client, size_t nth)
{
    client->stalled = true;
    fixture_stream_send(fixture_stream(&fixture, nth), pattern, 300000);
    fixture_pump(&fixture);
}

static void full_buffers_refuse_new_clients_until_there_is_room(void **state)
{
    (void)state;
    fixture.settings.buffer_memory_bytes = (uint32_t)STALLED_BYTES * 5 / 4;
    start();
    struct fixture_client *stalled = connect_one();
    struct fixture_client *other = connect_one();
    stall(stalled, 0);
    assert_in_range(fixture.relay.buffers.charged_bytes, STALLED_BYTES - 64, STALLED_BYTES);
    assert_int_equal(fixture.relay.buffers.level, BUFFER_SHUT);
    struct address peer, local;
    struct edge_client *refused = NULL;
    assert_int_equal(address_parse("192.0.2.1:1", false, &peer), ERROR_NONE);
    assert_int_equal(address_parse("192.0.2.2:443", false, &local), ERROR_NONE);
    assert_int_equal(relay_admit(&fixture.relay, 0, &peer, &local, &refused), ERROR_LIMIT);
    assert_int_equal(fixture.relay.counters.clients_over_limit, 1);
    /* Those who are there notice nothing. */
    fixture_client_send(other, pattern, 5000);
    fixture_pump(&fixture);
    assert_int_equal(fixture_stream(&fixture, 1)->received.length, 5000);
    stalled->stalled = false;
    fixture_pump(&fixture);
    assert_int_equal(stalled->received.length, 300000);
    assert_int_equal(fixture.relay.buffers.charged_bytes, 0);
    connect_one();
    assert_int_equal(established_count(), 3);
}

static void when_buffers_are_full_the_one_that_holds_most_is_reset(void **state)
{
    (void)state;
    fixture.settings.buffer_memory_bytes = (uint32_t)STALLED_BYTES + 4000;
    start();
    struct fixture_client *small = connect_one();
    struct fixture_client *large = connect_one();
    fixture_stream_send(fixture_stream(&fixture, 0), pattern, 300000);
    small->stalled = true;
    fixture_pump(&fixture);
    assert_int_equal(fixture.relay.buffers.level, BUFFER_SHUT);
    stall(large, 1);
    assert_int_equal(fixture.relay.buffers.level, BUFFER_OVER);
    fixture_wait(&fixture, BUFFER_RELIEF_MS + 10);
    /* They hold the same: one of them is enough. */
    assert_int_equal(fixture.relay.counters.sessions_shed, 1);
    assert_int_equal(small->wire->reset + large->wire->reset, 1);
    assert_int_equal(fixture.relay.client_count, 1);
    assert_in_range(fixture.relay.buffers.charged_bytes, STALLED_BYTES - 64, STALLED_BYTES);
    assert_int_equal(fixture_stream(&fixture, 0)->closed + fixture_stream(&fixture, 1)->closed, 1);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_handshake_is_looked_at_in_a_batch),
        TEST(who_says_nothing_has_no_tls),
        TEST(handshakes_begin_at_their_rate),
        TEST(whoever_waits_too_long_for_its_turn_is_closed),
        TEST(connections_of_an_address_are_limited_and_come_back),
        TEST(who_says_nothing_is_reset_after_the_idle_timeout),
        TEST(clients_may_come_and_go_while_idle_ones_are_looked_for),
        TEST(who_takes_nothing_is_reset_after_the_stall_timeout),
        TEST(full_buffers_refuse_new_clients_until_there_is_room),
        TEST(when_buffers_are_full_the_one_that_holds_most_is_reset),
        TEST(broken_connections_end_some_in_each_batch),
        TEST(a_broken_connection_that_ends_otherwise_leaves_the_list),
        TEST(without_memory_for_a_turn_a_broken_connection_ends_at_once),
        TEST(clients_that_leave_are_looked_at_some_in_each_batch),
        TEST(sessions_that_the_core_ends_end_some_in_each_batch),
        TEST(a_farewell_while_the_turn_is_awaited_is_heard),
    };
    return cmocka_run_group_tests(tests, fixture_group_setup, fixture_group_teardown);
}
