"""Runs a program as if on a kernel without some system calls: deny.py CALL[,CALL...] PROGRAM ARGUMENT..."""
import ctypes
import errno
import os
import sys

ALLOW = 0x7fff0000
ERRNO = 0x00050000


def main():
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    rules = library.seccomp_init(ALLOW)
    for name in sys.argv[1].split(","):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if library.seccomp_rule_add(rules, ERRNO | errno.ENOSYS, number, 0) != 0:
            sys.exit(f"deny.py: no rule for {name}")
    if library.seccomp_load(rules) != 0:
        sys.exit("deny.py: the kernel does not take the filter")
    os.execv(sys.argv[2], sys.argv[2:])


main()
