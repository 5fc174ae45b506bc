//! The real program, as an operator starts it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::proxy::Setup;
use super::within;

/// How often is looked whether something has come about that nobody announces.
const LOOK: Duration = Duration::from_millis(10);

/// A running `roadstead serve`; killed when it is dropped.
pub struct Process {
    child: Child,
    folder: PathBuf,
    /// Where its data listener and its back door are.
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

/// The program with these arguments and no settings from outside.
pub fn roadstead(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["ROADSTEAD_CONFIG", "RUST_LOG", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end, which must come soon.
pub async fn run(arguments: &[&str]) -> Output {
    let mut command = roadstead(arguments);
    within(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap()
}

impl Process {
    /// Starts it on ports of its own, and waits until it serves.
    pub async fn start(setup: &Setup) -> Self {
        let mut process = Self::launch(setup);
        let [address, admin] = within(process.listening()).await;
        (process.address, process.admin) = (address, admin);
        process
    }

    /// Starts it, and waits for nothing.
    pub fn launch(setup: &Setup) -> Self {
        let config = write_config(setup.folder(), &setup.toml());
        Self::launch_by(roadstead(&["serve", "--config", config.to_str().unwrap()]), setup)
    }

    /// Starts it so that a file that may not grow is an error to it and not its end, and waits until it serves.
    pub async fn start_with_growing_forbidden(setup: &Setup) -> Self {
        let config = write_config(setup.folder(), &setup.toml());
        let mut command = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_roadstead");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", program, "serve", "--config", config.to_str().unwrap()]);
        let mut process = Self::launch_by(command, setup);
        let [address, admin] = within(process.listening()).await;
        (process.address, process.admin) = (address, admin);
        process
    }

    fn launch_by(mut command: Command, setup: &Setup) -> Self {
        let folder = setup.folder().to_owned();
        command.stdout(File::create(folder.join("stdout")).unwrap()).stderr(File::create(folder.join("stderr")).unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { child: command.spawn().unwrap(), folder, address: nowhere, admin: nowhere }
    }

    /// A configuration file that names the ports it really listens on, for verbs that ask it.
    pub fn config(&self, setup: &Setup) -> String {
        let toml = setup.toml();
        let (before, after) = toml.split_once("[admin]\naddress = \"127.0.0.1:0\"").unwrap();
        let toml = format!("{before}[admin]\naddress = \"{}\"{after}", self.admin);
        write_config(&self.folder, &toml).to_str().unwrap().to_owned()
    }

    async fn listening(&mut self) -> [SocketAddr; 2] {
        loop {
            let log = self.stderr();
            let addresses: Vec<_> = log.lines().filter_map(listening_on).collect();
            if let [address, admin] = addresses[..] {
                return [address, admin];
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{log}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What it has said on standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    /// The access log so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.folder.join("stdout")).unwrap()
    }

    /// Waits until standard error has `text`.
    pub async fn says(&self, text: &str) {
        within(async {
            while !self.stderr().contains(text) {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// No file of its may grow beyond so many bytes from now on.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).unwrap();
    }

    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Ends it as `kill -9` does, wherever it is.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
    }

    /// A value of `/proc/PID/status`.
    pub fn kibibytes(&self, key: &str) -> i64 {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
    }

    /// The peak of its memory counts from now on.
    pub fn forget_peak(&self) {
        std::fs::write(self.proc("clear_refs"), "5").unwrap();
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }
}

fn write_config(folder: &Path, toml: &str) -> PathBuf {
    let file = folder.join("roadstead.toml");
    std::fs::write(&file, toml).unwrap();
    file
}

/// The address in a line that says where it listens.
fn listening_on(line: &str) -> Option<SocketAddr> {
    let (_, url) = line.split_once("listening for ")?.1.split_once("://")?;
    let end = url.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(url.len());
    url[..end].trim_end_matches(':').parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}
