//! A small file system of a test's own, mounted for as long as the test runs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A volume; unmounted when dropped.
pub(crate) struct Volume {
    directory: tempfile::TempDir,
}

impl Volume {
    /// One in memory.
    pub(crate) fn tmpfs(size_mb: u64) -> Volume {
        let volume = Volume { directory: tempfile::tempdir().unwrap() };
        let options = format!("size={size_mb}m,mode=0777");
        volume.mount(&["-t", "tmpfs", "-o", &options, "none"]);
        volume
    }

    /// An ext4 in a file.
    pub(crate) fn ext4(size_mb: u64) -> Volume {
        let volume = Volume { directory: tempfile::tempdir().unwrap() };
        let image = volume.directory.path().join("image");
        File::create(&image).unwrap().set_len(size_mb << 20).unwrap();
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let owner = format!("root_owner={}:{}", user.as_raw(), group.as_raw());
        let made = Command::new("/usr/sbin/mkfs.ext4")
            .args(["-q", "-m", "0", "-E", &owner])
            .arg(&image)
            .status();
        assert!(made.is_ok_and(|made| made.success()), "mkfs.ext4 is needed (package e2fsprogs)");
        volume.mount(&["-o", "loop", image.to_str().unwrap()]);
        volume
    }

    fn mount(&self, arguments: &[&str]) {
        std::fs::create_dir(self.root()).unwrap();
        let mounted = as_root("mount").args(arguments).arg(self.root()).output().unwrap();
        assert!(
            mounted.status.success(),
            "this test mounts a small file system, as root or by sudo without a password, and \
             can't: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    /// Where the node keeps its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Somebody else takes what is left, to the last byte.
    pub(crate) fn fill(&self) {
        let filled = File::create(self.filler()).and_then(|mut file| {
            loop {
                file.write_all(&[7; 4096])?;
                file.sync_data()?;
            }
        });
        let why: std::io::Result<()> = filled;
        assert_eq!(why.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        let left = rustix::fs::statvfs(self.root()).unwrap();
        assert!(left.f_bavail * left.f_frsize < 4 * 4096, "{} blocks are left", left.f_bavail);
    }

    /// Makes one in memory larger.
    pub(crate) fn enlarge(&self, size_mb: u64) {
        let options = format!("remount,size={size_mb}m");
        let enlarged = as_root("mount").args(["-o", &options]).arg(self.root()).status().unwrap();
        assert!(enlarged.success());
    }

    fn filler(&self) -> PathBuf {
        self.root().join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a node that a failed test leaves behind may still be dying.
        let unmounted = as_root("umount").arg("-l").arg(self.root()).status();
        if !unmounted.is_ok_and(|unmounted| unmounted.success()) {
            eprintln!("{} stays mounted", self.root().display());
        }
    }
}

/// A command for root, by sudo when this is somebody else.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// Bytes of the file that holds the reserve.
pub(crate) fn ballast_bytes(data: &Path) -> u64 {
    data.join("reserve").metadata().map_or(0, |found| found.len())
}
