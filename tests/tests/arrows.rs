//! Who may name whom: the arrows of ARCHITECTURE.md, checked against `cargo metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    process::Command,
};

use serde_json::Value;

/// For each crate of ours: the crates of ours that it may name in its product code.
const ARROWS: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("host", &["policy"]),
    ("exchange", &["policy"]),
    ("store", &["policy"]),
    ("wire", &["policy"]),
    ("exchange-sim", &[]),
    ("worker", &["exchange", "store", "wire", "policy", "host"]),
    ("coordinator", &["store", "wire", "policy", "host", "exchange"]),
    ("ctl", &["wire", "host"]),
];

/// These may name everything, and nobody names them.
const TOPS: &[&str] = &["mailyard", "tests", "loadtest"];

/// For each foreign crate that belongs to a room: the crates of ours that may name it.
const ROOMS: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("redis", &["store"]),
    ("aes-gcm", &["store"]),
    ("quick-xml", &["exchange", "exchange-sim"]),
    ("ractor", &["worker", "coordinator"]),
    ("prost", &["wire"]),
    ("lettre", &["coordinator"]),
    ("mail-parser", &["exchange"]),
    ("opentelemetry_sdk", &["host"]),
    ("opentelemetry-otlp", &["host"]),
];

/// All that the core may name of others.
const CORE: &[&str] = &["thiserror", "sha2"];

/// The ordinary dependencies of each crate of ours; `dev` and `build` ones reach no product code.
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>, Box<dyn Error>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let mut all = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().ok_or("no name")?;
        let wanted = package["dependencies"].as_array().ok_or("no dependencies")?;
        let named = wanted
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .map(ToOwned::to_owned)
            .collect();
        all.insert(ours(name).unwrap_or(name).to_owned(), named);
    }
    Ok(all)
}

fn ours(name: &str) -> Option<&str> {
    if name == "mailyard" { Some(name) } else { name.strip_prefix("mailyard-") }
}

#[test]
fn every_arrow_is_one_of_the_architecture() -> Result<(), Box<dyn Error>> {
    let mut wrong = Vec::new();
    for (from, named) in dependencies()? {
        if TOPS.contains(&from.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
            wrong.push(format!("{from} stands in no line of ARROWS"));
            continue;
        };
        for to in named.iter().filter_map(|name| ours(name)) {
            if !allowed.contains(&to) {
                wrong.push(format!("{from} names {to}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

#[test]
fn foreign_crates_stay_in_their_rooms() -> Result<(), Box<dyn Error>> {
    let mut wrong = Vec::new();
    for (from, named) in dependencies()? {
        for (crate_name, rooms) in ROOMS {
            if named.contains(*crate_name)
                && !rooms.contains(&from.as_str())
                && !TOPS.contains(&from.as_str())
            {
                wrong.push(format!("{from} names {crate_name}"));
            }
        }
        if from == "policy" {
            wrong.extend(
                named
                    .iter()
                    .filter(|name| !CORE.contains(&name.as_str()))
                    .map(|name| format!("policy names {name}")),
            );
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_table_knows_every_crate() -> Result<(), Box<dyn Error>> {
    let found: BTreeSet<String> = dependencies()?.into_keys().collect();
    let listed: BTreeSet<String> = ARROWS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain(TOPS.iter().map(|name| (*name).to_owned()))
        .collect();
    let unknown: Vec<&String> = found.difference(&listed).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    Ok(())
}
