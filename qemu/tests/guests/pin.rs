//! Modules that the manifest has digests of: those are loaded, and no others.

use mkmodest::codec;
use mkmodest::disk::MARKER;
use modest_loader::format::Format;
use modest_qemu::{Scenario, line, module_file, sha256};

const BOARD: &str = "qemu-aarch64";

/// Ends a manifest: what the kernel has, then the marker.
const NEXT: &str = "mount -t proc proc /proc 2>/dev/null; while read name rest; do echo \"HAS $name\"; done </proc/modules\n\
    echo NEXT-INIT pid=$$; poweroff -f\n";

#[test]
fn a_pinned_image_boots_to_its_root() {
    let mut scenario = Scenario::new(BOARD, None).unwrap();
    scenario.options.pin = true;
    let manifest = scenario.image().unwrap().manifest;
    let entries: Vec<_> = manifest.lines().filter(|line| line.starts_with("kernel/")).collect();
    assert!(entries.len() > 3 && entries.iter().all(|entry| entry.contains(" @sha256=")), "{manifest}");
    let console = scenario.boot().unwrap().wait_for(MARKER).unwrap();
    let by_stream = console.lines().filter(|line| line.contains(": loaded by stream, ")).count();
    assert_eq!(by_stream, entries.len(), "{console}");
    line(&console, &format!("{by_stream} loaded, 0 present, 0 skipped, 0 failed")).unwrap();
}

/// In place of one module's file is another's, which the kernel would load.
#[test]
fn another_module_in_its_place_is_refused() {
    let mut scenario = Scenario::new(BOARD, None).unwrap();
    scenario.options.pin = true;
    scenario.with_disk = false;
    scenario.options.manifest = Some(("names".into(), "nls_utf8\nnls_cp437\ncrc16\n@exec /next\n".into()));
    let file = module_file(&scenario.kernel.tree, "nls_cp437").unwrap();
    let (expected, other) = (scenario.module("nls_cp437").unwrap(), scenario.module("nls_cp850").unwrap());
    let place = format!("{}/{file}", scenario.kernel.tree.target_dir());
    let bytes = codec::encode(&other, name_format(&file)).unwrap();
    let scenario = scenario.file(&place, bytes).script("/next", NEXT).unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    line(&console, "nls_utf8: loaded by stream, ").unwrap();
    line(&console, "crc16: loaded by stream, ").unwrap();
    let (is, says) = (sha256(&other), sha256(&expected));
    let told = format!("nls_cp437: its SHA-256 is {}..., @sha256= says {}..., {place}", &is[..16], &says[..16]);
    assert_eq!(line(&console, "nls_cp437: ").unwrap(), told);
    line(&console, "2 loaded, 0 present, 0 skipped, 1 failed").unwrap();
    assert!(console.contains("HAS nls_utf8\n") && console.contains("HAS crc16\n"), "{console}");
    assert!(!console.contains("HAS nls_cp"), "{console}");
}

/// On every path and in every format that there is, and after the refusals the module itself.
#[test]
fn every_path_refuses_what_is_not_pinned() {
    let scenario = Scenario::with_manifest(BOARD, None, "").unwrap();
    let (expected, other) = (scenario.module("nls_cp437").unwrap(), scenario.module("nls_cp850").unwrap());
    let digest = sha256(&expected);
    let mut manifest = String::new();
    let mut scenario = scenario;
    let mut cases = Vec::new();
    for format in [Format::Plain, Format::Gzip, Format::Xz] {
        let file = format!("/other/nls_cp437.ko{}", format.ending());
        scenario = scenario.file(&file, codec::encode(&other, format).unwrap());
        let plain: &[&str] = if format == Format::Plain { &["finit", "mmap"] } else { &[] };
        // Debian's kernel decompresses xz.
        let in_kernel: &[_] = if format == Format::Xz { &["finit-compressed"] } else { &[] };
        for path in [plain, in_kernel, &["stream", "buffer"]].concat() {
            manifest += &format!("{file} @sha256={digest} @path={path}\n");
            cases.push((format, path));
        }
    }
    let refused = cases.len();
    // The last entry finds it there already, unless an earlier one failed.
    for (format, path) in &cases {
        let file = format!("/good/nls_cp437.ko{}", format.ending());
        scenario = scenario.file(&file, codec::encode(&expected, *format).unwrap());
        manifest += &format!("{file} @sha256={digest} @path={path}\n");
    }
    scenario.options.verbatim_manifest = Some((manifest + "@exec /next\n").into());
    let scenario = scenario.script("/next", NEXT).unwrap();
    let console = scenario.boot().unwrap().wait_for("NEXT-INIT pid=1").unwrap();
    let told = console.lines().filter(|line| line.contains("nls_cp437: its SHA-256 is ") && line.contains("/other/"));
    assert_eq!(told.count(), refused, "{console}");
    line(&console, "nls_cp437: loaded by finit, ").unwrap();
    line(&console, &format!("1 loaded, {} present, 0 skipped, {refused} failed", cases.len() - 1)).unwrap();
    assert!(console.contains("HAS nls_cp437\n") && !console.contains("HAS nls_cp850"), "{console}");
}

fn name_format(file: &str) -> Format {
    modest_loader::name::strip_ko(file).expect("a module's name").1
}
