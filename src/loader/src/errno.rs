//! The kernel's error numbers, with their names.

use core::fmt;

use crate::text;

/// An error number as the kernel returns it (errno(3)); as wide as what a system call returns, which keeps results small.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub usize);

/// `text` as the value of a static. What has a name of its own, not only what refers to it, can be placed by the linker: see
/// `segments.ld`.
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!(),
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        #[allow(missing_docs)]
        impl Errno {
            $(pub const $name: Errno = Errno(linux_raw_sys::errno::$name as usize);)*
        }

        const TEXT: &str = concat!($(stringify!($name), "\n"),*);
        static NAMES: [u8; TEXT.len()] = bytes(TEXT);
        static NUMBERS: [u8; [$(Errno::$name),*].len()] = [$(linux_raw_sys::errno::$name as u8),*];
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
    EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK
    EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT
    EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT EBFONT ENOSTR ENODATA ETIME
    ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ
    EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK
    EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT
    EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN
    ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE
    EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED
    EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
}

impl Errno {
    /// The name of the number, such as `ENOENT`; `None` for one that no kernel defines.
    pub fn name(self) -> Option<&'static str> {
        self.text_in(&NUMBERS, &NAMES)
    }

    /// The line of `texts` that stands where `numbers` has this number; for an empty one the next that is not.
    /// Texts in a row and numbers in a row are a third of what a table of slices takes. See `meaning`.
    pub fn text_in(self, numbers: &[u8], texts: &'static [u8]) -> Option<&'static str> {
        let at = numbers.iter().position(|number| usize::from(*number) == self.0)?;
        text::fields(core::str::from_utf8(texts).ok()?, b'\n').skip(at).find(|text| !text.is_empty())
    }
}

/// What an errno means, as a `match` would say it: `meaning!(errno, { ENOENT | ENOTDIR => "…", _ => "…" })`.
macro_rules! meaning {
    ($errno:expr, { $($name:ident $(| $like:ident)* => $text:literal,)* _ => $other:literal $(,)? }) => {{
        const TEXT: &str = concat!($($($crate::errno::line!($like),)* $text, "\n"),*);
        static TEXTS: [u8; TEXT.len()] = $crate::errno::bytes(TEXT);
        let numbers = &[$($($crate::errno::Errno::$like.0 as u8,)* $crate::errno::Errno::$name.0 as u8),*];
        $errno.text_in(numbers, &TEXTS).unwrap_or($other)
    }};
}

/// For [`meaning`]: an empty line for `name`.
macro_rules! line {
    ($name:ident) => {
        "\n"
    };
}

pub(crate) use {line, meaning};

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(Errno(1).name(), Some("EPERM"));
        assert_eq!(Errno::EHWPOISON.to_string(), "EHWPOISON");
        assert_eq!(Errno(41).to_string(), "errno 41");
        assert_eq!(Errno(512 + 1).name(), None);
    }
}
