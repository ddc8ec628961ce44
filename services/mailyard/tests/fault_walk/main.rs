//! The walk over everything that the simulator can do wrong: what happens is told by one reason, the same in gRPC, alert,
//! metric, log and command line, and passes again as the reason says.

mod coverage;
mod look;
mod rows;
mod shell;
mod world;

use std::time::{Duration, Instant};

use mailyard_exchange_sim::FaultKind;
use mailyard_policy::{Nature, Reason};
use mailyard_tests::Outcome;

use crate::{
    look::{Look, explain},
    rows::{On, ROWS, Row, Told},
    shell::Shell,
    world::{Place, World},
};

/// Whatever is waited for comes within this, or not at all. The pauses of a server that is busy double.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOKED: Duration = Duration::from_millis(250);

#[test]
fn every_kind_of_fault_has_a_row_that_agrees_with_the_catalogue() {
    let without: Vec<_> =
        FaultKind::ALL.iter().filter(|kind| ROWS.iter().all(|row| row.kind != **kind)).collect();
    assert!(without.is_empty(), "no row: {without:?}");
    let wrong: Vec<_> = ROWS.iter().filter(|row| !look::agrees(row.told)).collect();
    assert!(wrong.is_empty(), "the catalogue says otherwise: {wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_by_one_reason_everywhere_and_passes_as_it_says() -> Outcome {
    let world = World::new(ROWS).await?;
    // Whoever is found already would be polled where he was, and mail that comes during a poll comes on a page of its own.
    let early = |row: &Row| matches!(row.on, On::Found | On::Pages);
    world.break_down(early)?;
    for place in world.places.iter().filter(|place| early(place.row)) {
        world.deliver(place, place.row.mails());
    }
    let everybody = || world.places.iter().map(|place| place.mailbox.clone()).collect();
    world.test_and_enable(everybody()).await?;
    world.break_down(|row| !early(row))?;
    for place in world.places.iter().filter(|place| !early(place.row)) {
        if place.row.on == On::Sending {
            world.enqueue(place).await?;
        } else {
            world.deliver(place, place.row.mails());
        }
    }
    until(
        "told",
        &world,
        |_| true,
        async |look, place| {
            let mut misses = look.misses(place, &explain(&world, place).await?);
            if place.row.told == Told::Nothing && world.struck(place) == 0 {
                misses.push("it has not struck".to_owned());
            }
            Ok(misses)
        },
    )
    .await?;
    let shell = Shell::take(&world).await?;
    until("told in the shell", &world, |_| true, async |_, place| shell.misses(&world, place).await).await?;

    world.mend();
    until(
        "passed by itself",
        &world,
        |row| !needs_person(row),
        async |look, place| {
            let explained = explain(&world, place).await?;
            let well = look.is_well(place, &explained);
            Ok(if well { Vec::new() } else { vec![look.describe(place, &explained)] })
        },
    )
    .await?;
    let look = Look::take(&world).await?;
    for place in world.places.iter().filter(|place| needs_person(place.row)) {
        let well = look.is_well(place, &explain(&world, place).await?);
        assert!(!well, "{}: nobody has mended it", place.profile);
    }
    for place in world.places.iter().filter(|place| matches!(place.row.told, Told::Server(_))) {
        if needs_person(place.row) {
            world.give_secret(place).await?;
        }
    }
    world.test_and_enable(everybody()).await?;
    replay(&world, &look).await?;
    for place in &world.places {
        world.deliver(place, 1);
    }
    until(
        "well",
        &world,
        |_| true,
        async |look, place| {
            let explained = explain(&world, place).await?;
            let all = look.tracked(place) == place.row.mails() + 1 && look.is_connected(place);
            let well = all && look.is_well(place, &explained);
            Ok(if well { Vec::new() } else { vec![look.describe(place, &explained)] })
        },
    )
    .await?;
    world.end().await
}

/// True if it does not pass by itself.
fn needs_person(row: &Row) -> bool {
    let Some(reason) = row.told.code().and_then(|code| code.parse::<Reason>().ok()) else { return false };
    match row.told {
        Told::Mailbox(_) => reason.nature() != Nature::Transient,
        Told::Server(_) => reason.is_credential_fault(),
        _ => false,
    }
}

/// Waits until no row misses anything.
async fn until(
    what: &str,
    world: &World,
    which: impl Fn(&Row) -> bool,
    misses: impl AsyncFn(&Look, &Place) -> Outcome<Vec<String>>,
) -> Outcome {
    let begun = Instant::now();
    let mut left: Vec<&Place> = world.places.iter().filter(|place| which(place.row)).collect();
    loop {
        let look = Look::take(world).await?;
        let (mut still, mut told) = (Vec::new(), String::new());
        for place in left {
            let missing = misses(&look, place).await?;
            if !missing.is_empty() {
                told.push_str(&format!("\n{} {:?}: {}", place.profile, place.row.told, missing.join(", ")));
                still.push(place);
            }
        }
        if still.is_empty() {
            println!("{what} after {:?}", begun.elapsed());
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("in vain: {what}:{told}").into());
        }
        left = still;
        tokio::time::sleep(LOOKED).await;
    }
}

/// What was put aside is tried anew.
async fn replay(world: &World, look: &Look) -> Outcome {
    for place in world.places.iter().filter(|place| matches!(place.row.told, Told::Item(_))) {
        let ids = look.aside.iter().filter(|item| item.mailbox == place.mailbox);
        let request = mailyard_wire::records::ReplayItemsRequest {
            parent: world.server.parent.clone(),
            mailbox: place.mailbox.clone(),
            item_ids: ids.map(|item| item.item_id.clone()).collect(),
        };
        world.server.call(world.server.emails().replay_items(request)).await?;
    }
    Ok(())
}
