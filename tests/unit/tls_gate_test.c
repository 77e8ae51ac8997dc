/*
 * The gate in front of GnuTLS: what it cuts, passes and drops, and each thing that it must refuse, with the alert that
 * is due. Every input comes once as a whole and once byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "mux/record_internal.h"
#include "mux/tls_gate.h"
#include "mux/tls_hello.h"

#define CCS          "\x14\x03\x03\x00\x01\x01"
#define WARNING      "\x15\x03\x03\x00\x02\x01\x5a"
#define FATAL        "\x15\x03\x03\x00\x02\x02\x28"
#define CLOSE_NOTIFY "\x15\x03\x03\x00\x02\x01\x00"
#define HELLO        "\x16\x03\x01\x00\x07\x01\x00\x00\x03xyz"
#define EXCHANGE     "\x16\x03\x03\x00\x05\x10\x00\x00\x01x"
#define DATA                                                                                                           \
    "\x17\x03\x03\x00\x03"                                                                                             \
    "abc"

#define NO_ALERT 1000

/* A gate, and what it has given. */
struct passage {
    struct tls_gate gate;
    uint8_t given[65536];
    size_t given_length;
    int alert; /* NO_ALERT: it has refused nothing */
};

static void begin(struct passage *passage)
{
    memset(passage, 0, sizeof(*passage));
    passage->alert = NO_ALERT;
    tls_gate_init_server(&passage->gate);
}

/* The server has answered a ClientHello. */
static void begin_answered(struct passage *passage, bool version_13, bool retry, bool early_data)
{
    begin(passage);
    tls_gate_answered(&passage->gate, version_13, retry, early_data);
}

static void begin_protected_12(struct passage *passage);

/* Reads until the gate is starved or refuses, with room for `capacity` bytes at a time. */
static void drain(struct passage *passage, struct tls_message *input, size_t capacity)
{
    enum tls_gate_result result = TLS_GATE_BYTES;

    while (result == TLS_GATE_BYTES) {
        size_t taken = 0;
        result = tls_gate_read(&passage->gate, input, passage->given + passage->given_length, capacity, &taken,
                               &passage->alert);
        assert_true(result != TLS_GATE_BYTES || (taken > 0 && taken <= capacity));
        passage->given_length += taken;
    }
    assert_true(result == TLS_GATE_REFUSED || input->length == 0);
}

static void feed(struct passage *passage, const void *bytes, size_t length, bool singly)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < length && passage->alert == NO_ALERT; i += singly ? 1 : length) {
        struct tls_message input = {.bytes = at + i, .length = singly ? 1 : length};
        drain(passage, &input, singly ? 3 : 5000);
    }
}

/* What each test begins with. */
enum scene { BEGUN, RETRIED, RETRIED_WITH_EARLY_DATA, ANSWERED_12, PROTECTED_12, ANSWERED_13, SCENE_COUNT };

static void begin_scene(struct passage *passage, enum scene scene)
{
    switch (scene) {
    case BEGUN:
        begin(passage);
        break;
    case RETRIED:
        begin_answered(passage, true, true, false);
        break;
    case RETRIED_WITH_EARLY_DATA:
        begin_answered(passage, true, true, true);
        break;
    case ANSWERED_12:
        begin_answered(passage, false, false, false);
        break;
    case PROTECTED_12:
        begin_protected_12(passage);
        break;
    default:
        begin_answered(passage, true, false, false);
        break;
    }
}

static void begin_protected_12(struct passage *passage)
{
    begin_answered(passage, false, false, false);
    feed(passage, CCS, 6, false);
    assert_int_equal(passage->alert, NO_ALERT);
    passage->given_length = 0;
}

/* The bytes end in `alert`, however they come; NO_ALERT: they do not. `given` bytes have been passed on. */
static void expect(enum scene scene, const void *bytes, size_t length, int alert, size_t given)
{
    for (int singly = 0; singly < 2; singly++) {
        struct passage passage;
        begin_scene(&passage, scene);
        feed(&passage, bytes, length, singly);
        assert_int_equal(passage.alert, alert);
        if (alert == NO_ALERT) {
            assert_int_equal(passage.given_length, given);
        }
    }
}

#define REFUSED(scene, bytes, name) expect(scene, bytes, sizeof(bytes) - 1, RECORD_ALERT_##name, 0)
#define DROPPED(scene, bytes)       expect(scene, bytes, sizeof(bytes) - 1, NO_ALERT, 0)
#define PASSED(scene, bytes)        expect(scene, bytes, sizeof(bytes) - 1, NO_ALERT, sizeof(bytes) - 1)

/* ---- cutting ---- */

static void a_clients_gate_passes_everything_and_never_beyond_a_record(void **state)
{
    (void)state;
    static const char bytes[] = DATA CCS FATAL EXCHANGE;
    static const size_t ends[] = {8, 14, 21, 31};
    struct tls_gate gate = {.held_length = 0};
    struct tls_message input = {.bytes = (const uint8_t *)bytes, .length = sizeof(bytes) - 1};
    size_t given = 0;
    size_t record = 0;

    while (input.length > 0 || !tls_gate_between_records(&gate)) {
        uint8_t into[100];
        size_t taken = 0;
        int alert = 0;
        assert_int_equal(tls_gate_read(&gate, &input, into, sizeof(into), &taken, &alert), TLS_GATE_BYTES);
        assert_memory_equal(into, bytes + given, taken);
        given += taken;
        assert_true(given <= ends[record]);
        assert_int_equal(tls_gate_between_records(&gate), given == ends[record]);
        record += given == ends[record];
    }
    assert_int_equal(record, 4);
}

static void nothing_behind_a_record_is_touched(void **state)
{
    (void)state;
    struct tls_gate gate;
    struct tls_message input = {.bytes = (const uint8_t *)HELLO DATA, .length = 20};
    uint8_t into[5];
    size_t taken = 0;
    int alert = 0;

    tls_gate_init_server(&gate);
    for (size_t given = 0; given < 12; given += taken) {
        assert_int_equal(tls_gate_read(&gate, &input, into, sizeof(into), &taken, &alert), TLS_GATE_BYTES);
    }
    assert_true(tls_gate_between_records(&gate));
    assert_int_equal(input.length, 8);
}

static void the_version_of_a_client_hellos_record_is_of_no_importance(void **state)
{
    (void)state;
    for (unsigned version = 0; version < 256; version++) {
        struct passage passage;
        uint8_t bytes[12];
        memcpy(bytes, HELLO, sizeof(bytes));
        bytes[2] = (uint8_t)version;
        begin(&passage);
        feed(&passage, bytes, sizeof(bytes), false);
        assert_int_equal(passage.alert, NO_ALERT);
        assert_memory_equal(passage.given, "\x16\x03\x03\x00\x07\x01\x00\x00\x03xyz", 12);
    }
}

static void once_open_nothing_is_looked_at(void **state)
{
    (void)state;
    struct passage passage;

    begin(&passage);
    tls_gate_open(&passage.gate);
    feed(&passage, "\x63\x07\x07\xff\xff", 5, true);
    assert_int_equal(passage.alert, NO_ALERT);
    assert_int_equal(passage.given_length, 5);
    assert_false(tls_gate_between_records(&passage.gate));
}

/* ---- records (RFC 8446 section 5, RFC 5246 section 6.2) ---- */

static void types_that_do_not_belong_are_unexpected(void **state)
{
    (void)state;
    for (enum scene scene = BEGUN; scene < SCENE_COUNT; scene++) {
        for (unsigned type = 0; type < 256; type++) {
            uint8_t bytes[5] = {(uint8_t)type, 3, 3, 0, 40};
            bool protected_13 = scene == ANSWERED_13 && type == RECORD_TYPE_APPLICATION_DATA;
            bool handshake = scene != ANSWERED_13 && type == RECORD_TYPE_HANDSHAKE;
            bool early = scene == RETRIED_WITH_EARLY_DATA && type == RECORD_TYPE_APPLICATION_DATA;
            bool judged_apart = type == RECORD_TYPE_ALERT || type == RECORD_TYPE_CHANGE_CIPHER_SPEC;
            if (!judged_apart) {
                expect(scene, bytes, 5,
                       protected_13 || handshake || early ? NO_ALERT : (int)RECORD_ALERT_UNEXPECTED_MESSAGE,
                       early ? 0 : 5);
            }
        }
    }
}

static void records_beyond_their_limit_overflow(void **state)
{
    (void)state;
    PASSED(BEGUN, "\x16\x03\x01\x40\x00");
    REFUSED(BEGUN, "\x16\x03\x01\x40\x01", RECORD_OVERFLOW);
    REFUSED(RETRIED, "\x16\x03\x01\x40\x01", RECORD_OVERFLOW);
    REFUSED(ANSWERED_12, "\x16\x03\x03\x40\x01", RECORD_OVERFLOW);
    DROPPED(RETRIED_WITH_EARLY_DATA, "\x17\x03\x03\x40\x00");
    REFUSED(RETRIED_WITH_EARLY_DATA, "\x17\x03\x03\x41\x01", RECORD_OVERFLOW);
    PASSED(ANSWERED_13, "\x17\x03\x03\x41\x00");
    REFUSED(ANSWERED_13, "\x17\x03\x03\x41\x01", RECORD_OVERFLOW);
    PASSED(PROTECTED_12, "\x16\x03\x03\x48\x00");
    REFUSED(PROTECTED_12, "\x16\x03\x03\x48\x01", RECORD_OVERFLOW);
}

static void a_limit_that_was_agreed_on_holds_from_then_on(void **state)
{
    (void)state;
    static const struct {
        enum scene scene;
        const char *bytes;
        int alert;
    } cases[] = {
        {ANSWERED_12, "\x16\x03\x03\x02\x00", NO_ALERT},  {ANSWERED_12, "\x16\x03\x03\x02\x01", 22},
        {PROTECTED_12, "\x16\x03\x03\x0a\x00", NO_ALERT}, {PROTECTED_12, "\x16\x03\x03\x0a\x01", 22},
        {ANSWERED_13, "\x17\x03\x03\x03\x00", NO_ALERT},  {ANSWERED_13, "\x17\x03\x03\x03\x01", 22},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct passage passage;
        begin_scene(&passage, cases[i].scene);
        tls_gate_limit(&passage.gate, 512);
        feed(&passage, cases[i].bytes, 5, false);
        assert_int_equal(passage.alert, cases[i].alert);
    }
}

static void empty_handshake_records_are_unexpected(void **state)
{
    (void)state;
    REFUSED(BEGUN, "\x16\x03\x01\x00\x00", UNEXPECTED_MESSAGE);
    REFUSED(BEGUN, "\x16\x03\x01\x00\x02\x01\x00\x16\x03\x01\x00\x00", UNEXPECTED_MESSAGE);
    REFUSED(RETRIED, "\x16\x03\x03\x00\x00", UNEXPECTED_MESSAGE);
    REFUSED(ANSWERED_12, "\x16\x03\x03\x00\x00", UNEXPECTED_MESSAGE);
}

/* ---- change_cipher_spec (RFC 8446 section 5, RFC 5246 section 7.1) ---- */

static void a_change_cipher_spec_before_the_first_client_hello_is_unexpected(void **state)
{
    (void)state;
    REFUSED(BEGUN, CCS, UNEXPECTED_MESSAGE);
}

static void in_tls_1_3_a_change_cipher_spec_is_dropped(void **state)
{
    (void)state;
    DROPPED(RETRIED, CCS CCS);
    DROPPED(ANSWERED_13, CCS CCS CCS);
    DROPPED(ANSWERED_13, "\x14\x03\x01\x00\x01\x01");
}

static void in_tls_1_3_any_other_change_cipher_spec_is_unexpected(void **state)
{
    (void)state;
    REFUSED(ANSWERED_13, "\x14\x03\x03\x00\x01\x00", UNEXPECTED_MESSAGE);
    REFUSED(ANSWERED_13, "\x14\x03\x03\x00\x01\x02", UNEXPECTED_MESSAGE);
    REFUSED(ANSWERED_13, "\x14\x03\x03\x00\x02\x01\x01", UNEXPECTED_MESSAGE);
    REFUSED(ANSWERED_13, "\x14\x03\x03\x00\x00", UNEXPECTED_MESSAGE);
    REFUSED(RETRIED, "\x14\x03\x03\x00\x01\x02", UNEXPECTED_MESSAGE);
}

static void a_flood_of_change_cipher_specs_is_unexpected(void **state)
{
    (void)state;
    struct passage passage;

    begin_scene(&passage, ANSWERED_13);
    for (unsigned i = 0; i < TLS_GATE_CCS_MAX; i++) {
        feed(&passage, CCS, 6, false);
    }
    assert_int_equal(passage.alert, NO_ALERT);
    feed(&passage, CCS, 6, false);
    assert_int_equal(passage.alert, RECORD_ALERT_UNEXPECTED_MESSAGE);
}

static void in_tls_1_2_one_change_cipher_spec_passes(void **state)
{
    (void)state;
    PASSED(ANSWERED_12, CCS);
    REFUSED(ANSWERED_12, CCS CCS, UNEXPECTED_MESSAGE);
    REFUSED(ANSWERED_12, "\x14\x03\x03\x00\x01\x02", ILLEGAL_PARAMETER);
    REFUSED(ANSWERED_12, "\x14\x03\x03\x00\x02\x01\x01", DECODE_ERROR);
    REFUSED(ANSWERED_12, "\x14\x03\x03\x00\x00", DECODE_ERROR);
}

static void a_change_cipher_spec_within_a_message_is_unexpected(void **state)
{
    (void)state;
    REFUSED(ANSWERED_12, "\x16\x03\x03\x00\x02\x10\x00" CCS, UNEXPECTED_MESSAGE);
    REFUSED(ANSWERED_12, "\x16\x03\x03\x00\x05\x10\x00\x00\x02x" CCS, UNEXPECTED_MESSAGE);
    REFUSED(RETRIED, "\x16\x03\x03\x00\x02\x01\x00" CCS, UNEXPECTED_MESSAGE);
}

/* ---- alerts in clear (RFC 8446 section 6, RFC 5246 section 7.2) ---- */

static void an_alert_of_the_peer_ends_the_handshake_without_an_answer(void **state)
{
    (void)state;
    static const enum scene scenes[] = {BEGUN, RETRIED, ANSWERED_12};
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        expect(scenes[i], FATAL, 7, -40, 0);
        expect(scenes[i], CLOSE_NOTIFY, 7, 0, 0);
    }
    expect(BEGUN, "\x16\x03\x01\x00\x02\x01\x00" FATAL, 14, -40, 0); /* within a message, too */
}

/* Of a client that cannot make out the server's flight. Under the keys of TLS 1.2 there is no such thing. */
static void an_alert_in_clear_may_follow_the_servers_flight_in_tls_1_3(void **state)
{
    (void)state;
    expect(ANSWERED_13, FATAL, 7, -40, 0);
    expect(ANSWERED_13, CLOSE_NOTIFY, 7, 0, 0);
    DROPPED(ANSWERED_13, WARNING);
    REFUSED(ANSWERED_13, "\x15\x03\x03\x00\x13", DECODE_ERROR);
    PASSED(PROTECTED_12, FATAL);
}

static void malformed_alerts_are_refused(void **state)
{
    (void)state;
    REFUSED(BEGUN, "\x15\x03\x03\x00\x00", DECODE_ERROR);
    REFUSED(BEGUN, "\x15\x03\x03\x00\x01\x02", DECODE_ERROR);
    REFUSED(ANSWERED_12, "\x15\x03\x03\x00\x03\x02\x28\x00", DECODE_ERROR);
    REFUSED(ANSWERED_12, "\x15\x03\x03\x00\x02\x00\x28", ILLEGAL_PARAMETER);
    REFUSED(BEGUN, "\x15\x03\x03\x00\x02\x4d\x28", ILLEGAL_PARAMETER);
}

static void warnings_are_dropped_but_only_so_many(void **state)
{
    (void)state;
    struct passage passage;

    begin_scene(&passage, ANSWERED_12);
    for (unsigned i = 0; i < RECORD_WARNING_ALERTS_MAX; i++) {
        feed(&passage, WARNING, 7, i % 2 == 0);
    }
    assert_int_equal(passage.alert, NO_ALERT);
    assert_int_equal(passage.given_length, 0);
    feed(&passage, WARNING, 7, false);
    assert_int_equal(passage.alert, RECORD_ALERT_UNEXPECTED_MESSAGE);
}

static void a_warning_within_a_message_is_unexpected(void **state)
{
    (void)state;
    REFUSED(BEGUN, "\x16\x03\x01\x00\x02\x01\x00" WARNING, UNEXPECTED_MESSAGE);
}

/* ---- messages in clear ---- */

static void messages_that_are_not_due_are_unexpected(void **state)
{
    (void)state;
    for (unsigned type = 0; type < 256; type++) {
        uint8_t bytes[10] = {22, 3, 3, 0, 5, (uint8_t)type, 0, 0, 1, 'x'};
        bool hello = type == RECORD_MESSAGE_CLIENT_HELLO;
        expect(BEGUN, bytes, 10, hello ? NO_ALERT : (int)RECORD_ALERT_UNEXPECTED_MESSAGE, 10);
        expect(RETRIED, bytes, 10, hello ? NO_ALERT : (int)RECORD_ALERT_UNEXPECTED_MESSAGE, 10);
        /* Of the others, GnuTLS knows which is due. */
        expect(ANSWERED_12, bytes, 10, hello ? (int)RECORD_ALERT_UNEXPECTED_MESSAGE : NO_ALERT, 10);
    }
}

static void a_message_in_fragments_passes(void **state)
{
    (void)state;
    PASSED(RETRIED, "\x16\x03\x03\x00\x01\x01\x16\x03\x03\x00\x04\x00\x00\x03x\x16\x03\x03\x00\x02yz");
    PASSED(ANSWERED_12, "\x16\x03\x03\x00\x03\x10\x00\x00\x16\x03\x03\x00\x02\x01x" CCS);
    PASSED(ANSWERED_12, "\x16\x03\x03\x00\x0a\x10\x00\x00\x01x\x10\x00\x00\x01x"); /* joined, too */
}

static void what_follows_a_client_hello_in_its_record_is_unexpected(void **state)
{
    (void)state;
    REFUSED(BEGUN, "\x16\x03\x01\x00\x08\x01\x00\x00\x03xyz\x01", UNEXPECTED_MESSAGE);
    REFUSED(BEGUN, HELLO HELLO, UNEXPECTED_MESSAGE);
    REFUSED(RETRIED, "\x16\x03\x01\x00\x08\x01\x00\x00\x03xyz\x14", UNEXPECTED_MESSAGE);
}

static void messages_that_are_too_long_are_decode_errors(void **state)
{
    (void)state;
    uint8_t bytes[9] = {22, 3, 1, 0x40, 0, RECORD_MESSAGE_CLIENT_HELLO};
    const uint32_t most = TLS_HELLO_BYTES_MAX;

    for (uint32_t over = 0; over < 2; over++) {
        bytes[6] = (uint8_t)((most + over) >> 16);
        bytes[7] = (uint8_t)((most + over) >> 8);
        bytes[8] = (uint8_t)(most + over);
        expect(BEGUN, bytes, 9, over > 0 ? (int)RECORD_ALERT_DECODE_ERROR : NO_ALERT, 9);
    }
    PASSED(ANSWERED_12, "\x16\x03\x03\x40\x00\x10\x00\x80\x00");
    REFUSED(ANSWERED_12, "\x16\x03\x03\x40\x00\x10\x00\x80\x01", DECODE_ERROR);
}

/* ---- early data (RFC 8446 section 4.2.10) ---- */

static void early_data_before_a_second_client_hello_is_dropped(void **state)
{
    (void)state;
    DROPPED(RETRIED_WITH_EARLY_DATA, DATA CCS DATA);
    REFUSED(RETRIED_WITH_EARLY_DATA, DATA HELLO DATA, UNEXPECTED_MESSAGE);
    REFUSED(RETRIED, DATA, UNEXPECTED_MESSAGE);
    REFUSED(BEGUN, DATA, UNEXPECTED_MESSAGE);
}

static void early_data_without_end_is_unexpected(void **state)
{
    (void)state;
    static uint8_t bytes[5 + 4096] = {23, 3, 3, 0x10, 0};
    struct passage passage;

    begin_scene(&passage, RETRIED_WITH_EARLY_DATA);
    for (unsigned i = 0; i < TLS_GATE_EARLY_DATA_MAX / 4096; i++) {
        feed(&passage, bytes, sizeof(bytes), false);
    }
    assert_int_equal(passage.alert, NO_ALERT);
    assert_int_equal(passage.given_length, 0);
    feed(&passage, bytes, sizeof(bytes), false);
    assert_int_equal(passage.alert, RECORD_ALERT_UNEXPECTED_MESSAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clients_gate_passes_everything_and_never_beyond_a_record),
        cmocka_unit_test(nothing_behind_a_record_is_touched),
        cmocka_unit_test(the_version_of_a_client_hellos_record_is_of_no_importance),
        cmocka_unit_test(once_open_nothing_is_looked_at),
        cmocka_unit_test(types_that_do_not_belong_are_unexpected),
        cmocka_unit_test(records_beyond_their_limit_overflow),
        cmocka_unit_test(a_limit_that_was_agreed_on_holds_from_then_on),
        cmocka_unit_test(empty_handshake_records_are_unexpected),
        cmocka_unit_test(a_change_cipher_spec_before_the_first_client_hello_is_unexpected),
        cmocka_unit_test(in_tls_1_3_a_change_cipher_spec_is_dropped),
        cmocka_unit_test(in_tls_1_3_any_other_change_cipher_spec_is_unexpected),
        cmocka_unit_test(a_flood_of_change_cipher_specs_is_unexpected),
        cmocka_unit_test(in_tls_1_2_one_change_cipher_spec_passes),
        cmocka_unit_test(a_change_cipher_spec_within_a_message_is_unexpected),
        cmocka_unit_test(an_alert_of_the_peer_ends_the_handshake_without_an_answer),
        cmocka_unit_test(an_alert_in_clear_may_follow_the_servers_flight_in_tls_1_3),
        cmocka_unit_test(malformed_alerts_are_refused),
        cmocka_unit_test(warnings_are_dropped_but_only_so_many),
        cmocka_unit_test(a_warning_within_a_message_is_unexpected),
        cmocka_unit_test(messages_that_are_not_due_are_unexpected),
        cmocka_unit_test(a_message_in_fragments_passes),
        cmocka_unit_test(what_follows_a_client_hello_in_its_record_is_unexpected),
        cmocka_unit_test(messages_that_are_too_long_are_decode_errors),
        cmocka_unit_test(early_data_before_a_second_client_hello_is_dropped),
        cmocka_unit_test(early_data_without_end_is_unexpected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
