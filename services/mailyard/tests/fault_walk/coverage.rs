//! The whole catalogue: what the walk does not reach is reached by a test of its own, which is named here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use mailyard_policy::Reason;
use mailyard_tests::Outcome;

use crate::rows::ROWS;

/// What the walk sees of everybody who is tested and enabled.
const OF_EVERYBODY: Reason = Reason::MailboxConnected;

/// A reason, the file of the test that reaches it, and its name.
const ELSEWHERE: &str = include_str!("elsewhere.tsv");

#[test]
fn every_reason_is_reached_by_the_walk_or_by_a_test_that_is_named() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut reached: BTreeMap<&str, &str> = BTreeMap::from([(OF_EVERYBODY.code(), "the walk")]);
    reached.extend(ROWS.iter().filter_map(|row| Some((row.told.code()?, "the walk"))));
    let (mut wrong, mut unproven) = (Vec::new(), Vec::new());
    for row in ELSEWHERE.lines().filter(|row| !row.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [code, file, test] = columns[..] else { return Err(format!("elsewhere.tsv: {row}").into()) };
        if let Some(before) = reached.insert(code, file) {
            wrong.push(format!("{code} is reached twice: by {before}, by {file}"));
        }
        match code.parse::<Reason>() {
            Ok(reason) => unproven.extend(unnamed(reason, &root.join(file), test)?),
            Err(unknown) => wrong.push(unknown.to_string()),
        }
    }
    let all: Vec<&str> = Reason::catalogue().iter().map(|entry| entry.code).collect();
    let covered = all.iter().filter(|code| reached.contains_key(*code)).count();
    println!("{} of {} reasons covered", covered.saturating_sub(unproven.len()), all.len());
    wrong.extend(unproven);
    wrong.extend(
        all.iter().filter(|code| !reached.contains_key(*code)).map(|code| format!("{code}: no test")),
    );
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What is wrong with the claim that this test reaches the reason.
fn unnamed(reason: Reason, file: &Path, test: &str) -> Outcome<Option<String>> {
    let shown = file.display();
    let source = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let Some(body) = body(&source, test) else {
        return Ok(Some(format!("{reason}: there is no test {test} in {shown}")));
    };
    let variant = format!("{reason:?}");
    let names = |text: &str| has_word(text, reason.code()) || has_word(text, &variant);
    let mut snapshots = snapshots(file, test).into_iter();
    let told =
        names(body) || snapshots.any(|path| std::fs::read_to_string(path).is_ok_and(|text| names(&text)));
    Ok((!told).then(|| format!("{reason}: {test} in {shown} does not name it")))
}

/// A test as it stands in its file.
fn body<'a>(source: &'a str, test: &str) -> Option<&'a str> {
    let begin = source.find(&format!("fn {test}("))?;
    let line = source[..begin].rfind('\n').map_or(0, |end| end + 1);
    let indent: String = source[line..].chars().take_while(|letter| *letter == ' ').collect();
    let end = source[begin..].find(&format!("\n{indent}}}\n"))?;
    source.get(begin..begin + end)
}

/// The snapshots that a test is held against.
fn snapshots(file: &Path, test: &str) -> Vec<PathBuf> {
    let folder = file.parent().map(|folder| folder.join("snapshots")).unwrap_or_default();
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let end = format!("__{test}.snap");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.to_string_lossy().ends_with(&end)).collect()
}

/// True if the word stands there, and not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let inside =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    text.match_indices(word).any(|(at, _)| {
        !inside(text[..at].chars().next_back()) && !inside(text[at + word.len()..].chars().next())
    })
}
