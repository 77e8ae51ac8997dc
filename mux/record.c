/*
 * What both directions of the record layer have in common: keys, nonces, additional data; beginning, failing and
 * ending. Receiving is in record_input.c, sending in record_output.c.
 */
#include "mux/record_internal.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "mux/memory.h"

_Static_assert(sizeof(struct record_state) == 32, "the layout that mux/record.h documents");

static void put_number(uint8_t into[8], uint64_t number)
{
    for (unsigned i = 0; i < 8; i++) {
        into[i] = (uint8_t)(number >> (56 - 8 * i));
    }
}

size_t record_material_bytes(enum tls_cipher_suite suite, bool version_13)
{
    return 2 * tls_cipher_material_bytes(suite, version_13);
}

void record_init(struct record_state *record, const struct record_parameters *parameters)
{
    size_t length = tls_cipher_material_bytes(parameters->suite, parameters->version_13);
    size_t send_max = parameters->send_max;

    memset(record, 0, sizeof(*record));
    record->server = parameters->server;
    record->version_13 = parameters->version_13;
    record->suite = (uint8_t)parameters->suite & 3U;
    send_max = send_max == 0 || send_max > RECORD_PLAINTEXT_MAX ? RECORD_PLAINTEXT_MAX : send_max;
    record->size_less_one = (send_max - 1) & 0x3fffU;
    record->size_mutual = parameters->mutual;
    for (int i = RECORD_READ; i <= RECORD_WRITE; i++) {
        record->sequence[i] = parameters->sequence[i];
        memcpy(record_material(record, (enum record_direction)i), parameters->material[i], length);
    }
}

bool record_incomplete(const struct record_state *record)
{
    return record->partial != NULL;
}

int record_last_alert(const struct record_state *record)
{
    return record->alert_received ? -(int)record->alert : (int)record->alert;
}

enum error_code record_cipher(struct record_state *record, enum record_direction direction, struct tls_cipher **cipher)
{
    struct tls_cipher_source source = {
        .owner = record,
        .material = record_material(record, direction),
        .suite = record->suite,
        .direction = (uint8_t)direction,
        .version_13 = record->version_13,
    };
    return tls_cipher_find(&source, cipher);
}

/* TLS 1.3 and ChaCha20-Poly1305: the sequence number goes over the fixed part (RFC 8446 section 5.3, RFC 7905 section
 * 2). AES-GCM in TLS 1.2: it follows the fixed part, as the sender wrote it (RFC 5288 section 3). */
void record_nonce(const struct record_state *record, enum record_direction direction, const struct tls_cipher *cipher,
                  const uint8_t *explicit_nonce, uint8_t nonce[TLS_CIPHER_NONCE_BYTES])
{
    uint8_t number[8];

    memcpy(nonce, cipher->nonce, TLS_CIPHER_NONCE_BYTES);
    if (explicit_nonce != NULL) {
        memcpy(nonce + TLS_CIPHER_SALT_BYTES, explicit_nonce, RECORD_EXPLICIT_NONCE_BYTES);
        return;
    }
    put_number(number, record->sequence[direction]);
    for (size_t i = 0; i < sizeof(number); i++) {
        nonce[TLS_CIPHER_NONCE_BYTES - sizeof(number) + i] ^= number[i];
    }
}

/* RFC 8446 section 5.2: the header as it is on the wire. RFC 5246 section 6.2.3.3: sequence number, type, version and
 * length of the plaintext. */
size_t record_additional(const struct record_state *record, enum record_direction direction,
                         const uint8_t header[RECORD_HEADER_BYTES], size_t plaintext_length,
                         uint8_t additional[RECORD_ADDITIONAL_BYTES_MAX])
{
    if (record->version_13) {
        memcpy(additional, header, RECORD_HEADER_BYTES);
        return RECORD_HEADER_BYTES;
    }
    put_number(additional, record->sequence[direction]);
    memcpy(additional + 8, header, 3);
    additional[11] = (uint8_t)(plaintext_length >> 8);
    additional[12] = (uint8_t)plaintext_length;
    return RECORD_ADDITIONAL_BYTES_MAX;
}

enum error_code record_next_keys(struct record_state *record, enum record_direction direction)
{
    assert(record->version_13);
    enum error_code error =
        tls_cipher_next_secret((enum tls_cipher_suite)record->suite, record_material(record, direction));
    if (error == ERROR_NONE) {
        /* Only together: a sequence number that begins again under the same key would repeat nonces. */
        record->sequence[direction] = 0;
        tls_cipher_forget(record);
    }
    return error;
}

enum error_code record_fail(struct record_state *record, const struct record_sink *sink, enum error_code error,
                            int alert)
{
    if (record->error != ERROR_NONE) {
        return (enum error_code)record->error;
    }
    record->error = (uint8_t)error;
    if (alert != RECORD_NO_ALERT && record->output == RECORD_OPEN) {
        /* no_renegotiation is never fatal by itself (RFC 5246 section 7.2.2); the connection ends all the same. */
        enum record_alert_level level =
            alert == RECORD_ALERT_NO_RENEGOTIATION ? RECORD_ALERT_WARNING : RECORD_ALERT_FATAL;
        if (record_send_alert(record, sink, level, (uint8_t)alert) == ERROR_NONE) {
            record->alert = (uint8_t)alert;
        }
    }
    return error;
}

enum error_code record_fail_self(struct record_state *record, const struct record_sink *sink, enum error_code error)
{
    return record_fail(record, sink, error, RECORD_ALERT_INTERNAL_ERROR);
}

void record_abort(struct record_state *record, const struct record_sink *sink, uint8_t alert)
{
    (void)record_fail(record, sink, ERROR_STATE, alert);
}
