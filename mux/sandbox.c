/* Entering the sandbox, and what its options may say. Holds nothing. */
#include "mux/sandbox.h"

#include <seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "mux/sandbox_internal.h"

void sandbox_enter(const struct sandbox_plan *plan, struct sandbox_outcome *outcome)
{
    *outcome = (struct sandbox_outcome){.landlock_version = 0};
#ifdef TRUNKLINE_SANITIZED
    /* Their reports start other programs, their leak check stops all threads with ptrace. A process that has become
     * another user would be closed to that, too. */
    (void)plan;
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    (void)snprintf(outcome->seccomp, sizeof(outcome->seccomp), "the program is built with a sanitizer");
    (void)snprintf(outcome->landlock, sizeof(outcome->landlock), "the program is built with a sanitizer");
#else
    /* Neither a core file nor another process of the same user shall get at keys. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    sandbox_landlock_enter(plan, outcome);
    sandbox_filter_enter(plan, outcome); /* last: it forbids what is needed for the former */
#endif
}

bool sandbox_check_call(const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];

    return seccomp_syscall_resolve_name(text) != __NR_SCMP_ERROR ||
           option_fault_set(fault, "%s is not the name of a system call", option_quote(text, quoted));
}

bool sandbox_check_path(const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];

    return text[0] == '/' || option_fault_set(fault, "%s is not an absolute path", option_quote(text, quoted));
}
