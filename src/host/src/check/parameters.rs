//! The parameters that a module is loaded with: whether it has them, and takes their values (kernel/params.c).

use modest_loader::text::Words;

use crate::module::info::{ModuleInfo, Parameter};

/// The parameters in a text, each with its value (next_arg of lib/cmdline.c).
pub fn arguments(params: &str) -> Vec<(String, Option<String>)> {
    let mut arguments = Vec::new();
    for (_, word) in Words::new(params) {
        if word == "--" {
            break;
        }
        let unquoted = |text: &str| {
            let inner = text.strip_prefix('"');
            inner.map_or(text, |inner| inner.strip_suffix('"').unwrap_or(inner)).to_string()
        };
        let word = unquoted(word);
        arguments.push(match word.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(unquoted(value))),
            None => (word, None),
        });
    }
    arguments
}

/// Whether a module takes an argument; else cause and remedy.
pub fn argument(info: &ModuleInfo, name: &str, value: Option<&str>) -> Result<(), (String, String)> {
    let folded = |name: &str| name.replace('-', "_");
    // Those of every module (unknown_module_param_cb).
    if matches!(folded(name).as_str(), "async_probe" | "dyndbg") {
        return Ok(());
    }
    let Some(parameter) = info.parameters.iter().find(|parameter| folded(&parameter.name) == folded(name)) else {
        if info.unnamed_parameters > 0 {
            return Ok(());
        }
        return Err(unknown(info, name, value));
    };
    let Some(kind) = parameter.kind.as_deref() else { return Ok(()) };
    let (element, is_array) = kind.strip_prefix("array of ").map_or((kind, false), |element| (element, true));
    // A setter of another name may take what it likes.
    if !info.needs.iter().any(|symbol| symbol.strip_prefix("param_ops_") == Some(element)) {
        return Ok(());
    }
    let is_64 = info.machine.is_some_and(|machine| machine.class == 2);
    let Some(expected) = expected(element, is_64) else { return Ok(()) };
    let Some(value) = value else {
        return match element {
            "bool" | "bool_enable_only" if !is_array => Ok(()),
            _ => {
                Err((format!("parameter `{name}` ({kind}) has no value"), format!("write `{name}=VALUE`, {expected}")))
            }
        };
    };
    let wrong = |value: &&str| !takes(element, is_64, value);
    let values: Vec<_> = if is_array { value.split(',').collect() } else { vec![value] };
    match values.iter().find(|value| wrong(value)) {
        None => Ok(()),
        Some(value) => {
            let shown = if value.is_empty() { "nothing".to_string() } else { format!("`{value}`") };
            Err((format!("parameter `{name}` ({kind}) cannot be {shown}"), format!("write {expected}")))
        }
    }
}

fn unknown(info: &ModuleInfo, name: &str, value: Option<&str>) -> (String, String) {
    const NEAR: f64 = 0.7;
    let shown = |parameter: &Parameter| match &parameter.kind {
        Some(kind) => format!("`{}` ({kind})", parameter.name),
        None => format!("`{}`", parameter.name),
    };
    // As qdepth is in queue_depth.
    let is_part = |whole: &str| {
        let mut letters = whole.chars();
        name.len() >= 3 && name.chars().all(|c| letters.any(|other| other == c))
    };
    let likeness = |parameter: &&Parameter| {
        strsim::jaro_winkler(&parameter.name, name) + if is_part(&parameter.name) { NEAR } else { 0.0 }
    };
    let near = info.parameters.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match near.filter(|parameter| likeness(parameter) >= NEAR) {
        Some(near) => {
            (format!("parameter `{name}` unknown; it has {}", shown(near)), format!("write `{}=`", near.name))
        }
        None => {
            let all: Vec<_> = info.parameters.iter().map(shown).collect();
            let has = if all.is_empty() { "none".into() } else { all.join(", ") };
            // Lists of other tools may have several modules in a line.
            let one = format!("if `{name}` is a module, write one module to a line");
            let remedy = match (value, all.is_empty()) {
                (None, true) => one,
                (None, false) => format!("write one of these; {one}"),
                (Some(_), true) => "leave it out".into(),
                (Some(_), false) => "write one of these".into(),
            };
            (format!("parameter `{name}` unknown; it has {has}"), remedy)
        }
    }
}

/// What a type takes, where kernel/params.c decides that.
fn expected(kind: &str, is_64: bool) -> Option<String> {
    match kind {
        "bool" | "invbool" | "bool_enable_only" => Some("y or n".into()),
        _ => range(kind, is_64).map(|(least, most)| format!("a number from {least} to {most}")),
    }
}

/// The least and the greatest number of a type.
fn range(kind: &str, is_64: bool) -> Option<(i128, i128)> {
    let of_bits = |bits: u32, is_signed: bool| match is_signed {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    };
    let long = if is_64 { 64 } else { 32 };
    Some(match kind {
        "byte" => of_bits(8, false),
        "short" => of_bits(16, true),
        "ushort" => of_bits(16, false),
        "int" => of_bits(32, true),
        "uint" | "hexint" => of_bits(32, false),
        "long" => of_bits(long, true),
        "ulong" => of_bits(long, false),
        "ullong" => of_bits(64, false),
        _ => return None,
    })
}

/// Whether a value is one of its type (kstrtobool, kstrtoint and others of lib/kstrtox.c).
fn takes(kind: &str, is_64: bool, value: &str) -> bool {
    let Some((least, most)) = range(kind, is_64) else {
        let mut letters = value.chars().map(|c| c.to_ascii_lowercase());
        return match letters.next() {
            Some('y' | 't' | '1' | 'n' | 'f' | '0') => true,
            Some('o') => matches!(letters.next(), Some('n' | 'f')),
            _ => false,
        };
    };
    let (sign, rest) = match value.as_bytes().first() {
        Some(b'-') if least < 0 => (-1, &value[1..]),
        Some(b'+') => (1, &value[1..]),
        _ => (1, value),
    };
    let lower = rest.to_ascii_lowercase();
    let (digits, base) = match lower.strip_prefix("0x") {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ if lower.starts_with('0') => (lower.as_str(), 8),
        _ => (lower.as_str(), 10),
    };
    // One that parse would take a sign of.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    i128::from_str_radix(digits, base).is_ok_and(|number| (least..=most).contains(&(sign * number)))
}
