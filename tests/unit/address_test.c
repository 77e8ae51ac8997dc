/* Tests of mux/address.c: what is parsed, what is refused, and that printing and packing keep the meaning. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "mux/address.h"

static void what_is_printed_is_what_was_parsed(void **state)
{
    (void)state;
    static const char *const texts[] = {"192.0.2.1:443",     "0.0.0.0:0",   "127.0.0.1:65535",  "[::]:443",
                                        "[2001:db8::1]:443", "[fe80::1]:1", "unix:/run/x.sock", "unix:relative"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct address address;
        char text[ADDRESS_TEXT_MAX];
        assert_int_equal(address_parse(texts[i], false, &address), ERROR_NONE);
        assert_true(address.length > 0);
        assert_string_equal(address_format(&address, text), texts[i]);
    }
}

static void the_parts_of_an_address_are_in_network_order(void **state)
{
    (void)state;
    struct address address;
    assert_int_equal(address_parse("192.0.2.1:443", false, &address), ERROR_NONE);
    assert_int_equal(address.u.any.sa_family, AF_INET);
    assert_int_equal(address.u.ip4.sin_port, htons(443));
    assert_int_equal(address.u.ip4.sin_addr.s_addr, htonl(0xc0000201));
    assert_int_equal(address.length, sizeof(struct sockaddr_in));
    assert_int_equal(address_parse("[::1]:80", false, &address), ERROR_NONE);
    assert_int_equal(address.length, sizeof(struct sockaddr_in6));
    assert_true(IN6_IS_ADDR_LOOPBACK(&address.u.ip6.sin6_addr));
}

static void malformed_text_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ":",
        ":443",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:4 3",
        "192.0.2.1:-1",
        "192.0.2.1:+1",
        "192.0.2.1:000443",
        "192.0.2.999:1",
        "1.2.3:1",
        "::1:443",
        "[::1]",
        "[::1]443",
        "[::1:443",
        "[]:443",
        "[192.0.2.1]:1",
        "[::1%lo]:443",
        "2001:db8::1:443",
        "unix:",
        "a b:1",
        "a/b:1",
        "192.0.2.1:1x",
        "[::g]:1",
        "[localhost]:443",
        "-:x",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (int resolve = 0; resolve < 2; resolve++) {
            struct address address;
            if (address_parse(texts[i], resolve != 0, &address) != ERROR_INVALID) {
                fail_msg("\"%s\" was not refused", texts[i]);
            }
        }
    }
}

static void a_name_is_looked_up_only_when_asked(void **state)
{
    (void)state;
    struct address address;
    assert_int_equal(address_parse("localhost:443", false, &address), ERROR_INVALID);
    assert_int_equal(address_parse("localhost:443", true, &address), ERROR_NONE);
    struct address_compact compact;
    address_pack(&address, &compact);
    assert_int_equal(compact.port, 443);
    assert_int_not_equal(compact.family, 0);
}

static void a_path_fits_to_the_last_byte(void **state)
{
    (void)state;
    struct address address;
    char text[5 + 108 + 1] = "unix:";
    char printed[ADDRESS_TEXT_MAX];
    memset(text + 5, 'x', 107);
    assert_int_equal(address_parse(text, false, &address), ERROR_NONE);
    assert_string_equal(address_format(&address, printed), text);
    text[5 + 107] = 'x';
    assert_int_equal(address_parse(text, false, &address), ERROR_INVALID);
}

static void a_host_that_is_too_long_is_refused(void **state)
{
    (void)state;
    char text[400];
    memset(text, 'a', sizeof(text));
    memcpy(text + sizeof(text) - 5, ":443", 5);
    struct address address;
    assert_int_equal(address_parse(text, true, &address), ERROR_INVALID);
}

static void unusual_addresses_print_too(void **state)
{
    (void)state;
    struct address address;
    char text[ADDRESS_TEXT_MAX];
    memset(&address, 0, sizeof(address));
    assert_string_equal(address_format(&address, text), "-");
    address.u.any.sa_family = AF_UNIX;
    address.length = offsetof(struct sockaddr_un, sun_path); /* an unnamed peer */
    assert_string_equal(address_format(&address, text), "unix:");
    memcpy(address.u.local.sun_path, "\0ab\n", 4);
    address.length = offsetof(struct sockaddr_un, sun_path) + 4;
    assert_string_equal(address_format(&address, text), "unix:@ab@");
    memset(address.u.local.sun_path, 'p', sizeof(address.u.local.sun_path)); /* without a zero */
    address.length = sizeof(address.u.local);
    assert_int_equal(strlen(address_format(&address, text)), 5 + sizeof(address.u.local.sun_path));
    address.u.any.sa_family = AF_APPLETALK;
    assert_string_equal(address_format(&address, text), "-");
    assert_int_equal(address_parse("[::ffff:192.0.2.7]:9", false, &address), ERROR_NONE);
    assert_string_equal(address_format(&address, text), "192.0.2.7:9");
}

static void packing_keeps_ip_addresses(void **state)
{
    (void)state;
    static const char *const texts[] = {"192.0.2.1:443", "[2001:db8::1]:65535", "[::]:0"};
    assert_int_equal(sizeof(struct address_compact), 20);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct address address;
        struct address unpacked;
        struct address_compact compact;
        char text[ADDRESS_TEXT_MAX];
        assert_int_equal(address_parse(texts[i], false, &address), ERROR_NONE);
        address_pack(&address, &compact);
        address_unpack(&compact, &unpacked);
        assert_int_equal(unpacked.length, address.length);
        assert_memory_equal(&unpacked.u, &address.u, address.length);
        assert_string_equal(address_format(&unpacked, text), texts[i]);
    }
}

static void packing_turns_mapped_addresses_into_ip4_and_others_into_none(void **state)
{
    (void)state;
    struct address address;
    struct address_compact compact;
    assert_int_equal(address_parse("[::ffff:192.0.2.7]:9", false, &address), ERROR_NONE);
    address_pack(&address, &compact);
    assert_int_equal(compact.family, 4);
    assert_memory_equal(compact.ip, "\xc0\x00\x02\x07\0\0", 6);
    assert_int_equal(address_parse("unix:/x", false, &address), ERROR_NONE);
    address_pack(&address, &compact);
    assert_int_equal(compact.family, 0);
    address_unpack(&compact, &address);
    assert_int_equal(address.length, 0);
    address_pack(&address, &compact);
    assert_int_equal(compact.family, 0);
}

static void the_host_is_cut_out(void **state)
{
    (void)state;
    char host[16];
    assert_int_equal(address_host("example.com:443", host, sizeof(host)), ERROR_NONE);
    assert_string_equal(host, "example.com");
    assert_int_equal(address_host("[2001:db8::1]:443", host, sizeof(host)), ERROR_NONE);
    assert_string_equal(host, "2001:db8::1");
    assert_int_equal(address_host("abc:1", host, 4), ERROR_NONE);
    assert_int_equal(address_host("abc:1", host, 3), ERROR_INVALID);
    assert_int_equal(address_host("example.com", host, sizeof(host)), ERROR_INVALID);
    assert_int_equal(address_host("unix:/run/x", host, sizeof(host)), ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_is_what_was_parsed),
        cmocka_unit_test(the_parts_of_an_address_are_in_network_order),
        cmocka_unit_test(malformed_text_is_refused),
        cmocka_unit_test(a_name_is_looked_up_only_when_asked),
        cmocka_unit_test(a_path_fits_to_the_last_byte),
        cmocka_unit_test(a_host_that_is_too_long_is_refused),
        cmocka_unit_test(unusual_addresses_print_too),
        cmocka_unit_test(packing_keeps_ip_addresses),
        cmocka_unit_test(packing_turns_mapped_addresses_into_ip4_and_others_into_none),
        cmocka_unit_test(the_host_is_cut_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
