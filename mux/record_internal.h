/*
 * What the record layer's files share: both directions of protection, and failing. Besides them
 * only the gate in front of a handshake (mux/tls_gate.c) includes it. As mux/record.h on threads and ownership.
 */
#ifndef MUX_RECORD_INTERNAL_H
#define MUX_RECORD_INTERNAL_H

#include "mux/record.h"

#define RECORD_EXPLICIT_NONCE_BYTES 8U /* AES-GCM in TLS 1.2 (RFC 5288 section 3) */
#define RECORD_ADDITIONAL_BYTES_MAX 13U
#define RECORD_EXPANSION_MAX_13     256U  /* of a plaintext that is protected (RFC 8446 section 5.2) */
#define RECORD_EXPANSION_MAX_12     2048U /* RFC 5246 section 6.2.3 */
#define RECORD_NO_ALERT             (-1)

enum record_type {
    RECORD_TYPE_NONE = 0,
    RECORD_TYPE_CHANGE_CIPHER_SPEC = 20,
    RECORD_TYPE_ALERT = 21,
    RECORD_TYPE_HANDSHAKE = 22,
    RECORD_TYPE_APPLICATION_DATA = 23,
};

enum record_message {
    RECORD_MESSAGE_HELLO_REQUEST = 0,
    RECORD_MESSAGE_CLIENT_HELLO = 1,
    RECORD_MESSAGE_NEW_SESSION_TICKET = 4,
    RECORD_MESSAGE_KEY_UPDATE = 24,
};

enum record_alert_level { RECORD_ALERT_WARNING = 1, RECORD_ALERT_FATAL = 2 };

#define RECORD_TICKET_BYTES_MAX 131338U /* the largest that RFC 8446 section 4.6.1 can describe */

/* A handshake message or an alert that has begun in one record and goes on in the next; all zero when none has. */
struct record_begun {
    uint32_t skip_bytes;                   /* of a NewSessionTicket that have not come yet */
    uint8_t message_length;                /* bytes in `message` */
    uint8_t message[RECORD_MESSAGE_BYTES]; /* the beginning of a handshake message */
    uint8_t alert_begun;                   /* TLS 1.2: `alert_level` is the first half of an alert */
    uint8_t alert_level;
};

/* Memory follows what has come, not what a header announces: nobody gets 16 KB of ours for 5 bytes. Freed when no
 * record is incomplete and nothing else has begun. */
struct record_partial {
    struct record_begun begun;
    uint32_t length; /* of the incomplete record; 0: none */
    uint32_t capacity;
    uint8_t bytes[];
};

static inline uint8_t *record_material(struct record_state *record, enum record_direction direction)
{
    uint8_t *both = (uint8_t *)(record + 1);

    return direction == RECORD_READ
               ? both
               : both + tls_cipher_material_bytes((enum tls_cipher_suite)record->suite, record->version_13);
}

/* Plaintext bytes of a record, at most. */
static inline size_t record_plaintext_max(const struct record_state *record, enum record_direction direction)
{
    return direction == RECORD_WRITE || record->size_mutual ? record->size_less_one + (size_t)1 : RECORD_PLAINTEXT_MAX;
}

/* The cipher of a direction, ready. ERROR_NO_MEMORY, ERROR_TLS_INTERNAL. */
enum error_code record_cipher(struct record_state *record, enum record_direction direction, struct tls_cipher **cipher);

/* Nonce of the direction's next record. `explicit_nonce` is what the record bears of it; NULL where it bears none. */
void record_nonce(const struct record_state *record, enum record_direction direction, const struct tls_cipher *cipher,
                  const uint8_t *explicit_nonce, uint8_t nonce[TLS_CIPHER_NONCE_BYTES]);

/* Additional data of the direction's next record; returns how many bytes. */
size_t record_additional(const struct record_state *record, enum record_direction direction,
                         const uint8_t header[RECORD_HEADER_BYTES], size_t plaintext_length,
                         uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX]);

/* Bytes that each record bears in front of its ciphertext. */
static inline size_t record_explicit_bytes(const struct record_state *record)
{
    bool explicit_nonce = !record->version_13 && record->suite != TLS_CIPHER_CHACHA20_POLY1305;

    return explicit_nonce ? RECORD_EXPLICIT_NONCE_BYTES : 0;
}

/* The direction goes on with its next traffic secret. ERROR_NO_MEMORY, ERROR_TLS_INTERNAL. */
enum error_code record_next_keys(struct record_state *record, enum record_direction direction);

/* The one way into failure. At most one alert goes out, and none after close_notify. Returns the error that counts: the
 * first. */
enum error_code record_fail(struct record_state *record, const struct record_sink *sink, enum error_code error,
                            int alert);

/* Fails for a reason of our own: memory, or the library. */
enum error_code record_fail_self(struct record_state *record, const struct record_sink *sink, enum error_code error);

/* Sends one alert and nothing else. */
enum error_code record_send_alert(struct record_state *record, const struct record_sink *sink,
                                  enum record_alert_level level, uint8_t alert);

/* Room for `length` bytes in all, of a record that will have `whole`. ERROR_NO_MEMORY. */
enum error_code record_partial_reserve(struct record_state *record, size_t length, size_t whole);

/* What can be said of a record before its body has come: ERROR_NONE, or as record_fail. */
enum error_code record_check_header(struct record_state *record, const struct record_sink *sink,
                                    const uint8_t header[RECORD_HEADER_BYTES]);

/* Sends the KeyUpdate that is due. */
enum error_code record_send_due(struct record_state *record, const struct record_sink *sink);

#endif
