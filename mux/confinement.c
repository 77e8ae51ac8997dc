/* The order in which privileges go; see confinement.h. */
#include "mux/confinement.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mux/file.h"
#include "mux/log.h"
#include "mux/memory.h"

static enum error_code confinement_find_user(struct confinement *confinement,
                                             const struct confinement_settings *settings, struct option_fault *fault)
{
    struct option_fault detail = {.text = ""};

    if (settings->user == NULL) {
        return ERROR_NONE;
    }
    enum error_code error = privilege_user_find(&confinement->user, settings->user, &detail);
    if (error == ERROR_NO_MEMORY) {
        option_fault_set(fault, "%s", error_text(error));
    } else if (error != ERROR_NONE) {
        option_fault_set(fault, "--user: %s", detail.text);
    } else if (!settings->check_only && !privilege_is_root()) {
        char quoted[OPTION_QUOTED_MAX];
        option_fault_set(fault, "--user: only root can become %s", option_quote(settings->user, quoted));
        error = ERROR_CONFIGURATION;
    }
    confinement->user_given = error == ERROR_NONE;
    return error;
}

static enum error_code confinement_start_reader(struct confinement *confinement,
                                                const struct confinement_settings *settings, struct option_fault *fault)
{
    size_t count = 0;
    const char **files = memory_calloc(settings->file_count, sizeof(*files));
    enum error_code error = ERROR_NO_MEMORY;

    if (files != NULL) {
        for (size_t i = 0; i < settings->file_count; i++) {
            if (settings->files[i] != NULL) {
                files[count++] = settings->files[i];
            }
        }
        error = file_reader_new(&confinement->reader, files, count, settings->mode != SANDBOX_OFF);
    }
    memory_free(files);
    if (error != ERROR_NONE) {
        option_fault_set(fault, "the process that reads files cannot be started: %s", error_text(error));
    }
    return error;
}

enum error_code confinement_init(struct confinement *confinement, const struct confinement_settings *settings,
                                 struct option_fault *fault)
{
    *confinement = (struct confinement){.mode = settings->mode};
    enum error_code error = confinement_find_user(confinement, settings, fault);
    if (error == ERROR_NONE && !settings->check_only && (settings->mode != SANDBOX_OFF || confinement->user_given)) {
        error = confinement_start_reader(confinement, settings, fault);
    }
    return error;
}

static void confinement_log(const struct confinement *confinement, const struct sandbox_outcome *outcome)
{
    bool sandboxed = confinement->mode != SANDBOX_OFF;
    bool filtered = sandboxed && outcome->seccomp[0] == '\0';

    LOG(LOG_INFO, "confined", LOG_INTEGER("uid", geteuid()), LOG_INTEGER("gid", getegid()),
        LOG_TEXT("seccomp", filtered ? "on" : "off"), LOG_INTEGER("landlock", outcome->landlock_version));
    if (sandboxed && outcome->seccomp[0] != '\0') {
        LOG(LOG_WARNING, "confined-in-part", LOG_TEXT("missing", "seccomp"), LOG_TEXT("text", outcome->seccomp));
    }
    if (sandboxed && outcome->landlock[0] != '\0') {
        LOG(LOG_WARNING, "confined-in-part", LOG_TEXT("missing", "landlock"), LOG_TEXT("text", outcome->landlock));
    }
}

static enum error_code confinement_give_up(struct confinement *confinement, struct option_fault *fault)
{
    struct option_fault detail = {.text = ""};

    if (confinement->user_given) {
        if (privilege_become(&confinement->user, &detail) != ERROR_NONE) {
            option_fault_set(fault, "--user: %s", detail.text);
            return ERROR_SYSTEM;
        }
    } else if (privilege_stay() != ERROR_NONE) {
        option_fault_set(fault, "--sandbox: privileges cannot be given up: %s", strerror(errno));
        return ERROR_SYSTEM;
    }
    return ERROR_NONE;
}

enum error_code confinement_enter(struct confinement *confinement, const struct sandbox_plan *plan,
                                  struct option_fault *fault)
{
    struct sandbox_outcome outcome = {.landlock_version = 0};

    if (confinement->reader == NULL) {
        return ERROR_NONE;
    }
    if (confinement_give_up(confinement, fault) != ERROR_NONE) {
        return ERROR_SYSTEM;
    }
    file_use_reader(confinement->reader);
    if (confinement->mode != SANDBOX_OFF) {
        sandbox_enter(plan, &outcome);
    }
    confinement_log(confinement, &outcome);
    if (confinement->mode == SANDBOX_REQUIRE && (outcome.seccomp[0] != '\0' || outcome.landlock[0] != '\0')) {
        bool seccomp = outcome.seccomp[0] != '\0';
        option_fault_set(fault, "--sandbox require: %s is not in force: %s", seccomp ? "seccomp" : "Landlock",
                         seccomp ? outcome.seccomp : outcome.landlock);
        return ERROR_SYSTEM;
    }
    return ERROR_NONE;
}

void confinement_dispose(struct confinement *confinement)
{
    file_use_reader(NULL);
    file_reader_free(&confinement->reader);
    privilege_user_dispose(&confinement->user);
    confinement->user_given = false;
}
