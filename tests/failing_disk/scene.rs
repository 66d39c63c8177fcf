//! Where a life begins: an empty place, what a killed node has left, what a stopped one has.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::node::{Node, serve};
use crate::workload::{Client, Failed};

/// The beginning of a life, to be had many times.
pub struct Scene {
    pub name: &'static str,
    /// None for an empty place.
    left: Option<TempDir>,
    pub ledger: Ledger,
}

impl Scene {
    pub async fn all() -> [Scene; 3] {
        let empty = Scene { name: "empty", left: None, ledger: Ledger::default() };
        [empty, Self::lived("killed", true).await, Self::lived("stopped", false).await]
    }

    async fn lived(name: &'static str, killed: bool) -> Scene {
        let left = place();
        let node = Node::spawn(command(left.path())).await;
        let mut client = Client { node: node.http.clone(), ledger: Ledger::default() };
        client.first_calls().await.unwrap();
        match killed {
            true => {
                client.big_calls().await.unwrap();
                node.kill().await;
            }
            false => {
                let (status, log) = node.stop().await;
                assert_eq!(status.code(), Some(0), "{log}");
            }
        }
        Scene { name, left: Some(left), ledger: client.ledger }
    }

    /// Puts it at a path that is not there yet.
    pub fn set(&self, path: &Path) {
        if let Some(left) = &self.left {
            copy(left.path(), path);
        }
    }

    /// What a client does in this life.
    pub async fn live(&self, client: &mut Client) -> Result<(), Failed> {
        if self.left.is_none() {
            client.first_calls().await?;
            return client.big_calls().await;
        }
        client.last_calls().await
    }
}

/// A directory in memory if there is room: the disk that fails is not the real one, and syncs of
/// that would take most of the time.
pub fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
    match free >= ROOM_BYTES {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// More than what is left and all lives at one time take.
const ROOM_BYTES: u64 = 1 << 30;

/// A node with a small reserve, on a directory.
pub fn command(data: &Path) -> tokio::process::Command {
    let data = data.to_str().unwrap();
    serve(["--disk-reserve-bytes=1048576", "--data-dir", data])
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}
