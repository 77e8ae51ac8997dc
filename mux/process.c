/*
 * Signals, threads and the supervisor. The process object owns the signalfd; main's thread owns the object. The
 * signals stay blocked after process_free, so that one that comes late cannot cut the end of the program short.
 */
#include "mux/process.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mux/memory.h"

#define CPUS_MAX       8192
#define NAME_BYTES_MAX 16 /* of a thread, with its zero */

_Static_assert(sizeof(pthread_t) == sizeof(uint64_t), "a thread is handed out as a uint64_t");

struct process {
    struct loop_source source;
    struct loop *loop;
    process_signal_fn *on_signal;
    void *owner;
    bool draining;
};

static void process_ready(struct loop_source *source, unsigned events)
{
    struct process *process = container_of(source, struct process, source);
    struct signalfd_siginfo information;
    (void)events;
    /* One signal per report: the watch is level-triggered, and the owner may free the process in the call. */
    if (read(source->fd, &information, sizeof information) != (ssize_t)sizeof information) {
        return;
    }
    enum process_signal meaning = PROCESS_SIGNAL_RELOAD;
    if (information.ssi_signo != SIGHUP) {
        meaning = process->draining ? PROCESS_SIGNAL_STOP : PROCESS_SIGNAL_DRAIN;
        process->draining = true;
    }
    process->on_signal(process->owner, meaning);
}

enum error_code process_new(struct process **process, struct loop *loop, process_signal_fn *on_signal, void *owner)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    struct process *made = memory_zalloc(sizeof *made);
    if (made == NULL) {
        return ERROR_NO_MEMORY;
    }
    memory_tune();
    made->loop = loop;
    made->on_signal = on_signal;
    made->owner = owner;
    if (pthread_sigmask(SIG_BLOCK, &signals, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        memory_free(made);
        return ERROR_SYSTEM;
    }
    int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        memory_free(made);
        return ERROR_SYSTEM;
    }
    enum error_code error = loop_watch(loop, &made->source, fd, LOOP_LEVEL_READ, process_ready);
    if (error != ERROR_NONE) {
        close(fd);
        memory_free(made);
        return error;
    }
    *process = made;
    return ERROR_NONE;
}

void process_free(struct process **process)
{
    if (*process == NULL) {
        return;
    }
    int fd = (*process)->source.fd;
    loop_unwatch((*process)->loop, &(*process)->source);
    close(fd);
    memory_free(*process);
    *process = NULL;
}

uint32_t process_cpus(void)
{
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    int count = 0;
    if (set != NULL && sched_getaffinity(0, CPU_ALLOC_SIZE(CPUS_MAX), set) == 0) {
        count = CPU_COUNT_S(CPU_ALLOC_SIZE(CPUS_MAX), set);
    }
    CPU_FREE(set);
    return count > 0 ? (uint32_t)count : 1;
}

uint64_t process_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
}

enum error_code process_thread_start(uint64_t *thread, const char *name, void *(*run)(void *argument), void *argument)
{
    pthread_t started;
    char own_name[NAME_BYTES_MAX];
    char short_name[NAME_BYTES_MAX];
    /* A thread begins with the name of the one that starts it: naming it from outside would open a file below /proc,
     * which the sandbox forbids. A name is for people who look at the process; a thread without one works as well. */
    bool named = pthread_getname_np(pthread_self(), own_name, sizeof own_name) == 0;
    snprintf(short_name, sizeof short_name, "%.*s", NAME_BYTES_MAX - 1, name);
    if (named) {
        (void)pthread_setname_np(pthread_self(), short_name);
    }
    int failure = pthread_create(&started, NULL, run, argument);
    if (named) {
        (void)pthread_setname_np(pthread_self(), own_name);
    }
    if (failure != 0) {
        return ERROR_SYSTEM;
    }
    *thread = (uint64_t)started;
    return ERROR_NONE;
}

void process_thread_join(uint64_t thread)
{
    (void)pthread_join((pthread_t)thread, NULL);
}

void process_notify(const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path != NULL ? strlen(path) : 0;
    if (length < 2 || length >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* the abstract name space */
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    /* A supervisor that does not listen is its own affair. */
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

bool process_notify_is_abstract(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    return path != NULL && path[0] == '@';
}
