//! The house in layers: no file imports one of a layer above its own, and no files import each other in a circle.
//!
//! What a file imports is read from its paths, in `use` and anywhere else: those that begin with `crate`, `super`, `self`
//! or a module that the file itself declares. A path leads to the longest part of it that has a file, through what is handed
//! on by `pub use`; to hand on what is in a folder of its own is no import. Tests may import what they like: what is behind
//! `#[cfg(test)]` does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The layers of a crate from the top down; each part is a file, or a folder with all that is in it.
type Layers = &'static [&'static [&'static str]];

const HOST: Layers = &[
    &["main.rs"],
    &["commands"],
    &["guest.rs", "disk.rs"],
    &["image"],
    &["check"],
    &["device_tree"],
    &["kernel"],
    &["board.rs"],
    &["module"],
    &["codec.rs", "cores.rs", "program.rs", "words.rs", "lib.rs"],
];

const LOADER: Layers = &[
    &["run"],
    &["explain"],
    &["load"],
    &["resolve"],
    &["manifest.rs", "cmdline.rs", "root_device.rs"],
    &["decode"],
    &["program.rs"],
    &["elf"],
    &["sys"],
    &["kernel"],
    &[
        "limits.rs",
        "errno.rs",
        "name.rs",
        "path.rs",
        "text.rs",
        "format.rs",
        "source.rs",
        "report.rs",
        "load_path.rs",
        "pin.rs",
        "lib.rs",
    ],
];

/// A crate's files by their paths below `src`, each with the files that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn mkmodest_is_in_layers() {
    hold("host", &["lib.rs", "main.rs"], HOST);
}

#[test]
fn the_loader_is_in_layers() {
    hold("loader", &["lib.rs"], LOADER);
}

#[test]
fn the_program_has_no_circles() {
    let imports = imports(&src("init"), &["main.rs"]);
    assert_eq!(circles(&imports), [""; 0]);
}

#[test]
fn paths_are_read_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        fs::write(dir.path().join(file), text).unwrap();
    };
    write("lib.rs", "mod a; mod b; pub mod c; #[cfg_attr(x, path = \"twin.rs\")] mod d; // crate::b\n");
    write("a.rs", "use crate::{b::{self, Of}, c::S}; const TEXT: &str = \"crate::d\";");
    write("b.rs", "fn f() { g!(crate::c::deep::F) } mod x { use super::*; use super::super::d::D; }");
    write(
        "c/mod.rs",
        "mod deep; mod side; use deep::F; pub(crate) use side::{S as T, S}; #[cfg(test)] #[path = \"t.rs\"] mod tests;",
    );
    write("c/deep.rs", "use super::side::S; /// crate::b\nstruct F;");
    write("c/side.rs", "use b::a::x; pub(in crate::c) struct S(::c::b);");
    write("c/t.rs", "use crate::a;");
    write("d.rs", "use crate::name::of; #[cfg(test)] pub(crate) mod tests { use crate::a; }");
    write("twin.rs", "pub use super::c::deep::F as Of;");
    let imports = imports(dir.path(), &["lib.rs"]);
    let of = |file: &str| imports[file].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(imports.len(), 8);
    assert_eq!(of("a.rs"), ["b.rs", "c/side.rs"]);
    assert_eq!(of("b.rs"), ["c/deep.rs", "d.rs", "twin.rs"]);
    assert_eq!(of("c/mod.rs"), ["c/deep.rs"]);
    assert_eq!(of("c/deep.rs"), ["c/side.rs"]);
    assert_eq!(of("c/side.rs"), [""; 0]);
    assert_eq!((of("d.rs"), of("twin.rs")), (vec!["lib.rs"], vec!["c/deep.rs"]));
    assert_eq!(circles(&imports), [""; 0]);
    let upward = upward(&imports, &[&["c"], &["b.rs", "d.rs", "twin.rs"], &["a.rs", "lib.rs"]]);
    assert_eq!(
        upward,
        ["a.rs imports b.rs", "a.rs imports c/side.rs", "b.rs imports c/deep.rs", "twin.rs imports c/deep.rs"]
    );
}

#[test]
fn circles_are_found() {
    let imports = |pairs: &[(&str, &[&str])]| {
        let set = |all: &[&str]| all.iter().map(|file| file.to_string()).collect();
        pairs.iter().map(|(file, all)| (file.to_string(), set(all))).collect::<Imports>()
    };
    assert_eq!(circles(&imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), [""; 0]);
    let found = circles(&imports(&[("a", &["b"]), ("b", &["c", "d"]), ("c", &["a", "b"]), ("d", &[])]));
    assert_eq!(found, ["a imports b imports c imports a", "b imports c imports b"]);
}

fn src(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src")
}

/// Holds the crate in `src/NAME` to its layers.
fn hold(name: &str, roots: &[&str], layers: Layers) {
    let imports = imports(&src(name), roots);
    for part in layers.iter().copied().flatten() {
        assert!(imports.keys().any(|file| is_in(file, part)), "{name} has no {part}");
    }
    assert_eq!(upward(&imports, layers), [""; 0], "{name}: imports of layers above");
    assert_eq!(circles(&imports), [""; 0], "{name}: files that import each other");
}

fn is_in(file: &str, part: &str) -> bool {
    file == part || file.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'))
}

/// The imports of files in layers above.
fn upward(imports: &Imports, layers: &[&[&str]]) -> Vec<String> {
    let layer = |file: &str| {
        let found = layers.iter().position(|layer| layer.iter().any(|part| is_in(file, part)));
        found.unwrap_or_else(|| panic!("{file} is in no layer"))
    };
    let pairs = imports.iter().flat_map(|(file, all)| all.iter().map(move |other| (file, other)));
    let upward = pairs.filter(|(file, other)| layer(other) < layer(file));
    upward.map(|(file, other)| format!("{file} imports {other}")).collect()
}

/// Circles of files that import each other; without the last import of each there is none.
fn circles(imports: &Imports) -> Vec<String> {
    let (mut left, mut found) = (imports.clone(), Vec::new());
    while let Some(way) = circle(&mut left) {
        left.entry(way[way.len() - 2].clone()).or_default().remove(&way[0]);
        found.push(way.join(" imports "));
    }
    found
}

/// A circle, with the first file again at its end, if there is one; files in no circle are removed.
fn circle(left: &mut Imports) -> Option<Vec<String>> {
    // What imports nothing that is left is in no circle.
    while let Some((file, _)) = left.iter().find(|(_, all)| all.iter().all(|other| !left.contains_key(other))) {
        let file = file.clone();
        left.remove(&file);
    }
    let mut way = vec![left.keys().next()?.clone()];
    loop {
        let next = left[way.last()?].iter().find(|other| left.contains_key(*other))?.clone();
        let before = way.iter().position(|file| *file == next);
        way.push(next);
        if let Some(before) = before {
            return Some(way.split_off(before));
        }
    }
}

/// Reads a crate from its roots in the folder `src`.
fn imports(src: &Path, roots: &[&str]) -> Imports {
    let mut house = House::default();
    roots.iter().for_each(|root| house.add(src, root, &[]));
    let read = |(module, tokens): &(Module, TokenStream)| Paths::read(module, tokens.clone());
    let paths: BTreeMap<_, _> = house.files.iter().map(|(file, code)| (file.clone(), read(code))).collect();
    for path in paths.values() {
        house.handed_on.extend(path.handed_on.iter().cloned());
    }
    let files = paths.into_iter().map(|(file, paths)| {
        let imported = paths.found.iter().flat_map(|path| house.files_of(path));
        let imported = imported.filter(|other| **other != file).cloned().collect();
        (file, imported)
    });
    files.collect()
}

/// A module's path below its crate, without `crate`.
type Module = Vec<String>;

/// The files of a crate.
#[derive(Default)]
struct House {
    files: BTreeMap<String, (Module, TokenStream)>,
    /// The files of each module: of one that is chosen by a feature or an architecture, several.
    modules: BTreeMap<Module, Vec<String>>,
    /// Where paths lead that are handed on by `pub use`.
    handed_on: BTreeMap<Module, Module>,
}

impl House {
    /// Adds a file and those of the modules that it declares.
    fn add(&mut self, src: &Path, file: &str, module: &[String]) {
        let text = fs::read_to_string(src.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        self.modules.entry(module.to_vec()).or_default().push(file.into());
        let (parent, stem) = file.rsplit_once('/').unwrap_or(("", file));
        let own = match stem.strip_suffix(".rs") {
            Some("mod" | "lib" | "main") | None => parent.to_string(),
            Some(stem) => join(parent, stem),
        };
        for (name, paths) in declared(tokens.clone()) {
            let named = paths.iter().map(|path| join(parent, path));
            let usual = [join(&own, &format!("{name}.rs")), join(&own, &format!("{name}/mod.rs"))];
            let child = [module, &[name]].concat();
            for file in named.chain(usual).filter(|file| src.join(file).is_file()) {
                if !self.modules.get(&child).is_some_and(|files| files.contains(&file)) {
                    self.add(src, &file, &child);
                }
            }
        }
        self.files.insert(file.into(), (module.to_vec(), tokens));
    }

    /// The files of the longest part of a path that has some.
    fn files_of(&self, path: &[String]) -> &[String] {
        for len in (0..=path.len()).rev() {
            if let Some(files) = self.modules.get(&path[..len]) {
                return files;
            }
            if let Some(target) = self.handed_on.get(&path[..len]) {
                return self.files_of(&[target, &path[len..]].concat());
            }
        }
        &[]
    }
}

fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.into() } else { format!("{folder}/{file}") }
}

/// The modules that are declared without a body, each with what `path` attributes say of its file.
fn declared(tokens: TokenStream) -> Vec<(String, Vec<String>)> {
    let mut modules: Vec<(String, Vec<String>)> = Vec::new();
    let mut paths = Vec::new();
    let tokens: Vec<_> = tokens.into_iter().collect();
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                paths.extend(path_attribute(group.stream()))
            }
            TokenTree::Ident(word) if word == "mod" && !is_test(&tokens, i) => {
                if let (Some(name), Some(TokenTree::Punct(end))) = (tokens.get(i + 1), tokens.get(i + 2))
                    && end.as_char() == ';'
                {
                    modules.push((name.to_string(), std::mem::take(&mut paths)));
                }
            }
            TokenTree::Punct(end) if end.as_char() == ';' => paths.clear(),
            _ => {}
        }
    }
    modules
}

/// Whether the attributes before the `mod` at that place have `cfg(test)`.
fn is_test(tokens: &[TokenTree], at: usize) -> bool {
    let is_end = |token: &&TokenTree| match token {
        TokenTree::Punct(end) => end.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let own = tokens[..at].iter().rev().take_while(|token| !is_end(token));
    own.filter(|token| token.to_string().replace(' ', "") == "[cfg(test)]").count() > 0
}

/// The files that an attribute `path = "FILE"` names, or `cfg_attr(…, path = "FILE")`.
fn path_attribute(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let inner = tokens.iter().filter_map(|token| match token {
        TokenTree::Group(group) => Some(path_attribute(group.stream())),
        _ => None,
    });
    let own = tokens.windows(3).filter(|three| three[0].to_string() == "path" && three[1].to_string() == "=");
    let own = own.map(|three| three[2].to_string().trim_matches('"').to_string());
    inner.flatten().chain(own).collect()
}

/// The paths of a file that are its crate's.
struct Paths {
    module: Module,
    /// The modules that it declares.
    declared: BTreeSet<String>,
    found: Vec<Module>,
    /// What it hands on of modules in its own: by which path, and where that leads.
    handed_on: Vec<(Module, Module)>,
}

impl Paths {
    fn read(module: &[String], tokens: TokenStream) -> Paths {
        let declared = declared(tokens.clone()).into_iter().map(|(name, _)| name).collect();
        let mut paths = Paths { module: module.to_vec(), declared, found: Vec::new(), handed_on: Vec::new() };
        paths.walk(tokens, module);
        paths
    }

    /// Finds the paths in code of a module.
    fn walk(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut i = 0;
        while i < tokens.len() {
            let is_continued = i > 0 && tokens[i - 1].to_string() == ":";
            match &tokens[i] {
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(name), Some(TokenTree::Group(body))) = (tokens.get(i + 1), tokens.get(i + 2)) {
                        if !is_test(&tokens, i) {
                            self.walk(body.stream(), &[module, &[name.to_string()]].concat());
                        }
                        i += 2;
                    }
                }
                TokenTree::Ident(word) if !is_continued && separator(&tokens, i + 1) => {
                    if let Some(start) = self.start(&word.to_string(), module) {
                        let found = self.found.len();
                        let is_handed_on = i > 1 && tokens[i - 1].to_string() == "use" && is_public(&tokens[i - 2]);
                        i = self.path(&tokens, i + 3, start) - 1;
                        if is_handed_on {
                            self.hand_on(found, module);
                        }
                    }
                }
                // `pub(in PATH)` imports nothing.
                TokenTree::Group(group) if starts_with(group, "in") => {}
                TokenTree::Group(group) => self.walk(group.stream(), module),
                _ => {}
            }
            i += 1;
        }
    }

    /// Moves paths from number `from` on that lead into `module`, which hands them on, to [`Paths::handed_on`].
    fn hand_on(&mut self, from: usize, module: &[String]) {
        for path in self.found.split_off(from) {
            match path.last() {
                Some(name) if path.starts_with(module) && path.len() > module.len() + 1 => {
                    self.handed_on.push(([module, std::slice::from_ref(name)].concat(), path));
                }
                _ => self.found.push(path),
            }
        }
    }

    /// Where a path leads that begins with `word`; `None` if it is another crate's or begins with what was imported.
    fn start(&self, word: &str, module: &[String]) -> Option<Module> {
        match word {
            "crate" | "mkmodest" => Some(Vec::new()),
            "self" => Some(module.to_vec()),
            "super" => Some(module[..module.len().checked_sub(1)?].to_vec()),
            // Those of the file itself, not of a module in it.
            name if module == self.module && self.declared.contains(name) => {
                Some([module, &[name.to_string()]].concat())
            }
            _ => None,
        }
    }

    /// Reads the rest of a path, or the paths in braces, behind `::`; returns the place behind it.
    fn path(&mut self, tokens: &[TokenTree], at: usize, start: Module) -> usize {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => {
                let word = word.to_string();
                let path = match word.as_str() {
                    "super" => start[..start.len().saturating_sub(1)].to_vec(),
                    "self" => start,
                    _ => [start, vec![word]].concat(),
                };
                if separator(tokens, at + 1) {
                    return self.path(tokens, at + 3, path);
                }
                self.found.push(path);
                at + 1
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                for part in inner.split(|token| token.to_string() == ",").filter(|part| !part.is_empty()) {
                    self.path(part, 0, start.clone());
                }
                at + 1
            }
            // `*`, or the `<` of a generic type.
            _ => {
                self.found.push(start);
                at
            }
        }
    }
}

fn starts_with(group: &Group, word: &str) -> bool {
    group.stream().into_iter().next().is_some_and(|first| first.to_string() == word)
}

/// Whether a token ends `pub` or `pub(…)`.
fn is_public(token: &TokenTree) -> bool {
    match token {
        TokenTree::Ident(word) => word == "pub",
        TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis,
        _ => false,
    }
}

/// Whether `::` is at that place.
fn separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(c)) if c.as_char() == ':');
    is_colon(at) && is_colon(at + 1)
}
