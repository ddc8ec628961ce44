//! The demonstration as a check: it tells its story, and says which step is missing if one is broken on purpose.

use std::process::{Output, Stdio};

async fn demo(skip: Option<usize>) -> std::io::Result<Output> {
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_mailyard"));
    demo.args(["demo", "--for", "60s", "--assert"]).stdin(Stdio::null()).kill_on_drop(true);
    demo.env_remove("MAILYARD_DEMO_SKIP");
    if let Some(step) = skip {
        demo.env("MAILYARD_DEMO_SKIP", step.to_string());
    }
    demo.output().await
}

#[tokio::test]
async fn the_story_is_seen_whole() -> std::io::Result<()> {
    let shown = demo(None).await?;
    let (out, errors) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert_eq!(shown.status.code(), Some(0), "{out}{errors}");
    for expected in
        ["sync.active_period: \"5m\" \u{2192} \"1s\"", " 1 tracked ", " 4 disabled ", " 7 recovered "]
    {
        assert!(out.contains(expected), "{expected:?}: {out}");
    }
    Ok(())
}

#[tokio::test]
async fn a_step_that_is_broken_is_named() -> std::io::Result<()> {
    let names = ["tracked", "sent", "retrying", "disabled", "throttled", "ratio", "recovered"];
    let shown = futures_util::future::join_all((1..=names.len()).map(|step| demo(Some(step)))).await;
    for ((step, name), shown) in (1..).zip(names).zip(shown) {
        let shown = shown?;
        let errors = String::from_utf8_lossy(&shown.stderr);
        assert_eq!(shown.status.code(), Some(6), "step {step}: {errors}");
        assert!(errors.contains(&format!("step {step} ({name})")), "step {step}: {errors}");
    }
    Ok(())
}
