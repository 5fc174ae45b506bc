//! Path, query and `Host` of a data request, one a line: what comes out names a registry that is configured and a repository.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use roadstead::config::{Config, Registry};
use roadstead::oci::RepositoryName;
use roadstead::server::fuzzing::route;

static REGISTRIES: LazyLock<Vec<Arc<Registry>>> = LazyLock::new(|| {
    let environment = |name: &str| (name == "HOME").then(|| "/nonexistent".to_owned());
    let text = "[[registry]]\nname = \"docker.io\"\ndefault = true\n[[registry]]\nname = \"ghcr.io\"\nhosts = [\"mirror.test\"]\n\
                [[registry]]\nname = \"*.pkg.dev\"\n";
    Config::parse(text, Path::new("fuzz.toml"), &environment).expect("it is good").0.registries
});

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let (path, query, host) = (lines.next().unwrap_or_default(), lines.next(), lines.next().unwrap_or_default());
    let Some((registry, repository)) = route(&REGISTRIES, path, query, host) else { return };
    assert!(matches!(registry.as_str(), "docker.io" | "ghcr.io") || registry.as_str().ends_with(".pkg.dev"), "{registry}");
    assert!(repository.as_str().parse::<RepositoryName>().is_ok_and(|again| again == repository));
});
