/*
 * What a run counts and measures: filled by the clients of one process, added up over all of them, read by the report.
 * A tally lives in memory that the processes share, so it holds no pointers. One writer.
 */
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
    CLIENT_STAGE_FIRST_BYTE, /* until the service has shown that it serves */
    CLIENT_STAGE_OPEN,
    CLIENT_STAGE_COUNT,
};

/* Durations, in microseconds. */
enum measure {
    MEASURE_CONNECT,           /* connect() to an established TCP connection */
    MEASURE_HANDSHAKE_FULL,    /* from there to the end of TLS */
    MEASURE_HANDSHAKE_RESUMED, /* the same, of a client whose ticket was taken */
    MEASURE_FIRST_BYTE,        /* from there to the first byte of the service */
    MEASURE_ECHO,              /* intended time of sending until the message is back */
    MEASURE_PING,              /* the same for keep-alive pings */
    MEASURE_ANSWER,            /* intended time of an HTTP request until the last byte of its answer */
    MEASURE_DELIVERY,          /* the server's time of sending until the message has come whole */
    MEASURE_LAG,               /* intended time until it was sent: how late the generator itself was */
    MEASURE_BACK,              /* from a storm's drop until a dropped client was served again */
    MEASURE_COUNT,
};

struct tally {
    struct histogram measures[MEASURE_COUNT];
    uint64_t failures[CLIENT_STAGE_COUNT][ERROR_CODE_COUNT];
    uint64_t failed;         /* the sum of these */
    uint64_t started;        /* clients that called connect(), those that came back after a storm not counted */
    uint64_t opened;         /* of these, clients that were served */
    uint64_t dropped;        /* clients that a storm dropped */
    uint64_t returned;       /* of these, clients that were served again */
    uint64_t ended_clean;    /* clients that ended at our wish, with close_notify from the server */
    uint64_t ended_other;    /* at our wish, but the server closed without, or did not close in time */
    uint64_t sent;           /* messages, the first ones and pings included */
    uint64_t echoed;         /* whole, unaltered, once and in order */
    uint64_t delivered;      /* messages of one-way down traffic, the same */
    uint64_t requests;       /* HTTP, the first ones included */
    uint64_t answered;       /* with the right status, and length if one was asked for */
    uint64_t wrong_status;   /* HTTP answers with another status than expected */
    uint64_t wrong_length;   /* HTTP answers with another length than expected */
    uint64_t unanswered;     /* sent, but nothing came back until the client failed or the run ended */
    uint64_t stalled;        /* clients that were connected until the end, and did not get all answers */
    uint64_t abandoned;      /* sent, but the storm dropped the client before anything came back */
    uint64_t scheduled;      /* messages and requests that were sent on schedule: neither the first ones nor pings */
    uint64_t silent;         /* clients of one-way down traffic to whom nothing came, though messages were due */
    uint64_t unsent;         /* due, but the client had too much waiting: the server does not read, or not answer */
    uint64_t missed;         /* due while a storm had left no client to send it */
    uint64_t bytes_up;       /* application bytes sent */
    uint64_t bytes_down;     /* application bytes received */
    uint64_t ramp_us;        /* from the first connect() until the last client was open or had failed */
    uint64_t traffic_us;     /* from the first scheduled message to the last */
    uint64_t traffic_cpu_us; /* of the busiest process meanwhile */
    struct message_faults faults;
    char first_failure[160]; /* of the first client that failed, in words */
    uint16_t tls_version;    /* of the first client */
    uint16_t tls_suite;
    bool interrupted; /* a signal ended the run early */
    bool cut_short;   /* all clients failed, so the traffic ended early */
};

/* Nothing counted yet. */
void tally_init(struct tally *tally);

/* Adds what another process has counted. Durations of phases become the longest. */
void tally_add(struct tally *into, const struct tally *from);

/* Full and resumed handshakes together. */
void tally_handshakes(const struct tally *tally, struct histogram *both);

/* "first_byte"; static. */
const char *measure_name(enum measure measure);

/* False when no measure has this name. */
bool measure_find(const char *name, enum measure *measure);

/* What a client's failure means: ERROR_INVALID stands for bytes that cannot be an answer to anything sent, ERROR_LIMIT
 * for a limit of the system's on connections. */
static inline const char *tally_error_text(enum error_code error)
{
    if (error == ERROR_INVALID) {
        return "what came back is not what was sent";
    }
    return error == ERROR_LIMIT ? "no port is free" : error_text(error);
}

#endif
