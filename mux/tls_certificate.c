/*
 * The names in certificates, and base64. No state; any thread.
 */
#include "mux/tls_internal.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "mux/memory.h"

#define NAME_ROOM_BYTES 512U /* longer names are skipped: a DNS name has at most 253 bytes */

/* Called for each name with its GNUTLS_SAN_ type; true ends the walk. */
typedef bool name_visitor(void *owner, unsigned type, const char *bytes, size_t length);

/* A zero byte inside a text name is the mark of a forged one ("good.example\0.evil.example"). */
static bool name_usable(unsigned type, const char *bytes, size_t length)
{
    if (type == GNUTLS_SAN_IPADDRESS) {
        return length == 4 || length == 16;
    }
    return length > 0 && memchr(bytes, 0, length) == NULL;
}

/* The common name counts only where there is no subject alternative name of a host (RFC 6125 section 6.4.4). */
static void names_visit(gnutls_x509_crt_t certificate, name_visitor *visitor, void *owner)
{
    char room[NAME_ROOM_BYTES];
    bool host_seen = false;

    for (unsigned i = 0;; i++) {
        size_t length = sizeof(room);
        int type = gnutls_x509_crt_get_subject_alt_name(certificate, i, room, &length, NULL);
        if (type == GNUTLS_E_SHORT_MEMORY_BUFFER) {
            continue;
        }
        if (type < 0) {
            break;
        }
        host_seen = host_seen || type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_IPADDRESS;
        if (name_usable((unsigned)type, room, length) && visitor(owner, (unsigned)type, room, length)) {
            return;
        }
    }
    if (!host_seen) {
        size_t length = sizeof(room);
        if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, room, &length) == 0 &&
            name_usable(GNUTLS_SAN_DN, room, length)) {
            visitor(owner, GNUTLS_SAN_DN, room, length);
        }
    }
}

/* A wildcard stands for exactly the leftmost label (RFC 6125 section 6.4.3). */
static bool name_matches(const char *pattern, size_t pattern_length, const char *name)
{
    size_t name_length = strlen(name);

    if (pattern_length == name_length && strncasecmp(pattern, name, name_length) == 0) {
        return true;
    }
    if (pattern_length < 3 || pattern[0] != '*' || pattern[1] != '.') {
        return false;
    }
    const char *rest = strchr(name, '.');
    if (rest == NULL || rest == name) {
        return false;
    }
    size_t rest_length = name_length - (size_t)(rest - name);
    return rest_length == pattern_length - 1 && strncasecmp(pattern + 1, rest, rest_length) == 0;
}

static bool name_collect(void *owner, unsigned type, const char *bytes, size_t length)
{
    struct tls_names *names = owner;

    if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_DN) {
        return false;
    }
    char **texts = memory_realloc(names->texts, (names->count + 1) * sizeof(*texts));
    if (texts == NULL) {
        tls_names_dispose(names);
        return true;
    }
    names->texts = texts;
    char *text = memory_strndup(bytes, length);
    if (text == NULL) {
        tls_names_dispose(names);
        return true;
    }
    for (char *c = text; *c != '\0'; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + ('a' - 'A') : *c);
    }
    names->texts[names->count++] = text;
    return false;
}

enum error_code tls_names_collect(struct tls_names *names, gnutls_x509_crt_t certificate)
{
    names->count = 0;
    /* A block of its own from the start tells "no names" from "out of memory", which leaves NULL. */
    names->texts = memory_alloc(sizeof(*names->texts));
    if (names->texts != NULL) {
        names_visit(certificate, name_collect, names);
    }
    return names->texts == NULL ? ERROR_NO_MEMORY : ERROR_NONE;
}

void tls_names_dispose(struct tls_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        memory_free(names->texts[i]);
    }
    memory_free(names->texts);
    names->texts = NULL;
    names->count = 0;
}

bool tls_names_match(const struct tls_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (name_matches(names->texts[i], strlen(names->texts[i]), name)) {
            return true;
        }
    }
    return false;
}

struct name_search {
    const char *name;
    uint8_t address[16];
    size_t address_length; /* 0: the name is no address */
    bool found;
};

static bool name_compare(void *owner, unsigned type, const char *bytes, size_t length)
{
    struct name_search *search = owner;

    if (type == GNUTLS_SAN_IPADDRESS) {
        search->found = length == search->address_length && memcmp(bytes, search->address, length) == 0;
    } else if ((type == GNUTLS_SAN_DNSNAME && search->address_length == 0) || type == GNUTLS_SAN_DN) {
        search->found = name_matches(bytes, length, search->name);
    }
    return search->found;
}

/* NULL when the bytes are no certificate, or memory is out. */
static gnutls_x509_crt_t certificate_parse(const uint8_t *der, size_t length)
{
    gnutls_x509_crt_t certificate;
    gnutls_datum_t datum = {.data = (unsigned char *)(uintptr_t)der, .size = (unsigned)length};

    if (der == NULL || length > UINT32_MAX || gnutls_x509_crt_init(&certificate) < 0) {
        return NULL;
    }
    if (gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(certificate);
        return NULL;
    }
    return certificate;
}

bool tls_certificate_has_name(const uint8_t *der, size_t length, const char *name)
{
    struct name_search search = {.name = name};
    gnutls_x509_crt_t certificate = certificate_parse(der, length);

    if (certificate == NULL) {
        return false;
    }
    if (inet_pton(AF_INET, name, search.address) == 1) {
        search.address_length = 4;
    } else if (inet_pton(AF_INET6, name, search.address) == 1) {
        search.address_length = 16;
    }
    names_visit(certificate, name_compare, &search);
    gnutls_x509_crt_deinit(certificate);
    return search.found;
}

struct name_room {
    char *into;
    size_t capacity;
};

static bool name_copy(void *owner, unsigned type, const char *bytes, size_t length)
{
    struct name_room *room = owner;

    if (type == GNUTLS_SAN_IPADDRESS) {
        if (inet_ntop(length == 4 ? AF_INET : AF_INET6, bytes, room->into, (socklen_t)room->capacity) == NULL) {
            room->into[0] = '\0';
        }
        return room->into[0] != '\0';
    }
    if (type == GNUTLS_SAN_OTHERNAME) {
        return false;
    }
    size_t used = length < room->capacity - 1 ? length : room->capacity - 1;
    for (size_t i = 0; i < used; i++) {
        /* It goes to logs: nothing there may move a cursor or break a line. */
        room->into[i] = (char)(bytes[i] >= ' ' && bytes[i] < 0x7f ? bytes[i] : '?');
    }
    room->into[used] = '\0';
    return true;
}

void tls_certificate_name(const uint8_t *der, size_t length, char *into, size_t capacity)
{
    struct name_room room = {.into = into, .capacity = capacity};

    if (capacity == 0) {
        return;
    }
    into[0] = '\0';
    gnutls_x509_crt_t certificate = certificate_parse(der, length);
    if (certificate != NULL) {
        names_visit(certificate, name_copy, &room);
        gnutls_x509_crt_deinit(certificate);
    }
}

enum error_code tls_base64_encode(const uint8_t *bytes, size_t length, char *into, size_t capacity, size_t *written)
{
    gnutls_datum_t input = {.data = (unsigned char *)(uintptr_t)bytes, .size = (unsigned)length};
    gnutls_datum_t output;

    *written = 0;
    if (length > UINT32_MAX / 2) {
        return ERROR_INVALID;
    }
    if (capacity < 4 * ((length + 2) / 3) + 1) {
        return ERROR_LIMIT;
    }
    into[0] = '\0';
    if (length == 0) {
        return ERROR_NONE;
    }
    if (gnutls_base64_encode2(&input, &output) < 0) {
        return ERROR_NO_MEMORY;
    }
    memcpy(into, output.data, output.size);
    into[output.size] = '\0';
    *written = output.size;
    gnutls_free(output.data);
    return ERROR_NONE;
}

/* GnuTLS skips white space and tolerates more than RFC 4648 section 4 has: the form is checked here. */
static bool base64_well_formed(const char *text, size_t length)
{
    size_t padding = 0;

    if (length % 4 != 0) {
        return false;
    }
    while (padding < 2 && text[length - 1 - padding] == '=') {
        padding++;
    }
    for (size_t i = 0; i < length - padding; i++) {
        char c = text[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/')) {
            return false;
        }
    }
    return true;
}

enum error_code tls_base64_decode(const char *text, size_t length, uint8_t *into, size_t capacity, size_t *written)
{
    gnutls_datum_t input = {.data = (unsigned char *)(uintptr_t)text, .size = (unsigned)length};
    gnutls_datum_t output;

    *written = 0;
    if (length == 0) {
        return ERROR_NONE;
    }
    if (length > UINT32_MAX / 2 || !base64_well_formed(text, length)) {
        return ERROR_INVALID;
    }
    int result = gnutls_base64_decode2(&input, &output);
    if (result < 0) {
        return result == GNUTLS_E_MEMORY_ERROR ? ERROR_NO_MEMORY : ERROR_INVALID;
    }
    enum error_code error = output.size > capacity ? ERROR_LIMIT : ERROR_NONE;
    if (error == ERROR_NONE) {
        memcpy(into, output.data, output.size);
        *written = output.size;
    }
    gnutls_free(output.data);
    return error;
}
