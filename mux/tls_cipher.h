/*
 * What the record layer needs of cryptography, and all of it is GnuTLS's: AEAD, HKDF, comparison in constant time. A
 * connection keeps its secrets only; a cipher that is ready for use (key schedule and tables: some 600 bytes to 1 KB)
 * is made when a record comes and kept in a small cache of the thread, so that only busy connections have one. The
 * cache belongs to its thread and goes with it. Any thread, each for itself.
 */
#ifndef MUX_TLS_CIPHER_H
#define MUX_TLS_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"

#define TLS_CIPHER_TAG_BYTES      16U /* of each of the suites */
#define TLS_CIPHER_NONCE_BYTES    12U
#define TLS_CIPHER_SALT_BYTES     4U /* the fixed part of a nonce of AES-GCM in TLS 1.2 (RFC 5288 section 3) */
#define TLS_CIPHER_KEY_BYTES_MAX  32U
#define TLS_CIPHER_HASH_BYTES_MAX 48U /* SHA-384 */
#define TLS_CIPHER_MATERIAL_MAX   48U /* a traffic secret; or key and nonce of TLS 1.2: 44 at most */
#define TLS_CIPHER_CACHE_COUNT    64U /* ciphers that a thread keeps ready: 32 connections that are busy both ways */

enum tls_cipher_suite {
    TLS_CIPHER_AES_128_GCM,
    TLS_CIPHER_AES_256_GCM,
    TLS_CIPHER_CHACHA20_POLY1305,
    TLS_CIPHER_SUITE_COUNT,
};

/* One direction of a connection, as its cipher is made from. */
struct tls_cipher_source {
    const void *owner;       /* tells connections apart; never looked into */
    const uint8_t *material; /* TLS 1.3: the traffic secret. TLS 1.2: the key, then the fixed part of the nonce */
    uint8_t suite;           /* of enum tls_cipher_suite */
    uint8_t direction;       /* 0 or 1 */
    bool version_13;
};

/* A cipher that is ready. `nonce` is what a sequence number is combined with: 12 bytes, or the salt of 4. */
struct tls_cipher {
    struct api_aead_cipher_hd_st *handle; /* NULL: none */
    uint8_t nonce[TLS_CIPHER_NONCE_BYTES];
};

size_t tls_cipher_key_bytes(enum tls_cipher_suite suite);
size_t tls_cipher_hash_bytes(enum tls_cipher_suite suite);

/* Bytes of the fixed part of the nonce: 4 or 12. */
size_t tls_cipher_nonce_bytes(enum tls_cipher_suite suite, bool version_13);

/* Bytes of one direction's material. */
size_t tls_cipher_material_bytes(enum tls_cipher_suite suite, bool version_13);

/* Finds the cipher in the thread's cache, or makes it and drops another. Valid until the thread's next call of
 * tls_cipher_find or tls_cipher_forget. ERROR_NO_MEMORY, ERROR_TLS_INTERNAL. */
enum error_code tls_cipher_find(const struct tls_cipher_source *source, struct tls_cipher **cipher);

/* Encrypts `length` bytes in place; the tag follows them. ERROR_NO_MEMORY, ERROR_TLS_INTERNAL. */
enum error_code tls_cipher_seal(struct tls_cipher *cipher, const uint8_t nonce[TLS_CIPHER_NONCE_BYTES],
                                const uint8_t *header, size_t header_length, uint8_t *bytes, size_t length);

/* Decrypts in place: `length` counts the tag, which the plaintext has no more. ERROR_TLS_RECORD when the record is not
 * authentic (the bytes are undefined then); otherwise as tls_cipher_seal. */
enum error_code tls_cipher_unseal(struct tls_cipher *cipher, const uint8_t nonce[TLS_CIPHER_NONCE_BYTES],
                                  const uint8_t *header, size_t header_length, uint8_t *bytes, size_t length);

/* Drops the owner's ciphers from the calling thread's cache, and wipes what was derived. */
void tls_cipher_forget(const void *owner);

/* The same for all owners. Done for a thread by itself when it ends. */
void tls_cipher_forget_all(void);

/* How many ciphers the calling thread keeps ready. */
size_t tls_cipher_count(void);

/* Replaces a traffic secret by the next one (RFC 8446 section 7.2). ERROR_NO_MEMORY, ERROR_TLS_INTERNAL; the secret is
 * unchanged then. */
enum error_code tls_cipher_next_secret(enum tls_cipher_suite suite, uint8_t *secret);

/* Derives key and nonce from a traffic secret (RFC 8446 section 7.3). */
enum error_code tls_cipher_derive(enum tls_cipher_suite suite, const uint8_t *secret,
                                  uint8_t key[TLS_CIPHER_KEY_BYTES_MAX], uint8_t nonce[TLS_CIPHER_NONCE_BYTES]);

/* In constant time. */
bool tls_cipher_equal(const void *one, const void *other, size_t length);

#endif
