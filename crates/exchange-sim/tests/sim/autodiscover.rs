//! Autodiscover in its three forms, and without TLS: what is told, to whom, and what may go wrong on the way.

use http::{Method, Request, header};

use crate::{
    golden::{count, golden},
    stage::{Answer, Stage, first},
};

const SERVICE: &str = "svc-mailyard@exchange.test";
const ONE: &str = "mailbox00001@exchange.test";
const TWO: &str = "mailbox00002@exchange.test";
const SOAP: &str = "/autodiscover/autodiscover.svc";
const POX: &str = "/Autodiscover/Autodiscover.xml";
const JSON: &str = "/autodiscover/autodiscover.json";

/// A request for settings of users or domains.
fn soap(operation: &str, names: &[&str], settings: &[&str]) -> String {
    let one = |name: &&str| match operation {
        "GetUserSettings" => format!("<a:User><a:Mailbox>{name}</a:Mailbox></a:User>"),
        _ => format!("<a:Domain>{name}</a:Domain>"),
    };
    let all = if operation == "GetUserSettings" { "Users" } else { "Domains" };
    let names: String = names.iter().map(one).collect();
    let settings = settings.join("</a:Setting><a:Setting>");
    let settings = if settings.is_empty() { settings } else { format!("<a:Setting>{settings}</a:Setting>") };
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:wsa=\"http://www.w3.org/2005/08/addressing\" \
         xmlns:a=\"http://schemas.microsoft.com/exchange/2010/Autodiscover\"><s:Header>\
         <a:RequestedServerVersion>Exchange2013</a:RequestedServerVersion>\
         <wsa:Action>http://schemas.microsoft.com/exchange/2010/Autodiscover/Autodiscover/{operation}</wsa:Action>\
         <wsa:To>https://autodiscover.exchange.test{SOAP}</wsa:To></s:Header><s:Body><a:{operation}RequestMessage><a:Request>\
         <a:{all}>{names}</a:{all}><a:RequestedSettings>{settings}</a:RequestedSettings></a:Request></a:{operation}RequestMessage>\
         </s:Body></s:Envelope>"
    )
}

fn pox(address: &str) -> String {
    format!(
        "<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\"><Request>\
         <EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>\
         http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request>\
         </Autodiscover>"
    )
}

/// A stage whose simulator always has the same name.
async fn stage() -> Stage {
    Stage::new(2, |_| {}).await
}

/// Asks at a path as the service account, by the name of a host.
async fn ask(stage: &Stage, host: &str, method: Method, path: &str, body: &str) -> Option<Answer> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
    if !path.starts_with(JSON) {
        request = request.header(header::AUTHORIZATION, stage.basic(SERVICE));
    }
    stage.line().await.send(request, body).await
}

/// The three forms of asking for an address.
fn forms(address: &str) -> [(Method, String, String); 3] {
    let wanted = soap("GetUserSettings", &[address], &["ExternalEwsUrl"]);
    let query = format!("{JSON}?Email={address}&Protocol=EWS");
    [
        (Method::POST, SOAP.to_owned(), wanted),
        (Method::POST, POX.to_owned(), pox(address)),
        (Method::GET, query, String::new()),
    ]
}

/// What a client gets out of an answer: an address or URL, or a code.
fn told(answer: Option<Answer>) -> String {
    let Some(answer) = answer else { return "nothing".to_owned() };
    if answer.status == 302 {
        return format!("302 {}", answer.headers["location"].to_str().expect("a URL"));
    }
    let body = answer.body;
    let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |name: &str| {
        let begin = body.rfind(&format!("<{name}>"))? + name.len() + 2;
        body[begin..].split_once("</").map(|(text, _)| text).filter(|text| !text.is_empty())
    };
    let mut found =
        ["RedirectTarget", "RedirectUrl", "RedirectAddr", "Value", "EwsUrl", "ErrorCode"].into_iter();
    let found = found.find_map(text).or_else(|| json["Url"].as_str()).or_else(|| json["ErrorCode"].as_str());
    format!("{} {}", answer.status, found.unwrap_or_default()).trim_end().to_owned()
}

#[tokio::test]
async fn answers_are_those_of_the_golden_files() {
    let stage = stage().await;
    let all = [
        "ExternalEwsUrl",
        "InternalEwsUrl",
        "EwsSupportedSchemas",
        "CasVersion",
        "UserDN",
        "UserDisplayName",
        "AutoDiscoverSMTPAddress",
        "GroupingInformation",
        "ExternalEwsVersion",
        "ExternalOABUrl",
    ];
    let bulk = soap("GetUserSettings", &[ONE, "alias00002@exchange.test", "nobody@exchange.test"], &all);
    let redirected = soap("GetUserSettings", &[ONE, TWO], &["ExternalEwsUrl"]);
    let domains =
        soap("GetDomainSettings", &["Exchange.test", "else.test"], &["ExternalEwsUrl", "ExternalEwsVersion"]);
    let address = r#"{"kind":"redirect_address","mailbox":"mailbox00002@exchange.test","target":"b@cloud.test","count":1}"#;
    let steps = [
        ("GetUserSettings", SOAP, bulk, ""),
        ("GetUserSettings.redirect", SOAP, redirected, address),
        (
            "GetUserSettings.busy",
            SOAP,
            soap("GetUserSettings", &[ONE], &["UserDN"]),
            r#"{"kind":"server_busy","count":1}"#,
        ),
        ("GetDomainSettings", SOAP, domains, ""),
        ("Action.refused", SOAP, soap("GetFederationInformation", &[], &[]), ""),
        ("Pox", POX, pox(ONE), ""),
        ("Pox.redirect", POX, pox(TWO), address),
        ("Pox.nobody", POX, pox("nobody@exchange.test"), ""),
        ("Pox.invalid", POX, "<Autodiscover/>".to_owned(), ""),
    ];
    let url = stage.simulator.ready().autodiscover_url.clone();
    let place = url.strip_suffix(SOAP).expect("its path").to_owned();
    for (name, path, body, rule) in &steps {
        if !rule.is_empty() {
            stage.fault(rule);
        }
        let answer =
            ask(&stage, "autodiscover.exchange.test", Method::POST, path, body).await.expect("an answer");
        assert_eq!(answer.status, if *name == "Action.refused" { 500 } else { 200 }, "{name}");
        assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8", "{name}");
        golden(&format!("autodiscover/{name}.request.xml"), body);
        golden(&format!("autodiscover/{name}.answer.xml"), &answer.body.replace(&place, "https://SERVER"));
    }
    assert_eq!(count("autodiscover"), 2 * steps.len(), "every golden file has its step");
}

#[tokio::test]
async fn each_form_tells_the_place() {
    let stage = stage().await;
    let ews = format!("200 {}", stage.simulator.ready().ews_url);
    let old = Stage::new(1, |options| options.version = (15, 0, 847)).await;
    for address in [ONE, "ALIAS00001@exchange.test"] {
        for (method, path, body) in forms(address) {
            assert_eq!(told(ask(&stage, "exchange.test", method, &path, &body).await), ews, "{path}");
        }
    }
    assert_eq!(stage.simulator.stats()["requests"]["autodiscover.svc"], 2);
    let cases = [
        ("?Protocol=EWS", "400 MandatoryParameterMissing"),
        ("?email=mailbox00001%40exchange.test", "400 MandatoryParameterMissing"),
        ("?Email=mailbox00001%40exchange.test&protocol=ews&RedirectCount=1", &ews),
        ("/v1.0/mailbox00001%40exchange.test?Protocol=Ews", &ews),
        ("/v1.0/mailbox00001@exchange.test?Protocol=IMAP", "400 ProtocolNotSupported"),
        ("/v1.0/nobody@exchange.test?Protocol=Ews", "404 UserNotFound"),
        ("/v1.0/a/b/c?Protocol=Ews", "400 MandatoryParameterMissing"),
    ];
    for (query, expected) in cases {
        let answer = ask(&stage, "exchange.test", Method::GET, &format!("{JSON}{query}"), "").await;
        assert_eq!(told(answer), expected, "{query}");
        let missing = ask(&old, "exchange.test", Method::GET, &format!("{JSON}{query}"), "").await;
        assert_eq!(told(missing), "404", "Exchange 2013 knows nothing of it");
    }
    let other = ask(&stage, "exchange.test", Method::GET, "/autodiscover/autodiscover.http", "").await;
    assert_eq!(told(other), "404");
}

#[tokio::test]
async fn who_asks_by_xml_signs_in() {
    let stage = stage().await;
    for (path, body) in [(SOAP, soap("GetUserSettings", &[ONE], &["UserDN"])), (POX, pox(ONE))] {
        let url = stage.simulator.ready().autodiscover_url.replace(SOAP, path);
        let refused = stage.https(Method::POST, &url, &body).await;
        assert_eq!((refused.status, refused.challenges()), (401, vec!["Basic realm=\"exchange\""]));
        let own = Request::post(path).header(header::AUTHORIZATION, stage.basic(TWO));
        let answer = stage.line().await.send(own, &body).await.expect("an answer");
        assert_eq!(answer.status, 200, "anybody may ask for anybody: {}", answer.body);
        // By these headers a client chooses a form before it signs in.
        let looked = stage.https(Method::GET, &url, "").await;
        let enabled = looked.headers.get("x-soap-enabled").is_some_and(|value| value == "True");
        assert_eq!((looked.status, enabled), (401, path == POX));
    }
    assert_eq!(told(ask(&stage, "exchange.test", Method::GET, POX, "").await), "200 600");
}

#[tokio::test]
async fn rules_redirect_and_refuse() {
    let stage = stage().await;
    let (url, address) = ("https://elsewhere.test/autodiscover", "b@cloud.test");
    let json = format!(
        "302 {}?Email={address}&Protocol=Ews",
        stage.simulator.ready().autodiscover_url.replace("svc", "json")
    );
    let (to_url, to_address) = (format!("200 {url}"), format!("200 {address}"));
    let (here, gone) = (format!("302 {url}"), "404".to_owned());
    let code = |code: &str| format!("\"kind\":\"autodiscover_error\",\"code\":\"{code}\"");
    let words = |words: [&str; 3]| words.map(ToOwned::to_owned);
    let cases = [
        (format!("\"kind\":\"redirect_url\",\"target\":\"{url}\""), [to_url.clone(), to_url, here.clone()]),
        (
            format!("\"kind\":\"redirect_address\",\"target\":\"{address}\""),
            [to_address.clone(), to_address, json],
        ),
        (format!("\"kind\":\"http_redirect\",\"target\":\"{url}\""), [here.clone(), here.clone(), here]),
        ("\"kind\":\"http_404\"".to_owned(), [gone.clone(), gone.clone(), gone]),
        ("\"kind\":\"unauthorized\"".to_owned(), words(["401"; 3])),
        ("\"kind\":\"cut_connection\"".to_owned(), words(["nothing"; 3])),
        ("\"kind\":\"http_503\"".to_owned(), words(["503"; 3])),
        (code("InvalidUser"), words(["200 InvalidUser", "200 500", "404 UserNotFound"])),
        (code("InvalidRequest"), words(["200 InvalidRequest", "200 600", "400 InvalidRequest"])),
        (code("ServerBusy"), words(["200 ServerBusy", "200 502", "500 ServerBusy"])),
        (
            code("InternalServerError"),
            words(["200 InternalServerError", "200 501", "500 InternalServerError"]),
        ),
        (
            code("SettingIsNotAvailable"),
            words(["200 SettingIsNotAvailable", "200 601", "400 ProtocolNotSupported"]),
        ),
    ];
    for (rule, expected) in cases {
        stage.fault(&format!("{{{rule},\"mailbox\":\"{ONE}\",\"host\":\"mail.exchange.test\"}}"));
        for ((method, path, body), expected) in forms("alias00001@exchange.test").into_iter().zip(expected) {
            let answer = ask(&stage, "mail.exchange.test:443", method, &path, &body).await;
            assert_eq!(told(answer), expected, "{rule} {path}");
        }
        let well = format!("200 {}", stage.simulator.ready().ews_url);
        let others = forms(ONE).into_iter().map(|form| ("exchange.test", form));
        for (host, (method, path, body)) in others.chain(forms(TWO).map(|form| ("mail.exchange.test", form)))
        {
            assert_eq!(told(ask(&stage, host, method, &path, &body).await), well, "{rule} {host} {path}");
        }
        stage.simulator.clear_faults();
    }
}

#[tokio::test]
async fn redirections_go_in_a_circle_and_answers_come_late() {
    let stage = stage().await;
    for (from, to) in
        [("exchange.test", "autodiscover.exchange.test"), ("autodiscover.exchange.test", "exchange.test")]
    {
        let rule = serde_json::json!({
            "kind": "redirect_url", "host": from, "operation": "autodiscover.svc", "target": format!("https://{to}{SOAP}"),
        });
        stage.fault(&rule.to_string());
    }
    let [(method, path, body), (_, other, document), _] = forms(ONE);
    let mut host = "exchange.test".to_owned();
    for expected in ["autodiscover.exchange.test", "exchange.test", "autodiscover.exchange.test"] {
        let next = told(ask(&stage, &host, method.clone(), &path, &body).await);
        assert_eq!(next, format!("200 https://{expected}{SOAP}"));
        expected.clone_into(&mut host);
    }
    let pox = told(ask(&stage, &host, method.clone(), &other, &document).await);
    assert_eq!(pox, format!("200 {}", stage.simulator.ready().ews_url), "a rule for SOAP is none for others");
    stage.simulator.clear_faults();

    stage.fault(r#"{"kind":"slow_body","operation":"autodiscover.svc","delay_ms":300}"#);
    let begun = std::time::Instant::now();
    assert_eq!(told(ask(&stage, &host, method, &path, &body).await), pox);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(300));
}

#[tokio::test]
async fn without_tls_there_is_only_the_way_to_it() {
    let stage = stage().await;
    let ready = stage.simulator.ready().clone();
    let place = ready.autodiscover_http_url.strip_suffix("/autodiscover/autodiscover.xml").expect("its path");
    let secure = ready.autodiscover_url.replace("svc", "xml");
    let cases = [
        (Method::GET, "/autodiscover/autodiscover.xml", format!("302 {secure}")),
        (Method::GET, SOAP, format!("302 {}", ready.autodiscover_url)),
        (Method::POST, "/autodiscover/autodiscover.xml", "403".to_owned()),
        (Method::GET, JSON, "403".to_owned()),
        (Method::POST, "/EWS/Exchange.asmx", "403".to_owned()),
    ];
    for (method, path, expected) in cases {
        assert_eq!(told(Some(stage.http(method, &format!("{place}{path}"), "").await)), expected, "{path}");
    }
    for target in ["http://elsewhere.test/autodiscover/autodiscover.xml", "https://elsewhere.test/x"] {
        stage.fault(&format!(
            "{{\"kind\":\"http_redirect\",\"operation\":\"autodiscover.http\",\"target\":\"{target}\"}}"
        ));
        let answer = stage.http(Method::GET, &ready.autodiscover_http_url, "").await;
        assert_eq!(told(Some(answer)), format!("302 {target}"));
        stage.simulator.clear_faults();
    }
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let stage = stage().await;
    let many: Vec<String> = (0..101).map(|number| format!("user{number}@exchange.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let good = soap("GetUserSettings", &[ONE], &["UserDN"]);
    let cases = [
        (soap("GetUserSettings", &many, &["UserDN"]), "200 InvalidRequest"),
        (soap("GetUserSettings", &many[1..], &["UserDN"]), "200 InvalidUser"),
        (soap("GetUserSettings", &[], &["UserDN"]), "200 InvalidRequest"),
        (soap("GetUserSettings", &[ONE], &[]), "200 InvalidRequest"),
        (
            good.replace("<a:RequestedServerVersion>Exchange2013</a:RequestedServerVersion>", ""),
            "200 InvalidRequest",
        ),
        (good.replace("/GetUserSettings<", "/GetDomainSettings<"), "500"),
        ("no XML".to_owned(), "400"),
    ];
    for (body, expected) in cases {
        assert_eq!(told(ask(&stage, "exchange.test", Method::POST, SOAP, &body).await), expected, "{body}");
    }
    let schema = pox(ONE).replace("outlook/responseschema/2006a", "mobilesync/responseschema/2006");
    assert_eq!(told(ask(&stage, "exchange.test", Method::POST, POX, &schema).await), "200 601");
    let page = ask(&stage, "exchange.test", Method::GET, SOAP, "").await.expect("an answer");
    assert_eq!((page.status, first(&page.body, "Fault")), (200, None));
    let (status, error) =
        stage.control(Method::POST, "/fault", r#"{"kind":"http_404","operation":"autodiscover.asmx"}"#).await;
    assert_eq!(
        (status, error["error"].as_str()),
        (400, Some("operation: there is no operation autodiscover.asmx"))
    );
}
