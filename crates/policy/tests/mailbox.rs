//! The mailbox machine, transition by transition: what is stored, what happens, what follows.

use std::{error::Error, time::Duration};

use mailyard_policy::{
    id::MailboxId,
    mailbox::{Effect, Event, Kept, Mailbox, Note, Rules},
    operation::Kind,
    time::Timestamp,
};

const MAILBOX: MailboxId = MailboxId::new(0x0192_0000_0000_7000_8000_0000_0000_0001);
const START: i64 = 1_772_366_400_000;

/// What is stored at first, and for each event, `seconds event`, the effect (empty: none) and what is stored then.
struct Case {
    what: &'static str,
    kept: &'static str,
    steps: &'static [(&'static str, &'static str, &'static str)],
}

const SUBJECT: &str = "seen=1 subject=7 polls=0 test=- done=- ";

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case {
        what: "an empty poll writes nothing",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 completed:0", "", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "a poll that tracked something keeps what came of it",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 completed:2", "settle 2", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "a transient failure counts one and comes again after the retry gap",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 failed:MAILBOX_UNAVAILABLE:-", "settle 2 failing:incoming:MAILBOX_UNAVAILABLE:1",
                "sss retrying:1 period=300000 not_before=+3901 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("3602 settled 2", "", "sss retrying:1 period=300000 not_before=+3901 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("3900 tick", "", "sss retrying:1 period=300000 not_before=+3901 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("3901 tick", "run 3 Incoming", "sss retrying:1 period=300000 not_before=+3901 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("3902 ended 3 completed:0", "settle 4 recovered:incoming", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "the tenth failure in a row disables",
        kept: "sss retrying:9 period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off",
        steps: &[
            ("0 tick", "run 1 Incoming", "sss retrying:9 period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("1 ended 1 failed:MAILBOX_UNAVAILABLE:-", "settle 2 disabled:incoming:MAILBOX_UNAVAILABLE:after_retries",
                "sss disabled period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("2 settled 2", "", "sss disabled period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("90000 tick", "", "sss disabled period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
        ],
    },
    Case {
        what: "a permanent failure disables at once",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 failed:IMPERSONATION_DENIED:-", "settle 2 disabled:incoming:IMPERSONATION_DENIED",
                "sss disabled period=300000 reason=IMPERSONATION_DENIED;none off;none off"),
        ],
    },
    Case {
        what: "what the mailbox signs in with itself was refused: no operation tries it again",
        kept: "sss enabled period=300000;sss retrying:2 period=300000 reason=MAILBOX_UNAVAILABLE;none off",
        steps: &[
            ("3600 tick", "run 1 Outgoing { check: true }",
                "sss enabled period=300000;sss retrying:2 period=300000 reason=MAILBOX_UNAVAILABLE;none off"),
            ("3601 ended 1 failed:MAILBOX_AUTH_REJECTED:-",
                "settle 2 disabled:outgoing:MAILBOX_AUTH_REJECTED disabled:incoming:MAILBOX_AUTH_REJECTED",
                "sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;none off"),
            ("3602 settled 2", "",
                "sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;none off"),
            ("9000 outgoing_due", "",
                "sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;none off"),
        ],
    },
    Case {
        what: "a test that ends with a refused account takes what works with it",
        kept: "sss untested;sss untested;none off",
        steps: &[
            ("0 wanted 2 7 sss,sss,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;sss testing:0:not_run;none off"),
            ("1 settled 1", "run 2 Test([true, true, false])",
                "test=0000000000000000000000000t sss testing:0:not_run;sss testing:0:not_run;none off"),
            ("2 test_ended 2 works fails:MAILBOX_ACCOUNT_LOCKED:- -",
                "settle 3 disabled:outgoing:MAILBOX_ACCOUNT_LOCKED disabled:incoming:MAILBOX_ACCOUNT_LOCKED \
                 test 0000000000000000000000000t MAILBOX_ACCOUNT_LOCKED MAILBOX_ACCOUNT_LOCKED -",
                "done=0000000000000000000000000t sss disabled period=300000 reason=MAILBOX_ACCOUNT_LOCKED;sss disabled reason=MAILBOX_ACCOUNT_LOCKED;none off"),
        ],
    },
    Case {
        what: "credentials that are taken away bar the mailbox until it is tested again",
        kept: "sss enabled period=300000;sss disabled period=300000 reason=MAILBOX_AUTH_REJECTED;none off",
        steps: &[
            ("0 wanted 2 7 sss,sss,none MAILBOX_CREDENTIALS_MISSING - 0", "settle 1 recovered:outgoing",
                "sss untested reason=MAILBOX_CREDENTIALS_MISSING;sss untested reason=MAILBOX_CREDENTIALS_MISSING;none off"),
            ("1 settled 1", "",
                "sss untested reason=MAILBOX_CREDENTIALS_MISSING;sss untested reason=MAILBOX_CREDENTIALS_MISSING;none off"),
            ("2 wanted 3 7 sss,sss,none - - 0", "settle 2", "sss untested;sss untested;none off"),
        ],
    },
    Case {
        what: "throttling counts nothing, in whatever state, and is no news for the alert book",
        kept: "sss retrying:4 period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off",
        steps: &[
            ("0 tick", "run 1 Incoming", "sss retrying:4 period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("1 ended 1 failed:EXCHANGE_SERVER_BUSY:600000", "settle 2",
                "sss retrying:4 period=300000 not_before=+601 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
        ],
    },
    Case {
        what: "a hint of hours is tamed by the ceiling",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3600 ended 1 failed:EXCHANGE_SERVER_BUSY:36000000", "settle 2",
                "sss enabled period=300000 not_before=+4200 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
        ],
    },
    Case {
        what: "a fault of the server shows as retrying, counts nothing and speaks through the profile alone",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 failed:PROFILE_CONNECT_FAILED:-", "settle 2",
                "sss retrying:0 period=300000 not_before=+3901 reason=PROFILE_CONNECT_FAILED;none off;none off"),
        ],
    },
    Case {
        what: "held back by the breaker: nothing is stored",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 held", "", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "the canary runs at once what would run next",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 held", "", "sss enabled period=300000;none off;none off"),
            ("3602 canary both", "run 2 Incoming", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "mail that comes is polled at once, many of them together, and what comes meanwhile a second later",
        kept: "sss enabled period=3600000;none off;none off",
        steps: &[
            ("1 notified", "run 1 Incoming", "sss enabled period=3600000;none off;none off"),
            ("1 notified", "", "sss enabled period=3600000;none off;none off"),
            ("1 notified", "", "sss enabled period=3600000;none off;none off"),
            ("1 ended 1 completed:0", "", "sss enabled period=3600000;none off;none off"),
            ("2 tick", "run 2 Incoming", "sss enabled period=3600000;none off;none off"),
            ("2 ended 2 completed:0", "", "sss enabled period=3600000;none off;none off"),
            ("9 tick", "", "sss enabled period=3600000;none off;none off"),
        ],
    },
    Case {
        what: "a notification hurries nothing that the server, a failure or the breaker holds back",
        kept: "sss enabled period=3600000;none off;none off",
        steps: &[
            ("3700 tick", "run 1 Incoming", "sss enabled period=3600000;none off;none off"),
            ("3701 ended 1 failed:EXCHANGE_SERVER_BUSY:36000000", "settle 2",
                "sss enabled period=3600000 not_before=+4301 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
            ("3702 settled 2", "", "sss enabled period=3600000 not_before=+4301 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
            ("3703 notified", "", "sss enabled period=3600000 not_before=+4301 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
            ("4300 tick", "", "sss enabled period=3600000 not_before=+4301 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
            ("4301 tick", "run 3 Incoming", "sss enabled period=3600000 not_before=+4301 reason=EXCHANGE_SERVER_BUSY;none off;none off"),
        ],
    },
    Case {
        what: "who is not enabled is not polled by a notification",
        kept: "sss disabled period=300000 reason=MAILBOX_UNAVAILABLE;sss enabled period=300000;none off",
        steps: &[
            ("1 notified", "", "sss disabled period=300000 reason=MAILBOX_UNAVAILABLE;sss enabled period=300000;none off"),
        ],
    },
    Case {
        what: "a test that met a fault of the server goes on when the breaker closes, and a poll keeps to its phase",
        kept: "sss untested;sss enabled period=300000;none off",
        steps: &[
            ("0 wanted 2 7 sss,sss,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;sss testing:0:success period=300000;none off"),
            ("1 settled 1", "run 2 Test([true, true, false])",
                "test=0000000000000000000000000t sss testing:0:not_run;sss testing:0:success period=300000;none off"),
            ("2 test_ended 2 fails:PROFILE_CONNECT_FAILED:- works -", "settle 3",
                "test=0000000000000000000000000t sss testing:0:not_run not_before=+302 reason=PROFILE_CONNECT_FAILED;sss enabled period=300000;none off"),
            ("3 settled 3", "",
                "test=0000000000000000000000000t sss testing:0:not_run not_before=+302 reason=PROFILE_CONNECT_FAILED;sss enabled period=300000;none off"),
            ("9 reopened", "run 4 Test([true, false, false])",
                "test=0000000000000000000000000t sss testing:0:not_run not_before=+302 reason=PROFILE_CONNECT_FAILED;sss enabled period=300000;none off"),
        ],
    },
    Case {
        what: "results that are late, doubled or of somebody else change nothing",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 0 failed:IMPERSONATION_DENIED:-", "", "sss enabled period=300000;none off;none off"),
            ("3601 ended 9 failed:IMPERSONATION_DENIED:-", "", "sss enabled period=300000;none off;none off"),
            ("3602 ended 1 completed:1", "settle 2", "sss enabled period=300000;none off;none off"),
            ("3603 ended 1 failed:IMPERSONATION_DENIED:-", "", "sss enabled period=300000;none off;none off"),
            ("3604 settled 1", "", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "outgoing with nothing to send makes no request",
        kept: "none off;sss enabled period=300000;none off",
        steps: &[
            ("0 tick", "", "none off;sss enabled period=300000;none off"),
            ("1 outgoing_due", "run 1 Outgoing { check: false }", "none off;sss enabled period=300000;none off"),
            ("2 ended 1 completed:0", "", "none off;sss enabled period=300000;none off"),
            ("3602 tick", "", "none off;sss enabled period=300000;none off"),
        ],
    },
    Case {
        what: "outgoing that is retrying asks the server even with nothing to send",
        kept: "none off;sss retrying:1 period=300000 reason=MAILBOX_UNAVAILABLE;none off",
        steps: &[
            ("0 tick", "run 1 Outgoing { check: true }", "none off;sss retrying:1 period=300000 reason=MAILBOX_UNAVAILABLE;none off"),
            ("1 ended 1 completed:0", "settle 2 recovered:outgoing", "none off;sss enabled period=300000;none off"),
        ],
    },
    Case {
        what: "a test enables what works and disables what fails, each by itself",
        kept: "sss untested;sss untested;none off",
        steps: &[
            ("0 wanted 2 7 sss,sss,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;sss testing:0:not_run;none off"),
            ("1 settled 1", "run 2 Test([true, true, false])",
                "test=0000000000000000000000000t sss testing:0:not_run;sss testing:0:not_run;none off"),
            ("2 test_ended 2 works fails:IMPERSONATION_DENIED:- -",
                "settle 3 disabled:outgoing:IMPERSONATION_DENIED test 0000000000000000000000000t - IMPERSONATION_DENIED -",
                "done=0000000000000000000000000t sss enabled period=300000;sss disabled reason=IMPERSONATION_DENIED;none off"),
        ],
    },
    Case {
        what: "a transient failure of a test is tried again after 1, 2 and 4 minutes, then disables",
        kept: "sss untested;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 settled 1", "run 2 Test([true, false, false])", "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 test_ended 2 fails:MAILBOX_UNAVAILABLE:- - -", "settle 3",
                "test=0000000000000000000000000t sss testing:1:not_run not_before=+60 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("0 settled 3", "", "test=0000000000000000000000000t sss testing:1:not_run not_before=+60 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("60 tick", "run 4 Test([true, false, false])", "test=0000000000000000000000000t sss testing:1:not_run not_before=+60 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("60 test_ended 4 fails:MAILBOX_UNAVAILABLE:- - -", "settle 5",
                "test=0000000000000000000000000t sss testing:2:not_run not_before=+180 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("60 settled 5", "", "test=0000000000000000000000000t sss testing:2:not_run not_before=+180 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("180 tick", "run 6 Test([true, false, false])", "test=0000000000000000000000000t sss testing:2:not_run not_before=+180 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("180 test_ended 6 fails:MAILBOX_UNAVAILABLE:- - -", "settle 7",
                "test=0000000000000000000000000t sss testing:3:not_run not_before=+420 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("180 settled 7", "", "test=0000000000000000000000000t sss testing:3:not_run not_before=+420 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("420 tick", "run 8 Test([true, false, false])", "test=0000000000000000000000000t sss testing:3:not_run not_before=+420 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("420 test_ended 8 fails:MAILBOX_UNAVAILABLE:- - -",
                "settle 9 disabled:incoming:MAILBOX_UNAVAILABLE test 0000000000000000000000000t MAILBOX_UNAVAILABLE - -",
                "done=0000000000000000000000000t sss disabled reason=MAILBOX_UNAVAILABLE;none off;none off"),
        ],
    },
    Case {
        what: "a test that took too long has failed, and comes again",
        kept: "sss untested;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 settled 1", "run 2 Test([true, false, false])", "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 ended 2 failed:MAILBOX_CYCLE_DEADLINE:-", "settle 3",
                "test=0000000000000000000000000t sss testing:1:not_run not_before=+60 reason=MAILBOX_CYCLE_DEADLINE;none off;none off"),
        ],
    },
    Case {
        what: "a test of what is not approved is skipped with the reason",
        kept: "sss untested;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none MAILBOX_NOT_APPROVED 0000000000000000000000000t 0",
                "settle 1 test 0000000000000000000000000t MAILBOX_NOT_APPROVED - - skipped",
                "done=0000000000000000000000000t sss untested reason=MAILBOX_NOT_APPROVED;none off;none off"),
        ],
    },
    Case {
        what: "approval withdrawn between two tries ends the test",
        kept: "sss untested;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 settled 1", "run 2 Test([true, false, false])", "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 test_ended 2 fails:MAILBOX_UNAVAILABLE:- - -", "settle 3",
                "test=0000000000000000000000000t sss testing:1:not_run not_before=+60 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("0 settled 3", "", "test=0000000000000000000000000t sss testing:1:not_run not_before=+60 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("1 wanted 3 7 sss,none,none MAILBOX_NOT_APPROVED 0000000000000000000000000t 0",
                "settle 4 test 0000000000000000000000000t MAILBOX_NOT_APPROVED - - skipped",
                "done=0000000000000000000000000t sss untested reason=MAILBOX_NOT_APPROVED;none off;none off"),
        ],
    },
    Case {
        what: "a fault of the server does not use up the tries of a test",
        kept: "sss untested;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none - 0000000000000000000000000t 0", "settle 1",
                "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 settled 1", "run 2 Test([true, false, false])", "test=0000000000000000000000000t sss testing:0:not_run;none off;none off"),
            ("0 test_ended 2 fails:PROFILE_CONNECT_FAILED:- - -", "settle 3",
                "test=0000000000000000000000000t sss testing:0:not_run not_before=+300 reason=PROFILE_CONNECT_FAILED;none off;none off"),
        ],
    },
    Case {
        what: "a canceled test that had failed for a while leaves no reason behind",
        kept: "test=0000000000000000000000000t sss testing:1:success period=300000 reason=MAILBOX_UNAVAILABLE;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none - - 0", "settle 1", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "a canceled test leaves what was",
        kept: "test=0000000000000000000000000t sss testing:1:success period=300000;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none - - 0", "settle 1", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "another address, profile or method: untested, and the position in the Inbox is forgotten with the mailbox",
        kept: "sss retrying:3 period=300000 reason=MAILBOX_UNAVAILABLE;sss enabled period=300000;none off",
        steps: &[
            ("0 wanted 2 8 sss,sss,none - - 0", "settle 1 recovered:incoming forget_cursor",
                "subject=8 sss untested;sss untested;none off"),
        ],
    },
    Case {
        what: "a method of its own changed: only that operation is untested",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,sss,none - - 0", "settle 1", "sss enabled period=300000;sss untested;none off"),
        ],
    },
    Case {
        what: "approval withdrawn: untested",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("0 wanted 2 7 sss,none,none MAILBOX_NOT_APPROVED - 0", "settle 1",
                "sss untested reason=MAILBOX_NOT_APPROVED;none off;none off"),
        ],
    },
    Case {
        what: "an older wish that comes late changes nothing",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[("0 wanted 1 8 none,none,none MAILBOX_NOT_APPROVED - 0", "", "sss enabled period=300000;none off;none off")],
    },
    Case {
        what: "a wish that comes while something is under way is applied after it",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 wanted 2 7 none,none,none - - 0", "", "sss enabled period=300000;none off;none off"),
            ("3602 ended 1 failed:MAILBOX_UNAVAILABLE:-",
                "settle 2 failing:incoming:MAILBOX_UNAVAILABLE:1 recovered:incoming", "none off;none off;none off"),
        ],
    },
    Case {
        what: "a poll that a person asked for runs at once, and is done when it ended",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("1 wanted 1 7 sss,none,none - - 3", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("2 ended 1 completed:0", "settle 2", "polls=3 sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "a backlog goes on at once",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 more:512", "settle 2", "sss enabled period=300000;none off;none off"),
            ("3602 settled 2", "run 3 Incoming", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "our own side failed: nothing is known of Exchange, nothing is stored, ten seconds later again",
        kept: "sss enabled period=300000;none off;none off",
        steps: &[
            ("3600 tick", "run 1 Incoming", "sss enabled period=300000;none off;none off"),
            ("3601 ended 1 ours_failed", "", "sss enabled period=300000;none off;none off"),
            ("3610 tick", "", "sss enabled period=300000;none off;none off"),
            ("3611 tick", "run 2 Incoming", "sss enabled period=300000;none off;none off"),
        ],
    },
    Case {
        what: "a stored time far ahead of a clock that jumped back holds up nothing for longer than the longest wait",
        kept: "sss retrying:1 period=300000 not_before=+900000 reason=MAILBOX_UNAVAILABLE;none off;none off",
        steps: &[
            ("3599 tick", "", "sss retrying:1 period=300000 not_before=+900000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
            ("3600 tick", "run 1 Incoming", "sss retrying:1 period=300000 not_before=+900000 reason=MAILBOX_UNAVAILABLE;none off;none off"),
        ],
    },
];

#[test]
fn transitions() -> Result<(), Box<dyn Error>> {
    for case in CASES {
        let rules = Rules::default();
        let kept: Kept = kept_of(case.kept)?;
        let mut mailbox = Mailbox::claimed(MAILBOX, kept, &rules, at(0));
        for (event, effect, then) in case.steps {
            let (seconds, event) = event.split_once(' ').ok_or("no time")?;
            let event: Event = event.parse()?;
            let done = mailbox.step(&rules, event, at(seconds.parse()?));
            let place = format!("{}: {seconds} {event}", case.what);
            assert_eq!(done.as_ref().map(show).unwrap_or_default(), *effect, "{place}");
            let then = Kept { wanted_seen: mailbox.kept().wanted_seen, ..kept_of(then)? };
            assert_eq!(*mailbox.kept(), then, "{place}: {}", mailbox.kept());
        }
    }
    Ok(())
}

/// The moments of all polls, in seconds, of a mailbox that is notified of mail at these.
fn polls_when_notified(rules: &Rules, notified: &[i64], seconds: i64) -> Vec<i64> {
    let kept = kept_of("sss enabled period=300000;none off;none off").unwrap_or_default();
    let mut mailbox = Mailbox::claimed(MAILBOX, kept, rules, at(0));
    let mut polls = Vec::new();
    for now in 0..seconds {
        let event = if notified.contains(&now) { Event::Notified } else { Event::Tick };
        if let Some(Effect::Run { attempt, .. }) = mailbox.step(rules, event, at(now)) {
            polls.push(now);
            let outcome = mailyard_policy::mailbox::Outcome::Completed { items: 0 };
            let ended = mailbox.step(rules, Event::Ended(attempt, outcome), at(now));
            assert_eq!(ended, None, "nothing changes");
        }
    }
    polls
}

#[test]
fn notifications_keep_to_the_minimum_interval() {
    let period = Duration::from_mins(5);
    let steady = Rules { active_min: period, active_max: period, idle_max: period, ..Rules::default() };
    let floor = Rules { minimum_interval: period * 2, ..steady };
    let plain = polls_when_notified(&floor, &[], 6000);
    assert!(plain.len() > 8 && plain.windows(2).all(|two| two[1] - two[0] == 600), "{plain:?}");
    let notified = [plain[0] + 60, plain[0] + 61, plain[0] + 900, plain[0] + 2000];
    let polls = polls_when_notified(&floor, &notified, 6000);
    assert!(polls.windows(2).all(|two| two[1] - two[0] >= 600), "no more often: {polls:?}");
    assert!(polls.contains(&(plain[0] + 600)), "{polls:?}");
    let free = polls_when_notified(&steady, &notified, 6000);
    assert!(notified.iter().all(|at| free.contains(at)), "{free:?}");
}

#[test]
fn who_is_watched_anew_is_polled_in_the_turn_of_an_active_one() {
    let rules = Rules::default();
    let polled_at = |number: u128, steps: &[(i64, Event)]| {
        let kept = kept_of("sss enabled period=3600000;none off;none off").unwrap_or_default();
        let mut mailbox = Mailbox::claimed(MailboxId::new(number), kept, &rules, at(0));
        (0..3600).find(|now| {
            let event = steps.iter().find(|(when, _)| when == now).map_or(Event::Tick, |(_, event)| *event);
            mailbox.step(&rules, event, at(*now)).is_some()
        })
    };
    let active = rules.active_period.as_secs() as i64;
    let mut by_minute = [0; 5];
    for number in 0..1000 {
        let plain = polled_at(number, &[]).unwrap_or(3600);
        let watched = polled_at(number, &[(10, Event::Watched)]).unwrap_or(3600);
        assert!((10..=10 + active).contains(&watched) || watched == plain, "{watched}, {plain}");
        let notified = polled_at(number, &[(10, Event::Watched), (11, Event::Notified)]);
        assert!(notified <= Some(11), "mail that came is not waited for");
        if plain > 10 {
            by_minute[((watched - 10) * 5 / (active + 1)) as usize] += 1;
        }
    }
    assert!(by_minute.iter().all(|count| (150..250).contains(count)), "no burst: {by_minute:?}");
}

#[test]
fn the_cadence_follows_the_activity() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let rules = Rules::default();
    let kept = kept_of("sss enabled period=300000;none off;none off").unwrap_or_default();
    let mut mailbox = Mailbox::claimed(MAILBOX, kept, &rules, at(0));
    let mut now = 0;
    let mut periods = Vec::new();
    for items in [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1] {
        now += 7200;
        let Some(Effect::Run { attempt, .. }) = mailbox.step(&rules, Event::Tick, at(now)) else {
            panic!("nothing ran at {now}")
        };
        let outcome = mailyard_policy::mailbox::Outcome::Completed { items };
        if let Some(Effect::Settle { attempt, .. }) =
            mailbox.step(&rules, Event::Ended(attempt, outcome), at(now))
        {
            mailbox.step(&rules, Event::Settled(attempt), at(now));
        }
        let period = mailbox.kept().operations[Kind::Incoming as usize].period;
        if periods.last() != Some(&period) {
            periods.push(period);
        }
    }
    assert_eq!(periods, [5, 2, 5, 12, 24, 48, 60, 5, 2].map(minutes));
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START + seconds * 1000)
}

/// Reads `[test=…] [done=…] [polls=…] [subject=…] OPERATIONS`, where `+N` is N seconds after the start.
fn kept_of(text: &str) -> Result<Kept, Box<dyn Error>> {
    let mut head: Vec<(&str, String)> = SUBJECT
        .split_whitespace()
        .filter_map(|part| part.split_once('='))
        .map(|(key, v)| (key, v.to_owned()))
        .collect();
    let mut rest = text;
    while let Some((part, tail)) = rest.split_once(' ') {
        let Some((key, value)) = part.split_once('=') else { break };
        if let Some(place) = head.iter_mut().find(|(known, _)| *known == key) {
            value.clone_into(&mut place.1);
        }
        rest = tail;
    }
    let head: Vec<String> = head.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut operations = String::new();
    for (number, part) in rest.split("not_before=+").enumerate() {
        if number > 0 {
            let end = part.find([' ', ';']).unwrap_or(part.len());
            let millis = START + part[..end].parse::<i64>()? * 1000;
            operations.push_str(&format!("not_before={millis}{}", &part[end..]));
        } else {
            operations.push_str(part);
        }
    }
    Ok(format!("{} {operations}", head.join(" ")).parse()?)
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Run { attempt, work } => format!("run {attempt} {work:?}"),
        Effect::Settle { attempt, notes, test, forget_cursor } => {
            let mut text = format!("settle {attempt}");
            for note in notes {
                text.push(' ');
                text.push_str(&match note {
                    Note::Failing { operation, reason, failures } => {
                        format!("failing:{operation}:{reason}:{failures}")
                    }
                    Note::Disabled { operation, reason, after_retries: true } => {
                        format!("disabled:{operation}:{reason}:after_retries")
                    }
                    Note::Disabled { operation, reason, after_retries: false } => {
                        format!("disabled:{operation}:{reason}")
                    }
                    Note::Recovered { operation } => format!("recovered:{operation}"),
                    Note::Connected => "connected".to_owned(),
                });
            }
            if let Some(end) = test {
                text.push_str(&format!(" test {}", end.test));
                for reason in end.reasons {
                    text.push_str(&reason.map_or(" -".to_owned(), |reason| format!(" {reason}")));
                }
                if end.skipped {
                    text.push_str(" skipped");
                }
            }
            if *forget_cursor {
                text.push_str(" forget_cursor");
            }
            text
        }
    }
}
