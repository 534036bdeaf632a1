use super::*;

/// A config of its own, and one process's end of its meeting point.
fn meeting() -> (tempfile::TempDir, Rendezvous) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let rendezvous = process(folder.path());
    // Files of other tests that are gone may have had the number that the config has now, and have left this behind.
    let Point { note, live } = point(&rendezvous);
    let left = [note, live].map(std::fs::remove_file);
    assert!(left.into_iter().filter_map(Result::err).all(|error| error.kind() == io::ErrorKind::NotFound));
    (folder, rendezvous)
}

/// Another process with the same config.
fn process(folder: &Path) -> Rendezvous {
    Rendezvous::new(&folder.join("config.json"))
}

/// The same in another container.
fn elsewhere(folder: &Path) -> Rendezvous {
    let mut elsewhere = process(folder);
    elsewhere.mounts += 1;
    elsewhere
}

/// As an editor does: a new file takes the config's place.
fn replace_config(folder: &Path) {
    std::fs::write(folder.join("next"), "{}").unwrap();
    std::fs::rename(folder.join("next"), folder.join("config.json")).unwrap();
}

fn point(rendezvous: &Rendezvous) -> Point {
    let file = Identity::at(&rendezvous.config).ok();
    rendezvous.point(&files::private_folder().unwrap(), file, Scope::Common)
}

/// As the last process of a session that dies. A child that another test starts has the lock too, until it runs its program.
fn die(member: Membership) {
    let live = member.held.as_ref().map(|held| held.point.live.clone());
    drop(member);
    if let Some(Ok(live)) = live.map(std::fs::File::open) {
        flock(live, FlockOperation::LockExclusive).unwrap();
    }
}

/// As a process that ends; it leaves to another test what that is just looking at.
fn tidy_up(rendezvous: &Rendezvous) {
    while let Err(error) = rendezvous.tidy_up() {
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        std::thread::yield_now();
    }
}

#[test]
fn whoever_starts_while_another_collects_joins_its_folder() {
    let (folder, mut rendezvous) = meeting();
    let first = rendezvous.join(folder.path(), "1122-2130").unwrap();
    let second = rendezvous.join(folder.path(), "1122-2131").unwrap();
    assert_eq!(first.folder(), second.folder());
    assert!(first.folder().ends_with("1122-2130"));
}

#[test]
fn a_member_whose_lock_the_program_has_closed_takes_it_again() {
    let (folder, mut rendezvous) = meeting();
    let mut member = rendezvous.join(folder.path(), "1122-2130").unwrap();
    let theirs = std::fs::File::create(folder.path().join("theirs")).unwrap();
    member.held.as_ref().unwrap().live.lose_to(&theirs);
    member.hold().unwrap();
    let next = rendezvous.join(folder.path(), "1122-2131").unwrap();
    assert_eq!(next.folder(), member.folder(), "somebody collects there");
}

#[test]
fn a_session_that_was_stopped_is_never_joined() {
    let (folder, mut rendezvous) = meeting();
    let mut slow = rendezvous.join(folder.path(), "1122-2130").unwrap();
    let quick = rendezvous.join(folder.path(), "1122-2130").unwrap();
    quick.conclude().unwrap();
    drop(quick);
    assert!(!rendezvous.has_newer(&mut slow));
    let next = rendezvous.join(folder.path(), "1122-2130").unwrap();
    assert!(next.folder().ends_with("1122-2130-2"));
    assert!(rendezvous.has_newer(&mut slow));
    slow.conclude().unwrap(); // says nothing about the new session
    assert_eq!(rendezvous.join(folder.path(), "1122-2130").unwrap().folder(), next.folder());
}

#[test]
fn a_session_whose_processes_have_all_died_is_never_joined() {
    let (folder, mut rendezvous) = meeting();
    die(rendezvous.join(folder.path(), "1122-2130").unwrap());
    let next = rendezvous.join(folder.path(), "1122-2130").unwrap();
    assert!(next.folder().ends_with("1122-2130-2"));
}

#[test]
fn one_file_is_one_point_by_whatever_path_and_two_files_are_two() {
    let (folder, mut first) = meeting();
    let session = first.join(folder.path(), "1122-2130").unwrap();
    let [soft, hard] = ["soft.json", "hard.json"].map(|name| folder.path().join(name));
    std::os::unix::fs::symlink("config.json", &soft).unwrap();
    std::fs::hard_link(folder.path().join("config.json"), &hard).unwrap();
    for path in [&soft, &hard] {
        let member = Rendezvous::new(path).join(folder.path(), "1122-2130").unwrap();
        assert_eq!(member.folder(), session.folder());
    }
    // Another container has another file at the same path: here it lies there later.
    replace_config(folder.path());
    let mut other = elsewhere(folder.path());
    let theirs = other.join(folder.path(), "1122-2130").unwrap();
    assert_ne!(theirs.folder(), session.folder());
}

#[test]
fn a_session_goes_on_when_the_config_is_replaced_by_a_new_file() {
    let (folder, mut old) = meeting();
    let mut member = old.join(folder.path(), "1122-2130").unwrap();
    let former = point(&old);
    let mut configs = Vec::new();
    for _ in 0..3 {
        configs.push(std::fs::File::open(&old.config).unwrap()); // no other file gets its number
        replace_config(folder.path());
        let mut new = process(folder.path());
        let mut joined = new.join(folder.path(), "1122-2131").unwrap();
        assert_eq!(joined.folder(), member.folder(), "a process that starts before the others have seen it");
        assert!(!new.has_newer(&mut joined) && !old.has_newer(&mut member));
        drop(joined);
        assert_eq!(new.join(folder.path(), "1122-2131").unwrap().folder(), member.folder());
    }
    assert_ne!(former, point(&old));
    assert!(!former.note.exists(), "nobody is there any more");
    member.conclude().unwrap();
    assert_ne!(old.join(folder.path(), "1122-2130").unwrap().folder(), member.folder());
}

#[test]
fn who_misses_a_stop_between_two_new_files_goes_to_the_new_session() {
    for looks_early in [false, true] {
        let (folder, mut quick) = meeting();
        let mut slow = process(folder.path());
        let [first, mut missing] =
            [&mut quick, &mut slow].map(|it| it.join(folder.path(), "1122-2130").unwrap());
        replace_config(folder.path()); // off
        first.conclude().unwrap();
        drop(first);
        replace_config(folder.path()); // on
        // The new file may have the number of the first.
        let knows = looks_early && slow.has_newer(&mut missing);
        let next = quick.join(folder.path(), "1122-2130").unwrap();
        assert_ne!(next.folder(), missing.folder());
        assert!(knows || slow.has_newer(&mut missing));
        assert_eq!(slow.join(folder.path(), "1122-2130").unwrap().folder(), next.folder());
    }
}

#[test]
fn a_new_config_that_has_the_number_of_one_that_is_gone_is_another() {
    let (folder, mut former) = meeting();
    let session = former.join(folder.path(), "1122-2130").unwrap();
    let other = folder.path().join("other.json");
    std::fs::rename(folder.path().join("config.json"), &other).unwrap();
    let next = Rendezvous::new(&other).join(folder.path(), "1122-2130").unwrap();
    assert_ne!(next.folder(), session.folder());
}

#[test]
fn a_session_whose_folder_cannot_be_seen_here_is_not_followed_and_not_ended() {
    let (folder, mut here) = meeting();
    let mut session = here.join(folder.path(), "1122-2130").unwrap();
    // In the other container, another folder has this path.
    std::fs::rename(session.folder(), folder.path().join("away")).unwrap();
    std::fs::create_dir(session.folder()).unwrap();
    let (mut there, mut also_there) = (elsewhere(folder.path()), elsewhere(folder.path()));
    let mut theirs = there.join(folder.path(), "1122-2130").unwrap();
    assert!(theirs.folder().ends_with("1122-2130-2") && there.told_unseen);
    assert_eq!(also_there.join(folder.path(), "1122-2130").unwrap().folder(), theirs.folder());
    assert!(!here.has_newer(&mut session) && !there.has_newer(&mut theirs));
    // A stop there is none here.
    theirs.conclude().unwrap();
    assert_eq!(here.join(folder.path(), "1122-2130").unwrap().folder(), session.folder());
    // As soon as a session can be seen by all, all go there.
    session.conclude().unwrap();
    let mut next = here.join(folder.path(), "1122-2130").unwrap();
    assert!(there.has_newer(&mut theirs));
    assert_eq!(there.join(folder.path(), "1122-2130").unwrap().folder(), next.folder());
    assert!(!here.has_newer(&mut next));
}

#[test]
fn a_session_whose_folder_was_removed_is_followed_by_one_new_session_of_all() {
    let (folder, mut first) = meeting();
    let mut second = elsewhere(folder.path());
    let mut members = [&mut first, &mut second].map(|it| it.join(folder.path(), "1122-2130").unwrap());
    assert_eq!(members[0].folder(), members[1].folder());
    std::fs::remove_dir(members[0].folder()).unwrap();
    let next = second.join(folder.path(), "1122-2131").unwrap();
    assert!(next.folder().ends_with("1122-2131") && !second.told_unseen);
    assert!(first.has_newer(&mut members[0]));
    assert_eq!(first.join(folder.path(), "1122-2132").unwrap().folder(), next.folder());
}

#[test]
fn the_last_process_that_ends_removes_the_files() {
    let (folder, mut rendezvous) = meeting();
    let member = rendezvous.join(folder.path(), "1122-2130").unwrap();
    let Point { note, live } = point(&rendezvous);
    tidy_up(&rendezvous);
    assert!(note.exists() && live.exists(), "somebody collects");
    die(member);
    tidy_up(&rendezvous);
    assert!(!note.exists() && !live.exists());
    tidy_up(&rendezvous);
    assert!(rendezvous.join(folder.path(), "1122-2130").is_ok());
    tidy_up(&rendezvous);
}

#[test]
fn what_killed_processes_have_left_is_swept_by_the_next_of_another_config() {
    let (folder, mut killed) = meeting();
    let member = killed.join(folder.path(), "1122-2130").unwrap();
    let Point { note, live } = point(&killed);
    assert!(note.exists() && live.exists());
    die(member);
    let (folder, mut next) = meeting();
    let _member = next.join(folder.path(), "1122-2130").unwrap();
    assert!(!note.exists() && !live.exists());
    sweep(&files::private_folder().unwrap(), &[]);
    assert!(point(&next).note.exists(), "somebody collects");
}

#[test]
fn where_something_else_lies_at_the_meeting_point_each_process_has_a_session_of_its_own() {
    let (folder, mut rendezvous) = meeting();
    let elsewhere = folder.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, point(&rendezvous).note).unwrap();
    let mut alone = rendezvous.join(folder.path(), "1122-2130").unwrap();
    let other = rendezvous.join(folder.path(), "1122-2130").unwrap();
    assert!(alone.folder().ends_with("1122-2130") && other.folder().ends_with("1122-2130-2"));
    assert!(rendezvous.told && !elsewhere.exists());
    assert!(!rendezvous.has_newer(&mut alone));
    alone.conclude().unwrap();
    std::fs::remove_file(point(&rendezvous).note).unwrap();
}

#[test]
fn a_forked_child_goes_on_with_the_session_of_a_parent_that_ends_before_it_joins() {
    for removes_note in [false, true] {
        let (folder, mut parent) = meeting();
        let session = parent.join(folder.path(), "1122-2130").unwrap();
        let parents = session.session.clone();
        drop(session);
        if removes_note {
            parent.tidy_up().unwrap();
        }
        let mut child = process(folder.path());
        child.inherit(Some(parents.clone()));
        assert_eq!(child.join(folder.path(), "1122-2131").unwrap().folder(), parents.folder);
    }
}

#[test]
fn a_forked_child_leaves_a_session_alone_that_was_stopped_or_followed_by_another() {
    for is_stopped in [false, true] {
        let (folder, mut parent) = meeting();
        let session = parent.join(folder.path(), "1122-2130").unwrap();
        let parents = session.session.clone();
        if is_stopped {
            session.conclude().unwrap();
        }
        drop(session);
        let next = (!is_stopped).then(|| process(folder.path()).join(folder.path(), "1122-2131").unwrap());
        let mut child = process(folder.path());
        child.inherit(Some(parents.clone()));
        let joined = child.join(folder.path(), "1122-2132").unwrap();
        assert_ne!(joined.folder(), parents.folder);
        assert!(next.is_none_or(|next| next.folder() == joined.folder()));
    }
}

#[test]
fn processes_meet_though_others_of_their_config_were_stopped_while_they_had_notes() {
    let (folder, first) = meeting();
    let private = files::private_folder().unwrap();
    let held = ["a", "b"].map(|name| {
        let point =
            Point::of(&private, &format!("{name}-{}", point(&first).note.file_stem().unwrap().display()));
        let mut meeting = point.meet().unwrap();
        meeting.write(first.note(1, folder.path())).unwrap();
        meeting
    });
    let join = |mut process: Rendezvous| process.join(folder.path(), "1122-2130").unwrap();
    let [one, other] = std::thread::scope(|scope| {
        [first, process(folder.path())]
            .map(|process| scope.spawn(|| join(process)))
            .map(|it| it.join().unwrap())
    });
    assert_eq!(one.folder(), other.folder());
    drop(held);
}
