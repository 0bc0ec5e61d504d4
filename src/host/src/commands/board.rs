//! `mkmodest board`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::make::{devices, find_tree};
use super::way;
use crate::board::Arch;
use crate::codec::decode;
use crate::device_tree::Devices;
use crate::kernel::{KernelSymbols, Tree, cache};
use crate::module::info::ModuleInfo;

/// Writes a board file for a device tree: the modules on the way to its root, in order (docs/devices.md)
#[derive(clap::Args)]
pub struct Args {
    /// The board's device tree
    #[arg(long, value_name = "FILE")]
    dtb: PathBuf,
    /// The folder of its kernel: vmlinuz, and lib/modules/VERSION
    #[arg(long, value_name = "DIR")]
    kernel_modules: PathBuf,
    /// The device that brings the root, by the name, path or alias of its node [default: all that bring disks]
    #[arg(long, value_name = "NODE")]
    root: Option<String>,
    /// Takes the modules of all devices, not only those on the way to the root
    #[arg(long)]
    all: bool,
    /// The module of the root's file system
    #[arg(long, value_name = "NAME", default_value = "ext4")]
    file_system: String,
    /// The kernel's command line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "panic=-1 root=LABEL=modest-root rw rootwait",
        allow_hyphen_values = true
    )]
    cmdline: String,
    /// QEMU's name of the machine
    #[arg(long, value_name = "NAME", default_value = "virt")]
    machine: String,
    /// Where to write it [default: prints it]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command; returns the exit code.
pub fn run(args: Args) -> Result<u8> {
    let text = board_file(&args)?;
    match &args.output {
        None => print!("{text}"),
        Some(file) => {
            fs::write(file, text).with_context(|| file.display().to_string())?;
            println!("{}", file.display());
        }
    }
    Ok(0)
}

fn board_file(args: &Args) -> Result<String> {
    let tree = find_tree(&args.kernel_modules)?;
    let (symbols, _) = KernelSymbols::find(&tree, None);
    let devices = devices(Some(&args.dtb), &tree, symbols.as_ref())?;
    let mut modules = way::modules(&devices, args.root.as_deref(), args.all)?;
    modules.push(args.file_system.clone());
    let model = devices.tree[devices.tree.root()].text("model").unwrap_or("A board");
    let arch = arch(&tree)?;
    let root = args.root.as_ref().map(|root| format!("root-device = {}\n", quoted(root))).unwrap_or_default();
    let list: Vec<_> = modules.iter().map(|name| quoted(name)).collect();
    let (kernel, dtb) = kernel(args)?;
    let disk_args = disk_args(&devices, args.root.as_deref());
    Ok(format!(
        "description = {}\narch = \"{}\"\nmodules = [{}]\n{root}cmdline = {}\n\n[[kernel]]\n{kernel}dtb = {}\n\n\
         [qemu]\nprogram = \"{}\"\nargs = [\"-M\", {}]\ndisk = \"plain\"\ndisk-args = [{disk_args}]\ntimeout-s = 240\n",
        quoted(&format!("{model}: root on {}", args.root.as_deref().unwrap_or("a disk"))),
        arch.name(),
        list.join(", "),
        quoted(&args.cmdline),
        quoted(&dtb),
        arch.qemu(),
        quoted(&args.machine),
    ))
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// What the modules of a tree are built for.
fn arch(tree: &Tree) -> Result<Arch> {
    let files = tree.indexed("modules.dep");
    let first = files.first().with_context(|| format!("{}: no modules in it", tree.dir.display()))?;
    let file = tree.dir.join(first);
    let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
    let info = ModuleInfo::read(&decode(&bytes).with_context(|| file.display().to_string())?);
    let is_it = |arch: &Arch| info.machine == Some(arch.machine());
    match Arch::ALL.into_iter().find(is_it) {
        Some(arch) => Ok(arch),
        None => bail!("{}: for no processor that modest runs on; expected arm, aarch64 or riscv64", file.display()),
    }
}

/// The keys of the kernel, and its device tree's place: one that `scripts/kernel` left by its package, another by its folder.
fn kernel(args: &Args) -> Result<(String, String)> {
    let absolute = |path: &Path| fs::canonicalize(path).with_context(|| path.display().to_string());
    let (dir, file) = (absolute(&args.kernel_modules)?, absolute(&args.dtb)?);
    let dtbs = fs::canonicalize(dir.join("dtb")).unwrap_or_default();
    let below = file.strip_prefix(&dtbs).ok().filter(|_| dtbs.is_absolute());
    let dtb = below.unwrap_or(&file).display().to_string();
    let kernels = cache().ok().and_then(|cache| fs::canonicalize(cache.join("kernels")).ok());
    let own = kernels.and_then(|kernels| Some(dir.strip_prefix(kernels).ok()?.to_str()?.to_string()));
    let keys = match own.as_deref().and_then(|name| name.split_once("-linux-image-")) {
        Some((suite, package)) => {
            let name = match suite {
                "bookworm" => "debian12",
                "trixie" => "debian13",
                other => other,
            };
            format!(
                "name = {}\nsuite = {}\npackage = {}\n",
                quoted(name),
                quoted(suite),
                quoted(&format!("linux-image-{package}"))
            )
        }
        None => format!("name = \"own\"\nfolder = {}\n", quoted(&dir.display().to_string())),
    };
    Ok((keys, dtb))
}

/// How QEMU attaches the root disk.
fn disk_args(devices: &Devices, root: Option<&str>) -> &'static str {
    let device = root.and_then(|name| devices.tree.find(name)).or(devices.disks().first().copied());
    let is_usb = device.is_some_and(|device| devices.is_usb_host(device));
    match device.and_then(|device| devices.disk_kind(device)).map(|kind| kind.dev) {
        Some("mmcblk") => r#""-drive", "file={disk},format=raw,if=sd""#,
        Some("sd") if is_usb => {
            r#""-drive", "file={disk},format=raw,if=none,id=root", "-device", "usb-storage,drive=root""#
        }
        Some("sd") => r#""-drive", "file={disk},format=raw,if=none,id=root", "-device", "ide-hd,drive=root,bus=ide.0""#,
        _ => r#""-drive", "file={disk},format=raw,if=none,id=root", "-device", "virtio-blk-device,drive=root""#,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::device_tree::made::dtb;
    use crate::kernel::made::tree;
    use crate::module::made::module;

    fn args(dir: &Path) -> Args {
        Args {
            dtb: dir.join("b.dtb"),
            kernel_modules: dir.into(),
            root: None,
            all: false,
            file_system: "ext4".into(),
            cmdline: "root=/dev/\"x\"".into(),
            machine: "virt".into(),
            output: None,
        }
    }

    #[test]
    fn what_is_written_is_a_board_file() {
        let alias = b"alias of:N*T*Csd sdhci_x\nalias of:N*T*Cg g\nalias of:N*T*Cled led\n";
        let tree_text = "model = s:A \"board\"
            mmc@1 { compatible = s:sd; cd-gpios = n:1 }
            g { compatible = s:g; phandle = n:1; #gpio-cells = n:0 }
            led { compatible = s:led }
            other { compatible = s:nothing }";
        let module = module(&["vermagic=6.1.0 x"]);
        let (_tmp, kernel) = tree(&[
            ("modules.dep", b"kernel/drivers/mmc/host/sdhci-x.ko:\nkernel/g.ko:\nkernel/led.ko:\n"),
            ("kernel/drivers/mmc/host/sdhci-x.ko", &module),
            ("modules.alias", alias),
            ("b.dtb", &dtb(tree_text)),
        ]);
        let modules = |args: &Args| {
            let file = kernel.dir.join("b.toml");
            fs::write(&file, board_file(args).unwrap()).unwrap();
            let board = Board::read(&file).unwrap();
            assert_eq!((board.arch, board.cmdline.as_str()), (Arch::Aarch64, "root=/dev/\"x\""));
            board.modules.into_iter().map(|module| module.line).collect::<Vec<_>>()
        };
        assert_eq!(modules(&args(&kernel.dir)), ["g", "sdhci_x", "ext4"]);
        assert_eq!(modules(&Args { all: true, ..args(&kernel.dir) }), ["g", "sdhci_x", "led", "ext4"]);
        assert_eq!(modules(&Args { root: Some("mmc@1".into()), ..args(&kernel.dir) }), ["g", "sdhci_x", "ext4"]);
        let says =
            |root: &str| board_file(&Args { root: Some(root.into()), ..args(&kernel.dir) }).unwrap_err().to_string();
        assert_eq!(says("mmc@2"), "b.dtb: no enabled node mmc@2; did you mean mmc@1?");
        assert_eq!(says("other"), "b.dtb: other (of:NotherTCnothing): this kernel has no driver for it");
    }
}
