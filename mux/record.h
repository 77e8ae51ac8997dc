/*
 * The TLS record layer of an established connection, as an engine: records in, plaintext and records out; no I/O, no
 * clock, no random source. TLS 1.3 (RFC 8446) and 1.2 (RFC 5246) with AEAD suites, in both roles. It starts from what a
 * handshake has agreed on, and holds nothing but secrets and counters; memory for data is taken only while a record is
 * incomplete, and ciphers that are ready belong to the thread (mux/tls_cipher.h). One thread at a time.
 *
 *   each direction:  OPEN --close_notify--> ENDED          whole: any error or fatal alert --> `error` is set, for good
 */
#ifndef MUX_RECORD_H
#define MUX_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/pack.h"
#include "mux/tls_cipher.h"

#define RECORD_PLAINTEXT_MAX 16384U /* RFC 8446 section 5.1, RFC 5246 section 6.2.1 */
#define RECORD_HEADER_BYTES  5U
#define RECORD_BYTES_MAX                                                                                               \
    (RECORD_HEADER_BYTES + RECORD_PLAINTEXT_MAX + 2048U) /* the largest that is accepted: TLS 1.2 */
#define RECORD_MESSAGE_BYTES 5U                          /* of a KeyUpdate */

/* Records sent under one key before the next KeyUpdate: RFC 8446 section 5.5 allows 2^24.5 for AES-GCM. Of what is
 * received under one key, the peer is asked to update then. */
#define RECORD_KEY_RECORDS_MAX (UINT64_C(1) << 24)

/* TLS 1.2 has no KeyUpdate: such a connection ends with internal_error. 64 TiB of full records; with nonces that never
 * repeat, the chance to tell AES-GCM from random is below 2^-44 then. */
#define RECORD_KEY_RECORDS_MAX_12 (UINT64_C(1) << 32)

#define RECORD_WARNING_ALERTS_MAX 16U   /* per connection; a peer has no use for more. HelloRequests count, too */
#define RECORD_IDLE_MAX           1024U /* records in a row without application data: empty ones, KeyUpdate, tickets */

enum record_direction { RECORD_READ, RECORD_WRITE };

enum record_half { RECORD_OPEN, RECORD_ENDED };

/* TLS AlertDescription (RFC 8446 section 6), those that are sent or looked at here. */
enum record_alert {
    RECORD_ALERT_CLOSE_NOTIFY = 0,
    RECORD_ALERT_UNEXPECTED_MESSAGE = 10,
    RECORD_ALERT_BAD_RECORD_MAC = 20,
    RECORD_ALERT_RECORD_OVERFLOW = 22,
    RECORD_ALERT_ILLEGAL_PARAMETER = 47,
    RECORD_ALERT_DECODE_ERROR = 50,
    RECORD_ALERT_PROTOCOL_VERSION = 70,
    RECORD_ALERT_INTERNAL_ERROR = 80,
    RECORD_ALERT_USER_CANCELED = 90,
    RECORD_ALERT_NO_RENEGOTIATION = 100,
};

struct record_partial; /* what has begun and is not complete: a record, a handshake message, an alert */

/*
 * A connection: 32 bytes, and behind them, in the same allocation, the secrets of both directions
 * (record_material_bytes):
 *
 *     suite                       TLS 1.3    TLS 1.2     both, with the 32 bytes
 *     AES-128-GCM                 2 x 32     2 x 20       96      72
 *     AES-256-GCM                 2 x 48     2 x 36      128     104
 *     ChaCha20-Poly1305           2 x 32     2 x 44       96     120
 *
 * In TLS 1.3 key and nonce are derived from the traffic secret when a cipher is made, not kept.
 */
struct record_state {
    uint8_t owner_state;            /*  0: room for the owner's own state; not looked at */
    uint8_t error;                  /*  1: of enum error_code; set once, by record_fail */
    uint8_t suite : 2;              /*  2: of enum tls_cipher_suite */
    uint8_t server : 1;             /*     our role */
    uint8_t version_13 : 1;         /*     TLS 1.3, not 1.2 */
    uint8_t input : 1;              /*     of enum record_half */
    uint8_t output : 1;             /*     of enum record_half */
    uint8_t key_update_due : 1;     /*     the peer has asked for one; it goes before our next data */
    uint8_t key_update_asked : 1;   /*     we have asked, and no KeyUpdate has come since */
    uint8_t alert;                  /*  3: that ended the connection, 0 none: see record_last_alert */
    uint16_t size_less_one : 14;    /*  4: plaintext bytes of a record that the peer takes, 1 to 2^14, less one */
    uint16_t size_mutual : 1;       /*     the peer keeps to the same */
    uint16_t alert_received : 1;    /*     `alert` came from the peer */
    uint16_t idle_records : 11;     /*  6: in a row, up to RECORD_IDLE_MAX */
    uint16_t warning_alerts : 5;    /*     up to RECORD_WARNING_ALERTS_MAX */
    uint64_t sequence[2];           /*  8: of the next record in each direction */
    struct record_partial *partial; /* 24: NULL unless something is incomplete */
};

/* What a handshake has agreed on. The pointers are read during record_init only. */
struct record_parameters {
    bool server; /* our role */
    bool version_13;
    enum tls_cipher_suite suite;
    size_t send_max; /* plaintext bytes of a record that the peer takes (RFC 8449, RFC 6066); 0: RECORD_PLAINTEXT_MAX */
    bool mutual;     /* the peer must keep to send_max, too (RFC 6066 section 4) */
    uint64_t sequence[2];       /* of the next record in each direction (enum record_direction) */
    const uint8_t *material[2]; /* as tls_cipher_source has it */
};

/* What a connection tells its owner, who is named in each call. None may dispose of the connection. */
struct record_events {
    /* Records for the peer. The bytes are valid during the call, in which nothing may be sent on any connection. */
    void (*output)(void *owner, const uint8_t *bytes, size_t length);

    /* Plaintext, 1 to RECORD_PLAINTEXT_MAX bytes, valid during the call. */
    void (*data)(void *owner, const uint8_t *bytes, size_t length);

    /* close_notify: the peer sends no more. */
    void (*end)(void *owner);

    /* NULL: not wanted. A whole record as it came, before it is decrypted in place; valid during the call. */
    void (*record)(void *owner, const uint8_t *bytes, size_t length);

    /* NULL: not wanted. A client has received a NewSessionTicket completely, with the last record. */
    void (*ticket)(void *owner);

    /* NULL: not wanted. The record that was decrypted last held handshake messages, or a part of one. */
    void (*handshake)(void *owner);
};

struct record_sink {
    const struct record_events *events;
    void *owner;
};

/* Bytes that must follow a record_state. */
size_t record_material_bytes(enum tls_cipher_suite suite, bool version_13);

/* `record` is followed by record_material_bytes of room. It must stay where it is. Cannot fail. */
void record_init(struct record_state *record, const struct record_parameters *parameters);

/* Wipes everything, also in the thread's cache; sends nothing. The memory is the caller's. */
void record_dispose(struct record_state *record);

/* Takes all of the input; decrypts in place where a record is whole in it. On an error the proper alert has gone to
 * `output`; ERROR_TLS_RECORD (the peer broke the protocol), ERROR_TLS_RENEGOTIATION, ERROR_TLS_ALERT (the peer's fatal
 * alert; not answered), ERROR_NO_MEMORY, ERROR_TLS_INTERNAL; or the error that an event has set by record_abort. Input
 * after close_notify is ignored (RFC 8446 section 6.1). */
enum error_code record_receive(struct record_state *record, const struct record_sink *sink, uint8_t *bytes,
                               size_t length);

/* Encrypts and outputs all of it. ERROR_STATE after an error or record_finish; ERROR_LIMIT: the key of a TLS 1.2
 * connection is used up; ERROR_NO_MEMORY, ERROR_TLS_INTERNAL. */
enum error_code record_send(struct record_state *record, const struct record_sink *sink, const uint8_t *bytes,
                            size_t length);

/* Sends close_notify; receiving goes on. Errors as record_send. */
enum error_code record_finish(struct record_state *record, const struct record_sink *sink);

/* TLS 1.3: changes our keys, and asks the peer to change its own unless it has been asked. Errors as record_send;
 * ERROR_INVALID in TLS 1.2. */
enum error_code record_update_keys(struct record_state *record, const struct record_sink *sink, bool ask_peer);

/* Sends a fatal alert; the connection has failed with ERROR_STATE. No effect after an error; silent after close_notify.
 */
void record_abort(struct record_state *record, const struct record_sink *sink, uint8_t alert);

/* True in the midst of a record, of a handshake message or of an alert. */
bool record_incomplete(const struct record_state *record);

/* The alert that ended the connection: sent (positive), received (negative), 0 none. */
int record_last_alert(const struct record_state *record);

/* Writes down a connection that has not failed, for another process to go on with (record_import); it stays as it is,
 * and must not be used any more once the other has begun: a nonce would repeat. Secrets are among what is written. */
void record_export(const struct record_state *record, struct pack *pack);

/* Which room the connection that follows in `unpack` needs behind its record_state. False when it cannot be one;
 * nothing has been read then. */
bool record_import_suite(const struct unpack *unpack, enum tls_cipher_suite *suite, bool *version_13);

/* Makes `record`, with the room that record_import_suite has told, from what record_export wrote. ERROR_INVALID (it
 * cannot be), ERROR_NO_MEMORY; everything is wiped then. */
enum error_code record_import(struct record_state *record, struct unpack *unpack);

/* How much of the input to give to record_receive so that it takes one record at most; 1 to `length`. */
size_t record_bytes_wanted(const struct record_state *record, const uint8_t *bytes, size_t length);

#endif
