//! SettingsService.

use std::fmt::Write as _;

use mailyard_wire::{
    FieldMask,
    admin::{GetSettingsRequest, Method, Settings, UpdateSettingsRequest},
};

use crate::house::{House, PARENT, answered, name, told};

fn update(settings: Settings, paths: &[&str]) -> UpdateSettingsRequest {
    let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
    let settings = Settings { name: format!("{PARENT}/emailSettings"), ..settings };
    UpdateSettingsRequest { settings: Some(settings), update_mask: (!paths.is_empty()).then_some(mask) }
}

#[tokio::test]
async fn settings_change_by_their_mask_if_nobody_was_quicker() {
    let house = House::new().await;
    let profile = house.profile("Main").await;
    let request = GetSettingsRequest { name: format!("{PARENT}/emailSettings") };
    let first = answered(house.settings().get_settings(request).await);
    assert!(first.approve_users && first.approve_queues && first.default_profile.is_empty());

    let wanted = Settings {
        default_profile: name("emailServerProfiles", "main"),
        default_outgoing: Method::None.into(),
        ..Settings::default()
    };
    let changed = answered(house.settings().update_settings(update(wanted, &[])).await);
    let expected = Settings {
        default_profile: profile.name,
        default_outgoing: Method::None.into(),
        etag: changed.etag.clone(),
        ..first.clone()
    };
    assert_eq!(changed, expected, "without a mask: what is set");
    let off = Settings { etag: changed.etag.clone(), ..Settings::default() };
    let off = update(off, &["approve_users", "default_profile"]);
    let changed = answered(house.settings().update_settings(off).await);
    assert_eq!((changed.approve_users, changed.approve_queues, &*changed.default_profile), (false, true, ""));
    assert_eq!(house.nudges(), 2);

    let mut table = String::new();
    for (what, settings, paths) in [
        ("an old etag", Settings { etag: first.etag, ..Settings::default() }, &["approve_users"][..]),
        ("a field that is none", Settings::default(), &["approve_everybody"]),
        ("no method", Settings::default(), &["default_incoming"]),
        ("forwarding", Settings { default_incoming: Method::Forward.into(), ..Settings::default() }, &[]),
        ("appointments", Settings { default_act: Method::Sss.into(), ..Settings::default() }, &[]),
        (
            "an unknown profile",
            Settings { default_profile: name("emailServerProfiles", "None"), ..Settings::default() },
            &[],
        ),
    ] {
        let refused = told(house.settings().update_settings(update(settings, paths)).await);
        let _ = writeln!(table, "{what}: {refused}");
    }
    let nowhere = GetSettingsRequest { name: "organizations/nowhere/emailSettings".into() };
    let _ = writeln!(table, "nowhere: {}", told(house.settings().get_settings(nowhere).await));
    insta::assert_snapshot!(table);
}
