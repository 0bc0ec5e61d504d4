//! What the kernel's errnos mean where a module is loaded.

use crate::errno::{Errno, meaning};

/// What an errno of open(2) means for a module file.
pub fn of_open(errno: Errno) -> &'static str {
    meaning!(errno, {
        ENOENT => "no such file",
        EACCES => "this process may not read it",
        ELOOP => "its symbolic links form a loop",
        ENOTDIR => "a part of its path is not a directory",
        ENAMETOOLONG => "its path is too long",
        EMFILE | ENFILE => "too many files are open",
        EXDEV => "@confine forbids it: the file is outside of @root, or a link leads there",
        ENXIO => "it is a FIFO, a socket or a device that does not exist",
        EIO => "the storage that it is on does not respond",
        _ => "it cannot be opened",
    })
}

/// What an errno of init_module(2) and finit_module(2) means (kernel/module/main.c, decompress.c).
pub fn of_kernel(errno: Errno) -> &'static str {
    meaning!(errno, {
        EPERM => "the kernel does not permit it (no CAP_SYS_MODULE, modules_disabled, module_blacklist= on the kernel \
                  command line, or lockdown)",
        EACCES => "a security module of the kernel forbids it",
        ENOEXEC => "it is not a module for this kernel (built for another version or configuration, or damaged)",
        EINVAL => "the kernel refuses it (a parameter's value, a symbol's checksum, a missing namespace import, or \
                   compressed data that does not decode)",
        ENOENT => "a symbol that it needs is missing: load what exports it first (or its init did not find something)",
        EEXIST => "its init reports that something already exists",
        EBUSY => "the kernel is still loading or unloading it, or a module that it needs",
        EKEYREJECTED | ENOKEY | EKEYEXPIRED | EKEYREVOKED =>
            "this kernel enforces signatures, and the module is not signed with a key that it trusts",
        EBADMSG => "its signature is malformed",
        ENOPKG => "its signature uses an algorithm that this kernel lacks",
        EOPNOTSUPP => "the kernel cannot decompress modules (or its init does not support this machine)",
        ETXTBSY => "the file is open for writing",
        EFBIG => "the file is too big",
        EFAULT => "the kernel could not read the image to its end",
        ENOMEM => "the kernel has too little memory for it",
        EINTR => "a signal interrupted the load",
        ENOSYS => "the kernel lacks this call: it was built without modules (or the module's init returned this)",
        ENODEV | ENXIO => "its init found no device for it",
        EIO => "reading the file failed, or its device did not respond",
        _ => "its init failed",
    })
}
