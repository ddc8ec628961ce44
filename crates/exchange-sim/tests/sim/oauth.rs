//! Tokens: how an application gets them from the issuer, and what the EWS endpoint makes of them.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::Method;
use mailyard_exchange_sim::{Registration, Scheme, Settings};
use ring::{digest, rand::SystemRandom, signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::stage::{Answer, CLOCK, Stage, codes, envelope, soap};

const ONE: &str = "mailbox00001@exchange.test";
const GET: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>\
                   <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

/// What is posted for a token.
type Form = BTreeMap<&'static str, String>;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

async fn stage() -> Stage {
    Stage::new(1, |options| options.auth = vec![Scheme::OAuth, Scheme::Basic]).await
}

fn registration(stage: &Stage) -> Registration {
    stage.simulator.ready().oauth.clone().expect("a registration")
}

/// The application: its registration, and what is in its certificate's file.
pub struct Application {
    registration: Registration,
    certificate: Vec<u8>,
    key: signature::RsaKeyPair,
}

impl Application {
    pub fn new(stage: &Stage) -> Self {
        let registration = registration(stage);
        let pem = std::fs::read(&registration.certificate_file).expect("a file");
        let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate").to_vec();
        let key = PrivateKeyDer::from_pem_slice(&pem).expect("a key");
        let key = signature::RsaKeyPair::from_pkcs8(key.secret_der()).expect("an RSA key");
        Self { registration, certificate, key }
    }

    fn endpoint(&self, step: &str) -> String {
        format!("{}/{}{step}", self.registration.authority, self.registration.tenant)
    }

    fn header(&self) -> Value {
        let thumbprint = digest::digest(&digest::SHA256, &self.certificate);
        json!({"alg": "RS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(thumbprint)})
    }

    fn claims(&self, id: &str) -> Value {
        let client = &self.registration.client;
        let now = CLOCK / 1000;
        json!({
            "aud": self.endpoint("/oauth2/v2.0/token"), "iss": client, "sub": client, "jti": id,
            "nbf": now, "exp": now + 600,
        })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let padding: &dyn signature::RsaEncoding =
            if header["alg"] == "PS256" { &signature::RSA_PSS_SHA256 } else { &signature::RSA_PKCS1_SHA256 };
        let mut bytes = vec![0; self.key.public().modulus_len()];
        self.key.sign(padding, &SystemRandom::new(), text.as_bytes(), &mut bytes).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A good form.
    fn form(&self, id: &str) -> Form {
        Form::from([
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", self.registration.client.clone()),
            ("scope", format!("{}/.default", self.registration.resource)),
            ("client_assertion_type", JWT_BEARER.to_owned()),
            ("client_assertion", self.signed(&self.header(), &self.claims(id))),
        ])
    }

    /// Posts a form; the status and the answer.
    async fn ask(&self, stage: &Stage, step: &str, form: &Form) -> (u16, Value) {
        let escape =
            |text: &str| text.bytes().fold(String::new(), |escaped, byte| escaped + &format!("%{byte:02X}"));
        let body: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let answer = stage.https(Method::POST, &self.endpoint(step), &body.join("&")).await;
        (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
    }

    /// A token for an assertion with this id.
    pub async fn token(&self, stage: &Stage, id: &str) -> String {
        let (status, answer) = self.ask(stage, "/oauth2/v2.0/token", &self.form(id)).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().expect("a token").to_owned()
    }
}

async fn read(stage: &Stage, token: &str) -> Answer {
    let mut line = stage.line().await;
    line.post(Some(&format!("Bearer {token}")), ONE, &soap(Some(ONE), GET)).await.expect("an answer")
}

#[tokio::test]
async fn the_ready_line_tells_how_to_get_tokens() {
    let stage = stage().await;
    let told = registration(&stage);
    assert!(told.authority.starts_with("https://127.0.0.1:"), "{}", told.authority);
    let ews = &stage.simulator.ready().ews_url;
    assert_eq!(ews.strip_prefix(&told.resource), Some("/EWS/Exchange.asmx"));
    let mode = std::fs::metadata(&told.certificate_file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pem = std::fs::read_to_string(&told.certificate_file).expect("PEM");
    assert!(pem.contains("BEGIN CERTIFICATE") && pem.contains("BEGIN PRIVATE KEY"));
    assert!(Stage::new(1, |_| {}).await.simulator.ready().oauth.is_none());
}

#[tokio::test]
async fn tokens_come_in_both_generations_and_open_mailboxes() {
    let stage = stage().await;
    let application = Application::new(&stage);
    let resource = application.registration.resource.clone();
    let ps256 = json!({
        "alg": "PS256",
        "x5t": URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &application.certificate)),
    });
    let v2 = application.form("one");
    // Some clients ask for the host alone.
    let host = resource.rsplit_once(':').expect("a port").0.to_owned();
    let mut by_host = application.form("three");
    by_host.insert("scope", format!("{host}/.default"));
    let mut v1 = application.form("two");
    v1.remove("scope");
    v1.insert("resource", format!("{resource}/"));
    v1.insert("client_assertion", application.signed(&ps256, &application.claims("two")));
    for (step, form, audience, lifetime) in [
        ("/oauth2/v2.0/token", v2, resource.clone(), json!(3599)),
        ("/oauth2/token", v1, format!("{resource}/"), json!("3599")),
        ("/oauth2/v2.0/token", by_host, host, json!(3599)),
    ] {
        let (status, answer) = application.ask(&stage, step, &form).await;
        assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")), "{answer}");
        assert_eq!(answer["expires_in"], lifetime);
        let token = answer["access_token"].as_str().expect("a token");
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("claims")).expect("base64");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!(claims["aud"], json!(audience));
        assert_eq!(claims["appid"], json!(application.registration.client));
        let answer = read(&stage, token).await;
        assert_eq!((answer.status, codes(&answer.body)), (200, vec!["NoError"]));
    }
    let stats = stage.simulator.stats();
    assert_eq!((&stats["tokens"], &stats["tokens_with_claims"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn the_metadata_leads_to_the_key_that_signs() {
    let stage = stage().await;
    let application = Application::new(&stage);
    let get = async |url: &str| {
        let answer = stage.https(Method::GET, url, "").await;
        assert_eq!(answer.status, 200, "{url}");
        serde_json::from_str::<Value>(&answer.body).expect("JSON")
    };
    for (step, token) in [("/v2.0", "/oauth2/v2.0/token"), ("", "/oauth2/token")] {
        let url = application.endpoint(&format!("{step}/.well-known/openid-configuration"));
        let metadata = get(&url).await;
        assert_eq!(metadata["token_endpoint"], json!(application.endpoint(token)));
        let keys = get(metadata["jwks_uri"].as_str().expect("a URL")).await;
        let key = &keys["keys"][0];
        let number =
            |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().expect("a number")).expect("base64");
        let public = signature::RsaPublicKeyComponents { n: number("n"), e: number("e") };
        let token = application.token(&stage, &url).await;
        let (signed, sum) = token.rsplit_once('.').expect("a signature");
        let sum = URL_SAFE_NO_PAD.decode(sum).expect("base64");
        let fits = public.verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &sum);
        assert!(fits.is_ok());
    }
    let nothing = stage.https(Method::GET, &application.endpoint("/nothing"), "").await;
    assert_eq!(nothing.status, 404);
}

#[tokio::test]
async fn requests_for_tokens_are_checked() {
    let stage = stage().await;
    let application = Application::new(&stage);
    let other = Application::new(&Stage::new(1, |options| options.auth = vec![Scheme::OAuth]).await);
    let changed = |name: &'static str, value: &str| {
        let mut form = application.form(value);
        form.insert(name, value.to_owned());
        form
    };
    let without = |name: &'static str| {
        let mut form = application.form(name);
        form.remove(name);
        form
    };
    let claimed = |change: &dyn Fn(&mut Value, &mut Value)| {
        let mut form: Form = application.form("unused");
        let (mut header, mut claims) = (application.header(), application.claims("unused"));
        change(&mut header, &mut claims);
        form.insert("client_assertion", application.signed(&header, &claims));
        form
    };
    let now = CLOCK / 1000;
    let foreign = other.signed(&application.header(), &application.claims("foreign"));
    let cases: Vec<(Form, u16, &str, u32)> = vec![
        (without("grant_type"), 400, "invalid_request", 900_144),
        (changed("grant_type", "password"), 400, "unsupported_grant_type", 70_003),
        (changed("client_id", "other"), 400, "unauthorized_client", 700_016),
        (without("scope"), 400, "invalid_request", 900_144),
        (changed("scope", "https://other.test/.default"), 400, "invalid_resource", 500_011),
        (changed("scope", &application.registration.resource), 400, "invalid_scope", 1_002_012),
        (without("client_assertion"), 401, "invalid_client", 7_000_218),
        (without("client_assertion_type"), 400, "invalid_request", 900_144),
        (changed("client_assertion_type", "other"), 400, "invalid_request", 90_100),
        (changed("client_assertion", "a.b.c"), 400, "invalid_request", 50_027),
        (changed("client_assertion", &foreign), 401, "invalid_client", 700_027),
        (changed("claims", "nonsense"), 400, "invalid_request", 90_100),
        (claimed(&|header, _| header["alg"] = json!("none")), 401, "invalid_client", 700_027),
        (claimed(&|header, _| header["x5t#S256"] = json!("other")), 401, "invalid_client", 700_027),
        (claimed(&|header, _| *header = json!({"alg": "RS256"})), 401, "invalid_client", 700_027),
        (claimed(&|_, claims| claims["iss"] = json!("other")), 401, "invalid_client", 700_021),
        (claimed(&|_, claims| claims["sub"] = json!("other")), 401, "invalid_client", 700_021),
        (claimed(&|_, claims| claims["aud"] = json!("https://other.test")), 401, "invalid_client", 700_023),
        (claimed(&|_, claims| claims["exp"] = json!(now - 301)), 401, "invalid_client", 700_024),
        (claimed(&|_, claims| claims["exp"] = json!(now + 90_000)), 401, "invalid_client", 700_024),
        (claimed(&|_, claims| claims["exp"] = Value::Null), 401, "invalid_client", 700_024),
        (claimed(&|_, claims| claims["nbf"] = json!(now + 3600)), 401, "invalid_client", 700_024),
        (claimed(&|_, claims| claims["jti"] = Value::Null), 401, "invalid_client", 50_013),
    ];
    for (form, status, error, number) in cases {
        let (answered, told) = application.ask(&stage, "/oauth2/v2.0/token", &form).await;
        assert_eq!(
            (answered, &told["error"], &told["error_codes"]),
            (status, &json!(error), &json!([number])),
            "{told}"
        );
        let text = told["error_description"].as_str().unwrap_or_default();
        assert!(text.starts_with(&format!("AADSTS{number}: ")), "{text}");
    }
    let once = application.form("once");
    for status in [200, 401] {
        assert_eq!(
            application.ask(&stage, "/oauth2/v2.0/token", &once).await.0,
            status,
            "an assertion is good once"
        );
    }
    let url = format!("{}/other/oauth2/v2.0/token", application.registration.authority);
    let answer = stage.https(Method::POST, &url, "").await;
    assert_eq!((answer.status, answer.body.contains("AADSTS90002")), (400, true));
}

#[tokio::test]
async fn tokens_that_do_not_fit_are_told_why() {
    let stage = stage().await;
    let application = Application::new(&stage);
    let offered = stage.line().await.post(None, ONE, "").await.expect("an answer");
    let challenge = offered.challenges()[0].to_owned();
    let begins = "Bearer client_id=\"00000002-0000-0ff1-ce00-000000000000\", trusted_issuers=\"00000001-0000-0000-c000-000000000000@";
    assert!(challenge.starts_with(begins) && !challenge.contains("error="), "{challenge}");
    assert!(
        challenge.contains("token_types=\"app_asserted_user_v1 service_asserted_app_v1\""),
        "{challenge}"
    );
    assert_eq!(offered.challenges()[1], "Basic realm=\"exchange\"");
    assert!(!offered.headers.contains_key("x-ms-diagnostics"));

    stage.simulator.set(Settings { token_seconds: 0, ..Settings::default() });
    let expired = application.token(&stage, "expired").await;
    let (signed, _) = expired.rsplit_once('.').expect("a signature");
    for (token, category) in [
        (expired.as_str(), "2000002;reason=\"The token has expired.\";error_category=\"token_expired\""),
        ("", "2000001;reason=\"The token is not valid.\";error_category=\"invalid_token\""),
        (
            &format!("{signed}.AAAA"),
            "2000000;reason=\"The token has an invalid signature.\";error_category=\"invalid_signature\"",
        ),
    ] {
        let answer = read(&stage, token).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, ""));
        assert_eq!(answer.headers["x-ms-diagnostics"], category);
        assert_eq!(answer.challenges()[0], format!("{challenge}, error=\"invalid_token\""));
    }
}

#[tokio::test]
async fn an_application_has_no_mailbox_of_its_own() {
    let stage = stage().await;
    let token = Application::new(&stage).token(&stage, "one").await;
    let mut line = stage.line().await;
    let bearer = format!("Bearer {token}");
    let answer = line.post(Some(&bearer), ONE, &envelope("", GET)).await.expect("an answer");
    assert_eq!(codes(&answer.body), ["ErrorInvalidExchangeImpersonationHeaderData"]);
    let bare = line.post(None, ONE, &soap(Some(ONE), GET)).await.expect("an answer");
    assert_eq!(bare.status, 401, "a token is good for its request, not for the connection");
}

#[tokio::test]
async fn a_good_token_may_be_refused_and_claims_asked_for() {
    let stage = stage().await;
    let application = Application::new(&stage);
    let token = application.token(&stage, "one").await;
    stage.fault(r#"{"kind":"token_refused","count":1}"#);
    let answer = read(&stage, &token).await;
    assert_eq!((answer.status, answer.challenges()[0].contains("error=\"invalid_token\"")), (401, true));
    assert_eq!(read(&stage, &token).await.status, 200, "once is enough");

    stage.fault(r#"{"kind":"token_refused","claims":true}"#);
    let answer = read(&stage, &token).await;
    let challenge = answer.challenges()[0].to_owned();
    assert!(answer.status == 401 && challenge.contains("error=\"insufficient_claims\""), "{challenge}");
    let claims = challenge.split("claims=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("claims");
    let claims = String::from_utf8(STANDARD.decode(claims).expect("base64")).expect("JSON");
    assert!(claims.starts_with("{\"access_token\":{"), "{claims}");
    let mut form = application.form("with claims");
    form.insert("claims", claims);
    let (status, answer) = application.ask(&stage, "/oauth2/v2.0/token", &form).await;
    assert_eq!(status, 200);
    let better = answer["access_token"].as_str().expect("a token");
    assert_eq!(read(&stage, better).await.status, 200);
    assert_eq!(read(&stage, &token).await.status, 401, "the old one is still not enough");
    assert_eq!(stage.simulator.stats()["tokens_with_claims"], 1);
    let basic = stage.post("svc-mailyard@exchange.test", ONE, &soap(Some(ONE), GET)).await;
    assert_eq!(basic.map(|answer| answer.status), Some(200), "others are not concerned");
}
