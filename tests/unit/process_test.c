/* Signals, threads, limits and the supervisor's socket (a datagram socket of the test itself: it is what is tested). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/memory.h"
#include "mux/process.h"

struct watch {
    struct loop *loop;
    struct process *process;
    enum process_signal seen[8];
    unsigned count;
    bool free_on_signal;
};

static void on_signal(void *owner, enum process_signal meaning)
{
    struct watch *watch = owner;
    assert_true(watch->count < 8);
    watch->seen[watch->count++] = meaning;
    if (watch->free_on_signal) {
        process_free(&watch->process);
    }
}

static void watch_open(struct watch *watch)
{
    memset(watch, 0, sizeof *watch);
    assert_int_equal(loop_new(&watch->loop), ERROR_NONE);
    assert_int_equal(process_new(&watch->process, watch->loop, on_signal, watch), ERROR_NONE);
}

static void watch_close(struct watch *watch)
{
    process_free(&watch->process);
    assert_null(watch->process);
    process_free(&watch->process);
    loop_free(&watch->loop);
}

static void send_signal(struct watch *watch, int number)
{
    assert_int_equal(kill(getpid(), number), 0);
    loop_run_once(watch->loop, 0);
}

static void the_first_signal_drains_and_the_next_ones_stop(void **state)
{
    (void)state;
    struct watch watch;
    watch_open(&watch);
    send_signal(&watch, SIGTERM);
    assert_int_equal(watch.count, 1);
    assert_int_equal(watch.seen[0], PROCESS_SIGNAL_DRAIN);
    send_signal(&watch, SIGINT);
    assert_int_equal(watch.count, 2);
    assert_int_equal(watch.seen[1], PROCESS_SIGNAL_STOP);
    watch_close(&watch);
}

static void a_hangup_reloads_at_any_time(void **state)
{
    (void)state;
    struct watch watch;
    watch_open(&watch);
    send_signal(&watch, SIGHUP);
    send_signal(&watch, SIGINT);
    send_signal(&watch, SIGHUP);
    assert_int_equal(watch.count, 3);
    assert_int_equal(watch.seen[0], PROCESS_SIGNAL_RELOAD);
    assert_int_equal(watch.seen[1], PROCESS_SIGNAL_DRAIN);
    assert_int_equal(watch.seen[2], PROCESS_SIGNAL_RELOAD);
    watch_close(&watch);
}

static void signals_that_come_together_are_all_reported(void **state)
{
    (void)state;
    struct watch watch;
    watch_open(&watch);
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    assert_int_equal(kill(getpid(), SIGINT), 0);
    for (unsigned i = 0; i < 4; i++) {
        loop_run_once(watch.loop, 0);
    }
    assert_int_equal(watch.count, 2);
    assert_int_equal(watch.seen[0], PROCESS_SIGNAL_DRAIN);
    assert_int_equal(watch.seen[1], PROCESS_SIGNAL_STOP);
    watch_close(&watch);
}

static void the_owner_may_free_the_process_in_its_call(void **state)
{
    (void)state;
    struct watch watch;
    watch_open(&watch);
    watch.free_on_signal = true;
    send_signal(&watch, SIGTERM);
    assert_int_equal(watch.count, 1);
    assert_null(watch.process);
    watch_close(&watch);
}

static void a_broken_pipe_does_not_kill(void **state)
{
    (void)state;
    struct watch watch;
    int ends[2];
    watch_open(&watch);
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_int_equal(write(ends[1], "x", 1), -1);
    close(ends[1]);
    watch_close(&watch);
}

static void a_failed_allocation_leaves_nothing_behind(void **state)
{
    (void)state;
    struct loop *loop;
    struct process *process = NULL;
    uint64_t faults = 1;
    int before = dup(STDERR_FILENO);
    close(before);
    assert_int_equal(loop_new(&loop), ERROR_NONE);
    for (uint64_t nth = 1; faults != 0; nth++) {
        assert_true(nth < 20);
        memory_fail_at(nth);
        enum error_code error = process_new(&process, loop, on_signal, NULL);
        faults = memory_faults();
        memory_fail_at(0);
        assert_int_equal(error, faults != 0 ? ERROR_NO_MEMORY : ERROR_NONE);
        process_free(&process);
    }
    loop_free(&loop);
    int after = dup(STDERR_FILENO);
    close(after);
    assert_int_equal(before, after);
}

struct thread_seen {
    char name[32];
    sigset_t blocked;
};

static void *thread_look(void *argument)
{
    struct thread_seen *seen = argument;
    /* The starter names the thread when it runs already: wait for the name. */
    do {
        pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
        sched_yield();
    } while (strncmp(seen->name, "worker", 6) != 0);
    pthread_sigmask(SIG_BLOCK, NULL, &seen->blocked);
    return seen;
}

static void threads_are_named_and_take_no_signals(void **state)
{
    (void)state;
    struct watch watch;
    struct thread_seen seen = {.name = ""};
    uint64_t thread;
    watch_open(&watch);
    assert_int_equal(process_thread_start(&thread, "worker-of-a-very-long-name", thread_look, &seen), ERROR_NONE);
    process_thread_join(thread);
    assert_string_equal(seen.name, "worker-of-a-ver");
    assert_true(sigismember(&seen.blocked, SIGTERM));
    assert_true(sigismember(&seen.blocked, SIGINT));
    assert_true(sigismember(&seen.blocked, SIGHUP));
    watch_close(&watch);
}

static void cpus_are_those_that_the_process_may_use(void **state)
{
    (void)state;
    cpu_set_t all;
    cpu_set_t one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    assert_int_equal(process_cpus(), CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(process_cpus(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void the_file_limit_is_raised_to_the_hard_one(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 100;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(process_raise_files(), limit.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, limit.rlim_max);
}

static int supervisor_open(struct sockaddr_un *address, size_t path_length)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(
        bind(fd, (const struct sockaddr *)address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_length)),
        0);
    return fd;
}

static void assert_notified(int fd, const char *state)
{
    char text[64] = "";
    assert_int_equal(recv(fd, text, sizeof text - 1, 0), strlen(state));
    assert_string_equal(text, state);
}

static void the_supervisor_is_told_on_a_path_and_in_the_abstract(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[] = "/tmp/process_test.XXXXXX";
    char abstract[64];
    assert_non_null(mkdtemp(directory));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", directory);
    int fd = supervisor_open(&address, strlen(address.sun_path) + 1);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    process_notify("READY=1");
    assert_notified(fd, "READY=1");
    close(fd);
    unlink(address.sun_path);
    rmdir(directory);

    snprintf(abstract, sizeof abstract, "@process_test.%d", (int)getpid());
    memset(address.sun_path, 0, sizeof address.sun_path);
    memcpy(address.sun_path + 1, abstract + 1, strlen(abstract) - 1);
    fd = supervisor_open(&address, strlen(abstract));
    setenv("NOTIFY_SOCKET", abstract, 1);
    process_notify("STOPPING=1");
    assert_notified(fd, "STOPPING=1");
    unsetenv("NOTIFY_SOCKET");
    process_notify("READY=1");
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    close(fd);
}

static void a_supervisor_that_is_not_there_does_no_harm(void **state)
{
    (void)state;
    static const char *const paths[] = {"", "/", "@", "relative", "/nonexistent/notify"};
    char long_path[300];
    int before = dup(STDERR_FILENO);
    close(before);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        setenv("NOTIFY_SOCKET", paths[i], 1);
        process_notify("READY=1");
    }
    memset(long_path, 'p', sizeof long_path - 1);
    long_path[0] = '/';
    long_path[sizeof long_path - 1] = '\0';
    setenv("NOTIFY_SOCKET", long_path, 1);
    process_notify("READY=1");
    unsetenv("NOTIFY_SOCKET");
    int after = dup(STDERR_FILENO);
    close(after);
    assert_int_equal(before, after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_signal_drains_and_the_next_ones_stop),
        cmocka_unit_test(a_hangup_reloads_at_any_time),
        cmocka_unit_test(signals_that_come_together_are_all_reported),
        cmocka_unit_test(the_owner_may_free_the_process_in_its_call),
        cmocka_unit_test(a_broken_pipe_does_not_kill),
        cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
        cmocka_unit_test(threads_are_named_and_take_no_signals),
        cmocka_unit_test(cpus_are_those_that_the_process_may_use),
        cmocka_unit_test(the_file_limit_is_raised_to_the_hard_one),
        cmocka_unit_test(the_supervisor_is_told_on_a_path_and_in_the_abstract),
        cmocka_unit_test(a_supervisor_that_is_not_there_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
