//! Where names lead: what the deployment answers itself, and what the system says of everything else.

use std::{
    cmp::Reverse,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, RecordType, rdata::SRV},
};
use mailyard_policy::names::{Answer, Names};

/// Where the system says which name servers it asks (resolv.conf(5)).
const NAME_SERVERS: &str = "/etc/resolv.conf";

/// Resolves names. Its clones share what the deployment answers itself.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    names: Arc<Names>,
}

/// A host that offers a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub target: String,
    pub port: u16,
}

/// Why a name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// There is no such name.
    #[error("there is no such name")]
    Absent,
    /// Nobody said whether there is.
    #[error("{0}")]
    Failed(String),
}

impl Resolver {
    /// Asks the system for what the deployment does not answer itself.
    pub fn new(names: Names) -> Self {
        Self { names: Arc::new(names) }
    }

    /// The addresses of a server: at least one.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Unresolved> {
        match self.names.answer(&format!("{host}:{port}")) {
            Some(Answer::Address(address)) => return Ok(vec![*address]),
            Some(Answer::Absent) => return Err(Unresolved::Absent),
            Some(Answer::Service { .. }) | None => {}
        }
        let addresses: Vec<_> =
            tokio::net::lookup_host((host, port)).await.map_err(|error| of_system(&error))?.collect();
        if addresses.is_empty() { Err(Unresolved::Absent) } else { Ok(addresses) }
    }

    /// The hosts of a service such as `_autodiscover._tcp.example.org`, in the order to ask them: at least one. Of hosts
    /// with the same priority that with the greater weight comes first: one client asks, and there is no load to share.
    pub(crate) async fn services(&self, name: &str) -> Result<Vec<Service>, Unresolved> {
        match self.names.answer(name) {
            Some(Answer::Service { target, port }) => {
                return Ok(vec![Service { target: target.clone(), port: *port }]);
            }
            Some(Answer::Absent) => return Err(Unresolved::Absent),
            Some(Answer::Address(_)) | None => {}
        }
        // It is asked for rarely: the system's settings are read anew each time.
        let settings = tokio::fs::read_to_string(NAME_SERVERS).await.unwrap_or_default();
        ask(name_servers(&settings), name).await
    }
}

/// As the C library reads it: without a name server the one of this host is asked.
fn name_servers(settings: &str) -> Vec<NameServerConfig> {
    let address = |line: &str| -> Option<IpAddr> {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()
    };
    let mut servers: Vec<_> = settings.lines().filter_map(address).collect();
    if servers.is_empty() {
        servers.push([127, 0, 0, 1].into());
    }
    servers.into_iter().map(NameServerConfig::udp_and_tcp).collect()
}

async fn ask(servers: Vec<NameServerConfig>, name: &str) -> Result<Vec<Service>, Unresolved> {
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .build()
        .map_err(|error| Unresolved::Failed(error.to_string()))?;
    // With the dot at its end it is not looked for in the domain of this host.
    let lookup = resolver.lookup(format!("{name}."), RecordType::SRV).await.map_err(|error| {
        if error.is_no_records_found() { Unresolved::Absent } else { Unresolved::Failed(error.to_string()) }
    })?;
    let mut found: Vec<&SRV> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            // A dot alone says that there is no such service.
            RData::SRV(srv) if !srv.target.is_root() => Some(srv),
            _ => None,
        })
        .collect();
    found.sort_by_key(|srv| (srv.priority, Reverse(srv.weight)));
    let service = |srv: &SRV| Service {
        target: srv.target.to_ascii().trim_end_matches('.').to_owned(),
        port: srv.port,
    };
    let services: Vec<_> = found.into_iter().map(service).collect();
    if services.is_empty() { Err(Unresolved::Absent) } else { Ok(services) }
}

/// The system tells a name that does not exist from one that could not be asked for by its words only. What is not
/// known for sure may pass.
fn of_system(error: &io::Error) -> Unresolved {
    const ABSENT: [&str; 4] =
        ["not known", "No address associated", "does not resolve", "nodename nor servname"];
    let text = error.to_string();
    if ABSENT.iter().any(|words| text.contains(words)) {
        Unresolved::Absent
    } else {
        Unresolved::Failed(text)
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::{
        op::{Message, MessageType, ResponseCode},
        rr::{Name, Record},
    };
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that answers one question with these: priority, weight, port, target.
    async fn asked(
        answers: &[(u16, u16, u16, &str)],
        code: ResponseCode,
    ) -> Result<Vec<Service>, Unresolved> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let name = |text: &str| Name::from_ascii(text).expect("a name");
        let answer = async {
            loop {
                let mut bytes = [0; 512];
                let (length, from) = socket.recv_from(&mut bytes).await.expect("a question");
                let mut message = Message::from_vec(&bytes[..length]).expect("a question");
                message.metadata.message_type = MessageType::Response;
                message.metadata.response_code = code;
                let asked = message.queries[0].name().clone();
                for (priority, weight, port, target) in answers {
                    let data = RData::SRV(SRV::new(*priority, *weight, *port, name(target)));
                    message.add_answer(Record::from_rdata(asked.clone(), 60, data));
                }
                socket.send_to(&message.to_vec().expect("bytes"), from).await.expect("sent");
            }
        };
        let mut server = NameServerConfig::udp([127, 0, 0, 1].into());
        server.connections[0].port = port;
        tokio::select! {
            found = ask(vec![server], "_autodiscover._tcp.example.org") => found,
            () = answer => Err(Unresolved::Absent),
        }
    }

    #[tokio::test]
    async fn services_come_in_the_order_of_the_rfc() {
        let service = |target: &str, port| Service { target: target.to_owned(), port };
        let answers =
            [(10, 0, 443, "c.example.org."), (5, 1, 443, "b.example.org."), (5, 9, 444, "a.example.org.")];
        let expected =
            vec![service("a.example.org", 444), service("b.example.org", 443), service("c.example.org", 443)];
        assert_eq!(asked(&answers, ResponseCode::NoError).await, Ok(expected));
        assert_eq!(asked(&[(0, 0, 0, ".")], ResponseCode::NoError).await, Err(Unresolved::Absent));
        assert_eq!(asked(&[], ResponseCode::NXDomain).await, Err(Unresolved::Absent));
        let failed = asked(&[], ResponseCode::ServFail).await;
        assert!(matches!(failed, Err(Unresolved::Failed(_))), "{failed:?}");
    }

    #[test]
    fn name_servers_are_those_of_the_system() {
        let addresses = |settings: &str| -> Vec<String> {
            name_servers(settings).iter().map(|server| server.ip.to_string()).collect()
        };
        let settings = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 10.0.0.1\n nameserver\t::1 \nnameserver x\n";
        assert_eq!(addresses(settings), ["10.0.0.1", "::1"]);
        assert_eq!(addresses(""), ["127.0.0.1"]);
    }

    #[tokio::test]
    async fn a_deployment_answers_before_the_system() {
        let names = "mail.example.org:443=127.0.0.1:8443,gone.example.org:443=none,\
                     _a._tcp.example.org=srv:mail.example.org:444,_b._tcp.example.org=none";
        let resolver = Resolver::new(names.parse().unwrap_or_default());
        for (host, port, expected) in [
            ("Mail.example.org", 443, Ok(vec![SocketAddr::from(([127, 0, 0, 1], 8443))])),
            ("gone.example.org", 443, Err(Unresolved::Absent)),
            ("127.0.0.9", 5, Ok(vec![SocketAddr::from(([127, 0, 0, 9], 5))])),
        ] {
            assert_eq!(resolver.addresses(host, port).await, expected, "{host}");
        }
        let service = Service { target: "mail.example.org".to_owned(), port: 444 };
        assert_eq!(resolver.services("_a._tcp.example.org").await, Ok(vec![service]));
        assert_eq!(resolver.services("_b._tcp.example.org").await, Err(Unresolved::Absent));
    }

    #[test]
    fn only_what_the_system_denies_is_absent() {
        for (text, absent) in [
            ("failed to lookup address information: Name or service not known", true),
            ("failed to lookup address information: No address associated with hostname", true),
            ("failed to lookup address information: Temporary failure in name resolution", false),
            ("something else", false),
        ] {
            assert_eq!(of_system(&io::Error::other(text)) == Unresolved::Absent, absent, "{text}");
        }
    }
}
