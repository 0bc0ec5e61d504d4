//! What was checked, for people and as JSON.

use std::fmt;

use anyhow::Result;
use modest_loader::format::Format;
use modest_loader::name;
use serde::Serialize;

use super::module::module;
use super::problem::{Kind, Problem};
use crate::codec::{beyond_kernel, decode, has_no_check};
use crate::module::info::{ModuleInfo, Parameter};
use crate::module::map::Map;

/// What was checked, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The modules, first those that are loaded, in their order.
    pub modules: Vec<Checked>,
    /// What is wrong with them.
    pub problems: Vec<Problem>,
}

/// A module that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its file.
    pub file: String,
    /// What it tells.
    #[serde(flatten)]
    pub info: ModuleInfo,
    /// Where the kernel puts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<Map>,
}

impl Report {
    /// Of one module's file: `bytes` is what it holds, compressed or not. An error where it cannot be looked at.
    pub fn of_file(file: &str, bytes: &[u8], with_map: bool) -> Result<Report> {
        let mut report = Report::default();
        let has = Format::of(bytes);
        let named = name::strip_ko(file).map(|(_, named)| named);
        if let Some(named) = named.filter(|named| *named != has) {
            let cause = format!("named as {}, but it is {}", named.name(), has.name());
            let remedy = format!("let its name end in .ko{}", has.ending());
            report.problems.push(Problem::new(Kind::File, file, cause, remedy));
        }
        let image = match decode(bytes) {
            Ok(image) => image,
            Err(error) => {
                let cause = format!("not to be decompressed as {}: {error}", has.name());
                report.problems.push(Problem::new(Kind::File, file, cause, "take the file as it was built"));
                return Ok(report);
            }
        };
        report.problems.extend(compression(file, bytes)?);
        let info = ModuleInfo::read(&image);
        report.problems.extend(module(file, &info));
        let map = (with_map && info.fault.is_none()).then(|| Map::of(&image, &info).ok()).flatten();
        report.modules.push(Checked { file: file.into(), info, map });
        Ok(report)
    }

    /// Whether something keeps a module from being loaded.
    pub fn has_problem(&self) -> bool {
        self.problems.iter().any(Problem::is_problem)
    }
}

/// What a compressed file has that serves less well than it could.
fn compression(file: &str, bytes: &[u8]) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    if let Some(what) = beyond_kernel(bytes)? {
        let cause = format!("the kernel's own decoder does not take it: {what}");
        let remedy = "modest decodes it itself; `--check=crc32`, or a plain gzip, is for the kernel too";
        problems.push(Problem::new(Kind::File, file, cause, remedy).warning());
    }
    if has_no_check(bytes) {
        let remedy = "compress it with `xz --check=crc32`, or pin it";
        problems.push(Problem::new(Kind::File, file, "it has no checksum, so damage goes unseen", remedy).warning());
    }
    Ok(problems)
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Checked { file, info, map } = self;
        let machine = info.machine.map_or("no machine".into(), |machine| machine.to_string());
        let signed = if info.is_signed { "signed" } else { "not signed" };
        let name = if info.name.is_empty() { "no module" } else { &info.name };
        writeln!(f, "{file}: {name}, for {machine}, {signed}")?;
        let text = |text: &Option<String>| text.clone().unwrap_or("none".into());
        writeln!(f, "  vermagic: {}", text(&info.vermagic))?;
        writeln!(f, "  license: {}", text(&info.license))?;
        let list = |names: &[String]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
        writeln!(f, "  depends: {}", list(&info.depends))?;
        writeln!(f, "  symbols: needs {}, exports {}", info.needs.len(), info.exports.len())?;
        for name in &info.firmware {
            writeln!(f, "  firmware: {name}")?;
        }
        for Parameter { name, kind, description } in &info.parameters {
            let kind = kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            let text = description.as_ref().map(|text| format!(": {}", text.trim())).unwrap_or_default();
            writeln!(f, "  parameter: {name}{kind}{text}")?;
        }
        match map {
            Some(map) => write!(f, "{map}"),
            None => Ok(()),
        }
    }
}
