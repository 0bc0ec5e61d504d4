//! What `/proc/kallsyms` says of symbols, read as a stream: some hundred thousand lines of
//! `ADDRESS TYPE NAME [MODULE]` (kernel/kallsyms.c). It lists symbols that are not exported too, and lists data only with
//! CONFIG_KALLSYMS_ALL.

use crate::elf::{Bytes, Elf, Fault, NAME_BYTES};
use crate::kernel::Kernel;
use crate::kernel::lines::Lines;
use crate::limits::{KALLSYMS_SLOTS, LINE_BYTES};
use crate::source::DecodeError;
use crate::text;

/// Whose a symbol is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The kernel's itself.
    Kernel,
    /// That of a module.
    Module(heapless::String<NAME_BYTES>),
}

/// Hands each symbol to `each`, which returns whether to go on: name, module. `None` where there is no list.
fn each<K: Kernel>(kernel: &K, each: &mut dyn FnMut(&str, Option<&str>) -> bool) -> Option<()> {
    let mut buf = [0; LINE_BYTES];
    let mut lines = Lines::new(kernel, kernel.open(c"/proc/kallsyms").ok()?, &mut buf);
    while let Some((_, line)) = lines.next_line() {
        let Some(line) = core::str::from_utf8(line.ok()?).ok() else { continue };
        let (line, module) = text::split_once(line, b'\t').map_or((line, None), |(line, module)| (line, Some(module)));
        let mut fields = text::fields(line, b' ').skip(1);
        if let (Some(_), Some(name)) = (fields.next(), fields.next()) {
            let module = module.and_then(|module| module.trim_ascii().strip_prefix("[")?.strip_suffix("]"));
            if !each(name, module) {
                break;
            }
        }
    }
    Some(())
}

/// Who has the symbol `name`.
pub fn owner<K: Kernel>(kernel: &K, name: &str) -> Option<Owner> {
    let mut owner = None;
    each(kernel, &mut |symbol, module| {
        if symbol == name {
            owner = Some(match module {
                Some(module) => Owner::Module(heapless::String::try_from(module).unwrap_or_default()),
                None => Owner::Kernel,
            });
        }
        owner.is_none()
    });
    owner
}

/// Which of so many symbols were seen, by 64 bits of each name: two of the same are one of a million modules.
struct Seen {
    keys: [u64; KALLSYMS_SLOTS],
    is_seen: [bool; KALLSYMS_SLOTS],
}

impl Seen {
    /// FNV-1a. Never 0, which is a free place.
    fn key(name: &str) -> u64 {
        let key = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        key.max(1)
    }

    /// The place of a key, or where it would be. There is always a free one.
    fn place(&self, key: u64) -> usize {
        let mut at = key as usize % KALLSYMS_SLOTS;
        while self.keys[at] != 0 && self.keys[at] != key {
            at = (at + 1) % KALLSYMS_SLOTS;
        }
        at
    }
}

/// Hands each symbol that the module needs and the list lacks to `each_missing`. `false` where that proves nothing, as
/// the list has no data; `None` where there is no list.
pub fn missing<K: Kernel, B: Bytes>(
    kernel: &K, elf: &mut Elf<B>, each_missing: &mut dyn FnMut(&str),
) -> Result<Option<bool>, Fault> {
    // Half of the places, so that few are tried for each name.
    const ROUND: usize = KALLSYMS_SLOTS / 2;
    let mut has_data = false;
    let mut from = 0;
    loop {
        let mut seen = Seen { keys: [0; KALLSYMS_SLOTS], is_seen: [false; KALLSYMS_SLOTS] };
        let mut number = 0;
        elf.undefined(&mut |name| {
            if (from..from + ROUND).contains(&number) {
                let key = Seen::key(name);
                let place = seen.place(key);
                seen.keys[place] = key;
            }
            number += 1;
        })?;
        let listed = each(kernel, &mut |name, _| {
            // Every kernel has it. Some data is listed in any case: what the linker put between functions.
            has_data |= name == "init_task";
            let key = Seen::key(name);
            let place = seen.place(key);
            seen.is_seen[place] |= seen.keys[place] == key;
            true
        });
        if listed.is_none() {
            return Ok(None);
        }
        elf.undefined(&mut |name| {
            let key = Seen::key(name);
            let place = seen.place(key);
            if seen.keys[place] == key && !seen.is_seen[place] {
                each_missing(name);
            }
        })?;
        from += ROUND;
        if from >= number {
            return Ok(Some(has_data));
        }
    }
}

/// As [`missing`], but the first alone, and how many more there are.
pub fn first_missing<K: Kernel, B: Bytes, const N: usize>(
    kernel: &K, elf: &mut Elf<B>, first: &mut heapless::String<N>,
) -> Result<Option<usize>, DecodeError> {
    let mut count = 0;
    let known = missing(kernel, elf, &mut |name| {
        if count == 0 {
            let _ = first.push_str(name);
        }
        count += 1;
    });
    match known {
        Ok(Some(true)) if count > 0 => Ok(Some(count - 1)),
        Err(Fault::Unreadable(error)) => Err(error),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made::Made;
    use crate::kernel::fake::Fake;

    #[test]
    fn whose_a_symbol_is() {
        let list = "0000000000000000 T crc16\t[crc16]\n0000000000000000 T printk\n0 t short\n0\n";
        let fake = Fake::default().with_file("/proc/kallsyms", list.as_bytes());
        assert_eq!(owner(&fake, "printk"), Some(Owner::Kernel));
        assert_eq!(owner(&fake, "crc16"), Some(Owner::Module("crc16".try_into().unwrap())));
        assert_eq!(owner(&fake, "none"), None);
        assert_eq!(owner(&Fake::default(), "printk"), None);
    }

    #[test]
    fn of_many_symbols_the_missing_are_found() {
        let names: Vec<_> = (0..3 * KALLSYMS_SLOTS / 2 + 5).map(|i| format!("symbol_{i}")).collect();
        let needs: Vec<_> = names.iter().map(|name| (name.as_str(), 0)).collect();
        let image = Made { needs: &needs, ..Made::default() }.image();
        let is_missing = |i: usize| i % 700 == 3;
        let list = |data: &str| {
            let there = names.iter().enumerate().filter(|(i, _)| !is_missing(*i));
            there.map(|(_, name)| format!("0 T {name}\n")).collect::<String>() + data
        };
        let found = |list: &str| {
            let fake = Fake::default().with_file("/proc/kallsyms", list.as_bytes());
            let mut found = vec![];
            let mut elf = Elf::open(&image[..], None).unwrap();
            let known = missing(&fake, &mut elf, &mut |name| found.push(name.to_string())).unwrap();
            found.sort();
            (known, found)
        };
        let mut want: Vec<_> =
            names.iter().enumerate().filter(|(i, _)| is_missing(*i)).map(|(_, n)| n.clone()).collect();
        want.sort();
        assert!(want.len() > 2);
        assert_eq!(found(&list("0 D init_task\n")), (Some(true), want.clone()));
        assert_eq!(found(&list("0 d between\n")), (Some(false), want));
        assert_eq!(missing(&Fake::default(), &mut Elf::open(&image[..], None).unwrap(), &mut |_| {}), Ok(None));
    }
}
