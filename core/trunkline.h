/*
 * Trunkline's handler interface: what a backend developer sees of the core. A handler serves the sessions of a service;
 * each session is one client's connection, which an edge relay terminated and carried here.
 *
 * Threads: a session belongs to one worker thread for its whole life. Every callback runs on that thread, and every
 * function here must be called on it, but for trunkline_post and the trunkline_ref functions. Callbacks must not
 * block: all other sessions of the worker wait meanwhile.
 *
 * Life of a session: `open`, then `data`, `end` and `drained` in any number, then exactly one `closed`, after which
 * the session must not be touched. `closed` comes for every session whose `open` was called, also for one that was
 * refused, and never from within a function that the handler called.
 */
#ifndef TRUNKLINE_H
#define TRUNKLINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TRUNKLINE_API __attribute__((visibility("default")))
#else
#define TRUNKLINE_API
#endif

/* Raised when a handler that was built before must be built again. */
#define TRUNKLINE_ABI 2

typedef struct trunkline_session trunkline_session;
typedef struct trunkline_ref trunkline_ref;
typedef struct trunkline_timer trunkline_timer;
typedef struct trunkline_watch trunkline_watch;

/* Why a session was closed. */
typedef enum trunkline_reason {
    TRUNKLINE_REASON_DONE = 0,       /* both directions ended cleanly */
    TRUNKLINE_REASON_REFUSED = 1,    /* the handler refused it */
    TRUNKLINE_REASON_ABORTED = 2,    /* the handler aborted it */
    TRUNKLINE_REASON_RESET = 3,      /* the client (or its edge) reset it, or went away without a clean end */
    TRUNKLINE_REASON_TRUNK_LOST = 4, /* the connection to the edge is gone */
    TRUNKLINE_REASON_SHUTDOWN = 5,   /* the core is stopping */
    TRUNKLINE_REASON_NO_MEMORY = 6,  /* memory ran out for it; the client sees a reset */
    TRUNKLINE_REASON_MOVED = 7,      /* this core drains: the session is opened again at another one */
} trunkline_reason;

/* "done", "refused", ... Static. Any thread. */
TRUNKLINE_API const char *trunkline_reason_name(trunkline_reason reason);

/* A handler: a table of functions, static for the life of the process. Any but `open` may be NULL. */
typedef struct trunkline_handler {
    uint32_t abi;     /* TRUNKLINE_ABI */
    const char *name; /* as in --service NAME=HANDLER */

    /* A service that uses this handler is set up, once per --service, on the main thread before any session: reads
     * `argument` (what followed HANDLER: in the option; "" if nothing), puts what it likes into *service, and returns
     * NULL, or a text (static, or in *service's care) that says what is wrong with the argument. */
    const char *(*setup)(const char *argument, void **service);

    /* The counterpart of setup, after the last session is closed. */
    void (*teardown)(void *service);

    /* A client arrived. Answer with trunkline_accept or trunkline_refuse, here or later. Its data comes only once it
     * is accepted. */
    void (*open)(trunkline_session *session, void *service);

    /* Bytes from the client, valid during the call. What was delivered and not yet given back by trunkline_consume
     * is bounded by the session's window: a handler that consumes later stops its client and nobody else. */
    void (*data)(trunkline_session *session, const void *bytes, size_t length);

    /* The client's clean end: no more data. The other direction stays open until trunkline_end. */
    void (*end)(trunkline_session *session);

    /* There is room to write again, after trunkline_write took less than it was given. */
    void (*drained)(trunkline_session *session);

    /* The last call for the session. What trunkline_set_data stored is the handler's to free. */
    void (*closed)(trunkline_session *session, trunkline_reason reason);

    /* The connection to the client's edge is lost, and the session waits for another one: a handler need not care, as
     * what it writes is kept (64 KiB at most, then `drained` follows later) and nothing is lost or doubled; but one
     * that pushes news may prefer to hold them back until `resumed`. `closed` with TRUNKLINE_REASON_TRUNK_LOST comes
     * when the edge does not return in time. */
    void (*suspended)(trunkline_session *session);

    /* After `suspended`: the session goes on where it was. */
    void (*resumed)(trunkline_session *session);
} trunkline_handler;

/* Lets the client's bytes flow. 0, or -1 when the session is not waiting for an answer any more. */
TRUNKLINE_API int trunkline_accept(trunkline_session *session);

/* Refuses with an HTTP status (400 to 599; 502 for an unreachable backend, 503 for overload) and one line of text for
 * the edge's log; the client's connection ends with a TLS alert. `closed` follows. -1 as above. */
TRUNKLINE_API int trunkline_refuse(trunkline_session *session, int status, const char *text);

/* Sends bytes to the client: copies as many as there is room for and returns their number (0 to length). When that is
 * fewer than `length`, `drained` is called once there is room again. 0 and no `drained` when not accepted, or ended. */
TRUNKLINE_API size_t trunkline_write(trunkline_session *session, const void *bytes, size_t length);

/* How many bytes trunkline_write would take now. */
TRUNKLINE_API size_t trunkline_room(const trunkline_session *session);

/* Asks for one `drained` as soon as there is room, for a handler that looks at the room before it fetches what it
 * wants to write. No effect when not accepted, or ended. */
TRUNKLINE_API void trunkline_want_room(trunkline_session *session);

/* Gives back `length` bytes of what `data` delivered: the client may send as many more. The session lives until all
 * is given back (or it breaks off), so that a handler may pass on the rest after both directions have ended. A handler
 * without `data` consumes everything by itself. */
TRUNKLINE_API void trunkline_consume(trunkline_session *session, size_t length);

/* Ends the direction towards the client after what was written; the client sees a clean end (close_notify). Once both
 * directions have ended and all that `data` delivered is consumed, `closed` follows. */
TRUNKLINE_API void trunkline_end(trunkline_session *session);

/* Ends the session at once; the client sees a reset, never a clean end. `closed` follows. */
TRUNKLINE_API void trunkline_abort(trunkline_session *session);

/*
 * Sessions of a service named by --reopen outlive their core: when it is gone, or drains, the edge asks another core
 * (or the same one, restarted) to open the session again, and the client notices a pause at most. What the earlier
 * handler knew is lost but for its note: a few bytes that it leaves at the edge while it works. A new note replaces the
 * one before; it arrives within about 50 ms, and the last one that did is given to the new session.
 */
#define TRUNKLINE_NOTE_MAX 1024 /* bytes */

/* Leaves a copy of the bytes. 0; -1 when it is too long, the session is not open, or memory is out. */
TRUNKLINE_API int trunkline_set_note(trunkline_session *session, const void *bytes, size_t length);

/* What a session that is opened again begins with. */
typedef struct trunkline_reopening {
    const void *note; /* valid during `open`; NULL when none was left */
    size_t note_length;
    /* What the client's edge has received of the earlier handler's bytes after those that were written when the note
     * was left. Negative: so many of the bytes before it never arrived. What is written now follows what has arrived.
     */
    int32_t delivered;
    /* What the earlier handler has consumed after the note was left, and will not come again. Negative: so many bytes
     * that it had consumed before come once more. */
    int32_t consumed;
} trunkline_reopening;

/* Within `open` only: 1 and *reopening filled when the session takes the place of an earlier one, 0 when it is new. */
TRUNKLINE_API int trunkline_get_reopening(const trunkline_session *session, trunkline_reopening *reopening);

/* A pointer of the handler's own. */
TRUNKLINE_API void trunkline_set_data(trunkline_session *session, void *data);
TRUNKLINE_API void *trunkline_get_data(const trunkline_session *session);

/* What the edge tells of the client. Texts are never NULL; they live as long as the session. */
typedef struct trunkline_client {
    const char *service;        /* the name that the edge asked for */
    const char *address;        /* "192.0.2.1:50000" or "[2001:db8::1]:50000"; "" unknown */
    const char *listener;       /* the edge's address that the client connected to; "" unknown */
    const char *server_name;    /* SNI; "" none */
    const char *alpn;           /* the application protocol chosen; "" none */
    uint16_t tls_version;       /* 0x0304 TLS 1.3, 0x0303 TLS 1.2; 0 unknown */
    uint16_t tls_suite;         /* IANA number; 0 unknown */
    const uint8_t *certificate; /* the client's verified certificate, DER; NULL none */
    size_t certificate_length;
} trunkline_client;

/* Fills `client`; `address` and `listener` point into `text`, which the caller provides. */
TRUNKLINE_API void trunkline_get_client(const trunkline_session *session, trunkline_client *client, char text[256]);

/* Timers: one-shot, on the session's worker; freed by trunkline_timer_free, or with the session. NULL when memory is
 * out. */
TRUNKLINE_API trunkline_timer *trunkline_timer_new(trunkline_session *session,
                                                   void (*fire)(trunkline_session *session, void *argument),
                                                   void *argument);
TRUNKLINE_API void trunkline_timer_start(trunkline_timer *timer, uint64_t delay_ms); /* starts, or starts anew */
TRUNKLINE_API void trunkline_timer_stop(trunkline_timer *timer);
TRUNKLINE_API void trunkline_timer_free(trunkline_timer **timer);

/* Watches a descriptor of the handler's on the session's worker. Edge-triggered: after `ready`, read or write until
 * EAGAIN. The descriptor stays the handler's: free the watch, then close it. Watches left at the end are freed with
 * the session after `closed`. NULL and errno when it cannot be watched. */
#define TRUNKLINE_READABLE 1u /* readable, ended or failed */
#define TRUNKLINE_WRITABLE 2u /* writable, connected or failed */
TRUNKLINE_API trunkline_watch *
trunkline_watch_new(trunkline_session *session, int fd,
                    void (*ready)(trunkline_session *session, unsigned events, void *argument), void *argument);
TRUNKLINE_API void trunkline_watch_free(trunkline_watch **watch);

/* A handle by which other threads reach a session; it outlives the session. NULL when memory is out. Reference
 * counted: trunkline_ref_retain and trunkline_ref_release may be called on any thread. */
TRUNKLINE_API trunkline_ref *trunkline_session_ref(trunkline_session *session);
TRUNKLINE_API trunkline_ref *trunkline_ref_retain(trunkline_ref *ref);
TRUNKLINE_API void trunkline_ref_release(trunkline_ref **ref);

/* From any thread: runs `run` on the session's worker, with session NULL if it is closed by then (so that `argument`
 * can be freed). Posts of one thread run in order. -1 when memory is out, or the core has stopped: `run` will not be
 * called. */
TRUNKLINE_API int trunkline_post(trunkline_ref *ref, void (*run)(trunkline_session *session, void *argument),
                                 void *argument);

/* One log line, with the session's identity added. `event` is a short constant name, `text` one line. */
typedef enum trunkline_log_level {
    TRUNKLINE_LOG_ERROR,
    TRUNKLINE_LOG_WARNING,
    TRUNKLINE_LOG_INFO,
    TRUNKLINE_LOG_DEBUG,
} trunkline_log_level;
TRUNKLINE_API void trunkline_log(const trunkline_session *session, trunkline_log_level level, const char *event,
                                 const char *text);

/* A plugin (--service NAME=plugin:FILE.so[:ARGUMENT]) exports this function, which returns its handler. */
#define TRUNKLINE_PLUGIN_ENTRY "trunkline_plugin"
TRUNKLINE_API const trunkline_handler *trunkline_plugin(void);

/* A core of one's own: as the program trunkline-core with its command line, with `count` handlers more. Returns the
 * exit code. Call it on the main thread, once. */
TRUNKLINE_API int trunkline_core_main(int argc, char *const *argv, const trunkline_handler *const *handlers,
                                      size_t count);

#ifdef __cplusplus
}
#endif

#endif
