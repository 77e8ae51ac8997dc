/*
 * Two TLS connections that face each other in memory. What one puts out waits in its queue until tls_pair_pump carries
 * it over, in pieces whose sizes come from a seed. Belongs to one test; checks the order of events as it goes.
 */
#ifndef TESTS_UNIT_TLS_PAIR_H
#define TESTS_UNIT_TLS_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/tls.h"

struct tls_pair_bytes {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
};

struct tls_end {
    struct tls_session tls;
    struct tls_peer_info peer; /* as `established` told it, in copies that follow */
    char peer_name[TLS_SERVER_NAME_MAX + 1];
    char peer_alpn[TLS_ALPN_MAX + 1];
    uint8_t peer_certificate[4096];
    struct tls_pair_bytes output;   /* ciphertext not carried yet */
    struct tls_pair_bytes received; /* plaintext */
    unsigned established;
    unsigned ends;
    unsigned records;      /* data events */
    enum error_code error; /* the first that tls_start or tls_receive returned */
    bool initialised;
    bool echo;            /* sends back all data from within the event */
    bool greets;          /* sends "hello" from within `established` */
    bool finishes_at_end; /* tls_finish from within `end` */
    bool aborts_on_data;
};

struct tls_pair {
    struct tls_end client;
    struct tls_end server;
    uint64_t seed;
    size_t split_max; /* bytes carried at once, at most; 0: all there is */
};

/* What each end hears. */
extern const struct tls_events tls_end_events;

void tls_pair_bytes_append(struct tls_pair_bytes *bytes, const void *from, size_t length);
void tls_pair_bytes_drop(struct tls_pair_bytes *bytes, size_t length);

/* One end by itself, to be faced by bytes made by hand or by another library. */
enum error_code tls_end_init_server(struct tls_end *end, struct tls_context *context);
enum error_code tls_end_init_client(struct tls_end *end, struct tls_context *context, const char *server_name);

/* Feeds a copy, so that a sanitizer sees any use after the call; remembers the first error. */
enum error_code tls_end_feed(struct tls_end *end, const void *bytes, size_t length);
void tls_end_dispose(struct tls_end *end);

/* The first error of either end's preparation; both ends can be disposed of in any case. */
enum error_code tls_pair_init(struct tls_pair *pair, struct tls_context *client, const char *server_name,
                              struct tls_context *server);

/* Starts both ends and carries all until nothing is left. An end that has failed takes nothing more. */
void tls_pair_handshake(struct tls_pair *pair);
void tls_pair_pump(struct tls_pair *pair);
void tls_pair_dispose(struct tls_pair *pair);

/* Deterministic: the same seed gives the same numbers everywhere. */
uint64_t tls_pair_random(uint64_t *seed);

#endif
