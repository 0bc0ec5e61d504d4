//! A line of `modules.dep` (modules.dep(5)).

use crate::text;

/// The files that a module is in and needs, by its line in `modules.dep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files<'b> {
    target: &'b str,
    /// As in `modules.dep`: what is needed first stands last.
    dependencies: &'b str,
}

impl<'b> Files<'b> {
    /// What a line of `modules.dep` says (modules.dep(5)); one without a `:` is a path alone.
    pub fn of_line(line: &'b str) -> Self {
        let (target, dependencies) = text::split_once(line, b':').unwrap_or((line, ""));
        Files { target, dependencies }
    }

    /// The files that the target needs, in the order to load them.
    pub fn dependencies(self) -> impl Iterator<Item = &'b str> {
        let mut rest = self.dependencies.trim_ascii();
        core::iter::from_fn(move || {
            let (before, last) = text::rsplit_once(rest, b' ').unwrap_or(("", rest));
            rest = before.trim_ascii_end();
            (!last.is_empty()).then_some(last)
        })
    }

    /// The file that the entry names.
    pub fn target(self) -> &'b str {
        self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_modules_dep_names_files() {
        let files = |line| {
            let files = Files::of_line(line);
            files.dependencies().chain([files.target()]).map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(files("k/a.ko: k/b.ko  k/c.ko "), ["k/c.ko", "k/b.ko", "k/a.ko"]);
        assert_eq!((files("a.ko:"), files("a.ko")), (vec!["a.ko".into()], vec!["a.ko".into()]));
    }
}
