/*
 * Connections that go on in another process: TLS state written down and made again, in each state that it can be in,
 * with every suite; what cannot be is refused; failing memory. The packs that carry it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "mux/chain.h"
#include "mux/memory.h"
#include "mux/record_internal.h"
#include "tests/unit/record_pair.h"

#define EACH_PROTECTION(version_13, suite)                                                                             \
    for (unsigned version_13 = 0; version_13 < 2; version_13++)                                                        \
        for (unsigned suite = 0; suite < TLS_CIPHER_SUITE_COUNT; suite++)

/* The end becomes another record, as in another process; the old one is wiped. */
static void move_end(struct record_end *end)
{
    struct pack pack;
    struct unpack unpack;
    enum tls_cipher_suite suite;
    bool version_13;
    pack_init(&pack);
    record_export(record_of(end), &pack);
    assert_false(pack.failed);
    record_dispose(record_of(end));
    memset(&end->room, 0xee, sizeof(end->room));
    unpack_init(&unpack, pack.bytes, pack.length);
    assert_true(record_import_suite(&unpack, &suite, &version_13));
    assert_true(record_material_bytes(suite, version_13) <= sizeof(end->room.material));
    assert_int_equal(record_import(record_of(end), &unpack), ERROR_NONE);
    assert_int_equal(unpack.left, 0);
    pack_dispose(&pack);
}

static void expect_talk(struct record_pair *pair)
{
    size_t to_server = pair->server.received.length;
    size_t to_client = pair->client.received.length;
    assert_int_equal(record_end_send(&pair->client, "from the client", 15), ERROR_NONE);
    assert_int_equal(record_end_send(&pair->server, "from the server", 15), ERROR_NONE);
    record_pair_carry(pair);
    assert_int_equal(pair->client.error + pair->server.error, ERROR_NONE);
    assert_int_equal(pair->server.received.length, to_server + 15);
    assert_int_equal(pair->client.received.length, to_client + 15);
    assert_memory_equal(pair->server.received.bytes + to_server, "from the client", 15);
    assert_memory_equal(pair->client.received.bytes + to_client, "from the server", 15);
}

static void a_connection_goes_on_after_each_record(void **state)
{
    (void)state;
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        record_pair_init(&pair, version_13, suite, 5);
        for (unsigned i = 0; i < 4; i++) {
            move_end(&pair.server);
            expect_talk(&pair);
            move_end(&pair.client);
        }
        record_pair_dispose(&pair);
    }
}

static void a_record_is_completed_wherever_it_was_cut(void **state)
{
    (void)state;
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        record_pair_init(&pair, version_13, suite, 0);
        assert_int_equal(record_end_send(&pair.client, "a record that comes byte by byte", 32), ERROR_NONE);
        for (size_t i = 0; i < pair.client.output.length; i++) {
            assert_int_equal(record_end_feed(&pair.server, pair.client.output.bytes + i, 1), ERROR_NONE);
            move_end(&pair.server);
        }
        pair.client.output.length = 0;
        assert_int_equal(pair.server.received.length, 32);
        assert_false(record_incomplete(record_of(&pair.server)));
        expect_talk(&pair);
        record_pair_dispose(&pair);
    }
}

static void keys_that_have_changed_stay_so(void **state)
{
    (void)state;
    for (unsigned suite = 0; suite < TLS_CIPHER_SUITE_COUNT; suite++) {
        struct record_pair pair;
        record_pair_init(&pair, true, suite, 0);
        assert_int_equal(record_end_update(&pair.client, true), ERROR_NONE);
        record_pair_carry(&pair);
        move_end(&pair.server);
        expect_talk(&pair);
        record_pair_dispose(&pair);
        /* A KeyUpdate of which a part has come, and the answer that is due then. */
        static const uint8_t request[] = {24, 0, 0, 1, 1};
        record_pair_init(&pair, true, suite, 0);
        assert_int_equal(record_pair_inject(&pair, &pair.server, RECORD_TYPE_HANDSHAKE, request, 3, 0), ERROR_NONE);
        move_end(&pair.server);
        assert_int_equal(record_pair_inject(&pair, &pair.server, RECORD_TYPE_HANDSHAKE, request + 3, 2, 0), ERROR_NONE);
        assert_int_equal(record_of(&pair.server)->sequence[RECORD_READ], 0); /* under the new key */
        assert_true(pair.server.output.length > 0);
        record_pair_dispose(&pair);
    }
}

static void ends_and_counts_are_kept(void **state)
{
    (void)state;
    EACH_PROTECTION(version_13, suite)
    {
        struct record_pair pair;
        record_pair_init(&pair, version_13, suite, 0);
        record_of(&pair.server)->size_less_one = 511;
        record_of(&pair.server)->idle_records = 77;
        record_of(&pair.server)->warning_alerts = 9;
        assert_int_equal(record_end_finish(&pair.client), ERROR_NONE);
        record_pair_carry(&pair);
        move_end(&pair.server);
        assert_int_equal(record_of(&pair.server)->input, RECORD_ENDED);
        assert_int_equal(record_of(&pair.server)->output, RECORD_OPEN);
        assert_int_equal(record_of(&pair.server)->size_less_one, 511);
        assert_int_equal(record_of(&pair.server)->idle_records, 78); /* close_notify is one */
        assert_int_equal(record_of(&pair.server)->warning_alerts, 9);
        assert_int_equal(record_end_finish(&pair.server), ERROR_NONE);
        move_end(&pair.server);
        assert_int_equal(record_of(&pair.server)->output, RECORD_ENDED);
        assert_int_equal(record_end_send(&pair.server, "x", 1), ERROR_STATE);
        record_pair_dispose(&pair);
    }
}

static void whatever_is_cut_short_or_altered_is_refused_or_a_connection(void **state)
{
    (void)state;
    struct record_pair pair;
    struct pack pack;
    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    static const uint8_t part[] = {23, 3, 3, 0, 99, 1, 2, 3};
    assert_int_equal(record_end_feed(&pair.server, part, sizeof(part)), ERROR_NONE);
    pack_init(&pack);
    record_export(record_of(&pair.server), &pack);
    for (size_t length = 0; length <= pack.length; length++) {
        struct record_room room;
        struct unpack unpack;
        uint8_t *copy = malloc(length + 1); /* exactly as long, so that a sanitizer sees a step too far */
        memcpy(copy, pack.bytes, length);
        unpack_init(&unpack, copy, length);
        enum error_code error = record_import(&room.record, &unpack);
        assert_int_equal(error, length == pack.length ? ERROR_NONE : ERROR_INVALID);
        if (error == ERROR_NONE) {
            record_dispose(&room.record);
        }
        free(copy);
    }
    for (size_t at = 0; at < pack.length; at++) {
        struct record_room room;
        struct unpack unpack;
        pack.bytes[at] ^= 0xff;
        unpack_init(&unpack, pack.bytes, pack.length);
        if (record_import(&room.record, &unpack) == ERROR_NONE) {
            record_dispose(&room.record);
        }
        pack.bytes[at] ^= 0xff;
    }
    pack_dispose(&pack);
    record_pair_dispose(&pair);
}

static void without_memory_nothing_is_kept(void **state)
{
    (void)state;
    struct record_pair pair;
    struct pack pack;
    struct unpack unpack;
    struct record_room room;
    record_pair_init(&pair, false, TLS_CIPHER_AES_256_GCM, 0);
    static const uint8_t part[] = {23, 3, 3};
    assert_int_equal(record_end_feed(&pair.server, part, sizeof(part)), ERROR_NONE);
    pack_init(&pack);
    memory_fail_at(1);
    record_export(record_of(&pair.server), &pack);
    memory_fail_at(0);
    assert_true(pack.failed);
    pack_clear(&pack);
    record_export(record_of(&pair.server), &pack);
    assert_false(pack.failed);
    unpack_init(&unpack, pack.bytes, pack.length);
    memory_fail_at(1);
    assert_int_equal(record_import(&room.record, &unpack), ERROR_NO_MEMORY);
    memory_fail_at(0);
    pack_dispose(&pack);
    record_pair_dispose(&pair);
}

/* ---- packs ---- */

static void what_is_packed_comes_out_again(void **state)
{
    (void)state;
    struct pack pack;
    struct unpack unpack;
    struct chain chain;
    struct chain again;
    static uint8_t many[40000];
    size_t length = 0;
    memset(many, 7, sizeof(many));
    chain_init(&chain);
    chain_init(&again);
    assert_int_equal(chain_append(&chain, many, sizeof(many)), ERROR_NONE);
    pack_init(&pack);
    pack_u8(&pack, 1);
    pack_u16(&pack, 0x0203);
    pack_u32(&pack, 0x04050607);
    pack_u64(&pack, UINT64_C(0x08090a0b0c0d0e0f));
    pack_bytes(&pack, "abc", 3);
    pack_bytes(&pack, NULL, 0);
    pack_text(&pack, "text");
    pack_text(&pack, NULL);
    pack_chain(&pack, &chain);
    assert_false(pack.failed);
    unpack_init(&unpack, pack.bytes, pack.length);
    assert_int_equal(unpack_u8(&unpack), 1);
    assert_int_equal(unpack_u16(&unpack), 0x0203);
    assert_int_equal(unpack_u32(&unpack), 0x04050607);
    assert_true(unpack_u64(&unpack) == UINT64_C(0x08090a0b0c0d0e0f));
    assert_memory_equal(unpack_bytes(&unpack, &length), "abc", 3);
    assert_int_equal(length, 3);
    assert_non_null(unpack_bytes(&unpack, &length));
    assert_int_equal(length, 0);
    char *text = unpack_text(&unpack, 4);
    assert_string_equal(text, "text");
    memory_free(text);
    text = unpack_text(&unpack, 4);
    assert_string_equal(text, "");
    memory_free(text);
    assert_true(unpack_chain(&unpack, &again));
    assert_int_equal(chain_bytes(&again), sizeof(many));
    assert_int_equal(unpack.left, 0);
    assert_false(unpack.failed);
    chain_clear(&chain);
    chain_clear(&again);
    pack_dispose(&pack);
}

static void an_unpack_fails_once_and_for_all(void **state)
{
    (void)state;
    struct unpack unpack;
    static const uint8_t bytes[] = {0, 0, 0, 9, 'a', 0, 'b', 1, 2, 3};
    size_t length = 5;
    unpack_init(&unpack, bytes, sizeof(bytes));
    assert_null(unpack_bytes(&unpack, &length)); /* 9 are announced, 6 are there */
    assert_int_equal(length, 0);
    assert_true(unpack.failed);
    assert_int_equal(unpack_u8(&unpack), 0);
    assert_null(unpack_text(&unpack, 100));
    static const uint8_t zero[] = {0, 0, 0, 3, 'a', 0, 'b'};
    unpack_init(&unpack, zero, sizeof(zero));
    assert_null(unpack_text(&unpack, 100));
    assert_true(unpack.failed);
    static const uint8_t large[] = {0, 0, 0, 3, 'a', 'b', 'c'};
    unpack_init(&unpack, large, sizeof(large));
    assert_null(unpack_text(&unpack, 2));
}

static void what_is_cut_off_or_cleared_is_wiped(void **state)
{
    (void)state;
    static const uint8_t none[8];
    struct pack pack;
    pack_init(&pack);
    pack_u64(&pack, UINT64_MAX);
    pack_u64(&pack, UINT64_MAX);
    pack_cut(&pack, 8);
    assert_int_equal(pack.length, 8);
    assert_memory_equal(pack.bytes + 8, none, 8);
    pack_clear(&pack);
    assert_memory_equal(pack.bytes, none, 8);
    pack_dispose(&pack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_goes_on_after_each_record),
        cmocka_unit_test(a_record_is_completed_wherever_it_was_cut),
        cmocka_unit_test(keys_that_have_changed_stay_so),
        cmocka_unit_test(ends_and_counts_are_kept),
        cmocka_unit_test(whatever_is_cut_short_or_altered_is_refused_or_a_connection),
        cmocka_unit_test(without_memory_nothing_is_kept),
        cmocka_unit_test(what_is_packed_comes_out_again),
        cmocka_unit_test(an_unpack_fails_once_and_for_all),
        cmocka_unit_test(what_is_cut_off_or_cleared_is_wiped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
