/*
 * What the kernel lets the process do from some point on, for good: seccomp says which system calls, Landlock which
 * files and TCP ports. Entered once, on the main thread, when listeners are bound and files are read, and before the
 * workers start. Threads that run by then (a handler's) get the system calls' filter, too, but not Landlock.
 *
 * A system call that no honest code makes (execve, ptrace, fork, bind, ...) ends the process with SIGSYS, after one log
 * line "sandbox-violation". What libraries try and do without (opening files, above all) fails with EPERM.
 */
#ifndef MUX_SANDBOX_H
#define MUX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/options.h"

/* --sandbox; the order is that of its choices. */
enum sandbox_mode {
    SANDBOX_OFF,
    SANDBOX_ON,      /* as far as the kernel can; a line tells what it cannot */
    SANDBOX_REQUIRE, /* in full, or the process does not start */
};

enum sandbox_role {
    SANDBOX_EDGE,
    SANDBOX_CORE,
    SANDBOX_READER, /* mux/file_reader.h */
    SANDBOX_ROLE_COUNT,
};

/* What a role needs beyond the usual. Everything is borrowed for the call. */
struct sandbox_plan {
    enum sandbox_role role;
    const char *const *calls; /* system calls, by name */
    size_t call_count;
    const char *const *read_paths; /* files, or directories with all below */
    size_t read_path_count;
    const char *const *write_paths; /* the same, for reading, writing, making and removing */
    size_t write_path_count;
    const char *const *files; /* their directories may be read: files are replaced by renaming */
    size_t file_count;
    const uint16_t *ports; /* TCP: connections go to these only, and no other port is bound */
    size_t port_count;
    bool ports_limited;         /* false: to any port */
    bool abstract_sockets_used; /* the supervisor's socket has no path */
};

/* Empty texts: in force. Else why not. */
struct sandbox_outcome {
    char seccomp[128];
    char landlock[128];
    int landlock_version; /* of the kernel's interface; 0: none */
};

/* no_new_privs must be set. Never fails as a whole: `outcome` tells what is not in force. */
void sandbox_enter(const struct sandbox_plan *plan, struct sandbox_outcome *outcome);

/* True when `text` names a system call of some Linux. For option tables. */
bool sandbox_check_call(const char *text, struct option_fault *fault);

/* An absolute path. For option tables. */
bool sandbox_check_path(const char *text, struct option_fault *fault);

#endif
