//! The parts of a chip with several functions, whose drivers no device tree names.
//!
//! The driver of such a chip (drivers/mfd) makes a device for each function, by a name that the function's driver has as an
//! alias, `platform:axp20x-regulator`. Only the chip driver's own file has these names: they are texts in it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use memchr::memmem;
use modest_loader::name;

use crate::codec::decode;
use crate::kernel::Tree;

/// The functions of the chips that a tree's modules drive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cells {
    dir: PathBuf,
    /// The lines of `modules.dep`: a module's file, then those that it needs, by the module's name.
    files: HashMap<String, Vec<String>>,
    /// The names of functions, each with its module.
    functions: Vec<(String, String)>,
    /// What was read of each module: the modules of its functions.
    read: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

/// Where the drivers are of what a property brings.
fn folders(property: &str) -> &'static [&'static str] {
    if property.ends_with("-supply") {
        &["/regulator/"]
    } else if property.contains("gpio") {
        &["/gpio/", "/pinctrl/"]
    } else {
        match property {
            "clocks" => &["/clk/"],
            "phys" => &["/phy/"],
            "io-channels" => &["/iio/"],
            "pwms" => &["/pwm/"],
            _ => &[],
        }
    }
}

impl Cells {
    /// Those of a tree, whose aliases are `aliases`.
    pub(crate) fn of<'a>(tree: &Tree, aliases: impl Iterator<Item = (&'a str, &'a str)>) -> Cells {
        let lines = fs::read_to_string(tree.index_dir().join("modules.dep")).unwrap_or_default();
        let line = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            let files = [file].into_iter().chain(needs.split_ascii_whitespace()).map(String::from).collect();
            Some((name::of(file).to_string(), files))
        };
        let function = |(alias, module): (&str, &str)| {
            let function = alias.strip_prefix("platform:").filter(|name| !name.contains(['*', '?', '[']))?;
            Some((function.to_string(), name::of(module).to_string()))
        };
        let functions = aliases.filter_map(function).collect();
        Cells {
            dir: tree.dir.clone(),
            files: lines.lines().filter_map(line).collect(),
            functions,
            read: Arc::default(),
        }
    }

    /// The modules of the functions that bring a property, of a chip that `module` drives. `path` tells where a module is.
    pub(crate) fn bringing<'p>(
        &self, module: &str, property: &str, path: impl Fn(&str) -> Option<&'p str>,
    ) -> Vec<String> {
        let folders = folders(property);
        if folders.is_empty() || !path(module).is_some_and(|path| path.contains("/mfd/")) {
            return Vec::new();
        }
        let is_in = |name: &String| path(name).is_some_and(|path| folders.iter().any(|folder| path.contains(folder)));
        self.all(module).into_iter().filter(is_in).collect()
    }

    /// The modules of all functions of a chip. A file that cannot be read has none: it is reported where it is loaded.
    fn all(&self, module: &str) -> Vec<String> {
        let mut read = self.read.lock().unwrap_or_else(|broken| broken.into_inner());
        let of_files = || {
            let mut found = Vec::new();
            for file in self.files.get(module).into_iter().flatten() {
                let image =
                    fs::read(self.dir.join(file)).ok().and_then(|bytes| decode(&bytes).ok()).unwrap_or_default();
                for (function, name) in &self.functions {
                    let is_there = memmem::find(&image, format!("\0{function}\0").as_bytes()).is_some();
                    if is_there && name != module && !found.contains(name) {
                        found.push(name.clone());
                    }
                }
            }
            found
        };
        read.entry(module.to_string()).or_insert_with(of_files).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::made::tree;

    #[test]
    fn functions_are_found_in_the_file_of_the_chip_or_in_what_that_needs() {
        let files: &[(&str, &[u8])] = &[
            ("modules.dep", b"kernel/drivers/mfd/axp-i2c.ko: kernel/drivers/mfd/axp.ko\nkernel/drivers/mfd/axp.ko:\n"),
            ("kernel/drivers/mfd/axp-i2c.ko", b"\0other\0"),
            ("kernel/drivers/mfd/axp.ko", b"\0axp-regulator\0axp-gpio\0not-axp-adc\0"),
        ];
        let (_tmp, kernel) = tree(files);
        let aliases = [
            ("platform:axp-regulator", "axp_regulator"),
            ("platform:axp-gpio", "axp-gpio"),
            ("platform:axp-adc", "axp_adc"),
            ("of:N*T*Cx", "x"),
        ];
        let cells = Cells::of(&kernel, aliases.into_iter());
        let path = |name: &str| match name {
            "axp_i2c" => Some("kernel/drivers/mfd/axp-i2c"),
            "axp_regulator" => Some("kernel/drivers/regulator/axp-regulator"),
            "axp_gpio" => Some("kernel/drivers/gpio/axp-gpio"),
            _ => None,
        };
        assert_eq!(cells.bringing("axp_i2c", "vmmc-supply", path), ["axp_regulator"]);
        assert_eq!(cells.bringing("axp_i2c", "cd-gpios", path), ["axp_gpio"]);
        assert!(cells.bringing("axp_i2c", "pinctrl-0", path).is_empty());
        assert!(cells.bringing("axp_gpio", "vmmc-supply", path).is_empty());
    }
}
