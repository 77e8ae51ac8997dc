/*
 * A process of its own that reads files for a program that may no longer read them itself: forked before the program
 * becomes another user, it keeps the rights that it was started with, opens only the files that were named then, only
 * for reading, and hands over their contents on a socket pair. It ends when the program does. Main's thread only.
 */
#ifndef MUX_FILE_READER_H
#define MUX_FILE_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "mux/error.h"

#define FILE_READER_NAME       "trunkline-files" /* of the process, for ps */
#define FILE_READER_TIMEOUT_MS 10000U            /* for one file: a reader that hangs must not hang a reload for good */

struct file_reader;

/* Starts the process. `paths` are copied; relative ones stay relative to today's working directory. `confined`: system
 * calls and files are restricted as mux/sandbox.h does it, as far as the kernel can. ERROR_NO_MEMORY, ERROR_SYSTEM. */
enum error_code file_reader_new(struct file_reader **reader, const char *const *paths, size_t path_count,
                                bool confined);

/* Reads one of the paths, as file_fill does. 0, or an errno: EACCES for a path that was not named, EPIPE or ETIMEDOUT
 * when the process is gone or hangs (after that it answers no more: an answer out of turn would be another file's). */
int file_reader_ask(struct file_reader *reader, const char *path, unsigned char *into, size_t room, size_t *length);

/* Ends the process and waits for its end. */
void file_reader_free(struct file_reader **reader);

#endif
