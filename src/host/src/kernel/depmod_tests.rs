use super::super::builtin::{builtin_alias_bin, builtin_bin};
use super::*;
use modest_loader::format::Format;
use modest_loader::limits::INDEX_KEY_BYTES;
use modest_loader::resolve::index::Index;
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};
use proptest::prelude::*;

use crate::codec::encode;

/// A module with these pairs in its `.modinfo`, that exports and needs these symbols.
fn module(modinfo: &[&str], exported: &[&str], undefined: &[&str]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Arm, Endianness::Little);
    for (section, texts) in [(".modinfo", modinfo), ("__ksymtab_strings", exported)] {
        let id = object.add_section(Vec::new(), section.into(), SectionKind::ReadOnlyData);
        object.append_section_data(id, (texts.join("\0") + "\0").as_bytes(), 1);
    }
    for name in undefined {
        object.add_symbol(Symbol {
            name: name.as_bytes().into(),
            value: 0,
            size: 0,
            kind: SymbolKind::Unknown,
            scope: SymbolScope::Unknown,
            weak: false,
            section: SymbolSection::Undefined,
            flags: SymbolFlags::None,
        });
    }
    object.write().unwrap()
}

fn of<const N: usize>(modules: [(&str, Vec<u8>); N], order: &str) -> Result<Indexes, String> {
    Indexes::of_modules(modules, order).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_module_needs_those_that_have_its_symbols() {
    let indexes = of(
        [
            ("k/a.ko.xz", module(&[], &[], &["b1", "c1", "_printk"])),
            ("k/b.ko", module(&[], &["b1"], &["c1"])),
            ("k/c-d.ko", module(&[], &["c1"], &["_printk"])),
            ("k/without-symbols.ko", module(&["depends=b,none,c_d"], &[], &[])),
        ],
        "k/c-d.ko\nk/gone.ko\nk/a.ko\n",
    );
    let indexes = indexes.unwrap();
    let dep = "k/c-d.ko:\nk/a.ko.xz: k/b.ko k/c-d.ko\nk/b.ko: k/c-d.ko\nk/without-symbols.ko: k/b.ko k/c-d.ko\n";
    assert_eq!(indexes.dep(), dep);
    let bin = indexes.dep_bin().unwrap();
    assert_eq!(Index::new(&bin).unwrap().find("a"), Ok(Some("k/a.ko.xz: k/b.ko k/c-d.ko")));
    let symbols = "# Aliases for symbols, used by symbol_request().\nalias symbol:c1 c_d\nalias symbol:b1 b\n";
    assert_eq!(indexes.symbols(), symbols);
    let bin = indexes.symbols_bin().unwrap();
    assert_eq!(Index::new(&bin).unwrap().find("symbol:c1"), Ok(Some("c_d")));
}

#[test]
fn what_a_module_says_is_told_under_its_name() {
    let modinfo = ["alias=x-y*", "softdep=pre: c", "license=GPL", "alias=b]", "weakdep=d e"];
    let indexes = of([("k/a-b.ko", module(&modinfo, &[], &[]))], "").unwrap();
    assert_eq!(
        [indexes.alias(), indexes.softdep(), indexes.weakdep()],
        [
            "# Aliases extracted from modules themselves.\nalias x-y* a_b\nalias b] a_b\n",
            "# Soft dependencies extracted from modules themselves.\nsoftdep a_b pre: c\n",
            "# Weak dependencies extracted from modules themselves.\nweakdep a_b d e\n",
        ]
    );
    let bin = indexes.alias_bin().unwrap();
    assert_eq!(Index::new(&bin).unwrap().matches("x_yz").unwrap(), ["a_b"]);
    assert_eq!(all(&bin).len(), 1);
    let builtin = builtin_alias_bin(b"c.license=GPL\0c.alias=d-*\0c.file=k/c\0").unwrap();
    assert_eq!(all(&builtin), [("d_*".into(), "c".into())]);
    assert_eq!(all(&builtin_bin("k/c-d.ko\n").unwrap()), [("c_d".into(), String::new())]);
}

#[test]
fn updates_are_preferred() {
    let named = |symbol| module(&[], &[symbol], &["_printk"]);
    let indexes =
        of([("k/a.ko", named("old")), ("updates/a.ko.gz", named("new")), ("updates/z/a.ko", named("other"))], "");
    assert_eq!(indexes.unwrap().dep(), "updates/a.ko.gz:\n");
}

#[test]
fn what_has_no_indexes_is_named() {
    let circle = of(
        [
            ("k/user.ko", module(&[], &[], &["a1"])),
            ("k/a.ko", module(&[], &["a1"], &["c1"])),
            ("k/b.ko", module(&[], &["b1"], &["a1"])),
            ("k/c.ko", module(&[], &["c1"], &["b1", "d1"])),
            ("k/d.ko", module(&[], &["d1"], &[])),
        ],
        "",
    );
    let circles = ["k/a.ko needs k/c.ko needs k/b.ko needs k/a.ko"];
    assert_eq!(circle.unwrap_err(), format!("modules that need each other: {}", circles[0]));
    assert!(of([("k/a.ko", b"text".to_vec())], "").unwrap_err().starts_with("k/a.ko: "));
    let no_modinfo = Object::new(BinaryFormat::Elf, Architecture::Arm, Endianness::Little).write().unwrap();
    assert_eq!(of([("a.ko", no_modinfo)], "").unwrap_err(), "a.ko: not a module: no .modinfo in it");

    let index = |alias: &str| {
        let indexes = of([("k/a.ko", module(&[&format!("alias={alias}")], &[], &[]))], "").unwrap();
        indexes.alias_bin().map_err(|error| error.to_string())
    };
    assert_eq!(index("ä").unwrap_err(), "a key of an index that is not ASCII: ä");
    assert!(index(&"x".repeat(INDEX_KEY_BYTES)).is_ok());
    assert!(index(&"x".repeat(INDEX_KEY_BYTES + 1)).unwrap_err().starts_with("a: the alias is too long: xx"));
}

#[test]
fn a_tree_is_read_whatever_its_format() {
    let tmp = tempfile::tempdir().unwrap();
    let write = |file: &str, bytes: &[u8]| {
        let path = tmp.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    assert_eq!(Indexes::of_tree(tmp.path()).unwrap().dep(), "");
    let image = module(&[], &["a1"], &["_printk"]);
    let formats = [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd];
    for (i, format) in formats.into_iter().enumerate() {
        write(&format!("k/m{i}.ko{}", format.ending()), &encode(&image, format).unwrap());
    }
    let xz = encode(&module(&[], &[], &["a1"]), Format::Xz).unwrap();
    write("extra/x/a.ko.xz", &xz);
    write("build/b.ko", b"of the sources");
    write("k/modules.txt", b"text");
    write("modules.order", b"k/m3.ko\nk/m2.ko\n");
    let dep = "k/m3.ko.zst:\nk/m2.ko.xz:\nextra/x/a.ko.xz: k/m1.ko.gz\nk/m0.ko:\nk/m1.ko.gz:\n";
    assert_eq!(Indexes::of_tree(tmp.path()).unwrap().dep(), dep);
    for bytes in [&xz[..xz.len() - 20], &image[..image.len() - 20], b""] {
        write("extra/x/a.ko.xz", bytes);
        let indexes = Indexes::of_tree(tmp.path()).unwrap();
        let [error] = indexes.passed_over() else { panic!("{:?}", indexes.passed_over()) };
        assert!(error.starts_with(&format!("{}/extra/x/a.ko.xz: ", tmp.path().display())), "{error}");
        // Those that are good count all the same.
        assert_eq!(indexes.dep(), "k/m3.ko.zst:\nk/m2.ko.xz:\nk/m0.ko:\nk/m1.ko.gz:\n");
    }
    fs::remove_file(tmp.path().join("extra/x/a.ko.xz")).unwrap();
    std::os::unix::fs::symlink("nowhere", tmp.path().join("extra/x/a.ko.xz")).unwrap();
    assert_eq!(Indexes::of_tree(tmp.path()).unwrap().passed_over().len(), 1);
    let error = Indexes::of_tree(&tmp.path().join("none")).unwrap_err();
    assert!(format!("{error:#}").contains("/none: No such file"), "{error:#}");
}

fn all(index: &[u8]) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    Index::new(&index).unwrap().each(&mut |key, value| entries.push((key.into(), value.into()))).unwrap();
    entries
}

#[test]
fn of_values_of_one_priority_the_last_is_found() {
    let same = binary_index(["first", "last"].map(|value| (String::new(), 1, value.to_string()))).unwrap();
    assert_eq!(Index::new(&same).unwrap().find(""), Ok(Some("last")));
    assert_eq!(all(&same), [("".into(), "last".into()), ("".into(), "first".into())]);
}

proptest! {
    #[test]
    fn what_is_written_is_found(entries in prop::collection::vec(("[ab*-]{1,5}", 0u32..3, "[x-z]{0,2}"), 0..12)) {
        let file = binary_index(entries.clone()).unwrap();
        let index = Index::new(&file).unwrap();
        for (key, ..) in &entries {
            let least = entries.iter().rev().filter(|entry| entry.0 == *key).min_by_key(|entry| entry.1);
            prop_assert_eq!(index.find(key).unwrap(), least.map(|entry| entry.2.as_str()));
        }
        let mut expected: Vec<_> = entries.into_iter().map(|(key, _, value)| (key, value)).collect();
        let mut found = all(&file);
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
