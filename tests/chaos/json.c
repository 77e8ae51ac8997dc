/* See json.h. */
#include "tests/chaos/json.h"

#include <string.h>

#include "mux/memory.h"

void proxy_spec_init(struct proxy_spec *spec)
{
    *spec = (struct proxy_spec){.enabled = true};
    list_init(&spec->toxics);
}

void proxy_spec_dispose(struct proxy_spec *spec)
{
    memory_free(spec->name);
    memory_free(spec->listen);
    memory_free(spec->upstream);
    list_for_each(&spec->toxics, node) {
        struct toxic *toxic = container_of(node, struct toxic, node);
        list_remove(&toxic->node);
        toxic_free(&toxic);
    }
    proxy_spec_init(spec);
}

static enum error_code wrong(struct option_fault *fault, const char *text, const char *name)
{
    option_fault_set(fault, "%s %s", name, text);
    return ERROR_CONFIGURATION;
}

static enum error_code json_read_text(const json_t *json, const char *name, char **into, struct option_fault *fault)
{
    const json_t *value = json_object_get(json, name);
    if (value == NULL || json_is_null(value)) {
        return ERROR_NONE;
    }
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        return wrong(fault, "must be a string", name);
    }
    return option_text_copy(into, json_string_value(value));
}

static enum error_code json_read_attribute(const char *name, const json_t *value, struct toxic *toxic,
                                           struct option_fault *fault)
{
    bool valid;
    if (json_is_integer(value)) {
        json_int_t number = json_integer_value(value);
        valid = number >= 0 ? toxic_set_number(toxic, name, (uint64_t)number, fault)
                            : option_fault_set(fault, "%s must not be negative", name);
    } else if (json_is_real(value) && json_real_value(value) >= 0 && json_real_value(value) < 9.0e15 &&
               (double)(uint64_t)json_real_value(value) >= json_real_value(value)) {
        valid = toxic_set_number(toxic, name, (uint64_t)json_real_value(value), fault);
    } else if (json_is_string(value)) {
        valid = toxic_set_choice(toxic, name, json_string_value(value), fault);
    } else {
        valid = option_fault_set(fault, "%s must be a whole number or a word", name);
    }
    return valid ? ERROR_NONE : ERROR_CONFIGURATION;
}

enum error_code json_update_toxic(const json_t *json, struct toxic *toxic, struct option_fault *fault)
{
    const json_t *toxicity = json_object_get(json, "toxicity");
    const json_t *attributes = json_object_get(json, "attributes");
    if (!json_is_object(json)) {
        return wrong(fault, "must be an object", "a toxic");
    }
    if (toxicity != NULL && !json_is_null(toxicity)) {
        if (!json_is_number(toxicity)) {
            return wrong(fault, "must be a number", "toxicity");
        }
        if (!toxic_set_toxicity(toxic, json_number_value(toxicity), fault)) {
            return ERROR_CONFIGURATION;
        }
    }
    if (attributes == NULL || json_is_null(attributes)) {
        return toxic_complete(toxic, fault);
    }
    if (!json_is_object(attributes)) {
        return wrong(fault, "must be an object", "attributes");
    }
    void *place = json_object_iter((json_t *)(uintptr_t)attributes);
    for (; place != NULL; place = json_object_iter_next((json_t *)(uintptr_t)attributes, place)) {
        enum error_code error =
            json_read_attribute(json_object_iter_key(place), json_object_iter_value(place), toxic, fault);
        if (error != ERROR_NONE) {
            return error;
        }
    }
    return toxic_complete(toxic, fault);
}

static enum error_code json_read_type(const json_t *json, enum toxic_type *type, enum toxic_stream *stream,
                                      struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];
    const json_t *type_name = json_object_get(json, "type");
    const json_t *stream_name = json_object_get(json, "stream");
    if (!json_is_string(type_name)) {
        return wrong(fault, "is missing, or no string", "type");
    }
    if (!toxic_type_find(json_string_value(type_name), type)) {
        option_fault_set(fault, "invalid toxic type %s", option_quote(json_string_value(type_name), quoted));
        return ERROR_CONFIGURATION;
    }
    *stream = TOXIC_DOWNSTREAM;
    if (stream_name == NULL || json_is_null(stream_name) ||
        (json_is_string(stream_name) && json_string_length(stream_name) == 0)) {
        return ERROR_NONE;
    }
    if (!json_is_string(stream_name) || !toxic_stream_find(json_string_value(stream_name), stream)) {
        return wrong(fault, "was invalid, can be either upstream or downstream", "stream");
    }
    return ERROR_NONE;
}

enum error_code json_read_toxic(const json_t *json, struct toxic **toxic, struct option_fault *fault)
{
    enum toxic_type type;
    enum toxic_stream stream;
    struct toxic read;
    char *name = NULL;
    *toxic = NULL;
    if (!json_is_object(json)) {
        return wrong(fault, "must be an object", "a toxic");
    }
    enum error_code error = json_read_type(json, &type, &stream, fault);
    if (error != ERROR_NONE) {
        return error;
    }
    toxic_init(&read, type);
    read.stream = stream;
    error = json_read_text(json, "name", &name, fault);
    if (error == ERROR_NONE && name != NULL && *name != '\0') {
        error = toxic_set_name(&read, name, fault);
    }
    memory_free(name);
    if (error == ERROR_NONE) {
        error = json_update_toxic(json, &read, fault);
    }
    if (error == ERROR_NONE) {
        *toxic = toxic_copy(&read);
        error = *toxic != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
    }
    toxic_dispose(&read);
    return error;
}

static enum error_code json_read_toxic_list(const json_t *json, struct proxy_spec *spec, struct option_fault *fault)
{
    if (!json_is_array(json) || json_array_size(json) > TOXICS_MAX) {
        option_fault_set(fault, "toxics must be an array of at most %u toxics", TOXICS_MAX);
        return ERROR_CONFIGURATION;
    }
    spec->toxics_given = true;
    for (size_t i = 0; i < json_array_size(json); i++) {
        struct toxic *toxic;
        enum error_code error = json_read_toxic(json_array_get(json, i), &toxic, fault);
        if (error != ERROR_NONE) {
            return error;
        }
        list_for_each(&spec->toxics, node) {
            if (strcmp(container_of(node, struct toxic, node)->name, toxic->name) == 0) {
                option_fault_set(fault, "toxic %s is given twice", toxic->name);
                toxic_free(&toxic);
                return ERROR_CONFIGURATION;
            }
        }
        list_append(&spec->toxics, &toxic->node);
    }
    return ERROR_NONE;
}

enum error_code json_read_proxy(const json_t *json, struct proxy_spec *spec, struct option_fault *fault)
{
    const json_t *enabled = json_object_get(json, "enabled");
    const json_t *toxics = json_object_get(json, "toxics");
    if (!json_is_object(json)) {
        return wrong(fault, "must be an object", "a proxy");
    }
    enum error_code error = json_read_text(json, "name", &spec->name, fault);
    if (error == ERROR_NONE) {
        error = json_read_text(json, "listen", &spec->listen, fault);
    }
    if (error == ERROR_NONE) {
        error = json_read_text(json, "upstream", &spec->upstream, fault);
    }
    if (error != ERROR_NONE) {
        return error;
    }
    if (enabled != NULL && !json_is_null(enabled)) {
        if (!json_is_boolean(enabled)) {
            return wrong(fault, "must be true or false", "enabled");
        }
        spec->enabled = json_is_true(enabled);
    }
    return toxics == NULL || json_is_null(toxics) ? ERROR_NONE : json_read_toxic_list(toxics, spec, fault);
}

enum error_code json_read_proxies(const json_t *json, struct proxy_spec **specs, size_t *count,
                                  struct option_fault *fault)
{
    *specs = NULL;
    *count = 0;
    if (!json_is_array(json)) {
        return wrong(fault, "must be an array", "the list of proxies");
    }
    size_t size = json_array_size(json);
    *specs = memory_calloc(size, sizeof(**specs));
    if (*specs == NULL) {
        return ERROR_NO_MEMORY;
    }
    *count = size;
    for (size_t i = 0; i < size; i++) {
        proxy_spec_init(&(*specs)[i]);
    }
    for (size_t i = 0; i < size; i++) {
        enum error_code error = json_read_proxy(json_array_get(json, i), &(*specs)[i], fault);
        if (error != ERROR_NONE) {
            json_free_proxies(specs, size);
            *count = 0;
            return error;
        }
    }
    return ERROR_NONE;
}

void json_free_proxies(struct proxy_spec **specs, size_t count)
{
    for (size_t i = 0; *specs != NULL && i < count; i++) {
        proxy_spec_dispose(&(*specs)[i]);
    }
    memory_free(*specs);
    *specs = NULL;
}

static json_t *json_of_attributes(const struct toxic *toxic)
{
    const struct toxic_field *fields = toxic_kind(toxic->type)->fields;
    json_t *attributes = json_object();
    for (size_t i = 0; fields[i].name != NULL; i++) {
        uint64_t value = toxic->values[i];
        /* What clients of Toxiproxy do not know is told only where it was set. */
        if (fields[i].choices != NULL && value == fields[i].preset) {
            continue;
        }
        json_t *json =
            fields[i].choices != NULL ? json_string(fields[i].choices[value]) : json_integer((json_int_t)value);
        if (json_object_set_new(attributes, fields[i].name, json) != 0) {
            json_decref(attributes);
            return NULL;
        }
    }
    return attributes;
}

json_t *json_of_toxic(const struct toxic *toxic)
{
    return json_pack("{s:o, s:s, s:s, s:s, s:f}", "attributes", json_of_attributes(toxic), "name", toxic->name, "type",
                     toxic_kind(toxic->type)->name, "stream", toxic_stream_name(toxic->stream), "toxicity",
                     toxic->toxicity);
}

json_t *json_of_toxics(const struct list *toxics)
{
    json_t *array = json_array();
    list_for_each(toxics, node) {
        if (json_array_append_new(array, json_of_toxic(container_of(node, struct toxic, node))) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}
