//! Programs of the build host.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

/// Finds a program of the build host, which Debian has in `package`.
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian has mke2fs and sfdisk, which only root's PATH includes.
    let admin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(admin).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| anyhow!("{name} is needed and missing; Debian has it in {package}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        assert!(program("sh", "dash").unwrap().is_absolute());
        let error = program("no-such-program", "nothing").unwrap_err().to_string();
        assert_eq!(error, "no-such-program is needed and missing; Debian has it in nothing");
    }
}
