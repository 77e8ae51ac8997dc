/*
 * Both sides of the socket pair. A request is the number of a path, as both know the list: whoever has taken over the
 * program cannot name a path of their own. An answer is a header and, when nothing went wrong, the file's bytes.
 */
#include "mux/file_reader.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mux/file.h"
#include "mux/memory.h"
#include "mux/privilege.h"
#include "mux/sandbox.h"

struct file_reader {
    char **paths;
    size_t path_count;
    pid_t process; /* 0: none */
    int fd;        /* -1: it answers no more */
};

struct file_answer {
    int32_t reason; /* an errno; 0: `length` bytes follow */
    uint32_t length;
};

/* False at the end of the stream, at an error and when time is up; errno tells which. */
static bool stream_receive(int fd, void *into, size_t length)
{
    for (size_t have = 0; have < length;) {
        ssize_t count = recv(fd, (char *)into + have, length - have, 0);

        if (count == 0) {
            errno = EPIPE;
            return false;
        }
        if (count < 0 && errno != EINTR) {
            errno = errno == EAGAIN ? ETIMEDOUT : errno;
            return false;
        }
        have += count > 0 ? (size_t)count : 0;
    }
    return true;
}

static bool stream_send(int fd, const void *bytes, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t count = send(fd, (const char *)bytes + sent, length - sent, MSG_NOSIGNAL);

        if (count < 0 && errno != EINTR) {
            return false;
        }
        sent += count > 0 ? (size_t)count : 0;
    }
    return true;
}

/* ------------------------------------------------------------------------------------------------ the process */

static bool reader_answer(const struct file_reader *reader, uint32_t number, unsigned char *room)
{
    struct file_answer answer = {.reason = EACCES};
    size_t length = 0;

    if (number < reader->path_count) {
        answer.reason = file_fill(reader->paths[number], room, FILE_BYTES_MAX + 1, &length);
        answer.length = answer.reason == 0 ? (uint32_t)length : 0;
    }
    bool sent = stream_send(reader->fd, &answer, sizeof(answer)) && stream_send(reader->fd, room, answer.length);
    memory_wipe(room, length);
    return sent;
}

/* Nothing of the program stays open but standard error, where a forbidden system call is told of. */
static void reader_close_files(int kept)
{
    for (int fd = STDIN_FILENO; fd < STDERR_FILENO; fd++) {
        if (fd != kept) {
            close(fd);
        }
    }
    if (kept > STDERR_FILENO + 1) {
        (void)close_range(STDERR_FILENO + 1, (unsigned)kept - 1, 0);
    }
    (void)close_range((unsigned)kept + 1, ~0U, 0);
}

static _Noreturn void reader_run(struct file_reader *reader, bool confined)
{
    unsigned char *room = memory_alloc(FILE_BYTES_MAX + 1);
    uint32_t number = 0;
    uint8_t ready = 1;

    /* A terminal's Ctrl-C and signals to the whole group are for the program; this ends with it, when the socket does.
     */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)prctl(PR_SET_NAME, FILE_READER_NAME);
    reader_close_files(reader->fd);
    if (room == NULL || privilege_keep_reading() != ERROR_NONE) {
        _exit(1);
    }
    if (confined) {
        const struct sandbox_plan plan = {
            .role = SANDBOX_READER, .files = (const char *const *)reader->paths, .file_count = reader->path_count};
        struct sandbox_outcome outcome;

        sandbox_enter(&plan, &outcome); /* the program tells what is missing, it has the same kernel */
    }
    if (stream_send(reader->fd, &ready, sizeof(ready))) {
        while (stream_receive(reader->fd, &number, sizeof(number)) && reader_answer(reader, number, room)) {
        }
    }
    _exit(0);
}

/* ------------------------------------------------------------------------------------------------ the program */

static enum error_code reader_copy_paths(struct file_reader *reader, const char *const *paths, size_t count)
{
    reader->paths = memory_calloc(count, sizeof(*reader->paths));
    if (reader->paths == NULL) {
        return ERROR_NO_MEMORY;
    }
    for (; reader->path_count < count; reader->path_count++) {
        reader->paths[reader->path_count] = memory_strdup(paths[reader->path_count]);
        if (reader->paths[reader->path_count] == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    return ERROR_NONE;
}

static enum error_code reader_start(struct file_reader *reader, bool confined)
{
    const struct timeval timeout = {.tv_sec = FILE_READER_TIMEOUT_MS / 1000};
    uint8_t ready = 0;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return ERROR_SYSTEM;
    }
    reader->process = fork();
    if (reader->process == 0) {
        close(ends[0]);
        reader->fd = ends[1];
        reader_run(reader, confined);
    }
    close(ends[1]);
    reader->fd = ends[0];
    if (reader->process < 0) {
        reader->process = 0;
        return ERROR_SYSTEM;
    }
    if (setsockopt(reader->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        !stream_receive(reader->fd, &ready, sizeof(ready))) {
        return ERROR_SYSTEM;
    }
    return ERROR_NONE;
}

enum error_code file_reader_new(struct file_reader **reader, const char *const *paths, size_t path_count, bool confined)
{
    struct file_reader *made = memory_zalloc(sizeof(*made));

    *reader = NULL;
    if (made == NULL) {
        return ERROR_NO_MEMORY;
    }
    made->fd = -1;
    enum error_code error = reader_copy_paths(made, paths, path_count);
    if (error == ERROR_NONE) {
        error = reader_start(made, confined);
    }
    if (error != ERROR_NONE) {
        file_reader_free(&made);
        return error;
    }
    *reader = made;
    return ERROR_NONE;
}

static int reader_give_up(struct file_reader *reader)
{
    /* A process that dies with a request unread resets the stream instead of ending it. */
    int reason = errno == ECONNRESET ? EPIPE : errno;

    close(reader->fd);
    reader->fd = -1;
    return reason;
}

int file_reader_ask(struct file_reader *reader, const char *path, unsigned char *into, size_t room, size_t *length)
{
    struct file_answer answer;
    uint32_t number = 0;

    *length = 0;
    while (number < reader->path_count && strcmp(reader->paths[number], path) != 0) {
        number++;
    }
    if (number == reader->path_count) {
        return EACCES;
    }
    if (reader->fd < 0) {
        return EPIPE;
    }
    if (!stream_send(reader->fd, &number, sizeof(number)) || !stream_receive(reader->fd, &answer, sizeof(answer))) {
        return reader_give_up(reader);
    }
    if (answer.reason != 0) {
        return answer.reason;
    }
    if (answer.length > room) {
        errno = EPROTO; /* another program than ours answers */
        return reader_give_up(reader);
    }
    *length = answer.length; /* so that what has come is wiped whatever follows */
    return stream_receive(reader->fd, into, answer.length) ? 0 : reader_give_up(reader);
}

/* The process ends at the end of the stream. It cannot be killed once the program is another user, so one that hangs in
 * a file system is left to whoever inherits it. */
static void reader_end(struct file_reader *reader)
{
    char rest[256];
    bool ended = true;
    int options = WNOHANG;

    if (reader->fd >= 0) {
        (void)shutdown(reader->fd, SHUT_WR);
        while (ended && recv(reader->fd, rest, sizeof(rest), 0) != 0) {
            ended = errno == EINTR;
        }
        options = ended ? 0 : WNOHANG;
        close(reader->fd);
    }
    while (reader->process > 0 && waitpid(reader->process, NULL, options) < 0 && errno == EINTR) {
    }
}

void file_reader_free(struct file_reader **reader)
{
    struct file_reader *gone = *reader;

    *reader = NULL;
    if (gone == NULL) {
        return;
    }
    reader_end(gone);
    for (size_t i = 0; i < gone->path_count; i++) {
        memory_free(gone->paths[i]);
    }
    memory_free(gone->paths);
    memory_free(gone);
}
