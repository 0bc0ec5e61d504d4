//! What the kernel's errnos mean where a module is loaded.

use crate::errno::{Errno, meaning};

/// What an errno of open(2) means for a module file.
pub fn of_open(errno: Errno) -> &'static str {
    meaning!(errno, {
        ENOENT => "no such file",
        EACCES => "permission to read it is denied",
        ELOOP => "its symbolic links lead in a circle",
        ENOTDIR => "a part of its path is not a directory",
        ENAMETOOLONG => "its path is too long",
        EMFILE | ENFILE => "too many files are open",
        EXDEV => "it is outside of the @root, or a link leads there, and @confine forbids it",
        ENXIO => "it is a FIFO, socket or absent device",
        EIO => "the storage it is on does not answer",
        _ => "it cannot be opened",
    })
}

/// What an errno of init_module(2) and finit_module(2) means (kernel/module/main.c, decompress.c).
pub fn of_kernel(errno: Errno) -> &'static str {
    meaning!(errno, {
        EPERM => "not permitted (no CAP_SYS_MODULE, modules_disabled, module_blacklist= on the kernel \
                  command line, or lockdown)",
        EACCES => "a security module of the kernel forbids it",
        ENOEXEC => "not a module for this kernel (another version or configuration, or damaged)",
        EINVAL => "the kernel refuses it (a parameter's value, a symbol's checksum, a missing namespace import, or \
                   compressed data that does not decode)",
        ENOENT => "a symbol it needs is not there, load what exports it first (or its init found something missing)",
        EEXIST => "its init says that something exists already",
        EBUSY => "a module it needs, or a duplicate of it, is still being loaded or unloaded",
        EKEYREJECTED | ENOKEY | EKEYEXPIRED | EKEYREVOKED =>
            "not signed with a key that this kernel trusts, and it enforces signatures",
        EBADMSG => "its signature is malformed",
        ENOPKG => "its signature uses an algorithm that this kernel lacks",
        EOPNOTSUPP => "the kernel cannot decompress modules (or its init does not support this machine)",
        ETXTBSY => "the file is open for writing",
        EFBIG => "the file is too big",
        EFAULT => "the image could not be read to its end",
        ENOMEM => "the kernel has too little memory for it",
        EINTR => "interrupted by a signal",
        ENOSYS => "the kernel has no such call: modules are not configured (or its init said so)",
        ENODEV | ENXIO => "its init found no device that it is for",
        EIO => "reading it, or its device, failed",
        _ => "its init failed",
    })
}
