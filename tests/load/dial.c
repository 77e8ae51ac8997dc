/* See dial.h. */
#include "tests/load/dial.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mux/process.h"

#define FILES_SPARE 16U /* the JSON file, the wait file, libraries' own */

enum error_code dial_init(struct dial *dial, const struct address *peer, const char *sources)
{
    *dial = (struct dial){.peer = *peer};
    if (sources == NULL) {
        return ERROR_NONE;
    }
    char text[INET_ADDRSTRLEN];
    const char *slash = strchr(sources, '/');
    size_t length = slash == NULL ? strlen(sources) : (size_t)(slash - sources);
    struct in_addr ip;
    if (length >= sizeof(text)) {
        return ERROR_INVALID;
    }
    memcpy(text, sources, length);
    text[length] = '\0';
    if (inet_pton(AF_INET, text, &ip) != 1) {
        return ERROR_INVALID;
    }
    unsigned long prefix = 32;
    if (slash != NULL) {
        char *end = NULL;
        prefix = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || prefix < 8 || prefix > 32) {
            return ERROR_INVALID;
        }
    }
    uint32_t block = (uint32_t)(1ULL << (32 - prefix));
    dial->source_first = ntohl(ip.s_addr) & ~(block - 1);
    dial->source_count = block;
    if (block > 2) {
        dial->source_first++;
        dial->source_count -= 2;
    }
    return ERROR_NONE;
}

const struct address *dial_source(const struct dial *dial, uint32_t client, struct address *source)
{
    if (dial->source_count == 0) {
        return NULL;
    }
    *source = (struct address){.length = sizeof(source->u.ip4)};
    source->u.ip4.sin_family = AF_INET;
    source->u.ip4.sin_addr.s_addr = htonl(dial->source_first + client % dial->source_count);
    return source;
}

/* Descriptors that are open now. */
static uint64_t files_open(void)
{
    uint64_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return 3;
    }
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

/* Ports that connect() may choose from, per source address and peer. */
static uint64_t ports_per_source(void)
{
    unsigned low = 32768;
    unsigned high = 60999;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (file != NULL) {
        if (fscanf(file, "%u %u", &low, &high) != 2 || high < low) {
            low = 32768;
            high = 60999;
        }
        fclose(file);
    }
    return high - low + 1;
}

enum error_code dial_check(const struct dial *dial, uint32_t clients, char *fault, size_t capacity)
{
    uint64_t limit = process_raise_files();
    uint64_t needed = clients + files_open() + FILES_SPARE;
    if (needed > limit) {
        snprintf(fault, capacity, "%u clients need %llu open files, the limit is %llu (ulimit -n)", clients,
                 (unsigned long long)needed, (unsigned long long)limit);
        return ERROR_LIMIT;
    }
    uint64_t ports = ports_per_source();
    uint64_t sources = dial->source_count == 0 ? 1 : dial->source_count;
    if (clients > ports * sources) {
        snprintf(fault, capacity,
                 "%u clients need as many ports; there are %llu per source address (net.ipv4.ip_local_port_range): "
                 "give %llu or more addresses with --source-addresses",
                 clients, (unsigned long long)ports, (unsigned long long)((clients + ports - 1) / ports));
        return ERROR_LIMIT;
    }
    /* The first and the last address stand for all of them. */
    for (uint32_t end = 0; end < 2 && dial->source_count > 0; end++) {
        struct address source;
        (void)dial_source(dial, end * (dial->source_count - 1), &source);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, &source.u.any, source.length) != 0) {
            snprintf(fault, capacity, "--source-addresses: %s address of the block cannot be used: %s",
                     end == 0 ? "the first" : "the last", strerror(errno));
            if (fd >= 0) {
                close(fd);
            }
            return ERROR_LIMIT;
        }
        close(fd);
    }
    return ERROR_NONE;
}
