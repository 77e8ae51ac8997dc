/*
 * What is left to a process in its sandbox. Each attempt is made by a child of the test, which a forbidden system call
 * ends; the sockets here are what is tested. In sanitizer builds there is no sandbox, and that is what is tested then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/log.h"
#include "mux/sandbox.h"

#define EXIT_NOT_IN_FORCE 77

struct attempt {
    int status;       /* as waitpid has it */
    char output[512]; /* standard error */
};

typedef int attempt_fn(void); /* 0: as it should be; else the child's exit code */

static _Noreturn void child_run(const struct sandbox_plan *plan, int errors, attempt_fn *function)
{
    struct sandbox_outcome outcome;

    dup2(errors, STDERR_FILENO);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        _exit(99);
    }
    sandbox_enter(plan, &outcome);
    _exit(outcome.seccomp[0] != '\0' || outcome.landlock[0] != '\0' ? EXIT_NOT_IN_FORCE : function());
}

static struct attempt attempt(const struct sandbox_plan *plan, attempt_fn *function)
{
    struct attempt attempt = {.output = ""};
    int ends[2];
    size_t length = 0;
    ssize_t count;

    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        child_run(plan, ends[1], function);
    }
    assert_true(child > 0);
    close(ends[1]);
    while ((count = read(ends[0], attempt.output + length, sizeof(attempt.output) - 1 - length)) > 0) {
        length += (size_t)count;
    }
    attempt.output[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &attempt.status, 0), child);
    if (WIFEXITED(attempt.status) && WEXITSTATUS(attempt.status) == EXIT_NOT_IN_FORCE) {
#ifdef TRUNKLINE_SANITIZED
        skip();
#else
        fail_msg("this kernel has not both seccomp and Landlock");
#endif
    }
    return attempt;
}

static void succeeds(const struct sandbox_plan *plan, attempt_fn *function)
{
    struct attempt made = attempt(plan, function);

    if (!WIFEXITED(made.status) || WEXITSTATUS(made.status) != 0) {
        fail_msg("status %x: %s", (unsigned)made.status, made.output);
    }
}

static void is_fatal(const struct sandbox_plan *plan, attempt_fn *function, const char *name)
{
    char field[64];
    struct attempt made = attempt(plan, function);

    snprintf(field, sizeof(field), "sandbox-violation name=%s call=", name);
    if (!WIFSIGNALED(made.status) || WTERMSIG(made.status) != SIGSYS || strstr(made.output, field) == NULL) {
        fail_msg("%s: status %x: %s", name, (unsigned)made.status, made.output);
    }
    assert_false(WCOREDUMP(made.status));
}

/* ------------------------------------------------------------------------------------------------ what is allowed */

static void *thread_works(void *argument)
{
    char *memory = malloc(4U << 20);

    if (memory == NULL) {
        return NULL;
    }
    memset(memory, 1, 4U << 20);
    free(memory);
    return argument;
}

static int does_its_work(void)
{
    pthread_t thread;
    void *result = NULL;
    uint64_t number = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(1)};
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int local = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (pthread_setname_np(pthread_self(), "renamed") != 0 ||
        pthread_create(&thread, NULL, thread_works, &number) != 0 || pthread_join(thread, &result) != 0 ||
        result == NULL) {
        return 1;
    }
    if (event < 0 || stream < 0 || local < 0 || getrandom(&number, sizeof(number), 0) != sizeof(number)) {
        return 2;
    }
    (void)connect(stream, (struct sockaddr *)&address, sizeof(address)); /* whatever comes of it */
    (void)signal(SIGPIPE, SIG_IGN);
    LOG(LOG_INFO, "it-works", LOG_INTEGER("event", event));
    return close(event) == 0 && close(stream) == 0 && close(local) == 0 ? 0 : 3;
}

static void programs_do_their_work(void **state)
{
    (void)state;
    for (int role = SANDBOX_EDGE; role <= SANDBOX_CORE; role++) {
        const struct sandbox_plan plan = {.role = (enum sandbox_role)role};
        succeeds(&plan, does_its_work);
    }
}

static int has_no_dump(void)
{
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
}

static void no_core_file_gets_at_keys(void **state)
{
    static const char *const calls[] = {"prctl"};
    const struct sandbox_plan plan = {.role = SANDBOX_EDGE, .calls = calls, .call_count = 1};

    (void)state;
    succeeds(&plan, has_no_dump);
}

/* ------------------------------------------------------------------------------------------------ what is fatal */

static int executes(void)
{
    return execl("/bin/true", "true", (char *)NULL);
}

static int forks(void)
{
    return fork() < 0;
}

static int traces(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int kills(void)
{
    return kill(getppid(), 0);
}

static int binds(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    return bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof(address));
}

static int takes_over_the_report(void)
{
    return signal(SIGSYS, SIG_IGN) == SIG_ERR;
}

/* The kernel takes the lower half of the number. */
static int takes_over_the_report_by_a_trick(void)
{
    return (int)syscall(SYS_rt_sigaction, (1UL << 32) + SIGSYS, NULL, NULL, 8UL);
}

static int opens_a_raw_socket(void)
{
    return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0;
}

static int opens_a_datagram_socket(void)
{
    return socket(AF_INET, SOCK_DGRAM, 0) < 0;
}

static int receives_files(void)
{
    struct msghdr message = {.msg_iov = NULL};

    return recvmsg(0, &message, 0) < 0 ? 0 : 1; /* of no socket */
}

static int reads_a_process_group(void)
{
    return getpgrp() < 0;
}

static void what_nobody_needs_ends_the_process_and_is_told(void **state)
{
    static const struct {
        attempt_fn *function;
        const char *name;
    } attempts[] = {
        {executes, "execve"},
        {forks, "clone"},
        {traces, "ptrace"},
        {kills, "kill"},
        {binds, "bind"},
        {takes_over_the_report, "rt_sigaction"},
        {takes_over_the_report_by_a_trick, "rt_sigaction"},
        {opens_a_raw_socket, "socket"},
        {reads_a_process_group, "other"},
    };

    (void)state;
    for (int role = SANDBOX_EDGE; role <= SANDBOX_CORE; role++) {
        const struct sandbox_plan plan = {.role = (enum sandbox_role)role};
        for (size_t i = 0; i < sizeof(attempts) / sizeof(*attempts); i++) {
            is_fatal(&plan, attempts[i].function, attempts[i].name);
        }
    }
}

static void handlers_may_speak_udp_and_receive_files_and_edges_may_not(void **state)
{
    (void)state;
    succeeds(&(const struct sandbox_plan){.role = SANDBOX_CORE}, opens_a_datagram_socket);
    is_fatal(&(const struct sandbox_plan){.role = SANDBOX_EDGE}, opens_a_datagram_socket, "socket");
    succeeds(&(const struct sandbox_plan){.role = SANDBOX_CORE}, receives_files);
    is_fatal(&(const struct sandbox_plan){.role = SANDBOX_EDGE}, receives_files, "other");
}

static void the_report_is_json_where_the_log_is(void **state)
{
    (void)state;
    log_configure(LOG_INFO, LOG_FORMAT_JSON);
    struct attempt made = attempt(&(const struct sandbox_plan){.role = SANDBOX_EDGE}, executes);
    log_configure(LOG_INFO, LOG_FORMAT_TEXT);
    assert_true(WIFSIGNALED(made.status) && WTERMSIG(made.status) == SIGSYS);
    assert_non_null(
        strstr(made.output, "\"level\":\"error\",\"event\":\"sandbox-violation\",\"name\":\"execve\",\"call\":"));
    assert_string_equal(made.output + strlen(made.output) - 2, "}\n");
}

static atomic_int go;

static void *thread_waits_and_reads(void *argument)
{
    while (!go) {
        sched_yield();
    }
    (void)getpgrp();
    return argument;
}

static int waits_for_a_thread(pthread_t thread)
{
    go = 1;
    return pthread_join(thread, NULL) == 0 ? 5 : 6;
}

static pthread_t early_thread;

static int is_ended_by_its_thread(void)
{
    return waits_for_a_thread(early_thread);
}

static void threads_that_run_already_are_confined_too(void **state)
{
    const struct sandbox_plan plan = {.role = SANDBOX_CORE};
    struct sandbox_outcome outcome;
    int status = 0;

    (void)state;
    pid_t child = fork();
    if (child == 0) {
        if (pthread_create(&early_thread, NULL, thread_waits_and_reads, NULL) != 0 ||
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
            _exit(99);
        }
        close(STDERR_FILENO);
        sandbox_enter(&plan, &outcome);
        _exit(outcome.seccomp[0] != '\0' ? EXIT_NOT_IN_FORCE : is_ended_by_its_thread());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
#ifdef TRUNKLINE_SANITIZED
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_IN_FORCE);
#else
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
#endif
}

/* ------------------------------------------------------------------------------------------------ files */

static char directory[64];
static char inside[96];
static char other[96];

static int fails_with(int fd, int reason)
{
    return fd < 0 && errno == reason ? 0 : 1;
}

static int opens_files_in_vain(void)
{
    char room[64];

    return fails_with(open("/etc/passwd", O_RDONLY), EPERM) | fails_with(open(inside, O_RDWR), EPERM) |
           fails_with(open(other, O_WRONLY | O_CREAT, 0600), EPERM) | fails_with(access("/etc", R_OK), EPERM) |
           fails_with((int)readlink("/proc/self/exe", room, sizeof(room)), EPERM);
}

static void files_cannot_be_opened(void **state)
{
    (void)state;
    for (int role = SANDBOX_EDGE; role <= SANDBOX_CORE; role++) {
        const struct sandbox_plan plan = {.role = (enum sandbox_role)role};
        succeeds(&plan, opens_files_in_vain);
    }
}

static int makes_no_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED || mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0) {
        return 1;
    }
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 0 : 2;
}

static void memory_cannot_become_code(void **state)
{
    (void)state;
    succeeds(&(const struct sandbox_plan){.role = SANDBOX_EDGE}, makes_no_code);
    succeeds(&(const struct sandbox_plan){.role = SANDBOX_CORE}, makes_no_code);
}

static int reads_inside_only(void)
{
    int fd = open(inside, O_RDONLY);
    char byte;

    return (fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : 2) | fails_with(open("/etc/passwd", O_RDONLY), EACCES) |
           fails_with(open(inside, O_WRONLY), EPERM) | fails_with(open(other, O_RDONLY | O_CREAT, 0600), EPERM) |
           fails_with(unlink(inside), EPERM);
}

static int writes_inside_only(void)
{
    int fd = open(other, O_RDWR | O_CREAT, 0600);

    return (fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0 && unlink(other) == 0 ? 0 : 2) |
           fails_with(open("/etc/passwd", O_RDONLY), EACCES) |
           fails_with(open("/tmp/trunkline-sandbox-test", O_WRONLY | O_CREAT, 0600), EACCES);
}

static void handlers_get_the_paths_that_they_were_given(void **state)
{
    const char *const paths[] = {directory, "/nonexistent"};
    const struct sandbox_plan reading = {.role = SANDBOX_CORE, .read_paths = paths, .read_path_count = 2};
    const struct sandbox_plan writing = {.role = SANDBOX_CORE, .write_paths = paths, .write_path_count = 2};

    (void)state;
    succeeds(&reading, reads_inside_only);
    succeeds(&writing, writes_inside_only);
}

static int reads_a_process_group_and_no_file(void)
{
    return reads_a_process_group() | fails_with(open(inside, O_RDONLY), EACCES);
}

static void a_call_that_is_named_is_allowed_whatever_the_tables_say(void **state)
{
    static const char *const calls[] = {"getpgrp", "openat", "ptrace", "getpgrp", "connect", "socketcall"};
    const struct sandbox_plan plan = {.role = SANDBOX_CORE, .calls = calls, .call_count = 6};

    (void)state;
    succeeds(&plan, reads_a_process_group_and_no_file); /* Landlock stays */
    is_fatal(&plan, executes, "execve");
}

static int reader_reads_only(void)
{
    int fd = open(inside, O_RDONLY);
    char byte;

    return (fd >= 0 && read(fd, &byte, 1) == 1 ? 0 : 2) | fails_with(open("/etc/passwd", O_RDONLY), EACCES);
}

static int reader_writes(void)
{
    return open(inside, O_WRONLY);
}

static void the_reader_reads_beside_its_files_and_does_nothing_else(void **state)
{
    const char *const files[] = {inside};
    const struct sandbox_plan plan = {.role = SANDBOX_READER, .files = files, .file_count = 1};

    (void)state;
    succeeds(&plan, reader_reads_only);
    is_fatal(&plan, executes, "execve");
    is_fatal(&plan, opens_a_datagram_socket, "socket");
    is_fatal(&plan, reader_writes, "other");
}

/* ------------------------------------------------------------------------------------------------ ports, options */

static int connect_error(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
}

/* Nobody listens on either. */
static int connects_to_its_port_only(void)
{
    return connect_error(1) == ECONNREFUSED && connect_error(2) == EACCES ? 0 : 1;
}

static void an_edge_reaches_the_ports_of_its_cores_only(void **state)
{
    static const uint16_t ports[] = {1};
    const struct sandbox_plan plan = {.role = SANDBOX_EDGE, .ports = ports, .port_count = 1, .ports_limited = true};

    (void)state;
    succeeds(&plan, connects_to_its_port_only);
}

static void options_name_calls_and_absolute_paths(void **state)
{
    struct option_fault fault;

    (void)state;
    assert_true(sandbox_check_call("inotify_init1", &fault));
    assert_false(sandbox_check_call("make_coffee", &fault));
    assert_string_equal(fault.text, "\"make_coffee\" is not the name of a system call");
    assert_true(sandbox_check_path("/var/lib/chat", &fault));
    assert_false(sandbox_check_path("var/lib", &fault));
    assert_string_equal(fault.text, "\"var/lib\" is not an absolute path");
}

#ifdef TRUNKLINE_SANITIZED
static void a_sanitizer_build_says_that_it_has_no_sandbox(void **state)
{
    const struct sandbox_plan plan = {.role = SANDBOX_EDGE};
    struct sandbox_outcome outcome;

    (void)state;
    sandbox_enter(&plan, &outcome);
    assert_string_equal(outcome.seccomp, "the program is built with a sanitizer");
    assert_string_equal(outcome.landlock, "the program is built with a sanitizer");
    assert_int_equal(outcome.landlock_version, 0);
}
#endif

static int make_files(void **state)
{
    const char *temporary = getenv("TMPDIR");

    (void)state;
    snprintf(directory, sizeof(directory), "%.40s/sandbox-XXXXXX", temporary != NULL ? temporary : "/tmp");
    if (mkdtemp(directory) == NULL) {
        return 1;
    }
    snprintf(inside, sizeof(inside), "%s/inside", directory);
    snprintf(other, sizeof(other), "%s/other", directory);
    FILE *file = fopen(inside, "w");
    return file == NULL || fputs("text", file) < 0 || fclose(file) != 0;
}

static int remove_files(void **state)
{
    (void)state;
    return unlink(inside) | rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef TRUNKLINE_SANITIZED
        cmocka_unit_test(a_sanitizer_build_says_that_it_has_no_sandbox),
#endif
        cmocka_unit_test(programs_do_their_work),
        cmocka_unit_test(no_core_file_gets_at_keys),
        cmocka_unit_test(what_nobody_needs_ends_the_process_and_is_told),
        cmocka_unit_test(handlers_may_speak_udp_and_receive_files_and_edges_may_not),
        cmocka_unit_test(the_report_is_json_where_the_log_is),
        cmocka_unit_test(threads_that_run_already_are_confined_too),
        cmocka_unit_test(files_cannot_be_opened),
        cmocka_unit_test(memory_cannot_become_code),
        cmocka_unit_test(handlers_get_the_paths_that_they_were_given),
        cmocka_unit_test(a_call_that_is_named_is_allowed_whatever_the_tables_say),
        cmocka_unit_test(the_reader_reads_beside_its_files_and_does_nothing_else),
        cmocka_unit_test(an_edge_reaches_the_ports_of_its_cores_only),
        cmocka_unit_test(options_name_calls_and_absolute_paths),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
