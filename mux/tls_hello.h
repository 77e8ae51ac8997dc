/*
 * What the RFCs demand of a ClientHello, beyond what GnuTLS insists on. A server looks at it before GnuTLS does:
 * whatever is malformed, doubled, inconsistent or missing is refused with the alert that is due, and a second
 * ClientHello (after a HelloRetryRequest) must be the first one again, but for what may change. A function of bytes;
 * one thread.
 */
#ifndef MUX_TLS_HELLO_H
#define MUX_TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest that can be described: version, random, session id, suites, compression methods, extensions. */
#define TLS_HELLO_BYTES_MAX (2U + 32U + 1U + 32U + 2U + 65534U + 1U + 255U + 2U + 65535U)

#define TLS_HELLO_GOOD (-1)

/* What is remembered of a client's first ClientHello. Begins as zeros. */
struct tls_hello {
    uint64_t constant;          /* a sum over all that a second one must repeat */
    uint16_t record_size_limit; /* RFC 8449; 0: none */
    uint16_t fragment_limit;    /* max_fragment_length in bytes (RFC 6066); 0: none */
    uint16_t suites;            /* offered, one bit for each of the project's */
    bool seen;
    bool version_13;
    bool early_data;
    bool psk;
};

/* Looks at the body of a ClientHello: TLS_HELLO_GOOD or the alert that is due (RFC 8446 section 6.2). `hello` has seen
 * the first one, if this is the second. */
int tls_hello_check(struct tls_hello *hello, const uint8_t *bytes, size_t length);

/* True when the suite with this number of IANA's, one of the project's, was offered. */
bool tls_hello_offers(const struct tls_hello *hello, unsigned suite);

#endif
