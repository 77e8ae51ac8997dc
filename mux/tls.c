/*
 * A TLS connection on GnuTLS, in memory: GnuTLS pulls what tls_receive was given and pushes into the `output` event.
 * In three parts: the handshake and its policy; the record layer (receiving, sending, ending), which is all that
 * touches application data; the interface of mux/tls.h over both. The backend owns the GnuTLS session and what the
 * peer is known by; a connection belongs to one thread and uses no memory of its own for data on its way.
 *
 *   EXPECT_START --> EXPECT_HANDSHAKE --> OPEN --> FAILED
 *          |                |                        ^
 *          +----------------+------------------------+
 */
#include "mux/tls_internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "mux/memory.h"

#define HANDSHAKE_MESSAGE_BYTES_MAX 32768U /* that a server takes from a client: a ClientHello, a certificate chain */
#define TICKET_LIFETIME_S           21600  /* the same on all edges, or their shared ticket keys would rotate apart */
#define WARNING_ALERTS_MAX          16U    /* per connection; a peer has no use for more */
#define PREFIX_BYTES                3U     /* of the first record: they tell TLS from other protocols */

enum tls_state {
    TLS_EXPECT_START,
    TLS_EXPECT_HANDSHAKE, /* it goes on */
    TLS_OPEN,
    TLS_FAILED, /* `error` says why; nothing is sent or told any more */
    TLS_STATE_COUNT,
};

static const bool state_moves[TLS_STATE_COUNT][TLS_STATE_COUNT] = {
    [TLS_EXPECT_START] = {[TLS_EXPECT_HANDSHAKE] = true, [TLS_FAILED] = true},
    [TLS_EXPECT_HANDSHAKE] = {[TLS_OPEN] = true, [TLS_FAILED] = true},
    [TLS_OPEN] = {[TLS_FAILED] = true},
};

/* What is told about the peer: outlives the GnuTLS session. One allocation with its texts behind it. */
struct tls_peer {
    uint16_t version;
    uint16_t suite;
    bool resumed;
    size_t alpn_at; /* the server name is at 0; both are zero-terminated */
    size_t certificate_at;
    size_t certificate_length;
    uint8_t bytes[];
};

struct tls_backend {
    gnutls_session_t session;
    struct tls_context *context;
    struct tls_peer *peer; /* NULL before TLS_OPEN */
    const uint8_t *input;  /* what tls_receive was given and GnuTLS has not pulled yet */
    size_t input_length;
    enum error_code error;
    uint8_t state;
    uint8_t prefix_length; /* bytes of the first record that were looked at, up to PREFIX_BYTES */
    uint8_t warning_alerts;
    bool input_starved; /* GnuTLS has asked for more than there was */
    bool input_ended;   /* close_notify came */
    bool output_begun;
    bool output_ended;      /* close_notify went */
    int verification_alert; /* why the peer's certificate was refused; 0 otherwise */
    int last_alert;
    char server_name[]; /* a client's expectation */
};

static void tls_move(struct tls_backend *backend, enum tls_state to)
{
    assert(state_moves[backend->state][to] && "a TLS connection never goes back");
    backend->state = (uint8_t)to;
}

/* ---- alerts and failure ---- */

struct failure {
    enum error_code error;
    int alert; /* -1: none is due */
};

/* The error and the alert for a result of GnuTLS. Where its own choice of alert is vague, RFC 8446 section 6.2 rules.
 */
static struct failure failure_of(const struct tls_backend *backend, int result)
{
    int alert = gnutls_error_to_alert(result, NULL);
    bool version_13 = gnutls_protocol_get_version(backend->session) == GNUTLS_TLS1_3;

    switch (result) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_SESSION_EOF:
        return (struct failure){ERROR_TLS_ALERT, -1};
    case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
    case GNUTLS_E_INAPPROPRIATE_FALLBACK:
        return (struct failure){ERROR_TLS_VERSION, alert};
    case GNUTLS_E_UNKNOWN_CIPHER_SUITE:
    case GNUTLS_E_NO_CIPHER_SUITES:
    case GNUTLS_E_NO_COMMON_KEY_SHARE:
    case GNUTLS_E_ECC_NO_SUPPORTED_CURVES:
    case GNUTLS_E_ECC_UNSUPPORTED_CURVE:
    case GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM:
    case GNUTLS_E_INSUFFICIENT_CREDENTIALS:
    case GNUTLS_E_UNWANTED_ALGORITHM:
    case GNUTLS_E_INSUFFICIENT_SECURITY:
        return (struct failure){ERROR_TLS_NO_SUITE, alert};
    case GNUTLS_E_NO_APPLICATION_PROTOCOL:
        return (struct failure){ERROR_TLS_NO_ALPN, alert};
    case GNUTLS_E_UNRECOGNIZED_NAME:
        return (struct failure){ERROR_TLS_UNKNOWN_NAME, alert};
    case GNUTLS_E_CERTIFICATE_ERROR:
    case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR:
        return (struct failure){ERROR_TLS_CERTIFICATE,
                                backend->verification_alert != 0 ? backend->verification_alert : alert};
    case GNUTLS_E_NO_CERTIFICATE_FOUND:
    case GNUTLS_E_CERTIFICATE_REQUIRED:
        return (struct failure){ERROR_TLS_CERTIFICATE,
                                version_13 ? GNUTLS_A_CERTIFICATE_REQUIRED : GNUTLS_A_HANDSHAKE_FAILURE};
    case GNUTLS_E_UNSUPPORTED_CERTIFICATE_TYPE:
        return (struct failure){ERROR_TLS_CERTIFICATE, alert};
    case GNUTLS_E_KEY_USAGE_VIOLATION:
        return (struct failure){ERROR_TLS_CERTIFICATE, GNUTLS_A_UNSUPPORTED_CERTIFICATE};
    case GNUTLS_E_REHANDSHAKE:
    case GNUTLS_E_UNSAFE_RENEGOTIATION_DENIED:
        return (struct failure){ERROR_TLS_RENEGOTIATION, alert};
    case GNUTLS_E_DECRYPTION_FAILED:
    case GNUTLS_E_RECORD_OVERFLOW:
        return (struct failure){ERROR_TLS_RECORD, alert};
    case GNUTLS_E_MEMORY_ERROR:
        return (struct failure){ERROR_NO_MEMORY, GNUTLS_A_INTERNAL_ERROR};
    case GNUTLS_E_INTERNAL_ERROR:
    case GNUTLS_E_RANDOM_FAILED:
    case GNUTLS_E_LIB_IN_ERROR_STATE:
    case GNUTLS_E_PK_SIGN_FAILED:
        return (struct failure){ERROR_TLS_INTERNAL, GNUTLS_A_INTERNAL_ERROR};
    case GNUTLS_E_MPI_SCAN_FAILED: /* a key share that is no point of its group */
    case GNUTLS_E_PARSING_ERROR:
        alert = GNUTLS_A_ILLEGAL_PARAMETER;
        break;
    case GNUTLS_E_TOO_MANY_HANDSHAKE_PACKETS:
    case GNUTLS_E_TOO_MANY_EMPTY_PACKETS:
    case GNUTLS_E_WARNING_ALERT_RECEIVED:
        alert = GNUTLS_A_UNEXPECTED_MESSAGE;
        break;
    default:
        break;
    }
    return (struct failure){backend->state == TLS_OPEN ? ERROR_TLS_RECORD : ERROR_TLS_HANDSHAKE, alert};
}

/* The one way into TLS_FAILED. At most one alert goes out, and none after close_notify (RFC 8446 section 6.1). */
static enum error_code tls_fail(struct tls_session *tls, struct failure failure)
{
    struct tls_backend *backend = tls->backend;

    if (backend->state == TLS_FAILED) {
        return backend->error;
    }
    tls_move(backend, TLS_FAILED);
    backend->error = failure.error;
    if (failure.alert >= 0 && !backend->output_ended) {
        /* no_renegotiation is never fatal by itself (RFC 5246 section 7.2.2); the connection ends all the same. */
        gnutls_alert_level_t level = failure.alert == GNUTLS_A_NO_RENEGOTIATION ? GNUTLS_AL_WARNING : GNUTLS_AL_FATAL;
        if (gnutls_alert_send(backend->session, level, (gnutls_alert_description_t)failure.alert) == 0) {
            backend->last_alert = failure.alert;
        }
    }
    return failure.error;
}

static enum error_code tls_fail_result(struct tls_session *tls, int result)
{
    if (result == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        tls->backend->last_alert = -(int)gnutls_alert_get(tls->backend->session);
    }
    return tls_fail(tls, failure_of(tls->backend, result));
}

/* What neither ends the connection nor brings it on: asks to go round again. */
static bool tls_may_continue(struct tls_backend *backend, int result)
{
    if (result == GNUTLS_E_WARNING_ALERT_RECEIVED) {
        return ++backend->warning_alerts <= WARNING_ALERTS_MAX;
    }
    return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED;
}

/* ---- transport: GnuTLS's side of the engine's input and output ---- */

static ssize_t tls_pull(gnutls_transport_ptr_t pointer, void *into, size_t length)
{
    struct tls_session *tls = pointer;
    struct tls_backend *backend = tls->backend;

    if (backend->input_length == 0) {
        backend->input_starved = true;
        gnutls_transport_set_errno(backend->session, EAGAIN);
        return -1;
    }
    if (length > backend->input_length) {
        length = backend->input_length;
    }
    memcpy(into, backend->input, length);
    backend->input += length;
    backend->input_length -= length;
    return (ssize_t)length;
}

static ssize_t tls_push(gnutls_transport_ptr_t pointer, const void *bytes, size_t length)
{
    struct tls_session *tls = pointer;

    tls->backend->output_begun = true;
    tls->events->output(tls, bytes, length);
    return (ssize_t)length;
}

/* ---- handshake ---- */

/* Looks at the first bytes of the connection, which GnuTLS would report in the same way as a broken handshake. */
static enum error_code prefix_check(struct tls_session *tls)
{
    struct tls_backend *backend = tls->backend;

    for (size_t i = 0; i < backend->input_length && backend->prefix_length < PREFIX_BYTES; i++) {
        uint8_t byte = backend->input[i];
        bool plausible = false;
        switch (backend->prefix_length) {
        case 0: /* a handshake record; a server may also answer with an alert */
            plausible = byte == 22 || (byte == 21 && !backend->context->server);
            break;
        case 1:
            plausible = byte == 3;
            break;
        default:
            plausible = byte <= 4;
            break;
        }
        if (!plausible) {
            backend->prefix_length = 0;
            return tls_fail(tls, (struct failure){ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE});
        }
        backend->prefix_length++;
    }
    return ERROR_NONE;
}

/* Server: the name and the protocols are known, nothing is chosen yet. */
static int client_hello_received(gnutls_session_t session)
{
    const struct tls_context *context = gnutls_session_get_ptr(session);
    gnutls_datum_t protocol;
    char name[TLS_SERVER_NAME_MAX + 1];
    size_t length = sizeof(name);
    unsigned type = 0;

    if (context->unknown_name_refused) {
        int result = gnutls_server_name_get(session, name, &length, &type, 0);
        if (result == GNUTLS_E_SHORT_MEMORY_BUFFER || (result == 0 && !tls_context_bears(context, name))) {
            return GNUTLS_E_UNRECOGNIZED_NAME;
        }
    }
    if (context->alpn_required && gnutls_alpn_get_selected_protocol(session, &protocol) < 0) {
        return GNUTLS_E_NO_APPLICATION_PROTOCOL;
    }
    return 0;
}

static int verification_alert(unsigned status)
{
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) {
        return GNUTLS_A_UNKNOWN_CA;
    }
    if (status & GNUTLS_CERT_REVOKED) {
        return GNUTLS_A_CERTIFICATE_REVOKED;
    }
    if (status & (GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED)) {
        return GNUTLS_A_CERTIFICATE_EXPIRED;
    }
    if (status & GNUTLS_CERT_PURPOSE_MISMATCH) {
        return GNUTLS_A_UNSUPPORTED_CERTIFICATE;
    }
    return GNUTLS_A_BAD_CERTIFICATE;
}

/* Called once the peer's certificate has come, or, by a server, once it is clear that none will. */
static int verify_peer(gnutls_session_t session)
{
    const struct tls_context *context = gnutls_session_get_ptr(session);
    struct tls_session *tls = gnutls_transport_get_ptr(session);
    struct tls_backend *backend = tls->backend;
    gnutls_typed_vdata_st demands[2];
    unsigned demand_count = 0;
    unsigned status = 0;
    unsigned count = 0;

    if (gnutls_certificate_get_peers(session, &count) == NULL || count == 0) {
        return context->server && context->client_auth != TLS_CLIENT_AUTH_REQUIRED ? 0 : GNUTLS_E_NO_CERTIFICATE_FOUND;
    }
    demands[demand_count].type = GNUTLS_DT_KEY_PURPOSE_OID;
    demands[demand_count].data =
        (unsigned char *)(uintptr_t)(context->server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER);
    demands[demand_count++].size = 0;
    if (!context->server) {
        demands[demand_count].type = GNUTLS_DT_DNS_HOSTNAME;
        demands[demand_count].data = (unsigned char *)backend->server_name;
        demands[demand_count++].size = 0;
    }
    int result = gnutls_certificate_verify_peers(session, demands, demand_count, &status);
    if (result < 0) {
        return result == GNUTLS_E_MEMORY_ERROR ? result : GNUTLS_E_CERTIFICATE_ERROR;
    }
    if (status != 0) {
        backend->verification_alert = verification_alert(status);
        return GNUTLS_E_CERTIFICATE_ERROR;
    }
    return 0;
}

static bool address_literal(const char *name)
{
    struct in6_addr address;

    return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

/* Each step returns a result of GnuTLS. */
static int session_apply_policy(struct tls_backend *backend)
{
    const struct tls_context *context = backend->context;
    int result = gnutls_priority_set(backend->session, context->priority);

    if (result >= 0) {
        result = gnutls_credentials_set(backend->session, GNUTLS_CRD_CERTIFICATE, context->credentials);
    }
    if (result >= 0 && context->alpn_count > 0) {
        unsigned precedence = context->server ? (unsigned)GNUTLS_ALPN_SERVER_PRECEDENCE : 0;
        result = gnutls_alpn_set_protocols(backend->session, context->alpn, context->alpn_count,
                                           precedence | (unsigned)GNUTLS_ALPN_MANDATORY);
    }
    if (context->peer_verified) {
        gnutls_session_set_verify_function(backend->session, verify_peer);
    }
    return result;
}

static int session_apply_server(struct tls_backend *backend)
{
    struct tls_context *context = backend->context;

    gnutls_handshake_set_max_packet_length(backend->session, HANDSHAKE_MESSAGE_BYTES_MAX);
    gnutls_handshake_set_post_client_hello_function(backend->session, client_hello_received);
    if (context->client_auth != TLS_CLIENT_AUTH_NONE) {
        bool required = context->client_auth == TLS_CLIENT_AUTH_REQUIRED;
        gnutls_certificate_server_set_request(backend->session, required ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
    }
    if (!context->tickets) {
        return 0;
    }
    gnutls_datum_t key = {.data = context->ticket_key, .size = sizeof(context->ticket_key)};
    gnutls_db_set_cache_expiration(backend->session, TICKET_LIFETIME_S);
    return gnutls_session_ticket_enable_server(backend->session, &key);
}

static int session_apply_client(struct tls_backend *backend)
{
    const char *name = backend->server_name;

    if (name[0] == '\0' || address_literal(name)) {
        return 0;
    }
    return gnutls_server_name_set(backend->session, GNUTLS_NAME_DNS, name, strlen(name));
}

/* IANA's number of the suite; 0 for one outside the project's policy. */
static uint16_t suite_number(gnutls_session_t session)
{
    static const struct {
        gnutls_cipher_algorithm_t cipher;
        uint16_t tls13;
        uint16_t ecdsa;
        uint16_t rsa;
    } suites[] = {
        {GNUTLS_CIPHER_AES_128_GCM, 0x1301, 0xc02b, 0xc02f},
        {GNUTLS_CIPHER_AES_256_GCM, 0x1302, 0xc02c, 0xc030},
        {GNUTLS_CIPHER_CHACHA20_POLY1305, 0x1303, 0xcca9, 0xcca8},
    };
    gnutls_cipher_algorithm_t cipher = gnutls_cipher_get(session);
    gnutls_kx_algorithm_t exchange = gnutls_kx_get(session);

    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        if (suites[i].cipher != cipher) {
            continue;
        }
        if (gnutls_protocol_get_version(session) == GNUTLS_TLS1_3) {
            return suites[i].tls13;
        }
        return exchange == GNUTLS_KX_ECDHE_ECDSA ? suites[i].ecdsa
               : exchange == GNUTLS_KX_ECDHE_RSA ? suites[i].rsa
                                                 : 0;
    }
    return 0;
}

/* Copies what is to be known of the peer. NULL when memory is out. */
static struct tls_peer *peer_new(const struct tls_backend *backend)
{
    gnutls_session_t session = backend->session;
    gnutls_datum_t alpn = {.size = 0};
    char name[TLS_SERVER_NAME_MAX + 1] = "";
    size_t name_length = sizeof(name);
    unsigned type = 0;
    unsigned count = 0;

    if (!backend->context->server || gnutls_server_name_get(session, name, &name_length, &type, 0) < 0) {
        name_length = 0;
    }
    if (gnutls_alpn_get_selected_protocol(session, &alpn) < 0) {
        alpn.size = 0;
    }
    const gnutls_datum_t *certificates = gnutls_certificate_get_peers(session, &count);
    size_t certificate_length = certificates == NULL || count == 0 ? 0 : certificates[0].size;
    struct tls_peer *peer = memory_zalloc(sizeof(*peer) + name_length + 1 + alpn.size + 1 + certificate_length);
    if (peer == NULL) {
        return NULL;
    }
    peer->version = gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 ? 0x0304 : 0x0303;
    peer->suite = suite_number(session);
    peer->resumed = gnutls_session_is_resumed(session) != 0;
    for (size_t i = 0; i < name_length; i++) {
        peer->bytes[i] = (uint8_t)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + ('a' - 'A') : name[i]);
    }
    peer->alpn_at = name_length + 1;
    if (alpn.size > 0) {
        memcpy(peer->bytes + peer->alpn_at, alpn.data, alpn.size);
    }
    peer->certificate_at = peer->alpn_at + alpn.size + 1;
    peer->certificate_length = certificate_length;
    if (certificate_length > 0) {
        memcpy(peer->bytes + peer->certificate_at, certificates[0].data, certificate_length);
    }
    return peer;
}

/* What GnuTLS does not insist on by itself. */
static enum error_code handshake_complete(struct tls_session *tls)
{
    struct tls_backend *backend = tls->backend;
    const struct tls_context *context = backend->context;
    struct tls_peer *peer = peer_new(backend);

    if (peer == NULL) {
        return tls_fail(tls, (struct failure){ERROR_NO_MEMORY, GNUTLS_A_INTERNAL_ERROR});
    }
    backend->peer = peer;
    if (context->alpn_required && peer->bytes[peer->alpn_at] == '\0') {
        return tls_fail(tls, (struct failure){ERROR_TLS_NO_ALPN, GNUTLS_A_NO_APPLICATION_PROTOCOL});
    }
    /* A ticket is bound to the policy that it was issued under; a mistake there must not open this door. */
    if (context->client_auth == TLS_CLIENT_AUTH_REQUIRED && peer->certificate_length == 0) {
        return tls_fail_result(tls, GNUTLS_E_CERTIFICATE_REQUIRED);
    }
    tls_move(backend, TLS_OPEN);
    if (tls->events->established != NULL) {
        tls->events->established(tls);
    }
    return backend->state == TLS_FAILED ? backend->error : ERROR_NONE;
}

static enum error_code handshake_step(struct tls_session *tls)
{
    int result = gnutls_handshake(tls->backend->session);

    if (result == 0) {
        return handshake_complete(tls);
    }
    return tls_may_continue(tls->backend, result) ? ERROR_NONE : tls_fail_result(tls, result);
}

/* ---- record layer ---- */

/* Takes one record, at most; its plaintext stays where GnuTLS has decrypted it to. */
static enum error_code record_receive_step(struct tls_session *tls)
{
    struct tls_backend *backend = tls->backend;
    gnutls_packet_t packet = NULL;
    gnutls_datum_t plaintext;
    ssize_t result = gnutls_record_recv_packet(backend->session, &packet);

    if (result < 0) {
        return tls_may_continue(backend, (int)result) ? ERROR_NONE : tls_fail_result(tls, (int)result);
    }
    if (result == 0) {
        /* close_notify. What may follow it is to be ignored (RFC 8446 section 6.1). */
        backend->input_ended = true;
        backend->input_length = 0;
        if (tls->events->end != NULL) {
            tls->events->end(tls);
        }
    } else {
        gnutls_packet_get(packet, &plaintext, NULL);
        tls->events->data(tls, plaintext.data, plaintext.size);
        gnutls_packet_deinit(packet);
    }
    return backend->state == TLS_FAILED ? backend->error : ERROR_NONE;
}

static enum error_code record_send(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t piece = length < TLS_RECORD_MAX_BYTES ? length : TLS_RECORD_MAX_BYTES;
        ssize_t result = gnutls_record_send(tls->backend->session, bytes, piece);
        if (result < 0) {
            return tls_fail_result(tls, (int)result);
        }
        bytes += result;
        length -= (size_t)result;
    }
    return ERROR_NONE;
}

static enum error_code record_finish(struct tls_session *tls)
{
    int result = gnutls_bye(tls->backend->session, GNUTLS_SHUT_WR);

    tls->backend->output_ended = true;
    return result < 0 ? tls_fail_result(tls, result) : ERROR_NONE;
}

/* ---- the interface ---- */

static enum error_code backend_new(struct tls_session *tls, struct tls_context *context, const char *server_name,
                                   const struct tls_events *events)
{
    /* KEY_SHARE_TOP: a client makes one key share only, of the first group; any other costs a HelloRetryRequest. */
    unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                     (context->server ? (unsigned)GNUTLS_SERVER : (unsigned)GNUTLS_CLIENT | GNUTLS_KEY_SHARE_TOP);
    size_t name_length = strlen(server_name);
    struct tls_backend *backend = memory_zalloc(sizeof(*backend) + name_length + 1);

    tls->events = events;
    tls->backend = NULL;
    if (backend == NULL) {
        return ERROR_NO_MEMORY;
    }
    memcpy(backend->server_name, server_name, name_length);
    int result = gnutls_init(&backend->session, flags);
    if (result < 0) {
        memory_free(backend);
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_TLS_INTERNAL;
    }
    backend->context = tls_context_ref(context);
    tls->backend = backend;
    gnutls_session_set_ptr(backend->session, context);
    gnutls_transport_set_ptr(backend->session, tls);
    gnutls_transport_set_pull_function(backend->session, tls_pull);
    gnutls_transport_set_push_function(backend->session, tls_push);
    result = session_apply_policy(backend);
    if (result >= 0) {
        result = context->server ? session_apply_server(backend) : session_apply_client(backend);
    }
    if (result < 0) {
        tls_dispose(tls);
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_TLS_INTERNAL;
    }
    return ERROR_NONE;
}

enum error_code tls_init_server(struct tls_session *tls, struct tls_context *context, const struct tls_events *events)
{
    assert(context->server);
    return backend_new(tls, context, "", events);
}

enum error_code tls_init_client(struct tls_session *tls, struct tls_context *context, const char *server_name,
                                const struct tls_events *events)
{
    assert(!context->server);
    tls->backend = NULL;
    if (server_name == NULL) {
        server_name = "";
    }
    /* Without a name any certificate of the CA would do: that is no authentication. */
    if (strlen(server_name) > TLS_SERVER_NAME_MAX || (server_name[0] == '\0' && context->peer_verified)) {
        return ERROR_INVALID;
    }
    return backend_new(tls, context, server_name, events);
}

enum error_code tls_start(struct tls_session *tls)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL || backend->state != TLS_EXPECT_START) {
        return ERROR_STATE;
    }
    tls_move(backend, TLS_EXPECT_HANDSHAKE);
    return backend->context->server ? ERROR_NONE : handshake_step(tls);
}

enum error_code tls_receive(struct tls_session *tls, uint8_t *bytes, size_t length)
{
    struct tls_backend *backend = tls->backend;
    enum error_code error = ERROR_NONE;

    if (backend == NULL || backend->state == TLS_FAILED) {
        return ERROR_STATE;
    }
    if (backend->state == TLS_EXPECT_START) {
        error = tls_start(tls);
    }
    if (error != ERROR_NONE || length == 0 || backend->input_ended) {
        return error;
    }
    backend->input = bytes;
    backend->input_length = length;
    backend->input_starved = false;
    if (backend->prefix_length < PREFIX_BYTES) {
        error = prefix_check(tls);
    }
    /* Until GnuTLS asks for more than there is: a record may hold several messages, so an empty input is not the end
     * by itself, and an empty record makes it report AGAIN while there is input left. */
    while (error == ERROR_NONE && !backend->input_starved && !backend->input_ended) {
        error = backend->state == TLS_OPEN ? record_receive_step(tls) : handshake_step(tls);
    }
    backend->input = NULL;
    backend->input_length = 0;
    return error;
}

enum error_code tls_send(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL || backend->state != TLS_OPEN || backend->output_ended) {
        return ERROR_STATE;
    }
    return record_send(tls, bytes, length);
}

enum error_code tls_finish(struct tls_session *tls)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL || backend->state != TLS_OPEN || backend->output_ended) {
        return ERROR_STATE;
    }
    return record_finish(tls);
}

void tls_abort(struct tls_session *tls, uint8_t alert)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL) {
        return;
    }
    bool silent = !backend->output_begun && backend->prefix_length == 0;
    tls_fail(tls, (struct failure){ERROR_STATE, silent ? -1 : (int)alert});
}

void tls_dispose(struct tls_session *tls)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL) {
        return;
    }
    tls->backend = NULL;
    gnutls_deinit(backend->session);
    tls_context_unref(&backend->context);
    memory_free(backend->peer);
    memory_free(backend);
}

bool tls_established(const struct tls_session *tls)
{
    return tls->backend != NULL && tls->backend->state == TLS_OPEN;
}

bool tls_has_peer_input(const struct tls_session *tls)
{
    return tls->backend != NULL && tls->backend->prefix_length > 0;
}

void tls_peer_info(const struct tls_session *tls, struct tls_peer_info *info)
{
    const struct tls_peer *peer = tls->backend == NULL ? NULL : tls->backend->peer;

    *info = (struct tls_peer_info){.server_name = "", .alpn = ""};
    if (peer == NULL) {
        return;
    }
    info->server_name = (const char *)peer->bytes;
    info->alpn = (const char *)(peer->bytes + peer->alpn_at);
    info->version = peer->version;
    info->suite = peer->suite;
    info->resumed = peer->resumed;
    info->certificate = peer->certificate_length == 0 ? NULL : peer->bytes + peer->certificate_at;
    info->certificate_length = peer->certificate_length;
}

int tls_last_alert(const struct tls_session *tls)
{
    return tls->backend == NULL ? 0 : tls->backend->last_alert;
}

enum error_code tls_ticket_export(const struct tls_session *tls, uint8_t *into, size_t capacity, size_t *length)
{
    const struct tls_backend *backend = tls->backend;
    gnutls_datum_t data = {NULL, 0};

    *length = 0;
    if (backend == NULL || backend->context->server || backend->state != TLS_OPEN) {
        return ERROR_STATE;
    }
    /* A TLS 1.2 server need not give a new ticket when it has taken one. */
    bool reusable = backend->peer->resumed && backend->peer->version == 0x0303;
    if ((gnutls_session_get_flags(backend->session) & GNUTLS_SFLAGS_SESSION_TICKET) == 0 && !reusable) {
        return ERROR_WOULD_BLOCK;
    }
    int result = gnutls_session_get_data2(backend->session, &data);
    if (result < 0) {
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_TLS_INTERNAL;
    }
    enum error_code error = data.size > capacity ? ERROR_LIMIT : ERROR_NONE;
    if (error == ERROR_NONE) {
        memcpy(into, data.data, data.size);
        *length = data.size;
    }
    memory_wipe(data.data, data.size);
    gnutls_free(data.data);
    return error;
}

enum error_code tls_ticket_import(struct tls_session *tls, const uint8_t *bytes, size_t length)
{
    struct tls_backend *backend = tls->backend;

    if (backend == NULL || backend->context->server || backend->state != TLS_EXPECT_START) {
        return ERROR_STATE;
    }
    int result = gnutls_session_set_data(backend->session, bytes, length);
    if (result < 0) {
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_INVALID;
    }
    return ERROR_NONE;
}
