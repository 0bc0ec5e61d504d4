//! What is said of each way in which a module fails to load: by modest, and beside it by busybox's insmod and kmod's, for the
//! same file in the same boot. All of it stands in docs/failures.md, which these tests compare with what the guests say;
//! with MODEST_WRITE_DOCS=1 they write it instead.

use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::sync::Mutex;

use elf::ElfBytes;
use elf::endian::AnyEndian;
use mkmodest::codec;
use mkmodest::image::Extra;
use mkmodest::kernel::cache;
use modest_loader::format::Format;
use modest_loader::limits::KLOG_SLACK_US;
use modest_qemu::{Scenario, gzip, project, unsigned};

/// One way to fail.
#[derive(Default)]
struct Case {
    /// What was done, for people.
    what: &'static str,
    /// The file, or with `by_name` what modprobe is given.
    file: String,
    /// Its parameters.
    params: &'static str,
    /// modest's manifest, where it is not that alone.
    manifest: Option<String>,
    /// Whether it is modprobe that is called.
    by_name: bool,
    /// What no peer has, so none is called.
    alone: bool,
    /// A shell command before each program.
    before: &'static str,
    /// Words before each program's own.
    by: &'static str,
    /// A shell command after each program.
    after: &'static str,
    /// What modest has to say, whatever the document has.
    tells: &'static str,
}

/// A boot with many cases.
struct Machine {
    scenario: Scenario,
    /// The name of its section in the document, and its heading.
    section: &'static str,
    title: &'static str,
    /// Where the peers are, by `scripts/peers`.
    peers: Option<&'static str>,
    /// A shell command before all cases.
    before: &'static str,
    other_releases: Vec<String>,
    cases: Vec<Case>,
}

impl Machine {
    fn new(section: &'static str, title: &'static str, board: &str, kernel: &str, peers: Option<&'static str>) -> Self {
        // The kernel's own lines are not wanted on the console, but in its log.
        let scenario = Scenario::with_manifest(board, Some(kernel), "@exec /next\n").unwrap().append("loglevel=1");
        Machine { scenario, section, title, peers, before: "", other_releases: Vec::new(), cases: Vec::new() }
    }

    fn module(&self, name: &str) -> Vec<u8> {
        self.scenario.module(name).unwrap()
    }

    /// A module of another kernel.
    fn other(&mut self, board: &str, kernel: &str, name: &str) -> Vec<u8> {
        let other = Scenario::new(board, Some(kernel)).unwrap();
        self.other_releases.push(other.kernel.tree.release.clone());
        other.module(name).unwrap()
    }

    fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.scenario = self.scenario.file(path, bytes);
        self
    }

    fn with_node(mut self, path: &str, mode: u32, bytes: &str) -> Self {
        self.scenario.options.extra.push(Extra { path: path.into(), mode, bytes: bytes.into() });
        self
    }

    fn append(mut self, words: &str) -> Self {
        self.scenario = self.scenario.append(words);
        self
    }

    fn case(mut self, what: &'static str, file: &str, tells: &'static str) -> Self {
        self.cases.push(Case { what, file: file.into(), tells, ..Case::default() });
        self
    }

    /// A case of a file with that content.
    fn of(self, what: &'static str, file: &str, bytes: impl Into<Vec<u8>>, tells: &'static str) -> Self {
        self.with(file, bytes).case(what, file, tells)
    }

    /// Adds the program that runs another as a user who may do nothing.
    fn and_nobody(mut self) -> Self {
        let script = "exec busybox su -s /bin/sh nobody -c \"$*\"\n";
        self.scenario = self.scenario.script("/as-nobody", script).unwrap();
        self.scenario = self.scenario.link("/bin/sh", "busybox");
        self.with("/etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    }

    /// Changes the case before.
    fn but(mut self, change: impl FnOnce(&mut Case)) -> Self {
        change(self.cases.last_mut().unwrap());
        self
    }

    /// Boots, and compares what is said with the document, or writes it there.
    fn check(mut self) {
        let mut script = "mount -t proc p /proc 2>/dev/null; mount -t sysfs s /sys 2>/dev/null\n".to_string();
        script += self.before;
        let mut programs = vec!["modest", "busybox"];
        if let Some(dir) = self.peers {
            programs.push("kmod");
            let dir = cache().unwrap().join("peers").join(dir);
            self.scenario = self.scenario.program("/sbin/insmod", &dir.join("insmod")).unwrap();
            self.scenario = self.scenario.link("/sbin/modprobe", "insmod");
            for library in fs::read_dir(dir.join("lib")).unwrap() {
                let library = library.unwrap();
                let path = format!("/lib/{}", library.file_name().to_str().unwrap());
                self.scenario = self.scenario.program(&path, &library.path()).unwrap();
            }
        }
        for (number, case) in self.cases.iter().enumerate() {
            let Case { file, params, before, by, after, .. } = case;
            let space = if params.is_empty() { "" } else { " " };
            let manifest = case.manifest.clone().unwrap_or(format!("{file}{space}{params}\n"));
            self.scenario = self.scenario.file(&format!("/c/{number}"), manifest);
            let tool = if case.by_name { "modprobe" } else { "insmod" };
            for program in &programs {
                let command = match *program {
                    "modest" => format!("/init load -m /c/{number}"),
                    _ if case.alone => continue,
                    "busybox" => format!("/bin/busybox {tool} {file}{space}{params}"),
                    _ => format!("/sbin/{tool} {file}{space}{params}"),
                };
                writeln!(script, "{before}\necho '@@ {number} {program}'\n{by} {command} 2>&1").unwrap();
                writeln!(script, "echo \"@@ exit code $?\"\n{after}").unwrap();
            }
        }
        script += "echo ALL-CASES-DONE\n";
        self.scenario.board.qemu.timeout_s *= 3;
        self.scenario = self.scenario.script("/next", &script).unwrap();
        let console = self.scenario.boot().unwrap().wait_for("ALL-CASES-DONE").unwrap();
        let mut text = format!("## {}\n", self.title);
        let mut wrong = Vec::new();
        for (number, case) in self.cases.iter().enumerate() {
            write!(text, "\n**{}**\n```\n", case.what).unwrap();
            for program in &programs {
                if case.alone && *program != "modest" {
                    continue;
                }
                let said = self.said(&console, &format!("@@ {number} {program}\n"));
                if *program == "modest" && !said.iter().any(|line| line.contains(case.tells)) {
                    wrong.push(format!("{}: expected {:?}, not {said:?}", case.what, case.tells));
                }
                for (i, line) in said.iter().enumerate() {
                    let program = if i == 0 { program } else { "" };
                    writeln!(text, "{program:7} | {line}").unwrap();
                }
            }
            text += "```\n";
        }
        assert!(wrong.is_empty(), "{}\n{console}", wrong.join("\n"));
        compare(self.section, &text);
    }

    /// What a program said after this mark.
    fn said(&self, console: &str, mark: &str) -> Vec<String> {
        let rest = console.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in:\n{console}")).1;
        let (said, rest) = rest.split_once("@@ exit code ").unwrap();
        let exit_code = rest.lines().next().unwrap();
        let lines = said.lines().map(|line| match line {
            "Terminated" => "(waits for ever)".into(),
            _ => self.normal(line),
        });
        // modest ends with how many modules were loaded.
        let mut lines: Vec<_> = lines.filter(|line| !line.starts_with("modest: 0 ") && !line.is_empty()).collect();
        if lines.is_empty() {
            lines.push(match exit_code {
                "0" => "(loads it, and says nothing)".into(),
                _ => format!("(nothing; exit code {exit_code})"),
            });
        }
        lines
    }

    /// A line without what another build of the same kernel, or another run, would have differently.
    fn normal(&self, line: &str) -> String {
        let mut line = line.replace(&self.scenario.kernel.tree.release, "THIS-RELEASE");
        for other in &self.other_releases {
            line = line.replace(other, "OTHER-RELEASE");
        }
        let word = |word: &str| {
            if word.starts_with("ctx=0x") {
                return "ctx=N ".into();
            }
            let number = word.trim_end_matches([' ', ',', ';']);
            let is_figure = number.len() > 3 || line.contains(" MiB ") || line.contains(" ms");
            let is_number = number.parse::<f64>().is_ok() && !number.starts_with('-');
            if is_number && is_figure { word.replace(number, "N") } else { word.into() }
        };
        line.split_inclusive(' ').map(word).collect()
    }
}

/// Compares a section of the document, or writes it.
fn compare(section: &str, text: &str) {
    // Machines are tested at the same time.
    static DOCUMENT: Mutex<()> = Mutex::new(());
    let _lock = DOCUMENT.lock();
    let file = project().join("docs/failures.md");
    let document = fs::read_to_string(&file).unwrap();
    let [begin, end] = ["begin", "end"].map(|mark| format!("<!-- {section}: {mark} -->\n"));
    let (before, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("no {begin:?} in docs/failures.md"));
    let (old, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("MODEST_WRITE_DOCS").is_some() {
        return fs::write(file, format!("{before}{begin}{text}{end}{after}")).unwrap();
    }
    let differs = text.lines().zip(old.lines().chain(std::iter::repeat(""))).find(|(new, old)| new != old);
    if let Some((new, old)) = differs {
        panic!("docs/failures.md, {section}, has\n{old}\nwhere the guest has\n{new}\nMODEST_WRITE_DOCS=1 writes it");
    }
    assert_eq!(text, old, "docs/failures.md");
}

/// Where a section is in an image.
fn section(image: &[u8], name: &str) -> Range<usize> {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(image).unwrap();
    let header = elf.section_header_by_name(name).unwrap().unwrap_or_else(|| panic!("no section {name}"));
    header.sh_offset as usize..(header.sh_offset + header.sh_size) as usize
}

/// Where a text is in an image, with the NUL behind it, in a section.
fn text_in(image: &[u8], in_section: &str, text: &str) -> usize {
    let range = section(image, in_section);
    let wanted = [text.as_bytes(), b"\0"].concat();
    let mut found = image[range.clone()].windows(wanted.len()).enumerate().filter(|(_, bytes)| *bytes == wanted);
    // A table of names holds the ends of longer ones too.
    let at = found.find(|(at, _)| *at == 0 || image[range.start + at - 1] == 0);
    range.start + at.unwrap_or_else(|| panic!("no {text} in {in_section}")).0
}

/// An unsigned copy with another text of the same length in a section.
fn with_text(image: &[u8], section: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut copy = unsigned(image).to_vec();
    let at = text_in(&copy, section, from);
    copy[at..at + to.len()].copy_from_slice(to.as_bytes());
    copy
}

/// An unsigned copy that says something else of itself: each text of its .modinfo goes through `change`.
fn with_info(image: &[u8], change: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut copy = unsigned(image).to_vec();
    let range = section(&copy, ".modinfo");
    let texts = copy[range.clone()].split(|byte| *byte == 0).map(|text| std::str::from_utf8(text).unwrap());
    // What nobody reads makes room.
    let kept = texts.filter(|text| !text.is_empty() && !READ_BY_NOBODY.iter().any(|key| text.starts_with(key)));
    let mut info: Vec<_> = kept.filter_map(change).flat_map(|text| [text.into_bytes(), vec![0]].concat()).collect();
    assert!(info.len() <= range.len(), "no room in .modinfo");
    info.resize(range.len(), 0);
    copy[range].copy_from_slice(&info);
    copy
}

const READ_BY_NOBODY: [&str; 4] = ["author=", "description=", "parm=", "srcversion="];

/// An unsigned copy with another value of a field.
fn with_field(image: &[u8], key: &str, value: Option<&str>) -> Vec<u8> {
    with_info(image, |text| match text.split_once('=') {
        Some((of, _)) if of == key => value.map(|value| format!("{key}={value}")),
        _ => Some(text.into()),
    })
}

/// An unsigned copy of another name.
fn renamed(image: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut copy = with_field(image, "name", Some(to));
    let at = text_in(&copy, ".gnu.linkonce.this_module", from);
    copy[at..at + from.len().max(to.len())].fill(0);
    copy[at..at + to.len()].copy_from_slice(to.as_bytes());
    copy
}

/// An unsigned copy that was built with another checksum of a symbol.
fn with_other_crc(image: &[u8], symbol: &str) -> Vec<u8> {
    let mut copy = unsigned(image).to_vec();
    let at = text_in(&copy, "__versions", symbol);
    copy[at - 8] ^= 1;
    copy
}

/// An unsigned copy without a symbol table.
fn stripped(image: &[u8]) -> Vec<u8> {
    let mut copy = unsigned(image).to_vec();
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    let mut sections = (0..usize::from(image[60])).map(|i| word(40) + i * 64 + 4);
    let symbols = sections.find(|at| image[*at] == 2).unwrap();
    copy[symbols] = 1;
    copy
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    copy[at] ^= 1;
    copy
}

/// The indexes that names are looked up by.
fn with_indexes(mut machine: Machine) -> Machine {
    let tree = machine.scenario.kernel.tree.clone();
    let mut files: Vec<_> = ["dep", "alias", "symbols", "builtin", "builtin.alias"].map(|t| format!("{t}.bin")).into();
    // busybox knows no others.
    files.extend(["dep", "alias", "symbols", "softdep"].map(String::from));
    for file in files {
        let file = format!("modules.{file}");
        let bytes = fs::read(tree.dir.join(&file)).unwrap();
        machine = machine.with(&format!("/lib/modules/{}/{file}", tree.release), bytes);
    }
    machine
}

const AARCH64: &str = "qemu-aarch64";
const PEERS: Option<&str> = Some("trixie-arm64");

#[test]
fn files_on_aarch64() {
    let mut machine = Machine::new("files", "Files that are no modules for this kernel", AARCH64, "debian13", PEERS);
    let crc = machine.module("crc-itu-t");
    let crc_gz = gzip(&crc).unwrap();
    let crc_xz = codec::encode(&crc, Format::Xz).unwrap();
    let crc_zst = codec::encode(&crc, Format::Zstd).unwrap();
    let riscv = machine.other("qemu-riscv64", "debian13", "crc-itu-t");
    let armv7 = machine.other("qemu-armv7", "debian13", "crc-itu-t");
    let debian12 = machine.other(AARCH64, "debian12", "crc-itu-t");
    let program = fs::read(machine.scenario.kernel.busybox()).unwrap();
    let html = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n";
    let object = with_text(&crc, ".shstrtab", ".gnu.linkonce.this_module", ".gnu.linkonce.that_module");
    let no_preempt =
        with_field(&crc, "vermagic", Some(&format!("{} SMP aarch64", machine.scenario.kernel.tree.release)));
    machine
        .case("There is no such file", "/none/crc-itu-t.ko", "ENOENT: no such file")
        .of("A part of the path is a file", "/file", "x", "")
        .but(|case| (case.file, case.tells) = ("/file/crc-itu-t.ko".into(), "ENOTDIR: a part of its path"))
        .with_node("/circle.ko", 0o120_777, "circle.ko")
        .case("A symbolic link leads to itself", "/circle.ko", "ELOOP: its symbolic links form a loop")
        .case("It is a directory", "/lib", "it is a directory")
        .case("It is a device", "/dev/null", "it is a device")
        .with_node("/fifo.ko", 0o010_644, "")
        .case("It is a FIFO", "/fifo.ko", "FIFO")
        .but(|case| case.by = "timeout 5")
        .of("It is empty", "/empty/crc-itu-t.ko", "", "EINVAL: the file is empty")
        .of(
            "It is the error page of a web server",
            "/html/crc-itu-t.ko",
            html,
            "the file is not a module: it begins with 3c 21",
        )
        .of("It is a program", "/program/crc-itu-t.ko", program, "it is a program or a shared library")
        .of("It is an object file that modpost did not see", "/object/crc-itu-t.ko", object, "no section .gnu.linkonce")
        .of("It is cut in half", "/half/crc-itu-t.ko", &crc[..crc.len() / 2], "the file is truncated")
        .of("It is stripped by `strip`", "/stripped/crc-itu-t.ko", stripped(&crc), "the kernel cannot link it")
        .of("It is for RISC-V", "/riscv/crc-itu-t.ko", riscv, "built for RISC-V (64 bits)")
        .of("It is for Arm, 32 bits", "/arm/crc-itu-t.ko", armv7, "built for Arm, but")
        .of("It is of Debian 12's kernel, 6.1", "/debian12/crc-itu-t.ko", debian12, "built for OTHER-RELEASE")
        .of(
            "It is of the same release, otherwise configured",
            "/config/crc-itu-t.ko",
            no_preempt,
            "built for a kernel of",
        )
        .of("In gzip, cut in half", "/half/crc-itu-t.ko.gz", &crc_gz[..crc_gz.len() / 2], "ends too early")
        .of("In gzip, a bit flipped", "/bit/crc-itu-t.ko.gz", flipped(&crc_gz, crc_gz.len() - 8), "checksum")
        .but(|case| case.after = "rmmod crc_itu_t 2>/dev/null")
        .of("In xz, cut in half", "/half/crc-itu-t.ko.xz", &crc_xz[..crc_xz.len() / 2], "ends too early")
        .of("In xz, a bit flipped", "/bit/crc-itu-t.ko.xz", flipped(&crc_xz, crc_xz.len() / 2), "corrupt")
        .of("In zstd, cut in half", "/half/crc-itu-t.ko.zst", &crc_zst[..crc_zst.len() / 2], "ends too early")
        .of("In zstd, a bit flipped", "/bit/crc-itu-t.ko.zst", flipped(&crc_zst, crc_zst.len() / 2), "corrupt")
        .but(|case| case.after = "rmmod crc_itu_t 2>/dev/null")
        .check();
}

/// Before a case: what its module needs.
const WITH_CRC: &str = "insmod /good/crc-itu-t.ko";
const WITHOUT_CRC: &str = "rmmod crc_itu_t";

/// Cases that are the same on all kernels with checksums of symbols, but for what is told of a symbol `without_log`.
fn with_symbols(machine: Machine, without_log: &'static str) -> Machine {
    let [dummy, crc, vfat, pcbc] = ["dummy", "crc-itu-t", "vfat", "pcbc"].map(|name| machine.module(name));
    let unknown = with_text(&dummy, ".strtab", "register_netdevice", "register_notdevice");
    let internal = with_text(&dummy, ".strtab", "register_netdevice", "timekeeping_resume");
    let proprietary = with_field(&dummy, "license", Some("Proprietary"));
    let crc_of = |symbol| with_other_crc(&dummy, symbol);
    let has_namespace = pcbc.windows(10).any(|bytes| bytes == b"import_ns=");
    let mut machine = machine
        .with("/good/crc-itu-t.ko", crc.clone())
        .of("It needs a module that is not loaded", "/vfat.ko", vfat, "`fat` exports (kernel/fs/fat/fat.ko")
        .case("The same, where the kernel's log cannot be read", "/vfat.ko", without_log)
        .but(|case| (case.before, case.after) = ("rm /dev/kmsg", "mknod /dev/kmsg c 1 11"))
        .of(
            "It needs a symbol that nobody has",
            "/unknown/dummy.ko",
            unknown,
            "neither this kernel nor a loaded module",
        )
        .of(
            "It needs a symbol that is not exported",
            "/internal/dummy.ko",
            internal,
            "which this kernel has but does not export",
        )
        .of(
            "It is proprietary, and needs what is for GPL alone",
            "/license/dummy.ko",
            proprietary,
            "only modules with a GPL license",
        )
        .of("A symbol has another checksum", "/crc/dummy.ko", crc_of("rtnl_lock"), "checksum of the symbol `rtnl_lock`")
        .of("The kernel's own layout has another checksum", "/layout/dummy.ko", crc_of("module_layout"), "checksum of");
    if has_namespace {
        let no_namespace = with_field(&pcbc, "import_ns", None);
        machine = machine.of(
            "It does not import a namespace",
            "/pcbc.ko",
            no_namespace,
            "import its namespace CRYPTO_INTERNAL",
        );
    }
    machine
        .of(
            "It exports what a loaded module does",
            "/crc-other.ko",
            renamed(&crc, "crc_itu_t", "crc_other"),
            "`crc_itu_t`",
        )
        .but(|case| (case.before, case.after) = (WITH_CRC, WITHOUT_CRC))
        .of(
            "It has the name of one that is built in",
            "/random.ko",
            renamed(&crc, "crc_itu_t", "random"),
            "is built into",
        )
        .of(
            "A parameter does not take its value",
            "/dummy.ko",
            dummy,
            "`numdummies` (int) does not take the value `many`",
        )
        .but(|case| case.params = "numdummies=many")
        .case("It has no such parameter, and loads", "/dummy.ko", "did you mean `numdummies` (int)?")
        .but(|case| (case.params, case.after) = ("numdumies=2", "rmmod dummy"))
        .case("It is loaded already", "/good/crc-itu-t.ko", "crc_itu_t: already loaded")
        .but(|case| (case.before, case.after) = (WITH_CRC, WITHOUT_CRC))
}

#[test]
fn refusals_on_aarch64() {
    let title = "What the kernel or the module itself refuses: Linux 6.12, AArch64";
    let machine = Machine::new("refusals", title, AARCH64, "debian13", PEERS).append("module_blacklist=nls_utf8");
    let machine = with_symbols(with_indexes(machine), "`fat` exports (kernel/fs/fat/fat.ko");
    let [sha3, ipmi, ipmi_needs] = ["sha3-ce", "ipmi_si", "ipmi_msghandler"].map(|name| machine.module(name));
    let [null_blk, configfs, nls, crc] =
        ["null_blk", "configfs", "nls_utf8", "crc-itu-t"].map(|name| machine.module(name));
    let release = machine.scenario.kernel.tree.release.clone();
    let mut bit = crc.clone();
    bit[section(&crc, ".comment").start] ^= 1;
    let crc_gz = gzip(&crc).unwrap();
    machine
        .of("Its init finds no device", "/sha3-ce.ko", sha3, "ENODEV: its init found no device for it")
        .of("The same, and the module says why", "/ipmi_si.ko", ipmi, "Unable to find any System Interface(s)")
        .but(|case| (case.before, case.after) = ("insmod /good/ipmi_msghandler.ko", "rmmod ipmi_msghandler"))
        .with("/good/ipmi_msghandler.ko", ipmi_needs)
        .of("Its init refuses what it was told", "/null_blk.ko", null_blk, "log says: \"legacy IO path is no longer")
        .but(|case| case.params = "queue_mode=1")
        .but(|case| (case.before, case.after) = ("insmod /good/configfs.ko", "rmmod configfs"))
        .with("/good/configfs.ko", configfs)
        .of("A bit of a signed module is flipped", "/bit/crc-itu-t.ko", bit, "the file was changed after it was signed")
        .of("`module_blacklist=` names it", "/nls_utf8.ko", nls, "by module_blacklist= on the kernel command line")
        .case("By its name: what it needs is not in the image", "vfat", "ENOENT: no such file, /lib/modules/")
        .but(|case| case.by_name = true)
        .case("By its name: there is none", "ext5", "no module and no alias of that name")
        .but(|case| case.by_name = true)
        .with_node("/private/crc-itu-t.ko", 0o100_600, "x")
        .case("By a user that may not read the file", "/private/crc-itu-t.ko", "EACCES: this process may not read it")
        .but(|case| case.by = "/as-nobody")
        .case("By a user that may not load modules", "/good/crc-itu-t.ko", "EPERM: this process lacks CAP_SYS_MODULE")
        .but(|case| case.by = "/as-nobody")
        .with("/crc-itu-t.ko.gz", crc_gz)
        .case("It would take more memory than `@budget`", "/crc-itu-t.ko.gz", "budget")
        .but(|case| (case.manifest, case.alone) = (Some("@budget 64K\n/crc-itu-t.ko.gz\n".into()), true))
        .case("`@path=` is none for it", "/crc-itu-t.ko.gz @path=finit", "@path=finit cannot load a gzip file")
        .but(|case| case.alone = true)
        .case("A line of the manifest is wrong", "/good/crc-itu-t.ko @optionl", "unknown attribute @optionl; expected")
        .but(|case| case.alone = true)
        .case("A quote is not closed", "/good/crc-itu-t.ko x=\"1", "quote")
        .but(|case| case.alone = true)
        .case("Waiting for what does not come", "@wait /dev/none @timeout=10ms", "/dev/none")
        .but(|case| case.alone = true)
        .with("/lib/modules/modules.none", "")
        .case("By its path, from the tree", "kernel/fs/fat/fat.ko", "ENOENT: no such file")
        .but(|case| {
            (case.manifest, case.alone) = (Some(format!("@root /lib/modules/{release}\nkernel/fs/fat/fat.ko\n")), true)
        })
        .case("`kernel.modules_disabled` is 1", "/good/crc-itu-t.ko", "kernel.modules_disabled is 1")
        .but(|case| case.before = "echo 1 >/proc/sys/kernel/modules_disabled")
        .and_nobody()
        .check();
}

#[test]
fn signatures_on_aarch64() {
    let title = "With module.sig_enforce=1";
    let mut machine = Machine::new("signatures", title, AARCH64, "debian13", PEERS).append("module.sig_enforce=1");
    let crc = machine.module("crc-itu-t");
    let other = machine.other(AARCH64, "debian12", "crc-itu-t");
    let mut bit = crc.clone();
    bit[section(&crc, ".comment").start] ^= 1;
    // The most significant byte of the signature's length, before the marker behind it.
    let malformed = flipped(&crc, crc.len() - 28 - 4);
    machine
        .of("It is not signed", "/unsigned/crc-itu-t.ko", unsigned(&crc), "EKEYREJECTED: it is not signed")
        .of("A bit of it is flipped", "/bit/crc-itu-t.ko", bit, "the file was changed after it was signed")
        .of("Its signature is malformed", "/malformed/crc-itu-t.ko", malformed, "EBADMSG")
        .of("It is signed by another", "/other/crc-itu-t.ko", other, "with a key that this kernel does not have")
        .check();
}

#[test]
fn a_locked_kernel_on_aarch64() {
    let machine = Machine::new("lockdown", "With lockdown=integrity", AARCH64, "debian13", PEERS);
    let crc = machine.module("crc-itu-t");
    machine
        .append("lockdown=integrity")
        .of("It is not signed", "/unsigned/crc-itu-t.ko", unsigned(&crc), "EPERM: the kernel is locked down")
        .check();
}

#[test]
fn refusals_on_an_older_kernel() {
    let title = "What the kernel refuses: Linux 6.1, AArch64";
    let mut machine = Machine::new("older", title, AARCH64, "debian12", PEERS);
    let crc = machine.other(AARCH64, "debian13", "crc-itu-t");
    let vfat = machine.other(AARCH64, "debian13", "vfat");
    // Its /proc/kallsyms has no data, so what is not there may be in the kernel all the same.
    with_symbols(with_indexes(machine), "ENOENT: a symbol that it needs is missing")
        .of("It is of Debian 13's kernel, 6.12", "/debian13/crc-itu-t.ko", crc, "built for OTHER-RELEASE")
        .of("The same, and it needs what is not loaded", "/debian13/vfat.ko", vfat, "built for OTHER-RELEASE")
        .check();
}

#[test]
fn inits_on_riscv64() {
    let title = "What the init of a module says: Linux 6.12, RISC-V";
    let mut machine = Machine::new("inits", title, "lowram-riscv64", "small", None);
    let crc = machine.other("qemu-riscv64", "debian13", "crc-itu-t");
    for name in ["modest_errno", "modest_symbol"] {
        let module = machine.module(name);
        machine = machine.with(&format!("/{name}.ko"), module);
    }
    for (what, params, tells) in [
        ("Its init says ENOENT", "errno=2", "ENOENT: its init reports that something is missing"),
        ("EIO", "errno=5", "EIO: "),
        ("ENOEXEC", "errno=8", "ENOEXEC: "),
        ("EBUSY", "errno=16", "EBUSY: "),
        ("EEXIST", "errno=17", "EEXIST: its init reports that something already exists"),
        ("ENODEV", "errno=19", "ENODEV: its init found no device"),
        ("EINVAL", "errno=22", "EINVAL: "),
        ("EPERM", "errno=1", "EPERM: "),
        ("EPROBE_DEFER, which has no name for programs", "errno=517", "517"),
    ] {
        machine = machine.case(what, "/modest_errno.ko", tells).but(|case| case.params = params);
    }
    machine
        .case(
            "It needs a module that is not loaded, and there are no indexes",
            "/modest_symbol.ko",
            "`modest_exported`",
        )
        .of("It is of Debian's kernel", "/debian/crc-itu-t.ko", crc, "built for OTHER-RELEASE")
        .check();
}

/// How far the log's clock is from that of programs, which counts where nothing can be put into the log. It is ahead on these, by
/// up to 0.6 s, so without a mark something earlier may be heard, but nothing missed.
#[test]
fn the_clock_of_the_log_is_not_far_behind() {
    let now = "sed -n 's/^now at \\([0-9]*\\) nsecs/\\1/p' /proc/timer_list";
    let script = format!(
        "mount -t proc p /proc 2>/dev/null\nbefore=$({now}); echo CLOCK >/dev/kmsg; after=$({now})\n\
         echo \"$before $after $(grep -m 1 'CLOCK$' /dev/kmsg) READ\"\n"
    );
    for board in ["qemu-aarch64", "qemu-armv7", "qemu-riscv64"] {
        let scenario = Scenario::with_manifest(board, None, "@exec /next\n").unwrap().append("loglevel=1");
        let console = scenario.script("/next", &script).unwrap().boot().unwrap().wait_for(" READ").unwrap();
        let line = console.lines().find(|line| line.ends_with(" READ")).unwrap();
        let mut words = line.split(' ');
        let mut us = || words.next().unwrap().parse::<i64>().unwrap() / 1000;
        let (before_us, after_us) = (us(), us());
        let log_us: i64 = words.next().unwrap().split(',').nth(2).unwrap().parse().unwrap();
        println!("{board}: the log's clock is {} to {} us behind", before_us - log_us, after_us - log_us);
        assert!(before_us - log_us <= KLOG_SLACK_US as i64, "{line}");
    }
}
