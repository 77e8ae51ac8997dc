/*
 * Landlock: which files can be opened and which TCP ports reached, whatever user the process is. The numbers of the
 * kernel's interface are written down here, as headers are older than kernels; each version of it knows more of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mux/log.h"
#include "mux/sandbox_internal.h"

#define FS_ACCESS_V1       0x1fffU    /* EXECUTE to MAKE_SYM */
#define FS_ACCESS_REFER    (1U << 13) /* 2 */
#define FS_ACCESS_TRUNCATE (1U << 14) /* 3 */
#define FS_ACCESS_IOCTL    (1U << 15) /* 5: of devices */
#define NET_BIND_TCP       (1U << 0)  /* 4 */
#define NET_CONNECT_TCP    (1U << 1)  /* 4 */
#define SCOPE_ABSTRACT     (1U << 0)  /* 6: abstract Unix sockets of others; signals are seccomp's */
#define RULE_NET_PORT      2

#define FS_ACCESS_OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_ACCESS_TRUNCATE)
#define FS_ACCESS_READ     (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ACCESS_WRITE                                                                                                \
    (FS_ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_ACCESS_TRUNCATE | FS_ACCESS_REFER |                           \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |                      \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_SYM)

/* struct landlock_ruleset_attr of version 6. An older kernel takes it as long as what it does not know is zero. */
struct ruleset {
    uint64_t access_fs;
    uint64_t access_net;
    uint64_t scoped;
};

struct rule_port {
    uint64_t access;
    uint64_t port;
};

static struct ruleset ruleset_for(const struct sandbox_plan *plan, int version)
{
    struct ruleset ruleset = {.access_fs = FS_ACCESS_V1};

    ruleset.access_fs |= version >= 2 ? FS_ACCESS_REFER : 0;
    ruleset.access_fs |= version >= 3 ? FS_ACCESS_TRUNCATE : 0;
    ruleset.access_fs |= version >= 5 ? FS_ACCESS_IOCTL : 0;
    if (version >= 4 && plan->ports_limited) {
        ruleset.access_net = NET_BIND_TCP | NET_CONNECT_TCP;
    }
    if (version >= 6 && !plan->abstract_sockets_used) {
        ruleset.scoped = SCOPE_ABSTRACT;
    }
    return ruleset;
}

static bool allow_path(int set, const struct ruleset *ruleset, const char *path, uint64_t access)
{
    struct stat status;
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0) {
        return true;
    }
    bool allowed = fstat(fd, &status) == 0;
    if (allowed) {
        const struct landlock_path_beneath_attr rule = {
            .allowed_access = access & ruleset->access_fs & (S_ISDIR(status.st_mode) ? ~0ULL : FS_ACCESS_OF_FILES),
            .parent_fd = fd,
        };
        allowed = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    }
    close(fd);
    return allowed;
}

/* What is not there now stays shut, also when it comes: the operator has to know. */
static bool allow_given(int set, const struct ruleset *ruleset, const char *path, uint64_t access)
{
    if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) != 0) {
        LOG(LOG_WARNING, "sandbox-path-missing", LOG_TEXT("path", path), LOG_TEXT("text", strerror(errno)));
    }
    return allow_path(set, ruleset, path, access);
}

static bool allow_directory_of(int set, const struct ruleset *ruleset, const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 0 : (int)(slash - path);

    if (length >= PATH_MAX) {
        return true; /* nobody can open it */
    }
    (void)snprintf(directory, sizeof(directory), "%.*s", length, path);
    if (length == 0) {
        (void)snprintf(directory, sizeof(directory), "%s", slash == NULL ? "." : "/");
    }
    return allow_path(set, ruleset, directory, LANDLOCK_ACCESS_FS_READ_FILE);
}

/* The directory that holds the name and the one that holds what it now leads to, where that is another one. */
static bool allow_file(int set, const struct ruleset *ruleset, const char *path)
{
    char resolved[PATH_MAX];

    return allow_directory_of(set, ruleset, path) &&
           (realpath(path, resolved) == NULL || allow_directory_of(set, ruleset, resolved));
}

static bool allow_all(int set, const struct ruleset *ruleset, const struct sandbox_plan *plan)
{
    bool allowed = true;

    for (size_t i = 0; i < plan->read_path_count && allowed; i++) {
        allowed = allow_given(set, ruleset, plan->read_paths[i], FS_ACCESS_READ);
    }
    for (size_t i = 0; i < plan->write_path_count && allowed; i++) {
        allowed = allow_given(set, ruleset, plan->write_paths[i], FS_ACCESS_WRITE);
    }
    for (size_t i = 0; i < plan->file_count && allowed; i++) {
        allowed = allow_file(set, ruleset, plan->files[i]);
    }
    for (size_t i = 0; i < plan->port_count && allowed && ruleset->access_net != 0; i++) {
        const struct rule_port rule = {.access = NET_CONNECT_TCP, .port = plan->ports[i]};
        allowed = syscall(SYS_landlock_add_rule, set, RULE_NET_PORT, &rule, 0) == 0;
    }
    return allowed;
}

static void tell(struct sandbox_outcome *outcome, int number)
{
    const char *reason = number == ENOSYS       ? "the kernel does not have it"
                         : number == EOPNOTSUPP ? "it is switched off when the kernel boots"
                                                : strerror(number);

    (void)snprintf(outcome->landlock, sizeof(outcome->landlock), "%s", reason);
    outcome->landlock_version = 0;
}

void sandbox_landlock_enter(const struct sandbox_plan *plan, struct sandbox_outcome *outcome)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    if (version < 1) {
        tell(outcome, version < 0 ? errno : ENOSYS);
        return;
    }
    outcome->landlock_version = (int)version;
    struct ruleset ruleset = ruleset_for(plan, (int)version);
    int set = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
    if (set < 0) {
        tell(outcome, errno);
        return;
    }
    if (!allow_all(set, &ruleset, plan) || syscall(SYS_landlock_restrict_self, set, 0) != 0) {
        tell(outcome, errno);
    }
    close(set);
}
