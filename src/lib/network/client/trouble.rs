//! Sorts what can go wrong with a call into what may work later and what will not, and decides how
//! long to try again.

use super::super::fault::Told;
use super::connection::{Connection, Settings, decoded_body};
use crate::error::{Error, Result};
use crate::runtime::interrupt;
use crate::runtime::progress::duration;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio_rustls::rustls;
use ureq::Body;
use ureq::http::{HeaderMap, Response};

/// Longest wait between two attempts.
const MOST_WAIT: Duration = Duration::from_secs(60);
/// How long a server that was never reached is tried: the address may be wrong.
const FIRST_CONTACT: Duration = Duration::from_secs(60);
/// What a connection ends with when its server does.
const BROKEN: [ErrorKind; 4] = [
    ErrorKind::UnexpectedEof,
    ErrorKind::ConnectionReset,
    ErrorKind::ConnectionAborted,
    ErrorKind::BrokenPipe,
];
/// Time between two looks at whether to stop.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Tells why a call failed.
pub(super) enum Trouble {
    /// It may work later.
    Again {
        problem: String,
        /// Whether the server answered.
        answered: bool,
        /// The wait that its answer asks for.
        wait: Option<Duration>,
    },
    /// The server does not wait for this any more.
    Late(String),
    /// It will not.
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Decides how long to try again after failures.
pub(super) struct Patience {
    first: Duration,
    wait: Duration,
    /// When it last went well.
    since: Instant,
    /// Whether it was told for how long it tries.
    told: bool,
}

impl Patience {
    pub fn new(settings: &Settings) -> Self {
        Self {
            first: settings.first_wait,
            wait: settings.first_wait,
            since: Instant::now(),
            told: false,
        }
    }

    /// Notes that something went well.
    pub fn progress(&mut self) {
        self.since = Instant::now();
        self.wait = self.first;
        self.told = false;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Fails when there is no use in one, it has gone badly for too long, or a stop was asked for.
    pub fn pause(&mut self, trouble: Trouble, connection: &Connection) -> Result<()> {
        interrupt::check()?;
        let (problem, answered, asked) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Late(why) => {
                return Err(Error::failed(format!("the server refuses: {why}")));
            }
            Trouble::Again {
                problem,
                answered,
                wait,
            } => (problem, answered, wait),
        };
        let settings = &connection.settings;
        let most = match connection.reached.get() {
            true => settings.patience,
            false => settings.patience.min(FIRST_CONTACT),
        };
        if self.since.elapsed() > most {
            let what = match answered {
                true => "the server has not done what it is asked for too long",
                false => "the server cannot be reached",
            };
            return Err(Error::failed(what)
                .note("from", settings.server.clone())
                .note("found", problem)
                .hint("the same command resumes where this one ended"));
        }
        let wait = asked.unwrap_or(self.wait).min(MOST_WAIT);
        let limit = self.limit(most, connection);
        tracing::warn!(
            "{problem}; trying again in {:.1} s{limit}",
            wait.as_secs_f64()
        );
        self.wait = (2 * self.wait).min(MOST_WAIT);
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            interrupt_or_sleep(left.min(LOOK))?;
        }
        Ok(())
    }

    /// Returns for how long it tries, which is up to `most` after it last went well, and that the
    /// address may be wrong; an empty text once this was told.
    fn limit(&mut self, most: Duration, connection: &Connection) -> String {
        if std::mem::replace(&mut self.told, true) {
            return String::new();
        }
        let left = most.saturating_sub(self.since.elapsed()).as_secs_f64();
        let left = duration(Duration::from_secs(left.round() as u64));
        let address = match connection.reached.get() {
            true => String::new(),
            false => format!(
                " (is `{}` the server's address?)",
                connection.settings.server
            ),
        };
        format!(", for {left} at most{address}")
    }
}

pub(super) fn interrupt_or_sleep(time: Duration) -> Result<()> {
    interrupt::check()?;
    std::thread::sleep(time);
    Ok(())
}

/// Sorts the errors of a call that got no answer.
pub(super) fn trouble(error: ureq::Error, settings: &Settings) -> Trouble {
    if interrupt::requested() {
        return Trouble::Final(interrupt::stopped());
    }
    if let Some(why) = distrust(&error) {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext, UnknownIssuer};
        use rustls::Error::InvalidCertificate;
        return Trouble::Final(
            Error::failed(format!("the connection is not safe: {why}")).hint(match why {
                InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
                    "call the server by a name that its certificate has; or the host gets one with \
                     this name, as `subjectAltName`"
                }
                InvalidCertificate(UnknownIssuer) if settings.authority.is_some() => {
                    "the file of `--authority` did not sign it: it is the authority's certificate, \
                     and not the server's own; ask the host of the server"
                }
                InvalidCertificate(_) => {
                    "ask the host of the server; for an authority of its own: `--authority FILE`"
                }
                rustls::Error::AlertReceived(_) => {
                    "the server may ask for a certificate of yours: `--identity FILE`"
                }
                _ => {
                    "does the server speak TLS on this port? if not, its address begins with \
                      http://"
                }
            }),
        );
    }
    match error {
        ureq::Error::BadUri(why) => Trouble::Final(
            Error::usage(format!("this is no address of a server: {why}"))
                .hint("give it as https://server.example:8443"),
        ),
        ureq::Error::Io(error) if BROKEN.contains(&error.kind()) => Trouble::Again {
            problem: "the connection to the server broke".into(),
            answered: false,
            wait: None,
        },
        error => Trouble::Again {
            problem: format!("the server does not answer: {error}"),
            answered: false,
            wait: None,
        },
    }
}

/// Returns the error of TLS that ends all attempts, if `error` is one: the next attempt would meet
/// the same certificates.
fn distrust(error: &ureq::Error) -> Option<&rustls::Error> {
    let found = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    use rustls::Error as Tls;
    let is_final = matches!(
        found,
        Tls::InvalidCertificate(_)
            | Tls::NoCertificatesPresented
            | Tls::UnsupportedNameType
            | Tls::AlertReceived(_)
            | Tls::InvalidMessage(_)
            | Tls::PeerIncompatible(_)
    );
    is_final.then_some(found)
}

/// Sorts the answers that are refusals.
pub(super) fn refusal(mut response: Response<Body>, settings: &Settings) -> Trouble {
    let status = response.status();
    let asked = retry_after(response.headers());
    let told = decoded_body::<Told>(&mut response, settings).ok();
    let message = match &told {
        Some(told) => told.message.clone(),
        None => format!("the server answers {status}"),
    };
    let code = told.as_ref().map_or("", |told| told.code.as_str());
    let passes = match status.as_u16() {
        408 | 423 | 429 | 500 | 502 | 503 | 504 | 507 => true,
        // Both are mended by asking for the offset again.
        409 => code == "wrong_offset",
        404 => code == "no_upload",
        400 => code == "cut",
        _ => false,
    };
    if passes {
        return Trouble::Again {
            problem: message,
            answered: true,
            wait: asked,
        };
    }
    if code == "late" {
        return Trouble::Late(message);
    }
    if code == "no_route" || told.is_none() && status.as_u16() == 404 {
        return Trouble::Final(
            Error::failed("no server of a federation answers at this address").hint(
                "the address is what `serve run` prints, with the host's name and nothing behind \
                 the port: https://server.example:8443",
            ),
        );
    }
    let error = Error::failed(format!("the server refuses: {message}"));
    Trouble::Final(match told.and_then(|told| told.hint) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
