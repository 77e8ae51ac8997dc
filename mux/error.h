/*
 * One table of everything that can go wrong: a code, a stable name for logs, a sentence for people, and how far the
 * damage reaches. Functions that can fail return one of these codes; ERROR_NONE (zero) is success.
 */
#ifndef MUX_ERROR_H
#define MUX_ERROR_H

/* How much ends when an error is not handled closer to its cause. */
enum error_scope {
    ERROR_SCOPE_CALL,    /* only the call: try again later, or with other arguments */
    ERROR_SCOPE_SESSION, /* one client connection and its stream */
    ERROR_SCOPE_TRUNK,   /* one trunk and every session that it carries */
    ERROR_SCOPE_PROCESS, /* the process cannot start, or cannot go on */
};

/* clang-format off */
#define ERROR_TABLE(X)                                                                                              \
    X(NONE,              "none",              "no error",                                            CALL)           \
    X(WOULD_BLOCK,       "would-block",       "nothing can be read or written now",                  CALL)           \
    X(AGAIN_LATER,       "again-later",       "the operation goes on and will report its end",       CALL)           \
    X(NO_MEMORY,         "no-memory",         "out of memory",                                       SESSION)        \
    X(INVALID,           "invalid",           "an argument is out of its bounds",                    CALL)           \
    X(LIMIT,             "limit",             "a configured limit is reached",                       SESSION)        \
    X(BUFFERS_FULL,      "buffers-full",      "buffers hold as much as they may",                    SESSION)        \
    X(STATE,             "state",             "not allowed in this state",                           CALL)           \
    X(PEER_CLOSED,       "peer-closed",       "the peer closed the connection",                      SESSION)        \
    X(PEER_RESET,        "peer-reset",        "the peer reset the connection",                       SESSION)        \
    X(TRUNCATED,         "truncated",         "the peer closed without close_notify",                SESSION)        \
    X(TIMEOUT,           "timeout",           "a deadline passed",                                   SESSION)        \
    X(UNREACHABLE,       "unreachable",       "the address cannot be reached",                       SESSION)        \
    X(REFUSED,           "refused",           "the peer refused the stream",                         SESSION)        \
    X(UNKNOWN_SERVICE,   "unknown-service",   "no service has this name",                            SESSION)        \
    X(BAD_METADATA,      "bad-metadata",      "a header field of the stream is malformed",           SESSION)        \
    X(METADATA_TOO_LARGE,"metadata-too-large","the header fields of the stream are too large",       SESSION)        \
    X(METHOD_NOT_ALLOWED,"method-not-allowed","only CONNECT is served",                              SESSION)        \
    X(SYSTEM,            "system",            "a system call failed",                                SESSION)        \
    X(NO_FILES,          "no-files",          "out of file descriptors",                             PROCESS)        \
    X(ADDRESS_IN_USE,    "address-in-use",    "the address is in use",                               PROCESS)        \
    X(PERMISSION,        "permission",        "permission denied",                                   PROCESS)        \
    X(CONFIGURATION,     "configuration",     "the configuration is not valid",                      PROCESS)        \
    X(CREDENTIALS,       "credentials",       "a certificate or key cannot be used",                 PROCESS)        \
    X(TLS_HANDSHAKE,     "tls-handshake",     "the TLS handshake failed",                            SESSION)        \
    X(TLS_NOT_TLS,       "tls-not-tls",       "the peer does not speak TLS",                         SESSION)        \
    X(TLS_VERSION,       "tls-version",       "no TLS version in common",                            SESSION)        \
    X(TLS_NO_SUITE,      "tls-no-suite",      "no cipher suite or group in common",                  SESSION)        \
    X(TLS_NO_ALPN,       "tls-no-alpn",       "no application protocol in common",                   SESSION)        \
    X(TLS_UNKNOWN_NAME,  "tls-unknown-name",  "no certificate for the server name",                  SESSION)        \
    X(TLS_CERTIFICATE,   "tls-certificate",   "the peer's certificate is missing or not trusted",    SESSION)        \
    X(TLS_RECORD,        "tls-record",        "a TLS record is malformed or not authentic",          SESSION)        \
    X(TLS_ALERT,         "tls-alert",         "the peer sent a fatal alert",                         SESSION)        \
    X(TLS_RENEGOTIATION, "tls-renegotiation", "the peer asked for renegotiation",                    SESSION)        \
    X(TLS_INTERNAL,      "tls-internal",      "the TLS library failed",                              SESSION)        \
    X(TRUNK_PROTOCOL,    "trunk-protocol",    "the peer broke the HTTP/2 protocol",                  TRUNK)          \
    X(TRUNK_PREFACE,     "trunk-preface",     "the peer did not send an HTTP/2 preface",             TRUNK)          \
    X(TRUNK_FLOODED,     "trunk-flooded",     "the peer sent too much that is of no use to anybody",  TRUNK)          \
    X(TRUNK_PING_TIMEOUT,"trunk-ping-timeout","no answer to PING within the deadline",               TRUNK)          \
    X(TRUNK_GOAWAY,      "trunk-goaway",      "the trunk takes no new streams",                      TRUNK)          \
    X(TRUNK_EXHAUSTED,   "trunk-exhausted",   "the trunk has no stream identifiers left",            TRUNK)          \
    X(TRUNK_LOST,        "trunk-lost",        "the trunk is gone",                                   SESSION)        \
    X(BAD_RESUME,        "bad-resume",        "a session cannot be resumed from there",              SESSION)        \
    X(SHUTDOWN,          "shutdown",          "the process is stopping",                             SESSION)
/* clang-format on */

enum error_code {
#define X(code, name, text, scope) ERROR_##code,
    ERROR_TABLE(X)
#undef X
        ERROR_CODE_COUNT,
};

/* The stable name for logs ("trunk-ping-timeout"); "unknown" for a value outside the table. Static. */
const char *error_name(enum error_code code);

/* One sentence without a full stop. Static. */
const char *error_text(enum error_code code);

enum error_scope error_scope(enum error_code code);

#endif
