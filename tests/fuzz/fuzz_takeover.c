/*
 * libFuzzer: what a process of the edge gives to another one in a takeover. The first byte chooses the message; a
 * client that is taken can be written down again, and what is written is taken again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "edge/client.h"
#include "edge/relay.h"
#include "edge/takeover_format.h"
#include "mux/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct scheduler scheduler;
static struct relay relay;

static enum error_code never_dial(void *owner, size_t core, union transport_slot *slot)
{
    (void)owner;
    (void)core;
    (void)slot;
    return ERROR_UNREACHABLE;
}

static void never_stopped(void *owner)
{
    (void)owner;
}

/* A relay that never dials: only its slabs and lists are used, and its contexts are not. */
static void relay_make(void)
{
    static struct edge_listen_settings listens[] = {{.address = (char *)(uintptr_t) "0.0.0.0:443"}};
    static struct edge_core_settings cores[] = {
        {.address = (char *)(uintptr_t) "192.0.2.1:4433", .name = (char *)(uintptr_t) "core"}};
    static struct edge_settings edge = {.listens = listens,
                                        .listen_count = 1,
                                        .cores = cores,
                                        .core_count = 1,
                                        .trunks = 1,
                                        .open_timeout_ms = 1000,
                                        .resume_timeout_ms = 1000,
                                        .reopen_after_ms = 1000,
                                        .stall_timeout_ms = 1000};
    static const struct relay_ops ops = {.dial = never_dial, .stopped = never_stopped};
    const struct tls_client_settings tls = {.ca = NULL};
    struct tls_context *context = NULL;
    struct tls_fault fault;
    if (tls_context_new_client(&tls, &context, &fault) != ERROR_NONE) {
        abort();
    }
    const struct relay_settings settings = {.edge = &edge,
                                            .client_context = context,
                                            .trunk_context = context,
                                            .sessions_max = 100,
                                            .handshakes_max = 100,
                                            .edge_worker = 1,
                                            .buffer_memory_bytes = 1U << 30,
                                            .seed = 1};
    scheduler_init(&scheduler, 1000000);
    if (relay_init(&relay, &settings, &scheduler, &ops, NULL) != ERROR_NONE) {
        abort();
    }
}

static void take_client(const uint8_t *data, size_t size)
{
    static const uint16_t same[] = {0};
    static const bool up[] = {true};
    const struct edge_client_map map = {same, same, up};
    struct edge_client *client = NULL;
    struct edge_client *again = NULL;
    struct unpack unpack;
    struct pack pack;
    unpack_init(&unpack, data, size);
    if (edge_client_import(&relay, &unpack, &client) != ERROR_NONE) {
        return;
    }
    if (edge_client_exportable(client, &map) != EDGE_CLIENT_EXPORT_YES) {
        abort();
    }
    pack_init(&pack);
    edge_client_export(client, &map, &pack);
    unpack_init(&unpack, pack.bytes, pack.length);
    if (edge_client_import(&relay, &unpack, &again) != ERROR_NONE || unpack.left > 0) {
        abort();
    }
    edge_client_let_go(client);
    edge_client_let_go(again);
    pack_dispose(&pack);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct takeover_ready ready;
    struct takeover_hello hello;
    struct takeover_welcome welcome;
    struct takeover_worker worker;
    enum takeover_message message;
    size_t sockets = 0;
    size_t length = 0;
    if (relay.scheduler == NULL) {
        relay_make();
    }
    if (size < 1 + TAKEOVER_HEADER_BYTES) {
        return 0;
    }
    switch (data[0] % 5) {
    case 0:
        if (takeover_hello_read(&hello, data + 1, size - 1) == ERROR_NONE) {
            takeover_hello_dispose(&hello);
        }
        break;
    case 1:
        if (takeover_welcome_read(&welcome, data + 1, size - 1) == ERROR_NONE) {
            takeover_welcome_dispose(&welcome);
        }
        break;
    case 2:
        (void)takeover_worker_read(&worker, data + 1, size - 1);
        (void)takeover_ready_read(&ready, data + 1, size - 1);
        break;
    case 3:
        (void)takeover_header_read(data + 1, &message, &sockets, &length);
        break;
    default:
        take_client(data + 1, size - 1);
        break;
    }
    return 0;
}
