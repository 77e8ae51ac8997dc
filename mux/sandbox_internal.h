/* The parts of the sandbox; see sandbox.h. */
#ifndef MUX_SANDBOX_INTERNAL_H
#define MUX_SANDBOX_INTERNAL_H

#include "mux/sandbox.h"

/* Both leave the reason in outcome->landlock or outcome->seccomp when they cannot. */
void sandbox_landlock_enter(const struct sandbox_plan *plan, struct sandbox_outcome *outcome);
void sandbox_filter_enter(const struct sandbox_plan *plan, struct sandbox_outcome *outcome);

/* Makes a forbidden system call tell of itself before the process ends. False: it will end without a word. */
bool sandbox_report_install(void);

#endif
