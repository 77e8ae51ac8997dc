/* Reading files, by the process itself and by one that it has started for that; the latter's end. One thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/file.h"
#include "mux/file_reader.h"
#include "mux/memory.h"

static char directory[64];

static const char *path_of(const char *name)
{
    static char paths[4][96];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, 96, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const char *bytes, size_t length)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void assert_file(const char *name, const char *text)
{
    struct file_text file;
    int reason = 0;

    assert_int_equal(file_read(&file, path_of(name), &reason), ERROR_NONE);
    assert_int_equal(file.length, strlen(text));
    assert_string_equal((const char *)file.bytes, text);
    file_wipe(&file);
    assert_null(file.bytes);
}

static void assert_unreadable(const char *name, int expected)
{
    struct file_text file;
    int reason = 0;

    assert_int_equal(file_read(&file, path_of(name), &reason), ERROR_SYSTEM);
    assert_int_equal(reason, expected);
    assert_null(file.bytes);
}

static struct file_reader *reader_new(bool confined)
{
    const char *paths[] = {strdup(path_of("a")), strdup(path_of("b")), strdup(path_of("missing")), strdup(directory)};
    struct file_reader *reader = NULL;

    assert_int_equal(file_reader_new(&reader, paths, 4, confined), ERROR_NONE);
    for (size_t i = 0; i < 4; i++) {
        free((void *)(uintptr_t)paths[i]);
    }
    file_use_reader(reader);
    return reader;
}

static void reader_end(struct file_reader **reader)
{
    file_use_reader(NULL);
    file_reader_free(reader);
    assert_null(*reader);
    /* Nobody is left behind. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    file_reader_free(reader);
}

static void check_reading(void)
{
    char *large = malloc(FILE_BYTES_MAX + 1);

    assert_non_null(large);
    write_file("a", "first", 5);
    write_file("b", "", 0);
    assert_file("a", "first");
    assert_file("b", "");
    assert_file("a", "first");
    assert_unreadable("missing", ENOENT);
    memset(large, 'x', FILE_BYTES_MAX + 1);
    write_file("b", large, FILE_BYTES_MAX + 1);
    assert_unreadable("b", EFBIG);
    write_file("b", large, FILE_BYTES_MAX);
    large[FILE_BYTES_MAX] = '\0';
    assert_file("b", large);
    free(large);
    /* As certificates are renewed. */
    write_file("fresh", "second", 6);
    assert_int_equal(rename(path_of("fresh"), path_of("a")), 0);
    assert_file("a", "second");
}

static void a_file_is_read_as_a_whole(void **state)
{
    (void)state;
    check_reading();
}

static void a_reader_reads_the_same(void **state)
{
    (void)state;
    for (int confined = 0; confined <= 1; confined++) {
        struct file_reader *reader = reader_new(confined == 1);
        check_reading();
        reader_end(&reader);
    }
}

static void a_reader_follows_links_that_are_turned_elsewhere(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_of("1"), 0700), 0);
    assert_int_equal(mkdir(path_of("2"), 0700), 0);
    write_file("1/key", "old", 3);
    write_file("2/key", "new", 3);
    assert_int_equal(unlink(path_of("a")), 0);
    assert_int_equal(symlink("1", path_of("data")), 0);
    assert_int_equal(symlink("data/key", path_of("a")), 0);
    struct file_reader *reader = reader_new(true);
    assert_file("a", "old");
    assert_int_equal(symlink("2", path_of("fresh")), 0);
    assert_int_equal(rename(path_of("fresh"), path_of("data")), 0);
    assert_file("a", "new");
    reader_end(&reader);
    assert_int_equal(unlink(path_of("a")), 0);
}

static void a_reader_reads_nothing_that_was_not_named(void **state)
{
    (void)state;
    write_file("other", "secret", 6);
    struct file_reader *reader = reader_new(true);
    assert_unreadable("other", EACCES);
    reader_end(&reader);
    assert_file("other", "secret");
}

/* The only child of this process. */
static pid_t reader_process(void)
{
    char path[64];
    int child = 0;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &child), 1);
    fclose(file);
    return child;
}

static void a_reader_that_is_gone_is_told_of(void **state)
{
    siginfo_t information;

    (void)state;
    write_file("a", "first", 5);
    struct file_reader *reader = reader_new(false);
    pid_t process = reader_process();
    assert_int_equal(kill(process, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)process, &information, WEXITED | WNOWAIT), 0);
    assert_unreadable("a", EPIPE);
    assert_unreadable("a", EPIPE);
    reader_end(&reader);
}

static void signals_to_the_group_leave_the_reader_alone(void **state)
{
    (void)state;
    write_file("a", "first", 5);
    struct file_reader *reader = reader_new(false);
    pid_t process = reader_process();
    assert_int_equal(kill(process, SIGTERM), 0);
    assert_int_equal(kill(process, SIGINT), 0);
    assert_int_equal(kill(process, SIGHUP), 0);
    assert_file("a", "first");
    reader_end(&reader);
}

static void a_failed_allocation_leaves_nothing_behind(void **state)
{
    uint64_t faults = 1;
    struct file_text file;
    int reason = 0;

    (void)state;
    for (uint64_t nth = 1; faults != 0; nth++) {
        const char *paths[] = {"/a", "/b"};
        struct file_reader *reader = NULL;
        assert_true(nth < 20);
        memory_fail_at(nth);
        enum error_code error = file_reader_new(&reader, paths, 2, false);
        faults = memory_faults();
        memory_fail_at(0);
        /* The last one is the process's own: it ends before it says that it is ready. */
        if (error == ERROR_NONE) {
            assert_int_equal(faults, 0);
        } else {
            assert_true(error == ERROR_NO_MEMORY || error == ERROR_SYSTEM);
            assert_null(reader);
            faults = 1;
        }
        reader_end(&reader);
    }
    write_file("a", "first", 5);
    memory_fail_at(1);
    assert_int_equal(file_read(&file, path_of("a"), &reason), ERROR_NO_MEMORY);
    memory_fail_at(0);
    assert_null(file.bytes);
}

static int make_directory(void **state)
{
    const char *temporary = getenv("TMPDIR");

    (void)state;
    snprintf(directory, sizeof(directory), "%.40s/file-XXXXXX", temporary != NULL ? temporary : "/tmp");
    return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
    static const char *const names[] = {"a", "b", "other", "1/key", "2/key", "data"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        (void)unlink(path_of(names[i]));
    }
    (void)rmdir(path_of("1"));
    (void)rmdir(path_of("2"));
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_as_a_whole),
        cmocka_unit_test(a_reader_reads_the_same),
        cmocka_unit_test(a_reader_follows_links_that_are_turned_elsewhere),
        cmocka_unit_test(a_reader_reads_nothing_that_was_not_named),
        cmocka_unit_test(a_reader_that_is_gone_is_told_of),
        cmocka_unit_test(signals_to_the_group_leave_the_reader_alone),
        cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
