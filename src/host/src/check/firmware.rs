//! The firmware that a module may ask for.

use super::problem::{Kind, Problem};

/// What is missing of the firmware that a module names: `wanted` is what it asks for, `is_there` whether a file matches, and
/// `place` where they were looked for. If none at all is there, the module has nothing to run its device with. One that is in
/// the image for later may be for a device that there is not.
pub fn firmware(
    file: &str, wanted: &[String], is_there: &dyn Fn(&str) -> bool, place: &str, is_loaded: bool, is_strict: bool,
) -> Option<Problem> {
    let missing: Vec<_> = wanted.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    let all = if missing.len() == wanted.len() { "all" } else { "part" };
    let listed = match &missing[..] {
        [] => return None,
        [one] => (*one).to_string(),
        [one, more @ ..] => format!("{one} and {} more", more.len()),
    };
    let problem = Problem::new(
        Kind::Firmware,
        file,
        match (all, missing.len()) {
            ("all", _) => format!("asks for firmware {listed}, and none of it is in {place}"),
            _ => format!("may ask for firmware {listed}, not in {place}"),
        },
        "put it there, or pass --force if the device has it already",
    );
    Some(if is_strict || (all == "all" && is_loaded) { problem } else { problem.warning() })
}
