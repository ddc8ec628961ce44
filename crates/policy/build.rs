//! Turns `reasons.toml` into the enum `Reason` and its static table.
#![allow(clippy::expect_used, clippy::disallowed_methods, clippy::format_collect)]

use std::{env, fmt::Write as _, fs, path::PathBuf};

const SCOPES: [(&str, &str); 4] =
    [("item", "Item"), ("mailbox", "Mailbox"), ("profile", "Profile"), ("request", "Request")];
const NATURES: [(&str, &str); 4] = [
    ("transient", "Transient"),
    ("throttled", "Throttled"),
    ("permanent", "Permanent"),
    ("configuration", "Configuration"),
];
const OWNERS: [(&str, &str); 5] = [
    ("administrator", "Administrator"),
    ("exchange", "Exchange"),
    ("mailbox_owner", "MailboxOwner"),
    ("caller", "Caller"),
    ("nobody", "Nobody"),
];

fn main() {
    println!("cargo:rerun-if-changed=reasons.toml");
    let text = fs::read_to_string("reasons.toml").expect("reasons.toml is part of the crate");
    let table: toml::Table = text.parse().expect("reasons.toml is valid TOML");
    let (mut variants, mut entries) = (String::new(), String::new());
    for (code, value) in &table {
        let row = value.as_table().unwrap_or_else(|| panic!("[{code}] is not a table"));
        check_keys(code, row);
        let word = |key: &str| word(code, row, key);
        let variant = camel(code);
        writeln!(variants, "    /// {}.\n    {variant},", word("title")).expect("a String takes it");
        writeln!(
            entries,
            "    Entry {{ reason: Reason::{variant}, code: {code:?}, scope: Scope::{}, nature: Nature::{}, \
             owner: Owner::{}, grpc: {:?}, server_fault: {}, title: {:?}, remedy: {:?}, guide: {:?} }},",
            pick(code, "scope", word("scope"), &SCOPES),
            pick(code, "nature", word("nature"), &NATURES),
            pick(code, "owner", word("owner"), &OWNERS),
            word("grpc"),
            row.get("server_fault").is_some_and(|flag| flag.as_bool().expect("server_fault is a boolean")),
            word("title"),
            word("remedy"),
            guide(code, row),
        )
        .expect("a String takes it");
    }
    let count = table.len();
    let generated = format!(
        "/// Why something failed: a stable code out of the catalogue `reasons.toml`.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[non_exhaustive]\n\
         pub enum Reason {{\n{variants}}}\n\nstatic CATALOGUE: [Entry; {count}] = [\n{entries}];\n"
    );
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("reasons.rs");
    fs::write(out, generated).expect("OUT_DIR is writable");
}

fn check_keys(code: &str, row: &toml::Table) {
    const KEYS: [&str; 8] = ["scope", "nature", "grpc", "owner", "server_fault", "title", "remedy", "guide"];
    for key in row.keys() {
        assert!(KEYS.contains(&key.as_str()), "[{code}] has the unknown key {key}");
    }
}

fn word<'a>(code: &str, row: &'a toml::Table, key: &str) -> &'a str {
    row.get(key).and_then(|value| value.as_str()).unwrap_or_else(|| panic!("[{code}] lacks {key}"))
}

/// Where the remedy is explained, as people follow it.
fn guide(code: &str, row: &toml::Table) -> Option<String> {
    row.contains_key("guide").then(|| format!("docs/prepare-exchange.md#{}", word(code, row, "guide")))
}

fn pick(code: &str, key: &str, word: &str, known: &[(&'static str, &'static str)]) -> &'static str {
    known
        .iter()
        .find(|(name, _)| *name == word)
        .map_or_else(|| panic!("[{code}] {key} = {word:?} is none of {known:?}"), |(_, variant)| variant)
}

fn camel(code: &str) -> String {
    code.split('_')
        .map(|part| {
            let (head, tail) = part.split_at(1);
            format!("{head}{}", tail.to_ascii_lowercase())
        })
        .collect()
}
