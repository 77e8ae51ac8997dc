/*
 * One epoll loop per worker thread. It drives a scheduler (timers, deferred tasks) with the monotonic clock, reports
 * readiness of file descriptors (edge-triggered; docs/ARCHITECTURE.md has the measurement), and takes posts from other
 * threads. All calls but loop_post and loop_stop belong to the loop's own thread.
 */
#ifndef MUX_LOOP_H
#define MUX_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/scheduler.h"

struct loop;
struct loop_source;
struct loop_post;

enum loop_event {
    LOOP_READABLE = 1, /* EPOLLIN, EPOLLRDHUP, EPOLLHUP or EPOLLERR */
    LOOP_WRITABLE = 2, /* EPOLLOUT, EPOLLHUP or EPOLLERR */
    LOOP_HANGUP = 4,   /* EPOLLRDHUP, EPOLLHUP or EPOLLERR: a read will reach the end or an error */
    LOOP_BROKEN = 8,   /* EPOLLERR: the connection was reset or failed, whatever there is still to read */
};

enum loop_mode {
    LOOP_EDGE,       /* EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET: registered once, never modified */
    LOOP_LEVEL_READ, /* EPOLLIN, level-triggered: listeners, signals */
};

typedef void loop_ready_fn(struct loop_source *source, unsigned events);

/* A watched descriptor. Lives in its owner, who closes the descriptor after loop_unwatch. */
struct loop_source {
    loop_ready_fn *ready;
    int fd;        /* -1: not watched */
    uint32_t loop; /* the loop that watches it, by number */
};

/* The same in 6 bytes, for owners that exist in great numbers: all of a loop's compact sources share one function. The
 * owner puts it where it is aligned to 4 bytes at least. */
struct __attribute__((packed, aligned(2))) loop_compact {
    int fd; /* -1: not watched */
    uint16_t loop;
};

typedef void loop_compact_fn(struct loop_compact *source, unsigned events);

typedef void loop_post_fn(struct loop_post *post);

/* A message to another thread; the receiver's function owns it from then on (and usually frees it). */
struct loop_post {
    struct loop_post *next;
    loop_post_fn *run;
};

#define LOOP_MAX 1024U /* loops of one process at a time */

/* ERROR_NO_MEMORY, ERROR_NO_FILES, ERROR_LIMIT (LOOP_MAX) or ERROR_SYSTEM. Any thread; from then on the loop belongs
 * to the thread that runs it. */
enum error_code loop_new(struct loop **loop);

/* Posts that have not run are run first, so that what they own is freed. Nothing may be watched any more, and no
 * other thread may be about to post. Nulls the pointer; NULL is allowed. */
void loop_free(struct loop **loop);

struct scheduler *loop_scheduler(struct loop *loop);

/* Starts watching. ERROR_NO_MEMORY, ERROR_LIMIT (fs.epoll.max_user_watches) or ERROR_SYSTEM. */
enum error_code loop_watch(struct loop *loop, struct loop_source *source, int fd, enum loop_mode mode,
                           loop_ready_fn *ready);

/* The same for a compact source, edge-triggered. `ready` must be the same in every call for this loop. */
enum error_code loop_watch_compact(struct loop *loop, struct loop_compact *source, int fd, loop_compact_fn *ready);

/* Also drops events of the source that were collected but not yet reported. Sets source->fd to -1. No effect on a
 * source that is not watched. */
void loop_unwatch(struct loop *loop, struct loop_source *source);
void loop_unwatch_compact(struct loop_compact *source);

/* From any thread: runs post->run on the loop's thread, in the order of posting. */
void loop_post(struct loop *loop, struct loop_post *post);

/* Runs until loop_stop (at once when that was called before). At most 256 events a batch. */
void loop_run(struct loop *loop);

/* One batch: waits at most `wait_max_ms` (-1: no bound) for events, timers or posts; then handles the events, fires the
 * timers that are due and runs the deferred tasks. The scheduler's time is read once, after the wait. */
void loop_run_once(struct loop *loop, int wait_max_ms);

/* From any thread. */
void loop_stop(struct loop *loop);

#endif
