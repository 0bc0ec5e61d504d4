//! Where things are in an image.

/// Where the target looks for its manifest.
pub const MANIFEST: &str = "/etc/modest.manifest";

/// Where the kernel looks for the first program.
pub const INIT: &str = "/init";

/// Where the target looks for configuration of modprobe.
pub const CONFIG: &str = "/etc/modprobe.d";
