/*
 * Makes PROXY protocol v2 headers. Every part has a bound (SNI and ALPN 255 bytes, a common name 64), and all of them
 * together fit the caller's room. No state.
 */
#include "proxy_header.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "certificate.h"

#define PROXY_VERSION_COMMAND      0x21 /* version 2, PROXY */
#define PROXY_FAMILY_UNKNOWN       0x00
#define PROXY_FAMILY_TCP4          0x11
#define PROXY_FAMILY_TCP6          0x21
#define PROXY_TYPE_ALPN            0x01
#define PROXY_TYPE_AUTHORITY       0x02
#define PROXY_TYPE_TLS             0x20
#define PROXY_TYPE_TLS_VERSION     0x21
#define PROXY_TYPE_TLS_COMMON_NAME 0x22
#define PROXY_CLIENT_TLS           0x01
#define PROXY_CLIENT_CERTIFICATE   0x02 /* in this connection */
#define PROXY_FIXED_BYTES          16U
#define PROXY_COMMON_NAME_MAX      64U /* ub-common-name of RFC 5280 */
#define PROXY_TEXT_MAX             255U

struct proxy_endpoint {
    int family; /* 4, 6, or 0 */
    uint8_t ip[16];
    uint16_t port;
};

static size_t put_16(uint8_t *into, size_t value)
{
    into[0] = (uint8_t)(value >> 8);
    into[1] = (uint8_t)value;
    return 2;
}

static size_t put_tlv(uint8_t *into, uint8_t type, const void *value, size_t length)
{
    into[0] = type;
    put_16(into + 1, length);
    memcpy(into + 3, value, length);
    return 3 + length;
}

/* "192.0.2.1:50000" or "[2001:db8::1]:50000". */
static struct proxy_endpoint proxy_endpoint_parse(const char *text)
{
    struct proxy_endpoint endpoint = {0};
    const char *colon = strrchr(text, ':');
    const char *host = text[0] == '[' ? text + 1 : text;
    char copy[INET6_ADDRSTRLEN + 1] = "";
    size_t length;

    if (colon == NULL || colon < host) {
        return endpoint;
    }
    length = (size_t)(colon - host) - (text[0] == '[' ? 1U : 0U);
    if (length >= sizeof(copy)) {
        return endpoint;
    }
    memcpy(copy, host, length);
    endpoint.port = (uint16_t)strtoul(colon + 1, NULL, 10);
    if (inet_pton(AF_INET, copy, endpoint.ip) == 1) {
        endpoint.family = 4;
    } else if (inet_pton(AF_INET6, copy, endpoint.ip) == 1) {
        endpoint.family = 6;
    }
    return endpoint;
}

/* ::ffff:a.b.c.d, so that both ends of a connection have one family. */
static void proxy_endpoint_widen(struct proxy_endpoint *endpoint)
{
    if (endpoint->family == 4) {
        memmove(endpoint->ip + 12, endpoint->ip, 4);
        memset(endpoint->ip, 0, 10);
        memset(endpoint->ip + 10, 0xff, 2);
    }
    endpoint->family = 6;
}

static size_t put_addresses(uint8_t *into, const trunkline_client *client, uint8_t *family)
{
    struct proxy_endpoint from = proxy_endpoint_parse(client->address);
    struct proxy_endpoint to = proxy_endpoint_parse(client->listener);
    size_t ip_bytes;

    *family = PROXY_FAMILY_UNKNOWN;
    if (from.family == 0) {
        return 0;
    }
    if (to.family == 0) {
        to.family = from.family; /* all zero: unknown */
    }
    if (from.family != to.family) {
        proxy_endpoint_widen(&from);
        proxy_endpoint_widen(&to);
    }
    *family = from.family == 4 ? PROXY_FAMILY_TCP4 : PROXY_FAMILY_TCP6;
    ip_bytes = from.family == 4 ? 4 : 16;
    memcpy(into, from.ip, ip_bytes);
    memcpy(into + ip_bytes, to.ip, ip_bytes);
    put_16(into + 2 * ip_bytes, from.port);
    put_16(into + 2 * ip_bytes + 2, to.port);
    return 2 * ip_bytes + 4;
}

static size_t put_text(uint8_t *into, uint8_t type, const char *text)
{
    size_t length = strlen(text);

    return length > 0 && length <= PROXY_TEXT_MAX ? put_tlv(into, type, text, length) : 0;
}

static size_t put_tls(uint8_t *into, const trunkline_client *client)
{
    static const uint8_t verified[4] = {0, 0, 0, 0};
    static const uint8_t not_verified[4] = {0, 0, 0, 1}; /* there was no certificate to verify */
    uint8_t value[5 + 2 * 3 + 8 + PROXY_COMMON_NAME_MAX];
    size_t length = 5;

    if (client->tls_version == 0) {
        return 0;
    }
    value[0] = PROXY_CLIENT_TLS | (client->certificate != NULL ? PROXY_CLIENT_CERTIFICATE : 0);
    memcpy(value + 1, client->certificate != NULL ? verified : not_verified, 4);
    length += put_text(value + length, PROXY_TYPE_TLS_VERSION,
                       client->tls_version == 0x0304   ? "TLSv1.3"
                       : client->tls_version == 0x0303 ? "TLSv1.2"
                                                       : "");
    if (client->certificate != NULL) {
        char name[PROXY_COMMON_NAME_MAX + 1];
        size_t name_length =
            certificate_common_name(client->certificate, client->certificate_length, name, sizeof(name));

        if (name_length > 0) {
            length += put_tlv(value + length, PROXY_TYPE_TLS_COMMON_NAME, name, name_length);
        }
    }
    return put_tlv(into, PROXY_TYPE_TLS, value, length);
}

size_t proxy_header_make(const trunkline_client *client, uint8_t into[PROXY_HEADER_MAX_BYTES])
{
    static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
    size_t length = PROXY_FIXED_BYTES;
    uint8_t family;

    memcpy(into, signature, sizeof(signature));
    into[12] = PROXY_VERSION_COMMAND;
    length += put_addresses(into + length, client, &family);
    into[13] = family;
    length += put_text(into + length, PROXY_TYPE_ALPN, client->alpn);
    length += put_text(into + length, PROXY_TYPE_AUTHORITY, client->server_name);
    length += put_tls(into + length, client);
    put_16(into + 14, length - PROXY_FIXED_BYTES);
    return length;
}
