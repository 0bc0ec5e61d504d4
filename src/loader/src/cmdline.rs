//! The kernel's command line, as the kernel splits it: words at spaces, double quotes protect spaces (lib/cmdline.c).

use core::ffi::CStr;
use core::fmt;

use crate::errno::Errno;
use crate::kernel::{Kernel, read_full};
use crate::limits::{CMDLINE_BYTES, PATH_BYTES};
use crate::name::{self, Name};
use crate::path::{self, Path};
use crate::text::{self, Words};

/// The command line's text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cmdline<'m> {
    text: &'m str,
    is_sealed: bool,
}

/// The words that a sealed command line has: where the root is, and how to mount it.
const OF_ROOT: [&str; 7] = ["root", "rootfstype", "rootflags", "rootwait", "rootdelay", "ro", "rw"];

/// Why the command line is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmdlineError {
    /// It cannot be read.
    Read(Errno),
    /// It is over [`CMDLINE_BYTES`].
    TooLong,
}

impl fmt::Display for CmdlineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmdlineError::Read(errno) => write!(f, "{errno}: cannot be read"),
            CmdlineError::TooLong => write!(f, "over CMDLINE_BYTES, {CMDLINE_BYTES}"),
        }
    }
}

/// A word whose value is a path that is not less than [`PATH_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathTooLong<'n> {
    name: &'n str,
    len_bytes: usize,
}

impl fmt::Display for PathTooLong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PathTooLong { name, len_bytes } = self;
        write!(
            f,
            "{name}= on the kernel command line has {len_bytes} bytes; expected less than PATH_BYTES, {PATH_BYTES}"
        )
    }
}

impl<'m> Cmdline<'m> {
    /// Reads `/proc/cmdline` or another file like it to the start of `buf`; where that fails it counts as empty. With what is
    /// left of `buf`, more than its length less [`CMDLINE_BYTES`].
    pub fn read<K: Kernel>(
        kernel: &K, path: &CStr, buf: &'m mut [u8],
    ) -> (Cmdline<'m>, Result<(), CmdlineError>, &'m mut [u8]) {
        match Self::read_len(kernel, path, buf) {
            Ok(len) => {
                let (text, rest) = buf.split_at_mut(len);
                // A byte that is no UTF-8 spoils its own word, not the line.
                while let Err(e) = core::str::from_utf8(text) {
                    text[e.valid_up_to()] = b'?';
                }
                let text = core::str::from_utf8(text).unwrap_or_default();
                (Cmdline { text, is_sealed: false }, Ok(()), rest)
            }
            Err(error) => (Cmdline::default(), Err(error), buf),
        }
    }

    fn read_len<K: Kernel>(kernel: &K, path: &CStr, buf: &mut [u8]) -> Result<usize, CmdlineError> {
        let file = kernel.open(path).map_err(CmdlineError::Read)?;
        let most = CMDLINE_BYTES.min(buf.len());
        let len = read_full(kernel, &file, &mut buf[..most]).map_err(CmdlineError::Read)?.len();
        if len < most { Ok(len) } else { Err(CmdlineError::TooLong) }
    }

    /// The same with the words for the root alone, as `@sealed` wants it.
    pub fn sealed(self) -> Self {
        Cmdline { is_sealed: true, ..self }
    }

    /// Visits the words that are heeded where it is not sealed, and not where it is.
    pub fn each_ignored(self, visit: &mut dyn FnMut(&'m str)) {
        for (_, word) in Words::new(self.text) {
            let name = name_of(word);
            if is_about_modules(name) || name == "init" || name.starts_with("modest.") {
                visit(word);
            }
        }
    }

    /// The text, as the kernel has it.
    pub fn text(self) -> &'m str {
        self.text
    }

    /// Its words in order, each as a name and what follows its `=`, without the quotes around the value or the word.
    /// What follows `--` is for init alone, and not among them.
    pub fn words(self) -> impl Iterator<Item = (&'m str, Option<&'m str>)> {
        let words = Words::new(self.text).map(|(_, word)| word).take_while(|word| *word != "--");
        // A word quoted from its start has its quotes around the whole: `"name=a b"`.
        let words = words.map(unquoted).map(|word| match text::split_once(word, b'=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (word, None),
        });
        words.filter(move |(name, _)| self.heeds(name))
    }

    // Out of line: each use of `words` would have it.
    #[inline(never)]
    fn heeds(self, name: &str) -> bool {
        !self.is_sealed || OF_ROOT.contains(&name)
    }

    /// The value of the last word `name=value`.
    pub fn value(self, name: &str) -> Option<&'m str> {
        self.words().filter(|(n, _)| *n == name).filter_map(|(_, value)| value).last()
    }

    /// The same as a path.
    pub fn path<'n>(self, name: &'n str) -> Result<Option<Path>, PathTooLong<'n>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        path::joined(&[value.as_bytes()]).map(Some).ok_or(PathTooLong { name, len_bytes: value.len() })
    }

    /// Whether the bare word `name` is there.
    pub fn has(self, name: &str) -> bool {
        self.words().any(|word| word == (name, None))
    }

    /// Visits what is in the lists of all words `name=a,b`; `-` and `_` in the name are equal.
    pub fn each_listed(self, name: &str, visit: &mut dyn FnMut(&'m str)) {
        let lists = self.words().filter(|(word, _)| Name(word) == Name(name)).filter_map(|(_, list)| list);
        lists.for_each(|list| text::fields(list, b',').filter(|name| !name.is_empty()).for_each(&mut *visit));
    }

    /// Whether there is such a list.
    pub fn has_list(self, name: &str) -> bool {
        let mut has = false;
        self.each_listed(name, &mut |_| has = true);
        has
    }

    /// Whether such a list names the module.
    pub fn lists(self, name: &str, module: Name) -> bool {
        let mut found = false;
        self.each_listed(name, &mut |listed| found |= name::of(listed) == module);
        found
    }

    /// Whether a word is about this program.
    pub fn is_about_modest(self) -> bool {
        self.words().any(|(name, _)| name.starts_with("modest."))
    }

    /// Whether a word may be about modules: most command lines have none such.
    pub fn is_about_modules(self) -> bool {
        // Those for init too, of which modprobe takes parameters.
        !self.is_sealed && Words::new(self.text).any(|(_, word)| is_about_modules(name_of(word)))
    }
}

/// What is before the `=` of a word.
fn name_of(word: &str) -> &str {
    text::split_once(unquoted(word), b'=').map_or(word, |(name, _)| name)
}

fn is_about_modules(name: &str) -> bool {
    let is_dotted = name.bytes().any(|b| b == b'.') && !name.starts_with("modest.");
    is_dotted || name.starts_with("module") || name.starts_with("modest.skip")
}

fn unquoted(text: &str) -> &str {
    match text.strip_prefix("\"") {
        Some(inner) => inner.strip_suffix("\"").unwrap_or(inner),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    fn read(text: &[u8]) -> Result<Cmdline<'static>, CmdlineError> {
        let fake = Fake::default().with_file("/proc/cmdline", text).reading_at_most(7);
        let buf = vec![0; CMDLINE_BYTES + 1].leak();
        let (cmdline, read, rest) = Cmdline::read(&fake, c"/proc/cmdline", buf);
        assert!(rest.len() > 1);
        read.map(|()| cmdline)
    }

    fn cmdline(text: &str) -> Cmdline<'static> {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn words_and_values() {
        let line = cmdline("console=ttyS0 root=LABEL=data  rw modest.skip=a,snd-b \"x=1 2\" y=\"3 4\" rw=no -- z=1\n");
        let words: Vec<_> = line.words().collect();
        assert_eq!(
            words,
            [
                ("console", Some("ttyS0")),
                ("root", Some("LABEL=data")),
                ("rw", None),
                ("modest.skip", Some("a,snd-b")),
                ("x", Some("1 2")),
                ("y", Some("3 4")),
                ("rw", Some("no")),
            ]
        );
        assert_eq!(line.value("root"), Some("LABEL=data"));
        assert_eq!(line.value("z"), None);
        assert!(line.has("rw") && !line.has("root"));
        let skips = |module| line.lists("modest.skip", Name(module));
        assert!(skips("snd_b") && skips("a") && !skips("b"));
        assert!(
            cmdline("a \"modest.skip=b\"").has_list("modest.skip") && !cmdline("modest.skip").has_list("modest.skip")
        );
        let lists = cmdline("modules-load=a,,b x=c modules_load=d modules-load");
        let mut listed = Vec::new();
        lists.each_listed("modules-load", &mut |name| listed.push(name));
        assert_eq!(listed, ["a", "b", "d"]);
        for (text, is_about) in [
            ("modest.debug quiet", false),
            ("a b.c=d", true),
            ("modules_load=a", true),
            ("module_blacklist=a", true),
            ("modest.skip=a", true),
            ("\"modules-load=a b\"", true),
            ("quiet -- a.b=c", true),
            ("BOOT_IMAGE=/vmlinuz-6.12 ip=10.0.0.1", false),
        ] {
            assert_eq!(cmdline(text).is_about_modules(), is_about, "{text}");
        }
        assert_eq!(cmdline("a=1 a=2").value("a"), Some("2"));
        assert_eq!(read(b"a=\xff\xfe b=2").unwrap().value("b"), Some("2"));
        assert!(cmdline("").words().next().is_none());
    }

    #[test]
    fn a_path_over_the_limit_is_an_error() {
        let longest = "x".repeat(PATH_BYTES - 1);
        let line = cmdline(&format!("a={longest} b={longest}x"));
        assert_eq!(line.path("a").unwrap().unwrap().as_bytes(), longest.as_bytes());
        let says = "b= on the kernel command line has 512 bytes; expected less than PATH_BYTES, 512";
        assert_eq!(line.path("b").unwrap_err().to_string(), says);
        assert_eq!(line.path("c"), Ok(None));
    }

    #[test]
    fn a_line_over_the_limit_is_an_error() {
        assert_eq!(read(&[b'x'; CMDLINE_BYTES]).err(), Some(CmdlineError::TooLong));
        let mut buf = [0; 9];
        let (cmdline, read, _) = Cmdline::read(&Fake::default(), c"/d", &mut buf);
        assert_eq!((cmdline.words().count(), read), (0, Err(CmdlineError::Read(Errno::ENOENT))));
    }

    #[test]
    fn sealed_it_has_the_words_for_the_root_alone() {
        let line = b"console=ttyS0 root=/dev/vda rw \"rootflags=a b\" rootwait init=/bin/sh modest.skip=a m.p=1 quiet";
        let cmdline = read(line).unwrap();
        let sealed = cmdline.sealed();
        for cmdline in [cmdline, sealed] {
            let mut ignored = Vec::new();
            cmdline.each_ignored(&mut |word| ignored.push(word));
            assert_eq!(ignored, ["init=/bin/sh", "modest.skip=a", "m.p=1"]);
        }
        let root = [("root", Some("/dev/vda")), ("rw", None), ("rootflags", Some("a b")), ("rootwait", None)];
        assert_eq!(sealed.words().collect::<Vec<_>>(), root);
        assert_eq!((sealed.value("init"), sealed.is_about_modules()), (None, false));
        assert!(!sealed.lists("modest.skip", Name("a")) && cmdline.lists("modest.skip", Name("a")));
    }
}
