//! How long loading takes beside the kernel's own work, by each tool: in guests whose clock counts instructions.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mkmodest::codec;
use modest_index_writer::binary_index;
use modest_loader::format::Format;
use modest_qemu::{Scenario, modest, module_file, project, unsigned};

/// A board, and what compiles for it.
struct Subject {
    name: &'static str,
    board: &'static str,
    compiler: &'static str,
    flags: &'static [&'static str],
}

const SUBJECTS: [Subject; 3] = [
    Subject { name: "aarch64", board: "qemu-aarch64", compiler: "aarch64-linux-gnu-gcc", flags: &[] },
    Subject { name: "armv7", board: "qemu-armv7", compiler: "arm-linux-gnueabihf-gcc", flags: &["-marm"] },
    Subject { name: "riscv64", board: "qemu-riscv64", compiler: "riscv64-linux-gnu-gcc", flags: &[] },
];

/// What is asked for by name: file systems, network and sound that need no hardware, and what those need.
const NAMES: &[&str] = &[
    "crc32c_generic",
    "crc32_generic",
    "ext4",
    "f2fs",
    "squashfs",
    "overlay",
    "vfat",
    "exfat",
    "isofs",
    "udf",
    "cifs",
    "nls_utf8",
    "nls_iso8859_1",
    "nls_cp437",
    "tun",
    "bridge",
    "bonding",
    "veth",
    "vxlan",
    "dummy",
    "8021q",
    "wireguard",
    "sctp",
    "nf_tables",
    "nft_ct",
    "nft_masq",
    "xt_MASQUERADE",
    "iptable_nat",
    "ip6table_filter",
    "snd_seq",
    "usb_storage",
    "usbhid",
    "mac80211",
    "can_raw",
    "dm_mod",
    "loop",
    "nbd",
];

/// The time limit for a boot: in such a guest it takes up to a minute on a busy machine.
const LIMIT_S: u64 = 10 * 60;

/// Which indexes a tree has.
#[derive(Clone, Copy, PartialEq)]
enum Indexes {
    /// All of depmod's.
    All,
    /// `modules.dep` alone, as text.
    Text,
}

/// One way to load all.
struct Case {
    what: &'static str,
    format: Format,
    indexes: Indexes,
    tool: Tool,
}

#[derive(Clone, Copy, PartialEq)]
enum Tool {
    Floor,
    Paths,
    PathsWithLines,
    Names,
    Busybox,
    Kmod,
}

/// The first of each format is what its others are compared with.
const CASES: &[Case] = &[
    Case { what: "floor", format: Format::Plain, indexes: Indexes::All, tool: Tool::Floor },
    Case { what: "modest, by path, -q", format: Format::Plain, indexes: Indexes::All, tool: Tool::Paths },
    Case { what: "modest, by path", format: Format::Plain, indexes: Indexes::All, tool: Tool::PathsWithLines },
    Case { what: "modest, by name, -q", format: Format::Plain, indexes: Indexes::All, tool: Tool::Names },
    Case { what: "busybox modprobe -a", format: Format::Plain, indexes: Indexes::All, tool: Tool::Busybox },
    Case { what: "kmod modprobe -a", format: Format::Plain, indexes: Indexes::All, tool: Tool::Kmod },
    Case {
        what: "modest, by name, text modules.dep",
        format: Format::Plain,
        indexes: Indexes::Text,
        tool: Tool::Names,
    },
    Case { what: "busybox, text modules.dep", format: Format::Plain, indexes: Indexes::Text, tool: Tool::Busybox },
    Case { what: "floor", format: Format::Xz, indexes: Indexes::All, tool: Tool::Floor },
    Case { what: "modest, by path, -q", format: Format::Xz, indexes: Indexes::All, tool: Tool::Paths },
];

/// What one boot printed.
#[derive(Default)]
struct Figures {
    ns: u64,
    calls: u64,
}

pub fn main(names: &[String]) -> Result<()> {
    super::for_architectures("speed", &SUBJECTS.map(|subject| (subject.name, subject)), names, measure)
}

fn measure(subject: &Subject) -> Result<String> {
    let start = Instant::now();
    let machine = Machine::new(subject)?;
    eprintln!("{}: {} modules made ready in {} s", subject.name, machine.files.len(), start.elapsed().as_secs());
    let mut all = Vec::new();
    for case in CASES {
        let start = Instant::now();
        let figures = machine.run(case).with_context(|| format!("{}, {}", case.what, case.format.name()))?;
        eprintln!(
            "{}: {}, {}: {} us, {} calls; took {} s",
            subject.name,
            case.what,
            case.format.name(),
            figures.ns / 1000,
            figures.calls,
            start.elapsed().as_secs()
        );
        all.push(figures);
    }
    let start = Instant::now();
    let devices = machine.devices()?;
    eprintln!("{}: devices took {} s", subject.name, start.elapsed().as_secs());
    Ok(table(subject, &machine, &all, &devices))
}

/// What all guests of a subject have.
struct Machine<'s> {
    subject: &'s Subject,
    /// The program of `qemu/speed.c`.
    speed: PathBuf,
    /// Paths in the tree, plain, in the order to load them, and the images.
    files: Vec<(String, Vec<u8>)>,
    names: Vec<&'static str>,
    /// The tree's indexes as they are.
    indexes: BTreeMap<String, Vec<u8>>,
    version: String,
    /// How many modules the first case loaded; 0 before.
    loaded: Cell<u64>,
    _folder: tempfile::TempDir,
}

impl<'s> Machine<'s> {
    fn new(subject: &'s Subject) -> Result<Self> {
        let mut scenario = Scenario::new(subject.board, None)?;
        let tree = &scenario.kernel.tree;
        let names: Vec<_> = NAMES.iter().copied().filter(|name| module_file(tree, name).is_ok()).collect();
        scenario.options.manifest = Some(("modules".into(), names.join("\n").into()));
        // Nothing of it is booted, so there need be no root.
        scenario.options.force = true;
        let plan = scenario.image()?.manifest;
        let paths = plan.lines().filter_map(|line| line.split(' ').next()).filter(|file| file.starts_with("kernel/"));
        let tree = &scenario.kernel.tree;
        // To check a signature takes the kernel nine times as long as all else.
        let image = |path: &str| {
            let image = codec::decode(&std::fs::read(tree.dir.join(path))?)?;
            Ok((plain(path), unsigned(&image).to_vec()))
        };
        let files = paths.map(image).collect::<Result<Vec<_>>>()?;
        let mut indexes = BTreeMap::new();
        for entry in std::fs::read_dir(&tree.dir)? {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))?;
            if name.starts_with("modules.") {
                indexes.insert(name, std::fs::read(path)?);
            }
        }
        let folder = tempfile::tempdir()?;
        let speed = folder.path().join("speed");
        let status = Command::new(subject.compiler)
            .args(["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o"])
            .arg(&speed)
            .args(subject.flags)
            .arg(project().join("qemu/speed.c"))
            .status()
            .with_context(|| subject.compiler.to_string())?;
        ensure!(status.success(), "{}: {status}", subject.compiler);
        let version = tree.release.clone();
        Ok(Machine { subject, speed, files, names, indexes, version, loaded: Cell::new(0), _folder: folder })
    }

    /// A guest that counts instructions, with a tree of these modules.
    fn scenario(&self, format: Format, indexes: Indexes) -> Result<Scenario> {
        let mut scenario = Scenario::with_manifest(self.subject.board, None, "@exec /next\n")?.memory("1024");
        scenario.board.qemu.timeout_s = LIMIT_S;
        scenario.args = ["-icount", "shift=0,sleep=off"].map(String::from).to_vec();
        scenario = scenario.append("quiet loglevel=1 nokaslr").program("/speed", &self.speed)?;
        let built = modest(scenario.board.arch.target()).with_file_name("modest-measured");
        scenario = scenario.program("/modest", &built)?;
        let dir = scenario.kernel.tree.target_dir();
        for (path, image) in &self.files {
            let bytes = if format == Format::Plain { image.clone() } else { codec::encode(image, format)? };
            scenario = scenario.file(&format!("{dir}/{path}{}", format.ending()), bytes);
        }
        for (name, bytes) in self.indexes_in(format)? {
            if indexes == Indexes::All || name == "modules.dep" {
                scenario = scenario.file(&format!("{dir}/{name}"), bytes);
            }
        }
        scenario = scenario.file("/names", self.names.join("\n") + "\n").file("/paths", self.paths(&dir, format));
        Ok(super::memory::peers(scenario)?.link("/kmod/modprobe", "insmod"))
    }

    fn paths(&self, dir: &str, format: Format) -> String {
        self.files.iter().map(|(path, _)| format!("{dir}/{path}{}\n", format.ending())).collect()
    }

    /// The indexes of the whole tree, with the endings that the files have.
    fn indexes_in(&self, format: Format) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut indexes = self.indexes.clone();
        let dep = String::from_utf8(indexes["modules.dep"].clone())?;
        let dep: String = dep.split_inclusive('\n').map(|line| with_ending(line, format)).collect();
        let entry = |line: &str| {
            let name = modest_loader::name::of(line.split(':').next().unwrap_or_default());
            (name.to_string(), 0, line.to_string())
        };
        indexes.insert("modules.dep.bin".into(), binary_index(dep.lines().map(entry))?);
        indexes.insert("modules.dep".into(), dep.into());
        Ok(indexes)
    }

    /// Boots twice, to measure and to count, and loads all.
    fn run(&self, case: &Case) -> Result<Figures> {
        let command = self.command(case);
        let ns = self.figure(case, &format!("/speed time {command}"), "SPEED ns ")?;
        let calls = self.figure(case, &format!("/speed count {command}"), "SPEED calls ")?;
        Ok(Figures { ns, calls })
    }

    fn command(&self, case: &Case) -> String {
        let names = self.names.join(" ");
        let flags = if case.format == Format::Plain { 0 } else { 4 };
        match case.tool {
            Tool::Floor => format!("/speed floor {flags} /paths"),
            Tool::Paths => "/modest load -q -m /paths".into(),
            Tool::PathsWithLines => "/modest load -m /paths".into(),
            Tool::Names => "/modest load -q -m /names".into(),
            Tool::Busybox => format!("/bin/busybox modprobe -a {names}"),
            Tool::Kmod => format!("/kmod/modprobe -a {names}"),
        }
    }

    fn figure(&self, case: &Case, command: &str, what: &str) -> Result<u64> {
        let scenario =
            self.scenario(case.format, case.indexes)?.script("/next", &format!("{BEGIN}{command}\n{END}"))?;
        let console = scenario.boot()?.wait_for(ENDED)?;
        let loaded = number(&console, "SPEED modules ")?;
        // A processor may lack what one of them needs; then no loader has it.
        ensure!(loaded == self.loaded.get() || self.loaded.get() == 0, "{loaded} modules are loaded:\n{console}");
        ensure!(loaded + 3 > self.files.len() as u64, "only {loaded} modules are loaded:\n{console}");
        self.loaded.set(loaded);
        number(&console, what)
    }

    /// `@coldplug` twice, and a wait of 5 s for what does not come, in ms.
    fn devices(&self) -> Result<[u64; 3]> {
        let scenario = self
            .scenario(Format::Plain, Indexes::All)?
            .file("/coldplug", "@coldplug\n")
            .file("/wait", "@coldplug\n@wait /dev/none @timeout=5s @optional\n");
        let commands =
            ["/coldplug", "/coldplug", "/wait"].map(|file| format!("/speed time /modest load -q -m {file}\n"));
        let console =
            scenario.script("/next", &(BEGIN.to_string() + &commands.concat() + END))?.boot()?.wait_for(ENDED)?;
        let mut parts = console.split("SPEED status").skip(1);
        let mut ms = || number(parts.next().context("a run is missing")?, "SPEED ns ").map(|ns| ns / 1_000_000);
        Ok([ms()?, ms()?, ms()?])
    }
}

/// What a guest does first: what the kernel has still to do from its start would be counted.
const BEGIN: &str = "/bin/busybox sleep 5\n";

/// What a guest does at last, so that nothing that it printed is lost.
const END: &str = "set -- $(/bin/busybox wc -l /proc/modules); echo SPEED modules $1; echo SPEED ended\n\
    while :; do /bin/busybox sleep 1; done\n";
const ENDED: &str = "SPEED ended\n";

/// A path without the ending of a compression.
fn plain(path: &str) -> String {
    path.split_once(".ko").map_or(path.into(), |(stem, _)| format!("{stem}.ko"))
}

/// A line of `modules.dep` whose files end as those of this format do.
fn with_ending(line: &str, format: Format) -> String {
    line.replace(".ko.xz", ".ko").replace(".ko", &format!(".ko{}", format.ending()))
}

/// The number behind `name`.
fn number(text: &str, name: &str) -> Result<u64> {
    let (_, after) = text.split_once(name).with_context(|| format!("no {name:?} in {text:?}"))?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| format!("{name} is no number in {text:?}"))
}

fn table(subject: &Subject, machine: &Machine, all: &[Figures], devices: &[u64; 3]) -> String {
    let Subject { name, .. } = subject;
    let mut text = format!(
        "### {name}\n\n`scripts/bench speed {name}`: Linux {}, {} modules by {} names.\n\n\
         | files | loader | all, ms | over the floor, ms | over the floor | system calls |\n|---|---|---|---|---|---|\n",
        machine.version,
        machine.files.len(),
        machine.names.len()
    );
    let mut floor = 0;
    for (case, Figures { ns, calls }) in CASES.iter().zip(all) {
        if case.tool == Tool::Floor {
            floor = *ns;
        }
        let over = *ns as f64 - floor as f64;
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {:.2} | {:.2} % | {calls} |",
            case.format.name(),
            case.what,
            *ns as f64 / 1e6,
            over / 1e6,
            100. * over / floor as f64
        );
    }
    let [first, again, wait] = devices;
    let _ = writeln!(
        text,
        "\n`@coldplug` takes {first} ms, and {again} ms where nothing is left to do; `@coldplug` and then a `@wait` of\n\
         5 s for what does not come {wait} ms."
    );
    text
}
