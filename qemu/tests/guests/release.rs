//! What `scripts/release` makes: the same bytes from any folder at any time, programs that boot, and a true list of what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use modest_qemu::{Scenario, copy_project, line, run, sha256};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Each architecture, and its board.
const BOARDS: [(&str, &str); 3] = [("aarch64", "qemu-aarch64"), ("armv7", "qemu-armv7"), ("riscv64", "qemu-riscv64")];

/// A repository with the project as it is here, committed or not.
fn repository(dir: &Path) -> PathBuf {
    let repository = dir.join("repository");
    fs::create_dir(&repository).unwrap();
    copy_project(&repository).unwrap();
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]).args(args).current_dir(&repository);
        run(git.env("GIT_COMMITTER_DATE", "1700000000 +0000").env("GIT_AUTHOR_DATE", "1700000000 +0000"))
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "All"]);
    repository
}

/// The files of a release, by name. Crates and core are built once for all: of these nothing depends on where they are built.
fn release(repository: &Path, umask: &str) -> BTreeMap<String, Vec<u8>> {
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("release");
    let out = repository.with_extension("release");
    let mut script = Command::new("sh");
    script.args(["-c", &format!("umask {umask} && scripts/release \"$0\"")]).arg(&out);
    run(script.current_dir(repository).env("CARGO_TARGET_DIR", target_dir).env("TZ", "Asia/Tokyo"));
    let files = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn two_releases_are_the_same_and_boot() {
    let tmp = tempfile::tempdir().unwrap();
    let first = repository(tmp.path());
    let second = tmp.path().join("somewhere/else");
    run(Command::new("git").arg("clone").arg("-q").args([&first, &second]));
    let (files, again) = (release(&first, "022"), release(&second, "077"));
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    let mut expected = vec!["SHA256SUMS".to_string(), format!("modest-{VERSION}.tar.gz")];
    for (arch, _) in BOARDS {
        expected.extend(["cdx.json", "tar.gz"].map(|ending| format!("modest-{VERSION}-{arch}.{ending}")));
    }
    expected.sort();
    assert_eq!(names, expected);
    for (name, bytes) in &files {
        assert!(again[name] == *bytes, "{name} is another one the second time");
        let is_listed = String::from_utf8_lossy(&files["SHA256SUMS"]).contains(&format!("{}  {name}\n", sha256(bytes)));
        assert_eq!(is_listed, name != "SHA256SUMS", "{name}");
    }
    assert_eq!(again.len(), files.len());

    for (arch, board) in BOARDS {
        let name = format!("modest-{VERSION}-{arch}");
        let archive = tmp.path().join(format!("{arch}.tar.gz"));
        fs::write(&archive, &files[&format!("{name}.tar.gz")]).unwrap();
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(tmp.path()));
        let folder = tmp.path().join(&name);
        for file in ["LICENSE-MIT", "LICENSE-APACHE", "modest.manifest", "man/modest.8", "man/modest.manifest.5"] {
            assert!(fs::metadata(folder.join(file)).unwrap().len() > 500, "{file}");
        }
        let texts: BTreeSet<_> =
            fs::read_dir(folder.join("licences")).unwrap().map(|dir| dir.unwrap().file_name()).collect();

        let document: serde_json::Value = serde_json::from_slice(&files[&format!("{name}.cdx.json")]).unwrap();
        let program = fs::read(folder.join("modest")).unwrap();
        assert_eq!(document["metadata"]["component"]["hashes"][0]["content"], sha256(&program));
        let component = |component: &serde_json::Value| {
            let text = |key: &str| component[key].as_str().unwrap().to_string();
            format!("{}-{}", text("name"), text("version"))
        };
        let listed: BTreeSet<_> = document["components"].as_array().unwrap().iter().map(component).collect();
        for crates in [
            "heapless-",
            "linux-raw-sys-",
            "miniz_oxide-",
            "xz4rust-",
            "sha2-",
            "core-",
            "modest-loader-",
            "modest-zstd-",
        ] {
            assert!(listed.iter().any(|name| name.starts_with(crates)), "{crates} not in {listed:?}");
        }
        // Those of the build host have nothing to do with it.
        assert!(!listed.iter().any(|name| name.starts_with("clap") || name.starts_with("flate2")), "{listed:?}");
        let foreign = listed.iter().filter(|name| !name.starts_with("core-") && !name.starts_with("modest-"));
        assert_eq!(foreign.map(Into::into).collect::<BTreeSet<_>>(), texts, "licences");

        let mut scenario = Scenario::new(board, None).unwrap();
        scenario.options.init = folder.join("modest");
        let console = scenario.boot().unwrap().wait_for("MODEST-ROOT-OK").unwrap();
        line(&console, "ext4: loaded by ").unwrap();
    }
}
