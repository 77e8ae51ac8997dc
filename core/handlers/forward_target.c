/* The argument of the forward handler. Main's thread. */
#include "forward_target.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const char *target_wrong(struct forward_target *target, const char *what, const char *detail)
{
    snprintf(target->fault, sizeof(target->fault), "%s: %s%s%s", target->name, what, detail[0] != '\0' ? ": " : "",
             detail);
    return target->fault;
}

static const char *target_take_option(struct forward_target *target, const char *option, size_t length)
{
    static const char timeout[] = "connect-timeout=";
    char text[64];
    char *rest;

    snprintf(text, sizeof(text), "%.*s", (int)(length < sizeof(text) ? length : sizeof(text) - 1), option);
    if (strcmp(text, "proxy-v2") == 0) {
        target->proxy = true;
        return NULL;
    }
    if (strncmp(text, timeout, sizeof(timeout) - 1) == 0) {
        unsigned long value = strtoul(text + sizeof(timeout) - 1, &rest, 10);

        if (*rest != '\0' || rest == text + sizeof(timeout) - 1 || value < 1 || value > 600000) {
            return target_wrong(target, "connect-timeout must be between 1 and 600000 milliseconds", "");
        }
        target->connect_timeout_ms = (unsigned)value;
        return NULL;
    }
    return target_wrong(target, "unknown option, only proxy-v2 and connect-timeout=MS are known", text);
}

static const char *target_resolve_local(struct forward_target *target, const char *path)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};

    if (path[0] != '/' || strlen(path) >= sizeof(local.sun_path)) {
        return target_wrong(target, "the path of a Unix socket is absolute and at most 107 bytes long", "");
    }
    memcpy(local.sun_path, path, strlen(path));
    target->addresses = calloc(1, sizeof(*target->addresses));
    if (target->addresses == NULL) {
        return "out of memory";
    }
    memcpy(&target->addresses[0].address, &local, sizeof(local));
    target->addresses[0].length = sizeof(local);
    target->count = 1;
    return NULL;
}

static const char *target_take_addresses(struct forward_target *target, const struct addrinfo *found)
{
    size_t count = 0;

    for (const struct addrinfo *next = found; next != NULL && count < FORWARD_ADDRESSES_MAX; next = next->ai_next) {
        count++;
    }
    target->addresses = calloc(count, sizeof(*target->addresses));
    if (target->addresses == NULL) {
        return "out of memory";
    }
    for (const struct addrinfo *next = found; target->count < count; next = next->ai_next) {
        memcpy(&target->addresses[target->count].address, next->ai_addr, next->ai_addrlen);
        target->addresses[target->count].length = next->ai_addrlen;
        target->count++;
    }
    return NULL;
}

static const char *target_resolve_host(struct forward_target *target)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[FORWARD_NAME_MAX];
    char *colon;
    char *start = host;
    const char *wrong;
    int failure;

    snprintf(host, sizeof(host), "%s", target->name);
    colon = strrchr(host, ':');
    if (colon == NULL || colon == host || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strtoul(colon + 1, NULL, 10) < 1 || strtoul(colon + 1, NULL, 10) > 65535) {
        return target_wrong(target, "expected HOST:PORT, [IPV6]:PORT or unix:/path", "");
    }
    *colon = '\0';
    if (host[0] == '[' && colon[-1] == ']') {
        start = host + 1;
        colon[-1] = '\0';
    } else if (strchr(host, ':') != NULL) {
        return target_wrong(target, "an IPv6 address goes in brackets: [ADDRESS]:PORT", "");
    }
    failure = getaddrinfo(start, colon + 1, &hints, &found);
    if (failure != 0) {
        return target_wrong(target, "cannot be resolved", gai_strerror(failure));
    }
    wrong = target_take_addresses(target, found);
    freeaddrinfo(found);
    return wrong;
}

const char *forward_target_new(const char *argument, struct forward_target **made)
{
    struct forward_target *target = calloc(1, sizeof(*target));
    size_t length = strcspn(argument, ",");
    const char *wrong = NULL;

    *made = target;
    if (target == NULL) {
        return "out of memory";
    }
    target->connect_timeout_ms = FORWARD_CONNECT_TIMEOUT_MS;
    if (length == 0) {
        return "where to is missing: forward:HOST:PORT";
    }
    if (length >= sizeof(target->name)) {
        return "the address is too long";
    }
    memcpy(target->name, argument, length);
    for (const char *option = argument + length; *option == ',' && wrong == NULL;) {
        size_t option_length = strcspn(option + 1, ",");

        wrong = target_take_option(target, option + 1, option_length);
        option += 1 + option_length;
    }
    if (wrong != NULL) {
        return wrong;
    }
    return strncmp(target->name, "unix:", 5) == 0 ? target_resolve_local(target, target->name + 5)
                                                  : target_resolve_host(target);
}

void forward_target_free(struct forward_target *target)
{
    if (target != NULL) {
        free(target->addresses);
        free(target);
    }
}
