/* Reading whole files, with room for the largest allowed taken first, so that growing leaves no copy of a key behind.
 */
#include "mux/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "mux/file_reader.h"
#include "mux/memory.h"

static struct file_reader *file_reader_in_use; /* NULL: files are opened here */

int file_fill(const char *path, unsigned char *into, size_t room, size_t *length)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int reason = 0;
    ssize_t count = 1;

    *length = 0;
    if (descriptor < 0) {
        return errno;
    }
    while (count != 0 && *length < room) {
        count = read(descriptor, into + *length, room - *length);
        if (count > 0) {
            *length += (size_t)count;
        } else if (count < 0 && errno != EINTR) {
            reason = errno;
            break;
        }
    }
    close(descriptor);
    return reason;
}

void file_wipe(struct file_text *file)
{
    if (file->bytes != NULL) {
        memory_wipe(file->bytes, file->length);
    }
    memory_free(file->bytes);
    *file = (struct file_text){.bytes = NULL};
}

enum error_code file_read(struct file_text *file, const char *path, int *reason)
{
    *file = (struct file_text){.bytes = memory_alloc(FILE_BYTES_MAX + 1)};
    if (file->bytes == NULL) {
        return ERROR_NO_MEMORY;
    }
    /* One byte more than allowed, so that a file that is too large shows. */
    *reason = file_reader_in_use != NULL
                  ? file_reader_ask(file_reader_in_use, path, file->bytes, FILE_BYTES_MAX + 1, &file->length)
                  : file_fill(path, file->bytes, FILE_BYTES_MAX + 1, &file->length);
    if (*reason == 0 && file->length > FILE_BYTES_MAX) {
        *reason = EFBIG;
    }
    if (*reason != 0) {
        file_wipe(file);
        return ERROR_SYSTEM;
    }
    file->bytes[file->length] = '\0';
    return ERROR_NONE;
}

void file_use_reader(struct file_reader *reader)
{
    file_reader_in_use = reader;
}
