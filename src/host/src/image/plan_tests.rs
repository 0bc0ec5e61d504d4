use super::*;
use crate::board::tests::{MINIMAL, board};
use crate::kernel::made::tree;
use crate::module::info::ModuleInfo;
use proptest::prelude::*;

const DEP: &[u8] = b"k/mbcache.ko:\nk/jbd2.ko: k/crc.ko\nk/crc.ko:\nk/ext4.ko: k/mbcache.ko k/jbd2.ko k/crc.ko\n\
    k/virtio_blk.ko:\n";
const FILES: [(&str, &[u8]); 7] = [
    ("modules.dep", DEP),
    ("modules.builtin", b"k/virtio_pci.ko\n"),
    ("k/mbcache.ko", b""),
    ("k/jbd2.ko", b""),
    ("k/crc.ko", b""),
    ("k/ext4.ko", b""),
    ("k/virtio_blk.ko", b""),
];

const DIGEST: &str = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef";

fn resolve(source: &Source, tree: &Tree) -> Result<Plan> {
    Plan::resolve(source, tree, &Database::read(tree, &[&tree.dir], "", &mut |line| panic!("{line}"))?)
}

fn resolved(manifest: &str) -> Result<(Plan, String)> {
    let (_tmp, tree) = tree(&FILES);
    let board = board(MINIMAL).unwrap();
    let plan = resolve(&Source::manifest(&board, "m", manifest.as_bytes()), &tree)?;
    let file = |step: &ModuleLine| ModuleFile {
        file: format!("{}.gz", step.file),
        bytes: Vec::new(),
        image_bytes: 7,
        sha256: DIGEST.to_lowercase(),
        original_sha256: DIGEST.to_lowercase(),
        saved_bytes: 0,
        not_stripped: None,
        info: ModuleInfo::default(),
    };
    let files: Vec<_> = plan.steps().map(file).collect();
    let text = plan.manifest("x", &tree, &files, false)?;
    Ok((plan, text))
}

#[test]
fn a_board_becomes_a_manifest_without_names() {
    let (_tmp, tree) = tree(&FILES);
    let board = board(MINIMAL).unwrap();
    let plan = resolve(&Source::board(&board, &board.kernels[0]), &tree).unwrap();
    let files: Vec<_> = plan.steps().map(|step| step.file.as_str()).collect();
    assert_eq!(files, ["k/crc.ko", "k/jbd2.ko", "k/mbcache.ko", "k/ext4.ko", "k/virtio_blk.ko"]);
    let missing = resolve(&Source::board(&board, &board.kernels[1]), &tree).unwrap_err();
    let missing = format!("{missing:#}");
    assert!(missing.starts_with("boards/b.toml: modules: xfs: no module and no alias of that name"), "{missing}");
}

#[test]
fn directives_are_kept_in_place_and_files_come_once() {
    let (plan, text) = resolved(
        "@root /elsewhere\next4 @optional @timeout=5s\n@on-error reboot\n\njbd2.ko @path=mmap @retry=3 a=1\nk/crc.ko\n\
         # comment\nvirtio-pci force=1\n@exec /bin/x",
    )
    .unwrap();
    assert_eq!(
        text,
        "# x\n@root /lib/modules/6.1.0\n@budget 524288\n@on-error stop\nk/crc.ko.gz @size=7\n\
         k/jbd2.ko.gz @path=mmap @size=7 @retry=3 a=1\nk/mbcache.ko.gz @optional @size=7\n\
         k/ext4.ko.gz @optional @size=7 @timeout=5000ms\n\
         @on-error reboot\n@exec /bin/x\n"
    );
    let notes: Vec<_> = plan.notes().collect();
    assert!(notes[0].starts_with("m:1: @root /elsewhere: left out, "), "{notes:?}");
    let built_in =
        "virtio_pci is built into the kernel; force=1 belongs on the kernel command line, as virtio_pci.force=1";
    assert_eq!(notes[1..], [built_in]);
    let (_, text) = resolved("/lib/modules/6.1.0/k/crc.ko").unwrap();
    assert!(text.ends_with("k/crc.ko.gz @size=7\n@switch-root\n"), "{text}");
}

#[test]
fn parameters_are_no_comments() {
    let (_tmp, tree) = tree(&[("modules.dep", b"k/a.ko:\n"), ("k/a.ko", b""), ("o.conf", b"options a #x b=1 #\n")]);
    let modules = r#"modules = [{ name = "a", params = 'c="d # e" #f g#h' }]"#;
    let (_, kernels) = MINIMAL.split_once("cmdline").unwrap();
    let board = board(&format!("description = \"\"\narch = \"aarch64\"\n{modules}\ncmdline{kernels}")).unwrap();
    let plan = resolve(&Source::board(&board, &board.kernels[0]), &tree).unwrap();
    let listing = plan.listing(&tree).unwrap();
    assert!(listing.contains("\nk/a.ko \"#x\" b=1 \"#\" c=\"d # e\" \"#f\" g#h\n"), "{listing}");
}

#[test]
fn a_digest_goes_with_its_module_and_must_be_right() {
    let lower = DIGEST.to_lowercase();
    let (_, text) = resolved(&format!("ext4 @optional @sha256={DIGEST} a=1\njbd2\nk/ext4.ko @sha256={lower}")).unwrap();
    assert!(text.contains("k/jbd2.ko.gz @size=7\n"), "{text}");
    assert!(text.contains(&format!("k/ext4.ko.gz @size=7 @sha256={lower} a=1\n")), "{text}");
    let other = DIGEST.replace('9', "8");
    let error = format!("{:#}", resolved(&format!("ext4 @sha256={other}")).unwrap_err());
    assert_eq!(error, format!("k/ext4.ko: its SHA-256 is {lower}, @sha256= says {other}"));
    let twice = format!("{:#}", resolved(&format!("crc @sha256={DIGEST}\ncrc @sha256={other}")).unwrap_err());
    assert!(twice.starts_with("m:2: crc is listed twice, with @sha256="), "{twice}");
    let (_tmp, tree) = tree(&FILES);
    let plan = resolve(&Source::names(&[format!("ext4 @sha256={DIGEST}")]), &tree).unwrap();
    let listing = plan.listing(&tree).unwrap();
    assert!(listing.ends_with(&format!("k/mbcache.ko\nk/ext4.ko @sha256={DIGEST}\n")), "{listing}");
}

#[test]
fn a_plan_is_what_modprobe_would_do() {
    let config = "options jbd2 x=1\noptions ext4 z=1\nsoftdep ext4 pre: virtio-blk post: none\n\
        install blocked /bin/false\ninstall other /bin/sh x\nalias short crc\nblacklist crc\n";
    let files: Vec<_> = FILES.into_iter().chain([("a.conf", config.as_bytes())]).collect();
    let (_tmp, tree) = tree(&files);
    let database = Database::read(&tree, &[&tree.dir], "jbd2.y=2", &mut |line| panic!("{line}")).unwrap();
    let planned = |source: Source| Plan::resolve(&source, &tree, &database)?.listing(&tree);
    let listing = |names: &str| planned(Source::names(&[names.into()])).map_err(|error| format!("{error:#}"));
    let root = "@root /lib/modules/6.1.0\n";
    let ext4 = "k/crc.ko\nk/jbd2.ko x=1 y=2\nk/mbcache.ko\nk/virtio_blk.ko @optional\nk/ext4.ko z=1\n";
    assert_eq!(listing("ext4"), Ok(format!("{root}{ext4}")));
    // Met as a soft dependency first, then asked for; and the entry's parameters come last.
    let source = Source::manifest(&board(MINIMAL).unwrap(), "m", b"ext4 @if=pci:* a=1\nvirtio_blk @if=pci:*\ncrc\n");
    let text = planned(source).unwrap();
    let blk = "k/mbcache.ko @if=pci:*\nk/virtio_blk.ko @if=pci:*\nk/ext4.ko @if=pci:* z=1 a=1\n# crc is blacklisted\n";
    assert!(text.contains(blk), "{text}");
    assert_eq!(listing("blocked"), Ok(format!("{root}# blocked is not to be loaded: install /bin/false\n")));
    assert_eq!(listing("short"), Ok(format!("{root}# crc is blacklisted\n")));
    assert_eq!(listing("virtio-pci"), Ok(format!("{root}# virtio_pci is built into the kernel\n")));
    assert!(listing("other").unwrap_err().contains("cannot have its command: install /bin/sh x"));
    assert!(listing("none").unwrap_err().starts_with("none: none: no module and no alias of that name"));
}

#[test]
fn what_cannot_be_resolved_is_named_with_its_place() {
    for (manifest, says) in [
        ("\next5", "m:2: ext5: no module and no alias of that name in /"),
        ("virtio_blok", "did you mean virtio_blk or virtio_pci?"),
        ("k/ext5.ko", "did you mean k/ext4.ko"),
        ("/k/ext4.ko", "m:1: /k/ext4.ko is not in /lib/modules/6.1.0/"),
        ("k/../../ext4.ko", "k/../../ext4.ko leads out of /lib/modules/6.1.0/"),
        ("ext4 @optionl", "m:1:6: unknown attribute @optionl"),
        ("crc a=1\ncrc a=2", "m:2: crc is listed twice, with parameters \"a=1\" and \"a=2\""),
    ] {
        let error = format!("{:#}", resolved(manifest).unwrap_err());
        assert!(error.contains(says), "{says} not in: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn dependencies_come_first_and_nothing_twice(
        edges in prop::collection::vec((0usize..8, 0usize..8), 0..14),
        entries in prop::collection::vec((0usize..8, any::<bool>()), 1..8),
    ) {
        // An edge goes from a module to one of a lower number, so what a module needs is closed and ordered by number.
        let mut needs = vec![BTreeSet::new(); 8];
        for module in 0..8 {
            for (from, to) in &edges {
                if *from == module && *to < module {
                    let further = needs[*to].clone();
                    needs[module].extend(further);
                    needs[module].insert(*to);
                }
            }
        }
        let line = |(i, needs): (usize, &BTreeSet<usize>)| {
            let needs: String = needs.iter().rev().map(|n| format!(" m{n}.ko")).collect();
            format!("m{i}.ko:{needs}\n")
        };
        let dep: String = needs.iter().enumerate().map(line).collect();
        let names: Vec<_> = (0..8).map(|i| format!("m{i}.ko")).collect();
        let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        files.push(("modules.dep", dep.as_bytes()));
        let (_tmp, tree) = tree(&files);
        let optional = |o: bool| if o { " @optional" } else { "" };
        let manifest: String = entries.iter().map(|(i, o)| format!("m{i}{}\n", optional(*o))).collect();
        let plan = resolve(&Source::manifest(&board(MINIMAL).unwrap(), "m", manifest.as_bytes()), &tree).unwrap();

        let steps: Vec<_> = plan.steps().collect();
        let position = |i: usize| steps.iter().position(|step| step.file == names[i]);
        for (i, needs) in needs.iter().enumerate() {
            let of_entry = |(entry, optional): &(usize, bool)| (*entry == i || tests_needs(&edges, *entry, i)).then_some(*optional);
            let asked: Vec<bool> = entries.iter().filter_map(of_entry).collect();
            prop_assert_eq!(position(i).is_some(), !asked.is_empty());
            prop_assert!(steps.iter().filter(|step| step.file == names[i]).count() <= 1);
            if let Some(at) = position(i) {
                prop_assert!(needs.iter().all(|need| position(*need).is_some_and(|before| before < at)));
                prop_assert_eq!(steps[at].optional, asked.iter().all(|optional| *optional));
            }
        }
    }
}

/// Whether `module` needs `other`, by walking the edges.
fn tests_needs(edges: &[(usize, usize)], module: usize, other: usize) -> bool {
    let mut direct = edges.iter().filter(|(from, to)| *from == module && to < from).map(|(_, to)| *to);
    direct.any(|to| to == other || tests_needs(edges, to, other))
}

fn files_of(manifest: &str) -> Result<Vec<String>> {
    resolved(manifest).map(|(plan, _)| plan.steps().map(|step| step.file.clone()).collect())
}

#[test]
fn a_folder_or_a_pattern_means_all_below_it() {
    let all = ["k/mbcache.ko", "k/crc.ko", "k/jbd2.ko", "k/ext4.ko", "k/virtio_blk.ko"];
    for several in ["k/", "k/*", "/lib/modules/6.1.0/k/*"] {
        assert_eq!(files_of(several).unwrap(), all, "{several}");
    }
    assert_eq!(files_of("k/*bd2.ko @optional").unwrap(), ["k/crc.ko", "k/jbd2.ko"]);
    for (line, says) in [
        ("=drivers/mmc", "m:1: =drivers/mmc: matches no module in /"),
        ("k/x*", "m:1: k/x*: matches no module in /"),
        ("k/* a=1", "m:1: k/* means several modules; parameters and digests belong to an entry of each"),
    ] {
        let error = format!("{:#}", resolved(line).unwrap_err());
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn all_that_is_missing_is_reported_at_once() {
    let list = "ext4\nnone\nk/gone.ko\n=fs/none\nvirtio_blk\nvirtio_pci jbd2\n";
    let error = format!("{:#}", resolved(list).unwrap_err());
    let lines: Vec<_> = error.lines().collect();
    let says = [
        "4 entries cannot be resolved:",
        "  m:2: none: no module and no alias of that name in /",
        "  m:3: no file k/gone.ko in /",
        "  m:4: =fs/none: matches no module in /",
        "  m:6: virtio_pci and jbd2 are modules in a line; write one module to a line",
        "  mark modules that need not be there @optional, or pass --allow-missing",
    ];
    assert_eq!(lines.len(), says.len(), "{error}");
    lines.iter().zip(says).for_each(|(line, says)| assert!(line.starts_with(says), "{line}"));
}

#[test]
fn what_may_be_missing_is_left_out_with_a_note() {
    let list = "ext4\nnone\nvirtio_blk\n";
    let optional = resolved("ext4\nnone @optional\nvirtio_blk").unwrap().0;
    let (_tmp, tree) = tree(&FILES);
    let source = Source::manifest(&board(MINIMAL).unwrap(), "m", list.as_bytes()).allow_missing(true);
    for plan in [optional, resolve(&source, &tree).unwrap()] {
        assert_eq!(plan.steps().count(), 5);
        let notes: Vec<_> = plan.notes().collect();
        assert!(notes[0].starts_with("m:2: none: no module and") && notes[0].ends_with("; left out"), "{notes:?}");
        assert_eq!(notes.len(), 1);
    }
}
