//! `modest check`: what a module file is, and what would keep this machine's kernel from taking it. Loads nothing.

use core::ffi::CStr;
use core::fmt::{self, Display, Write};

use super::cause::Cause;
use super::errnos::of_open;
use super::inquiry::zeros_in;
use super::kallsyms;
use crate::elf::{Bytes, Elf, Fault, NAME_BYTES, THIS_MACHINE};
use crate::kernel::machine::is_live;
use crate::kernel::{FileKind, Kernel, read_small};
use crate::load::{self, Failure};
use crate::name::{self, Name};
use crate::path;
use crate::report::shown;

type Image<'b> = Elf<&'b mut dyn Bytes>;

/// Writes what there is to say of the module in `file` to `out`: lines of `key: value`, or one line of JSON. Returns
/// the number of problems.
pub fn write_report<K: Kernel>(kernel: &K, file: &CStr, is_json: bool, out: &mut dyn Write) -> usize {
    let mut out = Out { out, is_json, problems: 0 };
    out.begin(shown(file));
    describe_file(kernel, file, &mut out);
    out.end()
}

fn describe_file<K: Kernel>(kernel: &K, path: &CStr, out: &mut Out) {
    let file = match kernel.open(path) {
        Ok(file) => file,
        Err(errno) => return out.problem(&format_args!("{errno}: {}", of_open(errno))),
    };
    match kernel.stat(&file) {
        Ok(stat) if stat.kind != FileKind::Regular => return out.problem(&Fault::NotRegular(stat.kind)),
        _ => {}
    }
    if let Ok(format) = crate::decode::format_of(kernel, &file) {
        out.pair("format", &format.name());
    }
    let looked = load::with_image(kernel, None, file, &mut |bytes| {
        let described = Elf::open(bytes, Some(THIS_MACHINE)).and_then(|mut elf| {
            let mut buf = [0; NAME_BYTES];
            let name = Name(elf.name(&mut buf)?);
            describe(&mut elf, name, out)?;
            out.raw("loaded", &is_live(kernel, name));
            find_problems(kernel, path, (&mut elf, name), out)
        });
        if let Err(fault) = described {
            out.problem(&fault);
        }
    });
    if let Err(failure) = looked {
        let fault = if matches!(failure, Failure::Decode(_)) { zeros_in(kernel, path) } else { None };
        out.problem(&Cause { failure, fault });
    }
}

/// Writes what the module says of itself.
fn describe(elf: &mut Image, name: Name, out: &mut Out) -> Result<(), Fault> {
    out.pair("name", &name);
    out.pair("machine", &elf.machine());
    for wanted in ["version", "vermagic", "license"] {
        elf.info(&mut |key, value| {
            if key == wanted {
                out.pair(wanted, &value);
            }
        })?;
    }
    out.raw("signed", &elf.is_signed());
    out.list("depends", &mut |item| elf.depends(&mut |needed| item(&needed)))?;
    out.list("parameters", &mut |item| {
        elf.info(&mut |key, value| {
            if key == "parmtype" {
                item(&value);
            }
        })
    })?;
    let mut symbols = 0usize;
    elf.undefined(&mut |_| symbols += 1)?;
    out.raw("symbols", &symbols);
    let mut versions = 0usize;
    elf.versions(&mut |_, _| versions += 1)?;
    out.raw("versions", &versions);
    Ok(())
}

/// Writes what would keep the kernel from taking the module.
fn find_problems<K: Kernel>(
    kernel: &K, path: &CStr, (elf, name): (&mut Image, Name), out: &mut Out,
) -> Result<(), Fault> {
    let by_file = name::of(shown(path));
    if by_file != name {
        out.problem(&format_args!("its file is named {by_file}, but the kernel will call the module {name}"));
    }
    let mut release = [0; 65];
    if let Ok(release) = kernel.release(&mut release) {
        elf.release(&mut |built_for| {
            if built_for != release {
                out.problem(&format_args!("it was built for {built_for}, but this kernel is {release}"));
            }
        })?;
    }
    let enforces =
        read_small(kernel, c"/sys/module/module/parameters/sig_enforce", &mut [0; 8]).is_ok_and(|is| is == b"Y");
    if enforces && !elf.is_signed() {
        out.problem(&"it is not signed, and this kernel takes only signed modules");
    }
    // Of an absent module all symbols are missing: it is enough to name that.
    if lacks_modules(kernel, elf, out)? || is_live(kernel, name) {
        return Ok(());
    }
    find_missing_symbols(kernel, elf, out)
}

/// Whether modules are missing that this one needs.
fn lacks_modules<K: Kernel>(kernel: &K, elf: &mut Image, out: &mut Out) -> Result<bool, Fault> {
    let mut lacks = false;
    elf.depends(&mut |needed| {
        if !is_there(kernel, Name(needed)) {
            lacks = true;
            out.problem(&format_args!("it needs `{needed}`, which is not loaded: load that first"));
        }
    })?;
    Ok(lacks)
}

fn find_missing_symbols<K: Kernel>(kernel: &K, elf: &mut Image, out: &mut Out) -> Result<(), Fault> {
    // A list without data lacks symbols that exist: it proves nothing.
    let is_proof = kallsyms::missing(kernel, elf, &mut |_| {})? == Some(true);
    if is_proof {
        kallsyms::missing(kernel, elf, &mut |symbol| {
            out.problem(&format_args!(
                "it needs the symbol `{symbol}`, which neither this kernel nor a loaded module has"
            ));
        })?;
    }
    Ok(())
}

/// Whether the kernel has the module, loaded or built in.
fn is_there<K: Kernel>(kernel: &K, name: Name) -> bool {
    is_live(kernel, name) || path::spelled(format_args!("/sys/module/{name}")).is_some_and(|path| kernel.exists(&path))
}

/// Takes the items of a list.
type Item<'i> = &'i mut dyn FnMut(&dyn Display);

/// Where what is found goes.
struct Out<'w> {
    out: &'w mut dyn Write,
    is_json: bool,
    problems: usize,
}

impl Out<'_> {
    fn put(&mut self, text: fmt::Arguments) {
        // What nobody takes is lost to nobody.
        let _ = self.out.write_fmt(text);
    }

    fn begin(&mut self, file: &str) {
        match self.is_json {
            true => self.put(format_args!("{{\"file\":{}", Json(&file))),
            false => self.put(format_args!("{file}:\n")),
        }
    }

    fn pair(&mut self, key: &str, value: &dyn Display) {
        match self.is_json {
            true => self.put(format_args!(",\"{key}\":{}", Json(value))),
            false => self.put(format_args!("  {key}: {value}\n")),
        }
    }

    /// A number, or whether something is so.
    fn raw(&mut self, key: &str, value: &dyn Display) {
        match self.is_json {
            true => self.put(format_args!(",\"{key}\":{value}")),
            false => self.put(format_args!("  {key}: {value}\n")),
        }
    }

    fn list(&mut self, key: &str, each: &mut dyn FnMut(Item) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut count = 0;
        match self.is_json {
            true => self.put(format_args!(",\"{key}\":[")),
            false => self.put(format_args!("  {key}:")),
        }
        let result = each(&mut |item| {
            let comma = if count == 0 { "" } else { "," };
            match self.is_json {
                true => self.put(format_args!("{comma}{}", Json(item))),
                false => self.put(format_args!("{comma} {item}")),
            }
            count += 1;
        });
        self.put(format_args!("{}", if self.is_json { "]" } else { "\n" }));
        result
    }

    fn problem(&mut self, what: &dyn Display) {
        match (self.is_json, self.problems) {
            (true, 0) => self.put(format_args!(",\"problems\":[{}", Json(what))),
            (true, _) => self.put(format_args!(",{}", Json(what))),
            (false, _) => self.put(format_args!("  problem: {what}\n")),
        }
        self.problems += 1;
    }

    fn end(&mut self) -> usize {
        if self.is_json {
            self.put(format_args!("{}", if self.problems == 0 { ",\"problems\":[]}\n" } else { "]}\n" }));
        }
        self.problems
    }
}

/// Text as a string of JSON (RFC 8259).
struct Json<'a>(&'a dyn Display);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaped<'f, 'g>(&'f mut fmt::Formatter<'g>);
        impl Write for Escaped<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    '"' | '\\' => write!(self.0, "\\{c}"),
                    '\0'..='\x1f' => write!(self.0, "\\u{:04x}", c as u32),
                    c => self.0.write_char(c),
                })
            }
        }
        f.write_char('"')?;
        write!(Escaped(f), "{}", self.0)?;
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made::Made;
    use crate::kernel::fake::Fake;

    const INFO: &[&str] =
        &["license=GPL", "vermagic=6.1.0-test SMP", "depends=a,b", "parmtype=x:int", "parmtype=y:charp"];

    fn checked(fake: &Fake, file: &CStr, is_json: bool) -> (usize, String) {
        let mut text = String::new();
        let problems = write_report(fake, file, is_json, &mut text);
        (problems, text)
    }

    fn fake(info: &[&str]) -> Fake {
        let image = Made { info, needs: &[("printk", 1), ("one", 2)], ..Made::default() }.image();
        Fake::default()
            .with_file("/made.ko", &image)
            .with_file("/sys/module/a/initstate", b"live\n")
            .with_file("/sys/module/b", b"")
            .with_file("/proc/kallsyms", b"0 D init_task\n0 D printk\n0 T one\t[a]\n")
    }

    #[test]
    fn a_good_module_has_no_problem() {
        let (problems, text) = checked(&fake(INFO), c"/made.ko", false);
        let machine = THIS_MACHINE;
        let want = format!(
            "/made.ko:\n  format: plain\n  name: made\n  machine: {machine}\n  vermagic: 6.1.0-test SMP\n  license: GPL\n  \
             signed: false\n  depends: a, b\n  parameters: x:int, y:charp\n  symbols: 2\n  versions: 2\n  loaded: false\n"
        );
        assert_eq!((problems, text), (0, want));
        let (problems, text) = checked(&fake(INFO), c"/made.ko", true);
        let want = format!(
            "{{\"file\":\"/made.ko\",\"format\":\"plain\",\"name\":\"made\",\"machine\":\"{machine}\",\
             \"vermagic\":\"6.1.0-test SMP\",\"license\":\"GPL\",\"signed\":false,\"depends\":[\"a\",\"b\"],\
             \"parameters\":[\"x:int\",\"y:charp\"],\"symbols\":2,\"versions\":2,\"loaded\":false,\"problems\":[]}}\n"
        );
        assert_eq!((problems, text), (0, want));
    }

    #[test]
    fn each_problem_is_named() {
        let problems = |fake: &Fake, file: &CStr| {
            let (count, text) = checked(fake, file, false);
            let lines: Vec<_> =
                text.lines().filter_map(|line| line.strip_prefix("  problem: ")).map(String::from).collect();
            assert_eq!(lines.len(), count);
            lines
        };
        let other = fake(&["vermagic=6.2.0 SMP", "depends=none"])
            .with_file("/sys/module/module/parameters/sig_enforce", b"Y\n");
        assert_eq!(
            problems(&other, c"/made.ko"),
            [
                "it was built for 6.2.0, but this kernel is 6.1.0-test",
                "it is not signed, and this kernel takes only signed modules",
                "it needs `none`, which is not loaded: load that first",
            ]
        );
        let lacking = fake(INFO).with_file("/proc/kallsyms", b"0 D init_task\n0 D printk\n");
        assert_eq!(
            problems(&lacking, c"/made.ko"),
            ["it needs the symbol `one`, which neither this kernel nor a loaded module has"]
        );
        let unproven = fake(INFO).with_file("/proc/kallsyms", b"0 T printk\n0 d between\n");
        assert_eq!(problems(&unproven, c"/made.ko"), [""; 0]);
        let renamed = fake(INFO).with_file("/o-ther.ko", &Made { info: INFO, ..Made::default() }.image());
        assert_eq!(
            problems(&renamed, c"/o-ther.ko"),
            ["its file is named o_ther, but the kernel will call the module made"]
        );
        let bad = fake(INFO).with_file("/bad.ko", b"<html>").with_file("/bad.ko.gz", b"\x1f\x8b\x08");
        assert_eq!(
            problems(&bad, c"/bad.ko"),
            ["the file is not a module: it begins with 3c 68 74 6d, not with the ELF magic"]
        );
        assert_eq!(problems(&bad, c"/none.ko"), ["ENOENT: no such file"]);
        if cfg!(feature = "gzip") {
            assert_eq!(problems(&bad, c"/bad.ko.gz"), ["the compressed file ends too early"]);
            let (_, text) = checked(&bad, c"/bad.ko.gz", true);
            let want = "\"format\":\"gzip\",\"problems\":[\"the compressed file ends too early\"]}\n";
            assert!(text.ends_with(want), "{text}");
        }
        assert_eq!(Json(&"a\"\\\n\u{e4}").to_string(), "\"a\\\"\\\\\\u000a\u{e4}\"");
    }
}
