//! What a store runs on.

use std::path::PathBuf;

use super::disk::Disk;
use super::space::Space;

/// The file system of a cache folder, and which start of the machine this is.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) space: Space,
    pub(super) disk: Disk,
    pub(super) boot: String,
}

impl Machine {
    /// The one this process runs on.
    pub(super) fn of(folder: PathBuf) -> Self {
        Self { space: Space::of(folder), disk: Disk::default(), boot: boot_id() }
    }

    /// This one, with a file system that no test fills.
    #[cfg(test)]
    pub(super) fn roomy(disk: Disk) -> Self {
        Self { space: Space::roomy(), disk, boot: boot_id() }
    }
}

/// Where nobody can tell, each start of the process is taken for one of the machine.
fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => id.trim().to_owned(),
        Err(_) => format!("{:032x}", rand::random::<u128>()),
    }
}
