//! The pages of the catalogue: one for every reason, made from the tables that the program itself reads.
//!
//! `MAILYARD_GOLDEN=write` writes `docs/reasons` anew: what changed is then seen in the difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use mailyard_exchange::{Failure, codec::Refusal};
use mailyard_policy::{
    Nature, Reason,
    reason::{Entry, Owner, Scope},
};

/// Response codes of EWS, as the client reads them.
const CODES: &str = include_str!("../../crates/exchange/codes.tsv");

/// What administrators of Exchange read.
const GUIDE: &str = "docs/prepare-exchange.md";

const NOT_BY_HAND: &str = "<!-- Made from crates/policy/reasons.toml and crates/exchange/codes.tsv by \
`MAILYARD_GOLDEN=write cargo test --workspace --test reasons`. Do not edit it by hand. -->";

const SCOPES: [Scope; 4] = [Scope::Profile, Scope::Mailbox, Scope::Item, Scope::Request];
const NATURES: [Nature; 4] = [Nature::Configuration, Nature::Permanent, Nature::Transient, Nature::Throttled];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const fn whom(scope: Scope) -> &'static str {
    match scope {
        Scope::Item => "One message or other item. The rest of its mailbox goes on.",
        Scope::Mailbox => "One mailbox. The others of its profile go on.",
        Scope::Profile => {
            "The server or the service account of a profile, and so all mailboxes of the profile."
        }
        Scope::Request => "The one call that was made. Synchronization goes on.",
    }
}

const fn passes(nature: Nature) -> &'static str {
    match nature {
        Nature::Transient => "It may: the same attempt can succeed later.",
        Nature::Throttled => "Yes, when there is room again.",
        Nature::Permanent => "No: the same attempt fails again.",
        Nature::Configuration => "No: somebody must change a setting.",
    }
}

const fn mender(owner: Owner) -> &'static str {
    match owner {
        Owner::Administrator => "The administrator of Mailyard.",
        Owner::Exchange => "The administrator of Exchange.",
        Owner::MailboxOwner => "The person whose mailbox it is.",
        Owner::Caller => "Whoever made the call.",
        Owner::Nobody => "Nobody needs to do anything.",
    }
}

/// What the machines of the mailbox, the outbox and the breaker do with such a reason.
fn meanwhile(entry: &Entry) -> &'static str {
    match (entry.server_fault, entry.scope, entry.nature) {
        (true, ..) if entry.reason.is_credential_fault() => {
            "It counts against no mailbox. One other mailbox is tried; if that is refused too, all mailboxes of the \
             profile are held back. The credentials are tried once or twice more, then not again until they are \
             changed, so that no account is locked. Email that is to be sent waits."
        }
        (true, ..) => {
            "It counts against no mailbox. When it repeats, all mailboxes of the profile are held back, single \
             requests try the server at growing intervals, and everything goes on by itself when they succeed. \
             Email that is to be sent waits."
        }
        (_, Scope::Request, _) => "Nothing: the call failed, and is not made again by itself.",
        (_, Scope::Profile, Nature::Throttled) => {
            "It waits, as long as the server asks where it says so, sends fewer requests at once, and tries again. It \
             never counts as a failure."
        }
        (_, Scope::Profile, _) => "It stops no mailbox: Test Connection or an alert tells of it.",
        (_, _, Nature::Throttled) => "It waits and tries again. It never counts as a failure.",
        (_, Scope::Mailbox, Nature::Transient) => {
            "The operation that met it backs off and is tried again. After too many failures in a row it is disabled, \
             and an alert says so."
        }
        (_, Scope::Mailbox, _) if entry.reason.is_account_fault() => {
            "Every operation of the mailbox stops at once, so that its account is not locked, until the cause is mended \
             and the mailbox is tested and enabled again. Email that is to be sent waits, until it expires."
        }
        (_, Scope::Mailbox, _) => {
            "The operation that met it stops at once, until the cause is mended and the mailbox is tested and enabled \
             again. Email that is to be sent waits, until it expires."
        }
        (_, Scope::Item, _) if entry.owner == Owner::Nobody => "Everything else goes on.",
        (_, Scope::Item, Nature::Transient) => {
            "It is tried again, a limited number of times. Then an item that came in is put aside, where it can be \
             replayed, and an email that is to be sent has failed. Nothing behind it is held up."
        }
        (_, Scope::Item, _) => {
            "An item that came in is put aside, where it can be replayed; an email that is to be sent is not tried \
             again. Nothing behind it is held up."
        }
    }
}

/// Response codes of EWS with the reasons that they lead to, as the client decides it.
fn response_codes() -> BTreeMap<Reason, String> {
    let reason = |code: &str| {
        let (code, text, inner_code, back_off) = (code.into(), "".into(), None, None);
        let refusal = Refusal { code, text, inner_code, back_off, fault: false, subscriptions: Vec::new() };
        Failure::of_refusal(&refusal).reason
    };
    let mut all = BTreeMap::<_, Vec<_>>::new();
    let codes =
        CODES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split('\t').next());
    for code in codes {
        all.entry(reason(code)).or_default().push(format!("`{code}`"));
    }
    all.entry(reason("")).or_default().push("and every code that is not known".to_owned());
    all.into_iter().map(|(reason, codes)| (reason, codes.join(", "))).collect()
}

/// HTTP statuses of answers without SOAP in them, with the reasons that they lead to.
fn statuses() -> BTreeMap<Reason, String> {
    let reason = |status| Failure::of_status(status, None, None).reason;
    let unknown = reason(999);
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for status in (300..600).filter(|status| reason(*status) != unknown) {
        all.entry(reason(status)).or_default().push(status);
    }
    let mut told: BTreeMap<_, _> =
        all.into_iter().map(|(reason, statuses)| (reason, spans(&statuses))).collect();
    told.insert(unknown, "every one that no other reason names, 200 too".to_owned());
    told
}

/// Numbers in a row as one span: `400, 404 to 405`.
fn spans(numbers: &[u16]) -> String {
    let rows = numbers.chunk_by(|one, next| one + 1 == *next);
    let told = rows.map(|row| match *row {
        [first, .., last] => format!("{first} to {last}"),
        [only] => only.to_string(),
        [] => String::new(),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn page(entry: &Entry, codes: Option<&String>, statuses: Option<&String>) -> String {
    let Entry { code, title, remedy, scope, nature, .. } = entry;
    let mut page = format!("{NOT_BY_HAND}\n\n# {code}\n\n{title}.\n\n**What to do.** {remedy}\n");
    if let Some((section, heading)) = entry.guide.and_then(linked) {
        let _ = write!(page, "\nExplained in [Preparing Exchange Server: {heading}](../{section}).\n");
    }
    page.push_str(&answers(entry));
    if let Some(codes) = codes {
        let _ = write!(page, "\n## Response codes of EWS\n\n{codes}.\n");
    }
    if let Some(statuses) = statuses {
        let _ = write!(page, "\n## HTTP statuses\n\nOf answers that hold no SOAP: {statuses}.\n");
    }
    page.push_str(&seen(entry));
    let fault = if entry.server_fault { ", a fault of the server" } else { "" };
    let _ = write!(page, "\n{scope}, {nature}{fault} · [all reasons](README.md)\n");
    page
}

/// What people ask of a failure.
fn answers(entry: &Entry) -> String {
    if entry.grpc == "OK" {
        return "\nIt is no failure.\n".to_owned();
    }
    format!(
        "\n| | |\n|---|---|\n\
         | Whom it strikes | {} |\n\
         | Does it pass by itself? | {} |\n\
         | Who can mend it | {} |\n\
         | What Mailyard does meanwhile | {} |\n",
        whom(entry.scope),
        passes(entry.nature),
        mender(entry.owner),
        meanwhile(entry)
    )
}

fn seen(entry: &Entry) -> String {
    let Entry { code, grpc, scope, .. } = entry;
    let places = match scope {
        Scope::Request => "errors of gRPC, logs and the command line",
        Scope::Item | Scope::Mailbox | Scope::Profile => {
            "alerts, metrics, logs, errors of gRPC and the command line"
        }
    };
    let status = if *grpc == "OK" {
        String::new()
    } else {
        format!(" A call that fails for it ends with the gRPC status `{grpc}`.")
    };
    format!(
        "\n## Where it is seen\n\n\
         Under this code in {places}, wherever it is told.{status}\n\n    mailyard explain {code}\n"
    )
}

/// A section as a link from `docs`, and its heading.
fn linked(guide: &'static str) -> Option<(&'static str, String)> {
    let (_, anchor) = guide.split_once('#')?;
    let text = read(GUIDE).ok()?;
    let heading = text.lines().filter_map(heading).find(|heading| anchor_of(heading) == anchor)?;
    Some((guide.strip_prefix("docs/")?, heading.to_owned()))
}

fn index() -> String {
    let mut text = format!(
        "{NOT_BY_HAND}\n\n# Reasons\n\n\
         Why something failed is told by one of these codes, everywhere the same: in errors of gRPC, alerts, metrics, logs \
         and\nthe command line. `mailyard explain CODE` tells what stands here, without this page.\n"
    );
    for scope in SCOPES {
        let _ = write!(text, "\n## Scope: {scope}\n\n{}\n", whom(scope));
        for nature in NATURES {
            let rows: Vec<&Entry> = Reason::catalogue()
                .iter()
                .filter(|entry| (entry.scope, entry.nature) == (scope, nature))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let _ = write!(
                text,
                "\n### {scope}, {nature}\n\nDoes it pass by itself? {}\n\n| reason | what happened |\n|---|---|\n",
                passes(nature)
            );
            for Entry { code, title, .. } in rows {
                let _ = writeln!(text, "| [{code}]({code}.md) | {title} |");
            }
        }
    }
    text
}

fn pages() -> BTreeMap<PathBuf, String> {
    let (codes, statuses) = (response_codes(), statuses());
    let mut pages = BTreeMap::from([(PathBuf::from("docs/reasons/README.md"), index())]);
    for entry in Reason::catalogue() {
        let text = page(entry, codes.get(&entry.reason), statuses.get(&entry.reason));
        pages.insert(entry.page().into(), text);
    }
    pages
}

fn read(file: impl AsRef<Path>) -> Result<String, String> {
    let file = root().join(file);
    fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len()).then(|| text.strip_prefix(' ')).flatten()
}

/// The anchor that forges give to a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || "- _".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn every_reason_has_its_page() -> Result<(), Box<dyn Error>> {
    let pages = pages();
    let folder = root().join("docs/reasons");
    if std::env::var("MAILYARD_GOLDEN").is_ok_and(|value| value == "write") {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        for (file, text) in &pages {
            fs::write(root().join(file), text)?;
        }
    }
    for (file, text) in &pages {
        assert_eq!(*text, read(file)?, "{}: written by MAILYARD_GOLDEN=write", file.display());
    }
    for entry in fs::read_dir(&folder)? {
        let file = Path::new("docs/reasons").join(entry?.file_name());
        assert!(pages.contains_key(&file), "{} is the page of no reason", file.display());
    }
    Ok(())
}

#[test]
fn every_guide_leads_to_a_section_and_what_the_guide_names_leads_back() -> Result<(), Box<dyn Error>> {
    let guide = read(GUIDE)?;
    let anchors: BTreeSet<String> = guide.lines().filter_map(heading).map(anchor_of).collect();
    for entry in Reason::catalogue() {
        let Some(section) = entry.guide else { continue };
        let (file, anchor) = section.split_once('#').ok_or("no anchor")?;
        assert_eq!(file, GUIDE, "{}", entry.code);
        assert!(anchors.contains(anchor), "{}: {section} is no section; there are {anchors:?}", entry.code);
    }
    // Codes of the catalogue have an underscore, and nothing else in capitals there has.
    let words = guide.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    let named: BTreeSet<&str> =
        words.filter(|word| word.trim_matches('_').contains('_') && !word.starts_with("TLS_")).collect();
    assert!(named.len() > 5, "{named:?}");
    for code in named {
        let reason: Reason = code.parse()?;
        assert!(reason.entry().guide.is_some(), "{GUIDE} names {code}, whose entry has no guide");
    }
    Ok(())
}
