//! A small disk of the test's own, which is full soon.

use std::path::Path;
use std::process::Command;

/// Unmounted when it is dropped.
pub struct Disk(tempfile::TempDir);

impl Disk {
    /// With options of `tmpfs`, such as `size=256k`. `None`: whoever runs the tests may not mount.
    pub fn mount(options: &str) -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "longshore-test"]).arg(folder.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(Disk(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-o", &format!("remount,{options}")]).arg(self.0.path()).output().unwrap();
        assert!(mounted.status.success(), "{mounted:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that another test is starting may still hold a file of it open.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}
