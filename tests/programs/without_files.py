"""Takes files away from the calling thread and those that it starts: whichever opens, makes,
changes or writes a file has the process killed by the kernel."""

from __future__ import annotations

import ctypes
import platform
import struct

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
SECCOMP_RET_KILL_PROCESS = 0x8000_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000

LOAD_NUMBER = (0x20, 0, 0, 0)
"""Loads the system call's number, the first word of what a filter is given."""
JUMP_IF_EQUAL = 0x15
RETURN = 0x06

X86_64 = {
    "write": 1, "open": 2, "pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75, "ftruncate": 77,
    "rename": 82, "mkdir": 83, "creat": 85, "unlink": 87, "openat": 257, "mkdirat": 258, "unlinkat": 263,
    "renameat": 264, "fallocate": 285, "openat2": 437,
}  # fmt: skip
AARCH64 = {
    "mkdirat": 34, "unlinkat": 35, "renameat": 38, "ftruncate": 46, "fallocate": 47, "openat": 56,
    "write": 64, "writev": 66, "pwrite64": 68, "fsync": 82, "fdatasync": 83, "openat2": 437,
}  # fmt: skip
NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def forbid_files() -> None:
    """From here on."""
    numbers = NUMBERS[platform.machine()].values()
    steps = [LOAD_NUMBER]
    steps += [(JUMP_IF_EQUAL, len(numbers) - position, 0, number) for position, number in enumerate(numbers)]
    steps += [(RETURN, 0, 0, SECCOMP_RET_ALLOW), (RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS)]
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps), code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")
