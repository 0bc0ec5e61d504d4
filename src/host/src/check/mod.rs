//! What is wrong with a module, and with modules that are to be loaded one after another: what the kernel would refuse, told
//! before it does (load_module of kernel/module/main.c).
//!
//! All decisions are here, for `mkmodest image` and `mkmodest check` alike. What can only be guessed is let be: a set that
//! loads is never refused. docs/checks.md lists what is looked at.

mod config;
mod firmware;
mod member;
mod misuse;
mod module;
mod most;
mod parameters;
mod problem;
mod report;
mod root;
mod set;
mod suppliers;
mod versions;

pub use config::{config, unreadable_firmware};
pub use firmware::firmware;
pub use member::{Around, Member};
pub use module::module;
pub use problem::{Kind, Level, Problem};
pub use report::{Checked, Report};
pub use root::{Root, root};
pub use set::set;
pub use suppliers::{DeviceSet, Lack};
