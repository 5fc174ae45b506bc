//! The configuration file. Whatever is in it, it is read or every fault is one line; and what is read can be printed and
//! then read again. Relative paths in it start in a folder that does not exist.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use roadstead::config::Config;

fuzz_target!(|text: &str| {
    // A path of its own might name a terminal or a pipe, which is waited for.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let environment = |name: &str| matches!(name, "HOME" | "SECRET").then(|| "/nonexistent".to_owned());
    let parse = |text: &str| Config::parse(text, Path::new("/nonexistent/roadstead.toml"), &environment);
    match parse(text) {
        Ok((config, _)) => {
            let shown = config.effective().to_string();
            let again = parse(&shown).unwrap_or_else(|faults| panic!("{faults}\n{shown}")).0;
            assert_eq!(again.effective(), config.effective(), "{shown}");
        }
        Err(faults) => {
            assert!(!faults.0.is_empty());
            assert_eq!(faults.to_string().lines().count(), faults.0.len(), "{faults}");
        }
    }
});
