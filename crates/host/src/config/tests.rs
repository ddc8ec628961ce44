//! The configuration as people write it, rightly and wrongly.

use std::{fs, path::PathBuf, time::Duration};

use super::{Config, KEYS, Percent, default_file, load};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Reads a file of this text; the folder is to be kept while the path is used.
fn file(text: &str) -> Result<(tempfile::TempDir, PathBuf), std::io::Error> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("mailyard.toml");
    fs::write(&path, text)?;
    Ok((folder, path))
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What is said about a file, variables and flags; the file's path as FILE.
fn problems(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<String, std::io::Error> {
    let (_folder, path) = file(text)?;
    Ok(match load(Some(&path), owned(variables), flags) {
        Ok(_) => String::new(),
        Err(error) => error.to_string().replace(&path.display().to_string(), "FILE"),
    })
}

#[test]
fn every_key_is_printed_with_its_default_and_its_meaning() -> Outcome {
    insta::assert_snapshot!(default_file());
    let (_folder, path) = file(&default_file())?;
    assert_eq!(load(Some(&path), [], &[])?, Config::default());
    for key in KEYS {
        assert!(default_file().contains(&format!("\n{} = ", key.name)), "{key:?}");
        assert!(
            key.meaning.trim_end().ends_with('.') || key.meaning.ends_with('"') || key.meaning.contains(": ")
        );
    }
    Ok(())
}

#[test]
fn every_key_can_be_set_in_the_environment() -> Outcome {
    let defaults = Config::default();
    for key in KEYS {
        let value = defaults.written(key.section, key.name).unwrap_or_default();
        let name = format!("MAILYARD__{}__{}", key.section, key.name).to_uppercase();
        assert_eq!(load(None, [(name, value.trim_matches('"').to_owned())], &[])?, defaults, "{key:?}");
    }
    Ok(())
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() -> Outcome {
    let (_folder, path) = file("[sync]\nretry_gap = \"1m\"\n[alerts]\nfailure_ratio = 0.75\n")?;
    let variable = owned(&[("MAILYARD__SYNC__RETRY_GAP", "2m")]);
    let flag = [("sync.retry_gap", "3m")];
    let gap = |config: Config| config.sync.retry_gap.as_secs() / 60;
    assert_eq!(gap(load(None, [], &[])?), 5);
    assert_eq!(gap(load(Some(&path), [], &[])?), 1);
    assert_eq!(gap(load(Some(&path), variable.clone(), &[])?), 2);
    let all = load(Some(&path), variable, &flag)?;
    assert_eq!((all.alerts.failure_ratio, all.sync.retry_gap), (Percent(75), Duration::from_mins(3)));
    assert!(load(Some(&path.with_file_name("absent.toml")), [], &[]).is_err());
    Ok(())
}

#[test]
fn names_may_stand_in_a_table() -> Outcome {
    let (_folder, path) = file(
        "[exchange]\nconnect_timeout = \"9s\"\n[exchange.resolve]\n\"mail.example.org:443\" = \"127.0.0.1:8443\"\n\
         \"_autodiscover._tcp.example.org\" = \"srv:mail.example.org:443\"\n\"old.example.org:443\" = \"none\"\n",
    )?;
    let config = load(Some(&path), [], &[])?;
    let text = "_autodiscover._tcp.example.org=srv:mail.example.org:443,mail.example.org:443=127.0.0.1:8443,\
                old.example.org:443=none";
    assert_eq!(config.exchange.resolve, text.parse()?);
    assert_eq!(config.exchange.connect_timeout, Duration::from_secs(9));
    let variable = owned(&[("MAILYARD__EXCHANGE__RESOLVE", text)]);
    assert_eq!(load(None, variable, &[])?.exchange.resolve, config.exchange.resolve);
    Ok(())
}

#[test]
fn everything_that_is_wrong_in_a_file_is_said_with_its_place() -> Outcome {
    let mut story = String::new();
    for text in [
        "[sync]\nactive_perod = \"5m\"\n",
        "[snyc]\n",
        "[zzz]\nqqq = 1\n",
        "retry_gap = \"5m\"\n",
        "surprise = 1\n",
        "\n\n[sync]\n  retry_gap = \"soon\"\n",
        "[sync]\nretry_gap = 5\n",
        "[sync]\nretry_attempts = 300\n",
        "[sync]\nretry_attempts = 0x10\n",
        "[sync]\nretry_attempts = \"10\"\n",
        "[sync]\nretry_gap = [1]\n",
        "[sync]\nactive_period = \"20m\"\nactive_perod = 1\nretry_gap = -1\n",
        "[sync]\nactive_period = \"20m\"\n",
        "[sync\n",
        "[sync]\nretry_gap = \"5m\"\nretry_gap = \"6m\"\n",
        "[log]\nlevel = \"inof\"\n",
        "[log]\nformat = 1\n",
        "[telemetry]\notlp_endpoint = \"collector\"\n",
        "[store]\npath = 5\n",
        "[listen]\ngrpc = \"localhost\"\n",
        "[alerts]\nfailure_ratio = 0.3\n",
        "[alerts]\nfailure_ratio = 1.5\n",
        "[breaker]\ncanary_first = \"2m\"\n",
        "[smtp]\ntls = \"ssl\"\n",
        "[smtp]\nhost = \"relay\"\n",
        "[smtp]\nuser = \"u\"\n",
        "[smtp]\npassword_file = \"/run/p\"\n",
        "[smtp]\nport = 70000\n",
        "[exchange]\nrequest_deadline = \"30s\"\n",
        "[exchange]\nmax_message_size = \"64MB\"\n",
        "[exchange]\ncycle_deadline = \"5s\"\n",
        "[exchange]\nallow_plain_http = \"yes\"\n",
        "[exchange]\nautodiscover_domains = \"*.example.org\"\n",
        "[exchange]\nresolve = \"mail.example.org=here\"\n",
        "[exchange.resolve]\n\"a.example.org:443\" = \"127.0.0.1:1\"\n\"b.example.org\" = \"127.0.0.1:1\"\n\"c.example.org:1\" = 5\n",
        "[sync.retry_gap]\nx = \"1m\"\n",
    ] {
        let said = problems(text, &[], &[])?;
        assert!(said.starts_with("FILE:"), "{text}: {said}");
        story.push_str(&format!("{}\n  -> {}\n\n", text.trim_end(), said.replace('\n', "\n  -> ")));
    }
    insta::assert_snapshot!(story);
    Ok(())
}

#[test]
fn variables_and_flags_are_named_when_they_are_wrong() -> Outcome {
    let said = problems("", &[("MAILYARD__SYNC__RETRYGAP", "1m")], &[])?;
    assert_eq!(
        said,
        "environment variable MAILYARD__SYNC__RETRYGAP: there is no key sync.retrygap; the nearest is sync.retry_gap"
    );
    assert_eq!(problems("", &[("MAILYARD_DATA", "x"), ("HOME", "y")], &[])?, "");
    let said = problems("[sync]\nactive_period = \"9m\"\n", &[("MAILYARD__SYNC__ACTIVE_MAX", "8m")], &[])?;
    assert!(said.starts_with("FILE:2:17: sync.active_period must not be longer"), "{said}");
    let said = problems("", &[], &[("listen.grpc", "here")])?;
    assert!(said.starts_with("listen.grpc: the value of listen.grpc is not allowed there"), "{said}");
    let secret = problems("", &[("MAILYARD__SMTP__PORT", "hunter2")], &[])?;
    assert!(!secret.contains("hunter2"), "{secret}");
    Ok(())
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "(\\[[a-z]{1,8}\\]\n|[a-z_]{1,9} = [\"0-9a-z.\\[{}\\]-]{0,9}\n|\\PC{0,9}){0,6}") {
        let said = problems(&text, &[], &[])?;
        proptest::prop_assert!(said.is_empty() || said.starts_with("FILE:"), "{said}");
    }
}
