/*
 * A ClientHello by the book: one that is good, and then each thing that must be refused, with the alert that is due.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "mux/tls_hello.h"

enum {
    HANDSHAKE_FAILURE = 40,
    ILLEGAL_PARAMETER = 47,
    DECODE_ERROR = 50,
    PROTOCOL_VERSION = 70,
    MISSING_EXTENSION = 109,
};

enum {
    SERVER_NAME = 0,
    MAX_FRAGMENT_LENGTH = 1,
    GROUPS = 10,
    POINT_FORMATS = 11,
    SIGNATURES = 13,
    ALPN = 16,
    PADDING = 21,
    ENCRYPT_THEN_MAC = 22,
    MASTER_SECRET = 23,
    RECORD_SIZE_LIMIT = 28,
    PSK = 41,
    EARLY_DATA = 42,
    VERSIONS = 43,
    COOKIE = 44,
    PSK_MODES = 45,
    AUTHORITIES = 47,
    POST_HANDSHAKE_AUTH = 49,
    SIGNATURES_CERT = 50,
    KEY_SHARE = 51,
    RENEGOTIATION = 0xff01,
};

#define PARTS_MAX 40

struct part {
    unsigned type;
    const char *bytes;
    size_t length;
};

/* A ClientHello whose parts may be anything. */
struct hello {
    unsigned version;
    struct part random;
    struct part session;
    struct part suites;
    struct part compression;
    struct part extensions[PARTS_MAX];
    size_t count;
    struct part tail; /* behind the extensions */
};

#define PART(type, text) ((struct part){(type), (text), sizeof(text) - 1})

#define RANDOM     "0123456789abcdef0123456789abcdef"
#define KEY_32     "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define SHARE      "\x00\x1d\x00\x20" KEY_32
#define PSK_ONE    "\x00\x07\x00\x01i\x00\x00\x00\x00\x00\x21\x20" KEY_32
#define IDENTITIES "\x00\x07\x00\x01i\x00\x00\x00\x00"

static struct hello hello_12(void)
{
    struct hello hello = {
        .version = 0x0303,
        .random = PART(0, RANDOM),
        .session = PART(0, ""),
        .suites = PART(0, "\xc0\x2b\xc0\x2f"),
        .compression = PART(0, "\0"),
        .extensions = {PART(SERVER_NAME, "\x00\x0c\x00\x00\x09localhost"), PART(GROUPS, "\x00\x04\x00\x1d\x00\x17"),
                       PART(SIGNATURES, "\x00\x04\x04\x03\x08\x04")},
        .count = 3,
        .tail = PART(0, ""),
    };
    return hello;
}

static struct hello hello_13(void)
{
    struct hello hello = hello_12();

    hello.suites = PART(0, "\x13\x01\x13\x02");
    hello.extensions[hello.count++] = PART(VERSIONS, "\x02\x03\x04");
    hello.extensions[hello.count++] = PART(KEY_SHARE, "\x00\x24" SHARE);
    return hello;
}

/* Replaces an extension, or adds it. */
static void set(struct hello *hello, struct part part)
{
    for (size_t i = 0; i < hello->count; i++) {
        if (hello->extensions[i].type == part.type) {
            hello->extensions[i] = part;
            return;
        }
    }
    hello->extensions[hello->count++] = part;
}

static void drop(struct hello *hello, unsigned type)
{
    size_t kept = 0;

    for (size_t i = 0; i < hello->count; i++) {
        if (hello->extensions[i].type != type) {
            hello->extensions[kept++] = hello->extensions[i];
        }
    }
    hello->count = kept;
}

/* ---- encoding ---- */

struct body {
    uint8_t bytes[4096];
    size_t length;
};

static void put_number(struct body *body, size_t number, size_t width)
{
    while (width-- > 0) {
        body->bytes[body->length++] = (uint8_t)(number >> 8 * width);
    }
}

static void put_bytes(struct body *body, struct part part)
{
    memcpy(body->bytes + body->length, part.bytes, part.length);
    body->length += part.length;
}

static void put_vector(struct body *body, struct part part, size_t width)
{
    put_number(body, part.length, width);
    put_bytes(body, part);
}

static void encode(struct body *body, const struct hello *hello)
{
    body->length = 0;
    put_number(body, hello->version, 2);
    put_bytes(body, hello->random);
    put_vector(body, hello->session, 1);
    put_vector(body, hello->suites, 2);
    put_vector(body, hello->compression, 1);
    if (hello->count > 0) {
        size_t at = body->length;
        put_number(body, 0, 2);
        for (size_t i = 0; i < hello->count; i++) {
            put_number(body, hello->extensions[i].type, 2);
            put_vector(body, hello->extensions[i], 2);
        }
        body->bytes[at] = (uint8_t)((body->length - at - 2) >> 8);
        body->bytes[at + 1] = (uint8_t)(body->length - at - 2);
    }
    put_bytes(body, hello->tail);
}

/* From memory that is as large as it must be, so that a sanitizer sees any read beyond. */
static int check_bytes(struct tls_hello *seen, const uint8_t *bytes, size_t length)
{
    uint8_t *copy = test_malloc(length + (length == 0));

    memcpy(copy, bytes, length);
    int verdict = tls_hello_check(seen, copy, length);
    test_free(copy);
    return verdict;
}

static int check(const struct hello *hello)
{
    struct tls_hello seen = {.seen = false};
    struct body body;

    encode(&body, hello);
    return check_bytes(&seen, body.bytes, body.length);
}

/* ---- structure (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2) ---- */

static void good_ones_are_good(void **state)
{
    (void)state;
    struct hello hello = hello_12();
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
    hello = hello_13();
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
    hello = hello_12();
    hello.count = 0; /* GnuTLS knows that it has no suite for it */
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
}

static void every_beginning_of_one_is_a_decode_error(void **state)
{
    (void)state;
    struct hello hello = hello_13();
    struct body body;
    encode(&body, &hello);
    hello.count = 0;
    struct body bare;
    encode(&bare, &hello);
    for (size_t length = 0; length < body.length; length++) {
        struct tls_hello seen = {.seen = false};
        int verdict = check_bytes(&seen, body.bytes, length);
        assert_int_equal(verdict, length == bare.length ? TLS_HELLO_GOOD : DECODE_ERROR);
    }
}

static void bytes_behind_the_extensions_are_a_decode_error(void **state)
{
    (void)state;
    struct hello hello = hello_13();
    hello.tail = PART(0, "\0");
    assert_int_equal(check(&hello), DECODE_ERROR);
}

static void fields_that_are_too_long_or_odd_are_decode_errors(void **state)
{
    (void)state;
    struct hello hello = hello_12();
    hello.session = PART(0, RANDOM "x");
    assert_int_equal(check(&hello), DECODE_ERROR);
    hello.session = PART(0, RANDOM);
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
    hello.suites = PART(0, "");
    assert_int_equal(check(&hello), DECODE_ERROR);
    hello.suites = PART(0, "\xc0\x2b\xc0");
    assert_int_equal(check(&hello), DECODE_ERROR);
    hello = hello_12();
    hello.compression = PART(0, "");
    assert_int_equal(check(&hello), DECODE_ERROR);
}

static void null_compression_must_be_offered_and_nothing_else_in_tls_1_3(void **state)
{
    (void)state;
    struct hello hello = hello_12();
    hello.compression = PART(0, "\1");
    assert_int_equal(check(&hello), ILLEGAL_PARAMETER);
    hello.compression = PART(0, "\1\0");
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
    hello = hello_13();
    hello.compression = PART(0, "\1\0");
    assert_int_equal(check(&hello), ILLEGAL_PARAMETER);
}

static void ssl_is_told_protocol_version(void **state)
{
    (void)state;
    static const unsigned versions[] = {0, 2, 0x0103, 0x0200, 0x02ff, 0x0300};
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        struct hello hello = hello_13();
        hello.version = versions[i];
        assert_int_equal(check(&hello), PROTOCOL_VERSION);
    }
}

static void no_extension_may_come_twice(void **state)
{
    (void)state;
    struct hello hello = hello_13();
    hello.extensions[hello.count++] = PART(0x7777, "");
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
    hello.extensions[hello.count++] = PART(0x7777, "x");
    assert_int_equal(check(&hello), ILLEGAL_PARAMETER);
    hello = hello_12();
    hello.extensions[hello.count++] = PART(SERVER_NAME, "\x00\x0c\x00\x00\x09localhost");
    assert_int_equal(check(&hello), ILLEGAL_PARAMETER);
}

/* ---- bodies of extensions ---- */

struct body_case {
    struct part part;
    int verdict;
};

/* In a ClientHello of TLS 1.2, and in one of 1.3 after all else. */
static void check_bodies(const struct body_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct hello hello = hello_12();
        set(&hello, cases[i].part);
        assert_int_equal(check(&hello), cases[i].verdict);
        hello = hello_13();
        set(&hello, cases[i].part);
        assert_int_equal(check(&hello), cases[i].verdict);
    }
}

#define GOOD(type, text)                                                                                               \
    {                                                                                                                  \
        {(type), (text), sizeof(text) - 1}, TLS_HELLO_GOOD                                                             \
    }
#define BAD(type, text, verdict)                                                                                       \
    {                                                                                                                  \
        {(type), (text), sizeof(text) - 1}, (verdict)                                                                  \
    }
#define CHECK_BODIES(cases) check_bodies((cases), sizeof(cases) / sizeof((cases)[0]))

static void server_names_are_checked(void **state)
{
    (void)state;
    static const struct body_case cases[] = {
        GOOD(SERVER_NAME, "\x00\x04\x00\x00\x01x"),
        GOOD(SERVER_NAME, "\x00\x08\x01\x00\x01x\x00\x00\x01y"),
        BAD(SERVER_NAME, "", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x00", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x03\x00\x00\x00", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x05\x00\x00\x01x", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x04\x00\x00\x01xy", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x04\x00\x00\x02x", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x01\x00", DECODE_ERROR),
        BAD(SERVER_NAME, "\x00\x08\x00\x00\x01x\x00\x00\x01y", ILLEGAL_PARAMETER),
    };
    CHECK_BODIES(cases);
}

static void a_server_name_of_more_than_255_bytes_is_illegal(void **state)
{
    (void)state;
    char bytes[5 + 256] = {1, 3, 0, 1, 0};
    struct hello hello = hello_12();
    memset(bytes + 5, 'n', 256);
    set(&hello, (struct part){SERVER_NAME, bytes, sizeof(bytes)});
    assert_int_equal(check(&hello), ILLEGAL_PARAMETER);
    memcpy(bytes, "\x01\x02\x00\x00\xff", 5);
    set(&hello, (struct part){SERVER_NAME, bytes, sizeof(bytes) - 1});
    assert_int_equal(check(&hello), TLS_HELLO_GOOD);
}

static void lists_of_numbers_are_checked(void **state)
{
    (void)state;
    static const unsigned types[] = {GROUPS, SIGNATURES, SIGNATURES_CERT};
    static const struct body_case cases[] = {
        GOOD(0, "\x00\x02\x00\x1d"),
        BAD(0, "", DECODE_ERROR),
        BAD(0, "\x00", DECODE_ERROR),
        BAD(0, "\x00\x00", DECODE_ERROR),
        BAD(0, "\x00\x01\x00", DECODE_ERROR),
        BAD(0, "\x00\x03\x00\x1d\x00", DECODE_ERROR),
        BAD(0, "\x00\x04\x00\x1d", DECODE_ERROR),
        BAD(0, "\x00\x02\x00\x1d\x00", DECODE_ERROR),
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        for (size_t j = 0; j < sizeof(cases) / sizeof(cases[0]); j++) {
            struct body_case typed = cases[j];
            typed.part.type = types[i];
            check_bodies(&typed, 1);
        }
    }
}

static void size_limits_are_checked_and_told(void **state)
{
    (void)state;
    static const struct body_case cases[] = {
        BAD(RECORD_SIZE_LIMIT, "", DECODE_ERROR),
        BAD(RECORD_SIZE_LIMIT, "\x40", DECODE_ERROR),
        BAD(RECORD_SIZE_LIMIT, "\x40\x00\x00", DECODE_ERROR),
        BAD(RECORD_SIZE_LIMIT, "\x00\x3f", ILLEGAL_PARAMETER),
        GOOD(RECORD_SIZE_LIMIT, "\x00\x40"),
        GOOD(RECORD_SIZE_LIMIT, "\xff\xff"),
        BAD(MAX_FRAGMENT_LENGTH, "", DECODE_ERROR),
        BAD(MAX_FRAGMENT_LENGTH, "\1\1", DECODE_ERROR),
        BAD(MAX_FRAGMENT_LENGTH, "\0", ILLEGAL_PARAMETER),
        BAD(MAX_FRAGMENT_LENGTH, "\5", ILLEGAL_PARAMETER),
        BAD(MAX_FRAGMENT_LENGTH, "\x09", ILLEGAL_PARAMETER),
        GOOD(MAX_FRAGMENT_LENGTH, "\1"),
        GOOD(MAX_FRAGMENT_LENGTH, "\4"),
    };
    CHECK_BODIES(cases);
    struct hello hello = hello_13();
    struct tls_hello seen = {.seen = false};
    struct body body;
    set(&hello, PART(RECORD_SIZE_LIMIT, "\x01\x02"));
    set(&hello, PART(MAX_FRAGMENT_LENGTH, "\2"));
    encode(&body, &hello);
    assert_int_equal(check_bytes(&seen, body.bytes, body.length), TLS_HELLO_GOOD);
    assert_int_equal(seen.record_size_limit, 0x0102);
    assert_int_equal(seen.fragment_limit, 1024);
}

static void the_other_bodies_are_checked(void **state)
{
    (void)state;
    static const struct body_case cases[] = {
        GOOD(POINT_FORMATS, "\x02\x01\x00"),
        BAD(POINT_FORMATS, "", DECODE_ERROR),
        BAD(POINT_FORMATS, "\0", DECODE_ERROR),
        BAD(POINT_FORMATS, "\1\0\0", DECODE_ERROR),
        BAD(POINT_FORMATS, "\1\1", ILLEGAL_PARAMETER),
        GOOD(ALPN, "\x00\x03\x02h2"),
        BAD(ALPN, "\x00\x00", DECODE_ERROR),
        BAD(ALPN, "\x00\x01\x00", DECODE_ERROR),
        BAD(ALPN, "\x00\x04\x02h2\x00", DECODE_ERROR),
        BAD(ALPN, "\x00\x03\x03h2", DECODE_ERROR),
        GOOD(ENCRYPT_THEN_MAC, ""),
        BAD(ENCRYPT_THEN_MAC, "\0", DECODE_ERROR),
        GOOD(MASTER_SECRET, ""),
        BAD(MASTER_SECRET, "\0", DECODE_ERROR),
        GOOD(POST_HANDSHAKE_AUTH, ""),
        BAD(POST_HANDSHAKE_AUTH, "\0", DECODE_ERROR),
        GOOD(EARLY_DATA, ""),
        BAD(EARLY_DATA, "\0\0\0\1", DECODE_ERROR),
        GOOD(COOKIE, "\0\1c"),
        BAD(COOKIE, "\0\0", DECODE_ERROR),
        BAD(COOKIE, "\0\2c", DECODE_ERROR),
        GOOD(PSK_MODES, "\1\1"),
        BAD(PSK_MODES, "\0", DECODE_ERROR),
        BAD(PSK_MODES, "\1\1\1", DECODE_ERROR),
        GOOD(AUTHORITIES, "\x00\x04\x00\x02\x30\x00"),
        BAD(AUTHORITIES, "\x00\x02\x00\x00", DECODE_ERROR),
        GOOD(RENEGOTIATION, "\0"),
        BAD(RENEGOTIATION, "", DECODE_ERROR),
        BAD(RENEGOTIATION, "\0\0", DECODE_ERROR),
        BAD(RENEGOTIATION, "\1x", HANDSHAKE_FAILURE),
        GOOD(PADDING, "xxxx"),
        GOOD(0x7a7a, "whatever"),
    };
    CHECK_BODIES(cases);
}

static void supported_versions_are_checked(void **state)
{
    (void)state;
    static const struct body_case cases[] = {
        GOOD(VERSIONS, "\x04\x03\x04\x03\x03"),
        BAD(VERSIONS, "", DECODE_ERROR),
        BAD(VERSIONS, "\x00", DECODE_ERROR),
        BAD(VERSIONS, "\x03\x03\x04\x03", DECODE_ERROR),
        BAD(VERSIONS, "\x02\x03\x04\x03", DECODE_ERROR),
        BAD(VERSIONS, "\x04\x03\x04", DECODE_ERROR),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hello hello = hello_13();
        set(&hello, cases[i].part);
        assert_int_equal(check(&hello), cases[i].verdict);
    }
}

/* ---- TLS 1.3 (RFC 8446 sections 4.2.8, 4.2.11, 9.2) ---- */

static void what_tls_1_3_cannot_do_without_is_missing(void **state)
{
    (void)state;
    static const unsigned types[] = {GROUPS, SIGNATURES, KEY_SHARE};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct hello hello = hello_13();
        drop(&hello, types[i]);
        assert_int_equal(check(&hello), MISSING_EXTENSION);
    }
}

static void key_shares_are_checked(void **state)
{
    (void)state;
    static const struct body_case cases[] = {
        GOOD(KEY_SHARE, "\x00\x00"), /* asks for a HelloRetryRequest */
        BAD(KEY_SHARE, "", DECODE_ERROR),
        BAD(KEY_SHARE, "\x00", DECODE_ERROR),
        BAD(KEY_SHARE, "\x00\x24" SHARE "\x00", DECODE_ERROR),
        BAD(KEY_SHARE, "\x00\x25" SHARE, DECODE_ERROR),
        BAD(KEY_SHARE, "\x00\x04\x00\x1d\x00\x00", DECODE_ERROR),
        BAD(KEY_SHARE, "\x00\x24\x00\x1d\x00\x21" KEY_32, DECODE_ERROR),
        BAD(KEY_SHARE, "\x00\x48" SHARE SHARE, ILLEGAL_PARAMETER),
        BAD(KEY_SHARE, "\x00\x24\x00\x18\x00\x20" KEY_32, ILLEGAL_PARAMETER), /* was not offered */
        BAD(KEY_SHARE,
            "\x00\x23\x00\x1d\x00\x1f"
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            ILLEGAL_PARAMETER),
        BAD(KEY_SHARE, "\x00\x45\x00\x17\x00\x41\x05" KEY_32 KEY_32, ILLEGAL_PARAMETER), /* no point of that form */
        GOOD(KEY_SHARE, "\x00\x45\x00\x17\x00\x41\x04" KEY_32 KEY_32),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hello hello = hello_13();
        set(&hello, cases[i].part);
        assert_int_equal(check(&hello), cases[i].verdict);
    }
}

static void pre_shared_keys_are_checked(void **state)
{
    (void)state;
    static const struct body_case cases[] = {
        GOOD(PSK, PSK_ONE),
        BAD(PSK, "", DECODE_ERROR),
        BAD(PSK, "\x00\x00\x00\x21\x20" KEY_32, DECODE_ERROR),
        BAD(PSK, IDENTITIES "\x00\x00", DECODE_ERROR),
        BAD(PSK, IDENTITIES, DECODE_ERROR),
        BAD(PSK, PSK_ONE "x", DECODE_ERROR),
        BAD(PSK, "\x00\x06\x00\x00\x00\x00\x00\x00\x00\x21\x20" KEY_32, DECODE_ERROR),
        BAD(PSK, "\x00\x06\x00\x01i\x00\x00\x00\x00\x21\x20" KEY_32, DECODE_ERROR),
        BAD(PSK,
            IDENTITIES "\x00\x20\x1f"
                       "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            DECODE_ERROR),
        BAD(PSK, IDENTITIES "\x00\x42\x20" KEY_32 "\x20" KEY_32, ILLEGAL_PARAMETER),
        BAD(PSK, "\x00\x0e\x00\x01i\x00\x00\x00\x00\x00\x01j\x00\x00\x00\x00\x00\x21\x20" KEY_32, ILLEGAL_PARAMETER),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hello hello = hello_13();
        set(&hello, PART(PSK_MODES, "\1\1"));
        set(&hello, cases[i].part);
        assert_int_equal(check(&hello), cases[i].verdict);
    }
}

static void a_pre_shared_key_comes_last_and_with_modes(void **state)
{
    (void)state;
    struct hello hello = hello_13();
    set(&hello, PART(PSK, PSK_ONE));
    assert_int_equal(check(&hello), MISSING_EXTENSION);
    set(&hello, PART(PSK_MODES, "\1\1"));
    assert_int_equal(check(&hello), ILLEGAL_PARAMETER);
}

/* ---- the second ClientHello (RFC 8446 section 4.1.2) ---- */

/* The verdict on `second` after a good `first`. */
static int check_second(const struct hello *first, const struct hello *second)
{
    struct tls_hello seen = {.seen = false};
    struct body body;

    encode(&body, first);
    assert_int_equal(check_bytes(&seen, body.bytes, body.length), TLS_HELLO_GOOD);
    encode(&body, second);
    return check_bytes(&seen, body.bytes, body.length);
}

static struct hello hello_without_share(void)
{
    struct hello hello = hello_13();

    set(&hello, PART(KEY_SHARE, "\x00\x00"));
    return hello;
}

static void a_second_one_may_differ_in_what_the_rfc_lists(void **state)
{
    (void)state;
    struct hello first = hello_without_share();
    set(&first, PART(EARLY_DATA, ""));
    struct hello second = hello_13();
    assert_int_equal(check_second(&first, &second), TLS_HELLO_GOOD);
    set(&second, PART(PADDING, "xxxxxxx"));
    assert_int_equal(check_second(&first, &second), TLS_HELLO_GOOD);
    struct part moved = second.extensions[0];
    memmove(second.extensions, second.extensions + 1, (second.count - 1) * sizeof(moved));
    second.extensions[second.count - 1] = moved;
    assert_int_equal(check_second(&first, &second), TLS_HELLO_GOOD);
}

static void a_second_one_that_differs_otherwise_is_illegal(void **state)
{
    (void)state;
    static const struct part parts[] = {
        {SERVER_NAME, "\x00\x04\x00\x00\x01x", 6},
        {GROUPS, "\x00\x02\x00\x1d", 4},
        {SIGNATURES, "\x00\x02\x04\x03", 4},
        {VERSIONS, "\x04\x03\x04\x03\x03", 5},
        {COOKIE, "\x00\x01x", 3},
        {EARLY_DATA, "", 0},
        {KEY_SHARE, "\x00\x00", 2},
        {0x7777, "", 0},
        {RECORD_SIZE_LIMIT, "\x40\x00", 2},
    };
    struct hello first = hello_without_share();
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct hello second = hello_13();
        set(&second, parts[i]);
        assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
    }
    struct hello second = hello_13();
    drop(&second, SERVER_NAME);
    assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
    second = hello_13();
    second.random = PART(0, "0123456789abcdef0123456789abcdeX");
    assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
    second = hello_13();
    second.session = PART(0, "x");
    assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
    second = hello_13();
    second.suites = PART(0, "\x13\x02\x13\x01");
    assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
    second = hello_13();
    second.version = 0x0304;
    assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
    second = hello_13();
    drop(&second, VERSIONS);
    assert_int_equal(check_second(&first, &second), ILLEGAL_PARAMETER);
}

/* ---- what is told ---- */

static void the_suites_that_were_offered_are_told(void **state)
{
    (void)state;
    struct hello hello = hello_12();
    struct tls_hello seen = {.seen = false};
    struct body body;
    encode(&body, &hello);
    assert_int_equal(check_bytes(&seen, body.bytes, body.length), TLS_HELLO_GOOD);
    assert_true(tls_hello_offers(&seen, 0xc02b));
    assert_true(tls_hello_offers(&seen, 0xc02f));
    assert_false(tls_hello_offers(&seen, 0xc02c));
    assert_false(tls_hello_offers(&seen, 0x1301));
    assert_false(tls_hello_offers(&seen, 0x0035));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ones_are_good),
        cmocka_unit_test(every_beginning_of_one_is_a_decode_error),
        cmocka_unit_test(bytes_behind_the_extensions_are_a_decode_error),
        cmocka_unit_test(fields_that_are_too_long_or_odd_are_decode_errors),
        cmocka_unit_test(null_compression_must_be_offered_and_nothing_else_in_tls_1_3),
        cmocka_unit_test(ssl_is_told_protocol_version),
        cmocka_unit_test(no_extension_may_come_twice),
        cmocka_unit_test(server_names_are_checked),
        cmocka_unit_test(a_server_name_of_more_than_255_bytes_is_illegal),
        cmocka_unit_test(lists_of_numbers_are_checked),
        cmocka_unit_test(size_limits_are_checked_and_told),
        cmocka_unit_test(the_other_bodies_are_checked),
        cmocka_unit_test(supported_versions_are_checked),
        cmocka_unit_test(what_tls_1_3_cannot_do_without_is_missing),
        cmocka_unit_test(key_shares_are_checked),
        cmocka_unit_test(pre_shared_keys_are_checked),
        cmocka_unit_test(a_pre_shared_key_comes_last_and_with_modes),
        cmocka_unit_test(a_second_one_may_differ_in_what_the_rfc_lists),
        cmocka_unit_test(a_second_one_that_differs_otherwise_is_illegal),
        cmocka_unit_test(the_suites_that_were_offered_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
