/* See api.h. A request's body is collected up to a bound; then one function answers it as a whole. */
#include "tests/chaos/api.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/memory.h"

#define PATH_PARTS_MAX  5U /* of "/proxies/NAME/toxics/NAME", and one too many */
#define PATH_BYTES_MAX  1024U
#define IDLE_TIMEOUT_S  60U
#define CONNECTIONS_MAX 256U

struct api {
    struct registry *registry;
    struct MHD_Daemon *daemon;
    struct loop_source source;
    struct timer timer;
};

struct api_request {
    char *body;
    size_t length;
    bool too_large;
    bool no_memory;
};

struct api_answer {
    unsigned status;
    json_t *json; /* NULL: no body, or `text` */
    char *text;   /* of malloc */
    struct option_fault fault;
};

struct api_call {
    struct registry *registry;
    const char *method;
    char *parts[PATH_PARTS_MAX];
    size_t part_count;
    json_t *json; /* the body; NULL: none, or malformed */
};

/* ---- answers ---- */

static void answer_error(struct api_answer *answer, enum error_code error)
{
    switch (error) {
    case ERROR_UNREACHABLE:
        answer->status = MHD_HTTP_NOT_FOUND;
        return;
    case ERROR_STATE:
        answer->status = MHD_HTTP_CONFLICT;
        return;
    case ERROR_CONFIGURATION:
    case ERROR_LIMIT:
        answer->status = MHD_HTTP_BAD_REQUEST;
        return;
    default:
        answer->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
        if (answer->fault.text[0] == '\0') {
            option_fault_set(&answer->fault, "%s", error_text(error));
        }
        return;
    }
}

/* `json` is taken over. */
static void answer_with(struct api_answer *answer, enum error_code error, unsigned status, json_t *json)
{
    if (error != ERROR_NONE) {
        json_decref(json);
        answer_error(answer, error);
    } else {
        answer->status = status;
        answer->json = json;
    }
}

static void answer_proxy(struct api_answer *answer, const struct api_call *call, enum error_code error, unsigned status,
                         const char *name)
{
    const struct proxy *proxy = error == ERROR_NONE ? registry_find(call->registry, name) : NULL;
    answer_with(answer, error, status, proxy != NULL ? proxy_json(proxy) : NULL);
}

static bool body_missing(const struct api_call *call, struct api_answer *answer)
{
    if (call->json != NULL) {
        return false;
    }
    option_fault_set(&answer->fault, "bad request body: it is not JSON");
    answer->status = MHD_HTTP_BAD_REQUEST;
    return true;
}

static bool method_is(const struct api_call *call, const char *method)
{
    return strcmp(call->method, method) == 0;
}

/* Clients update with POST, newer ones with PATCH. */
static bool method_updates(const struct api_call *call)
{
    return method_is(call, "POST") || method_is(call, "PATCH");
}

static void answer_method(struct api_answer *answer)
{
    answer->status = MHD_HTTP_METHOD_NOT_ALLOWED;
    option_fault_set(&answer->fault, "this path has no such method");
}

/* ---- proxies ---- */

static void list_proxies(const struct api_call *call, struct api_answer *answer)
{
    json_t *all = json_object();
    enum error_code error = ERROR_NONE;
    list_for_each(&call->registry->proxies, node) {
        const struct proxy *proxy = container_of(node, struct proxy, node);
        if (json_object_set_new(all, proxy->name, proxy_json(proxy)) != 0) {
            error = ERROR_NO_MEMORY;
        }
    }
    answer_with(answer, error, MHD_HTTP_OK, all);
}

static void create_proxy(const struct api_call *call, struct api_answer *answer)
{
    struct proxy_spec spec;
    if (body_missing(call, answer)) {
        return;
    }
    proxy_spec_init(&spec);
    enum error_code error = json_read_proxy(call->json, &spec, &answer->fault);
    if (error == ERROR_NONE) {
        error = registry_create(call->registry, &spec, &answer->fault);
    }
    answer_proxy(answer, call, error, MHD_HTTP_CREATED, spec.name);
    proxy_spec_dispose(&spec);
}

static enum error_code update_proxy_spec(const struct api_call *call, const struct proxy *proxy,
                                         struct proxy_spec *spec, struct api_answer *answer)
{
    spec->enabled = proxy->enabled;
    enum error_code error = option_text_copy(&spec->listen, proxy->listen);
    if (error == ERROR_NONE) {
        error = option_text_copy(&spec->upstream, proxy->upstream);
    }
    if (error == ERROR_NONE) {
        /* Clients send back the toxics that they were once told of: only /populate changes them. */
        (void)json_object_del(call->json, "toxics");
        error = json_read_proxy(call->json, spec, &answer->fault);
    }
    if (error == ERROR_NONE) {
        error = option_text_copy(&spec->name, proxy->name);
    }
    return error;
}

static void update_proxy(const struct api_call *call, struct api_answer *answer, const struct proxy *proxy)
{
    struct proxy_spec spec;
    struct address listen;
    struct address upstream;
    if (body_missing(call, answer)) {
        return;
    }
    proxy_spec_init(&spec);
    enum error_code error = update_proxy_spec(call, proxy, &spec, answer);
    if (error == ERROR_NONE) {
        error = proxy_parse_address(spec.listen, &listen, "listen", &answer->fault);
    }
    if (error == ERROR_NONE) {
        error = proxy_parse_address(spec.upstream, &upstream, "upstream", &answer->fault);
    }
    if (error == ERROR_NONE) {
        error = proxy_matches(proxy, &listen, &upstream)
                    ? registry_set_enabled(call->registry, spec.name, spec.enabled, &answer->fault)
                    : registry_populate(call->registry, &spec, 1, &answer->fault);
    }
    answer_proxy(answer, call, error, MHD_HTTP_OK, spec.name);
    proxy_spec_dispose(&spec);
}

static void populate(const struct api_call *call, struct api_answer *answer)
{
    struct proxy_spec *specs;
    size_t count;
    if (body_missing(call, answer)) {
        return;
    }
    json_t *list = json_array();
    enum error_code error = json_read_proxies(call->json, &specs, &count, &answer->fault);
    if (error == ERROR_NONE) {
        error = registry_populate(call->registry, specs, count, &answer->fault);
    }
    for (size_t i = 0; i < count && error == ERROR_NONE; i++) {
        const struct proxy *proxy = registry_find(call->registry, specs[i].name);
        error = json_array_append_new(list, proxy_json(proxy)) == 0 ? ERROR_NONE : ERROR_NO_MEMORY;
    }
    json_free_proxies(&specs, count);
    answer_with(answer, error, MHD_HTTP_CREATED, json_pack("{s:o}", "proxies", list));
}

/* ---- toxics ---- */

static void create_toxic(const struct api_call *call, struct api_answer *answer, const char *proxy)
{
    struct toxic *toxic = NULL;
    json_t *json = NULL;
    if (body_missing(call, answer)) {
        return;
    }
    enum error_code error = json_read_toxic(call->json, &toxic, &answer->fault);
    if (error == ERROR_NONE) {
        json = json_of_toxic(toxic);
        error = registry_add_toxic(call->registry, proxy, &toxic, &answer->fault);
    }
    toxic_free(&toxic);
    answer_with(answer, error, MHD_HTTP_OK, json);
}

static void update_toxic(const struct api_call *call, struct api_answer *answer, const char *proxy,
                         const struct toxic *there)
{
    if (body_missing(call, answer)) {
        return;
    }
    struct toxic *changed = toxic_copy(there);
    json_t *json = NULL;
    enum error_code error = changed != NULL ? json_update_toxic(call->json, changed, &answer->fault) : ERROR_NO_MEMORY;
    if (error == ERROR_NONE) {
        error = registry_update_toxic(call->registry, proxy, there->name, changed, &answer->fault);
        json = json_of_toxic(changed);
    }
    toxic_free(&changed);
    answer_with(answer, error, MHD_HTTP_OK, json);
}

static void answer_toxics(const struct api_call *call, struct api_answer *answer, const struct proxy *proxy)
{
    if (call->part_count == 3) {
        if (method_is(call, "GET")) {
            answer_with(answer, ERROR_NONE, MHD_HTTP_OK, json_of_toxics(&proxy->toxics));
        } else if (method_is(call, "POST")) {
            create_toxic(call, answer, proxy->name);
        } else {
            answer_method(answer);
        }
        return;
    }
    const char *name = call->parts[3];
    const struct toxic *toxic = proxy_find_toxic(proxy, name);
    if (toxic == NULL) {
        answer_error(answer, registry_missing("toxic", name, &answer->fault));
    } else if (method_is(call, "GET")) {
        answer_with(answer, ERROR_NONE, MHD_HTTP_OK, json_of_toxic(toxic));
    } else if (method_updates(call)) {
        update_toxic(call, answer, proxy->name, toxic);
    } else if (method_is(call, "DELETE")) {
        answer_with(answer, registry_remove_toxic(call->registry, proxy->name, name, &answer->fault),
                    MHD_HTTP_NO_CONTENT, NULL);
    } else {
        answer_method(answer);
    }
}

/* ---- which function answers ---- */

static void answer_not_found(struct api_answer *answer)
{
    answer->status = MHD_HTTP_NOT_FOUND;
    option_fault_set(&answer->fault, "there is no such path");
}

static void answer_one_proxy(const struct api_call *call, struct api_answer *answer)
{
    const char *name = call->parts[1];
    const struct proxy *proxy = registry_find(call->registry, name);
    if (call->part_count > 4 || (call->part_count > 2 && strcmp(call->parts[2], "toxics") != 0)) {
        answer_not_found(answer);
    } else if (proxy == NULL) {
        answer_error(answer, registry_missing("proxy", name, &answer->fault));
    } else if (call->part_count > 2) {
        answer_toxics(call, answer, proxy);
    } else if (method_is(call, "GET")) {
        answer_with(answer, ERROR_NONE, MHD_HTTP_OK, proxy_json(proxy));
    } else if (method_updates(call)) {
        update_proxy(call, answer, proxy);
    } else if (method_is(call, "DELETE")) {
        answer_with(answer, registry_delete(call->registry, name, &answer->fault), MHD_HTTP_NO_CONTENT, NULL);
    } else {
        answer_method(answer);
    }
}

static void answer_metrics(const struct api_call *call, struct api_answer *answer)
{
    size_t length;
    answer->text = metrics_text(call->registry, &length);
    answer->status = answer->text != NULL ? MHD_HTTP_OK : MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static void answer_call(const struct api_call *call, struct api_answer *answer)
{
    const char *first = call->part_count > 0 ? call->parts[0] : "";
    if (strcmp(first, "proxies") == 0 && call->part_count > 1) {
        answer_one_proxy(call, answer);
    } else if (call->part_count != 1) {
        answer_not_found(answer);
    } else if (strcmp(first, "proxies") == 0 && method_is(call, "GET")) {
        list_proxies(call, answer);
    } else if (strcmp(first, "proxies") == 0 && method_is(call, "POST")) {
        create_proxy(call, answer);
    } else if (strcmp(first, "populate") == 0 && method_is(call, "POST")) {
        populate(call, answer);
    } else if (strcmp(first, "reset") == 0 && method_is(call, "POST")) {
        answer_with(answer, registry_reset(call->registry, &answer->fault), MHD_HTTP_NO_CONTENT, NULL);
    } else if (strcmp(first, "version") == 0 && method_is(call, "GET")) {
        answer_with(answer, ERROR_NONE, MHD_HTTP_OK, json_pack("{s:s}", "version", TRUNKLINE_VERSION));
    } else if (strcmp(first, "metrics") == 0 && method_is(call, "GET")) {
        answer_metrics(call, answer);
    } else if (strcmp(first, "proxies") == 0 || strcmp(first, "populate") == 0 || strcmp(first, "reset") == 0 ||
               strcmp(first, "version") == 0 || strcmp(first, "metrics") == 0) {
        answer_method(answer);
    } else {
        answer_not_found(answer);
    }
}

/* ---- libmicrohttpd ---- */

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct api_answer *answer)
{
    const char *type = answer->text != NULL ? "text/plain; version=0.0.4" : "application/json";
    char *text = answer->text;
    if (answer->fault.text[0] != '\0' && answer->status >= MHD_HTTP_BAD_REQUEST) {
        json_decref(answer->json);
        answer->json = json_pack("{s:s, s:i}", "error", answer->fault.text, "status", (int)answer->status);
    }
    if (answer->json != NULL) {
        text = json_dumps(answer->json, JSON_COMPACT);
        json_decref(answer->json);
    }
    size_t length = text != NULL ? strlen(text) : 0;
    struct MHD_Response *response = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    enum MHD_Result result = MHD_YES;
    if (length > 0) {
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    }
    if (result == MHD_YES) {
        result = MHD_queue_response(connection, answer->status, response);
    }
    MHD_destroy_response(response);
    return result;
}

/* False: too many parts. Empty ones are left out. */
static void split_path(char *path, struct api_call *call)
{
    for (char *rest = path, *part = strsep(&rest, "/"); part != NULL; part = strsep(&rest, "/")) {
        if (*part != '\0' && call->part_count < PATH_PARTS_MAX) {
            call->parts[call->part_count++] = part;
        }
    }
}

static void handle(struct api *api, const char *url, const char *method, const struct api_request *request,
                   const char *agent, struct api_answer *answer)
{
    char path[PATH_BYTES_MAX];
    struct api_call call = {.registry = api->registry, .method = method};
    if (request->too_large || strlen(url) >= sizeof(path)) {
        answer->status = MHD_HTTP_CONTENT_TOO_LARGE;
        option_fault_set(&answer->fault, "the request has more than %u bytes", JSON_BYTES_MAX);
        return;
    }
    if (request->no_memory) {
        answer_error(answer, ERROR_NO_MEMORY);
        return;
    }
    if (agent != NULL && strncmp(agent, "Mozilla/", 8) == 0) {
        /* A page in a browser must not be able to change proxies of the machine that it is shown on. */
        answer->status = MHD_HTTP_FORBIDDEN;
        option_fault_set(&answer->fault, "browsers are not served");
        return;
    }
    memcpy(path, url, strlen(url) + 1);
    split_path(path, &call);
    if (request->length > 0) {
        call.json = json_loadb(request->body, request->length, 0, NULL);
    }
    answer_call(&call, answer);
    json_decref(call.json);
}

static void collect(struct api_request *request, const char *bytes, size_t length)
{
    if (request->too_large || request->length + length > JSON_BYTES_MAX) {
        request->too_large = true;
        return;
    }
    char *body = memory_realloc(request->body, request->length + length);
    if (body == NULL) {
        request->no_memory = true;
        return;
    }
    memcpy(body + request->length, bytes, length);
    request->body = body;
    request->length += length;
}

static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_length, void **state)
{
    struct api_request *request = *state;
    (void)version;
    if (request == NULL) {
        request = memory_zalloc(sizeof(*request));
        *state = request;
        return request != NULL ? MHD_YES : MHD_NO;
    }
    if (*upload_length > 0) {
        collect(request, upload, *upload_length);
        *upload_length = 0;
        return MHD_YES;
    }
    struct api_answer answer = {.status = MHD_HTTP_OK};
    handle(owner, url, method, request,
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_USER_AGENT), &answer);
    return send_answer(connection, &answer);
}

static void on_completed(void *owner, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct api_request *request = *state;
    (void)owner;
    (void)connection;
    (void)code;
    if (request != NULL) {
        memory_free(request->body);
        memory_free(request);
        *state = NULL;
    }
}

static void api_run(struct api *api)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    (void)MHD_run(api->daemon);
    if (MHD_get_timeout(api->daemon, &timeout_ms) == MHD_YES) {
        scheduler_arm(loop_scheduler(api->registry->loop), &api->timer, timeout_ms);
    } else {
        scheduler_disarm(loop_scheduler(api->registry->loop), &api->timer);
    }
}

static void on_ready(struct loop_source *source, unsigned events)
{
    (void)events;
    api_run(container_of(source, struct api, source));
}

static void on_timer(struct timer *timer)
{
    api_run(container_of(timer, struct api, timer));
}

static enum error_code api_start(struct api *api, int fd)
{
    api->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, api, MHD_OPTION_LISTEN_SOCKET, fd,
                                   MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_CONNECTION_TIMEOUT,
                                   IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_END);
    if (api->daemon == NULL) {
        (void)close(fd);
        return ERROR_SYSTEM;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL) {
        return ERROR_SYSTEM;
    }
    return loop_watch(api->registry->loop, &api->source, info->epoll_fd, LOOP_LEVEL_READ, on_ready);
}

enum error_code api_new(struct registry *registry, const struct address *address, struct api **api,
                        struct address *bound)
{
    int fd;
    *api = NULL;
    struct api *made = memory_zalloc(sizeof(*made));
    if (made == NULL) {
        return ERROR_NO_MEMORY;
    }
    made->registry = registry;
    made->source.fd = -1;
    timer_init(&made->timer, on_timer);
    enum error_code error = socket_listen(address, false, &fd);
    if (error == ERROR_NONE) {
        error = socket_local_address(fd, bound);
    }
    if (error == ERROR_NONE) {
        error = api_start(made, fd);
    }
    if (error != ERROR_NONE) {
        api_free(&made);
        return error;
    }
    *api = made;
    return ERROR_NONE;
}

void api_free(struct api **api)
{
    struct api *freed = *api;
    if (freed == NULL) {
        return;
    }
    scheduler_disarm(loop_scheduler(freed->registry->loop), &freed->timer);
    loop_unwatch(freed->registry->loop, &freed->source);
    if (freed->daemon != NULL) {
        MHD_stop_daemon(freed->daemon);
    }
    memory_free(freed);
    *api = NULL;
}
