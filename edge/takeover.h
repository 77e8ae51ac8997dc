/*
 * A new process of the edge takes over from the running one: listening sockets, clients and their sessions, without a
 * disconnect. docs/ARCHITECTURE.md, "Takeover", tells the order and argues that a client is never served by both, nor
 * forgotten by both. The running process listens on a control socket (takeover_control) and gives
 * (takeover_give), the new one takes (takeover_take). Either exchange runs on a thread of its own, which borrows the
 * workers; the calls here belong to main's thread.
 */
#ifndef EDGE_TAKEOVER_H
#define EDGE_TAKEOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/settings.h"
#include "edge/takeover_channel.h"
#include "edge/worker.h"
#include "mux/loop.h"

struct takeover_control;

/* What both sides know of their own process. Outlives the takeover. */
struct takeover_edge {
    const struct edge_settings *settings;
    struct edge_worker *const *workers;
    uint32_t worker_count;
    uint32_t identity;                /* of the workers, as in edge_worker_settings */
    const char *trunk_name;           /* tls_context_name of the trunks' context */
    struct takeover_control *control; /* NULL: none */
};

/* How it went. */
struct takeover_outcome {
    bool done;          /* the new process serves what it was given */
    char reason[256];   /* otherwise: why not */
    uint64_t clients;   /* that changed hands */
    uint64_t staying;   /* old: that did not, and end there */
    uint64_t frozen_us; /* for how long nobody served them */
    int64_t held_bytes; /* chain_held_bytes of the thread: made here and freed by workers, or the reverse */
};

/* Called on main's thread. */
typedef void takeover_over_fn(void *owner, const struct takeover_outcome *outcome);

/* ---- the running process ---- */

/* Listens on `path`, which others than this user cannot connect to; a socket that nobody listens on is replaced. Or, if
 * it `comes` with a takeover, does not listen yet: see takeover_control_adopt. ERROR_ADDRESS_IN_USE, ERROR_PERMISSION,
 * ERROR_UNREACHABLE (there is no such directory), ERROR_INVALID (the path is too long), ERROR_NO_MEMORY,
 * ERROR_NO_FILES, ERROR_SYSTEM. */
enum error_code takeover_control_new(struct takeover_control **control, const char *path, bool comes);

/* The listening socket; -1: none. */
int takeover_control_socket(const struct takeover_control *control);

/* The running process's socket, which is at the path: the control's from now on. Before takeover_control_start. */
void takeover_control_adopt(struct takeover_control *control, int fd);

/* Answers whoever connects. `over` is called for each attempt that has begun; after one that is done, nobody is
 * answered any more. ERROR_NO_MEMORY, ERROR_SYSTEM. */
enum error_code takeover_control_start(struct takeover_control *control, struct loop *loop,
                                       const struct takeover_edge *edge, takeover_over_fn *over, void *owner);

/* Waits for the thread of an attempt that goes on (`over` is called from within), which may still fail if it is to
 * `hasten`, and may not if it is done but for the other process's last word; removes the socket from its path unless a
 * takeover is done. The first before loop and workers are freed, the second after. It nulls the pointer; NULL is
 * allowed for both. */
void takeover_control_stop(struct takeover_control *control, bool hasten);
void takeover_control_free(struct takeover_control **control);

/* For the control socket's thread: the whole exchange, from HELLO on. */
void takeover_give(struct takeover_channel *channel, const struct takeover_edge *edge,
                   struct takeover_outcome *outcome);

/* ---- the new process ---- */

struct takeover_take;

/* Connects and asks. What is told of the running process is valid until takeover_take_free. On an error *reason is why
 * (static, or the take's), and *take may be freed or not be there. */
enum error_code takeover_take_new(struct takeover_take **take, const struct takeover_edge *edge, const char *path,
                                  struct takeover_outcome *outcome);

uint32_t takeover_take_identity(const struct takeover_take *take);

/* True when the running process has the listener, an index into our settings: its sockets will come. */
bool takeover_take_has_listener(const struct takeover_take *take, size_t listener);

/* A listening socket of our own, to be served by the worker from the takeover on; the take's from now on.
 * ERROR_NO_MEMORY (it is closed then). */
enum error_code takeover_take_add_listener(struct takeover_take *take, uint32_t worker, size_t listener, int fd);

/* The workers run, and dial their trunks: takes. A control that has no socket adopts the one that comes. */
enum error_code takeover_take_start(struct takeover_take *take, const struct takeover_edge *edge, struct loop *loop,
                                    takeover_over_fn *over, void *owner);

/* It shall fail, if it is not too late. */
void takeover_take_hasten(struct takeover_take *take);

/* After `over`: the running process may end. */
void takeover_take_tell_done(struct takeover_take *take);

/* Ends it if it goes on, and waits for the thread: before loop and workers are freed. The second after: nulls the
 * pointer. NULL is allowed for both. */
void takeover_take_stop(struct takeover_take *take);
void takeover_take_free(struct takeover_take **take);

#endif
