//! What is wrong with one module by itself.

use modest_loader::elf::Fault;
use modest_loader::name::{self, Name};

use super::problem::{Kind, Problem};
use crate::module::info::ModuleInfo;

/// What is wrong with one module, whatever it is loaded with.
pub fn module(file: &str, info: &ModuleInfo) -> Vec<Problem> {
    if let Some(fault) = info.fault {
        return vec![Problem::new(Kind::Elf, file, fault.to_string(), remedy_of(fault))];
    }
    let mut problems = Vec::new();
    let (own, named) = (Name(&info.name).to_string(), name::of(file).to_string());
    if own != named {
        let cause = format!("the module in it is {own}, not {named}");
        let remedy = format!("name the file {own}.ko, or what depends on it does not find it");
        problems.push(Problem::new(Kind::Name, file, cause, remedy).warning());
    }
    if info.vermagic.is_none() {
        let remedy = "build it as a module (obj-m); only a kernel with CONFIG_MODULE_FORCE_LOAD takes it";
        problems.push(Problem::new(Kind::Vermagic, file, "it has no vermagic", remedy).warning());
    }
    problems
}

fn remedy_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Stripped => "take the file as it was built; `mkmodest image --strip` leaves in what is needed",
        Fault::Lacks(_) => "build it as a module (obj-m)",
        Fault::Empty | Fault::NotElf(_) | Fault::NotRelocatable(_) => "name a module's file, NAME.ko",
        _ => "take the file as it was built",
    }
}
