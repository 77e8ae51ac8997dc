/* Every limit and timeout with its unit and default, in one place. The options of the same names change them. */
#ifndef MUX_LIMITS_H
#define MUX_LIMITS_H

/* Trunk (HTTP/2), both ends. */
#define LIMIT_SESSIONS_PER_TRUNK      131072U /* streams; SETTINGS_MAX_CONCURRENT_STREAMS of the core */
#define LIMIT_STREAM_WINDOW_BYTES     16384U /* per session and direction, at the start; SETTINGS_INITIAL_WINDOW_SIZE */
#define LIMIT_STREAM_WINDOW_MAX_BYTES 8388608U /* as large as one may grow */
#define LIMIT_STREAM_SUSPENDED_BYTES  65536U   /* to be sent, while a session waits for another trunk */
#define LIMIT_TRUNK_WINDOW_BYTES                                                                                       \
    16777216U /* whole connection, at most; more than a stream's, or one stalled session would stop them all */
#define LIMIT_TRUNK_WINDOW_START_BYTES 1048576U   /* the same at the start */
#define LIMIT_HEADER_BYTES             16384U     /* of one request, as RFC 9113 section 10.5.1 counts */
#define LIMIT_TRUNK_BACKLOG_BYTES      131072U    /* written but unsent, in the kernel */
#define LIMIT_TRUNK_QUANTUM_BYTES      16384U     /* one stream's turn */
#define LIMIT_STREAM_BACKLOG_BYTES     65536U     /* queued for one stream: four turns */
#define LIMIT_TRUNK_QUEUE_BYTES        4194304U   /* queued for all streams of a trunk, before each is held to */
#define LIMIT_STREAM_SHARE_BYTES       4096U      /* this */
#define LIMIT_BUFFER_MEMORY_BYTES      268435456U /* of one process: what sessions hold in buffers */
#define LIMIT_BUFFER_MEMORY_MIN_BYTES  1048576U
#define LIMIT_TRUNK_OPENS              536870912U /* streams opened before a trunk is replaced: half of 2^30 */
#define LIMIT_STREAM_RESETS_PER_SECOND 1000000U   /* nghttp2's limiter, on authenticated trunks */
#define LIMIT_TRUNK_OWED_BYTES         131072U    /* consumed before the peer hears of it at once */
#define LIMIT_TRUNK_NOTES_BYTES        1048576U   /* of notes that wait to be sent */
#define TIMEOUT_TRUNK_OWED_MS          50U        /* or after so long */
#define TIMEOUT_PING_INTERVAL_MS       10000U
#define TIMEOUT_PING_ANSWER_MS         10000U
#define TIMEOUT_TRUNK_HANDSHAKE_MS     10000U /* TLS and the first SETTINGS, at the acceptor */
#define TIMEOUT_TRUNK_DIAL_MS          5000U /* TCP and TLS, at the opener: clients may wait for nothing else meanwhile */
#define TIMEOUT_TRUNK_USER_MS          30000U /* TCP_USER_TIMEOUT */

/* Edge. */
#define LIMIT_CLIENT_BACKLOG_BYTES 65536U /* written to a client but unsent, in the kernel */

#define LIMIT_TRUNKS_PER_WORKER  64U
#define LIMIT_WORKERS            256U
#define LIMIT_EDGE_SESSIONS      1000000U  /* clients of one process */
#define LIMIT_EDGE_HANDSHAKES    20000U    /* clients of one process that have not finished TLS */
#define TIMEOUT_HANDSHAKE_MS     15000U    /* from accept to the end of the TLS handshake */
#define TIMEOUT_OPEN_MS          10000U    /* from there to the core's answer, waiting for a trunk included */
#define KEEPALIVE_CLIENT_MS      120000U   /* TCP keep-alive: a client that vanished is noticed after twice as long */
#define KEEPALIVE_MAX_MS         32767000U /* TCP_KEEPIDLE, tcp(7) */
#define TIMEOUT_STALL_MS         120000U   /* a client takes no byte of what waits for it */
#define LIMIT_NETWORK_IP4_BITS   24U
#define LIMIT_NETWORK_IP6_BITS   48U
#define TIMEOUT_RESUME_EDGE_MS   30000U /* a session whose trunk is lost, until another one takes it */
#define TIMEOUT_REOPEN_AFTER_MS  2000U  /* of it, for the core that has the session */
#define TIMEOUT_LINGER_MS        5000U  /* after both directions have ended, for the client's FIN */
#define TIMEOUT_RECONNECT_MIN_MS 100U   /* first wait; doubled with jitter up to the maximum */
#define TIMEOUT_RECONNECT_MAX_MS 10000U
#define TIMEOUT_DRAIN_MS         30000U /* SIGTERM: sessions may end by themselves for so long */

/* Edge: one process takes over from another. */
#define TIMEOUT_TAKEOVER_ANSWER_MS 5000U  /* to a question that needs no thought */
#define TIMEOUT_TAKEOVER_TRUNKS_MS 10000U /* until the new process has its trunks */
#define TIMEOUT_TAKEOVER_SETTLE_MS 1000U  /* handshakes and requests under way may be completed for so long */
#define TIMEOUT_TAKEOVER_FREEZE_MS 5000U  /* clients are not served for so long at most */
#define TIMEOUT_TAKEOVER_COMMIT_MS 2000U  /* within that: for the answer to COMMIT */
#define LIMIT_TAKEOVER_FRAME_BYTES (256U << 20)
#define LIMIT_TAKEOVER_BATCH_BYTES 262144U /* a batch of clients is sent when it is as large, */
#define LIMIT_TAKEOVER_SOCKETS     128U    /* or has so many; the kernel takes 253 in a message */

/* Core. */
#define LIMIT_CORE_SESSIONS        2000000U /* of one process */
#define LIMIT_CORE_TRUNKS          4096U
#define TIMEOUT_RESUME_CORE_MS     45000U /* longer than the edges', who are to decide */
#define TIMEOUT_FORWARD_CONNECT_MS 5000U  /* the forward handler's connection attempt */

#endif
