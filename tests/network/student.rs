//! From teachers at clients to a student at clients, through all binaries.

use super::common::{Place, TINY};
use super::support::{Folder, run, said, until};

/// The overrides of the stages that the server starts: those of [`TINY`] that name no files.
fn settings() -> Vec<&'static str> {
    let files = [
        "split.",
        "teacher.save_folder",
        "initial.save_path",
        "student.save_folder",
    ];
    let named = |key: &&&str| !files.iter().any(|file| key.starts_with(file));
    TINY.iter().filter(named).copied().collect()
}

/// Two parties of one split, with digits as the task.
fn teachers(place: &Place) -> [std::path::PathBuf; 2] {
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    [0, 1].map(|node| place.path(&format!("teachers/model_teacher{node}.safetensors")))
}

/// The numbers of the processes that a process started.
fn children(of: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).unwrap();
    let lists =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers.map(|number| number.parse().unwrap()).collect()
}

/// A server that a script started in the background ignores Ctrl-C; its stage does not, and ends
/// with it.
#[test]
fn stage_ends_with_its_server() {
    let place = Place::new();
    let files = teachers(&place);
    let folder = Folder::new(1);
    folder.retask(&files[0], "1");
    let token = folder.client("a");
    let long = ["deep_inv.di.grad_updates_batch=10000000"];
    let mut host = folder.start_in_background(&[&settings()[..], &long].concat());
    let join = host.join(&token, &files[0], &["--no-wait"]).output();
    assert!(join.unwrap().status.success(), "{}", folder.log());
    until(|| folder.log().contains("inverting"));
    // Ctrl-C in a terminal reaches all of a group: twice would end the stage before it has saved.
    // SAFETY: it asks for a number.
    let own = unsafe { libc::getpgid(host.child.id() as i32) };
    let stage = children(host.child.id());
    assert!(!stage.is_empty());
    // SAFETY: as above.
    assert!(stage.iter().all(|&id| unsafe { libc::getpgid(id) } != own));
    // SAFETY: a signal to a process that this test started and has not waited for.
    assert_eq!(
        unsafe { libc::kill(host.child.id() as i32, libc::SIGTERM) },
        0
    );
    until(|| host.child.try_wait().unwrap().is_some());
}

/// The server is killed while a stage is at work; it resumes, and both clients end with its
/// student.
#[test]
fn from_teachers_to_student() {
    let place = Place::new();
    let files = teachers(&place);
    let folder = Folder::new(2);
    folder.retask(&files[0], "2");
    let tokens = ["a", "b"].map(|name| folder.client(name));
    let settings = settings();
    let host = folder.start(&settings);
    let port = host.address.rsplit(':').next().unwrap().to_owned();
    let outs = ["a.safetensors", "b.safetensors"].map(|name| folder.path(name));
    let mut joins: Vec<_> = (0..2)
        .map(|client| {
            let out = ["--out", outs[client].to_str().unwrap()];
            host.join(&tokens[client], &files[client], &out)
                .spawn()
                .unwrap()
        })
        .collect();
    until(|| folder.log().contains("train_student starts"));
    host.crash();
    let listen = format!("127.0.0.1:{port}");
    let host = folder.start(&[&["--listen", &listen], &settings[..]].concat());
    for join in &mut joins {
        assert!(join.wait().unwrap().success(), "{}", folder.log());
    }
    let student = std::fs::read(folder.path("student/student.safetensors")).unwrap();
    for out in &outs {
        assert!(std::fs::read(out).unwrap() == student);
    }
    // The same command finds all done; it replaces no other file.
    let out = ["--out", outs[0].to_str().unwrap()];
    let again = host.join(&tokens[0], &files[0], &out).output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    std::fs::write(&outs[0], "something else").unwrap();
    let refused = host.join(&tokens[0], &files[0], &out).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert_eq!(std::fs::read(&outs[0]).unwrap(), b"something else");

    // Who lost the token fetches with a new one; the student is of two all the same.
    let output = run("serve", &["client", "revoke", folder.text(), "b"]);
    assert!(output.status.success(), "{}", said(&output));
    let new = folder.client("b");
    let fetched = folder.path("fetched.safetensors");
    let out = ["--out", fetched.to_str().unwrap()];
    // What was begun of another file is fetched again from its beginning.
    folder.file("fetched.safetensors.part", [7; 1000]);
    let output = host.fetch(&new, &out).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(std::fs::read(&fetched).unwrap() == student);

    let page = host.get(&folder.admin(), "/");
    let page = String::from_utf8(page.body).unwrap();
    assert!(
        page.contains("data:image/png;base64,")
            && page.contains("is ready")
            && page.contains("2 of 2")
            && page.contains("uploads used"),
        "{page}"
    );

    // Parts of the result.
    let whole = host.get(&tokens[0], "/v1/result");
    assert_eq!((whole.status, &whole.body), (200, &student));
    let tag = whole.headers["etag"].clone();
    let part = |range: &str, tag: &str| {
        let headers = [("Range", range.to_owned()), ("If-Range", tag.to_owned())];
        host.request(&tokens[0], "GET", "/v1/result", &headers, b"")
    };
    let rest = part("bytes=100-", &tag);
    assert_eq!((rest.status, &rest.body[..]), (206, &student[100..]));
    let few = part("bytes=5-9", &tag);
    assert_eq!(
        few.headers["content-range"],
        format!("bytes 5-9/{}", student.len())
    );
    assert_eq!(few.body, &student[5..10]);
    assert_eq!(part(&format!("bytes={}-", student.len()), &tag).status, 416);
    assert_eq!(part("bytes=100-", "\"another\"").status, 200);
    assert_eq!(part("bytes=1-2,4-5", &tag).status, 200);
}
