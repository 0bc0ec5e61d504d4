//! The ways out of PID 1: the next init, what the policy says where there is none, and a message that stays.

use core::ffi::CStr;

use modest_loader::errno::Errno;
use modest_loader::explain;
use modest_loader::report::{Level, Log, shown};
use modest_loader::run::Policy;
use modest_loader::sys::{self, Reboot, StringArray};

use crate::console::Console;

/// Runs `path` in place of this program; returns only if that fails, and reports why.
pub fn exec(console: &mut Console, path: &CStr, argv: StringArray, envp: StringArray) {
    console.line(Level::Debug, format_args!("exec {}", shown(path)));
    // The next init shall find no zombies that it knows nothing of.
    while sys::reap() {}
    let errno = sys::execve(path, argv, envp);
    let meaning = match errno {
        Errno::ENOENT => "it or its interpreter is not there",
        Errno::EACCES => "it is not an executable file",
        Errno::ENOEXEC => "it is not a program for this machine",
        Errno::E2BIG => "it would get too many arguments",
        other => explain::of_open(other),
    };
    console.line(Level::Error, format_args!("next init {}: {errno}: {meaning}", shown(path)));
}

/// What is left without a next init: the declared policy, and after it a message that stays.
pub fn last_resort(console: &mut Console, policy: &Policy, argv: StringArray, envp: StringArray) -> ! {
    match policy {
        Policy::Reboot => {
            console.line(Level::Error, format_args!("restarting, by @on-error reboot"));
            let errno = sys::reboot(Reboot::Restart);
            console.line(Level::Error, format_args!("the kernel does not restart: {errno}"));
        }
        Policy::Exec(path) => {
            console.line(Level::Error, format_args!("going on with {}, by @on-error exec", shown(path)));
            exec(console, path, argv, envp);
        }
        Policy::Continue | Policy::Stop => {}
    }
    halt(console)
}

/// Waits for ever, with a message on the console, and on one that appears later.
fn halt(console: &mut Console) -> ! {
    let mut is_said = false;
    loop {
        let is_there = console.find();
        if !is_said {
            console.line(
                Level::Error,
                format_args!("stopped here: no init to go on with (see above). Restart the machine."),
            );
            is_said = is_there;
        }
        while sys::reap() {}
        sys::sleep_ms(1000);
    }
}
