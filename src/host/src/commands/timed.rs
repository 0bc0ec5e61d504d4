//! Steps that may take long.

use std::io::IsTerminal;
use std::time::Instant;

/// A step that may take long: shown at once on a terminal, else only if it did.
pub struct Timed(&'static str, Instant);

impl Timed {
    pub fn new(name: &'static str) -> Timed {
        if std::io::stderr().is_terminal() {
            eprintln!("mkmodest: {name}");
        }
        Timed(name, Instant::now())
    }
}

impl Timed {
    /// The step is done, and was no failure, whose error would be lost behind this.
    pub fn done(self) {
        let seconds = self.1.elapsed().as_secs_f32();
        if seconds > 1.0 {
            eprintln!("mkmodest: {} took {seconds:.1} s", self.0);
        }
    }
}
