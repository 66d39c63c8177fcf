//! One call, as strace writes it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A call, or the beginning of one.
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    arguments: Vec<&'a str>,
    /// None while it is under way, or when nobody will know.
    pub(super) result: Option<i64>,
    result_text: &'a str,
}

/// What a descriptor leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A file or directory that has a name.
    File(PathBuf),
    Tcp {
        to_port: u16,
    },
    /// A pipe, say, or a file without a name.
    Other,
}

impl<'a> Call<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Call<'a>, String> {
        let (name, rest) = text.split_once('(').ok_or("it is no call")?;
        let (arguments, behind) = split(rest);
        let result_text = behind.trim_start().strip_prefix('=').unwrap_or_default().trim();
        let digits = result_text.split([' ', '<']).next().unwrap_or_default();
        Ok(Call { name, arguments, result: digits.parse().ok(), result_text })
    }

    /// True when nobody was told how it ended.
    pub(super) fn is_unknown(&self) -> bool {
        self.result_text.starts_with('?')
    }

    pub(super) fn argument(&self, nth: usize) -> Result<&'a str, String> {
        let argument = self.arguments.get(nth).copied();
        argument.ok_or_else(|| format!("argument {nth} of {} is missing", self.name))
    }

    /// A number, or that of a descriptor.
    pub(super) fn number(&self, nth: usize) -> Result<i64, String> {
        let argument = self.argument(nth)?;
        let digits = argument.split('<').next().unwrap_or_default();
        digits.parse().map_err(|_| format!("{argument} is no number"))
    }

    pub(super) fn target(&self, nth: usize) -> Result<Target, String> {
        target(self.argument(nth)?)
    }

    pub(super) fn result_target(&self) -> Result<Target, String> {
        target(self.result_text)
    }

    /// An absolute path.
    pub(super) fn path(&self, nth: usize) -> Result<PathBuf, String> {
        let path = path(unescaped(self.argument(nth)?)?);
        match path.is_absolute() {
            true => Ok(path),
            false => Err("a path does not say where it begins".to_owned()),
        }
    }

    /// A path, and the directory where it begins if it is a relative one.
    pub(super) fn path_at(&self, directory: usize, nth: usize) -> Result<PathBuf, String> {
        let path = path(unescaped(self.argument(nth)?)?);
        match self.target(directory)? {
            Target::File(directory) => Ok(directory.join(path)),
            _ if path.is_absolute() => Ok(path),
            _ => Err("a path does not say where it begins".to_owned()),
        }
    }

    /// Bytes in one string, or in the strings of a vector.
    pub(super) fn bytes(&self, nth: usize) -> Result<Vec<u8>, String> {
        unescaped(self.argument(nth)?)
    }
}

/// The arguments, and what stands behind them.
fn split(text: &str) -> (Vec<&str>, &str) {
    let (mut arguments, mut from, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' | b'<' | b'(' => depth += 1,
            // Of an address: 127.0.0.1:80->127.0.0.1:90.
            b'>' if text.as_bytes().get(at.wrapping_sub(1)) == Some(&b'-') => {}
            b',' | b')' if depth == 0 => {
                arguments.push(text[from..at].trim());
                from = at + 1;
                if byte == b')' {
                    return (arguments, &text[from..]);
                }
            }
            b']' | b'}' | b'>' | b')' => depth -= 1,
            _ => {}
        }
    }
    arguments.push(text[from..].trim());
    (arguments, "")
}

fn target(descriptor: &str) -> Result<Target, String> {
    let Some((_, target)) = descriptor.split_once('<') else { return Ok(Target::Other) };
    if descriptor.ends_with("(deleted)") {
        return Ok(Target::Other);
    }
    let target = target.strip_suffix('>').unwrap_or(target);
    if target.starts_with("\\x") {
        return Ok(Target::File(path(unhexed(target)?)));
    }
    let address = target.strip_prefix("TCP:[").or_else(|| target.strip_prefix("TCPv6:["));
    let port = address.and_then(|pair| pair.rsplit_once(':')?.1.strip_suffix(']'));
    match port.and_then(|port| port.parse().ok()) {
        Some(to_port) if target.contains("->") => Ok(Target::Tcp { to_port }),
        _ => Ok(Target::Other),
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// All that stands in quotes.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    if !text.contains('"') {
        return Err("a string is missing".to_owned());
    }
    let mut bytes = Vec::new();
    for quoted in text.split('"').skip(1).step_by(2) {
        bytes.append(&mut unhexed(quoted)?);
    }
    if text.ends_with("\"...") {
        return Err("a string was cut off: is -s large enough?".to_owned());
    }
    Ok(bytes)
}

fn unhexed(text: &str) -> Result<Vec<u8>, String> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let (escapes, rest) = text.as_bytes().as_chunks::<4>();
    let bytes = escapes.iter().map(|[backslash, x, high, low]| {
        let is_escape = *backslash == b'\\' && *x == b'x';
        let value = digit(*high)? << 4 | digit(*low)?;
        is_escape.then_some(value as u8)
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes.filter(|_| rest.is_empty()).ok_or_else(|| "a string is not in hexadecimals".to_owned())
}
