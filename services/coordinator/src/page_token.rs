//! Pages of lists: how large they are, and the opaque token that leads from one to the next.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mailyard_policy::Reason;
use mailyard_store::query::Page;
use sha2::{Digest as _, Sha256};

/// Rows of a page if the caller does not say how many.
pub const DEFAULT_SIZE: u32 = 50;
/// Rows of a page at the most; a caller that asks for more gets this many.
pub const MAX_SIZE: u32 = 1000;

const VERSION: u8 = 1;
const TAG: usize = 16;
const LONGEST: usize = 4096;

/// The page size or the page token of a list call is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct PageError {
    /// `PAGE_TOKEN_INVALID` or `FIELD_INVALID`.
    pub reason: Reason,
    /// The field of the request.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub detail: &'static str,
}

/// What all pages of one list have in common: the call and the arguments that decide about its rows and their order.
/// The page size is not one of them.
#[derive(Clone)]
pub struct Listing(Sha256);

impl Listing {
    /// Of this call (such as `ListMailboxes`) with these arguments (parent, filter, order …).
    pub fn new(call: &str, arguments: &[&str]) -> Self {
        let mut hash = Sha256::new_with_prefix([VERSION]);
        for part in [call].iter().chain(arguments) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash)
    }

    /// The page that a caller asks for. A size of 0 means [`DEFAULT_SIZE`], an empty token the first page.
    pub fn page(&self, size: i32, token: &str) -> Result<Page, PageError> {
        let size = u32::try_from(size).map_err(|_| PageError {
            reason: Reason::FieldInvalid,
            field: "page_size",
            detail: "it is negative; 0 means the default",
        })?;
        let limit = if size == 0 { DEFAULT_SIZE } else { size.min(MAX_SIZE) };
        let after = if token.is_empty() { None } else { Some(self.position(token)?) };
        Ok(Page { after, limit })
    }

    /// The token of the page that begins after the row with this key, as the store orders them.
    pub fn token(&self, last: &str) -> String {
        let bytes = [&[VERSION], self.tag(last).as_slice(), last.as_bytes()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn position(&self, token: &str) -> Result<String, PageError> {
        let invalid = |detail| PageError { reason: Reason::PageTokenInvalid, field: "page_token", detail };
        let broken = || invalid("it was not made by this server or was cut; start again without a token");
        if token.len() > LONGEST {
            return Err(broken());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| broken())?;
        let (version, rest) = bytes.split_first().ok_or_else(broken)?;
        if *version != VERSION {
            return Err(invalid("it comes from another version of Mailyard; start again without a token"));
        }
        let (tag, last) = rest.split_at_checked(TAG).ok_or_else(broken)?;
        let last = str::from_utf8(last).map_err(|_| broken())?;
        if tag != self.tag(last) {
            return Err(invalid(
                "it belongs to a call with other arguments; keep parent, filter and order from page to page, \
                 or start again without a token",
            ));
        }
        Ok(last.to_owned())
    }

    /// Binds the position to the call. It finds mistakes, not malice: a position gives no right to read anything.
    fn tag(&self, last: &str) -> [u8; TAG] {
        let digest = self.0.clone().chain_update(last).finalize();
        let mut tag = [0; TAG];
        tag.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        tag
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listing() -> Listing {
        Listing::new("ListMailboxes", &["organizations/default", "state = failing", ""])
    }

    #[test]
    fn sizes_are_coerced() {
        for (asked, expected) in [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
            assert_eq!(listing().page(asked, ""), Ok(Page { after: None, limit: expected }));
        }
        let error = listing().page(-1, "").expect_err("negative");
        assert_eq!((error.reason, error.field), (Reason::FieldInvalid, "page_size"));
    }

    #[test]
    fn a_token_of_another_call_is_refused() {
        let token = listing().token("a@b.test");
        for (call, arguments) in [
            ("ListEmails", ["organizations/default", "state = failing", ""]),
            ("ListMailboxes", ["organizations/other", "state = failing", ""]),
            ("ListMailboxes", ["organizations/default", "state = ok", ""]),
            ("ListMailboxes", ["organizations/default", "state = failing", "address desc"]),
            ("ListMailboxes", ["organizations/default", "", "state = failing"]),
        ] {
            let error = Listing::new(call, &arguments).page(0, &token).expect_err(call);
            assert_eq!(error.reason, Reason::PageTokenInvalid);
            assert!(error.detail.contains("other arguments"), "{error}");
        }
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let token = listing().token("a@b.test");
        let future = URL_SAFE_NO_PAD.encode([&[VERSION + 1], [7; 40].as_slice()].concat());
        let (long, cut) = ("A".repeat(LONGEST + 1), &token[..8]);
        for bad in
            ["!", "A", &long, cut, &format!("{token}="), &token[1..], &future, &token[..token.len() - 4]]
        {
            let error = listing().page(0, bad).expect_err(bad);
            assert_eq!((error.reason, error.field), (Reason::PageTokenInvalid, "page_token"), "{bad}");
            assert_eq!(error.detail.contains("another version"), bad == future, "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_position_comes_back(last in ".{0,300}", size in 1..1000_i32) {
            let token = listing().token(&last);
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            let expected = Page { after: Some(last), limit: size as u32 };
            prop_assert_eq!(listing().page(size, &token), Ok(expected));
        }
    }
}
