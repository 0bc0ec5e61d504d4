//! A machine with 16 MB, and a module of 3 MB in gzip: it goes through the window, in user memory that is a fraction of it,
//! or through the kernel's decoder.

use modest_loader::image::Format;
use modest_qemu::{BIG_IS_WHOLE, Loader, Scenario, line};

/// Boots with just that module: the console until the machine ends.
fn load_big(kernel: &str, loader: Loader) -> String {
    Scenario::big(kernel, Format::Gzip, loader).unwrap().boot().unwrap().wait_for_end().unwrap()
}

#[test]
fn three_megabytes_in_gzip_load_by_stream_in_a_fraction_of_the_memory() {
    let console = load_big("small", Loader::Modest(""));
    line(&console, "modest_big: loaded by stream").unwrap();
    assert!(console.contains(BIG_IS_WHOLE), "{console}");
    let memory = line(&console, "memory: peak ").unwrap();
    let peak_kib: u32 = memory.split(' ').nth(2).unwrap().parse().unwrap();
    println!("peak user memory: {peak_kib} KiB");
    assert!(peak_kib <= 256, "{memory}");
}

#[test]
fn without_userfaultfd_streaming_is_refused_and_others_serve() {
    let console = load_big("bare", Loader::Modest("@path=stream"));
    line(&console, "modest_big: @path=stream cannot load a file that is gzip on this kernel").unwrap();
    for (attributes, path) in [("", "finit-compressed"), ("@path=buffer", "buffer")] {
        let console = load_big("bare", Loader::Modest(attributes));
        line(&console, &format!("modest_big: loaded by {path}")).unwrap();
        assert!(console.contains(BIG_IS_WHOLE), "{console}");
    }
}

#[test]
fn where_modest_loads_it_busybox_runs_out_of_memory() {
    let busybox = Scenario::new("lowram-armv7", None).unwrap().kernel.busybox();
    let console = load_big("small", Loader::Insmod(&busybox));
    assert!(console.contains("Run /insmod as init process"), "{console}");
    assert!(console.contains("insmod invoked oom-killer"), "{console}");
    assert!(console.contains("Kernel panic - not syncing: System is deadlocked on memory"), "{console}");
    assert!(!console.contains("modest_big: 800 chips"), "{console}");
}
