//! Credentials of profiles and their secrets.

use mailyard_policy::{
    Reason,
    id::{Org, ProfileId, Revision},
    operation::Direction,
    profile::{CredentialSource, Credentials, OAuth},
};
use secrecy::SecretString;

use super::{Backend, Columns, Session, Statement};
use crate::{
    Error, MasterKey, Result,
    people::{Profile, Secrets},
    secret::Envelope,
};

/// Writes what a profile says of both directions, and the secrets that are new. Others stay.
pub(super) async fn keep_all<S: Session>(
    tx: &mut S,
    key: &MasterKey,
    profile: &Profile,
    secrets: &Secrets,
) -> Result<()> {
    let both = [
        (Direction::Incoming, Some(&profile.credentials), &secrets.incoming),
        (Direction::Outgoing, profile.outgoing_credentials.as_ref(), &secrets.outgoing),
    ];
    for (direction, credentials, secret) in both {
        let Some(credentials) = credentials else {
            forget(tx, profile.id, direction).await?;
            continue;
        };
        keep(tx, profile.id, direction, credentials).await?;
        if let Some(secret) = secret {
            keep_secret(tx, key, profile, direction, secret).await?;
        } else if profile.credential_source == CredentialSource::Mailbox {
            forget_secret(tx, profile.id, direction).await?;
        }
    }
    Ok(())
}

/// The profile's row has its new revision already: it numbers the secret, also after one that was forgotten.
async fn keep_secret<S: Session>(
    tx: &mut S,
    key: &MasterKey,
    profile: &Profile,
    direction: Direction,
    secret: &SecretString,
) -> Result<()> {
    let numbered = Statement::new(
        "UPDATE credentials SET secret_revision = p.revision FROM profile p
         WHERE p.profile_id = credentials.profile_id AND p.profile_id = ? AND direction = ?
         RETURNING secret_revision",
    );
    let row = tx.the_row(numbered.bind(profile.id).bind(direction.word())).await?;
    let place = place(&profile.org, profile.id, direction, row.number("secret_revision")?);
    let Envelope { key_id, wrapped_key, sealed } = key.seal(&place, secret)?;
    let kept = Statement::new(
        "UPDATE credentials SET key_id = ?, wrapped_key = ?, sealed = ? WHERE profile_id = ? AND direction = ?",
    );
    let kept = kept.bind(key_id).bind(wrapped_key).bind(sealed).bind(profile.id).bind(direction.word());
    tx.run(kept).await?;
    Ok(())
}

pub(super) async fn open<B: Backend>(
    store: &B,
    profile: &Profile,
    direction: Direction,
) -> Result<Option<SecretString>> {
    let wanted = profile.credentials(direction);
    let own = direction == Direction::Outgoing && profile.outgoing_credentials.is_some();
    let direction = if own { Direction::Outgoing } else { Direction::Incoming };
    let found = Statement::new(
        "SELECT * FROM credentials WHERE profile_id = ? AND direction = ?
           AND secret_revision = ? AND authentication = ? AND user_name = ?",
    );
    let found = found.bind(profile.id).bind(direction.word()).bind(wanted.secret_revision);
    let found = found.bind(wanted.authentication.word()).bind(&wanted.user);
    let changed = || Error::refused(Reason::EtagMismatch, "the credentials were changed meanwhile");
    let row = store.read_one(found).await?.ok_or_else(changed)?;
    let Some(envelope) = row.envelope()? else { return Ok(None) };
    let place = place(&profile.org, profile.id, direction, wanted.secret_revision.0);
    store.key().open(&place, &envelope).map(Some)
}

/// Where a secret stands: what its ciphertext is bound to.
fn place(org: &Org, id: ProfileId, direction: Direction, revision: u64) -> String {
    format!("{org}/profile/{id}/{direction}/secret/{revision}")
}

async fn keep<S: Session>(
    tx: &mut S,
    id: ProfileId,
    direction: Direction,
    credentials: &Credentials,
) -> Result<()> {
    let oauth = credentials.oauth.as_ref();
    let kept = Statement::new(
        "INSERT INTO credentials(profile_id, direction, authentication, access, user_name, tenant, client,
           certificate_pem, authority, resource)
         VALUES (?,?,?,?,?,?,?,?,?,?)
         ON CONFLICT (profile_id, direction) DO UPDATE SET authentication=excluded.authentication,
           access=excluded.access, user_name=excluded.user_name, tenant=excluded.tenant, client=excluded.client,
           certificate_pem=excluded.certificate_pem, authority=excluded.authority, resource=excluded.resource",
    );
    let kept = kept
        .bind(id)
        .bind(direction.word())
        .bind(credentials.authentication.word())
        .bind(credentials.access.word())
        .bind(&credentials.user)
        .bind(oauth.map(|oauth| oauth.tenant.as_str()))
        .bind(oauth.map(|oauth| oauth.client.as_str()))
        .bind(oauth.map(|oauth| oauth.certificate_pem.as_str()))
        .bind(oauth.and_then(|oauth| oauth.authority.as_deref()))
        .bind(oauth.and_then(|oauth| oauth.resource.as_deref()));
    tx.run(kept).await?;
    Ok(())
}

/// A secret that nobody signs in with is not kept.
async fn forget_secret<S: Session>(tx: &mut S, id: ProfileId, direction: Direction) -> Result<()> {
    let forgotten = Statement::new(
        "UPDATE credentials SET secret_revision = 0, key_id = NULL, wrapped_key = NULL, sealed = NULL
         WHERE profile_id = ? AND direction = ?",
    );
    tx.run(forgotten.bind(id).bind(direction.word())).await?;
    Ok(())
}

async fn forget<S: Session>(tx: &mut S, id: ProfileId, direction: Direction) -> Result<()> {
    let forgotten = Statement::new("DELETE FROM credentials WHERE profile_id = ? AND direction = ?");
    tx.run(forgotten.bind(id).bind(direction.word())).await?;
    Ok(())
}

/// The query of profiles with what they say of each direction, for [`read`].
macro_rules! select_profiles {
    ($rest:literal) => {
        concat!(
            "SELECT p.*, i.authentication AS i_authentication, i.access AS i_access, i.user_name AS i_user_name,
               i.tenant AS i_tenant, i.client AS i_client, i.certificate_pem AS i_certificate_pem,
               i.authority AS i_authority, i.resource AS i_resource, i.secret_revision AS i_secret_revision,
               o.authentication AS o_authentication, o.access AS o_access, o.user_name AS o_user_name,
               o.tenant AS o_tenant, o.client AS o_client, o.certificate_pem AS o_certificate_pem,
               o.authority AS o_authority, o.resource AS o_resource, o.secret_revision AS o_secret_revision
             FROM profile p
             JOIN credentials i ON i.profile_id = p.profile_id AND i.direction = 'incoming'
             LEFT JOIN credentials o ON o.profile_id = p.profile_id AND o.direction = 'outgoing' ",
            $rest
        )
    };
}
pub(super) use select_profiles;

/// What a row of [`select_profiles`] says of a direction; `None`: nothing of its own.
pub(super) fn read(row: &impl Columns, direction: Direction) -> Result<Option<Credentials>> {
    let prefix = match direction {
        Direction::Incoming => "i_",
        Direction::Outgoing => "o_",
    };
    let column = |name: &str| format!("{prefix}{name}");
    let text = |name: &str| row.text(&column(name));
    let maybe_text = |name: &str| row.maybe_text(&column(name));
    let Some(authentication) = row.maybe_word(&column("authentication"))? else { return Ok(None) };
    let oauth = match maybe_text("client")? {
        None => None,
        Some(client) => Some(OAuth {
            tenant: text("tenant")?,
            client,
            certificate_pem: text("certificate_pem")?,
            authority: maybe_text("authority")?,
            resource: maybe_text("resource")?,
        }),
    };
    Ok(Some(Credentials {
        authentication,
        access: row.word(&column("access"))?,
        user: text("user_name")?,
        oauth,
        secret_revision: Revision(row.number(&column("secret_revision"))?),
    }))
}
