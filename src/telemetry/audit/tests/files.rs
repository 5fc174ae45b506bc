//! The log as files: rotated, moved away, taken up again after any end.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_new_file_is_begun_by_size_and_so_many_old_ones_are_kept() {
    let folder = Folder { rotate: Some(2000), keep: 3, ..Folder::new() };
    for _ in 0..4 {
        folder.run(20);
        let verified = folder.verify();
        assert_eq!(verified.records % 20, 0);
    }
    let files = rotated(&folder.path()).unwrap();
    assert_eq!(files, [folder.numbered(3), folder.numbered(2), folder.numbered(1), folder.path()]);
    assert!(!folder.numbered(4).exists());
    let verified = folder.verify();
    assert_eq!((verified.first > 0, verified.records), (true, 60), "the oldest are gone");
    for file in files {
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        assert!(read(&file).starts_with("{\"chain\":{"), "{}", file.display());
    }
}

#[test]
fn a_gap_in_the_numbers_is_filled_first() {
    let folder = Folder { rotate: Some(500), keep: 3, ..Folder::new() };
    std::fs::write(folder.numbered(3), "old").unwrap();
    folder.run(5);
    folder.run(5);
    assert_eq!(read(&folder.numbered(3)), "old");
    folder.run(5);
    assert_ne!(read(&folder.numbered(3)), "old");
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_a_new_one_in_the_same_chain() {
    let folder = Folder::new();
    let telemetry = folder.start();
    telemetry.reopen_audit();
    request(&telemetry);
    let moved = folder.folder.path().join("audit.log-20260821");
    std::fs::rename(folder.path(), &moved).unwrap();
    telemetry.reopen_audit();
    while !folder.path().exists() {
        std::thread::yield_now();
    }
    request(&telemetry);
    telemetry.finish();
    let verified = verify(&[moved.clone(), folder.path()], None).unwrap();
    assert_eq!((verified.records, verified.links, verified.tail), (2, 4, None));
    assert!(read(&moved).contains("\"records\":1,"), "what was before is in the old file, with its link");
    assert!(verify(&[folder.path(), moved], None).is_err(), "in this order only");
}

#[test]
fn a_later_run_goes_on_with_the_chain() {
    let folder = Folder::new();
    (0..3).for_each(|_| folder.run(2));
    let verified = folder.verify();
    assert_eq!((verified.first, verified.last, verified.records, verified.adopted), (0, 3, 6, 0));
    // Killed between the rename and the first line of the new file.
    std::fs::rename(folder.path(), folder.numbered(1)).unwrap();
    folder.run(1);
    assert_eq!((folder.verify().last, folder.verify().records), (5, 7));
}

#[test]
fn what_was_killed_at_any_byte_is_taken_up_again() {
    let whole = Folder::new();
    whole.run(1);
    whole.run(1);
    let text = whole.text();
    for cut in 0..=text.len() {
        let folder = Folder::new();
        std::fs::write(folder.path(), &text[..cut]).unwrap();
        folder.run(1);
        let after = folder.text();
        assert!(after.starts_with(&text[..cut]), "nothing that was there is changed");
        let (verified, lines) = (folder.verify(), text[..cut].lines().filter(|line| Link::parse(line.as_bytes()).is_none()));
        assert_eq!((verified.records, verified.tail), (lines.count() as u64 + 1, None), "cut at {cut}: {after}");
    }
}

#[test]
fn what_was_killed_right_before_a_rotation_is_linked_in_the_old_file() {
    let folder = Folder::new();
    folder.run(2);
    let text = folder.text();
    let cut = text.trim_end().rfind('\n').unwrap() - 5;
    std::fs::write(folder.numbered(1), &text[..cut]).unwrap();
    for torn in ["", "{\"ch"] {
        std::fs::write(folder.path(), torn).unwrap();
        folder.run(1);
        let adopted = if torn.is_empty() { 2 } else { 3 };
        assert_eq!((folder.verify().records, folder.verify().adopted), (1 + adopted, adopted));
    }
}

#[test]
fn what_cannot_be_an_audit_log_is_refused_at_start() {
    let told =
        |folder: &Folder| folder.try_start().unwrap_err().to_string().replace(&format!("{}", folder.path().display()), "FILE");
    let folder = Folder::new();
    std::fs::write(folder.path(), "something else\n").unwrap();
    assert_eq!(told(&folder), "the audit log FILE has content that is no audit log: name a file of its own");
    assert_eq!(folder.text(), "something else\n");
    let folder = Folder::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path(), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert_eq!(told(&folder), "the audit log FILE is not a plain file: name one, or write output = \"stdout\"");
    let folder = Folder::new();
    let _telemetry = folder.start();
    assert_eq!(told(&folder), "the audit log FILE is in use by another process");
    let gone = Folder::new();
    std::fs::remove_dir(gone.folder.path()).unwrap();
    assert!(told(&gone).contains("its folder must exist"), "{}", told(&gone));
}
