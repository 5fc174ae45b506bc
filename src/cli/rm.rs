//! `roadstead rm`: drop cached content, through the running proxy or, where none runs, from the cache folder itself.

use std::sync::Arc;

use super::{ConfigArgument, Faulty, complain, say};
use crate::app;
use crate::config::Config;
use crate::egress::{self, SystemNames};
use crate::mirror::{Purge, PurgeError, Purged};

pub(super) const EXAMPLE: &str = "Examples:
  roadstead rm docker.io/library/busybox:latest   the tag: the next pull asks the upstream
  roadstead rm docker.io/library/busybox          the whole repository
  roadstead rm sha256:2cf2…                       one blob or manifest, wherever it is linked";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY or a digest.
    #[arg(value_name = "IMAGE|DIGEST", required = true)]
    targets: Vec<String>,
    /// Print what was dropped as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Faulty> {
    // All are read before the first is dropped.
    let purges: Vec<Purge> = arguments.targets.iter().map(|target| read(target)).collect::<Result<_, _>>()?;
    let config = arguments.config.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| complain(&format_args!("no runtime: {error}")))?;
    for (target, purge) in arguments.targets.iter().zip(&purges) {
        let purged = runtime.block_on(drop_it(&config, target, purge))?;
        say(&report(target, &purged, arguments.json))?;
    }
    Ok(())
}

fn read(target: &str) -> Result<Purge, Faulty> {
    target.parse().map_err(|error: PurgeError| complain(&format_args!("{target}: {error}")))
}

/// Asks the running proxy; where nothing listens, opens the folder, whose lock makes sure that really nothing runs.
async fn drop_it(config: &Config, target: &str, purge: &Purge) -> Result<Purged, Faulty> {
    let path = match purge {
        Purge::Content(digest) => format!("/api/v1/blobs/{digest}"),
        Purge::Tag(..) | Purge::Repository(..) => format!("/api/v1/images/{target}"),
    };
    match egress::ask_admin(config.admin.address, http::Method::DELETE, &path).await {
        Ok(Some(reply)) if reply.status.is_success() => serde_json::from_slice(&reply.body)
            .map_err(|error| complain(&format_args!("the proxy's answer makes no sense: {error}"))),
        Ok(Some(reply)) => Err(complain(&format_args!("the proxy refused: {}", String::from_utf8_lossy(&reply.body)))),
        Ok(None) => {
            let purged = app::purge_offline(config, Arc::new(SystemNames::default()), purge).await;
            purged.map_err(|error| complain(&format_args!("{target}: {error}")))
        }
        Err(error) => Err(complain(&error)),
    }
}

fn report(target: &str, purged: &Purged, json: bool) -> String {
    if json {
        serde_json::json!({ "target": target, "dropped": purged }).to_string()
    } else if *purged == Purged::default() {
        format!("{target}: nothing of it was cached")
    } else {
        let (tags, blobs) = (counted(purged.tags, "tag"), counted(purged.blobs, "blob"));
        format!("{target}: dropped {tags}, {blobs}, {}", counted(purged.bytes, "byte"))
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
