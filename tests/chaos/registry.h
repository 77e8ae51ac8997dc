/*
 * All proxies, and what they share: loop, wakes, decisions, scratch memory. Every change to proxies and toxics comes
 * through here, from the command line, the API, the timeline or a replay; each takes effect as a whole or not at all,
 * and is written to the decision log. One thread.
 */
#ifndef CHAOS_REGISTRY_H
#define CHAOS_REGISTRY_H

#include "mux/loop.h"
#include "mux/options.h"
#include "tests/chaos/decision.h"
#include "tests/chaos/flow.h"
#include "tests/chaos/json.h"
#include "tests/chaos/proxy.h"
#include "tests/chaos/wake.h"

struct registry {
    struct loop *loop;
    struct decisions *decisions;
    struct list proxies; /* in the order of their creation */
    struct wakes wakes;
    struct loop_source alarm; /* a timerfd for the earliest wake */
    uint64_t alarm_us;        /* what it is set to */
    struct task settle;       /* sets it after each batch that has changed something */
    size_t connections;       /* of all proxies */
    uint64_t latency_bytes;
    int receive_buffer; /* 0: the system's */
    uint8_t *scratch;   /* for reads */
    uint8_t *slice;     /* for slices */
};

/* ERROR_NO_MEMORY, ERROR_NO_FILES, ERROR_SYSTEM. Dispose of it in either case. */
enum error_code registry_init(struct registry *registry, struct loop *loop, struct decisions *decisions);
void registry_dispose(struct registry *registry);

struct proxy *registry_find(const struct registry *registry, const char *name);

/* Wakes have changed: the alarm is set at the end of the batch. */
void registry_settle(struct registry *registry);

/*
 * Changes. ERROR_NONE, or: ERROR_CONFIGURATION (a name, address or value is wrong), ERROR_STATE (it is there already),
 * ERROR_UNREACHABLE (no proxy or toxic of the name), ERROR_ADDRESS_IN_USE, ERROR_PERMISSION (listening),
 * ERROR_LIMIT, ERROR_NO_MEMORY, ERROR_NO_FILES, ERROR_SYSTEM; `fault` tells more.
 */

/* One new proxy; its toxics are there before its first connection. */
enum error_code registry_create(struct registry *registry, const struct proxy_spec *spec, struct option_fault *fault);

/* Proxies become what the specs say; those that are so already stay as they are, with their connections. */
enum error_code registry_populate(struct registry *registry, const struct proxy_spec *specs, size_t count,
                                  struct option_fault *fault);

enum error_code registry_delete(struct registry *registry, const char *name, struct option_fault *fault);
enum error_code registry_set_enabled(struct registry *registry, const char *name, bool enabled,
                                     struct option_fault *fault);

/* *toxic is the registry's when it was added, and set to NULL. */
enum error_code registry_add_toxic(struct registry *registry, const char *proxy, struct toxic **toxic,
                                   struct option_fault *fault);
/* Values and toxicity of `from` become those of the toxic with the name. */
enum error_code registry_update_toxic(struct registry *registry, const char *proxy, const char *name,
                                      const struct toxic *from, struct option_fault *fault);
enum error_code registry_remove_toxic(struct registry *registry, const char *proxy, const char *name,
                                      struct option_fault *fault);

/* Removes all toxics and enables all proxies. */
enum error_code registry_reset(struct registry *registry, struct option_fault *fault);

/* ERROR_UNREACHABLE, with the fault filled. */
enum error_code registry_missing(const char *what, const char *name, struct option_fault *fault);

#endif
