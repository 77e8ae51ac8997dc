/* What a run counts and measures: filled by the clients, read by the report. Owned by the run; one thread. */
#ifndef LOAD_TALLY_H
#define LOAD_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "mux/error.h"
#include "tests/load/histogram.h"
#include "tests/load/message.h"

/* Where a client was when it failed. */
enum client_stage {
    CLIENT_STAGE_CONNECT,
    CLIENT_STAGE_HANDSHAKE,
    CLIENT_STAGE_FIRST_ECHO,
    CLIENT_STAGE_OPEN,
    CLIENT_STAGE_COUNT,
};

struct tally {
    struct histogram connect;    /* connect() to an established TCP connection, microseconds */
    struct histogram handshake;  /* from there to the end of TLS */
    struct histogram first_echo; /* from there until the first message is back */
    struct histogram echo;       /* intended time of sending until the message is back */
    struct histogram lag;        /* intended time of sending until it was sent: how late the generator itself was */
    uint64_t failures[CLIENT_STAGE_COUNT][ERROR_CODE_COUNT];
    uint64_t failed;      /* the sum of these */
    uint64_t started;     /* clients that called connect() */
    uint64_t opened;      /* clients whose first echo came */
    uint64_t ended_clean; /* clients that ended at our wish, with close_notify from the server */
    uint64_t ended_other; /* at our wish, but the server closed without, or did not close in time */
    uint64_t sent;        /* messages, the first echoes included */
    uint64_t echoed;      /* whole, unaltered, once and in order */
    uint64_t unanswered;  /* sent, but nothing came back until the client failed or the run ended */
    uint64_t unsent;      /* due, but the client had too much waiting: the server does not read */
    uint64_t ramp_us;     /* from the first connect() until the last client was open or had failed */
    uint64_t traffic_us;  /* from the first scheduled message to the last */
    struct message_faults faults;
    char first_failure[160]; /* of the first client that failed, in words */
    uint16_t tls_version;    /* of the first client */
    uint16_t tls_suite;
    bool interrupted; /* a signal ended the run early */
    bool cut_short;   /* all clients failed, so the traffic ended early */
};

/* What a client's failure means: ERROR_INVALID stands for bytes that cannot be the echo of anything sent. */
static inline const char *tally_error_text(enum error_code error)
{
    return error == ERROR_INVALID ? "what came back is not what was sent" : error_text(error);
}

#endif
