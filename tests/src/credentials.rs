//! Credentials of the simulator's service account and of its application, by each scheme.

use mailyard_exchange::Certificate;
use mailyard_exchange_sim::{Options, Ready, Scheme};
use mailyard_policy::profile::{Authentication, Credentials, OAuth};
use secrecy::SecretString;

use crate::Outcome;

/// A simulator that offers what these need.
pub fn accepting(all: &[Authentication], options: Options) -> Options {
    let offered = |by: &Authentication| match by {
        Authentication::Auto => vec![Scheme::Negotiate, Scheme::Ntlm, Scheme::Basic],
        Authentication::Basic => vec![Scheme::Basic],
        Authentication::Ntlm => vec![Scheme::Ntlm],
        Authentication::Negotiate => vec![Scheme::Negotiate],
        Authentication::OAuth => vec![Scheme::OAuth],
    };
    Options { auth: all.iter().flat_map(offered).collect(), ..options }
}

/// What a profile signs in with, and the secret.
///
/// # Errors
/// The simulator has no application, or its certificate cannot be read.
pub fn of(by: Authentication, ready: &Ready) -> Outcome<(Credentials, SecretString)> {
    if by != Authentication::OAuth {
        let account = Credentials { authentication: by, user: ready.user.clone(), ..Credentials::none() };
        return Ok((account, ready.password.clone().into()));
    }
    let application = ready.oauth.as_ref().ok_or("the simulator has no application")?;
    let pem = std::fs::read_to_string(&application.certificate_file)?;
    let certificate = Certificate::read(&pem).map_err(|failure| failure.to_string())?;
    let oauth = OAuth {
        tenant: application.tenant.clone(),
        client: application.client.clone(),
        certificate_pem: certificate.certificate_pem().to_owned(),
        // The server names its authority.
        authority: None,
        // Tokens are for its host, unless its port is in the name of the resource too.
        resource: Some(application.resource.clone()),
    };
    let credentials = Credentials { authentication: by, oauth: Some(oauth), ..Credentials::none() };
    Ok((credentials, certificate.key_pem().clone()))
}
