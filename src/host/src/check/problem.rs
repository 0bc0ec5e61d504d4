//! A problem: what is wrong, where, and what to do.

use std::fmt;

use serde::Serialize;

/// Something that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it keeps a module from being loaded as it is meant.
    pub level: Level,
    /// What it is about.
    pub kind: Kind,
    /// The module's file.
    pub file: String,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The kernel refuses the module, or it does not do what is asked.
    Problem,
    /// It may well be meant.
    Warning,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Kind {
    Config,
    Elf,
    File,
    Firmware,
    License,
    Machine,
    Manifest,
    Name,
    Namespace,
    Parameter,
    Root,
    Struct,
    Supplier,
    Symbol,
    Vermagic,
    Version,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Problem { file, cause, remedy, .. } = self;
        write!(f, "{file}: {cause}: {remedy}")
    }
}

impl Problem {
    /// One that keeps a module from being loaded.
    pub fn new(kind: Kind, file: &str, cause: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { level: Level::Problem, kind, file: file.into(), cause: cause.into(), remedy: remedy.into() }
    }

    /// The same as no more than a warning.
    pub fn warning(self) -> Problem {
        Problem { level: Level::Warning, ..self }
    }

    /// Whether it keeps a module from being loaded.
    pub fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }
}
