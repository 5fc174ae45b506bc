//! The watch over files, under paused time. What a reload does to requests is shown over the whole proxy in `tests/it`.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::app::App;
use crate::egress::SystemNames;

const CI: &str = "ci:$2b$04$hj2Bx7iSyQzhVgalNf222uO8wKmP4BdHXtmsVxR8FnOBPHs063XjW\n";

struct Scene {
    folder: TempDir,
    reloader: Arc<Reloader>,
    _app: App,
}

fn config(folder: &Path, rest: &str) -> Config {
    let text = format!(
        "[cache]\ndirectory = \"cache\"\n[admin]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         users = {{ file = \"users\" }}\n{rest}"
    );
    Config::parse(&text, &folder.join("test.toml"), &|_| None).unwrap_or_else(|faults| panic!("{faults}")).0
}

impl Scene {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("users"), CI).unwrap();
        let app = App::build(config(folder.path(), ""), Arc::new(SystemNames::default()), Telemetry::quiet()).await.unwrap();
        Self { folder, reloader: app.reloader(), _app: app }
    }

    fn write(&self, users: &str) {
        std::fs::write(self.folder.path().join("users"), users).unwrap();
    }

    /// How many reloads worked, and how many did not.
    fn counts(&self) -> [u32; 2] {
        let telemetry = &self.reloader.telemetry;
        let text = telemetry.metrics.render(&telemetry.health);
        ["ok", "failed"].map(|result| {
            let name = format!("roadstead_reloads_total{{result=\"{result}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&*name)).map_or(0, |count| count.parse().unwrap())
        })
    }

    /// Lets the watch look twice, and comes back at a time when it does not.
    async fn look(&self) -> [u32; 2] {
        tokio::time::sleep(2 * LOOK + LOOK / 10).await;
        self.counts()
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_once_and_a_broken_one_tried_once() {
    let scene = Scene::new().await;
    // Before the first look, and yet after the file was read.
    scene.write(&format!("{CI}# more\n"));
    let watching = tokio::spawn(scene.reloader.clone().watch_files());
    assert_eq!(scene.look().await, [1, 0]);
    assert_eq!(scene.look().await, [1, 0]);
    scene.write("ci:nonsense\n");
    assert_eq!(scene.look().await, [1, 1]);
    std::fs::remove_file(scene.folder.path().join("users")).unwrap();
    assert_eq!(scene.look().await, [1, 2]);
    scene.write(CI);
    assert_eq!(scene.look().await, [2, 2]);
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn what_a_reload_has_read_is_not_read_again_and_what_failed_in_one_still_is() {
    let scene = Scene::new().await;
    let folder = scene.folder.path().to_owned();
    scene.reloader.read_from(Arc::new(move || {
        let rest = std::fs::read_to_string(folder.join("rest")).unwrap_or_default();
        Ok((config(&folder, &rest), Vec::new()))
    }));
    let watching = tokio::spawn(scene.reloader.clone().watch_files());
    assert_eq!(scene.look().await, [0, 0]);
    scene.write(&format!("{CI}# more\n"));
    scene.reloader.reload().await.unwrap();
    assert_eq!(scene.look().await, [1, 0]);
    // The new users were read before the registry's authorities broke the reload.
    scene.write(CI);
    std::fs::write(scene.folder.path().join("ca"), "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n").unwrap();
    std::fs::write(scene.folder.path().join("rest"), "[[registry]]\nname = \"ghcr.io\"\nca = \"ca\"\n").unwrap();
    scene.reloader.reload().await.unwrap_err();
    assert_eq!(scene.counts(), [1, 1]);
    assert_eq!(scene.look().await, [2, 1]);
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn files_that_change_while_a_configuration_is_taken_on_do_not_bring_the_old_one_back() {
    let scene = Scene::new().await;
    let turn = scene.reloader.turn.lock().await;
    scene.write(&format!("{CI}# more\n"));
    let watching = tokio::spawn(scene.reloader.clone().watch_files());
    assert_eq!(scene.look().await, [0, 0], "it waits for its turn");
    let new = Arc::new(config(scene.folder.path(), "[policy]\ndefault = \"deny\"\n"));
    scene.reloader.live.store(Arc::new(Snapshot::new(new.clone(), None).unwrap()));
    drop(turn);
    assert_eq!(scene.look().await, [1, 0]);
    assert!(Arc::ptr_eq(scene.reloader.live.load().config(), &new));
    watching.abort();
}

#[tokio::test]
async fn a_reload_without_a_file_is_told_and_counted() {
    let scene = Scene::new().await;
    assert!(matches!(scene.reloader.reload().await, Err(Error::NoSource)));
    assert_eq!(scene.counts(), [0, 1]);
}

#[tokio::test]
async fn a_reload_that_nobody_waits_for_any_more_changes_nothing_and_holds_up_no_other() {
    let scene = Scene::new().await;
    let before = scene.reloader.live.load_full();
    let folder = scene.folder.path().to_owned();
    let (asked, answer) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    let gates = Arc::new((asked, answer));
    let read = gates.clone();
    scene.reloader.read_from(Arc::new(move || {
        read.0.wait();
        read.1.wait();
        Ok((config(&folder, ""), Vec::new()))
    }));
    let reloader = scene.reloader.clone();
    let dropped = tokio::spawn(async move { reloader.reload().await });
    let at = gates.clone();
    tokio::task::spawn_blocking(move || at.0.wait()).await.unwrap();
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    let reloader = scene.reloader.clone();
    let next = tokio::spawn(async move { reloader.reload().await });
    // The first is let go while the second reads.
    tokio::task::spawn_blocking(move || {
        gates.1.wait();
        gates.0.wait();
        gates.1.wait();
    })
    .await
    .unwrap();
    next.await.unwrap().unwrap();
    assert_eq!(scene.counts(), [1, 0]);
    assert!(!Arc::ptr_eq(&before, &scene.reloader.live.load_full()));
}
