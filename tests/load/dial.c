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

#define FILES_SPARE         96U   /* loop, timers, probes, the files that are written, libraries' own */
#define CLIENT_MEMORY_BYTES 4900U /* the least for one: about 4.6 KB in the kernel, 0.2 KB here */
#define TICKET_MEMORY_BYTES 700U  /* more for one that keeps a ticket */

/* Reads one block of `length` bytes. */
static enum error_code read_block(const char *block_text, size_t length, struct dial_block *block)
{
    char text[INET_ADDRSTRLEN + 4];
    struct in_addr ip;
    if (length >= sizeof(text)) {
        return ERROR_INVALID;
    }
    memcpy(text, block_text, length);
    text[length] = '\0';
    unsigned long prefix = 32;
    char *slash = strchr(text, '/');
    if (slash != NULL) {
        char *end = NULL;
        *slash = '\0';
        prefix = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || prefix < 8 || prefix > 32) {
            return ERROR_INVALID;
        }
    }
    if (inet_pton(AF_INET, text, &ip) != 1) {
        return ERROR_INVALID;
    }
    uint32_t count = (uint32_t)(1ULL << (32 - prefix));
    *block = (struct dial_block){.first = ntohl(ip.s_addr) & ~(count - 1), .count = count};
    if (count > 2) {
        block->first++;
        block->count -= 2;
    }
    return ERROR_NONE;
}

enum error_code dial_init(struct dial *dial, const struct address *peer, const char *sources)
{
    *dial = (struct dial){.peer = *peer};
    while (sources != NULL) {
        const char *comma = strchr(sources, ',');
        size_t length = comma == NULL ? strlen(sources) : (size_t)(comma - sources);
        if (dial->block_count == DIAL_BLOCKS_MAX ||
            read_block(sources, length, &dial->blocks[dial->block_count]) != ERROR_NONE) {
            return ERROR_INVALID;
        }
        dial->source_count += dial->blocks[dial->block_count++].count;
        sources = comma == NULL ? NULL : comma + 1;
    }
    return ERROR_NONE;
}

const struct address *dial_source(const struct dial *dial, uint32_t client, struct address *source)
{
    if (dial->source_count == 0) {
        return NULL;
    }
    uint32_t number = client % dial->source_count;
    const struct dial_block *block = dial->blocks;
    while (number >= block->count) {
        number -= block->count;
        block++;
    }
    *source = (struct address){.length = sizeof(source->u.ip4)};
    source->u.ip4.sin_family = AF_INET;
    source->u.ip4.sin_addr.s_addr = htonl(block->first + number);
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

/* Memory that can be had without pushing anything out, in bytes; UINT64_MAX when nobody knows. */
static uint64_t memory_available(void)
{
    unsigned long long kilobytes = 0;
    uint64_t bytes = UINT64_MAX;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemAvailable: %llu", &kilobytes) == 1) {
            bytes = (uint64_t)kilobytes * 1024U;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return bytes;
}

static enum error_code check_files(uint32_t clients, uint32_t processes, char *fault, size_t capacity)
{
    uint64_t limit = process_raise_files();
    uint64_t spare = files_open() + FILES_SPARE;
    uint64_t needed = (clients + processes - 1) / processes + spare;
    if (needed <= limit) {
        return ERROR_NONE;
    }
    if (limit <= spare) {
        snprintf(fault, capacity, "the limit of %llu open files leaves none for clients (ulimit -n)",
                 (unsigned long long)limit);
        return ERROR_LIMIT;
    }
    snprintf(fault, capacity,
             "%u clients in %u process%s need %llu open files each, the limit is %llu: raise it (ulimit -n), or give "
             "--processes %llu",
             clients, processes, processes == 1 ? "" : "es", (unsigned long long)needed, (unsigned long long)limit,
             (unsigned long long)((clients + limit - spare - 1) / (limit - spare)));
    return ERROR_LIMIT;
}

static enum error_code check_ports(const struct dial *dial, uint32_t clients, char *fault, size_t capacity)
{
    uint64_t ports = ports_per_source();
    uint64_t sources = dial->source_count == 0 ? 1 : dial->source_count;
    if (clients <= ports * sources) {
        return ERROR_NONE;
    }
    snprintf(fault, capacity,
             "%u clients need as many ports; there are %llu per source address (net.ipv4.ip_local_port_range): "
             "give %llu or more addresses with --source-addresses",
             clients, (unsigned long long)ports, (unsigned long long)((clients + ports - 1) / ports));
    return ERROR_LIMIT;
}

/* The first and the last address of each block stand for all of them. */
static enum error_code check_block(const struct dial_block *block, char *fault, size_t capacity)
{
    for (uint32_t end = 0; end < 2; end++) {
        struct address source = {.length = sizeof(source.u.ip4)};
        char text[ADDRESS_TEXT_MAX];
        source.u.ip4.sin_family = AF_INET;
        source.u.ip4.sin_addr.s_addr = htonl(block->first + end * (block->count - 1));
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, &source.u.any, source.length) != 0) {
            snprintf(fault, capacity, "--source-addresses: %s cannot be used: %s", address_format(&source, text),
                     strerror(errno));
            if (fd >= 0) {
                close(fd);
            }
            return ERROR_LIMIT;
        }
        close(fd);
    }
    return ERROR_NONE;
}

enum error_code dial_check(const struct dial *dial, uint32_t clients, uint32_t processes, bool tickets, char *fault,
                           size_t capacity)
{
    uint64_t needed = (uint64_t)clients * (CLIENT_MEMORY_BYTES + (tickets ? TICKET_MEMORY_BYTES : 0));
    enum error_code error = check_files(clients, processes, fault, capacity);
    if (error == ERROR_NONE) {
        error = check_ports(dial, clients, fault, capacity);
    }
    for (uint32_t i = 0; i < dial->block_count && error == ERROR_NONE; i++) {
        error = check_block(&dial->blocks[i], fault, capacity);
    }
    uint64_t available = memory_available();
    if (error == ERROR_NONE && needed > available) {
        snprintf(fault, capacity,
                 "%u clients need at least %llu MB of memory with their sockets, %llu MB are available: spread the "
                 "clients over more machines",
                 clients, (unsigned long long)needed / 1000000U, (unsigned long long)available / 1000000U);
        return ERROR_LIMIT;
    }
    return error;
}
