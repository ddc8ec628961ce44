use serde_json::Value;

use super::*;

const NOW: i64 = 1_780_300_800;

/// A change of a token's header and claims.
type Change = fn(&mut Value, &mut Value);

fn issuer() -> Issuer {
    let new = |authority: &str, resource: &str| {
        Issuer::new(1, authority.to_owned(), resource.to_owned(), String::new())
    };
    new("https://login.test", "https://mail.test").expect("an issuer").0
}

/// A token as the issuer signs it, with other claims here and there.
fn token(issuer: &Issuer, change: Change) -> String {
    let Registration { tenant, client, .. } = &issuer.registration;
    let mut header = json!({"alg": "RS256", "kid": issuer.kid});
    let mut claims = json!({
        "aud": "https://mail.test", "iss": issuer.issuer_v1(), "tid": tenant, "appid": client,
        "nbf": NOW, "exp": NOW + 60, "roles": [ROLE],
    });
    change(&mut header, &mut claims);
    jwt::sign(&header, &claims, &issuer.key).expect("a token")
}

#[test]
fn only_fitting_tokens_are_accepted() {
    let issuer = issuer();
    let accepted = |text: &str, now: i64| issuer.accept(text, now * 1000).map(|accepted| accepted.claims_met);
    let good = token(&issuer, |_, _| {});
    for (now, expected) in [
        (NOW, Ok(false)),
        (NOW - TOLERANCE, Ok(false)),
        (NOW - TOLERANCE - 1, Err(TokenError::Token)),
        (NOW + 59, Ok(false)),
        (NOW + 60, Err(TokenError::Expired)),
    ] {
        assert_eq!(accepted(&good, now), expected, "{now}");
    }
    let cases: [(Change, Result<bool, TokenError>); 12] = [
        (|_, claims| claims["aud"] = json!("https://mail.test/"), Ok(false)),
        (|_, claims| claims["aud"] = json!("https://other.test"), Err(TokenError::Resource)),
        (|_, claims| claims["aud"] = Value::Null, Err(TokenError::Resource)),
        (|_, claims| claims["iss"] = json!("https://login.test/"), Err(TokenError::Tenant)),
        (|_, claims| claims["tid"] = json!("other"), Err(TokenError::Tenant)),
        (|_, claims| claims["appid"] = json!("other"), Err(TokenError::Client)),
        (|_, claims| claims["roles"] = json!(["Mail.Read"]), Err(TokenError::Client)),
        (|_, claims| claims["exp"] = Value::Null, Err(TokenError::Token)),
        (|_, claims| claims["claims_met"] = json!(true), Ok(true)),
        (|header, _| header["kid"] = json!("other"), Err(TokenError::Signature)),
        (|header, _| header["alg"] = json!("none"), Err(TokenError::Signature)),
        (|header, _| header["alg"] = json!("PS256"), Err(TokenError::Signature)),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(accepted(&token(&issuer, change), NOW), expected, "{number}");
    }
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    for (broken, error) in [
        ("", TokenError::Token),
        ("a.b.c", TokenError::Token),
        (&format!("{signed}."), TokenError::Signature),
    ] {
        assert_eq!(accepted(broken, NOW), Err(error), "{broken}");
    }
    let others = token(&super::tests::issuer(), |_, _| {});
    assert_eq!(accepted(&others, NOW), Err(TokenError::Signature), "the same words by another key");
}

#[test]
fn ids_follow_from_the_seed() {
    let id = guid(1, "tenant");
    assert_eq!((id.len(), id.matches('-').count(), id.as_bytes()[14]), (36, 4, b'4'));
    assert_eq!(id, guid(1, "tenant"));
    assert!(id != guid(2, "tenant") && id != guid(1, "client"));
}
