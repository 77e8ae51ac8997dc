/*
 * A handler for test_privilege.py that tries what its client tells it to, a line at a time, and answers with what came
 * of it: "ok", or the name of the error.
 *
 *   read PATH | write PATH | run PATH | group
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <trunkline.h>
#include <unistd.h>

static const char *attempt_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0) {
        return strerrorname_np(errno);
    }
    close(fd);
    return "ok";
}

static const char *attempt(const char *line)
{
    if (strncmp(line, "read ", 5) == 0) {
        return attempt_open(line + 5, O_RDONLY);
    }
    if (strncmp(line, "write ", 6) == 0) {
        return attempt_open(line + 6, O_WRONLY | O_CREAT);
    }
    if (strncmp(line, "run ", 4) == 0) {
        char *const arguments[] = {(char *)line + 4, NULL};

        execv(line + 4, arguments);
        return strerrorname_np(errno);
    }
    if (strcmp(line, "group") == 0) {
        return getpgrp() > 0 ? "ok" : strerrorname_np(errno);
    }
    return "what?";
}

/* Lines of the test are short and come in one piece. */
static void attempts_data(trunkline_session *session, const void *bytes, size_t length)
{
    char line[512];
    char answer[64];

    trunkline_consume(session, length);
    snprintf(line, sizeof(line), "%.*s", (int)length, (const char *)bytes);
    line[strcspn(line, "\n")] = '\0';
    int written = snprintf(answer, sizeof(answer), "%s\n", attempt(line));
    trunkline_write(session, answer, (size_t)written);
}

static void attempts_open(trunkline_session *session, void *service)
{
    (void)service;
    trunkline_accept(session);
}

static void attempts_end(trunkline_session *session)
{
    trunkline_end(session);
}

static const trunkline_handler attempts = {
    .abi = TRUNKLINE_ABI,
    .name = "attempts",
    .open = attempts_open,
    .data = attempts_data,
    .end = attempts_end,
};

const trunkline_handler *trunkline_plugin(void)
{
    return &attempts;
}
