//! The root disk that a boot is handed over to: an ext4 file system with busybox, whose init says what it found.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::board::Layout;
use crate::program::program;

/// The line that the root's init ends with: the hand-over worked.
pub const MARKER: &str = "MODEST-ROOT-OK";

/// UUID of the file system, for `root=UUID=`.
pub const FILE_SYSTEM_UUID: &str = "6d6f6465-7374-4000-8000-726f6f740001";

/// UUID of the only partition of a GPT disk, for `root=PARTUUID=`.
pub const PARTITION_UUID: &str = "6d6f6465-7374-4000-8000-706172740001";

const DISK_UUID: &str = "6d6f6465-7374-4000-8000-6469736b0001";

/// Signature of an MBR disk; `root=PARTUUID=6d6f6465-01` is its partition.
pub const DISK_SIGNATURE: &str = "0x6d6f6465";

/// Where the partition begins; at the disk's end, GPT has its second table in as much.
const ALIGN_BYTES: u64 = 1 << 20;

const INIT: &str = r#"#!/bin/sh
[ -e /proc/mounts ] || mount -t proc proc /proc
while read -r line; do
    case $line in *" / "*) root=$line ;; esac
done </proc/mounts
echo "MODEST-ROOT pid=$$ release=$(uname -r) root=$root"
echo "MODEST-ROOT args: $*"
read -r cmdline </proc/cmdline
echo "MODEST-ROOT cmdline: $cmdline"
while read -r what where kind rest; do
    echo "MODEST-ROOT mount: $what on $where, $kind"
done </proc/mounts
echo MODEST-ROOT-OK
sync
poweroff -f
"#;

/// Makes the disk in `file`, `size_bytes` long, with that static busybox in it.
pub fn make(file: &Path, layout: Layout, size_bytes: u64, busybox: &Path) -> Result<()> {
    let (offset_bytes, label) = match layout {
        Layout::Plain => (0, None),
        Layout::Gpt => (ALIGN_BYTES, Some("gpt")),
        Layout::Mbr => (ALIGN_BYTES, Some("dos")),
        Layout::None => bail!("the board has no disk"),
    };
    let tail_bytes = if layout == Layout::Gpt { ALIGN_BYTES } else { 0 };
    let fs_bytes = size_bytes.checked_sub(offset_bytes + tail_bytes).filter(|bytes| *bytes > 0);
    let fs_bytes = fs_bytes.with_context(|| format!("{size_bytes} bytes are too few for a root disk"))?;

    let content = tempfile::tempdir()?;
    populate(content.path(), busybox)?;
    let disk = File::create(file).with_context(|| format!("{}", file.display()))?;
    disk.set_len(size_bytes)?;
    if let Some(label) = label {
        let (start, sectors) = (offset_bytes / 512, fs_bytes / 512);
        let partition = match layout {
            Layout::Gpt => {
                format!("label-id: {DISK_UUID}\nstart={start}, size={sectors}, uuid={PARTITION_UUID}\n")
            }
            _ => format!("label-id: {DISK_SIGNATURE}\nstart={start}, size={sectors}, type=83\n"),
        };
        run(Command::new(program("sfdisk", "fdisk")?).args(["-q"]).arg(file), &format!("label: {label}\n{partition}"))?;
    }
    let mut mke2fs = Command::new(program("mke2fs", "e2fsprogs")?);
    mke2fs.args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "modest-root", "-U", FILE_SYSTEM_UUID]);
    mke2fs.args(["-E", &format!("offset={offset_bytes},root_owner=0:0"), "-d"]).arg(content.path());
    run(mke2fs.arg(file).arg(format!("{}k", fs_bytes / 1024)), "")
}

fn populate(root: &Path, busybox: &Path) -> Result<()> {
    for dir in ["bin", "sbin", "dev", "proc", "sys", "run", "tmp"] {
        fs::create_dir(root.join(dir))?;
    }
    let executable = || Permissions::from_mode(0o755);
    fs::set_permissions(root, executable())?;
    fs::copy(busybox, root.join("bin/busybox")).with_context(|| format!("{}", busybox.display()))?;
    fs::set_permissions(root.join("bin/busybox"), executable())?;
    for applet in ["sh", "mount", "uname", "cat", "poweroff", "reboot", "ls", "sync"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("sbin/init"), INIT)?;
    fs::set_permissions(root.join("sbin/init"), executable())?;
    Ok(())
}

/// Runs a program with that standard input; what it says is told only if it fails.
fn run(command: &mut Command, stdin: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    // One that ends without reading all says itself why.
    let _ = child.stdin.take().context("piped")?.write_all(stdin.as_bytes());
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debugfs(file: &Path, offset_bytes: u64, request: &str) -> String {
        let device = format!("{}?offset={offset_bytes}", file.display());
        let debugfs = program("debugfs", "e2fsprogs").unwrap();
        let output = Command::new(debugfs).args(["-R", request, &device]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_root_is_where_the_layout_says() {
        let tmp = tempfile::tempdir().unwrap();
        let busybox = tmp.path().join("busybox");
        fs::write(&busybox, "not really").unwrap();
        for (layout, offset_bytes) in [(Layout::Plain, 0), (Layout::Gpt, ALIGN_BYTES), (Layout::Mbr, ALIGN_BYTES)] {
            let file = tmp.path().join("disk");
            make(&file, layout, 16 << 20, &busybox).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().len(), 16 << 20);
            assert_eq!(debugfs(&file, offset_bytes, "cat /sbin/init"), INIT);
            assert_eq!(debugfs(&file, offset_bytes, "cat /bin/busybox"), "not really");
            assert!(debugfs(&file, offset_bytes, "stat /sbin/init").contains("Mode:  0755"));
            assert!(debugfs(&file, offset_bytes, "stat /bin/sh").contains("Fast link dest: \"busybox\""));
            if layout != Layout::Plain {
                let dump = Command::new(program("sfdisk", "fdisk").unwrap()).arg("-d").arg(&file).output().unwrap();
                let dump = String::from_utf8(dump.stdout).unwrap().to_lowercase();
                let id = if layout == Layout::Gpt { PARTITION_UUID } else { DISK_SIGNATURE };
                assert!(dump.contains(id) && dump.contains("start=        2048"), "{dump}");
            }
        }
        assert!(INIT.contains(MARKER));
    }

    #[test]
    fn a_failure_names_the_program_or_the_file() {
        let error = run(Command::new("sh").args(["-c", "echo no such luck >&2; exit 1"]), "").unwrap_err();
        assert_eq!(error.to_string(), "sh: no such luck");
        let tmp = tempfile::tempdir().unwrap();
        let error = make(&tmp.path().join("d"), Layout::Plain, 16 << 20, Path::new("/none/busybox")).unwrap_err();
        assert!(format!("{error:#}").starts_with("/none/busybox: No such file"), "{error:#}");
        assert!(make(&tmp.path().join("d"), Layout::Gpt, 1 << 20, Path::new("/")).is_err());
        assert!(make(&tmp.path().join("d"), Layout::None, 1 << 20, Path::new("/")).is_err());
    }
}
