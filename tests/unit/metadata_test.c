/* Client metadata: to fields and back, and what a peer may get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/metadata_pool.h"

static void address_set(const char *text, struct address_compact *compact)
{
    struct address address;
    assert_int_equal(address_parse(text, false, &address), ERROR_NONE);
    address_pack(&address, compact);
}

static enum error_code parse(struct metadata_parser *parser, const char *const pairs[][2], size_t count)
{
    metadata_parse_begin(parser);
    for (size_t i = 0; i < count; i++) {
        metadata_parse_field(parser, pairs[i][0], strlen(pairs[i][0]), pairs[i][1], strlen(pairs[i][1]));
    }
    return metadata_parse_end(parser);
}

static void what_is_encoded_is_parsed_again(void **state)
{
    (void)state;
    static uint8_t certificate[METADATA_CERTIFICATE_MAX];
    for (size_t i = 0; i < sizeof(certificate); i++) {
        certificate[i] = (uint8_t)(i * 7);
    }
    static const uint32_t lengths[] = {0, 1, 2, 3, 1000, METADATA_CERTIFICATE_MAX};
    static const char *const clients[] = {"192.0.2.1:65535", "[2001:db8::1]:1"};
    struct metadata_parser parser;
    assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct metadata metadata = {.service = "web.example:443",
                                    .server_name = "www.example.com",
                                    .alpn = "h2",
                                    .tls_version = 0x0304,
                                    .tls_suite = 0xc02b,
                                    .certificate = certificate,
                                    .certificate_length = lengths[i]};
        address_set(clients[i % 2], &metadata.client);
        address_set("198.51.100.1:443", &metadata.listener);
        static char room[METADATA_ENCODE_BYTES + 4 * METADATA_CERTIFICATE_MAX / 3 + 8];
        struct metadata_field fields[METADATA_FIELDS_MAX];
        size_t count = 0;
        assert_int_equal(metadata_encode(&metadata, room, sizeof(room), fields, &count), ERROR_NONE);
        assert_memory_equal(fields[0].name, ":method", 7);
        assert_memory_equal(fields[1].name, ":authority", 10);
        metadata_parse_begin(&parser);
        for (size_t k = 0; k < count; k++) {
            metadata_parse_field(&parser, fields[k].name, fields[k].name_length, fields[k].value,
                                 fields[k].value_length);
        }
        assert_int_equal(metadata_parse_end(&parser), ERROR_NONE);
        struct metadata copy;
        char *kept = memory_alloc(metadata_copy_bytes(&parser.view));
        assert_non_null(kept);
        metadata_copy_into(&copy, kept, &parser.view);
        assert_string_equal(copy.service, metadata.service);
        assert_string_equal(copy.server_name, metadata.server_name);
        assert_string_equal(copy.alpn, metadata.alpn);
        assert_memory_equal(&copy.client, &metadata.client, sizeof(metadata.client));
        assert_memory_equal(&copy.listener, &metadata.listener, sizeof(metadata.listener));
        assert_int_equal(copy.tls_version, 0x0304);
        assert_int_equal(copy.tls_suite, 0xc02b);
        assert_int_equal(copy.certificate_length, lengths[i]);
        if (lengths[i] > 0) {
            assert_memory_equal(copy.certificate, certificate, lengths[i]);
        }
        memory_free(kept);
    }
    metadata_parser_dispose(&parser);
}

static void only_what_identifies_a_client_is_kept_out_of_the_header_table(void **state)
{
    (void)state;
    struct metadata metadata = {.service = "echo", .server_name = "a", .alpn = "h2", .tls_version = 0x0304};
    address_set("192.0.2.1:1", &metadata.client);
    char room[METADATA_ENCODE_BYTES];
    struct metadata_field fields[METADATA_FIELDS_MAX];
    size_t count = 0;
    assert_int_equal(metadata_encode(&metadata, room, sizeof(room), fields, &count), ERROR_NONE);
    for (size_t i = 0; i < count; i++) {
        bool forwarded = fields[i].name_length == 9 && memcmp(fields[i].name, "forwarded", 9) == 0;
        assert_int_equal(fields[i].unique, forwarded);
    }
    assert_int_equal(count, 6);
}

static void names_that_no_field_can_carry_are_refused(void **state)
{
    (void)state;
    char room[METADATA_ENCODE_BYTES];
    struct metadata_field fields[METADATA_FIELDS_MAX];
    size_t count = 0;
    static const char *const wrong[] = {"a b", "a\nb", "a\x7f", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct metadata metadata = {.service = "echo", .server_name = wrong[i]};
        assert_int_equal(metadata_encode(&metadata, room, sizeof(room), fields, &count), ERROR_INVALID);
        metadata = (struct metadata){.service = wrong[i]};
        assert_int_equal(metadata_encode(&metadata, room, sizeof(room), fields, &count), ERROR_INVALID);
    }
    struct metadata none = {.service = ""};
    assert_int_equal(metadata_encode(&none, room, sizeof(room), fields, &count), ERROR_INVALID);
    struct metadata tight = {.service = "echo", .tls_version = 0x0304};
    assert_int_equal(metadata_encode(&tight, room, 8, fields, &count), ERROR_LIMIT);
}

static void each_malformed_field_is_found(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {":authority", "b"}, /* the second one */
        {":authority", ""},
        {"forwarded", "for=192.0.2.1"},
        {"forwarded", "for=\"192.0.2.1\""},
        {"forwarded", "for=\"192.0.2.1:99999\""},
        {"forwarded", "for=\"[2001:db8::1\""},
        {"forwarded", "for=\"unix:/tmp/x\""},
        {"forwarded", "for=\"192.0.2.1:1\", for=\"192.0.2.2:1\""},
        {"forwarded", "by=\"192.0.2.1:1\""},
        {"forwarded", ""},
        {"client-cert", "AAAA"},
        {"client-cert", "::"},
        {"client-cert", ":A*A=:"},
        {"trunkline-sni", ""},
        {"trunkline-sni", "a b"},
        {"trunkline-alpn", "\x01"},
        {"trunkline-tls", "version=0304"},
        {"trunkline-tls", "version=03g4;suite=1301"},
        {"trunkline-tls", "version=0304;suite=13011"},
        {"trunkline-received", "0"}, /* of no session */
        {"trunkline-session", ""},
        {"trunkline-session", "000102030405060708090a0b0c0d0e0"},
        {"trunkline-session", "000102030405060708090a0b0c0d0e0f0"},
        {"trunkline-session", "000102030405060708090A0B0C0D0E0F"},
        {"trunkline-session", "000102030405060708090a0b0c0d0e0g"},
    };
    struct metadata_parser parser;
    assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *const pairs[][2] = {{":method", "CONNECT"}, {":authority", "a"}, {wrong[i][0], wrong[i][1]}};
        assert_int_equal(parse(&parser, pairs, 3), ERROR_BAD_METADATA);
    }
    /* And the parser is as good as new after each. */
    const char *const good[][2] = {
        {":method", "CONNECT"}, {":authority", "a"}, {"forwarded", "FOR=\"192.0.2.1:1\";proto=https"}, {"x-other", ""}};
    assert_int_equal(parse(&parser, good, 4), ERROR_NONE);
    assert_int_equal(parser.view.client.port, 1);
    metadata_parser_dispose(&parser);
}

static void a_session_that_goes_on_says_where(void **state)
{
    (void)state;
    static const uint32_t offsets[] = {0, 1, 999999999, 1000000000, UINT32_MAX};
    struct metadata_parser parser;
    char room[METADATA_ENCODE_BYTES];
    struct metadata_field fields[METADATA_FIELDS_MAX];
    assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
    for (size_t i = 0; i < 3 * sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct metadata metadata = {.service = "echo"};
        size_t count = 0;
        metadata.session.known = i % 3 > 0;
        metadata.session.resumes = i % 3 > 1;
        metadata.session.received = offsets[i / 3];
        for (size_t k = 0; k < METADATA_SESSION_BYTES; k++) {
            metadata.session.id[k] = (uint8_t)(0xf7 + 13 * k);
        }
        assert_int_equal(metadata_encode(&metadata, room, sizeof(room), fields, &count), ERROR_NONE);
        metadata_parse_begin(&parser);
        for (size_t k = 0; k < count; k++) {
            metadata_parse_field(&parser, fields[k].name, fields[k].name_length, fields[k].value,
                                 fields[k].value_length);
        }
        assert_int_equal(metadata_parse_end(&parser), ERROR_NONE);
        const struct metadata_session *session = &parser.view.session;
        assert_int_equal(session->known, metadata.session.known);
        assert_int_equal(session->resumes, metadata.session.resumes);
        if (session->known) {
            assert_memory_equal(session->id, metadata.session.id, METADATA_SESSION_BYTES);
        }
        if (session->resumes) {
            assert_int_equal(session->received, offsets[i / 3]);
        }
    }
    metadata_parser_dispose(&parser);
}

static void an_offset_is_decimal_and_below_the_bound(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "4294967296", "99999999999", "18446744073709551617"};
    uint32_t received = 7;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_false(metadata_parse_received(wrong[i], strlen(wrong[i]), &received));
        const char *const pairs[][2] = {{":method", "CONNECT"},
                                        {":authority", "a"},
                                        {"trunkline-session", "000102030405060708090a0b0c0d0e0f"},
                                        {"trunkline-received", wrong[i]}};
        struct metadata_parser parser;
        assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
        assert_int_equal(parse(&parser, pairs, 4), ERROR_BAD_METADATA);
        metadata_parser_dispose(&parser);
    }
    assert_true(metadata_parse_received("0000000042", 10, &received));
    assert_int_equal(received, 42);
    assert_true(metadata_parse_received("4294967295", 10, &received));
    assert_int_equal(received, UINT32_MAX);
}

/* Encodes a request of a session that may be opened again, and parses it. */
static enum error_code note_there_and_back(struct metadata_parser *parser, const struct metadata_note *note)
{
    static char room[METADATA_ENCODE_BYTES + 2U * METADATA_NOTE_MAX + 80U];
    struct metadata metadata = {.service = "a", .session = {.known = 1, .resumes = 1, .reopens = 1}};
    struct metadata_field fields[METADATA_FIELDS_MAX];
    size_t count = 0;
    metadata.session.received = 4000000000U;
    metadata.session.acknowledged = 12;
    metadata.session.unconsumed = note->length;
    metadata.session.note = *note;
    assert_true(metadata_encode_bytes(&metadata) <= sizeof(room));
    enum error_code error = metadata_encode(&metadata, room, metadata_encode_bytes(&metadata), fields, &count);
    metadata_parse_begin(parser);
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        metadata_parse_field(parser, fields[i].name, fields[i].name_length, fields[i].value, fields[i].value_length);
    }
    return error == ERROR_NONE ? metadata_parse_end(parser) : error;
}

static void notes_of_every_length_come_back(void **state)
{
    (void)state;
    struct metadata_parser parser;
    uint8_t bytes[METADATA_NOTE_MAX];
    assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7U);
    }
    for (uint32_t length = 0; length <= sizeof(bytes); length++) {
        struct metadata_note note = {.bytes = bytes, .length = length, .sent = UINT32_MAX, .consumed = length};
        assert_int_equal(note_there_and_back(&parser, &note), ERROR_NONE);
        const struct metadata_session *session = &parser.view.session;
        assert_true(session->known && session->resumes && session->reopens);
        assert_int_equal(session->received, 4000000000U);
        assert_int_equal(session->acknowledged, 12);
        assert_int_equal(session->unconsumed, length);
        assert_non_null(session->note.bytes);
        assert_int_equal(session->note.length, length);
        assert_memory_equal(session->note.bytes, bytes, length);
        assert_int_equal(session->note.sent, UINT32_MAX);
        assert_int_equal(session->note.consumed, length);
    }
    assert_int_equal(note_there_and_back(&parser, &(struct metadata_note){0}), ERROR_NONE);
    assert_null(parser.view.session.note.bytes);
    metadata_parser_dispose(&parser);
}

static void malformed_notes_are_found(void **state)
{
    (void)state;
    static char too_long[4U * METADATA_NOTE_MAX];
    static const char *const wrong[] = {
        "",
        ":",
        "::",
        "::;sent=1",
        "::;consumed=1;sent=1",
        "::;sent=1;consumed=",
        "::;sent=;consumed=1",
        "::;sent=4294967296;consumed=1",
        "::;sent=1;consumed=1;more=1",
        "::;sent=1;consumed=1 ",
        "::;sent=-1;consumed=1",
        ":A*A=:;sent=1;consumed=1",
        "AAAA;sent=1;consumed=1",
        ":AAAA;sent=1;consumed=1",
        ":AA:AA:;sent=1;consumed=1",
        too_long,
    };
    struct metadata_parser parser;
    size_t letters = 4U * ((METADATA_NOTE_MAX + 3U) / 3U);
    too_long[0] = ':';
    memset(too_long + 1, 'A', letters);
    (void)snprintf(too_long + 1 + letters, sizeof(too_long) - 1 - letters, ":;sent=1;consumed=1");
    assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *const pairs[][2] = {{":method", "CONNECT"}, {":authority", "a"}, {"trunkline-note", wrong[i]}};
        assert_int_equal(parse(&parser, pairs, 3), ERROR_BAD_METADATA);
    }
    static const char *const fields[] = {"trunkline-received", "trunkline-acknowledged", "trunkline-unconsumed"};
    static const char *const malformed[] = {"", "1;", ";1", "1;more=1", "-1", "1 ", "0x1", "4294967296"};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {
            const char *const pairs[][2] = {{":method", "CONNECT"}, {":authority", "a"}, {fields[k], malformed[i]}};
            assert_int_equal(parse(&parser, pairs, 3), ERROR_BAD_METADATA);
        }
    }
    const char *const alone[][2] = {{":method", "CONNECT"}, {":authority", "a"}, {"trunkline-acknowledged", "1"}};
    assert_int_equal(parse(&parser, alone, 3), ERROR_BAD_METADATA); /* of no session */
    metadata_parser_dispose(&parser);
}

static void what_is_no_connect_is_told_first(void **state)
{
    (void)state;
    struct metadata_parser parser;
    assert_int_equal(metadata_parser_init(&parser, 200), ERROR_NONE);
    const char *const get[][2] = {{":method", "GET"}, {":path", "/"}, {":scheme", "https"}, {":authority", "a b"}};
    assert_int_equal(parse(&parser, get, 4), ERROR_METHOD_NOT_ALLOWED);
    const char *const nothing[][2] = {{":method", "CONNECT"}};
    assert_int_equal(parse(&parser, nothing, 1), ERROR_BAD_METADATA);
    metadata_parser_dispose(&parser);
}

static void the_limit_of_header_bytes_counts_what_is_unknown_too(void **state)
{
    (void)state;
    struct metadata_parser parser;
    assert_int_equal(metadata_parser_init(&parser, 200), ERROR_NONE);
    const char *const pairs[][2] = {
        {":method", "CONNECT"}, {":authority", "a"}, {"x-a", "0123456789"}, {"x-b", "0123456789"}};
    assert_int_equal(parse(&parser, pairs, 3), ERROR_NONE); /* 46 + 43 + 45 */
    assert_int_equal(parse(&parser, pairs, 4), ERROR_NONE); /* 179 */
    static char large[80];
    memset(large, 'x', sizeof(large) - 1);
    const char *const over[][2] = {{":method", "CONNECT"}, {":authority", "a"}, {"trunkline-sni", large}};
    assert_int_equal(parse(&parser, over, 3), ERROR_METADATA_TOO_LARGE);
    metadata_parser_dispose(&parser);
}

static void a_long_service_name_is_refused(void **state)
{
    (void)state;
    char name[METADATA_SERVICE_MAX + 2];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    struct metadata_parser parser;
    assert_int_equal(metadata_parser_init(&parser, 16384), ERROR_NONE);
    const char *const pairs[][2] = {{":method", "CONNECT"}, {":authority", name}};
    assert_int_equal(parse(&parser, pairs, 2), ERROR_BAD_METADATA);
    name[METADATA_SERVICE_MAX] = 0;
    assert_int_equal(parse(&parser, pairs, 2), ERROR_NONE);
    metadata_parser_dispose(&parser);
}

static void sessions_share_all_but_the_address(void **state)
{
    (void)state;
    struct metadata_pool pool;
    struct metadata metadata = {.service = "echo", .server_name = "a", .alpn = "h2", .tls_version = 0x0304};
    metadata_pool_init(&pool, 7);
    address_set("192.0.2.1:1", &metadata.client);
    struct metadata_shared *first = metadata_pool_share(&pool, &metadata);
    address_set("192.0.2.2:2", &metadata.client);
    struct metadata_shared *second = metadata_pool_share(&pool, &metadata);
    assert_non_null(first);
    assert_ptr_equal(first, second);
    assert_int_equal(first->view.client.family, 0);
    metadata.server_name = "b";
    struct metadata_shared *other = metadata_pool_share(&pool, &metadata);
    assert_ptr_not_equal(first, other);
    assert_string_equal(other->view.server_name, "b");
    /* A certificate is one client's own. */
    static const uint8_t certificate[] = {1, 2, 3};
    metadata.certificate = certificate;
    metadata.certificate_length = sizeof(certificate);
    struct metadata_shared *own = metadata_pool_share(&pool, &metadata);
    struct metadata_shared *own_too = metadata_pool_share(&pool, &metadata);
    assert_ptr_not_equal(own, own_too);
    assert_memory_equal(own->view.certificate, certificate, sizeof(certificate));
    metadata_shared_release(&first);
    assert_null(first);
    assert_string_equal(second->view.server_name, "a");
    metadata_shared_release(&second);
    metadata_shared_release(&other);
    metadata_shared_release(&own);
    metadata_shared_release(&own_too);
    assert_int_equal(pool.count, 0);
    metadata_pool_dispose(&pool);
}

static void many_names_are_each_kept_once(void **state)
{
    (void)state;
    enum { NAMES = 5000, SESSIONS = 20000 };
    struct metadata_pool pool;
    static struct metadata_shared *shared[SESSIONS];
    char name[16];
    struct metadata metadata = {.service = "echo", .server_name = name, .alpn = ""};
    metadata_pool_init(&pool, 11);
    for (size_t i = 0; i < SESSIONS; i++) {
        (void)snprintf(name, sizeof(name), "host-%zu", i % NAMES);
        shared[i] = metadata_pool_share(&pool, &metadata);
        assert_non_null(shared[i]);
        assert_string_equal(shared[i]->view.server_name, name);
        assert_ptr_equal(shared[i], shared[i % NAMES]);
    }
    assert_int_equal(pool.count, NAMES);
    for (size_t i = 0; i < SESSIONS; i++) {
        metadata_shared_release(&shared[i]);
    }
    assert_int_equal(pool.count, 0);
    metadata_pool_dispose(&pool);
}

/* A peer that makes names collide costs memory for what it sends, never time. */
static void a_full_bucket_takes_no_more(void **state)
{
    (void)state;
    enum { MANY = 4000 };
    struct metadata_pool pool;
    static struct metadata_shared *shared[MANY];
    char name[16];
    struct metadata metadata = {.service = "echo", .server_name = name, .alpn = ""};
    metadata_pool_init(&pool, 3);
    (void)snprintf(name, sizeof(name), "first");
    struct metadata_shared *first = metadata_pool_share(&pool, &metadata);
    memory_fail_at(2);
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(name, sizeof(name), "host-%zu", i);
        shared[i] = metadata_pool_share(&pool, &metadata);
        assert_non_null(shared[i]);
        memory_fail_at(2); /* the table never grows beyond its first buckets */
    }
    memory_fail_at(0);
    assert_int_equal(pool.bucket_count, 16);
    assert_int_equal(pool.count, 16 * METADATA_POOL_BUCKET_MAX);
    for (size_t i = 0; i < MANY; i++) {
        metadata_shared_release(&shared[i]);
    }
    metadata_shared_release(&first);
    assert_int_equal(pool.count, 0);
    metadata_pool_dispose(&pool);
}

static void a_copy_that_finds_no_memory_is_null(void **state)
{
    (void)state;
    struct metadata metadata = {.service = "a", .server_name = "b", .alpn = "c"};
    struct metadata_parser parser;
    memory_fail_at(1);
    struct metadata_pool pool;
    metadata_pool_init(&pool, 7);
    memory_fail_at(1);
    assert_null(metadata_pool_share(&pool, &metadata));
    memory_fail_at(2); /* without a table nothing is shared, and all the same it works */
    struct metadata_shared *alone = metadata_pool_share(&pool, &metadata);
    assert_non_null(alone);
    assert_int_equal(pool.count, 0);
    metadata_shared_release(&alone);
    metadata_pool_dispose(&pool);
    memory_fail_at(1);
    assert_int_equal(metadata_parser_init(&parser, 100), ERROR_NO_MEMORY);
    memory_fail_at(0);
    metadata_parser_dispose(&parser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_is_parsed_again),
        cmocka_unit_test(only_what_identifies_a_client_is_kept_out_of_the_header_table),
        cmocka_unit_test(names_that_no_field_can_carry_are_refused),
        cmocka_unit_test(each_malformed_field_is_found),
        cmocka_unit_test(a_session_that_goes_on_says_where),
        cmocka_unit_test(an_offset_is_decimal_and_below_the_bound),
        cmocka_unit_test(notes_of_every_length_come_back),
        cmocka_unit_test(malformed_notes_are_found),
        cmocka_unit_test(what_is_no_connect_is_told_first),
        cmocka_unit_test(the_limit_of_header_bytes_counts_what_is_unknown_too),
        cmocka_unit_test(a_long_service_name_is_refused),
        cmocka_unit_test(sessions_share_all_but_the_address),
        cmocka_unit_test(many_names_are_each_kept_once),
        cmocka_unit_test(a_full_bucket_takes_no_more),
        cmocka_unit_test(a_copy_that_finds_no_memory_is_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
