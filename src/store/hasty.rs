//! The way in for the tool that makes caches to be measured: the true store, with its layout and its records, that syncs nothing.

use std::path::PathBuf;
use std::sync::Arc;

use super::disk::Disk;
use super::machine::Machine;
use super::{Error, Store};
use crate::config;
use crate::telemetry::Telemetry;

impl Store {
    /// Opens a cache folder to put made-up content into it. What is put is as complete as ever, and not to be believed after a
    /// crash of the machine.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[doc(hidden)]
    pub async fn open_hasty(config: &config::Cache, telemetry: Arc<Telemetry>) -> Result<Arc<Self>, Error> {
        Self::open_in(config, hasty(config.directory.clone()), telemetry).await
    }
}

fn hasty(folder: PathBuf) -> Machine {
    Machine { disk: Disk::hasty(), ..Machine::of(folder) }
}
