/*
 * Credentials and policy of TLS connections: what is read from files at the start (and at a reload), and never
 * changed afterwards. A context is made by one thread and then shared by all; the last reference frees it.
 */
#include "mux/tls_internal.h"

#include <gnutls/crypto.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "mux/file.h"
#include "mux/memory.h"

/* TLS 1.3 and 1.2, forward secrecy and AEAD only; everything older is refused with protocol_version. The profile
 * refuses certificates with keys below 112 bits of strength (RSA below 2048). */
#define POLICY                                                                                                         \
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+CTYPE-X509:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA"                                         \
    ":+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"                                                                    \
    ":+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"                                                                 \
    ":+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-EDDSA-ED25519"      \
    ":+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SHA384:+SIGN-ECDSA-SHA512"                                                        \
    ":+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-PSS-RSAE-SHA512"                                   \
    ":+SIGN-RSA-PSS-SHA256:+SIGN-RSA-PSS-SHA384:+SIGN-RSA-PSS-SHA512"                                                  \
    ":+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:+SIGN-RSA-SHA512"                                                              \
    ":%PROFILE_MEDIUM:%SERVER_PRECEDENCE:%ALLOW_SMALL_RECORDS"

#define CHAIN_LENGTH_MAX   16U
#define KEY_ID_BYTES_MAX   64U
#define TICKET_KEY_PURPOSE "trunkline session tickets"

static enum error_code fault_tell(struct tls_fault *fault, enum error_code error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum error_code fault_tell(struct tls_fault *fault, enum error_code error, const char *format, ...)
{
    if (fault != NULL) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(fault->text, sizeof(fault->text), format, arguments);
        va_end(arguments);
    }
    return error;
}

static enum error_code fault_memory(struct tls_fault *fault)
{
    return fault_tell(fault, ERROR_NO_MEMORY, "out of memory");
}

/* What GnuTLS says of the contents of a file. */
static enum error_code fault_contents(struct tls_fault *fault, const char *path, const char *what, int result)
{
    if (result == GNUTLS_E_MEMORY_ERROR) {
        return fault_memory(fault);
    }
    return fault_tell(fault, ERROR_CREDENTIALS, "%s: %s: %s", path, what, gnutls_strerror(result));
}

static enum error_code file_load(struct file_text *file, const char *path, struct tls_fault *fault)
{
    int reason = 0;
    enum error_code error = file_read(file, path, &reason);

    if (error == ERROR_NO_MEMORY) {
        return fault_memory(fault);
    }
    if (error != ERROR_NONE && reason == EFBIG) {
        return fault_tell(fault, ERROR_CREDENTIALS, "%s: larger than %u bytes", path, FILE_BYTES_MAX);
    }
    return error == ERROR_NONE ? ERROR_NONE : fault_tell(fault, ERROR_CREDENTIALS, "%s: %s", path, strerror(reason));
}

static enum error_code pem_read(struct file_text *file, const char *path, const char *mark, const char *what,
                                struct tls_fault *fault)
{
    enum error_code error = file_load(file, path, fault);

    if (error != ERROR_NONE) {
        return error;
    }
    if (file->length == 0) {
        error = fault_tell(fault, ERROR_CREDENTIALS, "%s: the file is empty", path);
    } else if (strstr((const char *)file->bytes, mark) == NULL) {
        error = fault_tell(fault, ERROR_CREDENTIALS, "%s: no PEM %s in it", path, what);
    }
    if (error != ERROR_NONE) {
        file_wipe(file);
    }
    return error;
}

static void credential_dispose(struct tls_credential *credential)
{
    for (unsigned i = 0; i < credential->chain_length; i++) {
        gnutls_pcert_deinit(&credential->chain[i]);
    }
    memory_free(credential->chain);
    if (credential->key != NULL) {
        gnutls_privkey_deinit(credential->key);
    }
    tls_names_dispose(&credential->names);
}

static enum error_code credential_import_chain(struct tls_credential *credential, gnutls_x509_crt_t *chain,
                                               unsigned length, const char *path, struct tls_fault *fault)
{
    credential->chain = memory_calloc(length, sizeof(*credential->chain));
    if (credential->chain == NULL) {
        return fault_memory(fault);
    }
    for (unsigned i = 0; i < length; i++) {
        int result = gnutls_pcert_import_x509(&credential->chain[i], chain[i], 0);
        if (result < 0) {
            return fault_contents(fault, path, "a certificate cannot be used", result);
        }
        credential->chain_length = i + 1;
    }
    credential->algorithm = (gnutls_pk_algorithm_t)gnutls_x509_crt_get_pk_algorithm(chain[0], NULL);
    if (tls_names_collect(&credential->names, chain[0]) != ERROR_NONE) {
        return fault_memory(fault);
    }
    return ERROR_NONE;
}

/* Leaves in `key_id` what the private key must answer to. */
static enum error_code credential_load_certificate(struct tls_credential *credential, const char *path,
                                                   unsigned char key_id[KEY_ID_BYTES_MAX], size_t *key_id_length,
                                                   struct tls_fault *fault)
{
    struct file_text file;
    gnutls_x509_crt_t chain[CHAIN_LENGTH_MAX];
    unsigned length = CHAIN_LENGTH_MAX;
    enum error_code error = pem_read(&file, path, "-----BEGIN", "certificate", fault);

    if (error != ERROR_NONE) {
        return error;
    }
    gnutls_datum_t datum = {.data = file.bytes, .size = (unsigned)file.length};
    int result = gnutls_x509_crt_list_import(chain, &length, &datum, GNUTLS_X509_FMT_PEM,
                                             GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    file_wipe(&file);
    if (result == GNUTLS_E_NO_CERTIFICATE_FOUND || result == 0) {
        return fault_tell(fault, ERROR_CREDENTIALS, "%s: no PEM certificate in it", path);
    }
    if (result == GNUTLS_E_SHORT_MEMORY_BUFFER) {
        return fault_tell(fault, ERROR_CREDENTIALS, "%s: more than %u certificates", path, CHAIN_LENGTH_MAX);
    }
    if (result < 0) {
        return fault_contents(fault, path, "a certificate cannot be read", result);
    }
    length = (unsigned)result;
    error = credential_import_chain(credential, chain, length, path, fault);
    *key_id_length = KEY_ID_BYTES_MAX;
    if (error == ERROR_NONE) {
        result = gnutls_x509_crt_get_key_id(chain[0], GNUTLS_KEYID_USE_SHA256, key_id, key_id_length);
        if (result < 0) {
            error = fault_contents(fault, path, "the public key cannot be read", result);
        }
    }
    for (unsigned i = 0; i < length; i++) {
        gnutls_x509_crt_deinit(chain[i]);
    }
    return error;
}

static int private_key_parse(gnutls_x509_privkey_t *key, const struct file_text *file)
{
    gnutls_datum_t datum = {.data = file->bytes, .size = (unsigned)file->length};
    int result = gnutls_x509_privkey_init(key);

    if (result < 0) {
        return result;
    }
    result = gnutls_x509_privkey_import2(*key, &datum, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (result < 0) {
        gnutls_x509_privkey_deinit(*key);
    }
    return result;
}

static enum error_code credential_load_key(struct tls_credential *credential, const struct tls_certificate_files *files,
                                           const unsigned char *certificate_id, size_t certificate_id_length,
                                           struct tls_fault *fault)
{
    struct file_text file;
    gnutls_x509_privkey_t key;
    unsigned char key_id[KEY_ID_BYTES_MAX];
    size_t key_id_length = sizeof(key_id);
    enum error_code error = pem_read(&file, files->key, "PRIVATE KEY-----", "private key", fault);

    if (error != ERROR_NONE) {
        return error;
    }
    bool encrypted = strstr((const char *)file.bytes, "BEGIN ENCRYPTED PRIVATE KEY") != NULL ||
                     strstr((const char *)file.bytes, "Proc-Type: 4,ENCRYPTED") != NULL;
    int result = encrypted ? GNUTLS_E_DECRYPTION_FAILED : private_key_parse(&key, &file);
    file_wipe(&file);
    if (encrypted) {
        return fault_tell(fault, ERROR_CREDENTIALS, "%s: the key is encrypted", files->key);
    }
    if (result < 0) {
        return fault_contents(fault, files->key, "the key cannot be read", result);
    }
    result = gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, key_id, &key_id_length);
    if (result < 0 || key_id_length != certificate_id_length || memcmp(key_id, certificate_id, key_id_length) != 0) {
        gnutls_x509_privkey_deinit(key);
        return fault_tell(fault, ERROR_CREDENTIALS, "%s: the key does not match %s", files->key, files->certificate);
    }
    result = gnutls_privkey_init(&credential->key);
    if (result < 0) {
        credential->key = NULL;
    } else {
        result = gnutls_privkey_import_x509(credential->key, key, GNUTLS_PRIVKEY_IMPORT_COPY);
    }
    gnutls_x509_privkey_deinit(key);
    return result < 0 ? fault_contents(fault, files->key, "the key cannot be used", result) : ERROR_NONE;
}

static enum error_code context_load_own(struct tls_context *context, const struct tls_certificate_files *files,
                                        size_t count, struct tls_fault *fault)
{
    enum error_code error = ERROR_NONE;

    context->own = memory_calloc(count, sizeof(*context->own));
    if (context->own == NULL) {
        return fault_memory(fault);
    }
    context->own_count = count;
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        unsigned char key_id[KEY_ID_BYTES_MAX];
        size_t key_id_length = 0;
        error = credential_load_certificate(&context->own[i], files[i].certificate, key_id, &key_id_length, fault);
        if (error == ERROR_NONE) {
            error = credential_load_key(&context->own[i], &files[i], key_id, key_id_length, fault);
        }
    }
    return error;
}

/* The file's bytes stay with the caller: a ticket key is bound to them. */
static enum error_code context_trust(struct tls_context *context, const char *path, struct file_text *file,
                                     struct tls_fault *fault)
{
    enum error_code error = pem_read(file, path, "-----BEGIN", "certificate", fault);

    if (error != ERROR_NONE) {
        return error;
    }
    gnutls_datum_t datum = {.data = file->bytes, .size = (unsigned)file->length};
    int count = gnutls_certificate_set_x509_trust_mem(context->credentials, &datum, GNUTLS_X509_FMT_PEM);
    if (count == 0 || count == GNUTLS_E_NO_CERTIFICATE_FOUND) {
        return fault_tell(fault, ERROR_CREDENTIALS, "%s: no PEM certificate in it", path);
    }
    if (count < 0) {
        return fault_contents(fault, path, "a certificate cannot be read", count);
    }
    context->peer_verified = true;
    return ERROR_NONE;
}

static enum error_code context_copy_alpn(struct tls_context *context, const char *const *alpn, size_t count,
                                         struct tls_fault *fault)
{
    if (count == 0) {
        return ERROR_NONE;
    }
    if (count > TLS_ALPN_OWN_COUNT_MAX) {
        return fault_tell(fault, ERROR_CREDENTIALS, "more than %u application protocols", TLS_ALPN_OWN_COUNT_MAX);
    }
    context->alpn = memory_calloc(count, sizeof(*context->alpn));
    if (context->alpn == NULL) {
        return fault_memory(fault);
    }
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(alpn[i]);
        if (length == 0 || length > TLS_ALPN_OWN_MAX) {
            return fault_tell(fault, ERROR_CREDENTIALS, "application protocol \"%.64s\" has not 1 to %u bytes", alpn[i],
                              TLS_ALPN_OWN_MAX);
        }
        context->alpn[i].data = (unsigned char *)memory_strdup(alpn[i]);
        if (context->alpn[i].data == NULL) {
            return fault_memory(fault);
        }
        context->alpn[i].size = (unsigned)length;
        context->alpn_count++;
    }
    return ERROR_NONE;
}

/* Binds the key to the policy on client certificates: a ticket that a looser listener has issued under the same file
 * must not open a stricter one. */
static int ticket_key_derive(struct tls_context *context, const struct file_text *secret, const struct file_text *ca)
{
    gnutls_hmac_hd_t hmac;
    uint8_t policy = (uint8_t)context->client_auth;
    int result = gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA512, secret->bytes, secret->length);

    if (result < 0) {
        return result;
    }
    result = gnutls_hmac(hmac, TICKET_KEY_PURPOSE, sizeof(TICKET_KEY_PURPOSE));
    if (result == 0) {
        result = gnutls_hmac(hmac, &policy, sizeof(policy));
    }
    if (result == 0 && ca->bytes != NULL) {
        result = gnutls_hmac(hmac, ca->bytes, ca->length);
    }
    gnutls_hmac_deinit(hmac, result == 0 ? context->ticket_key : NULL);
    return result;
}

static enum error_code context_load_ticket_key(struct tls_context *context, const char *path,
                                               const struct file_text *ca, struct tls_fault *fault)
{
    struct file_text file;
    enum error_code error = ERROR_NONE;
    int result;

    context->tickets = true;
    if (path == NULL) {
        result = gnutls_rnd(GNUTLS_RND_KEY, context->ticket_key, sizeof(context->ticket_key));
        return result < 0 ? fault_tell(fault, ERROR_TLS_INTERNAL, "no random bytes: %s", gnutls_strerror(result))
                          : ERROR_NONE;
    }
    error = file_load(&file, path, fault);
    if (error != ERROR_NONE) {
        return error;
    }
    if (file.length < TLS_TICKET_KEY_BYTES) {
        error = fault_tell(fault, ERROR_CREDENTIALS, "%s: a ticket key needs %u bytes or more, not %zu", path,
                           TLS_TICKET_KEY_BYTES, file.length);
    } else {
        result = ticket_key_derive(context, &file, ca);
        if (result < 0) {
            error = fault_tell(fault, ERROR_TLS_INTERNAL, "%s: %s", path, gnutls_strerror(result));
        }
    }
    file_wipe(&file);
    return error;
}

/* GnuTLS asks for the certificate to present, on either side. */
static int context_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **chain,
                            unsigned *chain_length, gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length,
                            gnutls_privkey_t *key, unsigned *flags)
{
    const struct tls_context *context = gnutls_session_get_ptr(session);
    char name[TLS_SERVER_NAME_MAX + 1] = "";
    size_t length = sizeof(name);
    unsigned type = 0;

    (void)info;
    if (!context->server || gnutls_server_name_get(session, name, &length, &type, 0) < 0) {
        name[0] = '\0';
    }
    const struct tls_credential *own = tls_context_choose(context, session, name);
    *ocsp = NULL;
    *ocsp_length = 0;
    *flags = 0;
    *chain = own == NULL ? NULL : own->chain;
    *chain_length = own == NULL ? 0 : own->chain_length;
    *key = own == NULL ? NULL : own->key;
    return 0;
}

static enum error_code context_new(struct tls_context **context, bool server, const char *priority,
                                   struct tls_fault *fault)
{
    const char *position = NULL;
    struct tls_context *made = memory_zalloc(sizeof(*made));

    *context = NULL;
    if (fault != NULL) {
        fault->text[0] = '\0';
    }
    if (made == NULL) {
        return fault_memory(fault);
    }
    atomic_init(&made->references, 1);
    made->server = server;
    if (gnutls_certificate_allocate_credentials(&made->credentials) < 0) {
        memory_free(made);
        return fault_memory(fault);
    }
    gnutls_certificate_set_retrieve_function3(made->credentials, context_retrieve);
    int result = gnutls_priority_init2(&made->priority, priority == NULL ? POLICY : priority, &position, 0);
    if (result < 0) {
        made->priority = NULL;
        tls_context_unref(&made);
        return fault_tell(fault, ERROR_CREDENTIALS, "the TLS priority is not understood at \"%.64s\": %s",
                          position == NULL ? "" : position, gnutls_strerror(result));
    }
    *context = made;
    return ERROR_NONE;
}

enum error_code tls_context_new_server(const struct tls_server_settings *settings, struct tls_context **context,
                                       struct tls_fault *fault)
{
    struct file_text ca = {.bytes = NULL};
    enum error_code error = context_new(context, true, NULL, fault);

    if (error != ERROR_NONE) {
        return error;
    }
    (*context)->alpn_required = settings->alpn_required;
    (*context)->unknown_name_refused = settings->unknown_name_refused;
    (*context)->client_auth = settings->client_auth;
    if (settings->certificate_count == 0) {
        error = fault_tell(fault, ERROR_CREDENTIALS, "a TLS server needs a certificate");
    } else {
        error = context_load_own(*context, settings->certificates, settings->certificate_count, fault);
    }
    if (error == ERROR_NONE && settings->client_auth != TLS_CLIENT_AUTH_NONE) {
        error = settings->client_ca != NULL
                    ? context_trust(*context, settings->client_ca, &ca, fault)
                    : fault_tell(fault, ERROR_CREDENTIALS, "client certificates need a CA file to be verified with");
    }
    if (error == ERROR_NONE) {
        error = context_copy_alpn(*context, settings->alpn, settings->alpn_count, fault);
    }
    if (error == ERROR_NONE && settings->tickets) {
        error = context_load_ticket_key(*context, settings->ticket_key_file, &ca, fault);
    }
    file_wipe(&ca);
    if (error != ERROR_NONE) {
        tls_context_unref(context);
    }
    return error;
}

enum error_code tls_context_new_client(const struct tls_client_settings *settings, struct tls_context **context,
                                       struct tls_fault *fault)
{
    struct file_text ca = {.bytes = NULL};
    enum error_code error = context_new(context, false, settings->priority, fault);

    if (error != ERROR_NONE) {
        return error;
    }
    (*context)->alpn_required = settings->alpn_required;
    (*context)->tickets_ignored = settings->tickets_ignored;
    if ((settings->certificate.certificate == NULL) != (settings->certificate.key == NULL)) {
        error = fault_tell(fault, ERROR_CREDENTIALS, "a certificate and its key go together");
    } else if (settings->certificate.certificate != NULL) {
        error = context_load_own(*context, &settings->certificate, 1, fault);
    }
    if (error == ERROR_NONE && settings->ca != NULL) {
        error = context_trust(*context, settings->ca, &ca, fault);
    }
    if (error == ERROR_NONE) {
        error = context_copy_alpn(*context, settings->alpn, settings->alpn_count, fault);
    }
    file_wipe(&ca);
    if (error != ERROR_NONE) {
        tls_context_unref(context);
    }
    return error;
}

const char *tls_context_name(const struct tls_context *context)
{
    return context->own_count > 0 && context->own[0].names.count > 0 ? context->own[0].names.texts[0] : "";
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_unref(struct tls_context **context)
{
    struct tls_context *gone = *context;

    *context = NULL;
    if (gone == NULL || atomic_fetch_sub_explicit(&gone->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < gone->own_count; i++) {
        credential_dispose(&gone->own[i]);
    }
    memory_free(gone->own);
    for (unsigned i = 0; i < gone->alpn_count; i++) {
        memory_free(gone->alpn[i].data);
    }
    memory_free(gone->alpn);
    gnutls_certificate_free_credentials(gone->credentials);
    if (gone->priority != NULL) {
        gnutls_priority_deinit(gone->priority);
    }
    tls_ticket_pattern_free(atomic_load_explicit(&gone->pattern, memory_order_relaxed));
    memory_wipe(gone->ticket_key, sizeof(gone->ticket_key));
    memory_free(gone);
}

/* True when the peer has said that it can verify signatures of this kind of key. */
static bool algorithm_accepted(gnutls_session_t session, gnutls_pk_algorithm_t algorithm)
{
    gnutls_sign_algorithm_t offered;

    for (size_t i = 0; gnutls_sign_algorithm_get_requested(session, i, &offered) == 0; i++) {
        if (gnutls_sign_supports_pk_algorithm(offered, algorithm)) {
            return true;
        }
    }
    return false;
}

const struct tls_credential *tls_context_choose(const struct tls_context *context, gnutls_session_t session,
                                                const char *server_name)
{
    const struct tls_credential *bearer = NULL;
    const struct tls_credential *usable = NULL;

    for (size_t i = 0; i < context->own_count; i++) {
        const struct tls_credential *own = &context->own[i];
        bool bears = tls_names_match(&own->names, server_name);
        bool accepted = algorithm_accepted(session, own->algorithm);
        if (bears && accepted) {
            return own;
        }
        bearer = bears && bearer == NULL ? own : bearer;
        usable = accepted && usable == NULL ? own : usable;
    }
    if (bearer != NULL || usable != NULL) {
        return bearer != NULL ? bearer : usable;
    }
    return context->own_count == 0 ? NULL : &context->own[0];
}

bool tls_context_bears(const struct tls_context *context, const char *server_name)
{
    for (size_t i = 0; i < context->own_count; i++) {
        if (tls_names_match(&context->own[i].names, server_name)) {
            return true;
        }
    }
    return false;
}
