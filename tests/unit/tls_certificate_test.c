/* The names that certificates bear, and base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "mux/memory.h"
#include "mux/tls_internal.h"
#include "tests/unit/test_pki.h"

static struct test_pki pki;

static int set_up(void **state)
{
    (void)state;
    return test_pki_create(&pki) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    test_pki_remove(&pki);
    return 0;
}

/* A certificate with these names as DER; the caller frees it with gnutls_free. */
static gnutls_datum_t certificate(const char *common_name, const char *const *names)
{
    struct test_pki_request request = {.file = "named", .common_name = common_name, .names = names};
    struct test_identity identity;
    gnutls_x509_crt_t parsed;
    gnutls_datum_t pem;
    gnutls_datum_t der;

    assert_true(test_pki_issue(&pki, &request, &identity));
    assert_int_equal(gnutls_load_file(identity.certificate, &pem), 0);
    assert_int_equal(gnutls_x509_crt_init(&parsed), 0);
    assert_int_equal(gnutls_x509_crt_import(parsed, &pem, GNUTLS_X509_FMT_PEM), 0);
    assert_int_equal(gnutls_x509_crt_export2(parsed, GNUTLS_X509_FMT_DER, &der), 0);
    gnutls_x509_crt_deinit(parsed);
    gnutls_free(pem.data);
    return der;
}

static void alternative_names_are_matched_and_hide_the_common_name(void **state)
{
    (void)state;
    static const char *const names[] = {"edge.example", "*.Wild.example", "192.0.2.7", "2001:db8::7", NULL};
    static const struct {
        const char *name;
        bool borne;
    } cases[] = {
        {"edge.example", true},
        {"EDGE.example", true},
        {"edge.exampl", false},
        {"edge.example.", false},
        {"a.wild.example", true},
        {"A.WILD.EXAMPLE", true},
        {"a.b.wild.example", false},
        {"wild.example", false},
        {".wild.example", false},
        {"*.wild.example", true},
        {"192.0.2.7", true},
        {"192.0.2.8", false},
        {"2001:db8::7", true},
        {"2001:db8:0:0::7", true},
        {"2001:db8::8", false},
        {"common", false},
        {"", false},
    };
    gnutls_datum_t der = certificate("common", names);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (tls_certificate_has_name(der.data, der.size, cases[i].name) != cases[i].borne) {
            fail_msg("%s", cases[i].name);
        }
    }
    gnutls_free(der.data);
}

static void the_common_name_counts_without_alternative_names(void **state)
{
    (void)state;
    char name[64];
    gnutls_datum_t der = certificate("edge-7", NULL);
    assert_true(tls_certificate_has_name(der.data, der.size, "edge-7"));
    assert_false(tls_certificate_has_name(der.data, der.size, "edge-8"));
    tls_certificate_name(der.data, der.size, name, sizeof(name));
    assert_string_equal(name, "edge-7");
    gnutls_free(der.data);
}

static void the_first_name_is_told_for_logs(void **state)
{
    (void)state;
    static const char *const hosts[] = {"edge.example", "192.0.2.7", NULL};
    static const char *const addresses[] = {"2001:db8::7", NULL};
    char name[64];
    gnutls_datum_t der = certificate("common", hosts);
    tls_certificate_name(der.data, der.size, name, sizeof(name));
    assert_string_equal(name, "edge.example");
    tls_certificate_name(der.data, der.size, name, 5);
    assert_string_equal(name, "edge");
    tls_certificate_name(der.data, der.size, name, 0);
    assert_string_equal(name, "edge");
    gnutls_free(der.data);
    der = certificate("common", addresses);
    tls_certificate_name(der.data, der.size, name, sizeof(name));
    assert_string_equal(name, "2001:db8::7");
    gnutls_free(der.data);
    der = certificate("evil\n\x1b[31mname", NULL);
    tls_certificate_name(der.data, der.size, name, sizeof(name));
    assert_string_equal(name, "evil??[31mname");
    gnutls_free(der.data);
}

static void what_is_no_certificate_has_no_name(void **state)
{
    (void)state;
    char name[8] = "before";
    assert_false(tls_certificate_has_name((const uint8_t *)"\x30\x03\x02\x01\x01", 5, "edge"));
    assert_false(tls_certificate_has_name(NULL, 0, "edge"));
    tls_certificate_name((const uint8_t *)"\x30\x03\x02\x01\x01", 5, name, sizeof(name));
    assert_string_equal(name, "");
}

static void collecting_names_survives_each_failing_allocation(void **state)
{
    (void)state;
    static const char *const names[] = {"One.example", "two.example", "192.0.2.7", NULL};
    gnutls_datum_t der = certificate("common", names);
    gnutls_x509_crt_t parsed;
    assert_int_equal(gnutls_x509_crt_init(&parsed), 0);
    assert_int_equal(gnutls_x509_crt_import(parsed, &der, GNUTLS_X509_FMT_DER), 0);
    for (uint64_t nth = 1;; nth++) {
        struct tls_names collected;
        assert_true(nth < 20);
        memory_fail_at(nth);
        enum error_code error = tls_names_collect(&collected, parsed);
        uint64_t faults = memory_faults();
        memory_fail_at(0);
        if (faults == 0) {
            assert_int_equal(error, ERROR_NONE);
            assert_int_equal(collected.count, 2);
            assert_string_equal(collected.texts[0], "one.example");
            assert_true(tls_names_match(&collected, "TWO.example"));
            assert_false(tls_names_match(&collected, "common"));
            tls_names_dispose(&collected);
            break;
        }
        assert_int_equal(error, ERROR_NO_MEMORY);
        assert_null(collected.texts);
    }
    gnutls_x509_crt_deinit(parsed);
    gnutls_free(der.data);
}

/* ---- base64 ---- */

static void base64_agrees_with_rfc_4648_section_10(void **state)
{
    (void)state;
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xfe", "+//+"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        const uint8_t *plain = (const uint8_t *)vectors[i][0];
        size_t plain_length = strlen(vectors[i][0]);
        size_t text_length = strlen(vectors[i][1]);
        char text[16];
        uint8_t bytes[16];
        size_t written = 99;
        assert_int_equal(tls_base64_encode(plain, plain_length, text, text_length + 1, &written), ERROR_NONE);
        assert_int_equal(written, text_length);
        assert_string_equal(text, vectors[i][1]);
        assert_int_equal(tls_base64_encode(plain, plain_length, text, text_length, &written), ERROR_LIMIT);
        assert_int_equal(tls_base64_decode(vectors[i][1], text_length, bytes, plain_length, &written), ERROR_NONE);
        assert_int_equal(written, plain_length);
        assert_memory_equal(bytes, plain, plain_length);
        if (plain_length > 0) {
            assert_int_equal(tls_base64_decode(vectors[i][1], text_length, bytes, plain_length - 1, &written),
                             ERROR_LIMIT);
            assert_int_equal(written, 0);
        }
    }
}

static void base64_of_any_length_comes_back(void **state)
{
    (void)state;
    static uint8_t plain[3000];
    static uint8_t bytes[sizeof(plain)];
    static char text[4 * sizeof(plain) / 3 + 8];
    for (size_t i = 0; i < sizeof(plain); i++) {
        plain[i] = (uint8_t)(i * 7 + i / 256);
    }
    for (size_t length = 0; length < sizeof(plain); length += 1 + length / 8) {
        size_t text_length = 0;
        size_t written = 0;
        assert_int_equal(tls_base64_encode(plain, length, text, sizeof(text), &text_length), ERROR_NONE);
        assert_int_equal(text_length, 4 * ((length + 2) / 3));
        assert_null(strpbrk(text, "\r\n "));
        assert_int_equal(tls_base64_decode(text, text_length, bytes, 3 * text_length / 4, &written), ERROR_NONE);
        assert_int_equal(written, length);
        assert_memory_equal(bytes, plain, length);
    }
}

static void base64_that_is_malformed_is_refused(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "Z", "Zg", "Zg=", "Zm9vY", "Zm9v=", "====", "Z===", "Zg==Zg==", "Zm 9", "Zm9\n", "Zm-_", "Z=g=", "Zh==",
    };
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        uint8_t bytes[16];
        size_t written = 99;
        if (tls_base64_decode(malformed[i], strlen(malformed[i]), bytes, sizeof(bytes), &written) != ERROR_INVALID) {
            fail_msg("%s", malformed[i]);
        }
        assert_int_equal(written, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alternative_names_are_matched_and_hide_the_common_name),
        cmocka_unit_test(the_common_name_counts_without_alternative_names),
        cmocka_unit_test(the_first_name_is_told_for_logs),
        cmocka_unit_test(what_is_no_certificate_has_no_name),
        cmocka_unit_test(collecting_names_survives_each_failing_allocation),
        cmocka_unit_test(base64_agrees_with_rfc_4648_section_10),
        cmocka_unit_test(base64_of_any_length_comes_back),
        cmocka_unit_test(base64_that_is_malformed_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
