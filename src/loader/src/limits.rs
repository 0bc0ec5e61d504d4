//! Every capacity of the loader, each with the reason for its value. Running over one is an error that names it.

/// A line of the manifest, or one read from `modules.dep`: 4095 bytes and its newline.
/// The longest of Debian 13's `modules.dep` (amdgpu's) has about 2000.
pub const LINE_BYTES: usize = 4096;

/// A path with its NUL. The longest in Debian's kernel packages has 110 bytes; PATH_MAX is 4096.
pub const PATH_BYTES: usize = 512;

/// The kernel's command line: COMMAND_LINE_SIZE is 1024 on arm and riscv, 2048 on arm64 and x86.
pub const CMDLINE_BYTES: usize = 4096;

/// A value of a setting in `/proc` or `/sys` that is written, with its newline: words and numbers.
pub const SETTING_BYTES: usize = 64;

/// Arguments handed on to the next init: the kernel itself passes at most MAX_INIT_ARGS, 32, and the name.
pub const EXEC_ARGS: usize = 34;

/// Arguments, and as many words of environment, of a program that is run: a shell with a command.
pub const SPAWN_STRINGS: usize = 6;

/// Compressed bytes read from a file at a time: one page, to be one of few pages touched.
pub const READ_BYTES: usize = 4096;

/// How much of a program is read to see whether it can run: its program headers and its interpreter's path are in it as
/// linkers write them.
pub const PROGRAM_HEAD_BYTES: usize = 1024;

/// Depth of folders that emptying the initramfs walks into; kernel module trees have eight levels.
pub const TREE_DEPTH: usize = 32;

/// What the window grows and shrinks by; a page where that is more. Smaller pieces mean more faults (a 3 MB image has 200),
/// larger ones more memory.
pub const PIECE_BYTES: usize = 16 << 10;

/// Pieces in memory at a time: the one being copied by the kernel, the one before it, which a copy routine may look at again,
/// and the next, being made.
pub const WINDOW_PIECES: usize = 3;

/// Largest dictionary of an xz file, or window of a zstd file, where no budget allows more: that of `xz -6` and `zstd -19`.
/// The kernel's build uses 1 MiB and 2 MiB.
pub const DICTIONARY_BYTES: u64 = 8 << 20;

/// A machine counts as low on memory for a module when it has less available than this many times the image: loading takes
/// up to twice the image in the kernel, and what comes after (firmware, file systems) about as much again.
pub const LOW_MEMORY_IMAGES: u64 = 4;

/// Below so much available memory, asked before each load, PID 1 has a worker load the module, which the kernel can kill where
/// memory runs out; it panics if there is nothing to kill. The largest modules (amdgpu) take half of this.
pub const LOW_MACHINE_BYTES: u64 = 64 << 20;

/// Likewise below this many times the file's length: an image of four times that, as gzip and xz make it, and for loading it as much
/// as [`LOW_MEMORY_IMAGES`] says. A worker costs a large file nothing that matters, so a plain one counts as much.
pub const LOW_MACHINE_FILES: u64 = 16;

/// The image's length that a gzip file's last four bytes state is believed up to this many times the file's. Kernel modules
/// compress to a third; sparse firmware in one may do better; a wrong length must not make the kernel allocate it.
pub const GZIP_RATIO: u64 = 64;

/// How much of a file is read before its page cache is let go: one call for sixteen pages.
pub const FORGET_BYTES: u64 = 64 << 10;

/// A key of a binary index: `symbol:` and a symbol of the kernel's KSYM_NAME_LEN, 512 with its NUL. The longest aliases
/// in Debian 12 and 13 have 55 bytes, the longest symbols there 62; modpost makes aliases of up to 500.
pub const INDEX_KEY_BYTES: usize = 518;

/// Nodes of a binary index within one another. Debian's `modules.alias.bin` has 22, the other indexes fewer.
pub const INDEX_DEPTH: usize = 64;

/// Values that match an alias. What devices say matches four in Debian 12 and 13 at most, the features of a processor
/// that has all of them nine.
pub const ALIAS_MATCHES: usize = 32;

/// Modules with dependencies of their own in one plan: what was asked for, and soft dependencies, theirs included. A whole
/// `modules.softdep` of Debian has some fifty; a plan follows a few of them.
pub const PLAN_VISITED: usize = 128;

/// Soft dependencies within one another, each of which takes some KB of stack, when it is that deep. Distributions go a few deep;
/// trees of seven modules made at random, all in circles by their aliases, have gone seventeen.
pub const PLAN_DEPTH: usize = 32;

/// The configuration of modprobe.d and a tree's soft dependencies, without comments. Debian's have some 3 KB; memory is taken
/// only as far as it is filled.
pub const CONFIG_BYTES: usize = 256 << 10;

/// The longest that a process is waited for once it was killed, in ms: what sleeps and can be ended ends at once, but giving a
/// module back may wait for all processors (synchronize_rcu), and a busy machine takes its time. What cannot be ended costs the boot so much more.
pub const KILL_WAIT_MS: u32 = 1000;

/// How often a module may be tried again (`@retry=`): with the waits below for a minute, as long as the kernel waits for firmware.
pub const RETRIES: u8 = 60;

/// The wait before the first further try, in ms, which each further one doubles: devices that were just powered take some 10 ms.
pub const RETRY_WAIT_MS: u32 = 50;

/// The longest wait between two tries, in ms: what takes longer to come is not missed for longer than this.
pub const RETRY_LONGEST_WAIT_MS: u32 = 1000;

/// A file's name in a folder: NAME_MAX.
pub const FILE_NAME_BYTES: usize = 255;

/// Lines of a file of modprobe.d that are reported one by one: what is wrong with a whole file is wrong a thousand times.
pub const CONFIG_ERRORS: usize = 10;

/// Lines of one kind that a run reports one by one: more than a manifest has entries that fail by themselves; on a serial line
/// of 115,200 baud they take some seconds.
pub const REPORTED_ALIKE: usize = 1000;

/// The filter of the names in a folder without an index: with the 4,350 modules of Debian's arm64 one of 250 other names passes.
pub const STEMS_BYTES: usize = 16 << 10;

/// What a device says of itself in sysfs: the kernel's UEVENT_BUFFER_SIZE.
pub const UEVENT_BYTES: usize = 2048;

/// The buses that all `@coldplug` name together, kept for `@wait`: some ten names.
pub const BUSES_BYTES: usize = 128;

/// What the kernel command line says of modules, as commands of modprobe.d: a parameter takes 7 bytes more there, a name of
/// `modprobe.blacklist=` 6. Memory is taken only as far as it is filled.
pub const CMDLINE_CONFIG_BYTES: usize = 8 * CMDLINE_BYTES;

/// Modules that devices ask for, remembered so that each is tried and told of once. Boards have some fifty, servers a hundred.
pub const PLUG_TRIED: usize = 256;

/// Places for aliases that devices asked by, so that each is looked up once, and not again for each device that appears: twice as
/// many as machines have.
pub const PLUG_ASKED: usize = 512;

/// A text of a module's `.modinfo` with its NUL. The longest in Debian's modules, a description of a parameter, has some 700.
pub const INFO_BYTES: usize = 4096;

/// A symbol's name with its NUL: the kernel's KSYM_NAME_LEN.
pub const SYMBOL_BYTES: usize = 512;

/// Symbols that a module needs, looked up together: most modules need fewer, and where a file is compressed, more cost another
/// decoding of it.
pub const ELF_NAMES: usize = 256;

/// What is kept of an image that is decoded to be looked at: its section headers and their names, which stand at its end,
/// shall be in that.
pub const ELF_KEPT_BYTES: usize = 16 << 10;

/// A message of the kernel's log: PRINTKRB_RECORD_MAX of kernel/printk/printk.c, of which a prefix is taken off.
pub const KLOG_TEXT_BYTES: usize = 1024;

/// How far the clock of the kernel's log may be behind CLOCK_MONOTONIC, where no mark in the log tells: both count from the boot,
/// but do not begin together.
pub const KLOG_SLACK_US: u64 = 200_000;

/// Symbols looked up together in `/proc/kallsyms`, twice over: most modules need fewer than half of these; others read the list
/// again.
pub const KALLSYMS_SLOTS: usize = 1024;
