/*
 * Two ends of the record layer that face each other in memory, from secrets that a seed decides; and a forger, which
 * seals any content as if it were one of them. Belongs to one test.
 */
#ifndef TESTS_UNIT_RECORD_PAIR_H
#define TESTS_UNIT_RECORD_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/record.h"
#include "tests/unit/tls_pair.h"

/* A record_state with its secrets behind it. */
struct record_room {
    struct record_state record;
    uint8_t material[2 * TLS_CIPHER_MATERIAL_MAX];
};

struct record_end {
    struct record_room room;
    struct tls_pair_bytes output;   /* records not carried yet */
    struct tls_pair_bytes received; /* plaintext */
    unsigned ends;
    unsigned tickets;
    unsigned events; /* of all kinds, output excepted */
    enum error_code error;
    bool echo;
    bool aborts_on_data;
};

struct record_pair {
    struct record_end client;
    struct record_end server;
    struct record_room
        forger[2]; /* what it seals, the client and the server take for each other's: [0] is for the server */
    bool version_13;
    enum tls_cipher_suite suite;
};

/* `sequence` is where all four directions begin. */
void record_pair_init(struct record_pair *pair, bool version_13, enum tls_cipher_suite suite, uint64_t sequence);
void record_pair_dispose(struct record_pair *pair);

static inline struct record_state *record_of(struct record_end *end)
{
    return &end->room.record;
}

/* Feeds a copy that is as large as it must be, so that a sanitizer sees any use beyond or after; remembers the first
 * error. */
enum error_code record_end_feed(struct record_end *end, const void *bytes, size_t length);

/* Carries all output over, both ways, until nothing is left. */
void record_pair_carry(struct record_pair *pair);

enum error_code record_end_send(struct record_end *end, const void *bytes, size_t length);
enum error_code record_end_finish(struct record_end *end);
void record_end_abort(struct record_end *end, uint8_t alert);
enum error_code record_end_update(struct record_end *end, bool ask_peer);

/* A record of any type and content for `to`, sealed under the next sequence number of its peer, with `padding` zeros
 * (TLS 1.3). `into` needs room for RECORD_BYTES_MAX + 1024. Returns its length. */
size_t record_pair_forge(struct record_pair *pair, struct record_end *to, uint8_t type, const void *content,
                         size_t length, size_t padding, uint8_t *into);

/* Forges and feeds. */
enum error_code record_pair_inject(struct record_pair *pair, struct record_end *to, uint8_t type, const void *content,
                                   size_t length, size_t padding);

/* The last record in the output must be an alert to the peer: returns level << 8 | description, and takes all output.
 * -1 when there is none. */
int record_pair_alert_of(struct record_pair *pair, struct record_end *from);

#endif
