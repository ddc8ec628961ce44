//! What a server says when it asks for a token, or for another one (RFC 6750 3, MS-OAUTH2EX diagnostics).

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use mailyard_policy::{Reason, outbox::Execution};

use crate::{Endpoint, Failure, http1::Challenge};

/// No claims are longer.
const LONGEST_CLAIMS: usize = 4 << 10;
/// What is told of a text of others; characters.
const LONGEST_TEXT: usize = 200;
/// A longer word may be a token, and means nothing to people.
const LONGEST_WORD: usize = 48;

/// A token was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub failure: Failure,
    pub remedy: Remedy,
}

/// What may help against a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Another token.
    Renew,
    /// Another token with these claims (JSON).
    Claims(String),
    /// Nothing, at once; the next token may be a better one.
    People,
    /// Time: there is nothing wrong with the token.
    Wait,
}

/// Where tokens are issued, as the server names it: an origin. Only https counts.
pub(crate) fn authority(challenge: &Challenge) -> Option<String> {
    let uri = parameter(&challenge.data, "authorization_uri")?;
    let endpoint = Endpoint::parse(&uri, false).ok()?;
    Some(format!("https://{}", endpoint.authority()))
}

/// Reads why a server refuses a token. Exchange tells it by a number in a header of its own.
pub(crate) fn refusal(challenge: &Challenge, diagnostics: Option<&str>) -> Refusal {
    let diagnostics = diagnostics.unwrap_or_default();
    let (number, rest) = diagnostics.split_once(';').unwrap_or((diagnostics, ""));
    let number = number.trim().strip_prefix("20000").and_then(|last| last.parse::<u8>().ok());
    let error = parameter(&challenge.data, "error").unwrap_or_default();
    let description = parameter(rest, "reason")
        .or_else(|| parameter(&challenge.data, "error_description"))
        .unwrap_or_default();
    let claims = parameter(&challenge.data, "claims").and_then(|claims| decoded(&claims));
    let audience = description.to_ascii_lowercase().contains("audience");
    let (reason, remedy) = match (number, error.as_str(), claims) {
        (_, "insufficient_claims", Some(claims)) => (Reason::ProfileTokenClaims, Remedy::Claims(claims)),
        (_, "insufficient_claims", None) | (Some(8), ..) => (Reason::ProfileTokenClaims, Remedy::People),
        (Some(2), ..) => (Reason::ProfileTokenNotAccepted, Remedy::Renew),
        (Some(7), ..) => (Reason::ExchangeUnavailable, Remedy::Wait),
        (Some(0 | 4..=6), ..) => (Reason::ProfileTokenNotAccepted, Remedy::People),
        (Some(3), ..) | (_, "invalid_resource" | "invalid_audience", _) => {
            (Reason::ProfileTokenAudience, Remedy::People)
        }
        _ if audience => (Reason::ProfileTokenAudience, Remedy::People),
        (_, "invalid_token" | "", _) => (Reason::ProfileTokenNotAccepted, Remedy::Renew),
        _ => (Reason::ProfileTokenNotAccepted, Remedy::People),
    };
    let category = parameter(rest, "error_category").or_else(|| parameter(rest, "error_type"));
    let told = [number.map(|number| (2_000_000 + u32::from(number)).to_string()), category, Some(error)];
    let told: Vec<String> =
        told.into_iter().flatten().chain([description]).map(|text| shortened(&text)).collect();
    let told: Vec<String> = told.into_iter().filter(|text| !text.is_empty()).collect();
    let told = if told.is_empty() { "it does not say why".to_owned() } else { told.join(", ") };
    let failure = Failure {
        code: Some("HTTP 401".into()),
        ..Failure::new(reason, Execution::Not, format!("the server did not accept the token: {told}"))
    };
    Refusal { failure, remedy }
}

/// A text of others as it may be told: one line, not long, and nothing in it that may be a secret or an address.
pub(crate) fn shortened(text: &str) -> String {
    let word = |word: &str| -> String {
        if word.len() > LONGEST_WORD || word.contains('@') {
            return "…".to_owned();
        }
        word.chars().filter(|letter| !letter.is_control()).collect()
    };
    let line: Vec<String> = text.split_whitespace().map(word).collect();
    let line = line.join(" ");
    match line.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// A parameter of a challenge: a word, or a text in quotes.
fn parameter(data: &str, name: &str) -> Option<String> {
    let mut rest = data;
    loop {
        rest = rest.trim_start_matches([',', ';', ' ', '\t']);
        let (found, behind) = rest.split_once('=')?;
        let (value, behind) = value(behind.trim_start());
        if found.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return (word.trim_end().to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}

/// Claims as JSON: they come in base64 of either alphabet, or as they are.
fn decoded(claims: &str) -> Option<String> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engines = [alphabet::STANDARD, alphabet::URL_SAFE].map(|it| GeneralPurpose::new(&it, lenient));
    let plain = engines.iter().find_map(|engine| String::from_utf8(engine.decode(claims).ok()?).ok());
    let plain = plain.unwrap_or_else(|| claims.to_owned());
    let is_object = serde_json::from_str::<serde_json::Value>(&plain).is_ok_and(|value| value.is_object());
    (is_object && plain.len() <= LONGEST_CLAIMS).then_some(plain)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1???>"}}}"#;

    fn challenge(data: &str) -> Challenge {
        Challenge { scheme: "Bearer".to_owned(), data: data.to_owned() }
    }

    #[test]
    fn the_authority_is_an_origin_that_proves_itself() {
        for (data, expected) in [
            (
                "client_id=\"00000002-0000-0ff1-ce00-000000000000\", trusted_issuers=\"1@*\", \
                 authorization_uri=\"https://login.example/common/oauth2/authorize\", error=\"invalid_token\"",
                Some("https://login.example"),
            ),
            ("Authorization_URI = https://login.example:8443/x", Some("https://login.example:8443")),
            ("authorization_uri=\"http://login.example/common\"", None),
            ("authorization_uri=\"https://me:secret@login.example/\"", None),
            ("authorization_uri=\"\"", None),
            ("authorization_uri", None),
            ("realm=\"authorization_uri=https://a.example\"", None),
            ("", None),
        ] {
            assert_eq!(authority(&challenge(data)).as_deref(), expected, "{data}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        use Reason::{
            ExchangeUnavailable, ProfileTokenAudience as Audience, ProfileTokenClaims as Claims,
            ProfileTokenNotAccepted as NotAccepted,
        };
        let given = |it: &str| format!("error=\"insufficient_claims\", claims=\"{it}\"");
        let renew = "error=\"invalid_token\"";
        let cases = [
            (renew.to_owned(), None, NotAccepted, Remedy::Renew),
            (String::new(), None, NotAccepted, Remedy::Renew),
            (
                renew.to_owned(),
                Some("2000002;reason=\"The token has expired.\";error_category=\"token_expired\""),
                NotAccepted,
                Remedy::Renew,
            ),
            (
                renew.to_owned(),
                Some("2000003;reason=\"x\";error_category=\"invalid_resource\""),
                Audience,
                Remedy::People,
            ),
            (renew.to_owned(), Some("2000001;reason=\"The audience is wrong\""), Audience, Remedy::People),
            (renew.to_owned(), Some("2000000;reason=\"x\""), NotAccepted, Remedy::People),
            (renew.to_owned(), Some("2000006"), NotAccepted, Remedy::People),
            (renew.to_owned(), Some("2000007;reason=\"oops\""), ExchangeUnavailable, Remedy::Wait),
            (renew.to_owned(), Some("2000008;reason=\"x\""), Claims, Remedy::People),
            (renew.to_owned(), Some("nonsense;;=\""), NotAccepted, Remedy::Renew),
            (
                "error=invalid_token, error_description=\"invalid audience\"".to_owned(),
                None,
                Audience,
                Remedy::People,
            ),
            ("error=\"insufficient_scope\"".to_owned(), None, NotAccepted, Remedy::People),
            (given(&STANDARD.encode(CLAIMS)), None, Claims, Remedy::Claims(CLAIMS.to_owned())),
            (given(&URL_SAFE_NO_PAD.encode(CLAIMS)), None, Claims, Remedy::Claims(CLAIMS.to_owned())),
            (given(&CLAIMS.replace('"', "\\\"")), None, Claims, Remedy::Claims(CLAIMS.to_owned())),
            (given("bm9uc2Vuc2U="), None, Claims, Remedy::People),
            (
                given(&STANDARD.encode(format!("{{\"a\":\"{}\"}}", "x".repeat(5000)))),
                None,
                Claims,
                Remedy::People,
            ),
            ("error=\"insufficient_claims\"".to_owned(), None, Claims, Remedy::People),
        ];
        for (data, diagnostics, reason, remedy) in cases {
            let found = refusal(&challenge(&data), diagnostics);
            assert_eq!((found.failure.reason, found.remedy), (reason, remedy), "{data} {diagnostics:?}");
            assert!(!found.failure.detail.contains("xxxxx"), "{}", found.failure);
        }
        let told = refusal(
            &challenge(renew),
            Some(
                "2000006;reason=\"The client of anna@example.org\n is unknown.\";error_category=\"invalid_client\"",
            ),
        );
        assert_eq!(
            &*told.failure.detail,
            "the server did not accept the token: 2000006, invalid_client, invalid_token, The client of … is unknown."
        );
    }

    #[test]
    fn texts_of_others_are_shortened() {
        let token = "eyJhbGciOiJSUzI1NiJ9.".repeat(4);
        for (text, expected) in [
            ("a  b\r\nc\u{7}", "a b c".to_owned()),
            (token.as_str(), "…".to_owned()),
            (&"ab ".repeat(100), format!("{}…", "ab ".repeat(67).get(..200).unwrap_or_default())),
        ] {
            assert_eq!(shortened(text), expected, "{text}");
        }
    }
}
