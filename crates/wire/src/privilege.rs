//! Which privilege each method asks for, as the protocol files say.

use crate::admin::Privilege;

/// Every public method with its privilege.
pub const PRIVILEGES: &[(&str, Privilege)] = &include!(concat!(env!("OUT_DIR"), "/privileges.rs"));

/// The privilege that a caller of this path must hold; `None`: there is no such public method.
pub fn of(path: &str) -> Option<Privilege> {
    PRIVILEGES.iter().find(|(known, _)| *known == path).map(|(_, privilege)| *privilege)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_method_names_one() {
        assert!(PRIVILEGES.len() > 25, "{}", PRIVILEGES.len());
        assert!(PRIVILEGES.iter().all(|(_, privilege)| *privilege != Privilege::Unspecified));
        let method = "/mailyard.admin.v1.MailboxService/DecideApproval";
        assert_eq!(of(method), Some(Privilege::MailboxApprove));
        assert_eq!(of("/mailyard.records.v1.EmailService/EnqueueEmail"), Some(Privilege::EmailSend));
        assert_eq!(of("/mailyard.cluster.v1.SessionService/Session"), None);
    }
}
