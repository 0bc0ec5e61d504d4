//! Names: depmod's indexes, modprobe.d, plans, devices.

use modest_index_writer::binary_index;
use modest_loader::kernel::Kernel;
use modest_loader::limits::{ALIAS_MATCHES, CONFIG_BYTES, PLAN_VISITED};
use modest_loader::name::{self, Name};
use modest_loader::resolve::config::{Config, ConfigError, Writer};
use modest_loader::resolve::dep::Files;
use modest_loader::resolve::devices as sysfs;
use modest_loader::resolve::index::Index;
use modest_loader::resolve::pattern::{matches_pattern, normalize_alias};
use modest_loader::resolve::plan::{Action, Blacklists, Indexes, PlanError, Step, plan};
use modest_loader::resolve::table::Table;

use crate::text::commands;
use crate::{Input, utf8};

/// A key before its first wildcard, and from there.
fn halves(key: &str) -> (&str, &str) {
    key.split_at(key.find(['*', '?', '[']).unwrap_or(key.len()))
}

/// Whether an index finds what has this key for `text`.
fn is_found(key: &str, text: &str) -> bool {
    let (literal, pattern) = halves(key);
    text.strip_prefix(literal).is_some_and(|rest| matches_pattern(pattern, rest))
}

/// A binary index: what it lists is what it finds, by key and by pattern.
pub fn index(data: &[u8]) {
    let mut input = Input(data);
    let kernel = input.kernel();
    let mut parts = input.parts();
    let asked = utf8(parts.next().unwrap_or_default());
    let file = parts.collect::<Vec<_>>().join(crate::PART);
    let kernel = kernel.with_file("/i", &file);
    let paged = kernel.paged(kernel.open(c"/i").unwrap(), file.len()).unwrap();
    let is_whole = kernel.fails_from.is_none_or(|from| from >= file.len() as u64);
    let Ok(index) = Index::new(&paged) else { return };
    let mut entries: Vec<(String, &str)> = Vec::new();
    let listed = index.each(&mut |key, value| entries.push((key.into(), value)));
    let keys = entries.iter().map(|(key, _)| key.as_str()).chain(asked.split('\n'));
    for key in keys.take(64) {
        let (found, matches) = (index.find(key), index.matches(key));
        if !is_whole || listed.is_err() {
            continue;
        }
        let by_key: Vec<_> = entries.iter().filter(|(other, _)| other == key).map(|(_, value)| *value).collect();
        assert_eq!(found, Ok(by_key.first().copied()), "{key:?}");
        let mut expected: Vec<_> = entries.iter().filter(|(other, _)| is_found(other, key)).map(|(_, v)| *v).collect();
        match matches {
            Ok(matches) => {
                let mut matches = matches.to_vec();
                matches.sort_unstable();
                expected.sort_unstable();
                assert_eq!(matches, expected, "{key:?}");
            }
            Err(_) => assert!(expected.len() > ALIAS_MATCHES, "{matches:?} for {key:?}"),
        }
    }
}

fn normal(text: &str) -> Option<String> {
    let mut normal = heapless::String::<512>::new();
    normalize_alias(text, &mut normal).ok().map(|()| normal.to_string())
}

/// The index that depmod would make of a text; `None` for what a binary index cannot hold.
#[doc(hidden)]
pub fn indexed(file: &str, text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    let alias = |(pattern, name): (&str, &str)| Some((normal(pattern)?, name.to_string()));
    let pairs: Vec<(String, String)> = match file {
        "modules.dep" => {
            let name_of = |line: &str| name::of(line.split(':').next().unwrap_or_default()).to_string();
            text.split('\n').map(|line| (name_of(line), line.to_string())).collect()
        }
        "modules.builtin.modinfo" => {
            let pairs = text.split('\0').filter_map(|text| text.split_once('.'));
            pairs.filter_map(|(name, rest)| alias((rest.strip_prefix("alias=")?, name))).collect()
        }
        _ => {
            let pairs = text.split('\n').filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '));
            pairs.filter_map(|(pattern, name)| alias((pattern, name.trim_ascii()))).collect()
        }
    };
    if pairs.iter().any(|(key, _)| key.len() > 500) {
        return None;
    }
    // Priorities are those of modules: each value has its own here, in the order of the text.
    binary_index((1..).zip(pairs).map(|(priority, (key, value))| (key, priority, value))).ok()
}

/// The texts that stand in for binary indexes: both answer alike.
pub fn tables(data: &[u8]) {
    let mut parts = Input(data).parts();
    let asked = utf8(parts.next().unwrap_or_default());
    for (file, text) in ["modules.dep", "modules.alias", "modules.builtin.modinfo"].into_iter().zip(parts) {
        let table = Table::text(file, &text);
        let index = indexed(file, text);
        let index = index.as_ref().map(|bytes| Table::binary(file, bytes));
        for line in asked.split('\n').take(8) {
            let Some(key) = normal(line) else { continue };
            let (found, matches) = (table.find(&key), table.matches(&key));
            let Some(index) = index.filter(|_| key.is_ascii() && !key.contains('\0')) else { continue };
            if file == "modules.dep" {
                if let Ok(by_index) = index.find(&key) {
                    assert_eq!(found, Ok(by_index), "{key:?}");
                }
            } else if let (Ok(matches), Ok(by_index)) = (&matches, index.matches(&key)) {
                let sorted = |matches: &[&str]| {
                    let mut names: Vec<_> = matches.iter().map(|name| name.to_string()).collect();
                    names.sort_unstable();
                    names
                };
                assert_eq!(sorted(matches), sorted(&by_index), "{key:?}");
            }
        }
    }
}

/// modprobe.d, what depmod knows, and what is asked for: plans are made of what is there, and end.
pub fn config(data: &[u8]) {
    let mut input = Input(data);
    let (few_bytes, stop_after) = (input.number(), usize::from(input.byte()));
    let mut parts: Vec<&[u8]> = input.parts().collect();
    parts.resize(parts.len().max(9), &[]);
    let part = |at: usize| parts[at];
    let files = [utf8(part(1)), utf8(part(2))];
    let cmdline = utf8(part(3));
    let mut all = vec![0; CONFIG_BYTES];
    let config = configured(&files, cmdline, &mut all);
    let mut few = vec![0; few_bytes];
    let fewer = configured(&files, cmdline, &mut few);
    // What is left out for want of memory is left out whole.
    let all_commands = commands(config.files);
    let mut others = all_commands.iter();
    for command in commands(fewer.files) {
        assert!(others.any(|other| *other == command), "{command:?}");
    }
    if !files.iter().any(|file| file.contains('\\')) {
        let lines =
            all_commands.iter().map(|(kind, module, rest)| format!("{kind} {module} {rest}\n")).collect::<String>();
        let mut again = vec![0; CONFIG_BYTES];
        assert_eq!(configured(&[&lines, ""], "", &mut again).files, config.files);
    }
    let tables = [("modules.dep", 4), ("modules.alias", 5), ("modules.symbols", 6), ("modules.builtin", 7)];
    let [dep, alias, symbols, builtin] = tables.map(|(file, at)| Some(Table::text(file, &parts[at])));
    let builtin_alias = Some(Table::text("modules.builtin.modinfo", &parts[8]));
    let indexes = Indexes { dep, alias, symbols, builtin, builtin_alias };
    let dep_text = String::from_utf8_lossy(part(4)).into_owned();
    let widest = dep_text.lines().map(|line| Files::of_line(line).dependencies().count()).max().unwrap_or(0);
    for (name, blacklists) in
        utf8(part(0)).split('\n').take(4).zip([Blacklists::All, Blacklists::Aliases].iter().cycle())
    {
        let steps = planned(indexes, config, *blacklists, name, usize::MAX);
        let targets = steps.0.iter().filter(|step| step.is_target).count();
        assert!(steps.0.len() <= ALIAS_MATCHES * PLAN_VISITED * (widest + 1), "{} steps", steps.0.len());
        assert!(steps.0.iter().all(|step| step.is_required || !step.is_target));
        match steps.1 {
            Ok(()) => assert!(targets > 0 || !steps.0.is_empty(), "no step for {name:?}"),
            Err(PlanError::NotFound | PlanError::Name) => assert!(steps.0.is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        for step in &steps.0 {
            if let Action::Load(file) = step.action {
                let has = |line: &str| line.split(':').next() == Some(file) && name::of(file) == Name(step.module.name);
                assert!(dep_text.split('\n').any(has), "{step:?}");
            }
            step.module.options(config).for_each(|options| assert!(!options.is_empty()));
        }
        // As long as nobody wants it to end, it goes as it did.
        let stopped = planned(indexes, config, *blacklists, name, stop_after);
        let same = stopped.0.len().min(stop_after);
        assert_eq!(stopped.0[..same], steps.0[..same]);
    }
}

fn configured<'b>(files: &[&str; 2], cmdline: &str, buf: &'b mut [u8]) -> Config<'b> {
    let mut writer = Writer::new(buf);
    for file in files {
        let mut last = 0;
        writer.file(file.as_bytes(), &mut |number, error| {
            if matches!(error, ConfigError::More(_)) {
                return assert_eq!(number, 0);
            }
            assert!(number > last && number <= file.split('\n').count(), "line {number}");
            assert!(matches!(error, ConfigError::Line | ConfigError::Full), "{error}");
            last = number;
        });
    }
    let _ = writer.cmdline(cmdline);
    writer.finish()
}

fn planned<'m>(
    indexes: Indexes<'m>, config: Config<'m>, blacklists: Blacklists, name: &'m str, stop_after: usize,
) -> (Vec<Step<'m>>, Result<(), PlanError>) {
    let mut steps = Vec::new();
    let result = plan(indexes, config, blacklists, name, &mut |step| {
        steps.push(step);
        steps.len() != stop_after
    });
    (steps, result)
}

/// Devices in sysfs: each alias of each is told, of the buses that are asked for.
pub fn devices(data: &[u8]) {
    let mut input = Input(data);
    let mut kernel = input.kernel();
    let mut parts = input.parts();
    let buses = utf8(parts.next().unwrap_or_default());
    let patterns: Vec<_> = utf8(parts.next().unwrap_or_default()).split('\n').take(4).collect();
    for (number, uevent) in parts.enumerate().take(16) {
        let folder = ["/sys/bus/pci/devices", "/sys/bus/usb/devices", "/sys/class/input", "/sys/bus/platform/devices"];
        kernel.add_file(&format!("{}/{number:02}/uevent", folder[number % 4]), uevent);
    }
    let each = |buses: &str| {
        let mut found = Vec::new();
        let read = sysfs::each(&kernel, buses, &mut |device| {
            assert!(!device.alias.is_empty() && !device.alias.contains('\n'));
            found.push((device.alias.to_string(), device.is_bound));
        });
        assert!(read.is_ok() || kernel.fails_from.is_some(), "{read:?}");
        found
    };
    let all = each("");
    let mut by_bus: Vec<_> = ["pci", "usb", "input", "platform"].iter().flat_map(|bus| each(bus)).collect();
    let mut sorted = all.clone();
    by_bus.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, by_bus);
    if buses.split_ascii_whitespace().all(|bus| !bus.contains(['/', '.', '\0'])) && !buses.trim_ascii().is_empty() {
        assert!(each(buses).iter().all(|device| all.contains(device)));
    }
    for pattern in patterns.into_iter().chain(all.iter().map(|(alias, _)| alias.as_str()).take(4)) {
        let expected = normal(pattern)
            .is_some_and(|pattern| all.iter().any(|(a, _)| normal(a).is_some_and(|a| matches_pattern(&pattern, &a))));
        if pattern.len() < 500 && all.iter().all(|(alias, _)| alias.len() < 500) {
            match sysfs::exists(&kernel, pattern) {
                Ok(is_there) => assert_eq!(is_there, expected, "{pattern:?}"),
                Err(error) => assert!(!expected && kernel.fails_from.is_some(), "{error:?}"),
            }
        }
    }
}
