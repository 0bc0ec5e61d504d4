//! How much memory loading a module takes, by each tool, format and path: of the process, and of the machine.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use elf::ElfBytes;
use elf::abi::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_SYMTAB};
use elf::endian::AnyEndian;
use mkmodest::kernel::{KernelPackage, cache};
use modest_loader::format::Format;
use modest_loader::load_path::LoadPath;
use modest_qemu::{Scenario, modest};

/// A board, and the modules that are loaded on it: of those in its kernel's package that need no hardware to load and unload,
/// the ones nearest to 0.1, 1, 3 and 9 MB. Their inits take little: f2fs, which takes 2 MB,
/// would measure that.
struct Subject {
    name: &'static str,
    board: &'static str,
    modules: &'static [&'static str],
    /// MB of the guest: the files of all modules in all formats, and what the largest takes by the tool that takes most.
    memory: &'static str,
}

const SUBJECTS: [Subject; 3] = [
    Subject { name: "aarch64", board: "qemu-aarch64", modules: &["squashfs", "i40e", "xfs"], memory: "256" },
    Subject { name: "armv7", board: "qemu-armv7", modules: &["fat", "mac80211", "nouveau"], memory: "128" },
    Subject {
        name: "riscv64",
        board: "qemu-riscv64",
        modules: &["nls_cp950", "udf", "reiserfs", "cifs"],
        memory: "256",
    },
];

const FORMATS: [Format; 4] = [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd];

/// The time limit for one way to load one file. Under emulation the slowest takes half a minute.
const LIMIT_S: u64 = 5 * 60;

/// One file of a module.
struct File {
    module: usize,
    format: Format,
    bytes: Vec<u8>,
}

/// A module.
struct Module {
    name: &'static str,
    image_bytes: usize,
    /// What of the layout is there only until its init has returned.
    init_bytes: usize,
}

/// One way to load one file.
struct Way {
    file: usize,
    tool: String,
    command: String,
}

pub fn main(names: &[String]) -> Result<()> {
    super::for_architectures("memory", &SUBJECTS.map(|subject| (subject.name, subject)), names, measure)
}

fn measure(subject: &Subject) -> Result<String> {
    let mut scenario = Scenario::new(subject.board, None)?.memory(subject.memory);
    scenario.with_disk = false;
    scenario.board.qemu.timeout_s = LIMIT_S;
    // What is set aside for devices counts as free, but is not given to the kernel itself.
    scenario = scenario.append("cma=0 quiet loglevel=1");

    let (modules, files) = files(subject, &scenario.kernel)?;
    for File { module, format, bytes } in &files {
        scenario = scenario.file(&format!("/m/{}.ko{}", modules[*module].name, format.ending()), bytes.as_slice());
    }
    let ways = ways(&modules, &files);
    for (i, way) in ways.iter().enumerate() {
        if let Some((_, path)) = way.tool.split_once(' ') {
            let file = &files[way.file];
            let Module { name, image_bytes, .. } = &modules[file.module];
            let line = format!("/m/{name}.ko{} @size={image_bytes} @path={path}\n", file.format.ending());
            scenario = scenario.file(&format!("/m/{i}"), line);
        }
    }
    scenario = peers(scenario)?;
    // Next to the default build, which others may use.
    let built = |name| modest(scenario.board.arch.target()).with_file_name(name);
    let tool = built("modest-bench");
    scenario.options.init = built("modest-measured");
    scenario = scenario.program("/bin/bench", &tool)?;
    dependencies(&mut scenario, subject)?;
    let scenario = scenario.script("/next", &script(&modules, &files, &ways))?;
    let mut guest = scenario.boot()?;
    let mut console = String::new();
    for (i, way) in ways.iter().enumerate() {
        let File { module, format, .. } = &files[way.file];
        eprintln!("{} of {}: {}.ko{}, {}", i + 1, ways.len(), modules[*module].name, format.ending(), way.tool);
        console = guest.wait_for(&format!("BENCH {}\n", i + 1))?;
        ensure!(console.contains(" skipped, 0 failed, "), "a dependency was not loaded:\n{console}");
        if let Ok(Figures { resident_kib, smallest_kib, .. }) = Figures::read(&console, i) {
            eprintln!("    peak RSS {resident_kib} KiB, smallest free memory {smallest_kib:?}");
        }
    }
    table(subject, &scenario, &modules, &files, &ways, &console)
}

/// The modules, and each in each format as the kernel's build compresses it (scripts/Makefile.modinst).
fn files(subject: &Subject, kernel: &KernelPackage) -> Result<(Vec<Module>, Vec<File>)> {
    let (mut modules, mut files) = (Vec::new(), Vec::new());
    let tmp = tempfile::tempdir()?;
    for (module, name) in subject.modules.iter().enumerate() {
        let path = kernel.tree.dir.join(modest_qemu::module_file(&kernel.tree, name)?);
        let packaged = std::fs::read(&path)?;
        ensure!(Format::of(&packaged) == Format::Xz, "{}: expected xz", path.display());
        let image = mkmodest::codec::decode(&packaged)?;
        let plain = tmp.path().join(name);
        std::fs::write(&plain, &image)?;
        modules.push(Module { name, image_bytes: image.len(), init_bytes: init_bytes(&image)? });
        for format in FORMATS {
            let bytes = match format {
                Format::Plain => image.clone(),
                Format::Gzip => compress("gzip", &["-n", "-c"], &plain)?,
                Format::Xz => packaged.clone(),
                Format::Zstd => compress("zstd", &["-q", "-c"], &plain)?,
            };
            files.push(File { module, format, bytes });
        }
    }
    Ok((modules, files))
}

fn compress(program: &str, args: &[&str], file: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program).args(args).arg(file).output().with_context(|| program.to_string())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

const PAGE: usize = 4096;

/// What a module's layout has besides `/sys/module/NAME/coresize`: its init sections, and the symbol and string tables that the
/// kernel copies there for the time of the init (kernel/module/main.c: layout_sections, kallsyms.c: layout_symtab).
fn init_bytes(image: &[u8]) -> Result<usize> {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(image)?;
    let (Some(sections), Some(names)) = elf.section_headers_with_strtab()? else { bail!("no sections") };
    // Text, read-only data, data: each begins a page of its own.
    let mut parts = [0; 3];
    let add = |part: &mut usize, len: u64, align: u64| {
        *part = part.next_multiple_of(align.max(1) as usize) + len as usize;
    };
    for section in sections.iter() {
        let name = names.get(section.sh_name as usize)?;
        let is_init = [".init", ".ARM.exidx.init", ".ARM.extab.init"].iter().any(|init| name.starts_with(init));
        let flags = section.sh_flags as u32;
        if is_init && flags & SHF_ALLOC != 0 {
            let part = if flags & SHF_EXECINSTR != 0 { 0 } else { 1 + usize::from(flags & SHF_WRITE != 0) };
            add(&mut parts[part], section.sh_size, section.sh_addralign);
        }
    }
    if let Some(symbols) = sections.iter().find(|section| section.sh_type == SHT_SYMTAB) {
        let strings = sections.get(symbols.sh_link as usize)?;
        add(&mut parts[2], symbols.sh_size, symbols.sh_addralign);
        add(&mut parts[2], strings.sh_size, strings.sh_addralign);
        // struct mod_kallsyms, and the type of each symbol.
        const MOD_KALLSYMS_BYTES: u64 = 40;
        add(&mut parts[2], MOD_KALLSYMS_BYTES, 8);
        add(&mut parts[2], symbols.sh_size / symbols.sh_entsize.max(1), 1);
    }
    Ok(parts.iter().map(|part| part.next_multiple_of(PAGE)).sum())
}

fn ways(modules: &[Module], files: &[File]) -> Vec<Way> {
    let mut ways = Vec::new();
    for (file, File { module, format, .. }) in files.iter().enumerate() {
        let paths: &[LoadPath] = match format {
            Format::Plain => &[LoadPath::Finit, LoadPath::Stream, LoadPath::Mmap, LoadPath::Buffer],
            _ => &[LoadPath::FinitCompressed, LoadPath::Stream, LoadPath::Buffer],
        };
        for path in paths {
            let command = format!("/init load -q -m /m/{}", ways.len());
            ways.push(Way { file, tool: format!("modest {path}"), command });
        }
        for (tool, program) in [("busybox", "/bin/busybox insmod"), ("kmod", "/kmod/insmod")] {
            let command = format!("{program} /m/{}.ko{}", modules[*module].name, format.ending());
            ways.push(Way { file, tool: tool.into(), command });
        }
    }
    ways
}

/// Adds kmod with its libraries. busybox comes with the script.
pub(super) fn peers(mut scenario: Scenario) -> Result<Scenario> {
    let dir = cache()?.join("peers").join(format!("trixie-{}", scenario.board.arch.debian()));
    scenario = scenario.program("/kmod/insmod", &dir.join("insmod")).context("scripts/peers provides it")?;
    for library in std::fs::read_dir(dir.join("lib"))? {
        let library = library?;
        scenario = scenario.program(&format!("/lib/{}", library.file_name().to_string_lossy()), &library.path())?;
    }
    Ok(scenario)
}

/// Has modest load what the modules depend on, and then run the script.
fn dependencies(scenario: &mut Scenario, subject: &Subject) -> Result<()> {
    let is_subject = |file: &str| subject.modules.iter().any(|name| modest_loader::name::of(file).to_string() == *name);
    // libcrc32c asks for crc32c by name, which modules.dep does not tell.
    let names = format!("crc32c_generic\n{}", subject.modules.join("\n"));
    scenario.options.manifest = Some(("modules".into(), names.into()));
    // The script needs no root.
    scenario.options.force = true;
    let plan = scenario.image()?.manifest;
    let needed: Vec<_> = plan.lines().filter_map(|line| line.split(' ').next()).collect();
    let needed = needed.into_iter().filter(|file| file.starts_with("kernel/") && !is_subject(file));
    let needed = needed.map(String::from).collect::<Vec<_>>().join("\n");
    let manifest = format!("@root {}\n@unlink\n{needed}\n@exec /next\n", scenario.kernel.tree.target_dir());
    scenario.options.manifest = Some(("dependencies".into(), needed.into()));
    scenario.options.verbatim_manifest = Some(manifest.into());
    Ok(())
}

/// Settings that make free memory a number to be relied on, and then each way.
const PROLOGUE: &str = "\
set_to() { echo $2 >$1; }
set_to /sys/kernel/mm/transparent_hugepage/enabled never
set_to /proc/sys/vm/min_free_kbytes 256
set_to /proc/sys/vm/watermark_boost_factor 0
set_to /proc/sys/vm/percpu_pagelist_high_fraction 100000
set_to /proc/sys/vm/panic_on_oom 0
set_to /proc/sys/vm/oom_dump_tasks 0
busybox mkdir /pin
busybox mount -t ramfs none /pin
live() { state=; [ -e /sys/module/$1 ] && read state </sys/module/$1/initstate; [ \"$state\" = live ]; }
bench() {
    way=$1 name=$2 kib=$3; shift 3
    echo; echo \"BENCH $way\"
    : >/pin/file
    bench peak \"$@\"
    live $name || return
    read core </sys/module/$name/coresize; echo \"core: $core\"
    busybox rmmod $name
    bench fit $name $((kib + core / 1024)) \"$@\"
}
";

fn script(modules: &[Module], files: &[File], ways: &[Way]) -> String {
    let mut script = PROLOGUE.replace("    bench ", "    /bin/bench ").replace("busybox ", "/bin/busybox ");
    for (i, Way { file, command, .. }) in ways.iter().enumerate() {
        let Module { name, image_bytes, init_bytes } = &modules[files[*file].module];
        let kib = (image_bytes.next_multiple_of(PAGE) + init_bytes) / 1024;
        let _ = writeln!(script, "bench {i} {name} {kib} {command}");
    }
    let _ = writeln!(script, "echo; echo BENCH {}; while :; do /bin/busybox sleep 1; done", ways.len());
    script
}

/// What one way took.
struct Figures<'c> {
    resident_kib: usize,
    own_kib: usize,
    /// Of the machine, the smallest; or if the module was not loaded, what the tool said.
    smallest_kib: Result<usize, &'c str>,
    core_bytes: usize,
}

impl<'c> Figures<'c> {
    fn read(console: &'c str, way: usize) -> Result<Self> {
        let (_, part) = console.split_once(&format!("BENCH {way}\n")).context("not begun")?;
        let part = part.split("BENCH ").next().unwrap_or(part);
        // Behind `name`, up to where the digits end.
        let figure = |name| {
            let (_, after) = part.split_once(name).with_context(|| format!("no {name} in {part:?}"))?;
            let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            digits.parse::<usize>().with_context(|| format!("{name} is no number in {part:?}"))
        };
        let (said, _) = part.split_once("peak:").with_context(|| format!("no peak in {part:?}"))?;
        let loaded = part.contains("core: ");
        Ok(Figures {
            resident_kib: figure("rss_kib=")?,
            own_kib: figure("anonymous_kib=")?,
            smallest_kib: if loaded { Ok(figure("fit: kib=")?) } else { Err(said.trim()) },
            core_bytes: if loaded { figure("core: ")? } else { 0 },
        })
    }
}

fn table(
    subject: &Subject, scenario: &Scenario, modules: &[Module], files: &[File], ways: &[Way], console: &str,
) -> Result<String> {
    let figures = |way| Figures::read(console, way).with_context(|| format!("{} {}", way, ways[way].command));
    let all = (0..ways.len()).map(figures).collect::<Result<Vec<_>>>()?;
    let kib = |bytes: usize| bytes.div_ceil(1024);
    let mut text = format!(
        "### {}\n\n`scripts/bench memory {0}`: {}, Linux {}.\n\n| module | image | layout | floor | .ko.gz | .ko.xz | .ko.zst |\n\
         |---|---|---|---|---|---|---|\n",
        subject.name,
        qemu_version(&scenario.board.qemu.program)?,
        scenario.kernel.tree.release
    );
    let of_module = |module| move |(i, _): &(usize, &Way)| files[ways[*i].file].module == module;
    let mut floors = Vec::new();
    for (i, Module { name, image_bytes, init_bytes }) in modules.iter().enumerate() {
        let core = ways.iter().enumerate().filter(of_module(i)).map(|(way, _)| all[way].core_bytes).max();
        let layout = core.filter(|bytes| *bytes > 0).with_context(|| format!("{name} was never loaded"))? + init_bytes;
        let floor = kib(image_bytes.next_multiple_of(PAGE) + layout);
        floors.push(floor);
        let _ = write!(text, "| {name} | {} | {} | {floor}", kib(*image_bytes), kib(layout));
        for file in files.iter().filter(|file| file.module == i && file.format != Format::Plain) {
            let _ = write!(text, " | {}", kib(file.bytes.len()));
        }
        text += " |\n";
    }
    text += "\n| file | tool | peak RSS | of it anonymous | smallest free memory | to the floor | to modest's least |\n\
             |---|---|---|---|---|---|---|\n";
    let mut refusals = Vec::new();
    for (way, (Way { file, tool, .. }, figures)) in ways.iter().zip(&all).enumerate() {
        let File { module, format, .. } = &files[*file];
        let name = format!("{}.ko{}", modules[*module].name, format.ending());
        let _ = write!(text, "| {name} | {tool} | {} | {}", figures.resident_kib, figures.own_kib);
        match figures.smallest_kib {
            Ok(smallest) => {
                let floor = smallest as f64 / floors[*module] as f64;
                let same_file = ways.iter().zip(&all).filter(|(other, _)| other.file == *file);
                let modest = same_file.filter(|(other, _)| other.tool.starts_with("modest"));
                let least = modest.filter_map(|(_, figures)| figures.smallest_kib.ok()).min();
                let to_least = least.map_or("–".into(), |least| format!("{:.2}", smallest as f64 / least as f64));
                let _ = writeln!(text, " | {smallest} | {floor:.2} | {to_least} |");
            }
            Err(said) => {
                let _ = writeln!(text, " | refused | – | – |");
                // By the first module that shows it; the others' differ in name only.
                if *module == files[ways[0].file].module {
                    refusals.push((way, format!("- {tool}, {name}: `{}`\n", said.lines().last().unwrap_or_default())));
                }
            }
        }
    }
    if !refusals.is_empty() {
        text += "\nRefused:\n\n";
        text.extend(refusals.into_iter().map(|(_, line)| line));
    }
    Ok(text + "\n")
}

fn qemu_version(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output().with_context(|| program.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split(' ').skip_while(|word| *word != "version").nth(1).context("no version")?;
    Ok(format!("QEMU {}", version.trim()))
}
