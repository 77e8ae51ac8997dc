/* Windows, turns and records of a trunk: who may send how much, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/tls.h"
#include "tests/unit/trunk_pair.h"

/* The shared-window deadlock of other relays: a stream that nobody reads must hold its own window only. */
static void a_stalled_stream_holds_its_window_and_never_the_trunk(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct trunk_settings opener, acceptor;
    trunk_settings_init(&opener, TRUNK_OPENER);
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.stream_window_bytes = 20000;
    acceptor.trunk_window_bytes = 100000;
    assert_int_equal(pair_init(&pair, &opener, &acceptor), ERROR_NONE);
    enum { STALLED = 20 };
    struct pair_stream stalled[STALLED], lively;
    static uint8_t bytes[500000];
    pair_fill(bytes, sizeof(bytes), 3);
    pair.consume = false;
    for (size_t i = 0; i < STALLED; i++) {
        assert_int_equal(pair_open(&pair, &stalled[i]), ERROR_NONE);
        assert_int_equal(pair_pump(&pair), ERROR_NONE);
        assert_int_equal(trunk_stream_room(&stalled[i].stream), 20000);
        trunk_stream_write(&stalled[i].stream, bytes, 20000);
        assert_int_equal(pair_pump(&pair), ERROR_NONE);
        assert_int_equal(trunk_stream_room(&stalled[i].stream), 0);
        assert_int_equal(pair_accepted(&pair, i)->received_length, 20000);
    }
    /* 400,000 bytes lie unconsumed, four times the trunk's window. */
    pair.consume = true;
    assert_int_equal(pair_open(&pair, &lively), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair_send_all(&pair, &lively, bytes, sizeof(bytes)), ERROR_NONE);
    assert_memory_equal(pair_accepted(&pair, STALLED)->received, bytes, sizeof(bytes));

    /* Consuming opens the window again, and tells the writer who asked. */
    struct pair_stream *first = pair_accepted(&pair, 0);
    trunk_stream_want_room(&stalled[0].stream);
    trunk_stream_consume(&first->stream, 5000); /* less than half: not worth a frame yet */
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stalled[0].writable, 0);
    trunk_stream_consume(&first->stream, 15000);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(stalled[0].writable, 1);
    assert_int_equal(trunk_stream_room(&stalled[0].stream), 20000);
    pair_dispose(&pair);
}

/* nghttp2 holds back even an empty DATA frame behind a shut window: a mere end must wait for its turn without taking
 * somebody else's. */
static void an_end_behind_a_shut_window_is_a_clean_end(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct pair_stream full, other;
    assert_int_equal(pair_init(&pair, NULL, NULL), ERROR_NONE);
    pair.consume = false;
    assert_int_equal(pair_open(&pair, &full), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &other), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    static uint8_t bytes[LIMIT_STREAM_WINDOW_BYTES];
    assert_int_equal(trunk_stream_write(&full.stream, bytes, sizeof(bytes)), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_room(&full.stream), 0);
    trunk_stream_end(&full.stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(trunk_stream_write(&other.stream, bytes, 10), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(pair_accepted(&pair, 1)->received_length, 10);
    struct pair_stream *accepted = pair_accepted(&pair, 0);
    assert_int_equal(accepted->ended, 0);
    trunk_stream_consume(&accepted->stream, sizeof(bytes));
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(accepted->ended, 1);
    assert_int_equal(accepted->closed, 0);
    trunk_stream_end(&accepted->stream);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    assert_int_equal(full.error, ERROR_NONE);
    assert_int_equal(full.closed, 1);
    pair_dispose(&pair);
}

/* A bulk stream and a small one: the small one's bytes leave within two turns. */
static void streams_take_turns_of_one_quantum(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.stream_window_bytes = 1000000;
    assert_int_equal(pair_init(&pair, NULL, &acceptor), ERROR_NONE);
    struct pair_stream bulk, small;
    assert_int_equal(pair_open(&pair, &bulk), ERROR_NONE);
    assert_int_equal(pair_open(&pair, &small), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    static uint8_t bytes[900000];
    assert_int_equal(trunk_stream_write(&bulk.stream, bytes, sizeof(bytes)), ERROR_NONE);
    assert_int_equal(trunk_stream_write(&small.stream, (const uint8_t *)"hello", 5), ERROR_NONE);
    uint8_t record[TLS_RECORD_MAX_BYTES];
    for (int turn = 0; turn < 2; turn++) {
        size_t length = 0;
        assert_int_equal(trunk_send(pair.opener.trunk, record, sizeof(record), &length), ERROR_NONE);
        assert_true(length <= sizeof(record));
        assert_int_equal(trunk_receive(pair.acceptor.trunk, record, length), ERROR_NONE);
    }
    assert_int_equal(pair_accepted(&pair, 1)->received_length, 5);
    assert_true(pair_accepted(&pair, 0)->received_length < 40000);
    pair_dispose(&pair);
}

/* Frames are cut to fill whole TLS records: a bulk stream's records are full. */
static void bulk_data_fills_whole_records(void **state)
{
    (void)state;
    struct trunk_pair pair;
    struct trunk_settings acceptor;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    acceptor.stream_window_bytes = 1000000;
    assert_int_equal(pair_init(&pair, NULL, &acceptor), ERROR_NONE);
    struct pair_stream bulk;
    assert_int_equal(pair_open(&pair, &bulk), ERROR_NONE);
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    static uint8_t bytes[900000];
    assert_int_equal(trunk_stream_write(&bulk.stream, bytes, sizeof(bytes)), ERROR_NONE);
    uint8_t record[TLS_RECORD_MAX_BYTES];
    for (int i = 0; i < 10; i++) {
        size_t length = 0;
        assert_int_equal(trunk_send(pair.opener.trunk, record, sizeof(record), &length), ERROR_NONE);
        assert_int_equal(length, sizeof(record));
        assert_int_equal(trunk_receive(pair.acceptor.trunk, record, length), ERROR_NONE);
    }
    pair_dispose(&pair);
}

/* Random writes, ends, resets and refusals on many streams with small windows, byte-exact. */
static void run_random(uint64_t seed)
{
    enum { STREAMS = 12, STEPS = 400 };
    struct trunk_pair pair;
    struct trunk_settings acceptor, opener;
    trunk_settings_init(&acceptor, TRUNK_ACCEPTOR);
    trunk_settings_init(&opener, TRUNK_OPENER);
    struct random_state random;
    random_seed(&random, seed);
    acceptor.stream_window_bytes = 1000 + (uint32_t)random_below(&random, 70000);
    opener.stream_window_bytes = 1000 + (uint32_t)random_below(&random, 70000);
    assert_int_equal(pair_init(&pair, &opener, &acceptor), ERROR_NONE);
    pair.split_max = 1 + (size_t)random_below(&random, 5000);
    random_seed(&pair.random, seed);
    struct pair_stream streams[STREAMS];
    size_t sent[STREAMS] = {0};
    bool was_reset[STREAMS] = {false};
    bool ended[STREAMS] = {false};
    static uint8_t bytes[65536];
    for (size_t i = 0; i < STREAMS; i++) {
        assert_int_equal(pair_open(&pair, &streams[i]), ERROR_NONE);
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    for (int step = 0; step < STEPS; step++) {
        size_t i = (size_t)random_below(&random, STREAMS);
        if (was_reset[i] || ended[i]) {
            continue;
        }
        unsigned action = (unsigned)random_below(&random, 100);
        if (action == 0) {
            trunk_stream_reset(&streams[i].stream, TRUNK_CODE_CONNECT_ERROR);
            was_reset[i] = true;
        } else if (action == 1) {
            trunk_stream_end(&streams[i].stream);
            ended[i] = true;
        } else {
            size_t room = trunk_stream_room(&streams[i].stream);
            size_t length = (size_t)random_below(&random, sizeof(bytes));
            length = length < room ? length : room;
            for (size_t k = 0; k < length; k++) {
                bytes[k] = (uint8_t)((sent[i] + k) * 7 + i);
            }
            assert_int_equal(trunk_stream_write(&streams[i].stream, bytes, length), ERROR_NONE);
            sent[i] += length;
        }
        if (random_below(&random, 3) == 0) {
            assert_int_equal(pair_pump(&pair), ERROR_NONE);
        }
    }
    assert_int_equal(pair_pump(&pair), ERROR_NONE);
    for (size_t i = 0; i < STREAMS; i++) {
        struct pair_stream *accepted = pair_accepted(&pair, i);
        assert_true(accepted->received_length <= sent[i]);
        if (!was_reset[i]) {
            assert_int_equal(accepted->received_length, sent[i]);
            assert_int_equal(accepted->ended, ended[i]);
        } else {
            assert_int_equal(accepted->ended, 0);
        }
        for (size_t k = 0; k < accepted->received_length; k++) {
            assert_int_equal(accepted->received[k], (uint8_t)(k * 7 + i));
        }
    }
    pair_dispose(&pair);
}

static void random_traffic_is_byte_exact(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_random(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stalled_stream_holds_its_window_and_never_the_trunk),
        cmocka_unit_test(an_end_behind_a_shut_window_is_a_clean_end),
        cmocka_unit_test(streams_take_turns_of_one_quantum),
        cmocka_unit_test(bulk_data_fills_whole_records),
        cmocka_unit_test(random_traffic_is_byte_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
