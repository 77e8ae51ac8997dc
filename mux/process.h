/*
 * What the two programs have in common around their workers: signals, threads, start and end. Owned by main's thread.
 */
#ifndef MUX_PROCESS_H
#define MUX_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/loop.h"

/* Exit codes, documented in the manual pages. */
enum process_exit {
    PROCESS_EXIT_OK = 0,
    PROCESS_EXIT_FAILURE = 1,     /* a system call failed at the start, or memory ran out */
    PROCESS_EXIT_USAGE = 2,       /* an option or the configuration file is wrong */
    PROCESS_EXIT_CREDENTIALS = 3, /* a certificate or key cannot be used */
    PROCESS_EXIT_ADDRESS = 4,     /* an address cannot be listened on */
    PROCESS_EXIT_FORCED = 5,      /* a second SIGTERM or the drain timeout ended sessions */
};

enum process_signal {
    PROCESS_SIGNAL_DRAIN,  /* the first SIGTERM or SIGINT */
    PROCESS_SIGNAL_STOP,   /* the second one */
    PROCESS_SIGNAL_RELOAD, /* SIGHUP */
};

struct process;

/* Called on the main thread. */
typedef void process_signal_fn(void *owner, enum process_signal signal);

/* Blocks the signals in this thread (and so in all that it starts), ignores SIGPIPE, and watches them on `loop`.
 * Call before any thread is started. */
enum error_code process_new(struct process **process, struct loop *loop, process_signal_fn *on_signal, void *owner);
void process_free(struct process **process);

/* Usable CPUs (sched_getaffinity), at least 1. */
uint32_t process_cpus(void);

/* Raises the soft limit of open files to the hard one; returns what it is then. */
uint64_t process_raise_files(void);

/* Starts a named thread (at most 15 bytes of name show). */
enum error_code process_thread_start(uint64_t *thread, const char *name, void *(*run)(void *argument), void *argument);
void process_thread_join(uint64_t thread);

/* For supervisors (sd_notify protocol, when NOTIFY_SOCKET is set): "READY=1", "STOPPING=1". No effect otherwise. */
void process_notify(const char *state);

/* True when that supervisor's socket has an abstract name, not a path. */
bool process_notify_is_abstract(void);

#endif
