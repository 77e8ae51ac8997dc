/* Parsing, printing and packing of socket addresses. No state of its own; only name resolution blocks. Any thread. */
#include "mux/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS_HOST_MAX    256U /* bytes of the longest host name (RFC 1035: 253) with its zero, and some */
#define ADDRESS_UNIX_PREFIX "unix:"

static bool address_is_unix(const char *text)
{
    return strncmp(text, ADDRESS_UNIX_PREFIX, strlen(ADDRESS_UNIX_PREFIX)) == 0;
}

static enum error_code address_parse_unix(const char *path, struct address *address)
{
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(address->u.local.sun_path)) {
        return ERROR_INVALID;
    }
    address->u.local.sun_family = AF_UNIX;
    memcpy(address->u.local.sun_path, path, length + 1);
    address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return ERROR_NONE;
}

static enum error_code port_parse(const char *text, uint16_t *port)
{
    uint32_t value = 0;
    size_t digits = 0;
    for (; text[digits] != '\0'; digits++) {
        if (text[digits] < '0' || text[digits] > '9' || digits == 5) {
            return ERROR_INVALID;
        }
        value = value * 10 + (uint32_t)(text[digits] - '0');
    }
    if (digits == 0 || value > UINT16_MAX) {
        return ERROR_INVALID;
    }
    *port = (uint16_t)value;
    return ERROR_NONE;
}

/* Splits at the last colon; in brackets any colon belongs to the host, outside of them none may. */
static enum error_code address_split(const char *text, char *host, size_t capacity, bool *bracketed, const char **port)
{
    const char *start = text;
    const char *end;
    *bracketed = text[0] == '[';
    if (*bracketed) {
        start++;
        end = strchr(start, ']');
        if (end == NULL || end[1] != ':') {
            return ERROR_INVALID;
        }
        *port = end + 2;
    } else {
        end = strchr(start, ':');
        if (end == NULL || strchr(end + 1, ':') != NULL) {
            return ERROR_INVALID;
        }
        *port = end + 1;
    }
    size_t length = (size_t)(end - start);
    if (length == 0 || length >= capacity) {
        return ERROR_INVALID;
    }
    memcpy(host, start, length);
    host[length] = '\0';
    return ERROR_NONE;
}

/* Letters, digits, hyphens, dots and underscores, not only digits and dots: "1.2.3.999" is no name but a mistake. */
static bool host_is_name(const char *host)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    static const char numeric[] = "0123456789.";
    bool letter = false;
    for (; *host != '\0'; host++) {
        if (strchr(letters, *host) != NULL) {
            letter = true;
        } else if (strchr(numeric, *host) == NULL) {
            return false;
        }
    }
    return letter;
}

static enum error_code address_resolve(const char *host, uint16_t port, struct address *address)
{
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(host, service, &hints, &found);
    if (failure != 0) {
        return failure == EAI_MEMORY ? ERROR_NO_MEMORY : ERROR_UNREACHABLE;
    }
    enum error_code error = ERROR_UNREACHABLE;
    if (found->ai_addrlen <= sizeof(address->u)) {
        memcpy(&address->u, found->ai_addr, found->ai_addrlen);
        address->length = found->ai_addrlen;
        error = ERROR_NONE;
    }
    freeaddrinfo(found);
    return error;
}

enum error_code address_parse(const char *text, bool resolve, struct address *address)
{
    memset(address, 0, sizeof(*address));
    if (address_is_unix(text)) {
        return address_parse_unix(text + strlen(ADDRESS_UNIX_PREFIX), address);
    }
    char host[ADDRESS_HOST_MAX];
    const char *port_text;
    bool bracketed;
    uint16_t port;
    if (address_split(text, host, sizeof(host), &bracketed, &port_text) != ERROR_NONE ||
        port_parse(port_text, &port) != ERROR_NONE) {
        return ERROR_INVALID;
    }
    if (bracketed) {
        if (inet_pton(AF_INET6, host, &address->u.ip6.sin6_addr) != 1) {
            return ERROR_INVALID;
        }
        address->u.ip6.sin6_family = AF_INET6;
        address->u.ip6.sin6_port = htons(port);
        address->length = sizeof(address->u.ip6);
        return ERROR_NONE;
    }
    if (inet_pton(AF_INET, host, &address->u.ip4.sin_addr) == 1) {
        address->u.ip4.sin_family = AF_INET;
        address->u.ip4.sin_port = htons(port);
        address->length = sizeof(address->u.ip4);
        return ERROR_NONE;
    }
    if (!resolve || !host_is_name(host)) {
        return ERROR_INVALID;
    }
    return address_resolve(host, port, address);
}

static void address_format_unix(const struct address *address, char *into)
{
    size_t offset = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > offset ? address->length - offset : 0;
    const char *path = address->u.local.sun_path;
    if (length > sizeof(address->u.local.sun_path)) {
        length = sizeof(address->u.local.sun_path);
    }
    /* A name in the abstract space starts with a zero byte and ends with its length; a peer's may hold anything. */
    bool abstract = length > 0 && path[0] == '\0';
    size_t shown = abstract ? length : strnlen(path, length);
    size_t prefix = strlen(ADDRESS_UNIX_PREFIX);
    memcpy(into, ADDRESS_UNIX_PREFIX, prefix);
    for (size_t i = 0; i < shown; i++) {
        char byte = path[i];
        into[prefix + i] = abstract && (byte < ' ' || byte > '~') ? '@' : byte;
    }
    into[prefix + shown] = '\0';
}

const char *address_format(const struct address *address, char into[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    if (address->length == 0) {
        (void)snprintf(into, ADDRESS_TEXT_MAX, "-");
    } else if (address->u.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &address->u.ip4.sin_addr, host, sizeof(host));
        (void)snprintf(into, ADDRESS_TEXT_MAX, "%s:%u", host, (unsigned)ntohs(address->u.ip4.sin_port));
    } else if (address->u.any.sa_family == AF_INET6) {
        const struct in6_addr *ip = &address->u.ip6.sin6_addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(ip);
        (void)inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? ip->s6_addr + 12 : ip->s6_addr, host, sizeof(host));
        (void)snprintf(into, ADDRESS_TEXT_MAX, mapped ? "%s:%u" : "[%s]:%u", host,
                       (unsigned)ntohs(address->u.ip6.sin6_port));
    } else if (address->u.any.sa_family == AF_UNIX) {
        address_format_unix(address, into);
    } else {
        (void)snprintf(into, ADDRESS_TEXT_MAX, "-");
    }
    return into;
}

enum error_code address_host(const char *text, char *into, size_t capacity)
{
    const char *port;
    bool bracketed;
    if (address_is_unix(text)) {
        return ERROR_INVALID;
    }
    return address_split(text, into, capacity, &bracketed, &port);
}

void address_pack(const struct address *address, struct address_compact *compact)
{
    memset(compact, 0, sizeof(*compact));
    if (address->length == 0) {
        return;
    }
    if (address->u.any.sa_family == AF_INET) {
        memcpy(compact->ip, &address->u.ip4.sin_addr, 4);
        compact->port = ntohs(address->u.ip4.sin_port);
        compact->family = 4;
    } else if (address->u.any.sa_family == AF_INET6) {
        const struct in6_addr *ip = &address->u.ip6.sin6_addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(ip);
        memcpy(compact->ip, mapped ? ip->s6_addr + 12 : ip->s6_addr, mapped ? 4 : 16);
        compact->port = ntohs(address->u.ip6.sin6_port);
        compact->family = mapped ? 4 : 6;
    }
}

void address_unpack(const struct address_compact *compact, struct address *address)
{
    memset(address, 0, sizeof(*address));
    if (compact->family == 4) {
        address->u.ip4.sin_family = AF_INET;
        address->u.ip4.sin_port = htons(compact->port);
        memcpy(&address->u.ip4.sin_addr, compact->ip, 4);
        address->length = sizeof(address->u.ip4);
    } else if (compact->family == 6) {
        address->u.ip6.sin6_family = AF_INET6;
        address->u.ip6.sin6_port = htons(compact->port);
        memcpy(&address->u.ip6.sin6_addr, compact->ip, 16);
        address->length = sizeof(address->u.ip6);
    }
}
