/*
 * Tells of a forbidden system call. The kernel does not carry the call out, but sends SIGSYS to the thread that made
 * it; the handler runs there, whatever the thread was doing, so it takes no lock and no memory. Nothing in the process
 * can take its place: the filter forbids that.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mux/log.h"
#include "mux/sandbox_internal.h"

/* Those that are likely to be met; the number tells of the others (ausyscall(8), scmp_sys_resolver(1)). */
static const struct {
    int number;
    const char *name;
} report_names[] = {
    {SYS_execve, "execve"},
    {SYS_execveat, "execveat"},
    {SYS_clone, "clone"},
#ifdef SYS_fork
    {SYS_fork, "fork"},
    {SYS_vfork, "vfork"},
#endif
    {SYS_ptrace, "ptrace"},
    {SYS_kill, "kill"},
    {SYS_tgkill, "tgkill"},
    {SYS_socket, "socket"},
    {SYS_bind, "bind"},
    {SYS_listen, "listen"},
    {SYS_ioctl, "ioctl"},
    {SYS_fcntl, "fcntl"},
    {SYS_prctl, "prctl"},
    {SYS_prlimit64, "prlimit64"},
    {SYS_rt_sigaction, "rt_sigaction"},
    {SYS_mount, "mount"},
    {SYS_setresuid, "setresuid"},
    {SYS_memfd_create, "memfd_create"},
    {SYS_inotify_init1, "inotify_init1"},
    {SYS_process_vm_readv, "process_vm_readv"},
    {SYS_shmget, "shmget"},
#ifdef SYS_bpf
    {SYS_bpf, "bpf"},
#endif
#ifdef SYS_io_uring_setup
    {SYS_io_uring_setup, "io_uring_setup"},
#endif
};

static const char *report_name(int number)
{
    for (size_t i = 0; i < sizeof(report_names) / sizeof(*report_names); i++) {
        if (report_names[i].number == number) {
            return report_names[i].name;
        }
    }
    return "other";
}

static void report_violation(int number, siginfo_t *information, void *context)
{
    (void)number;
    (void)context;
    log_write_in_signal("sandbox-violation", "name", report_name(information->si_syscall), "call",
                        information->si_syscall);
    /* The disposition is the default one again: this ends the process. */
    (void)raise(SIGSYS);
}

bool sandbox_report_install(void)
{
    struct sigaction action = {.sa_sigaction = report_violation};

    /* SA_NODEFER: the signal raised by the handler must not wait for its end. */
    action.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER);
    sigemptyset(&action.sa_mask);
    return sigaction(SIGSYS, &action, NULL) == 0;
}
