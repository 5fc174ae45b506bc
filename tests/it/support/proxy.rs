//! The proxy itself, whole, in this process: the true application on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use roadstead::app::App;
use roadstead::config::Config;
use roadstead::egress::Names;
use roadstead::telemetry::{AccessLog, Telemetry};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{self, Client, Headers, Reply};
use super::names::Hosts;
use super::server::Server;
use super::within;

/// What is fetched with credentials of ours is for anonymous clients only where a statement says so.
pub const ANYBODY: &str = "[[policy.statement]]\nid = \"anybody\"\neffect = \"allow\"\n";

/// A proxy that serves.
pub struct Proxy {
    /// Of the first listener.
    pub address: SocketAddr,
    /// Of all listeners.
    pub addresses: Vec<SocketAddr>,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    telemetry: Arc<Telemetry>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    setup: Setup,
}

/// What a proxy is started from; its cache folder outlives it.
#[derive(Clone)]
pub struct Setup {
    folder: Arc<TempDir>,
    registries: String,
    cache: String,
    listener: String,
    rest: String,
    hosts: Arc<Hosts>,
}

#[async_trait]
impl Names for Hosts {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        Ok(self.look_up(host))
    }
}

impl Setup {
    pub fn new() -> Self {
        let folder = Arc::new(TempDir::new().unwrap());
        let (registries, cache, listener, rest) = Default::default();
        Self { folder, registries, cache, listener, rest, hosts: Arc::default() }
    }

    /// Where files of the configuration may be put.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn cache_folder(&self) -> PathBuf {
        self.folder().join("cache")
    }

    /// Adds a registry at this server, with further keys.
    pub fn registry(mut self, name: &str, server: &Server, keys: &str) -> Self {
        self.registries += &format!("[[registry]]\nname = \"{name}\"\nurls = [\"{}\"]\n{keys}\n", server.url());
        self
    }

    /// Adds TOML for registries as it stands.
    pub fn registries(mut self, toml: &str) -> Self {
        self.registries += toml;
        self
    }

    /// Further keys of `[cache]`.
    pub fn cache(mut self, keys: &str) -> Self {
        self.cache += keys;
        self
    }

    /// Further keys of the listener.
    pub fn listener(mut self, keys: &str) -> Self {
        self.listener += keys;
        self
    }

    /// Further sections.
    pub fn section(mut self, toml: &str) -> Self {
        self.rest += toml;
        self
    }

    pub fn hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = Arc::new(hosts);
        self
    }

    /// The names that were given.
    pub fn names(&self) -> &Hosts {
        &self.hosts
    }

    /// The file that is read when the configuration is taken on anew.
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("roadstead.toml")
    }

    /// The configuration as a file would have it.
    pub fn toml(&self) -> String {
        let Self { registries, cache, listener, rest, .. } = self;
        let folder = self.cache_folder();
        format!(
            "[cache]\ndirectory = \"{}\"\n{cache}\n[[listener]]\nname = \"nodes\"\naddress = \"127.0.0.1:0\"\n{listener}\n\
             [admin]\naddress = \"127.0.0.1:0\"\n{registries}\n{rest}\n",
            folder.display()
        )
    }

    pub fn config(&self) -> Config {
        let parsed = Config::parse(&self.toml(), &self.folder().join("test.toml"), &|_| None);
        parsed.unwrap_or_else(|faults| panic!("{faults}\n{}", self.toml())).0
    }

    pub async fn start(self) -> Proxy {
        Proxy::start(self).await
    }
}

impl Proxy {
    /// A proxy with `hub` as docker.io (the default) and as registry.test.
    pub async fn of(hub: &Server) -> Self {
        Self::with(hub, "").await
    }

    /// The same, with further keys for both.
    pub async fn with(hub: &Server, keys: &str) -> Self {
        let default = format!("default = true\n{keys}");
        Setup::new().registry("docker.io", hub, &default).registry("registry.test", hub, keys).start().await
    }

    async fn start(setup: Setup) -> Self {
        let (access, log) = AccessLog::memory();
        let config = setup.config();
        let telemetry = Telemetry::start(access, config.audit.as_ref()).unwrap();
        let app = App::build(config, setup.hosts.clone(), telemetry.clone()).await.unwrap();
        let file = setup.config_file();
        let app = app.with_source(Arc::new(move || Config::load(&file, &|_| None)));
        let addresses = app.addresses();
        let (stop, shutdown) = watch::channel(false);
        let task = tokio::spawn(app.run(shutdown));
        let (address, admin) = (addresses.data[0], addresses.admin);
        Self { address, addresses: addresses.data, admin, log, telemetry, stop, task, setup }
    }

    /// Has it take on another configuration, and waits for what comes of it.
    pub async fn reload(&self, toml: &str) -> Reply {
        std::fs::write(self.setup.config_file(), toml).unwrap();
        Client::connect(self.admin).await.ask("POST", "/api/v1/reload", &[]).await
    }

    pub async fn get(&self, path: &str, headers: Headers<'_>) -> Reply {
        client::get(self.address, path, headers).await
    }

    pub async fn head(&self, path: &str, headers: Headers<'_>) -> Reply {
        client::head(self.address, path, headers).await
    }

    /// Asks until the answer is as wanted: for what happens behind an answer's back.
    pub async fn get_until(&self, path: &str, fits: impl Fn(&Reply) -> bool) -> Reply {
        within(async {
            loop {
                let reply = self.get(path, &[]).await;
                if fits(&reply) {
                    return reply;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// The value of a metric, by the whole text in front of it.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(client::get(self.admin, "/metrics", &[]).await.body.to_vec()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The access log so far, a JSON line per request.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.log.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Stops as SIGTERM would, and returns what it takes to start again on the same cache.
    pub async fn stop(self) -> Setup {
        self.stop.send_replace(true);
        within(self.task).await.unwrap();
        self.telemetry.finish();
        self.setup
    }
}
