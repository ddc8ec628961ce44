-- Mailyard on PostgreSQL. Ids are uuid, times are milliseconds since 1970 UTC by the clock of the database or of who
-- wrote them, words are text; columns that end in _key are folded for comparison without case. Texts that are compared
-- or ordered are so by their bytes. What is written with every mail refers to nothing by constraint: its mailbox's row
-- is locked already, and a lock on a row that many share would cost each of them.

-- The last number given to a term or a grant.
CREATE SEQUENCE fence_epoch AS bigint CACHE 1;

CREATE TABLE store(
  one bigint PRIMARY KEY CHECK (one = 1),
  feed_incarnation uuid NOT NULL,
  key_id text NOT NULL, key_wrapped bytea NOT NULL, key_sealed bytea NOT NULL
);

CREATE TABLE org(
  org text COLLATE "C" PRIMARY KEY,
  default_profile uuid,
  default_methods text NOT NULL DEFAULT 'sss,sss,none',
  approve_users boolean NOT NULL DEFAULT true,
  approve_queues boolean NOT NULL DEFAULT true,
  revision bigint NOT NULL DEFAULT 0,
  feed_position bigint NOT NULL DEFAULT 0
);

-- who leads, who lives, who holds what

CREATE TABLE coordinator(
  one bigint PRIMARY KEY CHECK (one = 1),
  term bigint NOT NULL, holder text NOT NULL, nonce uuid NOT NULL, lease_until bigint NOT NULL
);
INSERT INTO coordinator(one, term, holder, nonce, lease_until) VALUES (1, 0, '', gen_random_uuid(), 0);


CREATE TABLE worker(
  incarnation uuid PRIMARY KEY,
  worker_id text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL, lease_until bigint NOT NULL, build text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE shard(
  shard_id bigint PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0, nonce uuid,
  phase bigint NOT NULL DEFAULT 0 CHECK (phase BETWEEN 0 AND 2),         -- 0 free, 1 owned, 2 revoking
  owner_id text COLLATE "C", owner_inc uuid
) WITH (fillfactor = 50);
CREATE INDEX shard_owner ON shard(owner_inc) WHERE owner_inc IS NOT NULL;

-- what people want

CREATE TABLE profile(
  profile_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL REFERENCES org,
  display_name text NOT NULL, name_key text COLLATE "C" NOT NULL, description text NOT NULL,
  incoming_url text, outgoing_url text, ca_pem text,
  process_email_from bigint, minimum_interval bigint NOT NULL, max_connections bigint NOT NULL,
  idle_max bigint NOT NULL, move_failed boolean NOT NULL, alert_owner boolean NOT NULL, owner_email text,
  request_deadline bigint, streaming boolean NOT NULL, credential_source text NOT NULL, lanes bigint NOT NULL,
  consumes_draft boolean, checks_change_key boolean, moved_id_dies boolean,
  create_time bigint NOT NULL, revision bigint NOT NULL,
  UNIQUE (org, name_key)
);

-- how a profile's mail is read, and how it is sent if that is another way
CREATE TABLE credentials(
  profile_id uuid NOT NULL REFERENCES profile, direction text COLLATE "C" NOT NULL,
  authentication text NOT NULL, access text NOT NULL, user_name text NOT NULL,
  tenant text, client text, certificate_pem text, authority text, resource text,
  secret_revision bigint NOT NULL DEFAULT 0, key_id text, wrapped_key bytea, sealed bytea,
  PRIMARY KEY (profile_id, direction)
);

-- the last Test Connection of a profile
CREATE TABLE connection_test(
  profile_id uuid PRIMARY KEY REFERENCES profile, at bigint NOT NULL, address text
);

CREATE TABLE connection_step(
  profile_id uuid NOT NULL REFERENCES connection_test ON DELETE CASCADE, n bigint NOT NULL, direction text COLLATE "C",
  name text NOT NULL, outcome text NOT NULL, reason text COLLATE "C", duration bigint NOT NULL,
  evidence text NOT NULL, request text NOT NULL, response text NOT NULL,
  PRIMARY KEY (profile_id, n)
);

CREATE TABLE mailbox(
  mailbox_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL REFERENCES org,
  address text NOT NULL, address_key text COLLATE "C" NOT NULL, display_name text NOT NULL, name_key text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL, profile_id uuid REFERENCES profile, methods text NOT NULL,
  owner_email text, owner_key text COLLATE "C", crm_id text, crm_key text COLLATE "C", process_email_from bigint,
  approval text COLLATE "C" NOT NULL, approval_time bigint, create_time bigint NOT NULL, revision bigint NOT NULL,
  shard_id bigint NOT NULL CHECK (shard_id BETWEEN 0 AND 4095), hash_version bigint NOT NULL,
  wanted_revision bigint NOT NULL DEFAULT 1, test_wanted uuid, polls_wanted bigint NOT NULL DEFAULT 0,
  -- from here on written by the holder, under the fence
  fence bigint NOT NULL DEFAULT 0, fence_nonce uuid, commit_ver bigint NOT NULL DEFAULT 0,
  start bigint, cycles bigint NOT NULL DEFAULT 0,
  wanted_seen bigint NOT NULL DEFAULT 0, kept text, test_done uuid, polls_done bigint NOT NULL DEFAULT 0,
  health text COLLATE "C" NOT NULL DEFAULT 'not_eligible',
  incoming_state text COLLATE "C" NOT NULL, outgoing_state text COLLATE "C" NOT NULL, act_state text COLLATE "C" NOT NULL,
  incoming_reason text COLLATE "C", outgoing_reason text COLLATE "C", act_reason text COLLATE "C",
  UNIQUE (org, address_key)
) WITH (fillfactor = 70);
CREATE INDEX mailbox_claim ON mailbox(shard_id, fence);
CREATE INDEX mailbox_profile ON mailbox(profile_id);
CREATE INDEX mailbox_unapplied ON mailbox(shard_id) WHERE wanted_revision <> wanted_seen;

-- whom a mailbox signs in as, where its profile leaves that to mailboxes
CREATE TABLE account(
  mailbox_id uuid PRIMARY KEY REFERENCES mailbox, org text COLLATE "C" NOT NULL, user_name text NOT NULL,
  secret_revision bigint NOT NULL, key_id text NOT NULL, wrapped_key bytea NOT NULL, sealed bytea NOT NULL
);

CREATE TABLE shard_profile_count(
  shard_id bigint NOT NULL, profile_id uuid NOT NULL, health text COLLATE "C" NOT NULL, n bigint NOT NULL,
  PRIMARY KEY (shard_id, profile_id, health)
) WITH (fillfactor = 50);

CREATE TABLE long_operation(
  operation_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL, selection text NOT NULL,
  state text COLLATE "C" NOT NULL, reason text COLLATE "C", create_time bigint NOT NULL, end_time bigint,
  total bigint NOT NULL, running bigint NOT NULL, succeeded bigint NOT NULL, failed bigint NOT NULL,
  skipped bigint NOT NULL, ended bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX long_operation_list ON long_operation(org, create_time, operation_id);
CREATE INDEX long_operation_live ON long_operation(create_time, operation_id) WHERE state IN ('running', 'paused');

CREATE TABLE test_item(
  operation_id uuid NOT NULL, mailbox_id uuid NOT NULL,
  org text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL,   -- pending, running, ended
  ended bigint, result text, reasons text, at bigint,
  PRIMARY KEY (operation_id, mailbox_id)
);
CREATE INDEX test_item_state ON test_item(operation_id, state) WHERE state <> 'ended';
CREATE INDEX test_item_ended ON test_item(operation_id, ended) WHERE ended IS NOT NULL;

-- what holders keep

CREATE TABLE cursor(
  mailbox_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL, value bytea NOT NULL
);

-- where Autodiscover found a mailbox, and whoever was asked, one line each
CREATE TABLE location(
  mailbox_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL, known text NOT NULL,
  profile_id uuid NOT NULL, revision bigint NOT NULL, account_revision bigint NOT NULL, attempts text NOT NULL
);

CREATE TABLE inbound(
  mailbox_id uuid NOT NULL, item_id text COLLATE "C" NOT NULL, org text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,                      -- seen, moving, quarantined
  received bigint, seen bigint NOT NULL, attempts bigint NOT NULL DEFAULT 0,
  reason text COLLATE "C", search_key bytea, moved boolean NOT NULL DEFAULT false,
  PRIMARY KEY (mailbox_id, item_id)
);
CREATE INDEX inbound_due ON inbound(mailbox_id, attempts, coalesce(received, seen)) WHERE state <> 'quarantined';

CREATE TABLE cycle(
  mailbox_id uuid NOT NULL, slot bigint NOT NULL, number bigint NOT NULL, org text COLLATE "C" NOT NULL,
  operation text NOT NULL, start bigint NOT NULL, duration bigint NOT NULL, items bigint NOT NULL,
  outcome text NOT NULL, reason text COLLATE "C",
  PRIMARY KEY (mailbox_id, slot)
);

CREATE TABLE known_test(
  outgoing_id uuid PRIMARY KEY, mailbox_id uuid NOT NULL, org text COLLATE "C" NOT NULL, at bigint NOT NULL
);

CREATE TABLE lane(
  profile_id uuid NOT NULL REFERENCES profile, lane bigint NOT NULL, org text COLLATE "C" NOT NULL, epoch bigint NOT NULL,
  breaker text NOT NULL, open text, throttle text NOT NULL,
  PRIMARY KEY (profile_id, lane)
);

-- records

CREATE TABLE record(
  record_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL, direction text COLLATE "C" NOT NULL,
  message_key bytea, discriminator bigint NOT NULL DEFAULT 0, state text COLLATE "C" NOT NULL,
  mailbox_id uuid NOT NULL, internet_message_id text, message_id_key text COLLATE "C",
  subject text NOT NULL, subject_key text COLLATE "C" NOT NULL, from_address text NOT NULL, from_key text COLLATE "C" NOT NULL,
  to_addresses text NOT NULL, to_key text COLLATE "C" NOT NULL, cc_addresses text NOT NULL,
  in_reply_to text, thread text, sent_time bigint, received_time bigint, size bigint NOT NULL,
  blob_hash bytea, create_time bigint NOT NULL, linked uuid
);
CREATE UNIQUE INDEX record_identity ON record(org, direction, message_key, discriminator) WHERE message_key IS NOT NULL;
CREATE INDEX record_list ON record(org, create_time, record_id);

CREATE TABLE sighting(
  mailbox_id uuid NOT NULL, item_id text COLLATE "C" NOT NULL, record_id uuid NOT NULL, org text COLLATE "C" NOT NULL,
  change_key text NOT NULL, received bigint NOT NULL,
  PRIMARY KEY (mailbox_id, item_id)
);
CREATE INDEX sighting_record ON sighting(record_id);

CREATE TABLE outgoing(
  record_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL, mailbox_id uuid NOT NULL,
  bcc_addresses text NOT NULL, body_kind text NOT NULL, body text NOT NULL,
  delivery text NOT NULL, due bigint, step text NOT NULL, reason text COLLATE "C"
);
CREATE INDEX outgoing_due ON outgoing(mailbox_id, due) WHERE due IS NOT NULL;

CREATE TABLE attachment(
  record_id uuid NOT NULL REFERENCES outgoing, n bigint NOT NULL, org text COLLATE "C" NOT NULL,
  name text NOT NULL, content_type text NOT NULL, content bytea NOT NULL,
  PRIMARY KEY (record_id, n)
);

CREATE TABLE idempotency(
  org text COLLATE "C" NOT NULL, request_key text COLLATE "C" NOT NULL, content_hash bytea NOT NULL, record_id uuid NOT NULL,
  at bigint NOT NULL,
  PRIMARY KEY (org, request_key)
);
CREATE INDEX idempotency_age ON idempotency(at);

CREATE TABLE event(
  event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org text COLLATE "C" NOT NULL, record_id uuid NOT NULL,
  change text NOT NULL, at bigint NOT NULL, position bigint
);
CREATE INDEX event_unpublished ON event(event_id) WHERE position IS NULL;
CREATE UNIQUE INDEX event_feed ON event(org, position) WHERE position IS NOT NULL;

CREATE TABLE upload(upload_id uuid PRIMARY KEY, at bigint NOT NULL);

CREATE TABLE blob_chunk(
  upload_id uuid NOT NULL, n bigint NOT NULL, bytes bytea NOT NULL,
  PRIMARY KEY (upload_id, n)
);

CREATE TABLE blob(
  org text COLLATE "C" NOT NULL, hash bytea NOT NULL, upload_id uuid NOT NULL, size bigint NOT NULL, refs bigint NOT NULL,
  PRIMARY KEY (org, hash)
);

-- facts, alerts, notices

CREATE TABLE fact(
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org text COLLATE "C" NOT NULL, text text NOT NULL, at bigint NOT NULL, booked bigint
);
CREATE INDEX fact_unbooked ON fact(number) WHERE booked IS NULL;

CREATE TABLE alert(
  alert_id uuid PRIMARY KEY, org text COLLATE "C" NOT NULL, reason text COLLATE "C" NOT NULL, level text COLLATE "C" NOT NULL, scope text COLLATE "C" NOT NULL,
  regarding_kind text COLLATE "C" NOT NULL, regarding_id uuid NOT NULL, regarding_text text COLLATE "C" NOT NULL, profile_id uuid, count bigint NOT NULL,
  operations bigint NOT NULL, summary text NOT NULL, first_time bigint NOT NULL, last_time bigint NOT NULL,
  resolved_time bigint, notice text
);
CREATE INDEX alert_list ON alert(org, first_time, alert_id);
CREATE INDEX alert_open ON alert(alert_id) WHERE resolved_time IS NULL;

CREATE TABLE ratio(profile_id uuid PRIMARY KEY REFERENCES profile, org text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL);

CREATE TABLE notice(
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org text COLLATE "C" NOT NULL, alert_id uuid NOT NULL,
  to_address text NOT NULL, subject text NOT NULL, text text NOT NULL,
  attempts bigint NOT NULL DEFAULT 0, due bigint       -- NULL: sent or given up
);
CREATE INDEX notice_due ON notice(due) WHERE due IS NOT NULL;
