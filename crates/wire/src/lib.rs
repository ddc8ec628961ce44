//! The protocols on the wire: generated messages, their conversions to the core's words, and how failures are told.

pub mod convert;
pub mod name;
pub mod privilege;
pub mod status;

pub use mailyard_policy::reason;
pub use prost_types::{Duration, FieldMask, Timestamp};

/// The API for people and their programs.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/mailyard.admin.v1.rs"));
}

/// The API for the CRM.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod records {
    include!(concat!(env!("OUT_DIR"), "/mailyard.records.v1.rs"));
}

/// Between coordinator and worker.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod cluster {
    include!(concat!(env!("OUT_DIR"), "/mailyard.cluster.v1.rs"));
}

// The text of messages with fields that `debug_redact` is said of.
include!(concat!(env!("OUT_DIR"), "/debug.rs"));

/// What is told of a secret.
fn secret(is_empty: bool) -> std::fmt::Arguments<'static> {
    if is_empty { format_args!("\"\"") } else { format_args!("[redacted]") }
}

/// The protocol files as a compiled set, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The versions of the session protocol that this build speaks, from and to.
pub const SESSION_PROTOCOL: (u32, u32) = (1, 1);

/// Largest message that a server or client takes: an import of 100,000 mailboxes, an email with its attachments.
pub const LARGEST_MESSAGE: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Gr\u{fc}nkohl-1";

    #[test]
    fn no_text_of_a_message_holds_a_secret() {
        let profile = |secret: &str| admin::Profile {
            display_name: "Main".to_owned(),
            credentials: Some(admin::Credentials {
                authentication: admin::Authentication::Oauth.into(),
                password: secret.to_owned(),
                oauth: Some(admin::OAuth { certificate_pem: secret.to_owned(), ..Default::default() }),
                ..Default::default()
            }),
            ..admin::Profile::default()
        };
        let request = admin::CreateProfileRequest { profile: Some(profile(SECRET)), ..Default::default() };
        for text in
            [format!("{request:?}"), format!("{request:#?}"), format!("{:?}", tonic::Request::new(request))]
        {
            assert!(!text.contains(SECRET), "{text}");
            for told in ["display_name: \"Main\"", "authentication: Oauth", "password: [redacted]"] {
                assert!(text.contains(told), "{told}: {text}");
            }
            assert!(text.contains("certificate_pem: [redacted]"), "{text}");
        }
        let own = admin::MailboxCredentials { password: SECRET.to_owned(), ..Default::default() };
        let text = format!("{:?}", admin::Mailbox { credentials: Some(own), ..Default::default() });
        assert!(!text.contains(SECRET) && text.contains("password: [redacted]"), "{text}");
        let text = format!("{:?}", profile(""));
        assert!(text.contains("password: \"\"") && text.contains("certificate_pem: \"\""), "{text}");
    }

    /// Whoever adds a field whose name speaks of a secret says `debug_redact` of it.
    #[test]
    fn every_secret_of_the_protocol_is_redacted() {
        let set: prost_types::FileDescriptorSet = prost::Message::decode(DESCRIPTORS).unwrap_or_default();
        let ours = set.file.iter().filter(|file| file.package().starts_with("mailyard."));
        let fields = ours.flat_map(|file| &file.message_type).flat_map(|message| &message.field);
        let text = prost_types::field_descriptor_proto::Type::String;
        let secrets: Vec<&str> = fields
            .filter(|field| field.r#type() == text)
            .map(prost_types::FieldDescriptorProto::name)
            .filter(|name| {
                ["password", "secret", "credential", "certificate_pem"].iter().any(|word| name.contains(word))
            })
            .collect();
        assert_eq!(secrets, ["password", "password", "certificate_pem"], "the first test knows all of them");
    }
}
