//! What the kernel's log says of a load that failed, read from `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg): the
//! messages of kernel/module/*.c, kernel/params.c and drivers/base/firmware_loader/main.c.

use core::cell::Cell;
use core::ffi::CStr;

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::kernel::lines::{LineError, Lines};
use crate::limits::{KLOG_SLACK_US, KLOG_TEXT_BYTES, LINE_BYTES, SYMBOL_BYTES};
use crate::text;

/// What a message says, from what tells least of the cause to what tells most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// There is no message.
    #[default]
    Nothing,
    /// A text of the module's own: [`Messages::first`].
    Text,
    /// Firmware is missing: its name, the error.
    Firmware,
    /// The kernel does not know a symbol that the module needs: its name.
    Unknown,
    /// The CRC of a symbol differs: its name.
    Disagrees,
    /// The module uses a symbol of a namespace that it does not import: its name, the namespace.
    Namespace,
    /// The module exports a symbol that exists already: its name, the owner.
    Duplicate,
    /// The vermagic differs: the module's, the kernel's.
    Magic,
    /// A parameter does not take its value: the value, the parameter's name.
    Value,
    /// A module of that name is loaded already or built in.
    Present,
    /// A policy of the kernel refuses the module: the text.
    Policy,
    /// The kernel's decoder does not take the compressed file: the text.
    Decoder,
}

/// The messages about one load: the one that tells most, and how many are like it.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    /// What that message says.
    pub kind: Kind,
    /// As [`Kind`] says.
    pub first: heapless::String<KLOG_TEXT_BYTES>,
    /// As [`Kind`] says.
    pub second: heapless::String<SYMBOL_BYTES>,
    /// How many more messages of that kind there are.
    pub others: usize,
    /// Whether every message about this load was read, and none about an earlier one: then the kernel gave no other.
    pub is_exact: bool,
}

/// The kernel's log, open where it was read to. So each record is read once, however many loads fail, and a message
/// about one load is not taken for one about the next.
#[allow(missing_debug_implementations)]
pub struct KernelLog<K: Kernel>(Cell<Option<K::File>>);

impl<K: Kernel> Default for KernelLog<K> {
    fn default() -> Self {
        KernelLog(Cell::new(None))
    }
}

impl<K: Kernel> KernelLog<K> {
    /// The messages about the module `name` since the monotonic time `since_us`, or since the log was last read; none
    /// where it cannot be read.
    pub fn read(&self, kernel: &K, name: &str, since_us: u64) -> Messages {
        // Records may be lost while we read; then we are at the oldest of those left.
        const TRIES: usize = 3;
        let (mut file, from_us, mut is_exact) = match self.0.take() {
            Some(file) => (Some(file), 0, true),
            None => {
                let (from_us, is_exact) = begin(kernel, since_us);
                (kernel.open(LOG).ok(), from_us, is_exact)
            }
        };
        let mut messages = Messages::default();
        for _ in 0..TRIES {
            let Some(opened) = file.take() else { break };
            let (read, is_whole) = each_record(kernel, opened, &mut |record_us, message| {
                if record_us >= from_us {
                    messages.take(name, message);
                }
            });
            file = Some(read);
            is_exact &= is_whole;
            if is_whole {
                break;
            }
        }
        messages.is_exact = is_exact && file.is_some();
        self.0.set(file);
        messages
    }

    /// Skips the messages about a load whose cause is known without them.
    pub fn skip(&self, kernel: &K) {
        self.read(kernel, "", u64::MAX);
    }
}

impl Messages {
    /// Takes one message; `name` is the module's.
    fn take(&mut self, name: &str, message: &str) {
        if let Some(of_module) = message.strip_prefix(name) {
            if let Some(message) = of_module.strip_prefix(": ") {
                // The kernel says these of good modules too.
                if find(message, "taint").is_none() && find(message, " ignored").is_none() {
                    let (kind, first, second) = parse(message).unwrap_or((Kind::Text, message, ""));
                    self.keep(kind, first, second);
                }
                return;
            }
            // As drivers begin what they say of a device.
            if of_module.starts_with(" ") && !message.ends_with("]") {
                self.keep(Kind::Text, message, "");
            }
        }
        if let Some((_, rest)) = find(message, "Direct firmware load for ")
            && let Some((firmware, error)) = find(rest, " failed with error ")
        {
            return self.keep(Kind::Firmware, firmware, error);
        }
        if is_of_decoder(message) {
            self.keep(Kind::Decoder, message, "");
        }
        let policies = ["Lockdown: ", "LoadPin: ", "Loading of "];
        if policies.iter().any(|policy| message.starts_with(policy)) {
            self.keep(Kind::Policy, message, "");
        }
    }

    /// Keeps a message if it tells more than the one kept so far.
    fn keep(&mut self, kind: Kind, first: &str, second: &str) {
        // An earlier message about the same symbol tells why the kernel does not know it.
        if kind == Kind::Unknown && self.kind != Kind::Unknown && self.first == first {
            return;
        }
        // Of several texts the last is nearest to the failure; of several symbols the first is as good as any.
        if kind == self.kind && kind != Kind::Text {
            self.others += usize::from(self.first != first);
            return;
        }
        if kind < self.kind {
            return;
        }
        *self = Messages { kind, ..Messages::default() };
        // What does not fit is longer than what the kernel can say.
        let _ = self.first.push_str(first);
        let _ = self.second.push_str(second);
    }
}

/// The kernel's log (Documentation/ABI/testing/dev-kmsg).
const LOG: &CStr = c"/dev/kmsg";

/// What the log's clock showed at the monotonic time `since_us`, and whether that is sure.
fn begin<K: Kernel>(kernel: &K, since_us: u64) -> (u64, bool) {
    // Modules of the same name may be tried one soon after the other: a mark tells what the log's clock shows now.
    kernel.log_record(MARK);
    let age_us = kernel.now_us().saturating_sub(since_us);
    let mut mark_us = None;
    if let Ok(file) = kernel.open(LOG) {
        each_record(kernel, file, &mut |record_us, message| {
            if MARK.trim_ascii_end().strip_prefix(b"<7>") == Some(message.as_bytes()) {
                mark_us = Some(record_us);
            }
        });
    }
    match mark_us {
        Some(mark_us) => (mark_us.saturating_sub(age_us), since_us > 0),
        None => (since_us.saturating_sub(KLOG_SLACK_US), false),
    }
}

/// A record to find again in the log, with its priority, KERN_DEBUG, which keeps it off the console. Its line ends: a
/// record that the next may continue shows only when that is there (kernel/printk/printk.c, vprintk_store).
const MARK: &[u8] = b"<7>modest: looks here for the cause of a failure\n";

/// Hands each record from where `file` is to `each`: its time in µs, its message. Returns the file, and whether no
/// record was lost.
fn each_record<K: Kernel>(kernel: &K, file: K::File, each: &mut dyn FnMut(u64, &str)) -> (K::File, bool) {
    let mut buf = [0; LINE_BYTES];
    let mut lines = Lines::new(kernel, file, &mut buf);
    let is_whole = loop {
        match lines.next_line() {
            Some((_, Ok(line))) => {
                let record = core::str::from_utf8(line).ok().and_then(|line| text::split_once(line, b';'));
                if let Some((head, message)) = record
                    && let Some(record_us) = time_us(head)
                {
                    each(record_us, message);
                }
            }
            Some((_, Err(LineError::TooLong))) => {}
            Some((_, Err(LineError::Read(errno)))) => break errno != Errno::EPIPE,
            None => break true,
        }
    };
    (lines.into_file(), is_whole)
}

/// The time of a record, of `PRIORITY,NUMBER,TIME,…`; a line that continues one has none.
fn time_us(head: &str) -> Option<u64> {
    text::number(text::fields(head, b',').nth(2)?)
}

fn find<'t>(text: &'t str, part: &str) -> Option<(&'t str, &'t str)> {
    let at = text.as_bytes().windows(part.len()).position(|bytes| bytes == part.as_bytes())?;
    Some((text::cut(text, at).0, text::cut(text, at + part.len()).1))
}

fn between<'t>(text: &'t str, before: &str, between: &str, after: &str) -> Option<(&'t str, &'t str)> {
    let (first, second) = find(text.strip_prefix(before)?, between)?;
    Some((first, second.strip_suffix(after)?))
}

/// Whether the kernel's decoder of modules says so of a file that it does not take (kernel/module/decompress.c).
fn is_of_decoder(message: &str) -> bool {
    let begins =
        ["decompression failed with status ", "ZSTD-", "failed to initialize decompressor: ", "Can't initialize ZSTD"];
    begins.iter().any(|begin| message.starts_with(begin))
        || (message.starts_with("not a") && message.ends_with(" compressed module"))
}

/// What a message of the kernel's about a module says, behind the module's name.
fn parse(message: &str) -> Option<(Kind, &str, &str)> {
    const PAIRS: [(Kind, [&str; 3]); 6] = [
        (Kind::Unknown, ["Unknown symbol ", " (err ", ")"]),
        (Kind::Namespace, ["module uses symbol (", ") from namespace ", ", but does not import it."]),
        (Kind::Duplicate, ["exports duplicate symbol ", " (owned by ", ")"]),
        (Kind::Magic, ["version magic '", "' should be '", "'"]),
        (Kind::Value, ["`", "' invalid for parameter `", "'"]),
        (Kind::Value, ["`", "' too large for parameter `", "'"]),
    ];
    let pair = PAIRS.iter().find_map(|(kind, [before, middle, after])| {
        between(message, before, middle, after).map(|(first, second)| (*kind, first, second))
    });
    let disagrees = || Some((Kind::Disagrees, message.strip_prefix("disagrees about version of symbol ")?, ""));
    let present = || message.starts_with("module is already loaded").then_some((Kind::Present, "", ""));
    pair.or_else(disagrees).or_else(present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    /// The message kept of a log: its kind, both texts, how many others.
    fn kept(name: &str, log: &str, since_us: u64) -> (Kind, String, String, usize) {
        let fake = Fake::default().with_file("/dev/kmsg", log.as_bytes());
        let messages = KernelLog::default().read(&fake, name, since_us);
        (messages.kind, messages.first.to_string(), messages.second.to_string(), messages.others)
    }

    #[test]
    fn the_kernels_messages_are_understood() {
        for (message, kind, first, second) in [
            ("m: Unknown symbol crc16 (err -2)", Kind::Unknown, "crc16", "-2"),
            ("m: disagrees about version of symbol module_layout", Kind::Disagrees, "module_layout", ""),
            (
                "m: module uses symbol (dma_buf_get) from namespace DMA_BUF, but does not import it.",
                Kind::Namespace,
                "dma_buf_get",
                "DMA_BUF",
            ),
            ("m: exports duplicate symbol crc16 (owned by crc16)", Kind::Duplicate, "crc16", "crc16"),
            (
                "m: version magic '6.1.0 SMP aarch64' should be '6.2.0 SMP aarch64'",
                Kind::Magic,
                "6.1.0 SMP aarch64",
                "6.2.0 SMP aarch64",
            ),
            ("m: `a b' invalid for parameter `queue_depth'", Kind::Value, "a b", "queue_depth"),
            ("m: `long' too large for parameter `name'", Kind::Value, "long", "name"),
            ("m: module is already loaded", Kind::Present, "", ""),
            ("Loading of unsigned module is rejected", Kind::Policy, "Loading of unsigned module is rejected", ""),
            ("decompression failed with status 6", Kind::Decoder, "decompression failed with status 6", ""),
            ("not an xz compressed module", Kind::Decoder, "not an xz compressed module", ""),
            (
                "ZSTD-compressed data has too large a window size",
                Kind::Decoder,
                "ZSTD-compressed data has too large a window size",
                "",
            ),
            ("usb 1-1: Direct firmware load for a/b.bin failed with error -2", Kind::Firmware, "a/b.bin", "-2"),
            ("m: something else", Kind::Text, "something else", ""),
            ("m 0000:00:01.0: no such thing", Kind::Text, "m 0000:00:01.0: no such thing", ""),
            ("m: loading out-of-tree module taints kernel.", Kind::Nothing, "", ""),
            ("m: unknown parameter 'x' ignored", Kind::Nothing, "", ""),
            ("mm: Unknown symbol crc16 (err -2)", Kind::Nothing, "", ""),
        ] {
            let log = format!("4,1,900,-;m: older\n4,2,500000,-;{message}\n SUBSYSTEM=m: none\n");
            assert_eq!(kept("m", &log, 400_000), (kind, first.into(), second.into(), 0), "{message}");
            assert_eq!(kept("m", &log, 700_001).0, Kind::Nothing);
        }
    }

    #[test]
    fn a_mark_tells_what_the_clock_of_the_log_shows() {
        // The load begins when the fake's clock shows 0, and that of the log 5000.
        let log = "4,1,4999,-;m: earlier\n4,2,4999,-;Lockdown: x: earlier\n4,3,5000,-;m: Unknown symbol a (err -2)\n\
            15,4,5000,-;modest: looks here for the cause of a failure\n";
        assert_eq!(kept("m", log, 0), (Kind::Unknown, "a".into(), "-2".into(), 0));
        let fake = Fake::default().with_file("/dev/kmsg", log.as_bytes());
        let read = |since_us| KernelLog::default().read(&fake, "m", since_us);
        assert!(!read(0).is_exact, "no time is known");
        assert!(read(10).is_exact);
        assert_eq!(fake.calls.take()[0], "log <7>modest: looks here for the cause of a failure\n");
        let (before, _) = log.rsplit_once("15,").unwrap();
        assert_eq!(kept("m", before, 5000), (Kind::Policy, "Lockdown: x: earlier".into(), "".into(), 0));
    }

    #[test]
    fn what_tells_most_is_kept() {
        let log = "4,1,0,-;m: loading out-of-tree module taints kernel.\n4,2,0,-;m: Unknown symbol a (err -2)\n\
            4,3,0,-;m: Unknown symbol b (err -2)\n4,3,0,-;m: Unknown symbol a (err -2)\n4,4,0,-;m: text\n";
        assert_eq!(kept("m", log, 0), (Kind::Unknown, "a".into(), "-2".into(), 1));
        let log = "4,1,0,-;m: disagrees about version of symbol a\n4,2,0,-;m: Unknown symbol a (err -22)\n";
        assert_eq!(kept("m", log, 0), (Kind::Disagrees, "a".into(), "".into(), 0));
        assert_eq!(KernelLog::default().read(&Fake::default(), "m", 0).kind, Kind::Nothing);
    }

    #[test]
    fn what_was_read_before_is_about_another_load() {
        let log = b"4,1,0,-;m: Unknown symbol a (err -2)\n";
        let fake = Fake::default().with_file("/dev/kmsg", log);
        let log = KernelLog::default();
        assert_eq!(log.read(&fake, "m", 0).kind, Kind::Unknown);
        assert_eq!(log.read(&fake, "m", 0).kind, Kind::Nothing);
        let other = KernelLog::default();
        other.skip(&fake);
        assert_eq!(other.read(&fake, "m", 0).kind, Kind::Nothing);
        assert_eq!(fake.calls.borrow().iter().filter(|call| *call == "open /dev/kmsg").count(), 4);
    }
}
