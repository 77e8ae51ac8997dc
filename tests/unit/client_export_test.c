/*
 * Clients that go on in another process, in the states that need no core which resumes; sessions are in the simulation
 * (tests/sim/sim_takeover.c). What cannot be is refused, and failing memory leaves nothing.
 */
#include "tests/unit/edge_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/memory.h"

static struct fixture fixture;

static const uint16_t listeners[] = {0};
static const uint16_t no_listeners[] = {EDGE_CLIENT_MAP_NONE};
static const uint16_t cores[] = {0, 1};
static const bool cores_up[] = {true, true};
static const struct edge_client_map map = {listeners, cores, cores_up};

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

static struct edge_client *only_client(void)
{
    struct edge_client *client = slab_next(&fixture.relay.client_slab, NULL);
    assert_non_null(client);
    return client;
}

/* One whose handshake is complete, and for whom there is no trunk. */
static struct edge_client *waiting_client(void)
{
    fixture.dial_fails = true;
    (void)fixture_start(&fixture);
    (void)fixture_connect_one(&fixture);
    struct edge_client *client = only_client();
    assert_int_equal(client->state, EDGE_CLIENT_EXPECT_TRUNK);
    return client;
}

static void who_has_not_begun_goes_where_its_listener_goes(void **state)
{
    (void)state;
    struct pack pack;
    struct unpack unpack;
    struct edge_client *taken = NULL;
    const struct edge_client_map elsewhere = {no_listeners, cores, cores_up};
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    (void)fixture_connect_raw(&fixture);
    struct edge_client *client = only_client();
    assert_int_equal(edge_client_exportable(client, &elsewhere), EDGE_CLIENT_EXPORT_NO);
    assert_int_equal(edge_client_exportable(client, &map), EDGE_CLIENT_EXPORT_YES);
    pack_init(&pack);
    edge_client_export(client, &map, &pack);
    unpack_init(&unpack, pack.bytes, pack.length);
    assert_int_equal(edge_client_import(&fixture.relay, &unpack, &taken), ERROR_NONE);
    assert_int_equal(unpack.left, 0);
    assert_int_equal(taken->state, EDGE_CLIENT_EXPECT_HANDSHAKE);
    assert_memory_equal(&taken->peer, &client->peer, sizeof(taken->peer));
    assert_memory_equal(&taken->extra->local, &client->extra->local, sizeof(taken->extra->local));
    assert_int_equal(fixture.relay.handshake_count, 2);
    edge_client_let_go(taken);
    assert_int_equal(fixture.relay.handshake_count, 1);
    pack_dispose(&pack);
}

/* More than a page of the slab holds. */
static void however_many_are_let_go_none_is_missed(void **state)
{
    (void)state;
    enum { COUNT = 5000, STAY = 7 };
    struct pack pack;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    (void)fixture_connect_raw(&fixture);
    pack_init(&pack);
    edge_client_export(only_client(), &map, &pack);
    for (unsigned i = 0; i < COUNT; i++) {
        struct unpack unpack;
        struct edge_client *taken = NULL;
        unpack_init(&unpack, pack.bytes, pack.length);
        assert_int_equal(edge_client_import(&fixture.relay, &unpack, &taken), ERROR_NONE);
        taken->handed_over = i % (COUNT / STAY) != 0;
    }
    size_t stay = (COUNT + COUNT / STAY - 1) / (COUNT / STAY);
    assert_int_equal(relay_let_go(&fixture.relay), COUNT - stay);
    assert_int_equal(fixture.relay.client_count, 1 + stay);
    pack_dispose(&pack);
}

static void who_has_begun_its_handshake_stays(void **state)
{
    (void)state;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    struct fixture_client *raw = fixture_connect_raw(&fixture);
    fixture_client_send_raw(raw, "\x16\x03\x01", 3);
    fixture_pump(&fixture);
    assert_int_equal(edge_clients_unsettled(&fixture.relay), 1);
    assert_int_equal(edge_client_exportable(only_client(), &map), EDGE_CLIENT_EXPORT_NO);
}

static void while_handshakes_are_held_none_begins(void **state)
{
    (void)state;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    edge_handshakes_hold(&fixture.relay, true);
    struct fixture_client *client = fixture_connect(&fixture, "localhost");
    fixture_wait(&fixture, 100);
    assert_false(client->established);
    assert_int_equal(edge_clients_unsettled(&fixture.relay), 0);
    edge_handshakes_hold(&fixture.relay, false);
    fixture_pump(&fixture);
    assert_true(client->established);
}

static void a_session_of_a_core_that_does_not_resume_stays(void **state)
{
    (void)state;
    assert_int_equal(fixture_start(&fixture), ERROR_NONE);
    (void)fixture_connect_one(&fixture);
    assert_int_equal(only_client()->state, EDGE_CLIENT_RELAYING);
    assert_int_equal(edge_client_exportable(only_client(), &map), EDGE_CLIENT_EXPORT_NO);
}

static void who_waits_for_a_trunk_waits_there(void **state)
{
    (void)state;
    struct pack pack;
    struct unpack unpack;
    struct edge_client *taken = NULL;
    struct edge_client *client = waiting_client();
    assert_int_equal(edge_client_exportable(client, &map), EDGE_CLIENT_EXPORT_YES);
    pack_init(&pack);
    edge_client_export(client, &map, &pack);
    unpack_init(&unpack, pack.bytes, pack.length);
    assert_int_equal(edge_client_import(&fixture.relay, &unpack, &taken), ERROR_NONE);
    assert_int_equal(unpack.left, 0);
    assert_int_equal(taken->state, EDGE_CLIENT_EXPECT_TRUNK);
    assert_int_equal(taken->number, client->number);
    assert_ptr_equal(taken->origin, client->origin); /* shared with its like */
    assert_true(tls_established(&taken->tls));
    assert_true(timer_armed(&taken->extra->timer));
    assert_true(list_node_linked(&taken->extra->waiting));
    edge_client_let_go(taken);
    assert_int_equal(fixture.relay.client_count, 1);
    pack_dispose(&pack);
}

static void what_is_altered_is_refused_or_a_client(void **state)
{
    (void)state;
    struct pack pack;
    struct edge_client *client = waiting_client();
    pack_init(&pack);
    edge_client_export(client, &map, &pack);
    for (size_t at = 0; at <= pack.length; at++) {
        struct unpack unpack;
        struct edge_client *taken = NULL;
        uint8_t *copy = malloc(pack.length);
        size_t length = at < pack.length ? at : pack.length;
        memcpy(copy, pack.bytes, pack.length);
        unpack_init(&unpack, copy, length); /* cut short */
        assert_int_equal(edge_client_import(&fixture.relay, &unpack, &taken),
                         at < pack.length ? ERROR_INVALID : ERROR_NONE);
        if (taken != NULL) {
            edge_client_let_go(taken);
        }
        copy[at % pack.length] ^= 0xff;
        unpack_init(&unpack, copy, pack.length);
        if (edge_client_import(&fixture.relay, &unpack, &taken) == ERROR_NONE) {
            edge_client_let_go(taken);
        }
        assert_int_equal(fixture.relay.client_count, 1);
        free(copy);
    }
    pack_dispose(&pack);
}

static void without_memory_a_client_is_not_there(void **state)
{
    (void)state;
    struct pack pack;
    struct edge_client *client = waiting_client();
    struct edge_client *taken = NULL;
    enum error_code error = ERROR_NO_MEMORY;
    pack_init(&pack);
    edge_client_export(client, &map, &pack);
    for (uint64_t nth = 1; error != ERROR_NONE; nth++) {
        struct unpack unpack;
        unpack_init(&unpack, pack.bytes, pack.length);
        memory_fail_at(nth);
        error = edge_client_import(&fixture.relay, &unpack, &taken);
        memory_fail_at(0);
        assert_int_equal(fixture.relay.client_count, error == ERROR_NONE ? 2 : 1);
        assert_true(nth < 100);
    }
    edge_client_let_go(taken);
    pack_dispose(&pack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_has_not_begun_goes_where_its_listener_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(however_many_are_let_go_none_is_missed, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_begun_its_handshake_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(while_handshakes_are_held_none_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(a_session_of_a_core_that_does_not_resume_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_a_trunk_waits_there, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_altered_is_refused_or_a_client, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory_a_client_is_not_there, setup, teardown),
    };
    return cmocka_run_group_tests(tests, fixture_group_setup, fixture_group_teardown);
}
