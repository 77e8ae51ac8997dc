/*
 * Files in memory: the configuration, certificates, keys, the ticket key. file_read is the only function of the
 * programs that opens a file (scripts/check holds them to it); once a file_reader is in use, it opens none itself
 * either. Main's thread only.
 */
#ifndef MUX_FILE_H
#define MUX_FILE_H

#include <stddef.h>

#include "mux/error.h"

#define FILE_BYTES_MAX (1024U * 1024U)

struct file_reader;

/* Zeroed: nothing in it. */
struct file_text {
    unsigned char *bytes; /* with a zero after the end */
    size_t length;
};

/* Reads a whole file of at most FILE_BYTES_MAX. ERROR_SYSTEM: *reason is the errno (EFBIG when the file is larger);
 * ERROR_NO_MEMORY. On an error there is nothing to wipe. */
enum error_code file_read(struct file_text *file, const char *path, int *reason);

/* Overwrites and frees: files may hold keys. */
void file_wipe(struct file_text *file);

/* From now on file_read asks `reader` (borrowed); NULL: it opens files itself again. */
void file_use_reader(struct file_reader *reader);

/* What both sides of a reader are made of: reads into `room` bytes at `into`, *length of them. 0, or an errno. */
int file_fill(const char *path, unsigned char *into, size_t room, size_t *length);

#endif
