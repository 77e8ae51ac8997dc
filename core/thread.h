/*
 * A worker with its loop and its thread: where sockets meet the engine. Made and disposed of by main; in between, all
 * but core_thread_adopt, _drain, _stop and _use_context belongs to the thread.
 */
#ifndef CORE_THREAD_H
#define CORE_THREAD_H

#include "core/worker.h"
#include "mux/address.h"
#include "mux/loop.h"
#include "mux/tls.h"

struct core_thread;

/* What a thread tells main, on main's thread. */
struct core_thread_reports {
    void (*drained)(void *owner, struct core_thread *thread);
    void (*stopped)(void *owner, struct core_thread *thread);
};

struct core_thread {
    struct core_worker worker;
    struct loop *loop;
    struct tls_context *context; /* for trunks to come */
    struct core_thread *all;     /* the first of its siblings, with itself */
    uint32_t count;
    struct loop *main_loop;
    const struct core_thread_reports *reports;
    void *owner;
    struct loop_post drain;
    struct loop_post stop;
    struct loop_post drained;
    struct loop_post stopped;
    uint64_t handle;
    int64_t held_bytes; /* what chain_held_bytes said at the thread's end */
    bool started;
};

/* The thread number `index` of `count` in `all`. ERROR_NO_MEMORY, ERROR_NO_FILES or ERROR_SYSTEM. */
enum error_code core_thread_init(struct core_thread *all, uint32_t index, uint32_t count,
                                 const struct core_worker_settings *settings, struct tls_context *context,
                                 struct loop *main_loop, const struct core_thread_reports *reports, void *owner);
enum error_code core_thread_start(struct core_thread *thread);

/* Waits for its end, which follows core_thread_stop. No effect on one that was not started. */
void core_thread_join(struct core_thread *thread);

/* After all of the threads are joined: they may have posted to each other until their end. First every loop is closed,
 * which runs what was posted last, then every worker is disposed of. */
void core_threads_dispose(struct core_thread *all, uint32_t count);

/* Any thread. Gives the thread a connection that was accepted; refused ones are closed and logged. */
void core_thread_adopt(struct core_thread *thread, int fd, const struct address *peer);

/* Main's thread. Each may be called once. */
void core_thread_drain(struct core_thread *thread);
void core_thread_stop(struct core_thread *thread);

/* Any thread. New trunks are accepted with this context. ERROR_NO_MEMORY: they go on with the old one. */
enum error_code core_thread_use_context(struct core_thread *thread, struct tls_context *context);

#endif
