/* See proxy.h. */
#include "tests/chaos/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mux/clock.h"
#include "mux/log.h"
#include "mux/memory.h"
#include "tests/chaos/connection.h"
#include "tests/chaos/registry.h"

#define ANY_HOST "0.0.0.0"

enum error_code proxy_parse_address(const char *text, struct address *address, const char *what,
                                    struct option_fault *fault)
{
    char whole[ADDRESS_TEXT_MAX + sizeof(ANY_HOST)];
    struct option_fault reason;
    if (text == NULL || *text == '\0') {
        option_fault_set(fault, "missing required field: %s", what);
        return ERROR_CONFIGURATION;
    }
    (void)snprintf(whole, sizeof(whole), "%s%s", text[0] == ':' ? ANY_HOST : "", text);
    if (!option_check_listen_address(whole, &reason)) {
        option_fault_set(fault, "%s: %.200s", what, reason.text);
        return ERROR_CONFIGURATION;
    }
    enum error_code error = address_parse(whole, true, address);
    if (error == ERROR_NO_MEMORY) {
        return error;
    }
    if (error != ERROR_NONE) {
        option_fault_set(fault, "%s: the name in %.100s is not known", what, whole);
        return ERROR_CONFIGURATION;
    }
    return ERROR_NONE;
}

static bool address_same(const struct address *left, const struct address *right)
{
    char a[ADDRESS_TEXT_MAX];
    char b[ADDRESS_TEXT_MAX];
    return strcmp(address_format(left, a), address_format(right, b)) == 0;
}

bool proxy_matches(const struct proxy *proxy, const struct address *listen, const struct address *upstream)
{
    return address_same(&proxy->listen_address, listen) && address_same(&proxy->upstream_address, upstream);
}

static enum error_code proxy_bind(struct proxy *proxy, struct option_fault *fault)
{
    char text[ADDRESS_TEXT_MAX];
    int size = proxy->registry->receive_buffer;
    errno = 0;
    enum error_code error = socket_listen(&proxy->listen_address, false, &proxy->prepared_fd);
    if (error != ERROR_NONE) {
        option_fault_set(fault, "cannot listen on %s: %s", address_format(&proxy->listen_address, text),
                         errno != 0 ? strerror(errno) : error_text(error));
        return error;
    }
    if (size > 0) {
        (void)setsockopt(proxy->prepared_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    }
    (void)socket_local_address(proxy->prepared_fd, &proxy->listen_address);
    (void)address_format(&proxy->listen_address, proxy->listen);
    return ERROR_NONE;
}

static enum error_code proxy_copy_toxics(struct proxy *proxy, const struct list *toxics)
{
    list_for_each(toxics, node) {
        struct toxic *copy = toxic_copy(container_of(node, struct toxic, node));
        if (copy == NULL) {
            return ERROR_NO_MEMORY;
        }
        list_append(&proxy->toxics, &copy->node);
        proxy->toxic_count++;
    }
    return ERROR_NONE;
}

enum error_code proxy_new(struct registry *registry, const struct proxy_spec *spec, const struct proxy *old,
                          struct proxy **proxy, struct option_fault *fault)
{
    *proxy = NULL;
    struct proxy *made = memory_zalloc(sizeof(*made));
    if (made == NULL) {
        return ERROR_NO_MEMORY;
    }
    list_node_init(&made->node);
    list_init(&made->toxics);
    list_init(&made->connections);
    made->registry = registry;
    made->prepared_fd = -1;
    enum error_code error = ERROR_NONE;
    if (spec->name == NULL || *spec->name == '\0') {
        option_fault_set(fault, "missing required field: name");
        error = ERROR_CONFIGURATION;
    } else if (!toxic_check_name(spec->name, fault)) {
        error = ERROR_CONFIGURATION;
    }
    if (error == ERROR_NONE) {
        error = proxy_parse_address(spec->upstream, &made->upstream_address, "upstream", fault);
    }
    if (error == ERROR_NONE) {
        error = proxy_parse_address(spec->listen, &made->listen_address, "listen", fault);
    }
    if (error == ERROR_NONE) {
        (void)address_format(&made->listen_address, made->listen);
        (void)address_format(&made->upstream_address, made->upstream);
        error = option_text_copy(&made->name, spec->name);
    }
    if (error == ERROR_NONE) {
        error = proxy_copy_toxics(made, spec->toxics_given || old == NULL ? &spec->toxics : &old->toxics);
    }
    made->enabled = spec->enabled;
    /* The old one's socket serves on: while it is open, its address could not be bound again. */
    if (error == ERROR_NONE && spec->enabled && old != NULL && old->enabled &&
        address_same(&old->listen_address, &made->listen_address)) {
        made->prepared_fd = dup(old->listener.fd);
        error = made->prepared_fd >= 0 ? ERROR_NONE : ERROR_NO_FILES;
    } else if (error == ERROR_NONE && spec->enabled) {
        error = proxy_bind(made, fault);
    }
    if (error != ERROR_NONE) {
        proxy_free(&made);
        return error;
    }
    made->accepted = old != NULL ? old->accepted : 0;
    *proxy = made;
    return ERROR_NONE;
}

void proxy_disable(struct proxy *proxy)
{
    proxy->enabled = false;
    listener_stop(&proxy->listener);
    list_for_each(&proxy->connections, node) {
        struct connection *connection = container_of(node, struct connection, node);
        connection_free(&connection);
    }
}

void proxy_free(struct proxy **proxy)
{
    struct proxy *freed = *proxy;
    if (freed == NULL) {
        return;
    }
    proxy_disable(freed);
    if (freed->prepared_fd >= 0) {
        (void)close(freed->prepared_fd);
    }
    list_for_each(&freed->toxics, node) {
        struct toxic *toxic = container_of(node, struct toxic, node);
        list_remove(&toxic->node);
        toxic_free(&toxic);
    }
    list_remove(&freed->node);
    memory_free(freed->name);
    memory_free(freed);
    *proxy = NULL;
}

static void on_accept(void *owner, int fd, const struct address *peer)
{
    (void)peer;
    connection_accept(owner, fd);
}

enum error_code proxy_start(struct proxy *proxy, struct option_fault *fault)
{
    if (!proxy->enabled) {
        return ERROR_NONE;
    }
    int fd = proxy->prepared_fd;
    proxy->prepared_fd = -1;
    enum error_code error = listener_start(&proxy->listener, proxy->registry->loop, fd, on_accept, proxy);
    if (error != ERROR_NONE) {
        proxy->enabled = false;
        option_fault_set(fault, "cannot accept on %s: %s", proxy->listen, error_text(error));
    }
    return error;
}

enum error_code proxy_enable(struct proxy *proxy, struct option_fault *fault)
{
    if (proxy->enabled) {
        return ERROR_NONE;
    }
    enum error_code error = proxy_bind(proxy, fault);
    if (error != ERROR_NONE) {
        return error;
    }
    proxy->enabled = true;
    return proxy_start(proxy, fault);
}

struct toxic *proxy_find_toxic(const struct proxy *proxy, const char *name)
{
    list_for_each(&proxy->toxics, node) {
        struct toxic *toxic = container_of(node, struct toxic, node);
        if (strcmp(toxic->name, name) == 0) {
            return toxic;
        }
    }
    return NULL;
}

static void settle(struct connection *connection, enum error_code error)
{
    if (error != ERROR_NONE) {
        connection_end(connection, TRANSPORT_CLOSE_RESET);
    }
    connection_nudge(connection);
}

void proxy_add_toxic(struct proxy *proxy, struct toxic *toxic)
{
    uint64_t now_us = clock_monotonic_us();
    list_append(&proxy->toxics, &toxic->node);
    proxy->toxic_count++;
    list_for_each(&proxy->connections, node) {
        struct connection *connection = container_of(node, struct connection, node);
        settle(connection, flow_add(&connection->flows[toxic->stream], toxic, now_us));
    }
}

void proxy_update_toxic(struct proxy *proxy, struct toxic *toxic, const struct toxic *from)
{
    uint64_t now_us = clock_monotonic_us();
    toxic_assign(toxic, from);
    list_for_each(&proxy->connections, node) {
        struct connection *connection = container_of(node, struct connection, node);
        settle(connection, flow_update(&connection->flows[toxic->stream], toxic, now_us));
    }
}

void proxy_remove_toxic(struct proxy *proxy, struct toxic *toxic)
{
    list_for_each(&proxy->connections, node) {
        struct connection *connection = container_of(node, struct connection, node);
        flow_remove(&connection->flows[toxic->stream], toxic);
        connection_nudge(connection);
    }
    list_remove(&toxic->node);
    proxy->toxic_count--;
    toxic_free(&toxic);
}

void proxy_bytes(const struct proxy *proxy, enum toxic_stream stream, uint64_t *received, uint64_t *sent)
{
    *received = proxy->received[stream];
    *sent = proxy->sent[stream];
    list_for_each(&proxy->connections, node) {
        const struct connection *connection = container_of(node, struct connection, node);
        *received += connection->flows[stream].received_bytes;
        *sent += connection->flows[stream].sent_bytes;
    }
}

json_t *proxy_json(const struct proxy *proxy)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:o}", "name", proxy->name, "listen", proxy->listen, "upstream",
                     proxy->upstream, "enabled", proxy->enabled, "toxics", json_of_toxics(&proxy->toxics));
}
