/*
 * The gate between the wire and GnuTLS while a handshake goes on: it cuts the input into records, so that GnuTLS never
 * gets a byte more than the record that it is taking, and, for a server, looks at each of them first. What RFC 8446 and
 * RFC 5246 say to drop is dropped; what they forbid and GnuTLS would let pass is refused, with the alert that is due.
 * Bytes in, bytes out; no I/O, no memory of its own; one thread.
 *
 *   EXPECT_HELLO --ServerHello of TLS 1.3--> PROTECTED_13
 *     ^       |  \--of TLS 1.2--> EXPECT_12 --change_cipher_spec--> PROTECTED_12
 *     +-retry-+                                                        any: --tls_gate_open--> OPEN
 */
#ifndef MUX_TLS_GATE_H
#define MUX_TLS_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/record.h"
#include "mux/tls_message.h"

#define TLS_GATE_HELD_BYTES     (RECORD_HEADER_BYTES + 2U) /* the largest record that is held back: an alert in clear */
#define TLS_GATE_CCS_MAX        32U                        /* change_cipher_specs that are dropped */
#define TLS_GATE_EARLY_DATA_MAX 16384U                     /* bytes that are skipped before a second ClientHello */
#define TLS_GATE_MESSAGE_MAX    32768U                     /* of a message in clear other than a ClientHello */

enum tls_gate_phase {
    TLS_GATE_OPEN,         /* records are cut, not looked at: a client's, or the handshake is complete */
    TLS_GATE_EXPECT_HELLO, /* in clear: a ClientHello, the first or the second */
    TLS_GATE_EXPECT_12,    /* in clear: up to change_cipher_spec */
    TLS_GATE_PROTECTED_12,
    TLS_GATE_PROTECTED_13,
};

/* All zeros: a client's. */
struct tls_gate {
    uint8_t held[TLS_GATE_HELD_BYTES]; /* of the record that GnuTLS is taking, from its beginning */
    uint8_t held_length;               /* that have come; 0: between records */
    uint8_t held_given;                /* that GnuTLS has had */
    uint8_t phase;                     /* of enum tls_gate_phase */
    uint8_t warnings;
    uint16_t specs;     /* change_cipher_specs dropped */
    bool retried;       /* a HelloRetryRequest has gone out */
    bool early_data;    /* may come before the second ClientHello */
    bool hello_whole;   /* the ClientHello that is expected has come */
    bool passed;        /* the record is whole in `held`, or its body goes to GnuTLS as it comes */
    uint8_t message[4]; /* in clear: the header of the message that is coming */
    uint8_t message_length;
    uint32_t message_left;  /* of its body */
    uint32_t body_left;     /* of the record, behind `held` */
    uint32_t drop_left;     /* of a record that is dropped */
    uint32_t early_bytes;   /* dropped */
    uint32_t plaintext_max; /* of a record, once the server has answered */
};

enum tls_gate_result {
    TLS_GATE_BYTES,   /* *taken bytes, at least one */
    TLS_GATE_STARVED, /* the input is used up */
    TLS_GATE_REFUSED, /* *alert is due; 0 or less: it has come from the peer, negated, and is not answered */
};

/* For a server; a client's gate is OPEN from the beginning. */
void tls_gate_init_server(struct tls_gate *gate);

/* Gives GnuTLS up to `capacity` bytes of the input, never beyond the record that it is taking. After TLS_GATE_REFUSED
 * nothing may be asked for any more. */
enum tls_gate_result tls_gate_read(struct tls_gate *gate, struct tls_message *input, uint8_t *into, size_t capacity,
                                   size_t *taken, int *alert);

/* The server has answered the ClientHello: with a ServerHello, or (`retry`) with a HelloRetryRequest, after which early
 * data may still be under way if the client has announced it. */
void tls_gate_answered(struct tls_gate *gate, bool version_13, bool retry, bool early_data);

/* The server has agreed to records of at most `plaintext_max` bytes (RFC 6066 section 4). */
void tls_gate_limit(struct tls_gate *gate, size_t plaintext_max);

/* The handshake is complete. */
void tls_gate_open(struct tls_gate *gate);

/* True between two records. */
bool tls_gate_between_records(const struct tls_gate *gate);

#endif
