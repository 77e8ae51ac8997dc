/*
 * ClientHello by the book: RFC 8446 section 4, RFC 5246 section 7.4.1, and each extension's RFC. See mux/tls_hello.h.
 */
#include "mux/tls_hello.h"

#include <string.h>

#include "mux/tls_message.h"

enum alert {
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_DECODE_ERROR = 50,
    ALERT_PROTOCOL_VERSION = 70,
    ALERT_MISSING_EXTENSION = 109,
};

enum extension {
    EXTENSION_SERVER_NAME = 0,
    EXTENSION_MAX_FRAGMENT_LENGTH = 1,
    EXTENSION_SUPPORTED_GROUPS = 10,
    EXTENSION_EC_POINT_FORMATS = 11,
    EXTENSION_SIGNATURE_ALGORITHMS = 13,
    EXTENSION_ALPN = 16,
    EXTENSION_PADDING = 21,
    EXTENSION_ENCRYPT_THEN_MAC = 22,
    EXTENSION_EXTENDED_MASTER_SECRET = 23,
    EXTENSION_RECORD_SIZE_LIMIT = 28,
    EXTENSION_PRE_SHARED_KEY = 41,
    EXTENSION_EARLY_DATA = 42,
    EXTENSION_SUPPORTED_VERSIONS = 43,
    EXTENSION_COOKIE = 44,
    EXTENSION_PSK_KEY_EXCHANGE_MODES = 45,
    EXTENSION_CERTIFICATE_AUTHORITIES = 47,
    EXTENSION_POST_HANDSHAKE_AUTH = 49,
    EXTENSION_SIGNATURE_ALGORITHMS_CERT = 50,
    EXTENSION_KEY_SHARE = 51,
    EXTENSION_ENCRYPTED_CLIENT_HELLO = 0xfe0d,
    EXTENSION_RENEGOTIATION_INFO = 0xff01,
};

#define VERSION_SSL_30        0x0300U
#define VERSION_13            0x0304U
#define SESSION_ID_BYTES_MAX  32U
#define SERVER_NAME_MAX       255U
#define BINDER_BYTES_MIN      32U
#define RECORD_SIZE_LIMIT_MIN 64U /* RFC 8449 section 4 */

/* Of 16 bits each. A list of 32,000 numbers must not cost 32,000 times 32,000 looks. */
struct number_set {
    uint8_t bits[65536 / 8];
};

static bool set_has(const struct number_set *set, size_t number)
{
    return ((unsigned)set->bits[number / 8] >> (number % 8) & 1U) != 0;
}

static bool set_add(struct number_set *set, size_t number)
{
    if (set_has(set, number)) {
        return false;
    }
    set->bits[number / 8] = (uint8_t)(set->bits[number / 8] | 1U << (number % 8));
    return true;
}

/* One ClientHello, taken apart. A part without bytes was not there: a body of an extension always has some address. */
struct parts {
    size_t version;
    struct tls_message random;
    struct tls_message session;
    struct tls_message suites;
    struct tls_message compression;
    struct tls_message groups;
    struct tls_message shares;
    struct tls_message psk;
    size_t share_count;
    bool signatures;
    bool modes;
    bool cookie;
    bool early_data;
    bool version_13;
    bool last_is_psk; /* of the extensions */
};

static int good_if(bool condition, enum alert alert)
{
    return condition ? TLS_HELLO_GOOD : (int)alert;
}

/* ---- what must repeat ---- */

/* FNV-1a. A client that finds two ClientHellos with the same sum has only bent a rule at its own expense. */
static uint64_t digest(uint64_t sum, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return sum;
}

static uint64_t digest_part(uint64_t sum, struct tls_message part)
{
    const uint8_t length[2] = {(uint8_t)(part.length >> 8), (uint8_t)part.length};

    return digest(digest(sum, length, sizeof(length)), part.bytes, part.length);
}

#define DIGEST_BEGIN UINT64_C(0xcbf29ce484222325)

/* RFC 8446 section 4.1.2 lists what may change. Whoever drops its ticket may drop the modes, too; an encrypted
 * ClientHello is another one the second time (RFC 9849 section 6.1.5). */
static bool may_change(size_t extension)
{
    switch (extension) {
    case EXTENSION_KEY_SHARE:
    case EXTENSION_EARLY_DATA:
    case EXTENSION_COOKIE:
    case EXTENSION_PRE_SHARED_KEY:
    case EXTENSION_PSK_KEY_EXCHANGE_MODES:
    case EXTENSION_PADDING:
    case EXTENSION_ENCRYPTED_CLIENT_HELLO:
        return true;
    default:
        return false;
    }
}

/* ---- extensions ---- */

/* One vector that is all there is: `width` bytes of length, elements of `element` bytes, one of them at least. */
static bool list_take(struct tls_message body, size_t width, size_t element, struct tls_message *list)
{
    return tls_message_vector(&body, width, list) && body.length == 0 && list->length > 0 &&
           list->length % element == 0;
}

static int check_list(struct tls_message body, size_t width, size_t element)
{
    struct tls_message list;

    return good_if(list_take(body, width, element, &list), ALERT_DECODE_ERROR);
}

/* A list of `width` bytes of length, whose elements are vectors that are not empty. */
static int check_vectors(struct tls_message body, size_t element_width)
{
    struct tls_message list;
    struct tls_message element;

    if (!list_take(body, 2, 1, &list)) {
        return ALERT_DECODE_ERROR;
    }
    while (list.length > 0) {
        if (!tls_message_vector(&list, element_width, &element) || element.length == 0) {
            return ALERT_DECODE_ERROR;
        }
    }
    return TLS_HELLO_GOOD;
}

/* RFC 6066 section 3. Which bytes a name may have, GnuTLS judges. */
static int check_server_name(struct tls_message body)
{
    struct tls_message list;
    struct tls_message name;
    size_t type = 0;
    bool host = false;

    if (!list_take(body, 2, 1, &list)) {
        return ALERT_DECODE_ERROR;
    }
    while (list.length > 0) {
        if (!tls_message_number(&list, 1, &type) || !tls_message_vector(&list, 2, &name) || name.length == 0) {
            return ALERT_DECODE_ERROR;
        }
        if (type == 0 && (host || name.length > SERVER_NAME_MAX)) {
            return ALERT_ILLEGAL_PARAMETER;
        }
        host = host || type == 0;
    }
    return TLS_HELLO_GOOD;
}

static int check_fragment_length(struct tls_message body, uint16_t *limit)
{
    size_t code = 0;

    if (!tls_message_number(&body, 1, &code) || body.length > 0) {
        return ALERT_DECODE_ERROR;
    }
    *limit = (uint16_t)(256U << (code & 7U));
    return good_if(code >= 1 && code <= 4, ALERT_ILLEGAL_PARAMETER);
}

static int check_record_size(struct tls_message body, uint16_t *limit)
{
    size_t value = 0;

    if (!tls_message_number(&body, 2, &value) || body.length > 0) {
        return ALERT_DECODE_ERROR;
    }
    *limit = (uint16_t)value;
    return good_if(value >= RECORD_SIZE_LIMIT_MIN, ALERT_ILLEGAL_PARAMETER);
}

/* RFC 8422 section 5.1.2: uncompressed (0) is always among them. */
static int check_point_formats(struct tls_message body)
{
    struct tls_message list;

    if (!list_take(body, 1, 1, &list)) {
        return ALERT_DECODE_ERROR;
    }
    return good_if(memchr(list.bytes, 0, list.length) != NULL, ALERT_ILLEGAL_PARAMETER);
}

/* RFC 5746 section 3.6: nothing is renegotiated. */
static int check_renegotiation(struct tls_message body)
{
    struct tls_message verify;

    if (!tls_message_vector(&body, 1, &verify) || body.length > 0) {
        return ALERT_DECODE_ERROR;
    }
    return good_if(verify.length == 0, ALERT_HANDSHAKE_FAILURE);
}

static int check_versions(struct tls_message body, struct parts *parts)
{
    struct tls_message list;
    size_t version = 0;

    if (!list_take(body, 1, 2, &list)) {
        return ALERT_DECODE_ERROR;
    }
    while (tls_message_number(&list, 2, &version)) {
        parts->version_13 = parts->version_13 || version == VERSION_13;
    }
    return TLS_HELLO_GOOD;
}

static int check_extension(struct tls_hello *hello, struct parts *parts, size_t type, struct tls_message body)
{
    switch (type) {
    case EXTENSION_SERVER_NAME:
        return check_server_name(body);
    case EXTENSION_MAX_FRAGMENT_LENGTH:
        return check_fragment_length(body, &hello->fragment_limit);
    case EXTENSION_SUPPORTED_GROUPS:
        return good_if(list_take(body, 2, 2, &parts->groups), ALERT_DECODE_ERROR);
    case EXTENSION_EC_POINT_FORMATS:
        return check_point_formats(body);
    case EXTENSION_SIGNATURE_ALGORITHMS:
        parts->signatures = true;
        return check_list(body, 2, 2);
    case EXTENSION_SIGNATURE_ALGORITHMS_CERT:
        return check_list(body, 2, 2);
    case EXTENSION_ALPN:
        return check_vectors(body, 1);
    case EXTENSION_ENCRYPT_THEN_MAC:
    case EXTENSION_EXTENDED_MASTER_SECRET:
    case EXTENSION_POST_HANDSHAKE_AUTH:
        return good_if(body.length == 0, ALERT_DECODE_ERROR);
    case EXTENSION_EARLY_DATA:
        parts->early_data = true;
        return good_if(body.length == 0, ALERT_DECODE_ERROR);
    case EXTENSION_RECORD_SIZE_LIMIT:
        return check_record_size(body, &hello->record_size_limit);
    case EXTENSION_SUPPORTED_VERSIONS:
        return check_versions(body, parts);
    case EXTENSION_COOKIE:
        parts->cookie = true;
        return check_list(body, 2, 1);
    case EXTENSION_PSK_KEY_EXCHANGE_MODES:
        parts->modes = true;
        return check_list(body, 1, 1);
    case EXTENSION_CERTIFICATE_AUTHORITIES:
        return check_vectors(body, 2);
    case EXTENSION_PRE_SHARED_KEY:
        parts->psk = body;
        return TLS_HELLO_GOOD;
    case EXTENSION_KEY_SHARE:
        parts->shares = body;
        return TLS_HELLO_GOOD;
    case EXTENSION_RENEGOTIATION_INFO:
        return check_renegotiation(body);
    default:
        return TLS_HELLO_GOOD;
    }
}

/* RFC 8446 section 4.2: none twice. `sum` grows by all that must not change, in whatever order it comes. */
static int check_extensions(struct tls_hello *hello, struct parts *parts, struct tls_message extensions, uint64_t *sum)
{
    struct number_set seen = {.bits = {0}};
    struct tls_message body;
    size_t type = 0;

    while (extensions.length > 0) {
        const uint8_t *begin = extensions.bytes;
        if (!tls_message_number(&extensions, 2, &type) || !tls_message_vector(&extensions, 2, &body)) {
            return ALERT_DECODE_ERROR;
        }
        if (!set_add(&seen, type)) {
            return ALERT_ILLEGAL_PARAMETER;
        }
        int verdict = check_extension(hello, parts, type, body);
        if (verdict != TLS_HELLO_GOOD) {
            return verdict;
        }
        *sum += may_change(type) ? 0 : digest(DIGEST_BEGIN, begin, (size_t)(extensions.bytes - begin));
        parts->last_is_psk = type == EXTENSION_PRE_SHARED_KEY;
    }
    return TLS_HELLO_GOOD;
}

/* ---- TLS 1.3 ---- */

/* RFC 8446 section 4.2.8.2 and 4.2.8.1, for the groups that the policy has. */
static bool share_plausible(size_t group, struct tls_message key)
{
    switch (group) {
    case 0x001d: /* x25519 */
        return key.length == 32;
    case 0x0017: /* secp256r1 */
        return key.length == 65 && key.bytes[0] == 4;
    case 0x0018: /* secp384r1 */
        return key.length == 97 && key.bytes[0] == 4;
    default:
        return true;
    }
}

/* RFC 8446 section 4.2.8: one share for a group, and only of groups that are offered. */
static int check_shares(struct parts *parts)
{
    struct number_set offered = {.bits = {0}};
    struct number_set shared = {.bits = {0}};
    struct tls_message body = parts->shares;
    struct tls_message groups = parts->groups;
    struct tls_message list;
    struct tls_message key;
    size_t group = 0;

    if (!tls_message_vector(&body, 2, &list) || body.length > 0) {
        return ALERT_DECODE_ERROR;
    }
    while (tls_message_number(&groups, 2, &group)) {
        (void)set_add(&offered, group);
    }
    while (list.length > 0) {
        if (!tls_message_number(&list, 2, &group) || !tls_message_vector(&list, 2, &key) || key.length == 0) {
            return ALERT_DECODE_ERROR;
        }
        if (!set_has(&offered, group) || !set_add(&shared, group) || !share_plausible(group, key)) {
            return ALERT_ILLEGAL_PARAMETER;
        }
        parts->share_count++;
    }
    return TLS_HELLO_GOOD;
}

/* RFC 8446 section 4.2.11: a binder for each identity. */
static int check_psk(const struct parts *parts)
{
    struct tls_message body = parts->psk;
    struct tls_message identities;
    struct tls_message binders;
    struct tls_message part;
    size_t age = 0;
    size_t count = 0;

    if (!tls_message_vector(&body, 2, &identities) || identities.length == 0 ||
        !tls_message_vector(&body, 2, &binders) || binders.length == 0 || body.length > 0) {
        return ALERT_DECODE_ERROR;
    }
    for (; identities.length > 0; count++) {
        if (!tls_message_vector(&identities, 2, &part) || part.length == 0 ||
            !tls_message_number(&identities, 4, &age)) {
            return ALERT_DECODE_ERROR;
        }
    }
    for (; binders.length > 0; count--) {
        if (!tls_message_vector(&binders, 1, &part) || part.length < BINDER_BYTES_MIN) {
            return ALERT_DECODE_ERROR;
        }
        if (count == 0) {
            return ALERT_ILLEGAL_PARAMETER;
        }
    }
    return good_if(count == 0, ALERT_ILLEGAL_PARAMETER);
}

/* RFC 8446 sections 4.1.2, 4.2.9, 4.2.11 and 9.2. */
static int check_13(struct parts *parts)
{
    if (parts->compression.length != 1) {
        return ALERT_ILLEGAL_PARAMETER; /* null is among them, that is known */
    }
    if (parts->psk.bytes != NULL) {
        if (!parts->last_is_psk) {
            return ALERT_ILLEGAL_PARAMETER;
        }
        if (!parts->modes) {
            return ALERT_MISSING_EXTENSION;
        }
        int verdict = check_psk(parts);
        if (verdict != TLS_HELLO_GOOD) {
            return verdict;
        }
    } else if (!parts->signatures || parts->groups.bytes == NULL) {
        return ALERT_MISSING_EXTENSION;
    }
    if ((parts->groups.bytes == NULL) != (parts->shares.bytes == NULL)) {
        return ALERT_MISSING_EXTENSION;
    }
    return parts->shares.bytes == NULL ? TLS_HELLO_GOOD : check_shares(parts);
}

/* ---- the whole ---- */

/* The suites that the project has, in the order of their bits. */
static const uint16_t suites_known[] = {0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xcca9, 0xc02f, 0xc030, 0xcca8};

#define SUITES_KNOWN_COUNT (sizeof(suites_known) / sizeof(suites_known[0]))

static uint16_t suites_collect(struct tls_message list)
{
    uint16_t bits = 0;
    size_t suite = 0;

    while (tls_message_number(&list, 2, &suite)) {
        for (size_t i = 0; i < SUITES_KNOWN_COUNT; i++) {
            bits = (uint16_t)(bits | (suites_known[i] == suite ? 1U << i : 0U));
        }
    }
    return bits;
}

bool tls_hello_offers(const struct tls_hello *hello, unsigned suite)
{
    for (size_t i = 0; i < SUITES_KNOWN_COUNT; i++) {
        if (suites_known[i] == suite) {
            return (hello->suites >> i & 1U) != 0;
        }
    }
    return false;
}

/* RFC 8446 section 4.1.2: after a HelloRetryRequest the client sends the same again. Of cookies we have given none.
 * That a ticket was dropped is allowed, but GnuTLS would go on as if it had not been. */
static int check_second(const struct tls_hello *first, const struct tls_hello *second, const struct parts *parts)
{
    bool same = first->constant == second->constant && first->psk == second->psk;

    return good_if(same && second->version_13 && parts->share_count == 1 && !parts->cookie && !parts->early_data,
                   ALERT_ILLEGAL_PARAMETER);
}

/* The parts in front of the extensions. */
static int check_fields(struct parts *parts, struct tls_message *message)
{
    if (!tls_message_number(message, 2, &parts->version) || !tls_message_part(message, 32, &parts->random) ||
        !tls_message_vector(message, 1, &parts->session) || parts->session.length > SESSION_ID_BYTES_MAX ||
        !tls_message_vector(message, 2, &parts->suites) || parts->suites.length == 0 || parts->suites.length % 2 != 0 ||
        !tls_message_vector(message, 1, &parts->compression) || parts->compression.length == 0) {
        return ALERT_DECODE_ERROR;
    }
    if (parts->version <= VERSION_SSL_30) {
        return ALERT_PROTOCOL_VERSION; /* RFC 8446 appendix D.5 */
    }
    return good_if(memchr(parts->compression.bytes, 0, parts->compression.length) != NULL, ALERT_ILLEGAL_PARAMETER);
}

int tls_hello_check(struct tls_hello *hello, const uint8_t *bytes, size_t length)
{
    struct tls_message message = {.bytes = bytes, .length = length};
    struct tls_message extensions = {.bytes = NULL};
    struct parts parts = {.version = 0};
    struct tls_hello found = {.seen = true};
    int verdict = check_fields(&parts, &message);

    if (verdict != TLS_HELLO_GOOD) {
        return verdict;
    }
    found.constant = digest(DIGEST_BEGIN, bytes, 2 + 32);
    found.constant = digest_part(found.constant, parts.session);
    found.constant = digest_part(found.constant, parts.suites);
    found.constant = digest_part(found.constant, parts.compression);
    if (message.length > 0 && (!tls_message_vector(&message, 2, &extensions) || message.length > 0)) {
        return ALERT_DECODE_ERROR;
    }
    verdict = check_extensions(&found, &parts, extensions, &found.constant);
    if (verdict == TLS_HELLO_GOOD && parts.version_13) {
        verdict = check_13(&parts);
    }
    found.version_13 = parts.version_13;
    found.early_data = parts.early_data;
    found.psk = parts.psk.bytes != NULL;
    found.suites = suites_collect(parts.suites);
    if (verdict == TLS_HELLO_GOOD && hello->seen) {
        verdict = check_second(hello, &found, &parts);
    }
    *hello = found;
    return verdict;
}
