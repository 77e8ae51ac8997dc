/*
 * Socket addresses: parsing "192.0.2.1:443", "[2001:db8::1]:443", "localhost:443", "unix:/run/x.sock" and printing
 * them again. Compact (IPv4, IPv6) or full (Unix paths).
 */
#ifndef MUX_ADDRESS_H
#define MUX_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "mux/error.h"

#define ADDRESS_TEXT_MAX 128 /* bytes of the longest text with its zero: "unix:" and a 108 byte path */

struct address {
    socklen_t length; /* 0: none */
    union {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
        struct sockaddr_un local;
    } u;
};

/* An IP address and port in 20 bytes, for per-session state. */
struct address_compact {
    uint8_t ip[16]; /* network order; IPv4 in the first four */
    uint16_t port;  /* host order */
    uint8_t family; /* 4, 6, or 0 for none or a Unix socket */
    uint8_t unused;
};

/* Parses numeric text; with `resolve`, host names too (blocking: start-up only; the first address found).
 * ERROR_INVALID for malformed text, ERROR_UNREACHABLE for a name that does not resolve. */
enum error_code address_parse(const char *text, bool resolve, struct address *address);

/* Writes "192.0.2.1:443", "[2001:db8::1]:443" or "unix:/path"; IPv4-mapped addresses print as IPv4, an address
 * that is none as "-". Returns `into`. */
const char *address_format(const struct address *address, char into[ADDRESS_TEXT_MAX]);

/* The host part of "host:port" or "[ip]:port" without brackets. ERROR_INVALID if it does not fit, or for a
 * Unix path. */
enum error_code address_host(const char *text, char *into, size_t capacity);

/* IPv4-mapped addresses become IPv4. */
void address_pack(const struct address *address, struct address_compact *compact);
void address_unpack(const struct address_compact *compact, struct address *address);

#endif
