//! Steps that may take long.

use std::io::IsTerminal;
use std::time::Instant;

/// A step that may take long: told at once to a person, else only if it did.
pub struct Step(&'static str, Instant);

impl Step {
    pub fn new(name: &'static str) -> Step {
        if std::io::stderr().is_terminal() {
            eprintln!("mkmodest: {name}");
        }
        Step(name, Instant::now())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let seconds = self.1.elapsed().as_secs_f32();
        if seconds > 1.0 {
            eprintln!("mkmodest: {} took {seconds:.1} s", self.0);
        }
    }
}
