//! Loads under calls that are cut short, interrupted or refused: what the kernel gets is the image to the byte, or an error is
//! reported.

use super::*;
use crate::pin::{self, Pin};
use crate::sys::{Linux, gate};
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

const LOADS: u64 = 240;

/// What a process is started with that makes the loads.
const ON: &str = "MODEST_TEST_INJECTION";

const FORMATS: [Format; 4] = [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd];
const PATHS: [Option<LoadPath>; 6] = [
    None,
    Some(LoadPath::Finit),
    Some(LoadPath::FinitCompressed),
    Some(LoadPath::Stream),
    Some(LoadPath::Mmap),
    Some(LoadPath::Buffer),
];

/// Bytes that compress to a part of them, of a length that fills no page.
fn image() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    (0..300_123).map(|i| if i % 7 < 4 { (i / 97) as u8 } else { next() as u8 }).collect()
}

fn encoded(image: &[u8], format: Format) -> Vec<u8> {
    match format {
        Format::Plain => image.into(),
        Format::Gzip => super::tests::gzip(image),
        Format::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            encoder.write_all(image).unwrap();
            encoder.finish().unwrap()
        }
        Format::Zstd => zstd::bulk::compress(image, 3).unwrap(),
    }
}

/// One load: by a worker or not, of a file, by a path, with a digest or not.
struct Case<'c> {
    by_worker: bool,
    request: Request<'c>,
}

impl Case<'_> {
    /// Loads it under injected faults: what came of it, and what the kernel got.
    fn load(&self, seed: u64, percent: u32, may_fail: bool) -> (Result<Loaded, Failure>, Vec<u8>) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let drain = std::thread::spawn(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            got
        });
        gate::begin(seed, percent, may_fail, writer.as_raw_fd());
        let mut job = || load(&Linux, &mut Abilities::default(), &self.request);
        let result = match self.by_worker {
            true => Linux.in_worker(None, &mut job).unwrap_or_else(|error| Err(error.into())),
            false => job(),
        };
        gate::end();
        drop(writer);
        (result, drain.join().unwrap())
    }
}

/// Makes all loads, with so many percent of the calls struck; how many of them went well.
fn make_loads(may_fail: bool, percents: [u32; 4]) -> usize {
    let dir = std::env::temp_dir().join(format!("modest-injection-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let image = image();
    let digest = pin::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let files = FORMATS.map(|format| {
        let (path, bytes) = (dir.join(format!("m.ko{}", format.ending())), encoded(&image, format));
        std::fs::write(&path, &bytes).unwrap();
        (CString::new(path.to_str().unwrap()).unwrap(), bytes)
    });
    let mut done = 0;
    for seed in 0..LOADS {
        let at = seed as usize;
        let (format, path, percent) = (FORMATS[at % 4], PATHS[at / 4 % 6], percents[at / 24 % 4]);
        let (file, bytes) = &files[at % 4];
        let sha256 = at.is_multiple_of(5).then(|| Pin::parse(&digest).unwrap());
        let request = Request { file, params: c"a=1", path, sha256, ..Request::default() };
        let (result, got) = Case { by_worker: at.is_multiple_of(3), request }.load(seed + 1, percent, may_fail);
        let about = format!("load {seed}: {format:?} by {path:?}, {percent} %: {result:?}");
        match result {
            Ok(Loaded { path: LoadPath::Finit | LoadPath::FinitCompressed, .. }) => assert!(got == *bytes, "{about}"),
            Ok(_) => assert!(got == image, "{about}, {} bytes", got.len()),
            // A path that is not for this format, or that this kernel does not have.
            Err(Failure::Refusal(_)) => assert!(got.is_empty(), "{about}"),
            Err(_) => assert!(may_fail, "{about}"),
        }
        done += usize::from(result.is_ok());
    }
    std::fs::remove_dir_all(&dir).unwrap();
    done
}

/// Runs this test in a process of its own: what that said.
fn in_a_process(name: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("load::injection_tests::{name}"), "--nocapture", "--test-threads=1"]);
    let out = std::env::temp_dir().join(format!("modest-injection-{}-{name}", std::process::id()));
    let file = std::fs::File::create(&out).unwrap();
    let mut child = command.env(ON, "1").stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > Duration::from_secs(240) => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}, or it hung: {said}");
    said
}

/// How many loads of a process went well.
fn done(said: &str) -> usize {
    let line = said.lines().find_map(|line| line.split_once("loads done: ")).unwrap_or_else(|| panic!("{said}"));
    line.1.trim().parse().unwrap()
}

#[test]
fn what_is_cut_short_or_interrupted_is_loaded_to_the_byte() {
    if std::env::var_os(ON).is_some() {
        return println!("loads done: {}", make_loads(false, [30, 40, 50, 60]));
    }
    let done = done(&in_a_process("what_is_cut_short_or_interrupted_is_loaded_to_the_byte"));
    // Three formats have no finit and no mmap, and what finit-compressed takes is for the kernel to say.
    assert!(done >= LOADS as usize * 12 / 24, "{done} of {LOADS}");
    println!("{done} of {LOADS} loads done");
}

#[test]
fn what_is_refused_for_now_is_reported_or_loaded_to_the_byte() {
    if std::env::var_os(ON).is_some() {
        return println!("loads done: {}", make_loads(true, [1, 4, 30, 60]));
    }
    println!(
        "{} of {LOADS} loads done",
        done(&in_a_process("what_is_refused_for_now_is_reported_or_loaded_to_the_byte"))
    );
}
