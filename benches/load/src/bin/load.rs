//! Makes load, or holds connections, and prints what it saw as one object of JSON.
//!
//!     load requests --address 127.0.0.1:5000 --path /v2/a/blobs/sha256:… --connections 64 --seconds 4
//!     load requests … --count 1            one answer: how long, and until its first byte
//!     load idle … --connections 1000       says `ready`, and holds them until standard input ends
//!     load slow … --connections 500 --pace 16384

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench_load::closed::{self, End, Plan, Question, Seen};
use bench_load::held::{self, Ask};
use bench_load::sink::Expected;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Makes load, or holds connections")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Ask and be answered, as fast as it goes or at a rate
    Requests(Requests),
    /// Hold connections that have been used once
    Idle {
        #[command(flatten)]
        what: What,
        /// The authority of the server's certificate, for TLS
        #[arg(long, value_name = "FILE")]
        tls: Option<String>,
    },
    /// Hold readers that are slow
    Slow {
        #[command(flatten)]
        what: What,
        /// Bytes per second of each
        #[arg(long)]
        pace: u64,
    },
}

#[derive(Args)]
struct What {
    /// Who is asked
    #[arg(long)]
    address: SocketAddr,
    /// What is asked; several are asked in turn
    #[arg(long = "path", required_unless_present = "paths")]
    path: Vec<String>,
    /// A file with a path in each line
    #[arg(long)]
    paths: Option<String>,
    /// Another header, as `Name: value`
    #[arg(long = "header")]
    headers: Vec<String>,
    /// The status that is right
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// The length that is right
    #[arg(long)]
    length: Option<u64>,
    /// How many connections
    #[arg(long, default_value_t = 1)]
    connections: usize,
}

#[derive(Args)]
struct Requests {
    #[command(flatten)]
    what: What,
    /// How long
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How many answers, instead of a time
    #[arg(long)]
    count: Option<u64>,
    /// Requests per second of all connections together
    #[arg(long)]
    rate: Option<f64>,
    /// How many threads the connections are shared out to
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

impl What {
    fn questions(&self) -> io::Result<Vec<Question>> {
        let mut paths = self.path.clone();
        if let Some(file) = &self.paths {
            paths.extend(std::fs::read_to_string(file)?.lines().map(str::to_owned));
        }
        let expected = Expected { status: self.status, length: self.length };
        Ok(paths.iter().map(|path| Question { request: self.request(path), expected }).collect())
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let headers: String = self.headers.iter().map(|header| format!("{header}\r\n")).collect();
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address).into_bytes()
    }

    fn ask(&self) -> io::Result<Ask> {
        let question = self.questions()?.into_iter().next().ok_or_else(|| io::Error::other("no path"))?;
        Ok(Ask { address: self.address, request: question.request, expected: question.expected })
    }
}

fn main() -> io::Result<()> {
    match Arguments::parse().verb {
        Verb::Requests(requests) => print(&serde_json::to_string(&run(&requests)?.report()).map_err(io::Error::other)?),
        Verb::Idle { what, tls } => {
            let tls = tls.as_deref().map(held::tls).transpose()?;
            let held = held::idle(&what.ask()?, what.connections, tls.as_ref())?;
            print(r#"{"ready":true}"#)?;
            io::stdin().read_to_end(&mut Vec::new())?;
            drop(held);
            Ok(())
        }
        Verb::Slow { what, pace } => {
            let slow = held::slow(&what.ask()?, what.connections, pace, input_ended())?;
            print(&serde_json::to_string(&slow).map_err(io::Error::other)?)
        }
    }
}

fn run(requests: &Requests) -> io::Result<Seen> {
    let questions = requests.what.questions()?;
    let share = |total: usize, thread: usize| total / requests.threads + usize::from(thread < total % requests.threads);
    let plan = |thread: usize| Plan {
        address: requests.what.address,
        questions: questions.clone(),
        connections: share(requests.what.connections, thread),
        end: match requests.count {
            Some(count) => End::Count(share(usize::try_from(count).unwrap_or(usize::MAX), thread) as u64),
            None => End::After(Duration::from_secs_f64(requests.seconds)),
        },
        rate: requests.rate.map(|rate| rate / requests.threads as f64),
    };
    let threads: Vec<_> = (0..requests.threads).map(plan).map(|plan| std::thread::spawn(move || closed::run(&plan))).collect();
    let mut all = Seen::default();
    for thread in threads {
        all.merge(thread.join().map_err(|_| io::Error::other("a thread broke"))??);
    }
    Ok(all)
}

/// Whether standard input has ended, which a thread of its own waits for.
fn input_ended() -> impl FnMut() -> bool {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        // An input that cannot be read has ended too.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    move || ended.load(Ordering::Relaxed)
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
