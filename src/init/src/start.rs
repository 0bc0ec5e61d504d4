//! What Rust takes for granted: the entry from the kernel, the memory functions of a missing libc, and what a panic does.
//!
//! The only unsafe code outside the loader's `sys`.

#![allow(unsafe_code)]

use core::arch::{asm, naked_asm};

use modest_loader::sys::StringArray;

/// The kernel starts the program here, with the stack pointer at the argument count (elf(5), execve(2)).
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(target_arch = "arm")]
    naked_asm!(
        "mov r0, sp",       // where the argument count is
        "bic r1, r0, #7",   // the procedure call standard wants 8 bytes' alignment
        "mov sp, r1",
        "b {entry}",        // never returns
        entry = sym entry
    );
    #[cfg(target_arch = "aarch64")]
    naked_asm!(
        "mov x0, sp",       // where the argument count is; the kernel aligned it to 16 bytes
        "b {entry}",        // never returns
        entry = sym entry
    );
    #[cfg(target_arch = "riscv64")]
    naked_asm!(
        "mv a0, sp",        // where the argument count is; the kernel aligned it to 16 bytes
        "tail {entry}",     // never returns
        entry = sym entry
    );
    #[cfg(target_arch = "x86_64")]
    naked_asm!(
        "mov rdi, rsp",     // where the argument count is; the kernel aligned it to 16 bytes
        "call {entry}",     // never returns; the call leaves the stack as a function expects it
        entry = sym entry
    );
}

extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: at `stack` the kernel put the argument count, the arguments and a null, the environment and a null.
    let (argv, envp) = unsafe {
        let argc = *stack;
        (StringArray::new(stack.add(1).cast()), StringArray::new(stack.add(argc + 2).cast()))
    };
    crate::main(argv, envp)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    crate::panic::panicked(info)
}

/// Keeps the compiler from seeing a loop that copies or fills as a call of the very function it is in.
#[inline(always)]
fn not_a_call(at: *mut u8) {
    // SAFETY: no instruction.
    unsafe { asm!("/* {} */", in(reg) at, options(nostack, preserves_flags)) }
}

const WORD: usize = size_of::<usize>();

/// memcpy(3).
///
/// # Safety
/// As in C: both ranges are valid and do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: `i` stays within both ranges; unaligned accesses are said to be so.
    unsafe {
        let mut i = 0;
        while i + WORD <= len {
            to.add(i).cast::<usize>().write_unaligned(from.add(i).cast::<usize>().read_unaligned());
            not_a_call(to);
            i += WORD;
        }
        while i < len {
            *to.add(i) = *from.add(i);
            not_a_call(to);
            i += 1;
        }
    }
    to
}

/// memmove(3).
///
/// # Safety
/// As in C: both ranges are valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // The ranges do not overlap in a way that copying upwards would spoil.
        // SAFETY: each word is read before it or what follows is written.
        return unsafe { memcpy(to, from, len) };
    }
    let mut i = len;
    while i > 0 {
        i -= 1;
        // SAFETY: `i` stays within both ranges.
        unsafe { *to.add(i) = *from.add(i) };
        not_a_call(to);
    }
    to
}

/// memset(3).
///
/// # Safety
/// As in C: the range is valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let word = usize::from_ne_bytes([byte as u8; WORD]);
    // SAFETY: `i` stays within the range; unaligned accesses are said to be so.
    unsafe {
        let mut i = 0;
        while i + WORD <= len {
            to.add(i).cast::<usize>().write_unaligned(word);
            not_a_call(to);
            i += WORD;
        }
        while i < len {
            *to.add(i) = byte as u8;
            not_a_call(to);
            i += 1;
        }
    }
    to
}

/// memcmp(3), and for equality alone bcmp(3).
///
/// # Safety
/// As in C: both ranges are valid.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut i = 0;
    while i < len {
        // SAFETY: `i` stays within both ranges.
        let (a, b) = unsafe { (*a.add(i), *b.add(i)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        not_a_call(a as usize as *mut u8);
        i += 1;
    }
    0
}

/// See [`memcmp`].
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, len) }
}

/// strlen(3), which `CStr::from_ptr` wants.
///
/// # Safety
/// As in C: a string that ends in a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the NUL is not passed.
    while unsafe { *text.add(len) } != 0 {
        not_a_call(text as usize as *mut u8);
        len += 1;
    }
    len
}
