//! A machine with 16 MB: a module of 3 MB in gzip goes through the window, in user memory that is a fraction of it.

use mkmodest::image;
use modest_loader::image::Format;
use modest_qemu::{Scenario, line};

/// Boots with just that module, which says itself whether its tables are whole: the console.
fn load_big(kernel: &str, path: &str) -> String {
    let mut scenario = Scenario::new("lowram-armv7", Some(kernel)).unwrap().append("modest.debug");
    scenario.with_disk = false;
    scenario.options.change.format = Some(Format::Gzip);
    scenario.options.manifest = Some(("big".into(), "modest_big".into()));
    let Scenario { board, kernel, options, .. } = &scenario;
    let plan = image::build(board, &kernel.spec, &kernel.tree, options).unwrap().manifest;
    let entry = plan.lines().find(|line| line.contains("modest_big.ko.gz")).unwrap();
    let manifest = format!("@root {}\n@unlink\n{entry} {path}\n@exec /none\n", kernel.tree.target_dir());
    scenario.options.verbatim_manifest = Some(manifest.into());
    scenario.boot().unwrap().wait_for("modest: stopped here").unwrap()
}

#[test]
fn three_megabytes_in_gzip_load_by_stream_in_a_fraction_of_the_memory() {
    let console = load_big("small", "@path=stream");
    line(&console, "modest_big: loaded by stream").unwrap();
    assert!(console.contains("modest_big: 800 chips, sum 3109318550, expected 3109318550"), "{console}");
    let memory = line(&console, "memory: peak ").unwrap();
    let peak_kib: u32 = memory.split(' ').nth(2).unwrap().parse().unwrap();
    println!("peak user memory: {peak_kib} KiB");
    assert!(peak_kib <= 256, "{memory}");
}

#[test]
fn without_userfaultfd_streaming_is_refused_and_others_serve() {
    let console = load_big("bare", "@path=stream");
    line(&console, "modest_big: @path=stream cannot load a file that is gzip on this kernel").unwrap();
    let console = load_big("bare", "");
    line(&console, "modest_big: loaded by finit-compressed").unwrap();
}
