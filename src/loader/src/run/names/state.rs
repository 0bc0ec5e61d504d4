//! What a run knows of names.

use crate::cmdline::Cmdline;
use crate::kernel::Kernel;
use crate::limits::{BUSES_BYTES, CMDLINE_CONFIG_BYTES, PLUG_ASKED, PLUG_TRIED};
use crate::report::{Level, Log};
use crate::resolve::config::{Config, Writer};
use crate::resolve::plan::Module;
use crate::resolve::stems::Stems;
use crate::resolve::{self, SearchRoot, Tree};
use crate::run::done::Done;

/// What a run knows of names.
pub(in crate::run) struct Names<'r, K: Kernel> {
    /// The tree of the root, once a name was looked up.
    pub tree: Option<Tree<K>>,
    /// The modules of the root's folders, where these have no index, once one was not found there.
    pub stems: Option<Stems<K>>,
    /// What the kernel command line says of modules, as [`Config`] has it.
    pub cmdline: &'r str,
    /// The buses of all `@coldplug` so far, if there was one.
    pub buses: Option<heapless::String<BUSES_BYTES>>,
    /// Whether there were more than that remembers, which is reported once.
    pub is_over_tried: bool,
    /// What became of each module that a device asked for, by the hash of its name: two of the same are one module less on one
    /// machine of millions.
    pub tried: heapless::Vec<(u32, Done), PLUG_TRIED>,
    /// Hashes of aliases that devices asked by, each at its own place: asked again, they would come to the same. One that another
    /// took the place of is looked up once more.
    asked: [u32; PLUG_ASKED],
}

impl<'r, K: Kernel> Names<'r, K> {
    /// Reads what the kernel command line says of modules, if it has words about them, into `buf`.
    pub(in crate::run) fn new<L: Log>(log: &mut L, cmdline: Cmdline, buf: &'r mut [u8], has_words: bool) -> Self {
        let cmdline = if has_words { config(log, cmdline, buf) } else { "" };
        let (buses, tried) = (None, heapless::Vec::new());
        Names { tree: None, stems: None, is_over_tried: false, cmdline, buses, tried, asked: [0; PLUG_ASKED] }
    }

    /// The kernel command line does not count.
    pub(in crate::run) fn seal(&mut self) {
        self.cmdline = "";
    }

    /// The root is another: so will be its tree.
    pub(in crate::run) fn forget_tree(&mut self) {
        (self.tree, self.stems) = (None, None);
        self.asked = [0; PLUG_ASKED];
    }

    /// Whether a device asked by an alias of this hash before; if not, one has now.
    pub(in crate::run) fn has_asked(&mut self, hash: u32) -> bool {
        let place = &mut self.asked[hash as usize % PLUG_ASKED];
        // 0 is what stands in a place that is free.
        let hash = hash.max(1);
        core::mem::replace(place, hash) == hash
    }

    /// As if no device had asked by such an alias.
    pub(in crate::run) fn forget_asked(&mut self, hash: u32) {
        self.asked[hash as usize % PLUG_ASKED] = 0;
    }
}

/// What the kernel command line says of modules, as commands of modprobe.d in `buf`.
fn config<'b, L: Log>(log: &mut L, cmdline: Cmdline, buf: &'b mut [u8]) -> &'b str {
    let mut writer = Writer::new(buf);
    let mut written = writer.cmdline(cmdline.text());
    // dracut's, for which it writes such commands to a file.
    cmdline.each_listed("rd.driver.blacklist", &mut |name| {
        written = written.and_then(|()| writer.blacklist(name));
    });
    if written.is_err() {
        log.line(
            Level::Error,
            format_args!("the kernel command line: over CMDLINE_CONFIG_BYTES, {CMDLINE_CONFIG_BYTES}"),
        );
    }
    writer.finish().cmdline
}

/// What is known of a module beside its entry.
pub(in crate::run) struct Known<'a, K: Kernel> {
    pub module: Module<'a>,
    pub config: Config<'a>,
    /// The tree that its file is of, if that is open.
    pub tree: Option<&'a Tree<K>>,
}

impl<K: Kernel> Known<'_, K> {
    /// Hands the parts of its parameters to `visit`. What comes later counts: the files of modprobe.d, then the manifest, and the
    /// last word has whoever boots.
    pub(in crate::run) fn params(&self, entry: &str, visit: &mut dyn FnMut(&str)) {
        let Config { files, cmdline } = self.config;
        self.module.options(Config { files, cmdline: "" }).for_each(&mut *visit);
        visit(entry);
        self.module.options(Config { files: "", cmdline }).for_each(visit);
    }
}

/// Hands the file of each module that exports `symbol` to `each`, by the indexes of its tree, or else of the root.
pub(in crate::run) fn exporters<K: Kernel>(
    kernel: &K, root: &SearchRoot, known: &Known<K>, symbol: &str, each: &mut dyn FnMut(&str),
) {
    match known.tree {
        Some(tree) => tree.exporters(symbol, each),
        None => exporters_below(kernel, root, symbol, each),
    }
}

/// Hands the file of each module that exports `symbol` to `each`, by the indexes of the root's tree.
pub(in crate::run) fn exporters_below<K: Kernel>(
    kernel: &K, root: &SearchRoot, symbol: &str, each: &mut dyn FnMut(&str),
) {
    // What is wrong with the configuration is reported by whoever looks up a name.
    let tree = resolve::tree_folder(kernel, root).map(|folder| Tree::open(kernel, &folder, &[], &mut |_, _, _| {}));
    if let Ok(Ok(tree)) = tree {
        tree.exporters(symbol, each);
    }
}
