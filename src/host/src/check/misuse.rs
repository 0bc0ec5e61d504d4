//! A symbol that a module uses and may not, or in another version.

use super::problem::Kind;
use crate::module::info::ModuleInfo;
use crate::module::symbols::Export;

/// What a module gets a symbol from: the file, and what that says of it.
pub type Provider<'a> = (&'a str, &'a Export);

/// A symbol that a module uses and may not, or in another version.
pub struct Misuse<'a> {
    pub kind: Kind,
    pub from: &'a str,
    pub cause: String,
    pub remedy: String,
}

/// What stands for the kernel where others have a file.
pub const KERNEL: &str = "the kernel";

/// Holds what a module wants of a symbol to what its exporter says of it: license, name space, version.
pub fn misuses<'a>(info: &ModuleInfo, (from, export): Provider<'a>) -> Vec<Misuse<'a>> {
    let Export { name, crc, gpl_only, namespace } = export;
    let mut found = Vec::new();
    let mut add = |kind, cause, remedy: &str| found.push(Misuse { kind, from, cause, remedy: remedy.into() });
    if *gpl_only && !info.is_gpl() {
        let license = info.license.as_deref().unwrap_or("none");
        add(
            Kind::License,
            format!(
                "its license is {license}, and it uses {name}, which {from} exports for GPL-compatible modules only"
            ),
            "do without it, or state the license that the module has (MODULE_LICENSE)",
        );
    }
    if let Some(namespace) = namespace
        && !imports(info, namespace)
    {
        add(
            Kind::Namespace,
            format!("it does not import the name space {namespace}, in which {from} exports {name}"),
            &format!("add MODULE_IMPORT_NS({namespace}) to it"),
        );
    }
    let Some(has) = *crc else { return found };
    match info.version(name) {
        // Of the kernel's, others may tell too: see Set::versions.
        Some(wants) if wants == has || from == KERNEL => {}
        Some(wants) => add(
            Kind::Version,
            format!("wants symbol {name} with CRC {wants:#010x}; {from} exports it with {has:#010x}"),
            "take both from one build",
        ),
        // Then the kernel may not want them either.
        None if info.versions.is_empty() && !has_versions(info) => {}
        None => add(
            Kind::Version,
            format!("has no CRC for symbol {name}, which {from} exports with {has:#010x}"),
            "build it with the kernel's Module.symvers",
        ),
    }
    found
}

/// Whether the kernel that it is for wants CRCs.
fn has_versions(info: &ModuleInfo) -> bool {
    info.vermagic.as_deref().is_some_and(|magic| magic.split(' ').any(|word| word == "modversions"))
}

/// Whether a module may use a name space: it imports it, or it is one of those that the space is for (EXPORT_SYMBOL_FOR_MODULES,
/// verify_module_namespace).
fn imports(info: &ModuleInfo, namespace: &str) -> bool {
    let is_named = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => info.name.starts_with(start),
        None => info.name == pattern,
    };
    match namespace.strip_prefix("module:") {
        Some(names) => names.split(',').any(is_named),
        None => info.imports.iter().any(|import| import == namespace),
    }
}
