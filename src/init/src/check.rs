//! `modest check`: what module files are, and what would keep this machine's kernel from taking them.

use core::ffi::CStr;

use modest_loader::explain::check;
use modest_loader::report::Pieces;
use modest_loader::sys::Linux;

use crate::console::print;
use crate::exit::{FAILED, LOADED, usage};

/// What `--help` says of it.
pub const HELP: &str = "
modest check [--json] FILE...
Tell what module files are, and what would keep this machine's kernel from taking them. Loads nothing.
Exit codes: 0 nothing, 1 something, 2 wrong usage.
";

/// Checks the files that the arguments name: the exit code.
pub fn applet(mut args: impl Iterator<Item = &'static CStr>) -> Option<u8> {
    let mut file = args.next();
    let is_json = file == Some(c"--json");
    if is_json {
        file = args.next();
    }
    let Some(file) = file else { return Some(usage("modest: check needs files\n")) };
    let mut problems = 0;
    for file in core::iter::once(file).chain(args) {
        let mut write = print;
        let mut pieces = Pieces::<512>::new(&mut write);
        problems += check::write_report(&Linux, file, is_json, &mut pieces);
        pieces.flush();
    }
    Some(if problems == 0 { LOADED } else { FAILED })
}
