/* The echo handler behind a real trunk in memory: every byte back once and in order, whoever is slow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/handlers/handlers.h"
#include "core_pair.h"
#include "mux/clock.h"

#define BYTES  1000000U
#define WINDOW 65535U

static struct core_pair pair;
static struct core_client client;
static uint8_t *sent;
static uint8_t *back;

static int start(void **state)
{
    struct random_state random;

    (void)state;
    sent = malloc(BYTES);
    back = malloc(BYTES);
    assert_non_null(sent);
    assert_non_null(back);
    random_seed(&random, 4711);
    for (size_t i = 0; i < BYTES; i++) {
        sent[i] = (uint8_t)random_next(&random);
    }
    return core_pair_init(&pair, &handler_echo, "", false, WINDOW) == ERROR_NONE ? 0 : -1;
}

static int finish(void **state)
{
    (void)state;
    core_client_dispose(&client);
    core_pair_dispose(&pair);
    free(sent);
    free(back);
    return 0;
}

static void every_byte_comes_back_once_and_in_order(void **state)
{
    (void)state;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, sent, BYTES, true);
    core_pair_pump(&pair);
    assert_int_equal(core_client_received(&client), BYTES);
    assert_int_equal(chain_copy(&client.received, 0, back, BYTES), BYTES);
    assert_memory_equal(sent, back, BYTES);
    assert_int_equal(client.ended, 1);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.error, ERROR_NONE);
}

static void a_client_that_does_not_read_is_stopped_by_its_own_window(void **state)
{
    size_t received = 0;

    (void)state;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    client.consume = false;
    core_client_send(&client, sent, BYTES, true);
    core_pair_pump(&pair);
    assert_int_equal(core_client_received(&client), WINDOW);
    /* One window is on its way back, one is kept by the handler; the rest never left the client. */
    assert_true(BYTES - client.to_send_length <= 2 * WINDOW + WINDOW / 2);
    while (client.ended == 0) {
        size_t part = core_client_received(&client) < 1000 ? core_client_received(&client) : 1000;

        assert_true(part > 0);
        assert_true(core_client_received(&client) <= WINDOW);
        chain_copy(&client.received, 0, back + received, part);
        core_client_take(&client, part);
        received += part;
        core_pair_pump(&pair);
    }
    chain_copy(&client.received, 0, back + received, BYTES - received);
    assert_int_equal(received + core_client_received(&client), BYTES);
    assert_memory_equal(sent, back, BYTES);
}

static void a_client_that_stalls_does_not_hold_up_another(void **state)
{
    struct core_client other;

    (void)state;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    client.consume = false;
    core_client_send(&client, sent, BYTES, true);
    core_pair_pump(&pair);
    assert_int_equal(client.ended, 0);
    assert_int_equal(core_client_open(&pair, &other, "test"), ERROR_NONE);
    core_client_send(&other, sent, BYTES, true);
    core_pair_pump(&pair);
    assert_int_equal(core_client_received(&other), BYTES);
    assert_int_equal(other.ended, 1);
    core_client_dispose(&other);
}

static void a_reset_with_bytes_kept_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    client.consume = false;
    core_client_send(&client, sent, BYTES, true);
    core_pair_pump(&pair);
    trunk_stream_reset(&client.stream, TRUNK_CODE_CONNECT_ERROR);
    core_pair_pump(&pair);
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
}

static void an_end_without_data_is_answered_with_an_end(void **state)
{
    (void)state;
    assert_int_equal(core_client_open(&pair, &client, "test"), ERROR_NONE);
    core_client_send(&client, sent, 0, true);
    core_pair_pump(&pair);
    assert_int_equal(client.ended, 1);
    assert_int_equal(client.error, ERROR_NONE);
    assert_int_equal(core_client_received(&client), 0);
    assert_int_equal(core_worker_session_count(&pair.worker), 0);
}

int main(void)
{
#define ECHO_TEST(name) cmocka_unit_test_setup_teardown(name, start, finish)
    const struct CMUnitTest tests[] = {
        ECHO_TEST(every_byte_comes_back_once_and_in_order),
        ECHO_TEST(a_client_that_does_not_read_is_stopped_by_its_own_window),
        ECHO_TEST(a_client_that_stalls_does_not_hold_up_another),
        ECHO_TEST(a_reset_with_bytes_kept_leaves_nothing),
        ECHO_TEST(an_end_without_data_is_answered_with_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
