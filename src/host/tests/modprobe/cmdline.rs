//! Options and blacklists on the kernel's command line.

use crate::kmod::{Kmod, assert_none};
use crate::random::{Files, Module, Tree};

/// Command lines, with all that looks like a module's option and is none.
const CASES: &[&str] = &[
    "",
    "\n",
    "BOOT_IMAGE=/vmlinuz-6.12 root=/dev/vda1 ro quiet",
    "plain.n=1",
    "plain.n=1\n",
    " \t plain.n=1  other.m=2 plain.k=3 ",
    "plain.n",
    "plain.n plain.m=2",
    "plain.n=",
    "plain.=1",
    "plain.",
    ".n=1",
    "plain=n.m",
    "plain.n.m=1",
    "plain.n.m",
    "plain.n=1.2",
    "plain.n=a.b.c=d",
    "plain.n==1",
    "plain.n=a=b",
    "plain.n=1,2,3",
    "plain.n=\"a b\"",
    "plain.n=\"a b\" plain.m=1",
    "plain.n=\"a b",
    "plain.n=\"a b plain.m=1",
    "plain.n=a\"b c\"d",
    "plain.n=a\"b\"",
    "plain.n=\"\"",
    "\"plain.n=a b\"",
    "\"plain.n=a b\" plain.m=1",
    "\"plain.n=a\"",
    "\"plain.n=\"",
    "\"plain.n=a b",
    "\"plain.n\"",
    "\"plain.n\" plain.m=1",
    "\"plain\".n=1",
    "\"plain\".n=1 plain.m=2",
    "plain\".n=1\"",
    "pla\"in.n=1",
    "plain.\"n=1\"",
    "plain.\"n\"=1",
    "plain.n\"=1 2\"",
    "plain.n\"=1\" plain.m=2",
    "\"\"plain.n=1",
    "\" plain.n=1\"",
    "\"quiet\" plain.n=1",
    "x=\"a b\" plain.n=1",
    "x=\"plain.n=1 plain.m=2\" plain.k=3",
    "x=\"plain.n=1",
    "plain.n='a b'",
    "plain.n=1 -- plain.m=2",
    "plain.n=1 plain.n=2",
    "plain.n=1\tplain.m=2\u{b}plain.k=3\u{c}plain.l=4\rplain.o=5",
    "plain.n=é",
    "PLAIN.n=1",
    "two_parts.n-m=1",
    "two-parts.n-m=1",
    "two-parts.n_m=1",
    "mod[a-b].n=1",
    "mod[a.n=1 plain.n=1",
    "alias-name.n=1",
    "alias_name.n=1",
    "needed.n=1 needs.m=2",
    "builtin.n=1",
    "modprobe.blacklist=plain",
    "modprobe.blacklist=plain,other",
    "modprobe.blacklist=other,plain,",
    "modprobe.blacklist=,plain",
    "modprobe.blacklist=",
    "modprobe.blacklist",
    "modprobe.blacklist plain.n=1",
    "modprobe.blacklist=\"plain,other\"",
    "\"modprobe.blacklist=plain,other\"",
    "modprobe.blacklist=two_parts",
    "modprobe.blacklist=two-parts",
    "modprobe.blacklist=needed",
    "modprobe.blacklist=needs",
    "modprobe.blacklist=alias_name",
    "modprobe.blacklist=plain modprobe.blacklist=other plain.n=1",
    "modprobe.blacklisted=plain",
    "modprobe.other=plain",
    "module_blacklist=plain",
    "module_blacklist=plain,two_parts plain.n=1",
    "blacklist=plain",
    "rd.driver.blacklist=plain",
];

/// What is asked with each of them.
const NAMES: [&str; 10] = [
    "plain",
    "other",
    "two_parts",
    "needs",
    "alias-name",
    "conf-alias",
    "builtin",
    "pci:plain",
    "pci:two",
    "pci:needs",
];

#[test]
fn what_the_command_line_says_of_modules() {
    let module =
        |name, deps, aliases: &[&'static str]| Module { name, deps, aliases: aliases.into(), ..Module::new(name) };
    let tree = Tree {
        modules: vec![
            module("plain", vec![], &["pci:plain*", "alias-name"]),
            module("other", vec![], &["pci:*"]),
            module("two-parts", vec![], &["pci:two"]),
            module("needed", vec![], &["pci:needed"]),
            module("needs", vec![3], &["pci:needs"]),
        ],
        builtin: vec![("builtin", vec![])],
        config: vec![("a.conf", vec!["options plain conf=1".into(), "alias conf-alias plain".into()])],
        cmdline: String::new(),
    };
    let files = Files::write(&tree);
    let mut kmod = Kmod::start();
    let mut differences = Vec::new();
    for case in CASES {
        kmod.set_cmdline(case);
        differences.extend(kmod.differences(&files.place(), &NAMES));
    }
    assert_none(differences, CASES.len() * NAMES.len());
}
