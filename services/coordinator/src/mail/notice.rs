//! The text of the mail that tells a profile's owner how many of its mailboxes are failing.

use std::fmt::Write as _;

use mailyard_policy::{Reason, Timestamp, alert::ratio::Counts};

/// So many reasons are explained; the others are only counted.
const EXPLAINED: usize = 5;

/// A profile whose failure ratio is high: what its owner is told.
#[derive(Clone, Debug)]
pub struct RatioNotice<'a> {
    /// The profile's display name.
    pub profile: &'a str,
    /// Its mailboxes.
    pub counts: Counts,
    /// The limit that is exceeded, in hundredths.
    pub threshold_percent: u8,
    /// When the alert opened.
    pub opened: Timestamp,
    /// When the mailboxes were counted: no two mails about one alert are the same.
    pub counted: Timestamp,
    /// The owner was mailed about this alert before.
    pub reminder: bool,
    /// Why mailboxes fail, and how many for each reason, in any order.
    pub reasons: &'a [(Reason, u64)],
}

impl RatioNotice<'_> {
    /// The subject and the plain text, lines of which end in LF.
    pub fn write(&self) -> (String, String) {
        let name = self.profile.replace(char::is_control, " ");
        let still = if self.reminder { "still " } else { "" };
        let share = self.share();
        let subject = format!("Mailyard: {share} of the mailboxes of {name} are {still}failing");
        let mut body = format!(
            "{share} of the mailboxes of the email server profile \"{name}\" are {still}failing: {} of {}.\n\
             The limit is {} %. The alert opened at {}; the mailboxes were counted at {} (UTC).\n",
            self.counts.failing(),
            self.counts.eligible,
            self.threshold_percent,
            self.opened,
            self.counted
        );
        if self.counts.held_back {
            body.push_str(
                "\nMailyard holds all mailboxes of this profile back, because the fault lies with the server or the\n\
                 service account. It tries single mailboxes and goes on by itself when they succeed.\n",
            );
        }
        self.write_reasons(&mut body);
        self.write_commands(&name, &mut body);
        body.push_str(
            "\nYou receive this mail as the owner of the profile. It is sent once when the limit is exceeded, and\n\
             again from time to time while that lasts.\n",
        );
        (subject, body)
    }

    /// Never shows a share above the limit as equal to it.
    fn share(&self) -> String {
        let (failing, eligible) =
            (u128::from(self.counts.failing()), u128::from(self.counts.eligible.max(1)));
        let (tenths, rest) = (failing * 1000 / eligible, failing * 1000 % eligible);
        let over = if rest > 0 && tenths == u128::from(self.threshold_percent) * 10 { "over " } else { "" };
        match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{over}{whole} %"),
            (whole, tenth) => format!("{over}{whole}.{tenth} %"),
        }
    }

    fn by_frequency(&self) -> Vec<(Reason, u64)> {
        let mut reasons = self.reasons.to_vec();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), reason.code()));
        reasons
    }

    fn write_reasons(&self, body: &mut String) {
        let reasons = self.by_frequency();
        if reasons.is_empty() {
            return;
        }
        body.push_str("\nMost frequent reasons:\n");
        for (reason, count) in reasons.iter().take(EXPLAINED) {
            let entry = reason.entry();
            let _ = write!(
                body,
                "\n  {}: {}\n    {}.\n    What to do: {}\n",
                entry.code,
                mailboxes(*count),
                entry.title,
                entry.remedy
            );
        }
        let others = reasons.get(EXPLAINED..).unwrap_or_default();
        if !others.is_empty() {
            let codes: Vec<&str> = others.iter().map(|(reason, _)| reason.code()).collect();
            let count = others.iter().map(|(_, count)| count).sum();
            let _ = write!(body, "\n  {} for other reasons: {}\n", mailboxes(count), codes.join(", "));
        }
    }

    fn write_commands(&self, name: &str, body: &mut String) {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        let filter = shell_word(&format!("profile = \"{quoted}\" AND state = \"failing\""));
        let _ = write!(
            body,
            "\nHow to look:\n\n  mailyard profile test {}\n  mailyard mailbox list --filter {filter}\n  mailyard alert list\n",
            shell_word(name)
        );
        if let Some((reason, _)) = self.by_frequency().first() {
            let _ = writeln!(body, "  mailyard explain {reason}");
        }
    }
}

fn mailboxes(count: u64) -> String {
    if count == 1 { "1 mailbox".to_owned() } else { format!("{count} mailboxes") }
}

/// One argument of a POSIX shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(failing: u64, eligible: u64, reasons: &[(Reason, u64)]) -> RatioNotice<'_> {
        RatioNotice {
            profile: "Contoso",
            counts: Counts { eligible, failing, held_back: false },
            threshold_percent: 50,
            opened: Timestamp::from_millis(1_772_366_400_250),
            counted: Timestamp::from_millis(1_772_366_460_000),
            reminder: false,
            reasons,
        }
    }

    #[test]
    fn the_mail_tells_numbers_reasons_remedies_and_commands() {
        let reasons = [(Reason::MailboxNotFoundOnServer, 1), (Reason::MailboxUnavailable, 649)];
        let (subject, body) = notice(650, 1204, &reasons).write();
        assert_eq!(subject, "Mailyard: 53.9 % of the mailboxes of Contoso are failing");
        let (first, second) = (Reason::MailboxUnavailable.entry(), Reason::MailboxNotFoundOnServer.entry());
        let expected = format!(
            "53.9 % of the mailboxes of the email server profile \"Contoso\" are failing: 650 of 1204.\n\
             The limit is 50 %. The alert opened at 2026-03-01T12:00:00.250Z; \
             the mailboxes were counted at 2026-03-01T12:01:00.000Z (UTC).\n\
             \nMost frequent reasons:\n\
             \n  MAILBOX_UNAVAILABLE: 649 mailboxes\n    {}.\n    What to do: {}\n\
             \n  MAILBOX_NOT_FOUND_ON_SERVER: 1 mailbox\n    {}.\n    What to do: {}\n\
             \nHow to look:\n\
             \n  mailyard profile test 'Contoso'\n\
             \x20 mailyard mailbox list --filter 'profile = \"Contoso\" AND state = \"failing\"'\n\
             \x20 mailyard alert list\n\
             \x20 mailyard explain MAILBOX_UNAVAILABLE\n\
             \nYou receive this mail as the owner of the profile. It is sent once when the limit is exceeded, and\n\
             again from time to time while that lasts.\n",
            first.title, first.remedy, second.title, second.remedy
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn a_share_above_the_limit_is_never_shown_as_the_limit() {
        for (failing, eligible, expected) in [
            (1, 1, "100 %"),
            (2, 3, "66.6 %"),
            (51, 100, "51 %"),
            (10_001, 20_000, "over 50 %"),
            (5_011, 10_000, "50.1 %"),
            (0, 0, "0 %"),
        ] {
            assert_eq!(notice(failing, eligible, &[]).share(), expected, "{failing} of {eligible}");
        }
    }

    #[test]
    fn a_profile_that_is_held_back_counts_whole_and_says_so() {
        let mut notice = notice(3, 10, &[(Reason::ProfileConnectFailed, 10)]);
        notice.counts.held_back = true;
        notice.reminder = true;
        let (subject, body) = notice.write();
        assert_eq!(subject, "Mailyard: 100 % of the mailboxes of Contoso are still failing");
        assert!(body.contains("holds all mailboxes of this profile back"), "{body}");
    }

    #[test]
    fn rare_reasons_are_counted_together() {
        let reasons: Vec<(Reason, u64)> =
            Reason::catalogue().iter().take(8).zip(1..).map(|(entry, count)| (entry.reason, count)).collect();
        let (_, body) = notice(36, 36, &reasons).write();
        assert_eq!(body.matches("What to do").count(), EXPLAINED);
        assert!(body.contains("\n  6 mailboxes for other reasons: "), "{body}");
    }

    #[test]
    fn a_hostile_name_stays_one_line_and_one_argument() {
        let notice = RatioNotice { profile: "a'b\"\r\nBcc: x@y.test\\", ..notice(1, 1, &[]) };
        let (subject, body) = notice.write();
        assert!(!subject.contains(char::is_control), "{subject}");
        assert!(body.contains(r#"--filter 'profile = "a'\''b\"  Bcc: x@y.test\\" AND state"#), "{body}");
    }
}
