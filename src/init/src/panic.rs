//! What a fault of this program does: it reports itself, and as PID 1 applies the manifest's policy.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU8, Ordering};

use modest_loader::Path;
use modest_loader::limits::PATH_BYTES;
use modest_loader::manifest::OnError;
use modest_loader::report::{Level, Log};
use modest_loader::run::Policy;
use modest_loader::sys::{self, StringArray};

use crate::console::Console;
use crate::hand_over;

/// The exit code of a Rust program that panicked.
const PANICKED: u8 = 101;

// The policy that a panic applies. It has no context to take it from, so this is the program's one global.
static POLICY: AtomicU8 = AtomicU8::new(CONTINUE);
static POLICY_PATH: [AtomicU8; PATH_BYTES] = [const { AtomicU8::new(0) }; PATH_BYTES];
const CONTINUE: u8 = 0;
const REBOOT: u8 = 1;
const EXEC: u8 = 2;

/// Keeps the policy for a panic.
pub fn remember(policy: &OnError) {
    let kind = match policy {
        OnError::Continue | OnError::Stop => CONTINUE,
        OnError::Reboot => REBOOT,
        OnError::Exec(path) => {
            let bytes = path.bytes().chain(core::iter::once(0));
            for (to, byte) in POLICY_PATH.iter().zip(bytes) {
                to.store(byte, Ordering::Relaxed);
            }
            EXEC
        }
    };
    POLICY.store(kind, Ordering::Relaxed);
}

fn remembered() -> Policy {
    match POLICY.load(Ordering::Relaxed) {
        REBOOT => Policy::Reboot,
        EXEC => {
            let mut path = Path::new();
            for byte in POLICY_PATH.iter().map(|b| b.load(Ordering::Relaxed)).take_while(|b| *b != 0) {
                let _ = path.extend_from_bytes(&[byte]);
            }
            Policy::Exec(path)
        }
        _ => Policy::Continue,
    }
}

/// The way of a panic.
pub fn panicked(info: &PanicInfo) -> ! {
    let is_init = sys::getpid() == 1;
    let mut console = if is_init { Console::of_init() } else { Console::standard_error() };
    console.line(Level::Error, format_args!("a fault of modest itself at {}: {}", Place(info), info.message()));
    if is_init {
        hand_over::last_resort(&mut console, &remembered(), StringArray::EMPTY, StringArray::EMPTY)
    }
    sys::exit(PANICKED)
}

/// File and line of a panic.
struct Place<'a>(&'a PanicInfo<'a>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.location() {
            Some(at) => write!(f, "{}:{}", at.file(), at.line() as usize),
            None => f.write_str("an unknown place"),
        }
    }
}
