//! A fake server on a data directory of its own, and commands that are run against it.

use std::{
    fmt,
    future::Future,
    io::{self, Cursor, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use clap::Parser as _;
use mailyard_host::data_dir::DataDir;
use mailyard_wire::{
    admin::{
        alert_service_server::AlertServiceServer, mailbox_service_server::MailboxServiceServer,
        operation_service_server::OperationServiceServer, profile_service_server::ProfileServiceServer,
        settings_service_server::SettingsServiceServer, status_service_server::StatusServiceServer,
    },
    records::email_service_server::EmailServiceServer,
};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::fake::Fake;
use crate::{Command, Exit, Global, ctl::Ctl, run_until, screen::Screen};

/// The arguments of a binary.
#[derive(clap::Parser)]
#[command(name = "mailyard", term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

pub struct World {
    pub fake: Fake,
    pub data: DataDir,
    pub folder: tempfile::TempDir,
    server: Mutex<Option<Runtime>>,
}

/// How a command ended and what it wrote.
pub struct Outcome {
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.out)?;
        self.err.lines().try_for_each(|line| writeln!(out, "| {line}"))?;
        if self.exit == Exit::Success { Ok(()) } else { writeln!(out, "exit {}", self.exit.code()) }
    }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer fails").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer fails")).into_owned()
    }
}

impl World {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDir::open(folder.path().join("data")).expect("nobody else is there");
        let fake = Fake::default();
        fake.state().token = data.token().expect("a token");
        let (server, url) = serve(&fake, &data);
        data.publish(vec![url]).expect("it is ours");
        Self { fake, data, folder, server: Mutex::new(Some(server)) }
    }

    /// Ends the server with all its connections, and starts it anew elsewhere.
    pub fn restart(&self) {
        let (server, url) = serve(&self.fake, &self.data);
        self.data.publish(vec![url]).expect("it is ours");
        self.end(Some(server));
    }

    /// Ends the server, and keeps another one.
    fn end(&self, next: Option<Runtime>) {
        let before = std::mem::replace(&mut *self.server.lock().expect("no test fails"), next);
        before.into_iter().for_each(Runtime::shutdown_background);
    }

    /// Writes a file of the test.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("it can be written");
        path
    }

    pub async fn run(&self, line: &str) -> Outcome {
        self.run_with(line, "", false, std::future::pending()).await
    }

    /// Runs a command line with this standard input; `terminal`: standard error is one.
    pub async fn run_with(
        &self,
        line: &str,
        input: &str,
        terminal: bool,
        interrupt: impl Future<Output = ()>,
    ) -> Outcome {
        let data = self.data.path().to_string_lossy().into_owned();
        let folder = self.folder.path().canonicalize().expect("it is there").to_string_lossy().into_owned();
        let line = line.replace("FOLDER", &folder);
        let outcome = run_on(&format!("--data {data} {line}"), input, terminal, interrupt).await;
        let plain = |text: &str| text.replace(&data, "DIR").replace(&folder, "FOLDER");
        Outcome { exit: outcome.exit, out: plain(&outcome.out), err: plain(&outcome.err) }
    }

    /// What the server heard, call by call, since it was asked last.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.state().heard)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Runs a command line as it is.
pub async fn run_on(line: &str, input: &str, terminal: bool, interrupt: impl Future<Output = ()>) -> Outcome {
    let words = std::iter::once("mailyard".to_owned()).chain(words(line));
    let Arguments { global, command } = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return Outcome { exit: Exit::Usage, out: String::new(), err: error.to_string() },
    };
    let (out, err) = (Written::default(), Written::default());
    let input = Box::new(Cursor::new(input.as_bytes().to_vec()));
    let screen = Screen::new(Box::new(out.clone()), Box::new(err.clone()), input, (terminal, false));
    let exit = run_until(command, &mut Ctl::new(global, screen), interrupt).await;
    Outcome { exit, out: out.text(), err: err.text() }
}

/// Words as a shell splits them; single quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    for letter in line.chars().chain([' ']) {
        match letter {
            '\'' => (quoted, open) = (true, !open),
            ' ' if !open => {
                if quoted || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                quoted = false;
            }
            letter => word.push(letter),
        }
    }
    words
}

fn serve(fake: &Fake, data: &DataDir) -> (Runtime, String) {
    let identity = data.identity().expect("it is made");
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&identity.certificate, &identity.key));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it can be");
    let url = format!("https://{}", listener.local_addr().expect("it is bound"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (runtime, fake) = (runtime.expect("a runtime"), fake.clone());
    runtime.spawn(async move {
        let incoming =
            TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).expect("it is bound"));
        Server::builder()
            .tls_config(tls)
            .expect("the identity is ours")
            .add_service(AlertServiceServer::new(fake.clone()))
            .add_service(EmailServiceServer::new(fake.clone()))
            .add_service(MailboxServiceServer::new(fake.clone()))
            .add_service(OperationServiceServer::new(fake.clone()))
            .add_service(ProfileServiceServer::new(fake.clone()))
            .add_service(SettingsServiceServer::new(fake.clone()))
            .add_service(StatusServiceServer::new(fake))
            .serve_with_incoming(incoming)
            .await
    });
    (runtime, url)
}
