/*
 * An edge's relay in memory, between clients and cores of the test's own: wires instead of sockets, virtual time, real
 * TLS. Everything belongs to one fixture and runs on one thread. What the test itself holds is allocated apart from
 * mux/memory.h, so that an injected fault always hits the relay or a trunk.
 */
#ifndef TESTS_UNIT_EDGE_FIXTURE_H
#define TESTS_UNIT_EDGE_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "edge/client.h"
#include "edge/relay.h"
#include "edge/uplink.h"
#include "tests/unit/test_pki.h"

#define FIXTURE_CORES_MAX   2
#define FIXTURE_STREAMS_MAX 64
#define FIXTURE_LINKS_MAX   64
#define FIXTURE_CLIENTS_MAX 32

struct fixture;

struct fixture_bytes {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
};

/* One end of a wire: what came for it, and what its peer did. */
struct wire_end {
    struct wire_end *peer;
    struct transport *transport; /* whoever reads here, told of events; NULL: the test, or closed */
    struct fixture_bytes incoming;
    size_t incoming_max; /* the peer's writes block beyond */
    unsigned events;     /* to be told */
    bool wants_write;    /* a write blocked */
    bool finished;       /* FIN came */
    bool reset;          /* RST came */
    bool closed;         /* by its owner */
};

struct fixture_client {
    struct fixture *fixture;
    struct tls_session tls;
    struct wire_end *wire;
    struct fixture_bytes received;
    bool refused; /* not admitted */
    bool established;
    bool stalled;  /* does not read */
    bool ended;    /* close_notify came */
    bool finished; /* FIN came */
    bool reset;    /* RST came */
    bool sent_fin;
    enum error_code error; /* of tls_receive */
};

struct fixture_stream {
    struct trunk_stream stream;
    struct fixture *fixture;
    size_t link;
    char service[64];
    char server_name[64];
    struct address_compact client;
    struct fixture_bytes received;
    size_t unconsumed;
    struct metadata_session session;
    int suspended;
    int resumed;
    int asked_again; /* requests with the same session, but the first */
    bool attached;
    bool ended;
    bool closed;
    enum error_code error;
    uint32_t detail;
};

/* The core's end of a trunk. */
struct fixture_link {
    struct fixture *fixture;
    struct link link;
    union transport_slot slot;
    size_t core;
    size_t number;
    unsigned goaways;
    bool live;
};

enum fixture_answer {
    FIXTURE_ACCEPT,
    FIXTURE_HOLD,    /* no answer */
    FIXTURE_REFUSE,  /* with fixture->status */
    FIXTURE_DECLINE, /* REFUSED_STREAM */
};

struct fixture {
    struct scheduler scheduler;
    struct edge_settings settings;
    struct admission *admission; /* NULL: none; the test's */
    struct edge_listen_settings listens[1];
    struct edge_core_settings cores[FIXTURE_CORES_MAX];
    struct edge_route_settings routes[2];
    struct relay relay;
    struct scratch scratch; /* of the cores */
    struct wire_end *wires[512];
    size_t wire_count;
    struct fixture_link links[FIXTURE_LINKS_MAX];
    size_t link_count; /* dialled so far, without those that failed */
    struct fixture_stream streams[FIXTURE_STREAMS_MAX];
    size_t stream_count;
    struct fixture_client clients[FIXTURE_CLIENTS_MAX];
    size_t client_count;
    enum fixture_answer answer;
    int status;
    size_t decline_link; /* FIXTURE_ACCEPT: this link declines; SIZE_MAX: none */
    bool resumes;        /* the cores do; the edge: settings.resume_timeout_ms */
    bool forgetful;      /* no core knows a session any more */
    bool reopens;        /* a core opens a session again that it does not know */
    unsigned declined;   /* how often one has said that it cannot now */
    size_t lost_core;    /* cannot be dialled; SIZE_MAX: none */
    struct slab core_works;
    bool over;           /* being disposed of */
    bool hold_data;      /* the core does not consume */
    bool dial_fails;     /* at once */
    bool core_silent;    /* accepts connections and says nothing */
    bool goaway_at_once; /* as soon as a trunk is there */
    uint32_t core_streams_max;
    unsigned dials;
    unsigned stops;
    bool started;
};

/* Certificates, once for the whole program. */
bool fixture_global_init(void);
void fixture_global_dispose(void);

/* The same as functions of cmocka for a group; only errors are logged then. */
int fixture_group_setup(void **state);
int fixture_group_teardown(void **state);

/* Settings and behaviour that a test may change before fixture_start. */
void fixture_prepare(struct fixture *fixture);
enum error_code fixture_start(struct fixture *fixture);
void fixture_dispose(struct fixture *fixture);

/* The same, and makes sure that nothing is left of what the relay had. */
void fixture_end(struct fixture *fixture);

/* Carries everything that can be carried, without a change of the time. */
void fixture_pump(struct fixture *fixture);

/* Virtual time goes on; everything is carried at each step. */
void fixture_wait(struct fixture *fixture, uint64_t milliseconds);

/* A client connects; fixture_pump completes its handshake. */
struct fixture_client *fixture_connect(struct fixture *fixture, const char *server_name);

/* One that asks for "localhost", and everything is carried. */
struct fixture_client *fixture_connect_one(struct fixture *fixture);

/* The same without TLS: nothing is sent but what the test sends. */
struct fixture_client *fixture_connect_raw(struct fixture *fixture);

void fixture_client_send(struct fixture_client *client, const void *bytes, size_t length);
void fixture_client_send_raw(struct fixture_client *client, const void *bytes, size_t length);
void fixture_client_end(struct fixture_client *client);    /* close_notify */
void fixture_client_finish(struct fixture_client *client); /* FIN */
void fixture_client_reset(struct fixture_client *client);  /* RST */

/* The nth stream that the cores saw. */
struct fixture_stream *fixture_stream(struct fixture *fixture, size_t number);
void fixture_stream_send(struct fixture_stream *stream, const void *bytes, size_t length);
void fixture_stream_consume(struct fixture_stream *stream);

/* The core's end of a trunk breaks off without a word. */
void fixture_link_cut(struct fixture_link *link);

size_t fixture_trunks_up(struct fixture *fixture);

/* What the fixture's clients hear of TLS. */
extern const struct tls_events *const fixture_tls_events;

#endif
