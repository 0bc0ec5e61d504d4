//! Every capacity of the loader, each with the reason for its value. Running over one is an error that names it.

/// A line of the manifest, or one read from `modules.dep`: 4095 bytes and its newline.
/// The longest of Debian 13's `modules.dep` (amdgpu's) has about 2000.
pub const LINE_BYTES: usize = 4096;

/// A path with its NUL. The longest in Debian's kernel packages has 110 bytes; PATH_MAX is 4096.
pub const PATH_BYTES: usize = 512;

/// The kernel's command line: COMMAND_LINE_SIZE is 1024 on arm and riscv, 2048 on arm64 and x86.
pub const CMDLINE_BYTES: usize = 4096;

/// A module's name: the kernel's MODULE_NAME_LEN is 64 less a pointer; 64 holds any.
pub const NAME_BYTES: usize = 64;

/// Arguments handed on to the next init: the kernel itself passes at most MAX_INIT_ARGS, 32, and the name.
pub const EXEC_ARGS: usize = 34;

/// Compressed bytes read from a file at a time: one page, to be one of few pages touched.
pub const READ_BYTES: usize = 4096;

/// Depth of folders that emptying the initramfs walks into; kernel module trees have eight levels.
pub const TREE_DEPTH: usize = 32;
