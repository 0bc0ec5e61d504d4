//! Boots in a row, each with other faults: missing files, corrupt modules, absent devices, inits that hang, devices that never
//! come. Each ends in the hand-over, or in what the policy declares.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use modest_qemu::{Scenario, gzip};

/// What a line of a manifest does: loads so many, and fails so many.
struct Line {
    text: String,
    loaded: usize,
    failed: usize,
}

/// xorshift64*, seeded by the number of the boot: a boot that failed can be had again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    pub fn one_of<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// What is in the kernel at that point.
#[derive(Default)]
struct State {
    live: Vec<&'static str>,
    stuck: bool,
}

impl State {
    /// A load that works, if it was not done before.
    fn loads(&mut self, name: &'static str) -> (usize, usize) {
        let is_new = !self.live.contains(&name);
        self.live.push(name);
        (usize::from(is_new), 0)
    }
}

fn entry(random: &mut Random, state: &mut State) -> Line {
    let ending = random.one_of(&[".ko", ".ko.gz"]);
    let (what, attributes, params, (loaded, mut failed)) = match random.below(12) {
        0 => (format!("/m/modest_export{ending}"), "", String::new(), state.loads("modest_export")),
        1 => {
            let counts = if state.live.contains(&"modest_export") { state.loads("modest_symbol") } else { (0, 1) };
            (format!("/m/modest_symbol{ending}"), "", String::new(), counts)
        }
        2 => (format!("/m/modest_params{ending}"), "", "number=7 text=\"a b\"".into(), state.loads("modest_params")),
        3 => (format!("/m/modest_sleep{ending}"), "@timeout=20s", "ms=30".into(), state.loads("modest_sleep")),
        4 => (format!("/m/missing{ending}"), "", String::new(), (0, 1)),
        5 => (format!("/bad/truncated{ending}"), "", String::new(), (0, 1)),
        6 => ("/bad/flipped.ko.gz".into(), "", String::new(), (0, 1)),
        7 => (random.one_of(&["/bad/empty.ko", "/bad/text.ko", "/bad", "/dev/null"]).into(), "", String::new(), (0, 1)),
        8 => {
            let errno = random.one_of(&["19", "5", "12", "6", "22"]);
            // Once it is there, nothing fails.
            let failed = usize::from(!state.live.contains(&"modest_errno"));
            (format!("/m/modest_errno{ending}"), "", format!("errno={errno}"), (0, failed))
        }
        9 if state.live.contains(&"modest_export") && !state.live.contains(&"modest_errno") => {
            // Its count goes on over the boot: it may have failed so often already.
            let errno = random.one_of(&["16", "11"]);
            (
                format!("/m/modest_errno{ending}"),
                "@retry=3",
                format!("errno={errno} times=2"),
                state.loads("modest_errno"),
            )
        }
        10 if !state.stuck => {
            let killable = random.below(2) == 1;
            state.stuck = !killable;
            let params = format!("killable={}", u8::from(killable));
            (format!("/m/modest_hang{ending}"), "@timeout=300ms", params, (0, 1))
        }
        _ => {
            let wait = format!("@wait /dev/none{} @timeout=100ms", random.below(9));
            (wait, "", String::new(), (0, 1))
        }
    };
    // Whether it matters.
    let optional = if random.below(3) == 0 { " @optional" } else { "" };
    if !optional.is_empty() {
        failed = 0;
    }
    let text = [what.as_str(), attributes, optional.trim(), &params].join(" ");
    Line { text: text.split_whitespace().collect::<Vec<_>>().join(" "), loaded, failed }
}

/// A boot: its manifest, the marker it must end with, and how many modules are loaded and entries failed if all of it is done.
fn boot_of(seed: u64) -> (String, &'static str, Option<(usize, usize)>) {
    let mut random = Random::new(seed);
    let policy = random.one_of(&["continue", "continue", "continue", "exec /rescue", "reboot", "stop"]);
    let mut text = format!("# boot {seed}\n@on-error {policy}\n");
    let (mut loaded, mut failed) = (0, 0);
    let mut state = State::default();
    for _ in 0..2 + random.below(8) {
        let line = entry(&mut random, &mut state);
        writeln!(text, "{}", line.text).unwrap();
        loaded += line.loaded;
        failed += line.failed;
    }
    text.push_str("@exec /next\n");
    let end = match policy {
        _ if failed == 0 => "NEXT-INIT pid=1\n",
        "continue" => "NEXT-INIT pid=1\n",
        "exec /rescue" => "RESCUE pid=1\n",
        "reboot" => "modest: restarting, by @on-error reboot\n",
        _ => "modest: stopped here: no init to go on with",
    };
    (text, end, (failed == 0 || policy == "continue").then_some((loaded, failed)))
}

/// Boots once; what is wrong with how it ended.
fn soak(seed: u64) -> Result<String, String> {
    let (manifest, end, counts) = boot_of(seed);
    let scenario = Scenario::with_manifest("lowram-armv7", None, &manifest).unwrap().memory("64");
    let mut scenario = scenario
        .script("/next", "echo NEXT-INIT pid=$$\npoweroff -f\n")
        .unwrap()
        .script("/rescue", "echo RESCUE pid=$$\npoweroff -f\n")
        .unwrap()
        .file("/bad/empty.ko", "")
        .file("/bad/text.ko", "no module");
    for name in ["modest_export", "modest_symbol", "modest_params", "modest_sleep", "modest_errno", "modest_hang"] {
        let image = scenario.module(name).unwrap();
        let packed = gzip(&image).unwrap();
        if name == "modest_params" {
            let mut flipped = packed.clone();
            let at = flipped.len() / 2 + Random::new(seed).below(flipped.len() as u64 / 4) as usize;
            flipped[at] ^= 0x10;
            scenario = scenario
                .file("/bad/flipped.ko.gz", flipped)
                .file("/bad/truncated.ko", &image[..image.len() / 2])
                .file("/bad/truncated.ko.gz", &packed[..packed.len() / 2]);
        }
        scenario = scenario.file(&format!("/m/{name}.ko"), image).file(&format!("/m/{name}.ko.gz"), packed);
    }
    let console =
        scenario.boot().unwrap().wait_for(end).map_err(|error| format!("boot {seed}: {error:#}\n{manifest}"))?;
    if let Some((loaded, failed)) = counts {
        let (loaded, failed) = (format!("modest: {loaded} loaded, "), format!(" skipped, {failed} failed, "));
        let is_right = |line: &str| line.starts_with(&loaded) && line.contains(&failed);
        if !console.lines().any(is_right) {
            return Err(format!("boot {seed}: expected {loaded}…{failed}{manifest}{console}"));
        }
    }
    if console.contains("a fault of modest itself") || console.contains("Kernel panic") {
        return Err(format!("boot {seed}: {manifest}{console}"));
    }
    Ok(end.trim().into())
}

/// Makes boots in a row, on all processors, each by its number: `few`, or what MODEST_TEST_BOOTS says, a number of boots or the
/// first and the last, as in `17-17`. Prints what each boot came to.
pub fn in_a_row(few: u64, boot: &(dyn Fn(u64) -> Result<String, String> + Sync)) {
    let asked = std::env::var("MODEST_TEST_BOOTS").unwrap_or(few.to_string());
    let (first, last) = asked.split_once('-').unwrap_or(("1", &asked));
    let [first, last]: [u64; 2] = [first, last].map(|number| number.parse().expect("a number of boots"));
    let next = AtomicU64::new(first);
    let wrong = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        break;
                    }
                    match boot(seed) {
                        Ok(end) => println!("boot {seed}: {end}"),
                        Err(error) => wrong.lock().unwrap().push(error),
                    }
                }
            });
        }
    });
    let (wrong, boots) = (wrong.into_inner().unwrap(), last + 1 - first);
    assert!(wrong.is_empty(), "{} of {boots} boots:\n{}", wrong.len(), wrong.join("\n"));
    println!("{boots} boots ended as they should");
}

/// How many boots there are is in MODEST_TEST_BOOTS; a few show that it works.
#[test]
fn boots_in_a_row_with_random_faults() {
    in_a_row(8, &soak);
}
