//! Parameters that a module does not have.

use super::failed_load::Report;
use crate::elf::{Elf, NAME_BYTES, THIS_MACHINE};
use crate::kernel::Kernel;
use crate::load::{self, Request};
use crate::name::{self, Name};
use crate::path;
use crate::report::shown;
use crate::text::{self, Words};

/// Reports each parameter of a request that the module, which is loaded, does not have: the kernel ignores it, and nobody
/// would know why it has no effect.
pub fn report_ignored_params<K: Kernel>(kernel: &K, request: &Request, report: Report) {
    let name = name::of(shown(request.file));
    for (_, word) in Words::new(shown(request.params)) {
        let word = word.strip_prefix("\"").unwrap_or(word);
        let param = text::split_once(word, b'=').map_or(word, |(param, _)| param);
        if is_for_any_module(param) || is_in_sysfs(kernel, name, param) {
            continue;
        }
        match BestMatch::find(kernel, request, param) {
            None => {}
            Some(best) if best.score == 0 => {
                report(&format_args!("the kernel ignored `{param}`: the module has no parameters"));
            }
            Some(BestMatch { name, kind, .. }) => report(&format_args!(
                "the kernel ignored `{param}`: the module has no such parameter; did you mean `{name}` ({kind})?"
            )),
        }
    }
}

/// Whether the kernel takes the parameter for every module (kernel/module/main.c, unknown_module_param_cb).
fn is_for_any_module(param: &str) -> bool {
    Name(param) == Name("async_probe") || param == "dyndbg"
}

/// Whether the parameter is in sysfs. A module may have one that is not, which only its file tells.
fn is_in_sysfs<K: Kernel>(kernel: &K, name: Name, param: &str) -> bool {
    path::spelled(format_args!("/sys/module/{name}/parameters/{}", Name(param)))
        .is_some_and(|path| kernel.exists(&path))
}

/// The parameter of a module that is most like the one wanted.
#[derive(Default)]
struct BestMatch {
    /// 0 where the module has no parameters.
    score: usize,
    name: heapless::String<NAME_BYTES>,
    kind: heapless::String<NAME_BYTES>,
}

impl BestMatch {
    /// Looks into the file that was loaded. `None` where it has the parameter, or cannot be read.
    fn find<K: Kernel>(kernel: &K, request: &Request, wanted: &str) -> Option<BestMatch> {
        let file = kernel.open(request.file).ok()?;
        let (mut best, mut is_read, mut is_there) = (BestMatch::default(), false, false);
        let _ = load::with_image(kernel, request.budget_bytes, file, &mut |bytes| {
            if let Ok(mut elf) = Elf::open(bytes, Some(THIS_MACHINE)) {
                let read = elf.params(&mut |name, kind| {
                    is_there |= Name(name) == Name(wanted);
                    best.consider(wanted, name, kind);
                });
                is_read = read.is_ok();
            }
        });
        (is_read && !is_there).then_some(best)
    }

    fn consider(&mut self, wanted: &str, name: &str, kind: &str) {
        // Of the letters of both, the share of those that stand in both in the same order, in percent.
        let score = 1 + 200 * common(wanted.as_bytes(), name.as_bytes()) / (wanted.len() + name.len()).max(1);
        if score > self.score {
            *self = BestMatch { score, ..BestMatch::default() };
            let _ = self.name.push_str(name);
            let _ = self.kind.push_str(kind);
        }
    }
}

/// Length of the longest common subsequence, of the first bytes at least.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut lengths = [0usize; NAME_BYTES];
    for &byte in a {
        let mut diagonal = 0;
        for (i, &other) in b.iter().take(NAME_BYTES - 1).enumerate() {
            let above = lengths[i + 1];
            lengths[i + 1] = if byte == other { diagonal + 1 } else { above.max(lengths[i]) };
            diagonal = above;
        }
    }
    lengths.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::made::Made;
    use crate::kernel::fake::Fake;
    use std::ffi::CString;

    #[test]
    fn a_parameter_that_is_ignored_is_reported_with_the_most_similar() {
        let reported = |info: &[&str], params: &str| {
            let image = Made { name: "m", info, ..Made::default() }.image();
            let fake = Fake::default().with_file("/m.ko", &image).with_file("/sys/module/m/parameters/there", b"");
            let params = CString::new(params).unwrap();
            let request = Request { file: c"/m.ko", params: &params, ..Request::default() };
            let mut reported = vec![];
            report_ignored_params(&fake, &request, &mut |text| reported.push(text.to_string()));
            reported
        };
        let info = &["parmtype=queue_depth:uint", "parmtype=name:charp", "parmtype=in_file-only:int"];
        assert_eq!(reported(info, "there=1 queue-depth=1 in-file_only=1 dyndbg=+p async-probe"), [""; 0]);
        assert_eq!(
            reported(info, "qdepth=1 \"nme=a b\""),
            [
                "the kernel ignored `qdepth`: the module has no such parameter; did you mean `queue_depth` (uint)?",
                "the kernel ignored `nme`: the module has no such parameter; did you mean `name` (charp)?",
            ]
        );
        assert_eq!(reported(&[], "x"), ["the kernel ignored `x`: the module has no parameters"]);
    }
}
