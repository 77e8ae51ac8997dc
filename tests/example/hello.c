/* The smallest useful handler: says hello to each client and ends. */
#include <stdio.h>
#include <trunkline.h>

static void hello_open(trunkline_session *session, void *service)
{
    const char *greeting = service;
    trunkline_client client;
    char addresses[256];
    char text[512];

    trunkline_get_client(session, &client, addresses);
    int length = snprintf(text, sizeof(text), "%s, %s!\n", greeting, client.address);

    if (trunkline_accept(session) == 0) {
        trunkline_write(session, text, (size_t)length);
        trunkline_end(session);
    }
}

static const char *hello_setup(const char *argument, void **service)
{
    static char greeting[64];

    if (snprintf(greeting, sizeof(greeting), "%s", argument[0] != '\0' ? argument : "Hello") >= (int)sizeof(greeting)) {
        return "the greeting is too long";
    }
    *service = greeting;
    return NULL;
}

static const trunkline_handler hello = {
    .abi = TRUNKLINE_ABI,
    .name = "hello",
    .setup = hello_setup,
    .open = hello_open,
};

const trunkline_handler *trunkline_plugin(void)
{
    return &hello;
}
