//! E-mail: one message for each notice, handed to one mail server on a fresh connection. Not a mail queue: what isn't taken is the caller's
//! to try again.
//!
//! Recipients are answered for one by one, as SMTP does (RFC 5321, 3.3): who is refused doesn't keep the others from hearing. Whoever took
//! a notice, or was refused for good, is remembered (in memory, for the newest notices), so that a further attempt goes only to those who
//! asked for later.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Noop, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use rollbackd_core::notice::{Notice, NoticeKind};
use rollbackd_core::severity::Severity;

use super::format::{self, Neutral};
use super::{Notifier, NotifyError, later, words};
use crate::secret::{ExposeSecret as _, Secret};

/// The whole conversation up to the server's word on the message. With [`FAREWELL`] it keeps within the 30 s of [`Notifier`].
const LIMIT: Duration = Duration::from_secs(27);
/// One address of the server; it may have two (IPv6, IPv4).
const CONNECT: Duration = Duration::from_secs(10);
/// A polite end, when everything that counts is done.
const FAREWELL: Duration = Duration::from_secs(1);
/// Of so many notices it is remembered who has them: far more than can be under way at once.
const REMEMBERED: usize = 64;

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// From the first byte (`smtps://`, port 465).
    Tls,
    /// After STARTTLS, and never without (`smtp://`, port 587).
    StartTls,
    /// Not at all (`smtp+plain://`, port 25): for a relay on the same host.
    None,
}

/// A mail server and the people behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Encryption.
    pub encryption: Encryption,
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// Sender, as in a mail: `rollbackd <rollbackd@example.org>`.
    pub from: String,
    /// Recipients. At least one.
    pub to: Vec<String>,
}

/// A sender or recipient that is not an address.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a mail address")]
pub struct NotAnAddress {
    /// What was given.
    pub text: String,
    /// Why.
    #[source]
    source: lettre::address::AddressError,
}

/// Sends notices through one mail server.
#[derive(Debug)]
pub struct Email {
    settings: Settings,
    from: Mailbox,
    to: Vec<Mailbox>,
    settled: Mutex<VecDeque<(String, Answers)>>,
}

/// What became of recipients, by their place in the settings.
type Answers = BTreeMap<usize, Answer>;

/// The server's word on one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It took the message for them.
    Taken,
    /// Not now (4yz).
    Later(String),
    /// Never (5yz).
    Never(String),
}

impl Email {
    /// # Errors
    /// When the sender or a recipient is not an address.
    pub fn new(settings: Settings) -> Result<Self, NotAnAddress> {
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|source| NotAnAddress { text: text.clone(), source });
        let from = mailbox(&settings.from)?;
        let to = settings.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        Ok(Self { settings, from, to, settled: Mutex::default() })
    }

    /// Where mail is handed in, for messages.
    fn server(&self) -> String {
        format!("{}:{}", self.settings.host, self.settings.port)
    }

    /// A connection on which mail can be handed in: encrypted and logged in as the settings say. Whatever goes wrong up to here is about the
    /// server or the settings, not about the notice, so it is always worth another attempt.
    async fn connect(&self) -> Result<AsyncSmtpConnection, NotifyError> {
        let server = self.server();
        let host = self.settings.host.trim_matches(['[', ']']);
        let hello = ClientId::default();
        let (from_the_start, after_hello) = match self.settings.encryption {
            Encryption::Tls => (Some(self.trust(host)?), None),
            Encryption::StartTls => (None, Some(self.trust(host)?)),
            Encryption::None => (None, None),
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1((host, self.settings.port), Some(CONNECT), &hello, from_the_start, None)
            .await
            .map_err(|error| later(format!("cannot connect to mail server {server}: {}", words(&error))))?;
        if let Some(trust) = after_hello {
            let starttls = connection.starttls(trust, &hello).await;
            starttls.map_err(|error| later(format!("cannot encrypt the connection to mail server {server}: {}", words(&error))))?;
        }
        if let Some((user, password)) = &self.settings.login {
            self.log_in(&mut connection, user, password).await?;
        }
        Ok(connection)
    }

    async fn log_in(&self, connection: &mut AsyncSmtpConnection, user: &str, password: &Secret) -> Result<(), NotifyError> {
        let password = password.read().map_err(|error| later(words(&error)))?;
        let credentials = Credentials::new(user.to_owned(), password.expose_secret().to_owned());
        let answer = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
        answer.map(drop).map_err(|error| {
            // The server's own words may repeat what it was given.
            let why = error.status().map_or_else(|| words(&error), |code| code.to_string());
            later(format!("mail server {} does not take the login of {user}: {why}", self.server()))
        })
    }

    /// Whom to trust: the system, or only the configured authorities. Read at each use, so that a new file needs no restart.
    fn trust(&self, host: &str) -> Result<TlsParameters, NotifyError> {
        let mut parameters = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.settings.ca_file {
            let unusable = |why: &(dyn std::error::Error + 'static)| {
                later(format!("cannot use the certificates in {}: {}", path.display(), words(why)))
            };
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let authorities = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
            parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(authorities);
        }
        parameters.build().map_err(|error| later(format!("cannot prepare encryption to {host}: {}", words(&error))))
    }

    /// The message, the same at every attempt but for the boundary between its parts.
    fn message(&self, notice: &Neutral, opens_incident: bool) -> Result<Message, NotifyError> {
        let domain = self.from.email.domain();
        let thread = format!("<{}@{domain}>", notice.incident);
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(notice.subject())
            .date(SystemTime::from(notice.at).max(SystemTime::UNIX_EPOCH))
            .raw_header(plain("Auto-Submitted", "auto-generated"))
            .raw_header(plain("X-Auto-Response-Suppress", "All"))
            .raw_header(plain("X-Rollbackd-Notice", &notice.id))
            .raw_header(plain("X-Rollbackd-Incident", &notice.incident))
            .raw_header(plain("X-Rollbackd-Kind", format::kind_key(notice.kind)))
            .raw_header(plain("X-Rollbackd-Environment", &notice.environment));
        message = if opens_incident {
            message.message_id(Some(thread))
        } else {
            message.message_id(Some(format!("<{}@{domain}>", notice.id))).in_reply_to(thread.clone()).references(thread)
        };
        if let Some(service) = &notice.service {
            message = message.raw_header(plain("X-Rollbackd-Service", service));
        }
        if let Some(severity) = notice.severity {
            message = message.raw_header(plain("X-Rollbackd-Severity", severity.to_string()));
        }
        if is_urgent(notice) {
            message = message.raw_header(plain("Importance", "high"));
        }
        for recipient in &self.to {
            message = message.to(recipient.clone());
        }
        message
            .multipart(MultiPart::alternative_plain_html(format::text(notice), format::html(notice)))
            .map_err(|error| NotifyError::Never { why: format!("cannot make a mail of the notice: {}", words(&error)) })
    }

    /// Hands the message over for those recipients, and gives back what the server said for each.
    async fn hand_over(&self, connection: &mut AsyncSmtpConnection, recipients: &[usize], message: &[u8]) -> Result<Answers, NotifyError> {
        let lost = |error: &SmtpError| later(format!("the connection to mail server {} broke: {}", self.server(), words(error)));
        let everybody = |answer: &Answer| recipients.iter().map(|&recipient| (recipient, answer.clone())).collect::<Answers>();
        let foreign = !self.to.iter().chain([&self.from]).all(|mailbox| mailbox.email.to_string().is_ascii());
        let utf8 = (foreign && connection.server_info().supports_feature(Extension::SmtpUtfEight)).then_some(MailParameter::SmtpUtfEight);
        let sender = Mail::new(Some(self.from.email.clone()), utf8.into_iter().collect());
        if let Some(refusal) = answer_of(connection.command(sender).await).map_err(|error| lost(&error))? {
            return Ok(everybody(&refusal));
        }
        let mut answers = Answers::new();
        for &recipient in recipients {
            let offered = connection.command(Rcpt::new(self.to[recipient].email.clone(), Vec::new())).await;
            answers.insert(recipient, answer_of(offered).map_err(|error| lost(&error))?.unwrap_or(Answer::Taken));
        }
        if !answers.values().any(|answer| *answer == Answer::Taken) {
            return Ok(answers);
        }
        let refusal = match answer_of(connection.command(Data).await).map_err(|error| lost(&error))? {
            Some(refusal) => Some(refusal),
            None => answer_of(connection.message(message).await).map_err(|error| lost(&error))?,
        };
        if let Some(refusal) = refusal {
            answers.values_mut().filter(|answer| **answer == Answer::Taken).for_each(|answer| *answer = refusal.clone());
        }
        Ok(answers)
    }

    /// Who took the notice already, or never will.
    fn settled(&self, id: &str) -> Answers {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.iter().find(|(of, _)| of == id).map(|(_, answers)| answers.clone()).unwrap_or_default()
    }

    fn settle(&self, id: &str, answers: &Answers) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.retain(|(of, _)| of != id);
        settled.push_back((id.to_owned(), answers.clone()));
        if settled.len() > REMEMBERED {
            settled.pop_front();
        }
    }

    /// What all the answers amount to. Nobody is given up while somebody asks for later; a recipient who is refused for good is told of in
    /// the log, and is an error only when nobody else has the notice either.
    fn outcome(&self, id: &str, answers: &Answers) -> Result<(), NotifyError> {
        let say = |wanted: fn(&Answer) -> Option<&String>| {
            let said = answers.iter().filter_map(|(&recipient, answer)| Some((recipient, wanted(answer)?)));
            said.map(|(recipient, why)| format!("{}: {why}", self.to[recipient].email)).collect::<Vec<_>>().join("; ")
        };
        let deferred = say(|answer| if let Answer::Later(why) = answer { Some(why) } else { None });
        let refused = say(|answer| if let Answer::Never(why) = answer { Some(why) } else { None });
        let taken = answers.values().filter(|answer| **answer == Answer::Taken).count();
        let server = self.server();
        if !deferred.is_empty() {
            let of = answers.len();
            return Err(later(format!(
                "mail server {server} took the notice for {taken} of {of} recipients and asks for later: {deferred}"
            )));
        }
        if taken == 0 {
            return Err(NotifyError::Never { why: format!("mail server {server} refuses the notice: {refused}") });
        }
        if !refused.is_empty() {
            tracing::warn!(notice = id, %server, "the notice reached {taken} recipients and was refused for others: {refused}");
        }
        Ok(())
    }
}

#[async_trait]
impl Notifier for Email {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        let neutral = Neutral::of(notice);
        let message = self.message(&neutral, notice.opens_incident)?.formatted();
        let mut answers = self.settled(&neutral.id);
        let recipients: Vec<usize> = (0..self.to.len()).filter(|recipient| !answers.contains_key(recipient)).collect();
        if !recipients.is_empty() {
            let conversation = async {
                let mut connection = self.connect().await?;
                let answers = self.hand_over(&mut connection, &recipients, &message).await?;
                Ok::<_, NotifyError>((connection, answers))
            };
            let (connection, new) = within_limit(&self.server(), conversation).await?;
            answers.extend(new);
            let mut lasting = answers.clone();
            lasting.retain(|_, answer| !matches!(answer, Answer::Later(_)));
            self.settle(&neutral.id, &lasting);
            part(connection).await;
        }
        self.outcome(&neutral.id, &answers)
    }

    async fn check(&self) -> Result<(), NotifyError> {
        let conversation = async {
            let mut connection = self.connect().await?;
            let noop = connection.command(Noop).await;
            noop.map_err(|error| later(format!("mail server {} answers NOOP with an error: {}", self.server(), words(&error))))?;
            Ok(connection)
        };
        part(within_limit(&self.server(), conversation).await?).await;
        Ok(())
    }
}

async fn within_limit<T>(server: &str, conversation: impl Future<Output = Result<T, NotifyError>>) -> Result<T, NotifyError> {
    match tokio::time::timeout(LIMIT, conversation).await {
        Ok(result) => result,
        Err(_elapsed) => Err(later(format!("mail server {server} did not come to an end within {} s", LIMIT.as_secs()))),
    }
}

/// Says goodbye; whether that is heard no longer matters.
async fn part(mut connection: AsyncSmtpConnection) {
    drop(tokio::time::timeout(FAREWELL, connection.quit()).await);
}

/// A refusal by the server's own reply code; `None` is assent, an error a conversation that broke.
fn answer_of<T>(answer: Result<T, SmtpError>) -> Result<Option<Answer>, SmtpError> {
    match answer {
        Ok(_) => Ok(None),
        Err(error) if error.is_permanent() => Ok(Some(Answer::Never(words(&error)))),
        Err(error) if error.is_transient() => Ok(Some(Answer::Later(words(&error)))),
        Err(error) => Err(error),
    }
}

/// Whether a mail program may make a noise: the worst two severities, while things are not well.
fn is_urgent(notice: &Neutral) -> bool {
    let good_news = matches!(notice.kind, NoticeKind::Recovered | NoticeKind::AllClear | NoticeKind::Sighted);
    matches!(notice.severity, Some(Severity::P0 | Severity::P1)) && !good_news
}

/// A header of a name that lettre doesn't know. It encodes and folds the value.
fn plain(name: &'static str, value: impl Into<String>) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.into())
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    use super::super::format::tests::notice;
    use super::*;

    /// A mail server that answers as told and keeps what it is sent.
    #[derive(Default)]
    struct Script {
        /// Replies by the beginning of a command; anything else gets `250 fine`.
        replies: Vec<(&'static str, &'static str)>,
        /// What it says after the message.
        verdict: Option<&'static str>,
        /// Encrypts from the first byte.
        tls: bool,
        /// Falls silent at a command that begins so.
        silent_at: Option<&'static str>,
        acceptor: Option<TlsAcceptor>,
        heard: Mutex<Vec<String>>,
        silent: Notify,
    }

    impl Script {
        fn replying(replies: &[(&'static str, &'static str)]) -> Self {
            Self { replies: replies.to_vec(), ..Self::default() }
        }

        fn heard(&self) -> Vec<String> {
            self.heard.lock().unwrap().clone()
        }

        fn commands(&self, beginning: &str) -> Vec<String> {
            self.heard().into_iter().filter(|line| line.starts_with(beginning)).collect()
        }

        /// The messages that were taken or refused after the last dot.
        fn messages(&self) -> Vec<String> {
            self.heard().into_iter().filter(|line| line.contains("\r\n\r\n")).collect()
        }

        async fn serve(self: Arc<Self>, listener: TcpListener) {
            while let Ok((socket, _)) = listener.accept().await {
                let script = Arc::clone(&self);
                tokio::spawn(async move {
                    if script.tls {
                        let acceptor = script.acceptor.clone().unwrap();
                        if let Ok(stream) = acceptor.accept(socket).await {
                            drop(script.talk(BufStream::new(stream), true).await);
                        }
                    } else if let Ok(Some(stream)) = script.talk(BufStream::new(socket), true).await {
                        let acceptor = script.acceptor.clone().unwrap();
                        if let Ok(stream) = acceptor.accept(stream).await {
                            drop(script.talk(BufStream::new(stream), false).await);
                        }
                    }
                });
            }
        }

        /// Talks until the end, or until the client wants encryption.
        async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: BufStream<S>, greet: bool) -> std::io::Result<Option<S>> {
            if greet {
                say(&mut stream, self.reply("greeting").unwrap_or("220 ready")).await?;
            }
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(None);
                }
                let line = line.trim_end().to_owned();
                self.heard.lock().unwrap().push(line.clone());
                if self.silent_at.is_some_and(|beginning| line.starts_with(beginning)) {
                    self.silent.notify_one();
                    std::future::pending::<()>().await;
                }
                let reply = self.reply(&line);
                match line.split_whitespace().next() {
                    Some("EHLO") => say(&mut stream, reply.unwrap_or("250-sink\r\n250-AUTH PLAIN\r\n250 STARTTLS")).await?,
                    Some("STARTTLS") if reply.is_none() => {
                        say(&mut stream, "220 go on").await?;
                        return Ok(Some(stream.into_inner()));
                    }
                    Some("DATA") if reply.is_none() => {
                        say(&mut stream, "354 speak").await?;
                        let message = read_message(&mut stream).await?;
                        self.heard.lock().unwrap().push(message);
                        say(&mut stream, self.verdict.unwrap_or("250 taken")).await?;
                    }
                    _ => say(&mut stream, reply.unwrap_or("250 fine")).await?,
                }
            }
        }

        fn reply(&self, line: &str) -> Option<&'static str> {
            self.replies.iter().find(|(beginning, _)| line.starts_with(beginning)).map(|&(_, reply)| reply)
        }
    }

    async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>, reply: &str) -> std::io::Result<()> {
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        stream.flush().await
    }

    async fn read_message<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufStream<S>) -> std::io::Result<String> {
        let mut message = String::new();
        while !message.ends_with("\r\n.\r\n") {
            stream.read_line(&mut message).await?;
        }
        Ok(message)
    }

    async fn start(script: Script) -> (Arc<Script>, Settings) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            encryption: Encryption::None,
            ca_file: None,
            login: None,
            from: "rollbackd <rollbackd@example.org>".to_owned(),
            to: vec!["Anna <anna@example.org>".to_owned(), "bert@example.org".to_owned()],
        };
        let script = Arc::new(script);
        tokio::spawn(Arc::clone(&script).serve(listener));
        (script, settings)
    }

    /// A certificate for 127.0.0.1, and the file of the authority that signed it.
    pub(in crate::notify) fn certificate(name: &str) -> (TlsAcceptor, tempfile::NamedTempFile) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), authority.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        (TlsAcceptor::from(Arc::new(config)), file)
    }

    fn secret(text: &str) -> (tempfile::NamedTempFile, Secret) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let secret = Secret::File(file.path().to_owned());
        (file, secret)
    }

    fn is_later(result: &Result<(), NotifyError>) -> bool {
        matches!(result, Err(NotifyError::Later { .. }))
    }

    #[tokio::test]
    async fn a_notice_arrives_as_text_and_html_for_everybody() {
        let (script, settings) = start(Script::default()).await;
        Email::new(settings).unwrap().deliver(&notice()).await.unwrap();

        assert_eq!(script.commands("MAIL"), ["MAIL FROM:<rollbackd@example.org>"]);
        assert_eq!(script.commands("RCPT"), ["RCPT TO:<anna@example.org>", "RCPT TO:<bert@example.org>"]);
        let message = script.messages().remove(0);
        for header in [
            "Subject: [P0 production] checkout: rolled back to shop:v1, recovered\r\n",
            "From: rollbackd <rollbackd@example.org>\r\n",
            "To: Anna <anna@example.org>, bert@example.org\r\n",
            "Date: Sat, 21 Nov 2026 03:12:45 +0000\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "X-Rollbackd-Notice: k3f9a2b1-17\r\n",
            "X-Rollbackd-Incident: k3f9a2b1-12\r\n",
            "X-Rollbackd-Kind: recovered\r\n",
            "X-Rollbackd-Severity: P0\r\n",
            "X-Rollbackd-Service: checkout\r\n",
            "X-Rollbackd-Environment: production\r\n",
            "Content-Type: multipart/alternative;",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Type: text/html; charset=utf-8\r\n",
        ] {
            assert!(message.contains(header), "{header:?} is missing in\n{message}");
        }
        assert!(message.is_ascii());
        assert!(!message.contains("Importance"), "good news may wait");
    }

    #[tokio::test]
    async fn the_first_notice_of_an_incident_starts_the_thread_and_the_others_answer_it() {
        let (script, settings) = start(Script::default()).await;
        let email = Email::new(settings).unwrap();
        let first = Notice { id: "k3f9a2b1-14".to_owned(), opens_incident: true, kind: NoticeKind::RollingBack, ..notice() };
        email.deliver(&first).await.unwrap();
        email.deliver(&notice()).await.unwrap();

        let [first, second] = script.messages().try_into().unwrap();
        assert!(first.contains("Message-ID: <k3f9a2b1-12@example.org>\r\n") && !first.contains("References"));
        assert!(first.contains("Importance: high\r\n"));
        assert!(second.contains("Message-ID: <k3f9a2b1-17@example.org>\r\n"));
        assert!(second.contains("In-Reply-To: <k3f9a2b1-12@example.org>\r\n"));
        assert!(second.contains("References: <k3f9a2b1-12@example.org>\r\n"));
    }

    #[tokio::test]
    async fn a_hostile_version_adds_no_header_and_ends_no_message() {
        let (script, settings) = start(Script::default()).await;
        let text = "v2\r\nBcc: all@example.org\r\n\r\n.\r\nQUIT\r\n";
        let hostile = Notice {
            id: text.to_owned(),
            environment: text.to_owned(),
            headline: text.to_owned(),
            paragraphs: vec![text.to_owned()],
            ..notice()
        };
        Email::new(settings).unwrap().deliver(&hostile).await.unwrap();

        let message = script.messages().remove(0);
        let (headers, _) = message.split_once("\r\n\r\n").unwrap();
        assert!(!headers.lines().any(|line| line.to_ascii_lowercase().starts_with("bcc")), "{headers}");
        assert_eq!(script.messages().len(), 1);
        assert_eq!(script.commands("QUIT"), ["QUIT"]);
    }

    #[tokio::test]
    async fn a_recipient_who_is_refused_for_good_does_not_keep_the_others_from_hearing() {
        let (script, settings) = start(Script::replying(&[("RCPT TO:<anna", "550 5.1.1 no such user")])).await;
        Email::new(settings).unwrap().deliver(&notice()).await.unwrap();
        assert_eq!(script.messages().len(), 1);
    }

    #[tokio::test]
    async fn a_recipient_who_asks_for_later_gets_it_later_and_the_others_only_once() {
        let (script, settings) = start(Script::replying(&[("RCPT TO:<anna", "451 4.7.1 greylisted")])).await;
        let email = Email::new(settings).unwrap();
        let result = email.deliver(&notice()).await;
        assert!(is_later(&result), "{result:?}");
        let why = result.unwrap_err().to_string();
        assert!(why.contains("1 of 2") && why.contains("anna@example.org") && why.contains("451"), "{why}");

        let again = email.deliver(&notice()).await;
        assert!(is_later(&again), "{again:?}");
        assert_eq!(script.commands("RCPT TO:<bert").len(), 1, "who has it is not asked again");
        assert_eq!(script.messages().len(), 1);
    }

    #[tokio::test]
    async fn when_nobody_may_have_it_the_notice_is_given_up() {
        let (_, settings) = start(Script::replying(&[("RCPT", "550 5.1.1 no such user")])).await;
        let error = Email::new(settings).unwrap().deliver(&notice()).await.unwrap_err();
        assert!(matches!(&error, NotifyError::Never { why } if why.contains("550") && why.contains("no such user")), "{error:?}");
    }

    #[tokio::test]
    async fn refusals_of_the_notice_are_final_only_when_the_server_says_so() {
        for (script, lasting) in [
            (Script { verdict: Some("554 5.6.0 I don't like it"), ..Script::default() }, true),
            (Script { verdict: Some("452 4.3.1 disk full"), ..Script::default() }, false),
            (Script::replying(&[("MAIL", "550 5.7.1 not from you")]), true),
            (Script::replying(&[("MAIL", "450 4.7.1 slow down")]), false),
            (Script::replying(&[("DATA", "554 5.5.1 no")]), true),
            (Script::replying(&[("greeting", "554 5.7.1 go away")]), false),
            (Script::replying(&[("EHLO", "502 5.5.1 what")]), false),
        ] {
            let what = format!("{:?} {:?}", script.replies, script.verdict);
            let (_, settings) = start(script).await;
            let error = Email::new(settings).unwrap().deliver(&notice()).await.unwrap_err();
            assert_eq!(matches!(error, NotifyError::Never { .. }), lasting, "{what}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_tried_again() {
        let (_, mut settings) = start(Script::default()).await;
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        settings.port = closed.local_addr().unwrap().port();
        drop(closed);
        let error = Email::new(settings.clone()).unwrap().deliver(&notice()).await.unwrap_err();
        assert!(matches!(&error, NotifyError::Later { why, .. } if why.contains(&format!("127.0.0.1:{}", settings.port))), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_falls_silent_is_left_after_a_while() {
        let (script, settings) = start(Script { silent_at: Some("RCPT"), ..Script::default() }).await;
        let email = Email::new(settings).unwrap();
        let delivery = tokio::spawn(async move { email.deliver(&notice()).await });
        script.silent.notified().await;
        tokio::time::pause();
        let error = delivery.await.unwrap().unwrap_err();
        assert!(matches!(&error, NotifyError::Later { why, .. } if why.contains("within 27 s")), "{error:?}");
    }

    #[tokio::test]
    async fn a_private_authority_is_trusted_from_the_first_byte_and_after_starttls() {
        for encryption in [Encryption::Tls, Encryption::StartTls] {
            let (acceptor, authority) = certificate("127.0.0.1");
            let (script, mut settings) =
                start(Script { tls: encryption == Encryption::Tls, acceptor: Some(acceptor), ..Script::default() }).await;
            let (_file, password) = secret("hunter2\n");
            settings.encryption = encryption;
            settings.ca_file = Some(authority.path().to_owned());
            settings.login = Some(("rollbackd".to_owned(), password));
            Email::new(settings).unwrap().deliver(&notice()).await.unwrap();
            assert_eq!(script.commands("AUTH"), ["AUTH PLAIN AHJvbGxiYWNrZABodW50ZXIy"]);
            assert_eq!(script.messages().len(), 1);
            let encrypted_late = script.heard().iter().position(|line| line == "STARTTLS");
            assert_eq!(encrypted_late.is_some(), encryption == Encryption::StartTls);
        }
    }

    #[tokio::test]
    async fn nothing_is_said_to_a_server_that_can_not_prove_its_name_or_does_not_encrypt() {
        let (acceptor, authority) = certificate("mail.example.org");
        let wrong_name = Script { tls: true, acceptor: Some(acceptor), ..Script::default() };
        let no_starttls = Script::replying(&[("EHLO", "250-sink\r\n250 AUTH PLAIN")]);
        for (script, encryption) in [(wrong_name, Encryption::Tls), (no_starttls, Encryption::StartTls)] {
            let (script, mut settings) = start(script).await;
            let (_file, password) = secret("hunter2");
            settings.encryption = encryption;
            settings.ca_file = Some(authority.path().to_owned());
            settings.login = Some(("rollbackd".to_owned(), password));
            let result = Email::new(settings).unwrap().deliver(&notice()).await;
            assert!(is_later(&result), "{result:?}");
            assert!(script.commands("AUTH").is_empty() && script.commands("MAIL").is_empty(), "{:?}", script.heard());
        }
    }

    #[tokio::test]
    async fn a_refused_login_is_tried_again_with_the_password_that_then_is_in_the_file_and_never_shown() {
        let (script, mut settings) =
            start(Script::replying(&[("AUTH PLAIN AHJvbGxiYWNrZABodW50ZXIy", "535 5.7.8 hunter2 is wrong"), ("AUTH", "235 welcome")]))
                .await;
        let (file, password) = secret("hunter2");
        settings.login = Some(("rollbackd".to_owned(), password));
        let email = Email::new(settings).unwrap();
        let error = email.deliver(&notice()).await.unwrap_err();
        assert!(matches!(&error, NotifyError::Later { why, .. } if why.contains("535") && !why.contains("hunter2")), "{error:?}");
        assert!(!format!("{email:?}").contains("hunter2"));

        std::fs::write(file.path(), "hunter3").unwrap();
        email.deliver(&notice()).await.unwrap();
        assert_eq!(script.messages().len(), 1);
    }

    #[tokio::test]
    async fn a_check_goes_as_far_as_the_login_and_hands_nothing_over() {
        let (script, mut settings) = start(Script::replying(&[("AUTH", "235 welcome")])).await;
        let (_file, password) = secret("hunter2");
        settings.login = Some(("rollbackd".to_owned(), password));
        Email::new(settings).unwrap().check().await.unwrap();
        assert_eq!((script.commands("NOOP").len(), script.commands("AUTH").len(), script.commands("MAIL").len()), (1, 1, 0));

        let (_, mut settings) = start(Script::replying(&[("AUTH", "535 5.7.8 no")])).await;
        let (_file, password) = secret("hunter2");
        settings.login = Some(("rollbackd".to_owned(), password));
        assert!(is_later(&Email::new(settings).unwrap().check().await));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_at_once() {
        let (_, mut settings) = start(Script::default()).await;
        settings.to = vec!["nobody".to_owned()];
        assert_eq!(Email::new(settings).unwrap_err().to_string(), "\"nobody\" is not a mail address");
    }
}
