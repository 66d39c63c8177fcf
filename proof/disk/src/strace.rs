//! Reads what strace has written of a program: which operations it asked for below a directory,
//! and when it sent what to whom.
//!
//! A call changes files when it returns, and a sync covers what had returned before the sync was
//! called. What a program sends counts from when the call begins. strace sees every call of every
//! thread stop there and go on, so what one thread has seen of another's calls stands before what
//! it does next.
//!
//! Positions are followed by descriptor, and copies of descriptors (`dup`) are not known of.
//! Programs that write by other means (mappings, `io_uring`, hard links …) are refused.

mod call;
mod files;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use self::call::{Call, Target};
use self::files::Files;
use crate::Operation;
use crate::history::Base;

/// The options that strace needs, the file of its output besides: `-o FILE`.
pub const OPTIONS: [&str; 8] =
    ["-f", "--seccomp-bpf", "-yy", "-xx", "-s", "268435456", "-e", CALLS];

// Those with a question mark are not there on every machine.
const CALLS: &str = "trace=?open,openat,?creat,read,lseek,write,writev,pwrite64,pwritev,pwritev2,\
    sendto,sendmsg,ftruncate,truncate,fallocate,?rename,?renameat,renameat2,?unlink,unlinkat,\
    ?mkdir,mkdirat,?rmdir,fsync,fdatasync,sync_file_range,?link,linkat,?symlink,symlinkat,\
    copy_file_range,sendfile,io_uring_setup";

/// What a program did.
#[derive(Debug, Default)]
pub struct Trace {
    /// What it did below the directory. `Mark(n)` is the beginning of `sent[n]`.
    pub operations: Vec<Operation>,
    /// What it sent over TCP.
    pub sent: Vec<Sent>,
    /// What was under way when it ended, as if it had been done: nobody was told whether it was,
    /// or how much of a write.
    pub under_way: Vec<Operation>,
}

/// Something sent over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The port it was sent to.
    pub to_port: u16,
    /// What it was; not all of it need have been taken.
    pub bytes: Vec<u8>,
}

/// Reads a trace: what was done below `root`, an absolute path, in which there was `base` when it
/// began.
///
/// # Errors
/// What reading met, or a line that is not understood, with its number.
pub fn read(mut trace: impl BufRead, root: &Path, base: &Base) -> io::Result<Trace> {
    let mut reader = Reader {
        root: root.to_owned(),
        files: Files::of(base),
        unfinished: BTreeMap::new(),
        positions: HashMap::new(),
        syncs: 0,
        trace: Trace::default(),
    };
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        if trace.read_until(b'\n', &mut line)? == 0 {
            return Ok(reader.ended());
        }
        let read = std::str::from_utf8(&line).map_err(|error| error.to_string());
        read.and_then(|line| reader.line(line.trim_end())).map_err(|reason| {
            let line = String::from_utf8_lossy(&line[..line.len().min(300)]);
            io::Error::other(format!("line {number} of the trace: {reason}: {line}"))
        })?;
    }
}

struct Reader {
    root: PathBuf,
    files: Files,
    /// The beginnings of calls under way, by thread, and what began with them.
    unfinished: BTreeMap<u32, (String, Option<u64>)>,
    /// Where each descriptor is in its file, and whether it always appends.
    positions: HashMap<i64, Position>,
    syncs: u64,
    trace: Trace,
}

#[derive(Clone, Copy, Default)]
struct Position {
    at: u64,
    appends: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (thread, rest) = line.split_once(' ').ok_or("it has no thread")?;
        let thread: u32 = thread.parse().map_err(|_| "it has no thread")?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            return Ok(());
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            let sync = self.begin(&Call::parse(begun)?)?;
            self.unfinished.insert(thread, (begun.to_owned(), sync));
            return Ok(());
        }
        let (text, sync) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").ok_or("it resumes nothing")?;
                let (begun, sync) = self.unfinished.remove(&thread).ok_or("nothing was begun")?;
                (begun + end, sync)
            }
            None => (rest.to_owned(), self.begin(&Call::parse(rest)?)?),
        };
        let call = Call::parse(&text)?;
        self.end(&call, sync)?;
        match call.is_unknown() {
            // A call that is made again, or the last one of a thread that was killed.
            true => self.unfinished.insert(thread, (text, sync)),
            false => self.unfinished.remove(&thread),
        };
        Ok(())
    }

    /// What it was, when nothing follows.
    fn ended(mut self) -> Trace {
        let done = self.trace.operations.len();
        for (begun, _) in std::mem::take(&mut self.unfinished).into_values() {
            let Ok(mut call) = Call::parse(&begun) else { continue };
            call.result = Some(call.bytes(1).map_or(0, |bytes| bytes.len() as i64));
            // A call that does not fit any more, or whose arguments are not all known, was not
            // carried out, or nothing is known of it.
            let _ = self.end(&call, None);
        }
        self.trace.under_way = self.trace.operations.split_off(done);
        self.trace
    }

    /// Notes what counts from the beginning of a call; gives the number of a sync.
    fn begin(&mut self, call: &Call<'_>) -> Result<Option<u64>, String> {
        match call.name {
            "fsync" | "fdatasync" => {
                let Some(path) = self.below(call.target(0)?) else { return Ok(None) };
                self.syncs += 1;
                let number = self.syncs;
                self.trace.operations.push(Operation::SyncBegan { number, path });
                return Ok(Some(number));
            }
            "sendto" | "sendmsg" | "write" | "writev" => {
                if let Target::Tcp { to_port } = call.target(0)? {
                    let mark = Operation::Mark(self.trace.sent.len() as u64);
                    self.trace.operations.push(mark);
                    self.trace.sent.push(Sent { to_port, bytes: call.bytes(1)? });
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Notes what counts from the end of a call.
    fn end(&mut self, call: &Call<'_>, sync: Option<u64>) -> Result<(), String> {
        let Some(result) = call.result.filter(|result| *result >= 0) else { return Ok(()) };
        match call.name {
            "open" | "openat" | "creat" => self.opened(call, result)?,
            "read" | "lseek" => {
                let position = self.positions.entry(call.number(0)?).or_default();
                let moved = if call.name == "read" { position.at } else { 0 };
                position.at = moved + result as u64;
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
                self.written(call, result as u64)?;
            }
            "ftruncate" => {
                if let Some(path) = self.below(call.target(0)?) {
                    self.set_length(path, call.number(1)? as u64)?;
                }
            }
            "fallocate" => {
                if let Some(path) = self.below(call.target(0)?) {
                    let length = (call.number(2)? + call.number(3)?) as u64;
                    match call.argument(1)? {
                        "FALLOC_FL_KEEP_SIZE" => {}
                        "0" if length <= self.files.length(&path)? => {}
                        "0" => self.set_length(path, length)?,
                        mode => return Err(format!("fallocate with {mode} is not known")),
                    }
                }
            }
            "fsync" | "fdatasync" => {
                let ended = sync.map(|number| Operation::SyncEnded { number });
                self.trace.operations.extend(ended);
            }
            "sync_file_range" | "sendto" | "sendmsg" => {}
            _ => return self.named(call),
        }
        Ok(())
    }

    fn opened(&mut self, call: &Call<'_>, descriptor: i64) -> Result<(), String> {
        let flags = call.argument(if call.name == "openat" { 2 } else { 1 })?;
        let has = |flag| call.name == "creat" || flags.split('|').any(|one| one == flag);
        let appends = flags.contains("O_APPEND");
        self.positions.insert(descriptor, Position { at: 0, appends });
        let Some(path) = self.below(call.result_target()?) else { return Ok(()) };
        if !self.files.contains(&path) && has("O_CREAT") {
            self.files.add_file(&path);
            self.trace.operations.push(Operation::Create { path });
        } else if has("O_TRUNC") && self.files.length(&path)? > 0 {
            self.set_length(path, 0)?;
        }
        Ok(())
    }

    fn written(&mut self, call: &Call<'_>, count: u64) -> Result<(), String> {
        let Some(path) = self.below(call.target(0)?) else { return Ok(()) };
        let position = self.positions.entry(call.number(0)?).or_default();
        let offset = match call.name {
            "pwrite64" | "pwritev" | "pwritev2" => call.number(3)? as u64,
            _ if position.appends => self.files.length(&path)?,
            _ => {
                position.at += count;
                position.at - count
            }
        };
        let mut bytes = call.bytes(1)?;
        bytes.truncate(count as usize);
        if bytes.len() as u64 != count {
            return Err("not all that was written is there: is -s large enough?".to_owned());
        }
        self.files.grow(&path, offset + count)?;
        self.trace.operations.push(Operation::Write { path, offset, bytes });
        Ok(())
    }

    fn set_length(&mut self, path: PathBuf, length: u64) -> Result<(), String> {
        self.files.set_length(&path, length)?;
        self.trace.operations.push(Operation::SetLength { path, length });
        Ok(())
    }

    /// The calls that change names.
    fn named(&mut self, call: &Call<'_>) -> Result<(), String> {
        let at = |reader: &Reader, first| match call.name.contains("at") {
            true => Ok::<_, String>(reader.below_path(call.path_at(2 * first, 2 * first + 1)?)),
            false => Ok(reader.below_path(call.path(first)?)),
        };
        let operation = match (call.name, at(self, 0)?) {
            ("rename" | "renameat" | "renameat2", from) => match (from, at(self, 1)?) {
                (Some(from), Some(to)) => Operation::Rename { from, to },
                (None, None) => return Ok(()),
                _ => return Err("a move into or out of the directory".to_owned()),
            },
            (_, None) => return Ok(()),
            ("mkdir" | "mkdirat", Some(path)) => Operation::MakeDirectory { path },
            ("rmdir", Some(path)) => Operation::RemoveDirectory { path },
            ("unlinkat", Some(path)) if call.argument(2)?.contains("AT_REMOVEDIR") => {
                Operation::RemoveDirectory { path }
            }
            ("unlink" | "unlinkat", Some(path)) => Operation::Remove { path },
            (name, _) => return Err(format!("{name} is not known")),
        };
        self.files.follow(&operation)?;
        self.trace.operations.push(operation);
        Ok(())
    }

    fn below(&self, target: Target) -> Option<PathBuf> {
        match target {
            Target::File(path) => self.below_path(path),
            Target::Tcp { .. } | Target::Other => None,
        }
    }

    fn below_path(&self, path: PathBuf) -> Option<PathBuf> {
        path.strip_prefix(&self.root).ok().map(Path::to_owned)
    }
}

#[cfg(test)]
mod tests;
