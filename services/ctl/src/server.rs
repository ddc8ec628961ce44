//! The server: how it is found and trusted, and how it is called.

use std::{fs, future::Future, path::Path, time::Duration};

use mailyard_host::{
    config::short,
    data_dir::{self, Endpoint},
    telemetry,
};
use mailyard_wire::{
    LARGEST_MESSAGE,
    admin::{
        alert_service_client::AlertServiceClient, mailbox_service_client::MailboxServiceClient,
        operation_service_client::OperationServiceClient, profile_service_client::ProfileServiceClient,
        settings_service_client::SettingsServiceClient, status_service_client::StatusServiceClient,
    },
    name,
    records::email_service_client::EmailServiceClient,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{self, Certificate, ClientTlsConfig},
};

use crate::{
    exit::Exit,
    failure::{Failure, causes},
    global::Global,
};

/// A connection is given up after this.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer is given up after this, unless `--timeout` says otherwise.
const ANSWER: Duration = Duration::from_secs(30);
/// A silent connection is asked for a sign of life so often,
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// and given up if none comes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Rows that are asked for at once: the most that the server gives.
pub(crate) const PAGE: i32 = 1000;

/// The road to a server, with the token on each call.
pub type Channel = InterceptedService<transport::Channel, Bearer>;

/// Shows the token with each call, and the trace that the call is part of.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        if let Ok(parent) = telemetry::traceparent().parse::<MetadataValue<Ascii>>()
            && !parent.is_empty()
        {
            request.metadata_mut().insert("traceparent", parent);
        }
        Ok(request)
    }
}

/// A server that was found.
pub struct Server {
    channel: Channel,
    answer: Duration,
    /// The resource name of the organization.
    pub parent: String,
}

macro_rules! clients {
    ($($method:ident: $client:ident),+ $(,)?) => {$(
        #[doc = concat!("A client of the service that ", stringify!($client), " speaks to.")]
        pub fn $method(&self) -> $client<Channel> {
            $client::new(self.channel.clone())
                .max_decoding_message_size(LARGEST_MESSAGE)
                .max_encoding_message_size(LARGEST_MESSAGE)
        }
    )+};
}

impl Server {
    /// Finds the server of the data directory, and connects to the first of its addresses that answers.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let parent = format!("organizations/{}", global.org);
        if let Err(status) = name::parse_organization("--org", &parent) {
            return Err(Failure::new(Exit::Usage, format!("--org: {}", status.message()), ""));
        }
        let advice = "Name the server's data directory with --data DIR, or in MAILYARD_DATA.";
        let data = global.data.as_deref();
        let data = data.ok_or_else(|| Failure::new(Exit::Usage, "no server is named", advice))?;
        let endpoint = Endpoint::find(data)?;
        let channel = channel(&endpoint, data).await?;
        // `--timeout` is over the whole command.
        let answer = if global.timeout.is_some() { Duration::MAX } else { ANSWER };
        Ok(Self { channel, answer, parent })
    }

    /// A server at the end of a channel, which asks for no token.
    pub(crate) fn over(channel: transport::Channel, global: &Global) -> Self {
        let bearer = Bearer(MetadataValue::from_static("none"));
        let channel = InterceptedService::new(channel, bearer);
        Self { channel, answer: ANSWER, parent: format!("organizations/{}", global.org) }
    }

    /// Connects to a server of which it is known where it is.
    ///
    /// # Errors
    /// None of its addresses answers.
    pub async fn at(endpoint: &Endpoint, org: &str) -> Result<Self, Failure> {
        let folder = endpoint.token_file.parent().unwrap_or(Path::new(""));
        let channel = channel(endpoint, folder).await?;
        Ok(Self { channel, answer: ANSWER, parent: format!("organizations/{org}") })
    }

    clients! {
        alerts: AlertServiceClient,
        mailboxes: MailboxServiceClient,
        operations: OperationServiceClient,
        profiles: ProfileServiceClient,
        settings: SettingsServiceClient,
        status: StatusServiceClient,
        emails: EmailServiceClient,
    }

    /// The resource name of what a person calls so; a resource name is taken as it is.
    pub fn name(&self, collection: &str, called: &str) -> String {
        if called.starts_with("organizations/") {
            called.to_owned()
        } else {
            format!("{}/{collection}/{called}", self.parent)
        }
    }

    /// Waits for one answer.
    ///
    /// # Errors
    /// The server refused, or did not answer in time.
    pub async fn call<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.answer, answer).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::new(
                Exit::TimedOut,
                format!("the server did not answer within {}", short(self.answer)),
                "Give it longer with --timeout.",
            )),
        }
    }
}

/// All pages of a list, one after the other. `page` fetches the one behind a token.
pub(crate) async fn pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut all, mut token) = page(String::new()).await?;
    while !token.is_empty() {
        let (more, next) = page(token).await?;
        all.extend(more);
        token = next;
    }
    Ok(all)
}

async fn channel(endpoint: &Endpoint, data: &Path) -> Result<Channel, Failure> {
    let token = data_dir::read_secret(&endpoint.token_file)?;
    let bearer = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
    let mut bearer = bearer.map_err(|_| {
        Failure::new(Exit::Other, format!("{} holds no token", endpoint.token_file.display()), "")
    })?;
    bearer.set_sensitive(true);
    let ca = fs::read(&endpoint.ca_file).map_err(|error| Failure::file(&endpoint.ca_file, &error))?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let mut tried = Vec::new();
    for url in &endpoint.grpc {
        match connect(url, tls.clone()).await {
            Ok(channel) => return Ok(InterceptedService::new(channel, Bearer(bearer))),
            Err(why) => tried.push(format!("{url}: {why}")),
        }
    }
    let tried = if tried.is_empty() { "it tells no address".to_owned() } else { tried.join("\n") };
    Err(Failure::away(format!("the server on {} cannot be reached\n{tried}", data.display())))
}

async fn connect(url: &str, tls: ClientTlsConfig) -> Result<transport::Channel, String> {
    if !url.starts_with("https://") {
        return Err("the token travels over https only".to_owned());
    }
    let endpoint = transport::Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(|error| causes(&error))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(SIGN_OF_LIFE);
    endpoint.connect().await.map_err(|error| causes(&error))
}
