//! What hosts and parties type wrong: told before anything else happens.

use super::support::{Folder, Host, command, run, said, teacher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};

#[test]
fn of_hosts() {
    let folder = Folder::new(1);
    let elsewhere = folder.path("nofolder");
    for (what, name) in [("add", &["bob"][..]), ("revoke", &["bob"]), ("list", &[])] {
        let client = ["client", what, elsewhere.to_str().unwrap()];
        let output = run("serve", &[&client, name].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("is no folder of a server"));
    }
    assert!(!elsewhere.exists());
    let output = run("serve", &["client", "ad", elsewhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said_all = said(&output);
    assert!(
        said_all.contains("`serve client` has no subcommand `ad`"),
        "{said_all}"
    );
    assert!(said_all.contains("add, revoke, list"), "{said_all}");
    assert!(
        said_all.contains("did you mean `serve client add`?"),
        "{said_all}"
    );
    // A typo in what the stages will be told, before anybody uploads.
    let place = folder.path(".");
    let output = run(
        "serve",
        &["run", place.to_str().unwrap(), "student.epoch=5"],
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("`student.epochs`"));
    // Test images of another task, and what the server sets itself.
    for (arguments, words) in [
        (
            &["dataset=digits", "dataset.size=32"][..],
            &["another task", "image shape", "`dataset=none`"][..],
        ),
        (
            &["dataset=none", "student.save_folder=elsewhere"],
            &["sets `student.save_folder=elsewhere` itself"],
        ),
        (
            &["dataset=none", "student.selection=best_test"],
            &["`best_test`, but `dataset.kind` is `none`"],
        ),
        (
            &["dataset=none", "initial.num_batches=0"],
            &["`initial.num_batches` is 0", "set by: command line"],
        ),
        (
            &["dataset=none", "student.augment.crop=8"],
            &["`student.augment.crop` is 8", "choose 0 to 7"],
        ),
        (
            &["dataset=none", "teacher.only=[0,2]"],
            &["`teacher.only` must name teachers"],
        ),
        (
            &["student.epochs=2"],
            &["which test images the server has", "`dataset=none`"],
        ),
        (&["--uploads", "0"], &["`--uploads` cannot be `0`"]),
        (
            &["--collect-only", "student.epochs=2"],
            &[
                "`--collect-only` starts no stage",
                "found: student.epochs=2",
            ],
        ),
    ] {
        let output = run("serve", &[&["run", folder.text()], arguments].concat());
        assert!(!output.status.success());
        for words in words {
            assert!(said(&output).contains(words), "{}", said(&output));
        }
        assert!(!said(&output).contains("listening"));
    }
    // None of them has begun the task, so that it can still be corrected.
    folder.retask(&folder.path("first.safetensors"), "1");
    for listen in ["localhost", "127.0.0.1:80000"] {
        let output = run(
            "serve",
            &["run", place.to_str().unwrap(), "--listen", listen],
        );
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(
            said(&output).contains("`127.0.0.1:8443`"),
            "{}",
            said(&output)
        );
    }
    let file = folder.path("task.json");
    let output = run("serve", &["run", file.to_str().unwrap()]);
    assert!(said(&output).contains(&format!("give the folder: `{}`", folder.text())));
    let output = run("serve", &["run", "nowhere/task.json"]);
    assert!(
        said(&output).contains("`serve task nowhere --clients"),
        "{}",
        said(&output)
    );
    // Before the settings of the dataset, of which a server without images needs several.
    let task = [
        "task",
        elsewhere.to_str().unwrap(),
        "--clients",
        "0",
        "dataset=none",
    ];
    let output = run("serve", &task);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("`--clients` is 0\n  expected: 1 or more"));
    assert!(!said(&output).contains("dataset"), "{}", said(&output));
}

/// Returns what a client says of its first `count` waits, and ends it.
fn first_waits(join: &mut Child, count: usize) -> Vec<String> {
    let lines = BufReader::new(join.stderr.take().unwrap()).lines();
    let waits = lines
        .map_while(Result::ok)
        .filter(|line| line.contains("trying again"))
        .take(count)
        .collect();
    join.kill().unwrap();
    join.wait().unwrap();
    waits
}

/// Nobody listens there: the first line says so, for how long it is tried, and that the address may
/// be wrong.
#[test]
fn of_an_address() {
    let folder = Folder::new(1);
    let teacher = folder.file("teacher.safetensors", teacher(1));
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let mut join = command("join")
        .args(["upload", &server, teacher.to_str().unwrap()])
        .args(["--retry-seconds", "0.02"])
        .env("FED_DISTILL_TOKEN", "fd_1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let again = first_waits(&mut join, 2);
    let told = format!("trying again in 0.0 s, for 1 min 0 s at most (is `{server}` the");
    assert!(again[0].contains(&told), "{again:?}");
    assert!(again[1].ends_with("trying again in 0.0 s"), "{again:?}");
}

/// Passes requests on to a server, one a connection, but answers each that sends bytes of a file
/// with `answer` itself. Returns its address.
fn without_pieces(server: String, answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            if head.is_empty() || head.starts_with("PATCH") {
                let _ = (&client).write_all(answer);
                continue;
            }
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            let mut upstream = TcpStream::connect(&server).unwrap();
            let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            upstream
                .write_all(&[head.as_bytes(), &body].concat())
                .unwrap();
            let _ = std::io::copy(&mut upstream, &mut &client);
        }
    });
    format!("http://{address}")
}

/// A way on which no piece of a file arrives, and one on which it is said to arrive: the waits
/// become longer although the server answers everything else, and for how long it is tried is said
/// once.
#[test]
fn of_a_way_that_breaks() {
    pieces_that_vanish(b"");
    pieces_that_vanish(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

fn pieces_that_vanish(answer: &'static [u8]) {
    let folder = Folder::new(2);
    let (token, file) = (folder.client("a"), folder.file("a.safetensors", teacher(1)));
    let host = folder.serve(&[]);
    let way = without_pieces(host.address.clone(), answer);
    let mut join = command("join")
        .args(["upload", &way, file.to_str().unwrap(), "--no-wait"])
        .args(["--retry-seconds", "0.1"])
        .env("FED_DISTILL_TOKEN", &token)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let again = first_waits(&mut join, 3);
    assert!(
        again[0].contains("trying again in 0.1 s, for 24 h 0 min"),
        "{again:#?}"
    );
    assert!(again[1].ends_with("trying again in 0.2 s"), "{again:#?}");
    assert!(again[2].ends_with("trying again in 0.4 s"), "{again:#?}");
}

/// A proxy of the environment would see the token of a server on this machine.
#[test]
fn of_a_proxy() {
    let folder = Folder::new(2);
    let (token, file) = (folder.client("a"), folder.file("a.safetensors", teacher(1)));
    let host = folder.serve(&[]);
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let mut join = host.join(&token, &file, &["--no-wait"]);
    for name in ["http_proxy", "ALL_PROXY"] {
        join.env(name, format!("http://{}", proxy.local_addr().unwrap()));
    }
    let output = join.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(proxy.accept().is_err());
}

/// What a task has nothing of, and a deadline that nobody can keep.
#[test]
fn of_tasks() {
    let folder = Folder::new(1);
    let place = folder.path("task");
    let task = [
        "task",
        place.to_str().unwrap(),
        "--clients",
        "3",
        "dataset=digits",
    ];
    let past = ["--deadline", "2001-01-01T00:00:00Z"];
    let output = run("serve", &[&task[..], &past].concat());
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for words in ["is in the past", "2001-01-01T00:00:00Z", "UTC"] {
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    assert!(!place.exists());
    for other in [
        &[][..],
        &["++threads=1"],
        &["model=lenet5", "dataset.mean=[0.5]", "dataset.std=[0.5]"],
    ] {
        let nameless = run("serve", &[&task[..4], other].concat());
        assert_eq!(nameless.status.code(), Some(2), "{}", said(&nameless));
        assert!(said(&nameless).contains("`dataset=digits`"));
    }
    for (flags, words) in [
        (["--min-seconds", "9"], "`--min-seconds` is for rounds"),
        (
            ["--lease-seconds", "0"],
            "`--lease-seconds` cannot be `0`\n  reason: 0 is not in",
        ),
        (
            ["--min-clients", "5"],
            "`--min-clients` is 5\n  expected: 1 to 3",
        ),
        (
            ["--deadline", "tomorrow"],
            "`--deadline` is no date with time and offset\n  found: tomorrow",
        ),
        (
            ["--max-images", "lots"],
            "`--max-images` cannot be `lots`\n  expected: a whole number",
        ),
    ] {
        let output = run("serve", &[&task[..], &flags].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    assert!(!place.exists());
    for (arguments, words) in [
        (
            &["fed_avg.rounds=5"][..],
            &["nothing of `fed_avg.rounds=5`", "`--algorithm fed_avg`"][..],
        ),
        (
            &["teacher.epochs=5"],
            &["nothing of `teacher.epochs=5`", "dataset, model;", "`join`"],
        ),
        (
            &["--algorithm", "fed_avg", "fed_md.rounds=5"],
            &["nothing of `fed_md.rounds=5`", "fed_avg, seed, precision"],
        ),
        (
            &["--algorithm", "fed_avg", "fed_avg.eval_every=2"],
            &["nothing of `fed_avg.eval_every=2`", "`serve run`"],
        ),
    ] {
        let output = run("serve", &[&task, arguments, &["--overwrite"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        for words in words {
            assert!(said(&output).contains(words), "{}", said(&output));
        }
    }
    // A choice sets keys of many groups.
    let output = run(
        "serve",
        &[&task[..4], &["+experiment=demo", "--overwrite"]].concat(),
    );
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("nothing of"), "{}", said(&output));
}

/// Files are looked at before the server is called, which does not answer here.
#[test]
fn of_parties() {
    let folder = Folder::new(1);
    let pipe = folder.path("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: a path that ends with zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    for (binary, arguments) in [
        (
            "join",
            ["upload", "http://127.0.0.1:1", pipe.to_str().unwrap()],
        ),
        ("serve", ["task", "elsewhere", "--from"]),
    ] {
        let mut asked = command(binary);
        asked.args(arguments).env("FED_DISTILL_TOKEN", "fd_1");
        if binary == "serve" {
            asked.arg(&pipe).args(["--clients", "1"]);
        }
        let output = asked.current_dir(folder.path(".")).output().unwrap();
        assert!(said(&output).contains("is a pipe"), "{}", said(&output));
    }
    let token = folder.file("token", b"fd_1");
    let certificate = folder.file("authority.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n");
    let teacher = folder.file("teacher.safetensors", teacher(1));
    let missing = folder.path("missing.safetensors");
    let key = folder.file(
        "key.pem",
        rcgen::KeyPair::generate().unwrap().serialize_pem(),
    );
    let within = "model_teacher0.safetensors`";
    for (file, token, code, words) in [
        (&missing, &token, 1, "No such file"),
        (&folder.path("."), &token, 2, within),
        (
            &teacher,
            &certificate,
            2,
            "the file of the token holds none",
        ),
    ] {
        let file = file.to_str().unwrap();
        let token = token.to_str().unwrap();
        let arguments = ["upload", "http://127.0.0.1:9", file, "--token-file", token];
        let output = run("join", &arguments);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    let [teacher, token, key] = [&teacher, &token, &key].map(|path| path.to_str().unwrap());
    let arguments = [
        "upload",
        "https://127.0.0.1:9",
        teacher,
        "--token-file",
        token,
    ];
    let output = run("join", &[&arguments[..], &["--authority", key]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("holds no certificate\n  found: a private key"));
}

/// What only the server can tell, in the words of who typed it.
#[test]
fn of_parties_that_are_here() {
    let folder = Folder::new(2);
    let [token, revoked] = ["a", "b"].map(|name| folder.client(name));
    run("serve", &["client", "revoke", folder.text(), "b"]);
    let host = folder.serve(&[]);
    let first = folder.file("teacher.safetensors", teacher(1));
    let fails = |host: &Host, token: &str, more: &[&str]| {
        let output = host.join(token, &first, more).output().unwrap();
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    };
    for (token, more, words) in [
        (&*revoked, &[][..], "the token was revoked"),
        ("fd_another", &[], "the token is none of this server's"),
        (
            &token,
            &["--label-counts", "1,2"],
            "`--label-counts` is for a teacher without a card",
        ),
    ] {
        let said = fails(&host, token, more);
        assert!(said.contains(words), "{words}: {said}");
    }
    // Days before the student is there, and not then.
    let there = folder.file("student.safetensors", b"something else");
    let out = ["--out", there.to_str().unwrap()];
    assert!(fails(&host, &token, &out).contains("is there already"));
    let journal = std::fs::read_to_string(folder.path("journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 1, "{journal}");
    let out = ["--out", folder.text()];
    assert!(fails(&host, &token, &out).contains("`--out` is a folder"));
    // Nothing was sent that could be waited for.
    let fetch = host.fetch(&token, &[]).output().unwrap();
    assert!(
        said(&fetch).contains("`join upload` sends a teacher"),
        "{}",
        said(&fetch)
    );

    let output = host.join(&token, &first, &["--no-wait"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let again = fails(&host, &token, &["--no-wait", "--images", "5000"]);
    assert!(again.contains("this client takes part with"), "{again}");
    assert!(again.contains("training images, not 5000"), "{again}");
    // What was accepted is not forgotten with the journal.
    let address = host.address.clone();
    drop(host);
    std::fs::remove_file(folder.path("journal.jsonl")).unwrap();
    let output = run("serve", &["run", folder.text(), "--collect-only"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the server's journal is gone"));
    std::fs::write(folder.path("journal.jsonl"), &journal).unwrap();
    let mut host = folder.serve(&["--listen", &address]);
    host.url += "/federation";
    let elsewhere = fails(&host, &token, &[]);
    assert!(
        elsewhere.contains("no server of a federation"),
        "{elsewhere}"
    );
}
