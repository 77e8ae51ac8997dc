/* Where the forward handler sends sessions: its argument, read once at the start. Read-only for the workers. */
#ifndef CORE_HANDLERS_FORWARD_TARGET_H
#define CORE_HANDLERS_FORWARD_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define FORWARD_CONNECT_TIMEOUT_MS 5000U /* when the argument does not say */
#define FORWARD_NAME_MAX           300U  /* bytes of "HOST:PORT" */
#define FORWARD_ADDRESSES_MAX      16U   /* of one name; the rest is not tried */

struct forward_address {
    struct sockaddr_storage address;
    socklen_t length;
};

struct forward_target {
    char name[FORWARD_NAME_MAX]; /* the argument without its options, for messages */
    struct forward_address *addresses;
    size_t count;
    unsigned connect_timeout_ms; /* for all addresses together */
    bool proxy;                  /* PROXY protocol v2 */
    char fault[512];
};

/* Reads "HOST:PORT", "[v6]:PORT" or "unix:/path", each with ",proxy-v2" and ",connect-timeout=MS" after it if wished,
 * and resolves the name. Blocks. NULL, or a text that says what is wrong. *target, unless memory is out, is the
 * caller's in both cases, and holds the text. */
const char *forward_target_new(const char *argument, struct forward_target **target);

void forward_target_free(struct forward_target *target);

#endif
