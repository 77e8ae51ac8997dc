/*
 * The thread's cache of ciphers: who gets which, who is pushed out, what is left behind; and GnuTLS failing at each
 * call of its own, under the record layer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mux/tls_cipher.h"
#include "tests/unit/record_pair.h"

/* ---- GnuTLS, failing at will: the linker sends calls here ---- */

int __wrap_gnutls_aead_cipher_init(gnutls_aead_cipher_hd_t *handle, gnutls_cipher_algorithm_t cipher,
                                   const gnutls_datum_t *key);
int __real_gnutls_aead_cipher_init(gnutls_aead_cipher_hd_t *handle, gnutls_cipher_algorithm_t cipher,
                                   const gnutls_datum_t *key);
int __wrap_gnutls_hkdf_expand(gnutls_mac_algorithm_t mac, const gnutls_datum_t *key, const gnutls_datum_t *info,
                              void *output, size_t length);
int __real_gnutls_hkdf_expand(gnutls_mac_algorithm_t mac, const gnutls_datum_t *key, const gnutls_datum_t *info,
                              void *output, size_t length);

static struct {
    unsigned fail_at; /* 1: the next call; 0: none */
    int result;
    unsigned failed;
    unsigned ciphers_made;
} library;

static bool library_fails(void)
{
    if (library.fail_at == 0 || --library.fail_at > 0) {
        return false;
    }
    library.failed++;
    return true;
}

int __wrap_gnutls_aead_cipher_init(gnutls_aead_cipher_hd_t *handle, gnutls_cipher_algorithm_t cipher,
                                   const gnutls_datum_t *key)
{
    library.ciphers_made++;
    return library_fails() ? library.result : __real_gnutls_aead_cipher_init(handle, cipher, key);
}

int __wrap_gnutls_hkdf_expand(gnutls_mac_algorithm_t mac, const gnutls_datum_t *key, const gnutls_datum_t *info,
                              void *output, size_t length)
{
    return library_fails() ? library.result : __real_gnutls_hkdf_expand(mac, key, info, output, length);
}

static int set_up(void **state)
{
    (void)state;
    memset(&library, 0, sizeof(library));
    return 0;
}

/* ---- cache ---- */

static const uint8_t secrets[2][TLS_CIPHER_MATERIAL_MAX] = {{1}, {2}};

static struct tls_cipher_source source_of(const void *owner, unsigned direction)
{
    return (struct tls_cipher_source){.owner = owner,
                                      .material = secrets[0],
                                      .suite = TLS_CIPHER_AES_128_GCM,
                                      .direction = (uint8_t)direction,
                                      .version_13 = true};
}

static void a_busy_connection_keeps_its_cipher(void **state)
{
    (void)state;
    int owner;
    struct tls_cipher *first = NULL;
    for (unsigned i = 0; i < 100; i++) {
        struct tls_cipher *cipher = NULL;
        struct tls_cipher_source source = source_of(&owner, 0);
        assert_int_equal(tls_cipher_find(&source, &cipher), ERROR_NONE);
        assert_true(first == NULL || cipher == first);
        first = cipher;
    }
    assert_int_equal(library.ciphers_made, 1);
    assert_int_equal(tls_cipher_count(), 1);
    tls_cipher_forget(&owner);
    assert_int_equal(tls_cipher_count(), 0);
}

static void the_cache_is_bounded_and_idle_connections_make_room(void **state)
{
    (void)state;
    static uint64_t owners[5000][8];
    struct tls_cipher *cipher = NULL;
    struct tls_cipher_source busy = source_of(owners[0], 1);
    for (size_t i = 1; i < 5000; i++) {
        struct tls_cipher_source source = source_of(owners[i], i % 2);
        assert_int_equal(tls_cipher_find(&busy, &cipher), ERROR_NONE);
        assert_int_equal(tls_cipher_find(&source, &cipher), ERROR_NONE);
        assert_true(tls_cipher_count() <= TLS_CIPHER_CACHE_COUNT);
    }
    assert_int_equal(library.ciphers_made, 5000); /* the busy one was never pushed out */
    assert_true(tls_cipher_count() > TLS_CIPHER_CACHE_COUNT * 3 / 4);
    tls_cipher_forget_all();
    assert_int_equal(tls_cipher_count(), 0);
}

/* An address that is used again, or a connection that comes back from another thread with new keys. */
static void a_cipher_serves_only_the_secret_that_it_was_made_from(void **state)
{
    (void)state;
    int owner;
    struct tls_cipher *cipher = NULL;
    struct tls_cipher_source source = source_of(&owner, 0);
    assert_int_equal(tls_cipher_find(&source, &cipher), ERROR_NONE);
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
    memcpy(nonce, cipher->nonce, sizeof(nonce));
    source.material = secrets[1];
    assert_int_equal(tls_cipher_find(&source, &cipher), ERROR_NONE);
    assert_memory_not_equal(cipher->nonce, nonce, sizeof(nonce));
    assert_int_equal(library.ciphers_made, 2);
    assert_int_equal(tls_cipher_count(), 1); /* the old one is gone */
    source.version_13 = false;
    assert_int_equal(tls_cipher_find(&source, &cipher), ERROR_NONE);
    source.suite = TLS_CIPHER_CHACHA20_POLY1305;
    assert_int_equal(tls_cipher_find(&source, &cipher), ERROR_NONE);
    assert_int_equal(library.ciphers_made, 4);
    tls_cipher_forget(&owner);
    assert_int_equal(tls_cipher_count(), 0);
}

static void *use_and_end(void *argument)
{
    struct tls_cipher *cipher = NULL;

    for (size_t i = 0; i < 40; i++) {
        struct tls_cipher_source source = source_of((char *)argument + 16 * i, 0);
        if (tls_cipher_find(&source, &cipher) != ERROR_NONE) {
            return NULL;
        }
    }
    return tls_cipher_count() > 0 ? argument : NULL;
}

/* A leak would be reported by the address sanitizer. */
static void a_thread_takes_its_ciphers_with_it(void **state)
{
    (void)state;
    static char owners[1024];
    for (unsigned i = 0; i < 3; i++) {
        pthread_t thread;
        void *result = NULL;
        assert_int_equal(pthread_create(&thread, NULL, use_and_end, owners), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_ptr_equal(result, owners);
        assert_int_equal(tls_cipher_count(), 0);
    }
}

static void a_secret_that_cannot_be_replaced_stays_as_it_was(void **state)
{
    (void)state;
    uint8_t secret[TLS_CIPHER_HASH_BYTES_MAX] = {7};
    uint8_t before[sizeof(secret)];
    memcpy(before, secret, sizeof(secret));
    library.fail_at = 1;
    library.result = GNUTLS_E_MEMORY_ERROR;
    assert_int_equal(tls_cipher_next_secret(TLS_CIPHER_AES_256_GCM, secret), ERROR_NO_MEMORY);
    assert_memory_equal(secret, before, sizeof(secret));
    assert_int_equal(tls_cipher_next_secret(TLS_CIPHER_AES_256_GCM, secret), ERROR_NONE);
    assert_memory_not_equal(secret, before, sizeof(secret));
}

/* ---- the record layer over a library that fails ---- */

/* Both directions, a change of keys, an end: with the nth call of the library failing. True when none was left to fail.
 */
static bool run_with_fault(unsigned nth, int result, enum error_code expected)
{
    struct record_pair pair;

    record_pair_init(&pair, true, TLS_CIPHER_AES_128_GCM, 0);
    pair.server.echo = false;
    library.failed = 0;
    library.fail_at = nth;
    library.result = result;
    enum error_code sent = record_end_send(&pair.client, "one", 3);
    sent = sent == ERROR_NONE ? record_end_update(&pair.client, true) : sent;
    sent = sent == ERROR_NONE ? record_end_send(&pair.client, "two", 3) : sent;
    uint64_t sequence = record_of(&pair.client)->sequence[RECORD_WRITE];
    record_pair_carry(&pair);
    library.fail_at = 0;
    bool faulty = library.failed > 0;
    if (faulty) {
        assert_true(sent == expected || pair.server.error == expected || pair.client.error == expected);
        assert_int_equal(pair.client.ends + pair.server.ends, 0);
        assert_true(pair.server.received.length == 0 || pair.server.received.length == 3 ||
                    pair.server.received.length == 6);
        if (sent != ERROR_NONE) {
            assert_int_equal(record_end_send(&pair.client, "more", 4), ERROR_STATE);
            assert_true(record_of(&pair.client)->sequence[RECORD_WRITE] >= sequence);
        }
    } else {
        assert_int_equal(sent + pair.server.error + pair.client.error, ERROR_NONE);
        assert_int_equal(pair.server.received.length, 6);
    }
    record_pair_dispose(&pair);
    assert_int_equal(tls_cipher_count(), 0);
    return !faulty;
}

static void a_library_that_fails_ends_the_connection_and_nothing_else(void **state)
{
    (void)state;
    unsigned nth = 1;
    while (!run_with_fault(nth, GNUTLS_E_MEMORY_ERROR, ERROR_NO_MEMORY)) {
        assert_false(run_with_fault(nth, GNUTLS_E_INTERNAL_ERROR, ERROR_TLS_INTERNAL));
        nth++;
    }
    assert_in_range(nth, 10, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_busy_connection_keeps_its_cipher, set_up),
        cmocka_unit_test_setup(the_cache_is_bounded_and_idle_connections_make_room, set_up),
        cmocka_unit_test_setup(a_cipher_serves_only_the_secret_that_it_was_made_from, set_up),
        cmocka_unit_test_setup(a_thread_takes_its_ciphers_with_it, set_up),
        cmocka_unit_test_setup(a_secret_that_cannot_be_replaced_stays_as_it_was, set_up),
        cmocka_unit_test_setup(a_library_that_fails_ends_the_connection_and_nothing_else, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
