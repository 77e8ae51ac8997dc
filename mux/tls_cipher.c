/*
 * AEAD and HKDF of GnuTLS, and the thread's cache of ciphers that are ready. The cache is a table of sets: a direction
 * of a connection belongs to one set, in which it pushes out the cipher that was not used for longest. A cipher that is
 * found is the right one because the material that it was made from is compared, not because nobody forgot to drop
 * another: so a connection may move to another thread, and memory may be used again, without harm.
 */
#include "mux/tls_cipher.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "mux/memory.h"

#define WAYS            4U
#define SETS            (TLS_CIPHER_CACHE_COUNT / WAYS)
#define LABEL_BYTES_MAX 20U /* "tls13 traffic upd" and what goes around it */

struct cipher_slot {
    struct tls_cipher cipher; /* no handle: the slot is free */
    const void *owner;
    uint64_t used_at; /* of the cache's count of uses */
    uint8_t direction;
    uint8_t suite;
    bool version_13;
    uint8_t material[TLS_CIPHER_MATERIAL_MAX];
};

struct cipher_cache {
    struct cipher_slot slots[SETS][WAYS];
    uint64_t uses;
    size_t count;
    bool watched; /* it is emptied when its thread ends */
};

static _Thread_local struct cipher_cache cache;

static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_end_key;
static bool thread_end_known;

static const struct {
    gnutls_cipher_algorithm_t cipher;
    gnutls_mac_algorithm_t hash;
    uint8_t key_bytes;
    uint8_t hash_bytes;
    uint8_t nonce_bytes_12; /* of the fixed part in TLS 1.2: RFC 5288 section 3, RFC 7905 section 2 */
} suites[TLS_CIPHER_SUITE_COUNT] = {
    [TLS_CIPHER_AES_128_GCM] = {GNUTLS_CIPHER_AES_128_GCM, GNUTLS_MAC_SHA256, 16, 32, TLS_CIPHER_SALT_BYTES},
    [TLS_CIPHER_AES_256_GCM] = {GNUTLS_CIPHER_AES_256_GCM, GNUTLS_MAC_SHA384, 32, 48, TLS_CIPHER_SALT_BYTES},
    [TLS_CIPHER_CHACHA20_POLY1305] = {GNUTLS_CIPHER_CHACHA20_POLY1305, GNUTLS_MAC_SHA256, 32, 32,
                                      TLS_CIPHER_NONCE_BYTES},
};

size_t tls_cipher_key_bytes(enum tls_cipher_suite suite)
{
    return suites[suite].key_bytes;
}

size_t tls_cipher_hash_bytes(enum tls_cipher_suite suite)
{
    return suites[suite].hash_bytes;
}

size_t tls_cipher_nonce_bytes(enum tls_cipher_suite suite, bool version_13)
{
    return version_13 ? TLS_CIPHER_NONCE_BYTES : suites[suite].nonce_bytes_12;
}

size_t tls_cipher_material_bytes(enum tls_cipher_suite suite, bool version_13)
{
    return version_13 ? suites[suite].hash_bytes : (size_t)suites[suite].key_bytes + suites[suite].nonce_bytes_12;
}

bool tls_cipher_equal(const void *one, const void *other, size_t length)
{
    return gnutls_memcmp(one, other, length) == 0;
}

static enum error_code error_of(int result)
{
    return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_TLS_INTERNAL;
}

/* ---- key schedule ---- */

/* HKDF-Expand-Label with an empty context (RFC 8446 section 7.1). */
static enum error_code expand_label(enum tls_cipher_suite suite, const uint8_t *secret, const char *label,
                                    uint8_t *into, size_t length)
{
    static const char prefix[] = "tls13 ";
    uint8_t text[LABEL_BYTES_MAX + 4];
    size_t label_length = strlen(label);
    size_t at = 0;

    text[at++] = (uint8_t)(length >> 8);
    text[at++] = (uint8_t)length;
    text[at++] = (uint8_t)(sizeof(prefix) - 1 + label_length);
    memcpy(text + at, prefix, sizeof(prefix) - 1);
    at += sizeof(prefix) - 1;
    assert(at + label_length < sizeof(text));
    memcpy(text + at, label, label_length);
    at += label_length;
    text[at++] = 0;
    gnutls_datum_t key = {.data = (unsigned char *)(uintptr_t)secret, .size = suites[suite].hash_bytes};
    gnutls_datum_t info = {.data = text, .size = (unsigned)at};
    int result = gnutls_hkdf_expand(suites[suite].hash, &key, &info, into, length);
    return result < 0 ? error_of(result) : ERROR_NONE;
}

enum error_code tls_cipher_next_secret(enum tls_cipher_suite suite, uint8_t *secret)
{
    uint8_t next[TLS_CIPHER_HASH_BYTES_MAX];
    enum error_code error = expand_label(suite, secret, "traffic upd", next, suites[suite].hash_bytes);

    if (error == ERROR_NONE) {
        memcpy(secret, next, suites[suite].hash_bytes);
    }
    memory_wipe(next, sizeof(next));
    return error;
}

enum error_code tls_cipher_derive(enum tls_cipher_suite suite, const uint8_t *secret,
                                  uint8_t key[TLS_CIPHER_KEY_BYTES_MAX], uint8_t nonce[TLS_CIPHER_NONCE_BYTES])
{
    enum error_code error = expand_label(suite, secret, "key", key, suites[suite].key_bytes);

    return error != ERROR_NONE ? error : expand_label(suite, secret, "iv", nonce, TLS_CIPHER_NONCE_BYTES);
}

/* ---- cache ---- */

static void slot_empty(struct cipher_slot *slot)
{
    if (slot->cipher.handle != NULL) {
        gnutls_aead_cipher_deinit(slot->cipher.handle);
        memory_wipe(slot, sizeof(*slot));
        cache.count--;
    }
}

void tls_cipher_forget_all(void)
{
    for (size_t i = 0; i < SETS; i++) {
        for (size_t k = 0; k < WAYS; k++) {
            slot_empty(&cache.slots[i][k]);
        }
    }
}

static void thread_ends(void *marker)
{
    (void)marker;
    tls_cipher_forget_all();
}

static void thread_end_prepare(void)
{
    thread_end_known = pthread_key_create(&thread_end_key, thread_ends) == 0;
}

/* False when nobody would empty the cache at the thread's end: then nothing may stay in it. */
static bool cache_watched(void)
{
    if (!cache.watched) {
        pthread_once(&thread_end_once, thread_end_prepare);
        cache.watched = thread_end_known && pthread_setspecific(thread_end_key, &cache) == 0;
    }
    return cache.watched;
}

static struct cipher_slot *set_of(const void *owner, unsigned direction)
{
    uint64_t hash = ((uint64_t)(uintptr_t)owner >> 4) * 0x9e3779b97f4a7c15U;

    return cache.slots[((hash >> 32) + direction) % SETS];
}

static bool slot_serves(const struct cipher_slot *slot, const struct tls_cipher_source *source)
{
    size_t length = tls_cipher_material_bytes(source->suite, source->version_13);

    return slot->cipher.handle != NULL && slot->owner == source->owner && slot->direction == source->direction &&
           slot->suite == source->suite && slot->version_13 == source->version_13 &&
           tls_cipher_equal(slot->material, source->material, length);
}

static enum error_code slot_fill(struct cipher_slot *slot, const struct tls_cipher_source *source)
{
    uint8_t key[TLS_CIPHER_KEY_BYTES_MAX];
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES] = {0};
    size_t key_bytes = suites[source->suite].key_bytes;
    enum error_code error = ERROR_NONE;

    if (source->version_13) {
        error = tls_cipher_derive(source->suite, source->material, key, nonce);
    } else {
        memcpy(key, source->material, key_bytes);
        memcpy(nonce, source->material + key_bytes, suites[source->suite].nonce_bytes_12);
    }
    if (error == ERROR_NONE) {
        gnutls_datum_t datum = {.data = key, .size = (unsigned)key_bytes};
        int result = gnutls_aead_cipher_init(&slot->cipher.handle, suites[source->suite].cipher, &datum);
        if (result < 0) {
            slot->cipher.handle = NULL;
            error = error_of(result);
        }
    }
    if (error == ERROR_NONE) {
        cache.count++;
        slot->owner = source->owner;
        slot->direction = source->direction;
        slot->suite = source->suite;
        slot->version_13 = source->version_13;
        memcpy(slot->cipher.nonce, nonce, sizeof(nonce));
        memcpy(slot->material, source->material, tls_cipher_material_bytes(source->suite, source->version_13));
    }
    memory_wipe(key, sizeof(key));
    memory_wipe(nonce, sizeof(nonce));
    return error;
}

enum error_code tls_cipher_find(const struct tls_cipher_source *source, struct tls_cipher **cipher)
{
    struct cipher_slot *set = set_of(source->owner, source->direction);
    struct cipher_slot *oldest = &set[0];

    for (size_t i = 0; i < WAYS; i++) {
        if (slot_serves(&set[i], source)) {
            set[i].used_at = ++cache.uses;
            *cipher = &set[i].cipher;
            return ERROR_NONE;
        }
        /* What the owner used before a change of keys goes first: those keys are to be wiped. */
        if (set[i].owner == source->owner && set[i].direction == source->direction) {
            slot_empty(&set[i]);
        }
        if (set[i].used_at < oldest->used_at) {
            oldest = &set[i];
        }
    }
    if (!cache_watched()) {
        tls_cipher_forget_all();
    }
    slot_empty(oldest);
    enum error_code error = slot_fill(oldest, source);
    if (error != ERROR_NONE) {
        return error;
    }
    oldest->used_at = ++cache.uses;
    *cipher = &oldest->cipher;
    return ERROR_NONE;
}

void tls_cipher_forget(const void *owner)
{
    for (unsigned direction = 0; direction < 2 && cache.count > 0; direction++) {
        struct cipher_slot *set = set_of(owner, direction);
        for (size_t i = 0; i < WAYS; i++) {
            if (set[i].owner == owner) {
                slot_empty(&set[i]);
            }
        }
    }
}

size_t tls_cipher_count(void)
{
    return cache.count;
}

/* ---- records ---- */

enum error_code tls_cipher_seal(struct tls_cipher *cipher, const uint8_t nonce[TLS_CIPHER_NONCE_BYTES],
                                const uint8_t *header, size_t header_length, uint8_t *bytes, size_t length)
{
    size_t sealed = length + TLS_CIPHER_TAG_BYTES;
    int result = gnutls_aead_cipher_encrypt(cipher->handle, nonce, TLS_CIPHER_NONCE_BYTES, header, header_length,
                                            TLS_CIPHER_TAG_BYTES, bytes, length, bytes, &sealed);

    if (result < 0) {
        return error_of(result);
    }
    assert(sealed == length + TLS_CIPHER_TAG_BYTES);
    return ERROR_NONE;
}

enum error_code tls_cipher_unseal(struct tls_cipher *cipher, const uint8_t nonce[TLS_CIPHER_NONCE_BYTES],
                                  const uint8_t *header, size_t header_length, uint8_t *bytes, size_t length)
{
    size_t opened = length - TLS_CIPHER_TAG_BYTES;
    int result = gnutls_aead_cipher_decrypt(cipher->handle, nonce, TLS_CIPHER_NONCE_BYTES, header, header_length,
                                            TLS_CIPHER_TAG_BYTES, bytes, length, bytes, &opened);

    if (result == GNUTLS_E_DECRYPTION_FAILED) {
        return ERROR_TLS_RECORD;
    }
    if (result < 0) {
        return error_of(result);
    }
    assert(opened == length - TLS_CIPHER_TAG_BYTES);
    return ERROR_NONE;
}
