/*
 * The edge's options: their table, how those with parts are read, and what must hold between them. A reading collects
 * into a draft, which owns everything until it is whole; then the settings leave it for the caller. Main's thread.
 */
#include "edge/settings.h"

#include <ctype.h>
#include <string.h>

#include "mux/config.h"
#include "mux/limits.h"
#include "mux/memory.h"
#include "mux/privilege.h"

#define DURATION_MAX_MS 86400000U /* a day */
#define WINDOW_MAX      2147483647U

/* Keys are paired with certificates in their order once all is read. */
struct edge_key_draft {
    char *path;
    bool in_object; /* came with its certificate, and goes with it */
};

struct edge_draft {
    struct edge_settings settings;
    char **certificates;
    size_t certificate_count;
    struct edge_key_draft *keys;
    size_t key_count;
    unsigned *route_lines; /* of the file, for each route; 0: the command line */
    char *core_name;
    int unknown_sni; /* 0: default, 1: alert */
};

static const char *const listen_parts[] = {"address", "name", NULL};
static const char *const certificate_parts[] = {"certificate", "key", NULL};
static const char *const core_parts[] = {"address", "name", NULL};
static const char *const route_parts[] = {"listener", "sni", "alpn", "service", NULL};
static const char *const client_certificate_choices[] = {"none", "optional", "require", NULL};
static const char *const unknown_sni_choices[] = {"default", "alert", NULL};
static const char *const log_level_choices[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_format_choices[] = {"text", "json", NULL};
static const char *const sandbox_choices[] = {"off", "on", "require", NULL};

static enum error_code edge_take_listen(void *settings, const struct option_value *value, struct option_fault *fault)
{
    struct edge_settings *edge = &((struct edge_draft *)settings)->settings;
    const char *address = value->text != NULL ? value->text : value->parts[0];
    if (address == NULL) {
        option_fault_set(fault, "needs an address");
        return ERROR_CONFIGURATION;
    }
    if (!option_check_listen_address(address, fault)) {
        return ERROR_CONFIGURATION;
    }
    struct edge_listen_settings *grown = option_list_extend(edge->listens, edge->listen_count, sizeof *grown);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    edge->listens = grown;
    struct edge_listen_settings *listen = &grown[edge->listen_count++];
    enum error_code error = option_text_copy(&listen->address, address);
    return error != ERROR_NONE ? error : option_text_copy(&listen->name, value->parts[1]);
}

static void edge_clear_listen(void *settings)
{
    struct edge_settings *edge = &((struct edge_draft *)settings)->settings;
    for (size_t i = 0; i < edge->listen_count; i++) {
        memory_free(edge->listens[i].address);
        memory_free(edge->listens[i].name);
    }
    memory_free(edge->listens);
    edge->listens = NULL;
    edge->listen_count = 0;
}

static enum error_code edge_add_certificate(struct edge_draft *draft, const char *path)
{
    char **grown = option_list_extend(draft->certificates, draft->certificate_count, sizeof *grown);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    draft->certificates = grown;
    return option_text_copy(&grown[draft->certificate_count++], path);
}

static enum error_code edge_add_key(struct edge_draft *draft, const char *path, bool in_object)
{
    struct edge_key_draft *grown = option_list_extend(draft->keys, draft->key_count, sizeof *grown);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    draft->keys = grown;
    grown[draft->key_count].in_object = in_object;
    return option_text_copy(&grown[draft->key_count++].path, path);
}

static enum error_code edge_take_certificate(void *settings, const struct option_value *value,
                                             struct option_fault *fault)
{
    struct edge_draft *draft = settings;
    if (value->text != NULL) {
        if (*value->text == '\0') {
            option_fault_set(fault, "must not be empty");
            return ERROR_CONFIGURATION;
        }
        return edge_add_certificate(draft, value->text);
    }
    if (value->parts[0] == NULL || value->parts[1] == NULL) {
        option_fault_set(fault, "needs both a certificate and a key");
        return ERROR_CONFIGURATION;
    }
    if (draft->certificate_count != draft->key_count) {
        option_fault_set(fault, "the certificates and keys before this one must be pairs");
        return ERROR_CONFIGURATION;
    }
    enum error_code error = edge_add_certificate(draft, value->parts[0]);
    return error != ERROR_NONE ? error : edge_add_key(draft, value->parts[1], true);
}

static enum error_code edge_take_key(void *settings, const struct option_value *value, struct option_fault *fault)
{
    if (value->text == NULL || *value->text == '\0') {
        option_fault_set(fault, "must not be empty");
        return ERROR_CONFIGURATION;
    }
    return edge_add_key(settings, value->text, false);
}

/* Drops the keys that came with their certificate, or those that came alone. */
static void edge_clear_keys(struct edge_draft *draft, bool in_object)
{
    size_t kept = 0;
    for (size_t i = 0; i < draft->key_count; i++) {
        if (draft->keys[i].in_object == in_object) {
            memory_free(draft->keys[i].path);
        } else {
            draft->keys[kept++] = draft->keys[i];
        }
    }
    draft->key_count = kept;
    if (kept == 0) {
        memory_free(draft->keys);
        draft->keys = NULL;
    }
}

static void edge_clear_key(void *settings)
{
    edge_clear_keys(settings, false);
}

static void edge_clear_certificate(void *settings)
{
    struct edge_draft *draft = settings;
    for (size_t i = 0; i < draft->certificate_count; i++) {
        memory_free(draft->certificates[i]);
    }
    memory_free(draft->certificates);
    draft->certificates = NULL;
    draft->certificate_count = 0;
    edge_clear_keys(draft, true);
}

static enum error_code edge_take_core(void *settings, const struct option_value *value, struct option_fault *fault)
{
    struct edge_settings *edge = &((struct edge_draft *)settings)->settings;
    const char *address = value->text != NULL ? value->text : value->parts[0];
    if (address == NULL) {
        option_fault_set(fault, "needs an address");
        return ERROR_CONFIGURATION;
    }
    if (!option_check_peer_address(address, fault)) {
        return ERROR_CONFIGURATION;
    }
    struct edge_core_settings *grown = option_list_extend(edge->cores, edge->core_count, sizeof *grown);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    edge->cores = grown;
    struct edge_core_settings *core = &grown[edge->core_count++];
    enum error_code error = option_text_copy(&core->address, address);
    return error != ERROR_NONE ? error : option_text_copy(&core->name, value->parts[1]);
}

static void edge_clear_core(void *settings)
{
    struct edge_settings *edge = &((struct edge_draft *)settings)->settings;
    for (size_t i = 0; i < edge->core_count; i++) {
        memory_free(edge->cores[i].address);
        memory_free(edge->cores[i].name);
    }
    memory_free(edge->cores);
    edge->cores = NULL;
    edge->core_count = 0;
}

static bool edge_check_alpn(const char *text, struct option_fault *fault)
{
    return strlen(text) <= 255 || option_fault_set(fault, "a protocol's name has at most 255 bytes");
}

/* A star may only stand for the whole first label. */
static bool edge_check_server_name(const char *text, struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    const char *rest = strncmp(text, "*.", 2) == 0 ? text + 2 : text;
    if (*rest == '\0' || strchr(rest, '*') != NULL || !option_check_name(text, fault)) {
        return option_fault_set(fault, "sni %s is not a host name, or one after \"*.\"", option_quote(text, quoted));
    }
    return true;
}

static bool edge_check_route(const char *const parts[OPTION_PARTS_MAX], struct option_fault *fault)
{
    if (parts[3] == NULL) {
        return option_fault_set(fault, "needs a service");
    }
    for (size_t i = 0; i < OPTION_PARTS_MAX; i++) {
        if (parts[i] != NULL && *parts[i] == '\0') {
            return option_fault_set(fault, "%s must not be empty", route_parts[i]);
        }
    }
    return (parts[1] == NULL || edge_check_server_name(parts[1], fault)) &&
           (parts[2] == NULL || edge_check_alpn(parts[2], fault)) && option_check_name(parts[3], fault);
}

static enum error_code edge_add_route(struct edge_draft *draft, const char *const parts[OPTION_PARTS_MAX],
                                      unsigned line)
{
    struct edge_settings *edge = &draft->settings;
    unsigned *lines = option_list_extend(draft->route_lines, edge->route_count, sizeof *lines);
    if (lines == NULL) {
        return ERROR_NO_MEMORY;
    }
    draft->route_lines = lines;
    lines[edge->route_count] = line;
    struct edge_route_settings *grown = option_list_extend(edge->routes, edge->route_count, sizeof *grown);
    if (grown == NULL) {
        return ERROR_NO_MEMORY;
    }
    edge->routes = grown;
    struct edge_route_settings *route = &grown[edge->route_count++];
    if (option_text_copy(&route->listener, parts[0]) != ERROR_NONE ||
        option_text_copy(&route->server_name, parts[1]) != ERROR_NONE ||
        option_text_copy(&route->alpn, parts[2]) != ERROR_NONE ||
        option_text_copy(&route->service, parts[3]) != ERROR_NONE) {
        return ERROR_NO_MEMORY;
    }
    /* Names compare without case, and what clients send comes in lower case. */
    for (char *next = route->server_name; next != NULL && *next != '\0'; next++) {
        *next = (char)tolower((unsigned char)*next);
    }
    return ERROR_NONE;
}

static enum error_code edge_take_route(void *settings, const struct option_value *value, struct option_fault *fault)
{
    const char *parts[OPTION_PARTS_MAX];
    char *copy = NULL;
    memcpy(parts, value->parts, sizeof parts);
    if (value->text != NULL) {
        copy = memory_strdup(value->text);
        if (copy == NULL) {
            return ERROR_NO_MEMORY;
        }
    }
    bool valid =
        (copy == NULL || option_parts_split(copy, route_parts, parts, fault)) && edge_check_route(parts, fault);
    enum error_code error = valid ? edge_add_route(settings, parts, value->line) : ERROR_CONFIGURATION;
    memory_free(copy);
    return error;
}

static void edge_clear_route(void *settings)
{
    struct edge_draft *draft = settings;
    struct edge_settings *edge = &draft->settings;
    for (size_t i = 0; i < edge->route_count; i++) {
        memory_free(edge->routes[i].listener);
        memory_free(edge->routes[i].server_name);
        memory_free(edge->routes[i].alpn);
        memory_free(edge->routes[i].service);
    }
    memory_free(edge->routes);
    memory_free(draft->route_lines);
    edge->routes = NULL;
    edge->route_count = 0;
    draft->route_lines = NULL;
}

#define FIELD(name_) offsetof(struct edge_draft, name_)

/* clang-format off */
static const struct option edge_options[] = {
    {.name = "listen", .kind = OPTION_ITEM, .required = true, .group = "Clients", .value_name = "ADDR:PORT",
     .help = "where TLS clients connect; with port 0 the system chooses one, which is printed",
     .parts = listen_parts, .title = "name", .take = edge_take_listen, .clear = edge_clear_listen},
    {.name = "certificate", .kind = OPTION_ITEM, .required = true, .value_name = "FILE",
     .help = "certificate shown to clients, PEM, leaf first; the first is the default, the others are chosen by SNI",
     .parts = certificate_parts, .take = edge_take_certificate, .clear = edge_clear_certificate},
    {.name = "key", .kind = OPTION_ITEM, .value_name = "FILE",
     .help = "its private key, PEM; one for each --certificate, in the same order",
     .take = edge_take_key, .clear = edge_clear_key},
    {.name = "alpn", .kind = OPTION_TEXTS, .value_name = "PROTOCOL",
     .help = "application protocol offered to clients, the best first; none: ALPN is ignored",
     .offset = FIELD(settings.alpn), .count_offset = FIELD(settings.alpn_count), .check = edge_check_alpn},
    {.name = "unknown-sni", .kind = OPTION_CHOICE, .value_name = "ACTION",
     .help = "a client that names a host which no certificate bears gets the default certificate or an alert: "
             "default or alert",
     .offset = FIELD(unknown_sni), .choices = unknown_sni_choices},
    {.name = "client-certificate", .kind = OPTION_CHOICE, .value_name = "MODE",
     .help = "whether clients are asked for a certificate: none, optional or require",
     .offset = FIELD(settings.client_auth), .choices = client_certificate_choices},
    {.name = "client-ca", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "CA certificates, PEM, that client certificates must chain to",
     .offset = FIELD(settings.client_ca)},
    {.name = "tickets", .kind = OPTION_SWITCH, .value_name = "on|off",
     .help = "stateless TLS session tickets", .offset = FIELD(settings.tickets), .preset = 1},
    {.name = "ticket-key", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "64 random bytes or more that tickets are sealed with, shared by the edges of a region; "
             "none: a fresh key at each start",
     .offset = FIELD(settings.ticket_key)},

    {.name = "service", .kind = OPTION_TEXT, .group = "Routing", .value_name = "NAME",
     .help = "service of the core for clients that no route matches; none: they are refused",
     .offset = FIELD(settings.service), .check = option_check_name},
    {.name = "route", .kind = OPTION_ITEM, .value_name = "PARTS",
     .help = "[listener=L,][sni=N,][alpn=P,]service=S; the first whose every part matches decides; "
             "N may be *.example.com",
     .parts = route_parts, .take = edge_take_route, .clear = edge_clear_route},

    {.name = "core", .kind = OPTION_ITEM, .required = true, .group = "Trunks", .value_name = "ADDR:PORT",
     .help = "a core that trunks go to", .parts = core_parts, .take = edge_take_core, .clear = edge_clear_core},
    {.name = "core-ca", .kind = OPTION_TEXT, .required = true, .value_name = "FILE",
     .help = "CA certificates, PEM, that the cores' certificates must chain to", .offset = FIELD(settings.core_ca)},
    {.name = "core-name", .kind = OPTION_TEXT, .value_name = "NAME",
     .help = "name that the cores' certificates must bear, where a core has none of its own; "
             "none: the host of the core's address",
     .offset = FIELD(core_name), .check = option_check_name},
    {.name = "trunk-certificate", .kind = OPTION_TEXT, .required = true, .value_name = "FILE",
     .help = "certificate shown to the cores, PEM", .offset = FIELD(settings.trunk_certificate)},
    {.name = "trunk-key", .kind = OPTION_TEXT, .required = true, .value_name = "FILE",
     .help = "its private key, PEM", .offset = FIELD(settings.trunk_key)},
    {.name = "trunks", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "trunks of each worker to each core", .offset = FIELD(settings.trunks),
     .minimum = 1, .maximum = LIMIT_TRUNKS_PER_WORKER, .preset = 2},
    {.name = "ping-interval", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "time between the PINGs that test a trunk", .offset = FIELD(settings.ping_interval_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_PING_INTERVAL_MS},
    {.name = "ping-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a trunk whose PING is unanswered for so long is lost", .offset = FIELD(settings.ping_timeout_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_PING_ANSWER_MS},
    {.name = "reconnect-min", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "wait before the first attempt to replace a lost trunk; doubles with each",
     .offset = FIELD(settings.reconnect_min_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_RECONNECT_MIN_MS},
    {.name = "reconnect-max", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "the longest wait between attempts", .offset = FIELD(settings.reconnect_max_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_RECONNECT_MAX_MS},

    {.name = "workers", .kind = OPTION_COUNT, .group = "Limits", .value_name = "NUMBER",
     .help = "threads; 0: one for each CPU", .offset = FIELD(settings.workers),
     .minimum = 0, .maximum = LIMIT_WORKERS, .preset = 0},
    {.name = "sessions-max", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "clients of the process; more are refused", .offset = FIELD(settings.sessions_max),
     .minimum = 1, .maximum = 1000000000, .preset = LIMIT_EDGE_SESSIONS},
    {.name = "handshakes-max", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "clients that have not finished their TLS handshake", .offset = FIELD(settings.handshakes_max),
     .minimum = 1, .maximum = 1000000000, .preset = LIMIT_EDGE_HANDSHAKES},
    {.name = "handshakes-per-second", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "TLS handshakes that begin each second, the others wait their turn; 0: any number",
     .offset = FIELD(settings.handshakes_per_second),
     .minimum = 0, .maximum = 1000000, .preset = 0},
    {.name = "connections-per-address", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "clients of one IPv4 address or of one IPv6 host (the first 64 bits) at a time; 0: any number",
     .offset = FIELD(settings.connections_per_address),
     .minimum = 0, .maximum = 1000000000, .preset = 0},
    {.name = "connections-per-network", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "clients of one network at a time; 0: any number", .offset = FIELD(settings.connections_per_network),
     .minimum = 0, .maximum = 1000000000, .preset = 0},
    {.name = "arrivals-per-address", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "connections of one address that are taken in a second; 0: any number",
     .offset = FIELD(settings.arrivals_per_address),
     .minimum = 0, .maximum = 65535, .preset = 0},
    {.name = "arrivals-per-network", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "connections of one network that are taken in a second; 0: any number",
     .offset = FIELD(settings.arrivals_per_network),
     .minimum = 0, .maximum = 65535, .preset = 0},
    {.name = "network-ipv4-bits", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "length of the prefix that makes a network, IPv4", .offset = FIELD(settings.network_ip4_bits),
     .minimum = 1, .maximum = 32, .preset = LIMIT_NETWORK_IP4_BITS},
    {.name = "network-ipv6-bits", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "the same, IPv6", .offset = FIELD(settings.network_ip6_bits),
     .minimum = 1, .maximum = 64, .preset = LIMIT_NETWORK_IP6_BITS},
    {.name = "sessions-per-trunk", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "clients on one trunk at a time", .offset = FIELD(settings.sessions_per_trunk),
     .minimum = 1, .maximum = 1U << 30, .preset = LIMIT_SESSIONS_PER_TRUNK},
    {.name = "trunk-opens-max", .kind = OPTION_COUNT, .value_name = "NUMBER",
     .help = "a trunk that has carried so many clients is replaced", .offset = FIELD(settings.trunk_opens_max),
     .minimum = 1, .maximum = LIMIT_TRUNK_OPENS, .preset = LIMIT_TRUNK_OPENS},
    {.name = "stream-window", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "bytes in flight from the core to one client, at the start",
     .offset = FIELD(settings.stream_window_bytes),
     .minimum = 1024, .maximum = 1U << 30, .preset = LIMIT_STREAM_WINDOW_BYTES},
    {.name = "stream-window-max", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "the same at most, when the path is long and fast",
     .offset = FIELD(settings.stream_window_max_bytes),
     .minimum = 1024, .maximum = 1U << 30, .preset = LIMIT_STREAM_WINDOW_MAX_BYTES},
    {.name = "trunk-window", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "bytes in flight on a whole trunk; must exceed --stream-window-max",
     .offset = FIELD(settings.trunk_window_bytes),
     .minimum = 65536, .maximum = WINDOW_MAX, .preset = LIMIT_TRUNK_WINDOW_BYTES},
    {.name = "buffer-memory", .kind = OPTION_SIZE, .value_name = "SIZE",
     .help = "what clients of the process hold in buffers; as it fills, windows shrink, then no new ones are taken, "
             "then stalled ones are reset",
     .offset = FIELD(settings.buffer_memory_bytes),
     .minimum = LIMIT_BUFFER_MEMORY_MIN_BYTES, .maximum = WINDOW_MAX, .preset = LIMIT_BUFFER_MEMORY_BYTES},
    {.name = "handshake-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "from accept to the end of a client's TLS handshake", .offset = FIELD(settings.handshake_timeout_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_HANDSHAKE_MS},
    {.name = "open-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "from there to the core's answer, waiting for a trunk included",
     .offset = FIELD(settings.open_timeout_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_OPEN_MS},
    {.name = "resume-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a session whose trunk is lost waits for another trunk to the same core for so long; 0: it ends with its "
             "trunk", .offset = FIELD(settings.resume_timeout_ms),
     .minimum = 0, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_RESUME_EDGE_MS},
    {.name = "reopen-after", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "of it, so long for the session's own core; then another one may open it again, if its service reopens",
     .offset = FIELD(settings.reopen_after_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_REOPEN_AFTER_MS},
    {.name = "idle-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a session without a byte either way for so long is reset; 0: never",
     .offset = FIELD(settings.idle_timeout_ms),
     .minimum = 0, .maximum = DURATION_MAX_MS, .preset = 0},
    {.name = "stall-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a client that takes no byte of what waits for it for so long is reset; 0: never",
     .offset = FIELD(settings.stall_timeout_ms),
     .minimum = 0, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_STALL_MS},
    {.name = "keepalive", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "a client that is silent for so long is probed by TCP, and after four lost probes more, a quarter of it "
             "apart, reset; 0: never", .offset = FIELD(settings.keepalive_ms),
     .minimum = 0, .maximum = KEEPALIVE_MAX_MS, .preset = KEEPALIVE_CLIENT_MS},
    {.name = "linger-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "wait for a client's FIN after both directions have ended", .offset = FIELD(settings.linger_timeout_ms),
     .minimum = 1, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_LINGER_MS},
    {.name = "drain-timeout", .kind = OPTION_DURATION, .value_name = "DURATION",
     .help = "after SIGTERM, sessions may end by themselves for so long", .offset = FIELD(settings.drain_timeout_ms),
     .minimum = 0, .maximum = DURATION_MAX_MS, .preset = TIMEOUT_DRAIN_MS},

    {.name = "control", .kind = OPTION_TEXT, .group = "Upgrade", .value_name = "FILE",
     .help = "a Unix socket, for this user only, by which another process may take over", .offset = FIELD(settings.control)},
    {.name = "takeover", .kind = OPTION_TEXT, .value_name = "FILE",
     .help = "take listeners and clients over from the process with this control socket; it ends when it has handed "
             "them over, and carries on if anything fails", .offset = FIELD(settings.takeover)},

    {.name = "user", .kind = OPTION_TEXT, .group = "Privileges", .value_name = "NAME[:GROUP]",
     .help = "whom to become once listeners are bound and secrets read; only root can",
     .offset = FIELD(settings.user), .check = privilege_check_text},
    {.name = "sandbox", .kind = OPTION_CHOICE, .value_name = "MODE",
     .help = "whether the kernel is told to forbid what is not needed from then on, as far as it can (on) or in full "
             "(require): off, on or require",
     .offset = FIELD(settings.sandbox), .choices = sandbox_choices, .preset = SANDBOX_ON},

    {.name = "config", .kind = OPTION_CONFIG, .group = "General", .value_name = "FILE",
     .help = "read options from FILE first"},
    {.name = "check-config", .kind = OPTION_FLAG, .help = "check options, certificates and keys, and exit",
     .offset = FIELD(settings.check_only)},
    {.name = "log-level", .kind = OPTION_CHOICE, .value_name = "LEVEL",
     .help = "least important lines to log: error, warning, info or debug", .offset = FIELD(settings.log_level),
     .choices = log_level_choices, .preset = LOG_INFO},
    {.name = "log-format", .kind = OPTION_CHOICE, .value_name = "FORMAT",
     .help = "lines on standard error as text or json", .offset = FIELD(settings.log_format),
     .choices = log_format_choices, .preset = LOG_FORMAT_TEXT},
    {.name = "version", .kind = OPTION_VERSION, .help = "print the version and exit"},
    {.name = "help", .kind = OPTION_HELP, .help = "print this page and exit"},
};
/* clang-format on */

const struct option_program edge_program = {
    .name = "trunkline-edge",
    .synopsis = "trunkline-edge --listen ADDR:PORT --certificate FILE --key FILE --core ADDR:PORT --core-ca FILE "
                "--trunk-certificate FILE --trunk-key FILE --service NAME [option ...]",
    .summary = "Terminates the TLS connections of clients, and carries each as one stream over a few trunks to a "
               "core.",
    .epilogue = "  trunkline-edge --listen 0.0.0.0:443 --certificate edge.crt --key edge.key \\\n"
                "      --core core.example.com:8443 --core-ca ca.crt \\\n"
                "      --trunk-certificate trunk.crt --trunk-key trunk.key --service web\n",
    .options = edge_options,
    .option_count = sizeof edge_options / sizeof *edge_options,
};

_Static_assert(sizeof edge_options / sizeof *edge_options <= OPTIONS_MAX, "the reader has room for fewer options");
_Static_assert(sizeof(enum log_level) == sizeof(int) && sizeof(enum tls_client_auth) == sizeof(int) &&
                   sizeof(enum sandbox_mode) == sizeof(int),
               "choices are stored as int");

/* Pairs certificates and keys, and names cores. The draft's lists stay its own. */
static enum error_code edge_complete(struct edge_draft *draft)
{
    struct edge_settings *settings = &draft->settings;
    settings->unknown_name_refused = draft->unknown_sni == 1;
    settings->certificates = memory_calloc(draft->certificate_count, sizeof *settings->certificates);
    if (settings->certificates == NULL) {
        return ERROR_NO_MEMORY;
    }
    settings->certificate_count = draft->certificate_count;
    for (size_t i = 0; i < draft->certificate_count; i++) {
        settings->certificates[i] =
            (struct edge_certificate_settings){.certificate = draft->certificates[i], .key = draft->keys[i].path};
        draft->certificates[i] = NULL;
        draft->keys[i].path = NULL;
    }
    for (size_t i = 0; i < settings->core_count; i++) {
        if (settings->cores[i].name == NULL &&
            option_text_copy(&settings->cores[i].name, draft->core_name) != ERROR_NONE) {
            return ERROR_NO_MEMORY;
        }
    }
    return ERROR_NONE;
}

static bool edge_has_listener(const struct edge_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->listen_count; i++) {
        const struct edge_listen_settings *listen = &settings->listens[i];
        if (strcmp(listen->name != NULL ? listen->name : listen->address, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool edge_offers_alpn(const struct edge_settings *settings, const char *protocol)
{
    for (size_t i = 0; i < settings->alpn_count; i++) {
        if (strcmp(settings->alpn[i], protocol) == 0) {
            return true;
        }
    }
    return false;
}

static enum settings_verdict edge_check_routes(struct options *options, const struct edge_draft *draft)
{
    char quoted[OPTION_QUOTED_MAX];
    const struct edge_settings *settings = &draft->settings;
    for (size_t i = 0; i < settings->route_count; i++) {
        const struct edge_route_settings *route = &settings->routes[i];
        if (route->listener != NULL && !edge_has_listener(settings, route->listener)) {
            return options_wrong_at(options, "route", draft->route_lines[i], "no listener is called %s",
                                    option_quote(route->listener, quoted));
        }
        if (route->alpn != NULL && !edge_offers_alpn(settings, route->alpn)) {
            return options_wrong_at(options, "route", draft->route_lines[i],
                                    "never matches: the protocol %s is not among those of alpn",
                                    option_quote(route->alpn, quoted));
        }
    }
    if (settings->route_count == 0 && settings->service == NULL) {
        fprintf(options->errors, "%s: --service NAME is missing: a client needs it or a --route (see --help)\n",
                options->program->name);
        return SETTINGS_WRONG;
    }
    return SETTINGS_RUN;
}

/* What no option can tell by itself. */
static enum settings_verdict edge_check(struct options *options, const struct edge_draft *draft)
{
    const struct edge_settings *settings = &draft->settings;
    if (draft->certificate_count != draft->key_count) {
        return options_wrong(options, options_given(options, "key") ? "key" : "certificate",
                             "every certificate needs one key: certificates given: %zu, keys: %zu",
                             draft->certificate_count, draft->key_count);
    }
    if (settings->client_auth != TLS_CLIENT_AUTH_NONE && settings->client_ca == NULL) {
        return options_wrong(options, "client-certificate", "needs client-ca, the CA that signs them");
    }
    if (settings->client_ca != NULL && !options_given(options, "client-certificate")) {
        return options_wrong(options, "client-ca", "has no effect without client-certificate optional or require");
    }
    if (settings->reconnect_min_ms > settings->reconnect_max_ms) {
        return options_wrong(options, options_given(options, "reconnect-min") ? "reconnect-min" : "reconnect-max",
                             "reconnect-min must not be longer than reconnect-max");
    }
    if (settings->stream_window_max_bytes < settings->stream_window_bytes) {
        return options_wrong(options,
                             options_given(options, "stream-window-max") ? "stream-window-max" : "stream-window",
                             "stream-window-max must not be smaller than stream-window");
    }
    if (settings->trunk_window_bytes <= settings->stream_window_max_bytes) {
        return options_wrong(options, options_given(options, "trunk-window") ? "trunk-window" : "stream-window-max",
                             "trunk-window must be larger than stream-window-max, or one client stops them all");
    }
    return edge_check_routes(options, draft);
}

/* Moves the settings out, or says why not. The draft is empty afterwards. */
static enum settings_verdict edge_finish(struct options *options, struct edge_draft *draft,
                                         enum settings_verdict verdict, struct edge_settings *settings)
{
    *settings = (struct edge_settings){0};
    if (verdict == SETTINGS_RUN) {
        verdict = edge_check(options, draft);
    }
    if (verdict == SETTINGS_RUN && edge_complete(draft) != ERROR_NONE) {
        fprintf(options->errors, "%s: %s\n", options->program->name, error_text(ERROR_NO_MEMORY));
        verdict = SETTINGS_WRONG;
    }
    if (verdict == SETTINGS_RUN) {
        *settings = draft->settings;
        draft->settings = (struct edge_settings){0};
    } else {
        edge_settings_dispose(&draft->settings);
    }
    memory_free(draft->route_lines);
    draft->route_lines = NULL;
    options_clear(options->program, draft);
    return verdict;
}

enum settings_verdict edge_settings_read(struct edge_settings *settings, int argc, char *const *argv)
{
    struct options options;
    struct edge_draft draft = {0};
    options_init(&options, &edge_program, &draft, stdout, stderr);
    return edge_finish(&options, &draft, config_read(&options, argc, argv), settings);
}

enum settings_verdict edge_settings_read_text(struct edge_settings *settings, const char *name, const char *text,
                                              size_t length, FILE *errors)
{
    struct options options;
    struct edge_draft draft = {0};
    options_init(&options, &edge_program, &draft, stdout, errors);
    enum settings_verdict verdict = config_read_text(&options, name, text, length);
    if (verdict == SETTINGS_RUN) {
        verdict = options_require(&options);
    }
    return edge_finish(&options, &draft, verdict, settings);
}

void edge_settings_dispose(struct edge_settings *settings)
{
    /* The draft's own lists are empty: only what the settings hold is freed. */
    struct edge_draft draft = {.settings = *settings};
    for (size_t i = 0; i < settings->certificate_count; i++) {
        memory_free(settings->certificates[i].certificate);
        memory_free(settings->certificates[i].key);
    }
    memory_free(settings->certificates);
    options_clear(&edge_program, &draft);
    *settings = (struct edge_settings){0};
}
