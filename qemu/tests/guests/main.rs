//! What guests show, or what takes the same as they do: built programs, kernels, boards. Each subject has a module; all are
//! one program, which is linked once.

mod boards;
mod causes;
mod device_trees;
mod devices;
mod failures;
mod faults;
mod hostile;
mod init;
mod lowram;
mod mutants;
mod packaging_buildroot;
mod packaging_yocto;
mod pages;
mod pin;
mod program;
mod release;
mod soak;
mod soak_memory;
mod stream;
mod strip;
mod time;
