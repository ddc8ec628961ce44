-- Mailyard on SQLite. Ids are 16 bytes, times are milliseconds since 1970 UTC, words are text; columns that end in _key
-- are folded for comparison without case. Nothing here means something that PostgreSQL could not mean too.

PRAGMA application_id = 1296128344; -- "MAYX", so that a foreign file is told from ours

CREATE TABLE store(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  feed_incarnation BLOB NOT NULL,
  key_id TEXT, key_wrapped BLOB, key_sealed BLOB,
  epoch INTEGER NOT NULL DEFAULT 0          -- the last number given to a term or a grant
) STRICT;

CREATE TABLE org(
  org TEXT PRIMARY KEY,
  default_profile BLOB,
  default_methods TEXT NOT NULL DEFAULT 'sss,sss,none',
  approve_users INTEGER NOT NULL DEFAULT 1,
  approve_queues INTEGER NOT NULL DEFAULT 1,
  revision INTEGER NOT NULL DEFAULT 0,
  feed_position INTEGER NOT NULL DEFAULT 0
) STRICT;

-- who leads, who lives, who holds what

CREATE TABLE coordinator(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  term INTEGER NOT NULL, holder TEXT NOT NULL, nonce BLOB NOT NULL, lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE worker(
  incarnation BLOB PRIMARY KEY,
  worker_id TEXT NOT NULL, state TEXT NOT NULL, lease_until INTEGER NOT NULL, build TEXT NOT NULL
) STRICT;

CREATE TABLE shard(
  shard_id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL DEFAULT 0, nonce BLOB,
  phase INTEGER NOT NULL DEFAULT 0,         -- 0 free, 1 owned, 2 revoking
  owner_id TEXT, owner_inc BLOB
) STRICT;
CREATE INDEX shard_owner ON shard(owner_inc) WHERE owner_inc IS NOT NULL;

-- what people want

CREATE TABLE profile(
  profile_id BLOB PRIMARY KEY, org TEXT NOT NULL REFERENCES org,
  display_name TEXT NOT NULL, name_key TEXT NOT NULL, description TEXT NOT NULL,
  incoming_url TEXT, outgoing_url TEXT, ca_pem TEXT,
  process_email_from INTEGER, minimum_interval INTEGER NOT NULL, max_connections INTEGER NOT NULL,
  idle_max INTEGER NOT NULL, move_failed INTEGER NOT NULL, alert_owner INTEGER NOT NULL, owner_email TEXT,
  request_deadline INTEGER, streaming INTEGER NOT NULL, credential_source TEXT NOT NULL, lanes INTEGER NOT NULL,
  consumes_draft INTEGER, checks_change_key INTEGER, moved_id_dies INTEGER,
  create_time INTEGER NOT NULL, revision INTEGER NOT NULL,
  UNIQUE (org, name_key)
) STRICT;

-- how a profile's mail is read, and how it is sent if that is another way
CREATE TABLE credentials(
  profile_id BLOB NOT NULL REFERENCES profile, direction TEXT NOT NULL,
  authentication TEXT NOT NULL, access TEXT NOT NULL, user_name TEXT NOT NULL,
  tenant TEXT, client TEXT, certificate_pem TEXT, authority TEXT, resource TEXT,
  secret_revision INTEGER NOT NULL DEFAULT 0, key_id TEXT, wrapped_key BLOB, sealed BLOB,
  PRIMARY KEY (profile_id, direction)
) STRICT;

-- the last Test Connection of a profile
CREATE TABLE connection_test(
  profile_id BLOB PRIMARY KEY REFERENCES profile, at INTEGER NOT NULL, address TEXT
) STRICT;

CREATE TABLE connection_step(
  profile_id BLOB NOT NULL REFERENCES connection_test ON DELETE CASCADE, n INTEGER NOT NULL, direction TEXT,
  name TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT, duration INTEGER NOT NULL,
  evidence TEXT NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL,
  PRIMARY KEY (profile_id, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE mailbox(
  mailbox_id BLOB PRIMARY KEY, org TEXT NOT NULL REFERENCES org,
  address TEXT NOT NULL, address_key TEXT NOT NULL, display_name TEXT NOT NULL, name_key TEXT NOT NULL,
  kind TEXT NOT NULL, profile_id BLOB REFERENCES profile, methods TEXT NOT NULL,
  owner_email TEXT, owner_key TEXT, crm_id TEXT, crm_key TEXT, process_email_from INTEGER,
  approval TEXT NOT NULL, approval_time INTEGER, create_time INTEGER NOT NULL, revision INTEGER NOT NULL,
  shard_id INTEGER NOT NULL REFERENCES shard, hash_version INTEGER NOT NULL,
  wanted_revision INTEGER NOT NULL DEFAULT 1, test_wanted BLOB, polls_wanted INTEGER NOT NULL DEFAULT 0,
  -- from here on written by the holder, under the fence
  fence INTEGER NOT NULL DEFAULT 0, fence_nonce BLOB, commit_ver INTEGER NOT NULL DEFAULT 0,
  start INTEGER, cycles INTEGER NOT NULL DEFAULT 0,
  wanted_seen INTEGER NOT NULL DEFAULT 0, kept TEXT, test_done BLOB, polls_done INTEGER NOT NULL DEFAULT 0,
  health TEXT NOT NULL DEFAULT 'not_eligible',
  incoming_state TEXT NOT NULL, outgoing_state TEXT NOT NULL, act_state TEXT NOT NULL,
  incoming_reason TEXT, outgoing_reason TEXT, act_reason TEXT,
  UNIQUE (org, address_key)
) STRICT;
CREATE INDEX mailbox_claim ON mailbox(shard_id, fence);
CREATE INDEX mailbox_profile ON mailbox(profile_id);
CREATE INDEX mailbox_unapplied ON mailbox(shard_id) WHERE wanted_revision <> wanted_seen;

-- whom a mailbox signs in as, where its profile leaves that to mailboxes
CREATE TABLE account(
  mailbox_id BLOB PRIMARY KEY REFERENCES mailbox, org TEXT NOT NULL, user_name TEXT NOT NULL,
  secret_revision INTEGER NOT NULL, key_id TEXT NOT NULL, wrapped_key BLOB NOT NULL, sealed BLOB NOT NULL
) STRICT;

CREATE TABLE shard_profile_count(
  shard_id INTEGER NOT NULL, profile_id BLOB NOT NULL, health TEXT NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY (shard_id, profile_id, health)
) STRICT, WITHOUT ROWID;

CREATE TABLE long_operation(
  operation_id BLOB PRIMARY KEY, org TEXT NOT NULL, selection TEXT NOT NULL,
  state TEXT NOT NULL, reason TEXT, create_time INTEGER NOT NULL, end_time INTEGER,
  total INTEGER NOT NULL, running INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
  skipped INTEGER NOT NULL, ended INTEGER NOT NULL
) STRICT;
CREATE INDEX long_operation_list ON long_operation(create_time, operation_id);

CREATE TABLE test_item(
  operation_id BLOB NOT NULL REFERENCES long_operation, mailbox_id BLOB NOT NULL REFERENCES mailbox,
  org TEXT NOT NULL, state TEXT NOT NULL,   -- pending, running, ended
  ended INTEGER, result TEXT, reasons TEXT, at INTEGER,
  PRIMARY KEY (operation_id, mailbox_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX test_item_state ON test_item(operation_id, state) WHERE state <> 'ended';
CREATE INDEX test_item_ended ON test_item(operation_id, ended) WHERE ended IS NOT NULL;

-- what holders keep

CREATE TABLE cursor(
  mailbox_id BLOB PRIMARY KEY REFERENCES mailbox, org TEXT NOT NULL, value BLOB NOT NULL
) STRICT;

-- where Autodiscover found a mailbox, and whoever was asked, one line each
CREATE TABLE location(
  mailbox_id BLOB PRIMARY KEY REFERENCES mailbox, org TEXT NOT NULL, known TEXT NOT NULL,
  profile_id BLOB NOT NULL, revision INTEGER NOT NULL, account_revision INTEGER NOT NULL, attempts TEXT NOT NULL
) STRICT;

CREATE TABLE inbound(
  mailbox_id BLOB NOT NULL, item_id TEXT NOT NULL, org TEXT NOT NULL,
  state TEXT NOT NULL,                      -- seen, moving, quarantined
  received INTEGER, seen INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  reason TEXT, search_key BLOB, moved INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (mailbox_id, item_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbound_due ON inbound(mailbox_id, attempts, coalesce(received, seen)) WHERE state <> 'quarantined';

CREATE TABLE cycle(
  mailbox_id BLOB NOT NULL, slot INTEGER NOT NULL, number INTEGER NOT NULL, org TEXT NOT NULL,
  operation TEXT NOT NULL, start INTEGER NOT NULL, duration INTEGER NOT NULL, items INTEGER NOT NULL,
  outcome TEXT NOT NULL, reason TEXT,
  PRIMARY KEY (mailbox_id, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE known_test(
  outgoing_id BLOB PRIMARY KEY, mailbox_id BLOB NOT NULL, org TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;

CREATE TABLE lane(
  profile_id BLOB NOT NULL REFERENCES profile, lane INTEGER NOT NULL, org TEXT NOT NULL, epoch INTEGER NOT NULL,
  breaker TEXT NOT NULL, open TEXT, throttle TEXT NOT NULL,
  PRIMARY KEY (profile_id, lane)
) STRICT;

-- records

CREATE TABLE record(
  record_id BLOB PRIMARY KEY, org TEXT NOT NULL, direction TEXT NOT NULL,
  message_key BLOB, discriminator INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL,
  mailbox_id BLOB NOT NULL, internet_message_id TEXT, message_id_key TEXT,
  subject TEXT NOT NULL, subject_key TEXT NOT NULL, from_address TEXT NOT NULL, from_key TEXT NOT NULL,
  to_addresses TEXT NOT NULL, to_key TEXT NOT NULL, cc_addresses TEXT NOT NULL,
  in_reply_to TEXT, thread TEXT, sent_time INTEGER, received_time INTEGER, size INTEGER NOT NULL,
  blob_hash BLOB, create_time INTEGER NOT NULL, linked BLOB
) STRICT;
CREATE UNIQUE INDEX record_identity ON record(org, direction, message_key, discriminator) WHERE message_key IS NOT NULL;
CREATE INDEX record_list ON record(org, create_time, record_id);

CREATE TABLE sighting(
  mailbox_id BLOB NOT NULL, item_id TEXT NOT NULL, record_id BLOB NOT NULL REFERENCES record, org TEXT NOT NULL,
  change_key TEXT NOT NULL, received INTEGER NOT NULL,
  PRIMARY KEY (mailbox_id, item_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sighting_record ON sighting(record_id);

CREATE TABLE outgoing(
  record_id BLOB PRIMARY KEY REFERENCES record, org TEXT NOT NULL, mailbox_id BLOB NOT NULL,
  bcc_addresses TEXT NOT NULL, body_kind TEXT NOT NULL, body TEXT NOT NULL,
  delivery TEXT NOT NULL, due INTEGER, step TEXT NOT NULL, reason TEXT
) STRICT;
CREATE INDEX outgoing_due ON outgoing(mailbox_id, due) WHERE due IS NOT NULL;

CREATE TABLE attachment(
  record_id BLOB NOT NULL REFERENCES outgoing, n INTEGER NOT NULL, org TEXT NOT NULL,
  name TEXT NOT NULL, content_type TEXT NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (record_id, n)
) STRICT;

CREATE TABLE idempotency(
  org TEXT NOT NULL, request_key TEXT NOT NULL, content_hash BLOB NOT NULL, record_id BLOB NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (org, request_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency(at);

CREATE TABLE event(
  event_id INTEGER PRIMARY KEY AUTOINCREMENT, org TEXT NOT NULL, record_id BLOB NOT NULL,
  change TEXT NOT NULL, at INTEGER NOT NULL, position INTEGER
) STRICT;
CREATE INDEX event_unpublished ON event(event_id) WHERE position IS NULL;
CREATE UNIQUE INDEX event_feed ON event(org, position) WHERE position IS NOT NULL;

CREATE TABLE upload(upload_id BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT;

CREATE TABLE blob_chunk(
  upload_id BLOB NOT NULL, n INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (upload_id, n)
) STRICT;

CREATE TABLE blob(
  org TEXT NOT NULL, hash BLOB NOT NULL, upload_id BLOB NOT NULL, size INTEGER NOT NULL, refs INTEGER NOT NULL,
  PRIMARY KEY (org, hash)
) STRICT, WITHOUT ROWID;

-- facts, alerts, notices

CREATE TABLE fact(
  number INTEGER PRIMARY KEY AUTOINCREMENT, org TEXT NOT NULL, text TEXT NOT NULL, at INTEGER NOT NULL, booked INTEGER
) STRICT;
CREATE INDEX fact_unbooked ON fact(number) WHERE booked IS NULL;

CREATE TABLE alert(
  alert_id BLOB PRIMARY KEY, org TEXT NOT NULL, reason TEXT NOT NULL, level TEXT NOT NULL, scope TEXT NOT NULL,
  regarding_kind TEXT NOT NULL, regarding_id BLOB NOT NULL, regarding_text TEXT NOT NULL, profile_id BLOB, count INTEGER NOT NULL,
  operations INTEGER NOT NULL, summary TEXT NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
  resolved_time INTEGER, notice TEXT
) STRICT;
CREATE INDEX alert_list ON alert(org, first_time, alert_id);
CREATE INDEX alert_open ON alert(alert_id) WHERE resolved_time IS NULL;

CREATE TABLE ratio(profile_id BLOB PRIMARY KEY REFERENCES profile, org TEXT NOT NULL, state TEXT NOT NULL) STRICT;

CREATE TABLE notice(
  number INTEGER PRIMARY KEY AUTOINCREMENT, org TEXT NOT NULL, alert_id BLOB NOT NULL,
  to_address TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, due INTEGER       -- NULL: sent or given up
) STRICT;
CREATE INDEX notice_due ON notice(due) WHERE due IS NOT NULL;
