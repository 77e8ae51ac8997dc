/*
 * Least privilege, as both programs go about it: once listeners are bound and secrets read, the process becomes --user
 * (mux/privilege.h), shuts itself in (mux/sandbox.h), and leaves the reading of files at a reload to a process of its
 * own (mux/file_reader.h). Owned by main, on main's thread.
 */
#ifndef MUX_CONFINEMENT_H
#define MUX_CONFINEMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "mux/file_reader.h"
#include "mux/privilege.h"
#include "mux/sandbox.h"

struct confinement_settings {
    const char *user; /* --user; NULL: stay who we are */
    enum sandbox_mode mode;
    const char *const *files; /* all that a reload reads; copied. NULL elements are passed over */
    size_t file_count;
    bool check_only; /* nothing will be given up: it is enough that the user exists */
};

struct confinement {
    enum sandbox_mode mode;
    bool user_given;
    struct privilege_user user;
    struct file_reader *reader; /* NULL: neither user nor sandbox */
};

/* Finds the user and starts the reader; before any thread and any code of others. ERROR_CONFIGURATION (there is no such
 * user, or the process is not root's), ERROR_SYSTEM, ERROR_NO_MEMORY; `fault` says what is wrong. Dispose of it either
 * way. */
enum error_code confinement_init(struct confinement *confinement, const struct confinement_settings *settings,
                                 struct option_fault *fault);

/* Gives up what is not needed any more, for good, and logs what is in force: "confined", and "confined-in-part" for
 * what is not. After an error the process must end: ERROR_SYSTEM, with `fault`. */
enum error_code confinement_enter(struct confinement *confinement, const struct sandbox_plan *plan,
                                  struct option_fault *fault);

/* After the last reload. */
void confinement_dispose(struct confinement *confinement);

#endif
