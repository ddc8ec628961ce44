//! Who may call what: a bearer token is a principal, a principal holds privileges, a method asks for one.

use mailyard_policy::Reason;
use mailyard_wire::{admin::Privilege, privilege, status::refusal};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use tonic::Status;

/// Needs no token: probes ask before they can have one.
const PUBLIC: &str = "/grpc.health.v1.Health/";
/// Needs a token and no privilege.
const REFLECTION: [&str; 2] =
    ["/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its name, for logs.
    pub name: String,
    /// What it may do.
    pub privileges: Privileges,
}

/// What a principal may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privileges {
    /// Everything.
    Every,
    /// These.
    These(Vec<Privilege>),
}

impl Privileges {
    fn hold(&self, wanted: Privilege) -> bool {
        match self {
            Self::Every => true,
            Self::These(held) => held.contains(&wanted),
        }
    }
}

/// The principals by their tokens, of which only hashes are kept. The time that a comparison takes tells nothing.
pub struct Access {
    known: Vec<([u8; 32], Principal)>,
}

impl Access {
    /// Only the administrator, who may do everything.
    pub fn of_administrator(token: &SecretString) -> Self {
        let name = "administrator".to_owned();
        Self::new([(token.clone(), Principal { name, privileges: Privileges::Every })])
    }

    /// These principals. An empty token opens nothing.
    pub fn new(principals: impl IntoIterator<Item = (SecretString, Principal)>) -> Self {
        let known = principals
            .into_iter()
            .filter(|(token, _)| !token.expose_secret().is_empty())
            .map(|(token, principal)| (hash(token.expose_secret().as_bytes()), principal))
            .collect();
        Self { known }
    }

    /// The principal that may call this method; `None`: anybody may. `authorization` is the header.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, then `RPC_UNKNOWN`, then `PRIVILEGE_MISSING`.
    pub fn check(&self, path: &str, authorization: Option<&[u8]>) -> Result<Option<&Principal>, Status> {
        if path.starts_with(PUBLIC) {
            return Ok(None);
        }
        let principal = authorization.and_then(bearer).and_then(|token| self.principal(token));
        let principal = principal.ok_or_else(|| {
            let detail = "the call carries no token, or one that is not known";
            refusal(Reason::TokenInvalid, "", detail)
        })?;
        if REFLECTION.iter().any(|service| path.starts_with(service)) {
            return Ok(Some(principal));
        }
        let wanted = privilege::of(path)
            .ok_or_else(|| refusal(Reason::RpcUnknown, "", "this server has no such method"))?;
        if !principal.privileges.hold(wanted) {
            let detail = format!("the call needs the privilege {}", wanted.as_str_name());
            return Err(refusal(Reason::PrivilegeMissing, "", &detail));
        }
        Ok(Some(principal))
    }

    fn principal(&self, token: &[u8]) -> Option<&Principal> {
        let hash = hash(token);
        // Every byte is looked at, wherever the first difference is.
        let is_same = |known: &[u8; 32]| known.iter().zip(hash).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0;
        self.known.iter().find(|(known, _)| is_same(known)).map(|(_, principal)| principal)
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The token of an `authorization` header.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use mailyard_wire::status::Refusal;

    use super::*;

    #[test]
    fn who_may_call_what() {
        let reader = Principal {
            name: "reader".to_owned(),
            privileges: Privileges::These(vec![Privilege::ProfileRead]),
        };
        let every = Principal { name: "all".to_owned(), privileges: Privileges::Every };
        let access = Access::new([
            ("read-token".into(), reader),
            ("all-token".into(), every.clone()),
            ("".into(), every),
        ]);
        let (read, write) = (
            "/mailyard.admin.v1.ProfileService/GetProfile",
            "/mailyard.admin.v1.ProfileService/CreateProfile",
        );
        let (health, reflection) =
            ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
        let session = "/mailyard.cluster.v1.SessionService/Session";
        for (path, header, expected) in [
            (health, None, "anybody"),
            (read, None, "TOKEN_INVALID"),
            (read, Some("Bearer "), "TOKEN_INVALID"),
            (read, Some("Bearer read-toke"), "TOKEN_INVALID"),
            (read, Some("Basic read-token"), "TOKEN_INVALID"),
            (read, Some("read-token"), "TOKEN_INVALID"),
            (read, Some("Bearer read-token"), "reader"),
            (read, Some("bearer read-token"), "reader"),
            (write, Some("Bearer read-token"), "PRIVILEGE_MISSING"),
            (write, Some("Bearer all-token"), "all"),
            (reflection, None, "TOKEN_INVALID"),
            (reflection, Some("Bearer read-token"), "reader"),
            (session, None, "TOKEN_INVALID"),
            (session, Some("Bearer all-token"), "RPC_UNKNOWN"),
            ("/", Some("Bearer all-token"), "RPC_UNKNOWN"),
        ] {
            let found = match access.check(path, header.map(str::as_bytes)) {
                Ok(principal) => principal.map_or("anybody", |found| &found.name).to_owned(),
                Err(status) => Refusal::from(&status).reason.unwrap_or_default(),
            };
            assert_eq!(found, expected, "{path} {header:?}");
        }
    }
}
