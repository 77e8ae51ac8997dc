/*
 * Which user the process is, and what it may do as such: from root to --user, for good. Main's thread; the C library
 * sees to it that threads which run already follow.
 */
#ifndef MUX_PRIVILEGE_H
#define MUX_PRIVILEGE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "mux/error.h"
#include "mux/options.h"

#define PRIVILEGE_GROUPS_MAX 1024U
#define PRIVILEGE_TEXT_MAX   256U

/* Whom to become. Found before anything is given up, so that giving up opens no file. */
struct privilege_user {
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary ones, of memory.h */
    size_t group_count;
};

/* "NAME", "NAME:GROUP", or numbers for either: the form only, nothing is looked up. For option tables. */
bool privilege_check_text(const char *text, struct option_fault *fault);

/* Looks both up. ERROR_CONFIGURATION: `fault` says what is wrong with the text ("there is no user \"x\""), the
 * super-user included; ERROR_NO_MEMORY; ERROR_SYSTEM when the data base cannot be read. On an error there is nothing to
 * dispose. */
enum error_code privilege_user_find(struct privilege_user *user, const char *text, struct option_fault *fault);
void privilege_user_dispose(struct privilege_user *user);

/* True when the process may become another user. */
bool privilege_is_root(void);

/* Becomes the user, gives up every capability and all ways to get one back, and verifies it. After an error the process
 * must end: it may be half of one user and half of another. `fault` says which step failed. */
enum error_code privilege_become(const struct privilege_user *user, struct option_fault *fault);

/* For those who stay who they are: gives up capabilities, unless they are root's, who has files that are open to nobody
 * else; and all ways to get more. ERROR_SYSTEM. */
enum error_code privilege_stay(void);

/* Of all that the process may, keeps what reading files takes. ERROR_SYSTEM. */
enum error_code privilege_keep_reading(void);

#endif
