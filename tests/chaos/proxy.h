/*
 * One proxy: where it listens, where its connections go, its toxics and its connections. Owned by the registry. One
 * thread.
 */
#ifndef CHAOS_PROXY_H
#define CHAOS_PROXY_H

#include <jansson.h>

#include "mux/socket.h"
#include "tests/chaos/json.h"
#include "tests/chaos/toxic.h"

struct registry;

struct proxy {
    struct list_node node;
    struct registry *registry;
    char *name;
    char listen[ADDRESS_TEXT_MAX];   /* with the port that the system chose */
    char upstream[ADDRESS_TEXT_MAX]; /* resolved */
    struct address listen_address;
    struct address upstream_address;
    bool enabled;
    int prepared_fd; /* bound, but not accepting yet; -1 */
    struct listener listener;
    struct list toxics;
    size_t toxic_count;
    struct list connections;
    uint64_t accepted; /* also the number of the newest connection */
    uint64_t open;
    uint64_t unreachable;                  /* connections whose server could not be reached */
    uint64_t received[TOXIC_STREAM_COUNT]; /* of connections that have ended */
    uint64_t sent[TOXIC_STREAM_COUNT];
};

/* A proxy as `spec` says, bound if it is to be enabled, in no list, not accepting yet. `old` (or NULL) is the one that
 * it will replace: a listening socket for the same address is taken over from it by proxy_replace. */
enum error_code proxy_new(struct registry *registry, const struct proxy_spec *spec, const struct proxy *old,
                          struct proxy **proxy, struct option_fault *fault);

/* Closes connections and listener, and frees it. */
void proxy_free(struct proxy **proxy);

/* Begins to accept if it is enabled. */
enum error_code proxy_start(struct proxy *proxy, struct option_fault *fault);

/* Binds and accepts, or closes listener and connections. */
enum error_code proxy_enable(struct proxy *proxy, struct option_fault *fault);
void proxy_disable(struct proxy *proxy);

struct toxic *proxy_find_toxic(const struct proxy *proxy, const char *name);

/* Toxics of connections that are open change with those of the proxy. A connection for which there is no memory ends.
 * The proxy owns the toxic from then on. */
void proxy_add_toxic(struct proxy *proxy, struct toxic *toxic);
void proxy_update_toxic(struct proxy *proxy, struct toxic *toxic, const struct toxic *from);
void proxy_remove_toxic(struct proxy *proxy, struct toxic *toxic);

/* Does it listen and connect where the spec says? */
bool proxy_matches(const struct proxy *proxy, const struct address *listen, const struct address *upstream);

/* "127.0.0.1:80", "localhost:80", ":80" or "unix:/path". */
enum error_code proxy_parse_address(const char *text, struct address *address, const char *what,
                                    struct option_fault *fault);

/* Bytes of ended and open connections. */
void proxy_bytes(const struct proxy *proxy, enum toxic_stream stream, uint64_t *received, uint64_t *sent);

/* NULL when memory is out. */
json_t *proxy_json(const struct proxy *proxy);

#endif
