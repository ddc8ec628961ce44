//! What becomes of answers, right ones and hostile ones.

use mailyard_policy::Reason;
use proptest::{collection::vec, prelude::*};

use super::{
    answer::{Answer, Found},
    candidate, json, pox, soap,
};
use crate::{Endpoint, codec};

/// What an answer says, in one line.
fn said(answer: Result<Answer, crate::Failure>) -> String {
    match answer {
        Ok(Answer::Found(Found { urls, grouping, version })) => {
            let version = version.map(|version| format!(" {version}")).unwrap_or_default();
            let grouping = grouping.map(|grouping| format!(" {grouping}")).unwrap_or_default();
            format!("found {}{grouping}{version}", urls.join(" "))
        }
        Ok(Answer::Url(url)) => format!("url {url}"),
        Ok(Answer::Address(address)) => format!("address {address}"),
        Ok(Answer::Refused(failure)) => format!("refused {}", failure.reason),
        Ok(other) => format!("{other:?}"),
        Err(failure) => format!("{}", failure.reason),
    }
}

fn envelope(body: &str) -> String {
    format!(
        r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:x="urn:else"><s:Header><x:Action>y</x:Action></s:Header><s:Body>{body}</s:Body></s:Envelope>"#
    )
}

fn message(code: &str, user: &str) -> String {
    envelope(&format!(
        r#"<GetUserSettingsResponseMessage xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover"><Response><ErrorCode>{code}</ErrorCode><ErrorMessage/><UserResponses><UserResponse>{user}</UserResponse></UserResponses></Response></GetUserSettingsResponseMessage>"#
    ))
}

fn settings(pairs: &[(&str, &str)]) -> String {
    let setting = |(name, value): &(&str, &str)| {
        format!("<UserSetting><Name>{name}</Name><Value>{value}</Value></UserSetting>")
    };
    let all: String = pairs.iter().map(setting).collect();
    message("NoError", &format!("<ErrorCode>NoError</ErrorCode><UserSettings>{all}</UserSettings>"))
}

#[test]
fn answers_of_soap_are_read() {
    let user = |code: &str, target: &str| {
        message("NoError", &format!("<ErrorCode>{code}</ErrorCode><RedirectTarget>{target}</RedirectTarget>"))
    };
    for (document, expected) in [
        (
            settings(&[
                ("InternalEwsUrl", "https://i/"),
                ("ExternalEwsUrl", "https://e/?a&amp;b"),
                ("GroupingInformation", "Default-First"),
                ("CasVersion", "15.02.1544.004"),
                ("Unknown", "x"),
            ]),
            "found https://e/?a&b https://i/ Default-First 15.2.1544.4",
        ),
        (settings(&[("InternalEwsUrl", "https://i/"), ("CasVersion", "new")]), "found https://i/"),
        (settings(&[("ExternalEwsUrl", "")]), "MAILBOX_LOCATION_UNKNOWN"),
        (user("RedirectAddress", "b@example.net"), "address b@example.net"),
        (
            user("RedirectUrl", "https://b/autodiscover/autodiscover.svc"),
            "url https://b/autodiscover/autodiscover.svc",
        ),
        (user("InvalidUser", ""), "refused MAILBOX_NOT_FOUND_ON_SERVER"),
        (user("InternalServerError", ""), "EXCHANGE_5XX"),
        (user("InvalidDomain", ""), "MAILBOX_LOCATION_UNKNOWN"),
        (message("ServerBusy", ""), "refused EXCHANGE_SERVER_BUSY"),
        (message("InvalidRequest", ""), "MAILBOX_LOCATION_UNKNOWN"),
        (envelope("<s:Fault><faultcode>a:InternalServiceFault</faultcode></s:Fault>"), "EXCHANGE_5XX"),
        (envelope(""), "EWS_PROTOCOL_ERROR"),
        ("<a/>".to_owned(), "EWS_PROTOCOL_ERROR"),
        ("<html><body/></html>".to_owned(), "PROFILE_ANSWER_NOT_EWS"),
        ("\n<!DOCTYPE html><html/>".to_owned(), "PROFILE_ANSWER_NOT_EWS"),
        (r#"<!DOCTYPE x [<!ENTITY a "b">]>"#.to_owned() + &settings(&[]), "EWS_PROTOCOL_ERROR"),
        (settings(&[("ExternalEwsUrl", "&evil;")]), "EWS_PROTOCOL_ERROR"),
        (message("<a>".repeat(100).as_str(), ""), "EWS_PROTOCOL_ERROR"),
        (settings(&[])[..200].to_owned(), "EWS_PROTOCOL_ERROR"),
        (settings(&[]).replace("2010/Autodiscover", "2010/Other"), "EWS_PROTOCOL_ERROR"),
    ] {
        assert_eq!(said(soap::read(&document)), expected, "{document}");
    }
}

#[test]
fn answers_of_pox_are_read() {
    let answer = |content: &str| {
        format!(
            r#"<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><User/>{content}</Response></Autodiscover>"#
        )
    };
    let protocol = |kind: &str, urls: &str| format!("<Protocol><Type>{kind}</Type>{urls}</Protocol>");
    let account =
        |content: &str| answer(&format!("<Account><AccountType>email</AccountType>{content}</Account>"));
    let (internal, external) = ("<EwsUrl>https://i/</EwsUrl>", "<EwsUrl>https://e/</EwsUrl>");
    let version = "<ServerVersion>738180DA</ServerVersion>";
    for (document, expected) in [
        (
            account(&format!(
                "<Action>settings</Action>{}{}{}",
                protocol("EXCH", &format!("{internal}{version}")),
                protocol("WEB", "<EwsUrl>https://w/</EwsUrl>"),
                protocol("EXPR", external)
            )),
            "found https://e/ https://i/ 14.1.218.0",
        ),
        (
            account(&(protocol("EXCH", internal) + &protocol("EXHTTP", "<ASUrl>https://h/</ASUrl>"))),
            "found https://h/ https://i/",
        ),
        (account(&protocol("EXPR", "<EwsUrl/>")), "MAILBOX_LOCATION_UNKNOWN"),
        (
            account(&protocol("EXCH", &format!("{internal}<ServerVersion>xyz</ServerVersion>"))),
            "found https://i/",
        ),
        (
            account("<Action>redirectAddr</Action><RedirectAddr>b@example.net</RedirectAddr>"),
            "address b@example.net",
        ),
        (
            account(
                "<Action>redirectUrl</Action><RedirectUrl>https://b/autodiscover/autodiscover.xml</RedirectUrl>",
            ),
            "url https://b/autodiscover/autodiscover.xml",
        ),
        (
            answer(r#"<Error Time="1" Id="2"><ErrorCode>500</ErrorCode></Error>"#),
            "refused MAILBOX_NOT_FOUND_ON_SERVER",
        ),
        (answer("<Error><ErrorCode>600</ErrorCode></Error>"), "MAILBOX_LOCATION_UNKNOWN"),
        (answer("<Error/>"), "MAILBOX_LOCATION_UNKNOWN"),
        (answer("").replace("outlook/responseschema", "mobilesync/responseschema"), "EWS_PROTOCOL_ERROR"),
        ("<Autodiscover/>".to_owned(), "EWS_PROTOCOL_ERROR"),
        ("<html/>".to_owned(), "PROFILE_ANSWER_NOT_EWS"),
        (String::new(), "EWS_PROTOCOL_ERROR"),
        (account(&"<Protocol>".repeat(100)), "EWS_PROTOCOL_ERROR"),
    ] {
        assert_eq!(said(pox::read(&document)), expected, "{document}");
    }
}

#[test]
fn answers_in_json_are_read() {
    let deep = "[".repeat(100_000);
    for (document, expected) in [
        (r#"{"Protocol":"Ews","Url":"https://e/EWS/Exchange.asmx"}"#, "found https://e/EWS/Exchange.asmx"),
        (r#"{"protocol":"Ews","url":"https://e/"}"#, "EWS_PROTOCOL_ERROR"),
        (r#"{"Protocol":"REST","Url":"https://e/"}"#, "EWS_PROTOCOL_ERROR"),
        (r#"{"Protocol":"Ews","Url":5}"#, "EWS_PROTOCOL_ERROR"),
        (r#"{"ErrorCode":"ProtocolNotSupported","ErrorMessage":"x"}"#, "MAILBOX_LOCATION_UNKNOWN"),
        ("<html/>", "EWS_PROTOCOL_ERROR"),
        ("", "EWS_PROTOCOL_ERROR"),
        (&deep, "EWS_PROTOCOL_ERROR"),
    ] {
        let shown = document.get(..document.len().min(100)).unwrap_or_default();
        assert_eq!(said(json::read(document.as_bytes())), expected, "{shown}");
    }
    assert_eq!(
        json::path("/a.json", "o'b+c/d?@example.org"),
        "/a.json/v1.0/o%27b%2Bc%2Fd%3F@example.org?Protocol=Ews"
    );
    assert_eq!(json::path("/a.json?Email=x", "y@example.org"), "/a.json?Email=x");
}

#[test]
fn what_is_written_is_well_formed() {
    let address = "a&b<\"c@example.org";
    for (written, escaped) in [
        (
            soap::write("https://example.org/autodiscover/autodiscover.svc", address),
            "<a:Mailbox>a&amp;b&lt;&quot;c@example.org</a:Mailbox>",
        ),
        (pox::write(address), "<EMailAddress>a&amp;b&lt;&quot;c@example.org</EMailAddress>"),
    ] {
        let text = String::from_utf8(written).unwrap_or_default();
        assert!(text.contains(escaped), "{text}");
        // Our own reader goes through to the end of it, although it knows none of the elements.
        let mut reader = codec::Reader::of(
            &text,
            &[
                "http://schemas.xmlsoap.org/soap/envelope/",
                "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006",
            ],
        );
        assert!(reader.root().is_ok() && reader.children(|_, _| Ok(())).is_ok(), "{text}");
    }
}

#[test]
fn only_trusted_places_are_followed() {
    let from = |url| Endpoint::parse(url, true).expect("a URL");
    let trusts = |host: &str| mailyard_policy::names::is_within(host, "example.org");
    let here = "https://autodiscover.example.org/autodiscover/autodiscover.xml";
    let cases = [
        (
            "https://mail.example.org/Autodiscover/Autodiscover.xml",
            Ok("https://mail.example.org/Autodiscover/Autodiscover.xml"),
        ),
        (
            " https://mail.example.org:8443/autodiscover/x?y ",
            Ok("https://mail.example.org:8443/autodiscover/x?y"),
        ),
        ("/autodiscover/other.xml", Ok("https://autodiscover.example.org/autodiscover/other.xml")),
        ("http://mail.example.org/autodiscover/autodiscover.xml", Err(Reason::AutodiscoverRedirectInsecure)),
        (
            "https://example.org.evil.example/autodiscover/autodiscover.xml",
            Err(Reason::AutodiscoverRedirectForeign),
        ),
        ("https://127.0.0.1/autodiscover/autodiscover.xml", Err(Reason::AutodiscoverRedirectForeign)),
        ("https://mail.example.org/owa/auth/logon.aspx", Err(Reason::ProfileUrlWrong)),
        ("https://www.example.net/", Err(Reason::ProfileUrlWrong)),
        ("https://me:x@mail.example.org/autodiscover/autodiscover.xml", Err(Reason::ProfileUrlWrong)),
        ("//mail.example.org/autodiscover/autodiscover.xml", Err(Reason::ProfileUrlWrong)),
        ("file:///autodiscover/autodiscover.xml", Err(Reason::ProfileUrlWrong)),
        ("https://mail.example.org/autodiscover/\r\nX: y", Err(Reason::ProfileUrlWrong)),
        ("", Err(Reason::ProfileUrlWrong)),
    ];
    for (location, expected) in cases {
        let found = candidate::follow(location, &from(here), trusts);
        let found = found.map(|to| to.url()).map_err(|failure| failure.reason);
        assert_eq!(found.as_deref().map_err(|reason| *reason), expected, "{location}");
    }
    let plain = from("http://autodiscover.example.org/autodiscover/autodiscover.xml");
    let found = candidate::follow("/autodiscover/autodiscover.xml", &plain, trusts);
    assert_eq!(found.map_err(|failure| failure.reason), Err(Reason::AutodiscoverRedirectInsecure));
    for (url, expected) in [
        (
            "https://a.example/autodiscover/autodiscover.json/v1.0/anna@example.org?Protocol=Ews",
            "https://a.example/autodiscover/autodiscover.json",
        ),
        (
            "https://a.example/autodiscover/autodiscover.json?Email=anna@example.org",
            "https://a.example/autodiscover/autodiscover.json",
        ),
        (here, here),
    ] {
        assert_eq!(candidate::shown(url), expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _read = json::read(&bytes);
        if let Ok(document) = codec::text(&bytes) {
            let _read = (soap::read(&document), pox::read(&document));
        }
    }

    #[test]
    fn no_altered_answer_panics(at in 0_usize..900, length in 0_usize..60, with in "\\PC{0,8}") {
        let mut document = settings(&[("ExternalEwsUrl", "https://e/"), ("CasVersion", "15.1.2.3")]);
        let start = at.min(document.len());
        let end = (start + length).min(document.len());
        document.replace_range(start..end, &with);
        let _read = (soap::read(&document), pox::read(&document), json::read(document.as_bytes()));
    }

    #[test]
    fn no_redirect_panics(location in "(https?://)?[a-z.:@/\\[\\]]{0,20}(/autodiscover/)?\\PC{0,10}") {
        let from = Endpoint { host: "a.example".to_owned(), port: 443, path: "/".to_owned(), tls: true };
        if let Ok(to) = candidate::follow(&location, &from, |host| host == "a.example") {
            prop_assert!(to.tls && to.host == "a.example", "{location}");
        }
    }
}
