/*
 * Users and what becomes of their privileges. What cannot be undone is done in a child. Where the test is not root's,
 * that nobody but root can become another user is what is left to test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mux/confinement.h"
#include "mux/file.h"
#include "mux/memory.h"
#include "mux/privilege.h"

static void user_and_group_are_told_apart(void **state)
{
    static const char *const wrong[] = {"", ":", "nobody:", ":nogroup", "a:b:c"};
    struct option_fault fault;
    char longest[PRIVILEGE_TEXT_MAX + 1];

    (void)state;
    assert_true(privilege_check_text("nobody", &fault));
    assert_true(privilege_check_text("nobody:nogroup", &fault));
    assert_true(privilege_check_text("65534:65534", &fault));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_false(privilege_check_text(wrong[i], &fault));
        assert_non_null(strstr(fault.text, "is not of the form NAME or NAME:GROUP"));
    }
    memset(longest, 'x', sizeof(longest));
    longest[PRIVILEGE_TEXT_MAX] = '\0';
    assert_false(privilege_check_text(longest, &fault));
    longest[PRIVILEGE_TEXT_MAX - 1] = '\0';
    assert_true(privilege_check_text(longest, &fault));
}

static void find(struct privilege_user *user, const char *text)
{
    struct option_fault fault = {.text = ""};

    if (privilege_user_find(user, text, &fault) != ERROR_NONE) {
        fail_msg("%s: %s", text, fault.text);
    }
}

static bool has_group(const struct privilege_user *user, gid_t gid)
{
    for (size_t i = 0; i < user->group_count; i++) {
        if (user->groups[i] == gid) {
            return true;
        }
    }
    return false;
}

static void a_user_comes_with_its_groups(void **state)
{
    struct privilege_user user;
    const struct passwd *nobody = getpwnam("nobody");
    char number[64];

    (void)state;
    assert_non_null(nobody);
    uid_t uid = nobody->pw_uid;
    gid_t gid = nobody->pw_gid;
    find(&user, "nobody");
    assert_int_equal(user.uid, uid);
    assert_int_equal(user.gid, gid);
    assert_true(has_group(&user, gid));
    privilege_user_dispose(&user);
    assert_null(user.groups);

    snprintf(number, sizeof(number), "%u", uid);
    find(&user, number);
    assert_int_equal(user.gid, gid);
    privilege_user_dispose(&user);
}

static void a_group_takes_the_place_of_the_users_own(void **state)
{
    struct privilege_user user;
    const struct group *other = getgrnam("daemon");

    (void)state;
    assert_non_null(other);
    gid_t gid = other->gr_gid;
    find(&user, "nobody:daemon");
    assert_int_equal(user.gid, gid);
    assert_true(has_group(&user, gid));
    privilege_user_dispose(&user);
    find(&user, "4000000000:4000000001"); /* numbers need no entry */
    assert_int_equal(user.uid, 4000000000U);
    assert_int_equal(user.gid, 4000000001U);
    assert_int_equal(user.group_count, 1);
    assert_int_equal(user.groups[0], 4000000001U);
    privilege_user_dispose(&user);
}

static void refused(const char *text, const char *expected)
{
    struct option_fault fault = {.text = ""};
    struct privilege_user user;

    assert_int_equal(privilege_user_find(&user, text, &fault), ERROR_CONFIGURATION);
    assert_string_equal(fault.text, expected);
    assert_null(user.groups);
}

static void who_does_not_exist_is_named(void **state)
{
    (void)state;
    refused("no-such-user", "there is no user \"no-such-user\"");
    refused("nobody:no-such-group", "there is no group \"no-such-group\"");
    refused("4000000000", "there is no user \"4000000000\""); /* and no group either */
    refused("4294967295", "there is no user \"4294967295\""); /* -1 leaves an identity as it is */
    refused("nobody:4294967295", "there is no group \"4294967295\"");
    refused("", "\"\" is not of the form NAME or NAME:GROUP");
}

static void the_super_user_is_no_user_to_become(void **state)
{
    (void)state;
    refused("root", "the super-user and its group keep what is to be given up");
    refused("0", "the super-user and its group keep what is to be given up");
    refused("nobody:root", "the super-user and its group keep what is to be given up");
    refused("nobody:0", "the super-user and its group keep what is to be given up");
}

static void a_failed_allocation_is_reported(void **state)
{
    uint64_t faults = 1;

    (void)state;
    for (uint64_t nth = 1; faults != 0; nth++) {
        struct option_fault fault;
        struct privilege_user user;
        assert_true(nth < 10);
        memory_fail_at(nth);
        enum error_code error = privilege_user_find(&user, "nobody", &fault);
        faults = memory_faults();
        memory_fail_at(0);
        assert_int_equal(error, faults != 0 ? ERROR_NO_MEMORY : ERROR_NONE);
        privilege_user_dispose(&user);
    }
}

/* ------------------------------------------------------------------------------------------------ becoming */

static int child_code(int (*function)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        _exit(function());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int becomes_nobody_for_good(void)
{
    struct privilege_user user;
    struct option_fault fault;
    uid_t uid[3];
    gid_t groups[64];

    if (privilege_user_find(&user, "nobody:daemon", &fault) != ERROR_NONE ||
        privilege_become(&user, &fault) != ERROR_NONE) {
        return 1;
    }
    if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 || uid[0] != user.uid || uid[1] != user.uid || uid[2] != user.uid) {
        return 2;
    }
    if (getgroups(64, groups) != (int)user.group_count || getegid() != user.gid) {
        return 3;
    }
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_CAPBSET_READ, 0, 0, 0, 0) != 0) {
        return 4;
    }
    if (seteuid(0) == 0 || setegid(0) == 0 || open("/etc/shadow", O_RDONLY) >= 0) {
        return 5;
    }
    privilege_user_dispose(&user);
    return 0;
}

static int cannot_become_nobody(void)
{
    struct privilege_user user;
    struct option_fault fault = {.text = ""};

    if (privilege_user_find(&user, "nobody", &fault) != ERROR_NONE ||
        privilege_become(&user, &fault) != ERROR_PERMISSION) {
        return 1;
    }
    privilege_user_dispose(&user);
    return strstr(fault.text, "Operation not permitted") != NULL ? 0 : 2;
}

static void root_becomes_a_user_for_good(void **state)
{
    (void)state;
    assert_int_equal(child_code(privilege_is_root() ? becomes_nobody_for_good : cannot_become_nobody), 0);
}

static int becomes_nobody_and_then_root(void)
{
    struct privilege_user user;
    struct option_fault fault;

    return privilege_user_find(&user, "nobody", &fault) != ERROR_NONE || setresuid(user.uid, user.uid, user.uid) != 0
               ? 1
               : cannot_become_nobody();
}

static void nobody_else_becomes_another_user(void **state)
{
    (void)state;
    assert_int_equal(child_code(privilege_is_root() ? becomes_nobody_and_then_root : cannot_become_nobody), 0);
}

static int stays_without_new_privileges(void)
{
    uid_t before = geteuid();

    return privilege_stay() == ERROR_NONE && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && geteuid() == before ? 0 : 1;
}

static void who_stays_gets_no_new_privileges(void **state)
{
    (void)state;
    assert_int_equal(child_code(stays_without_new_privileges), 0);
}

static int reads_and_does_nothing_else_of_root(void)
{
    if (privilege_keep_reading() != ERROR_NONE) {
        return 1;
    }
    return privilege_is_root() && setresuid(65534, 65534, 65534) == 0 ? 2 : 0;
}

static void a_reader_keeps_nothing_but_reading(void **state)
{
    (void)state;
    assert_int_equal(child_code(reads_and_does_nothing_else_of_root), 0);
}

/* ------------------------------------------------------------------------------------------------ confinement */

static const char *const passwords[] = {"/etc/shadow", NULL, "/etc/passwd"};

static void without_user_and_sandbox_nothing_changes(void **state)
{
    const struct confinement_settings settings = {.mode = SANDBOX_OFF, .files = passwords, .file_count = 3};
    const struct sandbox_plan plan = {.role = SANDBOX_EDGE};
    struct confinement confinement;
    struct option_fault fault;

    (void)state;
    assert_int_equal(confinement_init(&confinement, &settings, &fault), ERROR_NONE);
    assert_null(confinement.reader);
    assert_int_equal(confinement_enter(&confinement, &plan, &fault), ERROR_NONE);
    assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    confinement_dispose(&confinement);
}

static void a_check_looks_the_user_up_and_starts_nothing(void **state)
{
    struct confinement_settings settings = {.user = "nobody", .mode = SANDBOX_ON, .check_only = true};
    struct confinement confinement;
    struct option_fault fault;

    (void)state;
    assert_int_equal(confinement_init(&confinement, &settings, &fault), ERROR_NONE);
    assert_null(confinement.reader);
    confinement_dispose(&confinement);
    settings.user = "no-such-user";
    assert_int_equal(confinement_init(&confinement, &settings, &fault), ERROR_CONFIGURATION);
    assert_string_equal(fault.text, "--user: there is no user \"no-such-user\"");
    confinement_dispose(&confinement);
}

/* The file is root's; after the change of users its contents come all the same. */
static int reads_what_only_root_can(void)
{
    const struct confinement_settings settings = {
        .user = "nobody", .mode = SANDBOX_ON, .files = passwords, .file_count = 3};
    const struct sandbox_plan plan = {.role = SANDBOX_EDGE};
    struct confinement confinement;
    struct option_fault fault;
    struct file_text file;
    int reason = 0;

    enum error_code error = confinement_init(&confinement, &settings, &fault);
    if (!privilege_is_root()) {
        confinement_dispose(&confinement);
        return error == ERROR_CONFIGURATION && strcmp(fault.text, "--user: only root can become \"nobody\"") == 0 ? 0
                                                                                                                  : 1;
    }
    if (error != ERROR_NONE || confinement_enter(&confinement, &plan, &fault) != ERROR_NONE) {
        return 2;
    }
    if (open("/etc/shadow", O_RDONLY) >= 0) {
        return 3;
    }
    if (file_read(&file, "/etc/shadow", &reason) != ERROR_NONE || file.length == 0) {
        return 4;
    }
    file_wipe(&file);
    if (file_read(&file, "/etc/group", &reason) != ERROR_SYSTEM) {
        return 5;
    }
    confinement_dispose(&confinement);
    return 0;
}

static void root_only_files_can_be_read_again(void **state)
{
    (void)state;
    assert_int_equal(child_code(reads_what_only_root_can), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_and_group_are_told_apart),
        cmocka_unit_test(a_user_comes_with_its_groups),
        cmocka_unit_test(a_group_takes_the_place_of_the_users_own),
        cmocka_unit_test(who_does_not_exist_is_named),
        cmocka_unit_test(the_super_user_is_no_user_to_become),
        cmocka_unit_test(a_failed_allocation_is_reported),
        cmocka_unit_test(root_becomes_a_user_for_good),
        cmocka_unit_test(nobody_else_becomes_another_user),
        cmocka_unit_test(who_stays_gets_no_new_privileges),
        cmocka_unit_test(a_reader_keeps_nothing_but_reading),
        cmocka_unit_test(without_user_and_sandbox_nothing_changes),
        cmocka_unit_test(a_check_looks_the_user_up_and_starts_nothing),
        cmocka_unit_test(root_only_files_can_be_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
