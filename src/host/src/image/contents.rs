//! The modules of an image and its manifest, and what is wrong with them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use modest_loader::manifest::Line;
use modest_loader::name;

use super::firmware::firmware_files;
use super::include::Included;
use super::options::Options;
use super::plan::{Plan, Source};
use crate::board::{Board, KernelSpec};
use crate::check::{self, Around, DeviceSet, Kind, Member, Problem};
use crate::device_tree::Devices;
use crate::kernel::modprobe::Database;
use crate::kernel::{Tree, TreeSymbols};
use crate::module::file::ModuleFile;

/// The modules of an image.
pub struct Contents {
    plan: Plan,
    /// First those that the manifest loads.
    pub files: Vec<ModuleFile>,
    /// The number of those.
    pub loaded: usize,
    /// The manifest for the target.
    pub text: Vec<u8>,
    /// The resolved manifest.
    pub manifest: String,
    /// Whether the target looks anything up.
    pub has_tables: bool,
    /// What a person might want to know.
    pub notes: Vec<String>,
}

impl Contents {
    /// Resolves what the board or the manifest of `options` says, and reads the modules of `tree`.
    pub fn of(board: &Board, kernel: &KernelSpec, tree: &Tree, options: &Options) -> Result<Contents> {
        let source = match &options.manifest {
            Some((name, text)) => Source::manifest(board, name, text),
            None => Source::board(board, kernel),
        };
        let source = source.allow_missing(options.allow_missing);
        let mut notes = Vec::new();
        let database =
            Database::read(tree, &options.config_folders(), "", &mut |line| notes.push(options.named(&line)))?;
        let mut plan = Plan::resolve(&source, tree, &database)?;
        if let Some(devices) = options.devices.as_deref().filter(|_| options.add_suppliers) {
            let first = device_set(devices, &names(plan.steps().map(|step| step.file.as_str())), &[]).first();
            if !first.is_empty() {
                notes.push(format!("suppliers go first, by {}: {}", devices.file, first.join(", ")));
                plan = Plan::resolve(&source.with_first(&first), tree, &database)?;
            }
        }
        let read = |file: &str| ModuleFile::read(&tree.dir, file, options.change);
        let mut files = plan.steps().map(|step| read(&step.file)).collect::<Result<Vec<_>>>()?;
        let loaded = files.len();
        add_named_firmware(&mut files, options);
        let comment = format!("{}, Linux {}", board.name, tree.release);
        let manifest = plan.manifest(&comment, tree, &files, options.pin)?;
        notes.extend(plan.notes().map(String::from));
        let text = options.verbatim_manifest.clone().unwrap_or(manifest.clone().into_bytes());
        let wanted = wanted(board, kernel, options);
        let has_tables =
            !wanted.is_empty() || has_line(&text, |line| matches!(line, Line::Coldplug(_) | Line::Wait(_)));
        if has_tables {
            let mut included = Included::new(tree, &database, plan.steps().map(|step| step.file.clone()).collect());
            for (place, what) in &wanted {
                included.add(what).with_context(|| place.clone())?;
            }
            included.read(&mut files, read)?;
            if let Some(devices) = options.devices.as_deref().filter(|_| options.add_suppliers) {
                let all = names(files.iter().map(|file| file.file.as_str()));
                let (first, later) = all.split_at(loaded);
                for name in device_set(devices, first, later).first().iter().filter(|name| !all.contains(name)) {
                    included.add(name).with_context(|| devices.file.clone())?;
                }
                included.read(&mut files, read)?;
            }
            notes.append(&mut included.notes);
        }
        add_named_firmware(&mut files[loaded..], options);
        if wanted.is_empty() && has_line(&text, |line| matches!(line, Line::Coldplug(_))) {
            notes.push("@coldplug finds no more than the manifest loads: nothing is included".into());
        }
        Ok(Contents { plan, files, loaded, text, manifest, has_tables, notes })
    }

    /// What keeps modules from being loaded, or may.
    pub fn problems(&self, board: &Board, spec: &KernelSpec, tree: &Tree, options: &Options) -> Result<Vec<Problem>> {
        let steps: Vec<_> = self.plan.steps().map(|step| [step.options.as_str(), &step.params].join(" ")).collect();
        let params = steps.iter().map(String::as_str).chain(std::iter::repeat(""));
        let members = self.files.iter().zip(params);
        let members: Vec<_> =
            members.map(|(file, params)| Member { file: &file.file, info: &file.info, params }).collect();
        let (loaded, later) = members.split_at(self.loaded);
        let tree_symbols = TreeSymbols::of(tree);
        let around = Around {
            machine: Some(board.arch.machine()),
            release: Some(&tree.release),
            kernel: options.symbols.as_deref(),
            tree: Some(&tree_symbols),
        };
        let mut problems = check::set(loaded, later, around);
        if let Some(config) = options.kernel_config.as_deref() {
            problems.extend(check::config(config, options.compress));
        }
        if let Some(devices) = options.devices.as_deref() {
            let all = names(self.files.iter().map(|file| file.file.as_str()));
            let (loaded, later) = all.split_at(self.loaded);
            let root_device = board.root_device.as_deref().and_then(|name| devices.tree.find(name));
            let set = DeviceSet { root: root_device, ..device_set(devices, loaded, later) };
            problems.extend(set.problems());
            // A manifest that the caller wrote says itself what it is after.
            if options.verbatim_manifest.is_none() && has_line(&self.text, |line| matches!(line, Line::SwitchRoot)) {
                problems.extend(root_problems(&set, board, spec));
            }
        }
        if let Some(dir) = &options.firmware {
            for (i, member) in members.iter().enumerate() {
                problems.extend(missing_firmware(member, dir, &tree.release, i < self.loaded, options)?);
            }
        }
        Ok(problems)
    }
}

/// Adds the firmware that the device tree names for the devices that modules drive (`firmware-name`).
fn add_named_firmware(files: &mut [ModuleFile], options: &Options) {
    let Some(devices) = options.devices.as_deref() else { return };
    for file in files {
        for device in devices.driven_by(&name::of(&file.file).to_string()) {
            for named in devices.tree[device].texts("firmware-name") {
                if !file.info.firmware.iter().any(|known| known == named) {
                    file.info.firmware.push(named.into());
                }
            }
        }
    }
}

/// What keeps the root of the kernel's command line from appearing.
fn root_problems(set: &DeviceSet, board: &Board, spec: &KernelSpec) -> Vec<Problem> {
    let (cmdline, file) = (format!("{} {}", board.cmdline, spec.cmdline_extra), board.file.display().to_string());
    let value = |name: &str| cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)).next_back();
    let Some(word) = value("root=") else { return Vec::new() };
    let root = check::Root { word, types: value("rootfstype="), device: board.root_device.as_deref(), file: &file };
    check::root(set, &root)
}

/// The modules of an image with the devices that they are for.
fn device_set<'a>(devices: &'a Devices, loaded: &'a [String], later: &'a [String]) -> DeviceSet<'a> {
    DeviceSet { devices, loaded, later, root: None }
}

/// The names of modules, of their files.
fn names<'a>(files: impl Iterator<Item = &'a str>) -> Vec<String> {
    files.map(|file| name::of(file).to_string()).collect()
}

/// The problem that a module has for want of firmware in `dir`, if it has one: see [`check::firmware`].
fn missing_firmware(
    member: &Member, dir: &Path, release: &str, is_loaded: bool, options: &Options,
) -> Result<Vec<Problem>> {
    let (mut there, mut problems) = (HashSet::new(), Vec::new());
    for wanted in &member.info.firmware {
        let files = firmware_files(dir, wanted, release)?;
        if !files.is_empty() {
            there.insert(wanted.as_str());
        }
        problems.extend(unreadable(member.file, wanted, &files, options));
    }
    let (is_there, place) = (|wanted: &str| there.contains(wanted), dir.display().to_string());
    let is_strict = options.require_firmware;
    problems.extend(check::firmware(member.file, &member.info.firmware, &is_there, &place, is_loaded, is_strict));
    Ok(problems)
}

/// The problem of firmware that is there, but not as this kernel reads it.
fn unreadable(file: &str, wanted: &str, files: &[(String, PathBuf)], options: &Options) -> Option<Problem> {
    let config = options.kernel_config.as_deref()?;
    let lacks = |(name, _): &(String, PathBuf)| check::unreadable_firmware(config, name);
    let lacking: Vec<_> = files.iter().filter_map(lacks).collect();
    let option = lacking.first().filter(|_| lacking.len() == files.len())?;
    let cause = format!("asks for firmware {wanted}, which is there as {}; this kernel lacks {option}", files[0].0);
    Some(Problem::new(Kind::Firmware, file, cause, "decompress it"))
}

/// What to include, each with the place that it comes from.
fn wanted<'a>(board: &'a Board, kernel: &'a KernelSpec, options: &'a Options) -> Vec<(String, &'a str)> {
    let place = format!("{}: include", board.file.display());
    let of_board = board.include(kernel).iter().map(|what| (place.clone(), what.as_str()));
    of_board.chain(options.include.iter().map(|what| ("--include".into(), what.as_str()))).collect()
}

/// Whether a manifest has such a line; bad ones are for the target to tell.
fn has_line(manifest: &[u8], is_it: impl Fn(&Line) -> bool) -> bool {
    manifest.split(|b| *b == b'\n').any(|line| Line::parse(line).is_ok_and(|line| is_it(&line)))
}
