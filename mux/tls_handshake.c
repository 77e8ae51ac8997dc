/*
 * The handshake of a TLS connection on GnuTLS, in memory: GnuTLS takes what tls_receive was given, never further than
 * the end of the record that it needs, and puts out into the `output` event. When it is complete the connection goes on
 * in tls_open.c, and the GnuTLS session is freed. A connection belongs to one thread.
 */
#include "mux/tls_backend.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "mux/memory.h"

/* Of all messages that a server keeps at a time for their digest, its own among them; the gate limits the client's. */
#define HANDSHAKE_BYTES_MAX           (2 * TLS_HELLO_BYTES_MAX + 2 * TLS_GATE_MESSAGE_MAX)
#define TICKET_LIFETIME_S             21600 /* the same on all edges, or their shared ticket keys would rotate apart */
#define EXTENSION_MAX_FRAGMENT_LENGTH 1U
#define EXTENSION_RECORD_SIZE_LIMIT   28U
#define FINISHED_BYTES_12             12U /* RFC 5246 section 7.4.9 */
#define PREFIX_BYTES                  2U  /* of the first record: they tell TLS from other protocols */

/* ---- alerts and failure ---- */

struct failure {
    enum error_code error;
    int alert; /* -1: none is due */
};

/* The error and the alert for a result of GnuTLS. Where its own choice of alert is vague, RFC 8446 section 6.2 rules.
 */
static struct failure failure_of(const struct tls_handshake *handshake, int result)
{
    int alert = gnutls_error_to_alert(result, NULL);
    bool version_13 = gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3;

    switch (result) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
    case GNUTLS_E_SESSION_EOF:
        return (struct failure){ERROR_TLS_ALERT, -1};
    case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
    case GNUTLS_E_INAPPROPRIATE_FALLBACK:
        return (struct failure){ERROR_TLS_VERSION, alert};
    case GNUTLS_E_NO_COMMON_KEY_SHARE:
        /* A second ClientHello without the share that was asked for (RFC 8446 section 4.1.2). */
        return (struct failure){ERROR_TLS_NO_SUITE, handshake->gate.retried ? GNUTLS_A_ILLEGAL_PARAMETER : alert};
    case GNUTLS_E_UNKNOWN_CIPHER_SUITE:
    case GNUTLS_E_NO_CIPHER_SUITES:
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
                                handshake->verification_alert != 0 ? handshake->verification_alert : alert};
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
    case GNUTLS_E_INVALID_REQUEST: /* or has not its length */
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
    return (struct failure){ERROR_TLS_HANDSHAKE, alert};
}

enum error_code tls_handshake_fail(struct tls_session *tls, enum error_code error, int alert)
{
    struct tls_handshake *handshake = tls_handshake_of(tls);

    if (handshake->base.state == TLS_REFUSED) {
        return handshake->error;
    }
    tls_move(&handshake->base, TLS_REFUSED);
    handshake->error = error;
    if (alert >= 0 && gnutls_alert_send(handshake->session, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert) == 0) {
        handshake->last_alert = alert;
    }
    return error;
}

enum error_code tls_handshake_fail_result(struct tls_session *tls, int result)
{
    struct tls_handshake *handshake = tls_handshake_of(tls);
    struct failure failure = failure_of(handshake, result);

    if (handshake->refusal != ERROR_NONE) {
        failure = (struct failure){handshake->refusal, handshake->refusal_alert};
    } else if (result == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        handshake->last_alert = -(int)gnutls_alert_get(handshake->session);
    }
    return tls_handshake_fail(tls, failure.error, failure.alert);
}

/* Why the next result of GnuTLS will be an error: a function of ours, called by GnuTLS, has seen what must be refused.
 */
static void handshake_refuse(struct tls_handshake *handshake, enum error_code error, int alert)
{
    handshake->refusal = error;
    handshake->refusal_alert = alert;
}

/* What neither ends the connection nor brings it on: asks to go round again. */
static bool handshake_may_continue(struct tls_handshake *handshake, int result)
{
    if (result == GNUTLS_E_WARNING_ALERT_RECEIVED) {
        return ++handshake->warning_alerts <= RECORD_WARNING_ALERTS_MAX;
    }
    return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED;
}

/* ---- transport: GnuTLS's side of the engine's input and output ---- */

/* What the gate's refusal is counted as. */
static enum error_code error_of_gate(int alert)
{
    if (alert <= 0) {
        return ERROR_TLS_ALERT;
    }
    return alert == GNUTLS_A_RECORD_OVERFLOW ? ERROR_TLS_RECORD : ERROR_TLS_HANDSHAKE;
}

static ssize_t handshake_pull(gnutls_transport_ptr_t pointer, void *into, size_t length)
{
    struct tls_session *tls = pointer;
    struct tls_handshake *handshake = tls_handshake_of(tls);
    struct tls_input *input = handshake->input;
    struct tls_message rest = {.length = 0};
    size_t taken = 0;
    int alert = 0;

    if (input != NULL) {
        rest = (struct tls_message){.bytes = input->bytes, .length = input->length};
    }
    enum tls_gate_result result = tls_gate_read(&handshake->gate, &rest, into, length, &taken, &alert);
    if (input != NULL) {
        input->bytes += input->length - rest.length;
        input->length = rest.length;
        input->starved = input->starved || result == TLS_GATE_STARVED;
    }
    if (result == TLS_GATE_BYTES) {
        return (ssize_t)taken;
    }
    if (result == TLS_GATE_REFUSED) {
        handshake->last_alert = alert <= 0 ? alert : 0;
        handshake_refuse(handshake, error_of_gate(alert), alert > 0 ? alert : -1);
    }
    gnutls_transport_set_errno(handshake->session, result == TLS_GATE_REFUSED ? EIO : EAGAIN);
    return -1;
}

static ssize_t handshake_push(gnutls_transport_ptr_t pointer, const void *bytes, size_t length)
{
    struct tls_session *tls = pointer;

    tls_handshake_of(tls)->output_begun = true;
    tls_handshake_of(tls)->events->output(tls, bytes, length);
    return (ssize_t)length;
}

/* ---- policy ---- */

/* Looks at the first bytes of the connection, which GnuTLS would report in the same way as a broken handshake. */
static enum error_code prefix_check(struct tls_session *tls)
{
    struct tls_handshake *handshake = tls_handshake_of(tls);

    for (size_t i = 0; i < handshake->input->length && handshake->prefix_length < PREFIX_BYTES; i++) {
        uint8_t byte = handshake->input->bytes[i];
        bool plausible = false;
        if (handshake->prefix_length == 0) { /* a handshake record; a server may also answer with an alert */
            plausible = byte == 22 || (byte == 21 && !handshake->context->server);
        } else { /* 3 and any (RFC 5246 appendix E.1) */
            plausible = byte == 3;
        }
        if (!plausible) {
            handshake->prefix_length = 0;
            return tls_handshake_fail(tls, ERROR_TLS_NOT_TLS, GNUTLS_A_UNEXPECTED_MESSAGE);
        }
        handshake->prefix_length++;
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
    struct tls_handshake *handshake = tls_handshake_of(tls);
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
        demands[demand_count].data = (unsigned char *)handshake->server_name;
        demands[demand_count++].size = 0;
    }
    int result = gnutls_certificate_verify_peers(session, demands, demand_count, &status);
    if (result < 0) {
        return result == GNUTLS_E_MEMORY_ERROR ? result : GNUTLS_E_CERTIFICATE_ERROR;
    }
    if (status != 0) {
        handshake->verification_alert = verification_alert(status);
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
static int session_apply_policy(struct tls_handshake *handshake)
{
    const struct tls_context *context = handshake->context;
    int result = gnutls_priority_set(handshake->session, context->priority);

    if (result >= 0) {
        result = gnutls_credentials_set(handshake->session, GNUTLS_CRD_CERTIFICATE, context->credentials);
    }
    if (result >= 0 && context->alpn_count > 0) {
        unsigned precedence = context->server ? (unsigned)GNUTLS_ALPN_SERVER_PRECEDENCE : 0;
        result = gnutls_alpn_set_protocols(handshake->session, context->alpn, context->alpn_count,
                                           precedence | (unsigned)GNUTLS_ALPN_MANDATORY);
    }
    if (context->peer_verified) {
        gnutls_session_set_verify_function(handshake->session, verify_peer);
    }
    return result;
}

static int session_apply_server(struct tls_handshake *handshake)
{
    struct tls_context *context = handshake->context;

    gnutls_handshake_set_max_packet_length(handshake->session, HANDSHAKE_BYTES_MAX);
    gnutls_handshake_set_post_client_hello_function(handshake->session, client_hello_received);
    if (context->client_auth != TLS_CLIENT_AUTH_NONE) {
        bool required = context->client_auth == TLS_CLIENT_AUTH_REQUIRED;
        gnutls_certificate_server_set_request(handshake->session, required ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
    }
    if (!context->tickets) {
        return 0;
    }
    gnutls_datum_t key = {.data = context->ticket_key, .size = sizeof(context->ticket_key)};
    gnutls_db_set_cache_expiration(handshake->session, TICKET_LIFETIME_S);
    return gnutls_session_ticket_enable_server(handshake->session, &key);
}

static int session_apply_client(struct tls_handshake *handshake)
{
    const char *name = handshake->server_name;

    if (name[0] == '\0' || address_literal(name)) {
        return 0;
    }
    return gnutls_server_name_set(handshake->session, GNUTLS_NAME_DNS, name, strlen(name));
}
/* The key log: what the record layer of TLS 1.3 will start from. The handshake's own secrets are not kept. */
static int secret_logged(gnutls_session_t session, const char *label, const gnutls_datum_t *secret)
{
    struct tls_session *tls = gnutls_transport_get_ptr(session);
    bool server = strcmp(label, "SERVER_TRAFFIC_SECRET_0") == 0;
    bool client = strcmp(label, "CLIENT_TRAFFIC_SECRET_0") == 0;

    if ((server || client) && secret->size <= TLS_CIPHER_HASH_BYTES_MAX) {
        struct tls_secret *kept = &tls_handshake_of(tls)->secrets[server ? 0 : 1];
        memcpy(kept->bytes, secret->data, secret->size);
        kept->length = secret->size;
    }
    return 0;
}

/* ---- what is read in messages besides GnuTLS ---- */

/* Leaves the extensions of a ServerHello (RFC 8446 section 4.1.3, RFC 5246 section 7.4.1.3), and tells its suite. */
static bool message_to_extensions(struct tls_message *message, size_t *suite)
{
    struct tls_message skipped;

    return tls_message_part(message, 2 + 32, &skipped) && tls_message_vector(message, 1, &skipped) &&
           tls_message_number(message, 2, suite) && tls_message_part(message, 1, &skipped);
}

/* Limits of record sizes in a server's extensions: GnuTLS checks them, but does not tell. A client hears of the
 * server's record_size_limit (RFC 8449), a server of having agreed to max_fragment_length (RFC 6066). */
static void limits_collect(struct tls_handshake *handshake, struct tls_message extensions)
{
    bool server = handshake->context->server;
    struct tls_message body;
    size_t type = 0;
    size_t length = 0;
    size_t value = 0;

    if (!tls_message_number(&extensions, 2, &length)) {
        return;
    }
    while (tls_message_number(&extensions, 2, &type) && tls_message_vector(&extensions, 2, &body)) {
        if (!server && type == EXTENSION_RECORD_SIZE_LIMIT && body.length == 2 &&
            tls_message_number(&body, 2, &value)) {
            handshake->hello.record_size_limit = (uint16_t)value;
        }
        if (server && type == EXTENSION_MAX_FRAGMENT_LENGTH) {
            handshake->fragment_limit = handshake->hello.fragment_limit;
            tls_gate_limit(&handshake->gate, handshake->fragment_limit);
        }
    }
}

/* A ServerHello or EncryptedExtensions. */
static int limits_seen(struct tls_handshake *handshake, unsigned type, struct tls_message message)
{
    size_t suite = 0;

    if (type == GNUTLS_HANDSHAKE_ENCRYPTED_EXTENSIONS ||
        (type == GNUTLS_HANDSHAKE_SERVER_HELLO && message_to_extensions(&message, &suite))) {
        limits_collect(handshake, message);
    }
    return 0;
}

/* A ClientHello, before GnuTLS looks at it. */
static int client_hello_seen(struct tls_handshake *handshake, const gnutls_datum_t *bytes)
{
    int verdict = tls_hello_check(&handshake->hello, bytes->data, bytes->size);

    if (verdict != TLS_HELLO_GOOD) {
        handshake_refuse(handshake, verdict == GNUTLS_A_PROTOCOL_VERSION ? ERROR_TLS_VERSION : ERROR_TLS_HANDSHAKE,
                         verdict);
        return GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER;
    }
    return 0;
}

/* Our answer. GnuTLS resumes a session of TLS 1.2 with the suite that it had, even if that is not offered any more (RFC
 * 5246 section 7.4.1.3). */
static int server_hello_made(struct tls_handshake *handshake, bool retry, struct tls_message message)
{
    bool version_13 = gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3;
    size_t suite = 0;

    if (!message_to_extensions(&message, &suite) || !tls_hello_offers(&handshake->hello, (unsigned)suite)) {
        handshake_refuse(handshake, ERROR_TLS_NO_SUITE, GNUTLS_A_ILLEGAL_PARAMETER);
        return GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER;
    }
    tls_gate_answered(&handshake->gate, version_13, retry, handshake->hello.early_data);
    return 0;
}

/* What GnuTLS finds wrong with the length of these messages, it calls by another name (RFC 8446 section 6.2: whatever
 * has not the length that it must have is a decode_error). */
static int client_message_seen(struct tls_handshake *handshake, unsigned type, struct tls_message message)
{
    bool version_13 = gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3;
    struct tls_message share = {.length = 0};
    bool good = true;

    if (type == GNUTLS_HANDSHAKE_CLIENT_KEY_EXCHANGE) {
        good = tls_message_vector(&message, 1, &share) && share.length > 0 && message.length == 0;
    } else if (type == GNUTLS_HANDSHAKE_FINISHED && !version_13) {
        good = message.length == FINISHED_BYTES_12;
    }
    if (good) {
        return 0;
    }
    handshake_refuse(handshake, ERROR_TLS_HANDSHAKE, GNUTLS_A_DECODE_ERROR);
    return GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER;
}

/* Before and after GnuTLS takes a message of the peer's, or makes one of ours. */
static int message_seen(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                        const gnutls_datum_t *bytes)
{
    struct tls_session *tls = gnutls_transport_get_ptr(session);
    struct tls_handshake *handshake = tls_handshake_of(tls);
    struct tls_message message = {.bytes = bytes->data, .length = bytes->size};

    if (!handshake->context->server) {
        return incoming && when == GNUTLS_HOOK_POST ? limits_seen(handshake, type, message) : 0;
    }
    if (when != GNUTLS_HOOK_PRE) {
        return 0;
    }
    if (incoming) {
        return type == GNUTLS_HANDSHAKE_CLIENT_HELLO ? client_hello_seen(handshake, bytes)
                                                     : client_message_seen(handshake, type, message);
    }
    bool retry = type == GNUTLS_HANDSHAKE_HELLO_RETRY_REQUEST;
    bool hello = retry || type == GNUTLS_HANDSHAKE_SERVER_HELLO;
    int result = hello ? server_hello_made(handshake, retry, message) : 0;
    return result == 0 ? limits_seen(handshake, type, message) : result;
}

size_t tls_handshake_send_max(const struct tls_handshake *handshake)
{
    bool version_13 = gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3;

    /* It counts the content type in TLS 1.3, and supersedes the other (RFC 8449 sections 4 and 5). */
    if (handshake->hello.record_size_limit > 0) {
        return (size_t)handshake->hello.record_size_limit - (version_13 ? 1 : 0);
    }
    return handshake->hello.fragment_limit > 0 ? handshake->hello.fragment_limit : RECORD_PLAINTEXT_MAX;
}

/* ---- steps ---- */

/* What is to be told of the peer: texts in memory of the caller's, the certificate in the session's. */
struct peer_facts {
    struct tls_peer_info info;
    char server_name[TLS_SERVER_NAME_MAX + 1];
    char alpn[TLS_ALPN_MAX + 1];
};

static void facts_collect(struct peer_facts *facts, const struct tls_handshake *handshake)
{
    gnutls_session_t session = handshake->session;
    size_t name_length = sizeof(facts->server_name);
    gnutls_datum_t alpn;
    unsigned type = 0;
    unsigned count = 0;

    memset(facts, 0, sizeof(*facts));
    facts->info.server_name = facts->server_name;
    facts->info.alpn = facts->alpn;
    if (!handshake->context->server ||
        gnutls_server_name_get(session, facts->server_name, &name_length, &type, 0) < 0) {
        facts->server_name[0] = '\0';
    }
    for (char *letter = facts->server_name; *letter != '\0'; letter++) {
        *letter = (char)(*letter >= 'A' && *letter <= 'Z' ? *letter + ('a' - 'A') : *letter);
    }
    if (gnutls_alpn_get_selected_protocol(session, &alpn) == 0 && alpn.size <= TLS_ALPN_MAX) {
        memcpy(facts->alpn, alpn.data, alpn.size);
    }
    facts->info.version = gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 ? 0x0304 : 0x0303;
    facts->info.suite = tls_open_suite(handshake);
    facts->info.resumed = gnutls_session_is_resumed(session) != 0;
    const gnutls_datum_t *certificates = gnutls_certificate_get_peers(session, &count);
    if (certificates != NULL && count > 0) {
        facts->info.certificate = certificates[0].data;
        facts->info.certificate_length = certificates[0].size;
    }
}

/* What GnuTLS does not insist on by itself; then the record layer takes over. */
static enum error_code handshake_complete(struct tls_session *tls)
{
    struct tls_handshake *handshake = tls_handshake_of(tls);
    const struct tls_context *context = handshake->context;
    struct tls_open *open = NULL;
    gnutls_datum_t alpn;
    unsigned count = 0;

    if (context->alpn_required && gnutls_alpn_get_selected_protocol(handshake->session, &alpn) < 0) {
        return tls_handshake_fail(tls, ERROR_TLS_NO_ALPN, GNUTLS_A_NO_APPLICATION_PROTOCOL);
    }
    /* A ticket is bound to the policy that it was issued under; a mistake there must not open this door. */
    if (context->client_auth == TLS_CLIENT_AUTH_REQUIRED &&
        (gnutls_certificate_get_peers(handshake->session, &count) == NULL || count == 0)) {
        return tls_handshake_fail_result(tls, GNUTLS_E_CERTIFICATE_REQUIRED);
    }
    struct peer_facts facts;
    facts_collect(&facts, handshake);
    tls_gate_open(&handshake->gate);
    enum error_code error = tls_open_new(tls, &open);
    if (error != ERROR_NONE) {
        return tls_handshake_fail(tls, error,
                                  error == ERROR_TLS_HANDSHAKE ? GNUTLS_A_UNEXPECTED_MESSAGE : GNUTLS_A_INTERNAL_ERROR);
    }
    tls->backend = (struct tls_backend *)(void *)open;
    if (handshake->events->established != NULL) {
        handshake->events->established(tls, &facts.info);
    }
    tls_handshake_free(&handshake);
    return (enum error_code)open->record.error;
}

enum error_code tls_handshake_step(struct tls_session *tls)
{
    int result = gnutls_handshake(tls_handshake_of(tls)->session);

    if (result == 0) {
        return handshake_complete(tls);
    }
    return handshake_may_continue(tls_handshake_of(tls), result) ? ERROR_NONE : tls_handshake_fail_result(tls, result);
}

enum error_code tls_handshake_receive(struct tls_session *tls, struct tls_input *input)
{
    struct tls_handshake *handshake = tls_handshake_of(tls);
    enum error_code error = ERROR_NONE;

    handshake->input = input;
    if (handshake->prefix_length < PREFIX_BYTES) {
        error = prefix_check(tls);
    }
    /* Until GnuTLS asks for more than there is: a record may hold several messages, so an empty input is not the end
     * by itself. The step that completes the handshake frees it. */
    while (error == ERROR_NONE && !input->starved && tls->backend->state == TLS_EXPECT_HANDSHAKE) {
        error = tls_handshake_step(tls);
    }
    if (!tls_handed_over(tls)) {
        handshake->input = NULL;
    }
    return error;
}

/* ---- beginning and end ---- */

static int session_new(struct tls_session *tls, struct tls_handshake *handshake)
{
    struct tls_context *context = handshake->context;
    /* KEY_SHARE_TOP: a client makes one key share only, of the first group; any other costs a HelloRetryRequest. */
    unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                     (context->server ? (unsigned)GNUTLS_SERVER : (unsigned)GNUTLS_CLIENT | GNUTLS_KEY_SHARE_TOP);
    int result = gnutls_init(&handshake->session, flags);

    if (result < 0) {
        handshake->session = NULL;
        return result;
    }
    gnutls_session_set_ptr(handshake->session, context);
    gnutls_session_set_keylog_function(handshake->session, secret_logged);
    gnutls_handshake_set_hook_function(handshake->session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_BOTH, message_seen);
    gnutls_transport_set_ptr(handshake->session, tls);
    gnutls_transport_set_pull_function(handshake->session, handshake_pull);
    gnutls_transport_set_push_function(handshake->session, handshake_push);
    result = session_apply_policy(handshake);
    if (result >= 0) {
        result = context->server ? session_apply_server(handshake) : session_apply_client(handshake);
    }
    return result;
}

enum error_code tls_handshake_new(struct tls_session *tls, struct tls_context *context, const char *server_name,
                                  struct slab_group *memory)
{
    size_t name_length = strlen(server_name);
    struct tls_handshake *handshake = memory_zalloc(sizeof(*handshake) + name_length + 1);

    tls->backend = NULL;
    if (handshake == NULL) {
        return ERROR_NO_MEMORY;
    }
    memcpy(handshake->server_name, server_name, name_length);
    handshake->context = tls_context_ref(context);
    handshake->memory = memory;
    if (context->server) {
        tls_gate_init_server(&handshake->gate);
    }
    int result = session_new(tls, handshake);
    if (result < 0) {
        tls_handshake_free(&handshake);
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_TLS_INTERNAL;
    }
    tls->backend = &handshake->base;
    return ERROR_NONE;
}

void tls_handshake_free(struct tls_handshake **handshake)
{
    struct tls_handshake *gone = *handshake;

    *handshake = NULL;
    if (gone->session != NULL) {
        gnutls_deinit(gone->session);
    }
    tls_context_unref(&gone->context);
    memory_wipe(gone->secrets, sizeof(gone->secrets));
    memory_free(gone);
}
