//! A registry as slow as told. Prints its address and what it has as one line of JSON, then serves until it is killed.
//!
//!     upstream --blob 268435456x2 --manifests 100 --latency-ms 20 --rate 268435456

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bench_load::content::{Content, Entry};
use bench_load::origin::Origin;
use bench_load::shape::Line;
use clap::Parser;
use serde::Serialize;

#[derive(Parser)]
#[command(about = "A registry as slow as told")]
struct Arguments {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// Blobs: their size in bytes, and how many of them
    #[arg(long = "blob", value_name = "SIZExCOUNT", value_parser = parse_blobs)]
    blobs: Vec<(u64, u64)>,
    /// The number of the first blob: another one makes other blobs
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many manifests of about 4 KiB; the tag of the n-th is tn
    #[arg(long, default_value_t = 0)]
    manifests: u64,
    /// Time before each answer
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Bytes per second of one connection
    #[arg(long)]
    rate: Option<u64>,
    /// Bytes per second of all connections together
    #[arg(long)]
    total_rate: Option<u64>,
}

#[derive(Serialize)]
struct Catalogue {
    address: SocketAddr,
    blobs: Vec<Entry>,
    manifests: Vec<Entry>,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut content = Content::default();
    let sizes = arguments.blobs.iter().flat_map(|(size, count)| std::iter::repeat_n(*size, usize::try_from(*count).unwrap_or(0)));
    let blobs = (arguments.first..).zip(sizes).map(|(number, size)| content.add_blob(number, size)).collect();
    let manifests = (0..arguments.manifests).map(|number| content.add_manifest(number)).collect();
    let listener = TcpListener::bind(arguments.address)?;
    let catalogue = Catalogue { address: listener.local_addr()?, blobs, manifests };
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&catalogue).map_err(io::Error::other)?)?;
    drop(out);
    let origin = Origin {
        content,
        latency: Duration::from_millis(arguments.latency_ms),
        rate: arguments.rate,
        line: Line::new(arguments.total_rate),
        counts: Default::default(),
    };
    Arc::new(origin).serve(&listener)
}

fn parse_blobs(text: &str) -> Result<(u64, u64), String> {
    let (size, count) = text.split_once('x').unwrap_or((text, "1"));
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
    Ok((number(size)?, number(count)?))
}
