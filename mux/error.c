/* The error table's look-ups. Static data; any thread. */
#include "mux/error.h"

#include <stddef.h>

static const struct {
    const char *name;
    const char *text;
    enum error_scope scope;
} error_table[ERROR_CODE_COUNT] = {
#define X(code, name, text, scope) [ERROR_##code] = {name, text, ERROR_SCOPE_##scope},
    ERROR_TABLE(X)
#undef X
};

const char *error_name(enum error_code code)
{
    return (size_t)code < ERROR_CODE_COUNT ? error_table[code].name : "unknown";
}

const char *error_text(enum error_code code)
{
    return (size_t)code < ERROR_CODE_COUNT ? error_table[code].text : "unknown error";
}

enum error_scope error_scope(enum error_code code)
{
    return (size_t)code < ERROR_CODE_COUNT ? error_table[code].scope : ERROR_SCOPE_PROCESS;
}
