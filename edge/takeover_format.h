/*
 * What two processes of the edge say to each other when one takes over from the other: docs/ARCHITECTURE.md,
 * "Takeover", has the order. Each message is a frame: a header of TAKEOVER_HEADER_BYTES and a body. HELLO and REFUSE
 * never change their form, so that any two releases can tell each other that they do not fit. What is packed here is
 * bytes; clients are packed by edge/client_export.c. Pure.
 */
#ifndef EDGE_TAKEOVER_FORMAT_H
#define EDGE_TAKEOVER_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mux/error.h"
#include "mux/pack.h"
#include "mux/tls.h"

/* Of everything but HELLO and REFUSE. A process writes the newest that it knows and reads the older ones from
 * TAKEOVER_VERSION_OLDEST on: so the older of two releases writes, and the newer one reads. */
#define TAKEOVER_VERSION        1U
#define TAKEOVER_VERSION_OLDEST 1U

#define TAKEOVER_HEADER_BYTES 8U
#define TAKEOVER_TEXTS_MAX    1024U /* listeners, cores */
#define TAKEOVER_TEXT_MAX     1024U /* bytes of one */

enum takeover_message {
    TAKEOVER_HELLO = 1,  /* new */
    TAKEOVER_REFUSE,     /* either, before COMMIT: a text; nothing follows, the old process carries on */
    TAKEOVER_WELCOME,    /* old */
    TAKEOVER_READY,      /* new: its trunks are up, as far as they are */
    TAKEOVER_WORKER,     /* old, for each worker: with its listening sockets; it stands still */
    TAKEOVER_CLIENTS,    /* old: clients of this worker, with their sockets */
    TAKEOVER_END,        /* old: that was all; with its control socket */
    TAKEOVER_PREPARED,   /* new: it has them all, and touches none */
    TAKEOVER_COMMIT,     /* old: it touches none any more */
    TAKEOVER_COMMITTED,  /* new: it serves them from now on */
    TAKEOVER_TAKEN_BACK, /* old, which did not hear COMMITTED: it serves them */
    TAKEOVER_DONE,       /* new: the supervisor knows; the old process may end */
};

/* Texts of their own, in one allocation each. */
struct takeover_texts {
    char **items;
    size_t count;
};

struct takeover_hello {
    uint16_t version_oldest; /* that it reads */
    uint16_t version;
    uint32_t workers;
    bool resumes;     /* resume-timeout is not 0 */
    char *trunk_name; /* that its trunk certificate bears, by which cores know its sessions */
    struct takeover_texts cores;
};

struct takeover_welcome {
    uint16_t version; /* of all that follows */
    uint32_t identity;
    struct takeover_texts listens;
};

struct takeover_ready {
    size_t listener_count;
    uint16_t listeners[TAKEOVER_TEXTS_MAX]; /* by number in the welcome: the number that the new process gives it;
                                               UINT16_MAX: it has no such listener */
    size_t up_count;                        /* workers times cores */
    const uint8_t *up; /* for each worker, for each core of the hello: 1: it has a trunk that resumes;
                          points into what was read, or to the caller's */
};

struct takeover_worker {
    uint32_t index;
    uint64_t numbered; /* sessions: the next one has the number above */
    uint8_t secret[TLS_SESSION_SECRET_BYTES];
    size_t listener_count;
    uint16_t listeners[TAKEOVER_TEXTS_MAX]; /* numbers in the welcome, in the order of the sockets */
};

void takeover_header_write(uint8_t header[TAKEOVER_HEADER_BYTES], enum takeover_message message, size_t sockets,
                           size_t length);

/* ERROR_INVALID for what no header can be. */
enum error_code takeover_header_read(const uint8_t header[TAKEOVER_HEADER_BYTES], enum takeover_message *message,
                                     size_t *sockets, size_t *length);

/* Whoever reads a text list adds to it one by one; freed with takeover_texts_dispose. ERROR_NO_MEMORY. */
enum error_code takeover_texts_add(struct takeover_texts *texts, const char *text);
void takeover_texts_dispose(struct takeover_texts *texts);

/* The place of a text; SIZE_MAX: none. */
size_t takeover_texts_find(const struct takeover_texts *texts, const char *text);

/* The reading ones: ERROR_INVALID (it cannot be, or has bytes left over), ERROR_NO_MEMORY; nothing is to be disposed of
 * then. A hello of a foreign version is read as far as its form never changes. */
void takeover_hello_write(const struct takeover_hello *hello, struct pack *pack);
enum error_code takeover_hello_read(struct takeover_hello *hello, const uint8_t *bytes, size_t length);
void takeover_hello_dispose(struct takeover_hello *hello);

void takeover_welcome_write(const struct takeover_welcome *welcome, struct pack *pack);
enum error_code takeover_welcome_read(struct takeover_welcome *welcome, const uint8_t *bytes, size_t length);
void takeover_welcome_dispose(struct takeover_welcome *welcome);

void takeover_ready_write(const struct takeover_ready *ready, struct pack *pack);
enum error_code takeover_ready_read(struct takeover_ready *ready, const uint8_t *bytes, size_t length);

/* A message that is nothing but a number of clients: END, PREPARED. */
void takeover_count_write(uint64_t count, struct pack *pack);
enum error_code takeover_count_read(uint64_t *count, const uint8_t *bytes, size_t length);

/* The secret is the caller's to wipe. */
void takeover_worker_write(const struct takeover_worker *worker, struct pack *pack);
enum error_code takeover_worker_read(struct takeover_worker *worker, const uint8_t *bytes, size_t length);

#endif
