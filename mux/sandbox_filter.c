/*
 * The system calls that remain, by purpose. Everything that is not named here ends the process: a list of what is bad
 * would have to know each new system call. Conditions look at numbers only, since what a pointer leads to may change
 * after the look. Owns nothing once the filter is loaded.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mux/sandbox_internal.h"

#define EDGE       (1U << SANDBOX_EDGE)
#define CORE       (1U << SANDBOX_CORE)
#define READER     (1U << SANDBOX_READER)
#define PROGRAMS   (EDGE | CORE)
#define EVERYBODY  (EDGE | CORE | READER)
#define LENGTH(a_) (sizeof(a_) / sizeof(*(a_)))

#define SOCKET_TYPE_MASK 0xfU /* the rest of socket's second argument are flags */
#define OPEN_WRITES                                                                                                    \
    ((unsigned)(O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND) | ((unsigned)O_TMPFILE & ~(unsigned)O_DIRECTORY))
#define NAME_MEMORY 0x53564d41U /* PR_SET_VMA: malloc of newer C libraries */

/* ------------------------------------------------------------------------------------------------ the tables */

static const int memory_calls[] = {SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk)};

/* futex also for locks and joining; sched_getaffinity for malloc's arenas, which follow the CPUs. */
static const int thread_calls[] = {
    SCMP_SYS(futex),        SCMP_SYS(set_robust_list),   SCMP_SYS(rseq),       SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),       SCMP_SYS(gettid),     SCMP_SYS(sched_yield),
    SCMP_SYS(exit),         SCMP_SYS(sched_getaffinity), SCMP_SYS(membarrier),
};

/* Of GnuTLS's random source (getrandom, times, getrusage), of logs and timers; most times come without a system call.
 */
static const int fact_calls[] = {
    SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(getrusage), SCMP_SYS(times),         SCMP_SYS(sysinfo),      SCMP_SYS(uname),        SCMP_SYS(getppid),
    SCMP_SYS(getuid),    SCMP_SYS(geteuid),       SCMP_SYS(getgid),       SCMP_SYS(getegid),      SCMP_SYS(getcpu),
};

static const int wait_calls[] = {
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),     SCMP_SYS(eventfd2),
    SCMP_SYS(poll),          SCMP_SYS(ppoll),     SCMP_SYS(nanosleep),  SCMP_SYS(clock_nanosleep),
};

static const int socket_calls[] = {
    SCMP_SYS(accept4),     SCMP_SYS(connect),     SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(shutdown),
};

/* On files that are open: sockets, and standard error for the log. */
static const int transfer_calls[] = {
    SCMP_SYS(read),   SCMP_SYS(write),      SCMP_SYS(close),           SCMP_SYS(recvfrom), SCMP_SYS(sendto),
    SCMP_SYS(getpid), SCMP_SYS(exit_group), SCMP_SYS(restart_syscall), SCMP_SYS(fstat),
};

/* writev for the C library's last words; at the end the process that reads files is waited for. */
static const int further_calls[] = {SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(wait4)};

/* What handlers use besides for their sockets and threads. Messages can carry open files, so an edge has none. */
static const int handler_calls[] = {
    SCMP_SYS(pipe2),    SCMP_SYS(socketpair), SCMP_SYS(timerfd_create),  SCMP_SYS(timerfd_settime),
    SCMP_SYS(dup),      SCMP_SYS(dup3),       SCMP_SYS(timerfd_gettime), SCMP_SYS(sendmmsg),
    SCMP_SYS(lseek),    SCMP_SYS(recvmmsg),   SCMP_SYS(epoll_create),    SCMP_SYS(select),
    SCMP_SYS(pselect6), SCMP_SYS(pread64),    SCMP_SYS(recvmsg),         SCMP_SYS(sendmsg),
};

/* Libraries look at files that may well be absent, and go on without them. */
static const int refused_calls[] = {
    SCMP_SYS(open),       SCMP_SYS(openat),     SCMP_SYS(creat),     SCMP_SYS(stat),       SCMP_SYS(lstat),
    SCMP_SYS(statx),      SCMP_SYS(access),     SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink),
    SCMP_SYS(readlinkat), SCMP_SYS(statfs),     SCMP_SYS(getcwd),    SCMP_SYS(getdents64), SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),   SCMP_SYS(newfstatat),
};

/* The same where files may be opened for reading. */
static const int refused_write_calls[] = {SCMP_SYS(creat), SCMP_SYS(unlink), SCMP_SYS(unlinkat)};

/* Their callers know what to do on an older kernel. clone3 and openat2 hide their flags behind a pointer: the C library
 * uses clone and openat instead. */
static const int absent_calls[] = {SCMP_SYS(clone3), SCMP_SYS(openat2), SCMP_SYS(epoll_pwait2)};

/* With --sandbox-read or --sandbox-write; Landlock says where. */
static const int read_calls[] = {
    SCMP_SYS(stat),   SCMP_SYS(lstat),     SCMP_SYS(newfstatat), SCMP_SYS(statx),    SCMP_SYS(access),
    SCMP_SYS(getcwd), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    SCMP_SYS(statfs), SCMP_SYS(fstatfs),   SCMP_SYS(getdents64), SCMP_SYS(preadv),   SCMP_SYS(fadvise64),
};

static const int write_calls[] = {
    SCMP_SYS(open),      SCMP_SYS(openat),    SCMP_SYS(creat), SCMP_SYS(unlink),    SCMP_SYS(unlinkat),
    SCMP_SYS(rename),    SCMP_SYS(renameat),  SCMP_SYS(mkdir), SCMP_SYS(mkdirat),   SCMP_SYS(rmdir),
    SCMP_SYS(renameat2), SCMP_SYS(ftruncate), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),   SCMP_SYS(truncate),  SCMP_SYS(flock), SCMP_SYS(fallocate), SCMP_SYS(symlinkat),
};

enum files_open { FILES_NONE, FILES_READ, FILES_WRITTEN };

static const struct call_group {
    unsigned roles; /* a set */
    uint32_t action;
    const int *calls;
    size_t count;
    enum files_open least; /* only where files may be opened at least so far */
    enum files_open most;
} call_groups[] = {
    {EVERYBODY, SCMP_ACT_ALLOW, transfer_calls, LENGTH(transfer_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, memory_calls, LENGTH(memory_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, thread_calls, LENGTH(thread_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, fact_calls, LENGTH(fact_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, wait_calls, LENGTH(wait_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, socket_calls, LENGTH(socket_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, further_calls, LENGTH(further_calls), FILES_NONE, FILES_WRITTEN},
    {CORE, SCMP_ACT_ALLOW, handler_calls, LENGTH(handler_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ERRNO(EPERM), refused_calls, LENGTH(refused_calls), FILES_NONE, FILES_NONE},
    {PROGRAMS, SCMP_ACT_ERRNO(EPERM), refused_write_calls, LENGTH(refused_write_calls), FILES_READ, FILES_READ},
    {PROGRAMS, SCMP_ACT_ERRNO(ENOSYS), absent_calls, LENGTH(absent_calls), FILES_NONE, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, read_calls, LENGTH(read_calls), FILES_READ, FILES_WRITTEN},
    {PROGRAMS, SCMP_ACT_ALLOW, write_calls, LENGTH(write_calls), FILES_WRITTEN, FILES_WRITTEN},
};

/* What is allowed, or fails with `action`, where all of the arguments fit. Where no rule of a call does, the process
 * ends. */
struct call_rule {
    unsigned roles;
    uint32_t action;
    int call;
    unsigned count;
    struct scmp_arg_cmp arguments[3];
    enum files_open least;
    enum files_open most;
};

/* clang-format off */
#define COMPARE(argument_, how_, value_) {(argument_), (how_), (scmp_datum_t)(value_), 0}
#define MASKED(argument_, mask_, value_) \
    {(argument_), SCMP_CMP_MASKED_EQ, (scmp_datum_t)(mask_), (scmp_datum_t)(value_)}
#define ANY_FILES FILES_NONE, FILES_WRITTEN
#define ALLOW_VALUE(roles_, call_, argument_, value_) \
    {(roles_), SCMP_ACT_ALLOW, SCMP_SYS(call_), 1, {COMPARE(argument_, SCMP_CMP_EQ, value_)}, ANY_FILES}
#define ALLOW_BIT(roles_, call_, argument_, bit_, value_) \
    {(roles_), SCMP_ACT_ALLOW, SCMP_SYS(call_), 1, {MASKED(argument_, bit_, value_)}, ANY_FILES}
#define REFUSE_FLAG(call_, argument_, flag_) \
    {PROGRAMS, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(call_), 1, {MASKED(argument_, flag_, flag_)}, FILES_READ, FILES_READ}

_Static_assert(SIGSYS == 31, "the rules of rt_sigaction know its bits");

static const struct call_rule call_rules[] = {
    /* Memory is never both filled and executed: all code is there from the start. */
    {PROGRAMS, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, {MASKED(2, PROT_EXEC, 0)}, ANY_FILES},
    {PROGRAMS, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1, {MASKED(2, PROT_EXEC, PROT_EXEC)}, ANY_FILES},
    {PROGRAMS, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, {MASKED(2, PROT_EXEC, 0)}, ANY_FILES},
    {PROGRAMS, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1, {MASKED(2, PROT_EXEC, PROT_EXEC)}, ANY_FILES},
    /* Threads, but no processes and no namespaces. */
    {PROGRAMS, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
     {MASKED(0, CLONE_THREAD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET, CLONE_THREAD)}, ANY_FILES},
    ALLOW_VALUE(PROGRAMS, prctl, 0, PR_SET_NAME),
    ALLOW_VALUE(PROGRAMS, prctl, 0, PR_GET_NAME),
    ALLOW_VALUE(PROGRAMS, prctl, 0, NAME_MEMORY),
    /* Nobody takes the place of what tells of forbidden calls: all signals but SIGSYS, told apart by one bit or another, as
     * the kernel looks at the lower half of the argument only, and a comparison at all of it. */
    ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 1, 0), ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 2, 0),
    ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 4, 0), ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 8, 0),
    ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 16, 0), ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 32, 32),
    ALLOW_BIT(EVERYBODY, rt_sigaction, 0, 64, 64),
    /* Limits are read, and only our own. */
    {PROGRAMS, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
     {COMPARE(0, SCMP_CMP_EQ, 0), COMPARE(2, SCMP_CMP_EQ, 0)}, ANY_FILES},
    ALLOW_VALUE(PROGRAMS, fcntl, 1, F_GETFL),
    ALLOW_VALUE(PROGRAMS, fcntl, 1, F_SETFL),
    ALLOW_VALUE(PROGRAMS, fcntl, 1, F_GETFD),
    ALLOW_VALUE(PROGRAMS, fcntl, 1, F_SETFD),
    ALLOW_VALUE(PROGRAMS, fcntl, 1, F_DUPFD_CLOEXEC),
    ALLOW_VALUE(PROGRAMS, ioctl, 1, FIONREAD),
    ALLOW_VALUE(PROGRAMS, ioctl, 1, FIONBIO),
    ALLOW_VALUE(PROGRAMS, ioctl, 1, TCGETS), /* isatty, which fails as it should */
    /* fstat of newer C libraries. */
    {EVERYBODY, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1, {MASKED(3, AT_EMPTY_PATH, AT_EMPTY_PATH)},
     FILES_NONE, FILES_NONE},
    /* An edge connects to cores and tells its supervisor; handlers may well speak UDP. */
    {EDGE, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3,
     {COMPARE(0, SCMP_CMP_EQ, AF_INET), MASKED(1, SOCKET_TYPE_MASK, SOCK_STREAM), COMPARE(2, SCMP_CMP_EQ, 0)},
     ANY_FILES},
    {EDGE, SCMP_ACT_ALLOW, SCMP_SYS(socket), 3,
     {COMPARE(0, SCMP_CMP_EQ, AF_INET6), MASKED(1, SOCKET_TYPE_MASK, SOCK_STREAM), COMPARE(2, SCMP_CMP_EQ, 0)},
     ANY_FILES},
    {CORE, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
     {COMPARE(0, SCMP_CMP_EQ, AF_INET), MASKED(1, SOCKET_TYPE_MASK, SOCK_STREAM)}, ANY_FILES},
    {CORE, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
     {COMPARE(0, SCMP_CMP_EQ, AF_INET6), MASKED(1, SOCKET_TYPE_MASK, SOCK_STREAM)}, ANY_FILES},
    {CORE, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
     {COMPARE(0, SCMP_CMP_EQ, AF_INET), MASKED(1, SOCKET_TYPE_MASK, SOCK_DGRAM)}, ANY_FILES},
    {CORE, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
     {COMPARE(0, SCMP_CMP_EQ, AF_INET6), MASKED(1, SOCKET_TYPE_MASK, SOCK_DGRAM)}, ANY_FILES},
    ALLOW_VALUE(PROGRAMS, socket, 0, AF_UNIX),
    {PROGRAMS, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, {COMPARE(0, SCMP_CMP_GT, AF_INET6)}, ANY_FILES},
    /* Files for reading. */
    {PROGRAMS, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, {MASKED(2, OPEN_WRITES, 0)}, FILES_READ, FILES_READ},
    {PROGRAMS, SCMP_ACT_ALLOW, SCMP_SYS(open), 1, {MASKED(1, OPEN_WRITES, 0)}, FILES_READ, FILES_READ},
    REFUSE_FLAG(openat, 2, O_WRONLY), REFUSE_FLAG(openat, 2, O_RDWR), REFUSE_FLAG(openat, 2, O_CREAT),
    REFUSE_FLAG(openat, 2, O_TRUNC), REFUSE_FLAG(openat, 2, O_APPEND),
    REFUSE_FLAG(open, 1, O_WRONLY), REFUSE_FLAG(open, 1, O_RDWR), REFUSE_FLAG(open, 1, O_CREAT),
    REFUSE_FLAG(open, 1, O_TRUNC), REFUSE_FLAG(open, 1, O_APPEND),
    {READER, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, {MASKED(2, OPEN_WRITES, 0)}, ANY_FILES},
    {READER, SCMP_ACT_ALLOW, SCMP_SYS(open), 1, {MASKED(1, OPEN_WRITES, 0)}, ANY_FILES},
};
/* clang-format on */

/* ------------------------------------------------------------------------------------------------ building */

/* One that the operator has named is allowed as a whole: what the tables say of it must not be in the way. */
static bool call_is_named(const struct sandbox_plan *plan, int call)
{
    for (size_t i = 0; i < plan->call_count; i++) {
        if (seccomp_syscall_resolve_name(plan->calls[i]) == call) {
            return true;
        }
    }
    return false;
}

static enum files_open files_of(const struct sandbox_plan *plan)
{
    if (plan->write_path_count > 0) {
        return FILES_WRITTEN;
    }
    return plan->read_path_count > 0 ? FILES_READ : FILES_NONE;
}

/* newfstatat has both: rules for fstat, and a refusal for the rest, which has to be its complement. */
static int add_refusal(scmp_filter_ctx filter, uint32_t action, int call)
{
    if (call != SCMP_SYS(newfstatat) || action != SCMP_ACT_ERRNO(EPERM)) {
        return seccomp_rule_add(filter, action, call, 0);
    }
    const struct scmp_arg_cmp named = {3, SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, 0};
    return seccomp_rule_add_array(filter, action, call, 1, &named);
}

static int add_groups(scmp_filter_ctx filter, const struct sandbox_plan *plan)
{
    enum files_open files = files_of(plan);
    int result = 0;

    for (size_t i = 0; i < LENGTH(call_groups); i++) {
        const struct call_group *group = &call_groups[i];
        bool meant = (group->roles & (1U << plan->role)) != 0 && files >= group->least && files <= group->most;
        for (size_t k = 0; meant && k < group->count && result == 0; k++) {
            if (!call_is_named(plan, group->calls[k])) {
                result = add_refusal(filter, group->action, group->calls[k]);
            }
        }
    }
    return result;
}

static int add_rules(scmp_filter_ctx filter, const struct sandbox_plan *plan)
{
    enum files_open files = files_of(plan);
    int result = 0;

    for (size_t i = 0; i < LENGTH(call_rules) && result == 0; i++) {
        const struct call_rule *rule = &call_rules[i];
        if ((rule->roles & (1U << plan->role)) != 0 && files >= rule->least && files <= rule->most &&
            !call_is_named(plan, rule->call)) {
            result = seccomp_rule_add_array(filter, rule->action, rule->call, rule->count, rule->arguments);
        }
    }
    for (size_t i = 0; i < plan->call_count && result == 0; i++) {
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, seccomp_syscall_resolve_name(plan->calls[i]), 0);
        result = result == -EEXIST ? 0 : result; /* named twice */
    }
    /* abort() and the end after a report; known only now. The reader's signals are its own, too. */
    if (result == 0 && !call_is_named(plan, SCMP_SYS(tgkill))) {
        const struct scmp_arg_cmp own = {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0};
        result = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &own);
    }
    return result;
}

static int set_attributes(scmp_filter_ctx filter)
{
    /* For threads of handlers, which run already. */
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

    if (result == 0) {
        /* Another architecture's calls have other numbers. */
        result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    }
    if (result == 0) {
        result = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1); /* the kernel's own errors */
    }
    /* Nobody's code but ours runs here: kernels before 5.16 would slow all of it down. Both may be unknown. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return result;
}

static void tell(struct sandbox_outcome *outcome, const char *step, int result)
{
    if (result == -ENOSYS || result == -EOPNOTSUPP) {
        (void)snprintf(outcome->seccomp, sizeof(outcome->seccomp), "the kernel does not have it");
    } else {
        (void)snprintf(outcome->seccomp, sizeof(outcome->seccomp), "%s: %s", step, strerror(-result));
    }
}

void sandbox_filter_enter(const struct sandbox_plan *plan, struct sandbox_outcome *outcome)
{
    uint32_t last = sandbox_report_install() ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS;
    scmp_filter_ctx filter = seccomp_init(last);

    if (filter == NULL) {
        tell(outcome, "no filter can be made", -ENOMEM);
        return;
    }
    int result = set_attributes(filter);
    if (result == 0) {
        result = add_groups(filter, plan);
    }
    if (result == 0) {
        result = add_rules(filter, plan);
    }
    if (result != 0) {
        tell(outcome, "no filter can be made", result);
    } else {
        result = seccomp_load(filter);
        if (result != 0) {
            tell(outcome, "the kernel does not take the filter", result);
        }
    }
    seccomp_release(filter);
}
