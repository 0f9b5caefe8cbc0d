//! Certificates that hold, and those that do not: a client that cannot trust the server sends
//! nothing, and does not try again.

use super::support::{Folder, Host, answer, said, teacher};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::process::Output;

/// An authority, as PEM and to sign with.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `name` and its key, as PEM.
    fn sign(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Starts a server with a certificate, and lets a client join that trusts `authority`.
fn join(
    signed: (String, String),
    authority: Option<&Authority>,
    more: &[&str],
    identity: Option<(String, String)>,
) -> (Output, Folder) {
    let folder = Folder::new(2);
    let token = folder.client("a");
    let host = serve(&folder, signed, more);
    let file = folder.file("teacher.safetensors", teacher(1));
    let mut arguments = vec!["--no-wait".to_owned()];
    if let Some(authority) = authority {
        folder.file("authority.pem", authority.pem.as_bytes());
        arguments.extend(["--authority".into(), "authority.pem".into()]);
    }
    if let Some((certificate, key)) = identity {
        folder.file("own.pem", certificate.as_bytes());
        folder.file("own.key", key.as_bytes());
        let own = ["--identity", "own.pem", "--identity-key", "own.key"];
        arguments.extend(own.map(str::to_owned));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = host.join(&token, &file, &arguments).output().unwrap();
    (output, folder)
}

fn serve(folder: &Folder, (certificate, key): (String, String), more: &[&str]) -> Host {
    let certificate = folder.file("server.pem", certificate.as_bytes());
    let key = folder.file("server.key", key.as_bytes());
    let files = [
        "--certificate",
        certificate.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    folder.serve(&[&files, more].concat())
}

#[test]
fn trusted() {
    let authority = Authority::new();
    let signed = authority.sign("127.0.0.1", |_| ());
    let (output, _) = join(signed, Some(&authority), &[], None);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn not_trusted() {
    let (ours, other) = (Authority::new(), Authority::new());
    let old = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
    let (ask, name) = ("ask the host", "by a name that its certificate has");
    let cases = [
        (ours.sign("127.0.0.1", old), Some(&ours), ask),
        (ours.sign("other.example", |_| ()), Some(&ours), name),
        (ours.sign("127.0.0.1", |_| ()), Some(&other), ask),
        (ours.sign("127.0.0.1", |_| ()), None, ask),
    ];
    for (signed, trusts, hint) in cases {
        let (output, folder) = join(signed, trusts, &[], None);
        let errors = said(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("the connection is not safe"), "{errors}");
        assert!(errors.contains(hint), "{errors}");
        assert!(!errors.contains("trying again"), "{errors}");
        let journal = std::fs::read_to_string(folder.path("journal.jsonl")).unwrap();
        assert_eq!(journal.lines().count(), 1, "{journal}");
    }
}

/// A key of another certificate.
#[test]
fn two_that_do_not_belong_together() {
    let authority = Authority::new();
    let [(certificate, _), (_, key)] = [(); 2].map(|()| authority.sign("127.0.0.1", |_| ()));
    let folder = Folder::new(1);
    let files = [
        ("--certificate", folder.file("server.pem", certificate)),
        ("--key", folder.file("server.key", key)),
    ];
    let mut arguments = vec!["run", folder.text()];
    for (flag, file) in &files {
        arguments.extend([*flag, file.to_str().unwrap()]);
    }
    let output = super::support::run("serve", &arguments);
    let errors = said(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("the key does not belong to the certificate"),
        "{errors}"
    );
}

/// A server that asks for certificates takes clients that have one of its authority, and no others.
#[test]
fn clients_certificates() {
    let authority = Authority::new();
    let asking = |identity| {
        let folder = tempfile::tempdir().unwrap();
        let clients = folder.path().join("clients.pem");
        std::fs::write(&clients, &authority.pem).unwrap();
        let more = ["--client-authority", clients.to_str().unwrap()];
        let signed = authority.sign("127.0.0.1", |_| ());
        join(signed, Some(&authority), &more, identity).0
    };
    let known = asking(Some(authority.sign("a", |_| ())));
    assert!(known.status.success(), "{}", said(&known));
    for identity in [None, Some(Authority::new().sign("a", |_| ()))] {
        let output = asking(identity);
        let errors = said(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("--identity"), "{errors}");
    }
}

/// Plain HTTP to a port that speaks TLS, and TLS to one that does not.
#[test]
fn wrong_port() {
    let authority = Authority::new();
    let folder = Folder::new(2);
    let token = folder.client("a");
    let mut host = serve(&folder, authority.sign("127.0.0.1", |_| ()), &[]);
    let told = host.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let told = answer(&told).unwrap();
    assert_eq!((told.status, told.code().as_str()), (400, "tls"));
    // A handshake that never goes on does not keep the server from others.
    let _hanging = host.connect();
    let file = folder.file("teacher.safetensors", teacher(1));
    let address = host.address.clone();
    host.url = format!("http://{address}");
    let output = host.join(&token, &file, &["--no-wait"]).output().unwrap();
    assert!(
        said(&output).contains("this port speaks TLS"),
        "{}",
        said(&output)
    );
    drop(host);

    let mut host = folder.serve(&[]);
    host.url = format!("https://{}", host.address);
    let output = host.join(&token, &file, &["--no-wait"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("http://"), "{}", said(&output));
}

/// Tokens do not travel in the open by mistake.
#[test]
fn plain_beyond_this_machine() {
    let folder = Folder::new(2);
    let output = super::support::run("serve", &["run", folder.text(), "--listen", "0.0.0.0:0"]);
    let errors = said(&output);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("--certificate") && errors.contains("--insecure"),
        "{errors}"
    );
}
