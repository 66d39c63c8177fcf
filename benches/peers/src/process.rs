//! Server processes: how they are started, measured and ended.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A server gets so long to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The processes of one server; dropping it kills them.
pub(crate) struct Server {
    children: Vec<Child>,
}

impl Server {
    /// Starts a program; what it prints goes to `server.log` beside its data.
    pub(crate) fn start(mut command: Command, dir: &Path) -> Result<Server> {
        let log = File::options().create(true).append(true).open(dir.join("server.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        Ok(Server { children: vec![child] })
    }

    /// One more program that belongs to it.
    pub(crate) fn with(mut self, mut other: Server) -> Server {
        self.children.append(&mut other.children);
        self
    }

    /// All its processes, children of children among them.
    fn pids(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if let Some(parent) = parent.and_then(|field| field.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut found: Vec<u32> = self.children.iter().map(Child::id).collect();
        let mut at = 0;
        while let Some(pid) = found.get(at) {
            found.extend(children.get(pid).into_iter().flatten());
            at += 1;
        }
        found
    }

    /// The memory of all its processes, what they share counted once.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let of = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            kibibytes(&text, "Pss:").unwrap_or(0) * 1024
        };
        self.pids().iter().map(of).sum()
    }

    /// SIGKILL to all of it at once.
    pub(crate) fn kill(mut self) {
        self.kill_all();
    }

    /// SIGTERM, and SIGKILL to what is left after a while.
    pub(crate) fn stop(mut self) {
        for child in &self.children {
            signal(child.id(), Signal::TERM);
        }
        let until = Instant::now() + STOP_LIMIT;
        while Instant::now() < until && self.children.iter_mut().any(is_running) {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill_all();
    }

    fn kill_all(&mut self) {
        for pid in self.pids() {
            signal(pid, Signal::KILL);
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.children.iter_mut().any(is_running) {
            self.kill_all();
        }
    }
}

fn is_running(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // One that has ended meanwhile needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// The number on the line of /proc that begins so.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The blocks that a directory's files take on the disk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // A file may be gone by now: servers rewrite theirs.
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += disk_bytes(&entry.path());
        }
    }
    sum
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::{disk_bytes, kibibytes};

    #[test]
    fn memory_is_read_from_its_line() {
        let text = "00400000-7ff rollup\nRss:   2048 kB\nPss:   1024 kB\nPss_Dirty:  9 kB\n";
        assert_eq!(kibibytes(text, "Pss:"), Some(1024));
        assert_eq!(kibibytes(text, "Swap:"), None);
    }

    #[test]
    fn files_below_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_bytes(dir.path());
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        assert!(disk_bytes(dir.path()) >= empty + 100_000);
    }
}
