/* What /metrics tells, in Prometheus' text format. See api.h. */
#include <inttypes.h>
#include <stdio.h>

#include "mux/memory.h"
#include "tests/chaos/api.h"

/* A label's value: backslashes, quotes and newlines are escaped. */
static void label(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s=\"", name);
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"') {
            fputc('\\', out);
        }
        fputc(*value, out);
    }
    fputc('"', out);
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP trunkline_chaos_%s %s\n# TYPE trunkline_chaos_%s %s\n", name, help, name, type);
}

static void proxy_line(FILE *out, const char *name, const struct proxy *proxy, uint64_t value)
{
    fprintf(out, "trunkline_chaos_%s{", name);
    label(out, "proxy", proxy->name);
    fprintf(out, "} %" PRIu64 "\n", value);
}

static void write_bytes(FILE *out, const struct registry *registry, const char *name, bool sent_wanted,
                        const char *help)
{
    head(out, name, "counter", help);
    list_for_each(&registry->proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        for (unsigned i = 0; i < TOXIC_STREAM_COUNT; i++) {
            uint64_t received;
            uint64_t sent;
            proxy_bytes(proxy, (enum toxic_stream)i, &received, &sent);
            fprintf(out, "trunkline_chaos_%s{direction=\"%s\",", name, toxic_stream_name((enum toxic_stream)i));
            label(out, "proxy", proxy->name);
            fprintf(out, "} %" PRIu64 "\n", sent_wanted ? sent : received);
        }
    }
}

static void write_toxics(FILE *out, const struct registry *registry)
{
    head(out, "toxic_hits_total", "counter", "How often a toxic has acted.");
    list_for_each(&registry->proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        list_for_each(&proxy->toxics, toxic_node) {
            const struct toxic *toxic = container_of(toxic_node, struct toxic, node);
            fputs("trunkline_chaos_toxic_hits_total{", out);
            label(out, "proxy", proxy->name);
            fputc(',', out);
            label(out, "toxic", toxic->name);
            fprintf(out, ",type=\"%s\",stream=\"%s\"} %" PRIu64 "\n", toxic_kind(toxic->type)->name,
                    toxic_stream_name(toxic->stream), toxic->hits);
        }
    }
}

static void write_all(FILE *out, const struct registry *registry)
{
    write_bytes(out, registry, "received_bytes_total", false, "Bytes read from the side where they come from.");
    write_bytes(out, registry, "sent_bytes_total", true, "Bytes written to the side where they go.");
    head(out, "connections_total", "counter", "Connections accepted.");
    list_for_each(&registry->proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        proxy_line(out, "connections_total", proxy, proxy->accepted);
    }
    head(out, "connections_open", "gauge", "Connections that have not ended.");
    list_for_each(&registry->proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        proxy_line(out, "connections_open", proxy, proxy->open);
    }
    head(out, "upstream_unreachable_total", "counter", "Connections whose server could not be reached.");
    list_for_each(&registry->proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        proxy_line(out, "upstream_unreachable_total", proxy, proxy->unreachable);
    }
    write_toxics(out, registry);
    head(out, "replay_missed_total", "counter", "Decisions that the log being replayed lacked.");
    fprintf(out, "trunkline_chaos_replay_missed_total %" PRIu64 "\n", registry->decisions->missed);
}

char *metrics_text(const struct registry *registry, size_t *length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, length);
    if (out == NULL) {
        return NULL;
    }
    write_all(out, registry);
    return fclose(out) == 0 ? text : NULL;
}
