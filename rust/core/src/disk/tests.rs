//! Guarantees of a directory handle: links are never followed, and only regular files are read.

use std::os::unix::fs::symlink;

use super::*;

fn made() -> (tempfile::TempDir, Folder) {
    let above = tempfile::tempdir().expect("a temporary folder");
    let folder = Folder::open(above.path()).expect("opens");
    (above, folder)
}

#[test]
fn no_link_within_is_followed_to_read_to_write_or_to_remove() {
    let (above, folder) = made();
    let (outside, victim) = made();
    victim.create("file").expect("creates").write_all(b"theirs").expect("writes");
    symlink(outside.path(), above.path().join("folder")).expect("links");
    for (link, target) in [("file", "file"), ("new", "absent")] {
        symlink(outside.path().join(target), above.path().join(link)).expect("links");
        assert!(folder.file(link).expect_err("a link").to_string().contains(IS_LINK));
        assert!(folder.read(link, 100).is_err());
        assert!(folder.file_or_new(link).is_err());
        assert!(folder.create(link).is_err());
        let mut draft = folder.draft(link).expect("a draft");
        draft.write_all(b"ours").expect("writes");
        assert!(draft.0.rename(link).is_err());
    }
    assert!(folder.folder("folder").is_err());
    assert!(folder.make_folder("folder").is_err());
    assert!(folder.remove_flat("folder", &["file"], |_| true).is_err());
    folder.remove("folder").expect("the link itself");
    assert_eq!(fs::read(outside.path().join("file")).expect("reads"), b"theirs");
    assert_eq!(fs::read_dir(outside.path()).expect("lists").count(), 1);
}

#[test]
fn a_folder_that_is_swapped_for_a_link_is_still_the_one_that_was_opened() {
    let (above, folder) = made();
    let (outside, _) = made();
    let text = folder.make_folder("text").expect("makes");
    fs::rename(above.path().join("text"), above.path().join("moved")).expect("moves");
    symlink(outside.path(), above.path().join("text")).expect("links");
    assert!(!text.is_named(&folder, "text").expect("looks"));
    let mut draft = text.draft("file").expect("a draft");
    draft.write_all(b"ours").expect("writes");
    draft.0.rename("file").expect("renames");
    assert_eq!(fs::read(above.path().join("moved/file")).expect("reads"), b"ours");
    assert_eq!(fs::read_dir(outside.path()).expect("lists").count(), 0);
}

#[test]
fn where_a_file_system_cannot_rename_to_new_names_alone_a_second_name_does_the_same() {
    let (above, folder) = made();
    let mut draft = folder.draft("file").expect("a draft").0;
    draft.write_all(b"ours").expect("writes");
    draft.link_to_new("file").expect("links");
    assert!(draft.link_to_new("file").is_err());
    drop(draft);
    assert_eq!(fs::read_dir(above.path()).expect("lists").count(), 1);
    assert_eq!(fs::read(above.path().join("file")).expect("reads"), b"ours");
}

#[test]
fn only_regular_files_are_read_and_no_more_than_was_asked_for() {
    let (_above, folder) = made();
    rustix::fs::mknodat(&*folder.handle, "fifo", FileType::Fifo, FILE_MODE, 0).expect("a FIFO");
    folder.make_folder("folder").expect("makes");
    folder.create("file").expect("creates").write_all(b"1234").expect("writes");
    for name in ["fifo", "folder"] {
        assert!(folder.file(name).is_err(), "{name}");
    }
    assert_eq!(folder.read("file", 4).expect("reads"), b"1234");
    assert!(folder.read("file", 3).is_err());
    assert!(read(&folder.path_of("file"), 3).is_err() && open(&folder.path_of("fifo")).is_err());
    assert_eq!(folder.kind("fifo").expect("looks"), Some(Kind::Special));
}
