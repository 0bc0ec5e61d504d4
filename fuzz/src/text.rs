//! Texts: the manifest, the kernel command line.

use modest_loader::cmdline::Cmdline;
use modest_loader::kernel::Kernel;
use modest_loader::kernel::lines::{LineError, Lines};
use modest_loader::limits::{CMDLINE_BYTES, LINE_BYTES};
use modest_loader::manifest::{Line, quote_param, size_bytes, time_ms};
use modest_loader::name::{self, Name};
use modest_loader::resolve::config::{Config, Writer, each_command};
use modest_loader::text::Words;

use crate::Input;

/// A manifest, read in lines however reads are cut, each line parsed, written and parsed again.
pub fn manifest(data: &[u8]) {
    let mut input = Input(data);
    let kernel = input.kernel();
    let text = input.0;
    let fails_from = kernel.fails_from.filter(|from| *from <= text.len() as u64);
    let kernel = kernel.with_file("/m", text);
    let mut buf = vec![0; LINE_BYTES];
    let mut lines = Lines::new(&kernel, kernel.open(c"/m").unwrap(), &mut buf);
    let mut expected = text.split(|byte| *byte == b'\n');
    let mut behind = text.len();
    if text.ends_with(b"\n") || text.is_empty() {
        expected.next_back();
    }
    for number in 1.. {
        let Some((given, line)) = lines.next_line() else {
            assert_eq!(expected.next(), None);
            break;
        };
        assert_eq!(number, given);
        let whole = match line {
            Err(LineError::Read(_)) => {
                assert!(fails_from.is_some());
                assert_eq!(lines.next_line().map(|(number, _)| number), None);
                break;
            }
            _ => expected.next().expect("a line that is none"),
        };
        match line {
            Ok(line) => {
                assert_eq!(line, whole);
                parse(line);
            }
            Err(LineError::TooLong) => assert!(whole.len() >= LINE_BYTES),
            Err(LineError::Read(_)) => unreachable!(),
        }
        behind = behind.saturating_sub(whole.len());
    }
}

fn parse(line: &[u8]) {
    let columns = String::from_utf8_lossy(line).chars().count();
    match Line::parse(line) {
        Ok(parsed) => {
            let written = parsed.to_string();
            assert!(!written.contains('\n'));
            assert_eq!(Line::parse(written.as_bytes()), Ok(parsed), "{written}");
        }
        Err(error) => {
            assert!((1..=columns.max(1)).contains(&error.column), "column {} of {columns}", error.column);
            assert!(error.problem.to_string().contains("expected") || error.problem.to_string().contains("no value"));
        }
    }
    let Ok(text) = std::str::from_utf8(line) else { return };
    for (at, word) in Words::new(text) {
        assert_eq!(text.get(at..at + word.len()), Some(word));
        if let Some(bytes) = size_bytes(word) {
            assert_eq!(size_bytes(&bytes.to_string()), Some(bytes));
        }
        if let Some(ms) = time_ms(word) {
            assert_eq!(time_ms(&format!("{ms}ms")), Some(ms));
        }
        name(word);
    }
    let mut quoted = String::new();
    quote_param(text, &mut quoted).unwrap();
    if !text.contains('"') && !text.trim().is_empty() && !text.split('=').next().unwrap().contains(char::is_whitespace)
    {
        assert_eq!(Words::new(&quoted).count(), 1, "{quoted}");
    }
}

fn name(path: &str) {
    let name = name::of(path);
    let written = name.to_string();
    assert!(!written.contains('-') && name.is_written(&written) && Name(&written) == name);
}

/// The words of a command line as the kernel has them: next_arg() of lib/cmdline.c, until `--`.
fn kernel_words(line: &str) -> Vec<(String, Option<String>)> {
    let mut words = Vec::new();
    let mut rest = line.as_bytes();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return words;
        }
        let quoted = rest[0] == b'"';
        if quoted {
            rest = &rest[1..];
        }
        let (mut in_quote, mut equals, mut i) = (quoted, 0, 0);
        while i < rest.len() && (in_quote || !rest[i].is_ascii_whitespace()) {
            if equals == 0 && rest[i] == b'=' {
                equals = i;
            }
            in_quote ^= rest[i] == b'"';
            i += 1;
        }
        let mut arg = rest[..i].to_vec();
        rest = &rest[i..];
        // The quote at its end is left out once at most, as that of the value or of the word.
        let mut ends_quoted = arg.last() == Some(&b'"');
        let value = (equals != 0).then(|| {
            let mut value = arg.split_off(equals + 1);
            arg.pop();
            let begins_quoted = value.first() == Some(&b'"');
            if begins_quoted {
                value.remove(0);
            }
            if (begins_quoted || quoted) && std::mem::take(&mut ends_quoted) {
                value.pop();
            }
            value
        });
        if quoted && ends_quoted {
            arg.pop();
        }
        if text(&arg) == "--" && value.is_none() && !quoted {
            return words;
        }
        words.push((text(&arg), value.map(|value| text(&value))));
    }
}

/// A kernel command line: its words are those of the kernel, and what is written of it for modules is well formed.
pub fn cmdline(data: &[u8]) {
    let mut input = Input(data);
    let kernel = input.kernel();
    let config_bytes = input.number();
    let kernel = kernel.with_file("/c", input.0);
    let mut buf = vec![0; CMDLINE_BYTES + 1];
    let (cmdline, read, rest) = Cmdline::read(&kernel, c"/c", &mut buf);
    match read {
        Ok(()) => assert!(input.0.len() < CMDLINE_BYTES && rest.len() + cmdline.text().len() == CMDLINE_BYTES + 1),
        Err(error) => {
            assert!(cmdline.text().is_empty() && !error.to_string().is_empty());
            assert!(input.0.len() >= CMDLINE_BYTES || kernel.fails_from.is_some());
        }
    }
    let words: Vec<_> = cmdline.words().collect();
    // A word that begins with `=` has no name, and to the kernel no value. Of two quotes at the end of one that has two at its
    // beginnings too, the kernel leaves one.
    let is_twice = |word: &str| word.starts_with('"') && word.contains("=\"") && word.ends_with("\"\"");
    let is_usual = words.iter().all(|(name, _)| !name.is_empty())
        && !Words::new(cmdline.text()).any(|(_, word)| is_twice(word))
        && !cmdline.text().contains(['\x0b', '\0']);
    if is_usual {
        let owned: Vec<_> = words.iter().map(|(n, v)| (n.to_string(), v.map(str::to_string))).collect();
        assert_eq!(owned, kernel_words(cmdline.text()), "{:?}", cmdline.text());
    }
    let lists = ["modest.skip", "module_blacklist", "rd.driver.pre", "rd.modules-load", "modules-load"];
    let mut is_listed = false;
    for (word, value) in &words {
        assert_eq!(cmdline.has(word), words.contains(&(word, None)));
        let last = words.iter().rfind(|(name, value)| name == word && value.is_some());
        assert_eq!(cmdline.value(word), last.and_then(|(_, value)| *value));
        if let Some(first) = value.and_then(|value| value.split(',').find(|name| !name.is_empty())) {
            assert!(cmdline.lists(word, name::of(first)), "{first} of {word}");
            is_listed |= lists.iter().any(|list| Name(list) == Name(word));
        }
        name(word);
    }
    if is_listed {
        assert!(cmdline.is_about_modules(), "{:?}", cmdline.text());
    }
    let mut all = vec![0; 16 * CMDLINE_BYTES];
    let config = written(cmdline, &mut all).expect("sixteen times the command line is too little");
    let mut few = vec![0; config_bytes];
    let fewer = match written(cmdline, &mut few) {
        Ok(fewer) => {
            assert_eq!(fewer.cmdline, config.cmdline);
            fewer
        }
        Err(fewer) => {
            assert!(
                commands(config.cmdline).starts_with(&commands(fewer.cmdline)),
                "{:?} of {:?}",
                fewer.cmdline,
                config.cmdline
            );
            fewer
        }
    };
    for config in [config, fewer] {
        assert!(config.files.is_empty());
        for (kind, ..) in commands(config.cmdline) {
            assert!(["options", "blacklist"].contains(&kind), "{kind}: {:?}", config.cmdline);
        }
    }
    // What is for a module of modest's own name is not looked for.
    let is_for_modules =
        commands(config.cmdline).iter().any(|(kind, module, _)| (*kind, *module) != ("options", "modest"));
    if is_for_modules && !cmdline.text().contains(['\x0b', '"']) {
        assert!(cmdline.is_about_modules(), "{:?}: {:?}", cmdline.text(), config.cmdline);
    }
}

/// The commands of a configuration's text, all of which is such.
pub(crate) fn commands(text: &str) -> Vec<(&'static str, &str, &str)> {
    let (mut commands, mut len) = (Vec::new(), text.len().min(1));
    each_command(text, &mut |kind, module, rest| {
        // Kind and two lengths of three bytes each.
        len += 7 + module.len() + rest.len();
        commands.push((kind, module, rest));
    });
    assert_eq!(len, text.len(), "{text:?}");
    commands
}

fn written<'b>(cmdline: Cmdline, buf: &'b mut [u8]) -> Result<Config<'b>, Config<'b>> {
    let mut writer = Writer::new(buf);
    let mut result = writer.cmdline(cmdline.text());
    cmdline.each_listed("rd.driver.blacklist", &mut |name| {
        result = result.and_then(|()| writer.blacklist(name));
    });
    if result.is_ok() { Ok(writer.finish()) } else { Err(writer.finish()) }
}
