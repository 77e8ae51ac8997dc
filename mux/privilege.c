/*
 * Users, groups and capabilities; see privilege.h. Every step is checked, and what counts in the end is what the kernel
 * says afterwards. Holds nothing.
 */
#include "mux/privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mux/memory.h"

#define ENTRY_BYTES 65536U       /* of one user or group in its data base, with all members */
#define NUMBER_MAX  4294967294UL /* the one above means "leave it as it is" */

/* ------------------------------------------------------------------------------------------------ the text */

/* Cuts "NAME:GROUP" in two; group is NULL where there is none. False when a part is empty or does not fit. */
static bool text_split(const char *text, char room[PRIVILEGE_TEXT_MAX], const char **group)
{
    size_t length = strlen(text);

    *group = NULL;
    if (length == 0 || length >= PRIVILEGE_TEXT_MAX) {
        return false;
    }
    memcpy(room, text, length + 1);
    char *colon = strchr(room, ':');
    if (colon != NULL) {
        *colon = '\0';
        *group = colon + 1;
    }
    return room[0] != '\0' && (*group == NULL || ((*group)[0] != '\0' && strchr(*group, ':') == NULL));
}

bool privilege_check_text(const char *text, struct option_fault *fault)
{
    char room[PRIVILEGE_TEXT_MAX];
    char quoted[OPTION_QUOTED_MAX];
    const char *group;

    return text_split(text, room, &group) ||
           option_fault_set(fault, "%s is not of the form NAME or NAME:GROUP", option_quote(text, quoted));
}

/* A number is one even where a user of that name exists: names that consist of digits are asking for confusion. */
static bool number_parse(const char *text, unsigned *number)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || text[digits] != '\0' || digits > 10) {
        return false;
    }
    unsigned long value = strtoul(text, NULL, 10);
    *number = (unsigned)value;
    return value <= NUMBER_MAX;
}

/* ------------------------------------------------------------------------------------------------ looking up */

static enum error_code lookup_result(int failure, bool found, const char *what, const char *name,
                                     struct option_fault *fault)
{
    char quoted[OPTION_QUOTED_MAX];

    if (found) {
        return ERROR_NONE;
    }
    /* Some data bases report an unknown name as one of these errors. */
    if (failure != 0 && failure != ENOENT && failure != ESRCH && failure != EBADF && failure != EPERM) {
        option_fault_set(fault, "%s %s cannot be looked up: %s", what, option_quote(name, quoted), strerror(failure));
        return ERROR_SYSTEM;
    }
    option_fault_set(fault, "there is no %s %s", what, option_quote(name, quoted));
    return ERROR_CONFIGURATION;
}

static enum error_code group_find(gid_t *gid, const char *name, char *room, struct option_fault *fault)
{
    struct group entry;
    struct group *found = NULL;
    unsigned number;

    if (number_parse(name, &number)) {
        *gid = number;
        return ERROR_NONE;
    }
    int failure = getgrnam_r(name, &entry, room, ENTRY_BYTES, &found);
    if (found != NULL) {
        *gid = found->gr_gid;
    }
    return lookup_result(failure, found != NULL, "group", name, fault);
}

/* A number need not have an entry; its group must be given then. */
static enum error_code account_find(struct privilege_user *user, const char *name, bool group_given, char *room,
                                    struct passwd *entry, struct passwd **found, struct option_fault *fault)
{
    unsigned number;
    bool numeric = number_parse(name, &number);
    int failure = numeric ? getpwuid_r(number, entry, room, ENTRY_BYTES, found)
                          : getpwnam_r(name, entry, room, ENTRY_BYTES, found);

    if (*found != NULL) {
        user->uid = entry->pw_uid;
        user->gid = entry->pw_gid;
        return ERROR_NONE;
    }
    if (numeric && group_given) {
        user->uid = number;
        return ERROR_NONE;
    }
    return lookup_result(failure, false, "user", name, fault);
}

static enum error_code groups_find(struct privilege_user *user, const char *name, struct option_fault *fault)
{
    int count = (int)PRIVILEGE_GROUPS_MAX;

    user->groups = memory_calloc(PRIVILEGE_GROUPS_MAX, sizeof(*user->groups));
    if (user->groups == NULL) {
        return ERROR_NO_MEMORY;
    }
    if (name == NULL) {
        user->groups[0] = user->gid;
        user->group_count = 1;
    } else if (getgrouplist(name, user->gid, user->groups, &count) >= 0) {
        user->group_count = (size_t)count;
    } else {
        option_fault_set(fault, "is in more than %u groups", PRIVILEGE_GROUPS_MAX);
        return ERROR_CONFIGURATION;
    }
    return ERROR_NONE;
}

static enum error_code user_find(struct privilege_user *user, const char *name, const char *group, char *rooms,
                                 struct option_fault *fault)
{
    struct passwd entry;
    struct passwd *found = NULL;
    enum error_code error = account_find(user, name, group != NULL, rooms, &entry, &found, fault);

    if (error == ERROR_NONE && group != NULL) {
        error = group_find(&user->gid, group, rooms + ENTRY_BYTES, fault);
    }
    if (error == ERROR_NONE && (user->uid == 0 || user->gid == 0)) {
        option_fault_set(fault, "the super-user and its group keep what is to be given up");
        error = ERROR_CONFIGURATION;
    }
    return error == ERROR_NONE ? groups_find(user, found != NULL ? found->pw_name : NULL, fault) : error;
}

enum error_code privilege_user_find(struct privilege_user *user, const char *text, struct option_fault *fault)
{
    char name[PRIVILEGE_TEXT_MAX];
    const char *group;

    *user = (struct privilege_user){.groups = NULL};
    if (!text_split(text, name, &group)) {
        (void)privilege_check_text(text, fault);
        return ERROR_CONFIGURATION;
    }
    char *rooms = memory_alloc((size_t)2 * ENTRY_BYTES);
    if (rooms == NULL) {
        return ERROR_NO_MEMORY;
    }
    enum error_code error = user_find(user, name, group, rooms, fault);
    memory_free(rooms);
    if (error != ERROR_NONE) {
        privilege_user_dispose(user);
    }
    return error;
}

void privilege_user_dispose(struct privilege_user *user)
{
    memory_free(user->groups);
    *user = (struct privilege_user){.groups = NULL};
}

bool privilege_is_root(void)
{
    return geteuid() == 0;
}

/* ------------------------------------------------------------------------------------------------ giving up */

#define CAPABILITY_WORDS _LINUX_CAPABILITY_U32S_3

/* Keeps, of those that the process has, the capabilities in `mask`. */
static bool capabilities_limit(uint64_t mask)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[CAPABILITY_WORDS];

    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) {
        return false;
    }
    if (syscall(SYS_capget, &header, data) != 0) {
        return false;
    }
    for (unsigned i = 0; i < CAPABILITY_WORDS; i++) {
        uint32_t kept = data[i].permitted & (uint32_t)(mask >> (32 * i));

        data[i] = (struct __user_cap_data_struct){.effective = kept, .permitted = kept, .inheritable = 0};
    }
    return syscall(SYS_capset, &header, data) == 0;
}

/* A program that is executed gets no more than its caller has: needs CAP_SETPCAP, so it comes before the others. */
static void capabilities_unbind(void)
{
    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++) {
    }
}

static bool capabilities_none(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[CAPABILITY_WORDS];

    if (syscall(SYS_capget, &header, data) != 0) {
        return false;
    }
    for (unsigned i = 0; i < CAPABILITY_WORDS; i++) {
        if (data[i].effective != 0 || data[i].permitted != 0 || data[i].inheritable != 0) {
            return false;
        }
    }
    return true;
}

static bool same_groups(const struct privilege_user *user)
{
    gid_t has[PRIVILEGE_GROUPS_MAX];
    int count = getgroups((int)PRIVILEGE_GROUPS_MAX, has);

    for (int i = 0; i < count; i++) {
        bool known = false;
        for (size_t k = 0; k < user->group_count; k++) {
            known = known || user->groups[k] == has[i];
        }
        if (!known) {
            return false;
        }
    }
    return count >= 0;
}

/* What the kernel says, not what the calls before have returned. */
static bool became(const struct privilege_user *user)
{
    uid_t uid[3];
    gid_t gid[3];

    if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 || getresgid(&gid[0], &gid[1], &gid[2]) != 0) {
        return false;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (uid[i] != user->uid || gid[i] != user->gid) {
            return false;
        }
    }
    return same_groups(user) && capabilities_none() && setresuid((uid_t)-1, 0, (uid_t)-1) != 0 &&
           setresgid((gid_t)-1, 0, (gid_t)-1) != 0;
}

static enum error_code step_failed(const char *step, struct option_fault *fault)
{
    option_fault_set(fault, "%s: %s", step, strerror(errno));
    return errno == EPERM ? ERROR_PERMISSION : ERROR_SYSTEM;
}

enum error_code privilege_become(const struct privilege_user *user, struct option_fault *fault)
{
    capabilities_unbind();
    if (setgroups(user->group_count, user->groups) != 0) {
        return step_failed("its groups cannot be taken on", fault);
    }
    if (setresgid(user->gid, user->gid, user->gid) != 0) {
        return step_failed("its group cannot be taken on", fault);
    }
    if (setresuid(user->uid, user->uid, user->uid) != 0) {
        return step_failed("its identity cannot be taken on", fault);
    }
    /* PR_SET_KEEPCAPS may have been set by whoever started the process. */
    if (!capabilities_limit(0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return step_failed("its capabilities cannot be given up", fault);
    }
    if (!became(user)) {
        option_fault_set(fault, "privileges are left after they were given up");
        return ERROR_PERMISSION;
    }
    return ERROR_NONE;
}

enum error_code privilege_stay(void)
{
    if (!privilege_is_root()) {
        capabilities_unbind();
        if (!capabilities_limit(0)) {
            return ERROR_SYSTEM;
        }
    }
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? ERROR_NONE : ERROR_SYSTEM;
}

enum error_code privilege_keep_reading(void)
{
    capabilities_unbind();
    return capabilities_limit(UINT64_C(1) << CAP_DAC_READ_SEARCH) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
               ? ERROR_NONE
               : ERROR_SYSTEM;
}
